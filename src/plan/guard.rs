//! Comparisons and sums as they are compiled: as calls of functions that go by values ([`super::compare`]).
//!
//! A chain of comparisons becomes one call, a path beside a sign of arithmetic another; nothing else is touched, and
//! every place in the new text is known in the one that was written. What a tag of `raw` is in stays as it is.

use std::ops::Range;

use super::compare::{COMPARE, FACTOR, NUMBER};
use super::names::{Kind, Scan, Token};

/// Text that is compiled in the place of what was written.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) text: String,
    /// Pieces that stand in both, in order: where in the text, where as written, how long.
    pieces: Vec<(usize, usize, usize)>,
}

impl Guarded {
    /// An expression with its guards; `None` where there is nothing to guard.
    pub(super) fn expression(written: &str) -> Option<Self> {
        Self::of(written, &Scan::expression(written))
    }

    /// The same of a template.
    pub(super) fn template(written: &str) -> Option<Self> {
        let scan = Scan::template(written);
        // What is `raw` is data, which looks like code.
        let is_raw = scan.tags().any(|(tag, _)| tag == "raw");
        (!is_raw).then(|| Self::of(written, &scan)).flatten()
    }

    fn of(written: &str, scan: &Scan<'_>) -> Option<Self> {
        let mut edits = Edits::default();
        edits.comparisons(scan);
        edits.paths(scan);
        let mut edits = edits.0;
        if edits.is_empty() {
            return None;
        }
        edits.sort_by_key(|edit| (edit.at, edit.rank));
        let mut guarded = Self {
            text: String::new(),
            pieces: Vec::new(),
        };
        let mut done = 0;
        for edit in edits {
            guarded.keep(written, done..edit.at);
            guarded.text.push_str(&edit.text);
            done = edit.at + edit.instead_of;
        }
        guarded.keep(written, done..written.len());
        Some(guarded)
    }

    fn keep(&mut self, written: &str, range: Range<usize>) {
        if let Some(piece) = written.get(range.clone()).filter(|piece| !piece.is_empty()) {
            self.pieces
                .push((self.text.len(), range.start, range.len()));
            self.text.push_str(piece);
        }
    }

    /// Where a range of this text is as written.
    pub(super) fn written(&self, range: &Range<usize>) -> Range<usize> {
        let overlap = |&&(at, _, length): &&(usize, usize, usize)| {
            at < range.end && range.start < at + length
        };
        let first = self.pieces.iter().find(overlap);
        let last = self.pieces.iter().rfind(overlap);
        match (first, last) {
            (Some((at, start, _)), Some((end_at, end_start, length))) => {
                let end = (range.end - end_at).min(*length);
                start + range.start.saturating_sub(*at)..end_start + end
            }
            _ => 0..0,
        }
    }
}

/// A change of the written text.
struct Edit {
    at: usize,
    /// Among those at one place: what closes, the innermost first, then what opens, the outermost first.
    rank: u8,
    /// So many bytes give way.
    instead_of: usize,
    text: String,
}

#[derive(Default)]
struct Edits(Vec<Edit>);

/// Operands with signs between them, at one level of brackets.
#[derive(Default)]
struct Chain {
    whole: Option<Range<usize>>,
    signs: Vec<(usize, &'static str)>,
    /// Bytes since the last sign.
    has_operand: bool,
    /// It has a sign that is left as it is.
    is_other: bool,
}

impl Edits {
    fn insert(&mut self, at: usize, rank: u8, text: &str) {
        self.0.push(Edit {
            at,
            rank,
            instead_of: 0,
            text: text.to_owned(),
        });
    }

    fn end(&mut self, chain: &mut Chain) {
        let chain = std::mem::take(chain);
        let Some(whole) = chain.whole.filter(|_| !chain.signs.is_empty()) else {
            return;
        };
        if chain.is_other || !chain.has_operand {
            return;
        }
        self.insert(whole.start, 3, &format!("{COMPARE}("));
        for (at, sign) in chain.signs {
            self.0.push(Edit {
                at,
                rank: 2,
                instead_of: sign.len(),
                text: format!(", '{sign}', "),
            });
        }
        self.insert(whole.end, 1, ")");
    }

    /// `a < b <= c` becomes `compare(a, '<', b, '<=', c)`.
    fn comparisons(&mut self, scan: &Scan<'_>) {
        let mut levels = vec![Chain::default()];
        let mut passed = 0;
        for (index, token) in scan.tokens().iter().enumerate() {
            let last = levels.len() - 1;
            let Some(chain) = levels.last_mut() else {
                return;
            };
            if token.range.start < passed || scan.is_trim(index) {
                continue;
            }
            let ends = match token.kind {
                // What stands behind a dot is a field, whatever its name.
                Kind::Word if index > 0 && scan.kind(index - 1) == Some(Kind::Other(b'.')) => false,
                Kind::Word => match scan.word(index) {
                    "not" if scan.word(index + 1) == "in" => false,
                    "not" => scan.word(index.wrapping_sub(1)) != "is",
                    "in" => {
                        chain.is_other = true;
                        false
                    }
                    word => {
                        matches!(word, "and" | "or" | "if" | "else" | "elif" | "recursive")
                            || scan.is_tag(index)
                    }
                },
                Kind::Other(b'<' | b'>' | b'=' | b'!') => {
                    if let Some(sign) = scan.sign(index) {
                        chain.is_other |= !chain.has_operand;
                        chain.signs.push((token.range.start, sign));
                        chain.has_operand = false;
                        passed = token.range.start + sign.len();
                        continue;
                    }
                    true
                }
                Kind::Open | Kind::Tag | Kind::Close | Kind::Other(b',' | b':') => true,
                Kind::Other(b'(' | b'[' | b'{') => {
                    chain.extend(token);
                    levels.push(Chain::default());
                    continue;
                }
                Kind::Other(b')' | b']' | b'}') if last > 0 => {
                    self.end(chain);
                    levels.pop();
                    if let Some(outer) = levels.last_mut() {
                        outer.extend(token);
                    }
                    continue;
                }
                Kind::Other(_) => false,
            };
            if ends {
                self.end(chain);
            } else {
                chain.extend(token);
            }
        }
        if let Some(chain) = levels.first_mut() {
            self.end(chain);
        }
    }

