//! Answers in any format to records: everything is brought to JSON, and JSON stays what it is.
//!
//! CSV and lines of JSON become records row by row, where those are the root; else the whole of
//! them is an array, to which paths and shapes apply. Archives give one text a file.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::page::{Made, Page};
use super::problem::{self, SelectError};
use super::select::{MOST, Selector};
use super::{charset, csv, ndjson, xml};
use crate::json::push_quoted;
use crate::plan::RecordsPlan;
use crate::plan::format::{CsvPlan, FormatPlan, Kind};
use crate::plan::path::Path;

/// Reads the answers of one stream.
#[derive(Debug)]
pub struct Reader {
    pub(super) selector: Selector,
    pub(super) format: FormatPlan,
    /// Whether the whole of a body is wanted as a value, beside its records.
    pub(super) reads_body: bool,
}

/// One file: an answer's body, or what was inside of it.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name, in an archive.
    pub name: Option<String>,
    /// What is in it.
    pub bytes: Bytes,
}

/// What an answer says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// Whether the status is one of success: errors come in formats of their own.
    pub is_good: bool,
}

/// What an answer came to.
#[derive(Debug)]
pub struct Read {
    /// Its records.
    pub page: Result<Page, SelectError>,
    /// The body as JSON, where it was not JSON itself and that is wanted or was made anyway.
    pub json: Option<Bytes>,
}

impl Reader {
    /// Reads records by `records` from answers in `format`; `wants` as in [`Selector::new`].
    pub fn new(
        records: &RecordsPlan,
        format: &FormatPlan,
        wants: &[&Path],
        reads_body: bool,
    ) -> Self {
        Self {
            selector: Selector::shaped(records, wants),
            format: format.clone(),
            reads_body,
        }
    }

    /// Finds records and wanted values in JSON.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Whether an answer is plain JSON, which the [selector](Self::selector) reads as it is.
    pub fn is_usual(&self, told: Told<'_>, body: &[u8]) -> bool {
        *self.kind(told, &[]) == Kind::Json && !self.is_recoded(body)
    }

    /// Reads an answer. `files` are its body, or what an archive held; `many`: files of JSON or XML
    /// are elements of an array, however many there are.
    pub fn read(&self, told: Told<'_>, files: &[File], many: bool) -> Read {
        match self.body(told, files, many) {
            Ok(mut read) => {
                if let (Ok(page), Some(json), true) = (&mut read.page, &read.json, self.reads_body)
                {
                    page.json = Some(json.clone());
                }
                read
            }
            Err(error) => Read {
                page: Err(error),
                json: None,
            },
        }
    }

    fn body(&self, told: Told<'_>, files: &[File], many: bool) -> Result<Read, SelectError> {
        let kind = self.kind(told, files);
        let kind = kind.as_ref();
        match (kind, files) {
            (Kind::Csv(_) | Kind::Ndjson, _) => self.rows(kind, told, files),
            (Kind::Json | Kind::Xml, files) if !many && files.len() != 1 => {
                Err(SelectError::Files {
                    names: files.iter().filter_map(|file| file.name.clone()).collect(),
                })
            }
            // The usual way: nothing is copied.
            (Kind::Json, [file]) if !many && !self.is_recoded(&file.bytes) => Ok(Read {
                page: self.selector.select(&file.bytes),
                json: None,
            }),
            _ => {
                // Texts are records however many there are.
                let many = many || *kind == Kind::Text && files.len() != 1;
                let mut json = String::new();
                for (index, file) in files.iter().enumerate() {
                    if many {
                        json.push(if index == 0 { '[' } else { ',' });
                    }
                    self.document(kind, told, file, &mut json)
                        .map_err(|error| of(file, error))?;
                    check(json.len())?;
                }
                if many {
                    json.push_str(if files.is_empty() { "[]" } else { "]" });
                }
                let json = Bytes::from(json);
                let mut page = self.selector.select(&json);
                // In XML one element of a list looks as if it stood alone, and a text is a record.
                if let (Ok(page), Kind::Xml | Kind::Text) = (&mut page, kind) {
                    page.lone = None;
                }
                Ok(Read {
                    page,
                    json: Some(json),
                })
            }
        }
    }

