//! Text from outside made safe for a terminal: nothing that moves the cursor, changes colours
//! or turns the direction of writing gets through; it is shown escaped instead.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes control characters (C0, DEL, C1), line separators and bidirectional controls
/// (Unicode TR 36, section 3.2), so that the text stays one line and shows what it is.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// JSON text with the same characters as escapes of JSON: it means the same and draws nothing.
/// (Below a space, JSON has only white space between its tokens.)
pub fn clean_json(json: &str) -> Cow<'_, str> {
    let hides = |c: char| c >= '\u{7f}' && is_unsafe(c);
    if !json.contains(hides) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hides(c) {
            // All of them have four digits at most.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(clean("naïve 日本 ok"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_means_the_same() {
        let written =
            serde_json::json!({"a\u{9b}": "\u{1b}[2J\u{202e}\u{7f}é\u{feff}"}).to_string();
        let shown = clean_json(&written);
        assert!(!shown.chars().any(is_unsafe), "{shown}");
        let (before, after): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(&written).unwrap(),
            serde_json::from_str(&shown).unwrap(),
        );
        assert_eq!(before, after);
        assert!(matches!(clean_json("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn controls_and_direction_marks_are_shown() {
        assert_eq!(
            clean("a\u{1b}[31mb\u{9b}c\u{202e}d\ne"),
            "a\\u{1b}[31mb\\u{9b}c\\u{202e}d\\ne"
        );
    }
}
