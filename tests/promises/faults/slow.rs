//! Fault 39: many rows, and a disk that is slower than the API.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gleaner::disk::system::System;
use gleaner::disk::{Access, Disk, FileHandle, FileSystem, Found, Open};
use gleaner::failure::Exit;
use gleaner::sim::{Latency, Route, Rules, SimReply, SimRequest};

use super::ground::harvest;

/// Rows of one page.
const PAGE: usize = 1000;
/// Most bytes between the API and the disk: the budget of a run (docs/design.md, Memory).
const MOST: usize = 32 << 20;

/// The machine's disk, slow, and what was written to it.
#[derive(Debug, Clone)]
struct Slow {
    written: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct SlowFile {
    below: Arc<dyn FileHandle>,
    disk: Slow,
}

impl FileSystem for Slow {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn FileHandle>> {
        Ok(Arc::new(SlowFile {
            below: System.open(path, how)?,
            disk: self.clone(),
        }))
    }
    fn create_folder(&self, path: &Path, access: Access) -> io::Result<()> {
        System.create_folder(path, access)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        System.sync_folder(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        System.remove_file(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        System.remove_folder(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        System.list(path)
    }
    fn look(&self, path: &Path) -> io::Result<Found> {
        System.look(path)
    }
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        System.resolve(path)
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        System.free_space(path)
    }
    fn network(&self, path: &Path) -> io::Result<Option<&'static str>> {
        System.network(path)
    }
    fn database(&self, path: &Path) -> io::Result<PathBuf> {
        System.database(path)
    }
    fn foreign(&self, action: &'static str, path: &Path) -> io::Result<()> {
        System.foreign(action, path)
    }
}

impl FileHandle for SlowFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.append_all(&[bytes])
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the disk is slow, nothing is waited for"
    )]
    fn append_all(&self, pieces: &[&[u8]]) -> io::Result<()> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        // About 20 MB a second; what is small goes through.
        std::thread::sleep(Duration::from_micros(bytes as u64 / 20));
        self.below.append_all(pieces)?;
        self.disk.written.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.below.read_at(into, at)
    }
    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.below.set_len(len)
    }
    fn rewrite_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.below.rewrite_at(bytes, at)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.below.sync_data()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.below.try_lock()
    }
    fn is_shared(&self) -> io::Result<bool> {
        self.below.is_shared()
    }
    fn permit_as(&self, other: &dyn FileHandle) -> io::Result<()> {
        self.below.permit_as(other)
    }
    fn system(&self) -> Option<&std::fs::File> {
        self.below.system()
    }
}

/// `GLEANER_ROWS` says how many; the full size is ten million.
#[test]
fn f39_many_rows_and_a_slow_disk_stay_within_the_budget() {
    let rows = std::env::var("GLEANER_ROWS").map_or(60_000, |rows| rows.parse().expect("rows"));
    // Three times what may be on its way, however few rows that is.
    let cell = "x".repeat((3 * MOST / rows).max(80));
    let row = format!(r#"{{"cell":"{cell}"}}"#);
    let records = PAGE * (row.len() + 1);
    let body = Bytes::from(format!("{{\"data\":[{}]}}", vec![row; PAGE].join(",")));

    let written = Arc::new(AtomicUsize::new(0));
    let (given, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (disk, highest) = (Arc::clone(&written), Arc::clone(&most));
    let answer = move |_: &SimRequest| {
        let given = given.fetch_add(records, Ordering::SeqCst) + records;
        let underway = given.saturating_sub(disk.load(Ordering::SeqCst));
        highest.fetch_max(underway, Ordering::SeqCst);
        SimReply::json(200, body.clone())
    };
    let rules = Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        latency: Latency::Fixed(Duration::ZERO),
        ..Rules::default()
    };
    let yaml = format!(
        "
source: {{ url: https://api.test, limits: none, concurrency: 16 }}
streams:
  a:
    for: {{ n: {{ range: [1, {}] }} }}
    get: /a/{{{{ n }}}}
    records: data
sink: {{ ndjson: out/a.ndjson }}
",
        rows / PAGE
    );
    let project = tempfile::tempdir().expect("a folder");
    let came = harvest(Disk::new(Slow { written }), project.path(), &yaml, rules);
    assert_eq!(came.exit(), Exit::Complete, "{}", came.said());
    let file = std::fs::metadata(project.path().join("out/a.ndjson")).expect("a file");
    assert_eq!(file.len(), (rows / PAGE * records) as u64);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= MOST, "{most} bytes on their way");
    // Else the disk would not have been the slower one, and nothing shown.
    assert!(most > MOST / 4, "{most} bytes on their way");
}
