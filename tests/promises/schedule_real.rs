//! The program itself keeps a schedule and is killed at random moments: every planned time has its run,
//! and one only. Times come from the state, as an earlier night has left it, and not from a clock.
//!
//! `GLEANER_KILL_ROUNDS` says how often.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::plan::cron::Cron;
use gleaner::sim::{
    Dataset, Fault, FaultRule, Latency, Listing, Paging, Route, Rules, Server, ServerLimit, SimApi,
};
use gleaner::store::firings::{Firing, FiringStatus, Mark};
use gleaner::store::history::Status;
use gleaner::store::state::State;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::scene::Project;

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

/// All planned times that have passed since.
fn missed() -> Vec<Timestamp> {
    let cron = Cron::parse(CRON).expect("a cron");
    let settled: Timestamp = SETTLED.parse().expect("a moment");
    let next = |at: &Timestamp| cron.next(*at, &TimeZone::UTC);
    let now = Clock::system().calendar();
    let times = std::iter::successors(next(&settled), next);
    times.take_while(|at| *at <= now).collect()
}

fn records(count: usize) -> Dataset {
    Dataset::from_texts((1..=count).map(|id| format!(r#"{{"id":{id}}}"#)))
}

fn api() -> Rules {
    Rules {
        routes: vec![Route::list(
            "/items",
            Listing::new(records(120), Paging::page_total("n")).size(10),
        )],
        latency: Latency::Between(Duration::ZERO, Duration::from_millis(8), 3),
        ..Rules::default()
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

#[expect(
    clippy::disallowed_methods,
    reason = "a kill comes in real time: this waits for nothing"
)]
fn killed_after(mut child: Child, life: Duration) -> bool {
    std::thread::sleep(life);
    child.kill().expect("a kill");
    child.wait().expect("an end").success()
}

#[test]
fn a_schedule_that_is_killed_at_any_moment_runs_each_time_once() {
    let server = Server::start_on_own_thread(SimApi::new(api())).expect("a port");
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 4 }}\n\
         streams: {{ items: {{ get: /items, query: {{ per_page: 10 }}, records: data, pages: {{ page: {{ to: page, size: per_page, total: n }} }}, key: id }} }}\n\
         sink: {{ ndjson: out/, mode: append }}\n\
         schedule: {{ cron: \"{CRON}\", missed: all }}\n",
        server.url()
    );
    let rounds = std::env::var("GLEANER_KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |n| n.parse().expect("a number of rounds"));
    let rounds = rounds.min(200);
    let (mut kills, mut cut_off) = (0, 0);
    for seed in 0..rounds {
        let mut dice = fastrand::Rng::with_seed(seed);
        let project = Project::new(&pipeline);
        settled(&project, "items", CRON, SETTLED.parse().expect("a moment"));
        for _ in 0..4 {
            // The daemon never ends by itself: a kill is all that ends it here.
            let args: &[&str] =
                [&["schedule", "-q"][..], &["schedule", "--once", "-q"][..]][dice.usize(..2)];
            let child = project
                .command(args)
                .stderr(Stdio::null())
                .spawn()
                .expect("starts");
            kills += u64::from(!killed_after(
                child,
                Duration::from_millis(dice.u64(1..400)),
            ));
            cut_off += state(&project).firings_open().expect("readable").len();
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
        assert_eq!(outputs(&project), vec![120; times.len()], "seed {seed}");
    }
    // Else nothing was tried.
    assert!(kills > rounds, "{kills} kills");
    assert!(cut_off > 0, "no kill left a time open");
}

/// Eleven files: five pipelines for each of two keys, one of which asks a server that never answers, and
/// one that is broken.
fn night(project: &Project, servers: [&Server; 2], hung: &Server) {
    let write = |name: &str, url: &str, key: &str, more: &str| {
        project.write(
            &format!("pipelines/{name}.yaml"),
            &format!(
                "source:\n  url: \"{url}\"\n  auth: {{ bearer: \"{{{{ secret.{key} }}}}\" }}\n  limits: [20/s]\n\
                 streams: {{ items: {{ get: /{name}, query: {{ per_page: 10 }}, records: data, pages: {{ page: {{ to: page, size: per_page, total: n }} }}, key: id }} }}\n\
                 sink: {{ ndjson: \"out/{name}.ndjson\" }}\n\
                 schedule: {{ cron: \"{CRON}\"{more} }}\n"
            ),
        );
        settled(project, name, CRON, SETTLED.parse().expect("a moment"));
    };
    for n in 0..9 {
        let which = n % 2;
        write(
            &format!("p{n}"),
            &servers[which].url(),
            ["KEY_A", "KEY_B"][which],
            "",
        );
    }
    write("hung", &hung.url(), "KEY_B", ", deadline: 3s");
    project.write("pipelines/broken.yaml", "source: { url: 7\n");
    std::fs::remove_file(project.path().join("pipelines/items.yaml")).expect("removed");
}

#[test]
fn a_night_of_ten_pipelines_comes_to_its_end_though_one_hangs_and_one_file_is_broken() {
    let limit = ServerLimit::sliding(20, Duration::from_secs(1));
    let start = |of: [usize; 5]| {
        let routes = of.into_iter().map(|n| {
            let listing = Listing::new(records(80), Paging::page_total("n")).size(10);
            Route::list(&format!("/p{n}"), listing)
        });
        let rules = Rules {
            routes: routes.collect(),
            limits: vec![limit.clone()],
            faults: vec![
                FaultRule::nth(4, Fault::status(503)),
                FaultRule::nth(9, Fault::Reset),
                FaultRule::nth(15, Fault::TruncatedBody),
            ],
            ..Rules::default()
        };
        Server::start_on_own_thread(SimApi::new(rules)).expect("a port")
    };
    let (one, two) = (start([0, 2, 4, 6, 8]), start([1, 3, 5, 7, 9]));
    let hung = Rules {
        routes: vec![Route::list(
            "/hung",
            Listing::new(records(9), Paging::page_total("n")),
        )],
        faults: vec![FaultRule::always("/hung", Fault::Stall)],
        ..Rules::default()
    };
    let hung = Server::start_on_own_thread(SimApi::new(hung)).expect("a port");
    let project = Project::new("");
    night(&project, [&one, &two], &hung);
    let state_folder = project.path().join("state").display().to_string();
    let env = [
        ("KEY_A", "secret-of-a"),
        ("KEY_B", "secret-of-b"),
        ("GLEANER_STATE_DIR", state_folder.as_str()),
    ];
    let said = project.run_with(&["schedule", "--once", "--parallel", "10"], &env);
    // The worst of the night is the broken file, and it is told once.
    assert_eq!(said.code, Some(4), "{}", said.shown);
    assert_eq!(
        said.stderr.matches("broken file:").count(),
        1,
        "{}",
        said.stderr
    );
    let firing = |name: &str| -> Firing {
        let firings = state(&project).firings(name).expect("readable");
        assert_eq!(firings.len(), 1, "{name}: {firings:?}");
        firings.into_iter().next().expect("one")
    };
    for n in 0..9 {
        let name = format!("p{n}");
        assert_eq!(firing(&name).exit, Some(0), "{name}: {}", said.shown);
        let file = project.path().join(format!("out/{name}.ndjson"));
        let rows = std::fs::read_to_string(file)
            .expect("an output")
            .lines()
            .count();
        assert_eq!(rows, 80, "{name}");
    }
    assert_eq!(firing("hung").exit, Some(75), "{}", said.shown);
    assert!(
        said.stderr.contains("not complete by its deadline of 3s"),
        "{}",
        said.stderr
    );
    for server in [&one, &two] {
        let audit = server.api().audit();
        assert_eq!(audit.refusals(), 0, "the server refused");
        assert!(audit.max_in_window(Duration::from_secs(1)) <= 20);
        assert!(audit.faults() >= 3, "nothing went wrong");
    }
    // All pipelines of one key were under one limit.
    assert!(one.api().audit().requests() >= 40);
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
        .command(&["schedule"])
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
    // What the check is worth: a directive that is none is found.
    let text = std::fs::read_to_string(&unit).expect("readable");
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
