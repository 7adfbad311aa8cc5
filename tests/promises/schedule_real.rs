//! The program itself keeps a schedule and is killed at random moments: every planned time has its run,
//! and one only. Times come from the state, as an earlier night has left it, and not from a clock.
//!
//! `GLEANER_KILL_ROUNDS` says how often.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::plan::cron::Cron;
use gleaner::sim::{
    Dataset, Fault, FaultRule, Listing, Paging, Route, Rules, Server, ServerLimit, SimApi,
};
use gleaner::store::firings::{FiringStatus, Mark};
use gleaner::store::history::Status;
use gleaner::store::run::kept;
use gleaner::store::state::State;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::gate::Gate;
use super::real_time::{millis, pass, until, until_or_end};
use super::scene::{self, Project, Reply};

/// Rounds of the usual tests.
const ROUNDS: u64 = 20;

/// Years pass between two times, so none comes while the test runs but on New Year's Eve.
const CRON: &str = "0 0 1 1 *";

/// Times up to this one are settled: those of 2024 and 2025 and 2026 were missed.
const SETTLED: &str = "2023-06-01T00:00:00Z";

fn state(project: &Project) -> State {
    State::open(&Disk::system(), project.path()).expect("a state")
}

/// As an earlier scheduler has left it.
fn settled(project: &Project, pipeline: &str, cron: &str, until: Timestamp) {
    let mark = Mark {
        pipeline: pipeline.to_owned(),
        schedule: format!("{cron} UTC"),
        until,
    };
    state(project).settle(&mark, &[]).expect("written");
}

/// Times of these pipelines have passed, and nothing is known of what came of them.
pub(super) fn passed(project: &Project, pipelines: &[&str]) {
    for name in pipelines {
        settled(project, name, CRON, SETTLED.parse().expect("a moment"));
        let path = project.path().join(".gleaner/state.db");
        let state = rusqlite::Connection::open(path).expect("a state");
        state
            .execute("DELETE FROM firings WHERE pipeline = ?1", [name])
            .expect("forgotten");
    }
}

/// All planned times that have passed since.
fn missed() -> Vec<Timestamp> {
    let cron = Cron::parse(CRON).expect("a cron");
    let settled: Timestamp = SETTLED.parse().expect("a moment");
    let next = |at: &Timestamp| cron.next(*at, &TimeZone::UTC);
    let now = Clock::system().calendar();
    let times = std::iter::successors(next(&settled), next);
    times.take_while(|at| *at <= now).collect()
}

/// A server of eighty records in pages of ten, each a moment late. Pages from one on are held back for as long as
/// somebody wants that.
struct Slow {
    server: scene::Server,
    gate: Arc<(Mutex<Held>, Condvar)>,
}

/// What is held back.
struct Held {
    /// The first of the pages.
    from: usize,
    /// How many requests have come for them since that was said.
    count: usize,
}

