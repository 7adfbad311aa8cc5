//! Which records of a run give way to another with the same key: of several the one with the
//! greatest cursor counts, else the last, in the place of the first; over all streams of a table.
//!
//! However many come again, memory does not grow with them: what becomes of each is sorted on disk
//! by its place and read beside the records.

use std::collections::HashMap;
use std::io;

use super::key::Key;
use super::rows::{Placed, Ranks, Rows};
use crate::crc;
use crate::disk::{DiskError, DiskFile};
use crate::harvest::partitions::Partition;
use crate::harvest::partitions::record;
use crate::harvest::stream::Stream;
use crate::store::scratch::{self, Scratch, Spot};
use crate::store::sorter::{Sorted, Sorter};

/// Bytes of places held in memory before they are spilled; several such sorts may be at work.
const HELD: usize = 8 << 20;

/// What becomes of records whose key comes more than once.
#[derive(Debug, Default)]
pub(in crate::harvest) struct Repeats {
    /// Records without any part of the key, of each stream: nothing tells them apart.
    keyless: HashMap<usize, u64>,
    /// Records that are left out, of each stream.
    left_out: HashMap<u32, u64>,
    /// How many of a partition are, to the letter, the record before with that key there: a page that
    /// held it again, and no later state of it.
    within: HashMap<(u32, u32), u64>,
    fates: Option<Fates>,
}

/// By ordinal: records that are left out, and first ones in whose place another stands.
#[derive(Debug)]
struct Fates {
    sorted: Sorted,
    /// Variables of partitions.
    origins: Option<DiskFile>,
}

/// What becomes of the record with this ordinal.
#[derive(Debug, Clone, Copy)]
struct Fate {
    ordinal: u64,
    /// Nothing where it is left out.
    later: Option<Version>,
}

/// A record of which there are several: where it lies and came from.
#[derive(Debug, Clone, Copy)]
struct Version {
    start: u64,
    len: u32,
    in_page: u32,
    partition: u32,
    crc: u32,
    /// Its stream, by its place in the table.
    member: u32,
    /// Variables of its partition, where that has some and is not the first of its key.
    origin: Option<Spot>,
}

impl Version {
    const LEN: usize = 8 + 5 * 4 + Spot::LEN;

    fn push(&self, out: &mut Vec<u8>) {
        out.extend(self.start.to_le_bytes());
        for number in [
            self.len,
            self.in_page,
            self.partition,
            self.crc,
            self.member,
        ] {
            out.extend(number.to_le_bytes());
        }
        let nowhere = [u8::MAX; Spot::LEN];
        out.extend(self.origin.map_or(nowhere, Spot::to_bytes));
    }

    /// What [`Self::push`] wrote, and what follows it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (start, rest) = bytes.split_first_chunk::<8>()?;
        let (numbers, rest) = rest.split_first_chunk::<20>()?;
        let (origin, rest) = rest.split_first_chunk::<{ Spot::LEN }>()?;
        let number = |at: usize| {
            let bytes = numbers.get(4 * at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let version = Self {
            start: u64::from_le_bytes(*start),
            len: number(0)?,
            in_page: number(1)?,
            partition: number(2)?,
            crc: number(3)?,
            member: number(4)?,
            origin: (*origin != [u8::MAX; Spot::LEN]).then(|| Spot::of_bytes(*origin)),
        };
        Some((version, rest))
    }
}

/// Two ordinals, as they are sorted.
fn pair(first: u64, second: u64) -> [[u8; 8]; 2] {
    [first, second].map(u64::to_be_bytes)
}

fn numbers(key: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = key.split_first_chunk()?;
    let second = rest.first_chunk()?;
    Some((u64::from_be_bytes(*first), u64::from_be_bytes(*second)))
}

/// Visits each record whose key another has too, with the first of that key. What was pushed is a hash
/// of the key, and then the ordinal.
fn each_repeated(
    keys: Sorter,
    visit: &mut dyn FnMut(u64, u64) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut sorted = keys.finish()?;
    let (mut hash, mut first, mut is_told) = ([0; 16], None, false);
    while let Some((key, _)) = sorted.next()? {
        let Some((now, rest)) = key.split_first_chunk::<16>() else {
            continue;
        };
        let Some(ordinal) = rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else {
            continue;
        };
        match first {
            Some(first) if *now == hash => {
                if !is_told {
                    visit(first, first)?;
                }
                is_told = true;
                visit(ordinal, first)?;
            }
            _ => (hash, first, is_told) = (*now, Some(ordinal), false),
        }
    }
    Ok(())
}

/// The next of what [`each_repeated`] found, sorted by ordinal.
fn next_pair(sorted: &mut Sorted) -> Result<Option<(u64, u64)>, DiskError> {
    Ok(sorted.next()?.and_then(|(key, _)| numbers(key)))
}

/// What is known of one key while its versions pass by.
struct Group {
    first: u64,
    /// The one that counts so far, with its ordinal and rank.
    newest: (u64, Version, Vec<u8>),
    /// The one before.
    before: Version,
}

impl Group {
    fn settle(self, fates: &mut Sorter) -> Result<(), DiskError> {
        let (ordinal, version, _) = self.newest;
        if ordinal == self.first {
            return Ok(());
        }
        let mut value = Vec::with_capacity(Version::LEN);
        version.push(&mut value);
        fates.push(&self.first.to_be_bytes(), &value)
    }
}

impl Repeats {
    /// How many records of a stream are left out.
    pub(in crate::harvest) fn count(&self, member: usize) -> u64 {
        let member = u32::try_from(member).ok();
        let count = member.and_then(|member| self.left_out.get(&member));
        count.copied().unwrap_or(0)
    }

