//! Why a page gave no records, said so that the next step is plain.

use crate::json;
use crate::plan::path::{Path, Step};

/// Why a page gave no records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The body is empty.
    #[error("the body is empty where {wanted} was expected")]
    Empty {
        /// The format.
        wanted: &'static str,
    },
    /// The body as a whole is `null`: at a path that is an empty list, here it is no answer.
    #[error("the body is `null` where records were expected")]
    Null,
    /// JSON, but not the records that others of its kind hold: probably a message.
    #[error("{what}{}", if .sample.is_empty() { String::new() } else { format!(": {}", .sample) })]
    Odd {
        /// What is wrong, and where.
        what: String,
        /// How it begins; may be empty.
        sample: String,
    },
    /// The body is a page for people, such as a login form.
    #[error("the body is {kind} instead of {wanted}; it begins {sample:?}", kind = if *.html { "an HTML page" } else { "XML" })]
    Markup {
        /// HTML, or else XML.
        html: bool,
        /// What was expected.
        wanted: &'static str,
        /// Its beginning.
        sample: String,
    },
    /// The body is not JSON.
    #[error("the body is not valid JSON: {what} at line {line}, column {column}, near {sample:?}")]
    NotJson {
        /// What is wrong.
        what: String,
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
        /// Byte offset.
        at: usize,
        /// Whether the body just stops, as a cut connection leaves it.
        cut_short: bool,
        /// What stands around the place.
        sample: String,
    },
    /// The body is not UTF-8, which JSON must be (RFC 8259, section 8.1), and all else if nothing says
    /// otherwise.
    #[error("the body is not UTF-8 at byte {at}; another encoding is said under `format`")]
    NotUtf8 {
        /// Byte offset.
        at: usize,
    },
    /// The body is not in the encoding that was declared, or that the answer says.
    #[error("the body is not the {encoding} that it should be in")]
    NotInEncoding {
        /// Its name.
        encoding: &'static str,
    },
    /// The body is JSON where something else was declared: probably a message.
    #[error("the body is JSON instead of {wanted}; it begins {sample:?}")]
    OtherFormat {
        /// What was expected.
        wanted: &'static str,
        /// Its beginning.
        sample: String,
    },
    /// A row of CSV that does not end.
    #[error(
        "a row is longer than {most} MiB: a quote may be opened and not closed, or `quote` is another character"
    )]
    RowTooLong {
        /// In MiB.
        most: usize,
    },
    /// The file cannot be read on.
    #[error("{0}")]
    Unread(String),
    /// There is no header line, so not even an empty file.
    #[error("the body is empty where a header line was expected")]
    NoHeader,
    /// A line does not fit.
    #[error("line {line}: {what}; it begins {sample:?}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        what: String,
        /// Whether the file just stops, as a cut connection leaves it.
        cut: bool,
        /// The beginning of the line, or what stands around the place.
        sample: String,
    },
    /// An archive has not the one file that one document needs.
    #[error("the archive has {} where one document was expected; say which with `member`, or `member: \"*\"` for a list of all", if .names.is_empty() { "no file".to_owned() } else { format!("{} files ({})", .names.len(), shown(.names)) })]
    Files {
        /// Their names.
        names: Vec<String>,
    },
    /// Something in a file of an archive.
    #[error("in {name:?} of the archive: {error}")]
    Member {
        /// The file's name.
        name: String,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// What was found cannot be made into records.
    #[error("`{key}: {path}`{}: {what}; it begins {sample:?}", .number.map(|n| format!(", no. {n}")).unwrap_or_default())]
    Shape {
        /// The key of the pipeline file.
        key: &'static str,
        /// The path.
        path: Path,
        /// Which of several values, counted from 1.
        number: Option<usize>,
        /// What is wrong.
        what: String,
        /// Its beginning.
        sample: String,
    },
    /// A filter cannot make records of an answer.
    #[error("`records: {{ jq: {filter} }}`{}: {what}; the answer begins {sample:?}", .output.map(|n| format!(", output {n}")).unwrap_or_default())]
    Filter {
        /// The filter, shortened.
        filter: String,
        /// Which of its outputs, counted from 1, where it has given some.
        output: Option<usize>,
        /// What is wrong.
        what: String,
        /// The beginning of the answer.
        sample: String,
    },
    /// More text than a page may become.
    #[error("{TOO_MUCH}; ask for smaller pages")]
    TooMuch,
    /// It is JSON, but nests deeper than what reads the files would take.
    #[error("the body nests deeper than {most} levels at line {line}, column {column}")]
    TooDeep {
        /// The most that is taken.
        most: u32,
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
    },
    /// A member on the way to the records stands twice in its object.
    #[error("the records path `{path}` leads through a member that is there twice")]
    Twice {
        /// The records' path.
        path: Path,
    },
    /// The records' path leads nowhere.
    #[error("nothing at the records path `{path}`; {} {there}", if .reached.is_empty() { "the page".to_owned() } else { format!("`{}`", .reached.join(".")) })]
    Absent {
        /// The records' path.
        path: Path,
        /// The steps that could be gone.
        reached: Vec<String>,
        /// The step that is not there.
        missing: String,
        /// What is there instead.
        there: There,
    },
}

