//! A budget in memory and its file in the book: read before it is asked, written before anybody sends.

use std::sync::Arc;

use super::book::Book;
use super::budget::{Budget, Exchange, Heard};
use super::jitter::Jitter;
use super::label::{Label, Labels};
use super::moment::{Moment, Now, SECOND};
use super::rule::Rule;
use super::scope::{self, Key};
use super::sheet::{Found, Sheet};
use crate::event::{Name, Wait};

/// Time between two looks whether those who hold permits are alive.
const LOOK: u64 = SECOND / 4;
/// Time between two looks at its label.
const LABEL: u64 = 300 * SECOND;
/// Quotas of longer windows are brought to the disk, at most once a second.
const LONG: u64 = 3600 * SECOND;

/// The book, and how the budgets of one source are named in it.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) book: Book,
    /// What identifies each rule; `None` is kept in memory.
    pub(super) names: Vec<Option<String>>,
    /// The source's credential.
    pub(super) credential: String,
    /// What people call them.
    pub(super) labels: Labels,
}

impl Library {
    fn identity(&self, key: &Key) -> Option<String> {
        scope::identity(&self.names, &self.credential, key)
    }
}

/// One budget.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) budget: Budget,
    sheet: Option<Sheet>,
    /// What people call it.
    label: Option<Label>,
    labelled: Option<Moment>,
    /// What could not be written yet, because others were at the file.
    pending: Vec<Fact>,
    is_dirty: bool,
    /// Whether somebody else has used it since we did.
    pub(super) is_contended: bool,
    looked: Moment,
    synced: Moment,
}

/// What happened to a budget.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    /// A request was answered.
    Answered {
        sent: Moment,
        received: Moment,
        reserved: u64,
        actual: u64,
        heard: Option<Heard>,
    },
    /// A request was given up.
    Abandoned {
        sent: Moment,
        at: Moment,
        amount: u64,
    },
    /// A permit came back without having been used.
    Unsent {
        taken: Moment,
        at: Moment,
        amount: u64,
    },
    /// The server asked for patience.
    Paused {
        at: Moment,
        until: Moment,
        told: Name,
    },
}

impl Entry {
    pub(super) fn new(
        key: &Key,
        rule: &Rule,
        library: Option<&Library>,
        told: &mut Vec<String>,
    ) -> Self {
        let me = library.map_or(0, |library| library.book.me());
        let mut entry = Self {
            budget: Budget::of(me),
            sheet: None,
            label: library.and_then(|library| library.labels.of(key)),
            labelled: None,
            pending: Vec::new(),
            is_dirty: false,
            is_contended: false,
            looked: Moment(0),
            synced: Moment(0),
        };
        if let Some((library, identity)) = library.and_then(|s| s.identity(key).map(|i| (s, i))) {
            match library.book.sheet(&identity) {
                Ok(sheet) => entry.sheet = Some(sheet),
                Err(error) => entry.lose(rule, &error, told),
            }
        }
        entry
    }

    /// Whether other processes share it.
    pub(super) fn is_shared(&self) -> bool {
        self.sheet.is_some()
    }

    /// Takes the lock and learns what others did; false if others are at it right now.
    pub(super) fn begin(
        &mut self,
        rule: &Rule,
        library: Option<&Library>,
        now: Now,
        jitter: &Jitter,
        told: &mut Vec<String>,
    ) -> bool {
        if let (Some(sheet), Some(library)) = (&mut self.sheet, library) {
            let loaded = match sheet.try_lock() {
                Ok(false) => return false,
                Ok(true) => sheet.load(),
                Err(error) => Err(error),
            };
            match loaded {
                Ok(Found::Nothing | Found::Known) => {}
                Ok(Found::State(bytes, written, boot)) => {
                    self.is_contended = true;
                    let me = library.book.me();
                    let budget = Budget::decode(&bytes, me);
                    let is_ours = boot == library.book.boot();
                    self.is_dirty |= !is_ours;
                    self.budget = match budget {
                        Some(budget) if is_ours => budget,
                        Some(budget) => budget.after_reboot(rule, written, now, jitter),
                        None => Budget::damaged(me, rule, now),
                    };
                }
                Ok(Found::Broken(aside)) => {
                    self.is_dirty = true;
                    self.budget = Budget::damaged(library.book.me(), rule, now);
                    let long = if rule.window > LONG {
                        " for an hour; what was used of it before is forgotten"
                    } else {
                        ""
                    };
                    told.push(format!(
                        "the book of the limit {} was unreadable; it is kept in {}, and the limit counts as used up{long}",
                        name(rule),
                        aside.display(),
                    ));
                }
                Err(error) => self.lose(rule, &error, told),
            }
        }
        for fact in std::mem::take(&mut self.pending) {
            self.apply(rule, &fact, jitter);
        }
        if let Some(library) = library.filter(|_| now.at.since(self.looked) >= LOOK) {
            self.looked = now.at;
            let mut others: Vec<u64> = self.budget.others().collect();
            others.sort_unstable();
            others.dedup();
            for holder in others {
                if library.book.is_dead(holder) {
                    self.budget.died(rule, holder, now.at, jitter);
                    self.is_dirty = true;
                }
            }
        }
        true
    }

