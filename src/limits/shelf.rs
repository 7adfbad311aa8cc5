//! The book as one sees it who only looks: every budget that is known on this machine. Nothing is
//! locked, made or written.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::book::{self, BookProblem};
use super::budget::Budget;
use super::budget::look::Look;
use super::jitter::Jitter;
use super::label::Label;
use super::log::Answer;
use super::moment::{Moment, Now, nanos};
use super::rule::Rule;
use super::scope::units;
use super::sheet::{self, Peeked};
use crate::clock::Clock;

/// A book that is looked into.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    key: [u64; 4],
    boot: u128,
}

/// One budget of the book.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Its file, without the folder.
    pub file: String,
    /// What it is, and what is left of it; `None` where that was not written down: the file is of
    /// another version, or a process died just then.
    pub limit: Option<KnownLimit>,
    /// Whether its bytes make no sense: whoever uses it next counts it as used up.
    pub is_broken: bool,
    /// When it was used last.
    pub written: Option<Timestamp>,
    /// Until when everything is held, and what the server said.
    pub paused: Option<(Timestamp, String)>,
    /// Who has requests under way, and how many calls or units they may cost.
    pub holding: Vec<Member>,
    /// Who waits for it, and with how many requests.
    pub waiting: Vec<Member>,
}

/// What a budget is, and what is left of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownLimit {
    /// The limit, as written.
    pub limit: String,
    /// What it counts, if not calls.
    pub unit: Option<String>,
    /// Whom requests go to, if it is one origin.
    pub origin: Option<String>,
    /// The name by which pipelines share it.
    pub shared_as: Option<String>,
    /// The part of the API that it covers, where it is not all.
    pub routes: Vec<String>,
    /// What tells it from the other budgets of its limit: names and values.
    pub scope: Vec<(String, String)>,
    /// Whether it counts requests with a credential.
    pub credential: bool,
    /// Who used it, and when last, to some minutes.
    pub pipelines: Vec<(String, Timestamp)>,
    /// Its window; what is in flight has none.
    pub window: Option<Duration>,
    /// Most calls or units: in a window, or in the bucket.
    pub allows: f64,
    /// Used now.
    pub used: f64,
    /// When one more call may go.
    pub next: Next,
    /// When all of it is free again, if nobody uses it until then; `None` if it is, or if only
    /// answers make it so.
    pub whole: Option<Timestamp>,
}

/// When one more call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Now.
    Now,
    /// Then, if nobody else comes first.
    At(Timestamp),
    /// When requests that are under way are answered.
    Unknown,
}

/// A process that uses a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its number, if it has said.
    pub pid: Option<u32>,
    /// What it runs, if it has said.
    pub pipeline: Option<String>,
    /// Requests, or what they may cost.
    pub amount: f64,
}

