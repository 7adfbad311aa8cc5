//! A run that is in the middle of its work: a server that holds its second answer back, the process
//! that waits for it, and how that is asked to stop.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::real_time::until;
use super::scene::{Project, Reply, Server};

/// A server that holds its second answer back until it is let go.
pub(crate) struct Gate {
    pub(crate) server: Server,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub(crate) fn new(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let (asked, gate) = (AtomicUsize::new(0), Arc::clone(&open));
        let server = Server::start(move |request| {
            if asked.fetch_add(1, Ordering::SeqCst) == 1 {
                let (is_open, changed) = &*gate;
                let closed = is_open.lock().expect("no panic");
                drop(changed.wait_while(closed, |open| !*open).expect("no panic"));
            }
            answer(request)
        });
        Self { server, open }
    }

    pub(crate) fn let_go(&self) {
        *self.open.0.lock().expect("no panic") = true;
        self.open.1.notify_all();
    }

    /// Starts a run and waits until it has asked for the second page.
    pub(crate) fn start(&self, project: &Project) -> Child {
        let mut command = project.command(&["run", "items"]);
        self.begin(command.stdout(Stdio::null()))
    }

    /// The same; its events are there to be read from standard output.
    pub(crate) fn start_told(&self, project: &Project) -> Child {
        let mut command = project.command(&["run", "items", "--json"]);
        self.begin(command.stdout(Stdio::piped()))
    }

    fn begin(&self, command: &mut Command) -> Child {
        let child = command.stderr(Stdio::piped()).spawn();
        until("the second page is asked for", || {
            self.server.heard().len() >= 2
        });
        child.expect("the program starts")
    }
}

/// Waits until a process that tells its events has told one with these words.
pub(crate) fn told_of(child: &mut Child, words: &str) {
    let events = BufReader::new(child.stdout.as_mut().expect("piped"));
    let mut lines = events.lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line.contains(words)), "no {words}");
}

/// The exit code of a process, and what it still had to say.
pub(crate) fn ends(mut child: Child) -> (Option<i32>, String) {
    let mut told = String::new();
    let stderr = child.stderr.as_mut().expect("piped");
    stderr.read_to_string(&mut told).expect("text");
    (child.wait().expect("an end").code(), told)
}

/// Sends a signal, such as `INT`.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

/// Sends a signal and waits until the process says that it stops.
pub(crate) fn ask_to_stop(child: &mut Child, name: &str) {
    signal(child, name);
    let stderr = child.stderr.as_mut().expect("piped");
    let mut told = Vec::new();
    while !String::from_utf8_lossy(&told).contains("stopping") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).expect("it says that it stops");
        told.push(byte[0]);
    }
}
