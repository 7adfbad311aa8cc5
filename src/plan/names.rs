//! What a template says, read from its text: where its expressions are, which names, filters and
//! tests it uses and where, so that `check` can point at them.
//!
//! minijinja tells which names are undeclared but not where they stand, and finds an unknown
//! filter only when it runs; this small scanner fills both gaps. It reads well-formed text
//! (minijinja has parsed it before) and is otherwise harmless: a place it misses is a place
//! that is not shown.

use std::collections::HashSet;
use std::ops::Range;

use super::language::UsedName;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `{{`, or the beginning of a bare expression.
    Open,
    /// `{%`
    Tag,
    /// `}}` or `%}`
    Close,
    /// A name, or a word of the language.
    Word,
    /// A sign or a digit; for a text its first quote.
    Other(u8),
}

/// A token, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// The tokens of a template's or an expression's text.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    written: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Scan<'a> {
    /// Scans a template; what stands outside of delimiters is skipped.
    pub(super) fn template(written: &'a str) -> Self {
        let mut scan = Self {
            written,
            tokens: Vec::new(),
        };
        let bytes = written.as_bytes();
        let mut at = 0;
        while at + 1 < bytes.len() {
            let open = match &bytes[at..at + 2] {
                b"{{" => Some((Kind::Open, *b"}}")),
                b"{%" => Some((Kind::Tag, *b"%}")),
                b"{#" => {
                    at = written[at..]
                        .find("#}")
                        .map_or(bytes.len(), |end| at + end + 2);
                    continue;
                }
                _ => None,
            };
            match open {
                Some((kind, close)) => {
                    scan.push(kind, at..at + 2);
                    let first = scan.tokens.len();
                    at = scan.code(at + 2, Some(close));
                    if kind == Kind::Tag && scan.is_raw(first) {
                        at = scan.end_of_raw(at);
                    }
                }
                None => at += 1,
            }
        }
        scan
    }

    /// Scans a bare expression.
    pub(super) fn expression(written: &'a str) -> Self {
        let mut scan = Self {
            written,
            tokens: Vec::new(),
        };
        scan.push(Kind::Open, 0..0);
        scan.code(0, None);
        scan
    }

    /// Whether a tag whose tokens begin there is `{% raw %}`.
    fn is_raw(&self, first: usize) -> bool {
        let mut code = (first..self.tokens.len()).filter(|&at| !self.is_trim(at));
        code.next().is_some_and(|at| self.word(at) == "raw")
            && code.next().and_then(|at| self.kind(at)) == Some(Kind::Close)
    }

    /// Where the `{% endraw %}` of what is `raw` begins: what is between is data, whatever it looks like.
    fn end_of_raw(&self, from: usize) -> usize {
        let rest = self.written.get(from..).unwrap_or_default();
        let is_end = |(at, _): &(usize, &str)| {
            let code = rest[at + 2..]
                .trim_start_matches(['-', '+'])
                .trim_ascii_start();
            code.starts_with("endraw")
        };
        let end = rest.match_indices("{%").find(is_end);
        end.map_or(self.written.len(), |(at, _)| from + at)
    }

    fn push(&mut self, kind: Kind, range: Range<usize>) {
        self.tokens.push(Token { kind, range });
    }

    /// Reads code up to its closing delimiter; gives where that ends.
    fn code(&mut self, from: usize, close: Option<[u8; 2]>) -> usize {
        let bytes = self.written.as_bytes();
        let mut at = from;
        let mut depth = 0_usize;
        while let Some(&byte) = bytes.get(at) {
            let start = at;
            match byte {
                b'\'' | b'"' => {
                    at += 1;
                    while bytes.get(at).is_some_and(|&b| b != byte) {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                    at = (at + 1).min(bytes.len());
                    self.push(Kind::Other(byte), start..at);
                }
                b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                    while bytes
                        .get(at)
                        .is_some_and(|&b| b == b'_' || b.is_ascii_alphanumeric() || b >= 0x80)
                    {
                        at += 1;
                    }
                    self.push(Kind::Word, start..at);
                }
                _ if byte.is_ascii_whitespace() => at += 1,
                _ => {
                    if depth == 0 && close.is_some_and(|close| bytes[at..].starts_with(&close)) {
                        self.push(Kind::Close, at..at + 2);
                        return at + 2;
                    }
                    match byte {
                        b'(' | b'[' | b'{' => depth += 1,
                        b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    at += 1;
                    self.push(Kind::Other(byte), start..at);
                }
            }
        }
        at
    }

    /// All tokens.
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The kind of a token, if there is one.
    pub(super) fn kind(&self, index: usize) -> Option<Kind> {
        self.tokens.get(index).map(|token| token.kind)
    }

    /// The word that a token is; else nothing.
    pub(super) fn word(&self, index: usize) -> &'a str {
        match self.tokens.get(index) {
            Some(Token {
                kind: Kind::Word,
                range,
            }) => &self.written[range.clone()],
            _ => "",
        }
    }

    fn is(&self, index: usize, byte: u8) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.kind == Kind::Other(byte))
    }

    fn before(&self, index: usize, byte: u8) -> bool {
        index > 0 && self.is(index - 1, byte)
    }

    /// Where the code of a leading `{{ }}` is, and where its `}}` ends.
    pub(super) fn head(&self) -> Option<(Range<usize>, usize)> {
        let first = self.tokens.first()?;
        if first.kind != Kind::Open || first.range != (0..2) {
            return None;
        }
        let close = self.tokens.iter().find(|token| token.kind == Kind::Close)?;
        let mut code = 2..close.range.start;
        // `{{-` and `-}}` trim white space around them, of which there is none.
        if self.written[code.clone()].starts_with(['-', '+']) {
            code.start += 1;
        }
        if self.written[code.clone()].ends_with(['-', '+']) {
            code.end -= 1;
        }
        Some((code, close.range.end))
    }

    /// Whether a word is one of the language or a name: no field, filter or test that is called like one.
    pub(super) fn is_plain_word(&self, index: usize) -> bool {
        let before = |back: usize| index.checked_sub(back).map_or("", |at| self.word(at));
        !(self.before(index, b'.')
            || self.before(index, b'|')
            || (before(1) == "is")
            || (before(1) == "not" && before(2) == "is"))
    }

    /// The sign of a comparison that begins with a token.
    pub(super) fn sign(&self, index: usize) -> Option<&'static str> {
        let rest = self.written.get(self.tokens.get(index)?.range.start..)?;
        let signs = ["<=", ">=", "==", "!=", "<", ">"];
        signs.into_iter().find(|sign| rest.starts_with(sign))
    }

    /// Whether a token is the `-` of `{{-` or `-}}`.
    pub(super) fn is_trim(&self, index: usize) -> bool {
        let Some(token) = self.tokens.get(index) else {
            return false;
        };
        let opens = |before: &Token| {
            matches!(before.kind, Kind::Open | Kind::Tag)
                && !before.range.is_empty()
                && before.range.end == token.range.start
        };
        let closes =
            |after: &Token| after.kind == Kind::Close && after.range.start == token.range.end;
        let before = index.checked_sub(1).and_then(|at| self.tokens.get(at));
        matches!(token.kind, Kind::Other(b'-' | b'+'))
            && (before.is_some_and(opens) || self.tokens.get(index + 1).is_some_and(closes))
    }

    /// Whether a token is the word that says what a `{% %}` does.
    pub(super) fn is_tag(&self, index: usize) -> bool {
        let is_open = |at: Option<usize>| at.and_then(|at| self.kind(at)) == Some(Kind::Tag);
        self.kind(index) == Some(Kind::Word)
            && (is_open(index.checked_sub(1))
                || (is_open(index.checked_sub(2)) && self.is_trim(index - 1)))
    }

    /// Tags as `if` in `{% if … %}`, with their places.
    pub(super) fn tags(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        (1..self.tokens.len())
            .filter(|&index| self.is_tag(index))
            .map(|index| (self.word(index), self.tokens[index].range.clone()))
    }

    /// Filters by name, with their places.
    pub(super) fn filters(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        (1..self.tokens.len())
            .filter(|&index| self.tokens[index].kind == Kind::Word && self.before(index, b'|'))
            .map(|index| (self.word(index), self.tokens[index].range.clone()))
    }

    /// Patterns that are written out behind `| regex`, with their places; one with a backslash in
    /// it is left to be found when it is used, since only the parser knows what it means.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        (1..self.tokens.len()).filter_map(|index| {
            let is_filter = self.word(index) == "regex" && self.before(index, b'|');
            let token = self.tokens.get(index + 2)?;
            let is_text = matches!(token.kind, Kind::Other(b'\'' | b'"'));
            if !(is_filter && self.is(index + 1, b'(') && is_text) {
                return None;
            }
            let inner = token.range.start + 1..token.range.end - 1;
            let text = self.written.get(inner.clone())?;
            (!text.contains('\\')).then_some((text, inner))
        })
    }

    /// Tests by name (`is defined`), with their places.
    pub(super) fn tests(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        (1..self.tokens.len())
            .filter(|&index| {
                self.tokens[index].kind == Kind::Word
                    && self.word(index) != "not"
                    && (self.word(index - 1) == "is"
                        || (index > 1
                            && self.word(index - 1) == "not"
                            && self.word(index - 2) == "is"))
            })
            .map(|index| (self.word(index), self.tokens[index].range.clone()))
    }

    /// Finds the undeclared names in the text. A name is optional where every use stands before
    /// `| default(…)`, or where some use is asked for with `is defined`.
    pub(super) fn locate(&self, undeclared: HashSet<String>) -> Vec<UsedName> {
        let chains = self.chains();
        let mut names: Vec<UsedName> = undeclared
            .into_iter()
            .map(|dotted| {
                let mut uses = chains
                    .iter()
                    .filter(|chain| chain.dotted == dotted)
                    .peekable();
                let at = uses.peek().map(|chain| chain.at);
                let (mut every, mut asked) = (at.is_some(), false);
                for one in uses {
                    every &= one.has_default || one.is_asked;
                    asked |= one.is_asked;
                }
                UsedName {
                    path: dotted.split('.').map(str::to_owned).collect(),
                    at,
                    optional: every || asked,
                }
            })
            .collect();
        names.sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
        names
    }

    /// Every `a.b.c` of the text.
    fn chains(&self) -> Vec<Chain> {
        let mut chains = Vec::new();
        let mut index = 0;
        while index < self.tokens.len() {
            let starts = self.tokens[index].kind == Kind::Word
                && !self.before(index, b'.')
                && !self.before(index, b'|');
            if !starts {
                index += 1;
                continue;
            }
            let at = self.tokens[index].range.start;
            let mut dotted = self.word(index).to_owned();
            index += 1;
            while self.is(index, b'.') && !self.word(index + 1).is_empty() {
                dotted.push('.');
                dotted.push_str(self.word(index + 1));
                index += 2;
            }
            let has_default =
                self.is(index, b'|') && matches!(self.word(index + 1), "default" | "d");
            let asks = index + if self.word(index + 1) == "not" { 2 } else { 1 };
            let is_asked =
                self.word(index) == "is" && matches!(self.word(asks), "defined" | "undefined");
            chains.push(Chain {
                dotted,
                at,
                has_default,
                is_asked,
            });
        }
        chains
    }
}

struct Chain {
    dotted: String,
    at: usize,
    has_default: bool,
    is_asked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_ends_where_minijinja_ends_it() {
        for (written, code, end) in [
            ("{{ a }}/b", " a ", 7),
            ("{{- '}}' ~ b -}}", " '}}' ~ b ", 16),
            ("{{ {'a': {'b': 1}}.a }}x", " {'a': {'b': 1}}.a ", 23),
        ] {
            let (range, found) = Scan::template(written).head().unwrap();
            assert_eq!((&written[range], found), (code, end), "{written}");
        }
        assert!(Scan::template("x{{ a }}").head().is_none());
        assert!(Scan::template("{% if a %}{% endif %}").head().is_none());
    }

    #[test]
    fn filters_tests_and_tags_are_found_in_code_only() {
        let scan =
            Scan::template("a | b {{ c | d('| e') }}{%- if f is not g %}{# | h #}{% endif %}");
        let names = |found: Vec<(&str, Range<usize>)>| -> Vec<String> {
            found.into_iter().map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(names(scan.filters().collect()), ["d"]);
        assert_eq!(names(scan.tests().collect()), ["g"]);
        assert_eq!(names(scan.tags().collect()), ["if", "endif"]);
    }
}
