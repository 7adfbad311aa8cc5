//! The door to the network: `Transport` over reqwest, with everything that reqwest does on its
//! own turned off, and its errors turned into ours. Nothing else imports reqwest.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Version};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::reach::{NotPublic, is_private_host, is_public};
use super::transport::{
    BodySource, Boxed, ClientSettings, Reach, Request, Response, SendError, SendErrorKind,
    Transport,
};
use crate::plan::loopback::is_loopback;

/// Node servers close idle connections after 5 seconds; a request sent at that moment is lost,
/// so ours are dropped before.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Sends requests over TCP and TLS.
///
/// Its clients are made when first asked for: reading the system's certificates takes longer
/// than many a run's first page.
#[derive(Debug)]
pub struct HttpClient {
    settings: ClientSettings,
    /// Those that keep connections for the next request.
    keeping: Clients,
    /// Those that make a connection for each request.
    fresh: Clients,
    guard: Guard,
    /// The proxies of the environment, read as reqwest reads them.
    proxies: OnceLock<Matcher>,
    /// Our ends of the connections that an answer has come over and that were kept. No more than this
    /// machine has ports; one that was closed unseen stays until its port is used again.
    kept: Mutex<HashSet<SocketAddr>>,
}

/// A client for each way to go.
#[derive(Debug, Default)]
struct Clients {
    usual: Made,
    /// For this machine: a proxy named by the environment cannot reach our loopback.
    direct: Made,
    /// For this machine without TLS, so without certificates.
    plain: Made,
    /// For addresses that must be public.
    guarded: Made,
}

/// A client, once it was made, or why it cannot be.
type Made = OnceLock<Result<reqwest::Client, ClientError>>;

/// The client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing to check certificates against, as in bare containers.
    #[error(
        "the system has no CA certificates to check servers with; install its `ca-certificates` package or point SSL_CERT_FILE at a bundle"
    )]
    NoCertificates,
    /// Anything else.
    #[error("cannot set up the HTTP client: {0}")]
    Other(String),
}

