//! `run --replay`: a transport that answers from a recording, and sends nothing.
//!
//! The same request gets the answers that it got, in their order; one that was never asked, or asked
//! more often, is an error that names the nearest. Bodies stay on the disk until they are asked for, and
//! [`LOADED`] bytes of them are in memory at a time, beside what the run itself makes of them.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tape::{Cleaner, Exchange, Head, Sought, UNANSWERED, VERSION, read};
use super::transport::{BodySource, Boxed, Request, Response, SendError, SendErrorKind, Transport};
use crate::clock::Clock;
use crate::disk::{Access, Disk, DiskError, DiskFile, Open};

/// So many recorded requests are compared to find the nearest.
const COMPARED: usize = 2000;

/// Bytes of recorded answers that are in memory at a time; a larger one is there alone.
pub const LOADED: u32 = 32 << 20;

/// A recording that was read.
#[derive(Debug)]
pub struct Cassette {
    /// What its run began with.
    pub head: Head,
    file: DiskFile,
    /// Where the answers to each request lie, in their order.
    answers: Mutex<HashMap<Sought, Answers>>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Answers {
    recorded: usize,
    /// Order, first byte and length of each that was not given yet.
    left: VecDeque<(u64, u64, usize)>,
}

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CassetteProblem {
    /// It cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is none.
    #[error("{} is no recording: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Cassette {
    /// Reads where its lines are. A last line that was cut off is left out.
    pub fn open(disk: &Disk, path: &Path) -> Result<Self, CassetteProblem> {
        let unreadable = |what: String| CassetteProblem::Unreadable {
            path: path.to_owned(),
            what,
        };
        let mut file = disk.open(path, Open::Read)?;
        if path.extension().is_some_and(|end| end == "zst") {
            file = unpacked(disk, &file)?;
        }
        let len = file.len()?;
        let mut reader = BufReader::with_capacity(256 << 10, file.range(0, len));
        let failed = |e| CassetteProblem::from(DiskError::new("read", path, e));
        let mut line = Vec::new();
        let mut at = reader.read_until(b'\n', &mut line).map_err(failed)? as u64;
        let head: Head = serde_json::from_slice(&line)
            .map_err(|problem| unreadable(format!("its first line: {problem}")))?;
        if head.cassette != VERSION {
            let version = head.cassette;
            return Err(unreadable(format!(
                "it is of version {version}, and this program reads {VERSION}"
            )));
        }
        let mut answers: HashMap<Sought, Answers> = HashMap::new();
        let mut number = 1;
        loop {
            line.clear();
            let size = reader.read_until(b'\n', &mut line).map_err(failed)?;
            number += 1;
            if line.last() != Some(&b'\n') {
                break;
            }
            let exchange: Exchange = serde_json::from_slice(&line)
                .map_err(|problem| unreadable(format!("line {number}: {problem}")))?;
            let of_it = answers.entry(exchange.request).or_default();
            of_it.recorded += 1;
            of_it.left.push_back((exchange.order, at, size));
            at += size as u64;
        }
        for of_it in answers.values_mut() {
            of_it.left.make_contiguous().sort_unstable();
        }
        Ok(Self {
            head,
            file,
            answers: Mutex::new(answers),
            room: Arc::new(Semaphore::new(LOADED as usize)),
        })
    }

    /// Where the next answer to a request is.
    fn next(&self, sought: &Sought) -> Result<(u64, usize), SendError> {
        let (_, at, size) = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            match answers.get_mut(sought) {
                None => return Err(unrecorded(nearest(sought, answers.keys()))),
                Some(of_it) => of_it.left.pop_front().ok_or_else(|| {
                    unrecorded(format!(
                        "it was asked {} times when the recording was made, and now once more",
                        of_it.recorded
                    ))
                })?,
            }
        };
        Ok((at, size))
    }

    /// An answer.
    fn load(&self, (at, size): (u64, usize)) -> Result<Exchange, SendError> {
        let mut line = vec![0; size];
        let damaged = |problem: String| unrecorded(format!("the recording is damaged: {problem}"));
        self.file
            .read_exact_at(&mut line, at)
            .map_err(|error| damaged(error.to_string()))?;
        serde_json::from_slice(&line).map_err(|error| damaged(error.to_string()))
    }
}

