//! What shall happen with a request: a whole answer, a broken one, or none.

use std::sync::Arc;
use std::time::Duration;

use super::api::SimApi;
use super::fault::Fault;
use super::request::SimReply;

/// What shall happen with a request.
#[derive(Debug)]
pub struct Answer {
    /// How long to wait first.
    pub wait: Duration,
    /// What to do then.
    pub act: Act,
    /// To be dropped when the answer is over.
    pub ticket: Ticket,
}

/// What to do with a connection.
#[derive(Debug)]
pub enum Act {
    /// Send a whole answer.
    Reply(SimReply),
    /// Announce the whole body, send so many bytes of it and close.
    Truncate(SimReply, usize),
    /// Send a whole answer, so many bytes at a time, with a pause before each piece.
    Drip(SimReply, usize, Duration),
    /// Break the connection.
    Reset,
    /// Have no address; where there is a connection already, break it.
    UnknownHost,
    /// Do nothing, forever.
    Stall,
}

/// Counts a request as being answered until it is dropped.
#[derive(Debug)]
pub struct Ticket(pub(super) Arc<SimApi>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.audit().left();
    }
}

/// Turns a fault into what shall happen; `good` is the answer that was due, as gzip only
/// where it is told that it may be.
pub(super) fn befall(fault: Fault, good: impl FnOnce(bool) -> SimReply) -> Act {
    let html = &[("content-type", "text/html; charset=utf-8")];
    Act::Reply(match fault {
        Fault::Status(status, headers, body) => headers
            .iter()
            .fold(SimReply::new(status, &[], body), |reply, (name, value)| {
                reply.header(name, value)
            }),
        Fault::HtmlLogin200 => SimReply::new(
            200,
            html,
            "<!doctype html><html><head><title>Sign in</title></head><body>\
             <form action=\"/login\" method=\"post\"></form></body></html>",
        ),
        Fault::EmptyBody => SimReply::json(200, ""),
        Fault::Redirect(to) => SimReply::new(302, &[("location", &to)], ""),
        Fault::Garbage => {
            let mut noise = vec![0; 512];
            fastrand::Rng::with_seed(3).fill(&mut noise);
            // Never the start of a text, whatever the dice say.
            noise[0] = 0xff;
            SimReply::json(200, noise)
        }
        Fault::BadJson => {
            // Cut plain: half a gzip stream is another fault.
            let mut reply = good(false);
            reply.body = reply.body.slice(..reply.body.len() * 2 / 3);
            reply
        }
        Fault::TruncatedBody => {
            let reply = good(true);
            let half = reply.body.len() / 2;
            return Act::Truncate(reply, half);
        }
        Fault::SlowDrip { piece, every } => return Act::Drip(good(true), piece.max(1), every),
        Fault::Reset => return Act::Reset,
        Fault::UnknownHost => return Act::UnknownHost,
        Fault::Stall => return Act::Stall,
    })
}