/// More than [`super::select::MOST`].
pub(super) const TOO_MUCH: &str = "the records of one answer are larger than 256 MiB";

impl SelectError {
    /// Whether the pipeline file may be what is wrong, where the API says the same again.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Absent { .. }
            | Self::Shape { .. }
            | Self::Filter { .. }
            | Self::NoHeader
            | Self::NotInEncoding { .. }
            | Self::Files { .. } => true,
            Self::Line { cut, .. } => !cut,
            Self::Member { error, .. } => error.is_ours(),
            _ => false,
        }
    }

    /// What to do about it, where it looks like data that is spoiled, and not like another page.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotJson { .. } | Self::TooDeep { .. } => Some(
                "`--record FILE` keeps what came; where answers are no JSON, say `format` under the stream",
            ),
            Self::NotUtf8 { .. } => Some(
                "JSON is always UTF-8 (RFC 8259), so the server is wrong; where it is CSV, XML or text, say `format` with its `encoding` under the stream",
            ),
            Self::Null => Some(
                "where `null` means that there are none, say so under the stream: `responses: [{ if: text == 'null', then: skip }]`",
            ),
            Self::Odd { .. } => Some(
                "a rule under the stream says what such an answer means: `responses: [{ if: CONDITION, then: accept }]`, or `skip` (no rows here), `wait`, `retry`",
            ),
            Self::Member { error, .. } => error.hint(),
            _ => None,
        }
    }

    /// Whether the body just stops in the middle, as a cut connection leaves it.
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Line { cut, .. } => *cut,
            Self::Member { error, .. } => error.is_cut(),
            _ => false,
        }
    }
}

/// What stands where a path ends too early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum There {
    /// An object with these members (the first few).
    Object(Vec<String>),
    /// An array of so many elements.
    Array(usize),
    /// A value that has nothing inside.
    Scalar(String),
}

impl std::fmt::Display for There {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object(names) if names.is_empty() => f.write_str("is an empty object"),
            Self::Object(names) => write!(f, "has {}", names.join(", ")),
            Self::Array(1) => f.write_str("is an array of 1 element"),
            Self::Array(count) => write!(f, "is an array of {count} elements"),
            Self::Scalar(value) => write!(f, "is {value}"),
        }
    }
}

/// The first few names.
fn shown(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    let more = if names.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    shown.join(", ") + more
}

/// Most members that are named.
const NAMED: usize = 30;
/// Most bytes of a sample on each side.
pub(super) const AROUND: usize = 40;
/// Most bytes of a beginning.
pub(super) const SAMPLE: usize = 2 * AROUND;

/// Explains a body that `serde_json` refused.
pub(super) fn not_json(text: &str, error: &serde_json::Error) -> SelectError {
    let start = text.trim_ascii_start();
    if start.is_empty() {
        return SelectError::Empty { wanted: "JSON" };
    }
    if start.starts_with('<') {
        return markup(text, "JSON");
    }
    let at = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>()
        + error.column().saturating_sub(1);
    SelectError::NotJson {
        what: what(error),
        line: error.line(),
        column: error.column(),
        at,
        cut_short: error.is_eof(),
        sample: around(text, at, AROUND),
    }
}

/// What `serde_json` says, without the place.
pub(super) fn what(error: &serde_json::Error) -> String {
    let mut what = error.to_string();
    if let Some(end) = what.find(" at line ") {
        what.truncate(end);
    }
    what
}

/// A page for people, or markup that was not expected.
pub(super) fn markup(text: &str, wanted: &'static str) -> SelectError {
    let start = text.trim_ascii_start();
    SelectError::Markup {
        html: is_html(text) || !start.starts_with("<?xml"),
        wanted,
        sample: around(start, 0, SAMPLE),
    }
}

/// Whether a text is a page for people.
pub(super) fn is_html(text: &str) -> bool {
    let start = text.trim_ascii_start();
    let end = start.floor_char_boundary(1_000);
    let small = start.get(..end).map(str::to_ascii_lowercase);
    start.starts_with('<')
        && small.is_none_or(|s| s.contains("<html") || s.contains("<!doctype html"))
}

/// Places valid JSON that nests too deep at byte `at`.
pub(super) fn too_deep(text: &str, at: usize, most: u32) -> SelectError {
    let before = text.get(..at).unwrap_or_default();
    SelectError::TooDeep {
        most,
        line: 1 + before.matches('\n').count(),
        column: 1 + before.len() - before.rfind('\n').map_or(0, |end| end + 1),
    }
}

