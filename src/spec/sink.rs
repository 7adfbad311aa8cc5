//! `sink`: where records go, as written.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::at::At;
use super::choice::{OneOrMany, ScalarOr};

/// One sink or a list of them.
pub type SinksSpec = At<OneOrMany<SinkSpec>>;

/// Where records go; exactly one format.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-not-yet" = ["parquet", "none"]))]
pub struct SinkSpec {
    /// CSV: a path, or a path with settings. `.gz` or `.zst` at the end compresses; `-` is standard output.
    pub csv: Option<At<ScalarOr<String, CsvSpec>>>,
    /// One JSON object a line: a path.
    pub ndjson: Option<At<String>>,
    /// What becomes of the old file; default `replace`.
    pub mode: Option<ModeSpec>,
}

/// CSV with settings.
#[derive(Debug, Clone, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSpec {
    /// The file.
    pub path: At<String>,
    /// Between fields, one ASCII character; default `,`.
    pub delimiter: Option<At<String>>,
    /// What stands for null; default nothing.
    pub null: Option<At<String>>,
    /// Whether cells that spreadsheets would run as formulas get a leading quote; default false.
    pub spreadsheet_safe: Option<bool>,
}

/// What becomes of the old file.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-not-yet" = ["append", "merge"]))]
pub enum ModeSpec {
    /// The new one takes its place.
    Replace,
}

impl<'de> Deserialize<'de> for CsvSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, because a plain `null:` is no text to YAML, and derived fields ask for text.
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = CsvSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CsvSpec, A::Error> {
                let (mut path, mut delimiter, mut null, mut spreadsheet_safe) =
                    (None, None, None, None);
                while let Some(key) = map.next_key::<Option<String>>()? {
                    match key.as_deref().unwrap_or("null") {
                        "path" => path = Some(map.next_value()?),
                        "delimiter" => delimiter = Some(map.next_value()?),
                        "null" => null = Some(map.next_value()?),
                        "spreadsheet_safe" => spreadsheet_safe = Some(map.next_value()?),
                        // The shape pass has told of unknown keys.
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(CsvSpec {
                    path: path.ok_or_else(|| A::Error::missing_field("path"))?,
                    delimiter,
                    null,
                    spreadsheet_safe,
                })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
