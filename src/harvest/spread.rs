//! Pages of one partition whose addresses are known ahead, fetched side by side.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::commit::Committer;
use super::digest::Digest;
use super::outcome::Unfetched;
use super::pages::Got;
use super::partitions::Partition;
use super::slice::Slice;
use super::stream::Stream;
use super::trouble;
use super::walk::WalkFault;
use crate::failure::Exit;
use crate::plan::paging::Paging;
use crate::plan::request::{Param, Rendered, Slot, Turn};

/// Pages whose addresses are known ahead.
pub(super) struct Spread {
    pub(super) to: Slot,
    pub(super) first: i64,
    pub(super) step: i64,
    pub(super) count: u64,
    /// Ordinal of the first of them in the partition.
    pub(super) page: u32,
}

impl Spread {
    pub(super) fn position(&self, at: u64) -> i64 {
        self.first.saturating_add(
            self.step
                .saturating_mul(i64::try_from(at).unwrap_or(i64::MAX)),
        )
    }
}

/// What the pages came to.
pub(super) struct SpreadEnd {
    pub(super) digest: Digest,
    pub(super) records: u64,
    pub(super) short: Option<ShortPage>,
}

/// A page in the middle of a spread by offset that held fewer records than the first: what the
/// next offset passed over was never asked for.
pub(super) struct ShortPage {
    pub(super) page: u32,
    pub(super) count: u64,
    pub(super) first: u64,
}

impl Stream {
    /// Pages whose addresses are known, side by side; the digest of the last in order.
    pub(super) async fn walk_spread(
        self: Arc<Self>,
        spread: &Spread,
        slice: &Arc<Slice>,
        committer: &Committer,
        first: &Digest,
    ) -> Result<SpreadEnd, Unfetched> {
        let width = self.run.plan.source.concurrency.get();
        let mut tasks: JoinSet<Result<(u64, Digest, Rendered), Unfetched>> = JoinSet::new();
        let (mut started, mut records, mut end) = (0, 0, None);
        let mut short: Option<ShortPage> = None;
        let by_offset = matches!(self.plan().paging, Paging::Offset { .. });
        let mut contents = HashSet::from([first.content]);
        let mut stopped = None;
        loop {
            while stopped.is_none() && started < spread.count && tasks.len() < width {
                let turn = Turn::With(spread.to.clone(), Param::Number(spread.position(started)));
                let page = spread.page + u32::try_from(started).unwrap_or(u32::MAX);
                tasks.spawn(self.clone().fetch_one(
                    slice.clone(),
                    turn,
                    committer.clone(),
                    page,
                    started,
                ));
                started += 1;
            }
            let Some(done) = tasks.join_next().await else {
                break;
            };
            let (at, digest, request) = match done {
                Ok(Ok(done)) => done,
                // The others are in flight, or end by themselves as this one did.
                Ok(Err(one)) if one.failure.exit == Exit::Interrupted || self.is_paid() => {
                    stopped.get_or_insert(one);
                    continue;
                }
                Ok(Err(unfetched)) => {
                    // Nothing of this window may be handed on after it was found too large.
                    tasks.shutdown().await;
                    return Err(unfetched);
                }
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            let page = spread.page + u32::try_from(at).unwrap_or(u32::MAX);
            // The walk judges the last of them itself; single records can be alike by chance.
            if !contents.insert(digest.content) && digest.count > 1 {
                let fault = WalkFault::Loop(format!(
                    "page {} has the same records as another page",
                    u64::from(page) + 1
                ));
                return Err(trouble::walk(
                    &fault,
                    &self.place(&slice.partition, page),
                    &self.show(&request),
                )
                .into());
            }
            records += digest.count;
            if at + 1 == spread.count {
                end = Some(digest);
            } else if by_offset
                && (1..first.count).contains(&digest.count)
                && !digest.ended
                && short.as_ref().is_none_or(|known| page < known.page)
            {
                short = Some(ShortPage {
                    page,
                    count: digest.count,
                    first: first.count,
                });
            }
        }
        if let Some(failure) = stopped {
            return Err(failure);
        }
        let digest = end.unwrap_or(Digest {
            ended: true,
            ..Digest::default()
        });
        Ok(SpreadEnd {
            digest,
            records,
            short,
        })
    }

    async fn fetch_one(
        self: Arc<Self>,
        slice: Arc<Slice>,
        turn: Turn,
        committer: Committer,
        page: u32,
        at: u64,
    ) -> Result<(u64, Digest, Rendered), Unfetched> {
        let partition = &slice.partition;
        let request = slice.base.page(&turn).map_err(|e| self.unrendered(&e))?;
        let print = slice.print(&self.plan().paging, &request);
        let place = self.place(partition, page);
        let spot = slice.spot(page, print, &place);
        let (got, digest) = if let Some((found, digest)) = self.kept(&spot, None)? {
            (self.redo(found, &digest, &request, &spot).await?, digest)
        } else {
            let fetched = self.ask(&request, &spot).await?;
            let digest = self.digest(&fetched, None);
            let fetched = self.edit(fetched, &digest, &spot, &committer).await?;
            (Got::Fetched(Box::new(fetched)), digest)
        };
        self.hand_on(got, &digest, print, partition, &committer, page)
            .await?;
        Ok((at, digest, request))
    }

    /// Pages side by side are asked for as if all were alike. One that was not is no loss where
    /// the sum is right all the same. Says whether it was a loss, which holds the stream.
    pub(super) fn judge_short(
        &self,
        partition: &Partition,
        short: &ShortPage,
        records: u64,
        total: Option<u64>,
    ) -> bool {
        let Some(total) = total.filter(|total| records < *total) else {
            return false;
        };
        let place = self.place(partition, short.page);
        let own = format!("{}, ", self.name);
        let place = place.strip_prefix(&own).unwrap_or(&place);
        self.breaks(
            "total",
            total.to_string(),
            records.to_string(),
            &format!(
                "{place} held {} records where the first page held {}, and all pages together hold {records} of the {total} that the API tells of; without `total` in `pages` they come one after the other, and none is taken to be like the first",
                short.count, short.first
            ),
        );
        true
    }
}
