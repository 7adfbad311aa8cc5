//! Finds the end of a JSON value while checking that it is one (RFC 8259), fast.
//!
//! `serde_json` checks the same at about half the speed; it stays the judge: what is refused
//! here is read again there, for its verdict and its words. So this may refuse what is valid
//! (nesting beyond 64 levels), but must never accept what is not, and a property test holds it
//! to that.

/// The place after the value that begins at `at`; `None` if none does, or it nests too deep.
#[inline]
pub fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_u32;
    // One bit a level, the innermost lowest: 1 for an object.
    let mut kinds = 0_u64;
    loop {
        match *bytes.get(at)? {
            b'"' => at = string(bytes, at + 1)?,
            open @ (b'{' | b'[') => {
                at = space(bytes, at + 1);
                let object = open == b'{';
                // `}` and `]` are `{` and `[` plus two.
                if *bytes.get(at)? == open + 2 {
                    at += 1;
                } else {
                    depth += 1;
                    if depth > u64::BITS {
                        return None;
                    }
                    kinds = kinds << 1 | u64::from(object);
                    if object {
                        at = key(bytes, at)?;
                    }
                    continue;
                }
            }
            b'-' | b'0'..=b'9' => at = number(bytes, at)?,
            b't' => at = word(bytes, at, b"true")?,
            b'f' => at = word(bytes, at, b"false")?,
            b'n' => at = word(bytes, at, b"null")?,
            _ => return None,
        }
        loop {
            if depth == 0 {
                return Some(at);
            }
            at = space(bytes, at);
            let object = kinds & 1 == 1;
            match *bytes.get(at)? {
                b',' => {
                    at = space(bytes, at + 1);
                    if object {
                        at = key(bytes, at)?;
                    }
                    break;
                }
                close if close == if object { b'}' } else { b']' } => {
                    at += 1;
                    depth -= 1;
                    kinds >>= 1;
                }
                _ => return None,
            }
        }
    }
}

/// The place after white space.
#[inline]
pub fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The place of a member's value, given that of its key.
#[inline]
fn key(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let at = space(bytes, string(bytes, at + 1)?);
    (*bytes.get(at)? == b':').then(|| space(bytes, at + 1))
}

/// The place after the closing quote of a string, given that after the opening one.
#[inline]
pub fn string(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is zero; above a true one there may be false ones.
    let zeros = |x: u64| x.wrapping_sub(ONES) & !x;
    loop {
        // Eight bytes at a time (Mycroft): a quote, a backslash, or a control character?
        while let Some(chunk) = bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().ok()?);
            let quote = zeros(word ^ (ONES * u64::from(b'"')));
            let escape = zeros(word ^ (ONES * u64::from(b'\\')));
            let control = word.wrapping_sub(ONES * 0x20) & !word;
            let found = (quote | escape | control) & HIGHS;
            if found == 0 {
                at += 8;
            } else {
                // Only the lowest is sure, and it is the one that comes first.
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
        }
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape(bytes, at + 1)?,
            0..=0x1f => return None,
            _ => at += 1,
        }
    }
}

fn escape(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => {
            let digits = bytes.get(at + 1..at + 5)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 5)
        }
        _ => None,
    }
}

#[inline]
fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes[at] == b'-' {
        at += 1;
    }
    let whole = at;
    at = digits(bytes, at)?;
    if bytes[whole] == b'0' && at > whole + 1 {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Some(at)
}

/// The place after one or more digits.
#[inline]
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    (end > at).then_some(end)
}

#[inline]
fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    /// Where `serde_json` says the first value ends, if all of the text is one.
    fn judged(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    fn accepted(text: &str) -> bool {
        let bytes = text.as_bytes();
        skip(bytes, space(bytes, 0)).is_some_and(|end| space(bytes, end) == bytes.len())
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
            "[\"\\\\/\n\u{1}\u{7f}é]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,9}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn the_grammar_is_kept_to_the_letter() {
        for text in [
            "0",
            "-0",
            "10",
            "-1.50e+07",
            "1E5",
            "1e400",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "\"\"",
            " [1 , {\"a\" : null}]\n",
            r#""\u00e9\ud800\/\"\\""#,
            "\"12345678\"",
            "\"1234567\\n\"",
        ] {
            assert!(judged(text) && accepted(text), "{text}");
        }
        for text in [
            "",
            " ",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "tru",
            "nulL",
            "NaN",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12",
            "\"a\nb\"",
            "\"1234567\u{1}\"",
            "[",
            "{",
            "[[]",
            "1 1",
            "]",
        ] {
            assert!(!judged(text) && !accepted(text), "{text}");
        }
        // The innermost is empty and needs no place of its own.
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(accepted(&deep(65)) && !accepted(&deep(66)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_serde_writes_is_accepted(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("a value");
            prop_assert!(accepted(&text), "{}", text);
        }

        #[test]
        fn what_serde_refuses_is_refused(value in json(), edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9.eE+\\-\\\\utn \n]"), 1..4)) {
            let mut text: Vec<char> = value.to_string().chars().collect();
            for (at, edit) in edits {
                let at = at.index(text.len());
                text.splice(at..at, edit.chars());
                if at % 2 == 0 {
                    text.remove(at / 2);
                }
            }
            let text: String = text.into_iter().collect();
            prop_assert!(!accepted(&text) || judged(&text), "{}", text);
        }
    }
}
