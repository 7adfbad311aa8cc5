//! As `cuts`, with records that do not fit their columns: wherever a night is cut off that rejects none, an output
//! that lacks records of the night before has them beside it.

use std::path::Path;
use std::sync::Arc;

use gleaner::failure::Exit;
use gleaner::sim::{Loss, Route, Rules, SimDisk, SimReply, Trouble};

use super::cuts::{leaves_nothing, process_of};

const PIPELINE: &str = "source: { url: https://api.test, limits: none }
streams:
  items: { get: /items, columns: { id: { type: integer, on_bad_value: reject } }, sink: [ { csv: data/items.csv }, { ndjson: data/items.ndjson } ] }
";
const OUTPUTS: [&str; 2] = ["/p/data/items.csv", "/p/data/items.ndjson"];

/// The API in a night: first one of its records has no number, then all have.
fn process(disk: &SimDisk, night: usize) -> Exit {
    let second = [r#""x""#, "2"][night];
    let body = format!(r#"[{{"id":1}},{{"id":{second}}}]"#);
    let rules = Rules {
        routes: vec![Route::custom(
            "/items",
            Arc::new(move |_| SimReply::json(200, body.clone())),
        )],
        ..Rules::default()
    };
    let now = ["2026-11-21T02:30:00Z", "2026-11-22T02:30:00Z"][night];
    process_of(disk, PIPELINE, rules, now).exit
}

/// How many records the outputs lack that are not beside them.
fn lost(disk: &SimDisk) -> usize {
    let lacks = |output: &str| {
        let text = disk.read(Path::new(output)).expect("an output");
        !String::from_utf8_lossy(&text).contains('2')
    };
    let is_beside = |output: &str| {
        let path = format!("{output}.rejects.ndjson");
        disk.read(Path::new(&path)).is_some()
    };
    let outputs = OUTPUTS.into_iter().filter(|output| lacks(output));
    outputs.filter(|output| !is_beside(output)).count()
}

#[test]
fn what_an_output_lacks_lies_beside_it_until_another_one_takes_its_place() {
    for at in 1.. {
        let mut was_cut = false;
        for loss in Loss::all().take(1).map(Some).chain([None]) {
            let disk = SimDisk::new(Path::new("/p"));
            assert_eq!(process(&disk, 0), Exit::Held, "a record is missing");
            assert_eq!(lost(&disk), 0);
            disk.set_trouble(Trouble::Power(at));
            process(&disk, 1);
            was_cut |= disk.operations() >= at;
            match loss {
                Some(loss) => disk.crash(loss),
                None => disk.kill(),
            }
            disk.set_trouble(Trouble::None);
            let what = format!("operation {at}, {loss:?}");
            assert_eq!(lost(&disk), 0, "{what}");
            assert_eq!(process(&disk, 1), Exit::Complete, "{what}");
            for output in OUTPUTS {
                let path = format!("{output}.rejects.ndjson");
                assert!(disk.read(Path::new(&path)).is_none(), "{what}: {path}");
            }
            assert_eq!(lost(&disk), 0, "{what}");
            leaves_nothing(&disk, &what);
        }
        if !was_cut {
            assert!(at > 30, "only {at} operations");
            return;
        }
    }
}
