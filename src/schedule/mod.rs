//! When: times of pipelines, what becomes of those that cannot be kept, and the process that keeps them.
//!
//! ```text
//! pipeline files ─ Reader ─▶ Board ─ agenda::settle ─▶ Settled ─ the state, durably ─▶ waiting ─▶ run
//!                              ▲                                                                  │
//!                              └──────────────── exit, time taken ◀──────────────────────────────┘
//! ```
//!
//! [`agenda`] decides, as values, what is due; [`board`] knows all pipelines and what is under way, and
//! writes every decision down before anything comes of it; [`keeper`] is the one place that waits.
//! Who reads files, runs a pipeline and tells people stands outside, behind [`Hands`].

pub mod agenda;
pub mod board;
mod inherit;
pub mod keeper;
pub mod systemd;
pub mod unit;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::plan::schedule::SchedulePlan;

/// A pipeline file as it is now.
#[derive(Debug, Clone)]
pub struct Read {
    /// The pipeline.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What stands in it.
    pub content: Content,
}

/// What stands in a pipeline file.
#[derive(Debug, Clone)]
pub enum Content {
    /// A pipeline with a schedule.
    Scheduled {
        /// The file's text: what a run is made from, whatever becomes of the file.
        text: String,
        /// When it runs.
        schedule: Box<SchedulePlan>,
    },
    /// A pipeline without one.
    Unscheduled,
    /// Nothing that can be understood.
    Broken {
        /// Tells one broken state from another.
        print: u64,
        /// What is wrong, in a line.
        message: String,
    },
}

/// A run to be made.
#[derive(Debug, Clone)]
pub struct Order {
    /// The pipeline.
    pub name: String,
    /// Its file, for messages.
    pub path: PathBuf,
    /// The file's text, when it was good.
    pub text: String,
    /// The time it was planned for.
    pub at: Timestamp,
    /// How many planned times it stands for.
    pub times: u32,
    /// Whether its run was begun before.
    pub again: bool,
    /// How long it may take.
    pub deadline: Option<Duration>,
}

/// A run that goes on elsewhere, to its exit.
pub type Running = Pin<Box<dyn Future<Output = Exit> + Send>>;

/// What the schedule needs of its caller.
pub struct Hands {
    /// Reads all pipeline files; may take its time.
    pub read: Box<dyn Fn() -> Result<Vec<Read>, Box<Failure>> + Send + Sync>,
    /// Makes a run and sees to it that people learn of it; what it is given turns true to ask for a
    /// graceful stop.
    pub run: Box<dyn Fn(Order, watch::Receiver<bool>) -> Running + Send + Sync>,
    /// Tells what happened.
    pub tell: Box<dyn Fn(Fact) + Send + Sync>,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hands")
    }
}
