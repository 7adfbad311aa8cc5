//! One stream: its partitions side by side, the pages of each in turn or, where their addresses
//! are known ahead, side by side too.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::answer::edit::Found;
use super::answer::mistakes::Unrendered;
use super::attempt::once::Spot;
use super::attempt::ready::Resting;
use super::attempt::sendings::Sendings;
use super::checks::Checks;
use super::commit::{Committer, GROUP_TIME};
use super::crew::Crew;
use super::pages::digest::Digest;
use super::pages::drift;
use super::pages::more;
use super::pages::walk;
use super::partitions::feed::FedPage;
use super::partitions::windows::Windows;
use super::partitions::{Partition, Source};
use super::run::Run;
use crate::event::{Fact, Name};
use crate::failure::{Exit, Failure};
use crate::fetch::large::Spill;
use crate::plan::language::{Expr, Template};
use crate::plan::paging::Paging;
use crate::plan::path::Path;
use crate::plan::request::{BodyPlan, RenderProblem, Rendered};
use crate::plan::{Pause, StreamPlan, Then};
use crate::records::format::Reader;
use crate::records::select::Selector;
use crate::store::StoreError;
use crate::store::bodies::Bodies;
use crate::store::recall::Recall;
use crate::store::stream::StreamStore;

/// One stream of a run; shared by its tasks.
#[derive(Debug)]
pub(super) struct Stream {
    /// What all streams share.
    pub(super) run: Arc<Run>,
    /// Its name, for events.
    pub(super) name: Name,
    /// Its place in the plan.
    pub(super) at: usize,
    /// Reads its answers.
    pub(super) reader: Arc<Reader>,
    /// Where `expect.total` stands among the wanted values.
    pub(super) expect_total: Option<usize>,
    /// Where an answer may show that there is another page, or that it is no data; looked up behind
    /// all other wanted values.
    pub(super) signs: Vec<Path>,
    /// Names of the members of the first record that came in an array.
    pub(super) like: OnceLock<Vec<String>>,
    /// Words for people that stood beside the first records that came: they say nothing of one page.
    pub(super) words: OnceLock<Option<String>>,
    /// What of `expect` does not hold.
    pub(super) checks: Checks,
    /// What partitions told of, until repeats are known.
    pub(super) told: drift::Told,
    /// Whether a condition looks at `text`: the whole body as text is made only then.
    pub(super) reads_text: bool,
    /// Whether anyone looks into a good answer's body after its records were taken; else these take
    /// its place, and it is empty.
    pub(super) rereads_bodies: bool,
    /// Whether the API has shown that it gives as many records as asked.
    pub(super) size_kept: AtomicBool,
    /// Whether records were tried against the types of their columns.
    pub(super) types_tried: AtomicBool,
    /// Where answers go that are too large for memory.
    pub(super) bodies: Option<Arc<dyn Spill>>,
    expected: Expected,
    pub(super) records: AtomicU64,
    /// Pages that an earlier attempt committed.
    recall: Option<Recall>,
    /// Places of its partitions in canonical order, by number, once they are known.
    places: OnceLock<Vec<Option<u32>>>,
    /// Partitions that wait for what is not ready.
    pub(super) resting: Resting,
    /// Requests whose answers may have been kept.
    pub(super) asked: Mutex<HashSet<u64>>,
    /// What it has sent, where a repeat would act or cost.
    pub(super) sendings: Option<Sendings>,
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

impl Stream {
    /// The stream at this place of the plan.
    pub(super) fn new(run: Arc<Run>, at: usize) -> Self {
        let plan = &run.plan.streams[at];
        let mut wants = walk::wants(&plan.paging, plan.expect.total.as_ref());
        let expect_total = plan.expect.total.as_ref().map(|_| wants.len() - 1);
        // What was paid for is not thrown away for a word beside it.
        let signs = if plan.request.once.acts() {
            Vec::new()
        } else {
            more::places(&plan.records.path)
        };
        wants.extend(&signs);
        let name = plan.name.as_str().into();
        let conditions = plan.responses.iter().map(|rule| &rule.when);
        let signals = run
            .plan
            .source
            .limits
            .iter()
            .flat_map(|limit| limit.signals.expressions());
        let conditions = conditions.chain(&plan.stop).chain(signals);
        let words = plan.responses.iter().filter_map(|rule| match &rule.then {
            Then::Fail(text) => text.as_ref(),
            Then::Wait(Pause::Said(text)) => Some(text),
            _ => None,
        });
        let names = conditions
            .flat_map(Expr::names)
            .chain(words.flat_map(Template::names));
        let roots: HashSet<String> = names
            .filter_map(|name| name.path.into_iter().next())
            .collect();
        let reads_text = roots.contains("text");
        let reads_body = roots.contains("body");
        let reader = Reader::new(&plan.records, &plan.format, &wants, reads_body);
        Self {
            at,
            name,
            reader: Arc::new(reader),
            expect_total,
            signs,
            checks: Checks::default(),
            told: drift::Told::default(),
            like: OnceLock::new(),
            words: OnceLock::new(),
            reads_text,
            rereads_bodies: !plan.responses.is_empty()
                || plan.keeps_raw
                || plan.request.once.acts()
                || plan.stop.is_some()
                || plan.conditional
                || matches!(plan.request.body, BodyPlan::Graphql { .. }),
            size_kept: AtomicBool::new(false),
            types_tried: AtomicBool::new(false),
            bodies: None,
            expected: Expected::default(),
            records: AtomicU64::new(0),
            recall: None,
            places: OnceLock::new(),
            resting: Resting::default(),
            asked: Mutex::default(),
            sendings: None,
            run,
        }
    }

