//! Finds the end of a JSON value while checking that it is one (RFC 8259), fast.
//!
//! `serde_json` checks the same at about half the speed; it stays the judge: what is refused
//! here is read again there, for its verdict and its words. So this may refuse what is valid
//! (nesting beyond 64 levels), but must never accept what is not, and a property test holds it
//! to that.

use wide::{u8x16, u8x32};

/// The place after the value that begins at `at`; `None` if none does, or it nests too deep.
/// `names` are those of the values before it, in `bytes` or on pages before.
#[inline]
pub fn skip(bytes: &[u8], mut at: usize, names: &mut Names) -> Option<usize> {
    let mut depth = 0_u32;
    // One bit a level, the innermost lowest: 1 for an object.
    let mut kinds = 0_u64;
    loop {
        match *bytes.get(at)? {
            b'"' => at = string(bytes, at + 1)?,
            open @ (b'{' | b'[') => {
                let object = open == b'{';
                let expected = object.then(|| names.expected(bytes, at)).flatten();
                let first = match expected {
                    Some(value) => value,
                    None => opened(bytes, at, open, names)?,
                };
                if first == at {
                    at = names.space(bytes, at + 1) + 1;
                } else {
                    depth += 1;
                    if depth > u64::BITS {
                        return None;
                    }
                    kinds = kinds << 1 | u64::from(object);
                    at = first;
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
            let object = kinds & 1 == 1;
            // A name that was met behind a `{` has no comma before it.
            if object
                && bytes.get(at) != Some(&b'{')
                && let Some(value) = names.expected(bytes, at)
            {
                at = value;
                break;
            }
            if depth == 0 {
                return Some(at);
            }
            let from = at;
            at = names.space(bytes, at);
            match *bytes.get(at)? {
                b',' => {
                    at = names.space(bytes, at + 1);
                    if object {
                        at = unexpected(bytes, from, at, names)?;
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

/// The place of the first value inside of what opens at `at`, or `at` itself if it is empty.
#[inline]
fn opened(bytes: &[u8], at: usize, open: u8, names: &mut Names) -> Option<usize> {
    let first = names.space(bytes, at + 1);
    // `}` and `]` are `{` and `[` plus two.
    if *bytes.get(first)? == open + 2 {
        Some(at)
    } else if open == b'{' {
        unexpected(bytes, at, first, names)
    } else {
        Some(first)
    }
}

/// Where JSON that is known to be valid first nests deeper than `most` levels.
pub fn deeper_than(text: &str, most: u32) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string(bytes, at + 1)?;
                continue;
            }
            b'[' | b'{' if depth == most => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// How the members of the value before were spelled. Records of a page are mostly alike, and a
/// name that is the expected one needs no search for its end: the place after it is then known
/// without waiting for what the bytes say.
#[derive(Debug, Default)]
pub struct Names {
    /// In the order of the members, those of values inside included.
    spelled: Vec<Name>,
    next: usize,
    broken: bool,
}

/// A name with all that stands before and after it, from `{` or `,` to the member's value.
#[derive(Debug, Clone, Copy)]
struct Name {
    text: [u8; LONGEST],
    /// One bit for each byte of the text that counts.
    mask: u32,
    len: u32,
}

/// Longer names are never expected.
const LONGEST: usize = 32;

impl Names {
    /// A new page begins; its values may well be like those before.
    pub fn turn(&mut self) {
        (self.next, self.broken) = (0, false);
    }

    /// How many members of a value are remembered.
    pub fn members(&self) -> usize {
        self.spelled.len()
    }

    /// A new value begins.
    #[inline]
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Whether any value so far was laid out over several lines.
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// The place after white space.
    #[inline]
    fn space(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(byte @ (b' ' | b'\n' | b'\r' | b'\t')) = bytes.get(at) {
            self.broken |= matches!(byte, b'\n' | b'\r');
            at += 1;
        }
        at
    }

    /// The place of the next member's value, if the expected name follows at `at`.
    #[inline]
    fn expected(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let name = self.spelled.get(self.next)?;
        let rest = bytes.get(at..)?;
        let same = match (rest.first_chunk(), name.text.first_chunk()) {
            // Most names are short, and half of the work is done on them.
            (Some(here), Some(text)) if name.len <= 16 => {
                u8x16::new(*here).simd_eq(u8x16::new(*text)).to_bitmask()
            }
            _ => u8x32::new(*rest.first_chunk()?)
                .simd_eq(u8x32::new(name.text))
                .to_bitmask(),
        };
        if same & name.mask != name.mask {
            return None;
        }
        self.next += 1;
        Some(at + name.len as usize)
    }

    /// Another name than the expected one came.
    fn spell(&mut self, spelled: &[u8]) {
        let len = spelled.len().min(LONGEST);
        let mut text = [0; LONGEST];
        text[..len].copy_from_slice(&spelled[..len]);
        if spelled.len() > LONGEST {
            // Never met: no UTF-8 has this byte.
            text[0] = 0xff;
        }
        let name = Name {
            text,
            mask: u32::MAX >> (LONGEST - len),
            len: u32::try_from(len).unwrap_or(0),
        };
        match self.spelled.get_mut(self.next) {
            Some(known) => *known = name,
            None => self.spelled.push(name),
        }
        self.next += 1;
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

/// The place of a member's value, given that of its name and where what comes before it begins.
#[cold]
fn unexpected(bytes: &[u8], from: usize, at: usize, names: &mut Names) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let colon = names.space(bytes, string(bytes, at + 1)?);
    if *bytes.get(colon)? != b':' {
        return None;
    }
    let value = names.space(bytes, colon + 1);
    names.spell(&bytes[from..value]);
    Some(value)
}

/// The place after the closing quote of a string, given that after the opening one.
///
/// Sixteen bytes at a time: most strings end in the first sixteen, so that the loop's branch is
/// foreseen and their lengths cost no missed branches.
#[inline]
pub fn string(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..)?.first_chunk() {
        let chunk = u8x16::new(*chunk);
        let last_control = u8x16::splat(0x1f);
        let found = chunk.simd_eq(u8x16::splat(b'"'))
            | chunk.simd_eq(u8x16::splat(b'\\'))
            | chunk.min(last_control).simd_eq(chunk);
        let found = found.to_bitmask();
        if found == 0 {
            at += 16;
            continue;
        }
        at += found.trailing_zeros() as usize;
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape(bytes, at + 1)?,
            _ => return None,
        }
    }
    tail(bytes, at)
}

/// The same for the last bytes of all.
fn tail(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
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
    // Eight at a time: the first byte that is no digit has the lowest mark, for what carries over
    // from it reaches only those behind.
    while let Some(chunk) = bytes.get(end..)?.first_chunk() {
        let off = u64::from_le_bytes(*chunk) ^ ZEROS;
        let marks = (off | off.wrapping_add(PAST_NINE)) & HIGH;
        if marks != 0 {
            end += (marks.trailing_zeros() / u8::BITS) as usize;
            return (end > at).then_some(end);
        }
        end += 8;
    }
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    (end > at).then_some(end)
}

/// Eight times the digit 0.
const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);
/// Carries what is more than 9 into the high bit.
const PAST_NINE: u64 = u64::from_ne_bytes([0x80 - 10; 8]);
/// The high bits.
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

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
        skip(bytes, space(bytes, 0), &mut Names::default())
            .is_some_and(|end| space(bytes, end) == bytes.len())
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
    fn depth_is_counted_outside_of_strings() {
        for (text, place) in [
            ("[[1],[2]]", None),
            ("[[[1]]]", Some(2)),
            (r#"[{"a[[[\"[":[]}]"#, Some(12)),
            (r#"["[[[","]]",[]]"#, None),
        ] {
            assert_eq!(deeper_than(text, 2), place, "{text}");
        }
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

    /// Reads values that are written one after the other, each with what was learnt from those
    /// before it, and says which were accepted.
    fn in_turn(text: &str) -> Vec<bool> {
        let bytes = text.as_bytes();
        let mut names = Names::default();
        text.split_inclusive('\n')
            .scan(0, |begin, line| {
                let at = *begin;
                *begin += line.len();
                names.rewind();
                let end = skip(bytes, at, &mut names);
                Some(end == Some(at + line.trim_end().len()))
            })
            .collect()
    }

    #[test]
    fn a_name_is_only_passed_over_where_it_stands() {
        let pad = " ".repeat(40);
        let long = "a_name_of_more_than_thirty_two_bytes";
        for (text, good) in [
            (r#"{"a":1,"b":{"c":2}}|{"a":1,"b":{"c":2}}"#, [true, true]),
            (r#"{"a" : 1}|{"a":1}"#, [true, true]),
            (r#"{"a":1}|{"ab":1}"#, [true, true]),
            (r#"{"ab":1}|{"a":1}"#, [true, true]),
            (r#"{"a":1}|{"a";1}"#, [true, false]),
            (r#"{"a":1}|{"a\x":1}"#, [true, false]),
            (r#"{"a":1,"b":2}|{"b":2}"#, [true, true]),
            (r#"{"a":1}|{"a":}"#, [true, false]),
            (r#"{"a":{"b":2}}|{"a":1{"b":2}"#, [true, false]),
            (r#"{"a":1,"b":2}|{"a":1{"b":2}"#, [true, false]),
            (r#"{"a":1,"b":2}|,"b":2}"#, [true, false]),
        ] {
            let text = text.replace('|', "\n") + "\n" + &pad;
            assert_eq!(in_turn(&text)[..2], good, "{text}");
        }
        let text = format!("{{\"{long}\":1}}\n{{\"{long}\":1}}\n{{\"{long}x\":}}\n{pad}");
        assert_eq!(in_turn(&text)[..3], [true, true, false], "{text}");
    }

    #[test]
    fn a_run_of_digits_ends_at_whatever_is_none() {
        for count in 0..20 {
            for odd in 0..=u8::MAX {
                for room in 0..10 {
                    let mut text = b"-".to_vec();
                    text.extend((0..count).map(|at| b'0' + at % 10));
                    let end = text.len();
                    text.push(odd);
                    text.extend(std::iter::repeat_n(b'0' + odd % 10, room));
                    let is_digit = odd.is_ascii_digit();
                    let ends = if is_digit { text.len() } else { end };
                    assert_eq!(digits(&text, 1), (ends > 1).then_some(ends), "{text:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_was_learnt_changes_no_verdict(values in prop::collection::vec(json(), 1..5), edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:a]"), 0..3)) {
            // Each twice, so that names are expected; then a little broken.
            let mut text: Vec<char> = values.iter().flat_map(|v| format!("{v}\n{v}\n").chars().collect::<Vec<_>>()).collect();
            for (at, edit) in edits {
                let at = at.index(text.len());
                if text[at] != '\n' {
                    text.splice(at..=at, edit.chars());
                }
            }
            let text: String = text.into_iter().collect::<String>() + &" ".repeat(40);
            let alone: Vec<bool> = text
                .split_inclusive('\n')
                .scan(0, |begin, line| {
                    let at = *begin;
                    *begin += line.len();
                    Some(skip(text.as_bytes(), at, &mut Names::default()) == Some(at + line.trim_end().len()))
                })
                .collect();
            prop_assert_eq!(in_turn(&text), alone, "{}", text);
        }

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
