//! What type a column has, judged by all its values: fed with cells as JSON text, one look each.
//!
//! No tree is built and nothing passes through a float on its way out; a text column costs one byte
//! a cell, a mixed one nothing. The rules stand in docs/types.md.

use serde::{Deserialize, Serialize};

use super::digits::{Decimal, SURE_DIGITS, is_exact, is_whole};
use super::moment::{date, moment};
use super::nested::Form;
use crate::json;
use crate::plan::typed::Kind;

/// Most examples of a column.
const EXAMPLES: usize = 3;
/// Most characters of an example.
const LONGEST: usize = 80;
/// Whole numbers up to this are exact in a 64-bit float.
const EXACT: u64 = 1 << 53;

/// The types of the columns of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Rows that were looked at.
    pub rows: u64,
    /// In order.
    pub columns: Vec<Column>,
}

/// What is known of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its header.
    pub name: String,
    /// What its values are; nothing where all are null.
    pub kind: Option<Kind>,
    /// The narrowest machine type that holds each of them exactly.
    pub native: Native,
    /// Rows with a value.
    pub values: u64,
    /// Rows without.
    pub nulls: u64,
    /// The least value as JSON text; of text in order of its bytes, shortened. Only where it was
    /// looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// The first different values as JSON text, shortened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// The value that made the type wider than it was, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widened: Option<Widened>,
    /// What holds objects and arrays, where the format has structure.
    #[serde(skip)]
    pub form: Option<Form>,
}

/// What holds the values of a column exactly, in formats that have types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Native {
    /// Text as it is; numbers that no machine type holds as they are spelled.
    Text,
    /// JSON text.
    Json,
    /// A whole number of 64 bits.
    Int64,
    /// A float of 64 bits.
    Float64,
    /// True or false.
    Boolean,
    /// Days since 1970.
    Date,
    /// Microseconds since 1970, in UTC.
    Micros,
    /// Nanoseconds since 1970, in UTC.
    Nanos,
}

/// Why a column is wider than its first values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widened {
    /// What it was until then.
    pub from: Kind,
    /// A value that it had then, as JSON text, shortened.
    pub was: String,
    /// The value that did not fit.
    pub by: String,
    /// Its row; the first is 1.
    pub row: u64,
}

/// How closely values are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// Types alone: what a publish can afford.
    #[default]
    Types,
    /// Least, greatest and examples too.
    Whole,
}

/// How the types of two values make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mixing {
    /// Values know their own types: text beside a number is JSON, so that `1` and `"1"` stay two.
    #[default]
    Exact,
    /// Values were spelled without types, as in a CSV file of others: what mixes is text.
    Spelled,
}

/// Gathers the types of columns, known by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Inference {
    look: Look,
    mixing: Mixing,
    rows: u64,
    columns: Vec<Tally>,
}

/// One column so far.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact about the values, and any may go with any"
)]
#[derive(Debug, Clone, Default)]
struct Tally {
    kind: Option<Kind>,
    /// Whether the kind was declared and holds whatever comes.
    declared: bool,
    values: u64,
    /// A value that 64 bits do not hold exactly.
    wide: bool,
    /// A whole number that is beyond 2^53.
    beyond: bool,
    /// Digits of the longest fraction of a second.
    digits: u8,
    /// An instant that nanoseconds since 1970 do not reach in 64 bits.
    far: bool,
    first: String,
    widened: Option<Box<Widened>>,
    whole: Option<Box<Whole>>,
}

/// What is only gathered on request. Values as JSON text, and what they are compared by.
#[derive(Debug, Clone, Default)]
struct Whole {
    examples: Vec<String>,
    text: Ends<String>,
    number: Ends<Decimal>,
    instant: Ends<(i64, u32)>,
}

#[derive(Debug, Clone)]
struct Ends<K> {
    least: Option<(K, String)>,
    most: Option<(K, String)>,
}

impl<K> Default for Ends<K> {
    fn default() -> Self {
        Self {
            least: None,
            most: None,
        }
    }
}

impl<K: PartialOrd + Clone> Ends<K> {
    fn add(&mut self, key: K, json: &str) {
        if self.least.as_ref().is_none_or(|(least, _)| key < *least) {
            self.least = Some((key.clone(), shorten(json)));
        }
        if self.most.as_ref().is_none_or(|(most, _)| key > *most) {
            self.most = Some((key, shorten(json)));
        }
    }

