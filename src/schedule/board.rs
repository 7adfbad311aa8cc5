//! All pipelines with a schedule: what is decided about their times, what runs and what waits.
//!
//! Whatever is decided is in the state before anything comes of it, and in memory after. A board that
//! is opened on what another has left goes on with that: a time whose run had not ended is run again,
//! which continues that run, unless the run itself says that it is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::agenda::{self, Busy, Fate, LATE, Moment};
use super::inherit;
use super::{Content, Order, Read};
use crate::disk::Disk;
use crate::event::Fact;
use crate::failure::Exit;
use crate::plan::schedule::{Overlap, SchedulePlan};
use crate::store::firings::{Firing, FiringStatus, Mark};
use crate::store::state::{State, StateError};

/// A pipeline that another process runs is tried again so much later.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// All pipelines with a schedule.
#[derive(Debug)]
pub struct Board {
    state: State,
    posts: BTreeMap<String, Post>,
    /// How far times are settled of pipelines that have no post.
    marks: BTreeMap<String, Mark>,
    /// Pipelines that had no schedule when the files were looked at last. Editors and deployments take a
    /// file away and put it back a moment later, so only a second look believes it.
    missing: BTreeSet<String>,
    /// What an earlier scheduler has left, of pipelines that could not be read yet.
    inherited: Vec<Firing>,
    /// Files that cannot be understood, and how they are broken.
    broken: BTreeMap<String, u64>,
    since: Timestamp,
    /// How far back times count for a schedule that is new.
    reach: SignedDuration,
}

/// One pipeline.
#[derive(Debug)]
struct Post {
    path: PathBuf,
    text: String,
    plan: SchedulePlan,
    jitter: SignedDuration,
    mark: Mark,
    /// When the first time behind the mark is due.
    due: Option<Timestamp>,
    waiting: VecDeque<Firing>,
    running: Option<Firing>,
    inherited: bool,
    not_before: Option<Timestamp>,
}

impl Post {
    fn busy(&self) -> Busy {
        Busy {
            runs: self.running.is_some(),
            waiting: self.waiting.len(),
            inherited: self.inherited,
        }
    }

    /// Puts the mark, and with it the time that is due next.
    fn mark(&mut self, mark: Mark) {
        self.due = agenda::next(&self.plan, self.jitter, mark.until);
        self.mark = mark;
    }

    /// When it starts next, whatever is due now.
    fn coming(&self, now: Timestamp) -> Option<Timestamp> {
        let past = now.checked_sub(self.jitter).unwrap_or(now);
        agenda::next(&self.plan, self.jitter, self.mark.until.max(past))
    }

    /// Whether times are settled that are far ahead.
    fn is_ahead(&self, now: Timestamp) -> bool {
        self.mark.until.duration_since(now) > LATE
    }
}

/// What makes one schedule another: a change of anything else does not begin anew.
fn written(plan: &SchedulePlan) -> String {
    format!("{} {}", plan.cron.written(), plan.zone_name())
}

impl Board {
    /// Opens the state, and takes over what an earlier scheduler has left. Of a schedule that nobody knew
    /// before, times count that are due up to `reach` before `since`.
    pub fn open(
        disk: &Disk,
        root: &Path,
        since: Timestamp,
        reach: SignedDuration,
    ) -> Result<Self, StateError> {
        let mut state = State::open(disk, root)?;
        let inherited = inherit::all(&mut state, disk, root, since)?;
        let marks = state.marks()?;
        Ok(Self {
            state,
            posts: BTreeMap::new(),
            marks: marks
                .into_iter()
                .map(|mark| (mark.pipeline.clone(), mark))
                .collect(),
            missing: BTreeSet::new(),
            inherited,
            broken: BTreeMap::new(),
            since,
            reach,
        })
    }

