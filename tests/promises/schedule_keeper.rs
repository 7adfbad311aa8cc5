//! Who keeps the schedule, in stopped time: begins what is due, goes on after deaths at any moment, and
//! is disturbed neither by broken files, clocks that are set, nor runs that fail.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::plan::cron::Cron;
use gleaner::plan::schedule::{Missed, Overlap, SchedulePlan};
use gleaner::schedule::board::Board;
use gleaner::schedule::keeper::Keeper;
use gleaner::schedule::systemd::Manager;
use gleaner::schedule::{Content, Hands, Order, Read};
use gleaner::store::firings::{Firing, FiringStatus};
use gleaner::store::history::{RunRecord, Status};
use gleaner::store::state::State;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// What a pretend run does.
#[derive(Debug, Clone, Copy)]
enum Does {
    Ends(Exit),
    Panics,
}

/// A pretend run, written down as a real one is.
#[derive(Debug, Clone)]
struct Ran {
    name: String,
    at: Timestamp,
    began: Timestamp,
    ended: Option<Timestamp>,
}

type Files = Arc<dyn Fn(Timestamp) -> Vec<Read> + Send + Sync>;

/// A project, and what its runs do.
struct World {
    root: tempfile::TempDir,
    files: Files,
    takes: Duration,
    does: BTreeMap<String, Does>,
    parallel: usize,
    once: bool,
    ran: Arc<Mutex<Vec<Ran>>>,
    told: Arc<Mutex<Vec<Fact>>>,
    set: Vec<(Duration, SignedDuration)>,
    disk: Disk,
}

fn moment(written: &str) -> Timestamp {
    written.parse().expect("a moment")
}

fn scheduled(name: &str, cron: &str, zone: &str, missed: Missed, overlap: Overlap) -> Read {
    let schedule = SchedulePlan {
        cron: Cron::parse(cron).unwrap_or_else(|(message, _)| panic!("{message}")),
        zone: jiff::tz::TimeZone::get(zone).expect("a zone"),
        missed,
        overlap,
        jitter: Duration::ZERO,
        deadline: None,
    };
    Read {
        name: name.to_owned(),
        path: format!("pipelines/{name}.yaml").into(),
        content: Content::Scheduled {
            text: format!("{name} {cron} {zone}"),
            schedule: Box::new(schedule),
        },
    }
}

fn nightly(name: &str) -> Read {
    scheduled(name, "30 2 * * *", "UTC", Missed::Once, Overlap::Skip)
}

impl World {
    fn new(files: Vec<Read>) -> Self {
        Self::changing(move |_| files.clone())
    }

    fn changing(files: impl Fn(Timestamp) -> Vec<Read> + Send + Sync + 'static) -> Self {
        Self {
            root: tempfile::tempdir().expect("a folder"),
            files: Arc::new(files),
            takes: Duration::from_mins(5),
            does: BTreeMap::new(),
            parallel: 4,
            once: false,
            ran: Arc::default(),
            told: Arc::default(),
            set: Vec::new(),
            disk: Disk::system(),
        }
    }

    fn once(mut self) -> Self {
        self.once = true;
        self
    }

    fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }

    fn does(mut self, name: &str, does: Does) -> Self {
        self.does.insert(name.to_owned(), does);
        self
    }

    fn state(&self) -> State {
        State::open(&Disk::system(), self.root.path()).expect("a state")
    }

    fn firings(&self, name: &str) -> Vec<Firing> {
        self.state().firings(name).expect("readable")
    }

    /// What ran, oldest first: `a 22T02:30 from 22T02:30 to 22T02:35`.
    fn ran(&self) -> Vec<String> {
        let show = |at: Timestamp| at.strftime("%dT%H:%M").to_string();
        let ran = self.ran.lock().expect("no panic");
        ran.iter()
            .map(|ran| {
                let end = ran.ended.map_or("its death".to_owned(), show);
                format!(
                    "{} {} from {} to {end}",
                    ran.name,
                    show(ran.at),
                    show(ran.began)
                )
            })
            .collect()
    }

    fn times(&self, name: &str) -> Vec<String> {
        let ran = self.ran.lock().expect("no panic");
        let own = ran.iter().filter(|ran| ran.name == name);
        own.map(|ran| ran.at.strftime("%dT%H:%M").to_string())
            .collect()
    }

    /// Keeps the schedule from `begins` for `length`; then the process dies, or is asked to stop.
    fn keep(&self, begins: &str, length: Duration, end: End) -> Option<Exit> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let ended = runtime.block_on(async {
            let begins = moment(begins);
            let clock = Clock::adjustable(begins);
            let reach = if self.once {
                SignedDuration::from_hours(1)
            } else {
                SignedDuration::ZERO
            };
            let board = Board::open(&self.disk, self.root.path(), begins, reach).expect("a board");
            let (asks, stop) = watch::channel(false);
            let keeper = Keeper {
                clock,
                hands: Arc::new(self.hands(clock)),
                parallel: NonZeroUsize::new(self.parallel).expect("some"),
                read_every: Duration::from_mins(2),
                once: self.once,
                stop,
                manager: Manager::default(),
            };
            for (after, by) in self.set.clone() {
                let at = clock.now() + after;
                tokio::spawn(async move {
                    clock.sleep_until(at).await;
                    clock.set(by);
                });
            }
            let until = clock.now() + length;
            let keeps = keeper.keep(board);
            match end {
                End::Dies => clock.timeout_at(until, keeps).await.ok(),
                End::Stops => {
                    let stopper = async {
                        clock.sleep_until(until).await;
                        asks.send_replace(true);
                    };
                    Some(futures_util::future::join(keeps, stopper).await.0)
                }
            }
        });
        // Whatever is under way ends with the process.
        runtime.shutdown_background();
        ended
    }

    fn hands(&self, clock: Clock) -> Hands {
        let (files, told) = (Arc::clone(&self.files), Arc::clone(&self.told));
        let (ran, root) = (Arc::clone(&self.ran), self.root.path().to_owned());
        let (takes, does) = (self.takes, self.does.clone());
        Hands {
            read: Box::new(move || Ok(files(clock.calendar()))),
            run: Box::new(move |order, stop| {
                let (ran, root) = (Arc::clone(&ran), root.clone());
                let does = does.get(&order.name).copied();
                Box::pin(pretend(clock, order, stop, takes, does, ran, root))
            }),
            tell: Box::new(move |fact| told.lock().expect("no panic").push(fact)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Dies,
    Stops,
}

/// Runs as a harvest does: its record first, linked to the time it is for; at the end its status, and a
/// moment later its exit.
async fn pretend(
    clock: Clock,
    order: Order,
    mut stop: watch::Receiver<bool>,
    takes: Duration,
    does: Option<Does>,
    ran: Arc<Mutex<Vec<Ran>>>,
    root: std::path::PathBuf,
) -> Exit {
    if matches!(does, Some(Does::Panics)) {
        panic!("a pretend run panics");
    }
    let ends = match does {
        Some(Does::Ends(exit)) => exit,
        _ => Exit::Complete,
    };
    let began = clock.calendar();
    let number = {
        let mut ran = ran.lock().expect("no panic");
        ran.push(Ran {
            name: order.name.clone(),
            at: order.at,
            began,
            ended: None,
        });
        ran.len() - 1
    };
    let save = |status, root: &Path, ended| {
        let mut state = State::open(&Disk::system(), root).expect("a state");
        let open = state.runs(Some(&order.name)).expect("readable");
        let open = open.into_iter().find(|run| run.status.is_open());
        let mut record = open.unwrap_or_else(|| {
            RunRecord::begun(&format!("{}-{number}", order.name), &order.name, 0, began)
        });
        record.status = status;
        record.ended = ended;
        record.exit = ended.map(|_| ends.code());
        state.save_run(&record).expect("saved");
        state
            .firing_runs(&order.name, order.at, &record.id)
            .expect("saved");
    };
    save(Status::Running, &root, None);
    let stops = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = clock.sleep_until(clock.now() + takes) => {}
        () = stops => {
            save(Status::Resumable, &root, None);
            return Exit::Interrupted;
        }
    }
    save(Status::Complete, &root, Some(clock.calendar()));
    ran.lock().expect("no panic")[number].ended = Some(clock.calendar());
    // The scheduler may die before it hears of the end.
    clock
        .sleep_until(clock.now() + Duration::from_secs(20))
        .await;
    ends
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

#[test]
fn both_nights_on_which_clocks_are_set_have_one_run() {
    for (begins, expected) in [
        // Forward on 29 March: 02:30 is not there, 03:00 is 01:00 UTC.
        ("2026-03-27T12:00:00Z", ["28T01:30", "29T01:00", "30T00:30"]),
        // Back on 25 October: 02:30 comes at 00:30 and 01:30 UTC.
        ("2026-10-23T12:00:00Z", ["24T00:30", "25T00:30", "26T01:30"]),
    ] {
        let file = scheduled(
            "a",
            "30 2 * * *",
            "Europe/Berlin",
            Missed::Once,
            Overlap::Skip,
        );
        let world = World::new(vec![file]);
        world.keep(begins, DAY * 3, End::Dies);
        assert_eq!(world.times("a"), expected);
    }
}

#[test]
fn a_time_that_overlaps_is_left_out_or_waits() {
    for (overlap, expected, left_out) in [
        (
            Overlap::Skip,
            vec![
                "a 22T11:00 from 22T11:00 to 22T12:30",
                "a 22T13:00 from 22T13:00 to 22T14:30",
            ],
            vec!["22T12:00", "22T14:00"],
        ),
        (
            Overlap::Queue,
            vec![
                "a 22T11:00 from 22T11:00 to 22T12:30",
                "a 22T12:00 from 22T12:30 to 22T14:00",
                "a 22T13:00 from 22T14:00 to its death",
            ],
            // When 13:00 still waits for the run of 12:00.
            vec!["22T14:00"],
        ),
    ] {
        let file = scheduled("a", "0 * * * *", "UTC", Missed::Once, overlap);
        let world = World::new(vec![file]).takes(Duration::from_mins(90));
        world.keep("2026-11-22T10:30:00Z", Duration::from_mins(242), End::Dies);
        assert_eq!(world.ran(), expected, "{overlap:?}");
        let skipped = world.firings("a").into_iter();
        let skipped = skipped.filter(|firing| firing.status == FiringStatus::Skipped);
        let skipped: Vec<String> = skipped
            .map(|firing| {
                assert!(firing.why.is_some());
                firing.at.strftime("%dT%H:%M").to_string()
            })
            .collect();
        assert_eq!(skipped, left_out, "{overlap:?}");
    }
}

#[test]
fn no_more_run_side_by_side_than_may() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = World::new(names.iter().map(|name| nightly(name)).collect());
    world.parallel = 2;
    world.keep("2026-11-22T02:00:00Z", HOUR, End::Dies);
    let ran = world.ran.lock().expect("no panic").clone();
    assert_eq!(ran.len(), names.len());
    for one in &ran {
        let beside = ran.iter().filter(|other| {
            other.began <= one.began && other.ended.is_none_or(|ended| ended > one.began)
        });
        assert!(beside.count() <= 2, "{ran:?}");
    }
}

#[test]
fn a_run_that_panics_or_fails_disturbs_nobody() {
    let world = World::new(vec![nightly("a"), nightly("b"), nightly("c")])
        .does("a", Does::Panics)
        .does("b", Does::Ends(Exit::Failed));
    world.keep("2026-11-22T02:00:00Z", DAY * 2, End::Dies);
    assert_eq!(world.times("c"), ["22T02:30", "23T02:30"]);
    for name in ["a", "b"] {
        let exits: Vec<_> = world.firings(name).iter().map(|one| one.exit).collect();
        assert_eq!(exits, [Some(1), Some(1)], "{name}");
    }
}

#[test]
fn a_stop_is_graceful_and_the_next_start_goes_on() {
    let world = World::new(vec![nightly("a")]);
    let ended = world.keep("2026-11-22T02:00:00Z", Duration::from_mins(32), End::Stops);
    assert_eq!(ended, Some(Exit::Interrupted));
    assert_eq!(world.firings("a")[0].status, FiringStatus::Begun);
    world.keep("2026-11-22T09:00:00Z", HOUR, End::Dies);
    assert_eq!(
        world.ran(),
        [
            "a 22T02:30 from 22T02:30 to its death",
            "a 22T02:30 from 22T09:00 to 22T09:05"
        ]
    );
    assert_eq!(world.firings("a")[0].exit, Some(0));
    let runs = world.state().runs(Some("a")).expect("readable");
    assert_eq!(runs.len(), 1, "it is one run: {runs:#?}");
}

#[test]
fn deaths_at_any_moment_lose_no_time_and_double_none() {
    // Every three hours, a run of 40 minutes; the scheduler dies after so many minutes, again and again.
    let seeds = std::env::var("GLEANER_KILL_ROUNDS").ok();
    let seeds = seeds.and_then(|n| n.parse().ok()).unwrap_or(3_u64);
    for (seed, overlap) in (0..seeds).zip([Overlap::Skip, Overlap::Queue].into_iter().cycle()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let file = scheduled("a", "0 */3 * * *", "UTC", Missed::All, overlap);
        let world = World::new(vec![file]).takes(Duration::from_mins(40));
        let begin = moment("2026-11-01T00:30:00Z");
        let end = moment("2026-11-03T00:30:00Z");
        let mut now = begin;
        while now < end {
            // Sharp on the minute and beside it, a second or hours.
            let lives =
                [random.u64(1..180), random.u64(60..10_000), 1_800, 4_200][random.usize(..4)];
            world.keep(&now.to_string(), Duration::from_secs(lives), End::Dies);
            let away = [0, random.i64(0..90), random.i64(0..15_000)][random.usize(..3)];
            now += SignedDuration::from_secs(i64::try_from(lives).expect("small") + away);
        }
        // Then it lives, and brings all to an end.
        world.keep(&now.to_string(), DAY * 2, End::Dies);
        let firings = world.firings("a");
        let last = firings.last().expect("some").at;
        let ran = world.ran.lock().expect("no panic").clone();
        let mut planned = moment("2026-11-01T03:00:00Z");
        while planned < last {
            let firing = firings.iter().find(|firing| firing.at == planned);
            let firing = firing.unwrap_or_else(|| panic!("seed {seed}: {planned} is lost"));
            let completed = ran
                .iter()
                .filter(|ran| ran.at == planned && ran.ended.is_some());
            let completed = completed.count();
            match firing.status {
                FiringStatus::Done => assert_eq!(completed, 1, "seed {seed}: {planned}: {ran:#?}"),
                FiringStatus::Skipped => {
                    assert_eq!(firing.why.as_deref(), Some("the run before goes on"));
                    assert_eq!(completed, 0, "seed {seed}: {planned}");
                }
                other => panic!("seed {seed}: {planned} is {other:?}"),
            }
            planned += SignedDuration::from_hours(3);
        }
    }
}

#[test]
fn a_clock_that_is_set_neither_loses_nor_doubles() {
    let file = scheduled("a", "0 */6 * * *", "UTC", Missed::Once, Overlap::Skip);
    let mut world = World::new(vec![file]);
    // Half a day on at 07:00: 12:00 and 18:00 have passed. Back by ten minutes at 19:20 plus: nothing again.
    world.set = vec![
        (HOUR * 6, SignedDuration::from_hours(12)),
        (
            HOUR * 11 + Duration::from_mins(2),
            SignedDuration::from_mins(-10),
        ),
    ];
    world.keep("2026-11-22T01:00:00Z", HOUR * 13, End::Dies);
    assert_eq!(world.times("a"), ["22T06:00", "22T18:00", "23T00:00"]);
    let firings = world.firings("a");
    assert_eq!(firings[1].times, 2, "12:00 was missed: {firings:?}");
    // Years ahead and back again: times of then do not run twice, and those of now come.
    let file = scheduled("a", "0 */6 * * *", "UTC", Missed::Skip, Overlap::Skip);
    let mut world = World::new(vec![file]);
    world.set = vec![
        (HOUR, SignedDuration::from_hours(24 * 700)),
        (HOUR * 2, SignedDuration::from_hours(-24 * 700)),
    ];
    world.keep("2026-11-22T01:00:00Z", HOUR * 12, End::Dies);
    assert_eq!(world.times("a"), ["22T06:00", "22T12:00"]);
}

#[test]
fn files_that_change_are_read_again_and_broken_ones_leave_the_old_in_force() {
    let broken = moment("2026-11-22T10:20:00Z");
    let corrected = moment("2026-11-22T13:20:00Z");
    let gone = moment("2026-11-22T15:20:00Z");
    let world = World::changing(move |now| {
        let good = |cron: &str| vec![scheduled("a", cron, "UTC", Missed::Once, Overlap::Skip)];
        if now < broken {
            good("0 * * * *")
        } else if now < corrected {
            vec![Read {
                name: "a".to_owned(),
                path: "pipelines/a.yaml".into(),
                content: Content::Broken {
                    print: 1,
                    message: "1 mistake".to_owned(),
                },
            }]
        } else if now < gone {
            good("30 * * * *")
        } else {
            Vec::new()
        }
    });
    world.keep("2026-11-22T09:30:00Z", HOUR * 8, End::Dies);
    // 11:00 to 13:00 though the file is broken; of the new times none that passed before it was there.
    assert_eq!(
        world.times("a"),
        [
            "22T10:00", "22T11:00", "22T12:00", "22T13:00", "22T13:30", "22T14:30"
        ]
    );
    let told = world.told.lock().expect("no panic");
    let broken = told
        .iter()
        .filter(|fact| matches!(fact, Fact::ScheduleBroken { kept: true, .. }));
    assert_eq!(broken.count(), 1, "it is told once: {told:#?}");
    assert!(
        told.iter()
            .any(|fact| matches!(fact, Fact::Unscheduled { .. }))
    );
}

#[test]
fn once_runs_what_is_due_and_ends_as_the_worst_did() {
    let world = World::new(vec![nightly("a"), nightly("b")])
        .once()
        .does("b", Does::Ends(Exit::Resumable));
    let once = |now: &str| world.keep(now, DAY, End::Dies);
    // Called a moment after the very first time it should have seen.
    assert_eq!(once("2026-11-22T02:30:02Z"), Some(Exit::Resumable));
    assert_eq!(world.times("a"), ["22T02:30"]);
    assert_eq!(once("2026-11-22T02:31:02Z"), Some(Exit::Complete));
    assert_eq!(once("2026-11-22T23:59:59Z"), Some(Exit::Complete));
    assert_eq!(world.times("a"), ["22T02:30"], "nothing was due");
    // Three nights without a call are one run.
    assert_eq!(once("2026-11-25T12:00:00Z"), Some(Exit::Resumable));
    assert_eq!(world.times("a"), ["22T02:30", "25T02:30"]);
    assert_eq!(world.firings("a")[1].times, 3);
    // A time that comes while it works is for the next call.
    let world = world.takes(DAY);
    assert!(
        world
            .keep("2026-11-26T02:30:00Z", DAY * 2, End::Dies)
            .is_some()
    );
    assert_eq!(world.times("a").len(), 3);
}

#[test]
fn what_is_waited_for_is_told_where_nothing_runs() {
    let told = |world: &World| -> Vec<(Option<String>, Option<String>)> {
        let told = world.told.lock().expect("no panic");
        let waits = told.iter().filter_map(|fact| match fact {
            Fact::ScheduleWaits {
                pipeline, local, ..
            } => Some((pipeline.as_deref().map(str::to_owned), local.clone())),
            _ => None,
        });
        waits.collect()
    };
    let berlin = |name, cron| scheduled(name, cron, "Europe/Berlin", Missed::Once, Overlap::Skip);
    let world = World::new(vec![berlin("a", "30 2 * * *"), berlin("b", "0 3 * * *")]);
    world.keep("2026-11-22T01:00:00Z", HOUR * 2, End::Dies);
    let of = |name: &str, at: &str| (Some(name.to_owned()), Some(at.to_owned()));
    assert_eq!(
        told(&world),
        [
            of("a", "2026-11-22 02:30 CET"),
            of("b", "2026-11-22 03:00 CET"),
            of("a", "2026-11-23 02:30 CET")
        ]
    );
    let world = World::new(Vec::new()).once();
    world.keep("2026-11-22T01:00:00Z", HOUR, End::Dies);
    assert_eq!(told(&world), [(None, None)], "nothing has a schedule");
    // Whoever is called now and then waits for nothing.
    let world = World::new(vec![berlin("a", "30 2 * * *")]).once();
    world.keep("2026-11-22T01:00:00Z", HOUR, End::Dies);
    assert_eq!(told(&world), []);
}

#[test]
fn the_first_call_ever_misses_nothing_and_tells_of_no_time_that_has_passed() {
    let every_minute = scheduled("a", "* * * * *", "UTC", Missed::All, Overlap::Skip);
    let world = World::new(vec![every_minute]).once();
    world.keep("2026-11-22T02:30:20Z", DAY, End::Dies);
    let firings = world.firings("a");
    assert_eq!((firings.len(), firings[0].times), (1, 1), "{firings:?}");
    assert_eq!(world.times("a"), ["22T02:30"]);
    // A night later times were missed, and yet the next one is to come.
    let nightly = World::new(vec![nightly("a")]).once();
    nightly.keep("2026-11-22T02:30:20Z", DAY, End::Dies);
    nightly.keep("2026-11-24T12:00:00Z", DAY, End::Dies);
    assert_eq!(nightly.firings("a")[1].times, 2);
    let told = nightly.told.lock().expect("no panic");
    let nexts = told.iter().filter_map(|fact| match fact {
        Fact::Scheduled { next, .. } => next.map(|at| at.to_string()),
        _ => None,
    });
    let nexts: Vec<String> = nexts.collect();
    assert_eq!(nexts, ["2026-11-23T02:30:00Z", "2026-11-25T02:30:00Z"]);
}

#[test]
fn what_cannot_be_written_down_does_not_run() {
    use gleaner::sim::{SimDisk, Trouble};
    let disk = SimDisk::new(Path::new("/p"));
    let door = disk.door();
    let mut board = Board::open(
        &door,
        Path::new("/p"),
        moment("2026-11-22T02:00:00Z"),
        SignedDuration::ZERO,
    )
    .expect("a board");
    let began = moment("2026-11-22T02:00:00Z");
    board.read(vec![nightly("a")], began).expect("written");
    let due = moment("2026-11-22T02:30:00Z");
    disk.set_trouble(Trouble::Always(1, std::io::ErrorKind::StorageFull));
    board.settle(due).expect_err("the disk is full");
    assert!(board.begin(4, due).expect("nothing to write").is_empty());
    disk.set_trouble(Trouble::None);
    board.settle(due).expect("written");
    disk.set_trouble(Trouble::Always(1, std::io::ErrorKind::StorageFull));
    board.begin(4, due).expect_err("the disk is full");
    disk.set_trouble(Trouble::None);
    let orders = board.begin(4, due).expect("written");
    assert_eq!(orders.len(), 1);
    assert!(board.begin(4, due).expect("nothing to write").is_empty());
}

#[test]
fn a_disk_that_fills_between_two_beginnings_drops_neither() {
    use gleaner::sim::{SimDisk, Trouble};
    let mut cut_between = 0;
    for operation in 1..40 {
        let disk = SimDisk::new(Path::new("/p"));
        let began = moment("2026-11-22T02:00:00Z");
        let door = disk.door();
        let mut board =
            Board::open(&door, Path::new("/p"), began, SignedDuration::ZERO).expect("a board");
        board
            .read(vec![nightly("a"), nightly("b")], began)
            .expect("written");
        let due = moment("2026-11-22T02:30:00Z");
        board.settle(due).expect("written");
        disk.set_trouble(Trouble::Always(operation, std::io::ErrorKind::StorageFull));
        let first = board.begin(4, due).unwrap_or_default();
        disk.set_trouble(Trouble::None);
        cut_between += usize::from(first.len() == 1);
        let second = board.begin(4, due).expect("written");
        let mut names: Vec<String> = first
            .into_iter()
            .chain(second)
            .map(|one| one.name)
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b"], "cut off before operation {operation}");
    }
    assert!(cut_between > 0, "no disk filled between the two");
}

#[test]
fn a_file_that_is_away_for_a_moment_loses_and_repeats_nothing() {
    // Editors and deployments write a new file and rename it: one look of many may find none.
    let away = moment("2026-11-22T11:09:30Z");
    let back = moment("2026-11-22T11:11:30Z");
    for unscheduled in [false, true] {
        let world = World::changing(move |now| {
            let file = scheduled("a", "0 * * * *", "UTC", Missed::All, Overlap::Queue);
            if now < away || now >= back {
                vec![file]
            } else if unscheduled {
                let content = Content::Unscheduled;
                vec![Read { content, ..file }]
            } else {
                Vec::new()
            }
        })
        .takes(Duration::from_mins(90));
        world.keep("2026-11-22T09:30:00Z", HOUR * 6, End::Dies);
        let firings = world.firings("a");
        let skipped = firings
            .iter()
            .filter(|one| one.status == FiringStatus::Skipped);
        assert_eq!(skipped.count(), 0, "{firings:#?}");
        assert_eq!(
            world.times("a"),
            ["22T10:00", "22T11:00", "22T12:00", "22T13:00"]
        );
        let told = world.told.lock().expect("no panic");
        let gone = |fact: &Fact| matches!(fact, Fact::Unscheduled { .. });
        assert!(!told.iter().any(gone), "{told:#?}");
    }
}

#[test]
fn a_file_that_comes_back_goes_on_where_its_times_were_settled() {
    let away = moment("2026-11-22T12:20:00Z");
    let back = moment("2026-11-22T14:20:00Z");
    let world = World::changing(move |now| {
        let file = scheduled("a", "0 * * * *", "UTC", Missed::All, Overlap::Skip);
        if now < away || now >= back {
            vec![file]
        } else {
            Vec::new()
        }
    });
    world.keep("2026-11-22T09:30:00Z", HOUR * 6, End::Dies);
    assert_eq!(
        world.times("a"),
        [
            "22T10:00", "22T11:00", "22T12:00", "22T13:00", "22T14:00", "22T15:00"
        ]
    );
    let first = world.told.lock().expect("no panic");
    let nexts = first.iter().filter_map(|fact| match fact {
        Fact::Scheduled { next, .. } => *next,
        _ => None,
    });
    let nexts: Vec<Timestamp> = nexts.collect();
    assert_eq!(
        nexts,
        [
            moment("2026-11-22T10:00:00Z"),
            moment("2026-11-22T15:00:00Z")
        ],
        "what is told to come is to come"
    );
}

#[test]
fn once_leaves_what_waits_for_a_file_that_is_on_its_way() {
    let world = World::new(vec![nightly("a")]);
    world.keep("2026-11-22T02:00:00Z", Duration::from_mins(32), End::Dies);
    let died = moment("2026-11-22T02:40:00Z");
    // At the first look it is not there.
    let world = World {
        files: Arc::new(move |now| {
            if now == died {
                Vec::new()
            } else {
                vec![nightly("a")]
            }
        }),
        ..world.once()
    };
    assert_eq!(
        world.keep(&died.to_string(), DAY, End::Dies),
        Some(Exit::Complete)
    );
    assert_eq!(world.firings("a")[0].status, FiringStatus::Done);
    // One that has gone for good is left out.
    world.keep("2026-11-23T02:30:00Z", Duration::from_mins(2), End::Dies);
    assert_eq!(world.firings("a")[1].status, FiringStatus::Begun);
    let world = World {
        files: Arc::new(|_| Vec::new()),
        ..world
    };
    world.keep("2026-11-23T09:00:00Z", DAY, End::Dies);
    assert_eq!(world.firings("a")[1].status, FiringStatus::Skipped);
}

#[test]
fn the_end_of_a_run_that_nobody_could_tell_of_is_owed_to_those_who_want_to_hear() {
    use gleaner::store::alerts::Channel;
    let world = World::new(vec![nightly("a"), nightly("b")]).does("a", Does::Ends(Exit::Failed));
    // The runs have ended, and the scheduler dies before it hears of that.
    world.keep(
        "2026-11-22T02:00:00Z",
        Duration::from_secs(35 * 60 + 10),
        End::Dies,
    );
    assert_eq!(world.firings("a")[0].status, FiringStatus::Begun);
    world.keep("2026-11-22T09:00:00Z", HOUR, End::Dies);
    assert_eq!(world.times("a"), ["22T02:30"], "it is not run again");
    let state = world.state();
    let alert = state.alert("a").expect("readable").expect("written");
    assert_eq!(
        (alert.condition.as_str(), alert.run.as_deref()),
        ("failed", Some("a-0"))
    );
    assert!(
        Channel::ALL
            .into_iter()
            .all(|channel| alert.is_owed(channel))
    );
    let well = state.alert("b").expect("readable").expect("written");
    assert!(
        !Channel::ALL
            .into_iter()
            .any(|channel| well.is_owed(channel))
    );
}
