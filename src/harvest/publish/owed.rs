//! Cursors of a stream that others run over: they move when those are published too.
//!
//! A cursor that moved before would take the records away from children that failed: the next run
//! would not bring them again. To ask for them again does no harm where `merge` knows them, and where
//! nothing is published of them; a stream that appends moves its cursor with its file.

use std::sync::Arc;

use super::PublishError;
use super::rows::{Member, Rows};
use crate::failure::Failure;
use crate::harvest::ground::standing::{self, SharedState};
use crate::harvest::stream::Stream;
use crate::plan::sink::SinkMode;
use crate::store::cursors::{Cursor, Publish};
use crate::store::state::StateError;
use crate::store::stream::StreamStore;

impl Stream {
    /// Whether its cursors wait for its children.
    pub(in crate::harvest) fn owes(&self) -> bool {
        let plan = self.plan();
        let mut sinks = plan.sinks.iter();
        plan.cursor.is_some()
            && self.run.family.feed(&self.name).is_some()
            && sinks.all(|sink| sink.mode == SinkMode::Merge)
    }

    /// Where its cursors will be, of a stream that an earlier attempt published.
    pub(in crate::harvest) async fn owed(
        self: &Arc<Self>,
        mut store: StreamStore,
    ) -> Result<Vec<Cursor>, Box<Failure>> {
        if !self.owes() || !self.run.family.is_chosen(&self.name) {
            return Ok(Vec::new());
        }
        let worker = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            store.sort();
            let rows = Rows {
                run: &worker.run,
                members: vec![Member::of(worker.plan(), &store)],
                most: u64::MAX,
            };
            let moved: Result<_, PublishError> = worker.moved(&rows);
            moved.map_err(|error| super::failure(&worker, error))
        });
        match work.await {
            Ok(moved) => moved,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Moves the cursors once all that run over its records are published; not if one is held.
    pub(in crate::harvest) async fn settle(
        &self,
        owed: Vec<Cursor>,
        state: Option<SharedState>,
    ) -> Result<(), Box<Failure>> {
        if owed.is_empty() || !self.run.family.ended_well(&self.name).await {
            return Ok(());
        }
        let run = Arc::clone(&self.run);
        let name = self.plan().name.clone();
        let work = tokio::task::spawn_blocking(move || match standing::lock(state.as_ref()) {
            None => Ok(()),
            Some(mut state) => state.publish(&[Publish {
                run: &run.id,
                pipeline: &run.plan.name,
                stream: &name,
                at: run.world.clock.calendar(),
                files: &[],
                cursors: &owed,
                base: None,
            }]),
        });
        match work.await {
            Ok(moved) => moved.map_err(StateError::into_failure),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}
