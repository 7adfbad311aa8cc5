//! `format`: what answers are written in.

use encoding_rs::Encoding;
use globset::GlobBuilder;

use super::names::Judge;
use crate::plan::format::{CsvPlan, FormatPlan, Header, Kind, Lists, Member};
use crate::plan::path::Path;
use crate::plan::size;
use crate::plan::{ColumnFrom, ColumnPlan, RecordsPlan};
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::format::{CsvSpec, FileSpec, FormatSpec, FormatWord, HeaderSpec};
use crate::spec::near;
use crate::spec::stream::StreamSpec;

/// The format of a stream's answers, if it has no mistake.
pub(super) fn format(
    judge: &mut Judge<'_>,
    spec: &StreamSpec,
    records: Option<&RecordsPlan>,
    columns: Option<&[ColumnPlan]>,
) -> Option<FormatPlan> {
    let mut plan = match spec.format.as_ref().map(|at| &at.value) {
        None => FormatPlan::default(),
        Some(ScalarOr::Short(word)) => FormatPlan {
            kind: Some(match word {
                FormatWord::Json => Kind::Json,
                FormatWord::Ndjson => Kind::Ndjson,
                FormatWord::Csv => Kind::Csv(CsvPlan::default()),
                FormatWord::Xml => Kind::Xml,
                FormatWord::Text => Kind::Text,
            }),
            ..FormatPlan::default()
        },
        Some(ScalarOr::Long(long)) => self::long(judge, long)?,
    };
    let root = Path::default();
    let under = records.map_or(&root, |records| &records.path);
    plan.lists.learn(&root, under);
    for column in columns.unwrap_or_default() {
        match &column.from {
            ColumnFrom::Path(path) => plan.lists.learn(under, path),
            ColumnFrom::Jq(filter) => plan.lists.learn_filter(filter.written()),
            ColumnFrom::Template(_) | ColumnFrom::Nothing => {}
        }
    }
    if let Some(at) = &spec.max_body {
        plan.max_body = Some(max_body(judge, at)?);
    }
    Some(plan)
}

fn max_body(judge: &mut Judge<'_>, at: &At<String>) -> Option<usize> {
    match size::parse(&at.value) {
        Ok(size) => usize::try_from(size).ok(),
        Err(message) => {
            judge.wrong("bad-size", &at.span, message, "");
            None
        }
    }
}

fn long(judge: &mut Judge<'_>, spec: &FormatSpec) -> Option<FormatPlan> {
    let mut lists = Lists::default();
    let (kind, file) = match spec {
        FormatSpec::Json(file) => (Some(Kind::Json), file.clone()),
        FormatSpec::Ndjson(file) => (Some(Kind::Ndjson), file.clone()),
        FormatSpec::Text(file) => (Some(Kind::Text), file.clone()),
        FormatSpec::Csv(csv) => (
            self::csv(judge, csv).map(Kind::Csv),
            FileSpec {
                encoding: csv.encoding.clone(),
                member: csv.member.clone(),
            },
        ),
        FormatSpec::Xml(xml) => {
            let names = xml.lists.iter().flatten();
            lists.names = names.map(|name| name.value.clone()).collect();
            let file = FileSpec {
                encoding: xml.encoding.clone(),
                member: xml.member.clone(),
            };
            (Some(Kind::Xml), file)
        }
    };
    let encoding = match &file.encoding {
        None => Some(None),
        Some(at) => self::encoding(judge, at).map(Some),
    };
    let member = match &file.member {
        None => Some(None),
        Some(at) => self::member(judge, at).map(Some),
    };
    Some(FormatPlan {
        kind: Some(kind?),
        encoding: encoding?,
        member: member?,
        lists,
        max_body: None,
    })
}

