//! Pages to disk: one writer a stream appends whole pages to the part and commits them by groups.
//!
//! Pages come in any order and are written nearly as they come; their memory is given back then.
//! What was written is committed at most [`GROUP_TIME`] later: the part is synced, then the rows
//! of the pages go into the ledger, beside the writing of the next ones. So a fast API costs few
//! syncs, and a slow disk does not hold it up before the byte budget is used up.

mod order;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use self::order::Order;
use super::attempt::budget::Reservation;
use super::events::Events;
use super::partitions::feed::Feed;
use crate::clock::{Clock, Instant};
use crate::event::{Fact, Name};
use crate::failure::{Exit, Failure};
use crate::store::StoreError;
use crate::store::index::{Index, PageRow};
use crate::store::row::Facts;
use crate::store::stream::{Group, NewPage, Piece, StreamStore};

/// Bytes that are worth a blocking call.
const GROUP_BYTES: usize = 1024 * 1024;
/// Pages that are worth one: kept pages have no bytes.
const GROUP_PAGES: usize = 1024;
/// Longest that a page waits for others to be committed with, or for one that is late.
pub(super) const GROUP_TIME: Duration = Duration::from_millis(200);
/// Most bytes held back to be written in order: as much as the budget, which does not know what
/// `transform` has made of a page.
const HELD_BYTES: usize = 32 * 1024 * 1024;
/// Pages that may wait for the writer.
const QUEUE: usize = 64;
/// Bytes that may, while the writer has no more to wait for than the processor: as much as it takes at
/// once. More would only wait in memory that is no longer near.
const QUEUED_BYTES: usize = GROUP_BYTES;
/// A writer that takes longer than this to make room is held up by the disk. The network is not, before
/// all places or the byte budget are used up.
const SOON: Duration = Duration::from_millis(50);

/// A page on its way.
#[derive(Debug)]
pub(super) struct Staged {
    /// Ordinal of its partition.
    pub(super) partition: u32,
    /// Ordinal in its partition.
    pub(super) page: u32,
    /// What came of it.
    pub(super) what: What,
}

/// What came of a page.
#[derive(Debug)]
pub(super) enum What {
    /// The API gave it.
    New(Box<New>),
    /// An earlier attempt committed it.
    Kept(PageRow),
    /// The same, a piece of an answer that was told of with its first.
    KeptPiece(PageRow),
    /// Its partition is walked again from the start: its pages so far are void.
    Again,
    /// Its page and all after it are void: others take their places.
    Void,
}

/// A page that the API gave.
#[derive(Debug)]
pub(super) struct New {
    /// Its records, one a line.
    pub(super) lines: Bytes,
    /// Their CRC32C.
    pub(super) crc: u32,
    /// How many.
    pub(super) records: u32,
    /// What tells its request from others.
    pub(super) print: u64,
    /// What the walk needs to go on after it.
    pub(super) facts: Facts,
    /// Which part of its answer it is.
    pub(super) piece: Piece,
    /// Given back when the page is written.
    pub(super) _reservation: Option<Reservation>,
}

impl Staged {
    fn is_raw(&self) -> bool {
        matches!(&self.what, What::New(page) if page.facts.came.is_some())
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::New(page) => page.lines.len(),
            What::Kept(_) | What::KeptPiece(_) | What::Again | What::Void => 0,
        }
    }
}

/// Where a stream's pages go; clones feed the same writer.
#[derive(Debug, Clone)]
pub(super) struct Committer {
    queue: mpsc::Sender<Queued>,
    /// [`QUEUED_BYTES`].
    room: Arc<Semaphore>,
    clock: Clock,
}

/// A page that waits for the writer, in the room that its bytes take if it got that.
type Queued = (Staged, Option<OwnedSemaphorePermit>);

/// The writer is gone; its task says why.
#[derive(Debug)]
pub(super) struct WriterGone;

impl From<WriterGone> for Box<Failure> {
    fn from(_: WriterGone) -> Self {
        Box::new(Failure::new(
            Exit::Disk,
            "the writer of the stream has failed",
        ))
    }
}

impl Committer {
    /// Starts the writer of a stream, which tells its children of what is committed. It ends when
    /// every committer is dropped.
    pub(super) fn start(
        store: StreamStore,
        stream: Name,
        patience: Duration,
        clock: Clock,
        events: Events,
        feed: Option<Arc<Feed>>,
    ) -> (Self, JoinHandle<Result<StreamStore, StoreError>>) {
        let (queue, pages) = mpsc::channel(QUEUE);
        let rows = store.index().rows().iter();
        let writer = Writer {
            earlier: rows.map(|row| row.row_at).max(),
            store: Arc::new(Mutex::new(store)),
            stream,
            patience,
            clock,
            events,
            feed,
            index: Index::default(),
            pieces: HashSet::new(),
            uncommitted: None,
            syncing: None,
        };
        let room = Arc::new(Semaphore::new(QUEUED_BYTES));
        let writer = tokio::spawn(writer.run(pages));
        (Self { queue, room, clock }, writer)
    }

