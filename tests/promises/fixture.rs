//! What the suites share: a pipeline as text, run against a pretend API in stopped time.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::event::{Event, Fact};
use gleaner::failure::{Exit, Failure};
use gleaner::fetch::transport::SharedTransport;
use gleaner::harvest::events::Events;
use gleaner::harvest::summary::{StreamSummary, Summary};
use gleaner::harvest::{Harvest, Options, World};
use gleaner::plan::Plan;
use gleaner::plan::compile::{Overrides, compile};
use gleaner::sim::{
    Dataset, FaultRule, Listing, MemoryTransport, Paging, Route, Rules, SimApi, in_stopped_time,
};
use gleaner::spec::diagnostic::SourceText;
use gleaner::spec::load;
use jiff::SignedDuration;

use super::way::{Far, Way};

/// Forty records by pages of ten at `path`, with a total; and what goes wrong there.
pub(crate) fn forty(path: &str, faults: Vec<FaultRule>) -> Rules {
    let data = Dataset::from_texts((1..=40).map(|id| format!(r#"{{"id":{id}}}"#)));
    let listing = Listing::new(data, Paging::page_total("n")).size(10);
    Rules {
        routes: vec![Route::list(path, listing)],
        faults,
        ..Rules::default()
    }
}

/// The plan of a pipeline that has no mistakes.
pub(crate) fn plan(yaml: &str) -> Plan {
    let written = load::parse(SourceText {
        path: "pipelines/p.yaml".into(),
        text: yaml.to_owned(),
    })
    .unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{yaml}"));
    compile(&written, &Overrides::default())
        .unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{yaml}"))
}

/// A run that has not begun.
pub(crate) struct Scene<'a> {
    yaml: &'a str,
    rules: Rules,
    options: Options,
    files: Vec<(&'a str, &'a str)>,
    modes: Vec<(&'a str, u32)>,
    stop_after: Option<Duration>,
    way: Option<Way>,
    over: Option<Over>,
    root: Option<tempfile::TempDir>,
    begins: &'a str,
    set: Vec<(Duration, SignedDuration)>,
    told_for: Duration,
}

/// What is put over the transport.
type Over = Box<dyn FnOnce(SharedTransport) -> SharedTransport>;

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) summary: Summary,
    pub(crate) events: Vec<Event>,
    pub(crate) api: Arc<SimApi>,
    pub(crate) root: tempfile::TempDir,
}

/// Runs a pipeline against `rules`.
pub(crate) fn run(yaml: &str, rules: Rules) -> Ran {
    Scene::new(yaml, rules).run()
}

impl<'a> Scene<'a> {
    pub(crate) fn new(yaml: &'a str, rules: Rules) -> Self {
        Self {
            yaml,
            rules,
            options: Options::default(),
            files: Vec::new(),
            modes: Vec::new(),
            stop_after: None,
            way: None,
            over: None,
            root: None,
            begins: "2026-11-22T02:30:00Z",
            set: Vec::new(),
            told_for: Duration::ZERO,
        }
    }

    /// It must end within `most` of its beginning, and between its opening and that somebody is told of it for
    /// `told_for`.
    pub(crate) fn deadline(mut self, most: Duration, told_for: Duration) -> Self {
        self.options.deadline = Some(most);
        self.told_for = told_for;
        self
    }

    /// In the project that another run left behind.
    pub(crate) fn within(mut self, root: tempfile::TempDir) -> Self {
        self.root = Some(root);
        self
    }

    /// At this time of the calendar.
    pub(crate) fn at(mut self, begins: &'a str) -> Self {
        self.begins = begins;
        self
    }

    /// Puts a transport of the test's own over the pretend API's.
    pub(crate) fn over(
        mut self,
        over: impl FnOnce(SharedTransport) -> SharedTransport + 'static,
    ) -> Self {
        self.over = Some(Box::new(over));
        self
    }

    /// Somebody sets the client's calendar, this long after the start by so much.
    pub(crate) fn set(mut self, times: &[(Duration, SignedDuration)]) -> Self {
        self.set = times.to_vec();
        self
    }

    /// At most so many records a stream.
    pub(crate) fn limit_records(mut self, most: u64) -> Self {
        self.options.limit_records = Some(most);
        self
    }

    /// An unfinished run is given up.
    pub(crate) fn fresh(mut self) -> Self {
        self.options.fresh = true;
        self
    }

    /// Only these streams.
    pub(crate) fn only(mut self, streams: &[&str]) -> Self {
        self.options.streams = streams.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// A file that is there before the run.
    pub(crate) fn file(mut self, path: &'a str, text: &'a str) -> Self {
        self.files.push((path, text));
        self
    }

    /// With these permissions, of a file that is there before the run.
    pub(crate) fn chmod(mut self, path: &'a str, mode: u32) -> Self {
        self.modes.push((path, mode));
        self
    }

    /// Somebody asks for a graceful stop this long after the start.
    pub(crate) fn stop_after(mut self, wait: Duration) -> Self {
        self.stop_after = Some(wait);
        self
    }

    /// Requests are on their way for up to `most` before they arrive, drawn from `seed`.
    pub(crate) fn travel(self, most: Duration, seed: u64) -> Self {
        self.way(Way::of(most, seed))
    }

    /// Requests go this way.
    pub(crate) fn way(mut self, way: Way) -> Self {
        self.way = Some(way);
        self
    }

    pub(crate) fn run(self) -> Ran {
        let fresh = || tempfile::tempdir().expect("a temporary folder");
        let root = self.root.unwrap_or_else(fresh);
        for (path, text) in &self.files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        for (path, mode) in &self.modes {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(*mode);
            fs::set_permissions(root.path().join(path), mode).expect("changed");
        }
        let plan = plan(self.yaml);
        let events = Arc::new(Mutex::new(Vec::new()));
        let (summary, api) = in_stopped_time(async {
            let begins = self.begins.parse().expect("an instant");
            let api = SimApi::with_clock(self.rules, Clock::simulated(begins));
            let clock = Clock::adjustable(begins);
            let (asks, stop) = tokio::sync::watch::channel(false);
            let heard = Arc::clone(&events);
            let near = MemoryTransport::shared(Arc::clone(&api));
            let transport = match self.way {
                None => near,
                Some(way) => Arc::new(Far::new(near, clock, way)),
            };
            let transport = match self.over {
                None => transport,
                Some(over) => over(transport),
            };
            let world = World {
                clock,
                transport,
                disk: Disk::system(),
                root: root.path().to_owned(),
                events: Events::new(clock, move |event| {
                    heard.lock().expect("no panic").push(event.clone());
                }),
                stop,
            };
            for (after, by) in self.set {
                let at = clock.now() + after;
                tokio::spawn(async move {
                    clock.sleep_until(at).await;
                    clock.set(by);
                });
            }
            let harvest = Harvest::open(plan, world, self.options)
                .unwrap_or_else(|failure| panic!("{failure:#?}"));
            clock.sleep_until(clock.now() + self.told_for).await;
            let run = harvest.run();
            let summary = match self.stop_after {
                None => run.await,
                Some(wait) => {
                    let at = clock.now() + wait;
                    let stopper = async {
                        clock.sleep_until(at).await;
                        asks.send_replace(true);
                        // Whoever waits for what never comes would wait here for ever.
                        clock.sleep_until(at + Duration::from_hours(24)).await;
                        panic!("asked to stop, it did not end in a day")
                    };
                    let (run, stopper) = (pin!(run), pin!(stopper));
                    let ended = futures_util::future::select(run, stopper).await;
                    ended.factor_first().0
                }
            };
            (summary, api)
        });
        let events = std::mem::take(&mut *events.lock().expect("no panic"));
        Ran {
            summary,
            events,
            api,
            root,
        }
    }
}

impl Ran {
    /// The run is complete; anything else is told in full.
    pub(crate) fn complete(self) -> Self {
        assert_eq!(
            self.summary.exit,
            Exit::Complete,
            "{:#?}",
            self.summary
                .streams
                .iter()
                .filter_map(|stream| stream.failure.as_ref())
                .collect::<Vec<_>>()
        );
        self
    }

    pub(crate) fn stream(&self, name: &str) -> &StreamSummary {
        let found = self.summary.streams.iter().find(|s| &*s.stream == name);
        found.unwrap_or_else(|| panic!("no stream {name}"))
    }

    /// Why the stream `a` failed.
    pub(crate) fn failure(&self) -> &Failure {
        let failure = self.stream("a").failure.as_ref();
        failure.unwrap_or_else(|| panic!("it is complete: {:?}", self.summary))
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub(crate) fn lines(&self, path: &str) -> Vec<String> {
        self.text(path).lines().map(str::to_owned).collect()
    }

    /// How many requests the API saw.
    pub(crate) fn requests(&self) -> usize {
        self.api.audit().requests()
    }

    /// Path and query of every request, by arrival.
    pub(crate) fn targets(&self) -> Vec<String> {
        let entries = self.api.audit().entries();
        entries.into_iter().map(|entry| entry.target).collect()
    }

    /// Every file below the root, sorted, those of the run folder too.
    pub(crate) fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, into: &mut Vec<String>) {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    walk(&path, root, into);
                } else {
                    let relative = path.strip_prefix(root).expect("below the root");
                    into.push(relative.display().to_string());
                }
            }
        }
        let mut files = Vec::new();
        walk(self.root.path(), self.root.path(), &mut files);
        files.sort();
        files
    }

    pub(crate) fn facts(&self, wanted: impl Fn(&Fact) -> bool) -> usize {
        self.events
            .iter()
            .filter(|event| wanted(&event.fact))
            .count()
    }
}
