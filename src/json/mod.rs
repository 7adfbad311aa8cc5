//! JSON as text: a pull scanner over text that is already known to be valid JSON.
//!
//! Records stay the text that the API sent, from the page to the file; no tree is ever built.
//! This room stands alone because both `records` (bytes to rows) and `sink` (rows to files) read
//! such text and must not see one another. It imports nothing of ours but `plan::path`.
//!
//! Text that is not valid JSON never panics here; what comes out of it is unspecified.

mod at;
mod text;
pub mod valid;

pub use self::at::{each, get, get_all};
pub use self::text::{has_escapes, minify, plain, push_quoted, quoted, unescape};

use memchr::memchr2;

/// The members of an object, each as (key as spelled between its quotes, value as spelled).
///
/// Empty where `text` is not an object.
pub fn members(text: &str) -> Members<'_> {
    Members {
        inside: Inside::new(text, b'{'),
    }
}

/// The elements of an array as spelled; empty where `text` is not an array.
pub fn elements(text: &str) -> Elements<'_> {
    Elements {
        inside: Inside::new(text, b'['),
    }
}

/// Whether the text is an object without members.
pub fn is_empty_object(text: &str) -> bool {
    text.starts_with('{') && members(text).next().is_none()
}

/// Whether a key as spelled between its quotes means `name`.
#[inline]
pub fn key_is(spelled: &str, name: &str) -> bool {
    unescape(spelled) == name
}

/// Iterator of [`members`].
#[derive(Debug, Clone)]
pub struct Members<'a> {
    inside: Inside<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.inside.text.as_bytes();
        let open = self.inside.item()?;
        if bytes.get(open) != Some(&b'"') {
            return None;
        }
        let after_key = string_end(bytes, open + 1);
        let key = self.inside.text.get(open + 1..after_key.checked_sub(1)?)?;
        let colon = skip_space(bytes, after_key);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value = skip_space(bytes, colon + 1);
        Some((key, self.inside.value(value)?))
    }
}

/// Iterator of [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    inside: Inside<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.inside.item()?;
        self.inside.value(at)
    }
}

/// A position inside an object or array.
#[derive(Debug, Clone)]
struct Inside<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Inside<'a> {
    fn new(text: &'a str, open: u8) -> Self {
        let start = skip_space(text.as_bytes(), 0);
        let at = if text.as_bytes().get(start) == Some(&open) {
            start + 1
        } else {
            text.len()
        };
        Self { text, at }
    }

    /// Moves to the first byte of the next item.
    #[inline]
    fn item(&mut self) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = skip_space(bytes, self.at);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
        self.at = bytes.len();
        match bytes.get(at)? {
            b'}' | b']' | b',' | b':' => None,
            _ => Some(at),
        }
    }

    /// Takes the value that begins at `at`.
    #[inline]
    fn value(&mut self, at: usize) -> Option<&'a str> {
        let end = value_end(self.text.as_bytes(), at);
        self.at = end;
        self.text.get(at..end).filter(|value| !value.is_empty())
    }
}

/// The first position from `at` on that is not white space.
#[inline]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The position after the value that begins at `at`.
#[inline]
fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        None => bytes.len(),
        Some(b'"') => string_end(bytes, at + 1),
        Some(b'{' | b'[') => container_end(bytes, at),
        Some(_) => {
            let mut end = at;
            while let Some(byte) = bytes.get(end) {
                if matches!(
                    byte,
                    b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t'
                ) {
                    break;
                }
                end += 1;
            }
            end
        }
    }
}

/// The position after the bracket that closes the one at `at`.
fn container_end(bytes: &[u8], mut at: usize) -> usize {
    // A counter instead of recursion: depth is the server's to choose.
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The position after the quote that closes the string whose text begins at `at`.
#[inline]
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    // Most strings are short: eight bytes at a time beat the set-up of a vector search.
    for _ in 0..4 {
        let Some(word) = bytes.get(at..at + 8).and_then(|w| w.try_into().ok()) else {
            break;
        };
        let found = quote_or_backslash(u64::from_le_bytes(word));
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// A word whose lowest set bit marks the first `"` or `\` (Hacker's Delight, section 6-1).
#[inline]
fn quote_or_backslash(word: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |w: u64| w.wrapping_sub(LOW) & !w;
    (zero(word ^ (LOW * 0x22)) | zero(word ^ (LOW * 0x5c))) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn members_and_elements_are_slices_of_the_text() {
        let text = r#" { "a" : 1.10 , "b\"c":"x\\\"}," ,"d":{"e":[1,{}]} , "f":[ ] } "#;
        let found: Vec<_> = members(text).collect();
        assert_eq!(
            found,
            [
                ("a", "1.10"),
                (r#"b\"c"#, r#""x\\\"},""#),
                ("d", r#"{"e":[1,{}]}"#),
                ("f", "[ ]"),
            ]
        );
        let array = r#"[1 , "a,]b",null,[[],[2]] ]"#;
        assert_eq!(
            elements(array).collect::<Vec<_>>(),
            ["1", r#""a,]b""#, "null", "[[],[2]]"]
        );
        assert!(key_is(r"b\u0022c", "b\"c"));
        assert!(!key_is(r"a\\b", r"a\\b"));
    }

    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é\u{1F600}\"\\\\\n]{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[a-c.\"\\\\é]{0,12}", inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn rebuild(text: &str) -> Value {
        match text.as_bytes().first() {
            Some(b'{') => Value::Object(
                members(text)
                    .map(|(key, value)| (unescape(key).into_owned(), rebuild(value)))
                    .collect::<Map<_, _>>(),
            ),
            Some(b'[') => elements(text).map(rebuild).collect(),
            Some(b'"') => json!(plain(text)),
            _ => serde_json::from_str(text).unwrap_or_else(|_| panic!("leaf {text:?}")),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_scanner_sees_what_serde_json_sees(value in any_json()) {
            prop_assert_eq!(&rebuild(&value.to_string()), &value);
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(&rebuild(&pretty), &value);
            prop_assert_eq!(minify(&pretty), value.to_string());
        }

        #[test]
        fn nothing_panics_on_text_that_is_not_json(text in "[\\[\\]{}\":,\\\\u0-9a é]{0,60}") {
            for (key, value) in members(&text) {
                let _ = (unescape(key), plain(value));
            }
            let _ = (elements(&text).count(), minify(&text), unescape(&text));
        }
    }
}
