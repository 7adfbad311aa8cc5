//! A pipeline's file that cannot be understood is told to those whom it names: once when it breaks, once when it
//! can be understood again. Its runs are another matter: while what stood in it before is in force, they may be well.

use std::path::Path;

use super::{Ended, Watch};
use crate::disk::Disk;
use crate::failure::Failure;
use crate::store::alerts::{BROKEN, WELL, of_file};
use crate::store::state::{State, StateError};

/// Whether anybody was ever to hear that the file of a pipeline is broken: of most nothing is known, so that nobody
/// has to hear that they are well.
pub fn was_broken(disk: &Disk, root: &Path, pipeline: &str) -> Result<bool, Box<Failure>> {
    let known = State::open(disk, root).and_then(|state| state.alert(&of_file(pipeline)));
    Ok(known.map_err(StateError::into_failure)?.is_some())
}

impl Watch {
    /// The pipeline's file is broken so, or is well after it [was broken](was_broken): that is written down, for
    /// [`Self::tell_of_file`].
    pub async fn note_file(&self, broken: Option<&Failure>) {
        let ended = match broken {
            None => self.of_file(),
            Some(failure) => Ended {
                condition: BROKEN.to_owned(),
                exit: Some(failure.exit.code()),
                message: Some(self.secrets.scrub(&failure.to_string())),
                hint: failure.hint.as_deref().map(|hint| self.secrets.scrub(hint)),
                ..self.of_file()
            },
        };
        if let Err(failure) = self.note(of_file(&self.pipeline), ended).await {
            self.notice(&format!(
                "nobody could be told of the file of {}: {failure}",
                self.pipeline
            ));
        }
    }

    fn of_file(&self) -> Ended {
        Ended {
            condition: WELL.to_owned(),
            exit: None,
            run: None,
            began: None,
            at: self.clock.calendar(),
            rows: 0,
            message: None,
            hint: None,
            streams: serde_json::json!([]),
        }
    }
}
