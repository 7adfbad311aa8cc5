//! Partitions under way, so many side by side, and how they end.

use std::future::Future;

use tokio::task::JoinSet;

use super::attempt::ready::Resting;
use crate::failure::{Exit, Failure};

/// Tasks of one stream, a partition each.
pub(super) struct Crew {
    resting: Resting,
    tasks: JoinSet<Result<(), Box<Failure>>>,
    width: usize,
    /// Whether those under way come to their end when one has failed.
    drains: bool,
    stopped: Option<Box<Failure>>,
}

impl Crew {
    /// At most `width` side by side. With `drains` those that are under way come to their end though
    /// one has failed: they have been paid for.
    pub(super) fn new(width: usize, drains: bool, resting: Resting) -> Self {
        Self {
            resting,
            tasks: JoinSet::new(),
            width,
            drains,
            stopped: None,
        }
    }

    /// How many more may begin; none once somebody asked to stop.
    pub(super) fn room(&self) -> usize {
        match self.stopped {
            None => (self.width + self.resting.count()).saturating_sub(self.tasks.len()),
            Some(_) => 0,
        }
    }

    /// Whether none is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether somebody asked to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Begins one.
    pub(super) fn begin(
        &mut self,
        task: impl Future<Output = Result<(), Box<Failure>>> + Send + 'static,
    ) {
        self.tasks.spawn(task);
    }

    /// Waits for one to end, or to rest; false where none is under way. A failure ends them all; where somebody
    /// asked to stop, the others are in flight, or end by themselves.
    pub(super) async fn one(&mut self) -> Result<bool, Box<Failure>> {
        let ended = tokio::select! {
            biased;
            ended = self.tasks.join_next() => ended,
            () = self.resting.more() => return Ok(true),
        };
        match ended {
            None => Ok(false),
            Some(Ok(Ok(()))) => Ok(true),
            Some(Ok(Err(failure))) if failure.exit == Exit::Interrupted || self.drains => {
                self.stopped.get_or_insert(failure);
                Ok(true)
            }
            Some(Ok(Err(failure))) => Err(failure),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Waits for all.
    pub(super) async fn all(mut self) -> Result<(), Box<Failure>> {
        while self.one().await? {}
        self.stopped.map_or(Ok(()), Err)
    }
}
