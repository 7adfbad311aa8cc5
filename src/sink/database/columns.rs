//! Columns of a SQLite table: names that SQL takes, storage classes, and what becomes of a column whose
//! values have another type than before.

use std::fmt::Write;

use rusqlite::types::Value;

use crate::json;
use crate::plan::typed::Kind;
use crate::sink::infer::{self, Mixing, Native};

/// The column of `append` that says which run brought a row.
pub const RUN: &str = "_run";
/// Whole numbers up to here are floats without loss.
const EXACT: u64 = 1 << 53;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// In the table.
    pub name: String,
    /// In the records: the header that a CSV file would have.
    pub source: String,
    /// What its values are; none where all are null.
    pub kind: Option<Kind>,
    /// How they are held.
    pub native: Native,
    /// Whether whole numbers in it are too large to be floats.
    pub beyond: bool,
    /// Whether a value is null or missing.
    pub nulls: bool,
}

impl Column {
    /// The storage class (SQLite, "STRICT Tables").
    pub fn storage(&self) -> &'static str {
        match self.native {
            Native::Int64 | Native::Boolean => "INTEGER",
            Native::Float64 => "REAL",
            Native::Text | Native::Json | Native::Date | Native::Micros | Native::Nanos => "TEXT",
        }
    }
}

/// Columns of the records of a publish.
pub fn of(schema: &infer::Schema) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for column in &schema.columns {
        let far = |end: &Option<String>| {
            let digits = end.as_deref().map(|end| end.trim_start_matches('-'));
            digits.is_some_and(|digits| digits.parse().is_ok_and(|size: u64| size > EXACT))
        };
        let native = match (column.kind, column.native) {
            (None, _) => Native::Text,
            (_, native) => native,
        };
        columns.push(Column {
            name: free(&column.name, |name| {
                columns
                    .iter()
                    .any(|taken| taken.name.eq_ignore_ascii_case(name))
            }),
            source: column.name.clone(),
            kind: column.kind,
            native,
            beyond: far(&column.min) || far(&column.max),
            nulls: column.nulls > 0,
        });
    }
    columns
}

/// A name that no other column has: SQL does not tell names apart by case, and no name holds NUL.
fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let name = name.replace('\0', "\u{fffd}");
    let is_taken = |name: &str| name.eq_ignore_ascii_case(RUN) || is_taken(name);
    if !is_taken(&name) {
        return name;
    }
    let numbered = |number: u64| format!("{name}_{number}");
    (2..=u64::MAX)
        .map(numbered)
        .find(|name| !is_taken(name))
        .unwrap_or(name)
}

/// The columns of a table that has some and gets rows with others: nothing is dropped, and a column
/// that cannot hold both gets the type that can.
pub fn joined(old: &[Column], new: &[Column]) -> Vec<Column> {
    let mut all = old.to_vec();
    for column in new {
        let Some(known) = all.iter_mut().find(|known| known.source == column.source) else {
            let name = free(&column.source, |name| {
                all.iter()
                    .any(|taken| taken.name.eq_ignore_ascii_case(name))
            });
            let nulls = true;
            all.push(Column {
                name,
                nulls,
                ..column.clone()
            });
            continue;
        };
        known.nulls |= column.nulls;
        known.beyond |= column.beyond;
        match (known.kind, column.kind) {
            (_, None) => {}
            (None, _) => {
                known.kind = column.kind;
                known.native = column.native;
            }
            (Some(one), Some(other)) => {
                let kind = infer::join(one, other, Mixing::Exact);
                known.native = native(kind, known.native, column.native, known.beyond);
                known.kind = Some(kind);
            }
        }
    }
    // What the new rows lack is null in them.
    for known in &mut all {
        known.nulls |= !new.iter().any(|column| column.source == known.source);
    }
    all
}

fn native(kind: Kind, one: Native, other: Native, beyond: bool) -> Native {
    match kind {
        Kind::Json => Native::Json,
        Kind::Text => Native::Text,
        Kind::Timestamp if one != other => Native::Nanos,
        Kind::Number if one != other => match (one, other) {
            (Native::Int64, Native::Float64) | (Native::Float64, Native::Int64) if !beyond => {
                Native::Float64
            }
            _ => Native::Text,
        },
        _ if one == other => one,
        _ => Native::Text,
    }
}

