//! Declared columns of a table: the same names and types for every stream that writes it, each
//! filled from the records of a stream in its own way.

use std::borrow::Cow;
use std::ops::Deref;

use super::Row;
use super::project::Projector;
use super::rejects::Misfit;
use crate::plan::ColumnPlan;

/// The columns of a table, for each of its streams; names and types are those of the first.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    first: &'a [ColumnPlan],
    others: &'a [&'a [ColumnPlan]],
}

impl<'a> Columns<'a> {
    /// Of the streams of a table, in their order; none where they declare none.
    pub fn of(streams: &'a [&'a [ColumnPlan]]) -> Option<Self> {
        let (first, others) = streams.split_first()?;
        Some(Self { first, others })
    }
}

impl Deref for Columns<'_> {
    type Target = [ColumnPlan];

    fn deref(&self) -> &[ColumnPlan] {
        self.first
    }
}

/// Takes the records of each stream apart into the columns.
#[derive(Debug)]
pub(super) struct Projectors(Vec<Projector>);

impl Projectors {
    /// For these columns.
    pub(super) fn new(columns: Columns<'_>) -> Self {
        let others = columns.others.iter().map(|columns| Projector::new(columns));
        Self(
            std::iter::once(Projector::new(columns.first))
                .chain(others)
                .collect(),
        )
    }

    /// Takes values as Parquet has them: see [`Projector::natively`].
    pub(super) fn natively(self) -> Self {
        Self(self.0.into_iter().map(Projector::natively).collect())
    }

    /// The headers.
    pub(super) fn names(&self) -> &[String] {
        self.0.first().map_or(&[], Projector::names)
    }

    /// Takes a record apart: see [`Projector::cells`].
    pub(super) fn cells<'a>(
        &mut self,
        row: Row<'a>,
        cells: &mut Vec<Cow<'a, str>>,
    ) -> Result<(), Box<Misfit>> {
        match self.0.get_mut(row.member) {
            Some(projector) => projector.cells(row.json, row.computed, cells),
            None => Ok(()),
        }
    }

    /// Columns with values that became null because they did not fit, and how many.
    pub(super) fn nulled(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = Vec::new();
        for (name, count) in self.0.iter().flat_map(Projector::nulled) {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => all.push((name, count)),
            }
        }
        all
    }

    /// Fields that no column of their stream reads.
    pub(super) fn unread(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.iter().flat_map(Projector::unread).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