    /// Paths beside a sign of arithmetic go through a function.
    fn paths(&mut self, scan: &Scan<'_>) {
        let is_sign = |index: usize| {
            !scan.is_trim(index)
                && matches!(
                    scan.kind(index),
                    Some(Kind::Other(b'+' | b'-' | b'*' | b'/' | b'%'))
                )
        };
        for path in scan.paths() {
            let before = path.tokens.start.checked_sub(1);
            let signs = [
                before.filter(|at| is_sign(*at)),
                Some(path.tokens.end).filter(|at| is_sign(*at)),
            ];
            if signs.iter().all(Option::is_none) || path.is_more {
                continue;
            }
            let is_factor = signs
                .iter()
                .flatten()
                .any(|at| scan.kind(*at) == Some(Kind::Other(b'*')));
            let name = if is_factor { FACTOR } else { NUMBER };
            self.insert(path.range.start, 4, &format!("{name}("));
            self.insert(path.range.end, 0, ")");
        }
    }
}

impl Chain {
    fn extend(&mut self, token: &Token) {
        let start = self
            .whole
            .as_ref()
            .map_or(token.range.start, |whole| whole.start);
        self.whole = Some(start..token.range.end);
        self.has_operand = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_and_sums_are_guarded_and_all_else_left() {
        for (written, expected) in [
            ("a.b < 3", Some("__compare(a.b , '<',  3)")),
            ("not(a>=-1)or b", Some("not(__compare(a, '>=', -1))or b")),
            (
                "x and 'm' <= body[0].t and not c > d | int",
                Some(
                    "x and __compare('m' , '<=',  body[0].t) and not __compare(c , '>',  d | int)",
                ),
            ),
            ("1 < a <= 3", Some("__compare(1 , '<',  a , '<=',  3)")),
            ("a | length > 3", Some("__compare(a | length , '>',  3)")),
            (
                "a.b + 1 > c*-d if e else f(g=h == 2)",
                Some(
                    "__compare(__number(a.b) + 1 , '>',  __factor(c)*-__number(d)) if e else f(g=__compare(h , '==',  2))",
                ),
            ),
            (
                "[a > 1, {'x': b != 'y>'}] ~ c",
                Some("[__compare(a , '>',  1), {'x': __compare(b , '!=',  'y>')}] ~ c"),
            ),
            ("a[b - 1].c * 2", Some("__factor(a[__number(b) - 1].c) * 2")),
            ("f(a) * 3", None),
            ("a in [1, 2] and a is not none", None),
            ("a | round(2) ~ 'a < 3'", None),
        ] {
            let guarded = Guarded::expression(written);
            assert_eq!(guarded.map(|it| it.text).as_deref(), expected, "{written}");
        }
        for (written, expected) in [
            (
                "a < b {{- n > 3 -}} {%- if a == 1 %}x{% elif n-1 > 2 %}{% endif %}{# a < 1 #}",
                Some(
                    "a < b {{- __compare(n , '>',  3) -}} {%- if __compare(a , '==',  1) %}x{% elif __compare(__number(n)-1 , '>',  2) %}{% endif %}{# a < 1 #}",
                ),
            ),
            (
                "{% for x in a if x > 3 %}{% set y = x < 2 %}{% endfor %}",
                Some(
                    "{% for x in a if __compare(x , '>',  3) %}{% set y = __compare(x , '<',  2) %}{% endfor %}",
                ),
            ),
            ("{% raw %}{{ a < b }}{% endraw %}", None),
        ] {
            let guarded = Guarded::template(written);
            assert_eq!(guarded.map(|it| it.text).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn places_in_the_guarded_text_are_found_as_written() {
        let written = "{{ a.b * 2 > gone }} {{ other }}";
        let guarded = Guarded::template(written).expect("guarded");
        let place = |word: &str| {
            let at = guarded.text.find(word).expect("there");
            &written[guarded.written(&(at..at + word.len()))]
        };
        assert_eq!(place("a.b"), "a.b");
        assert_eq!(place("gone"), "gone");
        assert_eq!(place("other"), "other");
        assert_eq!(
            place("__compare(__factor(a.b) * 2 , '>',  gone)"),
            "a.b * 2 > gone"
        );
    }
}
