//! `gleaner reextract`: what a run kept is published again under other columns and sinks, without a
//! request, and as safely as the first time (Into the notebook).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::scene::{Project, Reply, Server, but_the_run};

/// Three items, a note of each, and one answer that was paid for; `bad` is answered as the test says.
fn server() -> Server {
    Server::start(|request| {
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        Reply::json(match path.split('?').next().unwrap_or_default() {
            "/items" => {
                r#"[{"id":1,"at":"2024-05-01T00:00:00Z","user":{"name":"a"},"n":1},{"id":2,"at":"2024-05-02T00:00:00Z","user":{"name":"b"},"n":2.5},{"id":3,"at":"2024-05-03T00:00:00Z","user":null,"n":3}]"#.to_owned()
            }
            "/paid" => r#"[{"id":7,"x":1,"y":2}]"#.to_owned(),
            "/other" => r#"[{"id":9}]"#.to_owned(),
            path if path.starts_with("/notes/") => {
                format!(r#"[{{"note":"of {}"}}]"#, &path[7..])
            }
            _ => return Reply::new(404, "{}"),
        })
    })
}

fn pipeline(server: &Server, streams: &str, sink: &str) -> String {
    format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n{streams}sink: {sink}\n",
        server.url()
    )
}

fn kept_run(project: &Project) -> String {
    let said = project.run(&["run", "items", "--keep-parts"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    latest(project)
}

/// The id of the latest run, which must be complete.
fn latest(project: &Project) -> String {
    let said = project.run(&["runs", "--json"]);
    let runs: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(runs[0]["status"], "complete", "{}", said.stdout);
    runs[0]["run"].as_str().expect("an id").to_owned()
}

fn outputs(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(project.path().join("out")).expect("a folder");
    let files = files.map(|file| file.expect("an entry").path());
    let files = files.filter(|path| !path.ends_with("datapackage.json") && path.is_file());
    files
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            let bytes = fs::read(&path).expect("readable");
            (name.into_owned(), but_the_run(bytes))
        })
        .collect()
}

const STREAMS: &str = "  items: { get: /items, query: { since: \"{{ cursor.from }}\" }, key: id, cursor: { field: at, start: 2024-01-01 }, sink: { csv: out/items.csv, mode: merge } }\n  \
    notes: { for: { item: { stream: items } }, get: \"/notes/{{ item.id }}\" }\n";

