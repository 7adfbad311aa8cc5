//! Pages of one partition whose addresses are known ahead, fetched side by side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Got;
use super::digest::Digest;
use super::gap::Gap;
use super::walk::WalkFault;
use crate::failure::Exit;
use crate::harvest::attempt::outcome::Unfetched;
use crate::harvest::commit::Committer;
use crate::harvest::partitions::Partition;
use crate::harvest::partitions::slice::Slice;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::plan::paging::Paging;
use crate::plan::request::{Param, Rendered, Slot, Turn};

/// Pages whose addresses are known ahead.
pub(in crate::harvest) struct Spread {
    pub(in crate::harvest) to: Slot,
    pub(in crate::harvest) first: i64,
    pub(in crate::harvest) step: i64,
    pub(in crate::harvest) count: u64,
    /// Ordinal of the first of them in the partition.
    pub(in crate::harvest) page: u32,
    /// Whether an earlier attempt has kept the page before them, which told of them.
    pub(in crate::harvest) is_kept: bool,
}

impl Spread {
    pub(in crate::harvest) fn position(&self, at: u64) -> i64 {
        self.first.saturating_add(
            self.step
                .saturating_mul(i64::try_from(at).unwrap_or(i64::MAX)),
        )
    }
}

/// What the pages came to.
pub(in crate::harvest) struct SpreadEnd {
    pub(in crate::harvest) digest: Digest,
    pub(in crate::harvest) records: u64,
    pub(in crate::harvest) short: Option<ShortPage>,
    pub(in crate::harvest) gap: Gap,
}

/// A page in the middle of a spread by offset that held fewer records than the first: what the
/// next offset passed over was never asked for.
pub(in crate::harvest) struct ShortPage {
    pub(in crate::harvest) page: u32,
    pub(in crate::harvest) count: u64,
    pub(in crate::harvest) first: u64,
}

/// What those who fetch a spread side by side share.
struct Ahead {
    spread: Spread,
    slice: Arc<Slice>,
    committer: Committer,
    /// Whether what an earlier attempt kept counts.
    replay: bool,
    /// The first page that nobody has taken.
    next: AtomicU64,
    /// The pages so far by their records, that before the spread among them.
    contents: Mutex<HashMap<u64, Option<KeptAt>>>,
    /// Whether no more are to be begun.
    is_over: AtomicBool,
}

/// Where a page stands that an earlier attempt has kept.
#[derive(Debug, Clone, Copy)]
struct KeptAt {
    /// Its ordinal in the partition.
    page: u32,
    /// The number by which it is asked for.
    position: i64,
}

impl Ahead {
    /// Whether no page had the same records; else where it stands, if it was kept. Single records
    /// can be alike by chance.
    fn is_new(&self, digest: &Digest, kept_at: Option<KeptAt>) -> Result<(), Option<KeptAt>> {
        if digest.count < 2 {
            return Ok(());
        }
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = contents.get(&digest.content) {
            return Err(*other);
        }
        contents.insert(digest.content, kept_at);
        Ok(())
    }
}

/// What came of a page: where it stands in the spread.
type Done = Result<(u64, Digest), Unfetched>;

impl Stream {
    /// Pages whose addresses are known, side by side; the digest of the last in order.
    pub(in crate::harvest) async fn walk_spread(
        self: Arc<Self>,
        spread: Spread,
        slice: &Arc<Slice>,
        committer: &Committer,
        first: &Digest,
        replay: bool,
    ) -> Result<SpreadEnd, Unfetched> {
        let (first_page, count) = (spread.page, spread.count);
        // A spread goes on from the very first page.
        let told_of_it = spread.is_kept.then(|| KeptAt {
            page: first_page.saturating_sub(1),
            position: spread.first.saturating_sub(spread.step),
        });
        let width = self.run.plan.source.concurrency.get();
        let width = width.min(usize::try_from(count).unwrap_or(usize::MAX));
        let (told, mut hears) = mpsc::channel(width.max(1));
        let ahead = Arc::new(Ahead {
            spread,
            slice: slice.clone(),
            committer: committer.clone(),
            replay,
            next: AtomicU64::new(0),
            contents: Mutex::new(HashMap::from([(first.content, told_of_it)])),
            is_over: AtomicBool::new(false),
        });
        // One task fetches page after page: a task for every page costs as much as parsing one.
        let mut tasks = JoinSet::new();
        for _ in 0..width {
            tasks.spawn(self.clone().fetch_ahead(ahead.clone(), told.clone()));
        }
        drop(told);
        let (mut records, mut end) = (0, None);
        let mut short: Option<ShortPage> = None;
        let by_offset = matches!(self.plan().paging, Paging::Offset { .. });
        let mut gap = Gap::default();
        let mut stopped = None;
        loop {
            let done = tokio::select! {
                biased;
                done = hears.recv() => done,
                Some(ended) = tasks.join_next() => {
                    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                    continue;
                }
            };
            let (at, digest) = match done {
                None => break,
                Some(Ok(done)) => done,
                // The others are in flight, or end by themselves as this one did.
                Some(Err(one)) if one.failure.exit == Exit::Interrupted || self.is_paid() => {
                    stopped.get_or_insert(one);
                    continue;
                }
                Some(Err(unfetched)) => {
                    // Nothing of this window may be handed on after it was found too large.
                    tasks.shutdown().await;
                    return Err(unfetched);
                }
            };
            let page = first_page + u32::try_from(at).unwrap_or(u32::MAX);
            gap.add(page, &digest);
            records += digest.count;
            if at + 1 == count {
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
        // Who has told the last of it may have failed after that.
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
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
            gap,
        })
    }

