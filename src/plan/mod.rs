//! What will be done: checked values, compiled templates and paths; no I/O.
//!
//! [`compile::compile`] is the only way to a [`Plan`]. A plan holds the *names* of secrets,
//! never their values, so it can be printed and hashed. Nothing in it is optional merely because
//! a default exists: defaults are applied here, once.

pub mod alerts;
pub mod auth;
mod compare;
pub mod compile;
pub mod cron;
pub mod cursor;
pub mod dates;
pub mod duration;
mod environment;
pub mod expect;
mod filters;
pub mod format;
mod guard;
pub mod identity;
pub mod jq;
pub mod json;
pub mod language;
pub mod limit;
pub mod loopback;
pub mod measure;
mod names;
mod number;
pub mod paging;
pub mod partition;
pub mod path;
mod pattern;
pub mod place;
pub mod position;
pub mod reads;
mod reckon;
mod rendered;
pub mod request;
pub mod schedule;
pub mod sink;
pub mod size;
pub mod transform;
pub mod typed;
pub mod window;

use std::num::NonZeroUsize;
use std::time::Duration;

use globset::GlobMatcher;

use self::alerts::AlertPlan;
use self::auth::AuthPlan;
use self::cursor::CursorPlan;
use self::expect::ExpectPlan;
use self::format::FormatPlan;
use self::jq::Jq;
use self::language::{Expr, Template};
use self::limit::LimitPlan;
use self::measure::Measure;
use self::paging::Paging;
use self::partition::Generator;
use self::path::Path;
use self::place::Place;
use self::request::RequestPlan;
use self::schedule::SchedulePlan;
use self::sink::SinkPlan;
use self::transform::StepPlan;
use self::typed::{OnBad, Typed};

/// One pipeline, checked and ready to run.
#[expect(clippy::manual_non_exhaustive, reason = "closed inside the crate too")]
#[derive(Debug)]
pub struct Plan {
    /// The file's stem: `github_issues` for `pipelines/github_issues.yaml`.
    pub name: String,
    /// The file as it was written: a hash of it tells one version from another.
    pub text: String,
    /// One sentence for `gleaner list`.
    pub about: String,
    /// Where and how to ask.
    pub source: SourcePlan,
    /// Who hears how watched runs end.
    pub alerts: AlertPlan,
    /// How long after it began an unfinished run is gone on with.
    pub resume_within: Duration,
    /// One kind of record each, in the order of the file.
    pub streams: Vec<StreamPlan>,
    /// When it runs by itself, if it does.
    pub schedule: Option<SchedulePlan>,
    /// `vars`, after `--var`, as template values.
    pub vars: minijinja::Value,
    /// Secrets its templates name, looked up when a run opens.
    pub secrets: Vec<Need>,
    /// Environment variables its templates name, looked up when a run opens.
    pub env: Vec<Need>,
    /// Only `compile` makes one.
    #[expect(dead_code, reason = "it only keeps others from making a plan")]
    seal: (),
}

/// A name that must have a value when a run opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The name, `GITHUB_TOKEN` for `secret.GITHUB_TOKEN`.
    pub name: String,
    /// Whether every use stands before a `default(…)`.
    pub optional: bool,
}

/// Where and how to ask.
#[derive(Debug)]
pub struct SourcePlan {
    /// Base URL; `get` is appended to its path.
    pub url: Template,
    /// E-mail or URL named in the User-Agent.
    pub contact: Option<Template>,
    /// How to authenticate.
    pub auth: AuthPlan,
    /// All of them must allow a request; empty means `limits: none` was said out loud.
    pub limits: Vec<LimitPlan>,
    /// Most requests in flight.
    pub concurrency: NonZeroUsize,
    /// How failures are tried again.
    pub retry: RetryPlan,
    /// How long each step of a request may take.
    pub timeouts: TimeoutPlan,
    /// Other origins that next links, redirects and templates may reach.
    pub allow_origins: Vec<OriginRule>,
    /// An authority of one's own, and a certificate to show.
    pub tls: TlsPlan,
    /// The proxy that everything goes through, in place of those of the environment.
    pub proxy: Option<Template>,
    /// A file with secrets, relative to the project.
    pub secrets_file: Option<String>,
}

