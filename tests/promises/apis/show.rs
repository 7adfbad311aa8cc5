//! One harvest of a play, in stopped time, and whether it kept what it should.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::failure::Exit;
use gleaner::harvest::events::Events;
use gleaner::harvest::summary::Summary;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::plan::Plan;
use gleaner::plan::compile::{Overrides, compile};
use gleaner::plan::limit::{Counting, LimitPlan, LimitWhen};
use gleaner::sim::{Latency, MemoryTransport, Route, Rules, SimApi};
use gleaner::spec::diagnostic::SourceText;
use gleaner::spec::load;

use super::deal::Sets;
use super::play::{Expect, Pair, Play};
use super::stage::{self, Stage, Upset};
use super::table::table;
use gleaner::sim::in_stopped_time;

/// What the files of a play know as `private_key`.
const PRIVATE_KEY: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/certs/server.key"
));

/// A pair with its records made.
#[derive(Clone, Copy)]
pub(crate) struct Cast {
    pub(crate) pair: &'static Pair,
    pub(crate) sets: &'static Sets,
}

impl Cast {
    pub(crate) fn new(pair: &'static Pair) -> Self {
        // Plays are few, are read once, and live as long as the suite.
        let sets = Box::leak(Box::new(Sets::new(&pair.play)));
        Self { pair, sets }
    }
}

/// What a run left behind.
pub(crate) struct Show {
    pub(crate) summary: Summary,
    pub(crate) stage: Arc<Stage>,
    pub(crate) api: Arc<SimApi>,
    pub(crate) root: tempfile::TempDir,
}

/// The plan of a pipeline, or its mistakes.
pub(crate) fn plan(name: &str, yaml: &str) -> Result<Plan, String> {
    let text = SourceText {
        path: format!("{name}.yaml").into(),
        text: yaml.to_owned(),
    };
    let told = |shown: String| {
        let lines = shown
            .lines()
            .filter_map(|line| line.trim().strip_prefix("message: "));
        lines.collect::<Vec<_>>().join("; ")
    };
    let written = load::parse(text).map_err(|mistakes| told(format!("{mistakes:#?}")))?;
    compile(&written, &Overrides::default()).map_err(|mistakes| told(format!("{mistakes:#?}")))
}

/// Runs a pipeline against its play.
pub(crate) fn perform(cast: Cast, pipeline: Plan, upset: Upset) -> Result<Show, String> {
    let play = &cast.pair.play;
    let root = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    for (path, text) in &play.files {
        let names = minijinja::context! { private_key => PRIVATE_KEY };
        write(path, &text.text(&names, &[]).unwrap_or_default());
        // Files with keys in them must be the user's alone.
        let mine = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(root.path().join(path), mine).expect("its own");
    }
    let mut env = String::new();
    for (name, value) in &play.env {
        let _ = writeln!(env, "{name}={value}");
    }
    write(".env", &env);
    in_stopped_time(async {
        let now = play.now.as_deref().unwrap_or("2026-11-22T02:30:00Z");
        let clock = Clock::simulated(now.parse().expect("an instant"));
        let stage = Arc::new(Stage::new(play, cast.sets, clock, upset));
        let acts = Arc::clone(&stage);
        let slowest = Duration::from_millis(play.slowest_ms);
        let rules = Rules {
            routes: vec![Route::custom(
                "/*",
                Arc::new(move |request| acts.answer(request)),
            )],
            latency: Latency::Between(Duration::from_millis(20), slowest, 7),
            gzip: true,
            ..Rules::default()
        };
        let api = SimApi::with_clock(rules, clock);
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock,
            transport: MemoryTransport::shared(Arc::clone(&api)),
            disk: Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(clock, |_| {}),
            stop,
        };
        let harvest =
            Harvest::open(pipeline, world, Options::default()).map_err(|f| format!("{f:?}"))?;
        let summary = harvest.run().await;
        Ok(Show {
            summary,
            stage,
            api,
            root,
        })
    })
}

impl Show {
    /// What failed, in words.
    pub(crate) fn failures(&self) -> String {
        let all: Vec<String> = self
            .summary
            .streams
            .iter()
            .filter_map(|stream| stream.failure.as_ref())
            .map(|failure| format!("{failure:?}"))
            .collect();
        all.join("\n")
    }

    /// Everything that must hold, whatever went wrong on the way.
    pub(crate) fn judge(
        &self,
        cast: Cast,
        own: &[LimitPlan],
        contact: Option<&str>,
    ) -> Result<(), String> {
        let play = &cast.pair.play;
        if self.summary.exit != Exit::Complete {
            return Err(format!(
                "{:?}: {}\nrefused: {:#?}",
                self.summary.exit,
                self.failures(),
                self.stage.refused()
            ));
        }
        if let Some(refused) = self.stage.refused().first() {
            return Err(format!("the API refused {refused}"));
        }
        self.manners(play, own, contact)?;
        for (stream, expect) in &play.expect {
            self.rows(cast, stream, expect)
                .map_err(|why| format!("{stream}: {why}"))?;
        }
        for stream in &self.summary.streams {
            if !stream.files.is_empty() && !play.expect.contains_key(&*stream.stream) {
                return Err(format!(
                    "nothing is said of what {} must bring",
                    stream.stream
                ));
            }
        }
        Ok(())
    }