    /// Fetches one page after the other until none is left, or one fails.
    async fn fetch_ahead(self: Arc<Self>, ahead: Arc<Ahead>, told: mpsc::Sender<Done>) {
        while !ahead.is_over.load(Ordering::Relaxed) {
            let at = ahead.next.fetch_add(1, Ordering::Relaxed);
            if at >= ahead.spread.count {
                return;
            }
            let done = self.fetch_one(&ahead, at).await;
            if done.is_err() {
                ahead.is_over.store(true, Ordering::Relaxed);
            }
            if told.send(done).await.is_err() {
                return;
            }
        }
    }

    async fn fetch_one(self: &Arc<Self>, ahead: &Ahead, at: u64) -> Done {
        let Ahead {
            spread,
            slice,
            committer,
            ..
        } = ahead;
        let position = spread.position(at);
        let turn = Turn::With(spread.to.clone(), Param::Number(position));
        let page = spread.page + u32::try_from(at).unwrap_or(u32::MAX);
        let partition = &slice.partition;
        let request = slice.base.page(&turn).map_err(|e| self.unrendered(&e))?;
        let print = slice.print(&self.plan().paging, &request);
        let place = self.place(partition, page);
        let spot = slice.spot(page, print, &place);
        let kept = match self.kept(&spot, None)? {
            Some(found) if ahead.replay => {
                let again = self.again_of(found, &request, &spot, None, committer);
                Some(again.await?)
            }
            _ => None,
        };
        let (got, digest) = match kept {
            // One that is a copy of another may have been wrong when it was kept.
            Some((got, digest))
                if self.is_paid()
                    || (ahead.is_new(&digest, Some(KeptAt { page, position }))).is_ok() =>
            {
                (got, digest)
            }
            _ => {
                let fetched = self.ask_and_keep(&request, &spot, committer).await?;
                let digest = self.digest(&fetched, None);
                // Judged before it is kept, so that the next attempt asks for it anew.
                if !self.is_paid()
                    && let Err(other) = ahead.is_new(&digest, None)
                {
                    return Err(self.copied(ahead, other, &digest, &request, &place).await);
                }
                (Got::Fetched(Box::new(fetched)), digest)
            }
        };
        let got = self.edit(got, &spot).await?;
        self.hand_on(got, &digest, print, partition, committer, page)
            .await?;
        // What was paid for is kept all the same.
        if self.is_paid() && ahead.is_new(&digest, None).is_err() {
            return Err(self.copied(ahead, None, &digest, &request, &place).await);
        }
        Ok((at, digest))
    }

    /// A page has the same records as another. Where that one was kept by an earlier attempt it may
    /// have been the wrong one: it is asked for again, and if it is another now, so may all be that
    /// was kept of the partition.
    async fn copied(
        &self,
        ahead: &Ahead,
        other: Option<KeptAt>,
        digest: &Digest,
        request: &Rendered,
        place: &str,
    ) -> Unfetched {
        let fault = WalkFault::Loop("it has the same records as another page".to_owned());
        let failure = trouble::walk(&fault, place, &self.show(request));
        let Some(KeptAt { page, position }) = other else {
            return failure.into();
        };
        let Ahead { spread, slice, .. } = ahead;
        let turn = Turn::With(spread.to.clone(), Param::Number(position));
        let Ok(request) = slice.base.page(&turn) else {
            return failure.into();
        };
        let print = slice.print(&self.plan().paging, &request);
        let place = self.place(&slice.partition, page);
        match self.ask(&request, &slice.spot(page, print, &place)).await {
            Ok(now) => Unfetched {
                is_expired: self.digest(&now, None).content != digest.content,
                ..failure.into()
            },
            Err(unfetched) => unfetched,
        }
    }

    /// Pages side by side are asked for as if all were alike. One that was not is no loss where
    /// the sum is right all the same. Says whether it was a loss, which holds the stream.
    pub(in crate::harvest) fn judge_short(
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
