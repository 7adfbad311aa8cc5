//! `once`: what acts or costs is never sent twice unasked, over kills too; what was sent and never
//! answered is named.
//!
//! `GLEANER_KILL_ROUNDS` says how often the program is killed anew; `.ci/full` asks for more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::failure::Exit;
use gleaner::sim::{Dataset, Latency, Listing, Paging, Route, Rules};

use super::fixture::Scene;
use super::history::past;
use super::real_time::{millis, pass, until_or_end};
use super::scene::{Project, Reply, Said, Server};

/// Prompts of the kill test.
const PROMPTS: usize = 120;
/// Kills of a round at most.
const MOST_KILLS: u32 = 6;

/// The id that a request for an answer carries.
fn id(request: &str) -> usize {
    let (_, rest) = request.split_once("\"prompt ").expect("a prompt");
    let (id, _) = rest.split_once('"').expect("an end");
    id.parse().expect("a number")
}

fn answer(id: usize) -> Reply {
    Reply::json(format!(
        r#"{{"choices":[{{"message":{{"content":"answer {id}"}}}}],"usage":{{"total_tokens":9}}}}"#
    ))
}

fn prompts(count: usize) -> String {
    (1..=count).fold("id,prompt\n".to_owned(), |mut text, id| {
        let _ = writeln!(text, "{id},prompt {id}");
        text
    })
}

