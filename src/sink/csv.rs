//! CSV as RFC 4180 has it: a header, CRLF at the end of each line, quotes only where needed.
//!
//! A null or missing value is the null marker, by default nothing at all; then an empty string
//! is written `""`, so that readers which tell the two apart can. Strings are unescaped, numbers
//! and booleans stand as spelled, arrays and objects as JSON text.

use std::borrow::Cow;
use std::io::{self, Write};

use memchr::memchr;

use super::Sink;
use crate::json;
use crate::plan::sink::CsvPlan;

/// Stands for an empty string on its way through the `csv` crate, which writes null and `""`
/// alike: a byte that UTF-8 never has.
const EMPTY: u8 = 0xff;

/// Writes CSV.
#[derive(Debug)]
pub struct Csv<W: Write> {
    writer: csv::Writer<Unmark<W>>,
    null: String,
    spreadsheet_safe: bool,
    /// Whether the row has a cell yet.
    begun: bool,
}

impl<W: Write> Csv<W> {
    /// Writes to `out`.
    pub fn new(out: W, plan: &CsvPlan) -> Self {
        let writer = csv::WriterBuilder::new()
            .delimiter(plan.delimiter)
            .terminator(csv::Terminator::CRLF)
            .buffer_capacity(64 * 1024)
            .from_writer(Unmark(out));
        Self {
            writer,
            null: plan.null.clone(),
            spreadsheet_safe: plan.spreadsheet_safe,
            begun: false,
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let text = if self.spreadsheet_safe && runs_as_formula(text) {
            Cow::Owned(format!("'{text}"))
        } else {
            Cow::Borrowed(text)
        };
        if text.is_empty() && self.null.is_empty() {
            return self.field(&[EMPTY]);
        }
        self.field(text.as_bytes())
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.begun = true;
        self.writer.write_field(bytes).map_err(io_error)
    }
}

/// Whether a spreadsheet would take a cell for a formula (OWASP, CSV Injection; ASVS 5.0, 1.2.10).
fn runs_as_formula(text: &str) -> bool {
    text.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '\0', '＝', '＋', '－', '＠',
    ])
}

fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

impl<W: Write> Sink for Csv<W> {
    type Out = W;

    fn header(&mut self, names: &[String]) -> io::Result<()> {
        for name in names {
            self.text(name)?;
        }
        self.end_row()
    }

    #[inline]
    fn cell(&mut self, value: &str) -> io::Result<()> {
        match value.as_bytes().first() {
            None => {
                self.begun = true;
                self.writer
                    .write_field(self.null.as_bytes())
                    .map_err(io_error)
            }
            Some(b'"') => self.text(&json::plain(value)),
            Some(_) => self.field(value.as_bytes()),
        }
    }

    fn end_row(&mut self) -> io::Result<()> {
        // Records without any field make no line: there is no column to put them in.
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        self.writer.write_record(None::<&[u8]>).map_err(io_error)
    }

    fn finish(self) -> io::Result<W> {
        match self.writer.into_inner() {
            Ok(unmark) => Ok(unmark.0),
            Err(error) => Err(io::Error::new(error.error().kind(), error.to_string())),
        }
    }
}

/// Passes bytes on, the mark of an empty string as two quotes.
#[derive(Debug)]
struct Unmark<W>(W);

impl<W: Write> Write for Unmark<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = memchr(EMPTY, rest) {
            let (before, after) = rest.split_at(at);
            self.0.write_all(before)?;
            self.0.write_all(b"\"\"")?;
            rest = after.get(1..).unwrap_or_default();
        }
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan() -> CsvPlan {
        CsvPlan {
            delimiter: b',',
            null: String::new(),
            spreadsheet_safe: false,
        }
    }

    fn written(plan: &CsvPlan, rows: &[&[&str]]) -> String {
        let mut csv = Csv::new(Vec::new(), plan);
        for row in rows {
            for cell in *row {
                csv.cell(cell).unwrap();
            }
            csv.end_row().unwrap();
        }
        String::from_utf8(csv.finish().unwrap()).unwrap()
    }

    #[test]
    fn cells_are_written_as_the_standard_says() {
        let rows: &[&[&str]] = &[
            &["1.10", "", r#""""#, "true", r#"["a",1]"#],
            &[
                r#""a,b""#,
                r#""say \"hi\"""#,
                r#""two\nlines""#,
                r#""é""#,
                "-5",
            ],
        ];
        assert_eq!(
            written(&plan(), rows),
            "1.10,,\"\",true,\"[\"\"a\"\",1]\"\r\n\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",é,-5\r\n"
        );
    }

    #[test]
    fn null_marker_delimiter_and_formulas() {
        let plan = CsvPlan {
            delimiter: b';',
            null: "\\N".to_owned(),
            spreadsheet_safe: true,
        };
        let rows: &[&[&str]] = &[&["", r#""""#, r#""=1+1""#, "-5", r#""a;b""#]];
        assert_eq!(written(&plan, rows), "\\N;;'=1+1;-5;\"a;b\"\r\n");
        let mut csv = Csv::new(Vec::new(), &plan);
        csv.header(&["@sum".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(csv.finish().unwrap(), b"'@sum;b\r\n");
    }

    #[test]
    fn one_column_never_makes_a_blank_line() {
        assert_eq!(
            written(&plan(), &[&[""], &["\"\""], &["1"]]),
            "\"\"\r\n\"\"\r\n1\r\n"
        );
        assert_eq!(written(&plan(), &[&[], &[]]), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn hostile_values_come_back(rows in prop::collection::vec(
            prop::collection::vec("[,;\"'\r\n\t\\\\ =a\u{0}é😀]{0,6}", 3..=3), 1..6)
        ) {
            let spelled: Vec<Vec<String>> = rows.iter()
                .map(|row| row.iter().map(|text| json::quoted(text)).collect())
                .collect();
            let slices: Vec<Vec<&str>> = spelled.iter()
                .map(|row| row.iter().map(String::as_str).collect())
                .collect();
            let slices: Vec<&[&str]> = slices.iter().map(Vec::as_slice).collect();
            let text = written(&plan(), &slices);
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .from_reader(text.as_bytes());
            let back: Vec<Vec<String>> = reader.records()
                .map(|row| row.unwrap().iter().map(str::to_owned).collect())
                .collect();
            prop_assert_eq!(back, rows);
        }
    }
}
