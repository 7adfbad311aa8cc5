//! One budget's file, under a kernel file lock.
//!
//! Two slots are written in turn, each with a number and a checksum, so that a writer who is killed
//! leaves the state before. A file is never replaced or deleted: its lock would go with it. Behind
//! the slots stands what people call the budget; the law needs none of it, so half of one is no harm.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::book::private;
use super::moment::{Moment, Now};
use crate::crc;

/// Room of one slot.
const SLOT: u64 = 64 * 1024;
/// Room of its header.
const HEADER: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"gleaner2");
/// Where the label stands.
const LABEL: u64 = 2 * SLOT;
/// Room of the label, its header included.
const LABEL_ROOM: usize = 16 * 1024;
const LABEL_MAGIC: u64 = u64::from_le_bytes(*b"gleanlb1");
/// Looks at a file that others write before one gives up: each writes for microseconds.
const LOOKS: u32 = 20;
/// Turns to let others finish with the file before one gives up for now.
const TURNS: u32 = 200;

/// A budget's file.
#[derive(Debug)]
pub(super) struct Sheet {
    path: PathBuf,
    file: File,
    /// Number of the state that we know.
    known: u64,
    written: u64,
}

/// What is in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Nothing: a new file.
    Nothing,
    /// What we know already.
    Known,
    /// A state, when it was written, and since which start of the machine its moments count.
    State(Vec<u8>, Now, u128),
    /// Bytes that are no state; they are kept in a file beside it.
    Broken(PathBuf),
}

/// What one who only looks finds in a file.
#[derive(Debug, Default)]
pub(super) struct Peeked {
    /// The newest state, when it was written, and since which start of the machine it counts.
    pub(super) state: Option<(Vec<u8>, Now, u128)>,
    /// Whether there are bytes, and no state.
    pub(super) is_broken: bool,
    /// The label, if it is whole.
    pub(super) label: Option<Vec<u8>>,
}

/// The newest state of a file that is whole.
enum Newest {
    /// The one with the number that was asked about.
    Known,
    State(Vec<u8>, Header),
    None,
}

/// The header of a slot.
#[derive(Debug, Clone, Copy)]
struct Header {
    number: u64,
    length: u64,
    boot: u128,
    at: Now,
    sum: u64,
}

impl Sheet {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = private().create(true).truncate(false).open(&path)?;
        Ok(Self {
            path,
            file,
            known: 0,
            written: 0,
        })
    }

    /// Takes the lock if it is to be had within a moment: holders keep it for microseconds.
    pub(super) fn try_lock(&self) -> io::Result<bool> {
        for _ in 0..TURNS {
            match self.file.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(false)
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// The newest state that is whole. Under the lock only.
    pub(super) fn load(&mut self) -> io::Result<Found> {
        match newest(&self.file, self.known)? {
            Newest::Known => return Ok(Found::Known),
            Newest::State(payload, header) => {
                self.known = header.number;
                return Ok(Found::State(payload, header.at, header.boot));
            }
            Newest::None => {}
        }
        if self.file.metadata()?.len() == 0 {
            return Ok(Found::Nothing);
        }
        let aside = self.path.with_extension("broken");
        std::fs::copy(&self.path, &aside)?;
        Ok(Found::Broken(aside))
    }

    /// Writes the next state. Under the lock, after [`Sheet::load`].
    pub(super) fn store(&mut self, payload: &[u8], now: Now, boot: u128) -> io::Result<()> {
        let room = usize::try_from(SLOT).unwrap_or(0) - HEADER;
        if payload.len() > room {
            return Err(io::Error::other("too many requests are in flight"));
        }
        let number = self.known.max(self.written) + 1;
        let header = Header {
            number,
            length: payload.len() as u64,
            boot,
            at: now,
            sum: 0,
        };
        let mut bytes = header.encode();
        let sum = sum(&bytes, payload);
        bytes[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
        let mut whole = Vec::with_capacity(HEADER + payload.len());
        whole.extend_from_slice(&bytes);
        whole.extend_from_slice(payload);
        self.file.write_all_at(&whole, (number % 2) * SLOT)?;
        (self.known, self.written) = (number, number);
        Ok(())
    }

    /// What people call the budget. Under the lock only.
    pub(super) fn label(&self) -> io::Result<Option<Vec<u8>>> {
        label(&self.file)
    }

    /// Writes what people call the budget. Under the lock, and after a state: a file with a label
    /// alone would look broken.
    pub(super) fn set_label(&self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > LABEL_ROOM - 24 {
            return Ok(());
        }
        let mut whole = Vec::with_capacity(24 + payload.len());
        for word in [
            LABEL_MAGIC,
            payload.len() as u64,
            u64::from(crc::of(payload)),
        ] {
            whole.extend_from_slice(&word.to_le_bytes());
        }
        whole.extend_from_slice(payload);
        self.file.write_all_at(&whole, LABEL)
    }

    /// Another handle, to bring what was written to the disk.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Header {
    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| bytes[at..].first_chunk().copied().map(u64::from_le_bytes);
        let calendar = Timestamp::from_microsecond(word(40)?.cast_signed()).ok()?;
        let header = Self {
            number: word(8)?,
            length: word(16)?,
            boot: u128::from_le_bytes(*bytes[24..].first_chunk()?),
            at: Now {
                at: Moment(word(48)?),
                calendar,
            },
            sum: word(56)?,
        };
        (word(0)? == MAGIC && header.length <= SLOT - HEADER as u64).then_some(header)
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(8, &self.number.to_le_bytes());
        put(16, &self.length.to_le_bytes());
        put(24, &self.boot.to_le_bytes());
        put(40, &self.at.calendar.as_microsecond().to_le_bytes());
        put(48, &self.at.at.0.to_le_bytes());
        put(56, &self.sum.to_le_bytes());
        bytes
    }
}

/// Looks at a file without its lock: of the two slots one is whole at any time, and one that
/// was written over meanwhile shows by its checksum.
pub(super) fn peek(path: &Path) -> io::Result<Peeked> {
    let file = File::open(path)?;
    let mut peeked = Peeked::default();
    for _ in 0..LOOKS {
        if let Newest::State(payload, header) = newest(&file, 0)? {
            peeked.state = Some((payload, header.at, header.boot));
            break;
        }
        std::thread::yield_now();
    }
    peeked.is_broken = peeked.state.is_none() && file.metadata()?.len() > 0;
    for _ in 0..LOOKS {
        peeked.label = label(&file)?;
        if peeked.label.is_some() {
            break;
        }
        std::thread::yield_now();
    }
    Ok(peeked)
}

/// The newest whole state, unless its number is `known`.
fn newest(file: &File, known: u64) -> io::Result<Newest> {
    let mut headers = Vec::with_capacity(2);
    for slot in 0..2 {
        let mut bytes = [0; HEADER];
        if read(file, &mut bytes, slot * SLOT)? == HEADER
            && let Some(header) = Header::decode(&bytes)
        {
            headers.push((slot, header, bytes));
        }
    }
    headers.sort_unstable_by_key(|(_, header, _)| std::cmp::Reverse(header.number));
    for (slot, header, bytes) in headers {
        if header.number == known && known > 0 {
            return Ok(Newest::Known);
        }
        let mut payload = vec![0; usize::try_from(header.length).unwrap_or(0)];
        let length = read(file, &mut payload, slot * SLOT + HEADER as u64)?;
        if length == payload.len() && sum(&bytes, &payload) == header.sum {
            return Ok(Newest::State(payload, header));
        }
    }
    Ok(Newest::None)
}

fn label(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; LABEL_ROOM];
    let there = read(file, &mut bytes, LABEL)?;
    bytes.truncate(there);
    let mut rest = &bytes[..];
    let mut word = || {
        let word = rest.split_off(..8)?.first_chunk().copied()?;
        Some(u64::from_le_bytes(word))
    };
    let (Some(LABEL_MAGIC), Some(length), Some(sum)) = (word(), word(), word()) else {
        return Ok(None);
    };
    let payload = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let whole = payload.filter(|payload| u64::from(crc::of(payload)) == sum);
    Ok(whole.map(<[u8]>::to_vec))
}

