//! JSON strings and white space: unescaping, quoting, writing on one line.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::memchr;

/// Longer texts are worth the set-up of a vector search.
const SHORT: usize = 32;

/// Whether what stands between the quotes of a JSON string has a backslash.
#[inline]
pub fn has_escapes(spelled: &str) -> bool {
    first_escape(spelled).is_some()
}

#[inline]
fn first_escape(spelled: &str) -> Option<usize> {
    if spelled.len() <= SHORT && spelled.bytes().filter(|b| *b == b'\\').count() == 0 {
        return None;
    }
    memchr(b'\\', spelled.as_bytes())
}

/// The meaning of what stands between the quotes of a JSON string (RFC 8259, section 7).
///
/// Half of a surrogate pair alone means no character; it becomes U+FFFD, as does a broken escape.
pub fn unescape(spelled: &str) -> Cow<'_, str> {
    let Some(first) = first_escape(spelled) else {
        return Cow::Borrowed(spelled);
    };
    let mut out = String::with_capacity(spelled.len());
    let (mut rest, mut next) = (spelled, Some(first));
    while let Some(at) = next {
        out.push_str(rest.get(..at).unwrap_or_default());
        let mut after = rest.get(at + 1..).unwrap_or_default().chars();
        let character = match after.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let (character, left) = unicode(after.as_str());
                after = left.chars();
                character
            }
            Some(same @ ('"' | '\\' | '/')) => same,
            _ => char::REPLACEMENT_CHARACTER,
        };
        out.push(character);
        rest = after.as_str();
        next = memchr(b'\\', rest.as_bytes());
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character of `\u` plus what follows, and the rest.
fn unicode(digits: &str) -> (char, &str) {
    let Some((first, rest)) = unit(digits) else {
        return (char::REPLACEMENT_CHARACTER, digits);
    };
    if let Some(character) = char::from_u32(first) {
        return (character, rest);
    }
    if (0xd800..0xdc00).contains(&first)
        && let Some((second, after)) = rest.strip_prefix("\\u").and_then(unit)
        && (0xdc00..0xe000).contains(&second)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
            after,
        );
    }
    (char::REPLACEMENT_CHARACTER, rest)
}

/// Four hexadecimal digits, and the rest.
fn unit(digits: &str) -> Option<(u32, &str)> {
    let (four, rest) = digits.split_at_checked(4)?;
    // `from_str_radix` alone would take a sign.
    if !four.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some((u32::from_str_radix(four, 16).ok()?, rest))
}

/// A value as plain text: a string without its quotes and escapes, all else as spelled.
pub fn plain(value: &str) -> Cow<'_, str> {
    match value.strip_prefix('"') {
        Some(inner) => unescape(inner.strip_suffix('"').unwrap_or(inner)),
        None => Cow::Borrowed(value),
    }
}

/// `text` as a JSON string with its quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    // Most texts have nothing to escape.
    if !text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
        out.push_str(text);
        out.push('"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The same JSON without the white space between its tokens.
pub fn minify(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    push_minified(&mut out, json);
    out
}

/// Appends the same JSON without the white space between its tokens.
pub(super) fn push_minified(out: &mut String, json: &str) {
    let bytes = json.as_bytes();
    let (mut at, mut kept) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = super::string_end(bytes, at + 1),
            b' ' | b'\n' | b'\r' | b'\t' => {
                out.push_str(json.get(kept..at).unwrap_or_default());
                at = super::skip_space(bytes, at);
                kept = at;
            }
            _ => at += 1,
        }
    }
    out.push_str(json.get(kept..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_mean_what_the_standard_says() {
        assert_eq!(unescape(r#"a\n\t\r\b\f\"\\\/z"#), "a\n\t\r\u{8}\u{c}\"\\/z");
        assert_eq!(unescape(r"\u00e9 \ud83d\ude00"), "é 😀");
        assert!(matches!(unescape("plain é"), Cow::Borrowed("plain é")));
    }

    #[test]
    fn half_a_surrogate_pair_becomes_the_replacement_character() {
        assert_eq!(unescape(r"a\ud800b"), "a\u{fffd}b");
        assert_eq!(unescape(r"\udc00"), "\u{fffd}");
        assert_eq!(unescape(r"\ud800\u0041"), "\u{fffd}A");
        assert_eq!(unescape(r"\u+123"), "\u{fffd}+123");
        assert_eq!(unescape("\\"), "\u{fffd}");
    }

    #[test]
    fn quoting_is_undone_by_unescaping() {
        let hostile = "a\"b\\c\u{1}\n\r\té😀\u{2028}";
        assert_eq!(plain(&quoted(hostile)), hostile);
        assert_eq!(
            serde_json::from_str::<String>(&quoted(hostile)).unwrap(),
            hostile
        );
    }
}
