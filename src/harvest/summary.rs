//! What a run came to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::event::{Fact, FailureClass, Name, Wait};
use crate::failure::{Exit, Failure};
use crate::plan::typed::Kind;

/// Waits are told by name up to here.
const MOST_WAITS: usize = 100;

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    /// The pipeline.
    pub pipeline: String,
    /// The run's id.
    pub run: String,
    /// One entry a stream, in the order of the file.
    pub streams: Vec<StreamSummary>,
    /// Requests sent, retries and redirects included.
    pub requests: u64,
    /// Failed attempts by class.
    pub retries: BTreeMap<FailureClass, u64>,
    /// Time all requests together waited, by limit or pause.
    pub waited: BTreeMap<Name, Duration>,
    /// Calls, or units of a cost, taken of each limit.
    pub used: BTreeMap<Name, f64>,
    /// J, the margin for the network's jitter; only where a limit held requests up.
    pub margin: Option<Duration>,
    /// What `limits: auto` came to.
    pub learned: Option<LearnedLimits>,
    /// What a run that did not end leaves for the next one.
    pub unfinished: Option<Unfinished>,
    /// Why the end of the run could not be written down, if it could not.
    pub failure: Option<Failure>,
    /// Values that answers gave of limits and that made no sense.
    pub ignored_signals: u64,
    /// From open to end.
    pub took: Duration,
    /// The exit code.
    pub exit: Exit,
}

/// What a run that did not end leaves for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The run's id.
    pub run: String,
    /// Pages that are kept, of this and earlier attempts.
    pub pages: u64,
}

/// What `limits: auto` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedLimits {
    /// An entry of `limits`: `7/s`.
    pub limit: Name,
    /// Requests in flight.
    pub concurrency: usize,
    /// How often the API refused.
    pub refusals: u64,
}

/// What one stream came to.
#[derive(Debug)]
pub struct StreamSummary {
    /// Its name.
    pub stream: Name,
    /// Records committed.
    pub records: u64,
    /// Pages committed, by this and earlier attempts.
    pub pages: u64,
    /// Pages of them that earlier attempts committed.
    pub kept: u64,
    /// Whether an earlier attempt published it: it is not fetched again.
    pub published_before: bool,
    /// Partitions walked to their end.
    pub partitions: u64,
    /// Body bytes, decompressed.
    pub bytes: u64,
    /// Records dropped because a later one had the same key.
    pub repeats: u64,
    /// Records that went to files of their own, because a value did not fit its column.
    pub rejected: u64,
    /// Fields that records had and no column reads.
    pub unread: Vec<String>,
    /// How often the API told of more records than came, though they are published.
    pub shortfalls: u64,
    /// Files published; those of a table that several streams write are told of its first.
    pub files: Vec<FileSummary>,
    /// The first stream of its table, where that is another one.
    pub table: Option<Name>,
    /// Checks of `expect` that do not hold.
    pub checks: Vec<BrokenCheck>,
    /// Fields and the kinds of their values, where `expect.schema` asks.
    pub schema: Option<Schema>,
    /// The types of its columns, where the output has any.
    pub types: Option<BTreeMap<String, Kind>>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// For each column the kinds of values that it had, by name.
pub type Schema = BTreeMap<String, Vec<String>>;

/// A check of `expect` that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenCheck {
    /// Its key: `min_records`.
    pub check: Name,
    /// What it wants.
    pub expected: String,
    /// What there was.
    pub seen: String,
    /// Both in a sentence.
    pub message: String,
}

