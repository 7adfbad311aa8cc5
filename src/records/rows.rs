//! Rows of files that are too large for memory: read piece by piece, each of which is a page.

use std::cell::Cell;
use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use super::format::{Reader, Told, other, within};
use super::page::{Made, Page};
use super::problem::{self, SelectError};
use super::{charset, csv, ndjson};
use crate::plan::format::{CsvPlan, Kind};

/// Bytes that are read at once.
const READ: usize = if cfg!(test) { 16 } else { 256 << 10 };
/// Most bytes of one row, line end and all: what never ends would fill the memory.
const LONGEST: usize = 64 << 20;
/// Bytes of text that stay in sight behind the place that is read, for messages.
const IN_SIGHT: usize = 256 << 10;

/// Takes pieces as they come.
type Out<'o> = &'o mut dyn FnMut(Page) -> Result<(), SelectError>;

impl Reader {
    /// Whether answers like this one are rows that are records as they are, so that nobody needs
    /// all of it at once.
    pub fn reads_rows(&self, told: Told<'_>) -> bool {
        let is_rows = matches!(*self.kind(told, &[]), Kind::Csv(_) | Kind::Ndjson);
        is_rows && self.selector.is_root() && !self.reads_body
    }

    /// Reads one file of rows (its name, if it is of an archive) and hands on its records in pieces
    /// of about `size` bytes.
    pub fn pieces(
        &self,
        told: Told<'_>,
        name: Option<&str>,
        input: &mut dyn Read,
        size: usize,
        out: Out<'_>,
    ) -> Result<(), SelectError> {
        let read = self.read_rows(told, input, size, out);
        read.map_err(|error| within(name, error))
    }

    fn read_rows(
        &self,
        told: Told<'_>,
        input: &mut dyn Read,
        size: usize,
        out: Out<'_>,
    ) -> Result<(), SelectError> {
        let kind = self.kind(told, &[]);
        let is_csv = matches!(*kind, Kind::Csv(_));
        let mut text = Text::open(input, self.format.encoding, told.content_type)?;
        let wanted = if is_csv { "CSV" } else { "NDJSON" };
        if problem::is_html(&text.seen) {
            return Err(problem::markup(&text.seen, wanted));
        }
        let nothing = || {
            let page = Page {
                wants: vec![None; self.selector.wants()],
                ..Page::default()
            };
            Made::with_room(page, size + size / 16)
        };
        let mut piece = nothing();
        let mut push = |row: &str| {
            if !is_csv && row.starts_with('[') {
                return Err(other(row, "lines of objects"));
            }
            piece.add(row).map_err(|_| SelectError::TooMuch)?;
            if piece.size() >= size {
                out(std::mem::replace(&mut piece, nothing()).page())?;
            }
            Ok(())
        };
        match &*kind {
            Kind::Csv(plan) => csv_rows(text, plan, &mut push)?,
            _ => lines(&mut text, &mut push)?,
        }
        let last = piece.page();
        if last.count() > 0 || last.nulls > 0 {
            out(last)?;
        }
        Ok(())
    }
}

/// Lines, as many at once as are there.
fn lines(
    text: &mut Text<'_>,
    out: &mut dyn FnMut(&str) -> Result<(), SelectError>,
) -> Result<(), SelectError> {
    let mut line = 0;
    loop {
        if let Some(end) = memchr::memrchr(b'\n', text.seen.as_bytes()) {
            ndjson::rows(text.seen.get(..=end).unwrap_or_default(), &mut line, out)?;
            text.forget(end + 1);
        }
        if text.seen.len() > LONGEST {
            return Err(too_long(line + 1, &text.seen));
        }
        if !text.more()? {
            return ndjson::rows(&text.seen, &mut line, out);
        }
    }
}