#[test]
fn kept_parts_are_published_under_other_columns_and_sinks_without_a_request() {
    let server = server();
    let sink = "[ { ndjson: \"out/{{ stream }}.ndjson\" } ]";
    let project = Project::new(&pipeline(&server, STREAMS, sink)).knows(&server);
    let id = kept_run(&project);
    let asked = server.heard().len();
    let state = project.run(&["state", "show", "items"]).stdout;
    let changed = "  items: { get: /items, query: { since: \"{{ cursor.from }}\" }, key: nr, columns: { nr: id, who: user.name, n: }, cursor: { field: at, start: 2024-01-01 }, sink: [ { csv: out/items.csv, mode: merge }, { parquet: out/items.parquet, mode: merge } ] }\n  \
        notes: { for: { item: { stream: items } }, get: \"/notes/{{ item.id }}\", columns: { item: \"{{ item.id }}\", note: } }\n";
    let sink = "[ { csv: \"out/{{ stream }}.csv\" }, { ndjson: \"out/{{ stream }}.ndjson\" } ]";
    let text = pipeline(&server, changed, sink);
    project.write("pipelines/items.yaml", &text);
    for _ in 0..2 {
        let said = project.run(&["reextract", &id]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert_eq!(server.heard().len(), asked, "something was asked");
        assert_eq!(latest(&project), id, "it is the same run");
        assert_eq!(project.run(&["state", "show", "items"]).stdout, state);
    }
    // Just what a run under that file would have written.
    let fresh = Project::new(&text).knows(&server);
    let said = fresh.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(outputs(&project), outputs(&fresh));
    let csv = fs::read_to_string(project.path().join("out/notes.csv")).expect("a file");
    assert_eq!(csv, "item,note\r\n1,of 1\r\n2,of 2\r\n3,of 3\r\n");
    // The history knows the files that are there now.
    let shown = project.run(&["runs", "show", &id]).stdout;
    assert!(shown.contains("out/items.parquet"), "{shown}");
    assert!(shown.contains("complete"), "{shown}");
}

#[test]
fn a_cursor_that_a_person_has_set_since_stays() {
    let server = server();
    let project = Project::new(&pipeline(
        &server,
        STREAMS,
        "{ csv: \"out/{{ stream }}.csv\" }",
    ));
    let project = project.knows(&server);
    let id = kept_run(&project);
    let said = project.run(&["state", "set", "items", "items", "2024-04-01"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let state = project.run(&["state", "show", "items"]).stdout;
    assert!(state.contains("2024-04-01"), "{state}");
    let said = project.run(&["reextract", &id]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(project.run(&["state", "show", "items"]).stdout, state);
}

#[test]
fn what_cannot_be_published_again_is_refused_and_changes_nothing() {
    let server = server();
    let two = "  items: { get: /items }\n  other: { get: /other }\n";
    let sink = "{ csv: \"out/{{ stream }}.csv\" }";
    let project = Project::new(&pipeline(&server, two, sink)).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let refused = |id: &str, why: &str| {
        let before = outputs(&project);
        let said = project.run(&["reextract", id]);
        assert_eq!(said.code, Some(2), "{}", said.shown);
        assert!(said.shown.contains(why), "{}", said.shown);
        assert_eq!(outputs(&project), before);
    };
    refused(&latest(&project), "keeps nothing");
    let id = kept_run(&project);
    // Another request.
    let other = two.replace("/other", "/another");
    project.write("pipelines/items.yaml", &pipeline(&server, &other, sink));
    refused(&id, "`streams.other.get` changed since");
    assert_eq!(latest(&project), id);
    // Steps of `transform`: the records are not here as they came.
    let other = two.replace("/other }", "/other, transform: [ { drop: [id] } ] }");
    project.write("pipelines/items.yaml", &pipeline(&server, &other, sink));
    refused(&id, "`streams.other.transform` changed since");
    // A later run that published a part of what it wanted.
    let other = two.replace("/other", "/gone");
    project.write("pipelines/items.yaml", &pipeline(&server, &other, sink));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    project.write("pipelines/items.yaml", &pipeline(&server, two, sink));
    refused(&id, "has published since");
}

#[test]
fn what_was_paid_for_is_taken_through_other_steps() {
    let server = server();
    let paid = |steps: &str| {
        let stream = format!("  paid: {{ post: /paid, once: true, transform: {steps} }}\n");
        pipeline(&server, &stream, "{ csv: out/paid.csv }")
    };
    let project = Project::new(&paid("[ { drop: [x] } ]")).knows(&server);
    let id = kept_run(&project);
    let asked = server.heard().len();
    let text = |project: &Project| fs::read_to_string(project.path().join("out/paid.csv")).unwrap();
    assert_eq!(text(&project), "id,y\r\n7,2\r\n");
    project.write("pipelines/items.yaml", &paid("[ { drop: [y] } ]"));
    let said = project.run(&["reextract", &id]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(text(&project), "id,x\r\n7,1\r\n");
    assert_eq!(server.heard().len(), asked, "something was asked");
}

#[test]
fn a_check_that_does_not_hold_leaves_what_was_published() {
    let server = server();
    let stream = |more: &str| format!("  items: {{ get: /items{more} }}\n");
    let sink = "{ csv: out/items.csv }";
    let project = Project::new(&pipeline(&server, &stream(""), sink)).knows(&server);
    let id = kept_run(&project);
    let before = outputs(&project);
    let text = pipeline(
        &server,
        &stream(", columns: { id: }, expect: { min_records: 5 }"),
        sink,
    );
    project.write("pipelines/items.yaml", &text);
    let said = project.run(&["reextract", &id]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    assert!(
        said.shown.contains("`expect.min_records` wants 5"),
        "{}",
        said.shown
    );
    assert_eq!(outputs(&project), before);
    assert_eq!(latest(&project), id);
}

/// Two streams with these columns more, the second of which wants so many records.
fn two_streams(server: &Server, columns: &str, least: u8) -> String {
    let streams = format!(
        "  items: {{ get: /items, columns: {{ id: {columns} }}, sink: {{ csv: out/items/, mode: append }} }}\n  \
         other: {{ get: /other, columns: {{ id: {columns} }}, expect: {{ min_records: {least} }}, sink: {{ csv: out/other/, mode: append }} }}\n"
    );
    pipeline(server, &streams, "{ ndjson: out/none.ndjson }")
}

/// One stream is published again and another is held: whoever looks at the outputs hears of it, and the next
/// run ends it before it does anything new.
#[test]
fn what_was_not_published_again_to_its_end_is_told_and_ended_by_the_next_run() {
    let server = server();
    let text = |columns: &str, least: u8| two_streams(&server, columns, least);
    let project = Project::new(&text("", 1)).knows(&server);
    let id = kept_run(&project);
    let written = |stream: &str| {
        let file = project.path().join(format!("out/{stream}/{id}.csv"));
        fs::read_to_string(file).expect("a file")
    };
    let told = format!("run {id} was not published again to its end");
    for args in [
        vec!["runs"],
        vec!["describe", "items"],
        vec!["notebook", "items", "--out", "-"],
    ] {
        let said = project.run(&args);
        assert!(!said.stderr.contains(&told), "{}", said.shown);
    }
    project.write("pipelines/items.yaml", &text(", n: ", 9));
    let said = project.run(&["reextract", &id]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    assert!(written("items").starts_with("id,n\r\n"), "the one is new");
    assert_eq!(written("other"), "id\r\n9\r\n", "the other is old");
    let looks: [&[&str]; 4] = [
        &["runs"],
        &["describe", "items"],
        &["notebook", "items", "--out", "-"],
        &[
            "convert", "items", "--to", "ndjson", "--stream", "items", "--out", "c.ndjson",
        ],
    ];
    for args in looks {
        let said = project.run(args);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert!(said.stderr.contains(&told), "{}", said.shown);
    }
    let shown = project.run(&["runs", "show", &id]).stdout;
    assert!(
        shown.contains(&format!("gleaner reextract {id}")),
        "{shown}"
    );
    // A run that cannot end it says so, and goes its way.
    let said = project.run(&["run", "items", "--stream", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(said.stderr.contains(&told), "{}", said.shown);

    let project = Project::new(&text("", 1)).knows(&server);
    let id = kept_run(&project);
    let written = |stream: &str, id: &str| {
        let file = project.path().join(format!("out/{stream}/{id}.csv"));
        fs::read_to_string(file).expect("a file")
    };
    project.write("pipelines/items.yaml", &text(", n: ", 9));
    assert_eq!(project.run(&["reextract", &id]).code, Some(3));
    project.write("pipelines/items.yaml", &text(", n: ", 1));
    let asked = server.heard().len();
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(said.stderr.contains("now it is"), "{}", said.shown);
    assert!(
        !said.stderr.contains("some of its outputs"),
        "{}",
        said.shown
    );
    assert_eq!(
        server.heard().len(),
        asked + 2,
        "and the run has asked anew"
    );
    assert_eq!(written("other", &id), "id,n\r\n9,\r\n");
    assert_eq!(written("other", &latest(&project)), "id,n\r\n9,\r\n");
    let said = project.run(&["describe", "items"]);
    assert!(
        !said.stderr.contains("not published again"),
        "{}",
        said.shown
    );
}

/// The scheduler ends it too, before its own run.
#[test]
fn what_was_not_published_again_to_its_end_is_ended_by_the_schedule() {
    let server = server();
    let text = |columns: &str, least: u8| {
        two_streams(&server, columns, least) + "schedule: { cron: \"0 0 1 1 *\" }\n"
    };
    let project = Project::new(&text("", 1)).knows(&server);
    let id = kept_run(&project);
    let written = |id: &str| {
        let file = project.path().join(format!("out/other/{id}.csv"));
        fs::read_to_string(file).expect("a file")
    };
    project.write("pipelines/items.yaml", &text(", n: ", 9));
    assert_eq!(project.run(&["reextract", &id]).code, Some(3));
    assert_eq!(written(&id), "id\r\n9\r\n", "it is old");
    project.write("pipelines/items.yaml", &text(", n: ", 1));
    super::schedule_real::passed(&project, &["items"]);
    let asked = server.heard().len();
    let said = project.run(&["schedule", "--once", "--log", "human"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(said.stderr.contains("now it is"), "{}", said.shown);
    assert_eq!(
        server.heard().len(),
        asked + 2,
        "the run asked, and nobody else"
    );
    assert_eq!(written(&id), "id,n\r\n9,\r\n");
    assert_eq!(written(&latest(&project)), "id,n\r\n9,\r\n");
}

/// Values of `--var` are not kept, so nobody but who gives them again can end it.
#[test]
fn what_had_variables_is_told_and_not_ended_with_other_ones() {
    let server = server();
    let text = |more: &str, least: u8| {
        let columns = format!("{{ id: , who: \"{{{{ vars.who }}}}\"{more} }}");
        let streams = format!(
            "  items: {{ get: /items, columns: {columns}, sink: {{ csv: out/items/, mode: append }} }}\n  \
             other: {{ get: /other, columns: {columns}, expect: {{ min_records: {least} }}, sink: {{ csv: out/other/, mode: append }} }}\n"
        );
        format!(
            "vars: {{ who: nobody }}\n{}",
            pipeline(&server, &streams, "{ ndjson: out/none.ndjson }")
        )
    };
    let project = Project::new(&text("", 1)).knows(&server);
    let said = project.run(&["run", "items", "--keep-parts", "--var", "who=me"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let id = latest(&project);
    project.write("pipelines/items.yaml", &text(", n: ", 9));
    let said = project.run(&["reextract", &id, "--var", "who=me"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    project.write("pipelines/items.yaml", &text(", n: ", 1));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(
        said.stderr.contains(&format!(
            "`gleaner reextract {id}` goes on with that, with its `--var`"
        )),
        "{}",
        said.shown
    );
    let old =
        fs::read_to_string(project.path().join(format!("out/other/{id}.csv"))).expect("a file");
    assert_eq!(old, "id,who\r\n9,me\r\n");
}

/// Killed at any moment each file is the old one or the new one, and doing it again ends it.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a kill comes in real time: this waits for nothing"
)]
fn a_kill_leaves_old_or_new_files_and_the_run_as_it_was() {
    let mut body = String::from("[");
    for id in 0..20_000 {
        let comma = if id == 0 { "" } else { "," };
        let _ = write!(
            body,
            r#"{comma}{{"id":{id},"text":"number {id}","n":{id}.5}}"#
        );
    }
    body.push(']');
    let server = Server::says(Reply::json(body));
    let sink =
        "[ { csv: out/items.csv }, { parquet: out/items.parquet }, { ndjson: out/items.ndjson } ]";
    let stream = |more: &str| {
        pipeline(
            &server,
            &format!("  items: {{ get: /items{more} }}\n"),
            sink,
        )
    };
    let project = Project::new(&stream("")).knows(&server);
    let id = kept_run(&project);
    let old = outputs(&project);
    let text = stream(", columns: { nr: id, text: }");
    let fresh = Project::new(&text).knows(&server);
    let said = fresh.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let new = outputs(&fresh);
    project.write("pipelines/items.yaml", &text);
    let mut dice = fastrand::Rng::with_seed(7);
    let (mut kills, mut life) = (0, 20);
    for _ in 0..40 {
        let mut child = project
            .command(&["reextract", &id])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(Duration::from_millis(dice.u64(1..=life)));
        child.kill().expect("a kill");
        let status = child.wait().expect("an end");
        kills += u32::from(status.code().is_none());
        // A machine that is busy needs longer: all of it is to be cut off somewhere.
        life += 20;
        for (name, bytes) in outputs(&project) {
            if !name.starts_with('.') {
                let whole = old.get(&name) == Some(&bytes) || new.get(&name) == Some(&bytes);
                assert!(whole, "{name} is neither the old one nor the new one");
            }
        }
        assert_eq!(latest(&project), id);
        if status.success() {
            break;
        }
    }
    assert!(kills > 3, "{kills} kills");
    let said = project.run(&["reextract", &id]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(outputs(&project), new);
}

/// Nothing is sent, so no secret is needed; and one that was changed since, in the middle of a URL, leaves the pages
/// what they are.
#[test]
fn no_secret_is_needed_and_a_changed_one_changes_nothing() {
    let server = server();
    let streams = "  items: { get: /items, query: { key: \"{{ secret.KEY }}\" } }\n  \
        notes: { for: { item: { stream: items } }, get: \"/notes/{{ item.id }}\", query: { key: \"{{ secret.KEY }}\" } }\n";
    let of_sink = |sink: &str| {
        let text = pipeline(&server, streams, sink);
        text.replace(
            "limits: none",
            "limits: none, auth: { bearer: \"{{ secret.TOKEN }}\" }",
        )
    };
    let before = of_sink("{ ndjson: \"out/{{ stream }}.ndjson\" }");
    let project = Project::new(&before).knows(&server);
    // Not a word of it survives its way into a URL.
    let env = [("KEY", "a b/ü&[x]"), ("TOKEN", "token-one")];
    let said = project.run_with(&["run", "items", "--keep-parts"], &env);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let id = latest(&project);
    let asked = server.heard().len();
    let others = [("KEY", "another"), ("TOKEN", "token-two")];
    for (format, env) in [("csv", &[][..]), ("parquet", &others)] {
        let sink = format!("{{ {format}: \"out/{{{{ stream }}}}.{format}\" }}");
        project.write("pipelines/items.yaml", &of_sink(&sink));
        let said = project.run_with(&["reextract", &id], env);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert_eq!(server.heard().len(), asked, "something was asked");
    }
    let csv = fs::read_to_string(project.path().join("out/notes.csv")).expect("a file");
    assert!(
        csv.ends_with("of 3\r\n") && csv.lines().count() == 4,
        "{csv}"
    );
    assert!(project.path().join("out/notes.parquet").exists());
}

#[test]
fn what_secrets_there_were_is_known_of_the_last_attempt() {
    for (first, last, now) in [
        ("abcdef", "", "abcdef"),
        ("abcdef", "", ""),
        ("", "abcdef", ""),
    ] {
        let fails = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&fails);
        let server = Server::start(move |request| {
            if request.contains("/other") && still.load(Ordering::Relaxed) {
                Reply::new(404, "")
            } else {
                Reply::json(r#"[{"id":1}]"#)
            }
        });
        let streams = "  items: { get: /items, query: { key: \"{{ secret.KEY | default('') }}\" }, expect: { min_records: 4 } }\n  \
                       other: { get: /other }\n";
        let text = pipeline(&server, streams, "{ ndjson: \"out/{{ stream }}.ndjson\" }");
        let project = Project::new(&text).knows(&server);
        let said = project.run_with(&["run", "items"], &[("KEY", first)]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
        fails.store(false, Ordering::Relaxed);
        let said = project.run_with(&["run", "items"], &[("KEY", last)]);
        assert_eq!(said.code, Some(3), "{}", said.shown);
        let said = project.run(&["runs", "--json"]);
        let runs: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert_eq!(runs.as_array().map(Vec::len), Some(1), "{}", said.shown);
        let id = runs[0]["run"].as_str().expect("an id");
        let asked = server.heard().len();
        let said = project.run_with(&["runs", "publish", id], &[("KEY", now)]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert_eq!(server.heard().len(), asked, "something was asked");
    }
}

#[test]
fn a_secret_that_need_not_be_set_and_was_is_not_needed_either() {
    let server = server();
    let streams = "  items: { get: /items, query: { key: \"{{ secret.KEY | default('') }}\" }, expect: { min_records: 4 } }\n";
    let held = pipeline(&server, streams, "{ ndjson: out/items.ndjson }");
    let project = Project::new(&held).knows(&server);
    for env in [&[("KEY", "a b/ü&[x]")][..], &[("KEY", "")], &[]] {
        let said = project.run_with(&["run", "items", "--keep-parts", "--fresh"], env);
        assert_eq!(said.code, Some(3), "{}", said.shown);
        let asked = server.heard().len();
        let said = project.run(&["runs", "--json"]);
        let runs: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
        let id = runs[0]["run"].as_str().expect("an id");
        let said = project.run(&["runs", "publish", id]);
        assert_eq!(said.code, Some(0), "{env:?}: {}", said.shown);
        let well = held.replace("min_records: 4", "min_records: 3");
        project.write("pipelines/items.yaml", &well);
        let said = project.run_with(&["run", "items", "--keep-parts"], env);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let id = latest(&project);
        let said = project.run(&["reextract", &id]);
        assert_eq!(said.code, Some(0), "{env:?}: {}", said.shown);
        assert_eq!(server.heard().len(), asked + 1, "something was asked");
        project.write("pipelines/items.yaml", &held);
    }
}
