//! A run that was cut off goes on where it ended: what is refused, what is said, what is asked
//! again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gleaner::sim::{Route, Rules, SimReply, SimRequest};

use super::fixture::Scene;
use super::gate::{Gate, ask_to_stop, ends};
use super::scene::{Project, Reply, Server};

/// A page of two records, `page` of `of`.
fn page(page: usize, of: usize) -> Reply {
    let next = if page < of {
        page.to_string()
    } else {
        "null".to_owned()
    };
    let first = page * 10;
    Reply::json(format!(
        r#"{{"data":[{{"id":{first}}},{{"id":{}}}],"next":{next}}}"#,
        first + 1
    ))
}

/// The number behind `name=` in a request's target; 0 where there is none.
fn number(request: &str, name: &str) -> usize {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let value = target
        .split(['?', '&'])
        .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn pipeline(server: &Server, more: &str) -> String {
    format!(
        "source: {{ url: \"{}\", limits: none{more} }}
streams:
  items:
    get: /items
    records: data
    pages: {{ token: {{ from: next, to: after }} }}
sink: {{ csv: data/items.csv }}
",
        server.url()
    )
}

/// Four pages; the third is refused while `broken`.
fn breaking() -> (Server, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let server = Server::start(move |request| match number(request, "after") + 1 {
        3 if is_broken.load(Ordering::SeqCst) => Reply::new(403, "not now"),
        n => page(n, 4),
    });
    (server, broken)
}

const WHOLE: &str = "id\r\n10\r\n11\r\n20\r\n21\r\n30\r\n31\r\n40\r\n41\r\n";

fn items(project: &Project) -> String {
    std::fs::read_to_string(project.path().join("data/items.csv")).expect("the output")
}

fn runs(project: &Project) -> Vec<String> {
    let Ok(runs) = std::fs::read_dir(project.path().join(".gleaner/runs")) else {
        return Vec::new();
    };
    let names = runs.map(|run| run.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_failed_run_is_continued_and_asks_only_for_what_is_missing() {
    let (server, broken) = breaking();
    let project = Project::new(&pipeline(&server, ""));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("2 pages; run again to continue"),
        "{}",
        said.stderr
    );
    project.is_untouched();
    let id = runs(&project).pop().expect("a run that can go on");
    let listed = project.run(&["runs"]);
    assert!(
        listed.stdout.contains(&id) && listed.stdout.contains("resumable"),
        "{}",
        listed.stdout
    );

    // It is not the token that is refused: that is no reason to ask for all of it again.
    let before = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("2 pages; run again to continue"),
        "{}",
        said.stderr
    );
    assert_eq!(server.heard().len() - before, 1, "the third page");

    broken.store(false, Ordering::SeqCst);
    let before = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(
        said.stderr.contains(&format!("continuing run {id} of ")),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("2 pages are here"), "{}", said.stderr);
    assert_eq!(items(&project), WHOLE);
    assert_eq!(
        server.heard().len() - before,
        2,
        "the third page and the fourth"
    );
    assert!(
        runs(&project).is_empty(),
        "what is published is not kept twice"
    );
    let shown = project.run(&["runs", "show", &id, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(
        (&shown["status"], &shown["pages"]),
        (&"complete".into(), &4.into())
    );
    assert_eq!(shown["requests"], 6);

    let said = project.run(&["run", "items"]);
    assert!(!said.stderr.contains("continuing"), "{}", said.stderr);
    assert_eq!(
        server.heard().len() - before,
        6,
        "a new run asks for everything"
    );
}

#[test]
fn a_changed_plan_is_refused_by_name_and_limits_may_change() {
    let (server, broken) = breaking();
    let project = Project::new(&pipeline(&server, ""));
    project.run(&["run", "items", "-q"]);
    broken.store(false, Ordering::SeqCst);
    let before = server.heard().len();
    for (from, to, field) in [
        ("get: /items", "get: /other", "`streams.items.get`"),
        ("records: data", "records: rows", "`streams.items.records`"),
        ("to: after", "to: since", "`streams.items.pages`"),
        (
            "get: /items",
            "get: /items\n    query: { a: 1 }",
            "`streams.items.query.a`",
        ),
        (
            "sink:",
            "  more: { get: /more, sink: { csv: more.csv } }\nsink:",
            "`streams.more.get`",
        ),
    ] {
        project.write(
            "pipelines/items.yaml",
            &pipeline(&server, "").replace(from, to),
        );
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(2), "{}", said.shown);
        assert!(said.stderr.contains(field), "{}", said.stderr);
        assert!(said.stderr.contains("--fresh"), "{}", said.stderr);
    }
    assert_eq!(server.heard().len(), before, "and nothing was asked");
    project.is_untouched();
    let free = pipeline(&server, ", concurrency: 2, retry: { attempts: 3 }")
        .replace("limits: none", "limits: [1000/s]")
        .replace(
            "sink:",
            "defaults: { responses: [{ if: status == 404, then: skip }] }\nsink:",
        );
    project.write("pipelines/items.yaml", &free);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(server.heard().len() - before, 2);
    assert_eq!(items(&project), WHOLE);
}

#[test]
fn fresh_discards_and_so_does_discard() {
    let (server, broken) = breaking();
    let project = Project::new(&pipeline(&server, ""));
    project.run(&["run", "items", "-q"]);
    let id = runs(&project).pop().expect("a run that can go on");
    let said = project.run(&["runs", "discard", &id]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(runs(&project).is_empty());
    project.run(&["run", "items", "-q"]);
    assert_ne!(runs(&project).pop().expect("another run"), id);
    broken.store(false, Ordering::SeqCst);
    let before = server.heard().len();
    let said = project.run(&["run", "items", "--fresh"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(server.heard().len() - before, 4);
    assert!(runs(&project).is_empty());
    let listed = project.run(&["runs", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let statuses: Vec<_> = listed
        .as_array()
        .expect("runs")
        .iter()
        .map(|r| &r["status"])
        .collect();
    assert_eq!(statuses, ["complete", "discarded", "discarded"]);
}

#[test]
fn a_sample_leaves_no_run_behind() {
    let (server, _) = breaking();
    let project = Project::new(&pipeline(&server, ""));
    let said = project.run(&["run", "items", "--limit-records", "3"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(runs(&project).is_empty());
    assert!(project.run(&["runs"]).stderr.contains("no run yet"));
}

#[test]
fn a_publish_that_failed_is_done_again_without_a_request() {
    let server = Server::start(|request| page(number(request, "after") + 1, 3));
    let project = Project::new(
        &pipeline(&server, "").replace("csv: data/items.csv", "csv: new/deep/items.csv"),
    );
    // The folder is there when the run opens, and is none when it publishes.
    let folder = project.path().join("new/deep");
    let gone = folder.clone();
    let wrecked = Server::start({
        let asked = AtomicUsize::new(0);
        move |request| {
            if asked.fetch_add(1, Ordering::SeqCst) == 2 {
                std::fs::remove_dir_all(&gone).expect("removed");
                std::fs::write(&gone, "a file").expect("written");
            }
            page(number(request, "after") + 1, 3)
        }
    });
    drop(server);
    project.write(
        "pipelines/items.yaml",
        &pipeline(&wrecked, "").replace("csv: data/items.csv", "csv: new/deep/items.csv"),
    );
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(73), "{}", said.shown);
    assert!(
        said.stderr.contains("3 pages; run again to continue"),
        "{}",
        said.stderr
    );
    std::fs::remove_file(&folder).expect("removed");
    let before = wrecked.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(wrecked.heard().len(), before, "nothing was asked");
    let rows = std::fs::read_to_string(folder.join("items.csv")).expect("the output");
    assert_eq!(rows, "id\r\n10\r\n11\r\n20\r\n21\r\n30\r\n31\r\n");
}

#[test]
fn a_stream_that_was_published_is_not_fetched_again() {
    let (server, broken) = breaking();
    let both = pipeline(&server, "").replace(
        "sink:",
        "  other: { get: /other, records: data, pages: none }\nsink:",
    );
    let project = Project::new(&both.replace("data/items.csv", "\"data/{{ stream }}.csv\""));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(project.path().join("data/other.csv").exists());
    broken.store(false, Ordering::SeqCst);
    let before = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let asked = server.heard().split_off(before);
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|request| request.starts_with("GET /items"))
    );
    assert_eq!(items(&project), WHOLE);
}

/// What an earlier attempt was given leads nowhere any more: the partition is fetched anew, once.
#[test]
fn tokens_that_expired_start_their_partition_again() {
    let night = Arc::new(AtomicUsize::new(1));
    let which = Arc::clone(&night);
    let server = Server::start(move |request| {
        let after = number(request, "after");
        match (which.load(Ordering::SeqCst), after) {
            (1, 0) => page(1, 4),
            (1, 1) => page(2, 4),
            (1, 2) => page(3, 4),
            (1, _) | (2, 102) => Reply::new(403, "not now"),
            // Tokens are other numbers now.
            (_, 0) => page(1, 4).with_next(101),
            (_, 101) => page(2, 4).with_next(102),
            (_, 102) => page(3, 4).with_next(103),
            (_, 103) => page(4, 4),
            _ => Reply::new(410, "the token is gone"),
        }
    });
    let project = Project::new(&pipeline(&server, ""));
    assert_eq!(project.run(&["run", "items", "-q"]).code, Some(1));
    night.store(2, Ordering::SeqCst);
    let before = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    // What is void is not counted with what came in its place.
    for wanted in ["fetched from the start", "2 pages; run again to continue"] {
        assert!(said.stderr.contains(wanted), "{}", said.stderr);
    }
    assert_eq!(
        server.heard().len() - before,
        4,
        "the old token, and three pages"
    );
    night.store(3, Ordering::SeqCst);
    let before = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(said.stderr.contains("2 pages are here"), "{}", said.stderr);
    assert_eq!(
        server.heard().len() - before,
        2,
        "the third page and the fourth"
    );
    assert_eq!(items(&project), WHOLE);
}

/// A process that is killed cannot say how far it came: what it has committed does.
#[test]
fn what_a_killed_run_keeps_is_counted() {
    let gate = gate();
    let project = Project::new(&pipeline(&gate.server, ""));
    let mut child = gate.start(&project);
    let kept = || {
        let listed = project.run(&["runs", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
        listed[0].clone()
    };
    // The first page may be in a group that is not on the disk yet.
    let mut at_work = kept();
    while at_work["pages"] != 1 {
        at_work = kept();
    }
    assert_eq!(at_work["status"], "running");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let killed = kept();
    for (name, value) in [("pages", 1), ("records", 2)] {
        assert_eq!(killed[name], value, "{killed}");
    }
    assert_eq!(killed["status"], "interrupted");
    let id = killed["run"].as_str().expect("an id");
    let said = project.run(&["runs", "show", id]);
    assert!(said.stdout.contains("1 page, 2 records"), "{}", said.stdout);
    let row = project.run(&["runs"]).stdout;
    let row = row.lines().last().expect("a row").trim_end().to_owned();
    let cells: Vec<&str> = row.split_whitespace().rev().take(2).collect();
    assert_eq!(cells, ["2", "1"], "{row}");
    gate.let_go();
}

fn gate() -> Gate {
    Gate::new(|request| page(number(request, "after") + 1, 4))
}

#[test]
fn a_second_process_is_turned_away_at_once_without_a_request() {
    let gate = gate();
    let project = Project::new(&pipeline(&gate.server, ""));
    let first = gate.start(&project);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(77), "{}", said.shown);
    let holder = format!("locked by PID {}", first.id());
    assert!(said.stderr.contains(&holder), "{}", said.stderr);
    assert_eq!(gate.server.heard().len(), 2, "nothing was asked");
    let listed = project.run(&["runs"]);
    assert!(listed.stdout.contains("running"), "{}", listed.stdout);
    // Another pipeline that writes the same file.
    project.write("pipelines/twin.yaml", &pipeline(&gate.server, ""));
    let said = project.run(&["run", "twin"]);
    assert_eq!(said.code, Some(77), "{}", said.shown);
    assert!(
        said.stderr.contains("data/items.csv is locked by PID"),
        "{}",
        said.stderr
    );
    assert_eq!(gate.server.heard().len(), 2, "nothing was asked");
    gate.let_go();
    let (code, told) = ends(first);
    assert_eq!(code, Some(0), "{told}");
}

#[cfg(unix)]
#[test]
fn answers_in_flight_are_kept_when_a_run_is_stopped() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let gate = gate();
        let project = Project::new(&pipeline(&gate.server, ""));
        let mut child = gate.start(&project);
        ask_to_stop(&mut child, signal);
        gate.let_go();
        let (ended, told) = ends(child);
        assert_eq!(ended, Some(code), "{signal}: {told}");
        assert!(
            told.contains("2 pages; run again to continue"),
            "{signal}: {told}"
        );
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert_eq!(gate.server.heard().len(), 4, "{signal}: each page once");
        assert_eq!(items(&project), WHOLE);
    }
}

/// What a run keeps is the user's alone, and no credential is in it.
#[cfg(unix)]
#[test]
fn what_is_kept_is_private_and_holds_no_secret() {
    use std::os::unix::fs::PermissionsExt;

    let server = Server::start(|request| match number(request, "after") {
        0 => Reply::json(
            r#"{"data":[{"id":1}],"next":"/items?after=1&key=s3cr3t-value"}"#.to_owned(),
        ),
        _ => Reply::new(403, "not now"),
    });
    let yaml = pipeline(&server, ", auth: { query: { key: \"{{ secret.KEY }}\" } }")
        .replace("{ token: { from: next, to: after } }", "{ next: next }");
    let project = Project::new(&yaml);
    let said = project.run_with(&["run", "items"], &[("KEY", "s3cr3t-value")]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert_eq!(runs(&project).len(), 1);
    for file in project.files() {
        if !file.starts_with(project.path().join(".gleaner")) {
            continue;
        }
        let bytes = std::fs::read(&file).expect("readable");
        assert!(
            !bytes.windows(12).any(|w| w == b"s3cr3t-value"),
            "{}",
            file.display()
        );
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode(&file) & 0o777, 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().expect("a folder")) & 0o777, 0o700);
    }
    let before = server.heard().len();
    project.run_with(&["run", "items"], &[("KEY", "s3cr3t-value")]);
    let asked = server.heard().split_off(before);
    assert!(asked[0].contains("after=1"), "the page was kept: {asked:?}");
}

/// A list that `for` reads and that changed meanwhile: pages are told by what was asked, not by
/// their number alone.
#[test]
fn a_page_that_would_be_asked_for_otherwise_now_is_asked_for_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let server = Server::start(move |request| {
        if request.starts_with("GET /of/c") && is_broken.load(Ordering::SeqCst) {
            return Reply::new(403, "not now");
        }
        let name = request.split(['/', ' ']).nth(3).unwrap_or_default();
        Reply::json(format!(r#"{{"data":[{{"of":"{name}"}}]}}"#))
    });
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 1 }}
streams:
  items:
    for: {{ group: [one], name: {{ file: \"lists/{{{{ group }}}}.csv\", column: name }} }}
    get: \"/of/{{{{ name }}}}\"
    records: data
    pages: none
    columns: {{ of: of }}
sink: {{ csv: data/items.csv }}
",
        server.url()
    ));
    project.write("lists/one.csv", "name\na\nb\nc\n");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    broken.store(false, Ordering::SeqCst);
    project.write("lists/one.csv", "name\na\nx\nc\n");
    let before = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let asked = server.heard().split_off(before);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(items(&project), "of\r\na\r\nx\r\nc\r\n");
}

/// The output of a published stream may be the part by another name: whoever wants it elsewhere gets it anew,
/// and what stands at the first place is nobody's to cut.
#[test]
fn a_published_stream_that_is_wanted_elsewhere_is_fetched_anew() {
    let (server, broken) = breaking();
    let both = pipeline(&server, "").replace(
        "sink: { csv: data/items.csv }",
        "  other: { get: /other, records: data, pages: none }\nsink: { ndjson: \"data/{{ stream }}.ndjson\" }",
    );
    let project = Project::new(&both);
    assert_eq!(project.run(&["run", "items", "-q"]).code, Some(1));
    let first = project.path().join("data/other.ndjson");
    let mut changed = std::fs::read_to_string(&first).expect("published");
    changed.push_str("{\"mine\":true}\n");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&first)
        .expect("there");
    std::io::Write::write_all(&mut file, b"{\"mine\":true}\n").expect("written");
    broken.store(false, Ordering::SeqCst);
    let said = project.run(&["run", "items", "--sink", "ndjson=new/{{ stream }}.ndjson"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let now = std::fs::read_to_string(&first).expect("still there");
    assert_eq!(now, changed);
    let there = std::fs::read_to_string(project.path().join("new/other.ndjson"));
    assert_eq!(there.expect("published"), "{\"id\":10}\n{\"id\":11}\n");
}

/// What a run asked for that found one that had begun `hours` earlier and come two pages far.
fn asked_after(hours: i64, key: &str) -> usize {
    let yaml = format!(
        "
source: {{ url: https://api.test, limits: none, retry: {{ attempts: 1 }} }}
{key}
streams:
  a:
    get: /a
    records: data
    pages: {{ page: {{ to: page }} }}
sink: {{ ndjson: out/a.ndjson }}
"
    );
    let rules = |breaks: bool| Rules {
        routes: vec![Route::custom(
            "/a",
            Arc::new(
                move |request: &SimRequest| match request.param("page").as_deref() {
                    Some("3") if breaks => SimReply::error(403, "not now"),
                    Some(page @ ("1" | "2" | "3")) => {
                        SimReply::json(200, format!(r#"{{"data":[{{"id":{page}}}]}}"#))
                    }
                    _ => SimReply::json(200, r#"{"data":[]}"#),
                },
            ),
        )],
        ..Rules::default()
    };
    let cut = Scene::new(&yaml, rules(true)).run();
    assert_eq!(cut.requests(), 3);
    let later: jiff::Timestamp = "2026-11-22T02:30:00Z".parse().expect("an instant");
    let later = (later + jiff::SignedDuration::from_hours(hours)).to_string();
    let scene = Scene::new(&yaml, rules(false)).within(cut.root);
    let ran = scene.at(&later).run().complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 3);
    ran.requests()
}

#[test]
fn a_run_that_is_too_old_is_not_gone_on_with() {
    for (key, hours, asked) in [
        ("", 19, 2),
        ("", 21, 4),
        ("resume_within: 7d", 21, 2),
        ("resume_within: 7d", 169, 4),
        ("resume_within: 2h", 1, 2),
        ("resume_within: 2h", 3, 4),
    ] {
        assert_eq!(asked_after(hours, key), asked, "`{key}` after {hours} h");
    }
}
