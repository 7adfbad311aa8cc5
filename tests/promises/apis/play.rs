//! A play as it is written in `tests/apis/NAME.play.yaml`: a stand-in for one API, as data.
//! `tests/apis/README.md` says what each key means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::words::{Expr, Shape};

/// A stand-in and what a harvest of it must bring.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Play {
    /// The API, as `survey.yaml` names it.
    pub(crate) api: String,
    /// Where limits, shapes and errors are documented.
    pub(crate) sources: Vec<String>,
    /// Keys of the language that the pipeline waits for.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Kinds of the taxonomy and what proves them.
    pub(crate) kinds: BTreeMap<String, Option<Proof>>,
    /// When the run begins, if it matters.
    pub(crate) now: Option<String>,
    /// What `.env` holds.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Files of the project.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, Shape>,
    /// Scheme and host of all routes that do not say another.
    pub(crate) origin: String,
    /// Milliseconds that an answer takes at most.
    #[serde(default = "Play::slowest")]
    pub(crate) slowest_ms: u64,
    /// The documented limits, enforced.
    #[serde(default)]
    pub(crate) limits: Vec<Limit>,
    /// Why there is none.
    pub(crate) unpublished: Option<String>,
    /// What every request must have.
    #[serde(default)]
    pub(crate) wants: Vec<Want>,
    /// How long a calm run takes at most, from the first request to the last.
    pub(crate) within: Option<String>,
    /// How many requests a calm run has at most.
    pub(crate) requests: Option<usize>,
    /// How a request is refused that lacks something.
    #[serde(default = "Reply::bad_request")]
    pub(crate) refusal: Reply,
    /// How the API refuses at a limit.
    pub(crate) throttle: Option<Throttle>,
    /// How it fails for a moment.
    #[serde(default = "Reply::bad_gateway")]
    pub(crate) trouble: Reply,
    /// Headers of every answer.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Shape>,
    /// An error that must end the run and be told.
    pub(crate) mistake: Option<Mistake>,
    /// The records, invented.
    #[serde(default)]
    pub(crate) data: Map<String, Json>,
    /// What is served where.
    pub(crate) routes: Vec<Route>,
    /// What the harvest must bring, by stream.
    pub(crate) expect: BTreeMap<String, Expect>,
}

impl Play {
    fn slowest() -> u64 {
        300
    }
}

/// What a pipeline file must lose, or have changed, to fail with this play.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Proof {
    /// A key that is taken out wherever it stands (`limits` becomes `none`).
    Without(String),
    /// A header that the stand-in keeps to itself: what it says is needed, and heard.
    Deaf {
        /// Its name.
        deaf: String,
    },
    /// A text that is replaced.
    Swap {
        /// What is there.
        swap: String,
        /// What comes in its place.
        by: String,
    },
}

impl Proof {
    /// What is done, in words for messages.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Without(key) => format!("without {key}"),
            Self::Deaf { deaf } => format!("not told {deaf}"),
            Self::Swap { swap, by } => format!("with {by:?} for {swap:?}"),
        }
    }
}

/// A limit as the API documents it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// In the language's short form: `5000/h`, `600 weight/min`, `4 in flight`.
    #[serde(rename = "limit")]
    pub(crate) written: String,
    /// Only paths that begin so.
    pub(crate) under: Option<String>,
    /// A budget for each value of this.
    pub(crate) per: Option<Expr>,
    /// What a request costs.
    pub(crate) cost: Option<Expr>,
    /// It is told in answers, and no file can declare it.
    #[serde(default)]
    pub(crate) told: bool,
    /// The API keeps a bucket of this size.
    pub(crate) burst: Option<f64>,
    /// How much of it others with the same key have used when the run begins.
    #[serde(default)]
    pub(crate) others: f64,
}

/// Something that a request must have.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Want {
    /// Else it is refused in the usual way.
    That(Expr),
    /// Else it is refused so.
    Or { want: Expr, or: Reply },
}

/// An answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reply {
    #[serde(default = "ok")]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Shape>,
    /// JSON.
    pub(crate) body: Option<Shape>,
    /// Or text.
    pub(crate) text: Option<Shape>,
    /// `gzip` or `zip`: the body is a file of that kind.
    pub(crate) packed: Option<String>,
}

fn ok() -> u16 {
    200
}

impl Reply {
    fn of(status: u16) -> Self {
        Self {
            status,
            headers: BTreeMap::new(),
            body: None,
            text: None,
            packed: None,
        }
    }

    fn bad_request() -> Self {
        Self::of(400)
    }

    fn bad_gateway() -> Self {
        Self::of(502)
    }
}

/// A refusal at a limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Throttle {
    /// Seconds that it asks for; nothing may be sent before they are over.
    pub(crate) wait: Option<u64>,
    pub(crate) answer: Reply,
}

/// An error of which the API's own words must be told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mistake {
    pub(crate) answer: Reply,
    /// What the message must have in it.
    pub(crate) says: String,
    /// How often it may be asked, where asking again does not help.
    pub(crate) requests: Option<usize>,
}