impl HttpClient {
    /// A client with its own pools of connections.
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            keeping: Clients::default(),
            fresh: Clients::default(),
            guard: Guard::system(),
            proxies: OnceLock::new(),
            kept: Mutex::default(),
        }
    }

    /// The client for a request.
    fn of(&self, request: &Request) -> Result<&reqwest::Client, SendError> {
        let url = &request.url;
        let guarded = request.reach == Reach::Public;
        // An address goes to the connector without a look-up, so it is judged here.
        if guarded && is_private_host(url) {
            return Err(SendError {
                kind: SendErrorKind::NotPublic,
                message: "its host is no address of the public internet".to_owned(),
            });
        }
        let (clients, idle) = if request.fresh {
            (&self.fresh, 0)
        } else {
            (&self.keeping, usize::MAX)
        };
        let made = |kind: &dyn Fn(ClientBuilder) -> ClientBuilder| {
            self.made(|it| kind(it).pool_max_idle_per_host(idle))
        };
        let made = match (
            url.host().is_some_and(|host| is_loopback(&host)),
            url.scheme(),
        ) {
            // Whoever names a proxy means it for all requests of the source.
            _ if self.settings.proxy.is_some() => clients.usual.get_or_init(|| made(&|it| it)),
            // A proxy looks names up by itself; where it may go is its own rule.
            _ if guarded && !self.has_proxy(url) => clients.guarded.get_or_init(|| {
                let guard = Arc::new(self.guard.clone());
                made(&|it| it.no_proxy().dns_resolver(Arc::clone(&guard)))
            }),
            (true, "http") => {
                let bare = || made(&|it| it.no_proxy().tls_certs_only([]));
                clients.plain.get_or_init(bare)
            }
            (true, _) => {
                let direct = || made(&ClientBuilder::no_proxy);
                clients.direct.get_or_init(direct)
            }
            // A proxy may itself be reached over TLS.
            (false, _) => clients.usual.get_or_init(|| made(&|it| it)),
        };
        made.as_ref().map_err(|error| SendError {
            kind: match error {
                ClientError::NoCertificates => SendErrorKind::Certificate,
                ClientError::Other(_) => SendErrorKind::Request,
            },
            message: error.to_string(),
        })
    }

    /// A client with what a kind of its own and the settings add: authorities, a certificate to show,
    /// a proxy.
    fn made(
        &self,
        kind: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<reqwest::Client, ClientError> {
        let mut builder = kind(
            reqwest::Client::builder()
                .retry(reqwest::retry::never())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(self.settings.connect)
                .pool_idle_timeout(IDLE_CONNECTION),
        );
        let of = |what: &str, error: &reqwest::Error| {
            ClientError::Other(format!("{what}: {}", said(error)))
        };
        if let Some(pem) = &self.settings.authorities {
            let all = reqwest::Certificate::from_pem_bundle(pem);
            let all = all.map_err(|error| of("`tls.ca`", &error))?;
            if all.is_empty() {
                let message = "`tls.ca` holds no certificate in PEM form";
                return Err(ClientError::Other(message.to_owned()));
            }
            builder = builder.tls_certs_merge(all);
        }
        if let Some(pem) = &self.settings.identity {
            let identity = reqwest::Identity::from_pem(pem);
            builder = builder.identity(identity.map_err(|e| of("`tls.cert` and `tls.key`", &e))?);
        }
        if let Some(url) = &self.settings.proxy {
            let proxy = reqwest::Proxy::all(url.as_str());
            builder = builder.proxy(proxy.map_err(|error| of("`proxy`", &error))?);
        }
        builder.build().map_err(|e| build_error(&e))
    }

    /// Whether what the settings add can be used: before the first request.
    ///
    /// # Errors
    /// It cannot; the text names the key, and never shows what is in it.
    pub fn check(&self) -> Result<(), ClientError> {
        let plain = self.settings.authorities.is_none() && self.settings.identity.is_none();
        if plain && self.settings.proxy.is_none() {
            return Ok(());
        }
        self.made(|it| it.tls_certs_only([])).map(drop)
    }

    /// Its connection may carry the next request too. HTTP/2 says of each request whether it was heard.
    fn keep(&self, answer: &reqwest::Response) {
        if answer.version() > Version::HTTP_11 {
            return;
        }
        if let Some(info) = answer.extensions().get::<HttpInfo>() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.insert(info.local_addr());
        }
    }

    /// A connection broke: whether an answer had come over it before.
    fn is_gone(&self, end: &SocketAddr) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(end)
    }

    /// Whether the environment names a proxy for it.
    fn has_proxy(&self, url: &Url) -> bool {
        let proxies = self.proxies.get_or_init(Matcher::from_system);
        let uri = url.as_str().parse::<http::Uri>();
        uri.is_ok_and(|uri| proxies.intercept(&uri).is_some())
    }
}

/// Addresses of a name.
type Lookup = dyn Fn(String) -> Boxed<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Looks names up and hands on addresses that are allowed, and no others. The connection is made
/// to what was judged: nobody asks a second time, so a name that changes its mind gains nothing.
#[derive(Clone)]
struct Guard {
    lookup: Arc<Lookup>,
    allows: fn(IpAddr) -> bool,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// The system's names, public addresses.
    fn system() -> Self {
        Self {
            lookup: Arc::new(|name| {
                Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
            }),
            allows: is_public,
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = (guard.lookup)(name.clone()).await?;
            // One address that is not public makes the name suspect as a whole.
            if let Some(bad) = found.iter().find(|found| !(guard.allows)(found.ip())) {
                let address = bad.ip();
                return Err(NotPublic { name, address }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Transport for HttpClient {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let client = self.of(&request)?;
            let mut out = reqwest::Request::new(request.method, request.url);
            *out.headers_mut() = request.headers;
            // Servers wait for a body, or refuse with 411, where nothing says that there is none (RFC 9110,
            // section 8.6).
            let is_empty = request.body.as_ref().is_none_or(Bytes::is_empty);
            if *out.method() == Method::POST && is_empty {
                let none = HeaderValue::from_static("0");
                out.headers_mut().insert(CONTENT_LENGTH, none);
            }
            *out.body_mut() = request.body.map(reqwest::Body::from);
            let mut answer = match client.execute(out).await {
                Ok(answer) => answer,
                Err(error) => {
                    let was_kept = connection_of(&error).is_some_and(|end| self.is_gone(&end));
                    let mut error = send_error(error, Stage::Headers, self.settings.connect);
                    if was_kept && error.kind == SendErrorKind::Broken {
                        error.kind = SendErrorKind::Dropped;
                    }
                    return Err(error);
                }
            };
            if !request.fresh {
                self.keep(&answer);
            }
            Ok(Response {
                status: answer.status(),
                headers: std::mem::take(answer.headers_mut()),
                body: Box::new(Body {
                    answer,
                    connect: self.settings.connect,
                }),
            })
        })
    }
}

struct Body {
    answer: reqwest::Response,
    connect: Duration,
}

impl BodySource for Body {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        Box::pin(async move {
            self.answer
                .chunk()
                .await
                .map_err(|error| send_error(error, Stage::Body, self.connect))
        })
    }
}

/// How far a request came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Headers,
    Body,
}