fn csv_rows(
    mut text: Text<'_>,
    plan: &CsvPlan,
    out: &mut dyn FnMut(&str) -> Result<(), SelectError>,
) -> Result<(), SelectError> {
    // A message, where rows were expected: in one line it would pass for a header.
    if is_json(&text.seen) {
        return Err(other(&text.seen, "CSV"));
    }
    let mut skipped = 0;
    while skipped < u64::from(plan.skip) {
        if let Some(end) = memchr::memchr(b'\n', text.seen.as_bytes()) {
            text.forget(end + 1);
            skipped += 1;
        } else if text.seen.len() > LONGEST {
            return Err(too_long(skipped + 1, &text.seen));
        } else if !text.more()? {
            let end = text.seen.len();
            text.forget(end);
            break;
        }
    }
    text.start = 0;
    csv::read(text, skipped, plan, out)
}

/// Whether a text begins as no header does, but objects and arrays of JSON do.
fn is_json(text: &str) -> bool {
    let mut signs = text.chars().filter(|c| !c.is_ascii_whitespace());
    match (signs.next(), signs.next()) {
        (Some('{'), Some(second)) => second == '"',
        (Some('['), Some(second)) => matches!(second, '{' | '[' | '"'),
        _ => false,
    }
}

fn too_long(line: u64, text: &str) -> SelectError {
    SelectError::Line {
        line,
        what: format!("it is longer than {} MiB", LONGEST >> 20),
        cut: false,
        sample: problem::around(
            text.get(..problem::SAMPLE * 4).unwrap_or(text),
            0,
            problem::SAMPLE,
        ),
    }
}

/// A file as text, of which a part is in sight.
struct Text<'a> {
    input: &'a mut dyn Read,
    /// Where it is not UTF-8.
    decoder: Option<(Decoder, &'static Encoding)>,
    /// Bytes that are not text yet: the rest of a character.
    raw: Vec<u8>,
    /// Bytes that became text, byte order mark included.
    done: usize,
    is_over: bool,
    seen: String,
    /// Where the text in sight begins.
    start: u64,
    /// How much of it a reader was given.
    given: usize,
    /// What it was given since the last row.
    since: Cell<usize>,
}

impl<'a> Text<'a> {
    fn open(
        input: &'a mut dyn Read,
        declared: Option<&'static Encoding>,
        content_type: Option<&str>,
    ) -> Result<Self, SelectError> {
        let mut text = Self {
            input,
            decoder: None,
            raw: Vec::new(),
            done: 0,
            is_over: false,
            seen: String::new(),
            start: 0,
            given: 0,
            since: Cell::new(0),
        };
        text.fill()?;
        let (encoding, mark) = charset::choose(&text.raw, declared, content_type, false);
        text.raw.drain(..mark);
        text.done = mark;
        if encoding != UTF_8 {
            text.decoder = Some((encoding.new_decoder_without_bom_handling(), encoding));
        }
        text.decode()?;
        Ok(text)
    }

    /// Reads on; false at the end.
    fn more(&mut self) -> Result<bool, SelectError> {
        if self.is_over {
            return Ok(false);
        }
        self.fill()?;
        self.decode()?;
        Ok(true)
    }

    /// Bytes, as many as are read at once; fewer at the end alone.
    fn fill(&mut self) -> Result<(), SelectError> {
        let before = self.raw.len();
        let read = (&mut *self.input)
            .take(READ as u64)
            .read_to_end(&mut self.raw);
        // Whose body it is knows what that means.
        read.map_err(|e| SelectError::Unread(e.to_string()))?;
        self.is_over = self.raw.len() - before < READ;
        Ok(())
    }

