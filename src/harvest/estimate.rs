//! What a run will ask and what its limits make of that: counted ahead, offline or after one page
//! a stream.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::attempt::once::Spot;
use super::pages::walk::{Next, Walk};
use super::partitions::Partition;
use super::run::no_book;
use super::stream::Stream;
use super::{Harvest, Options, trouble};
use crate::failure::Failure;
use crate::limits::{Asked, Demand, Forecast, Shelf, Used};
use crate::plan::limit::{Counting, LimitPlan, Per};
use crate::plan::paging::Paging;

/// Partitions are counted up to here.
const MOST_PARTITIONS: u64 = 1_000_000;

/// A number and how far it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The number.
    pub number: u64,
    /// What it is.
    pub known: Known,
}

/// How far a number can be trusted; the worst of two holds for their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Exactly so many.
    Exactly,
    /// As many if what was not looked at is like what was.
    About,
    /// So many or more.
    AtLeast,
}

impl Count {
    /// A count of which this is known.
    pub fn new(number: u64, known: Known) -> Self {
        Self { number, known }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            number: self.number.saturating_add(other.number),
            known: self.known.max(other.known),
        }
    }

    /// So many times each of so many; more than one is only as sure as its likes.
    fn times(self, pages: Self) -> Self {
        let alike = match pages.known {
            Known::Exactly if self.number > 1 => Known::About,
            known => known,
        };
        Self {
            number: self.number.saturating_mul(pages.number),
            known: self.known.max(alike),
        }
    }
}

/// What a run will ask, and what its limits make of that.
#[derive(Debug)]
pub struct Estimate {
    /// The pipeline.
    pub pipeline: String,
    /// Its streams, in the order of the file.
    pub streams: Vec<StreamEstimate>,
    /// Its limits, in the order of the file.
    pub limits: Vec<Forecast>,
    /// Whether limits are found while asking: nothing can be said of them.
    pub auto: bool,
    /// Most requests in flight.
    pub concurrency: usize,
    /// Secrets without a value: the count is as if they had one.
    pub unset: Vec<String>,
}

/// What one stream will ask.
#[derive(Debug)]
pub struct StreamEstimate {
    /// Its name.
    pub stream: String,
    /// The streams whose records it runs over: how many there are is known when they are there.
    pub parents: Vec<String>,
    /// Its partitions.
    pub partitions: Count,
    /// Pages of each.
    pub pages: Count,
    /// Requests, without redirects and repeats.
    pub requests: Count,
    /// How long its first page took, if it was asked.
    pub took: Option<Duration>,
    /// Why its first page did not come.
    pub failure: Option<Failure>,
}

impl Estimate {
    /// Requests of all streams.
    pub fn requests(&self) -> Count {
        let none = Count::new(0, Known::Exactly);
        let all = self.streams.iter().map(|stream| stream.requests);
        all.fold(none, Count::plus)
    }

    /// The limit that takes the most time, if any takes some.
    pub fn binding(&self) -> Option<&Forecast> {
        let some = self.limits.iter().filter(|limit| !limit.time.is_zero());
        some.max_by_key(|limit| limit.time)
    }

    /// Time of all answers side by side, if every one is like the first page of its stream.
    pub fn answering(&self) -> Option<Duration> {
        let one = |stream: &StreamEstimate| {
            let took = stream.took?.as_secs_f64() * stream.requests.number as f64;
            Some(took / self.concurrency as f64)
        };
        let all: Vec<f64> = self.streams.iter().filter_map(one).collect();
        let sum = Duration::try_from_secs_f64(all.iter().sum()).ok()?;
        (!all.is_empty()).then_some(sum)
    }

    /// Probes that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        let streams = self.streams.iter();
        streams.filter_map(|stream| Some((stream.stream.as_str(), stream.failure.as_ref()?)))
    }
}

impl Options {
    /// For [`Harvest::estimate`]: nothing is written, and without `probe` nothing is sent, so
    /// that no secret needs a value.
    /// What is used of the limits is read from the book in the folder `limits`.
    pub fn estimate(streams: Vec<String>, probe: bool, limits: Option<PathBuf>) -> Self {
        Self {
            streams,
            dry: true,
            offline: !probe,
            limits,
            ..Self::default()
        }
    }
}

