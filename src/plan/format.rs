//! What answers are written in.

use std::fmt;

use encoding_rs::Encoding;
use globset::GlobMatcher;

use super::path::{Path, Step};

/// What the answers of a stream are written in.
#[derive(Debug, Clone, Default)]
pub struct FormatPlan {
    /// As declared; without, the content type says.
    pub kind: Option<Kind>,
    /// The text encoding, as declared.
    pub encoding: Option<&'static Encoding>,
    /// Which files of a zip archive; without, all.
    pub member: Option<Member>,
    /// Which elements of XML are always lists.
    pub lists: Lists,
    /// Most bytes of an answer, as sent and unpacked; without, what is usual.
    pub max_body: Option<usize>,
}

/// A format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One JSON document (RFC 8259).
    Json,
    /// One JSON value a line.
    Ndjson,
    /// Values between delimiters.
    Csv(CsvPlan),
    /// One XML document.
    Xml,
    /// Text that stays as it is.
    Text,
}

/// Values between delimiters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvPlan {
    /// Between values.
    pub delimiter: u8,
    /// Around values, doubled inside.
    pub quote: Option<u8>,
    /// What lines begin with that are passed over.
    pub comment: Option<u8>,
    /// Lines before the header that are passed over.
    pub skip: u32,
    /// What the columns are called.
    pub header: Header,
}

impl Default for CsvPlan {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            comment: None,
            skip: 0,
            header: Header::Line,
        }
    }
}

/// What the columns of a CSV file are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// As the first line says.
    Line,
    /// There is no header line: `column_1`, `column_2`, …
    Counted,
    /// There is no header line; these.
    Names(Vec<String>),
}

/// Which files of an archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// As written.
    pub written: String,
    /// What it matches.
    pub glob: GlobMatcher,
    /// Whether it may match several.
    pub is_many: bool,
}

/// Which elements of XML are lists, also where there is one of them only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// By name, wherever they stand.
    pub names: Vec<String>,
    /// By the names that lead there from the root: what `*` or a number opens in a path.
    pub places: Vec<Vec<String>>,
}

impl Lists {
    /// Learns from a path that begins `under` another one: what stands before a `*` or a number
    /// must be a list to be opened by it.
    pub fn learn(&mut self, under: &Path, path: &Path) {
        let mut place: Vec<String> = Vec::new();
        for step in under.steps.iter().chain(&path.steps) {
            let index = match step {
                Step::Key(name) => name.parse::<usize>().is_ok(),
                Step::All => true,
            };
            match step {
                _ if index => {
                    if !place.is_empty() && !self.places.contains(&place) {
                        self.places.push(place.clone());
                    }
                }
                Step::Key(name) => place.push(name.clone()),
                Step::All => {}
            }
        }
    }

    /// Learns from a jq filter: the names that it opens, as in `.link[]` or `."a:b"[0]`. It is only looked
    /// at, not understood: a name too many is a list of one, as the filter expects it.
    pub fn learn_filter(&mut self, filter: &str) {
        let mut rest = filter;
        while let Some((_, after)) = rest.split_once('.') {
            rest = after;
            let quoted = after.strip_prefix('[').unwrap_or(after).strip_prefix('"');
            let (name, behind) = if let Some(quoted) = quoted {
                let Some((name, behind)) = quoted.split_once('"') else {
                    continue;
                };
                (name, behind.strip_prefix(']').unwrap_or(behind))
            } else {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            };
            let behind = behind.trim_start_matches('?');
            let inside = behind.strip_prefix('[').map(str::trim_start);
            let opens = inside.is_some_and(|inside| !inside.starts_with('"'));
            if opens && !name.is_empty() && !self.names.iter().any(|known| known == name) {
                self.names.push(name.to_owned());
            }
        }
    }

    /// Whether the element that these names lead to is one.
    pub fn has(&self, place: &[String]) -> bool {
        let named = place.last().is_some_and(|name| self.names.contains(name));
        named || self.places.iter().any(|list| list == place)
    }
}

/// For the identity of a plan: the same text for the same meaning.
impl fmt::Display for FormatPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            None => f.write_str("by content type")?,
            Some(kind) => write!(f, "{kind:?}")?,
        }
        if let Some(encoding) = self.encoding {
            write!(f, " {}", encoding.name())?;
        }
        if let Some(member) = &self.member {
            write!(f, " of {:?}", member.written)?;
        }
        if self.kind == Some(Kind::Xml) {
            write!(f, " {:?} {:?}", self.lists.names, self.lists.places)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_opens_is_a_list() {
        let path = |written| Path::parse(written).unwrap();
        let mut lists = Lists::default();
        lists.learn(&path("feed.entry"), &path("author.*.name"));
        lists.learn(&path("feed.entry"), &path("link.0.@href"));
        lists.learn(&path("feed.*.entry"), &path("title"));
        let has =
            |names: &[&str]| lists.has(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert!(has(&["feed", "entry", "author"]));
        assert!(has(&["feed", "entry", "link"]));
        assert!(has(&["feed"]));
        assert!(!has(&["feed", "author"]));
        assert!(!has(&["feed", "entry"]));
    }

    #[test]
    fn what_a_filter_opens_is_a_list() {
        let mut lists = Lists::default();
        for filter in [
            r#".link[] | select(.["@title"] == "pdf") | .["@href"]"#,
            r#"[."a:b"[0], .["c d"][]?, .e?[1:], .f["g"], .h, .[]]"#,
        ] {
            lists.learn_filter(filter);
        }
        assert_eq!(lists.names, ["link", "a:b", "c d", "e"]);
    }
}
