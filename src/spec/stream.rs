//! `streams`: one kind of record each, as written; also what `defaults` may say.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::at::At;
use super::choice::{ScalarOr, Table};
use super::cursor::CursorSpec;
use super::expect::ExpectSpec;
use super::format::{FormatSpec, FormatWord};
use super::records::RecordsSpec;
use super::sink::SinksSpec;
use super::transform::TransformSpec;
use super::tree::Tree;

/// One kind of record.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Variables and what they run over; several make a product.
    #[serde(rename = "for")]
    pub partitions: Option<Table<At<ForSpec>>>,
    /// Path appended to `source.url`, or an absolute URL if it begins with a template.
    pub get: Option<At<String>>,
    /// The same, asked with POST.
    pub post: Option<At<String>>,
    /// Parameters; one that renders empty is dropped, a list repeats it.
    pub query: Option<Table<Tree>>,
    /// Headers; one that renders empty is dropped.
    pub headers: Option<Table<At<String>>>,
    /// What a `post` carries.
    pub body: Option<At<BodySpec>>,
    /// `true`: a repeat would act or cost twice. `{key: HEADER}`: the API tells repeats by that header.
    pub once: Option<At<OnceSpec>>,
    /// What a request costs in the units of limits: `{weight: 2}`, `{tokens: {at_most: …, actual: …}}`.
    pub cost: Option<Table<At<ScalarOr<String, CostSpec>>>>,
    /// What answers are written in; default: as their content type says, else JSON.
    pub format: Option<At<ScalarOr<FormatWord, FormatSpec>>>,
    /// Largest answer, as sent and unpacked, as in `2GB`; default 64MiB.
    pub max_body: Option<At<String>>,
    /// Where the records are, a path, and what is made of them; default the root.
    pub records: Option<At<ScalarOr<String, RecordsSpec>>>,
    /// How the next page is found.
    pub pages: Option<At<PagesSpec>>,
    /// Expression that ends the paging early.
    pub stop: Option<At<String>>,
    /// What answers mean; the first match wins.
    pub responses: Option<Vec<ResponseSpec>>,
    /// Steps on whole records, in this order: `where`, `explode`, `add`, `rename`, `drop`, `jq`.
    pub transform: Option<Vec<At<TransformSpec>>>,
    /// Output columns that together identify a record.
    pub key: Option<At<ScalarOr<String, Vec<At<String>>>>>,
    /// Output columns: empty (its own name), a path, a template, a type, a jq filter.
    pub columns: Option<Table<ColumnSpec>>,
    /// What makes runs ask only for what is new.
    pub cursor: Option<At<CursorSpec>>,
    /// `true`: asks whether a page changed (`ETag`, `Last-Modified`), and has the old one again if not.
    pub conditional: Option<At<bool>>,
    /// `raw`: the answers are kept as they came, as long as the history knows the run.
    pub keep: Option<At<KeepSpec>>,
    /// What must hold before publish.
    pub expect: Option<ExpectSpec>,
    /// Where these records go, in place of the file's `sink`.
    pub sink: Option<SinksSpec>,
}

/// What is kept beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepSpec {
    /// Answers as they came.
    Raw,
}

/// What a variable runs over.
#[derive(Debug, Clone)]
pub enum ForSpec {
    /// A written list.
    List(Vec<Tree>),
    /// A template that yields a list.
    Text(String),
    /// A range, a file or a stream.
    Generated(Box<GeneratorSpec>),
}

/// What a variable runs over, if it is not a list: exactly one of `range`, `file`, `stream`, `dates`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorSpec {
    /// Another stream: each of its records.
    pub stream: Option<At<String>>,
    /// Expression over a record of the stream: only those it holds for.
    #[serde(rename = "where")]
    pub only: Option<At<String>>,
    /// So many records of the stream at once, as a list.
    pub batch: Option<At<i64>>,
    /// First and last whole number.
    pub range: Option<At<Vec<i64>>>,
    /// Step of the range; default 1.
    pub step: Option<At<i64>>,
    /// A CSV file with a header line, relative to the project.
    pub file: Option<At<String>>,
    /// One column of the file in place of whole rows.
    pub column: Option<At<String>>,
    /// Windows of time, so long each: `1d`, `7d`, `1mo`, `1y`, `6h`.
    pub dates: Option<At<String>>,
    /// Where the first window begins: a date, an instant, `today - 5d` or a template; default `cursor.from`.
    pub from: Option<At<String>>,
    /// Where the last window ends; default `cursor.to`, or the start of the run.
    pub to: Option<At<String>>,
    /// Whose days they are; default UTC.
    pub zone: Option<At<String>>,
}

