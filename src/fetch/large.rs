//! Bodies that are too large for memory: they lie on the disk as they were sent, and are unpacked
//! while they are read, as often as wanted.
//!
//! What is packed is known by how it begins, as in [`super::archive`]; the caps are the same, and so are
//! the checks at the end of each packing, so a body is only whole when it was read to its end.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zip::ZipArchive;

use super::archive::{self, chosen, is_zip};
use super::body::BodyError;
use super::encoding::{Encoding, GZIP_MAGIC};
use crate::disk::DiskFile;
use crate::plan::format::Member;

/// Bytes that are read from the disk at once.
const BUFFER: usize = 256 << 10;
/// Bytes that go to the disk at once.
const WRITTEN: usize = 1 << 20;

/// A place for bodies that are too large for memory.
pub trait Spill: Debug + Send + Sync {
    /// An empty file that nobody else sees, and that goes with its last handle.
    fn begin(&self) -> Result<DiskFile, BodyError>;
    /// Writes at its end, where the disk has room.
    fn append(&self, file: &DiskFile, bytes: &[u8]) -> Result<(), BodyError>;
}

/// What a body came to.
#[derive(Debug)]
pub enum Body {
    /// In memory, unpacked as its headers say.
    Whole(BytesMut),
    /// Too large for that.
    Large(LargeBody),
}

/// A body that is read from its beginning as often as wanted.
#[derive(Debug, Clone)]
pub struct LargeBody {
    sent: Sent,
    encoding: Option<Encoding>,
    /// Most bytes that may come out of it.
    cap: usize,
}

#[derive(Debug, Clone)]
enum Sent {
    Memory(Bytes),
    File(DiskFile, u64),
}

/// Reads a file to its end: its name, if it is of an archive, and what is in it.
pub type Take<'t, E> = &'t mut dyn FnMut(Option<&str>, &mut dyn Read) -> Result<(), E>;

/// A body on its way to the disk.
pub(super) struct Spilling {
    spill: Arc<dyn Spill>,
    file: DiskFile,
    waiting: BytesMut,
    len: usize,
}

impl Spilling {
    /// Goes on with what came so far.
    pub(super) async fn begin(spill: &Arc<dyn Spill>, so_far: BytesMut) -> Result<Self, BodyError> {
        let (maker, spill) = (Arc::clone(spill), Arc::clone(spill));
        let file = blocking(move || maker.begin()).await?;
        let mut spilling = Self {
            spill,
            file,
            len: so_far.len(),
            waiting: so_far,
        };
        spilling.write().await?;
        spilling.waiting = BytesMut::with_capacity(2 * WRITTEN);
        Ok(spilling)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) async fn take(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        self.waiting.extend_from_slice(piece);
        self.len += piece.len();
        if self.waiting.len() >= WRITTEN {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), BodyError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (spill, file) = (Arc::clone(&self.spill), self.file.clone());
        let mut bytes = std::mem::take(&mut self.waiting);
        self.waiting = blocking(move || {
            spill.append(&file, &bytes)?;
            bytes.clear();
            Ok(bytes)
        })
        .await?;
        Ok(())
    }

