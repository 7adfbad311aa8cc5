//! `for`: what a stream's variables run over.

use std::num::NonZeroUsize;

use super::dates::DatesPlan;
use super::language::{Expr, Template};
use minijinja::Value;

/// What one variable of `for` runs over.
#[derive(Debug)]
pub enum Generator {
    /// A written list; its items are templates where they hold `{{ }}`, else values.
    List(Vec<ListItem>),
    /// A template that yields a list (or one value) from names seen so far.
    Template(Template),
    /// Whole numbers, both ends included.
    Range {
        /// First.
        from: i64,
        /// Last.
        to: i64,
        /// Step; negative to count down, never 0.
        step: i64,
    },
    /// Rows of a CSV file with a header line, as objects of text.
    File {
        /// Relative to the project root.
        path: Template,
        /// One column's text in place of the whole row.
        column: Option<String>,
    },
    /// Windows of time.
    Dates(Box<DatesPlan>),
    /// Records of another stream, its parent: their partitions' variables are seen too.
    Stream {
        /// The parent.
        stream: String,
        /// Only records that this holds for.
        only: Option<Expr>,
        /// Lists of at most so many records, in place of one record each.
        batch: Option<NonZeroUsize>,
    },
}

/// One item of a written list.
#[derive(Debug)]
pub enum ListItem {
    /// A value as written; scalars keep their spelling.
    Value(Value),
    /// A template.
    Template(Template),
}