    /// Hands a page on; waits while the writer is behind: at first for room, then for a place.
    pub(super) async fn commit(&self, page: Staged) -> Result<(), WriterGone> {
        // One that is larger than the room has all of it, and one of no bytes overtakes none.
        let bytes = page.bytes().clamp(1, QUEUED_BYTES);
        let room = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(room);
        let room = self.clock.timeout_at(self.clock.now() + SOON, room).await;
        let room = room.ok().and_then(Result::ok);
        let queued = self.queue.send((page, room)).await;
        queued.map_err(|_| WriterGone)
    }
}

/// A group that was committed, and its pages.
type Synced = (Group, Vec<PageRow>);

/// What the writer waits for.
enum Came {
    Page(Staged),
    /// All committers are gone.
    Closed,
    /// Time is up.
    Late,
    /// A group is committed.
    Synced,
}

struct Writer {
    store: Arc<Mutex<StreamStore>>,
    /// Where the last row of earlier attempts stands in the ledger.
    earlier: Option<u64>,
    stream: Name,
    /// Longest that a page waits for others to be committed with.
    patience: Duration,
    clock: Clock,
    events: Events,
    /// What its children see of it.
    feed: Option<Arc<Feed>>,
    index: Index,
    /// Partition and page of what is no answer of its own: further pieces of the one before.
    pieces: HashSet<(u32, u32)>,
    /// When the oldest page came that is not committed.
    uncommitted: Option<Instant>,
    /// The group that is being committed.
    syncing: Option<JoinHandle<Result<Synced, StoreError>>>,
}

impl Writer {
    async fn run(mut self, mut pages: mpsc::Receiver<Queued>) -> Result<StreamStore, StoreError> {
        let mut order = Order::default();
        let mut open = true;
        while open {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut since = None;
            let mut late = false;
            while bytes < GROUP_BYTES && group.len() < GROUP_PAGES && order.bytes <= HELD_BYTES {
                // A group that is due waits for the one before it.
                let uncommitted = self.uncommitted.filter(|_| self.syncing.is_none());
                let oldest = [since, uncommitted].into_iter().flatten().min();
                let due = oldest.map(|at| at + self.patience());
                let given_up = order.oldest().map(|at| at + self.patience);
                let until = [due, given_up].into_iter().flatten().min();
                match self.next(&mut pages, until).await? {
                    Came::Page(page) => {
                        let now = self.clock.now();
                        bytes += order.take(page, now, &mut group);
                        since = since.or((!group.is_empty()).then_some(now));
                    }
                    Came::Closed => open = false,
                    Came::Late => late = true,
                    Came::Synced => {}
                }
                if late || !open {
                    break;
                }
            }
            let now = self.clock.now();
            let patience = self.patience;
            let due = |at: Instant, now| at + patience <= now;
            // What is held occupies the budget (a page without records too), and the page it waits
            // for may be waiting for that. Only when no page came is it known to be late.
            let given_up = late && order.oldest().is_some_and(|at| due(at, now));
            if given_up || !open || order.bytes > HELD_BYTES {
                order.release(&mut group);
            }
            if !group.is_empty() {
                self.uncommitted = self.uncommitted.or(since).or(Some(now));
                self.append(group).await?;
            }
            let now = self.clock.now();
            let patience = self.patience();
            if self.syncing.is_none() && self.uncommitted.is_some_and(|at| at + patience <= now) {
                self.commit();
            }
        }
        self.synced().await?;
        self.commit();
        self.synced().await?;
        let store = Arc::into_inner(self.store).map(Mutex::into_inner);
        let mut store = store
            .expect("the last blocking call has ended")
            .unwrap_or_else(PoisonError::into_inner);
        store.walked(self.index);
        Ok(store)
    }

    /// How long a page may wait for others: not at all while children have nothing to do before it.
    fn patience(&self) -> Duration {
        let is_awaited = self.feed.as_ref().is_some_and(|feed| feed.is_awaited());
        if is_awaited {
            Duration::ZERO
        } else {
            self.patience
        }
    }

