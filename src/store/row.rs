//! The rows of a ledger: what happened in a run, as JSON.
//!
//! Nothing in them may be a secret: who makes them scrubs URLs, tokens and messages first.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::hash::{hex, stable};

/// The latest version of ledgers that this program writes and reads.
pub const VERSION: u32 = 1;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub enum Row {
    /// The first: what is run.
    RunStart(RunStart),
    /// An attempt goes on in which other secrets have a value than in those before it.
    GoesOn(GoesOn),
    /// A request that acts or costs is about to be sent.
    Sent(Sent),
    /// What was sent surely did nothing: it may be sent again.
    Undone(Undone),
    /// A page is whole in its part.
    Page(Page),
    /// All pages of a partition so far do not count: it is walked from its beginning again.
    Superseded(Superseded),
    /// An output is whole beside its target and will take its place.
    PublishIntent(PublishIntent),
    /// All outputs of a stream are in their places, and the state knows.
    Published(Published),
    /// Nothing more will come.
    RunEnd(RunEnd),
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// [`VERSION`] of who wrote it.
    pub version: u32,
    /// The program's version.
    pub program: String,
    /// The pipeline.
    pub pipeline: String,
    /// What must be the same when the run goes on.
    pub identity: Identity,
    /// When it began: what `now` means in all of its templates.
    pub started: Timestamp,
    /// Upper bound of the window that it fetches.
    pub until: Timestamp,
    /// Seeds its jitter, and ends its id.
    #[serde(with = "hex")]
    pub seed: u64,
    /// Its streams; the part of each is the file named by its ordinal here.
    pub streams: Vec<Arc<str>>,
    /// Names of secrets that had a value though they need none: the requests hold them. Of an attempt that goes
    /// on with others [`GoesOn`] tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// What the command line asked for, where a continuation must know it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// What a later attempt has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoesOn {
    /// In place of [`RunStart::secrets`] from here on.
    pub secrets: Vec<String>,
}

/// A hash for each thing that must not change while a run is unfinished, by the name that a
/// refusal shows: `source.url`, `streams.issues.request`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(BTreeMap<String, String>);

/// A request that must not be sent twice is about to be sent. Until its page is committed, or
/// [`Undone`] says that it did nothing, nobody knows what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The stream.
    pub stream: Arc<str>,
    /// Ordinal of the partition, in the order of `for`.
    pub partition: u32,
    /// Ordinal of the page in its partition.
    pub page: u32,
    /// Fingerprint of the request, of what is no secret.
    #[serde(with = "hex")]
    pub request: u64,
    /// Where that is, for people.
    pub place: String,
    /// When.
    pub at: Timestamp,
}

/// What was sent surely did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The stream.
    pub stream: Arc<str>,
    /// Ordinal of the partition.
    pub partition: u32,
    /// Ordinal of the page in its partition.
    pub page: u32,
}

/// A committed page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The stream.
    pub stream: Arc<str>,
    /// Ordinal of the partition, in the order of `for`.
    pub partition: u32,
    /// Ordinal of the page in its partition.
    pub page: u32,
    /// Fingerprint of the request, of what is no secret.
    #[serde(with = "hex")]
    pub request: u64,
    /// Ordinal of the part.
    pub part: u32,
    /// First byte in the part.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// CRC32C of the bytes.
    pub crc: u32,
    /// Records.
    pub records: u32,
    /// What the walk needs to go on after it.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
}

/// What a page said that is needed to go on after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Values at the places that the paging looks at, as JSON, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<Option<String>>,
    /// Headers that the paging looks at: name in lower case, value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The next token or URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The last record's value that keyset paging goes on from, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// A hash of the records, for the loop guards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What came, where that is kept in the place of records: the page that it becomes has a row of
    /// its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came: Option<Box<Came>>,
    /// What made records of what came is known by this, where that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading: Option<String>,
    /// Whether the partition ends with this page.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Whatever else the walk wants to know again.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub more: Map<String, Value>,
}

/// An answer that is kept as it came. Nothing in it is a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// Where it came from, after redirects.
    pub url: String,
    /// Its status.
    pub status: u16,
    /// Its headers, by name.
    pub headers: Vec<(String, String)>,
    /// Bytes of its body, unpacked.
    pub size: u64,
    /// When it was whole.
    pub received: Timestamp,
}

/// A partition is walked from its beginning again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The stream.
    pub stream: Arc<str>,
    /// Ordinal of the partition.
    pub partition: u32,
}

/// An output is whole beside its target and will take its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishIntent {
    /// The stream.
    pub stream: Arc<str>,
    /// Where it will be.
    pub target: String,
    /// Bytes.
    pub size: u64,
    /// CRC32C of all bytes.
    pub crc: u32,
}

/// All outputs of a stream are in their places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The stream.
    pub stream: Arc<str>,
}

/// Nothing more will come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The exit code.
    pub exit: u8,
}

impl RunStart {
    /// A run of these streams that begins now, by this program; of no identity, and without a seed.
    pub fn new(pipeline: &str, streams: Vec<Arc<str>>, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: pipeline.to_owned(),
            identity: Identity::default(),
            started: now,
            until: now,
            seed: 0,
            streams,
            secrets: Vec::new(),
            options: Map::new(),
        }
    }
}

impl Identity {
    /// Takes in a field and all that it consists of.
    pub fn add(&mut self, field: &str, texts: &[&str]) {
        let hash = format!("{:016x}", stable(texts));
        self.0.insert(field.to_owned(), hash);
    }

    /// Fields that differ, are new or are gone, sorted.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.0.get(*name) != other.0.get(*name));
        names.into_iter().cloned().collect()
    }

    /// Whether it has a field.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// All fields as one hash, for the list of runs.
    pub fn hash(&self) -> u64 {
        let texts: Vec<&str> = self
            .0
            .iter()
            .flat_map(|(name, hash)| [name.as_str(), hash])
            .collect();
        stable(&texts)
    }
}

impl Facts {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