/// A set of records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    /// How many there are (of each parent, with `under`).
    pub(crate) many: Option<Expr>,
    /// Or how many under each name.
    #[serde(default)]
    pub(crate) of: Map<String, Json>,
    /// A set each of whose records has `many` of these.
    pub(crate) under: Option<String>,
    /// With `under`: the name of one parent's records.
    pub(crate) name: Option<Expr>,
    /// What they look like, in turn; `n` counts from 1 under each name, `all` over all names.
    pub(crate) like: Vec<Shape>,
    /// Records, by `all`, that are this instead.
    #[serde(default)]
    pub(crate) odd: BTreeMap<String, Shape>,
}

/// What is served at one path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The path: `/repos/{owner}/{name}/issues`; `{rest*}` takes slashes too.
    pub(crate) get: Option<String>,
    pub(crate) post: Option<String>,
    pub(crate) origin: Option<String>,
    /// Names worked out from the request, in order.
    #[serde(default)]
    pub(crate) names: Map<String, Json>,
    /// The query names it knows; all others are refused.
    pub(crate) takes: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) wants: Vec<Want>,
    pub(crate) refusal: Option<Reply>,
    /// Whether what the play wants of every request is not asked here.
    #[serde(default)]
    pub(crate) open: bool,
    /// The set it serves.
    pub(crate) serves: Option<String>,
    /// Which records of the set, by name.
    pub(crate) of: Option<Expr>,
    /// Which of them.
    #[serde(rename = "where")]
    pub(crate) filter: Option<Expr>,
    /// Ascending by this.
    pub(crate) sort: Option<Expr>,
    /// Newest, or last, first.
    #[serde(default)]
    pub(crate) reverse: bool,
    pub(crate) pages: Option<Pages>,
    /// Where nothing is there to be served.
    pub(crate) empty: Option<Reply>,
    pub(crate) answer: Reply,
}

/// How records are paged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pages {
    pub(crate) by: By,
    /// Where a request says which page it wants.
    pub(crate) at: Option<Expr>,
    /// The number of the first page or record; the token that begins, if one must be sent.
    pub(crate) start: Option<Json>,
    /// With `after`: the field that `at` is a value of.
    pub(crate) field: Option<Expr>,
    /// Where a request says how many it wants.
    pub(crate) size: Option<Expr>,
    /// How many there are if it does not.
    pub(crate) plain: usize,
    /// The most that may be asked for.
    pub(crate) most: usize,
    /// Whether more may be asked for, and this many come.
    #[serde(default)]
    pub(crate) caps: bool,
    /// The answer where there are more records than `most`, whatever the page.
    pub(crate) over: Option<Reply>,
    /// Records beyond this place are refused.
    pub(crate) deep: Option<usize>,
    /// How they are refused.
    pub(crate) too_deep: Option<Reply>,
}

/// The ways of paging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// Page numbers (links and next URLs among them: the answer spells them).
    Page,
    /// Records to pass over.
    Offset,
    /// An opaque token.
    Token,
    /// The last record seen.
    After,
    /// The first so many; `where` says of what.
    Head,
}

/// What a stream must bring: a row for each record of a set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// The set.
    pub(crate) of: String,
    #[serde(rename = "where")]
    pub(crate) filter: Option<Expr>,
    /// A row for each element of this, called `item`, `index` being its place.
    pub(crate) each: Option<Expr>,
    /// How many rows, so that nothing is compared with nothing.
    pub(crate) rows: usize,
    /// Column → its cell.
    pub(crate) cells: BTreeMap<String, Expr>,
}

/// A pipeline and its play.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The stem of both files.
    pub(crate) name: String,
    /// Whether the pipeline is shipped in `pipelines/`.
    pub(crate) shipped: bool,
    pub(crate) pipeline: String,
    pub(crate) play: Play,
}

pub(crate) fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All pairs, by name, or what is wrong with their files.
pub(crate) fn pairs() -> Vec<Result<Pair, String>> {
    let folder = project().join("tests/apis");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .filter_map(|entry| {
            let name = entry.expect("an entry").file_name().into_string().ok()?;
            Some(name.strip_suffix(".play.yaml")?.to_owned())
        })
        .collect();
    names.sort();
    names.into_iter().map(|name| pair(&folder, name)).collect()
}

fn pair(folder: &Path, name: String) -> Result<Pair, String> {
    let play = read(&folder.join(format!("{name}.play.yaml")));
    let play = serde_saphyr::from_str(&play).map_err(|e| format!("{name}.play.yaml: {e}"))?;
    let here = folder.join(format!("{name}.yaml"));
    let shipped = !here.exists();
    let pipeline = if shipped {
        read(&project().join("pipelines").join(format!("{name}.yaml")))
    } else {
        read(&here)
    };
    Ok(Pair {
        name,
        shipped,
        pipeline,
        play,
    })
}
