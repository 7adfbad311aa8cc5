//! The run: walk, attempt, commit, publish, summary.

pub mod alerts;
pub mod estimate;
pub mod events;
pub mod network;
pub mod secrets;
pub mod summary;
pub mod tape;

mod answer;
pub mod attempt;
mod checks;
mod commit;
mod course;
mod crew;
pub mod ground;
mod merge;
mod names;
mod pages;
mod partitions;
mod publish;
mod run;
mod sample;
mod stream;
mod together;
mod tokens;
mod trouble;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::{Fact, Name};
use crate::failure::{Exit, Failure};
use crate::fetch::transport::SharedTransport;
use crate::plan::{Plan, auth::AuthPlan, limit::LimitPlan};

use self::attempt::once::Unknown;
use self::events::Events;
use self::ground::Ground;
use self::ground::chronicle::Unopened;
use self::ground::standing::{Kept, Standing};
use self::ground::targets::Targets;
use self::partitions::Source;
pub use self::partitions::windows::Backfill;
use self::run::{Beginning, Run};
pub use self::sample::{Sample, SampledColumns};
use self::secrets::SHORTEST_SCRUBBED;
use self::summary::{StreamSummary, Summary, Tally};
use self::tape::Tape;
use self::trouble::open_failure;

/// Everything of the outside that a run touches.
#[derive(Debug, Clone)]
pub struct World {
    /// Time.
    pub clock: Clock,
    /// The network.
    pub transport: SharedTransport,
    /// The file system: what a run keeps and what it publishes.
    pub disk: Disk,
    /// The project root: sink paths, `file:` and `.env` are relative to it.
    pub root: PathBuf,
    /// Where events go.
    pub events: Events,
    /// Turns true to ask for a graceful stop.
    pub stop: tokio::sync::watch::Receiver<bool>,
}

/// What one run is asked to do differently.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a wish of its own, and any may go with any"
)]
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these streams; empty means all.
    pub streams: Vec<String>,
    /// At most so many records a stream, written beside the target.
    pub limit_records: Option<u64>,
    /// Nothing will be written, so no folder is made.
    pub dry: bool,
    /// Nothing will be sent, so secrets need no value.
    pub offline: bool,
    /// The folder of the book in which limits are shared with other processes, and outlive this
    /// one; without it they hold for this run alone.
    pub limits: Option<PathBuf>,
    /// A window in place of what is new; the cursor stays where it is.
    pub backfill: Backfill,
    /// Bytes that must stay free on the disk; 0 asks for nothing.
    pub keep_free: u64,
    /// The user's state folder, where outputs are locked for all projects; without it they are
    /// for this project alone.
    pub state: Option<PathBuf>,
    /// Unfinished runs are discarded, not gone on with.
    pub fresh: bool,
    /// The folder of a complete run stays, until the next one is complete.
    pub keep_parts: bool,
    /// What becomes of requests that were sent and must not be sent twice, where nobody knows what
    /// came of them.
    pub unknown: Unknown,
    /// Whether exchanges are written down, or come from a recording.
    pub tape: Tape,
    /// How long the run may take before it is ended, to be gone on with another time.
    pub deadline: Option<Duration>,
    /// The planned time that it runs for, where the schedule asked for it.
    pub planned: Option<jiff::Timestamp>,
    /// A run whose checks do not hold, to be published from what it keeps: its id.
    pub release: Option<String>,
    /// A complete run whose kept parts are published again: its id.
    pub reextract: Option<String>,
    /// Where the cursors stood, in place of where they stand.
    pub cursors: Option<Vec<crate::fetch::tape::HeadCursor>>,
    /// What the command line asked for, to stand in the history.
    pub noted: serde_json::Value,
    /// How much of the history is kept; nothing means as usual.
    pub retention: Option<crate::store::history::Retention>,
    /// The run is not written down and cannot be gone on with; as with `limit_records`.
    pub traceless: bool,
}

/// A run with everything open: consumed by [`Harvest::run`].
#[derive(Debug)]
pub struct Harvest {
    run: Arc<Run>,
    tally: Arc<Mutex<Tally>>,
    /// The streams to run, with where their records go.
    streams: Vec<(usize, Targets)>,
    /// Where pages go; nothing for one that only asks.
    standing: Option<(Standing, Vec<Kept>)>,
}