/// An expression for the values of a column in the form that another type gives them.
pub fn converted(from: &Column, to: &Column) -> String {
    let name = quoted(&from.name);
    match (from.native, to.native) {
        (Native::Boolean, Native::Json | Native::Text) => {
            format!("CASE {name} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END")
        }
        (Native::Int64 | Native::Float64, Native::Json | Native::Text) => {
            format!("CAST({name} AS TEXT)")
        }
        (Native::Int64, Native::Float64) => format!("CAST({name} AS REAL)"),
        // Numbers that were too long are numbers all the same.
        (Native::Text, Native::Json) if from.kind != Some(Kind::Text) => name,
        (Native::Text | Native::Date | Native::Micros | Native::Nanos, Native::Json) => {
            format!("CASE WHEN {name} IS NOT NULL THEN json_quote({name}) END")
        }
        _ => name,
    }
}

/// A cell, as spelled in JSON, in the form of its column; `""` is null or missing.
pub fn value(native: Native, json: &str) -> Value {
    if json.is_empty() || json == "null" {
        return Value::Null;
    }
    let text = || Value::Text(json::plain(json).into_owned());
    match native {
        Native::Int64 => json.parse().map_or_else(|_| text(), Value::Integer),
        // Beyond the range it is infinite, as everywhere else that has floats.
        Native::Float64 => json.parse().map_or_else(|_| text(), Value::Real),
        Native::Boolean => match json {
            "true" => Value::Integer(1),
            "false" => Value::Integer(0),
            _ => text(),
        },
        Native::Json => Value::Text(json.to_owned()),
        Native::Text | Native::Date | Native::Micros | Native::Nanos => text(),
    }
}

/// A name as SQL wants it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"a", "b"`.
pub fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut list = String::new();
    for name in names {
        if !list.is_empty() {
            list.push_str(", ");
        }
        // A text takes whatever is written to it.
        let _ = write!(list, "{}", quoted(name));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Option<Kind>, native: Native) -> Column {
        Column {
            name: name.to_owned(),
            source: name.to_owned(),
            kind,
            native,
            beyond: false,
            nulls: false,
        }
    }

    #[test]
    fn names_that_sql_takes_for_one_are_told_apart() {
        let schema = |names: &[&str]| infer::Schema {
            rows: 1,
            columns: names
                .iter()
                .map(|name| infer::Column {
                    name: (*name).to_owned(),
                    kind: Some(Kind::Text),
                    native: Native::Text,
                    values: 1,
                    nulls: 0,
                    min: None,
                    max: None,
                    examples: Vec::new(),
                    widened: None,
                    form: None,
                })
                .collect(),
        };
        let names: Vec<String> = of(&schema(&["id", "ID", "Id_2", "a\0b", "_Run", "é", "É"]))
            .into_iter()
            .map(|column| column.name)
            .collect();
        assert_eq!(
            names,
            ["id", "ID_2", "Id_2_2", "a\u{fffd}b", "_Run_2", "é", "É"]
        );
    }

    #[test]
    fn a_column_takes_what_it_had_and_what_comes() {
        let int = || column("n", Some(Kind::Integer), Native::Int64);
        let float = column("n", Some(Kind::Number), Native::Float64);
        let text = column("n", Some(Kind::Text), Native::Text);
        let null = column("n", None, Native::Text);
        let join = |old: Column, new: &Column| joined(&[old], std::slice::from_ref(new)).remove(0);
        assert_eq!(join(int(), &null).native, Native::Int64);
        assert_eq!(join(null, &int()).native, Native::Int64);
        assert_eq!(join(int(), &float).native, Native::Float64);
        let beyond = Column {
            beyond: true,
            ..int()
        };
        assert_eq!(join(beyond, &float).native, Native::Text);
        assert_eq!(join(int(), &text).native, Native::Json);
        assert_eq!(join(text.clone(), &text).native, Native::Text);
        // A column that only one of them has.
        let other = column("m", Some(Kind::Text), Native::Text);
        let both = joined(&[int()], std::slice::from_ref(&other));
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|column| column.nulls));
    }
}
