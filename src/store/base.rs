//! What `merge` has gathered of a stream: `.gleaner/base/<pipeline>/<stream>.<generation>`.
//!
//! A private file of JSON lines: what the key is made of; the newest version of each record, by
//! key; how many there are and their checksum. A file without its last line was never whole. It
//! counts from the moment that the state points to it, together with the cursors.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::crc;
use crate::disk::{Access, Disk, DiskError, DiskFile};

/// Bytes gathered before each write, and read ahead.
const GATHERED: usize = 256 << 10;
/// The latest version of the file that this program writes and reads.
const VERSION: u32 = 1;
/// Begins the last line; no record's line begins like this.
const FOOT: &[u8] = b"{\"lines\":";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseHead {
    /// Version of the file.
    pub version: u32,
    /// What the key is made of: lines are sorted by keys of this definition.
    pub key: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct BaseFoot {
    lines: u64,
    crc32c: u32,
}

/// Why a base cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It was written by a later version.
    #[error("{} is of version {found}; this program knows up to {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Where bases are.
pub fn folder(root: &Path) -> PathBuf {
    root.join(".gleaner").join("base")
}

/// The name of a generation's file, relative to [`folder`].
pub fn name(pipeline: &str, stream: &str, generation: u64) -> String {
    format!("{pipeline}/{stream}.{generation}")
}

/// Removes the bases that were written under the name of a stream and that nothing points to:
/// older generations, and such as were never whole. `used` are those that the state knows.
pub fn sweep(
    disk: &Disk,
    root: &Path,
    pipeline: &str,
    stream: &str,
    used: &[String],
) -> Result<(), DiskError> {
    let folder = folder(root).join(pipeline);
    for file in disk.list(&folder)? {
        let Some((of, generation)) = file.rsplit_once('.') else {
            continue;
        };
        let is_base = generation.parse::<u64>().is_ok() && of == stream;
        if is_base && !used.contains(&format!("{pipeline}/{file}")) {
            disk.remove_file(&folder.join(&file))?;
        }
    }
    Ok(())
}

/// A base being written.
#[derive(Debug)]
pub struct BaseWriter {
    disk: Disk,
    file: DiskFile,
    gathered: Vec<u8>,
    lines: u64,
    crc: u32,
}

impl BaseWriter {
    /// Makes the file, in the place of one that was never whole.
    pub fn create(disk: &Disk, path: &Path, key: &str) -> Result<Self, BaseError> {
        if let Some(folder) = path.parent() {
            disk.create_folder(folder, Access::Private)?;
        }
        disk.remove_file(path)?;
        let mut writer = Self {
            disk: disk.clone(),
            file: disk.create_private(path)?,
            gathered: Vec::with_capacity(GATHERED),
            lines: 0,
            crc: 0,
        };
        let head = BaseHead {
            version: VERSION,
            key: key.to_owned(),
        };
        writer.add(&as_json(&head))?;
        Ok(writer)
    }

    /// Adds a record's line, without its end.
    pub fn line(&mut self, line: &[u8]) -> Result<(), BaseError> {
        self.lines += 1;
        self.add(line)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), BaseError> {
        self.gathered.extend_from_slice(line);
        self.gathered.push(b'\n');
        if self.gathered.len() >= GATHERED {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BaseError> {
        self.crc = crc::append(self.crc, &self.gathered);
        self.file.append(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    /// Ends the file and brings it to the disk, its name too; gives the number of records.
    pub fn finish(mut self) -> Result<u64, BaseError> {
        self.flush()?;
        let foot = BaseFoot {
            lines: self.lines,
            crc32c: self.crc,
        };
        self.file.append(&as_json(&foot))?;
        self.file.append(b"\n")?;
        self.file.sync_data()?;
        // The folders are new the first time: each is durable only with the one above it.
        for folder in self.file.path().ancestors().skip(1).take(3) {
            self.disk.sync_folder(folder)?;
        }
        Ok(self.lines)
    }
}

/// A base being read.
#[derive(Debug)]
pub struct BaseReader {
    file: DiskFile,
    len: u64,
    at: u64,
    ahead: Vec<u8>,
    used: usize,
    lines: u64,
    crc: u32,
    line: Vec<u8>,
}

impl BaseReader {
    /// Opens a base, and gives what its key is made of.
    pub fn open(disk: &Disk, path: &Path) -> Result<(Self, BaseHead), BaseError> {
        let file = disk.open(path, crate::disk::Open::Read)?;
        let len = file.len()?;
        let mut reader = Self {
            file,
            len,
            at: 0,
            ahead: Vec::new(),
            used: 0,
            lines: 0,
            crc: 0,
            line: Vec::new(),
        };
        if !reader.advance()? {
            return Err(reader.damaged("it is empty"));
        }
        let head: Result<BaseHead, _> = serde_json::from_slice(&reader.line);
        match head {
            Ok(head) if head.version > VERSION => Err(BaseError::Newer {
                path: path.to_owned(),
                found: head.version,
            }),
            Ok(head) => {
                reader.count();
                Ok((reader, head))
            }
            Err(_) => Err(reader.damaged("its first line does not say what it is")),
        }
    }

    /// The next record's line; nothing after the last, and then all of them had their checksum.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it lends lives until the next call"
    )]
    pub fn next(&mut self) -> Result<Option<&str>, BaseError> {
        if !self.advance()? {
            return Err(self.damaged("its end is missing"));
        }
        if self.line.starts_with(FOOT) {
            let foot: Result<BaseFoot, _> = serde_json::from_slice(&self.line);
            return match foot {
                Ok(foot) if foot.lines == self.lines && foot.crc32c == self.crc => Ok(None),
                _ => Err(self.damaged("its records do not have their checksum")),
            };
        }
        self.count();
        self.lines += 1;
        match std::str::from_utf8(&self.line) {
            Ok(line) => Ok(Some(line)),
            Err(_) => Err(BaseError::Damaged {
                path: self.file.path().to_owned(),
                what: "a line is not UTF-8",
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn count(&mut self) {
        self.crc = crc::append(self.crc, &self.line);
        self.crc = crc::append(self.crc, b"\n");
    }

    /// Reads one line without its end; false at the end of the file.
    fn advance(&mut self) -> Result<bool, BaseError> {
        self.line.clear();
        loop {
            let rest = self.ahead.get(self.used..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', rest) {
                self.line.extend_from_slice(&rest[..end]);
                self.used += end + 1;
                return Ok(true);
            }
            self.line.extend_from_slice(rest);
            let left = usize::try_from(self.len - self.at).unwrap_or(GATHERED);
            if left == 0 {
                // A line without its end was cut.
                return Ok(false);
            }
            self.ahead.resize(left.min(GATHERED), 0);
            self.file.read_exact_at(&mut self.ahead, self.at)?;
            self.at += self.ahead.len() as u64;
            self.used = 0;
        }
    }

    fn damaged(&self, what: &'static str) -> BaseError {
        BaseError::Damaged {
            path: self.file.path().to_owned(),
            what,
        }
    }
}

fn as_json(line: &impl Serialize) -> Vec<u8> {
    // Text and numbers always can be JSON.
    serde_json::to_vec(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<String>, BaseError> {
        let (mut reader, head) = BaseReader::open(&Disk::system(), path)?;
        assert_eq!(head.key, "id");
        let mut lines = Vec::new();
        while let Some(line) = reader.next()? {
            lines.push(line.to_owned());
        }
        Ok(lines)
    }

    #[test]
    fn what_is_written_comes_back_and_any_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/items.1");
        let mut writer = BaseWriter::create(&Disk::system(), &path, "id").unwrap();
        let lines: Vec<String> = (0..3_000)
            .map(|n| format!("{{\"run\":{n},\"text\":\"{}\"}}", "é".repeat(n % 300)))
            .collect();
        for line in &lines {
            writer.line(line.as_bytes()).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 3_000);
        assert!(read(&path).unwrap() == lines);
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 2 * GATHERED);
        for at in [60, whole.len() / 2, whole.len() - 3] {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "a bit turned at {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn only_other_generations_of_the_stream_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path()).join("p");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["items.1", "items.2", "items.3", "items.x", "other.1"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        sweep(
            &Disk::system(),
            root.path(),
            "p",
            "items",
            &["p/items.2".to_owned()],
        )
        .unwrap();
        let left = Disk::system().list(&folder).unwrap();
        assert_eq!(left, ["items.2", "items.x", "other.1"]);
        sweep(&Disk::system(), root.path(), "none", "items", &[]).unwrap();
    }
}
