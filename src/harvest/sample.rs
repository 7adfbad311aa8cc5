//! The first page of a stream, for `preview`: its records, and what its columns make of them.

use std::borrow::Cow;

use super::computed::Computed;
use super::outgoing::templates;
use super::partitions::Partition;
use super::stream::Stream;
use crate::failure::Failure;
use crate::plan::ColumnPlan;
use crate::plan::typed::{Kind, OnBad};
use crate::sink::project::Projector;

/// The first records of a stream.
#[derive(Debug)]
pub struct Sample {
    /// The stream.
    pub stream: String,
    /// Its first page's records as JSON text.
    pub records: Vec<String>,
    /// What becomes of them, where the stream says `columns`.
    pub columns: Option<SampledColumns>,
    /// Why there are none.
    pub failure: Option<Failure>,
}

/// Records in the columns of their stream.
#[derive(Debug, Default)]
pub struct SampledColumns {
    /// Names of the columns, and the types that they have.
    pub names: Vec<(String, Option<Kind>)>,
    /// Cells as JSON text; `""` is null. A value that does not fit stands as it came.
    pub rows: Vec<Vec<String>>,
    /// The first value of a column that does not fit, in words.
    pub misfits: Vec<(String, String)>,
}

impl Stream {
    /// Records in the columns of the stream, if it says any.
    pub(super) fn in_columns(
        &self,
        records: &[String],
        partition: &Partition,
    ) -> Result<Option<SampledColumns>, Box<Failure>> {
        let Some(plan) = &self.plan().columns else {
            return Ok(None);
        };
        let with = |typed: bool, on_bad: OnBad| -> Vec<ColumnPlan> {
            let columns = plan.iter().map(|column| ColumnPlan {
                typed: column.typed.clone().filter(|_| typed),
                on_bad,
                ..column.clone()
            });
            columns.collect()
        };
        let mut strict = Projector::new(&with(true, OnBad::Fail));
        let mut fitting = Projector::new(&with(true, OnBad::Null));
        let mut untyped = Projector::new(&with(false, OnBad::Null));
        let mut computed = Computed::new(&self.run.names, templates(Some(plan)));
        let names = plan.iter().map(|column| {
            let kind = column.typed.as_ref().map(|typed| typed.kind);
            (column.name.clone(), kind)
        });
        let mut sampled = SampledColumns {
            names: names.collect(),
            ..SampledColumns::default()
        };
        for (in_page, record) in (0..).zip(records) {
            let values = computed.of(partition, in_page);
            let values = values.map_err(|problem| self.unrendered(&problem))?;
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let (mut fitted, mut came) = (Vec::new(), Vec::new());
            // What does not fit becomes null in these two, so that the other cells are seen.
            let _ = fitting.cells(record, &values, &mut fitted);
            let _ = untyped.cells(record, &values, &mut came);
            let cells = fitted.into_iter().zip(came).map(|(fitted, came)| {
                let cell = if fitted.is_empty() { came } else { fitted };
                Cow::into_owned(cell)
            });
            sampled.rows.push(cells.collect());
            let mut cells = Vec::new();
            if let Err(misfit) = strict.cells(record, &values, &mut cells)
                && !(sampled.misfits.iter()).any(|(column, _)| *column == misfit.column)
            {
                let message = self.run.secrets.scrub(&misfit.message());
                sampled.misfits.push((misfit.column, message));
            }
        }
        Ok(Some(sampled))
    }
}
