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
use std::sync::Arc;

use serde::Deserialize;

use super::StoreError;
use super::locks::Lock;
use super::row::{Row, VERSION};
use crate::crc;
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
    /// What its writers hold.
    locks: Arc<Vec<Lock>>,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where the last good frame begins.
    pub last: u64,
    /// Where it ends.
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
            locks: Arc::default(),
        }
    }

    /// Keeps locks until the last of its writers is gone: also one that works on though its run has come to grief.
    pub fn hold(&mut self, locks: Arc<Vec<Lock>>) {
        self.locks = locks;
    }

    /// Goes on with a file that another process left: cuts what was never committed, and makes sure
    /// of the last frame. The other may have died of a sync that failed; then the system shows
    /// the frame, has not written it, and would not write it with the next sync either.
    pub fn resume(file: DiskFile, extent: Extent) -> Result<Self, StoreError> {
        if extent.len > extent.good {
            file.set_len(extent.good)?;
        }
        let len = usize::try_from(extent.good - extent.last).unwrap_or(usize::MAX);
        let mut frame = vec![0; len];
        file.read_exact_at(&mut frame, extent.last)?;
        file.rewrite_at(&frame, extent.last)?;
        file.sync_data()?;
        Ok(Self::new(file, extent.good))
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
            crc::of(rows)
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
    let (mut last, mut good) = (0, 0);
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
        (last, good) = (good, at);
    }
    if let Some(later) = later_frame(file, good, len)? {
        return Err(StoreError::Corrupt {
            path: file.path().to_owned(),
            offset: good,
            what: format!("its rows go on at byte {later}"),
        });
    }
    Ok(Extent { last, good, len })
}

