//! The same on real sockets and by the machine's clock: one run in this process, whose calls are
//! written down, and runs of the real program that share a key, one of them killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use gleaner::clock::{Clock, Instant};
use gleaner::failure::Exit;
use gleaner::fetch::client::HttpClient;
use gleaner::fetch::transport::ClientSettings;
use gleaner::harvest::events::Events;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::limit::WindowStyle;
use gleaner::sim::{Fault, FaultRule, Latency, Rules, Server, ServerLimit, SimApi};

use super::super::fixture::plan;
use super::super::scene;
use super::super::way::{Calls, Far, Tells, Way};
use super::{MS, SEC, pipeline, rules};

/// Thirty in half a second, and forty in a second at a phase of its own; a bucket is looked at
/// afterwards.
fn limits() -> Vec<ServerLimit> {
    let mut fixed = ServerLimit::fixed(40, SEC);
    fixed.style = WindowStyle::Fixed { phase: 300 * MS };
    vec![ServerLimit::sliding(30, 500 * MS), fixed]
}

const DECLARED: &str = "[{ limit: 30/500ms, spread: false }, { limit: 40/s, spread: false }, { limit: 45/s, burst: 28 }]";

fn server(limits: Vec<ServerLimit>) -> Server {
    let api = SimApi::new(Rules {
        limits,
        latency: Latency::Between(MS, 30 * MS, 4),
        faults: vec![
            FaultRule::every(31, Fault::status(408)),
            FaultRule::every(37, Fault::TruncatedBody),
            FaultRule::every(41, Fault::Reset),
        ],
        ..rules()
    });
    Server::start_on_own_thread(api).expect("a server")
}

fn broken(server: &Server) -> Vec<String> {
    let audit = server.api().audit();
    let mut broken = Vec::new();
    for limit in limits() {
        let (sliding, fixed) = (
            audit.max_in_window(limit.window),
            audit.max_in_fixed_window(limit.window),
        );
        if sliding.max(fixed) > limit.requests {
            broken.push(format!("{sliding}, {fixed} in {:?}", limit.window));
        }
    }
    let held = audit.max_in_bucket(45, SEC);
    if held > 28.0 + 1e-6 {
        broken.push(format!("{held} in the bucket"));
    }
    broken
}

/// Runs in this process over real sockets, and gives what it saw.
fn run(server: &Server, limits: &str, count: usize, tells: Tells) -> (Exit, Calls) {
    let root = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let clock = Clock::system();
        let client = HttpClient::new(ClientSettings::new(10 * SEC));
        // Delays of its own: loopback has none.
        let far = Far::new(Arc::new(client), clock, Way::of(90 * MS, 5).tells(tells));
        let calls = far.calls();
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock,
            transport: Arc::new(far),
            disk: gleaner::disk::Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(clock, |_| {}),
            stop,
        };
        let yaml = pipeline(limits, 12, count).replace("https://api.test", &server.url());
        let harvest = Harvest::open(plan(&yaml), world, Options::default())
            .unwrap_or_else(|failure| panic!("{failure:#?}"));
        let summary = harvest.run().await;
        (summary.exit, calls)
    })
}

#[test]
fn on_real_sockets_no_limit_is_broken() {
    let server = server(limits());
    let (exit, _) = run(&server, DECLARED, 120, Tells::Truth);
    assert_eq!(exit, Exit::Complete);
    assert_eq!(broken(&server), Vec::<String>::new());
    let audit = server.api().audit();
    assert_eq!(audit.refusals(), 0);
    assert!(audit.faults() > 5 && audit.in_flight_max() <= 12);
}

#[test]
fn on_real_sockets_no_limits_that_are_drawn_are_broken() {
    for seed in 0..4 {
        let mut draw = fastrand::Rng::with_seed(seed);
        let (mut limits, mut declared) = (Vec::new(), Vec::new());
        for _ in 0..draw.usize(1..=4) {
            let (requests, window) = (draw.usize(15..60), draw.u32(500..2000));
            let spread = draw.bool();
            declared.push(format!(
                "{{ limit: {requests}/{window}ms, spread: {spread} }}"
            ));
            let mut limit = ServerLimit::sliding(requests, window * MS);
            if draw.bool() {
                let phase = draw.u32(0..window) * MS;
                limit.style = WindowStyle::Fixed { phase };
            }
            limits.push(limit);
        }
        let server = server(limits.clone());
        let declared = format!("[{}]", declared.join(", "));
        let (exit, _) = run(&server, &declared, 60, Tells::Truth);
        let audit = server.api().audit();
        assert_eq!((exit, audit.refusals()), (Exit::Complete, 0), "{declared}");
        for limit in &limits {
            let sliding = audit.max_in_window(limit.window);
            let fixed = audit.max_in_fixed_window(limit.window);
            assert!(
                sliding.max(fixed) <= limit.requests,
                "{sliding}, {fixed}: {declared}"
            );
        }
    }
}

#[test]
fn on_real_sockets_it_is_broken_without_the_margin() {
    // The server counts and refuses nobody, so that the run goes on. So few that any machine sends more in the time.
    let server = server(Vec::new());
    let few = "[{ limit: 5/500ms, spread: false }]";
    run(&server, few, 60, Tells::Haste);
    assert!(server.api().audit().max_in_window(500 * MS) > 5);
}