    fn decode(&mut self) -> Result<(), SelectError> {
        if let Some((decoder, encoding)) = &mut self.decoder {
            let wrong = SelectError::NotInEncoding {
                encoding: encoding.name(),
            };
            let most = decoder.max_utf8_buffer_length_without_replacement(self.raw.len());
            self.seen.reserve(most.unwrap_or(READ * 4));
            let (result, read) = decoder.decode_to_string_without_replacement(
                &self.raw,
                &mut self.seen,
                self.is_over,
            );
            return match result {
                DecoderResult::InputEmpty if read == self.raw.len() => {
                    self.raw.clear();
                    Ok(())
                }
                _ => Err(wrong),
            };
        }
        let whole = match simdutf8::compat::from_utf8(&self.raw) {
            Ok(text) => text.len(),
            Err(e) if e.error_len().is_none() && !self.is_over => e.valid_up_to(),
            Err(e) => {
                return Err(SelectError::NotUtf8 {
                    at: self.done + e.valid_up_to(),
                });
            }
        };
        let text = std::str::from_utf8(&self.raw[..whole]).unwrap_or_default();
        self.seen.push_str(text);
        self.raw.drain(..whole);
        self.done += whole;
        Ok(())
    }

    /// Nobody looks at the first bytes in sight again.
    fn forget(&mut self, bytes: usize) {
        self.seen.drain(..bytes);
        self.start += bytes as u64;
    }
}

impl Read for Text<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.seen.len() {
            let past = self.seen.len().saturating_sub(IN_SIGHT);
            let past = self.seen.floor_char_boundary(past);
            self.forget(past);
            self.given -= past;
            if !self.more().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        if self.since.get() > LONGEST {
            let error = SelectError::RowTooLong {
                most: LONGEST >> 20,
            };
            return Err(io::Error::other(error));
        }
        let got = (&self.seen.as_bytes()[self.given..]).read(into)?;
        self.given += got;
        self.since.set(self.since.get() + got);
        Ok(got)
    }
}

