//! An output file: written beside its target, compressed by its ending, renamed when whole.
//!
//! A reader never sees half a file: until [`Built::place`] the old one stays. Every byte is
//! flushed by a call whose failure is seen, never by a drop.

use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::SinkError;
use super::database;
use crate::crc;
use crate::disk::{self, Access, Disk, DiskError, DiskFile, Found, Open};
use crate::plan::sink::Compression;

/// Bytes gathered before each write.
const BUFFER: usize = 256 * 1024;

/// Where an output goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A file.
    File {
        /// On which disk.
        disk: Disk,
        /// Its final place.
        path: PathBuf,
        /// How it is compressed.
        compression: Compression,
    },
    /// A table of a SQLite file.
    Table(database::Place),
    /// Standard output: cannot be taken back, so nothing is written before all is known.
    Stdout,
}

/// An output being written.
#[derive(Debug)]
pub struct Out {
    stream: Stream,
    /// `None` for standard output.
    place: Option<Place>,
}

/// Where the file is and where it will be; removes what was never finished.
#[derive(Debug)]
struct Place {
    disk: Disk,
    beside: PathBuf,
    target: PathBuf,
    finished: bool,
}

/// A whole output that is on the disk beside its target, and not yet in its place; removed when
/// dropped.
#[derive(Debug)]
pub struct Built {
    /// `None` for standard output, which is in its place already.
    place: Option<Place>,
    /// Rows of a table that are not committed yet.
    table: Option<Box<database::Pending>>,
    bytes: u64,
    crc: u32,
}

#[derive(Debug)]
enum Base {
    File(Summed),
    Stdout(Counted),
}

/// Standard output, and how much went there.
#[derive(Debug)]
struct Counted {
    out: Stdout,
    bytes: u64,
}

/// A file with the checksum of what was written to it.
#[derive(Debug)]
struct Summed {
    file: DiskFile,
    crc: u32,
}

enum Stream {
    Plain(BufWriter<Base>),
    Gzip(GzEncoder<BufWriter<Base>>),
    Zstd(ZstdEncoder<'static, BufWriter<Base>>),
}

impl Target {
    /// Its name in messages.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Table(place) => place.shown(),
            Self::Stdout => PathBuf::from("standard output"),
        }
    }

    /// Why a table is not written as a file.
    pub(super) fn no_file(&self) -> SinkError {
        SinkError::Refused {
            path: self.shown(),
            why: "a table is no file".to_owned(),
        }
    }

    /// Creates the file beside the target, with the folders on the way.
    pub fn open(&self) -> Result<Out, SinkError> {
        match self {
            Self::Stdout => Ok(Out {
                stream: Stream::Plain(BufWriter::with_capacity(BUFFER, Base::stdout())),
                place: None,
            }),
            Self::Table(_) => Err(self.no_file()),
            Self::File {
                disk,
                path,
                compression,
            } => Out::create(disk, path, *compression)
                .map_err(|source| SinkError::new("create", self.shown(), source)),
        }
    }
}

impl Out {
    fn create(files: &Disk, path: &Path, compression: Compression) -> io::Result<Self> {
        // A link is followed, so that renaming replaces the file and not the link to it.
        let target = match files.look(path).map_err(said)? {
            Found::Folder => return Err(io::ErrorKind::IsADirectory.into()),
            Found::File(_) => files.resolve(path).map_err(said)?,
            Found::Nothing => path.to_owned(),
        };
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let folder = disk::above(&target);
        files.create_folder(folder, Access::Umask).map_err(said)?;
        let beside = folder.join(beside_name(&name.to_string_lossy(), std::process::id()));
        // Left by a dead process that had our number.
        files.remove_file(&beside).map_err(said)?;
        let file = files
            .open(&beside, Open::New(Access::Umask))
            .map_err(said)?;
        let place = Place {
            disk: files.clone(),
            beside,
            target,
            finished: false,
        };
        let base = BufWriter::with_capacity(BUFFER, Base::File(Summed { file, crc: 0 }));
        let stream = match compression {
            Compression::None => Stream::Plain(base),
            // No time and no name in the header, so that the same rows give the same bytes.
            Compression::Gzip => Stream::Gzip(
                GzBuilder::new()
                    .mtime(0)
                    .write(base, flate2::Compression::new(6)),
            ),
            Compression::Zstd => Stream::Zstd(ZstdEncoder::new(base, 3)?),
        };
        Ok(Self {
            stream,
            place: Some(place),
        })
    }

