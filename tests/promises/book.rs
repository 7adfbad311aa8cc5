//! Manners across processes: several runs of the real program on one key, started anew and killed,
//! never exceed the limit together. The server stamps each arrival before it answers.

use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::{Clock, Instant};

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
        Project::new(&format!(
            "source:\n  url: {}\n  concurrency: 6\n  limits: [{{ limit: {CALLS}/{}ms, spread: false }}]\n\
             streams:\n  items:\n    for: {{ n: {{ range: [1, {requests}] }} }}\n    get: /items/{{{{ n }}}}\n\
             sink: {{ csv: data/items.csv }}\n",
            self.server.url(),
            WINDOW.as_millis(),
        ))
    }

    fn start(&self, project: &Project) -> Child {
        project
            .command(&["run", "items"])
            .env("GLEANER_STATE_DIR", self.state.path())
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
    assert_eq!(scene.audit(), (CALLS, 100));
}

#[test]
fn a_killed_process_takes_no_more_than_its_share_with_it() {
    let scene = Scene::new();
    let (doomed, other) = (scene.project(500), scene.project(40));
    let mut child = scene.start(&doomed);
    while scene.count() < 25 {
        std::thread::yield_now();
    }
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