impl Harvest {
    /// Counts what the run would ask. `probe` asks one page a stream, within the limits, for how
    /// many there are.
    ///
    /// # Errors
    /// A partition that cannot be told, or a request that no run could send.
    pub async fn estimate(self, probe: bool) -> Result<Estimate, Box<Failure>> {
        let mut demand = Demand::default();
        let mut streams = Vec::new();
        for at in self.run.family.in_turn() {
            let stream = Stream::new(self.run.clone(), at);
            let (mut pages, mut took, mut failure) = (stream.pages_offline(), None, None);
            // A look must not act, nor cost.
            let may_ask = stream.plan().asks && !stream.is_paid();
            if probe && may_ask && stream.parents_stand().is_ok() {
                match stream.probe().await {
                    Ok(probed) => (pages, took) = probed,
                    Err(problem) => {
                        if let Some(feed) = self.run.family.feed(&stream.name) {
                            feed.over(Err(problem.exit));
                        }
                        failure = Some(*self.run.told(&stream.name, problem));
                    }
                }
            }
            if probe && !stream.plan().asks {
                // Nothing is sent for it.
                stream.sample().await;
            }
            let partitions = stream.demand(pages.number, &mut demand);
            let mut partitions = partitions.map_err(|e| self.run.told(&stream.name, e))?;
            let parents: Vec<String> = stream.plan().parents().map(str::to_owned).collect();
            if !parents.is_empty() {
                partitions.known = Known::AtLeast;
            }
            let requests = match stream.plan().paging {
                _ if !stream.plan().asks => Count::new(0, Known::Exactly),
                // One page each, whatever they hold.
                Paging::None { .. } => partitions,
                _ => partitions.times(pages),
            };
            let estimate = StreamEstimate {
                stream: stream.name.to_string(),
                parents,
                partitions,
                pages,
                requests,
                took,
                failure,
            };
            streams.push((at, estimate));
        }
        streams.sort_by_key(|(at, _)| *at);
        let streams = streams.into_iter().map(|(_, stream)| stream).collect();
        Ok(Estimate {
            pipeline: self.run.plan.name.clone(),
            streams,
            limits: self.forecast(&demand)?,
            auto: self.run.plan.source.limits.iter().any(LimitPlan::is_auto),
            concurrency: self.in_flight(),
            unset: self.run.secrets.unset().to_vec(),
        })
    }
}

impl Harvest {
    /// Most requests in flight.
    fn in_flight(&self) -> usize {
        let source = &self.run.plan.source;
        let whole = |limit: &&LimitPlan| {
            matches!(limit.counting, Counting::InFlight) && limit.routes.is_empty()
        };
        let limits = source.limits.iter().filter(whole);
        let most = limits.map(|limit| limit.calls.get().saturating_sub(limit.reserve).max(1));
        let most = most.filter_map(|most| usize::try_from(most).ok()).min();
        let own = source.concurrency.get();
        most.map_or(own, |most| most.min(own))
    }

    /// What the limits make of that, after what the book says is used by now.
    fn forecast(&self, demand: &Demand) -> Result<Vec<Forecast>, Box<Failure>> {
        let run = &self.run;
        let folder = run.options.limits.as_deref();
        let book = folder.map(Shelf::open).transpose();
        let book = book.map_err(|problem| no_book(&problem))?.flatten();
        let credential = run.credentials.identity();
        let used = book.as_ref().map(|shelf| Used {
            shelf,
            credential: &credential,
        });
        let forecast = run.limits.forecast(demand, used.as_ref());
        forecast.map_err(|problem| no_book(&problem))
    }
}

impl Stream {
    /// Shows its children what it makes of its parents' first records.
    async fn sample(&self) {
        if let Some(feed) = self.run.family.feed(&self.name)
            && let Ok(first) = self.first_page().await
        {
            let variables = first.partition.iter().flat_map(Partition::of_for);
            feed.sample(&first.records, variables.cloned().collect());
        }
    }

    /// Pages of a partition, as far as the file tells.
    fn pages_offline(&self) -> Count {
        match self.plan().paging {
            Paging::None { .. } => Count::new(1, Known::Exactly),
            _ => Count::new(1, Known::AtLeast),
        }
    }

    /// Adds what the limits have to give for `pages` of every partition, and counts these.
    fn demand(&self, pages: u64, demand: &mut Demand) -> Result<Count, Box<Failure>> {
        let run = &self.run;
        let plan = self.plan();
        let each = !plan.cost.is_empty() || run.plan.source.limits.iter().any(is_particular);
        let mut counted = 0;
        let mut first = None;
        for partition in self.partitions_to_ask(true) {
            let partition = partition?;
            if counted == MOST_PARTITIONS {
                return self.alike(first.as_ref(), each, pages, counted, demand);
            }
            counted += 1;
            if each && plan.asks {
                self.add(&partition, pages, demand)?;
            }
            first.get_or_insert(partition);
        }
        let mut count = self.alike(first.as_ref(), each, pages, counted, demand)?;
        count.known = Known::Exactly;
        Ok(count)
    }

