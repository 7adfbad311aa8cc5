//! A body, read to its end and unpacked, with a cap on everything: bytes as sent, bytes
//! unpacked, time between two pieces, time as a whole.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use super::encoding::Encoding;
use super::large::{Body, LargeBody, Spill, Spilling};
use super::room::Room;
use super::transport::{BodySource, SendError, SendErrorKind};
use crate::clock::{Clock, Elapsed, Instant};

/// Most bytes of one page, as sent and unpacked, unless said otherwise.
pub const PAGE_CAP: usize = 64 << 20;

/// Compressed bodies larger than this are unpacked away from the async threads.
const BLOCKING_FROM: usize = 256 << 10;

/// How a body is watched while it is read.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// Tells the time.
    pub clock: Clock,
    /// Longest time between two pieces.
    pub idle: Duration,
    /// When the whole attempt must be over.
    pub deadline: Instant,
    /// Most bytes, both as sent and unpacked; usually [`PAGE_CAP`].
    pub cap: usize,
}

/// Where a body goes that is too large for memory.
#[derive(Debug, Clone, Copy)]
pub struct Beyond<'a> {
    /// The disk.
    pub spill: &'a Arc<dyn Spill>,
    /// Most bytes in memory, both as sent and unpacked.
    pub whole: usize,
}

/// Why there is no whole body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than allowed, as sent or unpacked.
    #[error("the body is larger than {}", Size(*.cap))]
    TooLarge {
        /// The cap, in bytes.
        cap: usize,
    },
    /// It cannot be unpacked.
    #[error("{0}")]
    Decode(String),
    /// It cannot be put away.
    #[error("{message}")]
    Disk {
        /// What the disk said.
        message: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It did not arrive whole.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Reads a body to its end and unpacks it, in the `room` there is for it. A text encoding other than UTF-8 is left as it is.
pub async fn read(
    status: StatusCode,
    headers: &HeaderMap,
    source: &mut dyn BodySource,
    watch: &Watch,
    room: &mut Room,
) -> Result<BytesMut, BodyError> {
    match read_or_spill(status, headers, source, watch, None, room).await? {
        Body::Whole(body) => Ok(body),
        Body::Large(_) => Err(BodyError::TooLarge { cap: watch.cap }),
    }
}

/// The same; what is larger than fits goes `beyond` memory, if there is such a place.
pub async fn read_or_spill(
    status: StatusCode,
    headers: &HeaderMap,
    source: &mut dyn BodySource,
    watch: &Watch,
    beyond: Option<Beyond<'_>>,
    room: &mut Room,
) -> Result<Body, BodyError> {
    let encoding = Encoding::of(headers)?;
    let declared = declared_length(status, headers);
    let sent = match gather(declared, source, watch, beyond, room).await? {
        Gathered::Whole(sent) => sent,
        Gathered::Spilled(spilling) => {
            room.give_back();
            let large = spilling.end(encoding, watch.cap).await?;
            return Ok(Body::Large(large));
        }
    };
    let Some(encoding) = encoding.filter(|_| !sent.is_empty()) else {
        return Ok(Body::Whole(sent));
    };
    let cap = beyond.map_or(watch.cap, |beyond| beyond.whole);
    let unpacked = if sent.len() <= BLOCKING_FROM {
        encoding.unpack(&sent, cap).map_err(|e| (e, sent))
    } else {
        let work = move || encoding.unpack(&sent, cap).map_err(|e| (e, sent));
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| BodyError::Decode(format!("unpacking the {encoding} body broke off")))?
    };
    let body = match unpacked {
        Ok(body) => body,
        Err((BodyError::TooLarge { .. }, sent)) if beyond.is_some() => {
            let large = LargeBody::packed(sent.freeze(), Some(encoding), watch.cap);
            return Ok(Body::Large(large));
        }
        Err((error, _)) => return Err(error),
    };
    // Only now is it known; a guess that is too large would let pages come one at a time.
    room.hold(body.len()).await;
    Ok(Body::Whole(body.into()))
}

/// What came of a body as it was sent.
enum Gathered {
    Whole(BytesMut),
    Spilled(Spilling),
}

