//! The pretend API without sockets: a `Transport` whose waits are the clock's, so that a paused
//! runtime runs an hour of harvest in a blink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;

use crate::clock::Clock;
use crate::fetch::transport::{
    BodySource, Boxed, Request, Response, SendError, SendErrorKind, SharedTransport, Transport,
};

use super::act::{Act, Ticket};
use super::api::SimApi;
use super::request::SimReply;

/// Bodies come in pieces of at most this size, so that readers meet more than one.
const PIECE: usize = 16 << 10;

/// Hands requests straight to a [`SimApi`].
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    api: Arc<SimApi>,
}

impl MemoryTransport {
    /// A transport to one API (which may stand in for several hosts).
    pub fn new(api: Arc<SimApi>) -> Self {
        Self { api }
    }

    /// The same, ready to share.
    pub fn shared(api: Arc<SimApi>) -> SharedTransport {
        Arc::new(Self::new(api))
    }
}

impl Transport for MemoryTransport {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let origin = request.url.origin().ascii_serialization();
            if !self.api.accepts(&origin) {
                return Err(trouble(SendErrorKind::Connect, "connection refused"));
            }
            let target = &request.url[url::Position::BeforePath..url::Position::AfterQuery];
            let body = request.body.unwrap_or_default();
            let arrived = self
                .api
                .request(request.method, &origin, target, request.headers, body);
            let answer = self.api.answer(arrived);
            let clock = *self.api.clock();
            if !answer.wait.is_zero() {
                clock.sleep_until(clock.now() + answer.wait).await;
            }
            let ticket = answer.ticket;
            match answer.act {
                Act::Reply(reply) => Ok(respond(reply, None, clock, ticket, |body| {
                    (pieces(&body, PIECE), false)
                })),
                Act::Truncate(reply, keep) => Ok(respond(reply, None, clock, ticket, |body| {
                    (pieces(&body.slice(..keep.min(body.len())), PIECE), true)
                })),
                Act::Drip(reply, size, every) => {
                    Ok(respond(reply, Some(every), clock, ticket, |body| {
                        (pieces(&body, size), false)
                    }))
                }
                Act::Reset => Err(trouble(SendErrorKind::Broken, "connection reset")),
                Act::UnknownHost => Err(trouble(
                    SendErrorKind::UnknownHost,
                    "the name server does not answer",
                )),
                Act::Stall => {
                    let _held = ticket;
                    std::future::pending().await
                }
            }
        })
    }
}

/// A body cut to pieces.
pub(super) fn pieces(body: &Bytes, size: usize) -> VecDeque<Bytes> {
    (0..body.len())
        .step_by(size.max(1))
        .map(|at| body.slice(at..body.len().min(at + size)))
        .collect()
}

fn respond(
    reply: SimReply,
    every: Option<Duration>,
    clock: Clock,
    ticket: Ticket,
    cut: impl FnOnce(Bytes) -> (VecDeque<Bytes>, bool),
) -> Response {
    let mut headers = reply.headers;
    headers.insert(CONTENT_LENGTH, reply.body.len().into());
    let (pieces, breaks) = cut(reply.body);
    Response {
        status: reply.status,
        headers,
        body: Box::new(MemoryBody {
            pieces,
            breaks,
            every,
            clock,
            ticket: Some(ticket),
        }),
    }
}

struct MemoryBody {
    pieces: VecDeque<Bytes>,
    /// Whether it ends in a broken connection.
    breaks: bool,
    every: Option<Duration>,
    clock: Clock,
    /// Given back with the last piece, as a server is done when it has sent all.
    ticket: Option<Ticket>,
}

impl BodySource for MemoryBody {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        Box::pin(async move {
            if let (Some(every), false) = (self.every, self.pieces.is_empty()) {
                self.clock.sleep_until(self.clock.now() + every).await;
            }
            let piece = self.pieces.pop_front();
            if self.pieces.is_empty() {
                self.ticket = None;
            }
            if piece.is_none() && self.breaks {
                let message = "connection closed before the whole body came";
                return Err(trouble(SendErrorKind::Truncated, message));
            }
            Ok(piece)
        })
    }
}

fn trouble(kind: SendErrorKind, message: &str) -> SendError {
    SendError {
        kind,
        message: message.to_owned(),
    }
}
