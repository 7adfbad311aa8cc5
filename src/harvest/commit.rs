//! Pages to disk: one writer a stream commits whole pages in groups.
//!
//! Pages come in any order and are written nearly as they come; the index remembers where. What
//! waits is taken as one group, so that a fast API costs few blocking calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::budget::Reservation;
use super::events::Events;
use crate::clock::{Clock, Elapsed, Instant};
use crate::event::{Fact, Name};
use crate::store::StoreError;
use crate::store::row::Facts;
use crate::store::stream::{NewPage, StreamStore};

/// Bytes that are worth a blocking call.
const GROUP_BYTES: usize = 1024 * 1024;
/// Longest that a page waits for others to be written with, or for one that is late.
const GROUP_TIME: Duration = Duration::from_millis(200);
/// Most bytes held back to be written in order: what is usually in flight at once, and far below
/// the budget, which they occupy.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// Pages that may wait for the writer; their bytes are bounded by the budget.
const QUEUE: usize = 64;

/// A page on its way to the part.
#[derive(Debug)]
pub(super) struct Staged {
    /// Ordinal of its partition.
    pub(super) partition: u32,
    /// Ordinal in its partition.
    pub(super) page: u32,
    /// Its records, one a line.
    pub(super) lines: Vec<u8>,
    /// How many.
    pub(super) records: u32,
    /// Given back when the page is written.
    pub(super) _reservation: Reservation,
}

/// Where a stream's pages go; clones feed the same writer.
#[derive(Debug, Clone)]
pub(super) struct Committer {
    queue: mpsc::Sender<Staged>,
}

/// The writer is gone; its task says why.
#[derive(Debug)]
pub(super) struct WriterGone;

impl Committer {
    /// Starts the writer of a stream. It ends when every committer is dropped.
    pub(super) fn start(
        store: StreamStore,
        stream: Name,
        clock: Clock,
        events: Events,
    ) -> (
        Self,
        tokio::task::JoinHandle<Result<StreamStore, StoreError>>,
    ) {
        let (queue, pages) = mpsc::channel(QUEUE);
        (
            Self { queue },
            tokio::spawn(write(store, pages, stream, clock, events)),
        )
    }

    /// Hands a page on; waits while the writer is behind.
    pub(super) async fn commit(&self, page: Staged) -> Result<(), WriterGone> {
        self.queue.send(page).await.map_err(|_| WriterGone)
    }
}