impl Shelf {
    /// The book in `folder`; `None` if nobody has made one yet.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(folder: &Path) -> Result<Option<Self>, BookProblem> {
        let key = book::known_key(folder).map_err(|cause| BookProblem::new(folder, cause))?;
        Ok(key.map(|key| Self {
            folder: folder.to_owned(),
            key,
            boot: book::boot(),
        }))
    }

    /// All budgets, those of one origin side by side.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn budgets(&self, clock: &Clock) -> Result<Vec<Known>, BookProblem> {
        let now = now(clock);
        let read = || {
            let mut all = Vec::new();
            for entry in std::fs::read_dir(&self.folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "budget") {
                    match sheet::peek(&path) {
                        Ok(peeked) => all.push(self.known(&path, &peeked, now)),
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            io::Result::Ok(all)
        };
        let mut all = read().map_err(|cause| BookProblem::new(&self.folder, cause))?;
        all.sort_by_cached_key(|known| {
            let limit = known.limit.as_ref();
            let place = limit.map(|l| (l.origin.clone(), l.shared_as.clone(), l.credential));
            let rest = limit.map(|l| (l.routes.clone(), l.window, l.scope.clone()));
            (limit.is_none(), place, rest, known.file.clone())
        });
        Ok(all)
    }

    /// Names of its files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn files(&self) -> Result<HashSet<OsString>, BookProblem> {
        let entries = std::fs::read_dir(&self.folder).and_then(|entries| {
            let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
            names.collect()
        });
        entries.map_err(|cause| BookProblem::new(&self.folder, cause))
    }

    /// How the budget with this identity looks, if it is among `files`.
    pub(super) fn look(
        &self,
        files: &HashSet<OsString>,
        identity: &str,
        rule: &Rule,
        now: Now,
    ) -> Option<Look> {
        let name = book::name(self.key, identity);
        let file = files.get(OsStr::new(&name))?;
        let peeked = sheet::peek(&self.folder.join(file)).ok()?;
        let budget = self.budget(&peeked, rule, now);
        // What cannot be read counts as used up, as for one who is about to use it.
        let mut budget = budget.unwrap_or_else(|| Budget::damaged(0, rule, now));
        Some(budget.look(rule, now))
    }

    fn known(&self, path: &Path, peeked: &Peeked, now: Now) -> Known {
        let file = path.file_name().unwrap_or_default();
        let label = peeked.label.as_deref().and_then(Label::decode);
        let rule = label.as_ref().and_then(Label::plan).map(|p| Rule::new(&p));
        let mut known = Known {
            file: file.to_string_lossy().into_owned(),
            limit: None,
            is_broken: peeked.is_broken,
            written: peeked
                .state
                .as_ref()
                .map(|(_, written, _)| written.calendar),
            paused: None,
            holding: Vec::new(),
            waiting: Vec::new(),
        };
        let (Some(label), Some(rule)) = (label, rule) else {
            return known;
        };
        let Some(mut budget) = self.budget(peeked, &rule, now) else {
            known.is_broken = peeked.state.is_some() || peeked.is_broken;
            return known;
        };
        let look = budget.look(&rule, now);
        let member = |holder: u64, amount: f64| {
            let who = book::living(&self.folder, holder)?;
            Some(Member {
                pid: who.pid,
                pipeline: who.pipeline,
                amount,
            })
        };
        let out = look.out.iter();
        known.holding = out.filter_map(|(who, n)| member(*who, units(*n))).collect();
        let waiting = look.waiting.iter();
        known.waiting = waiting
            .filter_map(|one| member(one.holder, one.count as f64))
            .collect();
        known.paused = look
            .paused
            .map(|(until, told)| (calendar(now, until), told.to_string()));
        known.limit = Some(KnownLimit {
            limit: label.limit,
            unit: rule.unit.as_deref().map(str::to_owned),
            origin: label.origin,
            shared_as: label.shared_as,
            routes: label.routes,
            scope: label.scope,
            credential: label.credential,
            pipelines: label.pipelines.into_iter().collect(),
            window: rule.length(),
            allows: units(rule.capacity),
            used: units(look.used.min(rule.capacity)),
            next: match look.next {
                Answer::Now => Next::Now,
                Answer::NotBefore(at) => Next::At(calendar(now, at)),
                Answer::Unknown(_) => Next::Unknown,
            },
            whole: (look.whole > now.at).then(|| calendar(now, look.whole)),
        });
        known
    }

    /// The state of a budget now: of dead holders all is given up.
    fn budget(&self, peeked: &Peeked, rule: &Rule, now: Now) -> Option<Budget> {
        // Nobody: so that all holders are others.
        const NOBODY: u64 = 0;
        let Some((bytes, written, boot)) = &peeked.state else {
            return (!peeked.is_broken).then(|| Budget::of(NOBODY));
        };
        let mut budget = Budget::decode(bytes, NOBODY)?;
        let jitter = Jitter::default();
        if *boot != self.boot {
            return Some(budget.after_reboot(rule, *written, now, &jitter));
        }
        let mut holders: Vec<u64> = budget.others().collect();
        holders.sort_unstable();
        holders.dedup();
        for holder in holders {
            if book::living(&self.folder, holder).is_none() {
                budget.died(rule, holder, now.at, &jitter);
            }
        }
        Some(budget)
    }
}

pub(super) fn now(clock: &Clock) -> Now {
    Now {
        at: Moment(nanos(clock.since_boot())),
        calendar: clock.calendar(),
    }
}

fn calendar(now: Now, at: Moment) -> Timestamp {
    let ahead = Duration::from_nanos(at.since(now.at));
    let ahead = SignedDuration::try_from(ahead).unwrap_or(SignedDuration::MAX);
    now.calendar.checked_add(ahead).unwrap_or(Timestamp::MAX)
}
