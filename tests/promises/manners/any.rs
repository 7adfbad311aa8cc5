//! Any limits, any weather, any fate of the runs: what the server may see holds in all of them.
//! And two ways to break the law, which the same suite must find.

use std::sync::Arc;
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::failure::Exit;
use gleaner::harvest::events::Events;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::fault::Of;
use gleaner::sim::limit::WindowStyle;
use gleaner::sim::{Fault, FaultRule, Latency, MemoryTransport, Route, Rules, ServerLimit, SimApi};

use super::super::fixture::plan;
use super::super::way::{Calls, Far, Tells, Way};
use super::{MS, SEC, pipeline, rules};
use gleaner::sim::in_stopped_time;

/// Written and meant.
const WINDOWS: [(&str, Duration); 10] = [
    ("500ms", Duration::from_millis(500)),
    ("s", Duration::from_secs(1)),
    ("2500ms", Duration::from_millis(2500)),
    ("10s", Duration::from_secs(10)),
    ("min", Duration::from_mins(1)),
    ("7min", Duration::from_mins(7)),
    ("15min", Duration::from_mins(15)),
    ("h", Duration::from_hours(1)),
    ("6h", Duration::from_hours(6)),
    ("d", Duration::from_hours(24)),
];
/// The first of them that are short enough for runs that share a book: they look into it four
/// times a second, in stopped time too.
const SHORT: usize = 5;

/// A limit as it is declared.
#[derive(Debug)]
struct Declared {
    yaml: String,
    calls: usize,
    window: Duration,
    /// The size of its bucket, if it is one.
    bucket: Option<usize>,
}

/// What becomes of the runs on one key.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// One, to its end.
    Alone,
    /// One is asked to stop after this time, in the middle of its windows; then one anew.
    Restarted(Duration),
    /// One is gone from one moment to the next; then one anew.
    Cut(Duration),
    /// So many at once, the first of which is gone after this time.
    Together(usize, Duration),
}

/// A case, drawn from a seed.
#[derive(Debug)]
struct Case {
    seed: u64,
    declared: Vec<Declared>,
    count: usize,
    concurrency: usize,
    latency: (Duration, Duration),
    travel: Duration,
    /// Whether some requests are never answered, so that they are given up.
    stalls: bool,
    /// Whether the server allows only half of what is declared.
    refuses: bool,
    fate: Fate,
}