fn unrecorded(message: String) -> SendError {
    SendError {
        kind: SendErrorKind::Unrecorded,
        message,
    }
}

/// What was recorded that is most like a request.
fn nearest<'a>(sought: &Sought, known: impl Iterator<Item = &'a Sought>) -> String {
    let distance = |one: &&Sought| {
        let other_method = usize::from(one.method != sought.method) * 8;
        other_method + strsim::osa_distance(&one.url, &sought.url)
    };
    let Some(found) = known.take(COMPARED).min_by_key(distance) else {
        return "the recording holds no request at all".to_owned();
    };
    let other = if found.url != sought.url || found.method != sought.method {
        ""
    } else if found.body == sought.body {
        ", with other headers"
    } else {
        ", with another body"
    };
    format!(
        "it is not in the recording; the nearest there is {} {}{other}",
        found.method, found.url
    )
}

/// The lines of a packed recording in a file that has no name any more.
fn unpacked(disk: &Disk, packed: &DiskFile) -> Result<DiskFile, DiskError> {
    let name = format!("gleaner-cassette-{:016x}", fastrand::u64(..));
    let place = std::env::temp_dir().join(name);
    let mut file = disk.open(&place, Open::New(Access::Private))?;
    disk.remove_file(&place)?;
    let failed = |e| DiskError::new("unpack", packed.path(), e);
    let len = packed.len()?;
    let mut decoder = zstd::stream::read::Decoder::new(packed.range(0, len)).map_err(failed)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok(file),
            Ok(read) => file.write_all(&piece[..read]).map_err(failed)?,
            // It was cut off: what came before is good.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(file),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Answers from a recording.
#[derive(Debug)]
pub struct Replay {
    cassette: Arc<Cassette>,
    cleaner: Cleaner,
    clock: Clock,
}

impl Replay {
    /// Answers from `cassette`; `cleaner` makes requests comparable with those in it.
    pub fn new(cassette: Arc<Cassette>, cleaner: Cleaner, clock: Clock) -> Self {
        Self {
            cassette,
            cleaner,
            clock,
        }
    }
}

impl Transport for Replay {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let sought = self.cleaner.request(&request);
            let cassette = Arc::clone(&self.cassette);
            let place = cassette.next(&sought)?;
            let bytes = u32::try_from(place.1).unwrap_or(LOADED).min(LOADED);
            // It is never closed.
            let room = Arc::clone(&cassette.room);
            let room = room.acquire_many_owned(bytes).await.ok();
            let found = tokio::task::spawn_blocking(move || cassette.load(place)).await;
            let exchange = match found {
                Ok(found) => found?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            if exchange
                .error
                .as_ref()
                .is_some_and(|(kind, _)| kind == UNANSWERED)
            {
                std::future::pending::<()>().await;
            }
            let took = Duration::from_millis(exchange.took_ms);
            self.clock.sleep_until(self.clock.now() + took).await;
            if let Some(error) = &exchange.error {
                return Err(read(error));
            }
            let damaged = || SendError {
                kind: SendErrorKind::Unrecorded,
                message: "the recording is damaged: an answer cannot be read".to_owned(),
            };
            let answer = exchange.answer.ok_or_else(damaged)?;
            let mut headers = HeaderMap::new();
            for (name, value) in &answer.headers {
                if let (Ok(name), Ok(value)) = (
                    HeaderName::try_from(name.as_str()),
                    HeaderValue::from_bytes(value.as_bytes()),
                ) {
                    headers.append(name, value);
                }
            }
            Ok(Response {
                status: StatusCode::from_u16(answer.status).map_err(|_| damaged())?,
                headers,
                body: Box::new(Played {
                    body: Some(answer.bytes().ok_or_else(damaged)?),
                    _room: room,
                }),
            })
        })
    }
}

/// A recorded body, in one piece, and its room.
struct Played {
    body: Option<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl BodySource for Played {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        let piece = self.body.take().filter(|piece| !piece.is_empty());
        Box::pin(async move { Ok(piece) })
    }
}