/// The first row, if it is whole.
pub(super) fn first(file: &DiskFile) -> Result<Option<Row>, StoreError> {
    let len = file.len()?;
    let mut rows = Vec::new();
    let good = frame(&mut file.range(0, len), len, &mut rows)
        .map_err(|e| DiskError::new("read", file.path(), e))?;
    let line = rows.split(|byte| *byte == b'\n').next();
    let Some(line) = line.filter(|_| good) else {
        return Ok(None);
    };
    refuse_newer(line, file)?;
    parse(line, HEAD as u64, file).map(Some)
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
    Ok(crc::of(rows) == crc)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::disk::{Disk, Open};
    use crate::sim::SimDisk;
    use crate::store::row::{Facts, Page, RunStart};

    fn start(version: u32) -> Row {
        Row::RunStart(RunStart {
            version,
            seed: u64::MAX,
            ..RunStart::new("pipe", vec!["items".into()], Timestamp::UNIX_EPOCH)
        })
    }

    fn page(page: u32) -> Row {
        let mut more = serde_json::Map::new();
        more.insert("x".to_owned(), json!([1, "ä\n"]));
        Row::Page(Page {
            stream: "items".into(),
            partition: 0,
            page,
            request: u64::MAX - u64::from(page),
            part: 0,
            start: 10,
            end: 20,
            crc: u32::MAX,
            records: 3,
            facts: Facts {
                wanted: vec![None, Some("\"a\"".to_owned())],
                ended: page == 2,
                more,
                ..Facts::default()
            },
        })
    }

    const PLACE: &str = "/ledger";

    /// A ledger of three frames, and where each ends.
    fn written(disk: &SimDisk) -> (Vec<Row>, Vec<u64>) {
        let file = disk.door().create_private(Path::new(PLACE)).unwrap();
        let mut ledger = Ledger::new(file, 0);
        let groups = [vec![start(VERSION)], vec![page(0), page(1)], vec![page(2)]];
        let mut ends = Vec::new();
        for group in &groups {
            ledger.commit(group).unwrap();
            ends.push(ledger.end);
        }
        (groups.into_iter().flatten().collect(), ends)
    }

    fn found(disk: &Disk) -> Result<(Vec<Row>, Vec<Place>, Extent), StoreError> {
        let file = disk.open(Path::new(PLACE), Open::Read)?;
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let extent = read(&file, &mut |row, place| {
            rows.push(row);
            places.push(place);
            Ok(())
        })?;
        Ok((rows, places, extent))
    }

    #[test]
    fn rows_come_back_as_they_were_together_and_one_by_one() {
        let disk = SimDisk::new(Path::new("/"));
        let (rows, ends) = written(&disk);
        let (back, places, extent) = found(&disk.door()).unwrap();
        assert_eq!(back, rows);
        assert_eq!((extent.good, extent.len), (ends[2], ends[2]));
        let file = disk.door().open(Path::new(PLACE), Open::Read).unwrap();
        let ledger = Ledger::new(file, extent.good);
        for (row, place) in rows.iter().zip(places) {
            assert_eq!(&read_row(ledger.file(), place).unwrap(), row);
        }
    }

    #[test]
    fn a_tail_cut_at_any_byte_leaves_the_whole_frames_before_it() {
        let disk = SimDisk::new(Path::new("/"));
        let (rows, ends) = written(&disk);
        let whole = disk.read(Path::new(PLACE)).unwrap();
        for len in 0..=whole.len() {
            disk.damage(Path::new(PLACE), |bytes| *bytes = whole[..len].to_vec());
            let (back, _, extent) = found(&disk.door()).unwrap();
            let frames = ends.iter().filter(|end| **end <= len as u64).count();
            assert_eq!(back, rows[..[0, 1, 3, 4][frames]], "{len}");
            assert_eq!(extent.good, [0, ends[0], ends[1], ends[2]][frames]);
            assert_eq!(extent.len, len as u64);
        }
    }

    #[test]
    fn a_changed_bit_before_the_last_frame_is_damage_and_says_where() {
        let disk = SimDisk::new(Path::new("/"));
        let (_, ends) = written(&disk);
        let whole = disk.read(Path::new(PLACE)).unwrap();
        for at in 0..whole.len() {
            disk.damage(Path::new(PLACE), |bytes| {
                bytes.clone_from(&whole);
                bytes[at] ^= 1 << (at % 8);
            });
            let frame = ends.iter().filter(|end| **end <= at as u64).count();
            let begins = [0, ends[0], ends[1]][frame];
            match found(&disk.door()) {
                // The last frame may be torn as well as damaged: both are cut.
                Ok((_, _, extent)) => assert_eq!((frame, extent.good), (2, begins), "{at}"),
                Err(StoreError::Corrupt { path, offset, .. }) => {
                    assert_eq!((path.as_path(), offset), (Path::new(PLACE), begins), "{at}");
                    assert!(frame < 2);
                }
                Err(other) => panic!("{at}: {other}"),
            }
        }
    }

    #[test]
    fn zeros_and_noise_behind_the_last_frame_are_a_tail() {
        let disk = SimDisk::new(Path::new("/"));
        let (rows, ends) = written(&disk);
        let mut noise = fastrand::Rng::with_seed(4);
        for len in [1, 17, 18, 4096, SEARCHED + 7] {
            for is_noise in [false, true] {
                disk.damage(Path::new(PLACE), |bytes| {
                    bytes.truncate(usize::try_from(ends[2]).unwrap());
                    bytes.extend((0..len).map(|_| if is_noise { noise.u8(..) } else { 0 }));
                });
                let (back, _, extent) = found(&disk.door()).unwrap();
                assert_eq!((back.len(), extent.good), (rows.len(), ends[2]));
            }
        }
        // A good frame behind all that, across the border of what is searched at once.
        let frame = disk.read(Path::new(PLACE)).unwrap();
        let frame =
            frame[usize::try_from(ends[1]).unwrap()..usize::try_from(ends[2]).unwrap()].to_vec();
        for gap in [1, SEARCHED - 18, SEARCHED - 1, SEARCHED, SEARCHED + 5] {
            disk.damage(Path::new(PLACE), |bytes| {
                bytes.truncate(usize::try_from(ends[2]).unwrap());
                bytes.resize(bytes.len() + gap, 0);
                bytes.extend(&frame);
            });
            let error = found(&disk.door()).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { offset, .. } if offset == ends[2]));
        }
    }

    #[test]
    fn a_later_version_is_refused_whatever_its_rows_are() {
        let disk = SimDisk::new(Path::new("/"));
        let file = disk.door().create_private(Path::new(PLACE)).unwrap();
        Ledger::new(file, 0).commit(&[start(VERSION + 1)]).unwrap();
        let error = found(&disk.door()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is of version 2; this program knows up to 1"),
            "{error}"
        );
    }

    #[test]
    fn nothing_follows_a_write_that_failed() {
        let disk = SimDisk::new(Path::new("/"));
        let file = disk.door().create_private(Path::new(PLACE)).unwrap();
        let mut ledger = Ledger::new(file, 0);
        ledger.commit(&[start(VERSION)]).unwrap();
        disk.set_trouble(crate::sim::Trouble::Once(2, std::io::ErrorKind::Other));
        ledger.commit(&[page(0)]).unwrap_err();
        let before = disk.operations();
        let error = ledger.commit(&[page(1)]).unwrap_err();
        assert_eq!(
            disk.operations(),
            before,
            "a sync that failed was tried again"
        );
        assert_eq!(error.exit(), crate::failure::Exit::Disk);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, keep in 0_usize..4) {
            let disk = SimDisk::new(Path::new("/"));
            let (_, ends) = written(&disk);
            let keep = [0, ends[0], ends[1], ends[2]][keep];
            disk.damage(Path::new(PLACE), |all| {
                all.truncate(usize::try_from(keep).unwrap());
                all.extend(&bytes);
            });
            let (_, _, extent) = found(&disk.door()).unwrap();
            proptest::prop_assert_eq!(extent.good, keep);
        }
    }
}
