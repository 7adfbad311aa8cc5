//! Draws mistakes under their source lines, as rustc does, and writes them as JSON.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Diagnostics};

impl Diagnostics {
    /// All mistakes, each with its source line; ends with a newline.
    pub fn draw(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let path = clean(&self.source.path.to_string_lossy()).into_owned();
        let source = same_length(&self.source.text);
        let mut drawn = String::new();
        for one in &self.all {
            let snippet = Snippet::source(source.as_ref())
                .path(path.as_str())
                .annotation(AnnotationKind::Primary.span(self.shown(one)));
            let mut group = Level::ERROR
                .primary_title(clean(&one.message).into_owned())
                .id(one.code)
                .element(snippet);
            if let Some(hint) = one.advice() {
                group = group.element(Level::HELP.message(clean(hint).into_owned()));
            }
            drawn.push_str(&renderer.render(&[group]));
            drawn.push_str("\n\n");
        }
        drawn.pop();
        drawn
    }

    /// All mistakes as an array, for programs.
    pub fn to_json(&self) -> Value {
        let all = self.all.iter().map(|one| {
            let span = self.shown(one);
            let (line, column) = self.position(span.start);
            let (end_line, end_column) = self.position(span.end);
            json!({
                "code": one.code,
                "message": one.message,
                "file": self.source.path.to_string_lossy(),
                "line": line,
                "column": column,
                "end_line": end_line,
                "end_column": end_column,
                "hint": one.advice(),
            })
        });
        all.collect()
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.source.text.get(..byte).unwrap_or(&self.source.text);
        let line = before.rsplit('\n').next().unwrap_or("");
        (1 + before.matches('\n').count(), 1 + line.chars().count())
    }

    /// The span inside the text, on character bounds, and of its first line only.
    fn shown(&self, one: &Diagnostic) -> Range<usize> {
        let text = &self.source.text;
        let bound = |byte: usize| {
            let mut byte = byte.min(text.len());
            while !text.is_char_boundary(byte) {
                byte -= 1;
            }
            byte
        };
        let start = bound(one.span.start);
        let end = bound(one.span.end.max(start));
        let line = text[start..end].find(['\n', '\r']);
        start..line.map_or(end, |length| start + length)
    }
}

/// Whether a character could forge a screen: controls, and what turns the direction of writing
/// or shows nothing (Unicode TR 36, section 3.2).
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with such characters replaced by others of as many bytes, so that all places stay.
/// Those of one byte are left to the drawing, which shows pictures of them.
fn same_length(text: &str) -> Cow<'_, str> {
    let hides = |c: char| c.len_utf8() > 1 && is_unsafe(c);
    if !text.contains(hides) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c.len_utf8() {
        2 if hides(c) => '·',
        3 if hides(c) => '\u{fffd}',
        _ => c,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Such characters made visible.
fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::SourceText;
    use super::*;

    fn one(text: &str, span: Range<usize>) -> Diagnostics {
        Diagnostics {
            source: SourceText {
                path: "a.yaml".into(),
                text: text.to_owned(),
            },
            all: vec![Diagnostic {
                code: "unknown-key",
                message: "unknown key `\u{1b}[2J`".to_owned(),
                span,
                hint: Some("did you mean `x`?".to_owned()),
            }],
        }
    }

    #[test]
    fn columns_count_characters_and_spans_stay_inside() {
        let json = one("a: 1\nä🔑b: 2\n", 11..99).to_json();
        assert_eq!(
            (&json[0]["line"], &json[0]["column"]),
            (&2.into(), &3.into())
        );
        assert_eq!(json[0]["end_line"], 2);
    }

    #[test]
    fn escapes_what_could_forge_a_screen() {
        let drawn = one("a\u{1b}[2J: 1\n", 0..1).draw(false);
        assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
        assert!(drawn.contains("a.yaml:1:1"), "{drawn}");
        assert!(drawn.contains("did you mean"), "{drawn}");
    }
}