    /// Goes on where an earlier attempt ended, if there was one.
    pub(super) fn recalling(mut self, recall: Recall) -> Self {
        self.recall = (!recall.is_empty()).then_some(recall);
        self
    }

    /// Lets answers be too large for memory.
    pub(super) fn with_bodies(mut self, bodies: Bodies) -> Self {
        self.bodies = Some(Arc::new(bodies));
        self
    }

    /// Whether an earlier attempt committed some of its pages.
    pub(super) fn is_continued(&self) -> bool {
        self.recall.is_some()
    }

    /// A page that an earlier attempt committed, if it was asked for as it would be now.
    ///
    /// One whose row would have held a secret was written without what leads on from it, and is
    /// asked for again. A row that cannot be read back is an error: to ask for its page instead
    /// would go on over a disk that loses what is committed.
    pub(super) fn kept(
        &self,
        spot: &Spot<'_>,
        size: Option<u64>,
    ) -> Result<Option<Found>, Box<Failure>> {
        let Some(recall) = &self.recall else {
            return Ok(None);
        };
        let (Spot { page, print, .. }, reading) = (*spot, self.reading());
        let mut is_there = false;
        for row in recall.find(spot.partition.ordinal, page) {
            let mut written = recall.page(&row).map_err(StoreError::into_failure)?;
            if written.request != print || written.facts.is_empty() {
                return Ok(None);
            }
            if let Some(came) = written.facts.came.take() {
                if reading.is_some() {
                    return Ok(Some(Found::AsItCame(row, came)));
                }
                // Of what nobody paid for the pages count.
                continue;
            }
            let Some(digest) = Digest::of(&written) else {
                let error = recall.unread(&row, "a page without what leads on from it");
                return Err(error.into_failure());
            };
            if written.facts.reading != reading && !digest.is_split {
                is_there = true;
                continue;
            }
            self.learn(&digest, size);
            // What `transform` makes of records is not what comes.
            if let Some(like) = &digest.like {
                self.like.get_or_init(|| like.clone());
            } else if digest.count > 1
                && self.like.get().is_none()
                && self.plan().transform.is_empty()
            {
                let records = recall.records(&row).map_err(StoreError::into_failure)?;
                self.liken(records.split_terminator('\n').next());
            }
            return Ok(Some(Found::Page(row, digest)));
        }
        if is_there {
            return Err(self.came_otherwise(spot.text));
        }
        Ok(None)
    }

    /// Its plan.
    pub(super) fn plan(&self) -> &StreamPlan {
        &self.run.plan.streams[self.at]
    }

    /// What its partitions ask for, if it has a cursor.
    pub(super) fn windows(&self) -> Option<&Windows> {
        self.run.windows.get(self.at)?.as_ref()
    }

    /// Finds records in what is JSON already.
    pub(super) fn selector(&self) -> &Selector {
        self.reader.selector()
    }

    /// Says that something happened.
    pub(super) fn emit(&self, fact: Fact) {
        self.run.world.events.emit(fact);
    }

    /// A request for people.
    pub(super) fn show(&self, request: &Rendered) -> String {
        format!("{} {}", request.method, self.run.show_url(&request.url))
    }