    fn shown(&self) -> (Option<String>, Option<String>) {
        let json = |end: &Option<(K, String)>| end.as_ref().map(|(_, json)| json.clone());
        (json(&self.least), json(&self.most))
    }
}

impl Column {
    /// Whether its type has a machine's own form, and some value does not fit into it.
    pub fn is_wide(&self) -> bool {
        self.native == Native::Text && !matches!(self.kind, None | Some(Kind::Text))
    }
}

impl Inference {
    /// Knows no columns yet.
    pub fn new(look: Look, mixing: Mixing) -> Self {
        Self {
            look,
            mixing,
            ..Self::default()
        }
    }

    /// A column whose kind is declared: its values are in the form of it.
    pub fn declare(&mut self, number: usize, kind: Kind) {
        if number >= self.columns.len() {
            self.columns.resize_with(number + 1, Tally::default);
        }
        if let Some(column) = self.columns.get_mut(number) {
            column.kind = Some(kind);
            column.declared = true;
        }
    }

    /// Begins the next row.
    pub fn begin_row(&mut self) {
        self.rows += 1;
    }

    /// Takes a cell of the row that was begun; `""` and `null` are no value, and so is a cell that
    /// is not handed over.
    #[inline]
    pub fn cell(&mut self, number: usize, json: &str) {
        let Some(first) = json.as_bytes().first() else {
            return;
        };
        if *first == b'n' {
            return;
        }
        if number >= self.columns.len() {
            self.columns.resize_with(number + 1, Tally::default);
        }
        let Some(column) = self.columns.get_mut(number) else {
            return;
        };
        column.values += 1;
        match (column.kind, first) {
            (Some(Kind::Json), _) | (Some(Kind::Text), b'"') => {}
            (Some(Kind::Text), _) if self.mixing == Mixing::Spelled => {}
            _ => column.look(json, self.rows, self.mixing),
        }
        if self.look == Look::Whole {
            column.whole.get_or_insert_default().add(json);
        }
    }

    /// Rows that were begun.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns under their headers: each with its number.
    pub fn schema<'n>(&self, columns: impl Iterator<Item = (&'n str, usize)>) -> Schema {
        let never = Tally::default();
        let columns = columns.map(|(name, number)| {
            let tally = self.columns.get(number).unwrap_or(&never);
            tally.column(name, self.rows)
        });
        Schema {
            rows: self.rows,
            columns: columns.collect(),
        }
    }
}

impl Tally {
    /// Looks at a value that may not be as those before.
    fn look(&mut self, json: &str, row: u64, mixing: Mixing) {
        let kind = match (self.kind, json.as_bytes().first()) {
            // One guess: it is as the last ones were.
            (Some(Kind::Timestamp), Some(b'"')) => self.instant(json),
            (Some(Kind::Date), Some(b'"')) => day(json),
            _ => None,
        };
        let kind = kind.unwrap_or_else(|| self.kind_of(json));
        if self.declared {
            return;
        }
        let joined = match self.kind {
            None => kind,
            Some(known) => join(known, kind, mixing),
        };
        if self.kind == Some(joined) {
            return;
        }
        if let Some(from) = self.kind {
            if from == Kind::Integer && self.beyond {
                self.wide = true;
            }
            // The first change is told: what came later did not surprise any more.
            self.widened.get_or_insert_with(|| {
                Box::new(Widened {
                    from,
                    was: std::mem::take(&mut self.first),
                    by: shorten(json),
                    row,
                })
            });
        } else {
            self.first = shorten(json);
        }
        self.kind = Some(joined);
    }

    fn instant(&mut self, json: &str) -> Option<Kind> {
        let at = moment(inside(json))?;
        self.digits = self.digits.max(at.digits);
        // 1677-09-21 to 2262-04-11, less a second at each end.
        self.far |= !(-9_223_372_036..9_223_372_036).contains(&at.seconds);
        Some(Kind::Timestamp)
    }

