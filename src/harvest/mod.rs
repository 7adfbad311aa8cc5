//! The run: walk, attempt, commit, publish, summary.

pub mod backoff;
pub mod estimate;
pub mod events;
pub mod secrets;
pub mod summary;

mod answer;
mod attempt;
mod budget;
mod circuit;
mod commit;
mod computed;
mod hosts;
mod key;
mod names;
mod outcome;
mod pages;
mod partitions;
mod publish;
mod rows;
mod run;
mod spread;
mod stream;
mod targets;
mod told;
mod trouble;
mod turn;
mod verdict;
mod walk;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::event::{Fact, Name};
use crate::failure::{Exit, Failure};
use crate::fetch::transport::SharedTransport;
use crate::plan::Plan;
use crate::store::folder::RunFolder;
use crate::store::part::Part;

use self::events::Events;
use self::partitions::{PartitionProblem, Source};
use self::publish::Published;
use self::run::Run;
use self::stream::Stream;
use self::summary::{StreamSummary, Summary, Tally};
use self::targets::Targets;

/// Everything of the outside that a run touches.
#[derive(Debug, Clone)]
pub struct World {
    /// Time.
    pub clock: Clock,
    /// The network.
    pub transport: SharedTransport,
    /// The project root: sink paths, `file:` and `.env` are relative to it.
    pub root: PathBuf,
    /// Where events go.
    pub events: Events,
    /// Turns true to ask for a graceful stop.
    pub stop: tokio::sync::watch::Receiver<bool>,
}

/// What one run is asked to do differently.
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
}

/// A run with everything open: consumed by [`Harvest::run`].
#[derive(Debug)]
pub struct Harvest {
    run: Arc<Run>,
    tally: Arc<Mutex<Tally>>,
    /// The streams to run, with where their records go.
    streams: Vec<(usize, Targets)>,
}

/// The first records of a stream, for `preview`.
#[derive(Debug)]
pub struct Sample {
    /// The stream.
    pub stream: String,
    /// Its first page's records as JSON text.
    pub records: Vec<String>,
    /// Why there are none.
    pub failure: Option<Failure>,
}

impl Harvest {
    /// Touches the world early, so that what must fail fails before the first request: secrets,
    /// output folders, `for` lists.
    pub fn open(plan: Plan, mut world: World, options: Options) -> Result<Self, Box<Failure>> {
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
        let seed = fastrand::u64(..);
        let id = format!(
            "{}-{:04x}",
            world.clock.calendar().strftime("%Y%m%dT%H%M%SZ"),
            seed & 0xffff
        );
        let run = Arc::new(Run::open(plan, world, options, id, seed)?);
        let wanted = |name: &str| {
            run.options.streams.is_empty() || run.options.streams.iter().any(|s| s == name)
        };
        let mut streams = Vec::new();
        for (at, plan) in run
            .plan
            .streams
            .iter()
            .enumerate()
            .filter(|(_, plan)| wanted(&plan.name))
        {
            if let Some(Err(problem)) = Source::new(&plan.partitions, &run.names, &run.world.root)
                .walk(&run.files)
                .next()
            {
                return Err(open_failure(&plan.name, &problem));
            }
            streams.push((at, Targets::open(&run, plan)?));
        }
        targets::refuse_shared(&run, &streams)?;
        Ok(Self {
            run,
            tally,
            streams,
        })
    }

    /// The first page of each stream; nothing is written.
    pub async fn preview(self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (at, _) in &self.streams {
            let stream = Stream::new(self.run.clone(), *at);
            let (records, failure) = match stream.first_page().await {
                Ok(records) => (records, None),
                Err(failure) => (Vec::new(), Some(*told(&self.run, &stream.name, failure))),
            };
            samples.push(Sample {
                stream: stream.name.to_string(),
                records,
                failure,
            });
        }
        samples
    }

