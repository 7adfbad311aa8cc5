//! The book of what a stream has sent, where a repeat would act or cost ([`super::once`] says what is written when).
//!
//! Rows of many requests are synced as one: what comes while a sync is under way goes into the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::failure::{Exit, Failure};
use crate::store::StoreError;
use crate::store::row::{Row, Sent};
use crate::store::stream::{SentLog, StreamStore};

/// What a stream has sent and must not send twice.
#[derive(Debug)]
pub(in crate::harvest) struct Sendings {
    queue: mpsc::UnboundedSender<Word>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    /// Sent in this process, and not yet handed on as a page.
    pub(super) open: BTreeMap<(u32, u32), String>,
    /// Sent by earlier processes; only looked at.
    pub(super) before: BTreeMap<(u32, u32), Sent>,
    /// What is left alone: where it stands, and why.
    pub(super) left: BTreeMap<(u32, u32), String>,
    /// What came and cannot be read; it is kept.
    pub(super) unread: BTreeMap<(u32, u32), Box<Failure>>,
    /// Why the stream has failed: what is under way may end, and nothing more is sent.
    pub(super) failed: Option<Box<Failure>>,
}

/// A row to be committed, and who waits for it and for all rows before. Without a row it is the last word.
type Word = (
    Option<Row>,
    Option<oneshot::Sender<Result<(), Box<Failure>>>>,
);

impl Sendings {
    /// Begins to keep the book of a stream.
    pub(super) fn new(store: &StreamStore) -> Self {
        let (log, before) = store.sent();
        let (queue, words) = mpsc::unbounded_channel();
        tokio::spawn(write(log, words));
        Self {
            queue,
            book: Mutex::new(Book {
                before,
                ..Book::default()
            }),
        }
    }

    /// Commits a row; when it returns, that and all rows before survive anything. Without a row it is for these, and
    /// nothing may come after it.
    pub(super) async fn commit(&self, row: Option<Row>) -> Result<(), Box<Failure>> {
        let (tell, told) = oneshot::channel();
        let gone = "what is sent cannot be written down";
        let gone = || Box::new(Failure::new(Exit::Disk, gone));
        self.queue.send((row, Some(tell))).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// Commits a row for which nobody has to wait.
    pub(super) fn note(&self, row: Row) {
        // Of a process that is killed before it is on the disk a person is asked.
        let _ = self.queue.send((Some(row), None));
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits what it is told, as much at once as has come.
async fn write(log: SentLog, mut words: mpsc::UnboundedReceiver<Word>) {
    // A log that has failed takes no more rows: nobody who asks later hears that all is well.
    let mut done = Ok(());
    let mut open = Some(log);
    while let Some(first) = words.recv().await {
        let (mut rows, mut waiting, mut is_last) = (Vec::new(), Vec::new(), false);
        let mut take = |(row, waits): Word| {
            is_last |= row.is_none();
            rows.extend(row);
            waiting.extend(waits);
        };
        take(first);
        while let Ok(word) = words.try_recv() {
            take(word);
        }
        let takes = !rows.is_empty() && done.is_ok();
        if let Some(log) = open.clone().filter(|_| takes) {
            let work = tokio::task::spawn_blocking(move || log.commit(&rows));
            done = match work.await {
                Ok(done) => done.map_err(StoreError::into_failure),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
        }
        // With the log go the locks: who hears of the end may begin anew.
        open = open.filter(|_| !is_last);
        for waits in waiting {
            // Who was stopped meanwhile waits no more.
            let _ = waits.send(done.clone());
        }
        if open.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;

    use super::*;
    use crate::sim::{SimDisk, Trouble};
    use crate::store::row::{RunStart, Undone};
    use crate::store::run::{self, RunFolder};
    use crate::store::space::Floor;

    #[tokio::test]
    async fn what_did_nothing_is_on_the_disk_once_all_attempts_are_settled() {
        let (disk, root) = (SimDisk::new(Path::new("/p")), Path::new("/p"));
        let door = disk.door();
        let start = RunStart::new("pipe", vec!["a".into()], Timestamp::UNIX_EPOCH);
        let open = RunFolder::create(&door, root, "r1", start, &Floor::new(0)).unwrap();
        let sendings = Sendings::new(&open.streams[0]);
        let unknown = || run::unknown(&door, root, "r1").unwrap().len();
        let sent = Row::Sent(Sent {
            stream: "a".into(),
            partition: 0,
            page: 0,
            request: 1,
            place: "a page".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        });
        let undone = Row::Undone(Undone {
            stream: "a".into(),
            partition: 0,
            page: 0,
        });
        sendings.commit(Some(sent.clone())).await.unwrap();
        assert_eq!(unknown(), 1);
        sendings.note(undone.clone());
        sendings.commit(None).await.unwrap();
        assert_eq!(unknown(), 0);
        // What cannot be written down is told to whoever asks, though nobody waited for it.
        let sendings = Sendings::new(&open.streams[0]);
        sendings.commit(Some(sent)).await.unwrap();
        disk.set_trouble(Trouble::Always(1, std::io::ErrorKind::Other));
        sendings.note(undone);
        tokio::task::yield_now().await;
        let failure = sendings.commit(None).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Disk);
    }
}
