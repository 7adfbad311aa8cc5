//! The pages of one partition in turn; where the addresses of the rest are known ahead, they are
//! handed to `spread`.
//!
//! A page that an earlier attempt at this run has kept is not asked for again: what was written
//! down of it leads the walk on just as the page itself would.

mod decimal;
pub(super) mod digest;
pub(super) mod drift;
mod gap;
pub(super) mod given;
pub(super) mod more;
pub(super) mod novelty;
pub(super) mod spread;
pub(super) mod step;
pub(super) mod walk;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::digest::Digest;
use self::drift::Totals;
use self::gap::Gap;
use self::novelty::Novelty;
use self::spread::Spread;
use self::step::asked_size;
use self::walk::{Next, Walk, WalkFault};
use super::attempt::fetched::Fetched;
use super::attempt::once::Spot;
use super::commit::{Committer, Staged, What};
use super::partitions::Partition;
use super::partitions::slice::Slice;
use super::stream::Stream;
use super::trouble;
use crate::event::Fact;
use crate::failure::Failure;
use crate::plan::Then;
use crate::store::index::PageRow;

/// A page, from the API or from the run's folder.
pub(super) enum Got {
    Fetched(Box<Fetched>),
    Kept(PageRow),
    /// From the run's folder as it came, and read as it is read today.
    Redone(Box<Fetched>),
}

impl Got {
    /// It, if its records are at hand.
    fn at_hand(&self) -> Option<&Fetched> {
        match self {
            Self::Fetched(fetched) | Self::Redone(fetched) => Some(fetched),
            Self::Kept(_) => None,
        }
    }
}

/// What the walk of a part came to.
pub(super) enum Ended {
    /// It has no more pages.
    Whole,
    /// The partition has to be walked again from its beginning.
    Again,
    /// An earlier attempt has found its window too large.
    Split,
    /// What led to one of its pages leads nowhere any more; this is the failure if the partition
    /// cannot be walked again.
    Expired(Box<Failure>),
    /// Its window is too large; this is the failure if it cannot be halved.
    TooLarge(Box<Failure>),
}

/// Pages without a record in a row after which a partition is given up: what is searched for is rare
/// where APIs filter after they cut pages (`DynamoDB`), and some never say that there is no more.
const MOST_EMPTY: u32 = 1000;

/// How a walk of a partition stands.
struct Progress<'a> {
    walk: Walk<'a>,
    seen: HashSet<u64>,
    page: u32,
    /// How many of its pages are pieces beside the first of an answer.
    pieces: u32,
    records: u64,
    totals: Totals,
    /// Empty pages among others.
    gap: Gap,
    /// Pages fetched in a row that held no record.
    empty: u32,
    /// The latest page came from the run's folder.
    kept: bool,
}

