//! The partitions of a stream that runs over records of others: begun as the parents' pages come,
//! in any order, and put into canonical order at the end.
//!
//! A partition is known by its first request: records that lead to the same one are asked for once.
//! It gets a number when it is found; pages are kept under that, in the ledger too, and a run that
//! goes on finds the numbers again by what the first pages were asked for. When all parents are whole,
//! their records are gone over once more, in canonical order: that gives the place of each
//! partition, asks for what did not come up before, and leaves out what no record leads to any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::record;
use super::slice::Slice;
use super::{Partition, PartitionProblem, Place, Source, Step};
use crate::failure::{Exit, Failure};
use crate::harvest::commit::Committer;
use crate::harvest::crew::Crew;
use crate::harvest::run::interrupted;
use crate::harvest::stream::Stream;
use crate::harvest::{publish, trouble::open_failure};
use crate::store::StoreError;
use crate::store::hash::stable;

/// Combinations looked at in one blocking call.
const AT_ONCE: u32 = 4096;
/// No place: no record leads there.
const NONE: u32 = u32::MAX;

/// The numbers of a stream's partitions.
#[derive(Debug, Default)]
struct Numbers {
    /// What the first page is asked for → number.
    known: HashMap<u64, u32>,
    next: u32,
}

/// Which numbers have come up, in one order or another.
#[derive(Debug, Default)]
struct Pass {
    taken: Vec<bool>,
    /// How often what is not asked for has come up.
    again: HashMap<u64, u32>,
}

/// What a combination of `for` is.
enum Claim {
    /// It comes up for the first time: its number, and what it is known by.
    First(u32, u64),
    /// It leads to the same request as one before.
    Repeat(u32),
}

impl Numbers {
    /// The number of what is known by `told`. What is asked for is the same if the request is; what
    /// is only taken apart may come twice, as the rows of any table.
    fn claim(&mut self, pass: &mut Pass, told: u64, asks: bool) -> Result<Claim, PartitionProblem> {
        let mut times = pass.again.get(&told).copied().unwrap_or(0);
        loop {
            let print = match (asks, times) {
                (false, times) => stable(&[&format!("{told:x} {times}")]),
                (true, _) => told,
            };
            let known = self.known.get(&print).copied();
            let number = known.unwrap_or(self.next);
            if known.is_none() {
                self.next = number.checked_add(1).ok_or(PartitionProblem::TooMany)?;
                self.known.insert(print, number);
            }
            if pass.take(number) {
                return Ok(Claim::First(number, print));
            }
            if asks {
                return Ok(Claim::Repeat(number));
            }
            times += 1;
            pass.again.insert(told, times);
        }
    }
}

impl Pass {
    /// Whether it comes up for the first time.
    fn take(&mut self, number: u32) -> bool {
        let at = number as usize;
        if self.taken.len() <= at {
            self.taken.resize(at + 1, false);
        }
        !std::mem::replace(&mut self.taken[at], true)
    }
}

/// What is known of a stream's partitions.
#[derive(Debug, Default)]
struct Births {
    numbers: Numbers,
    /// By arrival.
    begun: Pass,
    /// Numbers that came up more than once: another record may be the first in canonical order.
    repeated: HashSet<u32>,
    place: Place,
}

/// The canonical order, as far as it was gone over.
#[derive(Debug, Default)]
struct Order {
    pass: Pass,
    /// By number.
    places: Vec<u32>,
    /// Combinations that repeat an earlier one.
    repeats: Vec<u64>,
    next: u32,
    place: Place,
}

/// What a look for partitions came to.
enum Looked {
    /// There may be more.
    More,
    /// A parent has to bring more first.
    Wait,
    /// There are no more.
    Over,
}