    /// How many records of a partition came again unchanged.
    pub(in crate::harvest) fn within(&self, member: u32, partition: u32) -> u64 {
        self.within.get(&(member, partition)).copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub(in crate::harvest) fn is_empty(&self) -> bool {
        self.left_out.is_empty()
    }

    /// Judges versions, which come by key and then by place.
    fn judge(
        mut versions: Sorted,
        mut fates: Sorter,
        origins: Option<DiskFile>,
    ) -> Result<Self, DiskError> {
        let mut repeats = Self::default();
        let mut group: Option<Group> = None;
        while let Some((key, value)) = versions.next()? {
            let (Some((first, ordinal)), Some((version, rank))) =
                (numbers(key), Version::read(value))
            else {
                continue;
            };
            match &mut group {
                Some(group) if group.first == first => {
                    *repeats.left_out.entry(version.member).or_default() += 1;
                    let before = group.before;
                    let home = (version.member, version.partition);
                    if (before.member, before.partition) == home && before.crc == version.crc {
                        *repeats.within.entry(home).or_default() += 1;
                    }
                    group.before = version;
                    if *rank >= *group.newest.2 {
                        group.newest = (ordinal, version, rank.to_vec());
                    }
                    fates.push(&ordinal.to_be_bytes(), &[])?;
                }
                _ => {
                    let new = Group {
                        first,
                        newest: (ordinal, version, rank.to_vec()),
                        before: version,
                    };
                    if let Some(done) = group.replace(new) {
                        done.settle(&mut fates)?;
                    }
                }
            }
        }
        if let Some(done) = group {
            done.settle(&mut fates)?;
        }
        repeats.fates = Some(Fates {
            sorted: fates.finish()?,
            origins,
        });
        Ok(repeats)
    }
}

impl Fates {
    fn next(&mut self) -> Result<Option<Fate>, DiskError> {
        let next = self.sorted.next()?;
        Ok(next.and_then(|(key, value)| {
            Some(Fate {
                ordinal: u64::from_be_bytes(*key.first_chunk()?),
                later: Version::read(value).map(|(version, _)| version),
            })
        }))
    }

