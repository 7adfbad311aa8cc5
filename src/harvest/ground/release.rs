//! A person takes data whose checks do not hold as they are: the run is published from what it keeps.
//!
//! It is a run that goes on, over pages that are all here, so nothing is asked; a request that
//! would have to be sent fails it. Cut off anywhere, it is done again in the same way.

use crate::failure::Failure;
use crate::fetch::transport::{Boxed, Request, Response, SendError, SendErrorKind, Transport};
use crate::harvest::Options;
use crate::store::history::{RunRecord, Status};
use crate::store::state::{State, StateError};

/// A network for those who must not send anything.
#[derive(Debug, Clone, Copy)]
pub struct NothingSent;

impl Transport for NothingSent {
    fn send(&self, _: Request) -> Boxed<'_, Result<Response, SendError>> {
        Box::pin(std::future::ready(Err(SendError {
            kind: SendErrorKind::Withheld,
            message: "a run that a person publishes asks for nothing".to_owned(),
        })))
    }
}

impl Options {
    /// Whether a person has taken what checks hold.
    pub(in crate::harvest) fn releases(&self) -> bool {
        self.release.is_some()
    }

    /// Whether nothing is sent, as the run keeps all that it needs.
    pub(in crate::harvest) fn is_from_kept(&self) -> bool {
        self.releases() || self.reextracts()
    }
}

/// The run with this id, if it can be published from what it keeps. Hold the pipeline's lock.
pub(in crate::harvest) fn find(
    state: &State,
    pipeline: &str,
    id: &str,
) -> Result<RunRecord, Box<Failure>> {
    let run = wanted(state, pipeline, id)?;
    if !(run.status == Status::Held || run.status.is_open()) {
        return Err(Box::new(
            Failure::usage(format!(
                "run {id} is {}: there is nothing to release",
                run.status.name()
            ))
            .hint("`gleaner history show RUN` tells what became of it"),
        ));
    }
    is_newest(state, &run)?;
    Ok(run)
}

/// The run of a pipeline with this id.
pub(in crate::harvest) fn wanted(
    state: &State,
    pipeline: &str,
    id: &str,
) -> Result<RunRecord, Box<Failure>> {
    let found = state.run(id).map_err(StateError::into_failure)?;
    let found = found.filter(|run| run.pipeline == pipeline);
    found.ok_or_else(|| Box::new(Failure::usage(format!("there is no run `{id}`"))))
}

/// Refuses a run after which another one has published.
pub(in crate::harvest) fn is_newest(state: &State, run: &RunRecord) -> Result<(), Box<Failure>> {
    let later = state.published_after(run);
    let Some(later) = later.map_err(StateError::into_failure)? else {
        return Ok(());
    };
    let id = &run.id;
    Err(Box::new(
        Failure::usage(format!(
            "run {later} has published since: run {id} would put older data in the place of newer"
        ))
        .hint(format!("`gleaner runs discard {id}` removes what it keeps")),
    ))
}