    fn kind_of(&mut self, json: &str) -> Kind {
        match json.as_bytes().first() {
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'"') => day(json)
                .or_else(|| self.instant(json))
                .unwrap_or(Kind::Text),
            Some(b'-' | b'0'..=b'9') => self.number(json),
            _ => Kind::Json,
        }
    }

    fn number(&mut self, json: &str) -> Kind {
        if let Some(kind) = short(json) {
            self.wide |= self.beyond && kind == Kind::Integer && self.kind == Some(Kind::Number);
            return kind;
        }
        if is_whole(json) {
            let digits = json.strip_prefix('-').unwrap_or(json);
            let size = digits.parse::<u64>().ok().filter(|_| digits.len() <= 19);
            self.beyond |= size.is_none_or(|size| size > EXACT);
            // Beside fractions it would be a float.
            self.wide |=
                json.parse::<i64>().is_err() || (self.beyond && self.kind == Some(Kind::Number));
            Kind::Integer
        } else {
            self.wide |= !is_exact(json);
            Kind::Number
        }
    }

    fn column(&self, name: &str, rows: u64) -> Column {
        let (mut min, mut max) = (None, None);
        if let Some(whole) = &self.whole {
            (min, max) = match self.kind {
                Some(Kind::Integer | Kind::Number) => whole.number.shown(),
                Some(Kind::Timestamp) => whole.instant.shown(),
                Some(Kind::Text | Kind::Date) => whole.text.shown(),
                _ => (None, None),
            };
        }
        let examples = self.whole.as_ref().map(|whole| whole.examples.clone());
        Column {
            name: name.to_owned(),
            kind: self.kind,
            native: self.native(),
            values: self.values,
            nulls: rows.saturating_sub(self.values),
            min,
            max,
            // Where nobody asked for more, the first value, while it was like the others.
            examples: examples.unwrap_or_else(|| match self.first.as_str() {
                "" => Vec::new(),
                first => vec![first.to_owned()],
            }),
            widened: self.widened.as_deref().cloned(),
            form: None,
        }
    }

    fn native(&self) -> Native {
        match self.kind {
            Some(Kind::Integer) if !self.wide => Native::Int64,
            // Who declares a number asks for a float.
            Some(Kind::Number) if self.declared || !self.wide => Native::Float64,
            Some(Kind::Boolean) => Native::Boolean,
            Some(Kind::Date) => Native::Date,
            Some(Kind::Timestamp) if self.digits <= 6 => Native::Micros,
            Some(Kind::Timestamp) if !self.far => Native::Nanos,
            Some(Kind::Json) => Native::Json,
            _ => Native::Text,
        }
    }
}

/// The kind of a number of so few digits that nothing can be wrong with it: most are.
fn short(json: &str) -> Option<Kind> {
    if json.len() > SURE_DIGITS {
        return None;
    }
    let (mut points, mut others) = (0, 0);
    for byte in json.bytes() {
        points += u32::from(byte == b'.');
        others += u32::from(!byte.is_ascii_digit() && byte != b'-' && byte != b'.');
    }
    match (points, others) {
        (0, 0) => Some(Kind::Integer),
        (1, 0) => Some(Kind::Number),
        _ => None,
    }
}

impl Whole {
    fn add(&mut self, json: &str) {
        if self.examples.len() < EXAMPLES {
            let short = shorten(json);
            if !self.examples.contains(&short) {
                self.examples.push(short);
            }
        }
        match json.as_bytes().first() {
            Some(b'"') => {
                let plain = json::plain(json);
                if let Some(at) = moment(&plain) {
                    self.instant.add((at.seconds, at.nanos), json);
                }
                let is_end = |end: &Option<(String, String)>, past: fn(&str, &str) -> bool| {
                    end.as_ref().is_none_or(|(key, _)| past(&plain, key))
                };
                // Texts are copied only where they count.
                if is_end(&self.text.least, |a, b| a < b) || is_end(&self.text.most, |a, b| a > b) {
                    self.text.add(plain.into_owned(), json);
                }
            }
            Some(b'-' | b'0'..=b'9') => self.number.add(Decimal::of(json), json),
            _ => {}
        }
    }
}

/// The narrowest kind that holds the values of both.
pub fn join(one: Kind, other: Kind, mixing: Mixing) -> Kind {
    match (one, other) {
        (a, b) if a == b => a,
        (Kind::Integer | Kind::Number, Kind::Integer | Kind::Number) => Kind::Number,
        (Kind::Text | Kind::Date | Kind::Timestamp, Kind::Text | Kind::Date | Kind::Timestamp) => {
            Kind::Text
        }
        _ if mixing == Mixing::Spelled => Kind::Text,
        _ => Kind::Json,
    }
}

