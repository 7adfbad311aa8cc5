//! What a page held: its records as lines, and what was picked up on the way.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::problem::TOO_MUCH;
use super::select::MOST;
use super::wanted::{Node, Wanted};
use crate::json;

/// What stands where the records should be, where that is no array. Of what is no JSON, is shaped or
/// leads through a `*`, nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lone {
    /// An object: one record.
    Object,
    /// A text.
    Text,
    /// A number or a truth value.
    Scalar,
    /// Nothing.
    Null,
}

/// What one page held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records, each on a line of its own.
    pub lines: Bytes,
    /// Where each line ends, its newline included.
    pub ends: Vec<u32>,
    /// The further values as spelled, in the order asked; a JSON null is `Some("null")`.
    pub wants: Vec<Option<String>>,
    /// What stands at the records' path, where that is no array.
    pub lone: Option<Lone>,
    /// Elements that were null, so no records.
    pub nulls: u32,
    /// Whether the records' path (optional, else this is an error) was missing.
    pub absent: bool,
    /// The whole body as JSON, where it came as something else and that is wanted.
    pub json: Option<Bytes>,
    /// Records before these, which are not here: of an answer that is read piece by piece.
    pub before: usize,
}

/// A page of records that are made, not found.
#[derive(Debug, Default)]
pub(super) struct Made(Found);

impl Made {
    /// Nothing yet but what `page` says beside its records.
    pub(super) fn new(page: Page) -> Self {
        Self(Found {
            page,
            ..Found::default()
        })
    }

    /// The same, with room for so many bytes of records: one that grows takes up to twice its size.
    pub(super) fn with_room(page: Page, bytes: usize) -> Self {
        Self(Found {
            page,
            lines: Lines::Own(String::with_capacity(bytes)),
            ..Found::default()
        })
    }

    /// Adds a record; the error says that it is too much.
    pub(super) fn add(&mut self, value: &str) -> Result<(), String> {
        if self.size() + value.len() > MOST {
            return Err(TOO_MUCH.to_owned());
        }
        self.0.push(value);
        Ok(())
    }

    /// Bytes of the records so far.
    pub(super) fn size(&self) -> usize {
        self.0.page.ends.last().map_or(0, |end| *end as usize)
    }

    /// The page.
    pub(super) fn page(self) -> Page {
        let mut page = self.0.page;
        if let Lines::Own(lines) = self.0.lines {
            page.lines = lines.into();
        }
        page
    }
}

/// Where the lines of a page are while it is read.
#[derive(Debug)]
pub(super) enum Lines {
    /// On their own.
    Own(String),
    /// All of them in the page, with a comma (after the last one a bracket) in place of each
    /// newline.
    Within(Range<usize>),
}

impl Default for Lines {
    fn default() -> Self {
        Self::Own(String::new())
    }
}

impl Page {
    /// Records as they are kept, one on a line.
    pub fn of_lines(lines: Bytes) -> Self {
        let mut page = Self::default();
        for end in memchr::memchr_iter(b'\n', &lines) {
            page.end_line(end + 1);
        }
        page.lines = lines;
        page
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.before + self.ends.len()
    }

    /// A record, without its newline.
    pub fn record(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        std::str::from_utf8(self.lines.get(start..end.checked_sub(1)?)?).ok()
    }

    /// The last record.
    pub fn last(&self) -> Option<&str> {
        self.record(self.ends.len().checked_sub(1)?)
    }

    /// All records in order, without their newlines.
    pub fn records(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).map_while(|index| self.record(index))
    }

    #[inline]
    fn end_line(&mut self, end: usize) {
        self.ends.push(u32::try_from(end).unwrap_or(u32::MAX));
    }

    /// The records with a newline after each, in place of what stood there.
    pub(super) fn parted(&self, mut records: BytesMut) -> Bytes {
        for end in &self.ends {
            if let Some(after) = records.get_mut((*end as usize).saturating_sub(1)) {
                *after = b'\n';
            }
        }
        records.freeze()
    }
}

