//! One stream of a run on disk: its part, its index, and its rows in the run's ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;
use super::bodies::Bodies;
use super::index::{Index, PageRow};
use super::ledger::{self, Ledger, Place};
use super::part::Part;
use super::recall::Recall;
use super::row::{Facts, Page, PublishIntent, Published, Row, Sent, Superseded};
use super::scratch::Scratch;
use super::space::Floor;
use crate::disk::{Disk, DiskFile};

/// A run's ledger, shared by its streams.
pub(super) type SharedLedger = Arc<Mutex<Ledger>>;

/// One stream of a run on disk.
#[derive(Debug)]
pub struct StreamStore {
    pub(super) name: Arc<str>,
    pub(super) ordinal: u32,
    pub(super) part: Part,
    pub(super) index: Index,
    pub(super) ledger: SharedLedger,
    pub(super) disk: Disk,
    pub(super) floor: Floor,
    /// Outputs that were about to take their places.
    pub(super) intents: Vec<PublishIntent>,
    pub(super) is_published: bool,
    /// What earlier processes sent and must not be sent twice, while nobody knows what came of it.
    pub(super) sent: BTreeMap<(u32, u32), Sent>,
    /// Rows of pages that were appended and are not committed.
    pub(super) appended: (Vec<Row>, Vec<PageRow>),
    /// How many answers these are: one may come in pieces.
    pub(super) answers: u64,
    /// Rows of pieces that were appended, by partition: not to be committed before the last of
    /// their page.
    pub(super) begun: BTreeMap<u32, (Vec<Row>, Vec<PageRow>)>,
}

/// Which part of an answer a page is. One that is too large for memory comes in pieces, each a page in
/// turn, which are committed in one step or not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    #[default]
    Whole,
    /// The first piece of several.
    First,
    /// One in the middle.
    Next,
    /// The last one.
    Last,
}

impl Piece {
    /// The piece at a place among so many.
    pub fn of(at: u32, all: u32) -> Self {
        match (at, all.saturating_sub(at)) {
            (0, ..=1) => Self::Whole,
            (0, _) => Self::First,
            (_, ..=1) => Self::Last,
            _ => Self::Next,
        }
    }

    /// Whether an answer begins with it.
    pub fn begins(self) -> bool {
        matches!(self, Self::Whole | Self::First)
    }
}

/// A page to be committed.
#[derive(Debug, Clone)]
pub struct NewPage<'a> {
    /// Ordinal of the partition, in the order of `for`.
    pub partition: u32,
    /// Ordinal of the page in its partition.
    pub page: u32,
    /// Fingerprint of the request ([`super::hash::stable`]), of what is no secret.
    pub request: u64,
    /// Its records, one a line.
    pub lines: &'a [u8],
    /// Their CRC32C, made where they came to be: what is damaged on the way here is found too.
    pub crc: u32,
    /// How many.
    pub records: u32,
    /// What the walk needs to go on after it.
    pub facts: Facts,
    /// Which part of its answer it is.
    pub piece: Piece,
}

/// Pages that were appended and are not committed yet. Committing them needs no hold on their
/// stream: meanwhile it may be appended to.
#[derive(Debug)]
pub struct Group {
    part: DiskFile,
    ledger: SharedLedger,
    rows: Vec<Row>,
    index: Vec<PageRow>,
    answers: u64,
}

impl Group {
    /// How many answers its pages are: one may come in pieces.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Syncs the part, then writes the rows and syncs the ledger. When it returns, the pages
    /// survive anything; when it fails, the stream must not be written any more: what is on the
    /// disk is found out by the next process. Of answers that are here as they came nothing is given
    /// back.
    pub fn commit(&mut self) -> Result<Vec<PageRow>, StoreError> {
        self.part.sync_data()?;
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let places = ledger.commit(&self.rows)?;
        let mut index = std::mem::take(&mut self.index);
        for (row, place) in index.iter_mut().zip(places) {
            (row.row_at, row.row_len) = (place.at, place.len);
        }
        let counts = |row: &Row| !matches!(row, Row::Page(page) if page.facts.came.is_some());
        let mut counts = self.rows.iter().map(counts);
        index.retain(|_| counts.next().unwrap_or(true));
        Ok(index)
    }
}

