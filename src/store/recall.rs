//! Pages that earlier processes committed, to be found again while a run goes on.

use std::sync::Arc;

use super::StoreError;
use super::came;
use super::index::{Index, PageRow};
use super::ledger;
use super::row::{Came, Page, Row};
use crate::crc;
use crate::disk::DiskFile;

/// What was committed of a stream before this process; what a page said is read from the ledger.
#[derive(Debug)]
pub struct Recall {
    stream: Arc<str>,
    ledger: DiskFile,
    part: DiskFile,
    /// By partition and page; of several for one page the last counts.
    rows: Vec<PageRow>,
}

/// What is kept, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Pages; one that was committed again counts once.
    pub pages: u64,
    /// Records in them.
    pub records: u64,
}

impl Sums {
    /// What an index holds.
    pub(super) fn of(index: &Index) -> Self {
        Self::of_sorted(&sorted(index))
    }

    fn of_sorted(rows: &[PageRow]) -> Self {
        let same = |a: &PageRow, b: &PageRow| (a.partition, a.page) == (b.partition, b.page);
        let mut sums = Self::default();
        for page in rows.chunk_by(same) {
            sums.pages += 1;
            sums.records += page.last().map_or(0, |row| u64::from(row.records));
        }
        sums
    }

    /// Together with others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            pages: self.pages + other.pages,
            records: self.records + other.records,
        }
    }
}

/// By partition and page, and then as they were committed.
fn sorted(index: &Index) -> Vec<PageRow> {
    let mut rows = index.rows().to_vec();
    rows.sort_by_key(|row| (row.partition, row.page, row.row_at));
    rows
}

impl Recall {
    pub(super) fn new(stream: Arc<str>, ledger: DiskFile, part: DiskFile, index: &Index) -> Self {
        Self {
            stream,
            ledger,
            part,
            rows: sorted(index),
        }
    }

    /// All rows of a page, the latest first.
    pub fn find(&self, partition: u32, page: u32) -> impl Iterator<Item = PageRow> {
        let place = (partition, page);
        let after = (self.rows).partition_point(|row| (row.partition, row.page) <= place);
        let rows = self.rows.iter().take(after).rev().copied();
        rows.take_while(move |row| (row.partition, row.page) == place)
    }

    /// Reads back what a page said.
    pub fn page(&self, row: &PageRow) -> Result<Page, StoreError> {
        match ledger::read_row(&self.ledger, row.place())? {
            Row::Page(page) => Ok(page),
            _ => Err(self.unread(row, "the row of a page is another one")),
        }
    }

    /// Reads the records of a page back, one a line.
    pub fn records(&self, row: &PageRow) -> Result<String, StoreError> {
        String::from_utf8(self.bytes(row)?).map_err(|_| self.damaged(row))
    }

    /// Reads an answer back that is kept as it came.
    pub fn body(&self, row: &PageRow, came: &Came) -> Result<Vec<u8>, StoreError> {
        came::unpack(&self.bytes(row)?, came.size).map_err(|_| self.damaged(row))
    }

    fn bytes(&self, row: &PageRow) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; row.len as usize];
        self.part.read_exact_at(&mut bytes, row.start)?;
        if crc::of(&bytes) == row.crc {
            Ok(bytes)
        } else {
            Err(self.damaged(row))
        }
    }

    fn damaged(&self, row: &PageRow) -> StoreError {
        StoreError::Damaged {
            path: self.part.path().to_owned(),
            stream: self.stream.to_string(),
            partition: row.partition,
            page: row.page,
            start: row.start,
        }
    }

    /// That the row of a page makes no sense.
    pub fn unread(&self, row: &PageRow, what: &str) -> StoreError {
        StoreError::Corrupt {
            path: self.ledger.path().to_owned(),
            offset: row.row_at,
            what: what.to_owned(),
        }
    }

    /// The first page of each partition: its partition, and what was asked.
    pub fn firsts(&self) -> impl Iterator<Item = Result<(u32, u64), StoreError>> {
        let firsts = self.rows.iter().filter(|row| row.page == 0);
        firsts.map(|row| Ok((row.partition, self.page(row)?.request)))
    }

    /// The first number that no partition has.
    pub fn next_partition(&self) -> u32 {
        let last = self.rows.last();
        last.map_or(0, |row| row.partition.saturating_add(1))
    }

    /// How many pages there are, and records in them.
    pub fn sums(&self) -> Sums {
        Sums::of_sorted(&self.rows)
    }

    /// Whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
