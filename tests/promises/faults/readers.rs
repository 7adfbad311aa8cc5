//! Who opens an output at any moment of a hundred publishes reads one generation of it, to its end: in
//! every mode, format and compression.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use gleaner::disk::Disk;
use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};

use super::ground::harvest_at;

const ROWS: usize = 200;
const PUBLISHES: u32 = 100;

const YAML: &str = r#"
source: { url: https://api.test, limits: none }
defaults: { get: /a, records: data, key: n }
streams:
  replaced:
    sink: [ { csv: out/replaced.csv }, { csv: out/replaced.csv.gz }, { ndjson: out/replaced.ndjson.gz }, { ndjson: out/replaced.ndjson } ]
  merged:
    query: { since: "{{ cursor.from }}" }
    cursor: { field: generation, format: integer, start: 0 }
    sink: [ { csv: out/merged.csv, mode: merge }, { ndjson: out/merged.ndjson, mode: merge }, { csv: out/merged.csv.gz, mode: merge } ]
  added:
    query: { since: "{{ cursor.from }}" }
    cursor: { field: generation, format: integer, start: 0 }
    sink: [ { ndjson: out/added/, mode: append }, { csv: out/added-csv/, mode: append } ]
"#;

/// Files, and folders that each publish adds a file to.
const OUTPUTS: [&str; 9] = [
    "out/replaced.csv",
    "out/replaced.csv.gz",
    "out/replaced.ndjson",
    "out/replaced.ndjson.gz",
    "out/merged.csv",
    "out/merged.csv.gz",
    "out/merged.ndjson",
    "out/added",
    "out/added-csv",
];

/// Everything of this generation.
fn publish(root: &Path, generation: u32) {
    let answer = move |_: &SimRequest| {
        let rows: Vec<String> = (0..ROWS)
            .map(|n| format!(r#"{{"generation":{generation},"n":{n}}}"#))
            .collect();
        SimReply::json(200, format!(r#"{{"data":[{}]}}"#, rows.join(",")))
    };
    let rules = Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    };
    let now = format!(
        "2026-11-{:02}T{:02}:{:02}:00Z",
        20 + generation / 60 / 24,
        generation / 60,
        generation % 60
    );
    let came = harvest_at(&now, Disk::system(), root, YAML, rules);
    assert_eq!(came.exit(), Exit::Complete, "{}", came.said());
}

/// The generation that a file holds: whole, and nothing of another.
fn generation(path: &Path) -> u32 {
    let name = path.display();
    let mut file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{name} is not there: {e}"));
    let mut text = String::new();
    let read = if path.extension().is_some_and(|ending| ending == "gz") {
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)
    } else {
        file.read_to_string(&mut text)
    };
    read.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(text.ends_with('\n'), "{name} is cut off");
    let header = usize::from(name.to_string().contains("csv"));
    let rows: Vec<&str> = text.lines().skip(header).collect();
    assert_eq!(rows.len(), ROWS, "{name}");
    let digits = |row: &str| -> Vec<usize> {
        row.split(|c: char| !c.is_ascii_digit())
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    let generation = digits(rows[0])[0];
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(digits(row), [generation, n], "{name} is of two times");
    }
    u32::try_from(generation).expect("few")
}

/// What one look at an output found: the latest generation.
fn look(path: &Path, known: &mut HashSet<PathBuf>) -> u32 {
    if path.is_file() {
        return generation(path);
    }
    // Files come and stay; what has a hidden name is not there yet.
    let files = std::fs::read_dir(path).expect("it is always there");
    let files = files.map(|file| file.expect("an entry").path());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && !known.contains(&file) {
            generation(&file);
            known.insert(file);
        }
    }
    assert!(known.iter().all(|file| file.exists()), "a file is gone");
    u32::try_from(known.len()).expect("few") - 1
}

/// How often a reader has looked, and who waits for that.
#[derive(Default)]
struct Looks {
    count: Mutex<u32>,
    news: Condvar,
}

impl Looks {
    fn done(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.news.notify_all();
    }

    /// Waits until two more looks are over: the second of them began after this.
    fn two_more(&self, is_over: &AtomicU32) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *count + 2;
        while *count < wanted && is_over.load(Ordering::SeqCst) == 0 {
            count = self
                .news
                .wait(count)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Tells those who wait that a reader came to its end, however that was.
struct Ends(Arc<Looks>, Arc<AtomicU32>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.done();
    }
}

#[test]
fn a_reader_never_sees_half_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    publish(&root, 0);
    let done = Arc::new(AtomicBool::new(false));
    let over = Arc::new(AtomicU32::new(0));
    // A few readers, so that the publishes come on.
    let readers: Vec<_> = OUTPUTS
        .chunks(3)
        .map(|names| {
            let looks = Arc::new(Looks::default());
            let ends = Ends(Arc::clone(&looks), Arc::clone(&over));
            let (root, done) = (root.clone(), Arc::clone(&done));
            let reader = std::thread::spawn(move || {
                let mut outputs: Vec<_> = (names.iter())
                    .map(|name| (name, root.join(name), HashSet::new(), 0, 1))
                    .collect();
                while !done.load(Ordering::SeqCst) {
                    for (name, path, known, last, seen) in &mut outputs {
                        let generation = look(path, known);
                        assert!(generation >= *last, "{name} went back");
                        *seen += u32::from(generation > *last);
                        *last = generation;
                    }
                    ends.0.done();
                }
                for (name, _, _, _, seen) in outputs {
                    assert_eq!(seen, PUBLISHES + 1, "{name}: every generation was seen");
                }
            });
            (looks, reader)
        })
        .collect();
    for generation in 1..=PUBLISHES {
        publish(&root, generation);
        // Each of them has seen it before the next one comes; they go on reading meanwhile.
        for (looks, _) in &readers {
            looks.two_more(&over);
        }
    }
    done.store(true, Ordering::SeqCst);
    for (looks, reader) in readers {
        reader.join().expect("it saw whole files only");
        let looks = *looks.count.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(looks >= 2 * PUBLISHES, "{looks} looks");
    }
}