/// Files of TLS, relative to the project.
#[derive(Debug, Default)]
pub struct TlsPlan {
    /// Authorities that are trusted beside those of the system.
    pub ca: Option<Template>,
    /// The certificate that is shown, and its key.
    pub shown: Option<(Template, Template)>,
}

/// How failures are tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPlan {
    /// Most attempts at one page, the first included.
    pub attempts: u32,
    /// A told wait longer than this ends the run resumably.
    pub max_wait: Duration,
    /// Most time for one page over all attempts.
    pub page_deadline: Duration,
}

/// How long each step of a request may take.
#[derive(Debug, Clone, Copy)]
pub struct TimeoutPlan {
    /// Connecting, TLS included.
    pub connect: Duration,
    /// From the request sent to the answer's headers.
    pub headers: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// One attempt as a whole.
    pub attempt: Duration,
}

/// Another origin that may be reached.
#[derive(Debug)]
pub struct OriginRule {
    /// Matches `scheme://host[:port]`.
    pub matcher: GlobMatcher,
    /// Whether it names one origin and is no pattern.
    pub exact: bool,
    /// As written, for messages.
    pub written: String,
    /// Whether credentials may go there too.
    pub credentials: bool,
}

/// One kind of record.
#[derive(Debug)]
pub struct StreamPlan {
    /// Its key under `streams`.
    pub name: String,
    /// `for`: variables and what they run over, in order; their product makes the partitions.
    pub partitions: Vec<(String, Generator)>,
    /// Whether anything is asked; else the last value of `for` stands for the answer.
    pub asks: bool,
    /// What is asked.
    pub request: RequestPlan,
    /// How the next page is found.
    pub paging: Paging,
    /// What a request costs, in the units of limits; a unit that is not named costs 1.
    pub cost: Vec<CostPlan>,
    /// Ends the paging of a partition early; judged only when another page is known.
    pub stop: Option<Expr>,
    /// What answers mean where the built-in verdicts do not fit; first match wins.
    pub responses: Vec<ResponseRule>,
    /// What answers are written in.
    pub format: FormatPlan,
    /// Where the records are in a page.
    pub records: RecordsPlan,
    /// What is done to records before they are kept.
    pub transform: Vec<StepPlan>,
    /// Columns, or none for every field.
    pub columns: Option<Vec<ColumnPlan>>,
    /// Names of output columns that together identify a record.
    pub key: Vec<String>,
    /// What makes runs ask only for what is new.
    pub cursor: Option<CursorPlan>,
    /// Whether a page is asked for only if it changed.
    pub conditional: bool,
    /// Whether its answers are kept as they came.
    pub keeps_raw: bool,
    /// What must hold before publish.
    pub expect: ExpectPlan,
    /// Where records go.
    pub sinks: Vec<SinkPlan>,
}

impl Plan {
    /// The streams that write one table with the one at this place, itself among them, in the order
    /// of the file: they name one file. [`compile::compile`] has seen to it that they agree.
    pub fn table(&self, at: usize) -> Vec<usize> {
        let first = |at: usize| self.streams.get(at)?.sinks.first();
        let of = first(at).filter(|sink| !sink.is_by_stream());
        let of = of.map(SinkPlan::place);
        let same = |other: &usize| {
            *other == at || of.is_some() && first(*other).map(SinkPlan::place) == of
        };
        (0..self.streams.len()).filter(same).collect()
    }
}

impl StreamPlan {
    /// The streams that its `for` runs over.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.partitions.iter().filter_map(|(_, one)| match one {
            Generator::Stream { stream, .. } => Some(stream.as_str()),
            _ => None,
        })
    }
}