/// All bytes as sent, copied out of the pieces: so the connection reads into the same memory again,
/// and the body is nobody else's.
async fn gather(
    declared: Option<u64>,
    source: &mut dyn BodySource,
    watch: &Watch,
    beyond: Option<Beyond<'_>>,
    room: &mut Room,
) -> Result<Gathered, BodyError> {
    let mut watch = *watch;
    let too_large = BodyError::TooLarge { cap: watch.cap };
    let expected = match declared.map(usize::try_from) {
        None => None,
        Some(Ok(length)) if length <= watch.cap => Some(length),
        Some(_) => return Err(too_large),
    };
    let whole = beyond.map_or(watch.cap, |beyond| beyond.whole);
    // One that is known to be larger begins on the disk.
    let set_aside = expected.filter(|length| *length <= whole).unwrap_or(0);
    let mut body = room.buffers.take(set_aside);
    let needed = |length: usize| length.max(set_aside);
    let short = |got: usize| match expected {
        // RFC 9112 section 8: a body of another length is incomplete, never a short page.
        Some(expected) if expected != got => Err(truncated(format!(
            "the body has {got} bytes where Content-Length says {expected}"
        ))),
        _ => Ok(()),
    };
    loop {
        if !room.has(needed(body.bytes.len())) {
            // The server is kept waiting by us, which is no fault of its.
            let began = watch.clock.now();
            room.hold(needed(body.bytes.len())).await;
            watch.deadline += watch.clock.now().saturating_duration_since(began);
        }
        let Some(piece) = next_piece(source, &watch).await? else {
            break;
        };
        if body.bytes.len() + piece.len() > whole || expected.is_some_and(|all| all > whole) {
            let Some(beyond) = beyond else {
                return Err(too_large);
            };
            let so_far = std::mem::take(&mut body.bytes);
            let mut spilling = Spilling::begin(beyond.spill, so_far).await?;
            room.give_back();
            spilling.take(&piece).await?;
            while let Some(piece) = next_piece(source, &watch).await? {
                if spilling.len() + piece.len() > watch.cap {
                    return Err(too_large);
                }
                spilling.take(&piece).await?;
            }
            short(spilling.len())?;
            return Ok(Gathered::Spilled(spilling));
        }
        body.bytes.extend_from_slice(&piece);
    }
    short(body.bytes.len())?;
    Ok(Gathered::Whole(room.buffers.fill(body)))
}

async fn next_piece(
    source: &mut dyn BodySource,
    watch: &Watch,
) -> Result<Option<Bytes>, BodyError> {
    let now = watch.clock.now();
    let until = match now.checked_add(watch.idle) {
        Some(idle_until) => idle_until.min(watch.deadline),
        None => watch.deadline,
    };
    match watch.clock.timeout_at(until, source.chunk()).await {
        Ok(piece) => Ok(piece?),
        Err(Elapsed) => Err(BodyError::Send(SendError {
            kind: SendErrorKind::Timeout,
            message: if until < watch.deadline {
                format!("nothing more of the body came for {:?}", watch.idle)
            } else {
                "the body was not complete when the time for one attempt was over".to_owned()
            },
        })),
    }
}

