//! Threats S6 to S17 that come with names, data and files; `security` has the table.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gleaner::plan::language::Template;
use gleaner::spec::diagnostic::SourceText;
use gleaner::spec::load;
use minijinja::context;

use crate::scene::{Project, Reply, Said, Server};

/// A pipeline against a server; tests replace a line of it.
fn pipeline(url: &str) -> String {
    format!(
        "source:
  url: {url}
  limits: none
  retry: {{ attempts: 1 }}
streams:
  items:
    get: /items
sink:
  csv: data/items.csv
"
    )
}

/// A server that answers each request with these bytes, whole HTTP.
fn raw(answer: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let _ = stream.read(&mut [0; 4096])?;
            answer(&mut stream);
        }
        std::io::Result::Ok(())
    });
    url
}

fn run(text: &str) -> (Project, Said) {
    let project = Project::new(text);
    let said = project.run(&["run", "items"]);
    (project, said)
}

// ---- S6: names -------------------------------------------------------------------------------

#[test]
fn s06_a_value_makes_no_path() {
    let server = Server::says(Reply::json("[{\"id\":1}]"));
    let text = pipeline(&server.url())
        .replace("data/items.csv", "\"data/{{ vars.name }}.csv\"")
        .replace("source:", "vars: { name: usual }\nsource:");
    let long = "x".repeat(300);
    for name in [
        "..",
        "../x",
        "../../x",
        "/tmp/x",
        "a/b",
        "a\\b",
        "a\nb",
        "a\u{1b}[2J",
        "",
        ".hidden",
        "CON",
        "nul.tar",
        "COM1",
        "a*",
        "a?",
        "~root",
        "\u{202e}x",
        &long,
    ] {
        let project = Project::new(&text);
        let before = project.files();
        let said = project.run(&["run", "items", "--var", &format!("name={name}")]);
        assert_eq!(said.code, Some(2), "{name:?}: {}", said.shown);
        assert_eq!(project.files(), before, "{name:?}");
        shows_no_escape(name, &said);
    }
    assert_eq!(server.heard(), [""; 0], "judged before the first request");
    let said = Project::new(&text).run(&["run", "items", "--var", "name=north-2024_Größe"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
}

#[cfg(unix)]
#[test]
fn s06_what_a_run_makes_for_itself_follows_no_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = folder.path().join("outside");
    let link = folder.path().join("0.part");
    for there in [false, true] {
        if there {
            std::fs::write(&outside, "theirs").expect("written");
        }
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&outside, &link).expect("a link");
        gleaner::disk::create_private_file(&link).expect_err("it is not followed");
        assert_eq!(outside.exists(), there);
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("there"), "theirs");
}

// ---- S7: bombs -------------------------------------------------------------------------------

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
fn s07_a_bomb_stops_at_the_cap() {
    // 16 members of 64 MiB: a gigabyte in one megabyte.
    let bomb = gzip(&vec![b' '; 64 << 20]).repeat(16);
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    for (name, status, headers, says) in [
        (
            "as a page",
            "200 OK",
            "content-encoding: gzip\r\n",
            "larger than 64 MiB",
        ),
        (
            "stacked",
            "200 OK",
            "content-encoding: gzip, gzip\r\n",
            "encoded more than once",
        ),
        (
            "on an error",
            "404 Not Found",
            "content-encoding: gzip\r\n",
            "larger than 64 MiB",
        ),
        // The body of a redirect is nobody's business: it is not even unpacked.
        (
            "on a redirect",
            "302 Found",
            "content-encoding: gzip\r\nlocation: file:///x\r\n",
            "only http and https",
        ),
    ] {
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            bomb.len()
        )
        .into_bytes();
        answer.extend_from_slice(&bomb);
        let url = raw(move |stream| {
            let _ = stream.write_all(&answer);
        });
        let project = Project::new(&pipeline(&url));
        // What is unpacked beyond the cap finds no room: 700 MB of addresses for everything.
        let said = limited(&project, "ulimit -v 700000", &["run", "items"]);
        assert_eq!(said.code, Some(1), "{name}: {}", said.shown);
        assert!(said.stderr.contains(says), "{name}: {}", said.shown);
        project.is_untouched();
    }
}