/// What the walk has found so far.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Found {
    pub(super) page: Page,
    pub(super) lines: Lines,
    /// Whether the records' path led somewhere.
    pub(super) opened: bool,
    /// Whether records came that do not stand with those before them.
    pub(super) mixed: bool,
    /// Whether what is there turned out to be one record, to be read again as a whole.
    pub(super) reopen: bool,
    /// Whether a member on the way to the records came twice.
    pub(super) twice: bool,
}

impl Found {
    /// Adds a record of `text`, and says whether it is known to be on one line.
    #[inline]
    pub(super) fn push_from(&mut self, text: &str, record: Range<usize>, one_line: bool) {
        let close = one_line && text.as_bytes()[record.start] == b'{';
        match &mut self.lines {
            Lines::Within(all) if close && record.start == all.end => {
                all.end = record.end + 1;
                self.page.end_line(all.len());
            }
            Lines::Own(own) if close && own.is_empty() => {
                // Most records are about as long as the first.
                let more = (text.len() - record.start) / (record.len() + 1);
                self.page.ends.reserve((more + more / 8).min(4096));
                self.lines = Lines::Within(record.start..record.end + 1);
                self.page.end_line(record.len() + 1);
            }
            Lines::Own(_) => self.push(&text[record]),
            Lines::Within(all) => {
                let mut own = String::with_capacity(text.len());
                let mut start = all.start;
                for end in &self.page.ends {
                    let end = all.start + *end as usize;
                    own.push_str(&text[start..end - 1]);
                    own.push('\n');
                    start = end;
                }
                self.lines = Lines::Own(own);
                self.push(&text[record]);
            }
        }
    }

    /// Adds a record, on one line whatever its layout.
    pub(super) fn push(&mut self, value: &str) {
        let Lines::Own(lines) = &mut self.lines else {
            self.mixed = true;
            return;
        };
        match value.as_bytes().first() {
            Some(b'{') => push_line(lines, value),
            Some(b'n') => {
                self.page.nulls += 1;
                return;
            }
            _ => {
                lines.push_str("{\"value\":");
                push_line(lines, value);
                lines.push('}');
            }
        }
        lines.push('\n');
        self.page.end_line(lines.len());
    }

    /// Opens the value at the records' path.
    pub(super) fn open(&mut self, value: &str) {
        self.opened = true;
        self.page.lone = match value.as_bytes().first() {
            Some(b'[') => {
                json::elements(value).for_each(|element| self.push(element));
                return;
            }
            Some(b'n') | None => {
                self.page.lone = Some(Lone::Null);
                return;
            }
            Some(b'{') => Some(Lone::Object),
            Some(b'"') => Some(Lone::Text),
            Some(_) => Some(Lone::Scalar),
        };
        self.push(value);
    }

    /// Takes what is wanted out of a value that is known to be valid.
    pub(super) fn take(&mut self, wanted: &Wanted, node: &Node, value: &str) {
        for want in &node.wants {
            if let Some(slot) = self.page.wants.get_mut(*want) {
                *slot = Some(value.to_owned());
            }
        }
        if node.records {
            self.open(value);
        }
        if let Some(every) = wanted.every(node) {
            let mut empty = value.starts_with(['[', '{']);
            for inner in json::elements(value).chain(json::members(value).map(|(_, v)| v)) {
                empty = false;
                self.take(wanted, every, inner);
            }
            self.opened |= empty;
        }
        if node.keys.is_empty() {
            return;
        }
        for (name, inner) in json::members(value) {
            if let Some(next) = wanted.member(node, &json::unescape(name)) {
                self.take(wanted, next, inner);
            }
        }
        for (index, inner) in json::elements(value).enumerate() {
            if let Some(next) = wanted.element(node, index) {
                self.take(wanted, next, inner);
            }
        }
    }
}

fn push_line(lines: &mut String, value: &str) {
    // A raw line break in valid JSON is white space: inside strings it must be escaped.
    if memchr2(b'\n', b'\r', value.as_bytes()).is_none() {
        lines.push_str(value);
    } else {
        lines.push_str(&json::minify(value));
    }
}
