//! Manners across processes: several runs of the real program on one key, started anew and killed,
//! never exceed the limit together. The server stamps each arrival before it answers.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::{Clock, Instant};

use super::real_time::{pass, until};
use super::scene::{Project, Reply, Server};

const CALLS: usize = 20;
const WINDOW: Duration = Duration::from_millis(500);

/// A server that writes down when each request arrives, and a place for the book.
struct Scene {
    server: Server,
    arrived: Arc<Mutex<Vec<Instant>>>,
    state: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let arrived: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let log = Arc::clone(&arrived);
        let clock = Clock::system();
        let server = Server::start(move |_| {
            log.lock().expect("the log").push(clock.now());
            Reply::json(r#"[{"id":1}]"#)
        });
        let state = tempfile::tempdir().expect("a folder");
        Self {
            server,
            arrived,
            state,
        }
    }

    fn project(&self, requests: usize) -> Project {
        self.project_with(requests, "")
    }

    /// One whose limit says more, and whose credential is in `BOOK_TOKEN`.
    fn project_with(&self, requests: usize, more: &str) -> Project {
        Project::new(&format!(
            "source:\n  url: {}\n  concurrency: 6\n  limits: [{{ limit: {CALLS}/{}ms, spread: false{more} }}]\n  \
             auth: {{ bearer: '{{{{ secret.BOOK_TOKEN | default(\"\") }}}}' }}\n\
             streams:\n  items:\n    for: {{ n: {{ range: [1, {requests}] }} }}\n    get: /items/{{{{ n }}}}\n\
             sink: {{ csv: data/items.csv }}\n",
            self.server.url(),
            WINDOW.as_millis(),
        ))
    }

    fn start(&self, project: &Project) -> Child {
        self.start_as(project, "")
    }

    fn start_as(&self, project: &Project, token: &str) -> Child {
        project
            .command(&["run", "items"])
            .env("GLEANER_STATE_DIR", self.state.path())
            .env("BOOK_TOKEN", token)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts")
    }

    fn ends_well(mut child: Child) {
        assert!(child.wait().expect("it ends").success());
    }

    fn count(&self) -> usize {
        self.arrived.lock().expect("the log").len()
    }

    /// No window had more than may be, and all have come; on the way together to more than half of what may be, for
    /// processes that each keep a limit to themselves, too small, share nothing.
    fn kept_to_the_limit(&self, wanted: usize) {
        let (most, all) = self.audit();
        assert_eq!(all, wanted);
        assert!((CALLS / 2 + 1..=CALLS).contains(&most), "{most} of {all}");
    }

    /// The most arrivals in any half-open window, and all of them.
    fn audit(&self) -> (usize, usize) {
        let mut at = self.arrived.lock().expect("the log").clone();
        at.sort_unstable();
        let most =
            (0..at.len()).map(|i| at[i..].iter().take_while(|t| **t - at[i] < WINDOW).count());
        (most.max().unwrap_or(0), at.len())
    }
}

#[test]
fn processes_share_the_limit_and_a_restart_grants_no_burst() {
    let scene = Scene::new();
    let projects: Vec<_> = (0..3).map(|_| scene.project(25)).collect();
    let children: Vec<_> = projects
        .iter()
        .map(|project| scene.start(project))
        .collect();
    for child in children {
        Scene::ends_well(child);
    }
    // Anew, in the middle of the window that the others have used up.
    let again = scene.project(25);
    Scene::ends_well(scene.start(&again));
    scene.kept_to_the_limit(100);
}

#[test]
fn a_limit_by_address_is_one_whatever_the_credential() {
    let scene = Scene::new();
    let projects: Vec<_> = (0..3)
        .map(|_| scene.project_with(25, ", per: host"))
        .collect();
    let children: Vec<_> = projects
        .iter()
        .zip(["", "ruth-invented", "boaz-invented"])
        .map(|(project, token)| scene.start_as(project, token))
        .collect();
    for child in children {
        Scene::ends_well(child);
    }
    scene.kept_to_the_limit(75);
    let heard = scene.server.heard();
    let with = heard.iter().filter(|one| one.contains("authorization: "));
    assert_eq!(with.count(), 50, "each with its own");
}

#[test]
fn a_killed_process_takes_no_more_than_its_share_with_it() {
    let scene = Scene::new();
    let (doomed, other) = (scene.project(500), scene.project(40));
    let mut child = scene.start(&doomed);
    until("25 requests have arrived", || scene.count() >= 25);
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
    Scene::ends_well(scene.start(&other));
    let (most, all) = scene.audit();
    assert!(most <= CALLS, "{most} of {all}");
    assert!(all >= 65);
}

#[test]
fn without_limits_the_book_is_never_opened() {
    let scene = Scene::new();
    let project = Project::new(&format!(
        "source: {{ url: {}, limits: none }}\nstreams: {{ items: {{ get: /items }} }}\nsink: {{ csv: data/items.csv }}\n",
        scene.server.url(),
    ));
    Scene::ends_well(scene.start(&project));
    assert!(!scene.state.path().join("limits").exists());
}