    /// Takes the files as they are now: new and changed schedules count from now on, a file that cannot
    /// be understood leaves what was known of it in force.
    pub fn read(&mut self, files: Vec<Read>, now: Timestamp) -> Result<Vec<Fact>, StateError> {
        let mut told = Vec::new();
        let (mut seen, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for file in files {
            seen.insert(file.name.clone());
            if !matches!(file.content, Content::Unscheduled) {
                kept.insert(file.name.clone());
            }
            match file.content {
                Content::Scheduled { text, schedule } => {
                    told.extend(self.mended(&file.name));
                    told.extend(self.scheduled(&file.name, file.path, text, *schedule, now)?);
                }
                Content::Unscheduled => told.extend(self.mended(&file.name)),
                Content::Broken { print, message } => {
                    if self.broken.insert(file.name.clone(), print) != Some(print) {
                        told.push(Fact::ScheduleBroken {
                            kept: self.posts.contains_key(&file.name),
                            pipeline: file.name.into(),
                            message,
                        });
                    }
                }
            }
        }
        let posts = self.posts.iter().filter(|(_, post)| !post.text.is_empty());
        let known = posts.map(|(name, _)| name.clone());
        let left = self.inherited.iter().map(|firing| firing.pipeline.clone());
        let gone: BTreeSet<String> = known.chain(left).filter(|n| !kept.contains(n)).collect();
        for name in gone.intersection(&self.missing.clone()) {
            told.extend(self.unscheduled(name, now)?);
        }
        self.missing = gone.difference(&self.missing).cloned().collect();
        self.broken.retain(|name, _| seen.contains(name));
        Ok(told)
    }

    /// A file that was broken is no more.
    fn mended(&mut self, name: &str) -> Option<Fact> {
        self.broken.remove(name).map(|_| Fact::ScheduleMended {
            pipeline: name.into(),
        })
    }

    /// Whether a pipeline has lost its schedule, and only a second look can tell whether for good.
    pub fn is_missing_any(&self) -> bool {
        !self.missing.is_empty()
    }

    fn scheduled(
        &mut self,
        name: &str,
        path: PathBuf,
        text: String,
        plan: SchedulePlan,
        now: Timestamp,
    ) -> Result<Option<Fact>, StateError> {
        let jitter = agenda::jitter(name, plan.jitter);
        let schedule = written(&plan);
        let known = match self.posts.get(name) {
            Some(post) if post.text == text && post.path == path => return Ok(None),
            Some(post) => Some(post.mark.clone()),
            None => self.marks.get(name).cloned(),
        };
        let again = self.posts.contains_key(name);
        let mark = match known {
            Some(mark) if mark.schedule == schedule => mark,
            // Times of a schedule that was not there yet are not missed.
            _ => {
                let mark = Mark {
                    pipeline: name.to_owned(),
                    schedule,
                    until: agenda::begin(&plan, jitter, now, self.reach),
                };
                self.state.settle(&mark, &[])?;
                mark
            }
        };
        let waiting = self.inherited.extract_if(.., |f| f.pipeline == name);
        let waiting: VecDeque<Firing> = waiting.collect();
        let post = self.posts.entry(name.to_owned()).or_insert_with(|| Post {
            path: PathBuf::new(),
            text: String::new(),
            plan: plan.clone(),
            jitter,
            mark: mark.clone(),
            due: None,
            inherited: !waiting.is_empty(),
            waiting,
            running: None,
            not_before: None,
        });
        post.path = path;
        post.text = text;
        post.jitter = jitter;
        post.plan = plan;
        post.mark(mark);
        Ok(Some(Fact::Scheduled {
            pipeline: name.into(),
            cron: post.plan.cron.written().to_owned(),
            zone: post.plan.zone_name().to_owned(),
            next: post.coming(now),
            again,
        }))
    }

    /// Nothing of it runs any more; what is under way comes to its end.
    fn unscheduled(&mut self, name: &str, now: Timestamp) -> Result<Option<Fact>, StateError> {
        let mut left: Vec<Firing> = self
            .inherited
            .extract_if(.., |f| f.pipeline == name)
            .collect();
        let is_running = |post: &Post| post.running.is_some();
        let was_known = self
            .posts
            .get(name)
            .is_some_and(|post| !post.text.is_empty());
        if let Some(post) = self.posts.get_mut(name) {
            left.extend(post.waiting.drain(..));
            // An empty text is that of no pipeline: the post stands for its run only.
            post.text.clear();
        }
        if self.posts.get(name).is_some_and(|post| !is_running(post)) {
            self.remove(name);
        }
        for mut firing in left {
            firing.status = FiringStatus::Skipped;
            firing.ended = Some(now);
            firing.why = Some("the pipeline has no schedule any more".to_owned());
            self.state.save_firing(&firing)?;
        }
        Ok(was_known.then(|| Fact::Unscheduled {
            pipeline: name.into(),
        }))
    }

    /// How far its times are settled stays known: should the file come back, that is where they go on.
    fn remove(&mut self, name: &str) {
        if let Some(post) = self.posts.remove(name) {
            self.marks.insert(name.to_owned(), post.mark);
        }
    }

    /// Settles all times that are due.
    pub fn settle(&mut self, now: Timestamp) -> Result<Vec<Fact>, StateError> {
        let mut told = Vec::new();
        let moment = Moment {
            now,
            since: self.since,
        };
        for (name, post) in &mut self.posts {
            if post.text.is_empty() {
                continue;
            }
            if post.is_ahead(now) {
                // The clock was set back by more than it is ever corrected by: what lies between comes again,
                // but no time that is entered already.
                post.mark(Mark {
                    until: now,
                    ..post.mark.clone()
                });
                told.push(Fact::ScheduleNoticed {
                    message: format!("the clock was set back; the times of {name} count from now"),
                });
            }
            let verdict = agenda::settle(
                &post.plan,
                post.jitter,
                post.mark.until,
                post.busy(),
                moment,
            );
            if verdict.settled.is_empty() {
                continue;
            }
            let mark = Mark {
                until: verdict.mark,
                ..post.mark.clone()
            };
            let firings: Vec<Firing> = verdict
                .settled
                .iter()
                .map(|settled| {
                    let firing = Firing::waiting(name, settled.at, settled.times);
                    match why(settled.fate) {
                        None => firing,
                        Some(why) => Firing {
                            status: FiringStatus::Skipped,
                            ended: Some(now),
                            why: Some(why.to_owned()),
                            ..firing
                        },
                    }
                })
                .collect();
            let entered = self.state.settle(&mark, &firings)?;
            post.mark(mark);
            for firing in entered {
                match &firing.why {
                    Some(why) => told.push(Fact::TimeSkipped {
                        pipeline: name.as_str().into(),
                        planned: firing.at,
                        times: firing.times,
                        why: why.clone(),
                    }),
                    None => post.waiting.push_back(firing),
                }
            }
        }
        Ok(told)
    }

    /// Begins at most `room` runs, those that wait longest first. Where one cannot be written down, those
    /// before it begin all the same; it comes again with the next call.
    pub fn begin(&mut self, room: usize, now: Timestamp) -> Result<Vec<Order>, StateError> {
        let mut ready: Vec<(Timestamp, String)> = self
            .posts
            .iter()
            .filter(|(_, post)| {
                post.running.is_none() && post.not_before.is_none_or(|until| until <= now)
            })
            .filter_map(|(name, post)| Some((post.waiting.front()?.at, name.clone())))
            .collect();
        ready.sort();
        let mut orders = Vec::new();
        for (_, name) in ready.into_iter().take(room) {
            let Some(post) = self.posts.get_mut(&name) else {
                continue;
            };
            let Some(mut firing) = post.waiting.front().cloned() else {
                continue;
            };
            let again = firing.begun.is_some();
            firing.status = FiringStatus::Begun;
            firing.begun = Some(now);
            match self.state.save_firing(&firing) {
                Ok(()) => {}
                Err(error) if orders.is_empty() => return Err(error),
                Err(_) => break,
            }
            post.waiting.pop_front();
            post.not_before = None;
            orders.push(Order {
                path: post.path.clone(),
                text: post.text.clone(),
                at: firing.at,
                times: firing.times,
                again,
                deadline: post.plan.deadline,
                name,
            });
            post.running = Some(firing);
        }
        Ok(orders)
    }

    /// A run has ended. One that was stopped stays open, for who comes after; so does one that another
    /// process stood in the way of, where times wait for each other.
    pub fn end(
        &mut self,
        name: &str,
        exit: Exit,
        took: Duration,
        now: Timestamp,
    ) -> Result<Option<Fact>, StateError> {
        let Some(post) = self.posts.get_mut(name) else {
            return Ok(None);
        };
        let Some(mut firing) = post.running.take() else {
            return Ok(None);
        };
        let planned = firing.at;
        // The run itself has written that down; not to know it keeps nobody from ending.
        let run = self.state.firing_run(name, planned).unwrap_or_default();
        let mut saved = Ok(());
        match exit {
            Exit::Interrupted | Exit::Terminated => {}
            Exit::Locked if post.plan.overlap == Overlap::Queue => {
                firing.status = FiringStatus::Waiting;
                saved = self.state.save_firing(&firing);
                post.waiting.push_front(firing);
                post.not_before = now.checked_add(AGAIN).ok();
            }
            _ => {
                firing.status = FiringStatus::Done;
                firing.ended = Some(now);
                firing.exit = Some(exit.code());
                // What is lost here, the run itself tells whoever comes after.
                saved = self.state.save_firing(&firing);
            }
        }
        post.inherited &= !post.waiting.is_empty();
        let next = post.coming(now);
        if post.text.is_empty() {
            self.remove(name);
        }
        saved?;
        Ok(Some(Fact::TimeDone {
            pipeline: name.into(),
            planned,
            run: run.map(Into::into),
            exit: exit.code(),
            took,
            next,
        }))
    }

    /// When something is due that is not due yet.
    pub fn wake(&self) -> Option<Timestamp> {
        let posts = self.posts.values().filter(|post| !post.text.is_empty());
        let next = posts.flat_map(|post| [post.due, post.not_before]);
        next.flatten().min()
    }

    /// Whether a time is due that is not settled, or the clock shows what it cannot.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let mut posts = self.posts.values().filter(|post| !post.text.is_empty());
        posts.any(|post| {
            let is_due = post.due.is_some_and(|at| at <= now);
            is_due || post.is_ahead(now)
        })
    }