/// Explains a path that leads nowhere in valid JSON.
pub(super) fn absent(text: &str, path: &Path) -> SelectError {
    let (mut value, mut reached) = (text.trim_ascii(), Vec::new());
    let mut missing = String::new();
    for step in &path.steps {
        let (name, next) = match step {
            Step::Key(name) => {
                let one = Path {
                    steps: vec![step.clone()],
                };
                (name.as_str(), json::get(value, &one))
            }
            Step::All => {
                let first = json::elements(value)
                    .chain(json::members(value).map(|(_, inner)| inner))
                    .next();
                ("*", first)
            }
        };
        name.clone_into(&mut missing);
        let Some(next) = next else { break };
        reached.push(missing.clone());
        value = next;
    }
    let there = match value.as_bytes().first() {
        Some(b'{') => There::Object(
            json::members(value)
                .take(NAMED)
                .map(|(name, _)| json::unescape(name).into_owned())
                .collect(),
        ),
        Some(b'[') => There::Array(json::elements(value).count()),
        _ => There::Scalar(around(value, 0, AROUND)),
    };
    SelectError::Absent {
        path: path.clone(),
        reached,
        missing,
        there,
    }
}

/// The text around a byte offset; `…` stands where it is cut, which also tells those who scrub
/// secrets that one may be cut there.
pub(super) fn around(text: &str, at: usize, reach: usize) -> String {
    let start = text.floor_char_boundary(at.saturating_sub(reach));
    let end = text.ceil_char_boundary(at.saturating_add(reach).min(text.len()));
    format!(
        "{}{}{}",
        if start > 0 { "…" } else { "" },
        text.get(start..end).unwrap_or_default(),
        if end < text.len() { "…" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::super::select::Selector;
    use super::*;

    fn error(steps: &[&str], body: &str) -> SelectError {
        let path = Path {
            steps: steps.iter().map(|s| Step::Key((*s).to_owned())).collect(),
        };
        Selector::new(&path, false, &[])
            .select(body.as_bytes())
            .unwrap_err()
    }

    #[test]
    fn what_nests_too_deep_is_told_with_its_place() {
        let nested = |depth: usize| format!("[1,\n {}{}]", "[".repeat(depth), "]".repeat(depth));
        let path = Path { steps: Vec::new() };
        let selector = Selector::new(&path, false, &[]);
        for fine in [62, 70, 127] {
            assert!(selector.select(nested(fine).as_bytes()).is_ok(), "{fine}");
        }
        for deep in [128, 100_000] {
            assert_eq!(
                error(&[], &nested(deep)).to_string(),
                "the body nests deeper than 128 levels at line 2, column 129"
            );
        }
    }

    #[test]
    fn bodies_that_are_not_json_say_what_they_are() {
        assert_eq!(error(&[], " \n"), SelectError::Empty { wanted: "JSON" });
        let SelectError::Markup {
            html: true, sample, ..
        } = error(&[], "<!DOCTYPE html><html><title>Log in</title>")
        else {
            panic!("not seen as HTML")
        };
        assert!(sample.contains("Log in"));
        assert!(matches!(
            error(&[], "<?xml version='1.0'?><a/>"),
            SelectError::Markup { html: false, .. }
        ));
        let cut = error(&[], "[{\"a\": 1},\n{\"a\"");
        assert!(matches!(
            cut,
            SelectError::NotJson {
                cut_short: true,
                line: 2,
                ..
            }
        ));
        let junk = error(&[], "[1,]");
        assert_eq!(
            junk.to_string(),
            "the body is not valid JSON: trailing comma at line 1, column 4, near \"[1,]\""
        );
        assert!(matches!(
            error(&[], "[] x"),
            SelectError::NotJson { at: 3, .. }
        ));
    }

    #[test]
    fn bad_utf8_is_found_wherever_it_is() {
        let path = Path::default();
        let selected = Selector::new(&path, false, &[]).select(b"{\"skipped\":\"\xff\"}");
        assert_eq!(selected.unwrap_err(), SelectError::NotUtf8 { at: 12 });
    }

    #[test]
    fn an_absent_path_says_what_is_there() {
        let said = error(&["data", "itmes"], r#"{"data":{"items":[],"total":0}}"#);
        assert_eq!(
            said.to_string(),
            "nothing at the records path `data.itmes`; `data` has items, total"
        );
        let SelectError::Absent { missing, .. } = said else {
            panic!("not absent")
        };
        assert_eq!(missing, "itmes");
        assert_eq!(
            error(&["items"], "[{}]").to_string(),
            "nothing at the records path `items`; the page is an array of 1 element"
        );
        assert_eq!(
            error(&["data", "items"], r#"{"data":null}"#).to_string(),
            "nothing at the records path `data.items`; `data` is null"
        );
    }
}
