//! Sorting more than fits into memory: pairs of a key and a value, by the bytes of the key.
//!
//! What is held is sorted and spilled to a private file whenever it grows beyond a bound; the end merges
//! the files. Of equal keys the one that was pushed first comes first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError, DiskFile};

/// Bytes held before they are spilled.
const HELD: usize = 32 << 20;
/// Files that are read side by side; more are merged to one.
const MOST_SPILLS: usize = 64;
/// Bytes that are read ahead of each file.
const AHEAD: usize = 64 << 10;
/// Bytes gathered before each write.
const GATHERED: usize = 256 << 10;

/// Takes pairs in any order.
#[derive(Debug)]
pub struct Sorter {
    disk: Disk,
    folder: PathBuf,
    name: String,
    most: usize,
    bytes: Vec<u8>,
    held: Vec<Held>,
    spills: Vec<Spill>,
    made: usize,
}

/// Where a pair lies in `bytes`.
#[derive(Debug, Clone, Copy)]
struct Held {
    start: usize,
    key: u32,
    len: u32,
}

/// A sorted file, removed when it is dropped.
#[derive(Debug)]
struct Spill {
    disk: Disk,
    file: DiskFile,
    len: u64,
}

impl Drop for Spill {
    fn drop(&mut self) {
        // It lies in a run's folder, which is removed as a whole in the end.
        let _ = self.disk.remove_file(self.file.path());
    }
}

impl Sorter {
    /// Spills to files in `folder` whose names begin with `name`.
    pub fn new(disk: &Disk, folder: &Path, name: &str) -> Self {
        Self::holding(disk, folder, name, HELD)
    }

    /// The same with another bound on the bytes that are held.
    pub fn holding(disk: &Disk, folder: &Path, name: &str, most: usize) -> Self {
        Self {
            disk: disk.clone(),
            folder: folder.to_owned(),
            name: name.to_owned(),
            most,
            bytes: Vec::new(),
            held: Vec::new(),
            spills: Vec::new(),
            made: 0,
        }
    }

    /// Takes a pair.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        let size = self.bytes.len() + self.held.len() * size_of::<Held>();
        if size + key.len() + value.len() > self.most && !self.held.is_empty() {
            self.spill()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.held.push(Held {
            start,
            // A record is a piece of a body, and these are capped far below 4 GiB.
            key: u32::try_from(key.len()).unwrap_or(u32::MAX),
            len: u32::try_from(value.len()).unwrap_or(u32::MAX),
        });
        Ok(())
    }

    /// All pairs in order.
    pub fn finish(mut self) -> Result<Sorted, DiskError> {
        if self.spills.is_empty() {
            self.sort();
            return Ok(Sorted(Source::Held {
                bytes: self.bytes,
                held: self.held,
                next: 0,
            }));
        }
        if !self.held.is_empty() {
            self.spill()?;
        }
        Ok(Sorted(Source::Spilled(Merge::new(std::mem::take(
            &mut self.spills,
        ))?)))
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |held: &Held| bytes.get(held.start..held.start + held.key as usize);
        // Stable, so that equal keys stay in the order they came.
        self.held.sort_by(|a, b| key(a).cmp(&key(b)));
    }

    fn spill(&mut self) -> Result<(), DiskError> {
        self.sort();
        let mut file = self.create()?;
        let mut out = Vec::with_capacity(GATHERED);
        for held in &self.held {
            let (from, key) = (held.start, held.key as usize);
            let end = from + key + held.len as usize;
            let pair = self.bytes.get(from..end).unwrap_or_default();
            let (key, value) = pair.split_at_checked(key).unwrap_or_default();
            file.put(&mut out, key, value)?;
        }
        file.flush(&mut out)?;
        self.held.clear();
        self.bytes.clear();
        self.spills.push(file);
        if self.spills.len() >= MOST_SPILLS {
            let mut merged = self.create()?;
            let mut all = Merge::new(std::mem::take(&mut self.spills))?;
            while let Some((key, value)) = all.next()? {
                merged.put(&mut out, key, value)?;
            }
            merged.flush(&mut out)?;
            self.spills.push(merged);
        }
        Ok(())
    }

    fn create(&mut self) -> Result<Spill, DiskError> {
        let path = self.folder.join(format!("{}.{}", self.name, self.made));
        self.made += 1;
        // Left by an attempt that was killed.
        self.disk.remove_file(&path)?;
        Ok(Spill {
            disk: self.disk.clone(),
            file: self.disk.create_private(&path)?,
            len: 0,
        })
    }
}

impl Spill {
    fn put(&mut self, out: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        for part in [key, value] {
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            out.extend(len.to_le_bytes());
        }
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        if out.len() >= GATHERED {
            self.flush(out)?;
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), DiskError> {
        self.file.append(out)?;
        self.len += out.len() as u64;
        out.clear();
        Ok(())
    }
}

/// Pairs in the order of their keys.
#[derive(Debug)]
pub struct Sorted(Source);

#[derive(Debug)]
enum Source {
    Held {
        bytes: Vec<u8>,
        held: Vec<Held>,
        next: usize,
    },
    Spilled(Merge),
}

/// A key and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

impl Sorted {
    /// Begins with the first pair again.
    pub fn rewind(&mut self) -> Result<(), DiskError> {
        match &mut self.0 {
            Source::Spilled(merge) => merge.rewind(),
            Source::Held { next, .. } => {
                *next = 0;
                Ok(())
            }
        }
    }

