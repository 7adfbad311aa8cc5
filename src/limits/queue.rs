//! Who waits for a budget, process by process: told to those who look, and kept in the book beside
//! what is used.
//!
//! A process that waits says so again and again; what was not said lately is not believed. So one
//! that was killed, or that waits for something else by now, is gone without anybody's doing.
//!
//! Where only answers make room (requests in flight), it is also whose turn it is: the process
//! that is done would else always be the first to ask again, and the others would starve.

use super::moment::Moment;

const MS: u64 = 1_000_000;

/// Waits that are shorter are nobody's business, and would cost a write each.
const WORTH_TELLING: u64 = 200 * MS;

/// How often it is said again, where it is known how long it takes, and where not.
const AGAIN: (u64, u64) = (200 * MS, 20 * MS);

/// How long it keeps a place for one who waits for an answer of others.
const KEPT: u64 = 100 * MS;

/// How long it is believed.
const BELIEVED: u64 = 1000 * MS;

/// Most processes that are remembered.
const MOST: usize = 64;

/// The processes that wait for a budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
}

/// One process that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) holder: u64,
    pub(super) since: Moment,
    /// When it was said last.
    pub(super) said: Moment,
    /// Its requests.
    pub(super) count: u64,
}

impl Queue {
    /// `count` requests of `holder` wait, the first of them until `until` if that is known. Gives
    /// whether that is news.
    pub(super) fn waits(
        &mut self,
        holder: u64,
        now: Moment,
        until: Option<Moment>,
        count: u64,
    ) -> bool {
        if until.is_some_and(|until| until.since(now) < WORTH_TELLING) {
            return false;
        }
        self.waiting.retain(|one| is_believed(one, now));
        let known = self.waiting.iter_mut().find(|one| one.holder == holder);
        let Some(known) = known else {
            if self.waiting.len() < MOST {
                self.waiting.push(Waiting {
                    holder,
                    since: now,
                    said: now,
                    count,
                });
            }
            return true;
        };
        let again = if until.is_some() { AGAIN.0 } else { AGAIN.1 };
        if now.since(known.said) < again {
            return false;
        }
        (known.said, known.count) = (now, count);
        true
    }

    /// A request of `holder` goes; if more of its wait, it will say so.
    pub(super) fn served(&mut self, holder: u64) {
        self.waiting.retain(|one| one.holder != holder);
    }

    /// How many requests of others are before those of `holder`, who may not have said yet that it
    /// waits.
    pub(super) fn before(&self, holder: u64, now: Moment) -> u64 {
        let place = |one: &Waiting| (one.since, one.holder);
        let mine = self.waiting.iter().find(|one| one.holder == holder);
        let mine = mine.map_or((now, holder), place);
        let waiting = self.waiting.iter();
        waiting
            .filter(|one| place(one) < mine && now.since(one.said) < KEPT)
            .map(|one| one.count)
            .fold(0, u64::saturating_add)
    }

    /// Who waits, as far as was said lately.
    pub(super) fn lately(&self, now: Moment) -> impl Iterator<Item = Waiting> {
        let waiting = self.waiting.iter();
        waiting.filter(move |one| is_believed(one, now)).copied()
    }

    pub(super) fn all(&self) -> &[Waiting] {
        &self.waiting
    }

    pub(super) fn of(waiting: Vec<Waiting>) -> Self {
        Self { waiting }
    }
}

fn is_believed(one: &Waiting, now: Moment) -> bool {
    now.since(one.said) < BELIEVED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_lately_is_not_believed() {
        let (mut queue, at) = (Queue::default(), |ms: u64| Moment(ms * MS));
        let who = |queue: &Queue, now| queue.lately(now).map(|one| one.holder).collect::<Vec<_>>();
        assert!(!queue.waits(1, at(0), Some(at(100)), 3), "too short");
        assert!(queue.waits(1, at(0), Some(at(5000)), 3));
        assert!(!queue.waits(1, at(50), Some(at(5000)), 4), "no news");
        assert!(queue.waits(2, at(60), None, 1));
        assert!(queue.waits(1, at(900), Some(at(5000)), 4));
        assert_eq!(who(&queue, at(1000)), [1, 2]);
        assert_eq!(who(&queue, at(1100)), [1]);
        assert_eq!(
            queue
                .lately(at(1100))
                .next()
                .map(|one| (one.since, one.count)),
            Some((at(0), 4))
        );
        queue.served(1);
        assert_eq!(who(&queue, at(1000)), [2]);
    }

    #[test]
    fn who_said_first_that_he_waits_is_first() {
        let (mut queue, at) = (Queue::default(), |ms: u64| Moment(ms * MS));
        queue.waits(7, at(0), None, 3);
        queue.waits(1, at(5), None, 2);
        let before = |queue: &Queue, ms| [7, 1, 4].map(|holder| queue.before(holder, at(ms)));
        assert_eq!(before(&queue, 10), [0, 3, 5]);
        // One who has not said so for a while has lost his place, until he says so again.
        queue.waits(1, at(90), None, 2);
        assert_eq!(before(&queue, 100), [0, 0, 2]);
        queue.waits(7, at(100), None, 3);
        assert_eq!(before(&queue, 100), [0, 3, 5]);
        // After his turn he stands behind the others.
        queue.served(7);
        queue.waits(7, at(101), None, 2);
        assert_eq!(before(&queue, 102), [2, 0, 4]);
    }
}
