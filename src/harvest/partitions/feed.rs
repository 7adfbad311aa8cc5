//! What a stream's children see of it: its pages as soon as they are committed, the variables of
//! their partitions, and how it ended.
//!
//! Of a page it is known where it lies, 16 bytes; its records are read back from the part when a
//! child comes to them. So a million parents that wait for their turn hold no record.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::Value;
use tokio::sync::watch;

use super::record;
use crate::disk::{DiskError, DiskFile};
use crate::failure::Exit;
use crate::store::index::PageRow;
use crate::store::scratch::{self, Scratch, Spot};

/// A committed page of a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::harvest) struct FedPage {
    /// First byte in the part.
    pub(in crate::harvest) start: u64,
    /// Bytes.
    pub(in crate::harvest) len: u32,
    /// Its partition, as the run knows it.
    pub(in crate::harvest) partition: u32,
}

impl FedPage {
    /// A page of the index, under the partition's own number.
    pub(in crate::harvest) fn of(row: &PageRow) -> Self {
        Self {
            start: row.start,
            len: row.len,
            partition: row.partition,
        }
    }
}

/// What is at a place of a feed.
#[derive(Debug)]
pub(in crate::harvest) enum Fed {
    /// A page.
    Page(FedPage),
    /// Nothing yet.
    Wait,
    /// Nothing, and nothing will come.
    Over,
}

/// The records of a page, one a line, and the variables of its partition.
pub(in crate::harvest) type Opened = (String, Vec<(String, Value)>);

/// Where a parent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Pages come, in any order.
    #[default]
    Going,
    /// All pages are there, in canonical order.
    Whole,
    /// It failed; it counts for nothing.
    Failed,
}

/// One parent, seen by its children.
#[derive(Debug)]
pub(in crate::harvest) struct Feed {
    state: Mutex<State>,
    news: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// By arrival, then canonically.
    pages: Vec<FedPage>,
    /// Somebody came to where the next page will be.
    is_awaited: bool,
    /// Partitions that began again, and how many pages there were before.
    void: HashMap<u32, usize>,
    /// Where single pages lie that were taken back.
    gone: HashSet<u64>,
    part: Option<DiskFile>,
    names: Option<Scratch>,
    /// Where the variables of each partition lie.
    spots: Vec<Option<Spot>>,
    /// For a look ahead: records that stand for all pages.
    sample: Option<Opened>,
    /// How its publish ended.
    outcome: Option<Result<(), Exit>>,
}

impl Feed {
    /// Nothing has happened yet; `news` is told whenever something does.
    pub(in crate::harvest) fn new(news: Arc<watch::Sender<()>>) -> Self {
        Self {
            state: Mutex::default(),
            news,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where records are, and where variables are put away.
    pub(in crate::harvest) fn open(&self, part: DiskFile, names: Scratch) {
        let mut state = self.state();
        state.part = Some(part);
        state.names = Some(names);
    }

    /// A partition with these variables begins, or is known by others now.
    pub(in crate::harvest) fn name(
        &self,
        partition: u32,
        of: &[(String, Value)],
    ) -> Result<(), DiskError> {
        let text = record::to_text(of);
        let mut state = self.state();
        let Some(names) = &mut state.names else {
            return Ok(());
        };
        let spot = names.put(&text)?;
        let at = partition as usize;
        if state.spots.len() <= at {
            state.spots.resize(at + 1, None);
        }
        state.spots[at] = Some(spot);
        Ok(())
    }

    /// Pages were committed.
    pub(in crate::harvest) fn push<'r>(&self, rows: impl Iterator<Item = &'r PageRow>) {
        let with_records = rows.filter(|row| row.records > 0);
        let mut state = self.state();
        let before = state.pages.len();
        state.pages.extend(with_records.map(FedPage::of));
        state.is_awaited &= state.pages.len() == before;
        drop(state);
        self.news.send_replace(());
    }

    /// Whether children have nothing to do before the next page.
    pub(in crate::harvest) fn is_awaited(&self) -> bool {
        self.state().is_awaited
    }

    /// All pages of a partition so far are void.
    pub(in crate::harvest) fn supersede(&self, partition: u32) {
        let mut state = self.state();
        let pages = state.pages.len();
        state.void.insert(partition, pages);
    }

    /// Pages that were committed were taken back: others take their places.
    pub(in crate::harvest) fn take_back<'r>(&self, rows: impl Iterator<Item = &'r PageRow>) {
        let with_records = rows.filter(|row| row.records > 0);
        self.state().gone.extend(with_records.map(|row| row.start));
    }

