//! Records on their way to a file: with the variables of their partitions and what templates make of
//! them, for each stream of the table in its own way.

use std::io;

use super::PublishError;
use super::computed::Computed;
use super::repeats::Repeats;
use super::rows::{Placed, Rows};
use crate::harvest::partitions::Partition;
use crate::plan::language::{LanguageProblem, Template};
use crate::plan::{ColumnFrom, ColumnPlan};
use crate::sink::{Each, Extra, Row};

/// The declared columns of each stream of a table; none where they declare none.
pub(in crate::harvest) fn columns<'a>(rows: &Rows<'a>) -> Vec<&'a [ColumnPlan]> {
    let all = rows.members.iter().map(|one| one.plan.columns.as_deref());
    all.collect::<Option<_>>().unwrap_or_default()
}

/// What stands beside the records of each stream.
pub(in crate::harvest) struct Outgoing<'a>(Vec<(Extras, Computed<'a>)>);

/// Every record of the run with what stands beside it, in canonical order.
pub(in crate::harvest) fn each_row(
    rows: &Rows<'_>,
    repeats: &mut Repeats,
    each: &mut Each<'_, PublishError>,
) -> Result<(), PublishError> {
    let mut outgoing = Outgoing::of(rows);
    let mut stopped = None;
    let read = rows.each_kept(repeats, &mut |placed, partition| {
        outgoing
            .row(placed, partition, each)
            .map_err(io::Error::other)?
            .map_err(|error| {
                stopped = Some(error);
                io::Error::other("the sink stopped")
            })
    });
    match (stopped, read) {
        (Some(error), _) => Err(error),
        (None, read) => Ok(read?),
    }
}

/// The columns that are templates, by name.
pub(in crate::harvest) fn templates(columns: Option<&[ColumnPlan]>) -> Vec<(&str, &Template)> {
    let columns = columns.unwrap_or_default().iter();
    columns
        .filter_map(|column| match &column.from {
            ColumnFrom::Template(template) => Some((column.name.as_str(), template)),
            ColumnFrom::Path(_) | ColumnFrom::Jq(_) | ColumnFrom::Nothing => None,
        })
        .collect()
}

impl<'a> Outgoing<'a> {
    /// For the streams of a table.
    pub(in crate::harvest) fn of(rows: &Rows<'a>) -> Self {
        let all = rows.members.iter().map(|one| {
            let templates = templates(one.plan.columns.as_deref());
            (Extras::default(), Computed::new(&rows.run.names, templates))
        });
        Self(all.collect())
    }

    /// Hands a record on.
    ///
    /// # Errors
    /// A template of a column; inside of that what the taker says.
    pub(in crate::harvest) fn row<E>(
        &mut self,
        placed: Placed<'_>,
        partition: &Partition,
        each: &mut Each<'_, E>,
    ) -> Result<Result<(), E>, LanguageProblem> {
        let Some((extras, computed)) = self.0.get_mut(placed.member) else {
            return Ok(Ok(()));
        };
        let values = computed.of(partition, placed.in_page)?;
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Ok(each(Row {
            json: placed.json,
            extras: extras.of(partition),
            computed: &values,
            member: placed.member,
        }))
    }
}

/// The scalar `for` variables of the latest partition.
#[derive(Default)]
struct Extras {
    partition: Option<u32>,
    all: Vec<Extra>,
}

impl Extras {
    fn of(&mut self, partition: &Partition) -> &[Extra] {
        if self.partition != Some(partition.ordinal) {
            self.partition = Some(partition.ordinal);
            let scalars = partition.scalars();
            self.all = scalars
                .map(|(name, json)| Extra {
                    name: name.to_owned(),
                    json,
                })
                .collect();
        }
        &self.all
    }
}
