//! What the `datapackage.json` of a folder is told of a publish, before the state says that it is
//! done: a run that died in between tells it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::rows::Rows;
use super::{Output, failure};
use crate::failure::Failure;
use crate::harvest::ground::same;
use crate::harvest::stream::Stream;
use crate::plan::sink::{SinkMode, SinkPlan};
use crate::sink::Target;
use crate::sink::datapackage::{self, NAME, Resource, Told};
use crate::store::locks::{self, LockError};
use crate::store::{StoreError, sweep};

/// What there is to say of an output: in which folder, and what. Nothing of standard output, and nothing
/// where the sink says so, or the run is a sample.
pub(in crate::harvest) fn resource(
    rows: &Rows<'_>,
    sink: &SinkPlan,
    target: &Target,
    output: &Output,
) -> Option<(PathBuf, Value)> {
    let run = rows.run;
    let members = rows.members.iter().map(|member| member.plan);
    let streams: Vec<&str> = members.map(|plan| plan.name.as_str()).collect();
    let (first, key) = (rows.members.first()?.plan, &rows.members.first()?.plan.key);
    if !sink.datapackage || run.options.limit_records.is_some() {
        return None;
    }
    let (path, table) = match target {
        Target::Stdout => return None,
        Target::File { path, .. } => (path, None),
        Target::Table(place) => (&place.path, Some(place.table.as_str())),
    };
    let mut folder = path.parent()?;
    let mut file = path.file_name()?.to_str()?.to_owned();
    let stem = file.split('.').find(|part| !part.is_empty())?.to_owned();
    let name = match (table, sink.mode) {
        (Some(table), _) => table.to_owned(),
        (None, SinkMode::Append) => {
            // Told beside the folder, so that whoever reads all files of it meets no other; beside the
            // project nothing is ours.
            if folder != run.world.root {
                file = format!("{}/{file}", folder.file_name()?.to_str()?);
                folder = folder.parent()?;
            }
            // The file is named by the run.
            format!("{}-{stem}", first.name)
        }
        (None, SinkMode::Replace | SinkMode::Merge) => stem,
    };
    let written = run.plan.source.url.written();
    let chosen = |stream: &crate::plan::StreamPlan| streams.contains(&stream.name.as_str());
    let plan = same::identity(run, &chosen).hash();
    let resource = Resource {
        name: &name,
        file: &file,
        table,
        format: &sink.format,
        compression: sink.compression,
        size: table
            .is_none()
            .then(|| (output.file.bytes(), output.file.crc())),
        rows: output.rows,
        schema: output.schema.as_ref(),
        // A run that adds may bring a record again.
        key: match sink.mode {
            SinkMode::Append => &[],
            SinkMode::Replace | SinkMode::Merge => key,
        },
        about: &run.plan.about,
        source: if written.contains("{{") { "" } else { written },
        origin: json!({
            "pipeline": run.plan.name,
            "stream": first.name,
            "streams": streams,
            "mode": sink.mode.name(),
            "run": run.id,
            "started": run.started.to_string(),
            "published": run.world.clock.calendar().to_string(),
            "plan": format!("{plan:016x}"),
            "version": env!("CARGO_PKG_VERSION"),
        }),
    };
    Some((folder.to_owned(), resource.to_json()))
}

/// Tells of what was published, folder by folder.
pub(in crate::harvest) fn tell(
    stream: &Stream,
    resources: Vec<(PathBuf, Value)>,
) -> Result<(), Box<Failure>> {
    let run = &stream.run;
    let disk = &run.world.disk;
    let mut folders: BTreeMap<PathBuf, Vec<Value>> = BTreeMap::new();
    for (folder, resource) in resources {
        folders.entry(folder).or_default().push(resource);
    }
    let project = run.world.root.join(".gleaner");
    let state: &Path = run.options.state.as_deref().unwrap_or(&project);
    for (folder, resources) in folders {
        let now = run.world.clock.calendar();
        let place = folder.join(NAME);
        let _lock = locks::wait(disk, state, &place).map_err(LockError::into_failure)?;
        // Left by a process that died here.
        sweep::strays(disk, &place).map_err(|e| StoreError::from(e).into_failure())?;
        let told = datapackage::put(disk, &folder, resources, &now.to_string())
            .map_err(|error| failure(stream, error.into()))?;
        if let Told::No(why) = told {
            stream.notice(&format!(
                "{} is left as it is: {why}; move it away, or write `datapackage: false` into the sink",
                place.display()
            ));
        }
    }
    Ok(())
}