impl Harvest {
    /// Touches the world early, so that what must fail fails before the first request: secrets,
    /// output folders, `for` lists.
    pub fn open(plan: Plan, mut world: World, mut options: Options) -> Result<Self, Box<Failure>> {
        let tally = Arc::new(Mutex::new(Tally::default()));
        world.events = {
            let (tally, outer) = (tally.clone(), world.events);
            Events::new(world.clock, move |event| {
                tally
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .add(&event.fact);
                outer.forward(event);
            })
        };
        partitions::windows::refuse_backfill(&plan, &options)?;
        let now = world.clock.calendar();
        let ground = if options.leaves_trace() {
            Some(Ground::look(&plan, &world, &options, now)?)
        } else {
            None
        };
        let beginning = ground
            .as_ref()
            .and_then(Ground::unfinished)
            .or_else(|| options.tape.beginning())
            .unwrap_or_else(|| Beginning::at(now));
        if ground.as_ref().is_some_and(Ground::continues) {
            tape::refuse_continued(&options, &beginning.id)?;
        }
        let again = ground.as_ref().filter(|_| options.reextracts());
        options.cursors = again.map(|ground| ground.cursors(&plan)).transpose()?;
        let clock = world.clock;
        let unopened = ground
            .as_ref()
            // One that is complete stays so.
            .filter(|_| !options.reextracts())
            .map(|ground| Unopened::new(&plan, &world, &options, &beginning, ground.attempts()));
        let opened = Run::open(plan, world, options, beginning).and_then(|run| {
            let run = Arc::new(run);
            let prepared = prepare(&run, ground, now).map_err(|failure| {
                run.drop_recording();
                run.secrets.scrub_failure(failure)
            })?;
            Ok((run, prepared))
        });
        match opened {
            Ok((run, (streams, standing))) => Ok(Self {
                run,
                tally,
                streams,
                standing,
            }),
            Err(failure) => {
                if let Some(unopened) = unopened {
                    unopened.failed(&failure, clock.calendar());
                }
                Err(failure)
            }
        }
    }