impl Stream {
    /// Walks the partitions that its parents' records lead to. Gives their places in canonical
    /// order, by number.
    pub(in crate::harvest) async fn walk_children(
        self: Arc<Self>,
        committer: Committer,
    ) -> Result<Vec<Option<u32>>, Box<Failure>> {
        let mut crew = Crew::new(self.width(), self.is_paid(), self.resting.clone());
        let mut news = self.run.family.news();
        let worker = self.clone();
        let mut births = blocking(move || worker.births()).await?;
        // As the records come.
        loop {
            news.borrow_and_update();
            self.parents_stand()?;
            let room = crew.room();
            if room > 0 && !self.has_enough() {
                let worker = self.clone();
                let (found, looked);
                (births, found, looked) = blocking(move || worker.look(births, room)).await?;
                self.begin(&mut crew, found, &committer);
                match looked {
                    Looked::More => continue,
                    Looked::Over => break,
                    Looked::Wait => {}
                }
            } else if self.has_enough() || crew.is_stopped() {
                break;
            }
            tokio::select! {
                one = crew.one(), if !crew.is_idle() => { one?; }
                _ = news.changed() => {}
            }
        }
        if !self.has_enough() {
            while !crew.is_stopped() && !self.parents_are_whole() {
                tokio::select! {
                    one = crew.one(), if !crew.is_idle() => { one?; }
                    _ = news.changed() => {}
                }
                self.parents_stand()?;
            }
        }
        // In canonical order.
        let mut order = Order::default();
        loop {
            let room = crew.room();
            if crew.is_stopped() {
                break;
            }
            if room > 0 {
                let worker = self.clone();
                let (found, looked);
                (births, order, found, looked) =
                    blocking(move || worker.put_in_order(births, order, room)).await?;
                self.begin(&mut crew, found, &committer);
                match looked {
                    Looked::More | Looked::Wait => continue,
                    Looked::Over => break,
                }
            }
            crew.one().await?;
        }
        self.expect_no_more();
        crew.all().await?;
        self.run.family.set_repeats(&self.name, order.repeats);
        let places = order.places.into_iter();
        Ok(places.map(|at| (at != NONE).then_some(at)).collect())
    }

    /// Begins the partitions that were found.
    fn begin(self: &Arc<Self>, crew: &mut Crew, found: Vec<Slice>, committer: &Committer) {
        for slice in found {
            self.expect_partition();
            if self.has_nothing_to_ask(&slice.partition) {
                continue;
            }
            crew.begin(self.clone().walk_or_leave(slice, committer.clone()));
        }
    }

    /// The parents' records do not give its partitions. What they hold is the API's doing, and no mistake of the command.
    fn unfound(&self, problem: &PartitionProblem) -> Box<Failure> {
        let mut failure = open_failure(&self.name, problem);
        if let PartitionProblem::Template { .. } = problem {
            failure.exit = Exit::Failed;
        }
        failure
    }

    /// The numbers that earlier attempts gave.
    fn births(&self) -> Result<Births, Box<Failure>> {
        let mut births = Births::default();
        if let Some(recall) = self.recall() {
            births.numbers.next = recall.next_partition();
            for first in recall.firsts() {
                let (partition, print) = first.map_err(StoreError::into_failure)?;
                births.numbers.known.insert(print, partition);
            }
        }
        for (partition, print) in self.sent_firsts() {
            let next = partition.saturating_add(1).max(births.numbers.next);
            births.numbers.next = next;
            births.numbers.known.insert(print, partition);
        }
        Ok(births)
    }

    /// Partitions that the records which are there by now lead to, at most `room`.
    fn look(
        &self,
        mut births: Births,
        room: usize,
    ) -> Result<(Births, Vec<Slice>, Looked), Box<Failure>> {
        let place = std::mem::take(&mut births.place);
        let mut walk = Source::of(&self.run, self.plan()).from(place, true);
        let (mut found, mut looked) = (Vec::new(), Looked::More);
        for _ in 0..AT_ONCE {
            if found.len() >= room {
                break;
            }
            let partition = match walk.step().map_err(|e| self.unfound(&e))? {
                Step::Partition(partition) => partition,
                Step::Wait => {
                    looked = Looked::Wait;
                    break;
                }
                Step::Over => {
                    looked = Looked::Over;
                    break;
                }
            };
            let (mut slice, print) = self.known_by(partition)?;
            let claim = births
                .numbers
                .claim(&mut births.begun, print, self.plan().asks);
            match claim.map_err(|e| self.unfound(&e))? {
                Claim::First(number, print) => {
                    self.number(&mut slice, number, print)?;
                    found.push(slice);
                }
                Claim::Repeat(number) => {
                    births.repeated.insert(number);
                }
            }
        }
        births.place = walk.into_place();
        Ok((births, found, looked))
    }

