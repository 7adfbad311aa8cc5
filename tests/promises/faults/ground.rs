//! The ground for disk faults: the whole harvest, run again and again over one disk, pretend or
//! real, against an API of six pages that may break off.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::{Access, Disk, Open};
use gleaner::event::Fact;
use gleaner::failure::{Exit, Failure};
use gleaner::harvest::events::Events;
use gleaner::harvest::summary::Summary;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::{Latency, MemoryTransport, Route, Rules, SimApi, SimDisk, SimReply, SimRequest};

use crate::fixture::plan;
use gleaner::sim::in_stopped_time;

/// Where the project is on a pretend disk.
pub(super) const ROOT: &str = "/p";
/// The two outputs, and what stood there before.
pub(super) const OUTPUTS: [&str; 2] = ["out/a.ndjson", "out/a.csv"];
pub(super) const OLD: &str = "old\n";
/// Pages of the API.
pub(super) const PAGES: u64 = 6;

/// Six pages by token, to both sinks.
pub(super) const YAML: &str = "
source: { url: https://api.test, limits: none, retry: { attempts: 1 } }
streams:
  a:
    get: /a
    records: data
    pages: { token: { from: next, to: cursor } }
sink: [ { ndjson: out/a.ndjson }, { csv: out/a.csv } ]
";

/// What must stand in an output in the end.
pub(super) fn truth(output: &str) -> String {
    let ids = 1..=2 * PAGES;
    if output.ends_with("csv") {
        let rows: Vec<String> = ids.map(|id| format!("{id},é\r\n")).collect();
        return format!("id,t\r\n{}", rows.concat());
    }
    let rows: Vec<String> = ids
        .map(|id| format!("{{\"id\":{id},\"t\":\"é\"}}\n"))
        .collect();
    rows.concat()
}

/// The API; it answers 500 from this page on.
pub(super) fn api(breaks_at: Option<u64>) -> Rules {
    let answer = move |request: &SimRequest| {
        let page: u64 = request
            .param("cursor")
            .map_or(1, |text| text.parse().expect("a number"));
        if breaks_at.is_some_and(|at| page >= at) {
            return SimReply::error(500, "broken");
        }
        let next = if page < PAGES {
            format!("\"{}\"", page + 1)
        } else {
            "null".to_owned()
        };
        let (one, two) = (2 * page - 1, 2 * page);
        SimReply::json(
            200,
            format!(r#"{{"data":[{{"id":{one},"t":"é"}},{{"id":{two},"t":"é"}}],"next":{next}}}"#),
        )
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        // So long that each page is committed by itself.
        latency: Latency::Fixed(Duration::from_secs(1)),
        ..Rules::default()
    }
}

/// What one run came to.
pub(super) struct Came {
    /// A refusal to begin, or how it went.
    pub(super) end: Result<Summary, Box<Failure>>,
    /// The pages that were asked for.
    pub(super) asked: Vec<u64>,
    /// What was told of the data.
    pub(super) told: Vec<String>,
}

impl Came {
    pub(super) fn exit(&self) -> Exit {
        match &self.end {
            Ok(summary) => summary.exit,
            Err(failure) => failure.exit,
        }
    }

    /// All that was said of failures.
    pub(super) fn said(&self) -> String {
        match &self.end {
            Ok(summary) => {
                let streams = summary.streams.iter().filter_map(|s| s.failure.as_ref());
                format!("{:?}", streams.chain(&summary.failure).collect::<Vec<_>>())
            }
            Err(failure) => format!("{failure:?}"),
        }
    }
}

/// Runs the pipeline to its end.
pub(super) fn harvest(disk: Disk, root: &Path, yaml: &str, rules: Rules) -> Came {
    harvest_at("2026-11-22T02:30:00Z", disk, root, yaml, rules)
}

/// The same at another time.
pub(super) fn harvest_at(now: &str, disk: Disk, root: &Path, yaml: &str, rules: Rules) -> Came {
    in_stopped_time(async {
        let clock = Clock::simulated(now.parse().expect("an instant"));
        let api = SimApi::with_clock(rules, clock);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock,
            transport: MemoryTransport::shared(Arc::clone(&api)),
            disk,
            root: root.to_owned(),
            events: Events::new(clock, move |event| {
                if let Fact::Noticed { message, .. } | Fact::FellShort { message, .. } = &event.fact
                {
                    tells.lock().expect("no panic").push(message.clone());
                }
            }),
            stop,
        };
        let end = match Harvest::open(plan(yaml), world, Options::default()) {
            Ok(harvest) => Ok(harvest.run().await),
            Err(failure) => Err(failure),
        };
        let page = |target: String| match target.split_once("cursor=") {
            Some((_, page)) => page.parse().unwrap_or(0),
            None => 1,
        };
        let entries = api.audit().entries();
        let told = std::mem::take(&mut *told.lock().expect("no panic"));
        Came {
            end,
            told,
            asked: entries
                .into_iter()
                .map(|entry| page(entry.target))
                .collect(),
        }
    })
}

/// A pretend disk with the outputs of an earlier time on it.
pub(super) fn pretend() -> SimDisk {
    let disk = SimDisk::new(Path::new(ROOT));
    let door = disk.door();
    let out = Path::new(ROOT).join("out");
    door.create_folder(&out, Access::Umask).expect("a folder");
    for output in OUTPUTS {
        let file = door
            .open(&Path::new(ROOT).join(output), Open::New(Access::Umask))
            .expect("a file");
        file.append(OLD.as_bytes()).expect("written");
        file.sync_data().expect("synced");
    }
    door.sync_folder(&out).expect("synced");
    disk
}

/// What stands in an output of a pretend disk.
pub(super) fn output(disk: &SimDisk, output: &str) -> String {
    let bytes = disk.read(&Path::new(ROOT).join(output));
    let bytes = bytes.unwrap_or_else(|| panic!("{output} is gone"));
    String::from_utf8(bytes).expect("text")
}

/// Every output is what it was, or what it shall be; nothing between.
#[track_caller]
pub(super) fn are_whole(disk: &SimDisk, told: &str) {
    for name in OUTPUTS {
        let text = output(disk, name);
        assert!(
            text == OLD || text == truth(name),
            "{told}: {name} is {text:?}"
        );
    }
}

/// Every output is what it shall be.
#[track_caller]
pub(super) fn are_done(disk: &SimDisk, told: &str) {
    for name in OUTPUTS {
        assert_eq!(output(disk, name), truth(name), "{told}: {name}");
    }
}

/// A file of the only run on a pretend disk.
pub(super) fn of_the_run(disk: &SimDisk, name: &str) -> std::path::PathBuf {
    let found: Vec<_> = disk
        .files()
        .into_keys()
        .filter(|path| {
            path.starts_with(Path::new(ROOT).join(".gleaner/runs")) && path.ends_with(name)
        })
        .collect();
    let [path] = &found[..] else {
        panic!("{name}: {found:?}");
    };
    path.clone()
}
