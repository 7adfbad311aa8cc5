//! Every run is a row that tells what it was and what to do next: complete, failed before its first
//! request, killed in the middle and gone on with.

use std::fmt::Write as _;
use std::process::Stdio;

use serde_json::Value;

use super::gate::{Gate, ask_to_stop, ends};
use super::real_time::until;
use super::scene::{Project, Reply, Server};

/// A pipeline of pages of one record, by number, until an empty one.
fn pipeline(server: &Server, more: &str) -> String {
    format!(
        "source: {{ url: \"{}\", limits: [600/min] }}\nstreams:\n  items: {{ get: /items, records: data, pages: {{ page: {{ to: page }} }}{more} }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    )
}

/// Pages of one record each, so many.
pub(crate) fn paged(request: &str, pages: usize) -> Reply {
    let page = request.split("page=").nth(1).unwrap_or_default();
    let page: usize = page
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(1);
    if page > pages {
        return Reply::json(r#"{"data":[]}"#);
    }
    Reply::json(format!(r#"{{"data":[{{"id":{page}}}]}}"#))
}

#[test]
fn a_run_does_not_read_what_became_of_all_before_it() {
    let server = Server::start(|request| paged(request, 2));
    let checks = ", keep: raw, expect: { schema: same }";
    let project = Project::new(&pipeline(&server, checks)).knows(&server);
    let run = || {
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    };
    // One more than is compared with.
    (0..8).for_each(|_| run());
    let state = project.path().join(".gleaner/state.db");
    let state = rusqlite::Connection::open(state).expect("a state");
    let oldest = "(SELECT id FROM runs ORDER BY started LIMIT 1)";
    let damage = format!("UPDATE runs SET streams = 'no JSON' WHERE id = {oldest}");
    assert_eq!(state.execute(&damage, []).expect("a change"), 1);
    drop(state);
    assert_eq!(project.run(&["history"]).code, Some(1), "it is damaged");
    run();
    let kept = std::fs::read_dir(project.path().join(".gleaner/raw/items")).expect("answers");
    assert_eq!(kept.count(), 9, "and nothing of it is taken for forgotten");
}

/// All runs, the latest first.
pub(crate) fn past(project: &Project) -> Vec<Value> {
    let said = project.run(&["history", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    serde_json::from_str(&said.stdout).expect("JSON")
}

/// What the program says, with what differs from run to run hidden: ids, moments, times, ports.
pub(crate) fn tamed(project: &Project, args: &[&str]) -> String {
    let said = project.run(args);
    let mut text = format!("$ gleaner {}\n", args.join(" "));
    for (name, part) in [("", &said.stdout), ("--- stderr\n", &said.stderr)] {
        if !part.is_empty() {
            text.push_str(name);
            text.push_str(part);
        }
    }
    let _ = writeln!(text, "--- exit code {}", said.code.unwrap_or(-1));
    hidden(&text).replace(&project.path().display().to_string(), "[project]")
}

/// A text without what differs from run to run.
fn hidden(text: &str) -> String {
    let mut text = text.to_owned();
    let patterns = [
        (r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}", "[run]"),
        (r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{5,8}", "[moment]"),
        (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "[moment]"),
        (r"127\.0\.0\.1:[0-9]+", "[server]"),
        (r"plan [0-9a-f]{16}", "plan [hash]"),
        (r"CRC32C [0-9a-f]{8}", "CRC32C [sum]"),
        (r"\b[0-9.]+m?s\b", "[time]"),
        (r"\b[0-9]{2}:[0-9]{2}\b", "[time]"),
        (r"[0-9.,]+/s", "[rate]"),
        // With each year it is one more.
        (r"\b[0-9]+ missed before it", "[n] missed before it"),
        (r"  +", "  "),
        (r" +\n", "\n"),
    ];
    for (pattern, by) in patterns {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, by).into_owned();
    }
    text
}

#[test]
fn every_run_is_a_row_whatever_became_of_it() {
    let gate = Gate::new(|request| paged(request, 3));
    let project = Project::new(&pipeline(&gate.server, "")).knows(&gate.server);
    let none = project.run(&["history"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));

    // Killed in the middle: it could not say so, and shows as interrupted.
    let mut child = gate.start(&project);
    child.kill().expect("a kill");
    ends(child);
    let killed = past(&project);
    assert_eq!(killed.len(), 1);
    assert_eq!(killed[0]["status"], "interrupted");
    assert_eq!(killed[0]["exit"], Value::Null);
    assert_eq!(killed[0]["attempts"], 1);
    let next = killed[0]["next"].to_string();
    assert!(next.contains("gleaner run items"), "{next}");

    // The attempt that follows fails before its first request: the run can still go on.
    let whole = pipeline(&gate.server, "");
    project.write(
        "pipelines/items.yaml",
        &whole.replace(
            "limits:",
            "headers: { x: \"{{ secret.GLEANER_NONE }}\" }, limits:",
        ),
    );
    let refused = project.run(&["run", "items"]);
    assert_ne!(refused.code, Some(0));
    let failed = past(&project);
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["status"], "resumable");
    assert_eq!(failed[0]["attempts"], 2);
    let why = failed[0]["failure"].to_string();
    assert!(why.contains("GLEANER_NONE"), "{why}");

    project.write("pipelines/items.yaml", &whole);
    gate.let_go();
    let done = project.run(&["run", "items"]);
    assert_eq!(done.code, Some(0), "{}", done.shown);
    let all = past(&project);
    assert_eq!(all.len(), 1, "one row, however many attempts");
    let run = &all[0];
    assert_eq!(run["status"], "complete");
    assert_eq!((&run["attempts"], &run["exit"]), (&3.into(), &0.into()));
    assert_eq!((&run["rows"], &run["pages"]), (&3.into(), &4.into()));
    assert_eq!(run["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run["failure"], Value::Null);
    let written = std::fs::read(project.path().join("data/items.csv")).expect("an output");
    let file = &run["files"][0];
    assert_eq!(file["bytes"], written.len());
    assert_eq!(
        file["crc32c"],
        format!("{:08x}", gleaner::crc::of(&written))
    );
    assert_eq!(file["rows"], 3);
    let used = run["quota"]["600/min"].as_f64().expect("a quota");
    assert!((2.0..=4.0).contains(&used), "{used}");

    // A run that fails at its birth is a row of its own.
    project.write(
        "pipelines/items.yaml",
        &whole.replace("data/items.csv", "../items.csv"),
    );
    let wrong = project.run(&["run", "items", "--sink", "csv=/proc/none/items.csv"]);
    assert_ne!(wrong.code, Some(0));
    let all = past(&project);
    assert_eq!((all.len(), &all[0]["status"]), (2, &"failed".into()));
    assert_eq!(all[0]["options"]["sinks"][0], "csv=/proc/none/items.csv");
    assert_eq!(all[0]["plan"].as_str().map(str::len), Some(16));
    assert_ne!(all[0]["plan"], all[1]["plan"]);
}

#[test]
fn a_look_back_tells_what_was_and_what_to_do() {
    let server = Server::start(|request| {
        if request.contains("/gone") {
            Reply::new(404, "nothing here")
        } else {
            paged(request, 12)
        }
    });
    let project = Project::new(&pipeline(&server, "")).knows(&server);
    let other = pipeline(&server, "").replace("/items,", "/gone,");
    project.write(
        "pipelines/gone.yaml",
        &other.replace("data/items", "data/gone"),
    );
    for name in ["items", "items", "gone"] {
        project.run(&["run", name, "-q"]);
    }
    let shown = |args: &[&str]| tamed(&project, args);
    insta::assert_snapshot!(shown(&["history"]));
    insta::assert_snapshot!(shown(&["history", "items", "--last", "1"]));
    insta::assert_snapshot!(shown(&["history", "gone"]));
    insta::assert_snapshot!(shown(&["history", "show", "last"]));
    let found = project.run(&["history", "show", "nothing-like-it"]);
    assert_eq!(found.code, Some(2), "{}", found.shown);
    let id = past(&project)[1]["run"].as_str().expect("an id").to_owned();
    let one = project.run(&["history", "show", &id, "--json"]);
    let one: Value = serde_json::from_str(&one.stdout).expect("JSON");
    assert_eq!(one["streams"][0]["records"], 12);
}

/// One word for one state, wherever people look.
fn words(project: &Project) -> Vec<String> {
    let said = project.run(&["runs", "--json"]);
    let runs: Vec<Value> = serde_json::from_str(&said.stdout).expect("JSON");
    let words = |all: &[Value]| -> Vec<String> {
        let words = all.iter().map(|run| run["status"].as_str());
        words.map(|word| word.expect("a word").to_owned()).collect()
    };
    let all = words(&past(project));
    assert_eq!(words(&runs), all, "`runs` and `history` agree");
    all
}

#[test]
fn what_ended_with_nothing_fetched_says_how_it_ended() {
    let server = Server::start(|request| {
        if request.contains("/silent") {
            loop {
                std::thread::park();
            }
        }
        Reply::new(429, "").header("retry-after", "3600")
    });
    let paused = pipeline(&server, "").replace("limits:", "retry: { max_wait: 1s }, limits:");
    let project = Project::new(&paused);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(75), "{}", said.shown);
    assert_eq!(words(&project), ["unfinished"]);
    let next = past(&project)[0]["next"].to_string();
    assert!(next.contains("`gleaner run items` begins anew"), "{next}");
    assert!(!next.contains("continues it"), "{next}");

    // Stopped while the first answer is awaited.
    let silent = paused.replace("/items", "/silent");
    project.write(
        "pipelines/silent.yaml",
        &silent.replace("data/items", "data/silent"),
    );
    let mut command = project.command(&["run", "silent"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
    until("the second run has asked", || server.heard().len() >= 2);
    ask_to_stop(&mut child, "TERM");
    assert_eq!(ends(child).0, Some(143));
    assert_eq!(words(&project), ["stopped", "unfinished"]);
    let next = past(&project)[0]["next"].to_string();
    assert_eq!(next, r#"["`gleaner run silent` begins anew"]"#);

    for look in ["runs", "history"] {
        let said = project.run(&[look, "nosuch"]);
        assert_eq!(said.code, Some(2), "{}", said.shown);
        assert!(
            said.stderr.contains("there is no pipeline `nosuch`"),
            "{}",
            said.shown
        );
        let said = project.run(&[look, "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
}

/// A night with a refusal and a limit that is small: what that came to stands in the row of the run.
#[test]
fn a_row_has_what_was_tried_again_and_what_was_waited_for() {
    let refused = std::sync::atomic::AtomicBool::new(false);
    let server = Server::start(move |request| {
        if request.contains("page=2") && !refused.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Reply::new(429, "").header("retry-after", "1");
        }
        paged(request, 5)
    });
    let text = pipeline(&server, "").replace("[600/min]", "[2/s]");
    let project = Project::new(&text);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let run = &past(&project)[0];
    assert_eq!(
        run["retries"],
        serde_json::json!({"throttle": 1}),
        "{run:#}"
    );
    // Six pages and one more: more than the limit gives at once.
    assert_eq!(run["quota"]["2/s"], 7.0, "{run:#}");
    let waited = run["waited"].as_object().expect("waits");
    let of_limit = waited["2/s"].as_f64().expect("seconds");
    assert!(of_limit > 0.0, "{run:#}");
    let id = run["run"].as_str().expect("an id");
    let shown = project.run(&["history", "show", id]).stdout;
    assert!(shown.contains("retries    1 throttle\n"), "{shown}");
    assert!(shown.contains(" for 2/s"), "{shown}");
}

/// What an operator does after a night that failed: is told, looks, reads what is wrong and what to do, mends
/// the file, and lets the run go on. Nothing is asked again, and the next night says that all is well.
#[test]
fn an_operator_walks_through_a_failed_night() {
    let server = Server::start(|request| {
        if request.contains("page=3") {
            Reply::json(r#"{"data":[{"id":5,"amount":"unknown"}]}"#)
        } else if request.contains("page=4") {
            Reply::json(r#"{"data":[]}"#)
        } else {
            let page = if request.contains("page=2") { 2 } else { 1 };
            let row = |id: usize| format!(r#"{{"id":{id},"amount":{id}0}}"#);
            Reply::json(format!(
                r#"{{"data":[{},{}]}}"#,
                row(page * 2 - 1),
                row(page * 2)
            ))
        }
    });
    let hook = Server::says(Reply::new(200, "ok"));
    let columns = ", key: id, columns: { id: { type: integer }, amount: { type: number } }";
    let yaml = pipeline(&server, columns)
        + &format!(
            "schedule: {{ cron: \"0 0 1 1 *\", on_failure: {{ webhook: \"{}/team\" }} }}\n",
            hook.url()
        );
    let project = Project::new(&yaml).knows(&server);
    // The latest message, as it came.
    let message = |walk: &mut String| {
        let heard = hook.heard();
        let heard = heard.last().expect("a message");
        let (asked, body) = heard.split_once("\r\n\r\n").expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        let line = asked.lines().next().unwrap_or_default();
        walk.push_str(&hidden(&format!("{line}\n{body:#}\n")));
    };
    let night = |walk: &mut String| {
        super::schedule_real::passed(&project, &["items"]);
        walk.push_str(&tamed(&project, &["schedule", "--once", "--log", "human"]));
    };
    let mut walk = String::from("# the night\n");
    night(&mut walk);
    walk.push_str("\n# what the team is told\n");
    message(&mut walk);
    walk.push_str("\n# in the morning\n");
    walk.push_str(&tamed(&project, &["history"]));
    walk.push('\n');
    walk.push_str(&tamed(&project, &["history", "show", "last"]));
    let asked = server.heard().len();
    project.write(
        "pipelines/items.yaml",
        &yaml.replace("type: number", "type: number, on_bad_value: \"null\""),
    );
    walk.push_str("\n# the column takes what is no number as nothing: on_bad_value: null\n");
    walk.push_str(&tamed(&project, &["run", "items"]));
    assert_eq!(
        server.heard().len(),
        asked,
        "pages that are here are not asked for again"
    );
    walk.push('\n');
    walk.push_str(&tamed(&project, &["history", "items"]));
    let rows = std::fs::read_to_string(project.path().join("data/items.csv")).expect("an output");
    assert_eq!(rows.lines().count(), 6, "{rows}");
    assert_eq!(hook.heard().len(), 1, "a run by hand tells nobody");
    walk.push_str("\n# the next night\n");
    night(&mut walk);
    walk.push('\n');
    message(&mut walk);
    assert_eq!(hook.heard().len(), 2);
    insta::assert_snapshot!(walk);
}