    /// A calm run asks for no more than it needs, and is as quick as the limits allow.
    pub(crate) fn swift(&self, play: &Play) -> Result<(), String> {
        let asked = self.api.audit().requests();
        if play.requests.is_some_and(|most| asked > most) {
            return Err(format!("asked {asked} times"));
        }
        let Some(within) = &play.within else {
            return Ok(());
        };
        let most = gleaner::plan::duration::parse(within).map_err(|e| format!("within: {e}"))?;
        let arrivals = self.api.audit().arrivals();
        let took = match (arrivals.first(), arrivals.last()) {
            (Some(first), Some(last)) => last.saturating_duration_since(*first),
            _ => Duration::ZERO,
        };
        if took > most {
            return Err(format!("took {took:?}, where {within} is enough"));
        }
        Ok(())
    }

    /// The audit by all limits that are counted in calls: those the API documents and the file's own.
    fn manners(&self, play: &Play, own: &[LimitPlan], contact: Option<&str>) -> Result<(), String> {
        let audit = self.api.audit();
        let entries = audit.entries();
        let origins: BTreeSet<&str> = entries.iter().map(|entry| &*entry.origin).collect();
        let documented = play.limits.iter().map(|limit| {
            let simple =
                !limit.told && limit.per.is_none() && limit.cost.is_none() && limit.burst.is_none();
            (
                stage::plan(limit),
                limit.under.clone().unwrap_or_default(),
                simple,
            )
        });
        let declared = own.iter().cloned().map(|limit| {
            let always = limit.when == LimitWhen::Always;
            let simple = limit.routes.is_empty()
                && limit.per.is_none()
                && always
                && matches!(limit.counting, Counting::Window | Counting::InFlight);
            (limit, String::new(), simple)
        });
        for (limit, under, simple) in documented.chain(declared) {
            if !simple || limit.unit.is_some() {
                continue;
            }
            let seen = match limit.counting {
                Counting::InFlight => audit.in_flight_max(),
                // Each origin has a budget of its own, as it has unless `per` says otherwise.
                _ => origins
                    .iter()
                    .map(|origin| audit.max_in_window_at(origin, &under, limit.window))
                    .max()
                    .unwrap_or_default(),
            };
            if seen > limit.calls.get() as usize {
                return Err(format!(
                    "{seen} requests where {} is allowed",
                    limit.written
                ));
            }
        }
        if let Some(contact) = contact {
            let silent = audit.entries().into_iter().find(|entry| {
                let agent = entry.user_agent.as_deref().unwrap_or_default();
                !agent.contains(contact)
            });
            if let Some(entry) = silent {
                return Err(format!("{} does not name the contact", entry.target));
            }
        }
        match self.stage.early() {
            0 => Ok(()),
            early => Err(format!(
                "{early} requests in a pause that the API asked for"
            )),
        }
    }

    fn rows(&self, cast: Cast, stream: &str, expect: &Expect) -> Result<(), String> {
        let mut wanted = cast.sets.rows(expect);
        if wanted.len() != expect.rows {
            return Err(format!(
                "the play makes {} rows and says {}",
                wanted.len(),
                expect.rows
            ));
        }
        let summary = self
            .summary
            .streams
            .iter()
            .find(|one| *one.stream == *stream);
        let summary = summary.ok_or("no such stream")?;
        // Of a table that several streams write the first tells.
        let first = summary.table.as_ref();
        let mut all = self.summary.streams.iter();
        let first = first.and_then(|first| all.find(|one| one.stream == *first));
        let files = &first.unwrap_or(summary).files;
        let file = files.first().ok_or("nothing was published")?;
        let table = table(&self.root.path().join(&file.path))?;
        let mut found = Vec::new();
        for row in &table {
            let cell = |column: &String| {
                let known = row.get(column).cloned();
                known.ok_or_else(|| format!("no column {column} in {row:?}"))
            };
            found.push(
                expect
                    .cells
                    .keys()
                    .map(cell)
                    .collect::<Result<Vec<_>, _>>()?,
            );
        }
        wanted.sort();
        found.sort();
        if wanted == found {
            return Ok(());
        }
        let missing = wanted.iter().find(|row| found.binary_search(row).is_err());
        let extra = found.iter().find(|row| wanted.binary_search(row).is_err());
        Err(format!(
            "{} rows, {} wanted, of {:?}; missing {missing:?}, too many {extra:?}",
            found.len(),
            wanted.len(),
            expect.cells.keys()
        ))
    }
}

/// A documented limit must be among those that the file declares, as it is or tighter.
pub(crate) fn declares(play: &Play, own: &[LimitPlan]) -> Result<(), String> {
    if play.limits.is_empty() == play.unpublished.is_none() {
        return Err("a play has `limits`, or says in `unpublished` why not".to_owned());
    }
    for limit in play.limits.iter().filter(|limit| !limit.told) {
        let wanted = stage::plan(limit);
        let in_flight = matches!(wanted.counting, Counting::InFlight);
        let kept = own.iter().any(|one| {
            matches!(one.counting, Counting::InFlight) == in_flight
                && one.unit == wanted.unit
                && one.window == wanted.window
                && one.calls <= wanted.calls
        });
        if !kept {
            return Err(format!(
                "the documented limit {} is not declared",
                limit.written
            ));
        }
    }
    Ok(())
}

/// The pipeline without a key, wherever it stands; `limits` must be said, so it becomes `none`.
pub(crate) fn without(yaml: &str, key: &str) -> String {
    let mut kept = Vec::new();
    let mut skipping: Option<usize> = None;
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(depth) = skipping {
            if line.trim().is_empty() || indent > depth {
                continue;
            }
            skipping = None;
        }
        if line.trim_start().starts_with(&format!("{key}:")) {
            skipping = Some(indent);
            if key == "limits" {
                kept.push(format!("{}limits: none", " ".repeat(indent)));
            }
            continue;
        }
        kept.push(line.to_owned());
    }
    kept.join("\n") + "\n"
}