    /// Gives partitions their places; those that did not come up before, at most `room`, are found
    /// by the way.
    fn put_in_order(
        &self,
        mut births: Births,
        mut order: Order,
        room: usize,
    ) -> Result<(Births, Order, Vec<Slice>, Looked), Box<Failure>> {
        let place = std::mem::take(&mut order.place);
        let mut walk = Source::of(&self.run, self.plan()).from(place, false);
        let (mut found, mut looked) = (Vec::new(), Looked::More);
        for _ in 0..AT_ONCE {
            if found.len() >= room {
                break;
            }
            let step = walk.step().map_err(|e| self.unfound(&e))?;
            let Step::Partition(partition) = step else {
                looked = Looked::Over;
                break;
            };
            let at = partition.ordinal;
            let (mut slice, print) = self.known_by(partition)?;
            let claim = births
                .numbers
                .claim(&mut order.pass, print, self.plan().asks);
            let (number, print) = match claim.map_err(|e| self.unfound(&e))? {
                Claim::First(number, print) => (number, print),
                Claim::Repeat(_) => {
                    order.repeats.push(at.into());
                    continue;
                }
            };
            let slot = number as usize;
            if order.places.len() <= slot {
                order.places.resize(slot + 1, NONE);
            }
            order.places[slot] = order.next;
            order.next += 1;
            if births.begun.take(number) {
                self.number(&mut slice, number, print)?;
                if !self.has_enough() {
                    found.push(slice);
                }
            } else if births.repeated.contains(&number) {
                self.number(&mut slice, number, print)?;
            }
        }
        order.place = walk.into_place();
        Ok((births, order, found, looked))
    }

    /// A partition with its request, and what it is known by: what its first page is asked for, or
    /// what it holds where nothing is asked.
    fn known_by(&self, partition: Partition) -> Result<(Slice, u64), Box<Failure>> {
        let slice = self.slice(self.windowed(partition))?;
        let print = if self.plan().asks {
            self.first_print(&slice)?
        } else {
            let texts = slice.partition.of_for();
            let texts: Vec<String> = texts
                .map(|(name, value)| format!("{name} {}", record::text(value)))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            stable(&texts)
        };
        Ok((slice, print))
    }

    /// Gives a partition its number, and tells its own children of its variables.
    fn number(&self, slice: &mut Slice, number: u32, print: u64) -> Result<(), Box<Failure>> {
        slice.partition.ordinal = number;
        slice.first = (!self.plan().asks).then_some(print);
        self.name_partition(&slice.partition)
    }

    /// Tells its children of a partition's variables.
    pub(in crate::harvest) fn name_partition(
        &self,
        partition: &Partition,
    ) -> Result<(), Box<Failure>> {
        let Some(feed) = self.run.family.feed(&self.name) else {
            return Ok(());
        };
        let variables: Vec<_> = partition.of_for().cloned().collect();
        feed.name(partition.ordinal, &variables)
            .map_err(|error| publish::disk_failure(&error))
    }

    /// A parent that failed holds its children.
    pub(in crate::harvest) fn parents_stand(&self) -> Result<(), Box<Failure>> {
        for (parent, feed) in self.run.family.parents(&self.name) {
            match feed.outcome() {
                Some(Err(Exit::Interrupted)) => return Err(interrupted()),
                Some(Err(exit)) => {
                    return Err(Box::new(Failure {
                        exit,
                        message: format!(
                            "{}: not complete without `{parent}`, which failed",
                            self.name
                        ),
                        causes: Vec::new(),
                        hint: None,
                    }));
                }
                Some(Ok(())) | None => {}
            }
        }
        Ok(())
    }

    fn parents_are_whole(&self) -> bool {
        let mut parents = self.run.family.parents(&self.name);
        parents.all(|(_, feed)| feed.is_whole())
    }

    /// Waits until all parents are published, or held; one that writes the same table is published
    /// with this one.
    pub(in crate::harvest) async fn parents_published(&self) -> Result<(), Box<Failure>> {
        let mut news = self.run.family.news();
        loop {
            news.borrow_and_update();
            self.parents_stand()?;
            let mut parents = self.run.family.parents(&self.name);
            if parents.all(|(name, feed)| feed.outcome().is_some() || self.shares_table(name)) {
                return Ok(());
            }
            // The sender lives as long as the run.
            let _ = news.changed().await;
        }
    }
}

impl Stream {
    fn shares_table(&self, other: &str) -> bool {
        let mut plans = self.run.plan.streams.iter();
        let other = plans.position(|plan| plan.name == other);
        other.is_some_and(|other| self.run.tables.share(self.at, other))
    }
}

/// Work that reads files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Box<Failure>> + Send + 'static,
) -> Result<T, Box<Failure>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
