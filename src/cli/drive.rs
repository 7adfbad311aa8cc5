//! One run from an open plan to its summary: the world around it, progress, signals.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Fact;
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
use super::{out, rooms, table};

/// Once somebody asks to stop, people are told for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

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

    /// Readies the outside of a run; who watches is there before anything of it can fail. A panic on the way is a
    /// failure like another one, which those who watch hear.
    pub(super) async fn ready(
        &self,
        plan: Plan,
        connect: Connect,
        root: &Path,
        is_watched: bool,
        world: impl FnOnce(SharedTransport) -> World,
    ) -> Result<Ready, Failure> {
        let plan = Arc::new(plan);
        let (of, at) = (Arc::clone(&plan), root.to_owned());
        let (transport, refused) = match off(move || connect(&of, &at)).await {
            Ok(connected) => connected,
            Err(failure) => (rooms::no_transport(&plan), Some(failure)),
        };
        let world = world(transport);
        let (of, at) = (Arc::clone(&plan), world.clone());
        let watch = match off(move || is_watched.then(|| Watch::of(&of, &at))).await {
            Ok(watch) => watch,
            Err(failure) => {
                let message = format!("nobody can be told of this run: {failure}");
                world.events.emit(Fact::RunNoticed { message });
                None
            }
        };
        // Whoever held it beside us has ended.
        let plan = Arc::into_inner(plan).ok_or_else(mistake)?;
        Ok(Ready {
            plan,
            world,
            watch,
            refused,
        })
    }

    /// Runs a plan to its end.
    pub(super) async fn run(
        &self,
        plan: Plan,
        world: World,
        options: Options,
    ) -> Result<Summary, Failure> {
        Box::pin(self.run_watched(plan, world, options, None)).await
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
                    self.unless_stopped(watch.ended(Err(&failure))).await;
                }
                return Err(failure);
            }
        };
        let ran = Box::pin(async {
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
            let end = match &watch {
                Some(watch) => watch.note_end(ended.as_ref()).await,
                None => None,
            };
            (ended, end)
        });
        let Some(watch) = &watch else {
            return ran.await.0;
        };
        // Nobody who is told holds up the run.
        let ((ended, end), _) = tokio::join!(ran, self.unless_stopped(watch.began()));
        if let Some(end) = end {
            let told = async { tokio::join!(watch.ping_end(end), watch.tell_of_runs()) };
            self.unless_stopped(told).await;
        }
        ended
    }

    /// Waits for people to be told; once somebody asks to stop, a moment longer. What is cut off is owed.
    pub(super) async fn unless_stopped<T>(&self, telling: impl Future<Output = T>) -> Option<T> {
        // On the heap: it is a part of each future that waits for it.
        let telling = Box::pin(telling);
        let mut asked = self.stop.asked.clone();
        let cut = async {
            if asked.wait_for(|asked| *asked).await.is_err() {
                // Nobody is left who could ask.
                std::future::pending::<()>().await;
            }
            self.clock.sleep_until(self.clock.now() + LAST_WORDS).await;
        };
        tokio::select! {
            biased;
            told = telling => Some(told),
            () = cut => None,
        }
    }
}

/// How a plan finds its network; where that cannot be had, why, and one by which people can be told.
pub(super) type Connect = fn(&Plan, &Path) -> (SharedTransport, Option<Failure>);

/// All that a run needs, before it is opened.
pub(super) struct Ready {
    pub(super) plan: Plan,
    pub(super) world: World,
    /// Who is told, if anybody is.
    pub(super) watch: Option<Watch>,
    /// Why it cannot be opened, if so.
    pub(super) refused: Option<Failure>,
}

/// Work off the async threads, to its end or its panic.
pub(super) async fn off<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    came_to(tokio::task::spawn_blocking(work).await)
}

/// What a task came to. A panic is an end too: those who watch hear of it as of any failure.
pub(super) fn came_to<T>(task: Result<T, JoinError>) -> Result<T, Failure> {
    task.map_err(|_| mistake())
}

fn mistake() -> Failure {
    Failure::new(Exit::Failed, "a mistake of the program ended the run").hint(
        "what it was stands on standard error: please report it; what was fetched is kept, and the next run goes on with it",
    )
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