/// Runs the program in a shell that was told something before.
fn limited(project: &Project, first: &str, args: &[&str]) -> Said {
    let program = env!("CARGO_BIN_EXE_gleaner");
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{first} && exec {program} {}", args.join(" ")))
        .current_dir(project.path())
        .env_clear()
        .env("GLEANER_STATE_DIR", project.path().join("state"))
        .output()
        .expect("a shell");
    project.said(args, &output)
}

// ---- S9: JSON --------------------------------------------------------------------------------

#[test]
fn s09_deep_json_is_refused_with_its_place() {
    let deep = "[".repeat(100_000);
    for body in [
        deep.clone(),
        format!("[{{\"id\":{deep}"),
        format!("[{{\"id\":1}},{{\"id\":{deep}{}}}]", "]".repeat(100_000)),
        format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
    ] {
        let server = Server::says(Reply::json(body));
        let (project, said) = run(&pipeline(&server.url()));
        assert_eq!(said.code, Some(1), "{}", said.shown);
        let place = said.stderr.contains(" at line 1, column ");
        assert!(place, "it says where: {}", said.shown);
        assert!(said.stderr.len() < 2_000, "and no more than that");
        let looked = project.run(&["preview", "items"]);
        assert_eq!(looked.code, Some(1), "{}", looked.shown);
        project.is_untouched();
    }
}

