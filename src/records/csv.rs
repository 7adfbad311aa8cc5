//! Values between delimiters (RFC 4180 and its relatives) as JSON objects of text.
//!
//! Every value stays the text that it is: `00123` is no number here. Rows have as many values as
//! the header; a line end is CR LF, LF or CR, and inside quotes part of the value. Lines without
//! anything are passed over.

use std::io::{self, Read};

use csv::{ReaderBuilder, StringRecord};

use super::problem::{self, SelectError};
use crate::count::plural;
use crate::json::push_quoted;
use crate::plan::format::{CsvPlan, Header};

/// Read behind the last line: where it does not come back as a row of its own, a quote was open.
const END: &str = "ENDOFINPUT";
const BEHIND: &[u8] = b"\nENDOFINPUT";

/// CSV as text that is read from its beginning to its end, and may be looked at where it stands.
pub(super) trait Text: Read {
    /// What stands at a byte of it and behind; nothing where that is gone.
    fn at(&self, byte: u64) -> &str;
    /// A row was read.
    fn row_done(&self) {}
}

/// Hands on every row of `text` as an object.
pub(super) fn rows(
    text: &str,
    plan: &CsvPlan,
    out: &mut dyn FnMut(&str) -> Result<(), SelectError>,
) -> Result<(), SelectError> {
    let (text, skipped) = without_first(text, plan.skip);
    read(Whole { text, read: 0 }, skipped, plan, out)
}

/// All of it.
struct Whole<'a> {
    text: &'a str,
    read: usize,
}

impl Read for Whole<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = (&self.text.as_bytes()[self.read..]).read(into)?;
        self.read += got;
        Ok(got)
    }
}

impl Text for Whole<'_> {
    fn at(&self, byte: u64) -> &str {
        let at = usize::try_from(byte).unwrap_or(self.text.len());
        self.text.get(at..).unwrap_or_default()
    }
}

/// Text, and then the line that stands behind the last one.
struct Ended<T> {
    text: T,
    behind: &'static [u8],
}

impl<T: Text> Read for Ended<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.text.read(into)? {
            0 => self.behind.read(into),
            got => Ok(got),
        }
    }
}

/// Hands on every row of a text, of which so many lines were `skipped`.
pub(super) fn read(
    text: impl Text,
    skipped: u64,
    plan: &CsvPlan,
    out: &mut dyn FnMut(&str) -> Result<(), SelectError>,
) -> Result<(), SelectError> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(plan.delimiter)
        .quote(plan.quote.unwrap_or(b'"'))
        .quoting(plan.quote.is_some())
        .comment(plan.comment)
        .buffer_capacity(64 << 10)
        .from_reader(Ended {
            text,
            behind: BEHIND,
        });
    let wrong = |text: &dyn Text, row: &StringRecord, what: String, cut: bool| {
        let place = row.position();
        let text = text.at(place.map_or(0, csv::Position::byte));
        // A row's place is that of the lines that are passed over before it.
        let is_over = |line: &&str| {
            line.trim_end_matches(['\r', '\n']).is_empty()
                || plan
                    .comment
                    .is_some_and(|mark| line.starts_with(char::from(mark)))
        };
        let lines = || text.split_inclusive('\n');
        let over = lines().take_while(is_over).count();
        let line = lines().nth(over).unwrap_or_default();
        SelectError::Line {
            line: skipped + place.map_or(1, csv::Position::line) + over as u64,
            what,
            cut,
            sample: problem::around(line.trim_end(), 0, problem::SAMPLE),
        }
    };
    let mut names = match &plan.header {
        Header::Names(names) => Some(quoted(names.iter().map(String::as_str))),
        Header::Line | Header::Counted => None,
    };
    let (mut row, mut next) = (StringRecord::new(), StringRecord::new());
    let (mut object, mut is_first) = (String::new(), true);
    loop {
        let more = match reader.read_record(&mut next) {
            Ok(more) => more,
            Err(error) => {
                return Err(unread(error, |what| {
                    wrong(&reader.get_ref().text, &next, what, false)
                }));
            }
        };
        reader.get_ref().text.row_done();
        std::mem::swap(&mut row, &mut next);
        if std::mem::take(&mut is_first) {
            continue;
        }
        // What was read before is now in `next`.
        let this = &next;
        let wrong = |what, cut| wrong(&reader.get_ref().text, this, what, cut);
        if !more {
            if this.len() == 1 && this.get(0) == Some(END) {
                break;
            }
            let what = "a quote is opened and not closed before the end".to_owned();
            return Err(wrong(what, true));
        }
        if names.is_none() && plan.header == Header::Line {
            header(this).map_err(|what| wrong(what, false))?;
            names = Some(quoted(this.iter()));
            continue;
        }
        let names = names.get_or_insert_with(|| {
            let counted: Vec<String> = (1..=this.len()).map(|n| format!("column_{n}")).collect();
            quoted(counted.iter().map(String::as_str))
        });
        if this.len() != names.len() {
            let what = format!(
                "it has {} where {} are expected",
                plural(this.len() as u64, "value"),
                names.len()
            );
            return Err(wrong(what, false));
        }
        write(names, this, &mut object);
        out(&object)?;
    }
    if names.is_none() && plan.header == Header::Line {
        return Err(SelectError::NoHeader);
    }
    Ok(())
}

/// What the text itself says of why it cannot be read, else what the reader says.
fn unread(error: csv::Error, otherwise: impl FnOnce(String) -> SelectError) -> SelectError {
    let shown = error.to_string();
    let said = match error.into_kind() {
        csv::ErrorKind::Io(error) => error.downcast::<SelectError>().ok(),
        _ => None,
    };
    said.unwrap_or_else(|| otherwise(shown))
}