fn build_error(error: &reqwest::Error) -> ClientError {
    let message = said(error);
    if message.contains("No CA certificates") {
        ClientError::NoCertificates
    } else {
        ClientError::Other(message)
    }
}

fn send_error(error: reqwest::Error, stage: Stage, connect: Duration) -> SendError {
    let error = error.without_url();
    let kind = kind(&error, stage);
    let message = if error.is_connect() && error.is_timeout() {
        format!("connecting took longer than {connect:?}")
    } else if chain(&error).any(|cause| hyper_says(cause, hyper::Error::is_parse)) {
        format!("the answer is not HTTP: {}", said(&error))
    } else if kind == SendErrorKind::Truncated {
        format!("the answer broke off: {}", said(&error))
    } else {
        said(&error)
    };
    SendError { kind, message }
}

fn kind(error: &reqwest::Error, stage: Stage) -> SendErrorKind {
    if error.is_builder() {
        return SendErrorKind::Request;
    }
    if chain(error).any(<dyn Error>::is::<NotPublic>) {
        return SendErrorKind::NotPublic;
    }
    if chain(error).any(|cause| hyper_says(cause, hyper::Error::is_parse_too_large)) {
        return SendErrorKind::HeadTooLarge;
    }
    if error.is_connect() {
        return if error.is_dns() {
            SendErrorKind::UnknownHost
        } else if chain(error).any(|cause| io_kind(cause) == Some(io::ErrorKind::InvalidData)) {
            // The kind of all that rustls refuses during a handshake.
            SendErrorKind::Certificate
        } else {
            SendErrorKind::Connect
        };
    }
    if chain(error).any(tls_alert) {
        return SendErrorKind::Certificate;
    }
    if error.is_timeout() {
        return SendErrorKind::Timeout;
    }
    if chain(error).any(was_not_processed) {
        return SendErrorKind::Unprocessed;
    }
    if chain(error).any(|cause| hyper_says(cause, hyper::Error::is_user)) {
        return SendErrorKind::Request;
    }
    let ended = chain(error).any(|cause| {
        io_kind(cause) == Some(io::ErrorKind::UnexpectedEof)
            || hyper_says(cause, hyper::Error::is_incomplete_message)
    });
    if stage == Stage::Body && ended {
        SendErrorKind::Truncated
    } else {
        SendErrorKind::Broken
    }
}

/// Our end of the connection that a request broke on.
fn connection_of(error: &reqwest::Error) -> Option<SocketAddr> {
    let mut said = chain(error).filter_map(|cause| cause.downcast_ref::<legacy::Error>());
    let mut known = http::Extensions::new();
    said.find_map(legacy::Error::connect_info)?
        .get_extras(&mut known);
    known.get::<HttpInfo>().map(HttpInfo::local_addr)
}

/// TLS 1.3 tells the client only after the handshake that its certificate is not wanted.
fn tls_alert(cause: &(dyn Error + 'static)) -> bool {
    io_kind(cause) == Some(io::ErrorKind::InvalidData)
        && cause.to_string().starts_with("received fatal alert")
}

/// HTTP/2 streams that the server never looked at (RFC 9113 section 8.7): refused, or later than
/// the last that a graceful GOAWAY names.
fn was_not_processed(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            }
    })
}