async fn write(
    store: StreamStore,
    mut pages: mpsc::Receiver<Staged>,
    stream: Name,
    clock: Clock,
    events: Events,
) -> Result<StreamStore, StoreError> {
    let store = Arc::new(std::sync::Mutex::new(store));
    let mut order = Order::default();
    let mut open = true;
    while open {
        let mut group = Vec::new();
        let mut bytes = 0;
        // What is held occupies the budget (a page without records too), and the page it waits
        // for may be waiting for that.
        let mut patience = (!order.held.is_empty()).then(|| clock.now() + GROUP_TIME);
        let mut late = false;
        while bytes < GROUP_BYTES && order.bytes <= HELD_BYTES {
            match next(&mut pages, clock, patience).await {
                Ok(Some(page)) => bytes += order.take(page, &mut group),
                Ok(None) => open = false,
                Err(Elapsed) => late = true,
            }
            if late || !open {
                break;
            }
            patience.get_or_insert_with(|| clock.now() + GROUP_TIME);
        }
        if late || !open || order.bytes > HELD_BYTES {
            bytes += order.release(&mut group);
        }
        if group.is_empty() {
            continue;
        }
        let writer = store.clone();
        let pages = group.len() as u64;
        let records = group.iter().map(|page| u64::from(page.records)).sum();
        let work = tokio::task::spawn_blocking(move || {
            commit(
                &mut writer
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
                group,
            )
        });
        match work.await {
            Ok(done) => done?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        events.emit(Fact::Committed {
            stream: stream.clone(),
            pages,
            records,
            bytes: bytes as u64,
        });
    }
    let store = Arc::into_inner(store).map(|store| {
        store
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    });
    Ok(store.expect("the last blocking call has ended"))
}

/// The next page; gives up at `patience`.
async fn next(
    pages: &mut mpsc::Receiver<Staged>,
    clock: Clock,
    patience: Option<Instant>,
) -> Result<Option<Staged>, Elapsed> {
    match patience {
        None => Ok(pages.recv().await),
        Some(at) => clock.timeout_at(at, pages.recv()).await,
    }
}

/// Holds early pages of a partition back for a moment, so that a part mostly is in canonical
/// order: then publish need not copy it.
#[derive(Debug, Default)]
struct Order {
    /// Partition and page that follow the last one let through in order.
    next: (u32, u32),
    held: BTreeMap<(u32, u32), Staged>,
    bytes: usize,
}

impl Order {
    /// Lets a page through, with those that waited for it, or holds it back; gives the bytes let
    /// through.
    fn take(&mut self, page: Staged, group: &mut Vec<Staged>) -> usize {
        let place = (page.partition, page.page);
        if place.0 == self.next.0 && place.1 > self.next.1 {
            self.bytes += page.lines.len();
            self.held.insert(place, page);
            return 0;
        }
        if place == self.next {
            self.next.1 += 1;
        } else if place.0 > self.next.0 && place.1 == 0 && self.held.is_empty() {
            self.next = (place.0, 1);
        }
        let mut through = page.lines.len();
        group.push(page);
        while let Some(page) = self.held.remove(&self.next) {
            self.bytes -= page.lines.len();
            self.next.1 += 1;
            through += page.lines.len();
            group.push(page);
        }
        through
    }

    /// Lets everything through: too much waits for one page, or no page will come. Gives its
    /// bytes.
    fn release(&mut self, group: &mut Vec<Staged>) -> usize {
        if let Some((last, _)) = self.held.last_key_value() {
            self.next = (last.0, last.1 + 1);
        }
        group.extend(std::mem::take(&mut self.held).into_values());
        std::mem::take(&mut self.bytes)
    }
}

fn commit(store: &mut StreamStore, group: Vec<Staged>) -> Result<(), StoreError> {
    let pages = group.iter().map(|page| NewPage {
        partition: page.partition,
        page: page.page,
        request: 0,
        lines: &page.lines,
        records: page.records,
        facts: Facts::default(),
        greatest: None,
    });
    store.commit(pages.collect())
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;
    use crate::disk::Disk;
    use crate::store::row::{Identity, RunStart};
    use crate::store::run::RunFolder;
    use crate::store::space::Floor;

    fn opened(root: &std::path::Path) -> StreamStore {
        let (version, program) = RunStart::versions();
        let start = RunStart {
            version,
            program,
            pipeline: "p".to_owned(),
            identity: Identity::default(),
            started: jiff::Timestamp::UNIX_EPOCH,
            until: jiff::Timestamp::UNIX_EPOCH,
            seed: 0,
            streams: vec!["items".into()],
            options: serde_json::Map::new(),
        };
        let run = RunFolder::create(&Disk::system(), root, "run", start, &Floor::new(0));
        run.expect("a run").streams.remove(0)
    }

    async fn through(arrivals: &[(u32, u32)]) -> (Vec<(u32, u32)>, usize) {
        let (mut order, mut group) = (Order::default(), Vec::new());
        for (partition, page) in arrivals {
            let page = Staged {
                partition: *partition,
                page: *page,
                lines: vec![b'x'; 10],
                records: 1,
                _reservation: Budget::default().reserve().await.expect("room"),
            };
            order.take(page, &mut group);
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
    async fn nothing_is_kept_for_a_page_that_never_comes() {
        let (order, held) = through(&[(0, 0), (0, 3), (0, 2)]).await;
        assert_eq!(order, [(0, 0), (0, 2), (0, 3)]);
        assert_eq!(held, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_page_without_records_gives_its_room_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::system();
        let store = opened(folder.path());
        let (committer, writer) =
            Committer::start(store, "items".into(), clock, Events::new(clock, |_| {}));
        let budget = Budget::default();
        budget.learn(usize::MAX);
        let empty = |page, reservation| Staged {
            partition: 0,
            page,
            lines: Vec::new(),
            records: 0,
            _reservation: reservation,
        };
        for page in [1, 0] {
            let room = clock.timeout_at(clock.now() + 10 * GROUP_TIME, budget.reserve());
            let room = room.await.expect("no deadlock").expect("room");
            committer.commit(empty(page, room)).await.expect("a writer");
        }
        drop(committer);
        let written = writer.await.expect("no panic").expect("a disk");
        assert_eq!(written.index().rows().len(), 2);
    }

    #[tokio::test]
    async fn partitions_do_not_wait_for_each_other() {
        let (order, held) = through(&[(1, 0), (0, 0), (1, 1), (0, 1), (2, 0)]).await;
        assert_eq!(order, [(1, 0), (0, 0), (1, 1), (0, 1), (2, 0)]);
        assert_eq!(held, 0);
    }
}
