//! A publish that failed, as it is told: which exit code it calls for, and what to do.

use std::io;

use super::PublishError;
use crate::disk::DiskError;
use crate::failure::{Exit, Failure};
use crate::harvest::stream::Stream;

/// A publish that failed, as it is told.
pub(in crate::harvest) fn failure(stream: &Stream, error: PublishError) -> Box<Failure> {
    let error = match error {
        PublishError::Failure(failure) => return failure,
        error => error,
    };
    if error.is_closed_pipe() {
        return Box::new(Failure {
            exit: Exit::Failed,
            message: format!(
                "{}: standard output was closed before all rows were written",
                stream.name
            ),
            causes: Vec::new(),
            hint: Some(
                "its reader (such as `head`) left early; `--limit-records` asks for fewer rows"
                    .to_owned(),
            ),
        });
    }
    let message = stream
        .run
        .secrets
        .scrub(&format!("{}: {error}", stream.name));
    let mut causes = Vec::new();
    let (exit, hint) = match &error {
        PublishError::Sink(e) => {
            let cause = e.cause();
            causes.extend(cause.map(|cause| stream.run.secrets.scrub(&cause)));
            (
                if e.is_disk() {
                    Exit::Disk
                } else {
                    Exit::Failed
                },
                e.hint(),
            )
        }
        PublishError::Merge(e) => {
            let (exit, hint) = e.end();
            (exit, hint.map(str::to_owned))
        }
        PublishError::Read(error) => {
            let (exit, hint) = read_end(error);
            (exit, hint.map(str::to_owned))
        }
        PublishError::Failure(_) => (Exit::Failed, None),
    };
    Box::new(Failure {
        exit,
        message,
        causes,
        hint,
    })
}

/// What reading the staged records came to: the disk, a spilled sort, or a template and its record.
pub(in crate::harvest) fn read_end(error: &io::Error) -> (Exit, Option<&'static str>) {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<DiskError>())
    {
        Some(error) => (Exit::Disk, Some(error.hint())),
        None => (
            Exit::Failed,
            Some(
                "what was fetched is kept: correct the pipeline file and run again; a template or a file of `for` may not be as it was",
            ),
        ),
    }
}

/// A file that cannot be made or written.
pub(in crate::harvest) fn disk_failure(error: &DiskError) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Disk,
        message: error.to_string(),
        causes: vec![error.source.to_string()],
        hint: Some(error.hint().to_owned()),
    })
}