/// The kind of one value, given as JSON text; none of null.
pub fn kind_of(json: &str) -> Option<Kind> {
    match json.as_bytes().first() {
        None | Some(b'n') => None,
        Some(_) => Some(Tally::default().kind_of(json)),
    }
}

fn day(json: &str) -> Option<Kind> {
    date(inside(json)).map(|_| Kind::Date)
}

/// What stands between the quotes.
fn inside(json: &str) -> &str {
    json.get(1..json.len().saturating_sub(1))
        .unwrap_or_default()
}

/// A value that stays valid JSON when it is cut: the beginning of a long text, and as text that of
/// anything else that is long.
fn shorten(json: &str) -> String {
    if json.len() <= LONGEST {
        return json.to_owned();
    }
    let mut short: String = json::plain(json).chars().take(LONGEST).collect();
    short.push('…');
    json::quoted(&short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column_of(look: Look, mixing: Mixing, cells: &[&str]) -> Column {
        let mut inference = Inference::new(look, mixing);
        for cell in cells {
            inference.begin_row();
            inference.cell(0, cell);
        }
        let mut schema = inference.schema(std::iter::once(("c", 0)));
        assert_eq!(usize::try_from(schema.rows), Ok(cells.len()));
        schema.columns.remove(0)
    }

    fn held(cells: &[&str]) -> (Option<Kind>, Native) {
        let column = column_of(Look::Types, Mixing::Exact, cells);
        (column.kind, column.native)
    }

    #[test]
    fn values_have_kinds() {
        for (json, kind) in [
            ("null", None),
            ("", None),
            ("true", Some(Kind::Boolean)),
            ("12345678901234567890123", Some(Kind::Integer)),
            ("-1.10", Some(Kind::Number)),
            ("1e3", Some(Kind::Number)),
            ("\"2024-05-01\"", Some(Kind::Date)),
            ("\"2024-13-01\"", Some(Kind::Text)),
            ("\"2024-05-01T10:00:00Z\"", Some(Kind::Timestamp)),
            ("\"2024-05-01T10:00:00\"", Some(Kind::Text)),
            ("\"00123\"", Some(Kind::Text)),
            ("\"123\"", Some(Kind::Text)),
            ("\"true\"", Some(Kind::Text)),
            ("\"\"", Some(Kind::Text)),
            ("[1]", Some(Kind::Json)),
            ("{}", Some(Kind::Json)),
        ] {
            assert_eq!(kind_of(json), kind, "{json}");
        }
    }

    #[test]
    fn the_narrowest_machine_type_that_holds_all() {
        use Kind::{Boolean, Date, Integer, Json, Number, Text, Timestamp};
        for (cells, kind, native) in [
            (&["", "null"][..], None, Native::Text),
            (
                &["1", "", "-9223372036854775808"],
                Some(Integer),
                Native::Int64,
            ),
            (&["9223372036854775808"], Some(Integer), Native::Text),
            (
                &["1", "1234567890123456789012345"],
                Some(Integer),
                Native::Text,
            ),
            (&["1", "1.5"], Some(Number), Native::Float64),
            (&["9007199254740992", "0.5"], Some(Number), Native::Float64),
            (&["9007199254740993", "0.5"], Some(Number), Native::Text),
            (&["0.5", "9007199254740993"], Some(Number), Native::Text),
            (&["1e400"], Some(Number), Native::Text),
            (
                &["0.1", "1.10", "1e-7", "123.456e10"],
                Some(Number),
                Native::Float64,
            ),
            (&["0.1234567890123456789"], Some(Number), Native::Text),
            (&["true", "false"], Some(Boolean), Native::Boolean),
            (&["true", "1"], Some(Json), Native::Json),
            (&["1", "\"1\""], Some(Json), Native::Json),
            (&["\"a\"", "[1]", "2"], Some(Json), Native::Json),
            (
                &["\"2024-05-01\"", "\"2024-05-02\""],
                Some(Date),
                Native::Date,
            ),
            (
                &["\"2024-05-01\"", "\"2024-05-01T00:00:00Z\""],
                Some(Text),
                Native::Text,
            ),
            (&["\"2024-05-01\"", "\"\""], Some(Text), Native::Text),
            (
                &["\"2024-05-01T00:00:00.123456Z\""],
                Some(Timestamp),
                Native::Micros,
            ),
            (
                &["\"2024-05-01T00:00:00.1234567Z\""],
                Some(Timestamp),
                Native::Nanos,
            ),
            (
                &[
                    "\"2024-05-01T00:00:00.1234567Z\"",
                    "\"1600-01-01T00:00:00Z\"",
                ],
                Some(Timestamp),
                Native::Text,
            ),
            (&["\"a\"", "\"2024-05-01\""], Some(Text), Native::Text),
        ] {
            assert_eq!(held(cells), (kind, native), "{cells:?}");
        }
    }

    #[test]
    fn what_made_a_column_wider_is_told_once() {
        let cells = ["1", "", "2", "\"x\"", "true"];
        let column = column_of(Look::Types, Mixing::Exact, &cells);
        assert_eq!((column.values, column.nulls), (4, 1));
        assert_eq!(
            column.widened,
            Some(Widened {
                from: Kind::Integer,
                was: "1".to_owned(),
                by: "\"x\"".to_owned(),
                row: 4
            })
        );
        assert_eq!(
            column_of(Look::Types, Mixing::Spelled, &cells).kind,
            Some(Kind::Text)
        );
    }

    #[test]
    fn least_greatest_and_examples_on_request() {
        let ends = |cells: &[&str]| {
            let column = column_of(Look::Whole, Mixing::Exact, cells);
            (
                column.min.unwrap_or_default(),
                column.max.unwrap_or_default(),
            )
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let long = "1234567890123456789012345";
        assert_eq!(ends(&["5", "-7", "-12", long, "99"]), pair("-12", long));
        assert_eq!(ends(&["0.5", "-1e400", "3"]), pair("-1e400", "3"));
        assert_eq!(
            ends(&["\"2024-05-01T10:00:00+09:00\"", "\"2024-05-01T02:00:00Z\""]),
            pair("\"2024-05-01T10:00:00+09:00\"", "\"2024-05-01T02:00:00Z\"")
        );
        assert_eq!(ends(&["\"b\"", "\"a\"", "\"\""]), pair("\"\"", "\"b\""));
        let column = column_of(Look::Whole, Mixing::Exact, &["1", "1", "2", "3", "4"]);
        assert_eq!(column.examples, ["1", "2", "3"]);
        let long = format!("\"{}\"", "ä".repeat(200));
        let column = column_of(Look::Whole, Mixing::Exact, &[&long]);
        let shown: String = serde_json::from_str(&column.examples[0]).unwrap();
        assert_eq!(shown.chars().count(), LONGEST + 1);
    }

    #[test]
    fn what_is_declared_holds() {
        let mut inference = Inference::default();
        for (number, kind) in [Kind::Text, Kind::Number, Kind::Integer, Kind::Date]
            .iter()
            .enumerate()
        {
            inference.declare(number, *kind);
        }
        inference.begin_row();
        for (number, cell) in [
            "\"2024-05-01\"",
            "0.1234567890123456789",
            "12345678901234567890",
        ]
        .iter()
        .enumerate()
        {
            inference.cell(number, cell);
        }
        let names = ["t", "n", "i", "d"].into_iter().zip(0..);
        let natives: Vec<_> = inference
            .schema(names)
            .columns
            .iter()
            .map(|c| (c.kind, c.native))
            .collect();
        assert_eq!(
            natives,
            [
                (Some(Kind::Text), Native::Text),
                (Some(Kind::Number), Native::Float64),
                (Some(Kind::Integer), Native::Text),
                (Some(Kind::Date), Native::Date),
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn the_order_of_rows_is_nothing_to_the_type(
            mut cells in prop::collection::vec(prop::sample::select(vec![
                "", "1", "9007199254740993", "12345678901234567890", "0.5", "true", "\"x\"",
                "\"2024-05-01\"", "\"2024-05-01T00:00:00.1234567Z\"", "\"1600-01-01T00:00:00Z\"", "[]",
            ]), 0..8),
        ) {
            let one = held(&cells);
            cells.reverse();
            prop_assert_eq!(held(&cells), one, "{:?}", cells);
        }
    }
}
