//! The pretend API on a loopback socket, HTTP/1.1, for what only real sockets show.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::Clock;

use super::act::{Act, Ticket};
use super::alarm::Alarm;
use super::api::SimApi;
use super::memory::pieces;
use super::request::{SimReply, SimRequest};

/// How long answers that have begun may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// A server that stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    api: Arc<SimApi>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    own: Option<Runtime>,
}

impl Server {
    /// Serves on a free port of 127.0.0.1, within the runtime it is called from.
    pub fn start(api: Arc<SimApi>) -> io::Result<Self> {
        let handle = Handle::try_current().map_err(io::Error::other)?;
        Self::start_on(&handle, api, None)
    }

    /// Serves from a thread of its own, for callers without a runtime and for benches.
    pub fn start_on_own_thread(api: Arc<SimApi>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Self::start_on(&handle, api, Some(runtime))
    }

    fn start_on(handle: &Handle, api: Arc<SimApi>, own: Option<Runtime>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _entered = handle.enter();
        let listener = TcpListener::from_std(listener)?;
        let (stop, stopped) = watch::channel(false);
        let alarm = Arc::new(Alarm::start(*api.clock())?);
        let accepting = handle.spawn(accept(listener, Arc::clone(&api), alarm, stopped));
        Ok(Self {
            address,
            api,
            stop,
            accepting,
            own,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API it serves.
    pub fn api(&self) -> &Arc<SimApi> {
        &self.api
    }

    /// Stops: no new connections, answers that have begun get a moment to end.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // An error means the task is over, which is what is wanted.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(runtime) = self.own.take() {
            runtime.shutdown_background();
        }
    }
}

/// Takes connections until told to stop; dropping the set of them ends them all.
async fn accept(
    listener: TcpListener,
    api: Arc<SimApi>,
    alarm: Arc<Alarm>,
    mut stopped: watch::Receiver<bool>,
) {
    let clock = *api.clock();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut stopped) => break,
            taken = listener.accept() => if let Ok((stream, _)) = taken {
                let (api, alarm) = (Arc::clone(&api), Arc::clone(&alarm));
                connections.spawn(converse(stream, api, alarm, stopped.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    // Whoever is not done by then is stalled on purpose.
    let _ = clock.timeout(GRACE, all_done).await;
}

/// Resolves when the server is told to stop, or is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Serves one connection to its end.
async fn converse(
    stream: TcpStream,
    api: Arc<SimApi>,
    alarm: Arc<Alarm>,
    mut stopped: watch::Receiver<bool>,
) {
    // Without this a small answer may wait for the client's acknowledgement of the last.
    let _ = stream.set_nodelay(true);
    let breaks = Arc::new(AtomicBool::new(false));
    let service = {
        let breaks = Arc::clone(&breaks);
        service_fn(move |request| {
            let (api, alarm) = (Arc::clone(&api), Arc::clone(&alarm));
            handle(request, api, alarm, Arc::clone(&breaks))
        })
    };
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = &mut connection => break,
            () = told(&mut stopped), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    if breaks.load(Ordering::Acquire) {
        // Closing with nothing to linger for sends a reset instead of an orderly end.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// An error out of here makes hyper drop the connection.
async fn handle(
    request: http::Request<Incoming>,
    api: Arc<SimApi>,
    alarm: Arc<Alarm>,
    breaks: Arc<AtomicBool>,
) -> Result<http::Response<WireBody>, io::Error> {
    let clock = *api.clock();
    let at = clock.now();
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let host = parts
        .headers
        .get("host")
        .and_then(|host| host.to_str().ok());
    let origin = format!("http://{}", host.unwrap_or("localhost"));
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let asked = SimRequest::new(at, parts.method, &origin, target, parts.headers, body);
    let answer = api.answer(asked);
    if !answer.wait.is_zero() {
        alarm.sleep_until(clock.now() + answer.wait).await;
    }
    let ticket = answer.ticket;
    Ok(match answer.act {
        Act::Reply(reply) => respond(reply, ticket, |body| WireBody {
            pieces: VecDeque::from([body]),
            ..WireBody::new(clock)
        }),
        Act::Truncate(reply, keep) => respond(reply, ticket, |body| WireBody {
            pieces: VecDeque::from([body.slice(..keep.min(body.len()))]),
            cut: Some(Cut::Flush),
            ..WireBody::new(clock)
        }),
        Act::Drip(reply, size, every) => respond(reply, ticket, |body| WireBody {
            pieces: pieces(&body, size),
            every: Some(every),
            ..WireBody::new(clock)
        }),
        Act::Reset | Act::UnknownHost => {
            breaks.store(true, Ordering::Release);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Act::Stall => {
            let _held = ticket;
            std::future::pending().await
        }
    })
}

fn respond(
    reply: SimReply,
    ticket: Ticket,
    body: impl FnOnce(Bytes) -> WireBody,
) -> http::Response<WireBody> {
    let announced = reply.body.len() as u64;
    let mut wire = body(reply.body);
    wire.announced = announced;
    wire.ticket = Some(ticket);
    let mut response = http::Response::new(wire);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// A body as it goes on the wire. Hyper takes `Content-Length` from its size hint.
struct WireBody {
    announced: u64,
    pieces: VecDeque<Bytes>,
    every: Option<Duration>,
    /// The wait before the next piece.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    cut: Option<Cut>,
    clock: Clock,
    ticket: Option<Ticket>,
}

/// How far a body that breaks off has come after its last piece.
enum Cut {
    /// What was sent must reach the socket first.
    Flush,
    /// It has.
    Break,
}

impl WireBody {
    fn new(clock: Clock) -> Self {
        Self {
            announced: 0,
            pieces: VecDeque::new(),
            every: None,
            pause: None,
            cut: None,
            clock,
            ticket: None,
        }
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.pieces.is_empty() {
            self.ticket = None;
            return match self.cut.take() {
                None => Poll::Ready(None),
                Some(Cut::Flush) => {
                    // Hyper flushes when a body has nothing for it, and not before an error.
                    self.cut = Some(Cut::Break);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Cut::Break) => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            };
        }
        if let Some(every) = self.every {
            let clock = self.clock;
            let pause = self.pause.get_or_insert_with(|| {
                Box::pin(async move { clock.sleep_until(clock.now() + every).await })
            });
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let piece = self.pieces.pop_front();
        if self.pieces.is_empty() {
            self.ticket = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.cut.is_none()
    }
}
