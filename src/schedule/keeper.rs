//! Keeps the schedule: the one place that waits for its times, begins runs and sees them end.
//!
//! The calendar may be set at any moment and machines sleep, so no wait is longer than `SLICE`. What
//! touches the disk happens off the async threads, one step after the other. A run is a task of its
//! own: whatever becomes of it, panics included, is its exit and nobody else's trouble.

use std::collections::HashMap;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::board::Board;
use super::systemd::Manager;
use super::{Hands, Order};
use crate::clock::{Clock, Instant};
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::store::state::StateError;

/// The calendar is looked at this often, whatever it showed before.
const SLICE: Duration = Duration::from_mins(1);

/// So many broken files are named to the manager, whose line is short.
const BROKEN_NAMED: usize = 3;

/// How the schedule is kept.
#[derive(Debug)]
pub struct Keeper {
    /// Time.
    pub clock: Clock,
    /// What is outside.
    pub hands: Arc<Hands>,
    /// Most runs side by side.
    pub parallel: NonZeroUsize,
    /// How often pipeline files are looked at.
    pub read_every: Duration,
    /// Only what is due now, and then an end.
    pub once: bool,
    /// Turns true to ask for a graceful stop.
    pub stop: watch::Receiver<bool>,
    /// Who wants to hear how the process is.
    pub manager: Manager,
}

/// What goes on.
struct Shift {
    keeper: Keeper,
    /// Away only while a step of it is under way elsewhere.
    board: Option<Board>,
    runs: JoinSet<Exit>,
    /// Whose run a task is, and since when.
    under_way: HashMap<Id, (String, Instant)>,
    worst: Exit,
    /// What was told of a trouble with the state that has not gone away.
    trouble: Option<String>,
    /// What was told of a trouble with the folder of files that has not gone away.
    unread: Option<String>,
    /// What was told to be waited for, where nothing ran since.
    waits: Option<Fact>,
    /// When files were read last.
    read_at: Option<Instant>,
    is_settled: bool,
    is_ready: bool,
}

impl Keeper {
    /// Keeps the schedule until somebody asks to stop; or, with `once`, until what was due is done. Tells
    /// how the worst run ended.
    pub async fn keep(self, board: Board) -> Exit {
        let shift = Shift {
            board: Some(board),
            runs: JoinSet::new(),
            under_way: HashMap::new(),
            worst: Exit::Complete,
            trouble: None,
            unread: None,
            waits: None,
            read_at: None,
            is_settled: false,
            is_ready: false,
            keeper: self,
        };
        shift.work().await
    }
}

impl Shift {
    async fn work(mut self) -> Exit {
        let mut stop = self.keeper.stop.clone();
        loop {
            let stops = *stop.borrow();
            if !stops {
                self.read().await;
                self.settle().await;
                self.begin().await;
                self.wait_for();
            }
            if self.runs.is_empty() && (stops || self.is_over()) {
                return self.worst;
            }
            self.say(stops);
            let until = self.wake(stops);
            let clock = self.keeper.clock;
            tokio::select! {
                biased;
                Some(ended) = self.runs.join_next_with_id() => self.end(ended).await,
                changed = stop.changed(), if !stops => {
                    if changed.is_err() {
                        // Nobody is left who could ask.
                        clock.sleep_until(until).await;
                    } else {
                        self.keeper.manager.stopping();
                    }
                }
                () = clock.sleep_until(until) => {}
            }
        }
    }