    /// Where all partitions ask for the same, one of them stands for all.
    fn alike(
        &self,
        first: Option<&Partition>,
        each: bool,
        pages: u64,
        counted: u64,
        demand: &mut Demand,
    ) -> Result<Count, Box<Failure>> {
        if let (false, true, Some(first)) = (each, self.plan().asks, first) {
            self.add(first, pages.saturating_mul(counted), demand)?;
        }
        Ok(Count::new(counted, Known::AtLeast))
    }

    fn add(
        &self,
        partition: &Partition,
        times: u64,
        demand: &mut Demand,
    ) -> Result<(), Box<Failure>> {
        let run = &self.run;
        let request = self.render(partition)?;
        let place = self.place(partition, 0);
        let cost = self.cost(&partition.variables, &place)?;
        let trusted = run.policy.judge(&request.url).credentials();
        let needs = run.limits.needs(&Asked {
            method: &request.method,
            url: &request.url,
            credential: trusted && !run.credentials.is_empty(),
            variables: &partition.variables,
            cost: &cost,
        });
        demand.add(&needs.map_err(|why| trouble::no_turn(&why, &place))?, times);
        Ok(())
    }

    /// Pages of the first partition, from its first page; and how long that took.
    async fn probe(&self) -> Result<(Count, Option<Duration>), Box<Failure>> {
        let run = &self.run;
        let plan = self.plan();
        let Some(partition) = self.partitions_to_ask(false).next().transpose()? else {
            return Ok((Count::new(0, Known::Exactly), None));
        };
        let base = self.render(&partition)?;
        let in_turn = self.ends_early();
        let mut walk = Walk::new(
            &plan.paging,
            super::pages::step::asked_size(&plan.paging, &base),
            in_turn,
        );
        let turn = walk.first(self.start_token(&partition)?);
        let request = base.page(&turn).map_err(|e| self.unrendered(&e))?;
        let place = self.place(&partition, 0);
        let fetched = self
            .look_at(&request, &Spot::first(&partition, &place))
            .await?;
        let took = fetched.took;
        let digest = self.digest(&fetched, None);
        if let Some(feed) = run.family.feed(&self.name) {
            let records: Vec<String> = fetched.kept().records().map(str::to_owned).collect();
            feed.sample(&records, partition.of_for().cloned().collect());
        }
        let next = if fetched.last {
            Next::End
        } else {
            let next = walk.after(&digest, false);
            next.map_err(|fault| trouble::walk(&fault, &place, &self.show(&request)))?
        };
        let records = digest.count;
        let pages = match next {
            Next::End => Count::new(1, Known::Exactly),
            // What ends a walk early cannot be known ahead.
            _ if in_turn => Count::new(1, Known::AtLeast),
            Next::Many { count, .. } => Count::new(count.saturating_add(1), Known::Exactly),
            Next::One(_) | Next::Url(_) => match self.told_total(&digest) {
                Some(total) if records > 0 => {
                    Count::new(total.div_ceil(records).max(2), Known::About)
                }
                _ => match crate::fetch::link::last_page(&fetched.headers) {
                    Some(last) => Count::new(last.max(2), Known::About),
                    None => Count::new(2, Known::AtLeast),
                },
            },
        };
        Ok((pages, Some(took)))
    }
}

/// Whether one partition may need other budgets than the next.
fn is_particular(limit: &LimitPlan) -> bool {
    let variable = |per: &Per| matches!(per, Per::Variable(_));
    !limit.routes.is_empty() || limit.per.iter().flatten().any(variable)
}

#[cfg(test)]
mod tests {
    use super::Known::{About, AtLeast, Exactly};
    use super::*;

    #[test]
    fn counts_are_as_sure_as_their_parts() {
        let of = Count::new;
        for (partitions, pages, requests) in [
            (of(1, Exactly), of(34, Exactly), of(34, Exactly)),
            (of(10, Exactly), of(34, Exactly), of(340, About)),
            (of(10, Exactly), of(34, About), of(340, About)),
            (of(10, Exactly), of(1, AtLeast), of(10, AtLeast)),
            (of(1_000_000, AtLeast), of(2, About), of(2_000_000, AtLeast)),
            (of(0, Exactly), of(1, AtLeast), of(0, AtLeast)),
        ] {
            assert_eq!(partitions.times(pages), requests);
        }
        assert_eq!(of(1, Exactly).plus(of(2, About)), of(3, About));
    }
}
