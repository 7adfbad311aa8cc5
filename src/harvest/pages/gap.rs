//! Empty pages among others: where the API says what its last page is, and nothing of how many
//! records there are, one that held none by mistake shows in no sum.

use super::digest::Digest;
use super::drift::Totals;
use crate::harvest::partitions::Partition;
use crate::harvest::stream::Stream;
use crate::plan::paging::Paging;

/// The first page without records, and the last with some; of pages in any order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::harvest) struct Gap {
    empty: Option<u32>,
    full: Option<u32>,
}

impl Gap {
    /// A page came. One that a rule of the pipeline calls empty is right.
    pub(in crate::harvest) fn add(&mut self, page: u32, digest: &Digest) {
        let one = match digest.count {
            0 if digest.ended => return,
            0 => Self {
                empty: Some(page),
                full: None,
            },
            _ => Self {
                empty: None,
                full: Some(page),
            },
        };
        self.also(one);
    }

    /// Others came.
    pub(in crate::harvest) fn also(&mut self, others: Self) {
        self.empty = match (self.empty, others.empty) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.full = self.full.max(others.full);
    }

    /// The first empty page before one that is not.
    fn page(self) -> Option<u32> {
        self.empty.filter(|empty| self.full > Some(*empty))
    }
}

impl Stream {
    /// A partition was walked to its end.
    pub(in crate::harvest) fn judge_gap(&self, partition: &Partition, gap: Gap, totals: Totals) {
        let counts = matches!(self.plan().paging, Paging::Page { last: Some(_), .. });
        // Where the API counts records, the sum says more.
        if counts
            && totals.last().is_none()
            && let Some(page) = gap.page()
        {
            let own = format!("{}, ", self.name);
            let place = self.place(partition, page);
            let place = place.strip_prefix(&own).unwrap_or(&place);
            self.fell_short(&format!(
                "{place} held no records, but pages after it did: something may be missing; published all the same"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_page_counts_before_one_that_is_not() {
        let gap = |counts: &[(u32, u64)]| {
            let mut gap = Gap::default();
            for (page, count) in counts {
                let digest = Digest {
                    count: *count,
                    ..Digest::default()
                };
                gap.add(*page, &digest);
            }
            gap.page()
        };
        assert_eq!(gap(&[(0, 2), (1, 2), (2, 0)]), None, "the end");
        assert_eq!(gap(&[(0, 2), (1, 0), (2, 0), (3, 1)]), Some(1));
        assert_eq!(
            gap(&[(0, 0), (4, 0), (3, 1), (2, 0)]),
            Some(0),
            "in any order"
        );
        assert_eq!(gap(&[(0, 0)]), None);
        let mut skipped = Gap::default();
        let ended = Digest {
            ended: true,
            ..Digest::default()
        };
        skipped.add(0, &ended);
        assert_eq!(skipped, Gap::default(), "a rule said so");
    }
}
