//! What happened, as data: past facts that the work emits and reporters draw.
//!
//! The same values feed bars, plain lines, the NDJSON stream, the summary and tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Something that happened, and when.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Calendar time, RFC 3339.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// A name shared by many events.
pub type Name = Arc<str>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Fact {
    /// A run began.
    RunStarted {
        /// The pipeline.
        pipeline: Name,
        /// The run's id.
        run: Name,
        /// Its streams, in order.
        streams: Vec<Name>,
    },
    /// The run goes on where an earlier attempt ended.
    RunContinued {
        /// The run's id.
        run: Name,
        /// When it began.
        began: Timestamp,
        /// Pages that are here already.
        pages: u64,
    },
    /// Pages that an earlier attempt committed were found again; they are not asked for.
    PagesKept {
        /// The stream.
        stream: Name,
        /// How many.
        pages: u64,
        /// Records in them.
        records: u64,
    },
    /// Pages of a partition count no more: the API gives its beginning anew.
    PagesVoid {
        /// The stream.
        stream: Name,
        /// How many of those that were kept or committed in this attempt.
        pages: u64,
        /// How many of them an earlier attempt had committed.
        kept: u64,
        /// Records in them.
        records: u64,
    },
    /// A page was fetched, understood and handed on.
    PageFetched {
        /// The stream.
        stream: Name,
        /// Ordinal of the partition.
        partition: u64,
        /// Ordinal of the page in its partition.
        page: u64,
        /// Records in it.
        records: u64,
        /// Bytes of its body, decompressed.
        bytes: u64,
        /// From sent to the body's end.
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// The number of pages of a stream became known or changed.
    PagesExpected {
        /// The stream.
        stream: Name,
        /// Pages of all partitions whose size is known so far.
        pages: u64,
        /// Whether that is all of them.
        complete: bool,
    },
    /// A partition was walked to its end.
    PartitionFinished {
        /// The stream.
        stream: Name,
        /// Ordinal of the partition.
        partition: u64,
    },
    /// A request began to wait for its turn.
    WaitBegan {
        /// The stream.
        stream: Name,
        /// Number of this wait, to match its end.
        id: u64,
        /// What is waited for.
        why: Wait,
        /// When it will end at the earliest, where known.
        until: Option<Timestamp>,
    },
    /// A wait ended.
    WaitEnded {
        /// The stream.
        stream: Name,
        /// Number of the wait.
        id: u64,
        /// What was waited for.
        why: Wait,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// An attempt failed; the page is tried again or given up (then `StreamFailed` follows).
    AttemptFailed {
        /// The stream.
        stream: Name,
        /// Stream, page and partition, for people.
        place: String,
        /// The request, without secrets.
        request: String,
        /// Its class.
        class: FailureClass,
        /// What went wrong, without secrets.
        message: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// How many there may be.
        of: u32,
        /// When it is tried again.
        retry_at: Option<Timestamp>,
    },
    /// A group of pages is on the disk: they are not asked for again, whatever happens.
    Committed {
        /// The stream.
        stream: Name,
        /// Pages in the group.
        pages: u64,
        /// Records in the group.
        records: u64,
        /// Bytes in the group.
        bytes: u64,
    },
    /// Records had fields that no column reads: they are not in the output.
    FieldsUnread {
        /// The stream.
        stream: Name,
        /// The paths of them.
        fields: Vec<String>,
    },
    /// Records that the API tells of are missing; what came is published, and the run is no
    /// success.
    FellShort {
        /// The stream.
        stream: Name,
        /// The note.
        message: String,
    },
    /// The schedule of a pipeline was read, or read again after its file changed.
    Scheduled {
        /// The pipeline.
        pipeline: Name,
        /// Its times.
        cron: String,
        /// On whose clock.
        zone: String,
        /// When it starts next, jitter included.
        next: Option<Timestamp>,
        /// Whether it was known before.
        again: bool,
    },
    /// The file of a pipeline cannot be understood.
    ScheduleBroken {
        /// The pipeline.
        pipeline: Name,
        /// What is wrong.
        message: String,
        /// Whether what stood in it before stays in force.
        kept: bool,
    },
    /// The file of a pipeline can be understood again.
    ScheduleMended {
        /// The pipeline.
        pipeline: Name,
    },
    /// A pipeline has no schedule any more.
    Unscheduled {
        /// The pipeline.
        pipeline: Name,
    },
    /// A planned time is left out.
    TimeSkipped {
        /// The pipeline.
        pipeline: Name,
        /// The time, the latest if there are several.
        planned: Timestamp,
        /// How many.
        times: u32,
        /// Why.
        why: String,
    },
    /// The run of a planned time begins.
    TimeCame {
        /// The pipeline.
        pipeline: Name,
        /// The time.
        planned: Timestamp,
        /// How many times the run stands for.
        times: u32,
        /// Whether it was begun before.
        again: bool,
    },
    /// The run of a planned time ended.
    TimeDone {
        /// The pipeline.
        pipeline: Name,
        /// The time.
        planned: Timestamp,
        /// The run, if one was begun.
        #[serde(skip_serializing_if = "Option::is_none")]
        run: Option<Name>,
        /// Its exit code.
        exit: u8,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
        /// When the pipeline starts next.
        next: Option<Timestamp>,
    },
    /// Something worth knowing about the schedule as a whole.
    ScheduleNoticed {
        /// The note.
        message: String,
    },
    /// Nothing runs, and this is what the schedule waits for.
    ScheduleWaits {
        /// The pipeline that starts next; none where no pipeline has a schedule.
        #[serde(skip_serializing_if = "Option::is_none")]
        pipeline: Option<Name>,
        /// When, jitter included.
        next: Option<Timestamp>,
        /// The same on the pipeline's own clock: `2026-11-24 02:30 CET`.
        local: Option<String>,
        /// So many files cannot be understood.
        broken: u64,
    },
    /// The schedule cannot do its work: nothing begins until that is mended.
    ScheduleStuck {
        /// What is wrong.
        message: String,
    },
    /// A check of `expect` does not hold.
    CheckFailed {
        /// The stream.
        stream: Name,
        /// Its key: `min_records`.
        check: Name,
        /// What it wants.
        expected: String,
        /// What there is.
        seen: String,
        /// Both in a sentence.
        message: String,
        /// Whether a person has released the data: they are published all the same.
        released: bool,
    },
    /// Something worth knowing that does not fail the run.
    Noticed {
        /// The stream.
        stream: Name,
        /// What.
        message: String,
    },
    /// Something worth knowing of the run as a whole.
    RunNoticed {
        /// What.
        message: String,
    },
    /// A stream failed; its target is left as it was.
    StreamFailed {
        /// The stream.
        stream: Name,
        /// The exit code that this alone would have.
        exit: u8,
        /// Why, for a person.
        message: String,
    },
    /// A file is whole and in its place.
    Published {
        /// The stream.
        stream: Name,
        /// The file.
        path: PathBuf,
        /// Rows in it.
        rows: u64,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A request was sent (redirects and retries count).
    RequestSent {
        /// The stream.
        stream: Name,
    },
    /// Limits held requests up; this margin was in use at the end.
    MarginUsed {
        /// J: by how much the network's delays differ, which permits rest beyond their window.
        #[serde(serialize_with = "seconds")]
        margin: Duration,
    },
    /// `limits: auto` came to this; it can be declared from now on.
    LimitsLearned {
        /// An entry of `limits`: `7/s`.
        limit: Name,
        /// Requests in flight.
        concurrency: usize,
        /// How often the API refused.
        refusals: u64,
    },
    /// Some of what answers said of limits could not be read, or made no sense.
    SignalsIgnored {
        /// Values, of all answers together.
        values: u64,
    },
    /// The run ended.
    RunFinished {
        /// Whether everything was published.
        complete: bool,
        /// The exit code.
        exit: u8,
    },
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Wait {
    /// A declared limit, as written: `80/min`.
    Limit {
        /// The limit.
        limit: Name,
        /// Which of its budgets, where it has several or covers a part of the API only:
        /// `/search/**`, `repo=a/b`.
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<Name>,
    },
    /// A slot among those in flight. Not reported as an event, only counted.
    Concurrency,
    /// A pause the server asked for.
    Pause {
        /// What it said: `429 with Retry-After: 30`.
        told: Name,
        /// Which budget it holds, where it is not all of the API: `/search/**`, `repo=a/b`.
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<Name>,
    },
    /// The delay before a retry.
    Backoff {
        /// Class of the failure.
        class: FailureClass,
    },
    /// The time before asking again for what is not ready; nothing else waits for it.
    NotReady {
        /// What the answer said.
        told: Name,
    },
}

impl Wait {
    /// A limit and its scope, for people: `30/min (/search/**)`.
    pub fn limit(limit: &str, scope: Option<&str>) -> String {
        match scope {
            None => limit.to_owned(),
            Some(scope) => format!("{limit} ({scope})"),
        }
    }
}

/// Classes of failed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// May go away by itself: connect, reset, time-out, truncated body, 408, 425, 5xx.
    Transient,
    /// The API asks for patience: 429, 503 or 403 with a hint.
    Throttle,
    /// A success that is not what was declared: HTML, an empty body.
    Suspect,
    /// Will not go away by itself.
    Fatal,
}

fn seconds<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64((d.as_secs_f64() * 1e6).round() / 1e6)
}