#[test]
fn s09_a_text_without_an_end_stops_at_the_cap() {
    let sent = Arc::new(Mutex::new(0));
    let count = Arc::clone(&sent);
    let url = raw(move |stream| {
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[{\"a\":\"";
        let mut going = stream.write_all(head.as_bytes());
        let more = vec![b'x'; 1 << 20];
        // A gigabyte if somebody takes it.
        for _ in 0..1024 {
            if going.is_err() {
                break;
            }
            *count.lock().expect("the count") += more.len();
            going = stream.write_all(&more);
        }
    });
    let (project, said) = run(&pipeline(&url));
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(said.stderr.contains("larger than 64 MiB"), "{}", said.shown);
    let sent = *sent.lock().expect("the count");
    assert!(sent < 128 << 20, "{sent} bytes were taken");
    project.is_untouched();
}

// ---- S10: YAML -------------------------------------------------------------------------------

#[test]
fn s10_a_pipeline_file_is_no_bomb() {
    let said = |text: String| {
        let source = SourceText {
            path: "pipelines/p.yaml".into(),
            text,
        };
        match load::parse(source) {
            Ok(written) => written.mistakes,
            Err(mistakes) => mistakes.all,
        }
    };
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in ('a'..'i').zip('b'..='i') {
        let _ = writeln!(
            laughs,
            "{next}: &{next} [{}]",
            vec![format!("*{one}"); 9].join(", ")
        );
    }
    for (name, text, code) in [
        ("laughs", laughs, "too-large"),
        (
            "deep",
            format!("about: {}", "[".repeat(100_000)),
            "too-large",
        ),
        (
            "deep blocks",
            (0..200).fold(String::new(), |all, n| {
                format!("{all}{}a:\n", " ".repeat(n))
            }),
            "too-large",
        ),
        (
            "many",
            format!("about: [{}]", "1, ".repeat(30_000)),
            "too-large",
        ),
        ("twice", "about: x\nabout: y\n".to_owned(), "duplicate-key"),
        ("tab", "source:\n\turl: x\n".to_owned(), "syntax"),
        ("two", "about: x\n---\nabout: y\n".to_owned(), "syntax"),
    ] {
        let mistakes = said(text);
        assert!(
            mistakes.iter().any(|mistake| mistake.code == code),
            "{name}: {mistakes:?}"
        );
    }
    // YAML 1.2: `no` is a word, the country among others.
    let norway = "vars: { country: no, on: off, version: 1.10 }\nsource: { url: 'https://a.test/{{ vars.country }}', limits: none }
streams: { a: { get: '/{{ vars.version }}/{{ vars.on }}' } }\nsink: { ndjson: out/a.ndjson }\n";
    let plan = crate::fixture::plan(norway);
    assert_eq!(
        plan.vars.get_attr("country").expect("there").as_str(),
        Some("no")
    );
    let large = Project::new(&format!("about: {}\n", "x".repeat(2 << 20)));
    let said = large.run(&["run", "items"]);
    assert_eq!(said.code, Some(4), "{}", said.shown);
    assert!(said.stderr.contains("larger than 1 MiB"), "{}", said.shown);
}

// ---- S12: injection --------------------------------------------------------------------------

const HOSTILE: [&str; 9] = [
    "a&admin=1",
    "a#b",
    "a?b=c",
    "../../x",
    "a/../b",
    "a%2e%2e%2fb",
    "a;b=c",
    "a b+c",
    "a\\b@evil.test",
];

#[test]
fn s12_values_stay_where_they_are_put() {
    let server = Server::says(Reply::json("[{\"id\":1}]"));
    for value in HOSTILE {
        let text = pipeline(&server.url()).replace(
            "    get: /items",
            &format!(
                "    for: {{ v: [{}] }}\n    get: \"/items/{{{{ v }}}}/end\"\n    query: {{ q: \"{{{{ v }}}}\" }}\n    headers: {{ X-V: \"{{{{ v }}}}\" }}",
                serde_json::to_string(value).expect("text")
            ),
        );
        let (_, said) = run(&text);
        assert_eq!(said.code, Some(0), "{value:?}: {}", said.shown);
        let heard = server.heard().pop().expect("a request");
        let target = heard.split(' ').nth(1).expect("a target");
        let (path, query) = target.split_once('?').expect("a query");
        let segment = path
            .strip_prefix("/items/")
            .and_then(|p| p.strip_suffix("/end"));
        let segment = segment.unwrap_or_else(|| panic!("{value:?} → {path}"));
        assert!(!segment.contains('/'), "{path}");
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
        assert_eq!(decoded.expect("text"), value);
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(pairs, [("q".to_owned(), value.to_owned())]);
        assert!(heard.contains(&format!("x-v: {value}\r\n")), "{heard}");
    }
}

#[test]
fn s12_line_breaks_and_climbing_are_refused() {
    let server = Server::says(Reply::json("[{\"id\":1}]"));
    for (value, into) in [
        ("a\r\nX-Evil: 1", "headers: { X-V: \"{{ v }}\" }"),
        ("a\nb", "headers: { X-V: \"{{ v }}\" }"),
        ("a\0b", "headers: { X-V: \"{{ v }}\" }"),
        ("..", "get: \"/items/{{ v }}\""),
        (".", "get: \"/items/{{ v }}/x\""),
        ("a/../b", "get: \"/items/{{ v | path }}\""),
    ] {
        let get = if into.starts_with("get") {
            ""
        } else {
            "get: /items\n    "
        };
        let text = pipeline(&server.url()).replace(
            "    get: /items",
            &format!(
                "    for: {{ v: [{}] }}\n    {get}{into}",
                serde_json::to_string(value).expect("text")
            ),
        );
        let (project, said) = run(&text);
        assert_eq!(said.code, Some(1), "{value:?} {into}: {}", said.shown);
        project.is_untouched();
    }
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn s12_a_token_of_the_server_stays_in_its_place() {
    let token = "t&admin=1#x\r\nX-Evil: 1";
    for (to, ends, code) in [("cursor", true, 0), ("headers.X-Cursor", false, 1)] {
        let server = Server::start(move |request| {
            let first = request.starts_with("GET /items ") && !request.contains("x-cursor");
            let next = if first {
                serde_json::to_string(token).expect("text")
            } else {
                "null".to_owned()
            };
            Reply::json(format!(
                "{{\"data\":[{{\"id\":{}}}],\"next\":{next}}}",
                u8::from(first)
            ))
        });
        let text = pipeline(&server.url()).replace(
            "    get: /items",
            &format!("    get: /items\n    records: data\n    pages: {{ token: {{ from: next, to: {to} }} }}"),
        );
        let (_, said) = run(&text);
        assert_eq!(said.code, Some(code), "{to}: {}", said.shown);
        let heard = server.heard();
        assert_eq!(heard.len(), if ends { 2 } else { 1 });
        for request in &heard {
            assert!(!request.to_lowercase().contains("\r\nx-evil"), "{request}");
        }
        if ends {
            let wanted = "GET /items?cursor=t%26admin%3D1%23x%0D%0AX-Evil%3A+1 HTTP";
            assert!(heard[1].starts_with(wanted), "{}", heard[1]);
        }
    }
}

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
fn shows_no_escape(what: &str, said: &Said) {
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

// ---- S16: permissions ------------------------------------------------------------------------

#[cfg(unix)]
mod permissions {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// Modes of everything below a folder, itself included.
    fn modes(folder: &Path, into: &mut BTreeMap<PathBuf, (bool, u32)>) {
        let Ok(about) = std::fs::symlink_metadata(folder) else {
            return;
        };
        into.insert(
            folder.to_owned(),
            (about.is_dir(), about.permissions().mode() & 0o777),
        );
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            modes(&entry.path(), into);
        }
    }

    #[test]
    fn s16_what_a_run_keeps_is_its_users_alone() {
        for (umask, output, folder) in [
            ("000", 0o666, 0o777),
            ("022", 0o644, 0o755),
            ("077", 0o600, 0o700),
        ] {
            let seen: Arc<Mutex<BTreeMap<PathBuf, (bool, u32)>>> = Arc::default();
            let place: Arc<Mutex<Option<PathBuf>>> = Arc::default();
            let (log, root) = (Arc::clone(&seen), Arc::clone(&place));
            let server = Server::start(move |request| {
                let root = root.lock().expect("the place").clone().expect("set");
                for private in [".gleaner", "state"] {
                    modes(&root.join(private), &mut log.lock().expect("the log"));
                }
                Reply::json(if request.contains("page=1") {
                    "[{\"id\":1}]"
                } else {
                    "[]"
                })
            });
            let text = pipeline(&server.url())
                .replace("limits: none", "limits: [1000/s]")
                .replace(
                    "    get: /items",
                    "    get: /items\n    pages: { page: { to: page } }",
                )
                .replace("data/items.csv", "data/new/items.csv");
            let project = Project::new(&text);
            *place.lock().expect("the place") = Some(project.path().to_owned());
            let said = limited(&project, &format!("umask {umask}"), &["run", "items"]);
            assert_eq!(said.code, Some(0), "{}", said.shown);
            for private in [".gleaner", "state"] {
                modes(
                    &project.path().join(private),
                    &mut seen.lock().expect("the log"),
                );
            }
            let seen = seen.lock().expect("the log");
            let of = |name: &str| {
                seen.keys()
                    .any(|path| path.to_string_lossy().contains(name))
            };
            assert!(of(".part") && of("/state/"), "during the run: {seen:?}");
            for (path, (is_folder, mode)) in seen.iter() {
                let wanted = if *is_folder { 0o700 } else { 0o600 };
                assert_eq!(*mode, wanted, "{:o}: {}", mode, path.display());
            }
            let mut made = BTreeMap::new();
            modes(&project.path().join("data/new"), &mut made);
            for (path, (is_folder, mode)) in made {
                let wanted = if is_folder { folder } else { output };
                assert_eq!(
                    mode,
                    wanted,
                    "umask {umask}, {:o}: {}",
                    mode,
                    path.display()
                );
            }
        }
    }
}

// ---- S17: templates --------------------------------------------------------------------------

#[test]
fn s17_templates_neither_escape_nor_run_away() {
    let names = context! { v => "00123", text => "x".repeat(1000), list => vec!["a"; 1000] };
    let refused = |written: &str| match Template::parse(written) {
        Err(_) => true,
        Ok(template) => template.value(&names).is_err() && template.text(&names).is_err(),
    };
    for written in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{{ text * 1000000000 }}",
        "{{ list * 1000000000 }}",
        "{{ range(1000000000) }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends '/etc/passwd' %}",
        "{{ debug() }}",
        "{{ open('/etc/passwd') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ v.__init__.__globals__ }}",
        "{{ v | attr('__class__') | upper }}",
        "{{ lipsum.__globals__ }}",
        "{{ gone }}",
        "{{ v.gone.more }}",
    ] {
        assert!(refused(written), "{written}");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(Template::parse(&deep).is_err(), "deep");
    // What looks like a number is none until somebody says so.
    let value = Template::parse("{{ v }}").expect("parses").value(&names);
    assert_eq!(value.expect("a value").as_str(), Some("00123"));
}