    /// The partition that a version came from.
    fn origin(&self, version: &Version) -> Result<Option<Partition>, DiskError> {
        let (Some(file), Some(spot)) = (&self.origins, version.origin) else {
            return Ok(None);
        };
        let variables = record::of_text(&scratch::get(file, spot)?);
        Ok(variables.map(|variables| Partition {
            ordinal: version.partition,
            variables,
        }))
    }
}

impl Stream {
    /// Tells of records that nothing tells apart: a key that is misspelt would leave all repeats in.
    pub(in crate::harvest) fn tell_keyless(&self, rows: &Rows<'_>, repeats: &Repeats, at: usize) {
        let (Some(member), Some(keyless)) = (rows.members.get(at), repeats.keyless.get(&at)) else {
            return;
        };
        self.notice(&format!(
            "{keyless} of {} records have no `{}`: nothing tells them apart, and none of them is left out",
            member.records(),
            self.plan().key.join("`, `")
        ));
    }
}

impl Rows<'_> {
    /// Every record that is not left out for a later one.
    pub(in crate::harvest) fn each_kept(
        &self,
        repeats: &mut Repeats,
        visit: &mut dyn FnMut(Placed<'_>, &Partition) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(fates) = &mut repeats.fates else {
            return self.each(visit);
        };
        fates.sorted.rewind().map_err(io::Error::other)?;
        let mut fate = fates.next().map_err(io::Error::other)?;
        let mut origin: Option<(u32, Partition)> = None;
        let mut other = Vec::new();
        self.each(&mut |placed, partition| {
            let Some(Fate { later, .. }) = fate.take_if(|fate| fate.ordinal == placed.ordinal)
            else {
                return visit(placed, partition);
            };
            fate = fates.next().map_err(io::Error::other)?;
            let Some(later) = later else {
                return Ok(());
            };
            let at = later.member as usize;
            let Some(member) = self.members.get(at) else {
                return Ok(());
            };
            let is_home = at == placed.member && later.partition == partition.ordinal;
            let placed = Placed {
                member: at,
                ordinal: placed.ordinal,
                page: None,
                in_page: later.in_page,
                json: member.load(later.start, later.len, &mut other)?,
            };
            if is_home {
                return visit(placed, partition);
            }
            // Variables and `index` are values of that record too.
            let home = (later.member, later.partition);
            let is_known = |(member, o): &(u32, Partition)| (*member, o.ordinal) == home;
            if !origin.as_ref().is_some_and(is_known) {
                let found = fates.origin(&later).map_err(io::Error::other)?;
                origin = found.map(|found| (later.member, found));
            }
            visit(
                placed,
                origin.as_ref().map_or(partition, |(_, origin)| origin),
            )
        })
    }

