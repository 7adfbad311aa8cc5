//! Pages to disk: one writer a stream appends whole pages to the part and keeps the index.
//!
//! Pages come in any order and are written as they come; the index remembers where. What waits
//! is taken as one group, so that a fast API costs few blocking calls.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::budget::Reservation;
use super::events::Events;
use crate::disk::DiskError;
use crate::event::{Fact, Name};
use crate::store::index::{Index, PageRow};
use crate::store::part::Part;

/// Most bytes written in one blocking call.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
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

/// What a stream's writer leaves.
#[derive(Debug)]
pub(super) struct Committed {
    /// The records.
    pub(super) part: Part,
    /// Where each page is.
    pub(super) index: Index,
}

/// The writer is gone; its task says why.
#[derive(Debug)]
pub(super) struct WriterGone;

impl Committer {
    /// Starts the writer of a stream. It ends when every committer is dropped.
    pub(super) fn start(
        part: Part,
        stream: Name,
        events: Events,
    ) -> (Self, tokio::task::JoinHandle<Result<Committed, DiskError>>) {
        let (queue, pages) = mpsc::channel(QUEUE);
        (
            Self { queue },
            tokio::spawn(write(part, pages, stream, events)),
        )
    }

    /// Hands a page on; waits while the writer is behind.
    pub(super) async fn commit(&self, page: Staged) -> Result<(), WriterGone> {
        self.queue.send(page).await.map_err(|_| WriterGone)
    }
}

async fn write(
    part: Part,
    mut pages: mpsc::Receiver<Staged>,
    stream: Name,
    events: Events,
) -> Result<Committed, DiskError> {
    let part = Arc::new(std::sync::Mutex::new(part));
    let mut index = Index::default();
    while let Some(first) = pages.recv().await {
        let mut bytes = first.lines.len();
        let mut group = vec![first];
        while bytes < GROUP_BYTES {
            let Ok(page) = pages.try_recv() else { break };
            bytes += page.lines.len();
            group.push(page);
        }
        let writer = part.clone();
        let work = tokio::task::spawn_blocking(move || {
            append(
                &mut writer
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
                group,
            )
        });
        let rows = match work.await {
            Ok(rows) => rows?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let records = rows.iter().map(|row| u64::from(row.records)).sum();
        events.emit(Fact::Committed {
            stream: stream.clone(),
            pages: rows.len() as u64,
            records,
            bytes: bytes as u64,
        });
        for row in rows {
            index.push(row);
        }
    }
    let part = Arc::into_inner(part).map(|part| {
        part.into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    });
    Ok(Committed {
        part: part.expect("the last blocking call has ended"),
        index,
    })
}

fn append(part: &mut Part, group: Vec<Staged>) -> Result<Vec<PageRow>, DiskError> {
    group
        .into_iter()
        .map(|page| {
            let start = part.append(&page.lines)?;
            // Bodies are capped far below 4 GiB.
            let len = u32::try_from(page.lines.len()).unwrap_or(u32::MAX);
            Ok(PageRow {
                partition: page.partition,
                page: page.page,
                start,
                len,
                records: page.records,
            })
        })
        .collect()
}