    /// Writes what changed, and lets others at it.
    pub(super) fn end(
        &mut self,
        rule: &Rule,
        library: Option<&Library>,
        now: Now,
        told: &mut Vec<String>,
    ) {
        let (Some(sheet), Some(library)) = (&mut self.sheet, library) else {
            return;
        };
        let is_dirty = std::mem::take(&mut self.is_dirty);
        let written = if is_dirty {
            sheet.store(&self.budget.encode(), now, library.book.boot())
        } else {
            Ok(())
        };
        let is_due = self.labelled.is_none_or(|at| now.at.since(at) >= LABEL);
        let labelled = match &self.label {
            Some(label) if is_dirty && is_due => {
                self.labelled = Some(now.at);
                sheet.label().and_then(|old| {
                    let old = old.as_deref().and_then(Label::decode);
                    match label.over(old.as_ref(), now.calendar) {
                        Some(label) => sheet.set_label(&label.encode()),
                        None => Ok(()),
                    }
                })
            }
            _ => Ok(()),
        };
        let done = written.and(labelled).and_then(|()| sheet.unlock());
        let is_due = rule.window > LONG && now.at.since(self.synced) >= SECOND;
        if let (true, true, Ok(file), Ok(runtime)) = (
            is_dirty,
            is_due,
            sheet.handle(),
            tokio::runtime::Handle::try_current(),
        ) {
            self.synced = now.at;
            // A power cut between two of these forgets a second of a long quota.
            runtime.spawn_blocking(move || file.sync_data());
        }
        if let Err(error) = done {
            self.lose(rule, &error, told);
        }
    }

    /// Notes that something has happened; it is applied by the next [`Entry::begin`].
    pub(super) fn note(&mut self, fact: Fact) {
        self.pending.push(fact);
    }

    pub(super) fn changed(&mut self) {
        self.is_dirty = true;
    }

    /// So many of our requests wait for it; others hear of it.
    pub(super) fn waits(&mut self, now: Moment, until: Option<Moment>, count: u64) {
        if self.is_shared() {
            self.is_dirty |= self.budget.waits(now, until, count);
        }
    }

    fn apply(&mut self, rule: &Rule, fact: &Fact, jitter: &Jitter) {
        self.is_dirty = true;
        match fact {
            Fact::Answered {
                sent,
                received,
                reserved,
                actual,
                heard,
            } => {
                let cost = (*reserved, *actual);
                self.budget.answered(rule, *sent, *received, cost, jitter);
                let exchange = Exchange {
                    sent: *sent,
                    received: *received,
                    cost: *actual,
                };
                self.budget.heard(rule, exchange, *heard, jitter);
            }
            Fact::Abandoned { sent, at, amount } => {
                self.budget.abandoned(rule, *sent, *at, *amount, jitter);
            }
            Fact::Unsent { taken, at, amount } => {
                self.budget.unsent(rule, *taken, *at, *amount);
            }
            Fact::Paused { at, until, told } => self.budget.pause(rule, *at, *until, told),
        }
    }

    /// From now on in memory alone.
    fn lose(&mut self, rule: &Rule, error: &std::io::Error, told: &mut Vec<String>) {
        self.sheet = None;
        told.push(format!(
            "the limit {} holds for this run alone, not for other processes: its book cannot be used: {error}",
            name(rule),
        ));
    }

    pub(super) fn is_written(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it is as good as new, and all is written.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.pending.is_empty() && self.budget.is_idle(now)
    }
}

fn name(rule: &Rule) -> Arc<str> {
    match &rule.wait {
        Wait::Limit { limit, .. } => Arc::clone(limit),
        _ => Arc::default(),
    }
}