fn pipeline(server: &Server, once: &str, source: &str) -> String {
    format!(
        "source: {{ url: \"{}\", concurrency: 8, {source} }}
streams:
  items:
    for: {{ row: {{ file: prompts.csv }} }}
    post: /chat
    once: {once}
    body: {{ json: {{ messages: [ {{ role: user, content: \"{{{{ row.prompt }}}}\" }} ] }} }}
    responses: [ {{ if: status == 400, then: accept }} ]
    key: id
    columns: {{ id: \"{{{{ row.id }}}}\", answer: choices.0.message.content, error: error.message }}
sink: {{ csv: data/items.csv }}
",
        server.url()
    )
}

fn project(server: &Server, once: &str, source: &str, count: usize) -> Project {
    let project = Project::new(&pipeline(server, once, source)).knows(server);
    project.write("prompts.csv", &prompts(count));
    project
}

/// How often each prompt came.
fn counts(server: &Server) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for request in server.heard() {
        *counts.entry(id(&request)).or_default() += 1;
    }
    counts
}

/// Ids that are answered in the output, and what the answer is.
fn rows(project: &Project) -> BTreeMap<usize, String> {
    let text = std::fs::read_to_string(project.path().join("data/items.csv")).expect("an output");
    let lines = text.lines().skip(1).filter(|line| *line != "old");
    lines
        .map(|line| {
            let (id, rest) = line.split_once(',').expect("two columns");
            (id.parse().expect("a number"), rest.to_owned())
        })
        .collect()
}

/// Ids that the latest run names as sent and never answered.
fn named(project: &Project) -> BTreeSet<usize> {
    let listed = project.run(&["runs", "--json"]);
    let runs: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let Some(run) = runs[0]["run"].as_str() else {
        return BTreeSet::new();
    };
    let shown = project.run(&["runs", "show", run, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let unknown = shown["unknown"].as_array().expect("a list").iter();
    unknown
        .map(|one| {
            let place = one["place"].as_str().expect("a place");
            assert!(place.starts_with("items, page 1 of row="), "{place}");
            usize::try_from(one["partition"].as_u64().expect("a number")).expect("small") + 1
        })
        .collect()
}

/// What answers prompts a moment late, and holds answers back from the one on that somebody says.
struct Paid {
    server: Server,
    gate: Arc<(Mutex<usize>, Condvar)>,
}

impl Paid {
    fn start(seed: u64) -> Self {
        let gate = Arc::new((Mutex::new(usize::MAX), Condvar::new()));
        let dice = Mutex::new(fastrand::Rng::with_seed(seed));
        let (from, asked) = (Arc::clone(&gate), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
            let late = dice.lock().expect("dice").u64(0..=8);
            pass(Duration::from_millis(late));
            let (from, changed) = &*from;
            let held = from.lock().expect("no panic");
            drop(changed.wait_while(held, |from| number >= *from));
            answer(id(request))
        });
        Self { server, gate }
    }

    /// Kills a run as soon as it has sent so many more requests, the last of which has no answer yet; or at its end, if
    /// that comes before.
    fn kill_within(&self, start: impl FnOnce() -> Child, more: usize) -> ExitStatus {
        let number = self.server.heard().len() + more;
        self.hold_from(number);
        let mut child = start();
        until_or_end(&mut child, "a request without an answer", || {
            self.server.heard().len() >= number
        });
        child.kill().expect("a kill");
        let status = child.wait().expect("an end");
        self.hold_from(usize::MAX);
        status
    }

    fn hold_from(&self, number: usize) {
        *self.gate.0.lock().expect("no panic") = number;
        self.gate.1.notify_all();
    }
}

/// How long a run takes here that nobody disturbs, in milliseconds.
fn undisturbed() -> u64 {
    let paid = Paid::start(0);
    let project = project(&paid.server, "true", "limits: none", PROMPTS);
    let clock = Clock::system();
    let began = clock.now();
    let said = project.run(&["run", "items", "-q"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    millis(clock.now().duration_since(began))
}

/// What a round came to: kills, and prompts that are named. Each attempt has the next of the steps.
fn round(seed: u64, took: u64, steps: &[&str]) -> (u32, usize) {
    let paid = Paid::start(seed);
    let server = paid.server.clone();
    let mut dice = fastrand::Rng::with_seed(!seed);
    let project = project(&server, "true", "limits: none", PROMPTS);
    let mut attempts = 0;
    let mut change = || {
        let Some(step) = steps.get(attempts % steps.len().max(1)) else {
            return String::new();
        };
        attempts += 1;
        let text = pipeline(&server, "true", "limits: none");
        let filter = format!(".choices[0].message.content += \"{step}\"");
        project.write("pipelines/items.yaml", &with_step(&text, &filter));
        (*step).to_owned()
    };
    let mut kills = 0;
    // In each second round the first two kills are among those that certainly come before an answer.
    let mut certain = if seed.is_multiple_of(2) { 2 } else { 0 };
    while kills < MOST_KILLS {
        change();
        let mut run = project.command(&["run", "items", "-q"]);
        run.stderr(Stdio::null());
        let mut start = move || run.spawn().expect("the program starts");
        let status = if certain > 0 || dice.bool() {
            paid.kill_within(start, dice.usize(1..=40))
        } else {
            let mut child = start();
            pass(Duration::from_millis(dice.u64(1..=took)));
            child.kill().expect("a kill");
            child.wait().expect("an end")
        };
        certain = certain.max(1) - 1;
        assert!(
            status.code().is_none_or(|code| code <= 1),
            "seed {seed}: {status}"
        );
        if status.code() == Some(1) {
            break;
        }
        kills += u32::from(status.code().is_none());
        // Killed when all was done, or done before: what comes next is another run.
        if rows(&project).len() == PROMPTS {
            assert!(counts(&server).values().all(|count| *count == 1));
            return (kills, 0);
        }
    }
    let step = change();
    let said = project.run(&["run", "items", "-q"]);
    let named = named(&project);
    for (id, count) in counts(&server) {
        assert!(
            count <= 1,
            "seed {seed}: prompt {id} was sent {count} times"
        );
    }
    if named.is_empty() {
        assert_eq!(said.code, Some(0), "seed {seed}: {}", said.shown);
    } else {
        assert_eq!(said.code, Some(1), "seed {seed}: {}", said.shown);
        project.is_untouched();
        let said = project.run(&["run", "items", "--unknown", "skip"]);
        assert_eq!(said.code, Some(3), "seed {seed}: {}", said.shown);
    }
    // None is lost without being named, and none is both.
    let rows = rows(&project);
    for id in 1..=PROMPTS {
        assert_ne!(
            rows.contains_key(&id),
            named.contains(&id),
            "seed {seed}: {id}"
        );
    }
    for (id, text) in rows {
        assert_eq!(text, format!("answer {id}{step},"), "seed {seed}");
    }
    assert!(
        counts(&server).values().all(|count| *count == 1),
        "seed {seed}"
    );
    (kills, named.len())
}

#[test]
fn no_prompt_is_paid_twice_however_often_the_run_is_killed() {
    kill_rounds(&[]);
}

#[test]
fn no_answer_is_lost_to_a_step_however_often_it_changes_and_the_run_is_killed() {
    kill_rounds(&["!", "?", "."]);
}

fn kill_rounds(steps: &[&str]) {
    let rounds = std::env::var("GLEANER_KILL_ROUNDS").ok();
    let rounds = rounds.map_or(8, |n| n.parse().expect("a number of rounds"));
    let (mut kills, mut named) = (0, 0);
    let took = undisturbed();
    for seed in 0..rounds {
        let (killed, left) = round(seed, took, steps);
        kills += killed;
        named += left;
    }
    // Else nothing was tried. Two kills of each second round are certain, whatever the machine.
    assert!(u64::from(kills) >= rounds, "{kills} kills");
    assert!(named > 0, "no kill came between a request and its answer");
}

/// A server that answers as `status` says for prompt 3, while it is not 200.
fn troubled(status: u64) -> (Server, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(status));
    let says = Arc::clone(&now);
    let server = Server::start(move |request| {
        let id = id(request);
        match (id, says.load(Ordering::SeqCst)) {
            (3, 400) => Reply::new(400, r#"{"error":{"message":"too long"}}"#)
                .header("content-type", "application/json"),
            (3, status @ (401 | 500)) => {
                Reply::new(u16::try_from(status).expect("a status"), "not now")
            }
            (3, 204) => Reply::json(r#"{"said":{"message":{"content":"late"}}}"#),
            (3, 205) => Reply::json("no data at all"),
            _ => answer(id),
        }
    });
    (server, now)
}

fn says(said: &Said, wanted: &str) {
    assert!(said.stderr.contains(wanted), "{wanted:?} in {}", said.shown);
}

#[test]
fn what_may_have_been_done_is_named_and_left_until_somebody_decides() {
    {
        let (server, now) = troubled(500);
        let project = project(&server, "true", "limits: none", 5);
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
        says(
            &said,
            "1 request was sent, and nobody knows what came of it",
        );
        says(&said, "`once: true`");
        says(&said, "--unknown resend");
        assert_eq!(server.heard().len(), 5, "the others go on");
        project.is_untouched();
        assert_eq!(named(&project), BTreeSet::from([3]));

        now.store(200, Ordering::SeqCst);
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
        says(&said, "and the run ended before its answer was kept");
        assert_eq!(server.heard().len(), 5, "nothing is sent again");
        project.is_untouched();

        let said = project.run(&["run", "items", "--unknown", "resend"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert_eq!(server.heard().len(), 6, "that one, and no other");
        assert_eq!(counts(&server)[&3], 2);
        assert_eq!(rows(&project).len(), 5);
    }
}

#[test]
fn it_may_be_left_out_and_then_the_run_is_no_success() {
    let (server, _) = troubled(500);
    let project = project(&server, "true", "limits: none", 5);
    project.run(&["run", "items", "-q"]);
    let said = project.run(&["run", "items", "--unknown", "skip"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    says(&said, "it is published without");
    assert_eq!(server.heard().len(), 5);
    let rows = rows(&project);
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 5]);
}

/// The pipeline with a step.
fn with_step(pipeline: &str, jq: &str) -> String {
    let step = format!("    transform: [{{ jq: '{jq}' }}]\n    key: id\n");
    pipeline.replace("    key: id\n", &step)
}

#[test]
fn an_answer_that_a_step_fails_on_is_kept_and_other_steps_publish_it() {
    let server = Server::start(|request| match id(request) {
        3 => Reply::json(r#"{"choices":"none"}"#),
        id => answer(id),
    });
    let text = pipeline(&server, "true", "limits: none");
    let project = Project::new(&with_step(&text, ".choices |= map(.)")).knows(&server);
    project.write("prompts.csv", &prompts(5));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "items, page 1 of row=");
    says(&said, "`transform`, step 1 (`jq`)");
    says(&said, "the record is {\"choices\":\"none\"}");
    says(&said, "is not asked for again");
    assert_eq!(named(&project), BTreeSet::new(), "all answers are here");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "`transform`, step 1 (`jq`)");
    project.is_untouched();

    // What the first step had made is made anew too.
    let step = "if .choices == \"none\" then {} else .choices[0].message.content += \"!\" end";
    project.write("pipelines/items.yaml", &with_step(&text, step));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let answers = rows(&project);
    let wanted = [1, 2, 3, 4, 5].map(|id| match id {
        3 => (3, ",".to_owned()),
        id => (id, format!("answer {id}!,")),
    });
    assert_eq!(answers, BTreeMap::from(wanted));
    assert!(counts(&server).values().all(|count| *count == 1));
    assert_eq!(server.heard().len(), 5, "nothing is paid for twice");
    let all = past(&project);
    let sums = |of: &str| &all[0][of];
    assert_eq!((sums("rows"), sums("pages")), (&5.into(), &5.into()));
}

#[test]
fn steps_may_be_taken_away_and_added_over_what_was_paid_for() {
    let (server, now) = troubled(401);
    let project = project(&server, "true", "limits: none", 5);
    let text =
        pipeline(&server, "true", "limits: none").replace("concurrency: 8", "concurrency: 1");
    let step = ".choices[0].message.content += \"!\"";
    for text in [text.clone(), with_step(&text, step), text.clone()] {
        project.write("pipelines/items.yaml", &text);
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
    }
    now.store(200, Ordering::SeqCst);
    project.write("pipelines/items.yaml", &with_step(&text, step));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let answers = rows(&project);
    assert!(
        answers.values().all(|text| text.ends_with("!,")),
        "{answers:?}"
    );
    let mut counts = counts(&server);
    // 401 is a refusal: nothing was done.
    assert_eq!(counts.remove(&3), Some(4));
    assert_eq!(counts, BTreeMap::from([(1, 1), (2, 1), (4, 1), (5, 1)]));
}

#[test]
fn paid_pages_side_by_side_are_kept_as_they_came() {
    let server = Server::start(|request| {
        let (_, rest) = request.split_once("page=").expect("a page");
        match rest.chars().next() {
            Some('3') => Reply::json(r#"{"total":4,"data":[{"id":"x"}]}"#),
            page => Reply::json(format!(
                r#"{{"total":4,"data":[{{"id":{}}}]}}"#,
                page.unwrap_or_default()
            )),
        }
    });
    let text = |step: &str| {
        format!(
            "source: {{ url: \"{}\", limits: none, concurrency: 3 }}
streams:
  items:
    get: /items
    once: true
    records: data
    pages: {{ page: {{ to: page, size: size, total: total }} }}
    query: {{ size: 1 }}
    transform: [{{ jq: '{step}' }}]
sink: {{ ndjson: data/items.ndjson }}
",
            server.url()
        )
    };
    let project = Project::new(&text(".id += 1")).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "items, page 3: `transform`, step 1 (`jq`)");
    project.write("pipelines/items.yaml", &text(".id |= tostring"));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let read = std::fs::read_to_string(project.path().join("data/items.ndjson"));
    assert_eq!(
        read.expect("an output"),
        "{\"id\":\"1\"}\n{\"id\":\"2\"}\n{\"id\":\"x\"}\n{\"id\":\"4\"}\n"
    );
    assert_eq!(server.heard().len(), 4, "{:?}", server.heard());
}

#[test]
fn a_value_that_does_not_fit_costs_no_paid_answer() {
    let server = Server::start(|request| answer(id(request)));
    let text = pipeline(&server, "true", "limits: none");
    let typed = text.replace(
        "answer: choices.0.message.content",
        "answer: { from: choices.0.message.content, type: integer }",
    );
    let project = Project::new(&typed).knows(&server);
    project.write("prompts.csv", &prompts(3));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "is not a whole number");
    assert_eq!(named(&project), BTreeSet::new());
    project.write("pipelines/items.yaml", &text);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(rows(&project).len(), 3);
    assert_eq!(server.heard().len(), 3, "nothing is paid for twice");
}

#[test]
fn the_first_request_of_all_counts_too() {
    let server = Server::says(Reply::new(500, "ow"));
    let project = project(&server, "true", "limits: none", 1);
    for _ in 0..3 {
        let said = project.run(&["run", "items", "-q"]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
    }
    assert_eq!(server.heard().len(), 1);
}

#[test]
fn what_was_refused_was_not_done_and_is_sent_again() {
    let (server, now) = troubled(401);
    let project = project(&server, "true", "limits: none", 5);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "401 Unauthorized");
    assert_eq!(named(&project), BTreeSet::new());
    now.store(200, Ordering::SeqCst);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let counts = counts(&server);
    assert_eq!((counts[&3], counts.len()), (2, 5));
    assert!(counts.iter().all(|(id, count)| *id == 3 || *count == 1));
}

#[test]
fn a_look_ahead_does_not_pay() {
    let (server, _) = troubled(200);
    let project = project(&server, "true", "limits: none", 5);
    let said = project.run(&["plan", "items", "--probe"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(server.heard().is_empty());
}

/// The values of a header in all requests for a prompt.
fn keys(server: &Server, of: usize) -> Vec<String> {
    let of_it = server.heard().into_iter().filter(|heard| id(heard) == of);
    of_it
        .map(|heard| {
            let line = heard.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("idempotency-key")
                    .then(|| value.to_owned())
            });
            line.expect("a key")
        })
        .collect()
}

#[test]
fn with_a_key_that_the_api_knows_a_repeat_is_the_same_request() {
    let (server, now) = troubled(500);
    let once = "{ key: Idempotency-Key }";
    let retry = "limits: none, retry: { attempts: 1 }";
    let project = project(&server, once, retry, 5);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(75), "{}", said.shown);
    now.store(200, Ordering::SeqCst);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(rows(&project).len(), 5);
    let keys: Vec<_> = (1..=5).map(|id| keys(&server, id)).collect();
    assert!(keys[2].len() >= 2 && keys[2].iter().all(|key| *key == keys[2][0]));
    let all: BTreeSet<_> = keys.iter().flatten().collect();
    assert_eq!(all.len(), 5, "each page has its own: {all:?}");
    assert!(all.iter().all(|key| key.len() == 36), "{all:?}");

    // Another run is another request.
    let before = keys[2][0].clone();
    project.run(&["run", "items", "-q"]);
    assert_ne!(self::keys(&server, 3).pop(), Some(before));
}

#[test]
fn an_api_that_is_still_at_work_on_the_first_is_asked_again() {
    let first = AtomicBool::new(true);
    let server = Server::start(move |request| {
        if first.swap(false, Ordering::SeqCst) {
            return Reply::new(409, r#"{"error":"a request with this key is under way"}"#);
        }
        answer(id(request))
    });
    let project = project(&server, "{ key: Idempotency-Key }", "limits: none", 1);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let keys = keys(&server, 1);
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
}

#[test]
fn what_was_paid_for_is_published_again_without_being_asked_for() {
    let (server, now) = troubled(200);
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let other = Server::start(move |_| {
        if is_broken.load(Ordering::SeqCst) {
            Reply::new(403, "no")
        } else {
            Reply::json("[]")
        }
    });
    let _ = now;
    let project = project(&server, "true", "limits: none", 5);
    let yaml = pipeline(&server, "true", "limits: none, allow_origins: [\"http://127.0.0.1:*\"]")
        .replace(
            "sink:",
            &format!("  zz: {{ get: \"{{{{ vars.other }}}}\", sink: {{ csv: zz.csv }} }}\nvars: {{ other: \"{}/x\" }}\nsink:", other.url()),
        )
        .replace("127.0.0.1:*", &other.address.to_string());
    project.write("pipelines/items.yaml", &yaml);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert_eq!(rows(&project).len(), 5, "{}", said.shown);
    // To another place than before: the records are here, whatever became of the file.
    std::fs::remove_file(project.path().join("data/items.csv")).expect("a file");
    broken.store(false, Ordering::SeqCst);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(rows(&project).len(), 5);
    assert_eq!(server.heard().len(), 5, "nothing is paid for twice");
}

#[test]
fn asked_to_stop_what_was_paid_for_is_waited_for() {
    let sec = Duration::from_secs(1);
    let data = Dataset::from_texts((1..=400).map(|id| format!(r#"{{"id":{id}}}"#)));
    let rules = Rules {
        routes: vec![Route::list(
            "/a",
            Listing::new(data, Paging::page_total("n")).size(10),
        )],
        latency: Latency::Fixed(50 * sec),
        ..Rules::default()
    };
    let yaml = "source: { url: https://api.test, limits: none, concurrency: 3 }
streams:
  a:
    get: /a
    once: true
    records: data
    pages: { page: { to: page, total: n } }
sink: { ndjson: out/a.ndjson }
";
    let ran = Scene::new(yaml, rules).stop_after(60 * sec).run();
    assert_eq!(ran.summary.exit, Exit::Interrupted);
    assert_eq!(
        ran.summary.took,
        100 * sec,
        "three in flight come to their end"
    );
    assert_eq!((ran.requests(), ran.stream("a").pages), (4, 4));
}

/// Prompts as records of another stream, which come in pages; the answers of 3 and 4 are lost.
fn children() -> (Server, Project) {
    let server = Server::start(move |request| {
        if request.starts_with("GET") {
            let page = usize::from(request.contains("page=2"));
            let next = if page == 0 {
                "\"/prompts?page=2\""
            } else {
                "null"
            };
            let id = |at: usize| at + 1 + 3 * page;
            return Reply::json(format!(
                r#"{{"data":[{{"id":{}}},{{"id":{}}},{{"id":{}}}],"next":{next}}}"#,
                id(0),
                id(1),
                id(2)
            ));
        }
        match id(request) {
            3 | 4 => Reply::new(502, "lost"),
            id => answer(id),
        }
    });
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 1 }}
streams:
  prompts: {{ get: /prompts, records: data, pages: {{ next: next }}, sink: {{ ndjson: prompts.ndjson }} }}
  items:
    for: {{ row: {{ stream: prompts }} }}
    post: /chat
    once: true
    body: {{ json: {{ content: \"prompt {{{{ row.id }}}}\" }} }}
    columns: {{ id: \"{{{{ row.id }}}}\", answer: choices.0.message.content, error: error.message }}
sink: {{ csv: data/items.csv }}
",
        server.url()
    ));
    (server, project)
}

fn paid(server: &Server) -> Vec<usize> {
    let heard = server.heard();
    let posts = heard.iter().filter(|heard| heard.starts_with("POST"));
    let mut paid: Vec<usize> = posts.map(|heard| id(heard)).collect();
    paid.sort_unstable();
    paid
}

#[test]
fn records_of_another_stream_are_known_again_by_what_they_ask() {
    let (server, project) = children();
    for _ in 0..3 {
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(1), "{}", said.shown);
        says(&said, "2 requests were sent");
        assert_eq!(paid(&server), [1, 2, 3, 4, 5, 6], "{}", said.shown);
    }
    let said = project.run(&["run", "items", "--unknown", "skip"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    assert_eq!(paid(&server).len(), 6);
    assert_eq!(rows(&project).into_keys().collect::<Vec<_>>(), [1, 2, 5, 6]);
}

/// A run of other streams that is complete leaves what is kept for later.
#[test]
fn what_was_paid_for_outlives_a_run_of_other_streams() {
    let server = Server::start(|request| {
        if request.starts_with("GET") {
            return Reply::json(r#"[{"id":9}]"#);
        }
        match id(request) {
            3 => Reply::new(502, "lost"),
            id => answer(id),
        }
    });
    let text = pipeline(&server, "true", "limits: none").replace(
        "sink: { csv: data/items.csv }",
        "  others: { get: /others }\nsink: { csv: \"data/{{ stream }}.csv\" }",
    );
    let project = Project::new(&text).knows(&server);
    project.write("prompts.csv", &prompts(5));
    let said = project.run(&["run", "items", "--stream", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "1 request was sent");
    let said = project.run(&["run", "items", "--stream", "others"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    says(
        &said,
        "of other streams was not finished; it stays for later",
    );
    let said = project.run(&["run", "items", "--stream", "items", "--unknown", "skip"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    assert_eq!(paid(&server), [1, 2, 3, 4, 5]);
    assert_eq!(rows(&project).into_keys().collect::<Vec<_>>(), [1, 2, 4, 5]);
    let runs = std::fs::read_dir(project.path().join(".gleaner/runs")).expect("a folder");
    assert_eq!(runs.count(), 0, "nothing is left that nobody needs");
}

#[test]
fn an_ordered_report_is_not_ordered_twice() {
    let ready = Arc::new(AtomicBool::new(false));
    let is_ready = Arc::clone(&ready);
    let server = Server::start(move |request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        if request.starts_with("POST") {
            let (_, day) = request.rsplit_once("\"day\":").expect("a day");
            let day = day.trim_end_matches('}');
            return Reply::json(format!(r#"{{"report":{{"id":{day}}}}}"#));
        }
        match target.strip_prefix("/reports/") {
            Some("2") if !is_ready.load(Ordering::SeqCst) => Reply::new(403, "not yet"),
            Some(id) => Reply::json(format!(r#"{{"file":"/files/{id}","id":{id}}}"#)),
            None => Reply::json(r#"[{"sku":1}]"#),
        }
    });
    let project = Project::new(
        &format!(
            "source: {{ url: \"{}\", limits: none }}
streams:
  orders:
    for: {{ day: [1, 2, 3] }}
    post: /reports
    once: true
    body: {{ json: {{ day: \"{{{{ day }}}}\" }} }}
    records: report
    sink: {{ ndjson: orders.ndjson }}
  ready:
    for: {{ order: {{ stream: orders }} }}
    get: /reports/{{{{ order.id }}}}
    sink: {{ ndjson: ready.ndjson }}
  sales:
    for: {{ file: {{ stream: ready }} }}
    get: \"{{{{ file.file | path }}}}\"
    sink: {{ csv: data/items.csv }}
sink: {{ csv: none.csv }}
",
            server.url()
        )
        .replace(
            "get: \"{{ file.file | path }}\"",
            "get: /files/{{ file.id }}",
        ),
    );
    let ordered = || {
        let heard = server.heard();
        heard
            .iter()
            .filter(|heard| heard.starts_with("POST"))
            .count()
    };
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert_eq!(ordered(), 3, "{}", said.shown);
    let said = project.run(&["run", "items"]);
    assert_eq!((said.code, ordered()), (Some(1), 3), "{}", said.shown);
    ready.store(true, Ordering::SeqCst);
    let said = project.run(&["run", "items"]);
    assert_eq!((said.code, ordered()), (Some(0), 3), "{}", said.shown);
}

#[test]
fn an_answer_that_cannot_be_read_is_kept_and_read_when_the_file_is_mended() {
    // 204 stands for a success that is not where `records` looks, 205 for one that is no data.
    for status in [204, 205] {
        let (server, _) = troubled(status);
        let text = pipeline(&server, "true", "limits: none");
        let text = text.replace("    key: id\n", "    records: choices\n    key: id\n");
        let text = text.replace("choices.0.message", "message");
        let project = Project::new(&text).knows(&server);
        project.write("prompts.csv", &prompts(5));
        for _ in 0..2 {
            let said = project.run(&["run", "items"]);
            assert_eq!(said.code, Some(1), "{}", said.shown);
            says(&said, "1 answer came that cannot be read");
            says(&said, "is not asked for again");
            says(&said, "--unknown resend");
            assert_eq!(
                server.heard().len(),
                5,
                "the others go on, and nothing is sent again"
            );
            assert_eq!(named(&project), BTreeSet::new(), "all answers are here");
            project.is_untouched();
        }
        if status == 204 {
            // All answers are read in the new way, those that were read before too.
            let mended = text.replace(
                "records: choices",
                "records: { jq: '(.choices // [.said])[]' }",
            );
            project.write("pipelines/items.yaml", &mended);
            let said = project.run(&["run", "items"]);
            assert_eq!(said.code, Some(0), "{}", said.shown);
            assert_eq!(server.heard().len(), 5, "nothing is paid for twice");
            let wanted = [1, 2, 3, 4, 5].map(|id| match id {
                3 => (3, "late,".to_owned()),
                id => (id, format!("answer {id},")),
            });
            assert_eq!(rows(&project), BTreeMap::from(wanted));
        } else {
            // Nobody can read that one: a person decides.
            let skip = project.run(&["run", "items", "--unknown", "skip"]);
            assert_eq!(skip.code, Some(3), "{}", skip.shown);
            says(&skip, "it is published without");
            assert_eq!(server.heard().len(), 5);
        }
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_asked_for_again_when_a_person_says_so() {
    let (server, now) = troubled(205);
    let project = project(&server, "true", "limits: none", 5);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    now.store(200, Ordering::SeqCst);
    let said = project.run(&["run", "items", "--unknown", "resend"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(server.heard().len(), 6, "that one, and no other");
    assert_eq!(rows(&project).len(), 5);
}
