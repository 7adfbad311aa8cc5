//! What people hear of a schedule: of files that break and are mended, in logs of which each line says whose it is,
//! and of the times to come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;

use super::scene::{Project, Reply, Server};

/// Who waits longer than this for a message waits for ever.
const HANGS: Duration = Duration::from_mins(2);

/// A schedule that ends with its test, however that ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipeline that nobody's time comes for; what it says of those who are told.
fn pipeline(api: &Server, more: &str, told: &str) -> String {
    format!(
        "source: {{ url: \"{}\", limits: none }}\n{more}streams: {{ items: {{ get: /items, records: data }} }}\n\
         sink: {{ ndjson: \"out/items.ndjson\" }}\n\
         schedule: {{ cron: \"0 0 1 1 *\", {told} }}\n",
        api.url()
    )
}

fn api() -> Server {
    Server::says(Reply::json(r#"{"data":[{"id":1},{"id":2}]}"#))
}

/// What a webhook heard: the message of each request.
fn messages(hook: &Server) -> Vec<Value> {
    let heard = hook.heard().into_iter();
    heard
        .filter(|request| request.starts_with("POST "))
        .map(|request| {
            let body = request.split("\r\n\r\n").nth(1).expect("a body");
            serde_json::from_str(body).expect("JSON")
        })
        .collect()
}

fn events(hook: &Server) -> Vec<String> {
    let all = messages(hook).into_iter();
    all.map(|one| one["event"].as_str().expect("an event").to_owned())
        .collect()
}

/// JSON lines.
fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

#[test]
fn a_file_that_breaks_is_told_once_to_those_whom_it_names() {
    let (api, hook) = (api(), Server::says(Reply::new(200, "ok")));
    let told = "on_failure: { webhook: \"{{ secret.HOOK }}/{{ vars.team }}\" }";
    let vars = "vars: { team: night }\n";
    // Mistakes of shape and of sense, also in the source: who is told can be read all the same.
    let broken = pipeline(&api, vars, told)
        .replace("limits: none", "limits: [80/fortnight], retrys: 3")
        .replace("records: data", "recrods: data");
    let project = Project::new(&broken);
    let hook_url = hook.url();
    let env = [("HOOK", hook_url.as_str())];
    let once = || project.run_with(&["schedule", "--once"], &env);
    for _ in 0..2 {
        let said = once();
        assert_eq!(said.code, Some(4), "{}", said.shown);
        let line = &lines(&said.stderr)[0];
        assert_eq!(
            (&line["level"], &line["event"], &line["pipeline"]),
            (&"error".into(), &"schedule_broken".into(), &"items".into())
        );
    }
    let heard = messages(&hook);
    assert_eq!(events(&hook), ["broken"], "once");
    assert!(hook.heard()[0].starts_with("POST /night "));
    let text = heard[0]["text"].as_str().expect("a text");
    assert!(
        text.starts_with("the file of items is broken: 3 mistakes, the first: "),
        "{text}"
    );
    assert!(
        text.contains("it does not run until that is corrected"),
        "{text}"
    );
    assert_eq!(
        (&heard[0]["exit"], &heard[0]["run"]),
        (&4.into(), &Value::Null)
    );
    // Whoever looks back sees it too.
    let said = project.run(&["history"]);
    assert!(
        said.stdout
            .contains("items: its file cannot be understood: 3 mistakes")
            && said.stdout.contains("next: `gleaner check items`"),
        "{}",
        said.shown
    );
    // Somebody calls it by hand, or from crontab: those who watch know already.
    let said = project.run_with(&["run", "items", "--alerts"], &env);
    assert_eq!(said.code, Some(4), "{}", said.shown);
    assert_eq!(events(&hook), ["broken"]);

    project.write("pipelines/items.yaml", &pipeline(&api, vars, told));
    for _ in 0..2 {
        let said = once();
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
    assert_eq!(events(&hook), ["broken", "recovered"]);
    let text = messages(&hook)[1]["text"].clone();
    assert_eq!(text, "the file of items can be understood again");

    // Broken once more, it is told by a run of crontab, and so is its end.
    project.write("pipelines/items.yaml", &broken);
    let alerts = || project.run_with(&["run", "items", "--alerts"], &env);
    assert_eq!(alerts().code, Some(4));
    assert_eq!(alerts().code, Some(4));
    project.write("pipelines/items.yaml", &pipeline(&api, vars, told));
    assert_eq!(alerts().code, Some(0));
    assert_eq!(
        events(&hook),
        ["broken", "recovered", "broken", "recovered"]
    );
    assert!(
        !project
            .run(&["history"])
            .stdout
            .contains("cannot be understood")
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "a word that never comes must not hang the tests"
)]
#[test]
fn of_a_file_that_cannot_be_read_at_all_those_are_told_whom_it_named_before() {
    let (tells, told) = mpsc::channel();
    let tells = Mutex::new(tells);
    let hook = Server::start(move |request| {
        let body = request.split("\r\n\r\n").nth(1).expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        let event = body["event"].as_str().expect("an event").to_owned();
        tells.lock().expect("no panic").send(event).expect("heard");
        Reply::new(200, "ok")
    });
    let good = pipeline(
        &api(),
        "",
        &format!("on_failure: {{ webhook: \"{}\" }}", hook.url()),
    );
    let project = Project::new(&good);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&place).expect("a socket");
    let child = project
        .command(&["schedule"])
        .env("NOTIFY_SOCKET", &place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let _daemon = Daemon(child);
    let mut bytes = [0; 1024];
    let mut heard = String::new();
    while !heard.contains("READY=1") {
        let len = socket.recv(&mut bytes).expect("a word");
        heard.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    project.write("pipelines/items.yaml", "source: [");
    assert_eq!(told.recv_timeout(HANGS).expect("told"), "broken");
    // The very text that was there before.
    project.write("pipelines/items.yaml", &good);
    assert_eq!(told.recv_timeout(HANGS).expect("told"), "recovered");
}

#[test]
fn a_receiver_that_does_not_answer_holds_up_neither_the_next_run_nor_a_stop() {
    let hangs = Arc::new((Mutex::new(true), Condvar::new()));
    let held = Arc::clone(&hangs);
    let hook = Server::start(move |_| {
        let (hangs, ends) = &*held;
        let waits = hangs.lock().expect("no panic");
        drop(ends.wait_while(waits, |hangs| *hangs).expect("no panic"));
        Reply::new(200, "ok")
    });
    let gone = Server::says(Reply::new(404, "no such thing"));
    let told = format!(
        "on_failure: {{ webhook: \"{0}/told\" }}, ping: \"{0}/ping\"",
        hook.url()
    );
    let project = Project::new(&pipeline(&gone, "", &told));
    // One run at once: this one has to wait until the slot is free.
    let next = pipeline(&api(), "", "missed: once").replace("items.ndjson", "next.ndjson");
    project.write("pipelines/next.yaml", &next);
    super::schedule_real::passed(&project, &["items", "next"]);
    let child = project
        .command(&["schedule", "--parallel", "1", "--log", "human"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut daemon = Daemon(child);
    let mut lines = BufReader::new(daemon.0.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    // Whoever waits for a receiver says in the end that it has not taken what it was told.
    while !said
        .last()
        .is_some_and(|line: &String| line.contains("next: the run of"))
    {
        said.push(lines.next().expect("a line").expect("text"));
    }
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(daemon.0.wait().expect("an end").code(), Some(0));
    said.extend(lines.map(|line| line.expect("text")));
    let said = said.join("\n");
    assert!(said.contains("error: items, page 1: 404"), "{said}");
    assert!(!said.contains("was not taken"), "{said}");

    // It was asked, and has not answered: that is owed, and told at the next start.
    let first = messages(&hook);
    assert_eq!(first.len(), 1, "{first:?}");
    *hangs.0.lock().expect("no panic") = false;
    hangs.1.notify_all();
    for _ in 0..2 {
        assert_eq!(project.run(&["schedule", "--once"]).code, Some(0));
    }
    let all = messages(&hook);
    assert_eq!(all, [first[0].clone(), first[0].clone()], "the same, once");
}

#[test]
fn each_line_of_a_log_says_whose_it_is() {
    let api = api();
    let project = Project::new(&pipeline(&api, "", "missed: once"));
    let locked = pipeline(&api, "", "missed: once").replace(
        "limits: none",
        "limits: none, auth: { bearer: \"{{ secret.NOBODY_HAS_IT }}\" }",
    );
    project.write(
        "pipelines/locked.yaml",
        &locked.replace("items.ndjson", "locked.ndjson"),
    );
    // Of several runs one after the other, also where one does not begin.
    let said = project.run(&["run", "items", "locked", "--log", "json"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    let all = lines(&said.stderr);
    let (last, before) = all.split_last().expect("lines");
    assert!(before.len() > 2, "{}", said.stderr);
    for line in before {
        assert_eq!(line["pipeline"], "items", "{line}");
        assert!(
            line["run"].is_string() && line["message"].is_string(),
            "{line}"
        );
        assert!(line["at"].is_string() && line["level"] == "info", "{line}");
    }
    assert_eq!(
        (&last["pipeline"], &last["event"], &last["level"]),
        (&"locked".into(), &"failure".into(), &"error".into())
    );
    assert!(last["run"].is_null(), "it is not of the run before: {last}");

    // And of those side by side, where times have passed.
    super::schedule_real::passed(&project, &["items", "locked"]);
    let said = project.run(&["schedule", "--once"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    let all = lines(&said.stderr);
    for line in &all {
        assert!(line["pipeline"].is_string(), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    let done = |name: &str| {
        let done = all
            .iter()
            .find(|line| line["event"] == "time_done" && line["pipeline"] == name);
        done.unwrap_or_else(|| panic!("{name} is done: {}", said.stderr))
    };
    let began = all
        .iter()
        .find(|line| line["event"] == "run_started")
        .expect("begun");
    assert_eq!(done("items")["run"], began["run"]);
    assert_eq!(done("locked")["level"], "error");

    // For people: when, whose, which run.
    super::schedule_real::passed(&project, &["items", "locked"]);
    let said = project.run(&["schedule", "--once", "--log", "human"]);
    let begins = said
        .stderr
        .lines()
        .find(|line| line.contains(" items: run "));
    let begins = begins.unwrap_or_else(|| panic!("{}", said.stderr));
    let (at, rest) = begins.split_at("2026-11-22 02:30:00Z ".len());
    assert!(rest.ends_with(" begins: items"), "{begins}");
    let at = at.trim_end().replace(' ', "T");
    at.parse::<jiff::Timestamp>()
        .unwrap_or_else(|_| panic!("{begins}"));
    assert!(
        said.stderr
            .contains("error: locked: NOBODY_HAS_IT is not set"),
        "{}",
        said.stderr
    );
}

#[test]
fn who_wants_errors_alone_hears_of_broken_files() {
    let project = Project::new("source: { url: 7\n");
    for how in ["human", "json"] {
        let said = project.run(&["schedule", "--once", "-q", "--log", how]);
        assert_eq!(said.code, Some(4), "{}", said.shown);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        assert!(said.stderr.contains("unclosed bracket"), "{}", said.stderr);
    }
}

#[test]
fn the_coming_times_are_shown_on_both_clocks() {
    let text = |cron: &str| {
        format!(
            "source: {{ url: \"http://127.0.0.1:9\", limits: none }}\nstreams: {{ items: {{ get: /x }} }}\nsink: {{ csv: out.csv }}\n\
             schedule: {{ cron: \"{cron}\", zone: Asia/Kolkata }}\n"
        )
    };
    let project = Project::new(&text("30 2 * * *"));
    project.write("pipelines/other.yaml", &text("0 3 1 1 *"));
    let said = project.run(&["schedule", "next", "3"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let rows: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(rows.len(), 4, "{}", said.stdout);
    let columns: Vec<&str> = rows[0].split_whitespace().collect();
    assert_eq!(columns, ["PIPELINE", "LEFT", "LOCAL", "ZONE", "UTC"]);
    // Half past two there is nine at night here, the day before.
    // At the end of December the other one is among them.
    let items = rows.iter().find(|row| row.starts_with("items "));
    let items = items.unwrap_or_else(|| panic!("{}", said.stdout));
    assert!(items.contains(" 02:30:00 IST  Asia/Kolkata  ") && items.ends_with("T21:00:00Z"));
    let said = project.run(&["schedule", "next", "2", "--json"]);
    let told: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let told = told.as_array().expect("a list");
    assert_eq!(told.len(), 2);
    let one = told.iter().find(|one| one["pipeline"] == "items");
    let one = one.unwrap_or_else(|| panic!("{told:#?}"));
    assert_eq!(one["zone"], "Asia/Kolkata");
    assert!(
        one["local"]
            .as_str()
            .is_some_and(|at| at.ends_with("T02:30:00+05:30"))
    );
    assert_eq!(one["planned"], one["starts"]);
    // What cannot be understood is said, and is an exit code of its own.
    project.write("pipelines/other.yaml", "source: [");
    let said = project.run(&["schedule", "next"]);
    assert_eq!(said.code, Some(4), "{}", said.shown);
    assert!(
        said.stderr.contains("1 file cannot be understood: other"),
        "{}",
        said.shown
    );
}