    /// What comes next; nothing new before `until` is [`Came::Late`].
    async fn next(
        &mut self,
        pages: &mut mpsc::Receiver<Queued>,
        until: Option<Instant>,
    ) -> Result<Came, StoreError> {
        let clock = self.clock;
        let late = async {
            match until {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let synced = async {
            match &mut self.syncing {
                Some(task) => task.await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            biased;
            done = synced => done,
            page = pages.recv() => {
                return Ok(page.map_or(Came::Closed, |(page, _room)| Came::Page(page)));
            }
            () = late => return Ok(Came::Late),
        };
        self.syncing = None;
        self.take_in(done)?;
        Ok(Came::Synced)
    }

    /// Waits for the group that is being committed.
    async fn synced(&mut self) -> Result<(), StoreError> {
        match self.syncing.take() {
            Some(task) => {
                let done = task.await;
                self.take_in(done)
            }
            None => Ok(()),
        }
    }

    fn take_in(
        &mut self,
        done: Result<Result<Synced, StoreError>, tokio::task::JoinError>,
    ) -> Result<(), StoreError> {
        let (group, rows) = match done {
            Ok(rows) => rows?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.events.emit(Fact::Committed {
            stream: self.stream.clone(),
            pages: group.answers(),
            records: rows.iter().map(|row| u64::from(row.records)).sum(),
            bytes: rows.iter().map(|row| u64::from(row.len)).sum(),
        });
        if let Some(feed) = &self.feed {
            feed.push(rows.iter());
        }
        for row in rows {
            self.index.push(row);
        }
        Ok(())
    }

    /// Writes a group, in its order; what it takes from earlier attempts goes into the index.
    async fn append(&mut self, group: Vec<Staged>) -> Result<(), StoreError> {
        let mut new = Vec::new();
        let mut kept = (0, 0);
        for page in group {
            match page.what {
                What::New(what) => {
                    if !what.piece.begins() {
                        self.pieces.insert((page.partition, page.page));
                    }
                    new.push((page.partition, page.page, what));
                }
                What::Kept(row) | What::KeptPiece(row) => {
                    if matches!(page.what, What::KeptPiece(_)) {
                        self.pieces.insert((page.partition, page.page));
                    } else {
                        kept.0 += 1;
                    }
                    kept.1 += u64::from(row.records);
                    if let Some(feed) = &self.feed {
                        feed.push(std::iter::once(&row));
                    }
                    self.index.push(row);
                }
                What::Void => {
                    self.write(std::mem::take(&mut new)).await?;
                    self.synced().await?;
                    self.commit();
                    self.synced().await?;
                    self.tell_kept(std::mem::take(&mut kept));
                    self.void(page.partition, page.page);
                }
                What::Again => {
                    self.write(std::mem::take(&mut new)).await?;
                    self.synced().await?;
                    self.commit();
                    self.synced().await?;
                    self.tell_kept(std::mem::take(&mut kept));
                    self.supersede(page.partition).await?;
                    if let Some(feed) = &self.feed {
                        feed.supersede(page.partition);
                    }
                }
            }
        }
        self.tell_kept(kept);
        self.write(new).await
    }

    fn tell_kept(&self, (pages, records): (u64, u64)) {
        if pages > 0 {
            self.events.emit(Fact::PagesKept {
                stream: self.stream.clone(),
                pages,
                records,
            });
        }
    }

    /// Takes all pages of a partition back.
    async fn supersede(&mut self, partition: u32) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || lock(&store).supersede(partition)).await?;
        self.void(partition, 0);
        Ok(())
    }

    /// Takes the pages of a partition out of the index from one on, and tells of them.
    fn void(&mut self, partition: u32, from: u32) {
        let of_it = |row: &&PageRow| row.partition == partition && row.page >= from;
        let (mut pages, mut kept, mut records) = (0, 0, 0);
        if let Some(feed) = &self.feed {
            feed.take_back(self.index.rows().iter().filter(of_it));
        }
        for row in self.index.rows().iter().filter(of_it) {
            // Answers are what was told of as committed or kept.
            if !self.pieces.remove(&(row.partition, row.page)) {
                pages += 1;
                kept += u64::from(Some(row.row_at) <= self.earlier);
            }
            records += u64::from(row.records);
        }
        self.events.emit(Fact::PagesVoid {
            stream: self.stream.clone(),
            pages,
            kept,
            records,
        });
        self.index.supersede(partition, from);
    }

    async fn write(&mut self, mut new: Vec<(u32, u32, Box<New>)>) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let (done, written) = blocking(move || {
            let pages = new.iter_mut().map(|(partition, page, new)| NewPage {
                partition: *partition,
                page: *page,
                request: new.print,
                lines: &new.lines,
                crc: new.crc,
                records: new.records,
                facts: std::mem::take(&mut new.facts),
                piece: new.piece,
            });
            (lock(&store).append(pages.collect()), new)
        })
        .await;
        // Here, not there: memory goes back to those who ask for more of it.
        drop(written);
        done
    }

    /// Begins to commit all that was written.
    fn commit(&mut self) {
        self.uncommitted = None;
        if let Some(mut group) = lock(&self.store).group() {
            self.syncing = Some(tokio::task::spawn_blocking(move || {
                let rows = group.commit()?;
                Ok((group, rows))
            }));
        }
    }
}

/// Work on the disk, away from those who wait for the network.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn lock(store: &Mutex<StreamStore>) -> MutexGuard<'_, StreamStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::attempt::budget::Budget;
    use super::*;
    use crate::disk::Disk;
    use crate::store::row::RunStart;
    use crate::store::run::RunFolder;
    use crate::store::space::Floor;

