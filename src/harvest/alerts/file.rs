//! A pipeline's file that cannot be understood is told to those whom it names: once when it breaks, once when it
//! can be understood again. Its runs are another matter: while what stood in it before is in force, they may be well.

use super::{Ended, Watch};
use crate::failure::Failure;
use crate::store::alerts::{BROKEN, WELL, of_file};

impl Watch {
    /// The pipeline's file is broken so, or is well.
    pub async fn file_is(&self, broken: Option<&Failure>) {
        let told = match broken {
            Some(failure) => self.file_is_broken(failure).await,
            None => self.file_is_well().await,
        };
        if let Err(failure) = told {
            self.notice(&format!(
                "nobody could be told of the file of {}: {failure}",
                self.pipeline
            ));
        }
    }

    async fn file_is_broken(&self, failure: &Failure) -> Result<(), Box<Failure>> {
        let ended = Ended {
            condition: BROKEN,
            exit: Some(failure.exit.code()),
            message: Some(self.secrets.scrub(&failure.to_string())),
            hint: failure.hint.as_deref().map(|hint| self.secrets.scrub(hint)),
            ..self.of_file()
        };
        let (alert, message) = self.note(&of_file(&self.pipeline), &ended).await?;
        self.alert(&alert, &message).await
    }

    async fn file_is_well(&self) -> Result<(), Box<Failure>> {
        let file = of_file(&self.pipeline);
        let known = self.state(move |state| state.alert(&file)).await?;
        // Most files were never broken: nothing is written of them.
        if known.is_none() {
            return Ok(());
        }
        let ended = self.of_file();
        let (alert, message) = self.note(&of_file(&self.pipeline), &ended).await?;
        self.alert(&alert, &message).await
    }

    fn of_file(&self) -> Ended<'static> {
        Ended {
            condition: WELL,
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