impl Case {
    /// One run alone, or several that share a book.
    fn drawn(seed: u64, is_alone: bool) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let soon = dice.u32(50..40_000) * MS;
        let fate = match dice.u32(0..3) {
            _ if is_alone => Fate::Alone,
            0 => Fate::Restarted(soon),
            1 => Fate::Cut(soon),
            _ => Fate::Together(dice.usize(2..=4), soon),
        };
        let windows = &WINDOWS[..if is_alone { WINDOWS.len() } else { SHORT }];
        let declared = (0..dice.usize(1..=4))
            .map(|_| {
                let (written, window) = windows[dice.usize(..windows.len())];
                let few = if is_alone || window <= 10 * SEC { 1 } else { 8 };
                let calls = dice.usize(few..=40);
                let bucket = (dice.u32(0..5) == 0).then(|| dice.usize(1..=30));
                let kept = match bucket {
                    Some(size) => format!(", burst: {size}"),
                    None => ["", ", spread: true", ", spread: false", ", strict: true"]
                        [dice.usize(..4)]
                    .to_owned(),
                };
                Declared {
                    yaml: format!("{{ limit: {calls}/{written}{kept} }}"),
                    calls,
                    window,
                    bucket,
                }
            })
            .collect();
        // Half of them with round trips that come to be believed: calm, and many of them.
        let is_calm = dice.bool();
        let slow = match (is_calm, is_alone) {
            (true, _) => 60,
            (false, true) => 3000,
            (false, false) => 400,
        };
        Self {
            seed,
            declared,
            count: if is_calm && is_alone { 220 } else { 60 } + dice.usize(..60),
            concurrency: dice.usize(1..=24),
            latency: (dice.u32(0..40) * MS, dice.u32(40..slow) * MS),
            travel: dice.u32(0..if is_calm { 30 } else { 900 }) * MS,
            stalls: dice.bool(),
            refuses: dice.u32(0..4) == 0,
            fate,
        }
    }

    /// The server's own limits; a bucket is only looked at afterwards.
    fn server(&self) -> Vec<ServerLimit> {
        let mut dice = fastrand::Rng::with_seed(self.seed ^ 0x5eed);
        let windows = self.declared.iter().filter(|one| one.bucket.is_none());
        windows
            .map(|one| {
                let calls = if self.refuses {
                    one.calls.div_ceil(2)
                } else {
                    one.calls
                };
                let mut limit = ServerLimit::sliding(calls, one.window);
                if dice.bool() {
                    limit.style = WindowStyle::Fixed {
                        phase: one.window.mul_f64(dice.f64()),
                    };
                }
                limit
            })
            .collect()
    }

    fn rules(&self) -> Rules {
        let (low, high) = self.latency;
        let mut rules = rules();
        let moved = Route {
            path: "/moved/{n}".to_owned(),
            ..rules.routes[0].clone()
        };
        rules.routes.push(moved);
        rules.limits = self.server();
        rules.latency = Latency::Between(low, high, self.seed);
        rules.faults = vec![
            FaultRule::every(11, Fault::status(503)),
            FaultRule::every(13, Fault::Reset),
            FaultRule::every(17, Fault::TruncatedBody),
            FaultRule {
                of: Of::Containing("/a/".to_owned()),
                ..FaultRule::every(19, Fault::Redirect("/moved/0".to_owned()))
            },
        ];
        if self.stalls {
            rules.faults.push(FaultRule::every(53, Fault::Stall));
        }
        rules
    }

    fn yaml(&self) -> String {
        let declared: Vec<&str> = self.declared.iter().map(|one| one.yaml.as_str()).collect();
        let limits = format!("[{}]", declared.join(", "));
        pipeline(&limits, self.concurrency, self.count)
    }

    /// Lets the runs happen, and gives what the server and the programs saw.
    fn play(&self, tells: Tells) -> Played {
        fastrand::seed(self.seed);
        in_stopped_time(async {
            let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
            let api = SimApi::with_clock(self.rules(), clock);
            let way = Way::of(self.travel, self.seed).held_up(500).tells(tells);
            let far = Far::new(MemoryTransport::shared(Arc::clone(&api)), clock, way);
            let scene = Stage {
                yaml: self.yaml(),
                count: self.count,
                clock,
                calls: far.calls(),
                far: Arc::new(far),
                book: tempfile::tempdir().expect("a folder"),
                is_told_the_truth: tells == Tells::Truth,
            };
            let cut = |after: Duration| {
                let run = scene.run(None, true);
                // It may be done by then.
                async move { clock.timeout(after, run).await.unwrap_or_default() }
            };
            match self.fate {
                Fate::Alone => scene.run(None, false).await,
                Fate::Restarted(after) => {
                    scene.run(Some(after), true).await;
                    scene.run(None, true).await;
                }
                Fate::Cut(after) => {
                    cut(after).await;
                    scene.run(None, true).await;
                }
                Fate::Together(many, after) => {
                    let others = (1..many).map(|_| scene.run(None, true));
                    let others = futures_util::future::join_all(others);
                    futures_util::future::join(cut(after), others).await;
                }
            }
            Played {
                api,
                calls: scene.calls,
            }
        })
    }

    /// How many runs are under way at once.
    fn at_once(&self) -> usize {
        match self.fate {
            Fate::Together(many, _) => many,
            // What was cut off is still being answered.
            Fate::Cut(_) => 2,
            _ => 1,
        }
    }

    /// All that the server may not see, as far as it was seen.
    fn breaches(&self, played: &Played) -> Vec<String> {
        let audit = played.api.audit();
        let mut breaches = Vec::new();
        let mut found = |what: String| breaches.push(format!("{what} in {self:?}"));
        for one in &self.declared {
            if let Some(size) = one.bucket {
                let held = audit.max_in_bucket(one.calls, one.window);
                if held > size as f64 + 1e-6 {
                    found(format!("{held} in the bucket of {}", one.yaml));
                }
                continue;
            }
            let (sliding, fixed) = (
                audit.max_in_window(one.window),
                audit.max_in_fixed_window(one.window),
            );
            if sliding.max(fixed) > one.calls {
                found(format!(
                    "{sliding} in some window, {fixed} in a laid one of {}",
                    one.yaml
                ));
            }
        }
        if !self.refuses && audit.refusals() > 0 {
            found(format!("{} refusals", audit.refusals()));
        }
        let inside = played.calls.inside_a_pause();
        if inside > 0 {
            found(format!("{inside} calls inside a pause"));
        }
        // One that was given up is over for us, and not for the server.
        let flying = audit.in_flight_max();
        if !self.stalls && flying > self.concurrency * self.at_once() {
            found(format!("{flying} in flight"));
        }
        breaches
    }
}