fn sum(header: &[u8; HEADER], payload: &[u8]) -> u64 {
    let sum = crc::of(&header[..HEADER - 8]);
    u64::from(crc::append(sum, payload))
}

/// Reads what there is, up to the whole of `bytes`.
fn read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(at: u64) -> Now {
        Now {
            at: Moment(at),
            calendar: "2025-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_one_writes_another_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.budget");
        let mut one = Sheet::open(path.clone()).unwrap();
        let mut other = Sheet::open(path).unwrap();
        assert!(one.try_lock().unwrap() && !other.try_lock().unwrap());
        assert_eq!(one.load().unwrap(), Found::Nothing);
        one.store(b"first", now(5), 7).unwrap();
        assert_eq!(one.load().unwrap(), Found::Known);
        one.unlock().unwrap();
        assert!(other.try_lock().unwrap());
        let Found::State(bytes, at, boot) = other.load().unwrap() else {
            panic!("a state");
        };
        assert_eq!((&bytes[..], at.at, boot), (&b"first"[..], Moment(5), 7));
        other.store(b"second", now(6), 7).unwrap();
        assert!(matches!(one.load().unwrap(), Found::State(bytes, ..) if bytes == b"second"));
        assert!(one.store(&vec![0; 70_000], now(7), 7).is_err());
    }

    #[test]
    fn one_who_looks_needs_no_lock_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.budget");
        let mut sheet = Sheet::open(path.clone()).unwrap();
        assert!(peek(&path).is_ok_and(|found| found.state.is_none() && !found.is_broken));
        assert!(sheet.try_lock().unwrap());
        sheet.store(b"state", now(5), 7).unwrap();
        sheet.set_label(b"called so").unwrap();
        let before = std::fs::read(&path).unwrap();
        let found = peek(&path).unwrap();
        assert!(matches!(found.state, Some((bytes, _, 7)) if bytes == b"state"));
        assert_eq!(found.label.as_deref(), Some(&b"called so"[..]));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        // Half a label is none, and no harm to the state.
        sheet.file.write_all_at(b"??", LABEL + 26).unwrap();
        let found = peek(&path).unwrap();
        assert!(found.label.is_none() && found.state.is_some());
        assert_eq!(sheet.load().unwrap(), Found::Known);
    }

    #[test]
    fn a_killed_writer_leaves_the_state_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.budget");
        let mut one = Sheet::open(path.clone()).unwrap();
        for text in ["first", "second", "third"] {
            one.load().unwrap();
            one.store(text.as_bytes(), now(5), 7).unwrap();
        }
        // The third is in the second slot; half of it never came.
        one.file.write_all_at(b"??", SLOT + 66).unwrap();
        let mut other = Sheet::open(path.clone()).unwrap();
        assert!(matches!(other.load().unwrap(), Found::State(bytes, ..) if bytes == b"second"));
        other.store(b"fourth", now(6), 7).unwrap();
        assert!(matches!(
            one.load().unwrap(),
            Found::State(..) | Found::Known
        ));
        one.file.write_all_at(b"??", 8).unwrap();
        one.file.write_all_at(b"??", SLOT + 8).unwrap();
        let mut third = Sheet::open(path).unwrap();
        assert!(matches!(third.load().unwrap(), Found::Broken(aside) if aside.exists()));
    }
}