fn encoding(judge: &mut Judge<'_>, at: &At<String>) -> Option<&'static Encoding> {
    let found = Encoding::for_label_no_replacement(at.as_bytes());
    if found.is_none() {
        let known = [
            "utf-8",
            "utf-16le",
            "utf-16be",
            "latin1",
            "windows-1252",
            "iso-8859-15",
            "shift_jis",
            "gb18030",
        ];
        let hint = near::hint(at, known, "known, among others");
        let message = format!("there is no text encoding `{}`", at.value);
        judge.wrong("bad-format", &at.span, message, &hint);
    }
    found
}

fn member(judge: &mut Judge<'_>, at: &At<String>) -> Option<Member> {
    let glob = GlobBuilder::new(at).literal_separator(true).build();
    match glob {
        Ok(glob) => Some(Member {
            written: at.value.clone(),
            glob: glob.compile_matcher(),
            is_many: at.contains(['*', '?', '[', '{']),
        }),
        Err(error) => {
            let message = format!("`{}` is no pattern: {}", at.value, error.kind());
            judge.wrong("bad-format", &at.span, message, "");
            None
        }
    }
}

fn csv(judge: &mut Judge<'_>, spec: &CsvSpec) -> Option<CsvPlan> {
    let plain = CsvPlan::default();
    let delimiter = match &spec.delimiter {
        None => Some(plain.delimiter),
        Some(at) => one(judge, at, "delimiter"),
    };
    let quote = match &spec.quote {
        None => Some(plain.quote),
        Some(at) if at.value == "none" => Some(None),
        Some(at) => one(judge, at, "quote").map(Some),
    };
    let comment = match &spec.comment {
        None => Some(None),
        Some(at) => one(judge, at, "comment").map(Some),
    };
    let header = spec
        .header
        .as_ref()
        .map_or(Some(Header::Line), |at| self::header(judge, at));
    let (delimiter, quote, comment) = (delimiter?, quote?, comment?);
    let marks = [Some(delimiter), quote, comment];
    for (index, mark) in marks.iter().enumerate() {
        if mark.is_some() && marks[..index].contains(mark) {
            let at = [&spec.delimiter, &spec.quote, &spec.comment];
            if let Some(at) = at[..=index].iter().rev().find_map(|at| at.as_ref()) {
                let message = "`delimiter`, `quote` and `comment` must be different characters";
                judge.wrong("bad-format", &at.span, message, "");
            }
            return None;
        }
    }
    Some(CsvPlan {
        delimiter,
        quote,
        comment,
        skip: spec.skip.unwrap_or(plain.skip),
        header: header?,
    })
}

/// The one byte that a mark is.
fn one(judge: &mut Judge<'_>, at: &At<String>, key: &str) -> Option<u8> {
    let fits = |byte: u8| {
        byte.is_ascii() && !byte.is_ascii_alphanumeric() && !matches!(byte, b'\n' | b'\r' | 0)
    };
    match at.as_bytes() {
        [byte] if fits(*byte) => Some(*byte),
        _ => {
            let message = format!("`{key}` is one ASCII character that is no letter or digit");
            let hint = "a tab is written \"\\t\", in double quotes";
            judge.wrong("bad-format", &at.span, message, hint);
            None
        }
    }
}

fn header(judge: &mut Judge<'_>, at: &At<HeaderSpec>) -> Option<Header> {
    match &at.value.0 {
        ScalarOr::Short(word) => Some(if word == "false" {
            Header::Counted
        } else {
            Header::Line
        }),
        ScalarOr::Long(names) => self::names(judge, names, &at.with(())).map(Header::Names),
    }
}

/// Names of columns: some, and all different.
pub(super) fn names(
    judge: &mut Judge<'_>,
    names: &[At<String>],
    list: &At<()>,
) -> Option<Vec<String>> {
    if names.is_empty() {
        let message = "a list of names must not be empty";
        judge.wrong("bad-names", &list.span, message, "");
        return None;
    }
    let mut all: Vec<String> = Vec::new();
    let mut good = true;
    for name in names {
        if all.contains(&name.value) {
            let message = format!("`{}` is here twice", name.value);
            let hint = "each value needs a name of its own";
            judge.wrong("bad-names", &name.span, message, hint);
            good = false;
        }
        all.push(name.value.clone());
    }
    good.then_some(all)
}
