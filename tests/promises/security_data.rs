//! Threats S6 to S12 that come with names and data; `security` has the table.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use gleaner::spec::diagnostic::SourceText;
use gleaner::spec::load;

use crate::scene::{Project, Reply, Said, Server};
use crate::security_shown::shows_no_escape;

/// A pipeline against a server; tests replace a line of it.
pub(crate) fn pipeline(url: &str) -> String {
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

pub(crate) fn run(text: &str) -> (Project, Said) {
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
        let files = || {
            let own = project.path().join(".gleaner");
            let mut files = project.files();
            files.retain(|file| !file.starts_with(&own));
            files
        };
        let before = files();
        let said = project.run(&["run", "items", "--var", &format!("name={name}")]);
        assert_eq!(said.code, Some(2), "{name:?}: {}", said.shown);
        assert_eq!(files(), before, "{name:?}");
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
        gleaner::disk::Disk::system()
            .create_private(&link)
            .expect_err("it is not followed");
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
pub(crate) fn limited(project: &Project, first: &str, args: &[&str]) -> Said {
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