#[test]
fn on_real_sockets_a_refusal_holds_all_calls() {
    for (tells, is_held) in [(Tells::Truth, true), (Tells::NoRefusal, false)] {
        // A window in which any machine sends more.
        let server = server(vec![ServerLimit::sliding(25, 10 * SEC)]);
        let (exit, calls) = run(&server, "[100/s]", 40, tells);
        assert!(exit == Exit::Complete || !is_held);
        assert!(calls.refusals() > 0, "the check can fail");
        assert_eq!(calls.inside_a_pause() == 0, is_held);
    }
}

// ---- processes -------------------------------------------------------------------------------

fn start(project: &scene::Project, book: &std::path::Path) -> Child {
    let child = project
        .command(&["run", "items", "--json"])
        .env("GLEANER_STATE_DIR", book)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    child.expect("the program starts")
}

/// Reads what a run tells until it says `what`, or to its end.
fn told(child: &mut Child, what: &str) -> bool {
    let out = child.stdout.as_mut().expect("it is piped");
    BufReader::new(out)
        .lines()
        .any(|line| line.is_ok_and(|line| line.contains(what)))
}

fn ends_well(mut child: Child) {
    told(&mut child, "nothing that is ever said");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn four_processes_one_of_them_killed_and_begun_again_break_no_limit() {
    let server = server(limits());
    let yaml = pipeline(DECLARED, 6, 40).replace("https://api.test", &server.url());
    let projects: Vec<_> = (0..4).map(|_| scene::Project::new(&yaml)).collect();
    let book = tempfile::tempdir().expect("a folder");
    let mut children: Vec<_> = projects.iter().map(|one| start(one, book.path())).collect();
    let mut doomed = children.remove(0);
    // In the middle of its requests, and of the windows.
    assert!(told(&mut doomed, "page_fetched"));
    doomed.kill().expect("it was alive");
    doomed.wait().expect("it is dead");
    children.push(start(&projects[0], book.path()));
    // Read side by side: one whose output nobody reads stands still, with permits that others wait for.
    let readers: Vec<_> = (children.into_iter())
        .map(|child| std::thread::spawn(move || ends_well(child)))
        .collect();
    for reader in readers {
        reader.join().expect("it ends well");
    }
    assert_eq!(broken(&server), Vec::<String>::new());
    let audit = server.api().audit();
    assert_eq!(audit.refusals(), 0);
    assert!(audit.requests() > 160 && audit.faults() > 10);
}

/// One process is told to wait for ten seconds; how many calls another one makes meanwhile.
///
/// No race decides: the other's first answer is held back until the one has said that it waits.
fn calls_of_another_meanwhile(share_a_book: bool) -> usize {
    type Log = Mutex<(bool, Option<Instant>, Vec<Instant>)>;
    let (clock, seen): (_, Arc<(Log, Condvar)>) = (Clock::system(), Arc::default());
    let log = Arc::clone(&seen);
    let server = scene::Server::start(move |request| {
        let (lock, changed) = &*log;
        let mut log = lock.lock().expect("the log");
        let now = clock.now();
        if !request.starts_with("GET /held/") {
            let is_first = log.1.is_none();
            log.1.get_or_insert(now);
            return if is_first {
                scene::Reply::new(429, "slow down").header("retry-after", "10")
            } else {
                scene::Reply::json(r#"[{"id":1}]"#)
            };
        }
        log.2.push(now);
        changed.notify_all();
        let _log = changed.wait_while(log, |log| !log.0).expect("the log");
        scene::Reply::json(r#"[{"id":1}]"#)
    });
    let yaml = |path: &str| {
        format!(
            "source: {{ url: {}, concurrency: 1, limits: [100/s] }}\n\
             streams: {{ items: {{ for: {{ n: {{ range: [1, 5] }} }}, get: '/{path}/{{{{ n }}}}' }} }}\n\
             sink: {{ csv: data/items.csv }}\n",
            server.url()
        )
    };
    let (books, (lock, changed)) = (
        [(); 2].map(|()| tempfile::tempdir().expect("a folder")),
        &*seen,
    );
    let (one, other) = (
        scene::Project::new(&yaml("told")),
        scene::Project::new(&yaml("held")),
    );
    let held = start(&other, books[usize::from(!share_a_book)].path());
    let asked = changed.wait_while(lock.lock().expect("the log"), |log| log.2.is_empty());
    drop(asked.expect("the log"));
    let mut waiting = start(&one, books[0].path());
    assert!(told(&mut waiting, r#""for":"pause""#));
    lock.lock().expect("the log").0 = true;
    changed.notify_all();
    ends_well(held);
    ends_well(waiting);
    let log = lock.lock().expect("the log");
    let refused = log.1.expect("it was refused");
    let meanwhile = |at: &&Instant| **at > refused && **at < refused + 10 * SEC;
    assert_eq!(log.2.len(), 5);
    log.2.iter().filter(meanwhile).count()
}

#[test]
fn what_one_process_is_told_holds_the_others() {
    assert_eq!(calls_of_another_meanwhile(true), 0);
    assert!(calls_of_another_meanwhile(false) > 0, "the test can fail");
}