    /// Takes a whole file as the content instead of copying it, where that can be: nothing was
    /// written yet, no compression, the same file system, and one that knows second names. The
    /// file keeps its own name too, so that nothing is lost if this output is never finished.
    /// `crc` is the CRC32C of its bytes.
    pub fn adopt(&mut self, from: &Path, crc: u32) -> Result<bool, SinkError> {
        self.try_adopt(from, crc).map_err(|e| self.failed(e))
    }

    fn try_adopt(&mut self, from: &Path, crc: u32) -> io::Result<bool> {
        let (Stream::Plain(out), Some(place)) = (&mut self.stream, &self.place) else {
            return Ok(false);
        };
        let Base::File(Summed { file: fresh, .. }) = out.get_ref() else {
            return Ok(false);
        };
        if !fresh.is_empty().map_err(said)? || !out.buffer().is_empty() {
            return Ok(false);
        }
        let link = place.beside.with_extension("link");
        // Left by a dead process that had our number.
        place.disk.remove_file(&link).map_err(said)?;
        match place.disk.link(from, &link).map_err(said) {
            Ok(()) => {}
            Err(error) if cannot_link(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        place.disk.rename(&link, &place.beside).map_err(said)?;
        let adopted = place.disk.open(from, Open::Existing).map_err(said)?;
        // The mode that a new file gets here, by umask.
        adopted.permit_as(fresh).map_err(said)?;
        *out.get_mut() = Base::File(Summed { file: adopted, crc });
        Ok(true)
    }

    /// Copies bytes `start..end` of a file; between plain files the kernel does it
    /// (`copy_file_range`), so that they never pass through this process: `crc` is their CRC32C.
    pub fn copy(
        &mut self,
        from: &DiskFile,
        start: u64,
        end: u64,
        crc: u32,
    ) -> Result<(), SinkError> {
        self.try_copy(from, start, end, crc)
            .map_err(|e| self.failed(e))
    }

    fn failed(&self, source: io::Error) -> SinkError {
        let shown = match &self.place {
            Some(place) => place.target.clone(),
            None => Target::Stdout.shown(),
        };
        SinkError::new("write", shown, source)
    }

    fn try_copy(&mut self, from: &DiskFile, start: u64, end: u64, crc: u32) -> io::Result<()> {
        if let Stream::Plain(out) = &mut self.stream {
            out.flush()?;
            if let Base::File(to) = out.get_mut() {
                to.file.copy_from(from, start, end).map_err(said)?;
                to.crc = crc::combine(to.crc, crc, end - start);
                return Ok(());
            }
        }
        let mut bytes = from.range(start, end);
        let copied = match &mut self.stream {
            Stream::Plain(out) => io::copy(&mut bytes, out)?,
            Stream::Gzip(out) => io::copy(&mut bytes, out)?,
            Stream::Zstd(out) => io::copy(&mut bytes, out)?,
        };
        if copied == end - start {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Brings everything to the disk, and the file to its place.
    pub fn finish(self) -> Result<u64, SinkError> {
        let built = self.close()?;
        let bytes = built.bytes;
        built.place()?;
        Ok(bytes)
    }

    /// Brings everything to the disk; the file stays beside its target.
    pub fn close(mut self) -> Result<Built, SinkError> {
        self.complete().map_err(|e| self.failed(e))
    }

    fn complete(&mut self) -> io::Result<Built> {
        let spent = Stream::Plain(BufWriter::with_capacity(0, Base::stdout()));
        let base = match std::mem::replace(&mut self.stream, spent) {
            Stream::Plain(base) => base,
            Stream::Gzip(gzip) => gzip.finish()?,
            Stream::Zstd(zstd) => zstd.finish()?,
        };
        let base = base.into_inner().map_err(io::IntoInnerError::into_error)?;
        let (bytes, crc) = match base {
            Base::Stdout(mut stdout) => {
                stdout.out.flush()?;
                (stdout.bytes, 0)
            }
            Base::File(Summed { file, crc }) => {
                file.sync_data().map_err(said)?;
                (file.len().map_err(said)?, crc)
            }
        };
        Ok(Built {
            place: self.place.take(),
            table: None,
            bytes,
            crc,
        })
    }
}

impl Built {
    /// Rows of a table, committed when brought to their place.
    pub(super) fn of_table(pending: database::Pending) -> Self {
        Self {
            bytes: pending.bytes(),
            place: None,
            table: Some(Box::new(pending)),
            crc: 0,
        }
    }

    /// Size of the file in bytes, of a table that of its whole file; of standard output, what went there.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC32C of the file; 0 of a table, whose file is others' too, and of standard output.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Where it will be; `None` for standard output.
    pub fn target(&self) -> Option<PathBuf> {
        let table = self.table.as_ref().map(|table| table.path());
        table.or_else(|| self.place.as_ref().map(|place| place.target.clone()))
    }

    /// Brings the file to its place, in one step for whoever looks; durable when this returns.
    pub fn place(mut self) -> Result<(), SinkError> {
        if let Some(table) = self.table.take() {
            return table.commit();
        }
        let Some(place) = &mut self.place else {
            return Ok(());
        };
        place
            .put()
            .map_err(|e| SinkError::new("write", place.target.clone(), e))
    }
}

impl Place {
    fn put(&mut self) -> io::Result<()> {
        self.disk.rename(&self.beside, &self.target).map_err(said)?;
        // Where both names were of one file, as after a death in the middle of this, a rename
        // leaves both (`rename(2)`).
        self.disk.remove_file(&self.beside).map_err(said)?;
        self.finished = true;
        // The rename itself is durable only with the folder.
        self.disk
            .sync_folder(disk::above(&self.target))
            .map_err(said)?;
        // A process that died may have made the folders above and not synced them. Those that
        // are not ours to open are nobody's of us to have made.
        for folder in self.target.ancestors().skip(2) {
            if self.disk.sync_folder(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The name of the file that is written beside the target `name` by the process `pid`.
fn beside_name(name: &str, pid: u32) -> String {
    format!(".{name}.{pid}.part")
}

/// What the system said; [`SinkError`] names the file that the user knows.
fn said(error: DiskError) -> io::Error {
    error.source
}

/// Whether a second name cannot be given there: another file system, or one without such.
fn cannot_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
    )
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a failure here; the name tells what it is.
            let _ = self.disk.remove_file(&self.beside);
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(out) => out.write(bytes),
            Stream::Gzip(out) => out.write(bytes),
            Stream::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(out) => out.flush(),
            Stream::Gzip(out) => out.flush(),
            Stream::Zstd(out) => out.flush(),
        }
    }
}

impl Write for Base {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(to) => {
                let written = to.file.write(bytes)?;
                to.crc = crc::append(to.crc, &bytes[..written]);
                Ok(written)
            }
            Self::Stdout(to) => {
                let written = to.out.write(bytes)?;
                to.bytes += written as u64;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(to) => to.file.flush(),
            Self::Stdout(to) => to.out.flush(),
        }
    }
}

impl Base {
    fn stdout() -> Self {
        Self::Stdout(Counted {
            out: io::stdout(),
            bytes: 0,
        })
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "plain",
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    fn target(path: &Path, compression: Compression) -> Target {
        Target::File {
            disk: Disk::system(),
            path: path.to_owned(),
            compression,
        }
    }

    fn listed(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/rows.csv");
        let target = target(&path, Compression::None);
        let mut out = target.open().unwrap();
        out.write_all(b"old").unwrap();
        assert_eq!(out.finish().unwrap(), 3);
        let mut out = target.open().unwrap();
        out.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(out);
        assert_eq!(listed(path.parent().unwrap()), ["rows.csv"]);
        let mut out = target.open().unwrap();
        out.write_all(b"newer").unwrap();
        out.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
    }

    #[test]
    fn compression_is_deterministic_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let text = "a,b\r\n1,2\r\n".repeat(1_000);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut seen = Vec::new();
            for name in ["one", "two"] {
                let path = folder.path().join(name);
                let mut out = target(&path, compression).open().unwrap();
                out.write_all(text.as_bytes()).unwrap();
                out.finish().unwrap();
                seen.push(fs::read(&path).unwrap());
            }
            assert_eq!(seen[0], seen[1]);
            let mut back = String::new();
            match compression {
                Compression::Gzip => flate2::read::GzDecoder::new(&seen[0][..])
                    .read_to_string(&mut back)
                    .unwrap(),
                _ => zstd::Decoder::new(&seen[0][..])
                    .unwrap()
                    .read_to_string(&mut back)
                    .unwrap(),
            };
            assert_eq!(back, text);
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let inside = folder.path().join("file/rows.csv");
        let error = target(&inside, Compression::None).open().unwrap_err();
        assert!(error.to_string().contains("file/rows.csv"), "{error}");
        assert!(error.is_disk());
        assert!(target(folder.path(), Compression::None).open().is_err());
        assert_eq!(listed(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.csv");
        let link = folder.path().join("link.csv");
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut out = target(&link, Compression::None).open().unwrap();
        out.write_all(b"new").unwrap();
        out.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }
}
