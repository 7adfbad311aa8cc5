//! The run: walk, attempt, commit, publish, summary.

pub mod backoff;
pub mod events;
pub mod secrets;
pub mod summary;

use std::path::PathBuf;

use crate::clock::Clock;
use crate::failure::Failure;
use crate::fetch::transport::SharedTransport;
use crate::plan::Plan;

use self::events::Events;
use self::summary::Summary;

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
    /// Resolves to ask for a graceful stop.
    pub stop: tokio::sync::watch::Receiver<bool>,
}

/// What one run is asked to do differently.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these streams; empty means all.
    pub streams: Vec<String>,
    /// At most so many records a stream, written beside the target.
    pub limit_records: Option<u64>,
}

/// A run with everything open: consumed by [`Harvest::run`].
#[derive(Debug)]
pub struct Harvest {}

impl Harvest {
    /// Touches the world early, so that what must fail fails before the first request: secrets,
    /// output folders, `file:` lists.
    pub fn open(plan: Plan, world: World, options: Options) -> Result<Self, Box<Failure>> {
        let _ = (plan, world, options);
        todo!()
    }

    /// Runs to the end.
    pub async fn run(self) -> Summary {
        todo!()
    }
}
