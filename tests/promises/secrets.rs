//! Secrets stay home: no credential reaches another origin, a log, an error, a state file or a
//! screen. A canary stands for the secret; it is looked for in every byte that is written.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::scene::{Project, Reply, Server};

/// A secret with characters that travel in several spellings.
pub(crate) const CANARY: &str = "canary-7Qx/w8Kp+Zr=e4Tm&u2Vn";
/// How `source.auth` may carry it; all but the first in clear text.
const PLACES: [&str; 4] = [
    "basic: { user: me, password: \"{{ secret.CANARY }}\" }",
    "bearer: \"{{ secret.CANARY }}\"",
    "header: { X-Api-Key: \"{{ secret.CANARY }}\" }",
    "query: { api_key: \"{{ secret.CANARY }}\" }",
];

fn pipeline(url: &str, auth: &str) -> String {
    format!(
        "source:
  url: {url}
  limits: none
  retry: {{ attempts: 1 }}
  auth: {{ {auth} }}
  allow_origins: []
streams:
  items:
    get: /items
sink:
  csv: data/items.csv
"
    )
}

/// The same, with the secret in a header, a parameter and a body of the stream too.
fn pipeline_with_templates(url: &str, auth: &str) -> String {
    pipeline(url, auth).replace(
        "    get: /items",
        "    post: /items
    headers: { X-Token: \"T {{ secret.CANARY }}\" }
    query: { token: \"{{ secret.CANARY }}\" }
    body: { json: { token: \"{{ secret.CANARY }}\" } }
    records: items
    pages: { next: next }",
    )
}

/// RFC 4648, without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    bits.chunks_exact(6)
        .map(|six| six.iter().fold(0, |all, bit| all * 2 + usize::from(*bit)))
        .map(|digit| char::from(ALPHABET[digit]))
        .collect()
}

/// Every eight characters in a row of the canary, as it is, percent-encoded and in base64: a
/// leak of half a secret is a leak.
fn traces() -> Vec<String> {
    let percent = |upper: bool| -> String {
        CANARY
            .chars()
            .map(|c| match (c.is_ascii_alphanumeric() || c == '-', upper) {
                (true, _) => c.to_string(),
                (false, true) => format!("%{:02X}", u32::from(c)),
                (false, false) => format!("%{:02x}", u32::from(c)),
            })
            .collect()
    };
    let mut whole = vec![CANARY.to_owned(), percent(true), percent(false)];
    for skip in 0..3 {
        whole.push(base64(&CANARY.as_bytes()[skip..]));
    }
    whole
        .iter()
        .flat_map(|form| {
            form.as_bytes()
                .windows(8)
                .map(|w| String::from_utf8_lossy(w).into_owned())
        })
        .filter(|trace| trace != "canary-7")
        .collect()
}

/// Finds traces of the canary.
pub(crate) fn leak(text: &str) -> Option<String> {
    traces().into_iter().find(|trace| text.contains(trace))
}

#[track_caller]
pub(crate) fn clean(what: &str, text: &str) {
    if let Some(trace) = leak(text) {
        panic!("{what} holds {trace:?}:\n{text}");
    }
}

/// No file of the project but `.env`, and the tokens that are kept by design, holds a trace.
#[track_caller]
pub(crate) fn clean_files(root: &std::path::Path, files: &[PathBuf]) {
    let is_meant =
        |file: &&PathBuf| file.ends_with(".env") || file.extension().is_some_and(|e| e == "token");
    for file in files.iter().filter(|file| !is_meant(file)) {
        clean(&file.display().to_string(), &file.display().to_string());
        // A file may be gone by now: the run tidies up.
        let bytes = std::fs::read(file).unwrap_or_default();
        let shown = file
            .strip_prefix(root)
            .unwrap_or(file)
            .display()
            .to_string();
        clean(&shown, &String::from_utf8_lossy(&bytes));
    }
}

/// Runs it with the secret in `.env`; whatever comes of it, nothing may show.
#[track_caller]
pub(crate) fn runs_clean(project: &Project, args: &[&str]) -> crate::scene::Said {
    project.write(".env", &format!("CANARY='{CANARY}'\n"));
    let said = project.run(args);
    clean("standard output", &said.stdout);
    clean("standard error", &said.stderr);
    clean_files(project.path(), &project.files());
    said
}

/// As it stands in a query.
pub(crate) fn encoded() -> String {
    url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect()
}

/// Text as JSON.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text")
}

/// What a hostile or careless server makes of a request: all it was sent comes back.
fn echo(how: &str, request: &str, other: &str) -> Reply {
    let query = request
        .split_once('?')
        .and_then(|(_, rest)| rest.split_once(' '))
        .map_or("", |(query, _)| query);
    let long = |at: usize| format!("{}{CANARY}", "x".repeat(at));
    match how {
        "401" => Reply::new(401, format!("{{\"message\":{}}}", quoted(request))),
        "404" => Reply::new(404, format!("{{\"error\":{}}}", quoted(request))),
        "401 cut" => Reply::new(401, format!("{{\"message\":{}}}", quoted(&long(188)))),
        "403 text" => Reply::new(403, format!("not with {CANARY}, {query}")),
        "500" => Reply::new(500, request.to_owned()),
        "429" => Reply::new(429, format!("{{\"error\":{}}}", quoted(query)))
            .header("retry-after", "9999"),
        "html" => Reply::new(
            200,
            format!("<html><a href=\"?{query}\">{CANARY}</a>{request}"),
        ),
        "no json" => Reply::new(200, format!("{{\"items\": {CANARY}, {query}")),
        "half json" => Reply::new(200, format!("{{\"items\": \"{}", long(20))),
        "no records" => Reply::json(format!("{{{}:1,{}:2}}", quoted(CANARY), quoted(query))),
        "scalar" => Reply::json(format!(
            "{{\"items\":[],\"next\":{{\"to\":{}}}}}",
            quoted(&long(40))
        )),
        "next" => Reply::json(format!(
            "{{\"items\":[],\"next\":{}}}",
            quoted(&format!("{other}/{CANARY}?{query}&k={CANARY}"))
        )),
        "redirect" => Reply::new(307, request.to_owned())
            .header("location", format!("{other}/{CANARY}?{query}&k={CANARY}")),
        "bad redirect" => {
            Reply::new(302, "").header("location", format!("http://{CANARY}:{query}/"))
        }
        "ftp" => Reply::new(302, "").header("location", format!("ftp://{CANARY}/{query}")),
        _ => Reply::new(200, "").header("content-encoding", format!("gzip, {query}")),
    }
}

const ECHOES: [&str; 16] = [
    "404",
    "401",
    "401 cut",
    "403 text",
    "500",
    "429",
    "html",
    "no json",
    "half json",
    "no records",
    "scalar",
    "next",
    "redirect",
    "bad redirect",
    "ftp",
    "encoding",
];

fn fails_without_a_trace(auth: &str, args: &[&str]) {
    for how in ECHOES {
        let other = Server::says(Reply::json("{\"items\":[]}"));
        let to = other.url();
        let server = Server::start(move |request| echo(how, request, &to));
        let project = Project::new(&pipeline_with_templates(&server.url(), auth));
        let said = runs_clean(&project, args);
        assert_ne!(said.code, Some(0), "{how}: {}", said.shown);
        assert!(matches!(said.code, Some(1 | 75)), "{how}: {}", said.shown);
        project.is_untouched();
        assert!(
            server.heard().iter().any(|request| leak(request).is_some()),
            "the credential was sent"
        );
        assert_eq!(other.heard(), [""; 0], "{how}");
    }
}

#[test]
fn no_failure_shows_a_password() {
    fails_without_a_trace(PLACES[0], &["run", "items", "-v"]);
}

#[test]
fn no_failure_shows_a_token() {
    fails_without_a_trace(PLACES[1], &["run", "items", "-v"]);
}

#[test]
fn no_failure_shows_a_key_in_a_header() {
    fails_without_a_trace(PLACES[2], &["run", "items", "--json"]);
}

#[test]
fn no_failure_shows_a_key_in_the_query() {
    fails_without_a_trace(PLACES[3], &["run", "items", "--json", "-v"]);
}

#[test]
fn no_preview_shows_a_secret() {
    for how in ["401", "html", "no records", "redirect"] {
        let server = Server::start(move |request| echo(how, request, "http://localhost:1"));
        let project = Project::new(&pipeline_with_templates(&server.url(), PLACES[3]));
        let said = runs_clean(&project, &["preview", "items", "-v"]);
        assert_eq!(said.code, Some(1), "{how}: {}", said.shown);
    }
}

#[test]
fn a_server_that_is_not_there_learns_and_shows_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for url in [url.as_str(), "http://api.gleaner.invalid"] {
        let project = Project::new(&pipeline_with_templates(url, PLACES[3]));
        let said = runs_clean(&project, &["run", "items", "-v"]);
        assert!(matches!(said.code, Some(1 | 75)), "{}", said.shown);
    }
}

#[test]
fn a_secret_that_cannot_be_sent_is_not_shown() {
    for auth in PLACES {
        let server = Server::says(Reply::json("[]"));
        let project = Project::new(&pipeline(&server.url(), auth));
        let said = project.run_with(&["run", "items"], &[("CANARY", &format!("{CANARY}\nx"))]);
        clean("standard error", &said.stderr);
        if auth.starts_with("bearer") {
            assert_eq!(said.code, Some(2), "{}", said.shown);
            insta::assert_snapshot!("line_break", said.shown);
        }
    }
}

/// How a server names another address.
fn leads(how: &str, id: u32, to: &str) -> Reply {
    match how {
        "next" => Reply::json(format!(
            "{{\"items\":[{{\"id\":{id}}}],\"next\":{}}}",
            quoted(to)
        )),
        "link" => Reply::json(format!("{{\"items\":[{{\"id\":{id}}}]}}"))
            .header("link", format!("<{to}>; rel=\"next\"")),
        status => Reply::new(status.parse().unwrap(), "").header("location", to),
    }
}

fn pipeline_that_follows(url: &str, auth: &str, how: &str) -> String {
    let pages = if how == "next" {
        "{ next: next }"
    } else {
        "link"
    };
    pipeline(url, auth).replace(
        "    get: /items",
        &format!(
            "    get: /items
    headers: {{ X-Token: \"{{{{ secret.CANARY }}}}\" }}
    records: items
    pages: {pages}"
        ),
    )
}

const WAYS: [&str; 7] = ["next", "link", "301", "302", "303", "307", "308"];

#[test]
fn another_origin_is_refused_with_the_way_to_allow_it() {
    for how in WAYS {
        let other = Server::says(Reply::json("{\"items\":[{\"id\":2}]}"));
        let to = format!("{}/items?page=2", other.url());
        let server = Server::start(move |_| leads(how, 1, &to));
        for auth in PLACES {
            let text = pipeline_that_follows(&server.url(), auth, how);
            let project = Project::new(&text).knows(&server).knows(&other);
            let said = runs_clean(&project, &["run", "items"]);
            assert_eq!(said.code, Some(1), "{how}: {}", said.shown);
            project.is_untouched();
            assert!(said.stderr.contains("allow_origins"), "{}", said.shown);
            assert!(said.stderr.contains(&other.url()), "{}", said.shown);
            if auth == PLACES[1] && ["next", "link", "302"].contains(&how) {
                insta::assert_snapshot!(format!("refused_{how}"), said.shown);
            }
        }
        assert_eq!(other.heard(), [""; 0], "{how}: not even asked");
    }
}

#[test]
fn another_name_of_the_same_machine_is_another_origin() {
    for how in ["next", "link", "302", "308"] {
        let port = Arc::new(Mutex::new(0));
        let known = port.clone();
        let server = Server::start(move |_| {
            leads(
                how,
                1,
                &format!("http://localhost:{}/items?page=2", known.lock().unwrap()),
            )
        });
        *port.lock().unwrap() = server.address.port();
        let text = pipeline_that_follows(&server.url(), PLACES[1], how);
        let said = runs_clean(&Project::new(&text), &["run", "items"]);
        assert_eq!(said.code, Some(1), "{how}: {}", said.shown);
        assert_eq!(server.heard().len(), 1, "{how}");
    }
}

#[test]
fn an_allowed_origin_gets_credentials_only_when_said() {
    for how in WAYS {
        for auth in PLACES {
            let other = Server::says(Reply::json("{\"items\":[{\"id\":2}]}"));
            // A key that the source's server echoes is taken off before the address is judged.
            let echoed = if auth == PLACES[3] {
                "&api_key="
            } else {
                "&x="
            };
            let value = if auth == PLACES[3] {
                encoded()
            } else {
                String::new()
            };
            let to = format!("{}/items?page=2{echoed}{value}", other.url());
            let server = Server::start(move |_| leads(how, 1, &to));
            let text = pipeline_that_follows(&server.url(), auth, how);
            let allow = |rule: String| {
                text.replace("allow_origins: []", &format!("allow_origins: [{rule}]"))
            };
            let wants = if how.starts_with('3') {
                "id\n2\n"
            } else {
                "id\n1\n2\n"
            };
            let said_rows = |project: &Project| {
                let said = runs_clean(project, &["run", "items", "-v"]);
                assert_eq!(said.code, Some(0), "{how}: {}", said.shown);
                let rows = std::fs::read_to_string(project.path().join("data/items.csv")).unwrap();
                assert_eq!(rows.replace('\r', ""), wants, "{how}");
            };

            said_rows(&Project::new(&allow(format!("\"{}\"", other.url()))));
            let heard = other.heard();
            assert_eq!(heard.len(), 1, "{how}");
            clean("the other server's log", &heard.concat());
            for header in ["authorization", "x-api-key", "x-token", "referer", "cookie"] {
                let sent = heard[0].to_ascii_lowercase();
                assert!(!sent.contains(header), "{header}: {sent}");
            }

            said_rows(&Project::new(&allow(format!(
                "{{ origin: \"{}\", credentials: true }}",
                other.url()
            ))));
            assert!(leak(&other.heard()[1]).is_some(), "{how}: {auth}");
        }
    }
}

#[test]
fn an_allowed_origin_is_not_reached_by_an_address_that_holds_the_secret() {
    for how in ["next", "link", "302"] {
        let other = Server::says(Reply::json("{\"items\":[{\"id\":2}]}"));
        let to = format!("{}/items?page=2&seen={}", other.url(), encoded());
        let server = Server::start(move |_| leads(how, 1, &to));
        let text = pipeline_that_follows(&server.url(), PLACES[1], how).replace(
            "allow_origins: []",
            &format!("allow_origins: [\"{}\"]", other.url()),
        );
        let project = Project::new(&text).knows(&server).knows(&other);
        let said = runs_clean(&project, &["run", "items"]);
        assert_eq!(said.code, Some(1), "{how}: {}", said.shown);
        assert_eq!(other.heard(), [""; 0], "{how}");
        if how == "next" {
            insta::assert_snapshot!("secret_in_address", said.shown);
        }
    }
}

#[test]
fn a_key_echoed_in_the_next_link_is_neither_kept_nor_doubled() {
    for how in ["next", "link"] {
        let folder: Arc<Mutex<Option<PathBuf>>> = Arc::default();
        let during = folder.clone();
        let server = Server::start(move |request| {
            let Some((_, query)) = request.lines().next().unwrap().split_once('?') else {
                return Reply::new(400, "");
            };
            let query = query.split(' ').next().unwrap();
            // What is on disk while the run goes on.
            let root = during.lock().unwrap().clone().unwrap();
            let mut folders = vec![root.join(".gleaner")];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                    if entry.path().is_dir() {
                        folders.push(entry.path());
                    } else {
                        clean_files(&root, &[entry.path()]);
                    }
                }
            }
            if query.contains("page=3") {
                Reply::json("{\"items\":[{\"id\":9}]}")
            } else if query.contains("page=2") {
                leads(
                    how,
                    2,
                    &format!("/items?{}", query.replace("page=2", "page=3")),
                )
            } else {
                leads(how, 1, &format!("/items?{query}&page=2"))
            }
        });
        let text = pipeline_that_follows(&server.url(), PLACES[3], how);
        for args in [
            ["run", "items", "-v"].as_slice(),
            &["run", "items", "--json", "-v"],
        ] {
            let project = Project::new(&text);
            *folder.lock().unwrap() = Some(project.path().to_owned());
            let said = runs_clean(&project, args);
            assert_eq!(said.code, Some(0), "{how}: {}", said.shown);
        }
        let heard = server.heard();
        assert_eq!(heard.len(), 6, "{how}");
        for request in heard {
            assert_eq!(request.matches("api_key=").count(), 1, "{request}");
        }
    }
}

#[test]
fn the_environment_goes_before_the_file_of_secrets() {
    let server = Server::says(Reply::json("[{\"id\":1}]"));
    let project = Project::new(&pipeline(&server.url(), PLACES[1]));
    project.write(".env", "# secrets\nCANARY=from-the-file\n");
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    let said = project.run_with(&["run", "items"], &[("CANARY", "from-outside")]);
    assert_eq!(said.code, Some(0));
    let heard = server.heard();
    assert!(heard[0].contains("Bearer from-the-file"), "{}", heard[0]);
    assert!(heard[1].contains("Bearer from-outside"), "{}", heard[1]);
}

#[test]
fn a_file_of_secrets_that_cannot_be_read_shows_nothing() {
    let project = Project::new(&pipeline("http://127.0.0.1:1", PLACES[1]));
    project.write(".env", &format!("CANARY='{CANARY}\n"));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    clean("standard error", &said.stderr);
    insta::assert_snapshot!("bad_env_file", said.shown);
}

#[test]
fn an_answer_that_echoes_a_key_is_not_kept_to_be_asked_by() {
    let server = Server::start(|request| {
        let line = request.lines().next().unwrap();
        let body = serde_json::json!({ "items": [{ "id": 1 }], "asked": line });
        Reply::json(body.to_string()).header("etag", "\"1\"")
    });
    let text = pipeline(&server.url(), PLACES[3]).replace(
        "    get: /items",
        "    get: /items\n    records: items\n    pages: none\n    conditional: true",
    );
    let project = Project::new(&text);
    for _ in 0..2 {
        let said = runs_clean(&project, &["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
    assert!(
        server
            .heard()
            .iter()
            .all(|asked| !asked.contains("if-none-match"))
    );
}
