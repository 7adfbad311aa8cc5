//! The committed records of a table in canonical order, repeats by key left out: those of one stream
//! after those of another, in the order of the file.

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
use crate::store::stream::StreamStore;

/// Reads records in canonical order, page by page.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// Variables and templates.
    pub(super) run: &'a Run,
    /// The streams of the table.
    pub(super) members: Vec<Member<'a>>,
    /// At most so many of each.
    pub(super) most: u64,
}

/// A stream of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// Its plan.
    pub(super) plan: &'a StreamPlan,
    /// Its records, and where they are, sorted; nothing of a stream that does not run this time.
    pub(super) kept: Option<(&'a Part, &'a Index)>,
}

impl<'a> Member<'a> {
    /// A stream with what it has committed.
    pub(super) fn of(plan: &'a StreamPlan, store: &'a StreamStore) -> Self {
        Self {
            plan,
            kept: Some((store.part(), store.index())),
        }
    }

    /// A stream that does not run: what it brought before is in the base.
    pub(super) fn at_rest(plan: &'a StreamPlan) -> Self {
        Self { plan, kept: None }
    }

    fn records(&self) -> u64 {
        self.kept.map_or(0, |(_, index)| index.records())
    }

    fn load<'b>(&self, start: u64, len: u32, into: &'b mut Vec<u8>) -> io::Result<&'b str> {
        into.resize(len as usize, 0);
        if let Some((part, _)) = self.kept {
            part.read(start, into).map_err(io::Error::other)?;
        }
        std::str::from_utf8(into).map_err(io::Error::other)
    }
}

/// One record with where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    /// Which of the streams it comes from.
    pub(super) member: usize,
    /// Its ordinal in the table.
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
    /// page that held it again, and no later state of it. By stream and partition.
    within: HashMap<(usize, u32), u64>,
    /// How many are left out of each stream.
    left_out: Vec<u64>,
}

/// The record that counts of several with one key: with the partition and the place that it came
/// from, since variables and `index` are values of that record too.
#[derive(Debug)]
struct Later {
    member: usize,
    start: u64,
    len: u32,
    in_page: u32,
    partition: Arc<Partition>,
    /// See [`Ranks`].
    rank: Vec<u8>,
}

impl Repeats {
    /// How many records of a stream are left out.
    pub(super) fn count(&self, member: usize) -> u64 {
        self.left_out.get(member).copied().unwrap_or(0)
    }

    /// How many records of a partition came again unchanged.
    pub(super) fn within(&self, member: usize, partition: u32) -> u64 {
        self.within.get(&(member, partition)).copied().unwrap_or(0)
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

/// Which of several versions of one record counts, over the streams of a table: by the cursor where
/// all of them have the same, else that of the later stream, and by its own cursor within a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranks {
    /// Whether the values of one cursor can be compared with those of another.
    pub(super) one_cursor: bool,
}

impl Ranks {
    /// For the streams of a table.
    pub(super) fn of(members: &[Member<'_>]) -> Self {
        let field = |member: &Member<'_>| {
            let cursor = member.plan.cursor.as_ref()?;
            Some((cursor.field.clone()?, cursor.format.clone()))
        };
        let first = members.first().map(field);
        Self {
            one_cursor: members.iter().all(|member| Some(field(member)) == first),
        }
    }

    /// Appends bytes that sort as what counts of a record before its place in the table does.
    pub(super) fn push(self, plan: &StreamPlan, member: usize, record: &str, out: &mut Vec<u8>) {
        if !self.one_cursor {
            out.extend((member as u64).to_be_bytes());
        }
        push_rank(plan.cursor.as_ref(), record, out);
    }

