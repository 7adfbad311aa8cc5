//! One stream of a run on disk: its part, its index, and its rows in the run's ledger.

use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;
use super::index::{Index, PageRow};
use super::ledger::Ledger;
use super::part::Part;
use super::row::{Facts, Page, PublishIntent, Published, Row, Superseded};
use super::space::Floor;
use crate::disk::Disk;

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
    /// How many.
    pub records: u32,
    /// What the walk needs to go on after it.
    pub facts: Facts,
    /// Greatest value of the cursor in its records, as JSON.
    pub greatest: Option<String>,
}

impl StreamStore {
    /// Commits a group: appends whole pages to the part, syncs it, appends their rows, syncs the
    /// ledger. When it returns, they survive anything; when it fails, the stream must not be
    /// written any more: what is on the disk is found out by the next process.
    pub fn commit(&mut self, pages: Vec<NewPage<'_>>) -> Result<(), StoreError> {
        if pages.is_empty() {
            return Ok(());
        }
        let bytes = pages.iter().map(|page| page.lines.len() as u64).sum();
        self.floor.allow(&self.disk, self.part.path(), bytes)?;
        let mut rows = Vec::with_capacity(pages.len());
        let mut index = Vec::with_capacity(pages.len());
        for page in pages {
            let start = self.part.append(page.lines)?;
            // Bodies are capped far below 4 GiB.
            let len = u32::try_from(page.lines.len()).unwrap_or(u32::MAX);
            let crc = crc32c::crc32c(page.lines);
            index.push(PageRow {
                partition: page.partition,
                page: page.page,
                start,
                len,
                records: page.records,
                crc,
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
                end: start + u64::from(len),
                crc,
                records: page.records,
                facts: page.facts,
                greatest: page.greatest,
            }));
        }
        self.part.sync()?;
        let places = self.write(&rows)?;
        for (mut row, place) in index.into_iter().zip(places) {
            (row.row_at, row.row_len) = (place.at, place.len);
            self.index.push(row);
        }
        Ok(())
    }

    /// Takes all pages of a partition back in one step: it is walked from its beginning again.
    pub fn supersede(&mut self, partition: u32) -> Result<(), StoreError> {
        self.write(&[Row::Superseded(Superseded {
            stream: Arc::clone(&self.name),
            partition,
        })])?;
        self.index.supersede(partition);
        Ok(())
    }

    /// Reads back what a page said.
    pub fn page(&self, row: &PageRow) -> Result<Page, StoreError> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match ledger.read(row.place())? {
            Row::Page(page) => Ok(page),
            _ => Err(StoreError::Corrupt {
                path: ledger.file().path().to_owned(),
                offset: row.row_at,
                what: "the row of a page is another one".to_owned(),
            }),
        }
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