impl Stream {
    /// Walks a partition, or the part of it that a half of its window is, from a page of its own.
    pub(super) async fn walk_part(
        self: Arc<Self>,
        slice: &Arc<Slice>,
        committer: &Committer,
        page: &mut u32,
        replay: bool,
    ) -> Result<Ended, Box<Failure>> {
        let (partition, begins) = (&slice.partition, *page);
        let size = asked_size(&self.plan().paging, &slice.base);
        let first = self.start_token(partition)?;
        let start = || {
            let walk = Walk::new(&self.plan().paging, size, self.pages_in_turn());
            let request = slice.base.page(&walk.first(first.clone()));
            let progress = Progress {
                walk,
                seen: HashSet::new(),
                page: begins,
                pieces: 0,
                records: 0,
                totals: Totals::default(),
                gap: Gap::default(),
                empty: 0,
                kept: false,
            };
            match request {
                Ok(request) => Ok((progress, request)),
                Err(e) => Err(self.unrendered(&e)),
            }
        };
        let mut novelty = Novelty::new(self.plan(), &self.run.names);
        let (mut at, mut request) = start()?;
        let (mut known_ahead, mut short) = (begins > 0, None);
        loop {
            let place = self.place(partition, at.page);
            let print = slice.print(&self.plan().paging, &request);
            if !at.seen.insert(print) {
                let fault = WalkFault::again(&self.plan().paging, "the same request comes again");
                return Err(trouble::walk(&fault, &place, &self.show(&request)));
            }
            let spot = Spot {
                in_pieces: true,
                is_later: at.page > begins,
                ..slice.spot(at.page, print, &place)
            };
            let kept = if replay {
                self.kept(&spot, size)?
            } else {
                None
            };
            let (mut got, mut digest) = match kept {
                Some(found) => {
                    let again = self.again_of(found, &request, &spot, size, committer);
                    again.await?
                }
                None => match self.ask_and_keep(&request, &spot, committer).await {
                    Ok(fetched) => {
                        let digest = self.digest(&fetched, size);
                        (Got::Fetched(Box::new(fetched)), digest)
                    }
                    // Tokens expire: what an earlier attempt was given may lead nowhere now. What
                    // has nothing to do with this very request is no reason to ask for all again.
                    Err(unfetched)
                        if at.kept
                            && unfetched.is_refused
                            && self.plan().paging.is_led()
                            && !self.is_paid() =>
                    {
                        self.tell_start_again(&place);
                        return Ok(Ended::Again);
                    }
                    Err(unfetched) if unfetched.is_too_large => {
                        *page = at.page;
                        return Ok(Ended::TooLarge(unfetched.failure));
                    }
                    Err(unfetched) if unfetched.is_expired => {
                        *page = at.page;
                        return Ok(Ended::Expired(unfetched.failure));
                    }
                    Err(unfetched) => return Err(unfetched.failure),
                },
            };
            at.kept = !matches!(got, Got::Fetched(_));
            if digest.is_split {
                self.hand_on(got, &digest, print, partition, committer, at.page)
                    .await?;
                *page = at.page + 1;
                return Ok(Ended::Split);
            }
            let mut next = self
                .after(&mut at.walk, &mut digest, &got, partition, &place)
                .map_err(|fault| fault.into_failure(&place, &self.show(&request)))?;
            got = self.edit(got, &spot).await?;
            let (mut url, mut misfit) = (request.url.clone(), None);
            if let (Got::Kept(row), Some(novelty)) = (&got, &mut novelty) {
                novelty.keep(*row);
            }
            if let Some(page) = got.at_hand() {
                let records = || page.kept().records();
                if page.large.is_none() {
                    misfit = self.judge_types(records(), partition, &place).err();
                }
                if let Some(failure) = misfit.take_if(|_| !self.is_paid()) {
                    return Err(failure);
                }
                // One that comes in pieces is known by its hash.
                if let Some(novelty) = &mut novelty
                    && page.large.is_none()
                    && !self.brings_new(novelty, page.kept(), partition).await?
                {
                    let fault = WalkFault::Loop("three pages brought no new key".to_owned());
                    return Err(trouble::walk(&fault, &place, &self.show(&request)));
                }
                if next != Next::End && self.is_past(records(), partition) {
                    digest.ended = true;
                    next = Next::End;
                }
                url = page.url.clone();
            }
            // Rendered before the page is kept: one that leads nowhere is asked for again by the
            // next attempt.
            let mut following = self.following(slice, &next, &url, &place)?;
            if !replay && at.page == 0 {
                // Not before the API has given the new beginning.
                let again = Staged {
                    partition: partition.ordinal,
                    page: 0,
                    what: What::Again,
                };
                committer.commit(again).await?;
            }
            match got {
                Got::Fetched(fetched) if let Some(large) = fetched.large.clone() => {
                    self.hand_on_pieces(*fetched, &large, &digest, &spot, committer)
                        .await?;
                }
                got => {
                    self.hand_on(got, &digest, print, partition, committer, at.page)
                        .await?;
                    self.hand_on_kept(&digest, &spot, committer).await?;
                }
            }
            let is_first = at.page == begins;
            // Pieces are pages of the part.
            let pieces = digest.pieces.saturating_sub(1);
            (at.page, at.pieces) = (at.page + pieces, at.pieces + pieces);
            // What was paid for is kept, whatever the columns make of it.
            if let Some(misfit) = misfit {
                return Err(misfit);
            }
            at.records += digest.count;
            if is_first {
                self.look_for_totals(&digest);
            }
            at.totals.add(self.told_total(&digest));
            at.gap.add(at.page, &digest);
            at.empty = if at.kept || digest.count > 0 {
                0
            } else {
                at.empty + 1
            };
            if at.empty >= MOST_EMPTY && next != Next::End {
                let shown = self.show(&request);
                return Err(trouble::walk(&WalkFault::Empty(at.empty), &place, &shown));
            }
            at.page += 1;
            if let Next::Many {
                to,
                first,
                step,
                count,
            } = next
            {
                // Known before they are asked for, so none of them has to be.
                if let Some(most) = self.plan().expect.max_pages
                    && u64::from(at.page - begins - at.pieces).saturating_add(count) > most
                {
                    return Err(self.too_many_pages(&place, most));
                }
                if !known_ahead {
                    self.expect_pages(u64::from(at.page - at.pieces).saturating_add(count));
                }
                known_ahead = true;
                let spread = Spread {
                    to,
                    first,
                    step,
                    count,
                    page: at.page,
                    is_kept: at.kept,
                };
                let last_position = spread.position(count - 1);
                let last = self
                    .clone()
                    .walk_spread(spread, slice, committer, &digest, replay)
                    .await;
                let last = match last {
                    Err(unfetched) if unfetched.is_too_large => {
                        *page = at.page;
                        return Ok(Ended::TooLarge(unfetched.failure));
                    }
                    Err(unfetched) if unfetched.is_expired => {
                        *page = at.page;
                        return Ok(Ended::Expired(unfetched.failure));
                    }
                    last => last?,
                };
                at.page += u32::try_from(count).unwrap_or(u32::MAX);
                at.records += last.records;
                at.totals.add(self.told_total(&last.digest));
                at.gap.also(last.gap);
                short = last.short;
                let others = last.records.saturating_sub(last.digest.count);
                at.walk.spread_to(last_position, count - 1, others);
                let place = self.place(partition, at.page - 1);
                next = if last.digest.ended {
                    Next::End
                } else {
                    at.walk
                        .after(&last.digest, true)
                        .map_err(|fault| trouble::walk(&fault, &place, &self.show(&request)))?
                };
                following = self.following(slice, &next, &url, &place)?;
            }
            if let Some(most) = self.plan().expect.max_pages
                && u64::from(at.page - begins - at.pieces) >= most
                && next != Next::End
                && !self.has_enough()
            {
                return Err(self.too_many_pages(&place, most));
            }
            request = match following {
                Some(following) if !self.has_enough() => following,
                _ => break,
            };
        }
        if !self.has_enough() {
            let is_short = short.as_ref().is_some_and(|short| {
                self.judge_short(partition, short, at.records, at.totals.last())
            });
            if !is_short {
                self.judge_totals(partition, at.records, at.totals);
                self.judge_gap(partition, at.gap, at.totals);
            }
        }
        if !known_ahead {
            self.expect_pages(u64::from(at.page - at.pieces));
        }
        *page = at.page;
        Ok(Ended::Whole)
    }

