//! Values and the types of their columns: the first page of a stream is tried at once, so that a wrong
//! type is told before the rest is asked for; and what becomes of records that columns reject.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::computed::Computed;
use super::outgoing::templates;
use super::{disk_failure, failure};
use crate::count::plural;
use crate::disk::Found;
use crate::failure::Failure;
use crate::harvest::partitions::Partition;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::plan::ColumnPlan;
use crate::plan::sink::{Compression, SinkMode};
use crate::plan::typed::OnBad;
use crate::sink::project::Projector;
use crate::sink::rejects::shorten;
use crate::sink::{Rejected, SinkError, Target};

/// The ending of a file of rejected records.
const ENDING: &str = "rejects.ndjson";

/// Where the records go that columns reject: beside the output, of runs that add files to a folder
/// in a folder beside that one, so that whoever reads all files of the folder meets none of them.
/// Standard output has no such place.
pub(in crate::harvest) fn rejects(target: &Target, mode: SinkMode) -> Option<Target> {
    let (disk, path) = match target {
        Target::File { disk, path, .. } => (disk, path.clone()),
        Target::Table(place) => (&place.disk, place.shown()),
        Target::Stdout => return None,
    };
    let folder = path.parent()?;
    let name = name_beside(&path)?;
    let folder = match mode {
        SinkMode::Append if matches!(target, Target::File { .. }) => {
            let mut beside = OsString::from(folder.file_name()?);
            beside.push(".rejects");
            folder.with_file_name(beside)
        }
        SinkMode::Append | SinkMode::Replace | SinkMode::Merge => folder.to_owned(),
    };
    Some(Target::File {
        disk: disk.clone(),
        path: folder.join(name),
        compression: Compression::None,
    })
}

/// What the file of the records is called that an output does not take.
fn name_beside(output: &Path) -> Option<OsString> {
    let mut name = OsString::from(output.file_name()?);
    name.push(".");
    name.push(ENDING);
    Some(name)
}

/// Brings the rejected records of an output to their place, and tells of them. Before the output, so that no
/// reader finds records missing and not where they are.
pub(in crate::harvest) fn settle(
    stream: &Stream,
    rejected: Option<Rejected>,
    nulled: &[(String, u64)],
    output: &Path,
) -> Result<(), Box<Failure>> {
    for (column, count) in nulled {
        stream.notice(&format!(
            "{}: column `{column}` is null in {} whose value does not fit its type",
            output.display(),
            plural(*count, "record")
        ));
    }
    if let Some(rejected) = rejected {
        let message = format!(
            "{} rejected, see {}; the first: {}",
            plural(rejected.records, "record"),
            rejected.path.display(),
            rejected.first
        );
        (rejected.file.place()).map_err(|error| failure(stream, error.into()))?;
        stream.notice(&message);
    }
    Ok(())
}

/// Removes what an earlier run rejected, once an output is in its place that takes all its records: until then
/// it belongs to the output that is there.
pub(in crate::harvest) fn sweep(stream: &Stream, output: &Path) -> Result<(), Box<Failure>> {
    let plan = &stream.run.plan;
    let table = plan.table(stream.at).into_iter();
    let mut columns = table.flat_map(|at| plan.streams[at].columns.iter().flatten());
    let rejects = |column: &ColumnPlan| column.on_bad == OnBad::Reject;
    let Some(name) = name_beside(output) else {
        return Ok(());
    };
    let old = output.with_file_name(name);
    let disk = &stream.run.world.disk;
    if columns.any(rejects) && matches!(disk.look(&old), Ok(Found::File(_))) {
        disk.remove_file(&old)
            .map_err(|error| disk_failure(&error))?;
    }
    Ok(())
}

impl Stream {
    /// Tries the first records that come against the types of their columns.
    pub(in crate::harvest) fn judge_types<'r>(
        &self,
        records: impl Iterator<Item = &'r str>,
        partition: &Partition,
        place: &str,
    ) -> Result<(), Box<Failure>> {
        let Some(columns) = &self.plan().columns else {
            return Ok(());
        };
        let strict = |column: &ColumnPlan| column.on_bad == OnBad::Fail;
        let mut records = records.peekable();
        if records.peek().is_none() || self.types_tried.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        if !columns.iter().any(strict) {
            return Ok(());
        }
        let mut projector = Projector::new(columns);
        let mut computed = Computed::new(&self.run.names, templates(Some(columns)));
        for (in_page, record) in (0..).zip(records) {
            let values = computed.of(partition, in_page).map_err(|e| {
                let mut failure = self.unrendered(&e);
                failure.message = self.run.secrets.scrub(&trouble::at(place, &e.message));
                failure
            })?;
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let mut cells = Vec::new();
            let tried = projector.cells(record, &values, &mut cells);
            if let Err(misfit) = tried
                && misfit.on_bad == OnBad::Fail
            {
                let message = trouble::at(place, &misfit.message());
                let error = SinkError::Misfit {
                    misfit,
                    record: shorten(record),
                };
                return Err(Box::new(Failure {
                    message: self.run.secrets.scrub(&message),
                    ..*failure(self, error.into())
                }));
            }
        }
        Ok(())
    }
}
