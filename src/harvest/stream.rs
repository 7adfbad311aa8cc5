//! One stream: its partitions side by side, the pages of each in turn or, where their addresses
//! are known ahead, side by side too.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::HeaderMap;
use tokio::task::JoinSet;

use super::attempt::Fetched;
use super::commit::{Committed, Committer, Staged};
use super::partitions::{Partition, Source};
use super::run::Run;
use super::trouble;
use super::walk::{self, Next, PageFacts, Walk, WalkFault};
use crate::event::{Fact, Name};
use crate::failure::{Exit, Failure};
use crate::plan::paging::Paging;
use crate::plan::request::{Param, Rendered, Slot, Turn};
use crate::plan::{StreamPlan, Then};
use crate::records::select::Selector;
use crate::store::part::Part;

/// One stream of a run; shared by its tasks.
#[derive(Debug)]
pub(super) struct Stream {
    /// What all streams share.
    pub(super) run: Arc<Run>,
    /// Its name, for events.
    pub(super) name: Name,
    at: usize,
    selector: Selector,
    /// Where `expect.total` stands among the wanted values.
    expect_total: Option<usize>,
    /// Whether the API has shown that it gives as many records as asked.
    size_kept: AtomicBool,
    expected: Expected,
    records: AtomicU64,
}

/// How many pages are known to come.
#[derive(Debug, Default)]
struct Expected {
    pages: AtomicU64,
    /// Partitions whose number of pages is known.
    known: AtomicU64,
    /// Partitions seen so far; all of them once `enumerated`.
    partitions: AtomicU64,
    enumerated: AtomicBool,
}

/// What is kept of a page after it was handed on.
struct Digest {
    headers: HeaderMap,
    wanted: Vec<Option<String>>,
    count: u64,
    last_record: Option<String>,
    content: u64,
    ended: bool,
}

impl Digest {
    fn facts(&self) -> PageFacts<'_> {
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
    /// The stream at this place of the plan.
    pub(super) fn new(run: Arc<Run>, at: usize) -> Self {
        let plan = &run.plan.streams[at];
        let wants = walk::wants(&plan.paging, plan.expect.total.as_ref());
        let selector = Selector::new(&plan.records.path, plan.records.optional, &wants);
        let expect_total = plan.expect.total.as_ref().map(|_| wants.len() - 1);
        let name = plan.name.as_str().into();
        Self {
            at,
            name,
            selector,
            expect_total,
            size_kept: AtomicBool::new(false),
            expected: Expected::default(),
            records: AtomicU64::new(0),
            run,
        }
    }

    /// Its plan.
    pub(super) fn plan(&self) -> &StreamPlan {
        &self.run.plan.streams[self.at]
    }

    /// Finds records and wanted values in its pages.
    pub(super) fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Says that something happened.
    pub(super) fn emit(&self, fact: Fact) {
        self.run.world.events.emit(fact);
    }

    /// A request for people.
    pub(super) fn show(&self, request: &Rendered) -> String {
        format!("{} {}", request.method, self.run.show_url(&request.url))
    }

