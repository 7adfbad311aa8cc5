//! The first page of a stream, for `preview`: its records, and what its columns make of them.

use std::borrow::Cow;

use super::Harvest;
use super::attempt::once::Spot;
use super::pages::walk::{Walk, WalkFault};
use super::partitions::Partition;
use super::publish::computed::Computed;
use super::publish::outgoing::templates;
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
    /// What says that there are more pages, where the stream does not say how it pages, or says what
    /// leads to none.
    pub more: Option<String>,
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

/// What `preview` looks at.
#[derive(Default)]
pub(super) struct First {
    pub(super) records: Vec<String>,
    pub(super) partition: Option<Partition>,
    /// See [`Sample::more`].
    more: Option<String>,
}

impl Harvest {
    /// The first page of each stream; nothing is written. One that runs over records of another
    /// takes the first that fits.
    pub async fn preview(self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for at in self.run.family.in_turn() {
            let stream = Stream::new(self.run.clone(), at);
            let first = match stream.parents_stand() {
                Ok(()) => stream.first_page().await,
                Err(failure) => Err(failure),
            };
            let feed = self.run.family.feed(&stream.name);
            let (mut columns, mut more) = (None, None);
            let (records, failure) = match first {
                Ok(First {
                    records,
                    partition,
                    more: told,
                }) => {
                    more = told;
                    if let Some(feed) = feed {
                        let variables = partition.iter().flat_map(Partition::of_for);
                        feed.sample(&records, variables.cloned().collect());
                    }
                    let made = partition.map(|partition| stream.in_columns(&records, &partition));
                    match made.transpose() {
                        Ok(made) => {
                            columns = made.flatten();
                            (records, None)
                        }
                        Err(failure) => {
                            let told = self.run.told(&stream.name, failure);
                            (Vec::new(), Some(*told))
                        }
                    }
                }
                Err(failure) => {
                    if let Some(feed) = feed {
                        feed.over(Err(failure.exit));
                    }
                    (Vec::new(), Some(*self.run.told(&stream.name, failure)))
                }
            };
            // Of a parent that nobody asked for, only its trouble matters.
            if failure.is_some() || self.run.family.is_chosen(&stream.name) {
                let sample = Sample {
                    stream: stream.name.to_string(),
                    records,
                    columns,
                    more,
                    failure,
                };
                samples.push((at, sample));
            }
        }
        samples.sort_by_key(|(at, _)| *at);
        samples.into_iter().map(|(_, sample)| sample).collect()
    }
}

impl Stream {
    /// The first page of the first partition, if there is one.
    pub(super) async fn first_page(&self) -> Result<First, Box<Failure>> {
        let Some(partition) = self.partitions_to_ask(true).next().transpose()? else {
            return Ok(First::default());
        };
        let base = self.render(&partition)?;
        let mut walk = Walk::new(&self.plan().paging, None, true);
        let turn = walk.first(self.start_token(&partition)?);
        let request = base.page(&turn).map_err(|e| self.unrendered(&e))?;
        let place = self.place(&partition, 0);
        let fetched = self
            .look_at(&request, &Spot::first(&partition, &place))
            .await?;
        let more = match walk.after(&self.digest(&fetched, None), false) {
            Err(fault @ (WalkFault::Forgotten(_) | WalkFault::Unfound(_))) => {
                Some(self.run.secrets.scrub(&fault.to_string()))
            }
            _ => None,
        };
        Ok(First {
            records: fetched.kept().records().map(str::to_owned).collect(),
            partition: Some(partition),
            more,
        })
    }

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
