//! One run from an open plan to its summary: the world around it, progress, signals.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::fetch::transport::SharedTransport;
use crate::harvest::alerts::Watch;
use crate::harvest::events::Events;
use crate::harvest::summary::Summary;
use crate::harvest::{Harvest, Options, World};
use crate::plan::Plan;
use crate::report::{Manner, Reporter, Verbosity};

use super::global::Global;
use super::signals::Stop;
use super::{out, table};

/// How often progress is drawn.
const TICK: Duration = Duration::from_millis(100);

/// What several runs of one command share.
#[derive(Debug, Clone)]
pub(super) struct Drive {
    /// Time.
    pub(super) clock: Clock,
    /// Who tells.
    pub(super) reporter: Arc<Reporter>,
    /// Signals.
    pub(super) stop: Stop,
}

impl Drive {
    /// Starts listening to signals.
    pub(super) fn new(reporter: Arc<Reporter>) -> Self {
        Self {
            clock: Clock::system(),
            stop: Stop::listen(Arc::clone(&reporter)),
            reporter,
        }
    }

    /// For commands that send a few requests: plain lines about waits and retries are all the
    /// progress that needs.
    pub(super) fn of_few_requests(global: &Global) -> Self {
        Self::new(Reporter::new(Manner {
            json: false,
            verbosity: global.verbosity().min(Verbosity::Usual),
            terminal: false,
            colour: out::stderr_colour(),
        }))
    }

    /// The outside, as one of several runs side by side sees it.
    pub(super) fn shared_world(&self, transport: SharedTransport, root: PathBuf) -> World {
        World {
            clock: self.clock,
            transport,
            disk: Disk::system(),
            root,
            events: Events::new(self.clock, self.reporter.listener()),
            stop: self.stop.asked.clone(),
        }
    }

    /// The outside, as a run sees it.
    pub(super) fn world(&self, transport: SharedTransport, root: PathBuf) -> World {
        let (stop, listener) = (self.stop.clone(), self.reporter.listener());
        World {
            clock: self.clock,
            transport,
            disk: Disk::system(),
            root,
            events: Events::new(self.clock, move |event| {
                stop.hear(event);
                listener(event);
            }),
            stop: self.stop.asked.clone(),
        }
    }

    /// Runs a plan to its end.
    pub(super) async fn run(
        &self,
        plan: Plan,
        world: World,
        options: Options,
    ) -> Result<Summary, Failure> {
        self.run_watched(plan, world, options, None).await
    }

    /// The same; those who watch it hear of its beginning and its end.
    pub(super) async fn run_watched(
        &self,
        plan: Plan,
        world: World,
        options: Options,
        watch: Option<Watch>,
    ) -> Result<Summary, Failure> {
        // Its hours pass in a blink: nobody could watch.
        let is_replay = options.tape.is_replay();
        self.stop.begin(options.leaves_trace());
        let open = tokio::spawn(async move { Harvest::open(plan, world, options) });
        let opened = match came_to(open.await) {
            Ok(opened) => opened.map_err(|failure| *failure),
            Err(failure) => Err(failure),
        };
        let harvest = match opened {
            Ok(harvest) => harvest,
            Err(failure) => {
                if let Some(watch) = &watch {
                    watch.ended(Err(&failure)).await;
                }
                return Err(failure);
            }
        };
        if let Some(watch) = &watch {
            watch.began().await;
        }
        let ticker =
            (!is_replay).then(|| tokio::spawn(tick(self.clock, Arc::clone(&self.reporter))));
        let ended = came_to(tokio::spawn(harvest.run()).await);
        if let Some(ticker) = ticker {
            ticker.abort();
        }
        self.reporter.close();
        let ended = ended.map(|mut summary| {
            summary.exit = self.stop.exit(summary.exit);
            summary
        });
        if let Some(watch) = &watch {
            watch.ended(ended.as_ref()).await;
        }
        ended
    }
}

/// What a task came to. A panic is an end too: those who watch hear of it as of any failure.
pub(super) fn came_to<T>(task: Result<T, JoinError>) -> Result<T, Failure> {
    task.map_err(|_| {
        Failure::new(Exit::Failed, "a mistake of the program ended the run").hint(
            "what it was stands on standard error: please report it; what was fetched is kept, and the next run goes on with it",
        )
    })
}

/// Draws until it is ended.
async fn tick(clock: Clock, reporter: Arc<Reporter>) {
    loop {
        reporter.tick(clock.calendar(), table::stderr_width());
        clock.sleep_until(clock.now() + TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_that_can_be_told() {
        let task = tokio::spawn(async { panic!("a mistake") });
        let failure = came_to::<()>(task.await).expect_err("it panicked");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("a mistake of the program"));
        assert_eq!(came_to(tokio::spawn(async { 7 }).await).ok(), Some(7));
    }
}