fn io_kind(cause: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

fn hyper_says(cause: &(dyn Error + 'static), question: fn(&hyper::Error) -> bool) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(question)
}

/// The error and all its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        // An `io::Error` around another error steps over it in `source`; the TLS layer wraps so.
        match cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}

/// What the layers below reqwest said, innermost cause last.
fn said(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in chain(error) {
        // These two layers only say that a request failed; reqwest's may also name the URL.
        let text = cause.to_string();
        if cause.is::<reqwest::Error>() || text.starts_with("client error (") {
            continue;
        }
        let text = match io_kind(cause) {
            Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
            Some(io::ErrorKind::ConnectionReset) => "connection reset by the server".to_owned(),
            // ` (os error 111)` helps nobody who reads this.
            _ => plainly(text.split(" (os error").next().unwrap_or_default()),
        };
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
    }
    if parts.is_empty() {
        return error.to_string();
    }
    parts.join(": ")
}

/// The commonest words of rustls, which shows bare variant names, as a sentence before them.
fn plainly(text: &str) -> String {
    // rustls puts the address of its manual behind this.
    let text = text.split(": https://docs.rs").next().unwrap_or_default();
    let plain = if text.contains("certificate expired") || text.ends_with(": Expired") {
        "the server's certificate has expired"
    } else if text.contains("UnknownIssuer") || text.contains("CaUsedAsEndEntity") {
        "the server's certificate is signed by itself or by an authority that this system does not trust"
    } else if text.contains("InvalidContentType") {
        "the server does not speak TLS on this port; is it plain http?"
    } else {
        return text.to_owned();
    };
    format!("{plain} ({text})")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{HeaderMap, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    fn client() -> HttpClient {
        HttpClient::new(ClientSettings::new(Duration::from_secs(10)))
    }

    fn get(url: &str) -> Request {
        Request {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: None,
            reach: Reach::Anywhere,
            private: false,
            fresh: false,
        }
    }

    /// How a server leaves.
    #[derive(Clone, Copy)]
    enum Leave {
        Close,
        Reset,
    }

    /// A server for one connection: reads a request, writes `answer`, leaves. Gives the request.
    async fn serve(answer: &'static str, leave: Leave) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            while length == 0 || !request[..length].windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut request[length..]).await.unwrap() {
                    0 => break,
                    // A TLS hello, for the server that speaks none.
                    _ if request[0] == 0x16 => break,
                    n => length += n,
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            if matches!(leave, Leave::Reset) {
                stream.set_zero_linger().unwrap();
            }
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, task)
    }

    async fn sent(answer: &'static str, leave: Leave) -> Result<Response, SendError> {
        let (address, _) = serve(answer, leave).await;
        client()
            .send(get(&format!("http://{address}/x?key=SECRET")))
            .await
    }

    async fn body(mut response: Response) -> Result<String, SendError> {
        let mut text = String::new();
        while let Some(piece) = response.body.chunk().await? {
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        Ok(text)
    }

    fn problem<T>(result: Result<T, SendError>) -> (SendErrorKind, String) {
        let Err(error) = result else {
            panic!("must fail");
        };
        assert!(!error.message.contains("SECRET"), "{}", error.message);
        (error.kind, error.message)
    }

    #[tokio::test]
    async fn sends_what_it_is_given_and_nothing_else() {
        let answer = "HTTP/1.1 302 Found\r\nlocation: /y\r\nset-cookie: a=b\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
        let (address, seen) = serve(answer, Leave::Close).await;
        let mut request = get(&format!("http://{address}/x?a=b,c"));
        request.method = Method::POST;
        request.body = Some(Bytes::from_static(b""));
        let value = HeaderValue::from_static("1");
        request.headers.insert("x-own", value);
        let response = client().send(request).await.unwrap();
        assert_eq!(response.status, StatusCode::FOUND);
        assert_eq!(response.headers["content-encoding"], "gzip");
        assert_eq!(body(response).await.unwrap(), "abc");
        let seen = seen.await.unwrap().to_lowercase();
        assert!(seen.starts_with("post /x?a=b,c http/1.1\r\n"), "{seen}");
        assert!(seen.contains("x-own: 1\r\n"), "{seen}");
        assert_eq!(seen.matches("content-length: 0\r\n").count(), 1, "{seen}");
        for own_idea in ["user-agent", "accept-encoding", "referer", "cookie"] {
            assert!(!seen.contains(own_idea), "{seen}");
        }
    }

    #[tokio::test]
    async fn refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let result = client()
            .send(get(&format!("http://{address}/?key=SECRET")))
            .await;
        let (kind, message) = problem(result);
        assert_eq!(kind, SendErrorKind::Connect);
        assert!(message.ends_with("connection refused"), "{message}");
    }

    #[tokio::test]
    async fn closed_or_reset_before_an_answer() {
        for leave in [Leave::Close, Leave::Reset] {
            let (kind, message) = problem(sent("", leave).await);
            assert_eq!(kind, SendErrorKind::Broken, "{message}");
        }
        let (kind, _) = problem(sent("HTTP/1.1 200 OK\r\ncontent-le", Leave::Close).await);
        assert_eq!(kind, SendErrorKind::Broken);
    }

    /// A server that reads a request on each of its connections, answers, reads another and leaves
    /// without a word; how many connections it had.
    async fn leaving(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let connections = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                if !answer.is_empty() {
                    let _ = stream.read(&mut [0; 4096]).await.unwrap();
                }
            }
        });
        (address, count)
    }

    #[tokio::test]
    async fn a_kept_connection_that_ends_is_told_from_a_new_one() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
        let (address, count) = leaving(answer).await;
        let client = client();
        let url = format!("http://{address}/?key=SECRET");
        assert_eq!(
            body(client.send(get(&url)).await.unwrap()).await.unwrap(),
            "[]"
        );
        let (kind, message) = problem(client.send(get(&url)).await);
        assert_eq!(kind, SendErrorKind::Dropped, "{message}");
        // One that needs a connection of its own has it, and leaves none behind.
        for _ in 0..3 {
            let fresh = Request {
                fresh: true,
                ..get(&url)
            };
            assert_eq!(body(client.send(fresh).await.unwrap()).await.unwrap(), "[]");
        }
        assert_eq!(count.load(Ordering::Relaxed), 4);

        let (address, _) = leaving("").await;
        let (kind, message) = problem(client.send(get(&format!("http://{address}/"))).await);
        assert_eq!(kind, SendErrorKind::Broken, "{message}");
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_truncated() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
        ] {
            let response = sent(answer, Leave::Close).await.unwrap();
            let (kind, message) = problem(body(response).await);
            assert_eq!(kind, SendErrorKind::Truncated, "{message}");
        }
        let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let response = sent(whole, Leave::Close).await.unwrap();
        assert_eq!(body(response).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_reset_inside_the_body_is_broken() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
        // The reset may arrive before the headers were read.
        let result = match sent(answer, Leave::Reset).await {
            Ok(response) => body(response).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let (kind, message) = problem(result);
        assert_eq!(kind, SendErrorKind::Broken);
        assert!(message.contains("connection reset"), "{message}");
    }

    #[tokio::test]
    async fn a_refused_handshake_stays_refused() {
        let (address, _) = serve("HTTP/1.1 400 Bad Request\r\n\r\n", Leave::Close).await;
        let result = client()
            .send(get(&format!("https://{address}/?key=SECRET")))
            .await;
        let (kind, message) = problem(result);
        assert_eq!(kind, SendErrorKind::Certificate, "{message}");
        assert!(message.contains("does not speak TLS"), "{message}");
    }

    #[tokio::test]
    async fn an_unknown_host_is_named_as_such() {
        // With a proxy the proxy would be asked and not the name server.
        let client = client();
        let direct = reqwest::Client::builder().no_proxy().build().unwrap();
        client.keeping.usual.set(Ok(direct)).unwrap();
        // RFC 6761 section 6.4: `.invalid` never has an address.
        let result = client.send(get("http://gleaner.invalid/?key=SECRET")).await;
        let (kind, message) = problem(result);
        assert_eq!(kind, SendErrorKind::UnknownHost, "{message}");
    }

    /// A client that takes the name `cdn.example` for each of these in turn, and 127.0.0.1 for
    /// what is not public.
    fn rebinding(answers: &'static [[u8; 4]]) -> (HttpClient, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut client = client();
        client.proxies = OnceLock::from(Matcher::builder().build());
        client.guard = Guard {
            lookup: Arc::new(move |name| {
                assert_eq!(name, "cdn.example");
                let nth = count.fetch_add(1, Ordering::Relaxed);
                let addresses = answers[nth.min(answers.len() - 1)];
                Box::pin(async move { Ok(vec![SocketAddr::from((addresses, 0))]) })
            }),
            allows: |address| address != IpAddr::from([127, 0, 0, 1]),
        };
        (client, asked)
    }

    fn guarded(url: &str) -> Request {
        Request {
            private: false,
            reach: Reach::Public,
            ..get(url)
        }
    }

    #[tokio::test]
    async fn a_name_that_changes_its_mind_gains_nothing() {
        // The same port, here on an address that counts as public, there on the machine's own.
        let public = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = public.local_addr().unwrap().port();
        let own = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (client, asked) = rebinding(&[[127, 0, 0, 2], [127, 0, 0, 1]]);
        let url = format!("http://cdn.example:{port}/x?key=SECRET");
        let serving = async {
            let (mut stream, _) = public.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
        };
        let (answer, ()) = tokio::join!(client.send(guarded(&url)), serving);
        assert_eq!(answer.unwrap().status, StatusCode::NO_CONTENT);
        assert_eq!(
            asked.load(Ordering::Relaxed),
            1,
            "judged and used: one look-up"
        );

        let sent = tokio::select! {
            sent = client.send(guarded(&url)) => sent,
            _ = own.accept() => panic!("the machine's own port was reached"),
        };
        let (kind, message) = problem(sent);
        assert_eq!(kind, SendErrorKind::NotPublic);
        assert!(
            message.contains("cdn.example leads to 127.0.0.1"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn addresses_are_judged_without_a_look_up() {
        let (client, asked) = rebinding(&[[127, 0, 0, 2]]);
        for host in [
            "127.0.0.1",
            "[::1]",
            "169.254.169.254",
            "10.0.0.1",
            "localhost",
        ] {
            let sent = client.send(guarded(&format!("http://{host}:1/"))).await;
            assert_eq!(problem(sent).0, SendErrorKind::NotPublic, "{host}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_systems_names_are_judged() {
        let name: Name = "localhost".parse().unwrap();
        let Err(error) = Guard::system().resolve(name).await else {
            panic!("it leads to this machine");
        };
        assert!(error.is::<NotPublic>(), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_looks_names_up_by_itself() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", proxy.local_addr().unwrap());
        let (mut client, asked) = rebinding(&[[127, 0, 0, 1]]);
        client.proxies = OnceLock::from(Matcher::builder().http(address.clone()).build());
        let by_proxy = reqwest::Client::builder()
            .proxy(reqwest::Proxy::http(address).unwrap())
            .build()
            .unwrap();
        client.keeping.usual = OnceLock::from(Ok(by_proxy));
        let serving = async {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let (answer, heard) = tokio::join!(client.send(guarded("http://cdn.example/x")), serving);
        assert_eq!(answer.unwrap().status, StatusCode::NO_CONTENT);
        assert!(heard.starts_with("GET http://cdn.example/x "), "{heard}");
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        // What is plainly not public does not get that far.
        let sent = client.send(guarded("http://169.254.169.254/")).await;
        assert_eq!(problem(sent).0, SendErrorKind::NotPublic);
    }

    #[tokio::test]
    async fn headers_without_an_end_are_cut_off() {
        let endless = |line: &'static str| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nx: y").await;
                let mut bytes = 0;
                while sent.is_ok() {
                    bytes += line.len();
                    sent = stream.write_all(line.as_bytes()).await;
                }
                bytes
            };
            let client = client();
            let asking = client.send(get(&format!("http://{address}/")));
            let (answer, bytes) = tokio::join!(asking, serving);
            assert_eq!(problem(answer).0, SendErrorKind::HeadTooLarge, "{line:?}");
            // What the system's own buffers took is in this.
            assert!(bytes < 64 << 20, "{bytes}");
        };
        endless("\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy").await;
        endless("yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy").await;
    }

    #[test]
    fn what_rustls_says_becomes_a_sentence() {
        for (said, shown) in [
            ("invalid peer certificate: Expired", "has expired"),
            ("invalid peer certificate: UnknownIssuer", "does not trust"),
        ] {
            let text = plainly(said);
            assert!(text.contains(shown) && text.contains(said), "{text}");
        }
        assert_eq!(plainly("closed early: https://docs.rs/x"), "closed early");
    }
}
