//! Telling people beside the runs: a receiver that does not answer holds up neither a run, nor the next time, nor
//! another receiver, and a stop waits for it only a moment.
//!
//! All that has to be told is on the disk before it is told here, so whatever is cut off or left out is owed; but for
//! pings, which are worth something now or not at all.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::drive::Drive;

/// So many are told side by side.
const AT_ONCE: usize = 32;

/// What is told of a pipeline: each kind in order, none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// That a run begins or has ended: the ping.
    Sign,
    /// How its runs are: the alert.
    Runs,
    /// How its file is: another one.
    File,
}

/// A word under way.
type Word = Pin<Box<dyn Future<Output = ()> + Send>>;

/// For each kind that is being told the word that comes next, if there is one.
type Lanes = BTreeMap<(String, About), Option<Word>>;

/// Who tells.
pub(super) struct Tellers {
    lanes: Arc<Mutex<Lanes>>,
    at_work: Mutex<JoinSet<()>>,
    room: Arc<Semaphore>,
}

impl Default for Tellers {
    fn default() -> Self {
        Self {
            lanes: Arc::default(),
            at_work: Mutex::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Tellers {
    /// Tells this as soon as the word before is told. One that waits still is left out for it: the newest word says
    /// what all of them would.
    pub(super) fn tell(
        &self,
        pipeline: &str,
        about: About,
        word: impl Future<Output = ()> + Send + 'static,
    ) {
        let lane = (pipeline.to_owned(), about);
        let mut lanes = lock(&self.lanes);
        if let Some(next) = lanes.get_mut(&lane) {
            *next = Some(Box::pin(word));
            return;
        }
        lanes.insert(lane.clone(), None);
        let (lanes, room) = (Arc::clone(&self.lanes), Arc::clone(&self.room));
        let mut at_work = lock(&self.at_work);
        // Those that are done are taken away.
        while at_work.try_join_next().is_some() {}
        at_work.spawn(work_off(lane, Box::pin(word), lanes, room));
    }

    /// Waits until all is told; once somebody asks to stop, only a moment longer.
    pub(super) async fn all_told(&self, drive: &Drive) {
        let mut at_work = std::mem::take(&mut *lock(&self.at_work));
        drive
            .unless_stopped(async { while at_work.join_next().await.is_some() {} })
            .await;
    }
}

/// Tells one word after the other, until there is none.
async fn work_off(
    lane: (String, About),
    first: Word,
    lanes: Arc<Mutex<Lanes>>,
    room: Arc<Semaphore>,
) {
    let mut word = first;
    loop {
        // It is never closed.
        let place = room.acquire().await;
        // A task of its own: what a panic was stands on standard error, and the words after it are told all the same.
        let mut told = JoinSet::new();
        told.spawn(word);
        told.join_next().await;
        drop(place);
        let mut lanes = lock(&lanes);
        let Some(next) = lanes.get_mut(&lane).and_then(Option::take) else {
            lanes.remove(&lane);
            return;
        };
        word = next;
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::clock::{Clock, Instant};
    use crate::report::{Manner, Reporter};

    const SECOND: Duration = Duration::from_secs(1);

    /// Stopped time, so that seconds are exact.
    struct Scene {
        drive: Drive,
        asks: watch::Sender<bool>,
        began: Instant,
        told: Arc<Mutex<Vec<(&'static str, u64)>>>,
    }

    impl Scene {
        /// A word that takes so many seconds.
        fn word(&self, name: &'static str, takes: u64) -> Word {
            let (told, began, clock) = (Arc::clone(&self.told), self.began, self.drive.clock);
            Box::pin(async move {
                clock
                    .sleep_until(clock.now() + SECOND * u32::try_from(takes).expect("few"))
                    .await;
                lock(&told).push((name, (clock.now() - began).as_secs()));
            })
        }

        fn told(&self) -> Vec<(&'static str, u64)> {
            lock(&self.told).clone()
        }

        fn seconds(&self) -> u64 {
            (self.drive.clock.now() - self.began).as_secs()
        }
    }

    fn play<T>(play: impl AsyncFnOnce(Scene) -> T) -> T {
        crate::sim::in_stopped_time(async {
            let mut drive = Drive::new(Reporter::new(Manner::QUIET));
            drive.clock = Clock::simulated(jiff::Timestamp::UNIX_EPOCH);
            let (asks, asked) = watch::channel(false);
            drive.stop.asked = asked;
            play(Scene {
                began: drive.clock.now(),
                drive,
                asks,
                told: Arc::default(),
            })
            .await
        })
    }

    #[test]
    fn a_slow_receiver_holds_up_neither_another_one_nor_other_kinds() {
        let told = play(async |scene| {
            let tellers = Tellers::default();
            tellers.tell("a", About::Sign, scene.word("a begins", 50));
            tellers.tell("a", About::Runs, scene.word("a fails", 2));
            tellers.tell("b", About::Sign, scene.word("b begins", 1));
            tellers.tell("b", About::Sign, scene.word("b ends", 3));
            tellers.all_told(&scene.drive).await;
            scene.told()
        });
        let wanted = [
            ("b begins", 1),
            ("a fails", 2),
            ("b ends", 4),
            ("a begins", 50),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn of_words_that_wait_the_newest_is_told() {
        let told = play(async |scene| {
            let tellers = Tellers::default();
            for (word, takes) in [("first", 5), ("second", 1), ("third", 1)] {
                tellers.tell("a", About::Sign, scene.word(word, takes));
            }
            tellers.all_told(&scene.drive).await;
            tellers.tell("a", About::Sign, scene.word("later", 1));
            tellers.all_told(&scene.drive).await;
            scene.told()
        });
        assert_eq!(told, [("first", 5), ("third", 6), ("later", 7)]);
    }

    #[test]
    fn there_is_a_bound_to_what_is_told_side_by_side() {
        let seconds = play(async |scene| {
            let tellers = Tellers::default();
            for n in 0..=AT_ONCE {
                tellers.tell(&n.to_string(), About::Runs, scene.word("one of many", 5));
            }
            tellers.all_told(&scene.drive).await;
            scene.seconds()
        });
        assert_eq!(seconds, 10, "the last one waits for room");
    }

    #[test]
    fn a_stop_waits_for_a_moment_only() {
        for (stop_at, ends_at) in [(0, 2), (7, 9), (80, 50)] {
            let (told, seconds) = play(async |scene| {
                let tellers = Tellers::default();
                tellers.tell("a", About::Runs, scene.word("slow", 50));
                tellers.tell("b", About::Runs, scene.word("fast", 1));
                let (asks, clock) = (scene.asks.clone(), scene.drive.clock);
                tokio::spawn(async move {
                    clock.sleep_until(clock.now() + SECOND * stop_at).await;
                    asks.send_replace(true);
                });
                tellers.all_told(&scene.drive).await;
                (scene.told(), scene.seconds())
            });
            assert_eq!(seconds, ends_at, "asked to stop after {stop_at} s");
            assert_eq!(told[0], ("fast", 1));
            assert_eq!(told.len(), if ends_at == 50 { 2 } else { 1 });
        }
    }

    #[test]
    fn a_panic_silences_nobody() {
        let told = play(async |scene| {
            let tellers = Tellers::default();
            tellers.tell("a", About::Runs, async { panic!("a mistake") });
            tellers.tell("a", About::Runs, scene.word("next", 1));
            tellers.all_told(&scene.drive).await;
            scene.told()
        });
        assert_eq!(told, [("next", 1)]);
    }
}