    /// A step of the board, which may touch the disk.
    async fn step<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Board, Timestamp) -> Result<T, StateError> + Send + 'static,
    ) -> Option<T> {
        let mut board = self.board.take()?;
        let clock = self.keeper.clock;
        let step = tokio::task::spawn_blocking(move || {
            let done = work(&mut board, clock.calendar());
            (board, done)
        });
        let (board, done) = match step.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.board = Some(board);
        match done {
            Ok(done) => {
                self.trouble = None;
                Some(done)
            }
            Err(error) => {
                // Nothing begins that is not written down; it is tried again with the next slice.
                let told = self.trouble.take();
                self.trouble = Some(self.troubled(told.as_ref(), &error.into_failure()));
                None
            }
        }
    }

    /// Tells of a trouble, unless that was told.
    fn troubled(&mut self, told: Option<&String>, failure: &Failure) -> String {
        let message = failure.to_string();
        self.worst = self.worst.worst(failure.exit);
        if told != Some(&message) {
            self.tell(Fact::ScheduleStuck {
                message: message.clone(),
            });
        }
        message
    }

    fn tell(&self, fact: Fact) {
        (self.keeper.hands.tell)(fact);
    }

    /// Looks at the files, if it is time to.
    async fn read(&mut self) {
        let now = self.keeper.clock.now();
        let is_due = self
            .read_at
            .is_none_or(|at| now >= at + self.keeper.read_every);
        let is_enough = self.keeper.once && self.read_at.is_some() && !self.looks_again();
        if !is_due || is_enough {
            return;
        }
        self.read_at = Some(now);
        let hands = Arc::clone(&self.keeper.hands);
        let read = tokio::task::spawn_blocking(move || (hands.read)()).await;
        let files = match read {
            Ok(Ok(files)) => files,
            Ok(Err(failure)) => {
                let told = self.unread.take();
                self.unread = Some(self.troubled(told.as_ref(), &failure));
                return;
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.unread = None;
        let Some(told) = self.step(move |board, now| board.read(files, now)).await else {
            return;
        };
        if self.is_ready && !told.is_empty() {
            self.keeper.manager.reloading(self.keeper.clock.awake());
        }
        if !self.is_ready || !told.is_empty() {
            self.keeper.manager.ready();
            self.is_ready = true;
        }
        let is_broken = |fact: &Fact| matches!(fact, Fact::ScheduleBroken { .. });
        if told.iter().any(is_broken) {
            self.worst = self.worst.worst(Exit::Invalid);
        }
        for fact in told {
            self.tell(fact);
        }
    }

    async fn settle(&mut self) {
        if self.keeper.once && self.is_settled {
            return;
        }
        let now = self.keeper.clock.calendar();
        if !self.board.as_ref().is_some_and(|board| board.is_due(now)) {
            self.is_settled = true;
            return;
        }
        if let Some(told) = self.step(Board::settle).await {
            self.is_settled = true;
            for fact in told {
                self.tell(fact);
            }
        }
    }

    /// Begins what waits, as far as there is room.
    async fn begin(&mut self) {
        let room = self.keeper.parallel.get().saturating_sub(self.runs.len());
        let waits = |board: &Board| board.is_waiting();
        if room == 0 || !self.board.as_ref().is_some_and(waits) {
            return;
        }
        let Some(orders) = self.step(move |board, now| board.begin(room, now)).await else {
            return;
        };
        for order in orders {
            self.run(order);
        }
    }

    /// Tells what is waited for, where nothing goes on: nobody could see else whether all is well.
    fn wait_for(&mut self) {
        if !self.runs.is_empty() {
            self.waits = None;
            return;
        }
        let Some(board) = self.board.as_ref().filter(|_| self.is_ready) else {
            return;
        };
        // Whoever is called now and then has no next time of its own.
        let is_idle = !board.is_waiting() && !board.is_missing_any();
        if !is_idle || (self.keeper.once && board.count() > 0) {
            return;
        }
        let waits = board.waits();
        if self.waits.as_ref() != Some(&waits) {
            self.tell(waits.clone());
            self.waits = Some(waits);
        }
    }

    fn run(&mut self, order: Order) {
        self.tell(Fact::TimeCame {
            pipeline: order.name.as_str().into(),
            planned: order.at,
            times: order.times,
            again: order.again,
        });
        let name = order.name.clone();
        let (hands, stop) = (Arc::clone(&self.keeper.hands), self.keeper.stop.clone());
        let task = self
            .runs
            .spawn(async move { (hands.run)(order, stop).await });
        self.under_way
            .insert(task.id(), (name, self.keeper.clock.now()));
    }

    async fn end(&mut self, ended: Result<(Id, Exit), JoinError>) {
        let (id, exit) = match ended {
            Ok(ended) => ended,
            // What it was is on standard error; the others go on.
            Err(panic) => (panic.id(), Exit::Failed),
        };
        let Some((name, began)) = self.under_way.remove(&id) else {
            return;
        };
        self.worst = self.worst.worst(exit);
        let took = self.keeper.clock.now().saturating_duration_since(began);
        let told = self.step(move |board, now| board.end(&name, exit, took, now));
        if let Some(Some(fact)) = told.await {
            self.tell(fact);
        }
    }

    /// Whether all that was due is done, where that is all that is wanted.
    fn is_over(&self) -> bool {
        let waits = self.board.as_ref().is_some_and(|board| board.waiting() > 0);
        let is_stuck = self.trouble.is_some();
        self.keeper.once && (is_stuck || !waits && !self.looks_again())
    }

    /// Whether a file is not there that may be only on its way from one name to another.
    fn looks_again(&self) -> bool {
        self.board.as_ref().is_some_and(Board::is_missing_any)
    }

    /// Tells the manager how things are.
    fn say(&mut self, stops: bool) {
        let Some(board) = &self.board else { return };
        let mut status = match (stops, self.runs.len()) {
            (true, runs) => format!("stopping, {runs} under way"),
            (false, runs) => format!("{} scheduled, {runs} under way", board.count()),
        };
        let broken: Vec<&str> = board.broken().collect();
        if let Some(some) = broken.chunks(BROKEN_NAMED).next() {
            // A text takes whatever is written to it.
            let _ = write!(status, ", {} broken ({}", broken.len(), some.join(", "));
            status.push_str(if some.len() < broken.len() {
                ", …)"
            } else {
                ")"
            });
        }
        if let (false, Some((at, name))) = (stops, board.next()) {
            let _ = write!(status, ", next {name} at {at:.0}");
        }
        self.keeper.manager.alive(&status);
    }

    /// How long nothing has to be looked at.
    fn wake(&self, stops: bool) -> Instant {
        let clock = self.keeper.clock;
        let now = clock.now();
        let mut wait = SLICE;
        wait = wait.min(self.keeper.manager.every().unwrap_or(wait));
        if !stops && (!self.keeper.once || self.looks_again()) {
            let read = self.read_at.unwrap_or(now) + self.keeper.read_every;
            wait = wait.min(read.saturating_duration_since(now));
            if let Some(due) = self.board.as_ref().and_then(Board::wake) {
                let left = due.duration_since(clock.calendar());
                // What is overdue could not be written down: that is tried again with the files.
                if let Ok(left) = Duration::try_from(left)
                    && !left.is_zero()
                {
                    wait = wait.min(left);
                }
            }
        }
        now + wait
    }
}
