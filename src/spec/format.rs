//! `format`: what answers are written in, as written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::at::At;
use super::choice::ScalarOr;

/// A format in one word.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatWord {
    /// One JSON document.
    Json,
    /// One JSON value a line.
    Ndjson,
    /// Values between commas, with a header line.
    Csv,
    /// One XML document.
    Xml,
    /// Text that stays as it is.
    Text,
}

/// A format with detail.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatSpec {
    /// One JSON document.
    Json(FileSpec),
    /// One JSON value a line.
    Ndjson(FileSpec),
    /// Values between delimiters.
    Csv(CsvSpec),
    /// One XML document.
    Xml(XmlSpec),
    /// Text that stays as it is.
    Text(FileSpec),
}

/// What any format may say of the file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// The text encoding, as `latin1` or `utf-16le`; without: as the answer says, else UTF-8.
    pub encoding: Option<At<String>>,
    /// Which files of a zip archive: a name or a glob; without: all.
    pub member: Option<At<String>>,
}

/// Values between delimiters (RFC 4180 and its relatives).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSpec {
    /// What stands between values: one character; default `,`.
    pub delimiter: Option<At<String>>,
    /// `true` (default): the first line names the columns; `false`: they are `column_1`, `column_2`, …;
    /// or the names.
    pub header: Option<At<HeaderSpec>>,
    /// What values are quoted with, doubled inside: one character, or `none`; default `"`.
    pub quote: Option<At<String>>,
    /// Lines that begin with this character are passed over.
    pub comment: Option<At<String>>,
    /// So many lines before the header are passed over.
    pub skip: Option<u32>,
    /// The text encoding, as `latin1` or `utf-16le`; without: as the answer says, else UTF-8.
    pub encoding: Option<At<String>>,
    /// Which files of a zip archive: a name or a glob; without: all.
    pub member: Option<At<String>>,
}

/// One XML document.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct XmlSpec {
    /// Names of elements that are always a list, also where there is one.
    pub lists: Option<Vec<At<String>>>,
    /// The text encoding, as `latin1` or `utf-16le`; without: as the answer says, else UTF-8.
    pub encoding: Option<At<String>>,
    /// Which files of a zip archive: a name or a glob; without: all.
    pub member: Option<At<String>>,
}

/// Whether there is a header line, or what the columns are called.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct HeaderSpec(pub ScalarOr<String, Vec<At<String>>>);

impl JsonSchema for HeaderSpec {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "HeaderSpec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "boolean" }, { "type": "array", "items": { "type": "string" } }],
        })
    }
}