/// What a request costs in one unit.
#[derive(Debug)]
pub struct CostPlan {
    /// The unit, as limits name it.
    pub unit: String,
    /// What it may cost: reserved before it is sent.
    pub at_most: Measure,
    /// What it cost, as its answer tells; the difference comes back or is charged.
    pub actual: Option<Measure>,
}

/// Where the records are in a page.
#[derive(Debug, Clone, Default)]
pub struct RecordsPlan {
    /// An array is opened; an object is one record; null is none; a scalar becomes `value`.
    pub path: Path,
    /// Whether a missing path means no records instead of an error.
    pub optional: bool,
    /// What is made of what is there.
    pub shape: Shape,
    /// Where it stands in the pipeline file.
    pub place: Option<Place>,
}

/// What is made of the values at the records' path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shape {
    /// They are the records.
    #[default]
    Plain,
    /// Objects of parallel arrays: a record for each position.
    Zip,
    /// Arrays of values by position.
    Rows(RowNames),
    /// Objects whose members are records; their names become this field.
    Entries {
        /// The field.
        key: String,
    },
    /// What a filter gives of the whole answer.
    Filtered(Jq),
}

/// What the values of a positional row are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowNames {
    /// So.
    Given(Vec<String>),
    /// As the first row says.
    First,
}

/// One output column.
#[derive(Debug, Clone)]
pub struct ColumnPlan {
    /// Its header.
    pub name: String,
    /// Where its value comes from.
    pub from: ColumnFrom,
    /// What its values have to be; none takes them as they are.
    pub typed: Option<Typed>,
    /// What becomes of values that are not.
    pub on_bad: OnBad,
    /// Where it stands in the pipeline file, for those who tell of such a value.
    pub place: Option<Place>,
}

impl ColumnPlan {
    /// A column that takes values as they are.
    pub fn new(name: impl Into<String>, from: ColumnFrom) -> Self {
        Self {
            name: name.into(),
            from,
            typed: None,
            on_bad: OnBad::Fail,
            place: None,
        }
    }
}

/// Where a column's value comes from.
#[derive(Debug, Clone)]
pub enum ColumnFrom {
    /// A place in the record.
    Path(Path),
    /// A template over `for` variables, `vars`, `run` and `index` (position in the page).
    Template(Template),
    /// A filter over the record: no output is null, several are a list.
    Jq(Jq),
    /// Nothing: another stream of the same table has it.
    Nothing,
}

/// One entry of `responses`.
#[derive(Debug)]
pub struct ResponseRule {
    /// Over status, headers, body, text, count, attempt and the `for` variables.
    pub when: Expr,
    /// What such an answer means.
    pub then: Then,
}

/// How long a throttle lasts that a rule finds.
#[derive(Debug)]
pub enum Pause {
    /// As the headers tell, else a minute.
    AsTold,
    /// So long.
    Time(Duration),
    /// As the answer says in words of its own; what cannot be read is [`Pause::AsTold`].
    Said(Template),
}

/// What an answer means.
#[derive(Debug)]
pub enum Then {
    /// A good page, whatever its status.
    Accept,
    /// No rows here; the partition goes on with nothing from this page and ends.
    Skip,
    /// A transient failure.
    Retry,
    /// A throttle: the whole scope pauses.
    Wait(Pause),
    /// The window of time holds too much: its halves are asked for in its place.
    Split,
    /// What an earlier page gave leads nowhere any more: the partition is walked again from its start,
    /// and its pages give way in one step.
    Restart,
    /// Not ready: it is asked for again, which is no attempt and holds nobody else.
    Again {
        /// How long to wait before.
        every: Duration,
        /// How long after the first such answer it is given up.
        within: Duration,
    },
    /// A good page, and the last of its partition.
    Stop,
    /// The token is refused: a new one is had, once, and the request sent again.
    RefreshAuth,
    /// The stream fails, with this text if given.
    Fail(Option<Template>),
}