impl Slow {
    fn start() -> Self {
        let held = Held {
            from: usize::MAX,
            count: 0,
        };
        let gate = Arc::new((Mutex::new(held), Condvar::new()));
        let (holds, dice) = (Arc::clone(&gate), Mutex::new(fastrand::Rng::with_seed(3)));
        let server = scene::Server::start(move |request| {
            let page = page_of(request);
            let late = dice.lock().expect("dice").u64(0..=8);
            pass(Duration::from_millis(late));
            let (held, changed) = &*holds;
            let mut held = held.lock().expect("no panic");
            held.count += usize::from(page >= held.from);
            drop(changed.wait_while(held, |held| page >= held.from));
            let ids: Vec<String> = ((page - 1) * 10 + 1..=page * 10)
                .map(|id| format!(r#"{{"id":{id}}}"#))
                .collect();
            scene::Reply::json(format!(r#"{{"data":[{}],"n":80}}"#, ids.join(",")))
        });
        Self { server, gate }
    }

    fn hold_from(&self, page: usize) {
        let mut held = self.gate.0.lock().expect("no panic");
        (held.from, held.count) = (page, 0);
    }

    fn let_go(&self) {
        self.hold_from(usize::MAX);
        self.gate.1.notify_all();
    }

    fn holds_any(&self) -> bool {
        self.gate.0.lock().expect("no panic").count > 0
    }

    /// The pages that were asked for, in the order in which they were.
    fn pages(&self) -> Vec<usize> {
        let heard = self.server.heard();
        heard.iter().map(|request| page_of(request)).collect()
    }

    /// How often the first page was asked for.
    fn first_pages(&self) -> usize {
        self.pages().iter().filter(|page| **page == 1).count()
    }
}

fn outputs(project: &Project) -> Vec<usize> {
    let Ok(entries) = std::fs::read_dir(project.path().join("out")) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with('.'))
        })
        .map(|path| {
            std::fs::read_to_string(path)
                .expect("readable")
                .lines()
                .count()
        })
        .collect()
}

/// Whether a run that is not over keeps a page.
fn keeps_a_page(project: &Project) -> bool {
    let Ok(runs) = std::fs::read_dir(project.path().join(".gleaner/runs")) else {
        return false;
    };
    let names = runs.map(|run| run.expect("an entry").file_name());
    let mut names = names.map(|name| name.to_string_lossy().into_owned());
    names.any(|id| {
        let kept = kept(&Disk::system(), project.path(), &id);
        kept.expect("readable").pages > 0
    })
}

/// Kills a schedule in the middle of a run that keeps pages and waits for more, for the server holds those back
/// meanwhile; or when nothing is left to be done. Whether it was killed.
fn killed_in_a_run(mut child: Child, project: &Project, slow: &Slow) -> bool {
    let is_done = || outputs(project).len() >= missed().len();
    let is_alive = until_or_end(&mut child, "a run that keeps pages", || {
        slow.holds_any() && keeps_a_page(project) || is_done()
    });
    child.kill().expect("a kill");
    slow.let_go();
    !child.wait().expect("an end").success() && is_alive
}

/// Kills it after some time; whether it was killed.
fn killed_after(mut child: Child, life: Duration) -> bool {
    pass(life);
    child.kill().expect("a kill");
    !child.wait().expect("an end").success()
}

#[test]
fn a_schedule_that_is_killed_at_any_moment_runs_each_time_once() {
    let slow = Slow::start();
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 4 }}\n\
         streams: {{ items: {{ get: /items, query: {{ per_page: 10 }}, records: data, pages: {{ page: {{ to: page, size: per_page, total: n }} }}, key: id }} }}\n\
         sink: {{ ndjson: out/, mode: append }}\n\
         schedule: {{ cron: \"{CRON}\", missed: all }}\n",
        slow.server.url()
    );
    let waiting = || {
        let project = Project::new(&pipeline);
        settled(&project, "items", CRON, SETTLED.parse().expect("a moment"));
        project
    };
    // A machine that is busy needs longer, and all of it is to be cut off somewhere.
    let clock = Clock::system();
    let began = clock.now();
    let said = waiting().run(&["schedule", "--once"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let took = millis(clock.now().duration_since(began));
    let rounds = std::env::var("GLEANER_KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |n| n.parse().expect("a number of rounds"));
    let (mut kills, mut cut_off, mut gone_on_with) = (0, 0, 0);
    for seed in 0..rounds {
        let asked_before = slow.first_pages();
        // What runs kept that a kill has cut off, and how many of those cuts came before a page was there.
        let mut cut = BTreeMap::new();
        let mut empty = 0;
        let mut dice = fastrand::Rng::with_seed(seed);
        let project = waiting();
        // In each second round the first kills are those that certainly come in the middle of a run.
        let in_a_run = [[true, true, false, false], [false, true, false, true]];
        for in_a_run in in_a_run[usize::from(seed % 2 == 1)] {
            if in_a_run {
                slow.hold_from(dice.usize(2..=8));
            }
            // The daemon never ends by itself: a kill is all that ends it here.
            let args: &[&str] =
                [&["schedule", "-q"][..], &["schedule", "--once", "-q"][..]][dice.usize(..2)];
            let child = project
                .command(args)
                .stderr(Stdio::null())
                .spawn()
                .expect("starts");
            let is_killed = if in_a_run {
                killed_in_a_run(child, &project, &slow)
            } else {
                killed_after(child, Duration::from_millis(dice.u64(1..=took)))
            };
            kills += u64::from(is_killed);
            cut_off += state(&project).firings_open().expect("readable").len();
            let runs = state(&project).runs(Some("items")).expect("readable");
            for run in runs.into_iter().filter(|run| run.status.is_open()) {
                let kept = kept(&Disk::system(), project.path(), &run.id).expect("readable");
                empty += usize::from(kept.pages == 0);
                cut.insert(run.id, kept.pages);
            }
        }
        let said = project.run(&["schedule", "--once"]);
        assert_eq!(said.code, Some(0), "seed {seed}: {}", said.shown);
        let firings = state(&project).firings("items").expect("readable");
        let times: Vec<Timestamp> = firings.iter().map(|firing| firing.at).collect();
        assert_eq!(times, missed(), "seed {seed}");
        for firing in &firings {
            assert_eq!(firing.status, FiringStatus::Done, "seed {seed}: {firing:?}");
            assert_eq!(firing.exit, Some(0), "seed {seed}: {firing:?}");
        }
        let runs = state(&project).runs(Some("items")).expect("readable");
        let complete = runs.iter().filter(|run| run.status == Status::Complete);
        assert_eq!(complete.count(), times.len(), "seed {seed}: {runs:#?}");
        // Each time has one run, whoever worked on it: none that keeps anything was given up for another.
        for run in &runs {
            let kept = cut.get(&run.id).copied().unwrap_or_default();
            gone_on_with += usize::from(kept > 0 && run.attempts > 1);
            assert!(
                run.status == Status::Complete || run.status == Status::Discarded && kept == 0,
                "seed {seed}: {kept} pages of {run:#?}"
            );
        }
        for id in cut.keys() {
            let is_there = runs.iter().any(|run| run.id == *id);
            assert!(is_there, "seed {seed}: {id} is lost: {runs:#?}");
        }
        // The first page is what all others wait for: a run that has it does not ask for it again.
        let asked = slow.first_pages() - asked_before;
        assert!(
            asked <= times.len() + empty,
            "seed {seed}: {asked} first pages, {empty} cuts before one: {runs:#?}"
        );
        assert_eq!(outputs(&project), vec![80; times.len()], "seed {seed}");
    }
    // Else nothing was tried. What comes in the middle of a run is two kills of each second round, whatever the machine.
    assert!(kills >= rounds, "{kills} kills");
    assert!(cut_off > 0, "no kill left a time open");
    assert!(gone_on_with > 0, "no run was gone on with");
}

/// What was committed is not asked for again, and no row comes twice: at a point that is known.
#[test]
fn a_run_that_a_kill_cut_off_goes_on_where_it_was() {
    let gate = Gate::new(|request| {
        let page = page_of(request);
        Reply::json(format!(r#"{{"data":[{{"id":{page}}}],"n":4}}"#))
    });
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 1 }}\n\
         streams: {{ items: {{ get: /items, query: {{ per_page: 1 }}, records: data, pages: {{ page: {{ to: page, size: per_page, total: n }} }}, key: id }} }}\n\
         sink: {{ ndjson: out/, mode: append }}\n\
         schedule: {{ cron: \"{CRON}\" }}\n",
        gate.server.url()
    );
    let project = Project::new(&pipeline);
    passed(&project, &["items"]);
    let mut daemon = project
        .command(&["schedule", "-q"])
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    // It waits for the second page, and the first is on the disk.
    until("the second page is asked for", || {
        gate.server.heard().len() >= 2
    });
    let cut = state(&project).runs(Some("items")).expect("readable");
    assert_eq!(cut.len(), 1, "{cut:#?}");
    let pages = || kept(&Disk::system(), project.path(), &cut[0].id).map(|sums| sums.pages);
    until("the first page is on the disk", || {
        pages().expect("readable") > 0
    });
    daemon.kill().expect("a kill");
    daemon.wait().expect("an end");
    gate.let_go();
    let said = project.run(&["schedule", "--once"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let runs = state(&project).runs(Some("items")).expect("readable");
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!(runs[0].id, cut[0].id, "it is the same run");
    assert_eq!((runs[0].status, runs[0].attempts), (Status::Complete, 2));
    let pages: Vec<usize> = (gate.server.heard().iter())
        .map(|request| page_of(request))
        .collect();
    assert_eq!(pages, [1, 2, 2, 3, 4], "what came is not asked for again");
    assert_eq!(outputs(&project), [4]);
}

/// Of the planned times of a night, which have passed: the runs of three nights stand for three such lines.
const NIGHTS: [&str; 3] = ["0 0 1 1 *", "0 0 2 1 *", "0 0 3 1 *"];

/// Eleven files: five pipelines for each of two keys, one of which asks a server that hangs, and
/// one that is broken. All tell one receiver, the broken one too.
fn night(project: &Project, which: usize, server: &Server, hung: &scene::Server, hook: &str) {
    let cron = NIGHTS[which];
    let write = |name: &str, url: &str, path: &str, key: &str, more: &str| {
        project.write(
            &format!("pipelines/{name}.yaml"),
            &format!(
                "source:\n  url: \"{url}\"\n  auth: {{ bearer: \"{{{{ secret.{key} }}}}\" }}\n  limits: [20/s]\n\
                 streams: {{ items: {{ get: {path}, query: {{ per_page: 10 }}, records: data, pages: {{ page: {{ to: page, size: per_page, total: n }} }}, key: id }} }}\n\
                 sink: {{ ndjson: \"out/{name}.ndjson\" }}\n\
                 schedule: {{ cron: \"{cron}\", on_failure: {{ webhook: \"{hook}/told/{name}\" }}, ping: \"{hook}/ping/{name}\"{more} }}\n"
            ),
        );
        settled(project, name, cron, SETTLED.parse().expect("a moment"));
    };
    for n in 0..9 {
        let (key, under) = [("KEY_A", "a"), ("KEY_B", "b")][n % 2];
        write(
            &format!("p{n}"),
            &server.url(),
            &format!("/{under}/p{n}"),
            key,
            "",
        );
    }
    // Nights that it hangs end with their time; the last one has all that a busy machine needs.
    let deadline = [", deadline: 15s", ", deadline: 15s", ", deadline: 10min"][which];
    write("hung", &hung.url(), "/hung", "KEY_B", deadline);
    project.write(
        "pipelines/broken.yaml",
        &format!(
            "source: {{ url: \"{}\", limits: [20/s] }}\nstreams: {{ items: {{ gte: /a/p0 }} }}\nsink: {{ ndjson: \"out/broken.ndjson\" }}\n\
             schedule: {{ cron: \"{cron}\", on_failure: {{ webhook: \"{hook}/told/broken\" }} }}\n",
            server.url()
        ),
    );
}

fn page_of(request: &str) -> usize {
    let target = request.split(' ').nth(1).expect("a target");
    let page = target
        .split(['?', '&'])
        .find_map(|part| part.strip_prefix("page="));
    page.expect("a page").parse().expect("a number")
}

/// The targets of requests for something, without it.
fn asked(server: &scene::Server, below: &str) -> Vec<String> {
    let heard = server.heard().into_iter();
    let targets = heard.filter_map(|request| request.split(' ').nth(1).map(str::to_owned));
    targets
        .filter_map(|target| target.strip_prefix(below).map(str::to_owned))
        .collect()
}

#[test]
fn three_nights_of_ten_pipelines_come_to_their_end_though_one_hangs_and_one_file_is_broken() {
    let second = Duration::from_secs(1);
    let of_key = |under: &str| ServerLimit {
        under: Some(under.to_owned()),
        ..ServerLimit::sliding(20, second)
    };
    let routes = (0..9).map(|n| {
        let records = Dataset::from_texts((1..=80).map(|id| format!(r#"{{"id":{id}}}"#)));
        let listing = Listing::new(records, Paging::page_total("n")).size(10);
        Route::list(&format!("/{}/p{n}", ["a", "b"][n % 2]), listing)
    });
    let rules = Rules {
        routes: routes.collect(),
        limits: vec![of_key("/a/"), of_key("/b/")],
        faults: vec![
            FaultRule::nth(4, Fault::status(503)),
            FaultRule::nth(9, Fault::Reset),
            FaultRule::nth(15, Fault::TruncatedBody),
            FaultRule::nth(27, Fault::status(503)),
        ],
        ..Rules::default()
    };
    let server = Server::start_on_own_thread(SimApi::new(rules)).expect("a port");
    let hung = Slow::start();
    hung.hold_from(3);
    let hook = scene::Server::says(scene::Reply::new(200, "ok"));
    let project = Project::new("");
    std::fs::remove_file(project.path().join("pipelines/items.yaml")).expect("removed");
    let state_folder = project.path().join("state").display().to_string();
    let env = [
        ("KEY_A", "secret-of-a"),
        ("KEY_B", "secret-of-b"),
        ("GLEANER_STATE_DIR", state_folder.as_str()),
    ];
    let keep = |which: usize| {
        night(&project, which, &server, &hung.server, &hook.url());
        let args = ["schedule", "--once", "--parallel", "10", "--log", "human"];
        let said = project.run_with(&args, &env);
        // The worst of the night is the broken file, and it is told once.
        assert_eq!(said.code, Some(4), "{}", said.shown);
        assert_eq!(
            said.stderr.matches("broken file:").count(),
            1,
            "{}",
            said.stderr
        );
        said
    };
    let exits = |name: &str| -> Vec<Option<u8>> {
        let firings = state(&project).firings(name).expect("readable");
        firings.iter().map(|firing| firing.exit).collect()
    };

    let said = keep(0);
    for n in 0..9 {
        let name = format!("p{n}");
        assert_eq!(exits(&name), [Some(0)], "{name}: {}", said.shown);
        let file = project.path().join(format!("out/{name}.ndjson"));
        let rows = std::fs::read_to_string(file).expect("an output");
        assert_eq!(rows.lines().count(), 80, "{name}");
    }
    assert_eq!(exits("hung"), [Some(75)], "{}", said.shown);
    assert!(
        said.stderr.contains("not complete by its deadline of 15s"),
        "{}",
        said.stderr
    );
    assert!(
        !project.path().join("out/hung.ndjson").exists(),
        "whole or not at all"
    );
    let mut pages = hung.pages();
    let first = pages.len();
    pages.sort_unstable();
    assert!(pages.starts_with(&[1, 2, 3]), "{pages:?}");

    // What both keys were allowed, each for itself, by the server's own account; and neither waited for the other.
    let audit = server.api().audit();
    assert_eq!(audit.refusals(), 0, "the server refused");
    for under in ["/a/", "/b/"] {
        let most = audit.max_in_window_under(under, second);
        assert!(most <= 20, "{under}: {most}");
    }
    let entries = audit.entries();
    let mut of_b = entries.iter().filter(|one| one.target.starts_with("/b/"));
    let mut of_a = entries.iter().filter(|one| one.target.starts_with("/a/"));
    let (of_b, of_a) = (of_b.next().expect("one"), of_a.next_back().expect("one"));
    assert!(of_b.at < of_a.at, "one key waited for the other");
    assert!(audit.faults() >= 4, "nothing went wrong");

    // Told once, of the one that hangs and of the broken file; and all that are awaited have given a sign.
    let mut told = asked(&hook, "/told/");
    told.sort();
    assert_eq!(told, ["broken", "hung"]);
    let events_of = |name: &str| -> Vec<String> {
        let place = format!(" /told/{name} ");
        let told = hook
            .heard()
            .into_iter()
            .filter(|request| request.contains(&place));
        told.map(|request| {
            let body = request.split("\r\n\r\n").nth(1).expect("a body");
            for secret in ["secret-of-a", "secret-of-b"] {
                assert!(!request.contains(secret), "{request}");
            }
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            body["event"].as_str().expect("an event").to_owned()
        })
        .collect()
    };
    let events = || events_of("hung");
    assert_eq!(events(), ["unfinished"]);
    let mut pings = asked(&hook, "/ping/");
    pings.sort();
    let mut wanted: Vec<String> = (0..9)
        .flat_map(|n| [format!("p{n}"), format!("p{n}/start")])
        .chain(["hung/fail".to_owned(), "hung/start".to_owned()])
        .collect();
    wanted.sort();
    assert_eq!(pings, wanted);

    // It hangs the second night too, which is no news; only what is missing is asked for.
    keep(1);
    assert_eq!(exits("hung"), [Some(75), Some(75)]);
    let again = hung.pages().split_off(first);
    assert!(
        !again.is_empty() && again.iter().all(|page| *page >= 3),
        "{again:?}"
    );
    assert_eq!(events(), ["unfinished"]);

    // The third night it answers: the same run goes on to its end, and that is told once.
    let second_night = hung.pages().len();
    hung.let_go();
    keep(2);
    assert_eq!(exits("hung"), [Some(75), Some(75), Some(0)]);
    let mut last = hung.pages().split_off(second_night);
    last.sort_unstable();
    assert_eq!(
        last,
        [3, 4, 5, 6, 7, 8],
        "what came before is not asked for again"
    );
    let rows = std::fs::read_to_string(project.path().join("out/hung.ndjson")).expect("an output");
    assert_eq!(rows.lines().count(), 80);
    let runs = state(&project).runs(Some("hung")).expect("readable");
    assert_eq!((runs.len(), runs[0].attempts), (1, 3), "{runs:#?}");
    assert_eq!(events(), ["unfinished", "recovered"]);
    assert_eq!(events_of("broken"), ["broken"], "once in three nights");
    assert_eq!(audit.refusals(), 0, "the server refused");
    for under in ["/a/", "/b/"] {
        assert!(audit.max_in_window_under(under, second) <= 20, "{under}");
    }
}

#[test]
fn the_daemon_tells_its_manager_and_stops_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&place).expect("a socket");
    let project = Project::new(
        "source: { url: \"http://127.0.0.1:9\", limits: none }\nstreams: { items: { get: /x } }\nsink: { csv: out.csv }\nschedule: { cron: \"0 0 1 1 *\" }\n",
    );
    let mut child = project
        .command(&["schedule", "--log", "human"])
        .env("NOTIFY_SOCKET", &place)
        .env("WATCHDOG_USEC", "2000000")
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut heard = String::new();
    let mut hear_until = |word: &str| {
        while !heard.contains(word) {
            let mut bytes = [0; 1024];
            let len = socket.recv(&mut bytes).expect("a word");
            heard.push_str(&String::from_utf8_lossy(&bytes[..len]));
            heard.push('\n');
        }
        std::mem::take(&mut heard)
    };
    hear_until("READY=1");
    let status = hear_until("STATUS=");
    assert!(status.contains("1 scheduled, 0 under way"), "{status}");
    hear_until("WATCHDOG=1");
    // A second one is turned away.
    let second = project.run(&["schedule", "--once"]);
    assert_eq!(second.code, Some(77), "{}", second.shown);
    // A file that breaks is told of, and the manager hears of the reading.
    project.write("pipelines/items.yaml", "source: [");
    hear_until("RELOADING=1");
    hear_until("1 broken (items)");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let broken = lines.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("broken file:"))
    });
    let broken = broken.expect("it is told").expect("text");
    assert!(
        broken.contains("what stood in it before stays in force"),
        "{broken}"
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    hear_until("STOPPING=1");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn the_unit_is_shown_before_it_is_written_and_systemd_accepts_it() {
    let project = Project::new(
        "source: { url: \"http://127.0.0.1:9\", limits: none }\nstreams: { items: { get: /x } }\nsink: { csv: out.csv }\nschedule: { cron: \"@daily\" }\n",
    );
    let config = project.path().join("settings of me");
    let units = config.join("systemd/user");
    let config = config.display().to_string();
    let env = [
        ("XDG_CONFIG_HOME", config.as_str()),
        ("GLEANER_STATE_DIR", "/tmp/100% \"mine\""),
    ];
    let asked = project.run_with(&["schedule", "install"], &env);
    assert_eq!(asked.code, Some(2), "{}", asked.shown);
    assert!(
        asked.stderr.contains("ExecStart="),
        "it is shown: {}",
        asked.shown
    );
    assert!(!units.exists(), "nobody said yes");
    let said = project.run_with(&["schedule", "install", "--yes"], &env);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let mut written = std::fs::read_dir(&units).expect("a folder");
    let unit = written.next().expect("a unit").expect("an entry").path();
    let system = project.run_with(
        &[
            "schedule", "install", "--system", "--user", "www-data", "--show",
        ],
        &env,
    );
    assert_eq!(system.code, Some(0), "{}", system.shown);
    let machines = project.path().join("gleaner-machine.service");
    std::fs::write(&machines, &system.stdout).expect("written");
    for (whose, unit) in [("--user", &unit), ("--system", &machines)] {
        let verified = verify(whose, unit);
        assert!(verified.is_empty(), "{whose}: {verified}");
    }
    let text = std::fs::read_to_string(&unit).expect("readable");
    // A project elsewhere whose folder has the same name keeps its unit.
    let place = |line: &&str| line.starts_with("WorkingDirectory=");
    let ours = text.lines().find(place).expect("a place");
    let other = tempfile::tempdir().expect("a folder");
    let elsewhere = other.path().display().to_string();
    let theirs = text.replace(ours, &format!("WorkingDirectory={elsewhere}"));
    std::fs::write(&unit, theirs).expect("written");
    let pipelines = other.path().join("pipelines");
    std::fs::create_dir(&pipelines).expect("a folder");
    let refused = project.run_with(&["schedule", "install", "--yes"], &env);
    assert_eq!(refused.code, Some(2), "{}", refused.shown);
    let why = format!("keeps another project: {elsewhere}");
    assert!(refused.stderr.contains(&why), "{}", refused.shown);
    // Where none is any more, ours was moved from there: the old unit is shown, and the new one takes its place.
    std::fs::remove_dir(&pipelines).expect("removed");
    let asked = project.run_with(&["schedule", "install"], &env);
    assert_eq!(asked.code, Some(2), "{}", asked.shown);
    assert!(asked.stderr.contains(&elsewhere), "{}", asked.shown);
    let said = project.run_with(&["schedule", "install", "--yes"], &env);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(std::fs::read_to_string(&unit).expect("readable"), text);
    // What the check is worth: a directive that is none is found.
    std::fs::write(&machines, text.replace("Type=notify", "Type=notifies")).expect("written");
    assert!(!verify("--system", &machines).is_empty());
}

/// What systemd has against a unit.
fn verify(whose: &str, unit: &std::path::Path) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("systemd-analyze")
        .args([whose, "verify", "--man=no", "--recursive-errors=no"])
        .arg(unit)
        .env("XDG_RUNTIME_DIR", folder.path())
        .output()
        .expect("systemd-analyze is there: `tests/run` installs systemd");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = unit
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let own: Vec<&str> = told.lines().filter(|line| line.contains(&name)).collect();
    match (own.is_empty(), output.status.success()) {
        (true, true) => String::new(),
        _ => told,
    }
}

#[test]
fn two_files_of_one_name_are_a_mistake_and_told_once() {
    let text = "source: { url: \"http://127.0.0.1:9\", limits: none }\nstreams: { items: { get: /x } }\nsink: { csv: out.csv }\nschedule: { cron: \"0 0 1 1 *\" }\n";
    let project = Project::new(text);
    project.write("pipelines/items.yml", text);
    let both = "items.yaml and items.yml both are the pipeline `items`";
    for args in [&["check"][..], &["check", "items"], &["run", "items"]] {
        let said = project.run(args);
        assert_eq!(said.code, Some(4), "{}", said.shown);
        assert!(said.shown.contains(both), "{}", said.shown);
    }
    let said = project.run(&["schedule", "--once", "--log", "human"]);
    assert_eq!(said.code, Some(4), "{}", said.shown);
    assert_eq!(said.stderr.matches(both).count(), 1, "{}", said.stderr);
    std::fs::remove_file(project.path().join("pipelines/items.yml")).expect("removed");
    assert_eq!(project.run(&["check"]).code, Some(0));
}
