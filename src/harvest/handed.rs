//! Records handed to an output, each with what stands beside it: the values of its partition and of the
//! columns that are templates.

use std::io;

use super::computed::Computed;
use super::partitions::Partition;
use super::publish::PublishError;
use super::repeats::Repeats;
use super::rows::Rows;
use crate::plan::language::Template;
use crate::plan::{ColumnFrom, ColumnPlan};
use crate::sink::{self, Extra, Row};

/// Every record of the run with what stands beside it, in canonical order.
pub(super) fn each_row(
    rows: &Rows<'_>,
    repeats: &mut Repeats,
    each: &mut sink::Each<'_, PublishError>,
) -> Result<(), PublishError> {
    let mut extras = Extras::default();
    let mut computed = Computed::new(&rows.run.names, templates(rows.plan.columns.as_deref()));
    let mut stopped = None;
    let read = rows.each_kept(repeats, &mut |placed, partition| {
        let values = computed
            .of(partition, placed.in_page)
            .map_err(io::Error::other)?;
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        each(Row {
            json: placed.json,
            extras: extras.of(partition),
            computed: &values,
        })
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

/// The columns that are templates.
pub(super) fn templates(columns: Option<&[ColumnPlan]>) -> Vec<&Template> {
    let columns = columns.unwrap_or_default().iter();
    columns
        .filter_map(|column| match &column.from {
            ColumnFrom::Template(template) => Some(template),
            ColumnFrom::Path(_) | ColumnFrom::Jq(_) => None,
        })
        .collect()
}

/// The scalar `for` variables of the latest partition.
#[derive(Default)]
pub(super) struct Extras {
    partition: Option<u32>,
    all: Vec<Extra>,
}

impl Extras {
    pub(super) fn of(&mut self, partition: &Partition) -> &[Extra] {
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
