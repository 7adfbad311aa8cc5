//! Ctrl-C, SIGTERM and SIGHUP: the first asks the run to stop gracefully, the second ends it at
//! once. What is committed is kept either way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::event::{Event, Fact};
use crate::failure::Exit;
use crate::report::{self, Reporter};

/// What the outside asked for.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    /// Becomes true when a run should stop.
    pub(super) asked: watch::Receiver<bool>,
    how: Arc<AtomicU8>,
    kept: Arc<Kept>,
}

/// What the run that is under way keeps, for one that is ended at once and has no time to look.
#[derive(Debug, Default)]
struct Kept {
    /// Whether it keeps anything.
    keeps: AtomicBool,
    pages: AtomicU64,
}

impl Kept {
    fn told(&self) -> String {
        let pages = self.pages.load(Ordering::Relaxed);
        if !self.keeps.load(Ordering::Relaxed) {
            "stopped at once".to_owned()
        } else if pages == 0 {
            "stopped at once; no page was committed yet".to_owned()
        } else {
            let pages = report::plural(pages, "page");
            format!("stopped at once; kept {pages}; run again to continue")
        }
    }
}

impl Stop {
    /// Listens to signals for the rest of the process.
    pub(super) fn listen(reporter: Arc<Reporter>) -> Self {
        let (tell, asked) = watch::channel(false);
        let how = Arc::new(AtomicU8::new(0));
        let noted = Arc::clone(&how);
        let kept = Arc::new(Kept::default());
        let known = Arc::clone(&kept);
        let mut signals = Signals::new();
        tokio::spawn(async move {
            let first = signals.next().await;
            noted.store(first.code(), Ordering::Relaxed);
            reporter.say("stopping; once more to stop at once");
            // Fails only when no run is left to be stopped.
            let _ = tell.send(true);
            let second = signals.next().await;
            reporter.close();
            reporter.say(&known.told());
            std::process::exit(i32::from(second.code()));
        });
        Self { asked, how, kept }
    }

    /// A run begins; `keeps` says whether another can go on with what it commits.
    pub(super) fn begin(&self, keeps: bool) {
        self.kept.keeps.store(keeps, Ordering::Relaxed);
        self.kept.pages.store(0, Ordering::Relaxed);
    }

    /// Counts what a run commits.
    pub(super) fn hear(&self, event: &Event) {
        let pages = &self.kept.pages;
        match &event.fact {
            Fact::RunContinued { pages: kept, .. } => pages.store(*kept, Ordering::Relaxed),
            Fact::Committed { pages: new, .. } => {
                pages.fetch_add(*new, Ordering::Relaxed);
            }
            Fact::PagesVoid { pages: void, .. } => {
                pages.fetch_sub(*void, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// How a run that was stopped ends: by the signal that stopped it.
    pub(super) fn exit(&self, of_run: Exit) -> Exit {
        if of_run == Exit::Interrupted
            && self.how.load(Ordering::Relaxed) == Exit::Terminated.code()
        {
            Exit::Terminated
        } else {
            of_run
        }
    }

    /// Whether a signal came.
    pub(super) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

/// Listens from its making on: a signal that comes while nobody waits is not lost.
#[cfg(unix)]
struct Signals {
    interrupt: Option<tokio::signal::unix::Signal>,
    term: Option<tokio::signal::unix::Signal>,
    /// `None` where it is ignored, as under `nohup`: then it stays ignored.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use rustix::process::Signal;
        use tokio::signal::unix::{SignalKind, signal};

        // Where no file may grow further (`ulimit -f`) the system ends the process, unless the
        // signal has a handler: then the write fails, and says so. Nobody needs to hear of it.
        let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            term: signal(SignalKind::terminate()).ok(),
            hangup: if ignores_hangup() {
                None
            } else {
                signal(SignalKind::hangup()).ok()
            },
        }
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            () = received(&mut self.interrupt) => Exit::Interrupted,
            () = received(&mut self.term) => Exit::Terminated,
            () = received(&mut self.hangup) => Exit::Terminated,
        }
    }
}

#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether whoever started us had SIGHUP ignored (`nohup`): proc(5) tells, where there is one.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) -> Exit {
        if tokio::signal::ctrl_c().await.is_err() {
            // No handler could be installed: the system's own, which ends the process, is in force.
            std::future::pending::<()>().await;
        }
        Exit::Interrupted
    }
}
