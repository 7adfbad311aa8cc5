//! Totals that an API tells of, and what came: records that are missing, and data that changed
//! while it was read.
//!
//! An API that counts tells on each page how many records there are. Fewer in the end are a
//! shortfall: held back where `expect.total` says so, else published, told, and no success (exit
//! 3). Where rows move between pages a page repeats one and the next leaves one out: the sum is
//! right then, and only the key shows it. A total that changed on the way is told, since rows that
//! are removed before the place that was reached move others past it. So are more records than
//! were told of, and a total that is not where the pipeline says, or no number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::digest::Digest;
use super::walk;
use crate::event::Fact;
use crate::harvest::partitions::Partition;
use crate::harvest::publish::repeats::Repeats;
use crate::harvest::stream::Stream;
use crate::plan::paging::Paging;
use crate::plan::path::Path;
use crate::store::index::Index;

/// What the pages of one partition told of, first and last.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::harvest) struct Totals {
    first: Option<u64>,
    last: Option<u64>,
}

impl Totals {
    /// A page tells of so many records, or of nothing.
    pub(in crate::harvest) fn add(&mut self, told: Option<u64>) {
        self.first = self.first.or(told);
        self.last = told.or(self.last);
    }

    /// What the last page told of.
    pub(in crate::harvest) fn last(self) -> Option<u64> {
        self.last
    }
}

/// Partitions of a stream with a key, and the least that they told of: judged when it is known
/// which records are repeats.
#[derive(Debug, Default)]
pub(in crate::harvest) struct Told {
    owed: Mutex<BTreeMap<u32, u64>>,
    /// It was said that a total cannot be read.
    is_unread: AtomicBool,
}

impl Told {
    /// Whether any partition waits to be judged.
    pub(in crate::harvest) fn is_owed(&self) -> bool {
        let told = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        !told.is_empty()
    }
}

impl Stream {
    /// How many records a page tells of: at `expect.total`, else where the paging reads it.
    pub(in crate::harvest) fn told_total(&self, digest: &Digest) -> Option<u64> {
        match self.expect_total {
            Some(at) => walk::whole(digest.wanted.get(at)?.as_deref()),
            None => walk::total(&self.plan().paging, &digest.wanted),
        }
    }

    /// Says once where the first page tells nothing that `pages` or `expect` reads there: then a list
    /// that is cut short shows in no sum.
    pub(in crate::harvest) fn look_for_totals(&self, digest: &Digest) {
        if digest.count == 0 || digest.ended {
            return;
        }
        let plan = self.plan();
        let mut paths: Vec<(&str, &Path)> = Vec::new();
        match &plan.paging {
            Paging::Page { total, last, .. } => {
                paths.extend(total.iter().map(|path| ("pages.page.total", path)));
                paths.extend(last.iter().map(|path| ("pages.page.last", path)));
            }
            Paging::Offset { total, .. } => {
                paths.extend(total.iter().map(|path| ("pages.offset.total", path)));
            }
            // These have other paths before that of `expect`.
            _ => {}
        }
        for ((key, path), found) in paths.into_iter().zip(&digest.wanted) {
            let what = match found.as_deref() {
                None => "is not in the first page".to_owned(),
                Some(raw) if walk::whole(Some(raw)).is_none() => {
                    format!(
                        "is no whole number in the first page: {}",
                        walk::shorten(raw)
                    )
                }
                Some(_) => continue,
            };
            if !self.told.is_unread.swap(true, Ordering::Relaxed) {
                self.notice(&format!(
                    "`{key}: {path}` {what}; pages are asked for until one is empty or short, and nothing shows whether all came"
                ));
            }
        }
    }

    /// A partition was walked to its end.
    pub(in crate::harvest) fn judge_totals(
        &self,
        partition: &Partition,
        records: u64,
        totals: Totals,
    ) {
        let of = match partition.label() {
            label if label.is_empty() => String::new(),
            label => format!(" of {label}"),
        };
        let (Some(first), Some(last)) = (totals.first, totals.last) else {
            if self.expect_total.is_some() && records > 0 {
                let message = format!("no page{of} tells a whole number at `expect.total`");
                self.breaks("total", "a number of records", "none", &message);
            }
            return;
        };
        if first != last {
            let counted = matches!(
                self.plan().paging,
                Paging::Page { .. } | Paging::Offset { .. }
            );
            let risk = if last < first && counted {
                "; what moved up may have been passed over"
            } else {
                ""
            };
            self.notice(&format!(
                "the first page{of} tells of {first} records and the last of {last}: they changed while they were read{risk}"
            ));
        }
        if records > first.max(last) {
            self.notice(&format!(
                "the API tells of {} records{of}, but its pages held {records}",
                first.max(last)
            ));
        }
        if records < last {
            let short = format!("the API tells of {last} records, but its pages held {records}");
            if self.expect_total.is_some() {
                let message = format!("{short}{of}");
                self.breaks("total", last.to_string(), records.to_string(), &message);
            } else if !self.ends_early() {
                self.fell_short(&held_by_expect(&format!("{short}{of}")));
            }
        } else if !self.plan().key.is_empty()
            && !self.ends_early()
            // Steps may leave records out, and make several of one.
            && self.plan().transform.is_empty()
        {
            let mut told = self
                .told
                .owed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            told.insert(partition.ordinal, first.min(last));
        }
    }

    /// Repeats within a partition are known: what they took the place of is missing.
    pub(in crate::harvest) fn judge_unique(&self, index: &Index, repeats: &Repeats) {
        let told = self
            .told
            .owed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.is_empty() || repeats.is_empty() {
            return;
        }
        let mut held: BTreeMap<u32, u64> = BTreeMap::new();
        for row in index.rows() {
            *held.entry(row.partition).or_default() += u64::from(row.records);
        }
        let (mut wanted, mut unique) = (0, 0);
        for (partition, told) in told.iter() {
            let Some(place) = self.place_of(*partition) else {
                continue;
            };
            let held = held.get(&place).copied().unwrap_or(0);
            let kept = held.saturating_sub(repeats.within(0, place));
            if kept < *told {
                wanted += told;
                unique += kept;
            }
        }
        if unique == wanted {
            return;
        }
        let short = format!(
            "the API tells of {wanted} records, but without repeats its pages held {unique}: others were left out where some came twice"
        );
        if self.expect_total.is_some() {
            self.breaks("total", wanted.to_string(), unique.to_string(), &short);
        } else {
            self.fell_short(&held_by_expect(&short));
        }
    }

    pub(in crate::harvest) fn notice(&self, message: &str) {
        self.emit(Fact::Noticed {
            stream: self.name.clone(),
            message: self.run.secrets.scrub(message),
        });
    }

    /// Data that are published, but are no success.
    pub(in crate::harvest) fn fell_short(&self, message: &str) {
        self.emit(Fact::FellShort {
            stream: self.name.clone(),
            message: self.run.secrets.scrub(message),
        });
    }
}

fn held_by_expect(message: &str) -> String {
    format!("{message}; published all the same, `expect.total` would hold it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_tell_of_nothing_change_nothing() {
        let mut totals = Totals::default();
        totals.add(None);
        assert_eq!((totals.first, totals.last()), (None, None));
        for told in [Some(40), None, Some(39), None] {
            totals.add(told);
        }
        assert_eq!((totals.first, totals.last()), (Some(40), Some(39)));
    }
}