    /// It was walked to its end: these are its pages, in canonical order.
    pub(in crate::harvest) fn whole(&self, pages: Vec<FedPage>) {
        let mut state = self.state();
        state.phase = Phase::Whole;
        state.pages = pages;
        state.void = HashMap::new();
        state.gone = HashSet::new();
        drop(state);
        self.news.send_replace(());
    }

    /// For a look ahead: these records, of a partition with these variables, stand for all.
    pub(in crate::harvest) fn sample(&self, records: &[String], variables: Vec<(String, Value)>) {
        let mut lines = records.join("\n");
        if !records.is_empty() {
            lines.push('\n');
        }
        let mut state = self.state();
        state.phase = Phase::Whole;
        state.pages = vec![FedPage {
            start: 0,
            len: 0,
            partition: 0,
        }];
        state.sample = Some((lines, variables));
    }

    /// Its publish ended so.
    pub(in crate::harvest) fn over(&self, outcome: Result<(), Exit>) {
        let mut state = self.state();
        if outcome.is_err() && state.phase == Phase::Going {
            state.phase = Phase::Failed;
        }
        state.outcome = Some(outcome);
        drop(state);
        self.news.send_replace(());
    }

    /// What is at a place; by arrival while it is walked (`live`), else in canonical order.
    pub(in crate::harvest) fn at(&self, place: usize, live: bool) -> Fed {
        let mut state = self.state();
        match (state.phase, live) {
            (Phase::Going, true) => {
                let page = state.pages.get(place).copied();
                state.is_awaited |= page.is_none();
                page.map_or(Fed::Wait, Fed::Page)
            }
            // The rest is found in canonical order.
            (Phase::Whole, false) => state.pages.get(place).map_or(Fed::Over, |p| Fed::Page(*p)),
            _ => Fed::Over,
        }
    }

    /// Whether what stands at a place has been taken back.
    pub(in crate::harvest) fn is_void(&self, place: usize, page: &FedPage) -> bool {
        let state = self.state();
        let before = state.void.get(&page.partition);
        before.is_some_and(|before| place < *before) || state.gone.contains(&page.start)
    }

    /// Reads a page back.
    pub(in crate::harvest) fn read(&self, page: &FedPage) -> io::Result<Opened> {
        let state = self.state();
        if let Some((lines, variables)) = &state.sample {
            return Ok((lines.clone(), variables.clone()));
        }
        let part = state.part.clone();
        let names = state.names.as_ref().map(|names| names.file().clone());
        let spot = state.spots.get(page.partition as usize).copied().flatten();
        drop(state);
        let part = part.ok_or_else(|| io::Error::other("its part is not open"))?;
        let mut bytes = vec![0; page.len as usize];
        part.read_exact_at(&mut bytes, page.start)
            .map_err(io::Error::other)?;
        let lines = String::from_utf8(bytes).map_err(io::Error::other)?;
        let variables = match names.zip(spot) {
            Some((names, spot)) => {
                let text = scratch::get(&names, spot).map_err(io::Error::other)?;
                record::of_text(&text)
                    .ok_or_else(|| io::Error::other("the variables of a partition are damaged"))?
            }
            None => Vec::new(),
        };
        Ok((lines, variables))
    }

    /// Whether all its pages are there.
    pub(in crate::harvest) fn is_whole(&self) -> bool {
        self.state().phase == Phase::Whole
    }

    /// How its publish ended, if it did.
    pub(in crate::harvest) fn outcome(&self) -> Option<Result<(), Exit>> {
        self.state().outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_whose_children_wait_is_small() {
        assert_eq!(size_of::<FedPage>(), 16);
    }

    fn row(partition: u32, start: u64) -> PageRow {
        PageRow {
            partition,
            page: 0,
            start,
            len: 1,
            records: 1,
            crc: 0,
            row_len: 0,
            row_at: 0,
        }
    }

    fn void(feed: &Feed) -> Vec<bool> {
        (0..3)
            .filter_map(|at| match feed.at(at, true) {
                Fed::Page(page) => Some(feed.is_void(at, &page)),
                Fed::Wait | Fed::Over => None,
            })
            .collect()
    }

    #[test]
    fn pages_of_a_partition_that_began_again_are_void() {
        let feed = Feed::new(Arc::new(watch::Sender::new(())));
        feed.push([row(0, 0), row(1, 1)].iter());
        feed.supersede(0);
        feed.push([row(0, 2)].iter());
        assert_eq!(void(&feed), [true, false, false]);
    }

    #[test]
    fn pages_that_were_taken_back_are_void() {
        let feed = Feed::new(Arc::new(watch::Sender::new(())));
        feed.push([row(0, 0), row(0, 1)].iter());
        feed.take_back([row(0, 1)].iter());
        feed.push([row(0, 2)].iter());
        assert_eq!(void(&feed), [false, true, false]);
    }
}