/// What a `post` carries.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodySpec {
    /// JSON, with templates in its texts.
    Json(Tree),
    /// A form.
    Form(Table<Tree>),
    /// Text.
    Text(At<String>),
    /// A GraphQL request, as JSON.
    Graphql(GraphqlSpec),
}

/// A GraphQL request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphqlSpec {
    /// The document, sent as it is written: no templates.
    pub query: At<String>,
    /// Its variables, with templates in their texts; one that renders empty is dropped.
    pub variables: Option<Table<Tree>>,
}

/// Whether a repeat would act or cost twice.
#[derive(Debug, Clone)]
pub enum OnceSpec {
    /// It would, or not.
    Said(bool),
    /// The API knows repeats by a key.
    Keyed(OnceKeySpec),
}

/// How the API knows a repeat.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnceKeySpec {
    /// The header that carries the key, as the API names it: `Idempotency-Key`.
    pub key: At<String>,
}

/// What a request costs, at most and in fact.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostSpec {
    /// Reserved before it is sent: a number, an expression or a template.
    pub at_most: At<String>,
    /// What the answer tells; the difference comes back or is charged.
    pub actual: Option<At<String>>,
}

/// How the next page is found.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PagesSpec {
    /// One page.
    None,
    /// The header `Link: <…>; rel="next"`.
    Link,
    /// Path of a URL in the body.
    Next(At<String>),
    /// A page number.
    Page(PageSpec),
    /// A number of records to pass over.
    Offset(OffsetSpec),
    /// An opaque token.
    Token(TokenSpec),
    /// A value of the last record.
    Keyset(KeysetSpec),
    /// Path of an object whose members go into the query of the next request.
    Merge(At<String>),
}

/// A page number.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageSpec {
    /// Where it goes: a query name, `body.PATH` or `headers.NAME`.
    pub to: At<String>,
    /// The first number; default 1.
    pub start: Option<i64>,
    /// The parameter that holds the page size.
    pub size: Option<At<String>>,
    /// Path of the number of records.
    pub total: Option<At<String>>,
    /// Path of the last page's number.
    pub last: Option<At<String>>,
}

/// A number of records to pass over.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OffsetSpec {
    /// Where it goes: a query name, `body.PATH` or `headers.NAME`.
    pub to: At<String>,
    /// The first offset; default 0.
    pub start: Option<i64>,
    /// The parameter that holds the page size.
    pub size: Option<At<String>>,
    /// Path of the number of records.
    pub total: Option<At<String>>,
}

/// An opaque token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Path of the next token, or `headers.NAME`.
    pub from: At<String>,
    /// Where it goes: a query name, `body.PATH` or `headers.NAME`.
    pub to: At<String>,
    /// What the first page sends.
    pub start: Option<At<String>>,
}

/// A value of the last record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysetSpec {
    /// Path in the last record.
    pub field: At<String>,
    /// Where it goes: a query name, `body.PATH` or `headers.NAME`.
    pub to: At<String>,
    /// Added to it (whole numbers only).
    pub add: Option<i64>,
    /// The parameter that holds the page size; a shorter page is the last.
    pub size: Option<At<String>>,
}

/// What an answer means, if a condition holds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseSpec {
    /// Expression over status, headers, body, text, count, attempt, last.
    #[serde(rename = "if")]
    pub when: At<String>,
    /// What such an answer means.
    pub then: At<ScalarOr<ThenWord, ThenSpec>>,
}

/// What an answer means, in one word.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThenWord {
    /// A good page, whatever its status.
    Accept,
    /// No records here.
    Skip,
    /// A transient failure.
    Retry,
    /// A throttle; everything waits as told.
    Wait,
    /// A good page, and the last.
    Stop,
    /// The window of time holds too much: its halves are asked for.
    Split,
    /// What leads to the next page has ended: the partition is asked for from its start.
    Restart,
    /// The token is refused: a new one is had, once, and the request sent again.
    RefreshAuth,
    /// The stream fails.
    Fail,
}

/// What an answer means, with detail.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThenSpec {
    /// A throttle; everything waits this long: a duration, or a template of one (or of seconds, or of an instant).
    Wait(At<String>),
    /// Not ready: asked for again.
    Again(AgainSpec),
    /// The stream fails with this text.
    Fail(At<String>),
}

/// How what is not ready is asked for again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgainSpec {
    /// How long to wait before; default 10s.
    pub every: Option<At<String>>,
    /// How long after the first such answer it is given up; default 1h.
    pub within: Option<At<String>>,
}

