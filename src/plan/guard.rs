//! Comparisons and sums go by values, and never by kinds: a missing field is not less than 3, and text
//! that stands where a number is meant is told.
//!
//! minijinja orders values of different kinds by their kind: `body.left <= 0` would hold where `left` is missing and
//! end a stream early, `record.price > 2` would never hold where an API sends `"2.50"`, both without a word; and `"2.50" * 2` is
//! `2.502.50`. So comparisons are compiled as calls of a function of ours, and paths beside a sign of arithmetic go through
//! one, too. Nothing is equal to nothing and has no order; two numbers and two texts have one; all else is an error. Only
//! `==` between different kinds is no error, since APIs mix them, but for a text that spells the same number otherwise.

use std::ops::Range;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::names::{Kind, Scan, Token};

const COMPARE: &str = "__compare";
const NUMBER: &str = "__number";
const FACTOR: &str = "__factor";
/// Most characters of a text in a message.
const MOST_SHOWN: usize = 40;

/// Adds what guarded text calls, and the tests that compare (`is gt 3`, `select("gt", 3)`).
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function(COMPARE, |state: &mut State, parts: Rest<Value>| {
        let mut parts = parts.0.into_iter();
        let Some(mut one) = parts.next() else {
            return Ok(true);
        };
        while let (Some(sign), Some(other)) = (parts.next(), parts.next()) {
            let sign = sign.as_str().unwrap_or_default();
            for side in [&one, &other] {
                if side.is_undefined() {
                    // Says what is missing, where templates are strict.
                    state.apply_filter("float", std::slice::from_ref(side))?;
                }
            }
            if !compare(&one, sign, &other)? {
                return Ok(false);
            }
            one = other;
        }
        Ok(true)
    });
    environment.add_function(NUMBER, |value: &Value| operand(value));
    environment.add_function(FACTOR, |value: &Value| match operand(value)? {
        text if text.kind() == ValueKind::String => Err(wrong(format!(
            "{} cannot be multiplied; write `| float` or `| int` behind it",
            shown(&text)
        ))),
        value => Ok(value),
    });
    for (sign, names) in [
        ("==", ["eq", "equalto", "=="]),
        ("!=", ["ne", "!=", "!="]),
        ("<", ["lt", "lessthan", "<"]),
        ("<=", ["le", "<=", "<="]),
        (">", ["gt", "greaterthan", ">"]),
        (">=", ["ge", ">=", ">="]),
    ] {
        for name in names {
            environment.add_test(name, move |one: &Value, other: &Value| {
                compare(one, sign, other)
            });
        }
    }
    environment.add_test("number", |value: &Value| number(value).is_number());
    environment.add_test("string", |value: &Value| {
        number(value).kind() == ValueKind::String
    });
}

/// What stands beside a sign of arithmetic.
fn operand(value: &Value) -> Result<Value, Error> {
    match number(value) {
        // Its place names what has no value.
        nothing if is_nothing(&nothing) => Err(ErrorKind::UndefinedError.into()),
        value => Ok(value),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

/// A number that does not print as it is spelled (`1.10`): text for all who print it, a number for all who reckon.
pub(super) fn spelled(number: &str) -> Value {
    Value::from_safe_string(number.to_owned())
}

/// Whether a value is a number that is kept as it is spelled.
pub(super) fn is_spelled(value: &Value) -> bool {
    value.is_safe()
        && value
            .as_str()
            .is_some_and(|text| text.parse::<f64>().is_ok())
}

/// The number behind a spelling; all else as it is.
fn number(value: &Value) -> Value {
    let Some(text) = value.as_str().filter(|_| value.is_safe()) else {
        return value.clone();
    };
    let whole = text.parse::<i128>().ok().map(Value::from);
    let float = || text.parse::<f64>().ok().map(Value::from);
    whole.or_else(float).unwrap_or_else(|| value.clone())
}

fn compare(one: &Value, sign: &str, other: &Value) -> Result<bool, Error> {
    if matches!(sign, "==" | "!=") {
        return Ok(equal(one, other)? == (sign == "=="));
    }
    let (one, other) = (&number(one), &number(other));
    if is_nothing(one) || is_nothing(other) {
        return Ok(false);
    }
    if one.kind() != other.kind() || !matches!(one.kind(), ValueKind::Number | ValueKind::String) {
        let is_text = |value: &Value| value.kind() == ValueKind::String;
        let advice = if is_text(one) || is_text(other) {
            "; write `| float` or `| int` behind the text"
        } else {
            ""
        };
        return Err(wrong(format!(
            "{} and {} have no order{advice}",
            shown(one),
            shown(other)
        )));
    }
    Ok(match sign {
        "<" => one < other,
        "<=" => one <= other,
        ">" => one > other,
        _ => one >= other,
    })
}

/// A number is equal to a text that spells it the same, since APIs write one field now so and now so. A
/// text that means the same number and spells it otherwise is a mistake: nobody means `"2.50" == 2.5` to be
/// false.
fn equal(one: &Value, other: &Value) -> Result<bool, Error> {
    let (first, second) = (&number(one), &number(other));
    for (text, written, number) in [(first, other, second), (second, one, first)] {
        let Some(text) = text.as_str().filter(|_| number.is_number()) else {
            continue;
        };
        if text == written.to_string() {
            return Ok(true);
        }
        if self::number(&spelled(text.trim())) == *number {
            return Err(wrong(format!(
                "the text {text:?} and {} are the same number, spelled in two ways; write `| float` or `| int` behind the text",
                shown(number)
            )));
        }
    }
    Ok(first == second)
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// A value in a message.
fn shown(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => {
            let text = value.to_string();
            let mut short: String = text.chars().take(MOST_SHOWN).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the text {short:?}")
        }
        ValueKind::Number => format!("the number {value}"),
        ValueKind::Bool if value.is_true() => "true".to_owned(),
        ValueKind::Bool => "false".to_owned(),
        ValueKind::Undefined | ValueKind::None => "nothing".to_owned(),
        ValueKind::Map => "an object".to_owned(),
        _ => "a list".to_owned(),
    }
}

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