    /// Walks all partitions into `part`.
    pub(super) async fn walk(self: Arc<Self>, part: Part) -> Result<Committed, Box<Failure>> {
        let (committer, writer) =
            Committer::start(part, self.name.clone(), self.run.world.events.clone());
        let walked = self.clone().walk_partitions(committer).await;
        let staged = match writer.await {
            Ok(written) => written.map_err(|e| super::publish::disk_failure(&e))?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        walked.map(|()| staged)
    }

    async fn walk_partitions(self: Arc<Self>, committer: Committer) -> Result<(), Box<Failure>> {
        // With a record limit pages come one by one, so that no more than needed are asked for.
        let width = if self.run.options.limit_records.is_some() {
            1
        } else {
            self.run.plan.source.concurrency.get()
        };
        let mut walk = Source::new(
            &self.plan().partitions,
            &self.run.names,
            &self.run.world.root,
        )
        .walk(&self.run.files)
        .peekable();
        let mut tasks: JoinSet<Result<(), Box<Failure>>> = JoinSet::new();
        loop {
            while tasks.len() < width && !self.has_enough() {
                let Some(partition) = walk.next() else { break };
                let partition = partition.map_err(|e| super::open_failure(&self.name, &e))?;
                self.expected.partitions.fetch_add(1, Ordering::Relaxed);
                if walk.peek().is_none() {
                    self.expected.enumerated.store(true, Ordering::Relaxed);
                }
                tasks.spawn(self.clone().walk_partition(partition, committer.clone()));
            }
            match tasks.join_next().await {
                None => return Ok(()),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => return Err(failure),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }

    fn has_enough(&self) -> bool {
        self.run
            .options
            .limit_records
            .is_some_and(|most| self.records.load(Ordering::Relaxed) >= most)
    }

    /// The request of a partition, before paging.
    fn render(&self, partition: &Partition) -> Result<Rendered, Box<Failure>> {
        let names = self.run.names.request(&partition.variables);
        self.plan()
            .request
            .render(&self.run.base, &names)
            .map_err(|e| self.unrendered(&e.message))
    }

    fn unrendered(&self, message: &str) -> Box<Failure> {
        Box::new(Failure {
            exit: Exit::Failed,
            message: self.run.secrets.scrub(&format!("{}: {message}", self.name)),
            causes: Vec::new(),
            hint: None,
        })
    }

    /// The first page of the first partition, for `preview`.
    pub(super) async fn first_page(&self) -> Result<Vec<String>, Box<Failure>> {
        let mut walk = Source::new(
            &self.plan().partitions,
            &self.run.names,
            &self.run.world.root,
        )
        .walk(&self.run.files);
        let Some(partition) = walk.next() else {
            return Ok(Vec::new());
        };
        let partition = partition.map_err(|e| super::open_failure(&self.name, &e))?;
        let base = self.render(&partition)?;
        let turn = Walk::new(&self.plan().paging, None, true).first(self.start_token(&partition)?);
        let request = base.page(&turn).map_err(|e| self.unrendered(&e.message))?;
        let fetched = self
            .fetch(&request, &partition.variables, &self.place(&partition, 0))
            .await?;
        Ok(fetched.page.records().map(str::to_owned).collect())
    }

    fn start_token(&self, partition: &Partition) -> Result<Option<String>, Box<Failure>> {
        match &self.plan().paging {
            Paging::Token {
                start: Some(start), ..
            } => {
                let names = self.run.names.request(&partition.variables);
                start
                    .text(&names)
                    .map(Some)
                    .map_err(|e| self.unrendered(&format!("`pages.token.start`: {e}")))
            }
            _ => Ok(None),
        }
    }

    fn place(&self, partition: &Partition, page: u32) -> String {
        let label = partition.label();
        let of = if label.is_empty() {
            String::new()
        } else {
            format!(" of {label}")
        };
        self.run
            .secrets
            .scrub(&format!("{}, page {}{of}", self.name, page + 1))
    }

    async fn walk_partition(
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
        let mut request = base
            .page(&walk.first(self.start_token(&partition)?))
            .map_err(|e| self.unrendered(&e.message))?;
        let (mut page, mut records, mut total) = (0_u32, 0_u64, None);
        let mut known_ahead = false;
        loop {
            let place = self.place(&partition, page);
            if !seen.insert(identity(&self.plan().paging, &request)) {
                let fault = WalkFault::Loop("the same request comes again".to_owned());
                return Err(trouble::walk(&fault, &place, &self.show(&request)));
            }
            let fetched = self.fetch(&request, &partition.variables, &place).await?;
            let url = fetched.url.clone();
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
                    let url = crate::fetch::origin::resolve(&url, &reference)
                        .map_err(|e| trouble::refused(&e.to_string(), &place))?;
                    base.page(&Turn::Url(url))
                }
                Next::Many { .. } => unreachable!("handed out above"),
            }
            .map_err(|e| self.unrendered(&e.message))?;
        }
        if !self.has_enough() {
            self.judge_total(&partition, records, total)?;
        }
        self.expect_pages_were(u64::from(page), !known_ahead);
        self.emit(Fact::PartitionFinished {
            stream: self.name.clone(),
            partition: u64::from(partition.ordinal),
        });
        Ok(())
    }

    /// Whether pages must be asked for one after the other: something may end the walk early.
    fn pages_in_turn(&self) -> bool {
        let plan = self.plan();
        self.run.options.limit_records.is_some()
            || plan.stop.is_some()
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
        {
            if let Some(total) = self
                .told_total(&digest)
                .filter(|total| *total > digest.count)
            {
                return Err(StepFault::Walk(WalkFault::Forgotten(format!(
                    "it tells of {total} records and holds {}",
                    digest.count
                ))));
            }
        }
        if let Some(stop) = &self.plan().stop
            && next != Next::End
        {
            let names = self.answer_names(
                &fetched.status,
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
        self.hand_on(fetched, partition, committer, page).await?;
        Ok((digest, next))
    }

    fn digest(&self, fetched: &Fetched, size: Option<u64>) -> Digest {
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

    async fn hand_on(
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
            .map_err(|_| StepFault::Failure(self.run.interrupted()))
    }

    /// Pages whose addresses are known, side by side; the digest of the last in order.
    async fn walk_spread(
        self: Arc<Self>,
        spread: &Spread,
        base: &Arc<Rendered>,
        partition: &Arc<Partition>,
        committer: &Committer,
        first: &Digest,
    ) -> Result<SpreadEnd, Box<Failure>> {
        let width = self.run.plan.source.concurrency.get();
        let mut tasks: JoinSet<Result<(u64, Digest, String), Box<Failure>>> = JoinSet::new();
        let (mut started, mut records, mut end) = (0, 0, None);
        let mut contents = HashSet::from([first.content]);
        loop {
            while started < spread.count && tasks.len() < width {
                let turn = Turn::With(spread.to.clone(), Param::Number(spread.position(started)));
                let page = spread.page + u32::try_from(started).unwrap_or(u32::MAX);
                tasks.spawn(self.clone().fetch_one(
                    base.clone(),
                    turn,
                    partition.clone(),
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
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            // The walk judges the last of them itself; single records can be alike by chance.
            if !contents.insert(digest.content) && digest.count > 1 {
                let fault = WalkFault::Loop(format!(
                    "page {} has the same records as another page",
                    u64::from(spread.page) + at + 1
                ));
                return Err(trouble::walk(
                    &fault,
                    &self.place(partition, spread.page),
                    &request,
                ));
            }
            records += digest.count;
            if at + 1 == spread.count {
                end = Some(digest);
            }
        }
        let digest = end.unwrap_or(Digest {
            headers: HeaderMap::new(),
            wanted: Vec::new(),
            count: 0,
            last_record: None,
            content: 0,
            ended: true,
        });
        Ok(SpreadEnd { digest, records })
    }

    async fn fetch_one(
        self: Arc<Self>,
        base: Arc<Rendered>,
        turn: Turn,
        partition: Arc<Partition>,
        committer: Committer,
        page: u32,
        at: u64,
    ) -> Result<(u64, Digest, String), Box<Failure>> {
        let request = base.page(&turn).map_err(|e| self.unrendered(&e.message))?;
        let place = self.place(&partition, page);
        let fetched = self.fetch(&request, &partition.variables, &place).await?;
        let digest = self.digest(&fetched, None);
        let shown = self.show(&request);
        self.hand_on(fetched, &partition, &committer, page)
            .await
            .map_err(|fault| fault.into_failure(&place, &shown))?;
        Ok((at, digest, shown))
    }

    fn told_total(&self, digest: &Digest) -> Option<u64> {
        walk::whole(digest.wanted.get(self.expect_total?)?.as_deref())
    }

    /// `expect.total`: a partition that holds less than the API says is not complete.
    fn judge_total(
        &self,
        partition: &Partition,
        records: u64,
        total: Option<u64>,
    ) -> Result<(), Box<Failure>> {
        if self.expect_total.is_none() {
            return Ok(());
        }
        let label = partition.label();
        let of = if label.is_empty() {
            String::new()
        } else {
            format!(" of {label}")
        };
        match total {
            Some(total) if records < total => Err(self.held(&format!(
                "{}{of}: the API tells of {total} records, but its pages held {records}",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    fn too_many_pages(&self, place: &str, most: u64) -> Box<Failure> {
        self.held(&format!(
            "{place}: reached `expect.max_pages: {most}` and there are more"
        ))
    }

    /// A check that does not hold: the data are complete as far as we know, but not published.
    pub(super) fn held(&self, message: &str) -> Box<Failure> {
        Box::new(Failure {
            exit: Exit::Held,
            message: self.run.secrets.scrub(message),
            causes: Vec::new(),
            hint: Some(
                "the old file stays; look at the API, then correct `expect` or `pages`".to_owned(),
            ),
        })
    }

    /// A partition's number of pages became known ahead.
    fn expect_pages(&self, pages: u64) {
        self.expected.pages.fetch_add(pages, Ordering::Relaxed);
        self.tell_expected();
    }

    /// A partition is walked; where its pages were not known ahead they are now.
    fn expect_pages_were(&self, pages: u64, unknown: bool) {
        if unknown {
            self.expected.pages.fetch_add(pages, Ordering::Relaxed);
        }
        self.expected.known.fetch_add(1, Ordering::Relaxed);
        self.tell_expected();
    }

    fn tell_expected(&self) {
        let e = &self.expected;
        let complete = e.enumerated.load(Ordering::Relaxed)
            && e.known.load(Ordering::Relaxed) == e.partitions.load(Ordering::Relaxed);
        self.emit(Fact::PagesExpected {
            stream: self.name.clone(),
            pages: e.pages.load(Ordering::Relaxed),
            complete,
        });
    }
}

/// Pages whose addresses are known ahead.
struct Spread {
    to: Slot,
    first: i64,
    step: i64,
    count: u64,
    /// Ordinal of the first of them in the partition.
    page: u32,
}

impl Spread {
    fn position(&self, at: u64) -> i64 {
        self.first.saturating_add(
            self.step
                .saturating_mul(i64::try_from(at).unwrap_or(i64::MAX)),
        )
    }
}

struct SpreadEnd {
    digest: Digest,
    records: u64,
}

enum StepFault {
    Walk(WalkFault),
    Failure(Box<Failure>),
}

impl StepFault {
    fn into_failure(self, place: &str, request: &str) -> Box<Failure> {
        match self {
            Self::Walk(fault) => trouble::walk(&fault, place, request),
            Self::Failure(failure) => failure,
        }
    }
}

/// The page size that the request asks for.
fn asked_size(paging: &Paging, request: &Rendered) -> Option<u64> {
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
