//! What a run writes into history: the sums of all its attempts, what each stream came to, why it
//! is not complete, and what to do next.
//!
//! A run has one row, however many processes worked on it. It is written when the run begins, so one
//! that is killed is there too, and again at the end of each attempt; also of one that fails
//! before its first request.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::standing::Standing;
use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::harvest::run::{Beginning, Run};
use crate::harvest::summary::{StreamSummary, Summary};
use crate::harvest::{Harvest, Options, World};
use crate::plan::Plan;
use crate::store::hash::stable;
use crate::store::history::{Counts, RunRecord, Status};
use crate::store::state::State;

impl Standing {
    /// Takes this attempt into the row of its run.
    pub(in crate::harvest) fn sum_up(
        &mut self,
        run: &Run,
        summary: &Summary,
        status: Status,
        now: Timestamp,
    ) {
        let record = &mut self.record;
        record.status = status;
        record.ended = Some(now);
        record.exit = Some(summary.exit.code());
        record.active += summary.took.as_secs_f64();
        let streams = merged(&record.streams, run, summary);
        let sum = |key: &str| streams.iter().filter_map(|one| one[key].as_u64()).sum();
        record.counts = Counts {
            pages: sum("pages"),
            rows: sum("records"),
            bytes: sum("bytes"),
            requests: record.counts.requests + summary.requests,
        };
        let files = streams.iter().filter_map(|one| one["files"].as_array());
        record.files = files.flatten().cloned().collect();
        record.streams = streams.into();
        add(&mut record.retries, &json!(summary.retries));
        let waits = summary.waited.iter();
        let waits = waits.map(|(name, time)| (name.to_string(), json!(time.as_secs_f64())));
        add(&mut record.waits, &waits.collect::<Map<_, _>>().into());
        add(&mut record.quota, &json!(summary.used));
        record.window_from = run.windows.iter().zip(&run.plan.streams).find_map(|both| {
            let (Some(windows), Some(cursor)) = (both.0, &both.1.cursor) else {
                return None;
            };
            Some(windows.earliest(cursor).to_string())
        });
        let failures = summary.streams.iter().filter_map(|s| s.failure.as_ref());
        let failures = failures.chain(&summary.failure);
        // The one that asks for most of a person; of several the first.
        let worst = failures.reduce(|worst, next| {
            if worst.exit.worst(next.exit) == worst.exit {
                worst
            } else {
                next
            }
        });
        record.failure = worst.map(|failure| failure.message.clone());
        record.hint = worst.and_then(|failure| failure.hint.clone());
        if run.options.release.is_some() && status == Status::Complete {
            record.released = Some(now);
        }
    }
}

/// What a row says of the plan and the program that work on the run now.
pub(in crate::harvest) fn sign(record: &mut RunRecord, plan: &Plan) {
    env!("CARGO_PKG_VERSION").clone_into(&mut record.version);
    record.plan = format!("{:016x}", stable(&[&plan.text]));
}

/// An attempt that has not come to its first request: it is written down if it fails before.
#[derive(Debug)]
pub(in crate::harvest) struct Unopened {
    disk: Disk,
    root: PathBuf,
    record: RunRecord,
    /// How many processes worked on it before, if it goes on.
    before: Option<u32>,
}

impl Unopened {
    /// Of a run that begins so; one that goes on had so many attempts `before`.
    pub(in crate::harvest) fn new(
        plan: &Plan,
        world: &World,
        options: &Options,
        of: &Beginning,
        before: Option<u32>,
    ) -> Self {
        let mut record = RunRecord {
            options: options.noted.clone(),
            ..RunRecord::begun(&of.id, &plan.name, 0, of.started)
        };
        sign(&mut record, plan);
        Self {
            disk: world.disk.clone(),
            root: world.root.clone(),
            record,
            before,
        }
    }

    /// It failed. Where the state cannot be written either, the failure itself is all there is to
    /// say.
    pub(in crate::harvest) fn failed(self, failure: &Failure, now: Timestamp) {
        let Ok(mut state) = State::open(&self.disk, &self.root) else {
            return;
        };
        let Ok(known) = state.run(&self.record.id) else {
            return;
        };
        let mut record = match (known, self.before) {
            // What it keeps can be gone on with as before.
            (Some(known), Some(before)) => RunRecord {
                status: match known.status {
                    Status::Running => Status::Resumable,
                    status => status,
                },
                attempts: before + 1,
                version: self.record.version,
                plan: self.record.plan,
                ..known
            },
            // It may have come to its folder, and no further.
            (known, _) => RunRecord {
                status: Status::Failed,
                ..known.unwrap_or(self.record)
            },
        };
        record.ended = Some(now);
        record.exit = Some(failure.exit.code());
        record.failure = Some(failure.message.clone());
        record.hint.clone_from(&failure.hint);
        let _ = state.save_run(&record);
    }
}

