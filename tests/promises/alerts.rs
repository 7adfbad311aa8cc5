//! Who is told of nightly runs: once when things change, over real HTTP, and never a secret.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::event::Fact;
use gleaner::failure::{Exit, Failure};
use gleaner::fetch::transport::{
    BodySource, Boxed, Request, Response, SendError, SharedTransport, Transport,
};
use gleaner::harvest::World;
use gleaner::harvest::alerts::Watch;
use gleaner::harvest::events::Events;
use serde_json::Value;

use super::fixture::plan;
use super::scene::{Project, Reply, Server};
use gleaner::sim::in_stopped_time;

/// What the API gives in a night.
const GOOD: usize = 0;
const GONE: usize = 1;
const FEW: usize = 2;

/// The first lines of requests, and their bodies as JSON.
fn heard(server: &Server) -> Vec<(String, Value)> {
    let heard = server.heard().into_iter();
    heard
        .map(|request| {
            let line = request.lines().next().unwrap_or_default();
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
            (target, serde_json::from_str(body).unwrap_or(Value::Null))
        })
        .collect()
}

fn texts<'v>(all: impl IntoIterator<Item = &'v Value>, key: &str) -> Vec<String> {
    let all = all.into_iter().map(|value| value[key].as_str());
    all.map(|text| text.unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_change_is_told_once_and_a_ping_comes_every_night() {
    let night = Arc::new(AtomicUsize::new(GONE));
    let now = Arc::clone(&night);
    // What it says of a failure holds the credential.
    let api = Server::start(move |_| match now.load(Ordering::SeqCst) {
        GOOD => Reply::json(r#"{"data":[{"id":1},{"id":2}]}"#),
        FEW => Reply::json(r#"{"data":[{"id":1}]}"#),
        _ => Reply::new(404, "no such thing for hush-hush-token"),
    });
    let (hook, dead_man) = (
        Server::says(Reply::new(200, "ok")),
        Server::says(Reply::new(200, "ok")),
    );
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none, auth: {{ bearer: \"{{{{ secret.API_TOKEN }}}}\" }} }}
streams:
  items: {{ get: /items, records: data, expect: {{ min_records: 2 }} }}
sink: {{ csv: data/items.csv }}
schedule:
  cron: \"30 2 * * *\"
  on_failure: {{ webhook: \"{{{{ secret.HOOK }}}}\", command: \"cat >> told; echo >> told\" }}
  ping: {}/ping/abc
",
        api.url(),
        dead_man.url()
    ));
    let hook_url = format!("{}/hooks/very-private-path", hook.url());
    let env = [("API_TOKEN", "hush-hush-token"), ("HOOK", &hook_url)];
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let said = project.run_with(args, &[env, &[("PATH", "/usr/bin:/bin")]].concat());
        for secret in ["very-private-path", "hush-hush-token", "/ping/abc"] {
            assert!(!said.shown.contains(secret), "{}", said.shown);
        }
        said
    };
    // Nobody watches a run by hand, so what only alerts need may be missing.
    assert_eq!(run(&["run", "items"], &env[..1]).code, Some(1));
    assert!(hook.heard().is_empty() && dead_man.heard().is_empty());

    for (what, code) in [
        (GONE, 1),
        (GONE, 1),
        (GOOD, 0),
        (GOOD, 0),
        (FEW, 3),
        (FEW, 3),
        (GONE, 1),
        (GOOD, 0),
    ] {
        night.store(what, Ordering::SeqCst);
        let said = run(&["run", "items", "--alerts", "--fresh"], &env);
        assert_eq!(said.code, Some(code), "{}", said.shown);
    }
    let told = heard(&hook);
    let bodies: Vec<&Value> = told.iter().map(|(_, body)| body).collect();
    let wanted = ["failed", "recovered", "held", "failed", "recovered"];
    assert_eq!(texts(bodies.clone(), "event"), wanted);
    assert!(
        told.iter()
            .all(|(target, _)| target == "/hooks/very-private-path")
    );
    let mut ids = texts(bodies.clone(), "id");
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let first = bodies[0];
    assert_eq!(
        (&first["pipeline"], &first["exit"]),
        (&"items".into(), &1.into())
    );
    let text = first["text"].as_str().expect("a text");
    assert!(
        text.starts_with("items failed: items, page 1: 404 Not Found"),
        "{text}"
    );
    assert!(
        !told
            .iter()
            .any(|(_, body)| body.to_string().contains("hush-hush"))
    );
    assert_eq!(bodies[2]["streams"][0]["checks"][0]["check"], "min_records");
    let well = bodies[4]["text"].as_str().expect("a text");
    assert!(
        well.starts_with("items is well again: 2 rows; it was failed since 20"),
        "{well}"
    );

    // The command heard the same.
    let told = fs::read_to_string(project.path().join("told")).expect("it was told");
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(texts(&lines, "event"), wanted);
    assert_eq!(texts(&lines, "id"), texts(bodies, "id"));

    let pings: Vec<String> = heard(&dead_man)
        .into_iter()
        .map(|(target, _)| target)
        .collect();
    let mut wanted = Vec::new();
    for end in ["/fail", "/fail", "", "", "/fail", "/fail", "/fail", ""] {
        wanted.push("/ping/abc/start".to_owned());
        wanted.push(format!("/ping/abc{end}"));
    }
    assert_eq!(pings, wanted);
}

/// Takes what is sent, or not, night by night.
#[derive(Debug)]
struct Receiver {
    /// For each night whether it is there.
    there: Mutex<VecDeque<bool>>,
    taken: Mutex<Vec<Value>>,
    tries: AtomicUsize,
}

struct Nothing;

impl BodySource for Nothing {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<bytes::Bytes>, SendError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

impl Transport for Receiver {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        let is_there = self.there.lock().expect("no panic").front() == Some(&true);
        let body = request.body.unwrap_or_default();
        if is_there {
            let body = serde_json::from_slice(&body).expect("JSON");
            self.taken.lock().expect("no panic").push(body);
        }
        let status = if is_there { 200 } else { 503 };
        Box::pin(std::future::ready(Ok(Response {
            status: http::StatusCode::from_u16(status).expect("a status"),
            headers: http::HeaderMap::new(),
            body: Box::new(Nothing),
        })))
    }
}

#[test]
fn what_nobody_took_is_told_again_and_fails_no_run() {
    let root = tempfile::tempdir().expect("a folder");
    let plan = plan(
        "source: { url: https://api.test, limits: none }
streams: { a: { get: /a } }
sink: { ndjson: out.ndjson }
schedule: { cron: '@daily', on_failure: { webhook: https://hooks.test/private } }
",
    );
    let receiver = Arc::new(Receiver {
        there: Mutex::new([false, true, true, false, true].into()),
        taken: Mutex::default(),
        tries: AtomicUsize::new(0),
    });
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    in_stopped_time(async {
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let heard = Arc::clone(&notes);
        let transport: SharedTransport = receiver.clone();
        let world = World {
            clock,
            transport,
            disk: Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(clock, move |event| {
                if let Fact::RunNoticed { message } = &event.fact {
                    heard.lock().expect("no panic").push(message.clone());
                }
            }),
            stop,
        };
        // Failed three nights long; the first message is not taken. Stopped by hand: that says nothing.
        // Then another kind of failure that is not taken, and is told the night after.
        for exit in [
            Exit::Failed,
            Exit::Disk,
            Exit::Terminated,
            Exit::Held,
            Exit::Held,
        ] {
            let failure = Failure::new(exit, "it did not go well");
            Watch::of(&plan, &world).ended(Err(&failure)).await;
            receiver.there.lock().expect("no panic").pop_front();
        }
    });
    let taken = receiver.taken.lock().expect("no panic");
    assert_eq!(texts(&*taken, "event"), ["failed", "held"]);
    assert_eq!(
        taken[0]["since"], "2026-11-22T02:30:00Z",
        "since the first night"
    );
    assert_eq!(receiver.tries.load(Ordering::Relaxed), 4 + 1 + 4 + 1);
    let notes = notes.lock().expect("no panic");
    assert_eq!(
        *notes,
        ["the alert to https://hooks.test was not taken: it answered 503 Service Unavailable"; 2]
    );
}

/// A pipeline whose run fails by itself, told to a webhook of which only the environment knows.
fn watched(api: &Server, source: &str) -> Project {
    Project::new(&format!(
        "source: {{ url: \"{}\", limits: none{source} }}
streams: {{ items: {{ get: /items, records: data, expect: {{ min_records: 2 }} }} }}
sink: {{ csv: data/items.csv }}
schedule: {{ cron: \"30 2 * * *\", on_failure: {{ webhook: \"{{{{ secret.HOOK }}}}\" }} }}
",
        api.url()
    ))
}

#[test]
fn what_fails_before_anything_is_asked_is_told_too() {
    let api = Server::says(Reply::json(r#"{"data":[{"id":1},{"id":2}]}"#));
    for (source, says) in [
        // A file of secrets that others may read, or that is not there in a readable way, hides nothing
        // that the environment has.
        (", secrets: open.env", "open.env"),
        ("", ".env"),
        // An authority that is not there, a way out that is none.
        (", tls: { ca: gone.pem }", "gone.pem"),
        // A name that only messages need.
        (", contact: \"{{ env.NOBODY }}\"", "NOBODY"),
    ] {
        let hook = Server::says(Reply::new(200, "ok"));
        let project = watched(&api, source);
        project.write("open.env", "A=b\n");
        if source.is_empty() {
            project.write(".env", "this is no pair\n");
        }
        let hook_url = format!("{}/hook", hook.url());
        let env = [("HOOK", hook_url.as_str())];
        let said = project.run_with(&["run", "items", "--alerts"], &env);
        assert_ne!(said.code, Some(0), "{}", said.shown);
        let told = heard(&hook);
        assert_eq!(told.len(), 1, "{source}: {}", said.shown);
        assert_eq!(told[0].1["event"], "failed");
        let text = told[0].1.to_string();
        assert!(text.contains(says), "{source}: {text}");
        // It stands in the history, with why.
        let past = super::history::past(&project);
        assert_eq!(past.len(), 1, "{source}");
        assert_eq!(past[0]["status"], "failed", "{source}");
        assert!(
            past[0]["failure"].to_string().contains(says),
            "{source}: {past:?}"
        );
    }
}

#[test]
fn a_person_who_publishes_what_is_held_makes_the_next_trouble_news() {
    let night = Arc::new(AtomicUsize::new(FEW));
    let now = Arc::clone(&night);
    let api = Server::start(move |_| match now.load(Ordering::SeqCst) {
        GOOD => Reply::json(r#"{"data":[{"id":1},{"id":2}]}"#),
        _ => Reply::json(r#"{"data":[{"id":1}]}"#),
    });
    let hook = Server::says(Reply::new(200, "ok"));
    let project = watched(&api, "");
    let hook_url = format!("{}/hook", hook.url());
    let env = [("HOOK", hook_url.as_str())];
    let nightly = || project.run_with(&["run", "items", "--alerts"], &env).code;
    assert_eq!(nightly(), Some(3));
    let run = super::history::past(&project)[0]["run"]
        .as_str()
        .expect("an id")
        .to_owned();
    let said = project.run(&["runs", "publish", &run]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let events = || {
        let told = heard(&hook);
        texts(told.iter().map(|(_, body)| body), "event")
    };
    assert_eq!(events(), ["held"], "whoever published it knows");
    assert_eq!(nightly(), Some(3));
    assert_eq!(events(), ["held", "recovered", "held"]);
    night.store(GOOD, Ordering::SeqCst);
    assert_eq!(nightly(), Some(0));
    assert_eq!(nightly(), Some(0));
    assert_eq!(events(), ["held", "recovered", "held", "recovered"]);
}

/// Takes alerts when it is there; a ping is never answered.
#[derive(Debug, Default)]
struct Silent {
    is_there: AtomicBool,
    taken: Mutex<Vec<Value>>,
}

impl Transport for Silent {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        if request.body.is_none() || !self.is_there.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        let body = request.body.unwrap_or_default();
        let body = serde_json::from_slice(&body).expect("JSON");
        self.taken.lock().expect("no panic").push(body);
        Box::pin(std::future::ready(Ok(Response {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: Box::new(Nothing),
        })))
    }
}

#[test]
fn who_is_killed_while_the_message_is_on_its_way_has_left_it_for_the_next_start() {
    let root = tempfile::tempdir().expect("a folder");
    let plan = plan(
        "source: { url: https://api.test, limits: none }
streams: { a: { get: /a } }
sink: { ndjson: out.ndjson }
schedule: { cron: '@daily', on_failure: { webhook: https://hooks.test/private }, ping: https://ping.test/x }
",
    );
    let silent = Arc::new(Silent::default());
    in_stopped_time(async {
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let transport: SharedTransport = silent.clone();
        let world = World {
            clock,
            transport,
            disk: Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(clock, |_| {}),
            stop,
        };
        let failure = Failure::new(Exit::Failed, "it did not go well");
        let watch = Watch::of(&plan, &world);
        let ends = watch.ended(Err(&failure));
        // The process dies while all are on their way.
        let second = std::time::Duration::from_secs(1);
        assert!(clock.timeout(second, ends).await.is_err());
        assert!(silent.taken.lock().expect("no panic").is_empty());
        silent.is_there.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            Watch::of(&plan, &world).make_up().await;
        }
        // A receiver that hangs holds up no other: the alert is taken though the ping never is.
        let failure = Failure::new(Exit::Held, "too few");
        let watch = Watch::of(&plan, &world);
        let ends = watch.ended(Err(&failure));
        assert!(clock.timeout(second, ends).await.is_err());
    });
    let taken = silent.taken.lock().expect("no panic");
    assert_eq!(texts(&*taken, "event"), ["failed", "held"], "once each");
    assert_eq!(taken[0]["text"], "p failed: it did not go well");
    assert_eq!(taken[0]["since"], "2026-11-22T02:30:00Z");
}
