//! Errors that a user meets: each a clear message with the next step and the right exit code; no
//! panic, no half-written file, and the output of the run before stays as it was.
//!
//! The snapshots are what the program says, word for word.

use std::process::Stdio;
use std::sync::mpsc;

use crate::scene::{Project, Reply, Said, Server};

/// A pipeline that is right, against a server; tests replace a line of it.
fn pipeline(url: &str) -> String {
    format!(
        "source:
  url: {url}
  limits: none
  retry: {{ attempts: 2 }}
streams:
  items:
    get: /items
sink:
  csv: data/items.csv
"
    )
}

/// Two records.
fn good() -> Server {
    Server::says(Reply::json(r#"[{"id":1},{"id":2}]"#))
}

/// A run that must fail with `exit`, leave everything as it was, and say what the snapshot says.
#[track_caller]
fn fails(name: &str, exit: i32, project: &Project, args: &[&str]) -> Said {
    let said = project.run(args);
    assert_eq!(said.code, Some(exit), "{}", said.shown);
    project.is_untouched();
    insta::assert_snapshot!(name, said.shown);
    said
}

/// A mistake in the file: `line` of the right pipeline is replaced.
#[track_caller]
fn mistaken(name: &str, line: &str, by: &str) {
    let server = good();
    let right = pipeline(&server.url());
    assert!(right.contains(line), "{line}");
    let project = Project::new(&right.replace(line, by)).knows(&server);
    fails(name, 4, &project, &["run", "items"]);
    assert_eq!(server.heard(), [""; 0], "nothing is asked for");
}

/// An answer that no run should take for data.
#[track_caller]
fn answered(name: &str, exit: i32, reply: Reply) -> Server {
    let server = Server::says(reply);
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    fails(name, exit, &project, &["run", "items"]);
    server
}

#[test]
fn the_right_pipeline_runs() {
    let server = good();
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let data = std::fs::read_to_string(project.path().join("data/items.csv")).unwrap();
    assert_eq!(data.replace('\r', ""), "id\n1\n2\n");
    insta::assert_snapshot!("right", said.shown);
}

#[test]
fn mistakes_in_the_file() {
    for (name, line, by) in [
        ("misspelt_key", "  limits: none", "  limit: none"),
        ("wrong_type", "{ attempts: 2 }", "{ attempts: many }"),
        (
            "undefined_variable",
            "get: /items",
            "get: /items/{{ vars.page }}/{{ repo }}",
        ),
        ("bad_url", "  url: http", "  url: htp"),
        (
            "no_host",
            "  url: http://127.0.0.1",
            "  url: \"http:///x?\" #",
        ),
        ("bad_limit", "limits: none", "limits: [5000/fortnight]"),
        ("no_limits", "  limits: none\n", ""),
        (
            "unknown_name_in_for",
            "    get: /items",
            "    for: { repo: \"{{ vars.repos }}\" }\n    get: /items/{{ repo }}",
        ),
        (
            "secret_in_column",
            "    get: /items",
            "    get: /items\n    columns: { id: \"{{ secret.TOKEN }}\" }",
        ),
        ("not_yaml", "streams:", "streams: ]"),
    ] {
        mistaken(name, line, by);
    }
}

#[test]
fn a_missing_secret_is_named() {
    let server = good();
    let pipeline = pipeline(&server.url()).replace(
        "  limits: none",
        "  auth: { bearer: \"{{ secret.ITEMS_TOKEN }}\" }\n  limits: none",
    );
    let project = Project::new(&pipeline).knows(&server);
    fails("missing_secret", 2, &project, &["run", "items"]);
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn a_secret_that_is_set_to_nothing_is_told_once() {
    let server = good();
    let pipeline = pipeline(&server.url()).replace(
        "  limits: none",
        "  auth: { bearer: \"{{ secret.ITEMS_TOKEN }}\" }\n  limits: none",
    );
    let project = Project::new(&pipeline).knows(&server);
    for (value, times) in [("", 1), ("hush-hush", 0)] {
        let said = project.run_with(&["run", "items"], &[("ITEMS_TOKEN", value)]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let told = said.stderr.matches("ITEMS_TOKEN is set to nothing").count();
        assert_eq!(told, times, "{}", said.shown);
    }
}

#[test]
fn heads_of_answers_that_nobody_expects() {
    let many = (0..150).fold(Reply::json("[]"), |reply, _| reply.header("x-more", "1"));
    for (reply, told) in [
        (Reply::new(304, ""), "nobody asked whether"),
        (many, "more than 100"),
    ] {
        let server = Server::says(reply);
        let project = Project::new(&pipeline(&server.url())).knows(&server);
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
        assert!(said.stderr.contains(told), "{}", said.shown);
        project.is_untouched();
    }
}

#[test]
fn answers_that_are_no_data() {
    answered(
        "unauthorized",
        1,
        Reply::new(401, r#"{"message":"Bad credentials"}"#),
    );
    let server = Server::says(Reply::new(401, r#"{"message":"Bad credentials"}"#));
    let text = pipeline(&server.url()).replace(
        "  limits",
        "  auth: { bearer: \"{{ secret.ITEMS_TOKEN }}\" }\n  limits",
    );
    let project = Project::new(&text).knows(&server);
    project.write(".env", "ITEMS_TOKEN=old-and-revoked\n");
    fails("unauthorized_with_a_token", 1, &project, &["run", "items"]);
    answered("forbidden", 1, Reply::new(403, "you may not"));
    answered("not_found", 1, Reply::new(404, "<html>Not Found</html>"));
    answered(
        "bad_request",
        1,
        Reply::new(400, r#"{"errors":[{"detail":"per_page is too large"}]}"#),
    );
    answered("unused_status", 1, Reply::new(418, ""));
    answered("redirect_to_nowhere", 1, Reply::new(302, ""));
    answered(
        "login_page",
        1,
        Reply::new(200, "<!DOCTYPE html>\n<html><title>Log in</title></html>")
            .header("content-type", "text/html"),
    );
    answered("empty_body", 1, Reply::new(200, ""));
    answered("half_a_body", 1, Reply::json(r#"[{"id":1},{"id":"#));
}

#[test]
fn throttled_for_ever() {
    let server = answered(
        "throttled",
        75,
        Reply::new(429, "slow down").header("retry-after", "0"),
    );
    assert_eq!(server.heard().len(), 2);
}

#[test]
fn told_to_wait_longer_than_allowed() {
    let server = answered(
        "wait_too_long",
        75,
        Reply::new(429, "{\"message\":\"quota used up\"}").header("retry-after", "7200"),
    );
    assert_eq!(server.heard().len(), 1, "asked once, then it goes home");
}

#[test]
fn broken_for_ever() {
    let server = answered("broken", 75, Reply::new(500, "oops"));
    assert_eq!(server.heard().len(), 2);
}

#[test]
fn redirected_in_circles() {
    let server = Server::says(Reply::new(302, "").header("location", "/items"));
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    fails("redirect_loop", 1, &project, &["run", "items"]);
}

#[test]
fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let text = pipeline(&format!("http://{closed}"));
    let project = Project::new(&text);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(75), "{}", said.shown);
    project.is_untouched();
    insta::assert_snapshot!(
        "refused_connection",
        said.shown
            .replace(&format!(":{}", closed.port()), ":[port]")
    );
}

#[test]
fn a_host_that_is_not_there() {
    let project = Project::new(&pipeline("http://api.gleaner.invalid"));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    project.is_untouched();
    // What the resolver says is its own affair.
    let shown: Vec<&str> = said
        .shown
        .lines()
        .filter(|l| !l.contains("dns error"))
        .collect();
    assert_eq!(shown.len() + 1, said.shown.lines().count());
    let shown = shown.join("\n");
    insta::assert_snapshot!("unknown_host", shown);
}

#[test]
fn pages_forgotten() {
    let server = Server::says(
        Reply::json(r#"[{"id":1}]"#)
            .header("link", "<http://127.0.0.1/items?page=2>; rel=\"next\""),
    );
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    fails("pages_forgotten", 1, &project, &["run", "items"]);

    let server = Server::says(Reply::json(r#"{"total":5,"items":[{"id":1}]}"#));
    let text = pipeline(&server.url()).replace(
        "    get: /items",
        "    get: /items\n    records: items\n    expect: { total: total }",
    );
    let project = Project::new(&text).knows(&server);
    fails("pages_forgotten_by_total", 1, &project, &["run", "items"]);
}

#[test]
fn paging_that_goes_in_circles() {
    let server = good();
    let text = pipeline(&server.url()).replace(
        "    get: /items",
        "    get: /items\n    pages: { page: { to: page } }",
    );
    let project = Project::new(&text).knows(&server);
    fails("paging_loop", 1, &project, &["run", "items"]);
}

#[test]
fn records_that_are_not_there() {
    let server = Server::says(Reply::json(r#"{"data":{"items":[{"id":1}]},"meta":{}}"#));
    let text = pipeline(&server.url()).replace(
        "    get: /items",
        "    get: /items\n    records: data.itmes",
    );
    let project = Project::new(&text).knows(&server);
    fails("records_absent", 1, &project, &["run", "items"]);
}

/// A mistake that only the data show: stream, partition and page are named, the expression is shown
/// where it stands, and what it met.
#[test]
fn expressions_that_fail_on_what_came() {
    for (name, stream) in [
        (
            "data_rule",
            "responses: [{ if: body.items + 1 > 2, then: skip }]",
        ),
        (
            "data_rule_text",
            "responses: [{ if: status == 200, then: { fail: \"{{ body.items + 1 }}\" } }]",
        ),
        (
            "data_stop",
            "records: items\n    pages: { page: { to: page } }\n    stop: last.id + 1 > 3",
        ),
        ("data_request", "query: { since: \"{{ repo + 1 }}\" }"),
        (
            "data_body",
            "headers: { x-since: \"{{ (repo | int(default=none)) + 1 }}\" }",
        ),
        ("data_jq", "records: { jq: '.items[] | {id: (.id + 1)}' }"),
        ("data_jq_null", "records: { jq: .itmes }"),
        ("data_zip", "records: { zip: items.0 }"),
        (
            "data_where",
            "records: items\n    transform: [{ where: record.id + 1 > 2 }]",
        ),
        (
            "data_column",
            "records: items\n    columns: { id: , next: \"{{ repo + 1 }}\" }",
        ),
        // Compared with what it cannot be compared with: never true, and so never seen.
        (
            "data_where_text",
            "records: items\n    transform: [{ where: record.id > 2 }]",
        ),
        (
            "data_rule_compare",
            "responses: [{ if: status == 200 and body.more > 2, then: skip }]",
        ),
        (
            "data_stop_compare",
            "records: items\n    pages: { page: { to: page } }\n    stop: last['id'] >= 3",
        ),
        (
            "data_add",
            "records: items\n    transform: [{ add: { fine: 1, twice: \"{{ record.id * 2 }}\" } }]",
        ),
        (
            "data_step_jq",
            "records: items\n    transform: [{ jq: '{id: (.id * {})}' }]",
        ),
        (
            "data_type",
            "records: items\n    columns: { id: { type: integer } }",
        ),
        ("data_cost", "cost: { tokens: { at_most: \"{{ repo }}\" } }"),
    ] {
        let body = format!(
            r#"{{"items":[{{"id":"x"}}],"more":"{}"}}"#,
            "sheaves ".repeat(60)
        );
        let server = Server::says(Reply::json(body));
        let right = pipeline(&server.url());
        let stream =
            format!("    for: {{ repo: [tokio] }}\n    get: /items/{{{{ repo }}}}\n    {stream}\n");
        let text = right.replace("    get: /items\n", &stream);
        let text = match name {
            "data_cost" => text.replace("limits: none", "limits: [9 tokens/min]"),
            _ => text,
        };
        let project = Project::new(&text).knows(&server);
        let said = fails(name, 1, &project, &["run", "items"]);
        // The line of the file.
        assert!(
            said.stderr.contains("pipelines/items.yaml:"),
            "{}",
            said.shown
        );
        assert!(said.stderr.contains("tokio"), "{}", said.shown);
        assert!(said.stderr.len() < 2000, "{}", said.shown);
    }
}

#[test]
fn a_condition_on_parents_that_fails_shows_the_parent() {
    let server = Server::says(Reply::json(r#"[{"id":"x"}]"#));
    let text = pipeline(&server.url()).replace(
        "    get: /items\n",
        "    for: { one: { stream: all, where: one.id + 1 > 2 } }\n    get: /items/{{ one.id }}\n  all: { get: /all, sink: none }\n",
    );
    let project = Project::new(&text).knows(&server);
    fails("data_parents", 1, &project, &["run", "items"]);
    let text = text.replace("one.id + 1 > 2", "one.id < 2");
    let project = Project::new(&text).knows(&server);
    fails("data_parents_compare", 1, &project, &["run", "items"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let server = good();
    let right = pipeline(&server.url());
    let sink = |path: &str| {
        let text = right.replace("data/items.csv", path);
        Project::new(&text).knows(&server)
    };
    let below_a_file = sink("data/items.csv/x/items.csv");
    fails("output_below_a_file", 73, &below_a_file, &["run", "items"]);

    let folder = sink("pipelines");
    fails("output_is_a_folder", 73, &folder, &["run", "items"]);

    let outside = sink("../items.csv");
    fails("output_outside", 2, &outside, &["run", "items"]);

    // Not even root may write here.
    let kernel = sink("/proc/items.csv");
    fails("output_not_writable", 73, &kernel, &["run", "items"]);
    assert_eq!(server.heard(), [""; 0], "tried before the first request");
}

#[test]
fn the_command_line_does_not_fit() {
    let server = good();
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    for (name, args) in [
        ("unknown_pipeline", vec!["run", "itmes"]),
        ("unknown_path", vec!["run", "pipelines/none.yaml"]),
        ("unknown_stream", vec!["run", "items", "--stream", "item"]),
        ("bad_sink", vec!["run", "items", "--sink", "xlsx=x"]),
        ("bad_var", vec!["run", "items", "--var", "repos"]),
        ("unknown_var", vec!["run", "items", "--var", "repos=x"]),
    ] {
        fails(name, 2, &project, &args);
    }
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn files_of_for() {
    let server = good();
    let with = |generator: &str| {
        let text = pipeline(&server.url()).replace(
            "    get: /items",
            &format!("    for: {{ row: {generator} }}\n    get: /items/{{{{ row.id }}}}"),
        );
        Project::new(&text).knows(&server)
    };
    let project = with("{ file: ids.csv }");
    fails("for_file_missing", 2, &project, &["run", "items"]);
    project.write("ids.csv", "name,age\nx,1\n");
    fails("for_column_unknown", 1, &project, &["run", "items"]);
    let project = with("{ file: ids.csv, column: id }");
    project.write("ids.csv", "name,age\nx,1\n");
    fails("for_column_missing", 2, &project, &["run", "items"]);
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn a_url_that_renders_to_nothing() {
    let text =
        pipeline("\"{{ vars.place }}\"").replace("source:", "vars: { place: \"\" }\nsource:");
    let project = Project::new(&text);
    fails("url_renders_empty", 2, &project, &["run", "items"]);
}

#[test]
fn templates_that_render_to_nothing_usable() {
    let server = good();
    let right = pipeline(&server.url());
    for (name, exit, line, by) in [
        (
            "path_renders_null",
            1,
            "    get: /items",
            "    for: { id: [null] }\n    get: /items/{{ id }}",
        ),
        (
            "target_is_no_url",
            1,
            "    get: /items",
            "    for: { link: [items] }\n    get: \"{{ link }}\"",
        ),
        (
            "header_with_line_break",
            1,
            "    get: /items",
            "    for: { id: [\"a\\nb\"] }\n    get: /items\n    headers: { X-Id: \"{{ id }}\" }",
        ),
        (
            "sink_renders_empty",
            2,
            "csv: data/items.csv",
            "csv: \"{{ '' }}\"",
        ),
    ] {
        let project = Project::new(&right.replace(line, by)).knows(&server);
        fails(name, exit, &project, &["run", "items"]);
    }
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn a_server_that_says_nothing() {
    let server = Server::start(|_| {
        std::thread::park();
        Reply::new(500, "")
    });
    let text = pipeline(&server.url()).replace(
        "attempts: 2 }",
        "attempts: 1 }\n  timeouts: { headers: 200ms }",
    );
    let project = Project::new(&text).knows(&server);
    fails("no_answer", 75, &project, &["run", "items"]);
}

#[test]
fn an_answer_that_is_cut_off() {
    answered(
        "cut_off",
        75,
        Reply::json(r#"[{"id":1}"#).header("content-length", "99"),
    );
}

/// A server that says its piece to whoever speaks first.
fn says_always(name: &str, exit: i32, scheme: &str, piece: &'static [u8]) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read, Write};
            let mut stream = stream?;
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(piece)?;
        }
        std::io::Result::Ok(())
    });
    let project = Project::new(&pipeline(&format!("{scheme}://{address}")));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(exit), "{}", said.shown);
    project.is_untouched();
    insta::assert_snapshot!(
        name,
        said.shown
            .replace(&format!(":{}", address.port()), ":[port]")
    );
}

#[test]
fn answers_that_are_not_http() {
    says_always("not_http", 75, "http", b"SSH-2.0-OpenSSH_9.6\r\n");
}

#[test]
fn https_where_only_http_is_spoken() {
    says_always(
        "https_to_http",
        1,
        "https",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    );
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = std::process::Command::new(folder.join("target/real/py/bin/python"))
        .arg(folder.join("tests/certs/serve.py"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/run installs it");
    let mut port = String::new();
    let mut said = std::io::BufReader::new(python.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut port).unwrap();
    let port = port.trim();
    let project = Project::new(&pipeline(&format!("https://localhost:{port}")));
    let said = project.run(&["run", "items"]);
    python.kill().unwrap();
    python.wait().unwrap();
    assert_eq!(said.code, Some(1), "{}", said.shown);
    project.is_untouched();
    insta::assert_snapshot!(
        "certificate",
        said.shown.replace(&format!(":{port}"), ":[port]")
    );
}

/// Starts a run against a server that never answers the second page, and signals it there.
fn signalled(name: &str, signal: &str, exit: i32) {
    let (tell, asked) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let (tell, wait) = (std::sync::Mutex::new(tell), std::sync::Mutex::new(wait));
    let server = Server::start(move |request| {
        if request.starts_with("GET /items?page=1 ") {
            return Reply::json(r#"[{"id":1},{"id":2}]"#);
        }
        if request.starts_with("GET /items?page=2 ") {
            let _ = tell.lock().unwrap().send(());
            let _ = wait.lock().unwrap().recv();
            return Reply::json(r#"[{"id":3}]"#);
        }
        Reply::json("[]")
    });
    let text = pipeline(&server.url()).replace(
        "    get: /items",
        "    get: /items\n    pages: { page: { to: page } }",
    );
    let project = Project::new(&text).knows(&server);
    let running = project
        .command(&["run", "items"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asked.recv().expect("page 2 is asked for");
    let killed = std::process::Command::new("/bin/kill")
        .args([signal, &running.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = running.wait_with_output().unwrap();
    let said = project.said(&["run", "items"], &output);
    assert_eq!(said.code, Some(exit), "{}", said.shown);
    project.is_untouched();
    insta::assert_snapshot!(name, said.shown);

    drop(go);
    let again = project.run(&["run", "items"]);
    assert_eq!(again.code, Some(0), "{}", again.shown);
    let data = std::fs::read_to_string(project.path().join("data/items.csv")).unwrap();
    assert_eq!(data.replace('\r', ""), "id\n1\n2\n3\n");
}

#[test]
fn ctrl_c_stops_gracefully() {
    signalled("interrupted", "-INT", 130);
}

#[test]
fn a_termination_stops_gracefully() {
    signalled("terminated", "-TERM", 143);
}

#[test]
fn a_reader_that_leaves_early() {
    let server = good();
    let right = pipeline(&server.url());
    let text = right.replace("data/items.csv", "\"-\"");
    let table = text.replace("csv:", "ndjson:");
    for (name, text, args, exit) in [
        ("closed_json", &right, vec!["run", "items", "--json"], 0),
        ("closed_preview", &right, vec!["preview", "items"], 0),
        ("closed_check", &right, vec!["check", "--json"], 0),
        ("closed_csv", &text, vec!["run", "items"], 1),
        ("closed_ndjson", &table, vec!["run", "items"], 1),
    ] {
        let project = Project::new(text).knows(&server);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = project
            .command(&args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = project.said(&args, &output);
        assert_eq!(said.code, Some(exit), "{}", said.shown);
        insta::assert_snapshot!(name, said.shown);
    }
}

#[test]
fn a_full_disk() {
    let server = good();
    for format in ["csv", "ndjson"] {
        let text =
            pipeline(&server.url()).replace("csv: data/items.csv", &format!("{format}: \"-\""));
        let project = Project::new(&text).knows(&server);
        let output = project
            .command(&["run", "items"])
            .stdout(std::fs::File::create("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = project.said(&["run", "items"], &output);
        assert_eq!(said.code, Some(73), "{}", said.shown);
        project.is_untouched();
        insta::assert_snapshot!("disk_full", said.shown);
    }
}

#[test]
fn a_project_that_takes_no_state() {
    let server = good();
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    project.write(".gleaner", "not a folder");
    fails("state_not_writable", 73, &project, &["run", "items"]);
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn a_state_folder_that_cannot_be_written() {
    let server = good();
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    // As of a user whose home is not there; nobody at all can make this one.
    project.write("nobody", "not a folder");
    let home = project.path().join("nobody");
    let said = project.run_with(&["run", "items"], &[("HOME", &home.display().to_string())]);
    assert_eq!(said.code, Some(73), "{}", said.shown);
    project.is_untouched();
    assert_eq!(server.heard(), [""; 0]);
    let folder = home.join(".local/state/gleaner").display().to_string();
    for told in [folder.as_str(), "GLEANER_STATE_DIR"] {
        let hint = said
            .stderr
            .lines()
            .find(|line| line.contains("hint") || line.contains("help"));
        let hint = hint.unwrap_or_else(|| panic!("{}", said.stderr));
        assert!(hint.contains(told), "{}", said.stderr);
    }
}

#[test]
fn a_stream_that_fails_does_not_hold_the_others() {
    let server = Server::start(|request| {
        if request.starts_with("GET /items ") {
            Reply::json(r#"[{"id":1}]"#)
        } else {
            Reply::new(404, "")
        }
    });
    let text = pipeline(&server.url())
        .replace(
            "    get: /items",
            "    get: /items\n  gone:\n    get: /gone",
        )
        .replace("data/items.csv", "data/{{ stream }}.csv");
    let project = Project::new(&text).knows(&server);
    project.write("data/gone.csv", "id\nold\n");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    let read = |name: &str| {
        let text = std::fs::read_to_string(project.path().join(name)).unwrap();
        text.replace('\r', "")
    };
    assert_eq!(read("data/items.csv"), "id\n1\n");
    assert_eq!(read("data/gone.csv"), "id\nold\n");
}

#[test]
fn quiet_and_json_say_why_too() {
    let server = Server::says(Reply::new(404, ""));
    let project = Project::new(&pipeline(&server.url())).knows(&server);
    fails("quiet", 1, &project, &["run", "items", "-q"]);
    let said = project.run(&["run", "items", "--json"]);
    assert_eq!(said.code, Some(1));
    let last: Vec<&str> = said.stdout.lines().rev().take(2).collect();
    assert!(
        last[0].contains(r#""event":"run_finished","complete":false,"exit":1"#),
        "{}",
        last[0]
    );
    assert!(
        last[1].contains(r#""message":"items, page 1: 404 Not Found""#),
        "{}",
        last[1]
    );
    assert!(said.stderr.contains("hint: check `get`"), "{}", said.stderr);
}
