//! Answers as they came, packed: in the part of a run that is at work, and in files of their own once
//! their stream is published: `.gleaner/raw/<pipeline>/<run>/<stream>.zst`.
//!
//! Each is a frame of Zstandard (RFC 8878) with a checksum. Frames may stand one after the other, so
//! `zstdcat` gives the answers in turn. The file beside, `<stream>.ndjson`, has a line for each.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, DiskError, DiskFile};

/// What `zstd` takes for usual.
const LEVEL: i32 = 3;
/// Bytes of lines that are written at once.
const LINES: usize = 256 * 1024;

/// Packs a body.
pub fn pack(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    packer.include_checksum(true)?;
    packer.compress(body)
}

/// Unpacks a body of this size.
pub fn unpack(frame: &[u8], size: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let body = zstd::bulk::decompress(frame, size)?;
    if body.len() == size {
        Ok(body)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Where the answers of all runs of a project are.
fn place(root: &Path) -> PathBuf {
    root.join(".gleaner").join("raw")
}

/// Where those of a run are.
pub fn folder(root: &Path, pipeline: &str, run: &str) -> PathBuf {
    place(root).join(pipeline).join(run)
}

/// The file with the answers of a stream.
pub fn bodies(folder: &Path, stream: &str) -> PathBuf {
    folder.join(format!("{stream}.zst"))
}

/// The file that says what they are.
pub fn lines(folder: &Path, stream: &str) -> PathBuf {
    folder.join(format!("{stream}.ndjson"))
}

/// The answers of a stream, being written beside their places.
#[derive(Debug)]
pub struct Writer {
    disk: Disk,
    folder: PathBuf,
    stream: String,
    bodies: DiskFile,
    lines: DiskFile,
    end: u64,
    waiting: Vec<u8>,
}

impl Writer {
    /// Begins both files.
    pub fn create(
        disk: &Disk,
        root: &Path,
        pipeline: &str,
        run: &str,
        stream: &str,
    ) -> Result<Self, DiskError> {
        let folder = folder(root, pipeline, run);
        disk.create_folder(&folder, Access::Private)?;
        let fresh = |path: PathBuf| {
            let draft = draft(&path);
            // Left by a process that died here.
            disk.remove_file(&draft)?;
            disk.create_private(&draft)
        };
        Ok(Self {
            bodies: fresh(bodies(&folder, stream))?,
            lines: fresh(lines(&folder, stream))?,
            disk: disk.clone(),
            folder,
            stream: stream.to_owned(),
            end: 0,
            waiting: Vec::new(),
        })
    }

    /// Takes the frame of an answer from a part; says where it lies.
    pub fn frame(&mut self, part: &DiskFile, start: u64, len: u32) -> Result<u64, DiskError> {
        let at = self.end;
        self.bodies.copy_from(part, start, start + u64::from(len))?;
        self.end += u64::from(len);
        Ok(at)
    }

    /// Says what the answer is.
    pub fn line(&mut self, json: &str) -> Result<(), DiskError> {
        self.waiting.extend_from_slice(json.as_bytes());
        self.waiting.push(b'\n');
        if self.waiting.len() < LINES {
            return Ok(());
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), DiskError> {
        self.lines.append(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// Brings both to their places; durable when it returns. Done again it does the same.
    pub fn finish(mut self) -> Result<(), DiskError> {
        self.write()?;
        self.bodies.sync_data()?;
        self.lines.sync_data()?;
        for path in [
            bodies(&self.folder, &self.stream),
            lines(&self.folder, &self.stream),
        ] {
            self.disk.rename(&draft(&path), &path)?;
        }
        let above = self.folder.ancestors().take(4);
        above
            .into_iter()
            .try_for_each(|folder| self.disk.sync_folder(folder))
    }
}

fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".draft");
    name.into()
}

/// Removes the answers of runs of a pipeline that nobody knows any more.
pub fn prune(
    disk: &Disk,
    root: &Path,
    pipeline: &str,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<(), DiskError> {
    let place = place(root).join(pipeline);
    for run in disk.list(&place)? {
        if !is_known(&run) {
            disk.remove_folder(&place.join(run))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_damage_is_found() {
        let long = vec![7; 100_000];
        for body in [&b""[..], b"{}", &long] {
            let frame = pack(body).unwrap();
            assert_eq!(unpack(&frame, body.len() as u64).unwrap(), body);
            assert!(unpack(&frame, body.len() as u64 + 1).is_err());
            let mut damaged = frame.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(unpack(&damaged, body.len() as u64).is_err());
        }
        // One after the other they are a file of all.
        let both = [pack(b"one").unwrap(), pack(b"two").unwrap()].concat();
        assert_eq!(zstd::decode_all(&both[..]).unwrap(), b"onetwo");
    }
}