    /// Runs to the end: every stream is walked and published, or fails by itself.
    pub async fn run(self) -> Summary {
        let Self {
            run,
            tally,
            streams,
            standing,
        } = self;
        let began = run.begin();
        let names: Vec<Name> = streams
            .iter()
            .map(|(at, _)| run.plan.streams[*at].name.as_str().into())
            .collect();
        run.world.events.emit(Fact::RunStarted {
            pipeline: run.plan.name.as_str().into(),
            run: run.id.as_str().into(),
            streams: names.clone(),
        });
        if let Some(stream) = names.first() {
            for secret in run.secrets.of_length(1..SHORTEST_SCRUBBED) {
                run.world.events.emit(Fact::Noticed {
                    stream: stream.clone(),
                    message: format!(
                        "{secret} has fewer than four characters: it stays with its origin as any secret does, but is not looked for in messages"
                    ),
                });
            }
            let empty: Vec<&str> = run.secrets.of_length(0..1).collect();
            let wants = !matches!(run.plan.source.auth, AuthPlan::None);
            if wants && run.credentials.is_empty() && run.tokens.is_none() && !empty.is_empty() {
                run.world.events.emit(Fact::Noticed {
                    stream: stream.clone(),
                    message: format!(
                        "{} is set to nothing, so `source.auth` has nothing to send: the API is asked without a credential",
                        empty.join(" and ")
                    ),
                });
            }
        }
        let mut tasks = JoinSet::new();
        let standing = standing.map(|(standing, kept)| {
            standing.tell(&run, kept.iter().map(|kept| kept.pages).sum());
            // Streams run side by side; the limits decide whose turn it is.
            for (nth, ((at, targets), kept)) in streams.into_iter().zip(kept).enumerate() {
                let stream = course::run_stream(run.clone(), at, targets, kept, standing.state());
                tasks.spawn(async move { (nth, stream.await) });
            }
            standing
        });
        let mut outcomes = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(outcome) => outcomes.push(outcome),
                Err(mistake) => {
                    // Before the locks are let go nobody sends or fetches for the run; who still writes holds them too.
                    tasks.shutdown().await;
                    std::panic::resume_unwind(mistake.into_panic());
                }
            }
        }
        outcomes.sort_by_key(|(nth, _)| *nth);
        if let Some(tokens) = &run.tokens {
            tokens.close().await;
        }
        let mut exit = Exit::Complete;
        let mut summaries = Vec::new();
        for (name, (_, outcome)) in names.into_iter().zip(outcomes) {
            let mut summary = StreamSummary::new(name.clone());
            match outcome {
                Ok(published) => {
                    published.tell(&mut summary);
                    summary.table = run.tables.first_beside(&run.plan, &summary.stream);
                }
                Err(failure) => {
                    let failure = run.if_overdue(&name, failure);
                    run.world.events.stream_failed(name, &failure);
                    exit = exit.worst(failure.exit);
                    summary.failure = Some(*failure);
                }
            }
            summaries.push(summary);
        }
        let is_bound = tally
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_bound();
        // A search for a limit keeps no window that a margin would be added to.
        let is_declared = !run.plan.source.limits.iter().any(LimitPlan::is_auto);
        if is_bound && is_declared {
            let margin = run.limits.margin();
            run.world.events.emit(Fact::MarginUsed { margin });
        }
        if let Some(learned) = run.limits.learned() {
            run.world.events.emit(Fact::LimitsLearned {
                limit: learned.limit.into(),
                concurrency: learned.concurrency,
                refusals: learned.refusals,
            });
        }
        let values = run.ignored_signals();
        if values > 0 {
            run.world.events.emit(Fact::SignalsIgnored { values });
        }
        let took = run.world.clock.now().saturating_duration_since(began);
        let tally = std::mem::take(
            &mut *tally
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        let mut summary = tally.into_summary(run.plan.name.clone(), summaries, took, exit);
        if summary.is_short() {
            summary.exit = summary.exit.worst(Exit::Held);
        }
        summary.run.clone_from(&run.id);
        summary.used = run.limits.used();
        // Before the history is told: a run that ends with the recording's failure is no success there either.
        if let Err(failure) = run.end_recording().await {
            summary.exit = summary.exit.worst(failure.exit);
            summary.failure.get_or_insert(*failure);
        }
        if let Some(standing) = standing {
            // Others of this process go on meanwhile: folders may be large, and the state another's.
            let of = Arc::clone(&run);
            let end = move || (standing.end(&of, &summary), summary);
            let ended;
            (ended, summary) = commit::blocking(end).await;
            match ended {
                Ok(unfinished) => summary.unfinished = unfinished,
                Err(failure) => {
                    let failure = run.secrets.scrub_failure(failure);
                    summary.exit = summary.exit.worst(failure.exit);
                    summary.failure.get_or_insert(*failure);
                }
            }
        }
        run.world.events.emit(Fact::RunFinished {
            complete: summary.exit == Exit::Complete,
            exit: summary.exit as u8,
        });
        summary
    }
}

/// The streams to run with their targets tried, and what is kept of an earlier start.
#[expect(
    clippy::type_complexity,
    reason = "two fields of `Harvest`, told there"
)]
fn prepare(
    run: &Arc<Run>,
    ground: Option<Ground>,
    now: jiff::Timestamp,
) -> Result<(Vec<(usize, Targets)>, Option<(Standing, Vec<Kept>)>), Box<Failure>> {
    if let Some(ground) = &ground {
        ground.refuse_change(run)?;
    }
    let streams = open_streams(run)?;
    let standing = match ground {
        Some(ground) => Some(ground.stand(run, &streams, now)?),
        None if run.options.dry => None,
        None => Some(Standing::without_trace(run, &streams, now)?),
    };
    Ok((streams, standing))
}

/// The streams to run, their partitions begun and their targets tried.
fn open_streams(run: &Run) -> Result<Vec<(usize, Targets)>, Box<Failure>> {
    ground::targets::refuse_part(run)?;
    let mut streams = Vec::new();
    let plans = run.plan.streams.iter().enumerate();
    for (at, plan) in plans.filter(|(_, plan)| run.family.runs(&plan.name)) {
        if let Some(Err(problem)) = Source::of(run, plan).walk().next() {
            return Err(open_failure(&plan.name, &problem));
        }
        let targets = if run.family.is_chosen(&plan.name) {
            Targets::open(run, plan)?
        } else {
            Targets(Vec::new())
        };
        streams.push((at, targets));
    }
    ground::targets::refuse_shared(run, &streams)?;
    Ok(streams)
}

impl Options {
    /// Whether the run can be gone on with, and shows among the runs.
    pub fn leaves_trace(&self) -> bool {
        !self.dry && !self.traceless && self.limit_records.is_none() && !self.tape.is_replay()
    }
}
