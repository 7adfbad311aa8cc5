//! The ledger: an append-only journal of one run, a frame for each group that was committed.
//!
//! ```text
//! 000000f3 5a1b22c0⏎            length and CRC32C of what follows, in hexadecimal
//! {"row":"page",…}⏎             rows, one JSON object a line
//! {"row":"page",…}⏎
//! ```
//!
//! A group is one frame because a frame is written only when all before it are synced: whatever a
//! power cut leaves of the last one, no good frame can follow a bad one. If one does, what was
//! synced has changed, and nobody goes on from there.

use std::io::{self, BufReader, Read};

use serde::Deserialize;

use super::StoreError;
use super::row::{Row, VERSION};
use crate::disk::{DiskError, DiskFile};

/// Bytes of a frame before its rows.
const HEAD: usize = 18;
/// How the row of a page begins.
const PAGE: &[u8] = br#"{"row":"page","#;
/// Bytes read at once while a damaged end is searched.
const SEARCHED: usize = 1024 * 1024;

/// Where a row lies in its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub at: u64,
    /// Its bytes, without the end of the line.
    pub len: u32,
}

/// A ledger that is written.
#[derive(Debug)]
pub struct Ledger {
    file: DiskFile,
    end: u64,
    /// A write or sync failed: what is on the disk is not known, so nothing may follow it.
    is_broken: bool,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where the last good frame ends.
    pub good: u64,
    /// Where the file ends: what lies between was never committed.
    pub len: u64,
}

impl Ledger {
    /// Goes on with a file at its end, where all is good.
    pub fn new(file: DiskFile, end: u64) -> Self {
        Self {
            file,
            end,
            is_broken: false,
        }
    }

    /// Appends rows as one frame and syncs: when it returns they are committed. Says where they
    /// lie.
    pub fn commit(&mut self, rows: &[Row]) -> Result<Vec<Place>, StoreError> {
        if self.is_broken {
            let source = io::Error::other("an earlier write to it failed");
            return Err(DiskError::new("write", self.file.path(), source).into());
        }
        let (frame, places) = self.frame(rows)?;
        self.is_broken = true;
        self.file.append(&frame)?;
        self.file.sync_data()?;
        self.is_broken = false;
        self.end += frame.len() as u64;
        Ok(places)
    }

    fn frame(&self, rows: &[Row]) -> Result<(Vec<u8>, Vec<Place>), StoreError> {
        let mut frame = vec![0; HEAD];
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let from = frame.len();
            serde_json::to_writer(&mut frame, row)
                .map_err(|e| DiskError::new("write", self.file.path(), e.into()))?;
            places.push(Place {
                at: self.end + from as u64,
                len: fits(frame.len() - from, &self.file)?,
            });
            frame.push(b'\n');
        }
        let (head, rows) = frame.split_at_mut(HEAD);
        let text = format!(
            "{:08x} {:08x}\n",
            fits(rows.len(), &self.file)?,
            crc32c::crc32c(rows)
        );
        head.copy_from_slice(text.as_bytes());
        Ok((frame, places))
    }

    /// Where it is.
    pub fn file(&self) -> &DiskFile {
        &self.file
    }
}

/// Reads one row back.
pub fn read_row(file: &DiskFile, place: Place) -> Result<Row, StoreError> {
    let mut text = vec![0; place.len as usize];
    file.read_exact_at(&mut text, place.at)?;
    parse(&text, place.at, file)
}

fn fits(bytes: usize, file: &DiskFile) -> Result<u32, StoreError> {
    u32::try_from(bytes).map_err(|_| {
        let source = io::Error::other("the rows of a group are larger than 4 GiB");
        DiskError::new("write", file.path(), source).into()
    })
}

