//! A stream's committed records in canonical order, repeats by key left out.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::key::Key;
use super::newest::push_rank;
use super::partitions::{Partition, Source};
use super::run::Run;
use crate::crc;
use crate::disk::DiskError;
use crate::plan::StreamPlan;
use crate::store::index::Index;
use crate::store::part::Part;
use crate::store::sorter::Sorter;

/// Reads records in canonical order, page by page.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// Variables and templates.
    pub(super) run: &'a Run,
    /// The stream.
    pub(super) plan: &'a StreamPlan,
    /// Its records.
    pub(super) part: &'a Part,
    /// Where they are, sorted.
    pub(super) index: &'a Index,
    /// At most so many.
    pub(super) most: u64,
}

/// One record with where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    /// Its ordinal in the stream.
    pub(super) ordinal: u64,
    /// Its ordinal in its page.
    pub(super) in_page: u32,
    /// Its JSON text.
    pub(super) json: &'a str,
}

/// Which records give way to another with the same key: the one with the greatest cursor, else the
/// last, stands in the place of the first.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Ordinal of the first → the one that counts of the same key.
    replaced: HashMap<u64, Later>,
    /// Ordinals that are left out.
    dropped: HashSet<u64>,
    /// How many of them are, to the letter, the record before with that key in their partition: a
    /// page that held it again, and no later state of it.
    within: HashMap<u32, u64>,
}

/// The record that counts of several with one key: with the partition and the place that it came
/// from, since variables and `index` are values of that record too.
#[derive(Debug)]
struct Later {
    start: u64,
    len: u32,
    in_page: u32,
    partition: Arc<Partition>,
    /// See [`push_rank`].
    rank: Vec<u8>,
}

impl Repeats {
    /// How many records are left out.
    pub(super) fn count(&self) -> u64 {
        self.dropped.len() as u64
    }

    /// How many records of a partition came again unchanged.
    pub(super) fn within(&self, partition: u32) -> u64 {
        self.within.get(&partition).copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.dropped.is_empty()
    }
}

/// The ordinals of the records of each key that more than one has, ascending. What was pushed is a
/// hash of the key, and then the ordinal.
fn each_repeated(keys: Sorter, visit: &mut dyn FnMut(&[u64])) -> Result<(), DiskError> {
    let mut sorted = keys.finish()?;
    let (mut hash, mut same) = ([0; 16], Vec::new());
    while let Some((key, _)) = sorted.next()? {
        let Some((now, ordinal)) = key.split_first_chunk::<16>() else {
            continue;
        };
        if *now != hash {
            if same.len() > 1 {
                visit(&same);
            }
            (hash, same) = (*now, Vec::new());
        }
        same.extend(
            ordinal
                .first_chunk()
                .map(|bytes| u64::from_be_bytes(*bytes)),
        );
    }
    if same.len() > 1 {
        visit(&same);
    }
    Ok(())
}