    /// Finds records whose key comes again. Records without any part of the key are all
    /// different.
    pub(in crate::harvest) fn repeats(&self) -> io::Result<Repeats> {
        let keys = self.members.iter();
        let keys = keys.map(|member| Key::new(member.plan, &self.run.names));
        let Some(mut of_members) = keys.collect::<Option<Vec<_>>>() else {
            return Ok(Repeats::default());
        };
        // Sorted beside the part: of many records they would not fit into memory.
        let (disk, root) = (&self.run.world.disk, &self.run.world.root);
        let mut members = self.members.iter();
        let beside = members.find_map(|one| Some((one.plan.name.as_str(), one.kept?.0)));
        let folder = beside.and_then(|(_, part)| part.path().parent());
        let folder = folder.unwrap_or(root);
        let stream = beside.map_or("", |(name, _)| name);
        let name = |what: &str| format!("{stream}.{what}");
        let sorter = |what: &str| Sorter::holding(disk, folder, &name(what), HELD);
        let mut keys = Sorter::new(disk, folder, &name("keys"));
        let mut keyless = HashMap::new();
        self.each(&mut |placed, partition| {
            let Some(key) = of_members.get_mut(placed.member) else {
                return Ok(());
            };
            let hash = key.hash(placed.json, partition, placed.in_page);
            let Some((a, b)) = hash.map_err(io::Error::other)? else {
                *keyless.entry(placed.member).or_default() += 1;
                return Ok(());
            };
            let triple = [a, b, placed.ordinal].map(u64::to_be_bytes);
            keys.push(triple.as_flattened(), &[])
                .map_err(io::Error::other)
        })?;
        let mut same = sorter("same");
        let found = each_repeated(keys, &mut |ordinal, first| {
            same.push(pair(ordinal, first).as_flattened(), &[])
        });
        let same = found.and_then(|()| same.finish());
        let mut same = same.map_err(io::Error::other)?;
        let mut next = next_pair(&mut same).map_err(io::Error::other)?;
        if next.is_none() {
            return Ok(Repeats {
                keyless,
                ..Repeats::default()
            });
        }
        let ranks = Ranks::of(&self.members);
        // Streams of a table have variables of their own, or none.
        let is_shared = self.members.len() > 1;
        let mut versions = sorter("versions");
        let mut origins: Option<Scratch> = None;
        let mut origin: Option<((u32, u32), Spot)> = None;
        let mut value = Vec::new();
        self.each_placed(&mut |placed, partition, start| {
            let Some((ordinal, first)) = next.take_if(|next| next.0 == placed.ordinal) else {
                return Ok(());
            };
            next = next_pair(&mut same).map_err(io::Error::other)?;
            let at = u32::try_from(placed.member).unwrap_or(u32::MAX);
            let home = (at, partition.ordinal);
            if first != ordinal
                && (is_shared || !partition.variables.is_empty())
                && origin.is_none_or(|(known, _)| known != home)
            {
                let file = match &mut origins {
                    Some(file) => file,
                    none => none.insert(
                        Scratch::create(disk, &folder.join(name("origins")))
                            .map_err(io::Error::other)?,
                    ),
                };
                let spot = file.put(&record::to_text(&partition.variables));
                origin = Some((home, spot.map_err(io::Error::other)?));
            }
            let version = Version {
                start,
                len: u32::try_from(placed.json.len()).unwrap_or(u32::MAX),
                in_page: placed.in_page,
                partition: partition.ordinal,
                crc: crc::of(placed.json.as_bytes()),
                member: at,
                origin: origin
                    .filter(|(known, _)| *known == home)
                    .map(|(_, spot)| spot),
            };
            value.clear();
            version.push(&mut value);
            if let Some(member) = self.members.get(placed.member) {
                ranks.push(member.plan, placed.member, placed.json, &mut value);
            }
            let place = pair(first, ordinal);
            versions
                .push(place.as_flattened(), &value)
                .map_err(io::Error::other)
        })?;
        drop(same);
        let origins = origins.map(|origins| origins.file().clone());
        let versions = versions.finish().map_err(io::Error::other)?;
        let judged = Repeats::judge(versions, sorter("fates"), origins);
        let judged = judged.map_err(io::Error::other)?;
        Ok(Repeats { keyless, ..judged })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::Disk;

    /// Records as (key, rank, content, partition), by place: what is left of them, told plainly.
    fn plainly(records: &[(u64, u8, u32, u32)]) -> (Vec<(u64, u64)>, u64, BTreeMap<u32, u64>) {
        let (mut kept, mut within) = (Vec::new(), BTreeMap::new());
        let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            groups.entry(record.0).or_default().push(at);
        }
        for group in groups.values() {
            let newest = group.iter().max_by_key(|at| (records[**at].1, **at));
            kept.push((group[0] as u64, *newest.unwrap() as u64));
            for pair in group.windows(2) {
                let (a, b) = (records[pair[0]], records[pair[1]]);
                if (a.2, a.3) == (b.2, b.3) {
                    *within.entry(a.3).or_default() += 1;
                }
            }
        }
        kept.sort_unstable();
        let dropped = (records.len() - kept.len()) as u64;
        (kept, dropped, within)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_same_count_whatever_fits_into_memory(
            keys in prop::collection::vec((0_u64..40, 0_u8..3, 0_u32..2), 0..120),
            most in prop::sample::select(vec![1_usize, 100, 1000, usize::MAX]),
        ) {
            let records: Vec<_> = (0_u32..).zip(&keys)
                .map(|(at, (key, rank, content))| (*key, *rank, *content, at / 10))
                .collect();
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk::system();
            let sorter = |name| Sorter::holding(&disk, folder.path(), name, most);
            let mut sorted = sorter("a.keys");
            for (ordinal, record) in (0_u64..).zip(&records) {
                let triple = [record.0, !record.0, ordinal].map(u64::to_be_bytes);
                sorted.push(triple.as_flattened(), &[]).unwrap();
            }
            let mut versions = sorter("a.versions");
            each_repeated(sorted, &mut |ordinal, first| {
                let (_, rank, content, partition) = records[usize::try_from(ordinal).unwrap()];
                let version = Version {
                    start: ordinal, len: 1, in_page: 2, partition, crc: content, member: 0, origin: None,
                };
                let mut value = Vec::new();
                version.push(&mut value);
                value.push(rank);
                versions.push(pair(first, ordinal).as_flattened(), &value)
            }).unwrap();
            let repeats = Repeats::judge(versions.finish().unwrap(), sorter("a.fates"), None);
            let mut repeats = repeats.unwrap();
            let fates = repeats.fates.as_mut().unwrap();
            let (wanted, dropped, within) = plainly(&records);
            // Twice, as for two sinks.
            for _ in 0..2 {
                fates.sorted.rewind().unwrap();
                let mut kept: BTreeMap<u64, u64> =
                    (0..records.len() as u64).map(|at| (at, at)).collect();
                while let Some(fate) = fates.next().unwrap() {
                    match fate.later {
                        Some(later) => kept.insert(fate.ordinal, later.start),
                        None => kept.remove(&fate.ordinal),
                    };
                }
                prop_assert_eq!(&kept.into_iter().collect::<Vec<_>>(), &wanted);
            }
            prop_assert_eq!(repeats.count(0), dropped);
            for partition in 0..12 {
                let expected = within.get(&partition).copied().unwrap_or(0);
                prop_assert_eq!(repeats.within(0, partition), expected);
            }
        }
    }
}
