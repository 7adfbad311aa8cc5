//! The pages of one partition in turn; where the addresses of the rest are known ahead, they are
//! handed to `spread`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;

use super::attempt::Fetched;
use super::commit::{Committer, Staged};
use super::key::Novelty;
use super::partitions::Partition;
use super::run::interrupted;
use super::spread::Spread;
use super::stream::Stream;
use super::trouble;
use super::walk::{self, Next, PageFacts, Walk, WalkFault};
use crate::event::Fact;
use crate::failure::Failure;
use crate::plan::Then;
use crate::plan::paging::Paging;
use crate::plan::request::{Rendered, Slot, Turn};

/// What is kept of a page after it was handed on.
pub(super) struct Digest {
    pub(super) headers: HeaderMap,
    pub(super) wanted: Vec<Option<String>>,
    pub(super) count: u64,
    pub(super) last_record: Option<String>,
    pub(super) content: u64,
    pub(super) ended: bool,
}

impl Digest {
    pub(super) fn facts(&self) -> PageFacts<'_> {
        PageFacts {
            count: self.count,
            wanted: &self.wanted,
            headers: Some(&self.headers),
            last: self.last_record.as_deref(),
            content: self.content,
        }
    }
}

impl Stream {
    pub(super) async fn walk_partition(
        self: Arc<Self>,
        partition: Partition,
        committer: Committer,
    ) -> Result<(), Box<Failure>> {
        let partition = Arc::new(partition);
        let base = Arc::new(self.render(&partition)?);
        let size = asked_size(&self.plan().paging, &base);
        let in_turn = self.pages_in_turn();
        let mut walk = Walk::new(&self.plan().paging, size, in_turn);
        let mut seen = HashSet::new();
        let mut novelty = Novelty::new(self.plan(), &self.run.names);
        let mut request = base
            .page(&walk.first(self.start_token(&partition)?))
            .map_err(|e| self.unrendered(&e.message))?;
        let (mut page, mut records, mut total) = (0_u32, 0_u64, None);
        let (mut known_ahead, mut short) = (false, None);
        loop {
            let place = self.place(&partition, page);
            if !seen.insert(identity(&self.plan().paging, &request)) {
                let fault = WalkFault::Loop("the same request comes again".to_owned());
                return Err(trouble::walk(&fault, &place, &self.show(&request)));
            }
            let fetched = self.fetch(&request, &partition.variables, &place).await?;
            let url = fetched.url.clone();
            if let Some(novelty) = &mut novelty
                && !novelty
                    .judge(fetched.page.records(), &partition)
                    .map_err(|e| self.unrendered(&e.message))?
            {
                let fault = WalkFault::Loop("three pages brought no new key".to_owned());
                return Err(trouble::walk(&fault, &place, &self.show(&request)));
            }
            let (digest, next) = self
                .step(&mut walk, fetched, &partition, &committer, page, size)
                .await
                .map_err(|fault| fault.into_failure(&place, &self.show(&request)))?;
            records += digest.count;
            total = self.told_total(&digest).or(total);
            page += 1;
            let next = match next {
                Next::Many {
                    to,
                    first,
                    step,
                    count,
                } => {
                    // Known before they are asked for, so none of them has to be.
                    if let Some(most) = self.plan().expect.max_pages
                        && u64::from(page).saturating_add(count) > most
                    {
                        return Err(self.too_many_pages(&place, most));
                    }
                    self.expect_pages(u64::from(page).saturating_add(count));
                    known_ahead = true;
                    let spread = Spread {
                        to,
                        first,
                        step,
                        count,
                        page,
                    };
                    let last = self
                        .clone()
                        .walk_spread(&spread, &base, &partition, &committer, &digest)
                        .await?;
                    page += u32::try_from(count).unwrap_or(u32::MAX);
                    records += last.records;
                    total = self.told_total(&last.digest).or(total);
                    short = last.short;
                    walk.spread_to(spread.position(count - 1), count - 1);
                    let place = self.place(&partition, page - 1);
                    if last.digest.ended {
                        Next::End
                    } else {
                        walk.after(&last.digest.facts(), true)
                            .map_err(|fault| trouble::walk(&fault, &place, &self.show(&request)))?
                    }
                }
                next => next,
            };
            if let Some(most) = self.plan().expect.max_pages
                && u64::from(page) >= most
                && next != Next::End
                && !self.has_enough()
            {
                return Err(self.too_many_pages(&place, most));
            }
            request = match next {
                Next::End => break,
                _ if self.has_enough() => break,
                Next::One(turn) => base.page(&turn),
                Next::Url(reference) => {
                    let mut url = crate::fetch::origin::resolve(&url, &reference).map_err(|e| {
                        trouble::refused(&e.to_string(), e.hint().as_deref(), &place)
                    })?;
                    // Servers echo what they were asked with; loop guards and messages must not.
                    self.run.credentials.strip(&mut url);
                    base.page(&Turn::Url(url))
                }
                Next::Many { .. } => unreachable!("handed out above"),
            }
            .map_err(|e| self.unrendered(&e.message))?;
        }
        if !self.has_enough() {
            if let Some(short) = &short {
                self.judge_short(&partition, short, records, total)?;
            }
            self.judge_total(&partition, records, total)?;
        }
        if !known_ahead {
            self.expect_pages(u64::from(page));
        }
        self.emit(Fact::PartitionFinished {
            stream: self.name.clone(),
            partition: u64::from(partition.ordinal),
        });
        Ok(())
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

    /// Hands a page on and asks what follows.
    async fn step(
        &self,
        walk: &mut Walk<'_>,
        fetched: Fetched,
        partition: &Partition,
        committer: &Committer,
        page: u32,
        size: Option<u64>,
    ) -> Result<(Digest, Next), StepFault> {
        let digest = self.digest(&fetched, size);
        let mut next = if fetched.last {
            Next::End
        } else {
            walk.after(&digest.facts(), self.size_kept.load(Ordering::Relaxed))
                .map_err(StepFault::Walk)?
        };
        if next == Next::End
            && self.expect_total.is_some()
            && matches!(self.plan().paging, Paging::None { declared: false })
            && let Some(total) = self.told_total(&digest)
            && total > digest.count
        {
            return Err(StepFault::Walk(WalkFault::Forgotten(format!(
                "it tells of {total} records and holds {}",
                digest.count
            ))));
        }
        if let Some(stop) = &self.plan().stop
            && next != Next::End
        {
            let names = self.answer_names(
                fetched.status,
                &fetched.headers,
                &fetched.body,
                &partition.variables,
                1,
                Some(&fetched.page),
            );
            if stop.holds(&names).map_err(|e| {
                StepFault::Failure(trouble::rule("stop", &e, &self.place(partition, page)))
            })? {
                next = Next::End;
            }
        }
        if next != Next::End && self.is_past(fetched.page.records(), partition) {
            next = Next::End;
        }
        self.hand_on(fetched, partition, committer, page).await?;
        Ok((digest, next))
    }

    pub(super) fn digest(&self, fetched: &Fetched, size: Option<u64>) -> Digest {
        let count = fetched.page.count() as u64;
        if size.is_some_and(|size| count >= size) {
            self.size_kept.store(true, Ordering::Relaxed);
        }
        let keyset = matches!(self.plan().paging, Paging::Keyset { .. });
        Digest {
            headers: fetched.headers.clone(),
            wanted: fetched.page.wants.clone(),
            count,
            last_record: keyset
                .then(|| fetched.page.last().map(str::to_owned))
                .flatten(),
            content: content_hash(fetched.page.lines.as_bytes()),
            ended: fetched.last,
        }
    }

    pub(super) async fn hand_on(
        &self,
        fetched: Fetched,
        partition: &Partition,
        committer: &Committer,
        page: u32,
    ) -> Result<(), StepFault> {
        let records = fetched.page.count();
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.emit(Fact::PageFetched {
            stream: self.name.clone(),
            partition: u64::from(partition.ordinal),
            page: u64::from(page),
            records: records as u64,
            bytes: fetched.body.len() as u64,
            took: fetched.took,
        });
        let staged = Staged {
            partition: partition.ordinal,
            page,
            lines: fetched.page.lines.into_bytes(),
            records: u32::try_from(records).unwrap_or(u32::MAX),
            _reservation: fetched.reservation,
        };
        // A writer that is gone has failed; its own error is told where it is awaited.
        committer
            .commit(staged)
            .await
            .map_err(|_| StepFault::Failure(interrupted()))
    }

    /// How many records a page tells of: at `expect.total`, else where the paging reads it.
    pub(super) fn told_total(&self, digest: &Digest) -> Option<u64> {
        match self.expect_total {
            Some(at) => walk::whole(digest.wanted.get(at)?.as_deref()),
            None => walk::total(&self.plan().paging, &digest.wanted),
        }
    }

    /// A partition that holds less than the API says is not complete: `expect.total` makes that a
    /// failure; without it, it is told, unless the walk was meant to end early.
    fn judge_total(
        &self,
        partition: &Partition,
        records: u64,
        total: Option<u64>,
    ) -> Result<(), Box<Failure>> {
        let Some(total) = total.filter(|total| records < *total) else {
            return Ok(());
        };
        let label = partition.label();
        let of = if label.is_empty() {
            String::new()
        } else {
            format!(" of {label}")
        };
        let short = format!("the API tells of {total} records, but its pages held {records}");
        if self.expect_total.is_some() {
            return Err(self.held(&format!("{}{of}: {short}", self.name)));
        }
        if !self.ends_early() {
            self.emit(Fact::Noticed {
                stream: self.name.clone(),
                message: self
                    .run
                    .secrets
                    .scrub(&format!("{short}{of}; `expect.total` would hold them back")),
            });
        }
        Ok(())
    }
}

/// Why a page leads no further.
pub(super) enum StepFault {
    Walk(WalkFault),
    Failure(Box<Failure>),
}

impl StepFault {
    pub(super) fn into_failure(self, place: &str, request: &str) -> Box<Failure> {
        match self {
            Self::Walk(fault) => trouble::walk(&fault, place, request),
            Self::Failure(failure) => failure,
        }
    }
}

/// The page size that the request asks for.
pub(super) fn asked_size(paging: &Paging, request: &Rendered) -> Option<u64> {
    let (Paging::Page { size, .. } | Paging::Offset { size, .. } | Paging::Keyset { size, .. }) =
        paging
    else {
        return None;
    };
    request.get(size.as_ref()?)?.parse().ok()
}

/// What tells one request of a partition from another: a page number may travel in a header, which
/// the fingerprint leaves out.
fn identity(paging: &Paging, request: &Rendered) -> (u64, Option<String>) {
    let in_header = match paging {
        Paging::Page { to, .. }
        | Paging::Offset { to, .. }
        | Paging::Token { to, .. }
        | Paging::Keyset { to, .. }
            if matches!(to, Slot::Header(_)) =>
        {
            request.get(to)
        }
        _ => None,
    };
    (request.fingerprint(), in_header)
}

/// 64 bits over a page's records, for loop guards: two CRCs of halves, since a CRC costs next to
/// nothing and one alone would collide once in a few tens of thousands of pages.
fn content_hash(lines: &[u8]) -> u64 {
    let (left, right) = lines.split_at(lines.len() / 2);
    (u64::from(crc32c::crc32c(left)) << 32) | u64::from(crc32c::crc32c(right))
}