struct Played {
    api: Arc<SimApi>,
    calls: Calls,
}

/// What runs on one key share.
struct Stage {
    yaml: String,
    count: usize,
    clock: Clock,
    far: Arc<Far>,
    calls: Calls,
    book: tempfile::TempDir,
    /// Then all of them must come to a good end.
    is_told_the_truth: bool,
}

impl Stage {
    /// A run to its end, or one that is asked to stop; `booked` shares its limits with others.
    async fn run(&self, stop_after: Option<Duration>, booked: bool) {
        let root = tempfile::tempdir().expect("a folder");
        let (asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock: self.clock,
            transport: Arc::clone(&self.far) as _,
            disk: gleaner::disk::Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(self.clock, |_| {}),
            stop,
        };
        let options = Options {
            limits: booked.then(|| self.book.path().to_owned()),
            ..Options::default()
        };
        let harvest = Harvest::open(plan(&self.yaml), world, options)
            .unwrap_or_else(|failure| panic!("{failure:#?}"));
        let run = harvest.run();
        let Some(after) = stop_after else {
            let summary = run.await;
            if !self.is_told_the_truth {
                return;
            }
            assert_eq!(summary.exit, Exit::Complete, "{:#?}", summary.streams);
            let rows = std::fs::read_to_string(root.path().join("out/a.ndjson"));
            assert_eq!(rows.expect("it is there").lines().count(), self.count);
            return;
        };
        let stopper = async {
            self.clock.sleep_until(self.clock.now() + after).await;
            asks.send_replace(true);
        };
        futures_util::future::join(run, stopper).await;
    }
}

fn unbroken(cases: impl Iterator<Item = Case>) {
    let (mut faults, mut pauses) = (0, 0);
    for case in cases {
        let played = case.play(Tells::Truth);
        assert_eq!(case.breaches(&played), Vec::<String>::new());
        faults += played.api.audit().faults();
        pauses += played.calls.refusals();
    }
    assert!(faults > 500 && pauses > 20, "{faults} {pauses}");
}

#[test]
fn a_run_alone_breaks_no_limit() {
    unbroken((0..36).map(|seed| Case::drawn(seed, true)));
}

#[test]
fn runs_that_share_a_book_are_stopped_or_cut_off_break_no_limit() {
    unbroken((0..14).map(|seed| Case::drawn(seed, false)));
}

/// The suite has teeth: the law without its margin, and a run that is deaf to refusals, fail it.
#[test]
fn without_the_margin_or_the_pauses_limits_are_broken() {
    let broken = |tells, of: &str| {
        let breaches = (0..24).flat_map(|seed| {
            let case = Case::drawn(seed, true);
            let played = case.play(tells);
            case.breaches(&played)
        });
        breaches.filter(|what| what.contains(of)).count()
    };
    let margin = broken(Tells::Haste, "in some window");
    let pauses = broken(Tells::NoRefusal, "inside a pause");
    assert!(margin > 10 && pauses > 3, "{margin} {pauses}");
}
