//! Where each page lies in its part.

use std::collections::HashMap;

use super::ledger::Place;
use crate::crc;

/// One committed page: 40 bytes, so that millions of them fit in memory. What it said is read back
/// from the ledger when it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRow {
    /// Ordinal of the partition, in the order of `for`.
    pub partition: u32,
    /// Ordinal of the page in its partition.
    pub page: u32,
    /// First byte in the part.
    pub start: u64,
    /// Bytes.
    pub len: u32,
    /// Records.
    pub records: u32,
    /// CRC32C of its bytes.
    pub crc: u32,
    /// Bytes of its row in the ledger.
    pub row_len: u32,
    /// First byte of its row in the ledger.
    pub row_at: u64,
}

impl PageRow {
    /// First byte after it in the part.
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// Where its row lies in the ledger.
    pub fn place(&self) -> Place {
        Place {
            at: self.row_at,
            len: self.row_len,
        }
    }
}

/// Bytes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// The first after them.
    pub end: u64,
    /// Their CRC32C.
    pub crc: u32,
}

/// All committed pages of a stream.
#[derive(Debug, Default)]
pub struct Index {
    rows: Vec<PageRow>,
}

impl Index {
    /// Adds a page.
    pub fn push(&mut self, row: PageRow) {
        self.rows.push(row);
    }

    /// Takes the pages of a partition out from one on: others take their places.
    pub fn supersede(&mut self, partition: u32, from: u32) {
        self.rows
            .retain(|row| row.partition != partition || row.page < from);
    }

    /// Takes pages out that came before their partition began again: of each partition here, those
    /// among so many rows of all.
    pub(super) fn supersede_all(&mut self, before: &HashMap<u32, usize>) {
        let mut at = 0;
        self.rows.retain(|row| {
            at += 1;
            before.get(&row.partition).is_none_or(|rows| at > *rows)
        });
    }

    /// The end of the last page in the part.
    pub fn end(&self) -> u64 {
        self.rows.iter().map(PageRow::end).max().unwrap_or_default()
    }

    /// Puts the pages into canonical order: partition, then page.
    pub fn sort(&mut self) {
        self.rows
            .sort_unstable_by_key(|row| (row.partition, row.page));
    }

    /// Gives partitions other numbers; pages of those that have none are left out.
    pub fn renumber(&mut self, number: &dyn Fn(u32) -> Option<u32>) {
        self.rows.retain_mut(|row| {
            let new = number(row.partition);
            row.partition = new.unwrap_or(row.partition);
            new.is_some()
        });
    }

    /// The pages, in the order of arrival or, after [`Index::sort`], canonically.
    pub fn rows(&self) -> &[PageRow] {
        &self.rows
    }

    /// Records of all pages.
    pub fn records(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.records)).sum()
    }

    /// Byte ranges of the part that together are all pages in order; neighbours are joined.
    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for row in self.rows.iter().filter(|row| row.len > 0) {
            let end = row.end();
            match ranges.last_mut() {
                Some(last) if last.end == row.start => {
                    last.end = end;
                    last.crc = crc::combine(last.crc, row.crc, u64::from(row.len));
                }
                _ => ranges.push(Range {
                    start: row.start,
                    end,
                    crc: row.crc,
                }),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: u32, page: u32, start: u64, len: u32) -> PageRow {
        PageRow {
            partition,
            page,
            start,
            len,
            records: 1,
            crc: 0,
            row_len: 0,
            row_at: 0,
        }
    }

    fn pairs(index: &Index) -> Vec<(u64, u64)> {
        let ranges = index.ranges();
        ranges
            .iter()
            .map(|range| (range.start, range.end))
            .collect()
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<PageRow>(), 40);
    }

    #[test]
    fn pages_are_read_in_canonical_order_whatever_the_order_of_arrival() {
        let mut index = Index::default();
        for r in [
            row(1, 0, 0, 10),
            row(0, 1, 10, 5),
            row(0, 0, 15, 5),
            row(0, 2, 20, 0),
            row(1, 1, 20, 7),
        ] {
            index.push(r);
        }
        index.sort();
        assert_eq!(pairs(&index), [(15, 20), (10, 15), (0, 10), (20, 27)]);
        assert_eq!(index.records(), 5);
    }

    #[test]
    fn neighbours_are_joined() {
        let mut index = Index::default();
        for r in [row(0, 0, 0, 10), row(0, 1, 10, 5), row(0, 2, 15, 5)] {
            index.push(r);
        }
        index.sort();
        assert_eq!(pairs(&index), [(0, 20)]);
    }
}