    /// The next pair.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it lends lives until the next call"
    )]
    pub fn next(&mut self) -> Result<Option<Pair<'_>>, DiskError> {
        match &mut self.0 {
            Source::Spilled(merge) => merge.next(),
            Source::Held { bytes, held, next } => {
                let Some(at) = held.get(*next) else {
                    return Ok(None);
                };
                *next += 1;
                let (from, key) = (at.start, at.key as usize);
                let pair = bytes.get(from..from + key + at.len as usize);
                Ok(pair.and_then(|pair| pair.split_at_checked(key)))
            }
        }
    }
}

/// Sorted files read as one.
#[derive(Debug)]
struct Merge {
    readers: Vec<Reader>,
    heap: BinaryHeap<Head>,
    /// The reader whose pair was lent out, to be moved on.
    lent: Option<usize>,
    key: Vec<u8>,
}

/// The first key of a reader; the least is the greatest of the heap.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    key: Vec<u8>,
    reader: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.key, other.reader).cmp(&(&self.key, self.reader))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    fn new(spills: Vec<Spill>) -> Result<Self, DiskError> {
        let mut merge = Self {
            readers: spills.into_iter().map(Reader::new).collect(),
            heap: BinaryHeap::new(),
            lent: None,
            key: Vec::new(),
        };
        merge.rewind()?;
        Ok(merge)
    }

    fn rewind(&mut self) -> Result<(), DiskError> {
        self.heap.clear();
        self.lent = None;
        for at in 0..self.readers.len() {
            if let Some(reader) = self.readers.get_mut(at) {
                reader.rewind();
            }
            self.advance(at)?;
        }
        Ok(())
    }

    fn advance(&mut self, at: usize) -> Result<(), DiskError> {
        let Some(reader) = self.readers.get_mut(at) else {
            return Ok(());
        };
        if reader.advance()? {
            let mut key = std::mem::take(&mut self.key);
            key.clear();
            key.extend_from_slice(&reader.key);
            self.heap.push(Head { key, reader: at });
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Pair<'_>>, DiskError> {
        if let Some(lent) = self.lent.take() {
            self.advance(lent)?;
        }
        let Some(head) = self.heap.pop() else {
            return Ok(None);
        };
        self.lent = Some(head.reader);
        self.key = head.key;
        let reader = self.readers.get(head.reader);
        Ok(reader.map(|reader| (reader.key.as_slice(), reader.value.as_slice())))
    }
}

/// One sorted file.
#[derive(Debug)]
struct Reader {
    spill: Spill,
    at: u64,
    ahead: Vec<u8>,
    used: usize,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    fn new(spill: Spill) -> Self {
        Self {
            spill,
            at: 0,
            ahead: Vec::new(),
            used: 0,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    fn rewind(&mut self) {
        self.at = 0;
        self.used = 0;
        self.ahead.clear();
    }

    /// Reads the next pair; false at the end.
    fn advance(&mut self) -> Result<bool, DiskError> {
        if self.used == self.ahead.len() && self.at == self.spill.len {
            return Ok(false);
        }
        let (mut key_len, mut value_len) = ([0; 4], [0; 4]);
        self.fill(&mut key_len)?;
        self.fill(&mut value_len)?;
        let (mut key, mut value) = (
            std::mem::take(&mut self.key),
            std::mem::take(&mut self.value),
        );
        key.resize(u32::from_le_bytes(key_len) as usize, 0);
        value.resize(u32::from_le_bytes(value_len) as usize, 0);
        self.fill(&mut key)?;
        self.fill(&mut value)?;
        (self.key, self.value) = (key, value);
        Ok(true)
    }

    fn fill(&mut self, mut into: &mut [u8]) -> Result<(), DiskError> {
        while !into.is_empty() {
            if self.used == self.ahead.len() {
                let left = usize::try_from(self.spill.len - self.at).unwrap_or(AHEAD);
                // Past the end the file itself says so.
                self.ahead.resize(left.clamp(1, AHEAD), 0);
                self.spill.file.read_exact_at(&mut self.ahead, self.at)?;
                self.at += self.ahead.len() as u64;
                self.used = 0;
            }
            let most = into.len().min(self.ahead.len() - self.used);
            let (now, later) = into.split_at_mut(most);
            now.copy_from_slice(&self.ahead[self.used..self.used + most]);
            self.used += most;
            into = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn sorted(most: usize, pairs: &Pairs) -> (Pairs, usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::holding(&Disk::system(), folder.path(), "sort", most);
        for (key, value) in pairs {
            sorter.push(key, value).unwrap();
        }
        let spilled = sorter.made;
        let mut all = sorter.finish().unwrap();
        let mut out = Vec::new();
        while let Some((key, value)) = all.next().unwrap() {
            out.push((key.to_vec(), value.to_vec()));
        }
        drop(all);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        (out, spilled)
    }

    #[test]
    fn thousands_of_spills_are_merged_in_between() {
        let mut dice = fastrand::Rng::with_seed(7);
        let pairs: Vec<_> = (0..5_000_u32)
            .map(|n| {
                (
                    dice.u16(..900).to_be_bytes().to_vec(),
                    n.to_be_bytes().to_vec(),
                )
            })
            .collect();
        let (out, spilled) = sorted(100, &pairs);
        assert!(spilled > 2 * MOST_SPILLS, "{spilled}");
        let mut wanted = pairs;
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(out == wanted);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn nothing_is_lost_and_equals_keep_their_order(
            keys in prop::collection::vec("[ab\u{0}]{0,3}", 0..60),
            most in 1_usize..400,
        ) {
            let pairs: Vec<_> = keys.iter().enumerate()
                .map(|(n, key)| (key.as_bytes().to_vec(), vec![b'v'; n]))
                .collect();
            let mut wanted = pairs.clone();
            wanted.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(sorted(most, &pairs).0, wanted.clone());
            prop_assert_eq!(sorted(usize::MAX, &pairs).0, wanted);
        }
    }
}