    /// The same, beside a record that an earlier run brought: nothing, where it may be of a stream
    /// whose cursor says something else, and then the new one counts.
    pub(super) fn push_old(self, plan: &StreamPlan, record: &str, out: &mut Vec<u8>) {
        if self.one_cursor {
            push_rank(plan.cursor.as_ref(), record, out);
        }
    }
}

impl Rows<'_> {
    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        self.members.iter().map(Member::records).sum()
    }

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
            let Some(member) = self.members.get(later.member) else {
                return Ok(());
            };
            let placed = Placed {
                member: later.member,
                ordinal: placed.ordinal,
                in_page: later.in_page,
                json: member.load(later.start, later.len, &mut other)?,
            };
            visit(placed, &later.partition)
        })
    }

    fn each_placed(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut begin = 0;
        for (number, member) in self.members.iter().enumerate() {
            self.each_of(member, number, begin, visit)?;
            begin += member.records();
        }
        Ok(())
    }

    fn each_of(
        &self,
        member: &Member<'_>,
        number: usize,
        begin: u64,
        visit: &mut dyn FnMut(Placed<'_>, &Partition, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some((_, index)) = member.kept else {
            return Ok(());
        };
        let mut partitions = Source::of(self.run, member.plan).walk();
        let mut partition: Option<Partition> = None;
        let mut buffer = Vec::new();
        let mut ordinal = begin;
        for row in index.rows() {
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
            let page = member.load(row.start, row.len, &mut buffer)?;
            let mut start = row.start;
            for (in_page, json) in (0_u32..).zip(page.split_terminator('\n')) {
                if ordinal - begin >= self.most {
                    return Ok(());
                }
                visit(
                    Placed {
                        member: number,
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

    /// For each page the ordinal that it begins with, its stream and its partition.
    fn pages(&self) -> Vec<(u64, usize, u32)> {
        let mut next = 0;
        let mut pages = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            for row in member.kept.iter().flat_map(|(_, index)| index.rows()) {
                pages.push((next, number, row.partition));
                next += u64::from(row.records);
            }
        }
        pages
    }

    /// Finds records whose key comes again. Records without any part of the key are all
    /// different.
    pub(super) fn repeats(&self) -> io::Result<Repeats> {
        let mut repeats = Repeats {
            left_out: vec![0; self.members.len()],
            ..Repeats::default()
        };
        let of_members = self
            .members
            .iter()
            .map(|m| Key::new(m.plan, &self.run.names));
        let mut of_members: Vec<Key<'_>> = of_members.flatten().collect();
        if of_members.len() < self.members.len() || of_members.is_empty() {
            return Ok(repeats);
        }
        // Sorted beside the part: of many records they would not fit into memory.
        let (disk, root) = (&self.run.world.disk, &self.run.world.root);
        let beside = self
            .members
            .iter()
            .find_map(|one| Some((one.plan, one.kept?.0)));
        let folder = beside
            .and_then(|(_, part)| part.path().parent())
            .unwrap_or(root);
        let name = beside.map_or("", |(plan, _)| plan.name.as_str());
        let mut keys = Sorter::new(disk, folder, &format!("{name}.keys"));
        self.each(&mut |placed, partition| {
            let Some(key) = of_members.get_mut(placed.member) else {
                return Ok(());
            };
            let hash = key.hash(placed.json, partition, placed.in_page);
            if let Some((a, b)) = hash.map_err(io::Error::other)? {
                let pair = [a, b, placed.ordinal].map(u64::to_be_bytes);
                keys.push(pair.as_flattened(), &[])
                    .map_err(io::Error::other)?;
            }
            Ok(())
        })?;
        let pages = self.pages();
        let home = |ordinal: u64| {
            let page = pages.partition_point(|(begin, ..)| *begin <= ordinal);
            let page = pages.get(page.saturating_sub(1));
            page.map_or((0, 0), |(_, member, partition)| (*member, *partition))
        };
        // Ordinal of a record → ordinal of the one before it with its key, in its partition.
        let mut again: HashMap<u64, u64> = HashMap::new();
        let ranks = Ranks::of(&self.members);
        let has_cursor = |member: &Member<'_>| {
            let cursor = member.plan.cursor.as_ref();
            cursor.is_some_and(|cursor| cursor.field.is_some())
        };
        let has_cursor = self.members.iter().any(has_cursor);
        // Ordinal of each that may count → ordinal of the first of its key.
        let mut firsts: HashMap<u64, u64> = HashMap::new();
        each_repeated(keys, &mut |same| {
            // Without a cursor to compare only the last can be it.
            let may = if has_cursor { 0 } else { same.len() - 1 };
            firsts.extend(same[may..].iter().map(|ordinal| (*ordinal, same[0])));
            repeats.dropped.extend(&same[1..]);
            for ordinal in &same[1..] {
                if let Some(count) = repeats.left_out.get_mut(home(*ordinal).0) {
                    *count += 1;
                }
            }
            // Ordinals of one key ascend, and with them streams and partitions.
            for pair in same.windows(2) {
                if home(pair[0]) == home(pair[1]) {
                    again.insert(pair[1], pair[0]);
                }
            }
        })
        .map_err(io::Error::other)?;
        if !firsts.is_empty() {
            let mut shared: Option<(usize, Arc<Partition>)> = None;
            let before: HashSet<u64> = again.values().copied().collect();
            let mut contents: HashMap<u64, u32> = HashMap::new();
            self.each_placed(&mut |placed, partition, start| {
                let content = || crc::of(placed.json.as_bytes());
                if let Some(same) = again
                    .get(&placed.ordinal)
                    .and_then(|at| contents.remove(at))
                    && same == content()
                {
                    let home = (placed.member, partition.ordinal);
                    *repeats.within.entry(home).or_default() += 1;
                }
                if before.contains(&placed.ordinal) {
                    contents.insert(placed.ordinal, content());
                }
                let member = self.members.get(placed.member);
                if let (Some(first), Some(member)) = (firsts.get(&placed.ordinal), member) {
                    let home = (placed.member, partition.ordinal);
                    let (_, partition) = shared
                        .take_if(|(member, known)| (*member, known.ordinal) == home)
                        .unwrap_or_else(|| (placed.member, Arc::new(partition.clone())));
                    shared = Some((placed.member, partition.clone()));
                    let mut rank = Vec::new();
                    ranks.push(member.plan, placed.member, placed.json, &mut rank);
                    let known = repeats.replaced.get(first);
                    if known.is_some_and(|known| rank < known.rank) {
                        return Ok(());
                    }
                    repeats.replaced.insert(
                        *first,
                        Later {
                            member: placed.member,
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
