//! What sends a request: the `Transport` trait, implemented by reqwest here and by the pretend
//! API of `sim` in memory.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// A future on the heap, as trait objects need.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends one request and nothing else: no redirects, no retries, no decompression.
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// Sends it; resolves when the answer's headers are there.
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>>;
}

/// A transport to share.
pub type SharedTransport = Arc<dyn Transport>;

/// A request as it goes on the wire, credentials included.
#[derive(Clone)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Whole URL.
    pub url: Url,
    /// All headers.
    pub headers: HeaderMap,
    /// What it carries.
    pub body: Option<Bytes>,
    /// How far it may go.
    pub reach: Reach,
    /// Whether it fetches a credential: nothing of it may be written down.
    pub private: bool,
    /// Whether it needs a connection that no request went on before: one that was kept may be closed at
    /// this moment, and then nobody knows whether the request was heard.
    pub fresh: bool,
}

/// Neither query nor body, which may hold credentials; header values marked sensitive hide.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("origin", &self.url.origin().ascii_serialization())
            .field("path", &self.url.path())
            .field("headers", &self.headers)
            .field("body", &self.body.as_ref().map(Bytes::len))
            .field("reach", &self.reach)
            .field("private", &self.private)
            .field("fresh", &self.fresh)
            .finish()
    }
}

/// How far a request may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// To any address: the pipeline file names the origin.
    #[default]
    Anywhere,
    /// To public addresses only, judged after the name was looked up.
    Public,
}

/// An answer whose body has not been read.
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, piece by piece, as sent (compressed).
    pub body: Box<dyn BodySource>,
}

/// A body that arrives piece by piece.
pub trait BodySource: Send {
    /// The next piece; `None` at the end. A body cut short is an error, never an end.
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>>;
}

/// Why no (whole) answer came. Never shows a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// What kind of trouble.
    pub kind: SendErrorKind,
    /// What the layers below said, innermost cause last, without the URL.
    pub message: String,
}

/// Kinds of trouble, as far as they decide what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The name has no address.
    UnknownHost,
    /// No connection (refused, unreachable): nothing was sent.
    Connect,
    /// The server said that it did nothing with the request (RFC 9113 section 8.7).
    Unprocessed,
    /// The certificate or the TLS handshake was refused for a reason that stays.
    Certificate,
    /// A time-out; the text says which.
    Timeout,
    /// A connection that had been kept after an answer ended before a byte of the next one: the server
    /// closed it as idle, most likely, and never heard the request (RFC 9112 section 9.3.1).
    Dropped,
    /// The connection broke after the request was sent.
    Broken,
    /// The body ended early.
    Truncated,
    /// The request itself cannot be sent (a bad header value).
    Request,
    /// The name leads to an address that [`Reach::Public`] keeps from.
    NotPublic,
    /// The headers of the answer go beyond all measure.
    HeadTooLarge,
    /// A replay: it is not in the recording.
    Unrecorded,
    /// Nothing may be sent: what is kept is published as it is.
    Withheld,
}

/// What a client is built with; all other times are watched by who calls it, see `TimeoutPlan`.
#[derive(Clone)]
pub struct ClientSettings {
    /// Connecting, TLS included.
    pub connect: Duration,
    /// Authorities that are trusted beside those of the system, as PEM.
    pub authorities: Option<Vec<u8>>,
    /// A certificate to show and its key, as PEM.
    pub identity: Option<Vec<u8>>,
    /// The proxy that everything goes through, in place of those of the environment.
    pub proxy: Option<Url>,
}

impl ClientSettings {
    /// Only the time to connect; everything else as the system has it.
    pub fn new(connect: Duration) -> Self {
        Self {
            connect,
            authorities: None,
            identity: None,
            proxy: None,
        }
    }
}

/// Neither keys nor the proxy, which may hold a password.
impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("connect", &self.connect)
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .field("proxy", &self.proxy.is_some())
            .finish()
    }
}