impl Harvest {
    /// A run that came to nothing before it could be opened stands in the history all the same.
    pub fn not_opened(plan: &Plan, world: &World, options: &Options, failure: &Failure) {
        if options.leaves_trace() {
            let now = world.clock.calendar();
            let beginning = Beginning::at(now);
            Unopened::new(plan, world, options, &beginning, None).failed(failure, now);
        }
    }
}

/// What each stream has come to in all attempts, in the order of the file.
fn merged(before: &Value, run: &Run, summary: &Summary) -> Vec<Value> {
    let mut all: BTreeMap<usize, Value> = BTreeMap::new();
    let place = |name: &str| {
        let mut plans = run.plan.streams.iter();
        plans.position(|plan| plan.name == name)
    };
    for known in before.as_array().into_iter().flatten() {
        if let Some(at) = known["stream"].as_str().and_then(place) {
            all.insert(at, known.clone());
        }
    }
    for stream in &summary.streams {
        let Some(at) = place(&stream.stream) else {
            continue;
        };
        let known = all.get(&at);
        // One whose attempt published it and failed right after has not told its files.
        let is_told = known.is_some_and(|known| known["status"] == "complete");
        if is_told && stream.published_before {
            continue;
        }
        let bytes = known.and_then(|known| known["bytes"].as_u64()).unwrap_or(0);
        let mut told = told(stream, bytes);
        let windows = run.windows.get(at).and_then(Option::as_ref);
        if let (Some(windows), Some(cursor)) = (windows, &run.plan.streams[at].cursor) {
            told["window"] = json!({
                "from": windows.earliest(cursor).to_string(),
                "to": windows.to().map(ToString::to_string),
            });
        }
        all.insert(at, told);
    }
    all.into_values().collect()
}

fn told(stream: &StreamSummary, bytes: u64) -> Value {
    let status = match &stream.failure {
        None => "complete",
        Some(failure) => match failure.exit {
            Exit::Held => "held",
            Exit::Interrupted | Exit::Terminated => "stopped",
            Exit::Resumable => "unfinished",
            _ => "failed",
        },
    };
    let records = if stream.published_before {
        stream.files.first().map_or(0, |file| file.rows)
    } else {
        stream.records
    };
    let mut told = json!({
        "stream": stream.stream,
        "status": status,
        "records": records,
        "pages": stream.pages,
        "partitions": stream.partitions,
        "bytes": bytes + stream.bytes,
        "repeats": stream.repeats,
        "rejected": stream.rejected,
        "files": stream.files,
    });
    if !stream.unread.is_empty() {
        told["unread"] = json!(stream.unread);
    }
    if !stream.checks.is_empty() {
        told["checks"] = json!(stream.checks);
    }
    if let Some(schema) = &stream.schema {
        told["schema"] = json!(schema);
    }
    if let Some(types) = &stream.types {
        told["types"] = json!(types);
    }
    if let Some(failure) = &stream.failure {
        told["failure"] = json!({
            "message": failure.message,
            "causes": failure.causes,
            "hint": failure.hint,
        });
    }
    told
}

/// Adds numbers by name to those that are there.
fn add(sums: &mut Value, more: &Value) {
    if !sums.is_object() {
        *sums = Value::Object(Map::new());
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        let known = sums.get(name);
        let sum = match (known.and_then(Value::as_u64), value.as_u64()) {
            (Some(a), Some(b)) => json!(a + b),
            _ => match (known.and_then(Value::as_f64), value.as_f64()) {
                (Some(a), Some(b)) => json!(a + b),
                _ => value.clone(),
            },
        };
        sums[name] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_attempts_are_added_by_name() {
        let mut sums = json!({"throttle": 2, "60/min": 1.5});
        add(&mut sums, &json!({"throttle": 1, "60/min": 0.5, "new": 7}));
        assert_eq!(sums, json!({"throttle": 3, "60/min": 2.0, "new": 7}));
        let mut lost = Value::Null;
        add(&mut lost, &json!({"a": 1}));
        assert_eq!(lost, json!({"a": 1}));
    }
}
