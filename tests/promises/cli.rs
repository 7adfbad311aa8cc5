//! The command line, as a user and a shell see it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use gleaner::sim::api::SimApi;
use gleaner::sim::data::{Shape, records};
use gleaner::sim::paging::{End, Paging};
use gleaner::sim::rules::{Listing, Route, Rules};
use gleaner::sim::serve::Server;

fn gleaner(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gleaner"))
        .args(args)
        .current_dir(folder)
        .env("GLEANER_STATE_DIR", folder.join("state"))
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
        "plan",
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
        (vec!["run", "x", "--sink", "xlsx=x"], "csv=PATH"),
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
    for asks in [
        &["run", "quake"][..],
        &["runs", "quake"],
        &["runs", "quake", "--json"],
    ] {
        let wrong = gleaner(folder.path(), asks);
        assert_eq!(wrong.status.code(), Some(2), "{asks:?}");
        let said = text(&wrong.stderr);
        assert!(said.contains("there is no pipeline `quake`"), "{said}");
        assert!(said.contains("did you mean `quakes`?"), "{said}");
        assert_eq!(text(&wrong.stdout), "", "{asks:?}");
    }
    let never = gleaner(folder.path(), &["runs", "quakes", "--json"]);
    assert_eq!(
        (never.status.code(), &*text(&never.stdout)),
        (Some(0), "[]\n")
    );
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

#[test]
fn what_init_writes_passes_check() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let url = "https://api.example.com/v1/items?state=all&token=hush";
    for pages in ["none", "link", "next", "page", "offset", "token", "keyset"] {
        let name = format!("by-{pages}");
        let args = [
            "init",
            &name,
            "--url",
            url,
            "--pages",
            pages,
            "--limit",
            "80/min, 5000/h",
        ];
        let made = gleaner(at, &args);
        assert_eq!(
            made.status.code(),
            Some(0),
            "{pages}: {}",
            text(&made.stderr)
        );
    }
    for auth in ["none", "bearer", "header", "query", "basic"] {
        let url = "http://localhost:8001/a%20b/{id}";
        let name = format!("with_{auth}");
        let args = [
            "init", &name, "--url", url, "--auth", auth, "--limit", "none",
        ];
        let more = [
            "--format",
            "ndjson",
            "--records",
            "data.\"odd name\"",
            "--contact",
            "a: b",
        ];
        let made = gleaner(at, &[&args[..], &more[..]].concat());
        assert_eq!(
            made.status.code(),
            Some(0),
            "{auth}: {}",
            text(&made.stderr)
        );
    }
    let checked = gleaner(at, &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    assert_eq!(text(&checked.stdout).matches("ok  pipelines/").count(), 12);
    let listed = gleaner(at, &["list"]);
    assert_eq!(text(&listed.stdout).lines().count(), 13);

    let written = std::fs::read_to_string(at.join("pipelines/by-link.yaml")).unwrap();
    assert!(!written.contains("hush"));
    let again = gleaner(at, &["init", "by-link", "--url", url]);
    assert_eq!(again.status.code(), Some(2));
    let kept = std::fs::read_to_string(at.join("pipelines/by-link.yaml")).unwrap();
    assert_eq!(kept, written);
    let forced = gleaner(at, &["init", "by-link", "--url", url, "--force"]);
    assert_eq!(forced.status.code(), Some(0));
    let schema = std::fs::read(at.join("pipelines/pipeline.schema.json")).unwrap();
    assert_eq!(schema, gleaner(at, &["schema"]).stdout);
}

/// `script` (Debian's bsdutils) lends the program a terminal; an answer that cannot be used is asked for again.
#[test]
fn on_a_terminal_init_asks_for_what_it_is_not_told() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_gleaner");
    let mut asked = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &format!("'{program}' init items"),
            "/dev/null",
        ])
        .current_dir(folder.path())
        .env("GLEANER_STATE_DIR", folder.path().join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` starts");
    let answers = "https://api.example.com/v1/items\ndata\nsideways\npage\n80 a minute\n80/min\nme@example.com\nbearer\ncsv\n";
    let mut keys = asked.stdin.take().unwrap();
    keys.write_all(answers.as_bytes()).unwrap();
    let asked = asked.wait_with_output().unwrap();
    drop(keys);
    let said = text(&asked.stdout);
    assert_eq!(asked.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("how it pages").count(), 2, "{said}");
    assert_eq!(said.matches("what it allows").count(), 2, "{said}");
    let written = std::fs::read_to_string(folder.path().join("pipelines/items.yaml")).unwrap();
    for line in [
        "  limits: [80/min]",
        "    pages: { page: { to: page } }",
        "    records: data",
        "  contact: me@example.com",
        "  csv: data/items/{{ stream }}.csv",
    ] {
        assert!(
            written.lines().any(|known| known == line),
            "no `{line}` in {written}"
        );
    }
    assert!(written.contains("  auth: { bearer: "), "{written}");
    let checked = gleaner(folder.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
}

#[test]
fn what_init_writes_does_not_take_a_first_page_for_all() {
    let items = records(25, &Shape::default());
    let listing = |paging| Listing::new(items.clone(), paging).size(10).bare();
    let rules = Rules {
        routes: vec![
            Route::list("/items", listing(Paging::link())),
            Route::list("/numbered", listing(Paging::page())),
        ],
        ..Rules::default()
    };
    let server = Server::start_on_own_thread(SimApi::new(rules)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let url = format!("{}/items", server.url());
    let made = gleaner(at, &["init", "lib", "--url", &url, "--limit", "none"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let shown = gleaner(at, &["preview", "lib"]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(
        text(&shown.stderr).contains("pages: link"),
        "{}",
        text(&shown.stderr)
    );
    let run = gleaner(at, &["run", "lib"]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("the stream has no `pages`"));
    // The number of a page in the URL says how it pages; it is not a parameter to be kept.
    let paged = format!("{}/numbered?page=2", server.url());
    let made = gleaner(at, &["init", "paged", "--url", &paged, "--limit", "none"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let run = gleaner(at, &["run", "paged"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let rows = std::fs::read_to_string(at.join("data/paged/numbered.csv")).unwrap();
    assert!(
        rows.contains("\n1,record 1,") && rows.contains("\n25,record 25,"),
        "{rows}"
    );
}

#[test]
fn answers_that_make_no_pipeline_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        ["init", "x", "--url", "https://a.example", "--limit", "lots"],
        [
            "init",
            "x",
            "--url",
            "https://a.example",
            "--records",
            "a..b",
        ],
        [
            "init",
            "../x",
            "--url",
            "https://a.example",
            "--limit",
            "1/s",
        ],
        ["init", "x", "--url", "ftp://a.example", "--limit", "1/s"],
    ] {
        let wrong = gleaner(folder.path(), &args);
        assert_eq!(
            wrong.status.code(),
            Some(2),
            "{args:?}: {}",
            text(&wrong.stderr)
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{args:?}"
        );
    }
}

#[test]
fn check_tells_people_and_programs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let made = gleaner(
        at,
        &[
            "init",
            "good",
            "--url",
            "https://api.example.com/items",
            "--pages",
            "link",
        ],
    );
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let good = std::fs::read_to_string(at.join("pipelines/good.yaml")).unwrap();
    let bad = good
        .replace("pages:", "pagse:")
        .replace("limits:", "limit:");
    std::fs::write(at.join("pipelines/bad.yaml"), bad).unwrap();

    let people = gleaner(at, &["check"]);
    assert_eq!(people.status.code(), Some(4));
    let told = text(&people.stdout);
    assert!(
        told.contains("ok  pipelines/good.yaml (1 stream)"),
        "{told}"
    );
    assert!(told.contains("did you mean `pages`"), "{told}");
    let programs = gleaner(at, &["check", "--json"]);
    assert_eq!(programs.status.code(), Some(4));
    let told: serde_json::Value = serde_json::from_slice(&programs.stdout).unwrap();
    assert_eq!(told["ok"], false);
    assert_eq!(told["files"][1]["ok"], true);
    let first = &told["files"][0]["mistakes"][0];
    assert!(
        first["code"].is_string() && first["line"].is_u64(),
        "{first}"
    );

    // What cannot be read hides nothing of the others.
    std::fs::write(at.join("pipelines/odd.yaml"), b"about: \xff\n").unwrap();
    for args in [&["check"][..], &["check", "typo", "odd", "bad"]] {
        let people = gleaner(at, args);
        let (told, beside) = (text(&people.stdout), text(&people.stderr));
        assert!(told.contains("did you mean `pages`"), "{args:?}: {told}");
        assert!(beside.contains("odd.yaml"), "{args:?}: {beside}");
        let mut json = args.to_vec();
        json.push("--json");
        let programs = gleaner(at, &json);
        assert_eq!(programs.status.code(), people.status.code());
        let told: serde_json::Value = serde_json::from_slice(&programs.stdout).unwrap();
        let unread = told["files"].as_array().unwrap().iter();
        assert!(unread.filter(|file| file["unread"].is_string()).count() > 0);
    }
    std::fs::remove_file(at.join("pipelines/odd.yaml")).unwrap();

    let quiet = gleaner(at, &["check", "-q", "good"]);
    assert_eq!(
        (quiet.status.code(), text(&quiet.stdout).as_str()),
        (Some(0), "")
    );
    assert_eq!(gleaner(at, &["run", "good", "bad"]).status.code(), Some(4));
    let list = text(&gleaner(at, &["list"]).stdout);
    assert!(list.contains("gleaner check bad"), "{list}");
}

/// A project with one pipeline over a pretend API of 25 records, ten to a page.
fn project() -> (tempfile::TempDir, Server) {
    let items = records(
        25,
        &Shape {
            seed: 1,
            first_id: 1,
            label: "Item".to_owned(),
        },
    );
    let listing = Listing::new(items, Paging::token(End::Null))
        .size(10)
        .records_at("items");
    let rules = Rules {
        routes: vec![Route::list("/items", listing)],
        ..Rules::default()
    };
    let server = Server::start_on_own_thread(SimApi::new(rules)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    let text = format!(
        "source: {{ url: {}, limits: none }}\n\
         streams:\n  items:\n    get: /items\n    query: {{ limit: 10 }}\n    records: items\n\
         \x20   pages: {{ token: {{ from: next_cursor, to: cursor }} }}\n\
         sink: {{ csv: \"data/{{{{ stream }}}}.csv\" }}\n",
        server.url()
    );
    std::fs::write(folder.path().join("pipelines/shop.yaml"), text).unwrap();
    (folder, server)
}

#[test]
fn a_run_tells_programs_and_people() {
    let (folder, _server) = project();
    let at = folder.path();
    let programs = gleaner(at, &["run", "shop", "--json"]);
    assert_eq!(
        programs.status.code(),
        Some(0),
        "{}",
        text(&programs.stderr)
    );
    let told = text(&programs.stdout);
    let events: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(events[0]["event"], "run_started");
    assert_eq!(
        (
            count("page_fetched"),
            count("published"),
            count("run_finished")
        ),
        (3, 1, 1)
    );
    assert_eq!(text(&programs.stderr), "");
    let file = csv::Reader::from_path(at.join("data/items.csv")).unwrap();
    assert_eq!(file.into_records().count(), 25);

    let people = gleaner(at, &["run", "shop"]);
    assert!(people.stdout.is_empty());
    let told = text(&people.stderr);
    assert!(told.contains("shop: complete in"), "{told}");
    assert!(told.contains("items: 25 rows in data/items.csv"), "{told}");
    let quiet = gleaner(at, &["run", "shop", "-q"]);
    assert_eq!(
        (quiet.status.code(), text(&quiet.stderr).as_str()),
        (Some(0), "")
    );

    let piped = gleaner(at, &["run", "shop", "-q", "--sink", "ndjson=-"]);
    assert_eq!(
        text(&piped.stdout).lines().count(),
        25,
        "{}",
        text(&piped.stderr)
    );
    let both = gleaner(at, &["run", "shop", "--json", "--sink", "ndjson=-"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn preview_shows_types_and_writes_nothing() {
    let (folder, server) = project();
    let shown = gleaner(folder.path(), &["preview", "shop"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let told = text(&shown.stdout);
    assert!(
        told.contains("items: 10 records on the first page"),
        "{told}"
    );
    assert!(told.contains("integer") && told.contains("text"), "{told}");
    assert!(!folder.path().join("data/items.csv").exists());
    assert_eq!(server.api().audit().requests(), 1);
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let schema = gleaner(folder.path(), &["schema"]);
    assert_eq!(schema.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["streams"].is_object());
}

/// Holds a generated file against what generates it; `UPDATE=1` rewrites it.
fn up_to_date(file: &str, must: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, must).unwrap();
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        is == must,
        "{file} is out of date; run the tests with UPDATE=1"
    );
}

#[test]
fn the_page_of_all_commands_is_up_to_date() {
    up_to_date("docs/cli.md", &gleaner::cli::reference());
}

#[test]
fn the_page_of_all_headers_is_up_to_date() {
    up_to_date(
        "docs/limits.md",
        &gleaner::fetch::signals::reference::reference(),
    );
}

#[test]
fn the_schema_for_editors_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let schema = gleaner(folder.path(), &["schema"]);
    let schema = String::from_utf8(schema.stdout).unwrap();
    up_to_date("docs/pipeline.schema.json", &schema);
}

#[test]
fn a_limit_that_is_shared_by_name_is_one_limit() {
    let pipeline = |limit: &str| {
        format!(
            "source: {{ url: http://127.0.0.1:9, limits: [{{ limit: {limit}, shared_as: archive }}] }}\nstreams: {{ items: {{ get: /items }} }}\nsink: {{ csv: data/items.csv }}\n"
        )
    };
    let project = super::scene::Project::new(&pipeline("100/h"));
    project.write("pipelines/other.yaml", &pipeline("100/1h"));
    assert_eq!(project.run(&["check"]).code, Some(0));
    project.write("pipelines/other.yaml", &pipeline("50/h"));
    insta::assert_snapshot!(project.run(&["check"]).shown);
    // Asked about one, its neighbours are compared all the same.
    let said = project.run(&["check", "other", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&said.stdout).expect("one object");
    assert_eq!(told["files"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["files"][0]["mistakes"][0]["code"], "shared-limit");
}
