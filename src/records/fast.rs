//! The fast walk over a page: the same as that of `select`, for the usual page only.

use super::page::Found;
use super::wanted::{Node, Wanted};
use crate::json::valid::{Names, skip, space, string};

/// Reads a page that has nothing odd; every step is `None` where it has.
pub(super) struct Walk<'w, 't> {
    pub(super) wanted: &'w Wanted,
    pub(super) text: &'t str,
    pub(super) found: &'w mut Found,
    /// What the members of the last record were called.
    pub(super) names: Names,
}

impl<'w> Walk<'w, '_> {
    /// Reads the value at a node of what is wanted; gives the place after it.
    pub(super) fn value(&mut self, node: &'w Node, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let first = *bytes.get(at)?;
        if node.is_records_only() {
            return match first {
                b'[' => self.records(at + 1),
                _ => None,
            };
        }
        if node.is_branch() {
            match first {
                b'{' => return self.members(node, at + 1),
                b'[' => return self.elements(node, at + 1),
                _ => {}
            }
        }
        let end = skip(bytes, at, &mut Names::default())?;
        self.found.take(self.wanted, node, self.text.get(at..end)?);
        Some(end)
    }

    fn records(&mut self, at: usize) -> Option<usize> {
        let text = self.text;
        let bytes = text.as_bytes();
        self.found.opened = true;
        let mut at = space(bytes, at);
        if *bytes.get(at)? == b']' {
            return Some(at + 1);
        }
        loop {
            self.names.rewind();
            let end = skip(bytes, at, &mut self.names)?;
            self.found.push_from(text, at..end, !self.names.broken());
            at = space(bytes, end);
            match *bytes.get(at)? {
                b',' => at = space(bytes, at + 1),
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn members(&mut self, node: &'w Node, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = space(bytes, at);
        if *bytes.get(at)? == b'}' {
            return Some(at + 1);
        }
        let mut passed_records = false;
        loop {
            if *bytes.get(at)? != b'"' {
                return None;
            }
            let end = string(bytes, at + 1)?;
            let name = self.text.get(at + 1..end - 1)?;
            at = space(bytes, end);
            if name.contains('\\') || *bytes.get(at)? != b':' {
                return None;
            }
            at = space(bytes, at + 1);
            at = match self.wanted.member(node, name) {
                Some(next) => {
                    // Twice on the way to the records is an error, which `select` words.
                    if next.leads_to_records && std::mem::replace(&mut passed_records, true) {
                        return None;
                    }
                    self.value(next, at)?
                }
                None => skip(bytes, at, &mut Names::default())?,
            };
            at = space(bytes, at);
            match *bytes.get(at)? {
                b',' => at = space(bytes, at + 1),
                b'}' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn elements(&mut self, node: &'w Node, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = space(bytes, at);
        if *bytes.get(at)? == b']' {
            return Some(at + 1);
        }
        for index in 0.. {
            at = match self.wanted.element(node, index) {
                Some(next) => self.value(next, at)?,
                None => skip(bytes, at, &mut Names::default())?,
            };
            at = space(bytes, at);
            match *bytes.get(at)? {
                b',' => at = space(bytes, at + 1),
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
        None
    }
}