/// The text behind the first lines, and how many those were.
fn without_first(text: &str, lines: u32) -> (&str, u64) {
    let (mut rest, mut skipped) = (text, 0);
    for _ in 0..lines {
        let Some((_, after)) = rest.split_once('\n') else {
            return ("", skipped);
        };
        (rest, skipped) = (after, skipped + 1);
    }
    (rest, skipped)
}

fn header(row: &StringRecord) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    match row.iter().find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(twice) => Err(format!(
            "the header names {twice:?} twice; name the columns: `skip: 1, header: [a, b]`"
        )),
    }
}

/// Names as members begin: quoted, with a colon.
fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names
        .map(|name| {
            let mut member = String::new();
            push_quoted(&mut member, name);
            member.push(':');
            member
        })
        .collect()
}

fn write(names: &[String], row: &StringRecord, object: &mut String) {
    object.clear();
    for (name, value) in names.iter().zip(row) {
        object.push(if object.is_empty() { '{' } else { ',' });
        object.push_str(name);
        push_quoted(object, value);
    }
    object.push('}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn read(text: &str, plan: &CsvPlan) -> Result<Vec<Value>, SelectError> {
        let mut all = Vec::new();
        rows(text, plan, &mut |row| {
            all.push(serde_json::from_str(row).unwrap());
            Ok(())
        })?;
        Ok(all)
    }

    fn plain(text: &str) -> Result<Vec<Value>, SelectError> {
        read(text, &CsvPlan::default())
    }

    #[test]
    fn rows_are_objects_of_text() {
        let text = "id,note\r\n00123,\"a \"\"b\"\"\r\nc\"\r\n1.10,\n\n,x";
        let all = plain(text).unwrap();
        assert_eq!(
            all,
            [
                json!({"id": "00123", "note": "a \"b\"\r\nc"}),
                json!({"id": "1.10", "note": ""}),
                json!({"id": "", "note": "x"}),
            ]
        );
        assert!(plain("id,note\n").unwrap().is_empty());
        assert_eq!(plain("a\r1\r2\r").unwrap().len(), 2);
    }

    #[test]
    fn files_that_are_not_plain() {
        let plan = CsvPlan {
            delimiter: b';',
            quote: Some(b'\''),
            comment: Some(b'#'),
            skip: 2,
            header: Header::Line,
        };
        let text = "made today\n\n# c\na;b\n1;'x;''y'\n#2;3\n";
        assert_eq!(read(text, &plan).unwrap(), [json!({"a": "1", "b": "x;'y"})]);
        let counted = CsvPlan {
            header: Header::Counted,
            ..CsvPlan::default()
        };
        assert_eq!(
            read("1,2\n3,4\n", &counted).unwrap(),
            [
                json!({"column_1": "1", "column_2": "2"}),
                json!({"column_1": "3", "column_2": "4"})
            ]
        );
        assert!(read("", &counted).unwrap().is_empty());
        let named = CsvPlan {
            header: Header::Names(vec!["x".to_owned()]),
            quote: None,
            ..CsvPlan::default()
        };
        assert_eq!(read("\"1\n", &named).unwrap(), [json!({"x": "\"1"})]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let said = |text: &str| plain(text).unwrap_err().to_string();
        assert_eq!(
            said("a,b\n1,2\n\n\"x\ny\",2,3\n"),
            "line 4: it has 3 values where 2 are expected; it begins \"\\\"x\""
        );
        assert_eq!(
            said("a,b\n1\n"),
            "line 2: it has 1 value where 2 are expected; it begins \"1\""
        );
        assert!(said("a,a\n").starts_with("line 1: the header names \"a\" twice"));
        assert_eq!(plain("").unwrap_err(), SelectError::NoHeader);
        let cut = plain("a,b\n1,\"x\n2,y\n").unwrap_err();
        assert!(
            cut.is_cut() && cut.to_string().starts_with("line 2: a quote is opened"),
            "{cut}"
        );
        assert!(plain("a,b\n1,\"").unwrap_err().is_cut());
        assert!(!plain("a,b\n1,2,3").unwrap_err().is_cut());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_is_written_as_csv_is_read_back(
            names in prop::collection::hash_set("[a-c,\"é \n]{1,4}", 1..4),
            values in prop::collection::vec(prop::collection::vec("[a-c,;\"'é#\r\n 0]{0,6}", 3), 0..6),
            crlf: bool, delimiter in prop_oneof![Just(b','), Just(b';'), Just(b'\t'), Just(b'|')],
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let mut writer = csv::WriterBuilder::new()
                .delimiter(delimiter)
                .quote_style(csv::QuoteStyle::Always)
                .terminator(if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
                .from_writer(Vec::new());
            writer.write_record(&names).unwrap();
            let mut expected = Vec::new();
            for row in &values {
                let row = &row[..names.len()];
                writer.write_record(row).unwrap();
                let members = names.iter().cloned().zip(row.iter().cloned().map(Value::from));
                expected.push(Value::Object(members.collect::<Map<_, _>>()));
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let plan = CsvPlan { delimiter, ..CsvPlan::default() };
            prop_assert_eq!(read(&text, &plan).unwrap(), expected);
            // Cut off in the middle of a value, it never passes for a whole file.
            let Some(cut) = text.rfind('"').filter(|_| text.ends_with(['"', '\n'])) else { return Ok(()) };
            prop_assert!(read(&text[..cut], &plan).is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a,\"\n\r;#ENDOFIPUT]{0,40}") {
            let _ = plain(&text);
        }
    }
}
