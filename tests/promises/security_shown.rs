//! Threats S13 and S14: what a spreadsheet or a terminal makes of the data; `security` has the
//! table.

use crate::scene::{Project, Reply, Said, Server};
use crate::security_data::{pipeline, run};

// ---- S13: formulas ---------------------------------------------------------------------------

#[test]
fn s13_formulas_are_exact_unless_a_spreadsheet_is_meant() {
    let server = Server::says(Reply::json(
        r#"[{"=cmd":"=1+1","@b":"+1","c":"-1+2","d":"@SUM(A1)","e":"\tx","f":"\rx","g":-5,"h":"-5","i":"a=b","j":["=1"],"k":null,"l":"","m":"\u0000=1"}]"#,
    ));
    for (name, sink) in [
        ("formulas_exact", "csv: data/items.csv"),
        (
            "formulas_safe",
            "csv: { path: data/items.csv, spreadsheet_safe: true }",
        ),
    ] {
        let (project, said) = run(&pipeline(&server.url()).replace("csv: data/items.csv", sink));
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let written = std::fs::read_to_string(project.path().join("data/items.csv"));
        insta::assert_snapshot!(name, written.expect("rows").escape_debug().to_string());
    }
}

// ---- S14: escapes ----------------------------------------------------------------------------

/// Clears a screen, renames a window, colours, turns the writing around; C0, C1, bidi.
const ESCAPES: &str =
    "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}dlrow\u{2066}\u{200f}\u{85}\u{7f}\u{8}y";

/// Nothing of it that acts on a terminal came through.
#[track_caller]
pub(crate) fn shows_no_escape(what: &str, said: &Said) {
    let acts = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
    };
    for (name, text) in [("stdout", &said.stdout), ("stderr", &said.stderr)] {
        if let Some(c) = text.chars().find(|c| acts(*c)) {
            panic!("{what:?}: {name} holds {c:?}:\n{}", text.escape_debug());
        }
    }
}

#[test]
fn s14_servers_cannot_draw_on_the_screen() {
    let quoted = serde_json::to_string(ESCAPES).expect("text");
    for (name, reply) in [
        (
            "error",
            Reply::new(401, format!("{{\"message\":{quoted}}}")),
        ),
        ("text", Reply::new(500, ESCAPES)),
        (
            "pause",
            Reply::new(429, ESCAPES).header("retry-after", "9999"),
        ),
        ("page", Reply::new(200, format!("<html>{ESCAPES}"))),
        ("cut", Reply::json(format!("[{{\"a\":{quoted}, {ESCAPES}"))),
        ("records", Reply::json(format!("{{{quoted}:1}}"))),
        (
            "link",
            Reply::new(302, "").header("location", "http://a.test/\u{9b}31m\u{202e}"),
        ),
        ("cells", Reply::json(format!("[{{{quoted}:{quoted}}}]"))),
    ] {
        let server = Server::says(reply);
        let mut text = pipeline(&server.url());
        if name == "records" {
            text = text.replace("    get: /items", "    get: /items\n    records: gone");
        }
        let project = Project::new(&text);
        for args in [
            ["run", "items", "-v"].as_slice(),
            &["run", "items", "--json", "-v"],
            &["preview", "items"],
            &["plan", "items", "--probe"],
        ] {
            let said = project.run(args);
            shows_no_escape(&format!("{name} {args:?}"), &said);
        }
    }
}

#[test]
fn s14_files_cannot_draw_on_the_screen() {
    let server = Server::says(Reply::new(404, "no"));
    let quoted = serde_json::to_string(ESCAPES).expect("text");
    let right = pipeline(&server.url());
    for (line, by) in [
        ("source:", format!("about: {quoted}\nsource:")),
        ("  items:", format!("  {quoted}:")),
        ("  limits: none", format!("  {quoted}: none")),
        ("get: /items", format!("get: {quoted}")),
        (
            "get: /items",
            format!("get: /items\n    for: {{ v: [{quoted}] }}\n    query: {{ v: '{{{{ v }}}}' }}"),
        ),
        ("data/items.csv", quoted.clone()),
        ("url: http", format!("url: {quoted} #")),
    ] {
        let project = Project::new(&right.replacen(line, &by, 1));
        for args in [
            ["run", "items", "-v"].as_slice(),
            &["run", "items", "--json"],
            &["check", "items"],
            &["check", "items", "--json"],
            &["list"],
            &["plan", "items"],
            &["plan", "items", "--json"],
            &["preview", "items"],
        ] {
            let said = project.run(args);
            shows_no_escape(&format!("{by} {args:?}"), &said);
        }
    }
}

#[test]
fn s14_the_command_line_cannot_draw_on_the_screen() {
    let project = Project::new(&pipeline("http://127.0.0.1:1"));
    for args in [
        ["run", ESCAPES].as_slice(),
        &["run", "items", "--stream", ESCAPES],
        &["run", "items", "--var", ESCAPES],
        &["run", "items", "--var", &format!("{ESCAPES}=1")],
        &["run", "items", "--sink", ESCAPES],
        &[
            "run",
            "items",
            "--sink",
            &format!("csv={ESCAPES}/{{{{ x }}}}"),
        ],
        &["init", ESCAPES, "--url", "https://a.test/x"],
        &["init", "x", "--url", ESCAPES],
        &[ESCAPES],
    ] {
        let said = project.run(args);
        assert_ne!(said.code, Some(0), "{}", said.shown);
        shows_no_escape(&format!("{args:?}"), &said);
    }
}
