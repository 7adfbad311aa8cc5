//! Where each page lies in its part.

/// One committed page: 24 bytes, so that millions of them fit in memory.
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

    /// Puts the pages into canonical order: partition, then page.
    pub fn sort(&mut self) {
        self.rows
            .sort_unstable_by_key(|row| (row.partition, row.page));
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
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for row in self.rows.iter().filter(|row| row.len > 0) {
            let end = row.start + u64::from(row.len);
            match ranges.last_mut() {
                Some(last) if last.1 == row.start => last.1 = end,
                _ => ranges.push((row.start, end)),
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
        }
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<PageRow>(), 24);
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
        assert_eq!(index.ranges(), [(15, 20), (10, 15), (0, 10), (20, 27)]);
        assert_eq!(index.records(), 5);
    }

    #[test]
    fn neighbours_are_joined() {
        let mut index = Index::default();
        for r in [row(0, 0, 0, 10), row(0, 1, 10, 5), row(0, 2, 15, 5)] {
            index.push(r);
        }
        index.sort();
        assert_eq!(index.ranges(), [(0, 20)]);
    }
}
