//! Nothing lost, nothing twice, of the whole: a harvest over a pretend network and a pretend disk,
//! whose power goes before each operation in turn, run again until it is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::failure::Exit;
use gleaner::harvest::events::Events;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::{
    Dataset, Latency, Listing, Loss, MemoryTransport, Paging, Route, Rules, SimApi, SimDisk,
    Trouble,
};

use super::fixture::plan;

const PIPELINE: &str = "
source: { url: https://api.test, limits: none, retry: { attempts: 1 } }
streams:
  a: { get: /a, records: data, pages: { page: { to: page, total: n } }, sink: { ndjson: data/a.ndjson } }
  b: { get: /b, records: data, pages: { page: { to: page, total: n } }, sink: { csv: out/deep/b.csv }, columns: { id: , name: } }
";

fn rules() -> Rules {
    let listing = |seed: u64, count: usize| {
        let records =
            (0..count).map(|n| format!(r#"{{"id":{n},"name":"{seed} {}"}}"#, "n".repeat(n)));
        Listing::new(
            Arc::new(Dataset::from_texts(records)),
            Paging::page_total("n"),
        )
        .size(4)
    };
    Rules {
        routes: vec![
            Route::list("/a", listing(1, 14)),
            Route::list("/b", listing(2, 9)),
        ],
        // Slow enough that pages are committed one by one.
        latency: Latency::Fixed(Duration::from_millis(300)),
        ..Rules::default()
    }
}

/// One process: how it ended, and the requests that it sent.
fn harvest(disk: &SimDisk) -> (Exit, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let api = SimApi::with_clock(rules(), clock);
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock,
            transport: MemoryTransport::shared(Arc::clone(&api)),
            disk: disk.door(),
            root: Path::new("/p").to_owned(),
            events: Events::new(clock, |_| {}),
            stop,
        };
        let exit = match Harvest::open(plan(PIPELINE), world, Options::default()) {
            Ok(harvest) => harvest.run().await.exit,
            Err(failure) => failure.exit,
        };
        let entries = api.audit().entries();
        (
            exit,
            entries.into_iter().map(|entry| entry.target).collect(),
        )
    })
}

/// The outputs, and what else is left.
fn files(disk: &SimDisk) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (outputs, rest): (Vec<_>, Vec<_>) = disk
        .files()
        .into_iter()
        .map(|(path, bytes)| (path.display().to_string(), bytes))
        .partition(|(path, _)| ["/p/data/a.ndjson", "/p/out/deep/b.csv"].contains(&path.as_str()));
    let rest = rest.into_iter().map(|(path, _)| path);
    let rest = rest.filter(|path| !path.ends_with(".lock") && !path.ends_with("state.db"));
    (outputs.into_iter().collect(), rest.collect())
}

#[test]
fn a_harvest_that_lost_power_anywhere_ends_as_if_it_had_not() {
    let undisturbed = SimDisk::new(Path::new("/p"));
    let (exit, sent) = harvest(&undisturbed);
    assert_eq!(exit, Exit::Complete);
    let (truth, rest) = files(&undisturbed);
    assert_eq!((truth.len(), rest.len()), (2, 0), "{rest:?}");
    assert_eq!(sent.len(), 7, "{sent:?}");
    let mut spared = 0;
    for at in 1_u64.. {
        let mut was_cut = false;
        // A different loss at each place, and all of them over three places in a row.
        for loss in Loss::all()
            .skip(usize::try_from(at % 3).expect("small"))
            .step_by(3)
        {
            let told = format!("before operation {at}, {loss:?}");
            let disk = SimDisk::new(Path::new("/p"));
            disk.set_trouble(Trouble::Power(at));
            let (exit, _) = harvest(&disk);
            was_cut |= disk.operations() >= at;
            disk.crash(loss);
            let (found, _) = files(&disk);
            if exit == Exit::Complete {
                assert_eq!(found, truth, "{told}: called complete");
            }
            for (path, bytes) in found {
                assert_eq!(bytes, truth[&path], "{told}: {path}");
            }
            let (exit, again) = harvest(&disk);
            assert_eq!(exit, Exit::Complete, "{told}");
            let (found, rest) = files(&disk);
            assert_eq!(found, truth, "{told}");
            assert_eq!(rest, [""; 0], "{told}");
            spared += u32::from(!again.is_empty() && again.len() < sent.len());
        }
        if !was_cut {
            break;
        }
    }
    assert!(spared > 20, "only {spared} runs went on with anything");
}