    async fn page(place: (u32, u32), lines: Vec<u8>) -> Staged {
        let reservation = Budget::default().reserve().await.expect("room");
        staged(place, lines, reservation)
    }

    fn staged((partition, page): (u32, u32), lines: Vec<u8>, reservation: Reservation) -> Staged {
        Staged {
            partition,
            page,
            what: What::New(Box::new(New {
                crc: crate::crc::of(&lines),
                lines: lines.into(),
                records: 1,
                print: 0,
                facts: Facts::default(),
                piece: Piece::Whole,
                _reservation: Some(reservation),
            })),
        }
    }

    fn now() -> Instant {
        Clock::system().now()
    }

    async fn through(arrivals: &[(u32, u32)]) -> (Vec<(u32, u32)>, usize) {
        let (mut order, mut group) = (Order::default(), Vec::new());
        for place in arrivals {
            order.take(page(*place, vec![b'x'; 10]).await, now(), &mut group);
        }
        let held = order.held.len();
        order.release(&mut group);
        let places = group.iter().map(|page| (page.partition, page.page));
        (places.collect(), held)
    }

    #[tokio::test]
    async fn early_pages_wait_for_the_one_before() {
        let (order, held) = through(&[(0, 0), (0, 2), (0, 3), (0, 1), (0, 4)]).await;
        assert_eq!(order, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
        assert_eq!(held, 0);
    }

    #[tokio::test]
    async fn a_page_as_it_came_stands_in_nobodys_place() {
        let (mut order, mut group) = (Order::default(), Vec::new());
        for (number, raw) in [(0, true), (1, true), (1, false), (0, false)] {
            let mut page = page((0, number), vec![b'x']).await;
            if let What::New(new) = &mut page.what {
                new.facts.came = raw.then(Default::default);
            }
            order.take(page, now(), &mut group);
        }
        let came = group.iter().map(|page| (page.page, page.is_raw()));
        let came: Vec<_> = came.collect();
        assert_eq!(came, [(0, true), (1, true), (0, false), (1, false)]);
    }

    #[tokio::test]
    async fn what_is_taken_back_goes_before_the_word_that_takes_it_back() {
        let (mut order, mut group) = (Order::default(), Vec::new());
        let void = Staged {
            partition: 0,
            page: 1,
            what: What::Void,
        };
        let early = [(0, 0), (0, 2), (0, 3)];
        for place in early {
            order.take(page(place, vec![b'x'; 10]).await, now(), &mut group);
        }
        order.take(void, now(), &mut group);
        for place in [(0, 1), (0, 2)] {
            order.take(page(place, vec![b'x'; 10]).await, now(), &mut group);
        }
        let is_void = group.iter().map(|page| matches!(page.what, What::Void));
        assert_eq!(
            is_void.collect::<Vec<_>>(),
            [false, false, false, true, false, false]
        );
        assert_eq!((order.held.len(), order.bytes), (0, 0));
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_page_that_never_comes() {
        let (order, held) = through(&[(0, 0), (0, 3), (0, 2)]).await;
        assert_eq!(order, [(0, 0), (0, 2), (0, 3)]);
        assert_eq!(held, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_the_writer_waits_for_room_but_not_for_long() {
        let (queue, mut taken) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(QUEUED_BYTES));
        let clock = Clock::system();
        let committer = Committer { queue, room, clock };
        let is_at_once = async |bytes: usize| {
            let page = page((0, 0), vec![b'x'; bytes]).await;
            let from = clock.now();
            committer.commit(page).await.expect("a writer");
            let waited = clock.now() - from;
            assert!(waited == Duration::ZERO || waited >= SOON);
            waited == Duration::ZERO
        };
        for bytes in [QUEUED_BYTES / 2, QUEUED_BYTES / 2] {
            assert!(is_at_once(bytes).await);
        }
        assert!(!is_at_once(1).await && !is_at_once(0).await, "it is late");
        drop(taken.recv().await);
        assert!(is_at_once(1).await && !is_at_once(QUEUED_BYTES).await);
        while taken.try_recv().is_ok() {}
        // What is larger than all the room waits for no more than that.
        assert!(is_at_once(QUEUED_BYTES * 3).await && !is_at_once(1).await);
    }

    /// The writer of a run in this folder.
    fn started(
        folder: &std::path::Path,
        clock: Clock,
    ) -> (Committer, JoinHandle<Result<StreamStore, StoreError>>) {
        heard(folder, clock, |_| {})
    }

    /// The same, and what it tells.
    fn heard(
        folder: &std::path::Path,
        clock: Clock,
        hear: impl Fn(&crate::event::Event) + Send + Sync + 'static,
    ) -> (Committer, JoinHandle<Result<StreamStore, StoreError>>) {
        let disk = Disk::system();
        let start = RunStart::new("p", vec!["items".into()], clock.calendar());
        let open = RunFolder::create(&disk, folder, "r", start, &Floor::new(0));
        let store = open.expect("a run").streams.pop().expect("a stream");
        let events = Events::new(clock, hear);
        Committer::start(store, "items".into(), GROUP_TIME, clock, events, None)
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_page_without_records_gives_its_room_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::system();
        let (committer, writer) = started(folder.path(), clock);
        let budget = Budget::default();
        budget.learn(usize::MAX);
        for page in [1, 0] {
            let room = clock.timeout_at(clock.now() + 10 * GROUP_TIME, budget.reserve());
            let room = room.await.expect("no deadlock").expect("room");
            let empty = staged((0, page), Vec::new(), room);
            committer.commit(empty).await.expect("a writer");
        }
        drop(committer);
        let written = writer.await.expect("no panic").expect("a disk");
        assert_eq!(written.index().rows().len(), 2);
    }

    /// Pages of seventeen requests a second, each pair the wrong way round, through many commits.
    #[tokio::test(start_paused = true)]
    async fn a_commit_that_is_due_lets_no_early_page_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::system();
        let (committer, writer) = started(folder.path(), clock);
        for number in 0..40 {
            let place = (0, number ^ 1);
            committer
                .commit(page(place, vec![b'x'; 10]).await)
                .await
                .expect("a writer");
            clock.sleep_until(clock.now() + GROUP_TIME * 3 / 10).await;
        }
        drop(committer);
        let written = writer.await.expect("no panic").expect("a disk");
        let rows = written.index().rows();
        let starts: Vec<_> = rows.iter().map(|row| (row.page, row.start)).collect();
        assert_eq!(starts.len(), 40);
        let mut by_page = starts.clone();
        by_page.sort_unstable();
        assert!(by_page.is_sorted_by_key(|(_, start)| *start), "{starts:?}");
    }

    /// What is told as committed and as void are answers, however many pages they are in.
    #[tokio::test]
    async fn an_answer_in_pieces_is_taken_back_as_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = Arc::new(Mutex::new((0, 0, 0)));
        let ear = Arc::clone(&told);
        let (committer, writer) = heard(folder.path(), Clock::system(), move |event| {
            let mut told = ear.lock().expect("no panic");
            match &event.fact {
                Fact::Committed { pages, .. } => told.0 += pages,
                Fact::PagesVoid { pages, records, .. } => {
                    told.1 += pages;
                    told.2 += records;
                }
                _ => {}
            }
        });
        for (number, piece) in [Piece::First, Piece::Next, Piece::Last]
            .into_iter()
            .enumerate()
        {
            let number = u32::try_from(number).expect("few");
            let mut piece_of = page((0, number), vec![b'x'; 10]).await;
            if let What::New(new) = &mut piece_of.what {
                new.piece = piece;
            }
            committer.commit(piece_of).await.expect("a writer");
        }
        let again = Staged {
            partition: 0,
            page: 0,
            what: What::Again,
        };
        committer.commit(again).await.expect("a writer");
        drop(committer);
        writer.await.expect("no panic").expect("a disk");
        assert_eq!(*told.lock().expect("no panic"), (1, 1, 3));
    }

    #[tokio::test]
    async fn partitions_do_not_wait_for_each_other() {
        let (order, held) = through(&[(1, 0), (0, 0), (1, 1), (0, 1), (2, 0)]).await;
        assert_eq!(order, [(1, 0), (0, 0), (1, 1), (0, 1), (2, 0)]);
        assert_eq!(held, 0);
    }
}