impl Rows<'_> {
    /// Every record with its partition, in canonical order.
    pub(super) fn each(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_placed(&mut |placed, partition, _| visit(placed, partition))
    }

    /// Every record that is not left out for a later one.
    pub(super) fn each_kept(
        &self,
        repeats: &Repeats,
        visit: &mut dyn FnMut(Placed<'_>, &Partition) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut other = Vec::new();
        self.each(&mut |placed, partition| {
            if repeats.dropped.contains(&placed.ordinal) {
                return Ok(());
            }
            let Some(later) = repeats.replaced.get(&placed.ordinal) else {
                return visit(placed, partition);
            };
            let placed = Placed {
                ordinal: placed.ordinal,
                in_page: later.in_page,
                json: self.load(later.start, later.len, &mut other)?,
            };
            visit(placed, &later.partition)
        })
    }

    fn load<'b>(&self, start: u64, len: u32, into: &'b mut Vec<u8>) -> io::Result<&'b str> {
        into.resize(len as usize, 0);
        self.part.read(start, into).map_err(io::Error::other)?;
        std::str::from_utf8(into).map_err(io::Error::other)
    }

    fn each_placed(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut partitions = Source::of(self.run, self.plan).walk();
        let mut partition: Option<Partition> = None;
        let mut buffer = Vec::new();
        let mut ordinal = 0;
        for row in self.index.rows() {
            while partition.as_ref().is_none_or(|p| p.ordinal < row.partition) {
                partition = Some(
                    partitions
                        .next()
                        .transpose()
                        .map_err(io::Error::other)?
                        .ok_or_else(|| io::Error::other("a page of no partition"))?,
                );
            }
            let Some(partition) = &partition else { break };
            let page = self.load(row.start, row.len, &mut buffer)?;
            let mut start = row.start;
            for (in_page, json) in (0_u32..).zip(page.split_terminator('\n')) {
                if ordinal >= self.most {
                    return Ok(());
                }
                visit(
                    Placed {
                        ordinal,
                        in_page,
                        json,
                    },
                    partition,
                    start,
                )?;
                start += json.len() as u64 + 1;
                ordinal += 1;
            }
        }
        Ok(())
    }

    /// The partition of a record, given the ordinals that pages begin with.
    fn partition_of(&self, begins: &[u64], ordinal: u64) -> u32 {
        let page = begins.partition_point(|begin| *begin <= ordinal);
        let row = self.index.rows().get(page.saturating_sub(1));
        row.map_or(0, |row| row.partition)
    }

    /// Finds records whose key comes again. Records without any part of the key are all
    /// different.
    pub(super) fn repeats(&self) -> io::Result<Repeats> {
        let mut repeats = Repeats::default();
        let Some(mut key) = Key::new(self.plan, &self.run.names) else {
            return Ok(repeats);
        };
        // Sorted beside the part: of many records they would not fit into memory.
        let (disk, root) = (&self.run.world.disk, &self.run.world.root);
        let folder = self.part.path().parent().unwrap_or(root);
        let mut keys = Sorter::new(disk, folder, &format!("{}.keys", self.plan.name));
        self.each(&mut |placed, partition| {
            let hash = key.hash(placed.json, partition, placed.in_page);
            if let Some((a, b)) = hash.map_err(io::Error::other)? {
                let pair = [a, b, placed.ordinal].map(u64::to_be_bytes);
                keys.push(pair.as_flattened(), &[])
                    .map_err(io::Error::other)?;
            }
            Ok(())
        })?;
        // The ordinal that each page begins with.
        let begins: Vec<u64> = (self.index.rows().iter())
            .scan(0, |next, row| {
                let begin = *next;
                *next += u64::from(row.records);
                Some(begin)
            })
            .collect();
        // Ordinal of a record → ordinal of the one before it with its key, in its partition.
        let mut again: HashMap<u64, u64> = HashMap::new();
        let cursor = self.plan.cursor.as_ref();
        let cursor = cursor.filter(|cursor| cursor.field.is_some());
        // Ordinal of each that may count → ordinal of the first of its key.
        let mut firsts: HashMap<u64, u64> = HashMap::new();
        each_repeated(keys, &mut |same| {
            // Without a cursor to compare only the last can be it.
            let may = if cursor.is_some() { 0 } else { same.len() - 1 };
            firsts.extend(same[may..].iter().map(|ordinal| (*ordinal, same[0])));
            repeats.dropped.extend(&same[1..]);
            // Ordinals of one key ascend, and with them the partitions.
            for pair in same.windows(2) {
                if self.partition_of(&begins, pair[0]) == self.partition_of(&begins, pair[1]) {
                    again.insert(pair[1], pair[0]);
                }
            }
        })
        .map_err(io::Error::other)?;
        if !firsts.is_empty() {
            let mut shared: Option<Arc<Partition>> = None;
            let before: HashSet<u64> = again.values().copied().collect();
            let mut contents: HashMap<u64, u32> = HashMap::new();
            self.each_placed(&mut |placed, partition, start| {
                let content = || crc::of(placed.json.as_bytes());
                if let Some(same) = again
                    .get(&placed.ordinal)
                    .and_then(|at| contents.remove(at))
                    && same == content()
                {
                    *repeats.within.entry(partition.ordinal).or_default() += 1;
                }
                if before.contains(&placed.ordinal) {
                    contents.insert(placed.ordinal, content());
                }
                if let Some(first) = firsts.get(&placed.ordinal) {
                    let partition = shared
                        .take_if(|known| known.ordinal == partition.ordinal)
                        .unwrap_or_else(|| Arc::new(partition.clone()));
                    shared = Some(partition.clone());
                    let mut rank = Vec::new();
                    push_rank(cursor, placed.json, &mut rank);
                    let known = repeats.replaced.get(first);
                    if known.is_some_and(|known| rank < known.rank) {
                        return Ok(());
                    }
                    repeats.replaced.insert(
                        *first,
                        Later {
                            start,
                            len: u32::try_from(placed.json.len()).unwrap_or(u32::MAX),
                            in_page: placed.in_page,
                            partition,
                            rank,
                        },
                    );
                }
                Ok(())
            })?;
        }
        Ok(repeats)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::Disk;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_same_are_found_whatever_fits_into_memory(
            keys in prop::collection::vec(0_u64..40, 0..120),
            most in prop::sample::select(vec![1_usize, 100, 1000, usize::MAX]),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::holding(&Disk::system(), folder.path(), "a.keys", most);
            let mut wanted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for (ordinal, key) in (0_u64..).zip(&keys) {
                let pair = [*key, !*key, ordinal].map(u64::to_be_bytes);
                sorter.push(pair.as_flattened(), &[]).unwrap();
                wanted.entry(*key).or_default().push(ordinal);
            }
            let mut found = Vec::new();
            each_repeated(sorter, &mut |same| found.push(same.to_vec())).unwrap();
            wanted.retain(|_, same| same.len() > 1);
            prop_assert_eq!(found, wanted.into_values().collect::<Vec<_>>());
        }
    }
}