/// A run's ledger, for those who write rows of what they send beside the pages.
#[derive(Debug, Clone)]
pub struct SentLog(SharedLedger);

impl SentLog {
    /// Commits rows: when it returns they survive anything.
    pub fn commit(&self, rows: &[Row]) -> Result<(), StoreError> {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.commit(rows).map(drop)
    }
}

impl StreamStore {
    /// Appends whole pages to the part, with one write. They are not committed before their
    /// [`Group`] is.
    pub fn append(&mut self, pages: Vec<NewPage<'_>>) -> Result<(), StoreError> {
        let lines: Vec<&[u8]> = pages.iter().map(|page| page.lines).collect();
        let bytes = lines.iter().map(|lines| lines.len() as u64).sum();
        self.floor.allow(&self.disk, self.part.path(), bytes)?;
        let mut start = self.part.append(&lines)?;
        for page in pages {
            // Bodies are capped far below 4 GiB.
            let len = u32::try_from(page.lines.len()).unwrap_or(u32::MAX);
            let is_raw = page.facts.came.is_some();
            let end = start + u64::from(len);
            if page.piece.begins() {
                // What came of an answer that did not come to its end counts for nothing.
                self.begun.remove(&page.partition);
            }
            let (mut rows, mut places) = match page.piece {
                Piece::Whole => Default::default(),
                _ => self.begun.remove(&page.partition).unwrap_or_default(),
            };
            places.push(PageRow {
                partition: page.partition,
                page: page.page,
                start,
                len,
                records: page.records,
                crc: page.crc,
                row_len: 0,
                row_at: 0,
            });
            rows.push(Row::Page(Page {
                stream: Arc::clone(&self.name),
                partition: page.partition,
                page: page.page,
                request: page.request,
                part: self.ordinal,
                start,
                end,
                crc: page.crc,
                records: page.records,
                facts: page.facts,
            }));
            if matches!(page.piece, Piece::First | Piece::Next) {
                self.begun.insert(page.partition, (rows, places));
            } else {
                self.answers += u64::from(!is_raw);
                self.appended.0.append(&mut rows);
                self.appended.1.append(&mut places);
            }
            start = end;
        }
        Ok(())
    }

    /// Takes what was appended since the last time, to be committed before what follows.
    pub fn group(&mut self) -> Option<Group> {
        let (rows, index) = std::mem::take(&mut self.appended);
        (!rows.is_empty()).then(|| Group {
            part: self.part.file().clone(),
            ledger: Arc::clone(&self.ledger),
            rows,
            index,
            answers: std::mem::take(&mut self.answers),
        })
    }

    /// Appends and commits a group in one step.
    pub fn commit(&mut self, pages: Vec<NewPage<'_>>) -> Result<(), StoreError> {
        self.append(pages)?;
        if let Some(mut group) = self.group() {
            for row in group.commit()? {
                self.index.push(row);
            }
        }
        Ok(())
    }