    /// The format of an answer.
    pub(super) fn kind(&self, told: Told<'_>, files: &[File]) -> Cow<'_, Kind> {
        let by_type = || match told.content_type.map(by_content_type) {
            // Undeclared XML as one record would let an error page pass for data.
            Some(Some(Kind::Xml)) if told.is_good && self.selector.is_root() => Kind::Json,
            Some(Some(kind)) => kind,
            _ => Kind::Json,
        };
        let declared = self.format.kind.as_ref();
        if !told.is_good && declared != Some(&Kind::Json) {
            // The usual case is a message in JSON, whatever the data are in.
            if let [file] = files
                && is_json(&file.bytes)
            {
                return Cow::Owned(Kind::Json);
            }
        }
        match declared {
            Some(kind) => Cow::Borrowed(kind),
            None => Cow::Owned(by_type()),
        }
    }

    fn is_recoded(&self, bytes: &[u8]) -> bool {
        self.format.encoding.is_some() || charset::is_utf16(bytes)
    }

    /// One file as one JSON document.
    fn document(
        &self,
        kind: &Kind,
        told: Told<'_>,
        file: &File,
        out: &mut String,
    ) -> Result<(), SelectError> {
        let is_xml = *kind == Kind::Xml;
        // JSON has no charset (RFC 8259, section 11).
        let content_type = told.content_type.filter(|_| *kind != Kind::Json);
        let text = charset::text(&file.bytes, self.format.encoding, content_type, is_xml)?;
        match kind {
            Kind::Xml if is_json(&file.bytes) => return Err(other(&text, "XML")),
            Kind::Xml => out.push_str(&xml::json(&text, &self.format.lists)?),
            Kind::Text => push_quoted(out, &text),
            // It is judged with the whole; in an array of several it must not be more than one.
            _ => match serde_json::from_str::<&RawValue>(&text) {
                Ok(value) => out.push_str(value.get()),
                Err(error) => return Err(problem::not_json(&text, &error)),
            },
        }
        Ok(())
    }

    /// Files that hold a record a line.
    fn rows(&self, kind: &Kind, told: Told<'_>, files: &[File]) -> Result<Read, SelectError> {
        let wanted = if *kind == Kind::Ndjson {
            "NDJSON"
        } else {
            "CSV"
        };
        let mut out = Rows {
            page: self.selector.is_root().then(|| {
                Made::new(Page {
                    wants: vec![None; self.selector.wants()],
                    ..Page::default()
                })
            }),
            array: None,
        };
        if out.page.is_none() || self.reads_body {
            out.array = Some(String::from("["));
        }
        for file in files {
            let read = charset::text(&file.bytes, self.format.encoding, told.content_type, false)
                .and_then(|text| {
                    if problem::is_html(&text) {
                        return Err(problem::markup(&text, wanted));
                    }
                    match kind {
                        Kind::Csv(_) if is_json(text.as_bytes()) => Err(other(&text, wanted)),
                        Kind::Csv(plan) => csv::rows(&text, plan, &mut |row| out.push(row)),
                        _ => ndjson::rows(&text, &mut 0, &mut |row| out.push_line(row)),
                    }
                });
            read.map_err(|error| of(file, error))?;
        }
        let json = out.array.map(|mut array| {
            array.push(']');
            Bytes::from(array)
        });
        let page = match (out.page, &json) {
            (Some(made), _) => Ok(made.page()),
            (None, Some(json)) => self.selector.select(json),
            (None, None) => Ok(Page::default()),
        };
        Ok(Read { page, json })
    }
}

/// Where rows go.
struct Rows {
    /// As records.
    page: Option<Made>,
    /// As elements of an array.
    array: Option<String>,
}

impl Rows {
    fn push(&mut self, row: &str) -> Result<(), SelectError> {
        if let Some(page) = &mut self.page {
            page.add(row).map_err(|_| SelectError::TooMuch)?;
        }
        if let Some(array) = &mut self.array {
            if array.len() > 1 {
                array.push(',');
            }
            array.push_str(row);
            check(array.len())?;
        }
        Ok(())
    }

    /// A line of JSON: where lines are the records, an array is none.
    fn push_line(&mut self, row: &str) -> Result<(), SelectError> {
        if self.page.is_some() && row.starts_with('[') {
            return Err(other(row, "lines of objects"));
        }
        self.push(row)
    }
}

fn check(len: usize) -> Result<(), SelectError> {
    if len > MOST {
        return Err(SelectError::TooMuch);
    }
    Ok(())
}

/// A problem and the file it is in.
fn of(file: &File, error: SelectError) -> SelectError {
    within(file.name.as_deref(), error)
}

/// A problem, and the file of an archive that it is in.
pub(super) fn within(name: Option<&str>, error: SelectError) -> SelectError {
    match name {
        None => error,
        Some(name) => SelectError::Member {
            name: name.to_owned(),
            error: Box::new(error),
        },
    }
}

pub(super) fn other(text: &str, wanted: &'static str) -> SelectError {
    SelectError::OtherFormat {
        wanted,
        sample: problem::around(text.trim_ascii_start(), 0, problem::SAMPLE),
    }
}

/// Whether bytes are a JSON object or array as a whole.
fn is_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii_start().starts_with(b"{") | bytes.trim_ascii_start().starts_with(b"[")
        && serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// What a content type says (RFC 9110, section 8.3.1); none of it where it is none of these.
fn by_content_type(value: &str) -> Option<Kind> {
    let essence = value.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let (_, kind) = essence.split_once('/')?;
    match kind {
        "csv" | "x-csv" => Some(Kind::Csv(CsvPlan::default())),
        "tab-separated-values" => Some(Kind::Csv(CsvPlan {
            delimiter: b'\t',
            ..CsvPlan::default()
        })),
        "xml" => Some(Kind::Xml),
        "xhtml+xml" => None,
        kind if kind.contains("ndjson")
            || kind.contains("jsonl")
            || kind.contains("json-lines") =>
        {
            Some(Kind::Ndjson)
        }
        kind if kind.ends_with("+xml") => Some(Kind::Xml),
        _ => None,
    }
}