    pub(super) async fn end(
        mut self,
        encoding: Option<Encoding>,
        cap: usize,
    ) -> Result<LargeBody, BodyError> {
        self.write().await?;
        Ok(LargeBody {
            sent: Sent::File(self.file, self.len as u64),
            encoding,
            cap,
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BodyError> + Send + 'static,
) -> Result<T, BodyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

impl LargeBody {
    /// A body that is small as it was sent, and not as it is unpacked.
    pub(super) fn packed(sent: Bytes, encoding: Option<Encoding>, cap: usize) -> Self {
        Self {
            sent: Sent::Memory(sent),
            encoding,
            cap,
        }
    }

    /// A gzip or zip file that comes to no more than `cap` bytes.
    pub fn file(body: Bytes, cap: usize) -> Self {
        Self::packed(body, None, cap)
    }

    /// Bytes as sent.
    pub fn len(&self) -> u64 {
        match &self.sent {
            Sent::Memory(bytes) => bytes.len() as u64,
            Sent::File(_, len) => *len,
        }
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands on each file in it, in turn: the body itself, or what an archive holds, with its name.
    /// `take` reads it to its end; what it says in the end is the inner result. What is wrong with the
    /// body goes before that.
    pub fn each<E>(
        &self,
        member: Option<&Member>,
        take: Take<'_, E>,
    ) -> Result<Result<(), E>, BodyError> {
        let watch = Watch::default();
        let mut head = [0; 4];
        let head = beginning(self.plain(&watch)?, &mut head).map_err(|e| watch.fault(&e))?;
        if is_zip(head) {
            return self.zipped(member, take);
        }
        let mut plain = self.plain(&watch)?;
        if !head.starts_with(GZIP_MAGIC) {
            return watch.judge(take(None, &mut plain));
        }
        let mut inner = [0; 4];
        let packed = self.unpacked(Encoding::Gzip, self.plain(&watch)?, &watch)?;
        let inner = beginning(packed, &mut inner).map_err(|e| watch.fault(&e))?;
        if is_zip(inner) {
            return Err(within());
        }
        let mut plain = self.unpacked(Encoding::Gzip, plain, &watch)?;
        watch.judge(take(None, &mut plain))
    }

    fn zipped<E>(
        &self,
        member: Option<&Member>,
        take: Take<'_, E>,
    ) -> Result<Result<(), E>, BodyError> {
        if self.encoding.is_some() {
            return Err(within());
        }
        let mut tail = Vec::new();
        let at = self.len().saturating_sub(archive::TAIL as u64);
        let read = Place { body: self, at }.read_to_end(&mut tail);
        read.map_err(|e| disk(&e))?;
        archive::few_files(&tail)?;
        let place = BufReader::with_capacity(BUFFER, Place { body: self, at: 0 });
        let mut zip = ZipArchive::new(place).map_err(|e| archive::wrong(&e))?;
        let left = Cell::new(self.cap);
        for (name, index) in chosen(&mut zip, member)? {
            let watch = Watch::default();
            let damaged = |e: &io::Error| {
                BodyError::Decode(format!("{name:?} of the zip archive is damaged: {e}"))
            };
            let file = zip.by_index(index).map_err(|e| archive::wrong(&e))?;
            let mut file = BufReader::with_capacity(BUFFER, file);
            let is_gzip = file
                .fill_buf()
                .map_err(|e| damaged(&e))?
                .starts_with(GZIP_MAGIC);
            let inner = Capped {
                inner: file,
                left: &left,
                cap: self.cap,
                watch: &watch,
                name: &damaged,
            };
            let taken = if is_gzip {
                let mut plain = self.unpacked(Encoding::Gzip, BufReader::new(inner), &watch)?;
                take(Some(&name), &mut plain)
            } else {
                let mut inner = inner;
                take(Some(&name), &mut inner)
            };
            match watch.judge(taken)? {
                Ok(()) => {}
                failed => return Ok(failed),
            }
        }
        Ok(Ok(()))
    }

    /// As sent.
    fn sent(&self) -> BufReader<Place<'_>> {
        BufReader::with_capacity(BUFFER, Place { body: self, at: 0 })
    }

    /// Unpacked as the headers say.
    fn plain<'a>(&'a self, watch: &'a Watch) -> Result<Box<dyn BufRead + 'a>, BodyError> {
        match self.encoding {
            None => Ok(Box::new(self.sent())),
            Some(encoding) => self.unpacked(encoding, self.sent(), watch),
        }
    }

    fn unpacked<'a>(
        &self,
        encoding: Encoding,
        packed: impl BufRead + 'a,
        watch: &'a Watch,
    ) -> Result<Box<dyn BufRead + 'a>, BodyError> {
        let inner = encoding.reader(packed).map_err(|e| encoding.fault(&e))?;
        Ok(Box::new(BufReader::with_capacity(
            BUFFER,
            Capped {
                inner,
                left: Cell::new(self.cap),
                cap: self.cap,
                watch,
                name: move |e: &io::Error| encoding.fault(e),
            },
        )))
    }
}

fn within() -> BodyError {
    BodyError::Decode(
        "a zip archive inside of another packing is too large for memory; it can be read where it is the body itself"
            .to_owned(),
    )
}

/// The first bytes, as many as there are.
fn beginning(mut from: impl Read, head: &mut [u8]) -> io::Result<&[u8]> {
    let mut got = 0;
    while got < head.len() {
        match from.read(&mut head[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(&head[..got])
}

/// What was wrong with the body while somebody read it.
#[derive(Debug, Default)]
struct Watch(RefCell<Option<BodyError>>);

impl Watch {
    /// An error for a reader, which remembers what it was.
    fn note(&self, error: BodyError) -> io::Error {
        let shown = error.to_string();
        self.0.borrow_mut().get_or_insert(error);
        io::Error::other(shown)
    }

    /// What was noted, else what the disk says.
    fn fault(&self, error: &io::Error) -> BodyError {
        (self.0.borrow_mut().take()).unwrap_or_else(|| disk(error))
    }

    fn judge<E>(&self, taken: Result<(), E>) -> Result<Result<(), E>, BodyError> {
        match self.0.borrow_mut().take() {
            Some(error) => Err(error),
            None => Ok(taken),
        }
    }
}

fn disk(error: &io::Error) -> BodyError {
    BodyError::Disk {
        message: format!("cannot read a body that was put away: {error}"),
        hint: crate::disk::hint(error.kind()),
    }
}

/// What comes out of a packing, counted.
struct Capped<'a, R, L, F> {
    inner: R,
    left: L,
    cap: usize,
    watch: &'a Watch,
    /// What an error of the packing is called.
    name: F,
}

impl<R: Read, L: std::borrow::Borrow<Cell<usize>>, F: Fn(&io::Error) -> BodyError> Read
    for Capped<'_, R, L, F>
{
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(into).map_err(|e| {
            // What is wrong further in says so itself.
            self.watch.note((self.name)(&e))
        })?;
        let left: &Cell<usize> = self.left.borrow();
        match left.get().checked_sub(got) {
            Some(rest) => left.set(rest),
            None => {
                return Err(self.watch.note(BodyError::TooLarge { cap: self.cap }));
            }
        }
        Ok(got)
    }
}

/// A place in a body as it was sent.
struct Place<'a> {
    body: &'a LargeBody,
    at: u64,
}

impl Read for Place<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = match &self.body.sent {
            Sent::Memory(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(at..).unwrap_or_default().read(into)?
            }
            Sent::File(file, len) => file.range(self.at, *len).read(into)?,
        };
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Place<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.body.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// On a disk, where somebody puts it away.
    fn put_away(sent: &[u8], encoding: Option<Encoding>, cap: usize) -> LargeBody {
        let disk = crate::sim::SimDisk::new(std::path::Path::new("/"));
        let file = disk
            .door()
            .create_private(std::path::Path::new("/x"))
            .unwrap();
        file.append(sent).unwrap();
        LargeBody {
            sent: Sent::File(file, sent.len() as u64),
            encoding,
            cap,
        }
    }

