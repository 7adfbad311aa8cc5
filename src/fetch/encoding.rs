//! Content encodings, unpacked with a cap.
//!
//! This is ours and not the HTTP library's, because a library unpacks without a limit: one
//! megabyte of gzip makes a gigabyte.

use std::fmt;
use std::io::{self, BufRead, Read};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::body::{BodyError, truncated};

/// RFC 1952 section 2.3.1.
pub(super) const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// Largest zstd window, as RFC 9659 section 3 sets it for content encodings: 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Brotli,
    Zstd,
    /// The zlib format; never asked for, but some send it.
    Deflate,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        })
    }
}

impl Encoding {
    /// The one encoding of an answer. Several layers are refused: nobody needs them, and caps
    /// per layer are how decompression bombs got through elsewhere.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, BodyError> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes());
            for name in value.split(',').map(str::trim) {
                let encoding = match name.to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "br" => Self::Brotli,
                    "zstd" => Self::Zstd,
                    "deflate" => Self::Deflate,
                    // Told as it was sent: changed, a secret in it would not be known again.
                    _ => {
                        return Err(BodyError::Decode(format!(
                            "the body comes in the content encoding `{}`, which was not asked for; gzip, br, zstd and deflate can be read",
                            name.escape_debug()
                        )));
                    }
                };
                if let Some(first) = found.replace(encoding) {
                    return Err(BodyError::Decode(format!(
                        "the body is encoded more than once ({first}, {encoding}); one layer is read"
                    )));
                }
            }
        }
        Ok(found)
    }

    /// All bytes unpacked, or an error as soon as there are more than `cap`.
    pub(super) fn unpack(self, sent: &[u8], cap: usize) -> Result<Bytes, BodyError> {
        let unpacked = self
            .reader(sent)
            .and_then(|reader| capped(reader, sent.len(), cap));
        match unpacked {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(BodyError::TooLarge { cap }),
            Err(problem) => Err(self.fault(&problem)),
        }
    }

    /// What comes out of it, piece by piece.
    pub(super) fn reader<'a>(self, mut sent: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => {
                // So short a body could pass for one that ended early, which would be tried again.
                if !sent.fill_buf()?.starts_with(GZIP_MAGIC) {
                    let what = "it does not begin like it";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Box::new(flate2::bufread::MultiGzDecoder::new(sent))
            }
            Self::Deflate => Box::new(flate2::bufread::ZlibDecoder::new(sent)),
            Self::Brotli => Box::new(brotli::Decompressor::new(sent.chain(Ended), 8 << 10)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(sent)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// What is wrong with a body, by what its reader said.
    pub(super) fn fault(self, problem: &io::Error) -> BodyError {
        match problem.kind() {
            // Where the length is not declared, only the decoder notices a missing end.
            io::ErrorKind::UnexpectedEof => truncated(format!("the {self} body ended early")),
            _ => BodyError::Decode(self.denied(&problem.to_string())),
        }
    }

    fn denied(self, problem: &str) -> String {
        format!("the body is not the {self} that Content-Encoding says: {problem}")
    }
}

/// What a body of so many bytes unpacks to: JSON usually packs four to ten times.
fn guess(sent: usize, cap: usize) -> usize {
    sent.saturating_mul(6).min(cap)
}

/// All that `decoder` gives; nothing if that is more than `cap`.
fn capped(decoder: impl Read, sent: usize, cap: usize) -> io::Result<Option<Bytes>> {
    let mut bytes = Vec::with_capacity(guess(sent, cap));
    decoder.take(cap as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= cap).then(|| Bytes::from(bytes)))
}

/// Stands behind the bytes sent: the brotli decoder calls a missing end invalid data, like any
/// damage, unless its reader knows better.
struct Ended;

impl Read for Ended {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_layer_by_any_of_its_names() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            Encoding::of(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["X-GZip"]), Ok(Some(Encoding::Gzip)));
        assert_eq!(of(&["identity, br"]), Ok(Some(Encoding::Brotli)));
        for refused in [&["gzip", "gzip"][..], &["br, zstd"], &["compress"]] {
            assert!(of(refused).is_err(), "{refused:?}");
        }
    }
}
