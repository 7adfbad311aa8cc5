//! `run --record`: a transport that hands on what it is given and writes down what came of it.
//!
//! A line is written when its answer is whole, and nothing is kept back, so a recording that is cut
//! off is good up to its last whole line. Bodies are written as they are read: unpacked. Redirects and
//! 304 are written with their head: nobody reads further.
//!
//! Memory: a body stands here once more while it is read, so no more than the byte budget of the run
//! lets come at a time; what is read and waits to be written has [`WAITING`] bytes, and a body for
//! which there is no room is kept from its end until there is.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::encoding::Encoding;
use super::tape::{Answer, Cleaner, Exchange, Head, Sought, UNANSWERED, written};
use super::transport::{
    BodySource, Boxed, Request, Response, SendError, SharedTransport, Transport,
};
use crate::clock::{Clock, Instant};
use crate::disk::{DiskError, DiskFile};

/// Answers that may wait to be written.
const QUEUE: usize = 16;
/// Bytes of bodies that may wait to be written; a larger one waits alone.
pub const WAITING: u32 = 32 << 20;

/// A line that waits to be written, and its room.
type Waiting = (Exchange, Option<OwnedSemaphorePermit>);

/// Where lines go.
enum File {
    Plain(DiskFile),
    Zstd(DiskFile, zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl File {
    fn line(&mut self, line: &impl Serialize) -> Result<(), DiskError> {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        match self {
            Self::Plain(file) => file.append(&text),
            Self::Zstd(file, encoder) => {
                let packed = encoder.write_all(&text).and_then(|()| encoder.flush());
                packed.map_err(|e| DiskError::new("write", file.path(), e))?;
                file.append(&std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn end(self) -> Result<(), DiskError> {
        match self {
            Self::Plain(file) => file.sync_data(),
            Self::Zstd(file, encoder) => {
                let rest = encoder.finish();
                file.append(&rest.map_err(|e| DiskError::new("write", file.path(), e))?)?;
                file.sync_data()
            }
        }
    }
}

/// A recording that is made.
#[derive(Debug)]
pub struct Recording {
    cap: usize,
    queue: Mutex<Option<mpsc::Sender<Waiting>>>,
    room: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<Result<(), DiskError>>>>,
}

impl Recording {
    /// Begins with the first line; packed with zstd if the file's name says so. No answer is larger than `cap`
    /// bytes, as sent and unpacked.
    pub fn begin(file: DiskFile, head: &Head, cap: usize) -> Result<Self, DiskError> {
        let is_packed = file.path().extension().is_some_and(|end| end == "zst");
        let mut file = if is_packed {
            let encoder = zstd::stream::write::Encoder::new(Vec::new(), 0);
            let encoder = encoder.map_err(|e| DiskError::new("write", file.path(), e))?;
            File::Zstd(file, encoder)
        } else {
            File::Plain(file)
        };
        file.line(head)?;
        let (queue, mut lines) = mpsc::channel::<Waiting>(QUEUE);
        let writer = tokio::spawn(async move {
            let mut failed = None;
            while let Some((line, room)) = lines.recv().await {
                if failed.is_some() {
                    continue;
                }
                let written;
                (file, written) = blocking(move || {
                    let written = file.line(&line);
                    drop((line, room));
                    (file, written)
                })
                .await;
                failed = written.err();
            }
            match failed {
                Some(failed) => Err(failed),
                None => blocking(|| file.end()).await,
            }
        });
        Ok(Self {
            cap,
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(WAITING as usize)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Ends it: when it returns, all is on the disk.
    pub async fn end(&self) -> Result<(), DiskError> {
        lock(&self.queue).take();
        let writer = lock(&self.writer).take();
        match writer {
            None => Ok(()),
            Some(writer) => match writer.await {
                Ok(written) => written,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
        }
    }

    fn queue(&self) -> Option<mpsc::Sender<Waiting>> {
        lock(&self.queue).clone()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands requests to another transport, and writes down what came of them.
#[derive(Debug)]
pub struct Recorder {
    inner: SharedTransport,
    recording: Arc<Recording>,
    cleaner: Cleaner,
    clock: Clock,
    began: Instant,
    order: AtomicU64,
}

impl Recorder {
    /// Records what goes through `inner`.
    pub fn new(
        inner: SharedTransport,
        recording: Arc<Recording>,
        cleaner: Cleaner,
        clock: Clock,
    ) -> Self {
        Self {
            inner,
            recording,
            cleaner,
            clock,
            began: clock.now(),
            order: AtomicU64::new(0),
        }
    }
}

impl Transport for Recorder {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        // What fetches a credential is nobody's affair.
        if request.private {
            return self.inner.send(request);
        }
        Box::pin(async move {
            let mut line = Line {
                recording: Arc::clone(&self.recording),
                cleaner: self.cleaner.clone(),
                clock: self.clock,
                sent: self.clock.now(),
                began: self.began,
                order: self.order.fetch_add(1, Ordering::Relaxed),
                request: Some(self.cleaner.request(&request)),
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: BytesMut::new(),
            };
            match self.inner.send(request).await {
                Ok(response) => {
                    line.status = response.status;
                    line.headers = response.headers.clone();
                    if response.status.is_redirection() {
                        line.whole().await;
                        return Ok(response);
                    }
                    Ok(Response {
                        body: Box::new(Taped {
                            inner: response.body,
                            line,
                        }),
                        ..response
                    })
                }
                Err(error) => {
                    line.failed(&error).await;
                    Err(error)
                }
            }
        })
    }
}

/// A line on its way; one that nobody waits for any longer says so.
struct Line {
    recording: Arc<Recording>,
    cleaner: Cleaner,
    clock: Clock,
    sent: Instant,
    began: Instant,
    order: u64,
    /// Taken when the line is written.
    request: Option<Sought>,
    status: StatusCode,
    headers: HeaderMap,
    body: BytesMut,
}

impl Line {
    fn exchange(&mut self) -> Option<Exchange> {
        let milliseconds =
            |of: std::time::Duration| u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
        Some(Exchange {
            order: self.order,
            at_ms: milliseconds(self.sent.saturating_duration_since(self.began)),
            took_ms: milliseconds(self.clock.now().saturating_duration_since(self.sent)),
            request: self.request.take()?,
            answer: None,
            error: None,
        })
    }

    async fn write(&mut self, exchange: Exchange) {
        let bytes = exchange.answer.as_ref().map_or(0, Answer::size);
        let bytes = u32::try_from(bytes).unwrap_or(WAITING).min(WAITING);
        let room = Arc::clone(&self.recording.room);
        let room = room.acquire_many_owned(bytes).await;
        if let Some(queue) = self.recording.queue() {
            // A writer that is gone has failed, and says so in the end.
            let _ = queue.send((exchange, room.ok())).await;
        }
    }

    async fn failed(&mut self, error: &SendError) {
        if let Some(mut exchange) = self.exchange() {
            exchange.error = Some(written(error, &self.cleaner));
            self.write(exchange).await;
        }
    }

    async fn whole(&mut self) {
        let Some(mut exchange) = self.exchange() else {
            return;
        };
        let (sent, headers) = (
            self.body.split().freeze(),
            std::mem::take(&mut self.headers),
        );
        let (cleaner, status) = (self.cleaner.clone(), self.status.as_u16());
        let cap = self.recording.cap;
        match blocking(move || clean(&cleaner, status, &headers, &sent, cap)).await {
            Ok(answer) => exchange.answer = Some(answer),
            Err(error) => exchange.error = Some(error),
        }
        self.write(exchange).await;
    }
}

/// The answer as it is written; one that cannot be unpacked may hide anything, and is not.
fn clean(
    cleaner: &Cleaner,
    status: u16,
    headers: &HeaderMap,
    sent: &Bytes,
    cap: usize,
) -> Result<Answer, (String, String)> {
    let unpacked = match Encoding::of(headers) {
        Ok(None) => Ok(sent.clone()),
        Ok(Some(_)) if sent.is_empty() => Ok(Bytes::new()),
        Ok(Some(encoding)) => encoding.unpack(sent, cap),
        Err(problem) => Err(problem),
    };
    match unpacked {
        Ok(unpacked) => Ok(cleaner.answer(status, headers, &unpacked)),
        Err(problem) => Err(("truncated".to_owned(), cleaner.text(&problem.to_string()))),
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(mut exchange) = self.exchange()
            && let Some(queue) = self.recording.queue()
        {
            exchange.error = Some((UNANSWERED.to_owned(), "nobody waited longer".to_owned()));
            // Nobody can wait here: where the queue is full, the line is missing.
            let _ = queue.try_send((exchange, None));
        }
    }
}

/// A body that is written down as it is read.
struct Taped {
    inner: Box<dyn BodySource>,
    line: Line,
}

impl BodySource for Taped {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        Box::pin(async move {
            let chunk = self.inner.chunk().await;
            match &chunk {
                Ok(Some(piece)) => self.line.body.extend_from_slice(piece),
                Ok(None) => self.line.whole().await,
                Err(error) => self.line.failed(error).await,
            }
            chunk
        })
    }
}