impl csv::Text for Text<'_> {
    fn at(&self, byte: u64) -> &str {
        let at = byte.checked_sub(self.start);
        let at = at.and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.seen.get(at..)).unwrap_or_default()
    }

    fn row_done(&self) {
        self.since.set(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::format::File;
    use super::*;
    use crate::plan::RecordsPlan;
    use crate::plan::format::{FormatPlan, Header};

    fn reader(format: &FormatPlan) -> Reader {
        Reader::new(&RecordsPlan::default(), format, &[], false)
    }

    fn told(content_type: &str) -> Told<'_> {
        Told {
            content_type: Some(content_type),
            is_good: true,
        }
    }

    /// The records as lines, and how many pieces they came in.
    fn in_pieces(
        reader: &Reader,
        told: Told<'_>,
        bytes: &[u8],
    ) -> Result<(String, usize), SelectError> {
        let (mut lines, mut pieces) = (String::new(), 0);
        reader.pieces(told, None, &mut &*bytes, 20, &mut |page| {
            assert_eq!(page.records().count(), page.count());
            lines.push_str(std::str::from_utf8(&page.lines).unwrap());
            pieces += 1;
            Ok(())
        })?;
        Ok((lines, pieces))
    }

    fn whole(reader: &Reader, told: Told<'_>, bytes: &[u8]) -> Result<String, SelectError> {
        let bytes = Bytes::copy_from_slice(bytes);
        let page = reader
            .read(told, &[File { name: None, bytes }], false)
            .page?;
        Ok(String::from_utf8(page.lines.to_vec()).unwrap())
    }

    #[test]
    fn records_come_in_pieces_and_none_is_torn() {
        let lines: Vec<String> = (0..50).map(|n| format!("{{\"n\": {n}}}\r\n\n")).collect();
        let text = lines.concat();
        let reader = reader(&FormatPlan::default());
        let told = told("application/x-ndjson");
        assert!(reader.reads_rows(told));
        let (lines, pieces) = in_pieces(&reader, told, text.as_bytes()).unwrap();
        assert_eq!(lines, whole(&reader, told, text.as_bytes()).unwrap());
        assert_eq!(pieces, 23);
        let none = Told {
            content_type: None,
            is_good: true,
        };
        assert!(!reader.reads_rows(none));
    }

    #[test]
    fn what_is_wrong_is_said_as_of_a_small_file() {
        let plan = CsvPlan {
            skip: 1,
            comment: Some(b'#'),
            header: Header::Line,
            ..CsvPlan::default()
        };
        let csv = reader(&FormatPlan {
            kind: Some(Kind::Csv(plan)),
            ..FormatPlan::default()
        });
        let lines = reader(&FormatPlan {
            kind: Some(Kind::Ndjson),
            ..FormatPlan::default()
        });
        let told = told("x/y");
        let long = "1,22222222222222222\n".repeat(30);
        for (reader, text) in [
            (&csv, format!("made today\na,b\n{long}# c\n\n1,2,3\n4,5\n")),
            (&csv, format!("made today\na,b\n{long}1,\"2\n4,5\n")),
            (&csv, "<!doctype html>".to_owned()),
            (&csv, "made today".to_owned()),
            (
                &lines,
                format!(
                    "{}{{\"a\":}}\n1\n",
                    "{\"a\": \"bbbbbbbbbbbbbbbbbb\"}\n".repeat(9)
                ),
            ),
            (&lines, format!("{}{{\"a\": 1", "{\"a\": 1}\n".repeat(9))),
            (&lines, "{\"a\": 1}\n[1, 2]\n".to_owned()),
        ] {
            let (small, large) = (
                whole(reader, told, text.as_bytes()).unwrap_err(),
                in_pieces(reader, told, text.as_bytes()).unwrap_err(),
            );
            assert_eq!(large.to_string(), small.to_string());
        }
        let told = Told {
            content_type: Some("text/csv"),
            is_good: true,
        };
        for text in [
            "{\"error\": \"no such day\", \"code\": 7}",
            " [{\"a\": 1}]",
            "[[1,2],[3,4]]",
        ] {
            let error = in_pieces(&csv, told, text.as_bytes()).unwrap_err();
            assert!(matches!(error, SelectError::OtherFormat { .. }), "{error}");
        }
        assert!(!is_json("[id],[name]"));
        let torn = [b"a,b\n1,2\n3,".as_slice(), &[0xc3]].concat();
        let usual = reader(&FormatPlan::default());
        assert_eq!(
            in_pieces(&usual, told, &torn).unwrap_err(),
            SelectError::NotUtf8 { at: 10 }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn pieces_are_the_whole(
            rows in prop::collection::vec(prop::collection::vec("[a-c,\"é€\n\r 0]{0,9}", 2), 0..30),
            encoding in prop_oneof![Just("utf-8"), Just("utf-16le"), Just("windows-1252")],
            mark: bool,
        ) {
            let mut writer = ::csv::Writer::from_writer(Vec::new());
            writer.write_record(["x", "é"]).unwrap();
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let label = Encoding::for_label(encoding.as_bytes()).unwrap();
            let bytes = match encoding {
                "utf-16le" => {
                    let mark = mark.then_some(0xfeff);
                    mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
                }
                "utf-8" if mark => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
                _ => label.encode(&text).0.into_owned(),
            };
            let reader = reader(&FormatPlan { encoding: Some(label), ..FormatPlan::default() });
            let told = told("text/csv");
            let (lines, _) = in_pieces(&reader, told, &bytes).unwrap();
            prop_assert_eq!(lines, whole(&reader, told, &bytes).unwrap());
        }

        #[test]
        fn lines_are_the_whole(lines in prop::collection::vec("[\\[\\]{}\":,a1é \\\\\r]{0,8}", 0..20), end: bool) {
            let text = lines.join("\n") + if end { "\n" } else { "" };
            let reader = reader(&FormatPlan { kind: Some(Kind::Ndjson), ..FormatPlan::default() });
            let told = told("x/y");
            let (small, large) = (
                whole(&reader, told, text.as_bytes()),
                in_pieces(&reader, told, text.as_bytes()).map(|(lines, _)| lines),
            );
            prop_assert_eq!(large.map_err(|e| e.to_string()), small.map_err(|e| e.to_string()));
        }
    }
}