    type File = (Option<String>, Vec<u8>);

    fn files(body: &LargeBody) -> Result<Vec<File>, BodyError> {
        let mut all = Vec::new();
        let read = body.each(None, &mut |name, file| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            all.push((name.map(str::to_owned), bytes));
            Ok::<(), io::Error>(())
        })?;
        assert!(read.is_ok(), "{read:?}");
        Ok(all)
    }

    #[test]
    fn every_packing_is_opened_and_read_again() {
        let plain = b"a,b\n1,2\n".repeat(9);
        let one = vec![(None, plain.clone())];
        let packed = gzip(&plain);
        let archive = zip(&[("b", &plain), ("a.gz", &packed)]);
        let named = vec![
            (Some("a.gz".to_owned()), plain.clone()),
            (Some("b".to_owned()), plain.clone()),
        ];
        for (sent, encoding, wanted) in [
            (plain.clone(), None, &one),
            (packed.clone(), None, &one),
            (packed.clone(), Some(Encoding::Gzip), &one),
            (gzip(&packed), Some(Encoding::Gzip), &one),
            (archive, None, &named),
        ] {
            let away = put_away(&sent, encoding, 1000);
            let memory = LargeBody::packed(sent.into(), encoding, 1000);
            for body in [away, memory] {
                assert_eq!(&files(&body).unwrap(), wanted);
                assert_eq!(&files(&body).unwrap(), wanted);
            }
        }
    }

    #[test]
    fn what_is_cut_or_bent_or_swells_is_told() {
        let plain: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&plain);
        let archive = zip(&[("a", &plain)]);
        let roomy = plain.len();
        let cut = |sent: &[u8]| put_away(&sent[..sent.len() - 6], None, roomy);
        for body in [cut(&packed), cut(&archive)] {
            let error = files(&body).unwrap_err();
            assert!(matches!(error, BodyError::Send(_)), "{error}");
        }
        for (sent, at) in [(&packed, packed.len() - 6), (&archive, archive.len() / 2)] {
            let mut bent = sent.clone();
            bent[at] ^= 0x55;
            let error = files(&put_away(&bent, None, roomy)).unwrap_err();
            assert!(matches!(error, BodyError::Decode(_)), "{error}");
        }
        for (sent, encoding) in [
            (&packed, None),
            (&packed, Some(Encoding::Gzip)),
            (&archive, None),
        ] {
            assert!(files(&put_away(sent, encoding, roomy)).is_ok());
            let error = files(&put_away(sent, encoding, roomy - 1)).unwrap_err();
            assert_eq!(error, BodyError::TooLarge { cap: roomy - 1 });
        }
        let inside = put_away(&gzip(&archive), None, 2 * roomy);
        assert!(matches!(files(&inside), Err(BodyError::Decode(_))));
    }
}