/// One published file.
#[derive(Debug, Clone, Serialize)]
pub struct FileSummary {
    /// Where it is.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// CRC32C of all its bytes; eight hexadecimal digits where it is written down.
    #[serde(rename = "crc32c", serialize_with = "hex")]
    pub crc: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn hex<S: serde::Serializer>(crc: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{crc:08x}"))
}

impl Summary {
    /// Whether a stream was published though the API told of more records than came, or without
    /// records that do not fit their columns.
    pub fn is_short(&self) -> bool {
        let short = |stream: &StreamSummary| {
            stream.failure.is_none() && stream.shortfalls + stream.rejected > 0
        };
        self.streams.iter().any(short)
    }
}

impl StreamSummary {
    /// A stream of which nothing is known yet.
    pub fn new(stream: Name) -> Self {
        Self {
            stream,
            records: 0,
            pages: 0,
            kept: 0,
            published_before: false,
            partitions: 0,
            bytes: 0,
            repeats: 0,
            rejected: 0,
            unread: Vec::new(),
            shortfalls: 0,
            files: Vec::new(),
            table: None,
            checks: Vec::new(),
            schema: None,
            types: None,
            failure: None,
        }
    }
}

/// Events folded into totals.
#[derive(Debug, Default)]
pub struct Tally {
    streams: BTreeMap<Name, Counts>,
    requests: u64,
    retries: BTreeMap<FailureClass, u64>,
    waited: BTreeMap<Name, Duration>,
    is_bound: bool,
    margin: Option<Duration>,
    learned: Option<LearnedLimits>,
    ignored_signals: u64,
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    pages: u64,
    kept: u64,
    partitions: u64,
    bytes: u64,
    shortfalls: u64,
    checks: Vec<BrokenCheck>,
}

impl Tally {
    /// Counts one event.
    pub fn add(&mut self, fact: &Fact) {
        match fact {
            Fact::PageFetched { stream, bytes, .. } => self.of(stream).bytes += bytes,
            Fact::Committed {
                stream,
                pages,
                records,
                ..
            } => {
                let counts = self.of(stream);
                counts.pages += pages;
                counts.records += records;
            }
            Fact::PagesKept {
                stream,
                pages,
                records,
            } => {
                let counts = self.of(stream);
                counts.pages += pages;
                counts.kept += pages;
                counts.records += records;
            }
            Fact::PagesVoid {
                stream,
                pages,
                kept,
                records,
            } => {
                let counts = self.of(stream);
                counts.pages -= pages;
                counts.kept -= kept;
                counts.records -= records;
            }
            Fact::PartitionFinished { stream, .. } => self.of(stream).partitions += 1,
            Fact::RequestSent { .. } => self.requests += 1,
            Fact::CheckFailed {
                stream,
                check,
                expected,
                seen,
                message,
                ..
            } => self.of(stream).checks.push(BrokenCheck {
                check: check.clone(),
                expected: expected.clone(),
                seen: seen.clone(),
                message: message.clone(),
            }),
            Fact::FellShort { stream, .. } => self.of(stream).shortfalls += 1,
            Fact::AttemptFailed { class, .. } => *self.retries.entry(*class).or_default() += 1,
            Fact::WaitEnded { why, took, .. } => {
                self.is_bound |= matches!(why, Wait::Limit { .. });
                let name = match why {
                    // Not every budget of a limit that has thousands is worth a name.
                    Wait::Limit { limit, scope } if self.waited.len() < MOST_WAITS => {
                        Wait::limit(limit, scope.as_deref()).into()
                    }
                    Wait::Limit { limit, .. } => limit.clone(),
                    Wait::Concurrency => return,
                    Wait::Pause { .. } => "pauses the server asked for".into(),
                    Wait::Backoff { .. } => "backoff before retries".into(),
                    Wait::NotReady { .. } => "answers that were not ready".into(),
                };
                *self.waited.entry(name).or_default() += *took;
            }
            Fact::MarginUsed { margin } => self.margin = Some(*margin),
            Fact::LimitsLearned {
                limit,
                concurrency,
                refusals,
            } => {
                self.learned = Some(LearnedLimits {
                    limit: limit.clone(),
                    concurrency: *concurrency,
                    refusals: *refusals,
                });
            }
            Fact::SignalsIgnored { values } => self.ignored_signals += values,
            _ => {}
        }
    }

    /// Whether a limit has held requests up.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }

    fn of(&mut self, stream: &Name) -> &mut Counts {
        self.streams.entry(stream.clone()).or_default()
    }

    /// The totals, with what each stream came to.
    pub fn into_summary(
        mut self,
        pipeline: String,
        mut streams: Vec<StreamSummary>,
        took: Duration,
        exit: Exit,
    ) -> Summary {
        for stream in &mut streams {
            let counts = std::mem::take(self.of(&stream.stream));
            stream.records = counts.records;
            stream.pages = counts.pages;
            stream.kept = counts.kept;
            stream.partitions = counts.partitions;
            stream.bytes = counts.bytes;
            stream.shortfalls = counts.shortfalls;
            stream.checks = counts.checks;
        }
        Summary {
            pipeline,
            run: String::new(),
            streams,
            requests: self.requests,
            retries: self.retries,
            waited: self.waited,
            used: BTreeMap::new(),
            margin: self.margin,
            learned: self.learned,
            unfinished: None,
            failure: None,
            ignored_signals: self.ignored_signals,
            took,
            exit,
        }
    }
}