    /// The pages that an earlier attempt kept of a partition no longer lead on.
    fn tell_start_again(&self, place: &str) {
        self.emit(Fact::Noticed {
            stream: self.name.clone(),
            message: format!(
                "{place}: the API refuses what an earlier attempt was given; its partition is fetched from the start"
            ),
        });
    }

    /// Whether pages must be asked for one after the other.
    fn pages_in_turn(&self) -> bool {
        self.run.options.limit_records.is_some() || self.ends_early()
    }

    /// Whether the pipeline may end a walk before its last page.
    pub(super) fn ends_early(&self) -> bool {
        let plan = self.plan();
        plan.stop.is_some()
            || plan
                .cursor
                .as_ref()
                .is_some_and(|cursor| cursor.newest_first)
            || plan
                .responses
                .iter()
                .any(|rule| matches!(rule.then, Then::Stop))
    }

    pub(super) async fn hand_on(
        &self,
        got: Got,
        digest: &Digest,
        print: u64,
        partition: &Partition,
        committer: &Committer,
        page: u32,
    ) -> Result<(), Box<Failure>> {
        let kept = match &got {
            Got::Kept(row) => u64::from(row.records),
            Got::Fetched(page) | Got::Redone(page) => page.kept().count() as u64,
        };
        self.records.fetch_add(kept, Ordering::Relaxed);
        let what = match got {
            Got::Kept(row) => What::Kept(row),
            Got::Redone(page) => {
                // It was not fetched, and counts when it is committed.
                let facts = self.written(digest);
                What::New(Box::new(page.into_new(digest, print, facts)))
            }
            Got::Fetched(fetched) => {
                self.emit(Fact::PageFetched {
                    stream: self.name.clone(),
                    partition: u64::from(partition.ordinal),
                    page: u64::from(page),
                    records: kept,
                    bytes: fetched.size as u64,
                    took: fetched.took,
                });
                let facts = self.written(digest);
                What::New(Box::new(fetched.into_new(digest, print, facts)))
            }
        };
        let staged = Staged {
            partition: partition.ordinal,
            page,
            what,
        };
        // A writer that is gone has failed; its own error is told where it is awaited.
        committer.commit(staged).await?;
        self.arrived(partition.ordinal, page);
        Ok(())
    }
}
