//! The order in which pages go to the part: early ones wait for the one before them.

use std::collections::{BTreeMap, VecDeque};

use super::{Staged, What};
use crate::clock::Instant;

/// Holds early pages of a partition back for a moment, so that a part mostly is in canonical
/// order: then publish need not copy it. How many is bounded by the budget, which they occupy: when
/// it is used up, no page is begun before the late one has come, or is given up.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Partition and page that follow the last one let through in order.
    next: (u32, u32),
    pub(super) held: BTreeMap<(u32, u32), Staged>,
    pub(super) bytes: usize,
    /// When each was held back; some are through since.
    came: VecDeque<(Instant, (u32, u32))>,
}

impl Order {
    /// Lets a page through, with those that waited for it, or holds it back; gives the bytes let
    /// through.
    pub(super) fn take(&mut self, page: Staged, now: Instant, group: &mut Vec<Staged>) -> usize {
        if page.is_raw() {
            // It stands in nobody's place.
            let through = page.bytes();
            group.push(page);
            return through;
        }
        let place = (page.partition, page.page);
        if matches!(page.what, What::Void | What::Again) {
            // What it takes back goes before it, else it would stand beside what replaces it.
            self.release(group);
            self.next = place;
            group.push(page);
            return 0;
        }
        if place.0 == self.next.0 && place.1 > self.next.1 {
            self.bytes += page.bytes();
            self.held.insert(place, page);
            self.came.push_back((now, place));
            return 0;
        }
        if place == self.next {
            self.next.1 += 1;
        } else if place.0 > self.next.0 && place.1 == 0 && self.held.is_empty() {
            self.next = (place.0, 1);
        }
        let mut through = page.bytes();
        group.push(page);
        while let Some(page) = self.held.remove(&self.next) {
            self.bytes -= page.bytes();
            self.next.1 += 1;
            through += page.bytes();
            group.push(page);
        }
        through
    }

    /// When the page was held back that waits longest.
    pub(super) fn oldest(&mut self) -> Option<Instant> {
        while let Some((at, place)) = self.came.front() {
            if self.held.contains_key(place) {
                return Some(*at);
            }
            self.came.pop_front();
        }
        None
    }

    /// Lets everything through: the page that it waits for is too late, or will not come.
    pub(super) fn release(&mut self, group: &mut Vec<Staged>) {
        self.bytes = 0;
        self.came.clear();
        if let Some((last, _)) = self.held.last_key_value() {
            self.next = (last.0, last.1 + 1);
        }
        group.extend(std::mem::take(&mut self.held).into_values());
    }
}
