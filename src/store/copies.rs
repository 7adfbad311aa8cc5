//! The latest answers of a stream, to be had again where the server says that nothing changed:
//! `.gleaner/pages/<pipeline>/<stream>/<request>`.
//!
//! One private file an answer: a line of JSON, then the body. It is no part of a run and may be
//! lost at any time: what cannot be read whole is not there, and is asked for as if never seen.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{Access, Disk, DiskError, DiskFile, Open};

/// The version of the file that this program writes; others are not read.
const VERSION: u32 = 1;
/// Longest that the first line may be.
const MOST_HEAD: usize = 64 << 10;

/// What is known of an answer besides its body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyHead {
    version: u32,
    /// Its `ETag`, as it was sent.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as it was sent.
    pub last_modified: Option<String>,
    /// Its other headers.
    pub headers: Vec<(String, String)>,
    len: u64,
    crc32c: u32,
}

impl CopyHead {
    /// What is known of an answer.
    pub fn new(
        etag: Option<String>,
        last_modified: Option<String>,
        headers: Vec<(String, String)>,
    ) -> Self {
        Self {
            version: VERSION,
            etag,
            last_modified,
            headers,
            ..Self::default()
        }
    }
}

/// An answer that was kept.
#[derive(Debug)]
pub struct KeptCopy {
    /// What is known of it.
    pub head: CopyHead,
    file: DiskFile,
    start: u64,
}

/// The copies of one stream.
#[derive(Debug, Clone)]
pub struct Copies {
    disk: Disk,
    folder: PathBuf,
}

impl Copies {
    /// Those of a stream in the project at `root`.
    pub fn new(disk: &Disk, root: &Path, pipeline: &str, stream: &str) -> Self {
        let folder = root.join(".gleaner").join("pages");
        Self {
            disk: disk.clone(),
            folder: folder.join(pipeline).join(stream),
        }
    }

    fn path(&self, request: u64) -> PathBuf {
        self.folder.join(format!("{request:016x}"))
    }

    /// The copy of the answer to a request, if there is one.
    pub fn find(&self, request: u64) -> Option<KeptCopy> {
        let file = self.disk.open(&self.path(request), Open::Read).ok()?;
        let len = file.len().ok()?;
        let most = usize::try_from(len).map_or(MOST_HEAD, |len| len.min(MOST_HEAD));
        let mut begin = vec![0; most];
        file.read_exact_at(&mut begin, 0).ok()?;
        let end = memchr::memchr(b'\n', &begin)?;
        let head: CopyHead = serde_json::from_slice(begin.get(..end)?).ok()?;
        let start = end as u64 + 1;
        (head.version == VERSION && start + head.len == len).then_some(KeptCopy {
            head,
            file,
            start,
        })
    }

    /// Keeps the answer to a request, in the place of an earlier one.
    pub fn keep(&self, request: u64, head: &CopyHead, body: &[u8]) -> Result<(), DiskError> {
        let head = CopyHead {
            len: body.len() as u64,
            crc32c: crc32c::crc32c(body),
            ..head.clone()
        };
        // Text and numbers always can be JSON.
        let mut first = serde_json::to_vec(&head).unwrap_or_default();
        first.push(b'\n');
        if first.len() > MOST_HEAD {
            return Ok(());
        }
        self.disk.create_folder(&self.folder, Access::Private)?;
        let path = self.path(request);
        let beside = path.with_extension("new");
        self.disk.remove_file(&beside)?;
        let file = self.disk.create_private(&beside)?;
        file.append(&first)?;
        file.append(body)?;
        // Not synced: what a power cut leaves is told by its checksum.
        self.disk.rename(&beside, &path)
    }

    /// Removes a copy.
    pub fn forget(&self, request: u64) -> Result<(), DiskError> {
        self.disk.remove_file(&self.path(request))
    }

    /// Removes all copies but those of these requests.
    pub fn sweep(&self, keep: &dyn Fn(u64) -> bool) -> Result<(), DiskError> {
        for name in self.disk.list(&self.folder)? {
            let request = u64::from_str_radix(&name, 16).ok();
            if !request.is_some_and(keep) {
                self.disk.remove_file(&self.folder.join(&name))?;
            }
        }
        Ok(())
    }
}

impl KeptCopy {
    /// The body, if it is whole.
    pub fn body(&self) -> Option<Vec<u8>> {
        let mut body = vec![0; usize::try_from(self.head.len).ok()?];
        self.file.read_exact_at(&mut body, self.start).ok()?;
        (crc32c::crc32c(&body) == self.head.crc32c).then_some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_comes_back_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::new(&Disk::system(), root.path(), "p", "s");
        let head = CopyHead::new(
            Some("W/\"a\"".to_owned()),
            None,
            vec![("link".to_owned(), "<x>; rel=next".to_owned())],
        );
        assert!(copies.find(7).is_none());
        copies.keep(7, &head, b"[1,\n2]").unwrap();
        copies.keep(7, &head, b"[1,\n2,3]").unwrap();
        let kept = copies.find(7).unwrap();
        assert_eq!(kept.body().unwrap(), b"[1,\n2,3]");
        assert_eq!(
            (&kept.head.etag, &kept.head.headers),
            (&head.etag, &head.headers)
        );

        let path = copies.path(7);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(copies.find(7).is_none(), "cut");
        let turned = [&whole[..whole.len() - 1], b"}"].concat();
        std::fs::write(&path, turned).unwrap();
        assert!(copies.find(7).unwrap().body().is_none(), "turned");

        copies.keep(8, &head, b"[]").unwrap();
        copies.sweep(&|request| request == 8).unwrap();
        assert!(copies.find(7).is_none() && copies.find(8).is_some());
    }
}