#[test]
fn limits_are_listed_with_what_is_used_and_who_holds_them() {
    let scene = Scene::new();
    let project = scene.project(3);
    let state = scene.state.path().to_str().expect("a path").to_owned();
    let known = |args: &[&str]| project.run_with(args, &[("GLEANER_STATE_DIR", &state)]);
    let none = known(&["limits"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
    assert!(
        none.stderr.contains("no limit is known yet"),
        "{}",
        none.stderr
    );
    assert_eq!(std::fs::read_dir(&state).expect("a folder").count(), 0);
    Scene::ends_well(scene.start(&project));
    let told = known(&["limits", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("one object");
    let budgets = told["budgets"].as_array().expect("a list");
    assert_eq!(budgets.len(), 1);
    let limit = &budgets[0]["limit"];
    assert_eq!(limit["limit"], format!("{CALLS}/{}ms", WINDOW.as_millis()));
    assert_eq!(limit["origin"], scene.server.url());
    assert!(limit["pipelines"]["items"].is_string());
    assert_eq!(budgets[0]["holding"].as_array().map(Vec::len), Some(0));
    let shown = known(&["limits"]);
    let first = shown.stdout.lines().nth(1).expect("a row");
    assert!(first.starts_with("20/500ms"), "{}", shown.stdout);
    assert!(shown.stdout.contains("by items"), "{}", shown.stdout);
    // One that is alive is named by its number.
    let long = scene.project(100_000);
    let mut child = scene.start(&long);
    let is_there = || {
        let told = known(&["limits", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("one object");
        let held = told["budgets"][0]["waiting"]
            .as_array()
            .expect("a list")
            .clone();
        held.iter()
            .any(|one| one["pid"] == child.id() && one["pipeline"] == "items")
    };
    until("the process is listed", is_there);
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
    let told = known(&["limits", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("one object");
    assert_eq!(told["budgets"][0]["waiting"], serde_json::json!([]));
}

#[test]
fn processes_share_what_may_be_in_flight_even_when_one_is_killed() {
    const MOST: usize = 2;
    const EACH: usize = 40;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (flying, seen) = (Arc::clone(&now), Arc::clone(&most));
    let server = Server::start(move |_| {
        let others = flying.fetch_add(1, Ordering::SeqCst);
        seen.fetch_max(others + 1, Ordering::SeqCst);
        pass(Duration::from_millis(10));
        flying.fetch_sub(1, Ordering::SeqCst);
        Reply::json(r#"[{"id":1}]"#)
    });
    let scene = Scene {
        server,
        arrived: Arc::default(),
        state: tempfile::tempdir().expect("a folder"),
    };
    let project = |requests: usize| {
        Project::new(&format!(
            "source: {{ url: {}, concurrency: 6, limits: [{MOST} in flight] }}\nstreams:\n  items:\n    for: {{ n: {{ range: [1, {requests}] }} }}\n    get: /items/{{{{ n }}}}\nsink: {{ csv: data/items.csv }}\n",
            scene.server.url(),
        ))
    };
    let projects: Vec<_> = (0..2).map(|_| project(EACH)).collect();
    let doomed = project(100_000);
    let mut killed = scene.start(&doomed);
    let heard = || scene.server.heard().len();
    until("10 requests have arrived", || heard() >= 10);
    let children: Vec<_> = projects.iter().map(|one| scene.start(one)).collect();
    until("40 requests have arrived", || heard() >= 40);
    killed.kill().expect("it was alive");
    killed.wait().expect("it is dead");
    for child in children {
        Scene::ends_well(child);
    }
    assert_eq!(most.load(Ordering::SeqCst), MOST);
    assert!(heard() >= 2 * EACH + 10);
}

#[test]
fn a_run_is_refused_while_another_shares_a_different_limit_by_its_name() {
    let scene = Scene::new();
    let project = |limit: &str| {
        Project::new(&format!(
            "source: {{ url: {}, limits: [{{ limit: {limit}, shared_as: archive }}] }}\nstreams:\n  items:\n    for: {{ n: {{ range: [1, 200] }} }}\n    get: /items/{{{{ n }}}}\nsink: {{ csv: data/items.csv }}\n",
            scene.server.url(),
        ))
    };
    let (one, other) = (project("100/h"), project("50/h"));
    let mut child = scene.start(&one);
    until("a request has arrived", || scene.count() > 0);
    let state = scene.state.path().to_str().expect("a path");
    let said = other.run_with(&["run", "items"], &[("GLEANER_STATE_DIR", state)]);
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    let told = format!(
        "`archive` is 50/h here, and 100/h in `items`, which runs now (process {})",
        child.id()
    );
    assert!(said.stderr.contains(&told), "{}", said.stderr);
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
}
