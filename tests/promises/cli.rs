//! The command line, as a user and a shell see it.

use std::path::Path;
use std::process::{Command, Output};

fn gleaner(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gleaner"))
        .args(args)
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_goes_to_standard_output_and_mistakes_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let help = gleaner(folder.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in [
        "run",
        "check",
        "preview",
        "list",
        "init",
        "demo",
        "schema",
        "completions",
    ] {
        assert!(
            text(&help.stdout).contains(&format!("\n  {command} ")),
            "{command}"
        );
    }
    for (args, says) in [
        (vec![], "Usage: gleaner"),
        (vec!["rum"], "similar"),
        (vec!["run"], "required"),
        (vec!["run", "x", "--var", "novalue"], "name=value"),
        (vec!["run", "x", "--sink", "parquet=x"], "csv=PATH"),
        (vec!["run", "x", "--limit-records", "0"], "limit-records"),
        (vec!["list", "-q", "-v"], "cannot be used with"),
        (vec!["init"], "--url is needed"),
        (vec!["list"], "no pipelines/ folder"),
        (vec!["-C", "nowhere", "list"], "cannot work in nowhere"),
    ] {
        let wrong = gleaner(folder.path(), &args);
        assert_eq!(wrong.status.code(), Some(2), "{args:?}");
        assert!(wrong.stdout.is_empty(), "{args:?}");
        assert!(
            text(&wrong.stderr).contains(says),
            "{args:?}: {}",
            text(&wrong.stderr)
        );
    }
}

#[test]
fn every_shell_gets_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = gleaner(folder.path(), &["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        assert!(text(&script.stdout).contains("limit-records"), "{shell}");
    }
}

#[test]
fn an_unknown_pipeline_is_a_mistake_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    std::fs::write(folder.path().join("pipelines/quakes.yaml"), "about: x\n").unwrap();
    let wrong = gleaner(folder.path(), &["run", "quake"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = text(&wrong.stderr);
    assert!(said.contains("there is no pipeline `quake`"), "{said}");
    assert!(said.contains("did you mean `quakes`?"), "{said}");
}

#[test]
fn colour_is_for_those_who_ask() {
    let folder = tempfile::tempdir().unwrap();
    let plain = gleaner(folder.path(), &["list"]);
    assert!(!plain.stderr.contains(&0x1b));
    let coloured = gleaner(folder.path(), &["list", "--color", "always"]);
    assert!(coloured.stderr.contains(&0x1b));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let left = Command::new(env!("CARGO_BIN_EXE_gleaner"))
        .args(["completions", "bash"])
        .current_dir(folder.path())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(left.status.code(), Some(0));
    assert_eq!(text(&left.stderr), "");
}

/// `UPDATE=1` rewrites the page.
#[test]
fn the_page_of_all_commands_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let must = gleaner::cli::reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(page.parent().unwrap()).unwrap();
        std::fs::write(&page, &must).unwrap();
    }
    let is = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        is == must,
        "docs/cli.md is out of date; run the tests with UPDATE=1"
    );
}
