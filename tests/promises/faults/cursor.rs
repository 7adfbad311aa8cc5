//! Fault 14: many rows with one value of the cursor, over page borders and two runs.

use std::path::Path;
use std::sync::Arc;

use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};

use super::ground::{ROOT, harvest, output, pretend};

const YAML: &str = "
source: { url: https://api.test, limits: none }
streams:
  a:
    get: /a
    records: data
    query: { since: \"{{ cursor.from }}\", size: 100 }
    pages: { page: { to: page, size: size } }
    key: id
    cursor: { field: at, start: 0, format: integer }
sink: [ { ndjson: out/b.ndjson, mode: merge }, { csv: out/b.csv, mode: merge } ]
";

/// Rows by id: forty of one second each, a thousand of one second, and forty after it.
fn rows(of_the_second: u64, after: u64) -> Vec<(u64, u64)> {
    let before = (0..40).map(|n| (n, n));
    let same = (0..of_the_second).map(|n| (1000 + n, 100));
    let later = (0..after).map(|n| (5000 + n, 200 + n));
    before.chain(same).chain(later).collect()
}

/// `since` is inclusive, the oldest come first, a hundred to a page.
fn serving(rows: Vec<(u64, u64)>) -> Rules {
    let answer = move |request: &SimRequest| {
        let number = |name: &str| {
            let text = request.param(name).expect("a parameter");
            text.parse::<u64>().expect("a number")
        };
        let (since, page) = (number("since"), number("page"));
        let skip = usize::try_from((page - 1) * 100).expect("few");
        let data: Vec<String> = rows
            .iter()
            .filter(|(_, at)| *at >= since)
            .skip(skip)
            .take(100)
            .map(|(id, at)| format!(r#"{{"id":{id},"at":{at}}}"#))
            .collect();
        SimReply::json(200, format!(r#"{{"data":[{}]}}"#, data.join(",")))
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    }
}

fn ids(text: &str) -> Vec<u64> {
    text.lines()
        .filter_map(|line| {
            let digits = line.trim_start_matches("{\"id\":");
            let end = digits.find(',')?;
            digits[..end].parse().ok()
        })
        .collect()
}

#[test]
fn f14_a_thousand_rows_of_one_second_over_page_borders_and_two_runs() {
    for first in [1, 60, 61, 555, 1000] {
        let disk = pretend();
        let root = Path::new(ROOT);
        let mut asked = Vec::new();
        // Some of that second are there in the first run, all in the second, more in the third.
        for held in [rows(first, 0), rows(1000, 0), rows(1000, 40)] {
            let came = harvest(disk.door(), root, YAML, serving(held.clone()));
            disk.kill();
            assert_eq!(came.exit(), Exit::Complete, "{first}: {}", came.said());
            asked.push(came.asked.len());
            for name in ["out/b.ndjson", "out/b.csv"] {
                let mut got = ids(&output(&disk, name));
                got.sort_unstable();
                let mut wanted: Vec<u64> = held.iter().map(|(id, _)| *id).collect();
                wanted.sort_unstable();
                assert_eq!(got, wanted, "{first}: {name}");
            }
        }
        // The second of the cursor is asked for again, and no more: ten pages and the end.
        assert!(asked[2] <= 12, "{asked:?}");
    }
}