/// Reads all committed rows in turn. What lies behind the last good frame was never committed and
/// is only measured; good frames behind a bad one are an error.
pub fn read(
    file: &DiskFile,
    visit: &mut dyn FnMut(Row, Place) -> Result<(), StoreError>,
) -> Result<Extent, StoreError> {
    let len = file.len()?;
    let mut reader = BufReader::with_capacity(256 * 1024, file.range(0, len));
    let mut good = 0;
    let mut rows = Vec::new();
    loop {
        let left = len - good;
        if !frame(&mut reader, left, &mut rows)
            .map_err(|e| DiskError::new("read", file.path(), e))?
        {
            break;
        }
        let mut at = good + HEAD as u64;
        for line in rows.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let place = Place {
                at,
                len: fits(text.len(), file)?,
            };
            if at == HEAD as u64 {
                refuse_newer(text, file)?;
            }
            visit(parse(text, at, file)?, place)?;
            at += line.len() as u64;
        }
        good = at;
    }
    if let Some(later) = later_frame(file, good, len)? {
        return Err(StoreError::Corrupt {
            path: file.path().to_owned(),
            offset: good,
            what: format!("its rows go on at byte {later}"),
        });
    }
    Ok(Extent { good, len })
}

/// Reads the next frame's rows; false where there is no good one.
fn frame(reader: &mut impl Read, left: u64, rows: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; HEAD];
    if left < HEAD as u64 {
        return Ok(false);
    }
    reader.read_exact(&mut head)?;
    let Some((len, crc)) = head_of(&head) else {
        return Ok(false);
    };
    if u64::from(len) > left - HEAD as u64 {
        return Ok(false);
    }
    rows.resize(len as usize, 0);
    reader.read_exact(rows)?;
    Ok(crc32c::crc32c(rows) == crc)
}

/// Length and checksum that a frame begins with.
fn head_of(head: &[u8; HEAD]) -> Option<(u32, u32)> {
    if head[8] != b' ' || head[17] != b'\n' {
        return None;
    }
    let number = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        let plain = digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        u32::from_str_radix(digits, 16).ok().filter(|_| plain)
    };
    // A frame without rows is never written.
    let len = number(&head[..8]).filter(|len| *len > 0)?;
    Some((len, number(&head[9..17])?))
}

/// The first good frame after `from`, if there is one.
fn later_frame(file: &DiskFile, from: u64, len: u64) -> Result<Option<u64>, StoreError> {
    let mut at = from + 1;
    let mut buffer = Vec::new();
    let mut rows = Vec::new();
    while at + (HEAD as u64) <= len {
        let size = usize::try_from(len - at).map_or(SEARCHED, |left| left.min(SEARCHED));
        buffer.resize(size, 0);
        file.read_exact_at(&mut buffer, at)?;
        for (offset, head) in buffer.array_windows::<HEAD>().enumerate() {
            if head_of(head).is_none() {
                continue;
            }
            let start = at + offset as u64;
            let good = frame(&mut file.range(start, len), len - start, &mut rows)
                .map_err(|e| DiskError::new("read", file.path(), e))?;
            if good {
                return Ok(Some(start));
            }
        }
        // Windows that begin in this buffer and end in the next are looked at with the next.
        at += (size - HEAD + 1) as u64;
    }
    Ok(None)
}

fn parse(text: &[u8], at: u64, file: &DiskFile) -> Result<Row, StoreError> {
    // Nearly all rows are of pages, and a tag that is known need not be looked for.
    let row = if text.starts_with(PAGE) {
        serde_json::from_slice(text).map(Row::Page)
    } else {
        serde_json::from_slice(text)
    };
    row.map_err(|error| StoreError::Corrupt {
        path: file.path().to_owned(),
        offset: at,
        what: format!("a row that cannot be read: {error}"),
    })
}

/// A later program's rows need not be understood to be refused.
fn refuse_newer(text: &[u8], file: &DiskFile) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    match serde_json::from_slice::<Versioned>(text) {
        Ok(row) if row.version > VERSION => Err(StoreError::Newer {
            path: file.path().to_owned(),
            found: row.version,
            known: VERSION,
        }),
        _ => Ok(()),
    }
}
