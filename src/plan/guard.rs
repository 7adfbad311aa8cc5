//! Comparisons and sums as they are compiled: as calls of functions that go by values ([`super::compare`]).
//!
//! A chain of comparisons becomes one call, what stands beside a sign of arithmetic another; nothing else is touched, and
//! every place in the new text is known in the one that was written.

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
        Self::of(written, &Scan::template(written))
    }

    fn of(written: &str, scan: &Scan<'_>) -> Option<Self> {
        let mut edits = Edits::default();
        edits.comparisons(scan);
        edits.operands(written, scan);
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
    signs: Vec<(Range<usize>, &'static str)>,
    /// Something stands behind the last sign.
    has_operand: bool,
    /// A sign has nothing before it.
    is_broken: bool,
}

/// What stands between two signs of arithmetic, at one level of brackets.
#[derive(Default)]
struct Operand {
    /// The sign before it.
    before: Option<u8>,
    whole: Option<Range<usize>>,
    /// The part that a minus of its own goes with: it binds closer than filters.
    bare: Option<Range<usize>>,
    has_minus: bool,
    is_filtered: bool,
    /// A test follows (`is odd`), which gives no number.
    is_test: bool,
    tokens: usize,
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
        if chain.is_broken || !chain.has_operand {
            return;
        }
        self.insert(whole.start, 3, &format!("{COMPARE}("));
        for (at, sign) in chain.signs {
            self.0.push(Edit {
                at: at.start,
                rank: 2,
                instead_of: at.len(),
                text: format!(", '{sign}', "),
            });
        }
        self.insert(whole.end, 1, ")");
    }

    /// `a < b <= c` becomes `compare(a, '<', b, '<=', c)`.
    fn comparisons(&mut self, scan: &Scan<'_>) {
        let mut levels = vec![Chain::default()];
        let mut passed = 0;
        let mut is_for = false;
        for (index, token) in scan.tokens().iter().enumerate() {
            let last = levels.len() - 1;
            let Some(chain) = levels.last_mut() else {
                return;
            };
            if token.range.start < passed || scan.is_trim(index) {
                continue;
            }
            let ends = match token.kind {
                Kind::Word if !scan.is_plain_word(index) => false,
                Kind::Word => match scan.word(index) {
                    // What a loop goes over is no comparison.
                    "in" if is_for && last == 0 => {
                        is_for = false;
                        true
                    }
                    word @ ("in" | "not") => {
                        let end = if word == "in" { index } else { index + 1 };
                        if scan.word(end) == "in" {
                            let sign = if word == "in" { "in" } else { "not in" };
                            let at = token.range.start..scan.tokens()[end].range.end;
                            passed = at.end;
                            chain.sign(at, sign);
                            continue;
                        }
                        true
                    }
                    "for" if scan.is_tag(index) => {
                        is_for = true;
                        true
                    }
                    word => {
                        matches!(word, "and" | "or" | "if" | "else" | "elif" | "recursive")
                            || scan.is_tag(index)
                    }
                },
                Kind::Other(b'<' | b'>' | b'=' | b'!') => {
                    if let Some(sign) = scan.sign(index) {
                        let at = token.range.start..token.range.start + sign.len();
                        passed = at.end;
                        chain.sign(at, sign);
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

    /// What stands beside a sign of arithmetic goes through a function, with its filters and brackets.
    fn operands(&mut self, written: &str, scan: &Scan<'_>) {
        let mut levels = vec![Operand::default()];
        for (index, token) in scan.tokens().iter().enumerate() {
            let last = levels.len() - 1;
            let Some(operand) = levels.last_mut() else {
                return;
            };
            if scan.is_trim(index) {
                continue;
            }
            let sign = match token.kind {
                Kind::Other(sign @ (b'+' | b'-' | b'*' | b'/' | b'%')) => {
                    if operand.bare.is_none() {
                        // A minus of its own; else the second half of `**` or `//`.
                        if sign == b'-' {
                            operand.has_minus = true;
                            operand.whole.get_or_insert(token.range.clone());
                        }
                        continue;
                    }
                    Some(sign)
                }
                Kind::Word if !scan.is_plain_word(index) => {
                    operand.extend(token);
                    continue;
                }
                Kind::Word => match scan.word(index) {
                    "is" => {
                        operand.is_test = true;
                        continue;
                    }
                    "and" | "or" | "not" | "if" | "else" | "elif" | "in" | "recursive" => None,
                    _ if scan.is_tag(index) => None,
                    _ => {
                        operand.extend(token);
                        continue;
                    }
                },
                Kind::Open
                | Kind::Tag
                | Kind::Close
                | Kind::Other(b',' | b':' | b'=' | b'<' | b'>' | b'!' | b'~') => None,
                Kind::Other(b'|') => {
                    operand.is_filtered = true;
                    continue;
                }
                Kind::Other(b'(' | b'[' | b'{') => {
                    operand.extend(token);
                    levels.push(Operand::default());
                    continue;
                }
                Kind::Other(b')' | b']' | b'}') if last > 0 => {
                    let inner = levels.pop().unwrap_or_default();
                    self.operand(written, &inner, None);
                    if let Some(outer) = levels.last_mut() {
                        outer.extend(token);
                    }
                    continue;
                }
                Kind::Other(_) => {
                    operand.extend(token);
                    continue;
                }
            };
            let ended = std::mem::take(operand);
            operand.before = sign;
            self.operand(written, &ended, sign);
        }
        for operand in levels {
            self.operand(written, &operand, None);
        }
    }

    fn operand(&mut self, written: &str, operand: &Operand, after: Option<u8>) {
        let (Some(whole), Some(bare)) = (&operand.whole, &operand.bare) else {
            return;
        };
        if operand.is_test {
            return;
        }
        let signs = [operand.before, after];
        let name = if operand.has_minus || signs.contains(&Some(b'*')) {
            FACTOR
        } else {
            NUMBER
        };
        let mut guard = |range: &Range<usize>| {
            self.insert(range.start, 4, &format!("{name}("));
            self.insert(range.end, 0, ")");
        };
        // What is written out is what it is.
        let is_literal = match written.as_bytes().get(bare.start) {
            Some(b'0'..=b'9') => true,
            Some(b'\'' | b'"') => operand.tokens == 1,
            _ => false,
        };
        if operand.has_minus && !is_literal {
            guard(bare);
        }
        let is_whole = operand.is_filtered || !(operand.has_minus || is_literal);
        if is_whole && signs.iter().any(Option::is_some) {
            guard(whole);
        }
    }
}

impl Chain {
    fn sign(&mut self, at: Range<usize>, sign: &'static str) {
        self.is_broken |= !self.has_operand;
        self.signs.push((at, sign));
        self.has_operand = false;
    }

    fn extend(&mut self, token: &Token) {
        let start = self
            .whole
            .as_ref()
            .map_or(token.range.start, |whole| whole.start);
        self.whole = Some(start..token.range.end);
        self.has_operand = true;
    }
}

impl Operand {
    fn extend(&mut self, token: &Token) {
        let grow = |range: &mut Option<Range<usize>>| {
            let start = range.as_ref().map_or(token.range.start, |it| it.start);
            *range = Some(start..token.range.end);
        };
        grow(&mut self.whole);
        if !self.is_filtered {
            grow(&mut self.bare);
            self.tokens += 1;
        }
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
                    "__compare(__number(a.b) + 1 , '>',  __factor(c)*-__factor(d)) if e else f(g=__compare(h , '==',  2))",
                ),
            ),
            (
                "[a > 1, {'x': b != 'y>'}] ~ c",
                Some("[__compare(a , '>',  1), {'x': __compare(b , '!=',  'y>')}] ~ c"),
            ),
            ("a[b - 1].c * 2", Some("__factor(a[__number(b) - 1].c) * 2")),
            ("f(a) * 3", Some("__factor(f(a)) * 3")),
            ("2 * 3 - 1.5e3", None),
            (
                "(a) * 2 + a | default(0)",
                Some("__factor((a)) * 2 + __number(a | default(0))"),
            ),
            ("-a.b|abs * 2", Some("__factor(-__factor(a.b)|abs) * 2")),
            ("'2.50' | trim ** 2", Some("__factor('2.50' | trim) ** 2")),
            ("a is odd - 1 ~ 'x' * 3", None),
            (
                "a in [1, 2] and a is not none",
                Some("__compare(a , 'in',  [1, 2]) and a is not none"),
            ),
            (
                "a not  in b.c or x is not in y == z.in",
                Some("__compare(a , 'not in',  b.c) or __compare(x is not in y , '==',  z.in)"),
            ),
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
            // A variable of that name is no tag.
            (
                "{{ raw }}{{ a < b }}",
                Some("{{ raw }}{{ __compare(a , '<',  b) }}"),
            ),
            (
                "{%- raw +%}{{ a < b }}{% if %}{%endraw-%}{{ a < b }}",
                Some("{%- raw +%}{{ a < b }}{% if %}{%endraw-%}{{ __compare(a , '<',  b) }}"),
            ),
            (
                "{% for a, b in c if a in b %}{% set x = -a %}",
                Some("{% for a, b in c if __compare(a , 'in',  b) %}{% set x = -__factor(a) %}"),
            ),
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