/// The length of the body where `Content-Length` says it: not where RFC 9112 section 6.3 lets
/// another rule win, or where the answer has no body at all.
fn declared_length(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    if status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || headers.contains_key(TRANSFER_ENCODING)
    {
        return None;
    }
    headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

pub(super) fn truncated(message: String) -> BodyError {
    BodyError::Send(SendError {
        kind: SendErrorKind::Truncated,
        message,
    })
}

/// A number of bytes for people.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => write!(f, "{} MiB", n >> 20),
            n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{Read, Write};

    use http::header::{CONTENT_ENCODING, HeaderValue};

    use super::*;
    use crate::fetch::transport::Boxed;

    /// Gives its pieces, then ends or says nothing more for ever.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        stalls: bool,
    }

    impl BodySource for Pieces {
        fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
            let piece = self.pieces.pop_front();
            let stalls = self.stalls && piece.is_none();
            Box::pin(async move {
                if stalls {
                    std::future::pending::<()>().await;
                }
                Ok(piece)
            })
        }
    }

    fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Pieces {
        Pieces {
            pieces: pieces.into_iter().collect(),
            stalls: false,
        }
    }

    fn watch(cap: usize) -> Watch {
        let clock = Clock::system();
        Watch {
            clock,
            idle: Duration::from_secs(30),
            deadline: clock.now() + Duration::from_mins(5),
            cap,
        }
    }

    fn encoded(encoding: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
        headers
    }

    fn packed(encoding: &str, plain: &[u8]) -> Bytes {
        let mut out = Vec::new();
        match encoding {
            "gzip" => {
                let mut encoder =
                    flate2::write::GzEncoder::new(&mut out, flate2::Compression::new(6));
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            "deflate" => {
                let mut encoder =
                    flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::new(6));
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            "br" => {
                let mut encoder = brotli::CompressorReader::new(plain, 4096, 3, 20);
                encoder.read_to_end(&mut out).unwrap();
            }
            "zstd" => out = zstd::encode_all(plain, 3).unwrap(),
            other => panic!("{other}"),
        }
        out.into()
    }

    async fn read_all(
        headers: &HeaderMap,
        mut source: Pieces,
        cap: usize,
    ) -> Result<BytesMut, BodyError> {
        let mut room = Room::default();
        read(StatusCode::OK, headers, &mut source, &watch(cap), &mut room).await
    }

    fn kind(result: Result<BytesMut, BodyError>) -> SendErrorKind {
        match result {
            Err(BodyError::Send(error)) => error.kind,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn pieces_are_joined_and_let_go() {
        let parts = ["", "ab", "", "c", "def"].map(Bytes::from);
        let read = read_all(&HeaderMap::new(), pieces(parts), 6).await;
        assert_eq!(read.unwrap(), "abcdef");
        let one = Bytes::from(vec![7; 100]);
        let read = read_all(&HeaderMap::new(), pieces([one.clone()]), 100).await;
        assert!(one.is_unique() && read.unwrap() == one);
        let none = read_all(&encoded("gzip"), pieces([]), 6).await;
        assert_eq!(none.unwrap(), "");
    }

    #[tokio::test]
    async fn the_declared_length_must_hold() {
        let length = |n: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from_str(n).unwrap());
            headers
        };
        let body = || pieces([Bytes::from_static(b"abc")]);
        assert_eq!(read_all(&length("3"), body(), 9).await.unwrap(), "abc");
        assert_eq!(
            kind(read_all(&length("4"), body(), 9).await),
            SendErrorKind::Truncated
        );
        for huge in ["10", "18446744073709551615"] {
            assert_eq!(
                read_all(&length(huge), body(), 9).await,
                Err(BodyError::TooLarge { cap: 9 })
            );
        }
        let (headers, mut none, watch) = (length("4"), pieces([]), watch(9));
        let mut room = Room::default();
        let unmodified = read(
            StatusCode::NOT_MODIFIED,
            &headers,
            &mut none,
            &watch,
            &mut room,
        );
        assert_eq!(unmodified.await.unwrap(), "");
    }

    #[tokio::test]
    async fn unpacks_every_encoding_whole_and_in_pieces() {
        let plain = r#"{"id": 1, "name": "x"}"#.repeat(2000);
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            let sent = packed(encoding, plain.as_bytes());
            let halves = [sent.slice(..9), sent.slice(9..)];
            for source in [pieces([sent.clone()]), pieces(halves)] {
                let read = read_all(&encoded(encoding), source, PAGE_CAP)
                    .await
                    .unwrap();
                assert_eq!(read, plain, "{encoding}");
            }
            let cut = pieces([sent.slice(..sent.len() / 2)]);
            let read = read_all(&encoded(encoding), cut, PAGE_CAP).await;
            assert_eq!(kind(read), SendErrorKind::Truncated, "{encoding}");
        }
    }

    #[tokio::test]
    async fn bombs_stop_at_the_cap() {
        let zeros = vec![0; 4 << 20];
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            let sent = packed(encoding, &zeros);
            assert!(sent.len() < 64 << 10, "{encoding}: {}", sent.len());
            let read = read_all(&encoded(encoding), pieces([sent.clone()]), 64 << 10).await;
            assert_eq!(
                read,
                Err(BodyError::TooLarge { cap: 64 << 10 }),
                "{encoding}"
            );
            let exact = read_all(&encoded(encoding), pieces([sent]), 4 << 20).await;
            assert_eq!(exact.unwrap().len(), 4 << 20, "{encoding}");
        }
        let long = pieces([Bytes::from(vec![0; 9]), Bytes::from(vec![0; 2])]);
        let problem = read_all(&HeaderMap::new(), long, 10).await.unwrap_err();
        assert_eq!(problem, BodyError::TooLarge { cap: 10 });
        assert!(
            BodyError::TooLarge { cap: PAGE_CAP }
                .to_string()
                .contains("64 MiB")
        );
    }

    #[tokio::test]
    async fn large_bodies_are_unpacked_elsewhere() {
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(BLOCKING_FROM + 1000)
        .collect();
        let sent = packed("zstd", &noise);
        assert!(sent.len() > BLOCKING_FROM);
        let read = read_all(&encoded("zstd"), pieces([sent]), PAGE_CAP).await;
        assert_eq!(read.unwrap(), noise);
    }

    #[tokio::test]
    async fn what_the_header_says_must_be_true_and_simple() {
        for encoding in [
            "gzip",
            "zstd",
            "deflate",
            "gzip, gzip",
            "br, zstd",
            "compress",
        ] {
            let source = pieces([Bytes::from_static(br#"{"id": 1}"#)]);
            let read = read_all(&encoded(encoding), source, PAGE_CAP).await;
            assert!(
                matches!(read, Err(BodyError::Decode(_))),
                "{encoding}: {read:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_ends_by_the_clock() {
        let stalled = || Pieces {
            pieces: [Bytes::from_static(b"ab")].into(),
            stalls: true,
        };
        let began = Clock::system().now();
        let silent = read_all(&HeaderMap::new(), stalled(), 9).await;
        assert_eq!(kind(silent), SendErrorKind::Timeout);
        assert_eq!(began.elapsed().as_secs(), 30);
        let hurried = Watch {
            deadline: Clock::system().now() + Duration::from_secs(5),
            ..watch(9)
        };
        let (headers, mut source, mut room) = (HeaderMap::new(), stalled(), Room::default());
        let problem = read(StatusCode::OK, &headers, &mut source, &hurried, &mut room)
            .await
            .unwrap_err();
        assert!(problem.to_string().contains("one attempt"), "{problem}");
        assert_eq!(began.elapsed().as_secs(), 35);
    }
}