    /// Takes back all that was committed, published or not: the stream begins with an empty part.
    /// What the old one holds may be an output by another name, and stays as it is.
    pub fn begin_again(&mut self) -> Result<(), StoreError> {
        let path = self.part.path().to_owned();
        // The part first: without rows it is never cut, whoever finds it.
        let fresh = path.with_extension("new");
        self.disk.remove_file(&fresh)?;
        self.disk.create_private(&fresh)?;
        self.disk.rename(&fresh, &path)?;
        if let Some(folder) = path.parent() {
            self.disk.sync_folder(folder)?;
        }
        let mut partitions: Vec<u32> = self.index.rows().iter().map(|row| row.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let rows = partitions.into_iter().map(|partition| {
            Row::Superseded(Superseded {
                stream: Arc::clone(&self.name),
                partition,
            })
        });
        let rows: Vec<Row> = rows.collect();
        if !rows.is_empty() {
            self.write(&rows)?;
        }
        self.index = Index::default();
        self.part = Part::open(&self.disk, &path, &self.name, &self.index, false)?;
        self.is_published = false;
        Ok(())
    }

    /// Takes a part back that was published, to append to it: what was published may be the same file
    /// by another name, and stays as it is.
    pub fn reclaim(&mut self) -> Result<(), StoreError> {
        let path = self.part.path().to_owned();
        self.part = Part::open(&self.disk, &path, &self.name, &self.index, false)?;
        Ok(())
    }

    /// A place beside its part for bodies that are too large for memory.
    pub fn bodies(&self) -> Bodies {
        Bodies::new(&self.disk, self.part.path(), &self.floor)
    }

    /// A file beside its part for what need not outlive this process.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        Ok(Scratch::create(
            &self.disk,
            &self.part.path().with_extension("names"),
        )?)
    }

    /// The walk is over, and these are its pages: of those that earlier processes committed some
    /// may count no more.
    pub fn walked(&mut self, index: Index) {
        self.index = index;
        self.part.grown();
    }

    /// Where to write what is sent, and what earlier processes sent of which nobody knows what came.
    pub fn sent(&self) -> (SentLog, BTreeMap<(u32, u32), Sent>) {
        (SentLog(Arc::clone(&self.ledger)), self.sent.clone())
    }

    /// The stream is to be published again, from what was committed.
    pub fn publish_again(&mut self) -> Result<(), StoreError> {
        self.reclaim()?;
        self.is_published = false;
        Ok(())
    }

    /// What earlier processes committed, to be looked up while the stream is written.
    pub fn recall(&self) -> Recall {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let (ledger, part) = (ledger.file().clone(), self.part.file().clone());
        Recall::new(Arc::clone(&self.name), ledger, part, &self.index)
    }

    /// Every row of a page of the stream, as they were committed, with where it stands in the ledger:
    /// also of such pages as count no more.
    pub fn each_row(&self, visit: &mut dyn FnMut(Place, Page)) -> Result<(), StoreError> {
        let file = {
            let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.file().clone()
        };
        ledger::read(&file, &mut |row, place| {
            if let Row::Page(page) = row
                && page.stream == self.name
            {
                visit(place, page);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Such a row once more.
    pub fn row(&self, place: Place) -> Result<Row, StoreError> {
        let file = {
            let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.file().clone()
        };
        ledger::read_row(&file, place)
    }

    /// Takes all pages of a partition back in one step: it is walked from its beginning again.
    pub fn supersede(&mut self, partition: u32) -> Result<(), StoreError> {
        self.write(&[Row::Superseded(Superseded {
            stream: Arc::clone(&self.name),
            partition,
        })])?;
        self.index.supersede(partition, 0);
        Ok(())
    }

    /// Says that outputs are whole beside their targets and will take their places.
    pub fn intend(&mut self, intents: Vec<PublishIntent>) -> Result<(), StoreError> {
        let rows: Vec<Row> = intents.iter().cloned().map(Row::PublishIntent).collect();
        if !rows.is_empty() {
            self.write(&rows)?;
        }
        self.intents = intents;
        Ok(())
    }

    /// Says that all outputs are in their places and that the state knows.
    pub fn published(&mut self) -> Result<(), StoreError> {
        self.write(&[Row::Published(Published {
            stream: Arc::clone(&self.name),
        })])?;
        self.is_published = true;
        Ok(())
    }

    fn write(&self, rows: &[Row]) -> Result<Vec<super::ledger::Place>, StoreError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.commit(rows)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the partitions of its pages other numbers: see [`Index::renumber`].
    pub fn renumber(&mut self, number: &dyn Fn(u32) -> Option<u32>) {
        self.index.renumber(number);
    }

    /// Its committed pages.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Its records.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Puts the committed pages into canonical order.
    pub fn sort(&mut self) {
        self.index.sort();
    }

    /// Compares pages of earlier processes with their checksums: see [`Part::check`].
    pub fn check(&mut self) -> Result<(), StoreError> {
        self.part.check(&self.index)
    }

    /// Outputs that an earlier process was about to put in their places.
    pub fn intents(&self) -> &[PublishIntent] {
        &self.intents
    }

    /// Whether all its outputs are in their places already.
    pub fn is_published(&self) -> bool {
        self.is_published
    }
}
