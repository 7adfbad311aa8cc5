//! Records on their way to a file: with the variables of their partitions and what templates make of
//! them, for each stream of the table in its own way.

use super::computed::Computed;
use super::partitions::Partition;
use super::publish::templates;
use super::rows::{Placed, Rows};
use crate::plan::ColumnPlan;
use crate::plan::language::LanguageProblem;
use crate::sink::{Each, Extra, Row};

/// The declared columns of each stream of a table; none where they declare none.
pub(super) fn columns<'a>(rows: &Rows<'a>) -> Vec<&'a [ColumnPlan]> {
    let all = rows.members.iter().map(|one| one.plan.columns.as_deref());
    all.collect::<Option<_>>().unwrap_or_default()
}

/// What stands beside the records of each stream.
pub(super) struct Outgoing<'a>(Vec<(Extras, Computed<'a>)>);

impl<'a> Outgoing<'a> {
    /// For the streams of a table.
    pub(super) fn of(rows: &Rows<'a>) -> Self {
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
    pub(super) fn row<E>(
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
