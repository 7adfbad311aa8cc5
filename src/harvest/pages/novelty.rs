//! Whether the pages of a partition still bring new keys.
//!
//! A run that goes on looks at the pages that it kept once more, so that a circle is found as soon
//! as without the stop: when the first page is fetched after them, and as far back as keys are
//! remembered.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::failure::Failure;
use crate::harvest::names::Names;
use crate::harvest::partitions::Partition;
use crate::harvest::publish::key::Key;
use crate::harvest::stream::Stream;
use crate::plan::StreamPlan;
use crate::plan::language::LanguageProblem;
use crate::records::page::Page;
use crate::store::StoreError;
use crate::store::index::PageRow;

/// Records whose last so many keys are remembered; a loop comes back far sooner.
const REMEMBERED: usize = 16 * 1024;
/// Pages without a new key that make a loop (design, A run).
const STALE_PAGES: u32 = 3;

/// Notices when a partition's pages stop bringing new keys.
#[derive(Debug)]
pub(in crate::harvest) struct Novelty<'a> {
    key: Key<'a>,
    /// Keys seen, each at the place its hash gives: a later one takes the place of an earlier.
    seen: Vec<u64>,
    stale: u32,
    /// Pages that an earlier attempt kept and that were not looked at yet, and records on them.
    kept: VecDeque<PageRow>,
    held: usize,
}

impl<'a> Novelty<'a> {
    /// Nothing was seen yet; `None` for a stream without a key.
    pub(in crate::harvest) fn new(plan: &'a StreamPlan, names: &'a Names) -> Option<Self> {
        Key::new(plan, names).map(Self::of)
    }

    fn of(key: Key<'a>) -> Self {
        Self {
            key,
            seen: Vec::new(),
            stale: 0,
            kept: VecDeque::new(),
            held: 0,
        }
    }

    /// The walk went over a page that an earlier attempt kept. What is remembered no longer need not
    /// be looked at.
    pub(in crate::harvest) fn keep(&mut self, row: PageRow) {
        let records = |row: &PageRow| row.records as usize;
        self.held += records(&row);
        self.kept.push_back(row);
        while let Some(first) = self.kept.front()
            && self.held - records(first) >= REMEMBERED
        {
            self.held -= records(first);
            self.kept.pop_front();
        }
    }

    /// Looks at a page's records; false when too many pages in a row had no new key.
    fn judge<'r>(
        &mut self,
        records: impl Iterator<Item = &'r str>,
        partition: &Partition,
    ) -> Result<bool, LanguageProblem> {
        self.seen.resize(REMEMBERED, 0);
        let (mut any, mut new) = (false, false);
        for (in_page, record) in (0..).zip(records) {
            // Zero stands for an empty place; one key in 2^64 is taken for another.
            let Some((hash, _)) = self.key.hash(record, partition, in_page)? else {
                new = true;
                continue;
            };
            any = true;
            let place = usize::try_from(hash % REMEMBERED as u64).unwrap_or(0);
            new |= std::mem::replace(&mut self.seen[place], hash) != hash;
        }
        self.stale = if new || !any { 0 } else { self.stale + 1 };
        Ok(self.stale < STALE_PAGES)
    }
}

impl Stream {
    /// Looks at a page that was fetched, after those that were kept before it; false when too many
    /// in a row had no new key.
    pub(in crate::harvest) async fn brings_new(
        self: &Arc<Self>,
        novelty: &mut Novelty<'_>,
        page: &Page,
        partition: &Partition,
    ) -> Result<bool, Box<Failure>> {
        let unrendered = |e: LanguageProblem| self.unrendered(&e);
        for row in std::mem::take(&mut novelty.kept) {
            let stream = Arc::clone(self);
            let read = tokio::task::spawn_blocking(move || {
                let recall = stream.recall();
                recall.map(|recall| recall.records(&row)).transpose()
            });
            let records = match read.await {
                Ok(records) => records.map_err(StoreError::into_failure)?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            let records = records.unwrap_or_default();
            // Whether it was one too many was judged when it came.
            let records = records.split_terminator('\n');
            novelty.judge(records, partition).map_err(unrendered)?;
        }
        novelty.held = 0;
        novelty.judge(page.records(), partition).map_err(unrendered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_pages_without_a_new_key_are_a_loop() {
        let names = Names::empty();
        let mut novelty = Novelty::of(Key::of_field("id", &names));
        let partition = Partition {
            ordinal: 0,
            variables: Vec::new(),
        };
        let mut judge = |ids: &[u32]| {
            let records: Vec<String> = ids
                .iter()
                .map(|id| format!("{{\"id\":{id},\"at\":{}}}", ids.len()))
                .collect();
            novelty
                .judge(records.iter().map(String::as_str), &partition)
                .expect("no template")
        };
        assert!(judge(&[1, 2, 3]));
        assert!(
            judge(&[3, 2]) && judge(&[1]),
            "two stale pages can be an overlap"
        );
        assert!(judge(&[3, 4]), "a new key starts again");
        assert!(judge(&[4]) && judge(&[3]));
        assert!(judge(&[]), "an empty page says nothing");
        assert!(judge(&[1]) && judge(&[2]));
        assert!(!judge(&[1, 2]));
    }

    #[test]
    fn of_kept_pages_as_many_are_looked_at_as_keys_are_remembered() {
        let names = Names::empty();
        let mut novelty = Novelty::of(Key::of_field("id", &names));
        for page in 0..100 {
            novelty.keep(PageRow {
                partition: 0,
                page,
                start: 0,
                len: 0,
                records: 1000,
                crc: 0,
                row_len: 0,
                row_at: 0,
            });
        }
        assert_eq!(novelty.held, 17_000);
        let pages: Vec<u32> = novelty.kept.iter().map(|row| row.page).collect();
        assert_eq!(pages, (83..100).collect::<Vec<_>>());
    }
}
