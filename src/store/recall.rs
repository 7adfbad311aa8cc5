//! Pages that earlier processes committed, to be found again while a run goes on.

use super::StoreError;
use super::index::{Index, PageRow};
use super::ledger;
use super::row::{Page, Row};
use crate::disk::DiskFile;

/// What was committed of a stream before this process; what a page said is read from the ledger.
#[derive(Debug)]
pub struct Recall {
    ledger: DiskFile,
    /// By partition and page; of several for one page the last counts.
    rows: Vec<PageRow>,
}

impl Recall {
    pub(super) fn new(ledger: DiskFile, index: &Index) -> Self {
        let mut rows = index.rows().to_vec();
        rows.sort_by_key(|row| (row.partition, row.page, row.row_at));
        Self { ledger, rows }
    }

    /// The latest row of a page.
    pub fn find(&self, partition: u32, page: u32) -> Option<PageRow> {
        let after = self
            .rows
            .partition_point(|row| (row.partition, row.page) <= (partition, page));
        let row = self.rows.get(after.checked_sub(1)?)?;
        ((row.partition, row.page) == (partition, page)).then_some(*row)
    }

    /// Reads back what a page said.
    pub fn page(&self, row: &PageRow) -> Result<Page, StoreError> {
        match ledger::read_row(&self.ledger, row.place())? {
            Row::Page(page) => Ok(page),
            _ => Err(StoreError::Corrupt {
                path: self.ledger.path().to_owned(),
                offset: row.row_at,
                what: "the row of a page is another one".to_owned(),
            }),
        }
    }

    /// The first page of each partition: its partition, and what was asked. Those that cannot be read
    /// back are left out.
    pub fn firsts(&self) -> impl Iterator<Item = (u32, u64)> {
        let firsts = self.rows.iter().filter(|row| row.page == 0);
        firsts.filter_map(|row| Some((row.partition, self.page(row).ok()?.request)))
    }

    /// The first number that no partition has.
    pub fn next_partition(&self) -> u32 {
        let last = self.rows.last();
        last.map_or(0, |row| row.partition.saturating_add(1))
    }

    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        let same = |a: &PageRow, b: &PageRow| (a.partition, a.page) == (b.partition, b.page);
        self.rows.chunk_by(same).count() as u64
    }

    /// Whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