/// A column: empty for its own name, a path, a template, or more.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct ColumnSpec(pub Option<At<ScalarOr<String, LongColumnSpec>>>);

/// A column with a type or a filter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongColumnSpec {
    /// A path or a template; left out, the column's own name.
    pub from: Option<At<String>>,
    /// A jq filter over the record, in place of `from`.
    pub jq: Option<At<String>>,
    /// What its values have to be.
    #[serde(rename = "type")]
    pub kind: Option<At<ColumnKindSpec>>,
    /// How dates and timestamps are spelled: `iso`, `epoch`, `epoch_ms`, or a pattern of strftime.
    pub format: Option<At<String>>,
    /// The zone of times that say none, and of days; default UTC.
    pub zone: Option<At<String>>,
    /// What becomes of a value that does not fit; default `fail`.
    #[serde(default, deserialize_with = "present")]
    pub on_bad_value: Option<At<OnBadSpec>>,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKindSpec {
    /// Text.
    Text,
    /// A whole number of any length.
    Integer,
    /// A number, kept as it is spelled.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `2024-05-31`.
    Date,
    /// `2024-05-31T12:00:00Z`.
    Timestamp,
    /// Any value.
    Json,
}

/// What becomes of a value that does not fit.
#[derive(Debug, Clone, Copy)]
pub enum OnBadSpec {
    /// The stream fails.
    Fail,
    /// It is null; also written without quotes, as YAML's own null.
    Null,
    /// The record goes to a file beside the output.
    Reject,
}

/// A key that is there, though its value may be YAML's null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl<'de> Deserialize<'de> for ForSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A list and a mapping both are "long" for `ScalarOr`, so the third form needs its own.
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = ForSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, a template, a range, a file or a stream")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<ForSpec, E> {
                Ok(ForSpec::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ForSpec, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(ForSpec::List)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ForSpec, A::Error> {
                GeneratorSpec::deserialize(MapAccessDeserializer::new(map))
                    .map(|generator| ForSpec::Generated(Box::new(generator)))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl<'de> Deserialize<'de> for OnceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = OnceSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or `{key: HEADER}`")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<OnceSpec, E> {
                Ok(OnceSpec::Said(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<OnceSpec, E> {
                match value {
                    "true" => Ok(OnceSpec::Said(true)),
                    "false" => Ok(OnceSpec::Said(false)),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnceSpec, A::Error> {
                OnceKeySpec::deserialize(MapAccessDeserializer::new(map)).map(OnceSpec::Keyed)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for OnceSpec {
    fn schema_name() -> Cow<'static, str> {
        "OnceSpec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keyed = generator.subschema_for::<OnceKeySpec>();
        json_schema!({
            "description": "Whether a repeat would act or cost twice; `{key: HEADER}` where the API tells repeats by a key.",
            "anyOf": [{ "type": "boolean" }, keyed],
        })
    }
}

impl JsonSchema for ForSpec {
    fn schema_name() -> Cow<'static, str> {
        "ForSpec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let generated = generator.subschema_for::<GeneratorSpec>();
        json_schema!({
            "description": "What a variable runs over: a list, a template that yields one, a range, a file, windows of time or the records of a stream.",
            "anyOf": [{ "type": "array", "items": true }, { "type": "string" }, generated],
        })
    }
}

impl<'de> Deserialize<'de> for OnBadSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = OnBadSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`fail`, `null` or `reject`")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<OnBadSpec, E> {
                match word {
                    "fail" => Ok(OnBadSpec::Fail),
                    "null" => Ok(OnBadSpec::Null),
                    "reject" => Ok(OnBadSpec::Reject),
                    other => Err(E::unknown_variant(other, &["fail", "null", "reject"])),
                }
            }
            fn visit_unit<E: Error>(self) -> Result<OnBadSpec, E> {
                Ok(OnBadSpec::Null)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl JsonSchema for OnBadSpec {
    fn schema_name() -> Cow<'static, str> {
        "OnBadSpec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What becomes of a value that does not fit: the stream fails, it is null, or the record goes to a file beside the output.",
            "anyOf": [{ "enum": ["fail", "null", "reject"] }, { "type": "null" }],
        })
    }
}

impl JsonSchema for ColumnSpec {
    fn schema_name() -> Cow<'static, str> {
        "ColumnSpec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongColumnSpec>();
        json_schema!({
            "description": "A column: empty for its own name, a path, a template, or more.",
            "anyOf": [{ "type": "string" }, { "type": "null" }, long],
        })
    }
}