    /// Runs to the end: every stream is walked and published, or fails by itself.
    pub async fn run(self) -> Summary {
        let Self {
            run,
            tally,
            streams,
        } = self;
        let began = run.world.clock.now();
        let names: Vec<Name> = streams
            .iter()
            .map(|(at, _)| run.plan.streams[*at].name.as_str().into())
            .collect();
        run.world.events.emit(Fact::RunStarted {
            pipeline: run.plan.name.as_str().into(),
            run: run.id.as_str().into(),
            streams: names.clone(),
        });
        let mut outcomes: Vec<Result<Published, Box<Failure>>> = Vec::new();
        match RunFolder::create(&run.world.root, &run.id) {
            Err(error) => {
                let mut failure = *publish::disk_failure(&error);
                failure.hint = Some(
                    "what a run fetches is kept in .gleaner/ beside pipelines/ until it is published: it must be a folder that can be written, on a disk with room"
                        .to_owned(),
                );
                outcomes.extend(names.iter().map(|_| Err(Box::new(failure.clone()))));
            }
            Ok(folder) => {
                // Streams run side by side; the limits decide whose turn it is.
                let tasks: Vec<_> = streams
                    .into_iter()
                    .map(|(at, targets)| {
                        tokio::spawn(run_stream(run.clone(), at, targets, folder.part(at)))
                    })
                    .collect();
                for task in tasks {
                    outcomes.push(match task.await {
                        Ok(outcome) => outcome,
                        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                    });
                }
            }
        }
        let mut exit = Exit::Complete;
        let mut summaries = Vec::new();
        for (name, outcome) in names.into_iter().zip(outcomes) {
            let mut summary = StreamSummary::new(name.clone());
            match outcome {
                Ok(published) => {
                    summary.files = published.files;
                    summary.repeats = published.repeats;
                }
                Err(failure) => {
                    run.world.events.emit(Fact::StreamFailed {
                        stream: name,
                        message: failure.message.clone(),
                    });
                    exit = exit.worst(failure.exit);
                    summary.failure = Some(*failure);
                }
            }
            summaries.push(summary);
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
        run.world.events.emit(Fact::RunFinished {
            complete: exit == Exit::Complete,
            exit: exit as u8,
        });
        let took = run.world.clock.now().saturating_duration_since(began);
        let tally = std::mem::take(
            &mut *tally
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        tally.into_summary(run.plan.name.clone(), summaries, took, exit)
    }
}

async fn run_stream(
    run: Arc<Run>,
    at: usize,
    targets: Targets,
    part: PathBuf,
) -> Result<Published, Box<Failure>> {
    let part = Part::create(&part).map_err(|e| publish::disk_failure(&e))?;
    let stream = Arc::new(Stream::new(run.clone(), at));
    let published = match stream.clone().walk(part).await {
        Ok(walked) => publish::publish(&stream, walked, targets).await,
        Err(failure) => Err(failure),
    };
    published.map_err(|failure| told(&run, &stream.name, failure))
}

/// A failure as it leaves the run: it names its stream, and whatever it was put together from, no
/// secret is in it.
fn told(run: &Run, stream: &str, failure: Box<Failure>) -> Box<Failure> {
    let mut failure = run.secrets.scrub_failure(failure);
    let named = failure
        .message
        .strip_prefix(stream)
        .is_some_and(|rest| rest.starts_with([',', ':']));
    if !named {
        failure.message = format!("{stream}: {}", failure.message);
    }
    failure
}

/// The partitions of a stream cannot be told.
fn open_failure(stream: &str, problem: &PartitionProblem) -> Box<Failure> {
    let hint = match problem {
        PartitionProblem::File { path, .. } if path.is_file() => {
            "correct the file, or what `for` says of it"
        }
        PartitionProblem::File { .. } => {
            "the path is relative to the project root, the folder that holds pipelines/"
        }
        _ => "correct `for` in the pipeline file",
    };
    Box::new(Failure {
        exit: Exit::Usage,
        message: format!("{stream}: {problem}"),
        causes: Vec::new(),
        hint: Some(hint.to_owned()),
    })
}
