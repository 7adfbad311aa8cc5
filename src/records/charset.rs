//! Bytes to text: which encoding a file is in, and that it keeps to it.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::problem::SelectError;

/// As far as the encoding is looked for in an XML declaration.
const DECLARATION: usize = 256;

/// A file as text.
///
/// Its encoding is that of its byte order mark, else the one `declared`, else that of the content
/// type, else that of the XML declaration (RFC 7303, section 3), else UTF-8. Labels mean what
/// browsers take them for (WHATWG Encoding Standard): `latin1` is windows-1252.
pub(super) fn text<'a>(
    bytes: &'a [u8],
    declared: Option<&'static Encoding>,
    content_type: Option<&str>,
    is_xml: bool,
) -> Result<Cow<'a, str>, SelectError> {
    let (encoding, before) = choose(bytes, declared, content_type, is_xml);
    decode(bytes.get(before..).unwrap_or_default(), encoding, before)
}

/// The encoding of a file by how it begins and what is said of it, and the length of its byte order
/// mark.
pub(super) fn choose(
    bytes: &[u8],
    declared: Option<&'static Encoding>,
    content_type: Option<&str>,
    is_xml: bool,
) -> (&'static Encoding, usize) {
    if let Some(marked) = Encoding::for_bom(bytes) {
        return marked;
    }
    let told = || {
        let label = content_type.and_then(charset)?;
        Encoding::for_label_no_replacement(label.as_bytes())
    };
    let inside = || is_xml.then(|| declaration(bytes)).flatten();
    (declared.or_else(told).or_else(inside).unwrap_or(UTF_8), 0)
}

/// Whether bytes begin with a mark of UTF-16, which JSON must not be in and sometimes is.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    Encoding::for_bom(bytes).is_some_and(|(found, _)| found != UTF_8)
}

fn decode<'a>(
    bytes: &'a [u8],
    encoding: &'static Encoding,
    before: usize,
) -> Result<Cow<'a, str>, SelectError> {
    if encoding == UTF_8 {
        let read = simdutf8::basic::from_utf8(bytes).or_else(|_| std::str::from_utf8(bytes));
        return read.map(Cow::Borrowed).map_err(|e| SelectError::NotUtf8 {
            at: before + e.valid_up_to(),
        });
    }
    encoding
        .decode_without_bom_handling_and_without_replacement(bytes)
        .ok_or(SelectError::NotInEncoding {
            encoding: encoding.name(),
        })
}

/// The parameter `charset` of a content type (RFC 9110, section 8.3.2).
fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_it = name.trim().eq_ignore_ascii_case("charset");
        is_it.then(|| value.trim().trim_matches('"'))
    })
}

/// What `<?xml … encoding="…"?>` says. One that can be read byte by byte is not UTF-16.
fn declaration(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes.get(..bytes.len().min(DECLARATION))?;
    let head = head.trim_ascii_start().strip_prefix(b"<?xml")?;
    let end = head.windows(2).position(|two| two == b"?>")?;
    let head = std::str::from_utf8(head.get(..end)?).ok()?;
    let (_, after) = head.split_once("encoding")?;
    let after = after.trim_start().strip_prefix('=')?.trim_start();
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (label, _) = after.get(1..)?.split_once(quote)?;
    let found = Encoding::for_label_no_replacement(label.as_bytes())?;
    Some(if found == UTF_16LE || found == UTF_16BE {
        UTF_8
    } else {
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], declared: Option<&str>, content_type: Option<&str>) -> String {
        let declared = declared.map(|label| Encoding::for_label(label.as_bytes()).unwrap());
        match text(bytes, declared, content_type, true) {
            Ok(text) => text.into_owned(),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn the_encoding_is_found() {
        assert_eq!(read("é".as_bytes(), None, None), "é");
        assert_eq!(read(b"\xef\xbb\xbfa", Some("latin1"), None), "a");
        assert_eq!(read(b"\xff\xfea\0\xe9\0", None, None), "aé");
        assert_eq!(read(b"\xfe\xff\0a\0\xe9", Some("utf-8"), None), "aé");
        assert_eq!(
            read(b"\xe9", Some("latin1"), Some("text/csv; charset=utf-8")),
            "é"
        );
        assert_eq!(
            read(
                b"\xe9",
                None,
                Some("text/csv; header=present; Charset=\"ISO-8859-1\"")
            ),
            "é"
        );
        assert_eq!(read(b"\x80", Some("latin1"), None), "€");
        assert_eq!(
            read(b"\x82\xa0", None, Some("text/csv;charset=Shift_JIS")),
            "あ"
        );
        let declared = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>";
        assert!(read(declared, None, None).ends_with("<a>é</a>"));
        let lie = b"<?xml version=\"1.0\" encoding=\"UTF-16\"?><a/>";
        assert!(read(lie, None, None).ends_with("<a/>"));
        assert_eq!(
            read(b"\xe9", None, Some("text/csv; charset=nonsense")),
            "! the body is not UTF-8 at byte 0; another encoding is said under `format`"
        );
        assert!(read(b"\xff\xfea", None, None).starts_with("! the body is not the UTF-16LE"));
    }
}