    /// Whether a time waits for its run.
    pub fn is_waiting(&self) -> bool {
        self.posts.values().any(|post| !post.waiting.is_empty())
    }

    /// The next time, and whose it is.
    pub fn next(&self) -> Option<(Timestamp, &str)> {
        let posts = self.posts.iter().filter(|(_, post)| !post.text.is_empty());
        posts
            .filter_map(|(name, post)| Some((post.due?, name.as_str())))
            .min()
    }

    /// What is waited for where nothing runs.
    pub fn waits(&self) -> Fact {
        let next = self.next();
        let post = next.and_then(|(_, name)| self.posts.get(name));
        let local = next.zip(post).map(|((at, _), post)| {
            let local = at.to_zoned(post.plan.zone.clone());
            local.strftime("%Y-%m-%d %H:%M %Z").to_string()
        });
        Fact::ScheduleWaits {
            pipeline: next.map(|(_, name)| name.into()),
            next: next.map(|(at, _)| at),
            local,
            broken: self.broken.len() as u64,
        }
    }

    /// How many times wait for a run that may begin.
    pub fn waiting(&self) -> usize {
        let posts = self.posts.values().filter(|post| post.not_before.is_none());
        posts.map(|post| post.waiting.len()).sum()
    }

    /// How many pipelines have a schedule.
    pub fn count(&self) -> usize {
        let posts = self.posts.values().filter(|post| !post.text.is_empty());
        posts.count()
    }

    /// Files that cannot be understood, by name.
    pub fn broken(&self) -> impl Iterator<Item = &str> {
        self.broken.keys().map(String::as_str)
    }
}

/// Why a time is left out, if it is.
fn why(fate: Fate) -> Option<&'static str> {
    match fate {
        Fate::Run => None,
        Fate::Missed => Some("nobody was there when it came"),
        Fate::Overlaps => Some("the run before goes on"),
        Fate::Queued => Some("another one waits for the run before already"),
    }
}