    /// Walks all partitions into `store`, and tells its children of it.
    pub(super) async fn walk(
        self: Arc<Self>,
        store: StreamStore,
    ) -> Result<StreamStore, Box<Failure>> {
        // What was paid for is brought to the disk as soon as it can be.
        let patience = if self.is_paid() {
            Duration::ZERO
        } else {
            GROUP_TIME
        };
        let feed = self.run.family.feed(&self.name).cloned();
        if let Some(feed) = &feed {
            let names = store.scratch().map_err(StoreError::into_failure)?;
            feed.open(store.part().file().clone(), names);
        }
        let (committer, writer) = Committer::start(
            store,
            self.name.clone(),
            patience,
            self.run.world.clock,
            self.run.world.events.clone(),
            feed.clone(),
        );
        let is_child = self.plan().parents().next().is_some();
        let walked = if is_child {
            self.clone().walk_children(committer).await
        } else {
            let walked = self.clone().walk_partitions(committer).await;
            walked.map(|()| Vec::new())
        };
        let settled = self.attempts_settled().await;
        let staged = match writer.await {
            Ok(written) => written.map_err(StoreError::into_failure)?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let mut staged = staged;
        let places = walked?;
        settled?;
        self.judge_left()?;
        let place = |number: u32| match places.get(number as usize) {
            Some(place) => *place,
            None if is_child => None,
            None => Some(number),
        };
        if let Some(feed) = &feed {
            // Under their numbers, in the order of their places.
            let rows = staged.index().rows().iter().filter(|row| row.records > 0);
            let rows = rows.filter_map(|row| Some((place(row.partition)?, row)));
            let mut rows: Vec<_> = rows.collect();
            rows.sort_unstable_by_key(|(place, row)| (*place, row.page));
            feed.whole(rows.iter().map(|(_, row)| FedPage::of(row)).collect());
        }
        if is_child {
            staged.renumber(&place);
            let _ = self.places.set(places);
        }
        Ok(staged)
    }

    /// Partitions side by side. With a record limit they come one by one, so that no more than
    /// needed are asked for.
    pub(super) fn width(&self) -> usize {
        if self.run.options.limit_records.is_some() {
            1
        } else {
            self.run.plan.source.concurrency.get()
        }
    }

    async fn walk_partitions(self: Arc<Self>, committer: Committer) -> Result<(), Box<Failure>> {
        let mut walk = Source::of(&self.run, self.plan()).walk().peekable();
        let is_parent = self.run.family.feed(&self.name).is_some();
        let mut crew = Crew::new(self.width(), self.is_paid(), self.resting.clone());
        loop {
            while crew.room() > 0 && !self.has_enough() {
                let Some(partition) = walk.next() else { break };
                let partition = partition.map_err(|e| super::open_failure(&self.name, &e))?;
                self.expect_partition();
                if walk.peek().is_none() {
                    self.expect_no_more();
                }
                if self.has_nothing_to_ask(&partition) {
                    continue;
                }
                let partition = self.windowed(partition);
                let named = is_parent.then(|| (self.clone(), partition.clone()));
                if let Some((worker, partition)) = named {
                    let work = move || worker.name_partition(&partition);
                    match tokio::task::spawn_blocking(work).await {
                        Ok(named) => named?,
                        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                    }
                }
                let slice = self.slice(partition)?;
                crew.begin(self.clone().walk_or_leave(slice, committer.clone()));
            }
            if !crew.one().await? {
                return crew.all().await;
            }
        }
    }

    /// A partition was found.
    pub(super) fn expect_partition(&self) {
        self.expected.partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// All partitions were found.
    pub(super) fn expect_no_more(&self) {
        self.expected.enumerated.store(true, Ordering::Relaxed);
    }

    /// What an earlier attempt committed.
    pub(super) fn recall(&self) -> Option<&Recall> {
        self.recall.as_ref()
    }

    /// The place of a partition in canonical order; nothing where no record leads to it any more.
    pub(super) fn place_of(&self, number: u32) -> Option<u32> {
        match self.places.get() {
            Some(places) => places.get(number as usize).copied().flatten(),
            None => Some(number),
        }
    }

    pub(super) fn has_enough(&self) -> bool {
        self.run
            .options
            .limit_records
            .is_some_and(|most| self.records.load(Ordering::Relaxed) >= most)
    }

    /// The request of a partition, before paging.
    pub(super) fn render(&self, partition: &Partition) -> Result<Rendered, Box<Failure>> {
        let names = self.run.names.request(&partition.variables);
        self.plan()
            .request
            .render(&self.run.base, &names)
            .map_err(|e| match partition.label() {
                label if label.is_empty() => self.unrendered(&e),
                label => self.unrendered(RenderProblem {
                    message: format!("{} ({label})", e.message),
                    ..e
                }),
            })
    }

    pub(super) fn unrendered(&self, problem: impl Into<Unrendered>) -> Box<Failure> {
        let mut failure = problem.into().of(&self.name);
        failure.message = self.run.secrets.scrub(&failure.message);
        failure
    }

    pub(super) fn start_token(
        &self,
        partition: &Partition,
    ) -> Result<Option<String>, Box<Failure>> {
        match &self.plan().paging {
            Paging::Token {
                start: Some(start), ..
            } => {
                let names = self.run.names.request(&partition.variables);
                start.text(&names).map(Some).map_err(|mut e| {
                    e.message = format!("`pages.token.start`: {}", e.message);
                    self.unrendered(&e)
                })
            }
            _ => Ok(None),
        }
    }

    pub(super) fn place(&self, partition: &Partition, page: u32) -> String {
        let label = partition.label();
        let of = if label.is_empty() { "" } else { " of " };
        let place = format!("{}, page {}{of}{label}", self.name, page + 1);
        self.run.secrets.scrub(&place)
    }

    /// `expect.max_pages` would be passed: no person can release what is not here.
    pub(super) fn too_many_pages(&self, place: &str, most: u64) -> Box<Failure> {
        let message = format!("{place}: reached `expect.max_pages: {most}` and there are more");
        Box::new(Failure {
            exit: Exit::Held,
            message: self.run.secrets.scrub(&message),
            causes: Vec::new(),
            hint: Some(
                "the old file stays; look at the API, then correct `expect` or `pages`".to_owned(),
            ),
        })
    }

    /// A partition's number of pages became known: ahead, or when it was walked.
    pub(super) fn expect_pages(&self, pages: u64) {
        self.expected.pages.fetch_add(pages, Ordering::Relaxed);
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
