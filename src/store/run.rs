//! A run's own folder under `.gleaner/runs/`: made, opened again, removed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;
use super::history::Status;
use super::index::{Index, PageRow};
use super::ledger::{self, Ledger};
use super::locks::Lock;
use super::part::Part;
use super::recall::Sums;
use super::row::{GoesOn, Page, PublishIntent, Row, RunEnd, RunStart, Sent};
use super::space::Floor;
use super::stream::{SharedLedger, StreamStore};
use crate::disk::{Access, Disk, DiskError, Found, Open};
use crate::failure::Exit;

/// One run on disk: `.gleaner/runs/<id>/`. It stays until it is removed.
#[derive(Debug)]
pub struct RunFolder {
    disk: Disk,
    path: PathBuf,
    ledger: SharedLedger,
}

/// A run that is open for work.
#[derive(Debug)]
pub struct OpenRun {
    /// Its folder.
    pub folder: RunFolder,
    /// What it runs.
    pub start: RunStart,
    /// Its streams, in the order of [`RunStart::streams`].
    pub streams: Vec<StreamStore>,
    /// How it ended, if it did.
    pub end: Option<RunEnd>,
}

impl OpenRun {
    /// How the run stands and its exit code, if its ledger says that nothing more will come. It is complete though
    /// records are missing (exit code 3) if all its streams are published; with the same code ends what is held.
    pub fn ended(&self) -> Option<(Status, u8)> {
        let exit = self.end.as_ref()?.exit;
        let is_complete = match Exit::of_code(exit) {
            Some(Exit::Complete) => true,
            Some(Exit::Held) => self.streams.iter().all(StreamStore::is_published),
            _ => false,
        };
        let status = if is_complete {
            Status::Complete
        } else {
            Status::Failed
        };
        Some((status, exit))
    }
}

/// What the rows of one stream came to.
#[derive(Debug, Default)]
struct Told {
    index: Index,
    /// Partitions that began again, and how many rows there were before.
    superseded: HashMap<u32, usize>,
    intents: Vec<PublishIntent>,
    is_published: bool,
    /// What was sent and must not be sent twice, while nobody knows what came of it.
    sent: BTreeMap<(u32, u32), Sent>,
}

/// Where the runs of a project are.
pub fn runs(root: &Path) -> PathBuf {
    root.join(".gleaner").join("runs")
}

/// What the run `id` has sent and must not send twice, while nobody knows what came of it: by
/// stream, in canonical order. Reads the ledger and changes nothing.
pub fn unknown(disk: &Disk, root: &Path, id: &str) -> Result<Vec<Sent>, StoreError> {
    let file = match disk.open(&runs(root).join(id).join("ledger"), Open::Read) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut history = History::default();
    ledger::read(&file, &mut |row, place| {
        history.add(row, place, file.path())
    })?;
    let streams = history.streams.into_iter();
    Ok(streams.flat_map(|told| told.sent.into_values()).collect())
}

/// What the run `id` runs, without opening it for work.
pub fn start(disk: &Disk, root: &Path, id: &str) -> Result<RunStart, StoreError> {
    let place = runs(root).join(id).join("ledger");
    match disk.open(&place, Open::Read) {
        Ok(file) => match ledger::first(&file)? {
            Some(Row::RunStart(start)) => Ok(start),
            _ => Err(StoreError::Unbegun { path: place }),
        },
        Err(error) if error.is_missing() => Err(StoreError::Unbegun { path: place }),
        Err(error) => Err(error.into()),
    }
}

/// What the run `id` keeps for its next attempt, without opening it for work: it may be at work, or
/// its process was killed. Nothing where there is no ledger.
pub fn kept(disk: &Disk, root: &Path, id: &str) -> Result<Sums, StoreError> {
    let place = runs(root).join(id).join("ledger");
    let file = match disk.open(&place, Open::Read) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Sums::default()),
        Err(error) => return Err(error.into()),
    };
    let mut history = History::default();
    ledger::read(&file, &mut |row, place| {
        history.add(row, place, file.path())
    })?;
    let sums = history.streams.iter_mut().map(|told| {
        told.index.supersede_all(&told.superseded);
        Sums::of(&told.index)
    });
    Ok(sums.fold(Sums::default(), Sums::and))
}

impl RunFolder {
    /// Makes the folder of run `id` below the project root, with an empty part for each stream,
    /// all of it on the disk when this returns.
    pub fn create(
        disk: &Disk,
        root: &Path,
        id: &str,
        start: RunStart,
        floor: &Floor,
    ) -> Result<OpenRun, StoreError> {
        let runs = runs(root);
        disk.create_folder(&runs, Access::Private)?;
        floor.check(disk, &runs)?;
        let path = runs.join(id);
        disk.create_folder(&path, Access::Private)?;
        let mut parts = Vec::new();
        for (ordinal, stream) in start.streams.iter().enumerate() {
            let part = Part::create(disk, &part_path(&path, ordinal), stream)?;
            part.sync()?;
            parts.push(part);
        }
        let mut ledger = Ledger::new(disk.create_private(&path.join("ledger"))?, 0);
        ledger.commit(&[Row::RunStart(start.clone())])?;
        sync_folders(disk, &path, root)?;
        let ledger = Arc::new(Mutex::new(ledger));
        let told = start.streams.iter().map(|_| Told::default()).collect();
        let folder = Self {
            disk: disk.clone(),
            path,
            ledger,
        };
        Ok(folder.with(start, told, parts, None, floor))
    }

    /// Opens the run `id` to go on with it: reads the ledger to its last good row, cuts it and
    /// each part to what was committed. Take the pipeline's lock first.
    pub fn open(disk: &Disk, root: &Path, id: &str, floor: &Floor) -> Result<OpenRun, StoreError> {
        let path = runs(root).join(id);
        let place = path.join("ledger");
        let file = match disk.open(&place, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.is_missing() && disk.look(&path)? == Found::Folder => {
                return Err(StoreError::Unbegun { path: place });
            }
            Err(error) => return Err(error.into()),
        };
        let mut history = History::default();
        let extent = ledger::read(&file, &mut |row, place| {
            history.add(row, place, file.path())
        })?;
        let Some(start) = history.start else {
            return Err(StoreError::Unbegun { path: place });
        };
        for told in &mut history.streams {
            told.index.supersede_all(&told.superseded);
        }
        floor.check(disk, &path)?;
        sync_folders(disk, &path, root)?;
        let ledger = Ledger::resume(file, extent)?;
        let mut parts = Vec::new();
        for ((ordinal, stream), told) in start.streams.iter().enumerate().zip(&history.streams) {
            parts.push(Part::open(
                disk,
                &part_path(&path, ordinal),
                stream,
                &told.index,
                told.is_published,
            )?);
        }
        let folder = Self {
            disk: disk.clone(),
            path,
            ledger: Arc::new(Mutex::new(ledger)),
        };
        Ok(folder.with(start, history.streams, parts, history.end, floor))
    }

    fn with(
        self,
        start: RunStart,
        told: Vec<Told>,
        parts: Vec<Part>,
        end: Option<RunEnd>,
        floor: &Floor,
    ) -> OpenRun {
        let streams = start.streams.iter().zip(told).zip(parts);
        let streams = (0_u32..)
            .zip(streams)
            .map(|(ordinal, ((name, told), part))| StreamStore {
                name: Arc::clone(name),
                ordinal,
                part,
                index: told.index,
                ledger: Arc::clone(&self.ledger),
                disk: self.disk.clone(),
                floor: floor.clone(),
                intents: told.intents,
                is_published: told.is_published,
                sent: told.sent,
                appended: Default::default(),
                answers: 0,
                begun: BTreeMap::default(),
            });
        OpenRun {
            streams: streams.collect(),
            folder: self,
            start,
            end,
        }
    }

    /// Keeps locks until nobody is left who may write to the run: its streams and what they have handed on too.
    pub fn hold(&self, locks: &Arc<Vec<Lock>>) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.hold(Arc::clone(locks));
    }

    /// Says that another attempt begins, in which these secrets have a value.
    pub fn goes_on(&self, secrets: Vec<String>) -> Result<(), StoreError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.commit(&[Row::GoesOn(GoesOn { secrets })])?;
        Ok(())
    }

    /// Says that nothing more will come.
    pub fn end(&self, exit: u8) -> Result<(), StoreError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.commit(&[Row::RunEnd(RunEnd { exit })])?;
        Ok(())
    }

    /// Removes the folder and all in it. Say [`RunFolder::end`] first.
    pub fn remove(self) -> Result<(), DiskError> {
        remove(&self.disk, &self.path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Brings the names in a run's folder to the disk, and that of the folder and of those above it up
/// to the root, whoever made them.
fn sync_folders(disk: &Disk, path: &Path, root: &Path) -> Result<(), DiskError> {
    for folder in path.ancestors() {
        disk.sync_folder(folder)?;
        if folder == root {
            break;
        }
    }
    Ok(())
}

/// Removes a run: the ledger first, so that no half of it is ever taken for a run.
pub(super) fn remove(disk: &Disk, path: &Path) -> Result<(), DiskError> {
    if disk.look(path)? == Found::Nothing {
        return Ok(());
    }
    disk.remove_file(&path.join("ledger"))?;
    disk.sync_folder(path)?;
    disk.remove_folder(path)
}

fn part_path(folder: &Path, ordinal: usize) -> PathBuf {
    folder.join(format!("{ordinal}.part"))
}

/// Rows of a ledger, taken in.
#[derive(Debug, Default)]
struct History {
    start: Option<RunStart>,
    streams: Vec<Told>,
    end: Option<RunEnd>,
}

impl History {
    fn add(&mut self, row: Row, place: ledger::Place, path: &Path) -> Result<(), StoreError> {
        let wrong = |what: &str| StoreError::Corrupt {
            path: path.to_owned(),
            offset: place.at,
            what: what.to_owned(),
        };
        match row {
            Row::RunStart(start) => {
                if self.start.is_some() {
                    return Err(wrong("a second beginning"));
                }
                self.streams = start.streams.iter().map(|_| Told::default()).collect();
                self.start = Some(start);
            }
            Row::GoesOn(row) => {
                let start = (self.start.as_mut()).ok_or_else(|| wrong("nothing has begun"))?;
                start.secrets = row.secrets;
            }
            Row::Page(page) => {
                let told = self
                    .of(&page.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                let row =
                    page_row(&page, place).ok_or_else(|| wrong("a page ends before it begins"))?;
                told.index.push(row);
                told.sent.remove(&(page.partition, page.page));
            }
            Row::Sent(row) => {
                let told = self
                    .of(&row.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                told.sent.insert((row.partition, row.page), row);
            }
            Row::Undone(row) => {
                let told = self
                    .of(&row.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                told.sent.remove(&(row.partition, row.page));
            }
            Row::Superseded(row) => {
                let told = self
                    .of(&row.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                let rows = told.index.rows().len();
                told.superseded.insert(row.partition, rows);
                // What was published of it has to be made again.
                told.is_published = false;
            }
            Row::PublishIntent(row) => {
                let told = self
                    .of(&row.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                told.intents.retain(|known| known.target != row.target);
                told.intents.push(row);
            }
            Row::Published(row) => {
                let told = self
                    .of(&row.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                told.is_published = true;
            }
            Row::RunEnd(row) => self.end = Some(row),
        }
        Ok(())
    }

    fn of(&mut self, stream: &str) -> Option<&mut Told> {
        let streams = &self.start.as_ref()?.streams;
        let at = streams.iter().position(|name| **name == *stream)?;
        self.streams.get_mut(at)
    }
}

fn page_row(page: &Page, place: ledger::Place) -> Option<PageRow> {
    Some(PageRow {
        partition: page.partition,
        page: page.page,
        start: page.start,
        len: u32::try_from(page.end.checked_sub(page.start)?).ok()?,
        records: page.records,
        crc: page.crc,
        row_len: place.len,
        row_at: place.at,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::sim::{SimDisk, Trouble};
    use crate::store::locks;
    use crate::store::row::Facts;
    use crate::store::stream::{NewPage, Piece};

    const ROOT: &str = "/p";

    fn start(streams: &[&str]) -> RunStart {
        let streams = streams.iter().map(|name| (*name).into()).collect();
        RunStart::new("pipe", streams, Timestamp::UNIX_EPOCH)
    }

    fn page(partition: u32, page: u32, lines: &str) -> NewPage<'_> {
        NewPage {
            partition,
            page,
            request: 0,
            lines: lines.as_bytes(),
            crc: crate::crc::of(lines.as_bytes()),
            records: 1,
            piece: Piece::Whole,
            facts: Facts {
                next: Some(format!("after {page}")),
                ..Facts::default()
            },
        }
    }

    fn begun() -> SimDisk {
        let disk = SimDisk::new(Path::new(ROOT));
        let mut run = RunFolder::create(
            &disk.door(),
            Path::new(ROOT),
            "r",
            start(&["a", "b"]),
            &Floor::new(0),
        )
        .unwrap();
        run.streams[1]
            .commit(vec![page(0, 0, "{\"n\":1}\n"), page(0, 1, "{\"n\":2}\n")])
            .unwrap();
        run.streams[1]
            .commit(vec![page(1, 0, "{\"n\":3}\n")])
            .unwrap();
        disk
    }

    fn open(disk: &SimDisk) -> Result<OpenRun, StoreError> {
        RunFolder::open(&disk.door(), Path::new(ROOT), "r", &Floor::new(0))
    }

    fn part() -> PathBuf {
        runs(Path::new(ROOT)).join("r").join("1.part")
    }

    #[test]
    fn a_run_goes_on_with_what_was_committed() {
        let disk = begun();
        disk.damage(&part(), |bytes| bytes.extend(b"{\"n\":4,\"half"));
        let mut run = open(&disk).unwrap();
        assert_eq!((run.start, run.end), (start(&["a", "b"]), None));
        assert!(run.streams[0].index().rows().is_empty());
        let b = &mut run.streams[1];
        assert_eq!(b.index().records(), 3);
        let last = b.index().rows()[2];
        assert_eq!(
            b.recall().page(&last).unwrap().facts.next.as_deref(),
            Some("after 0")
        );
        b.check().unwrap();
        b.commit(vec![page(1, 1, "{\"n\":5}\n")]).unwrap();
        let text = disk.read(&part()).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":5}\n"
        );
        assert_eq!(open(&disk).unwrap().streams[1].index().records(), 4);
    }

    #[test]
    fn pieces_count_with_their_last_or_not_at_all() {
        let texts = ["{\"n\":1}\n", "{\"n\":2}\n", "{\"n\":3}\n"];
        let pieces = |from: u32| {
            (0..3).map(move |at| NewPage {
                piece: Piece::of(at, 3),
                ..page(0, from + at, texts[at as usize])
            })
        };
        let disk = SimDisk::new(Path::new(ROOT));
        let start = start(&["a", "b"]);
        let root = Path::new(ROOT);
        let floor = Floor::new(0);
        let mut run = RunFolder::create(&disk.door(), root, "r", start, &floor).unwrap();
        let b = &mut run.streams[1];
        // An answer that breaks off, beside a page of another partition.
        b.append(pieces(0).take(2).collect()).unwrap();
        assert!(b.group().is_none());
        b.commit(vec![page(1, 0, "{\"n\":9}\n")]).unwrap();
        let mut run = open(&disk).unwrap();
        let places = |store: &StreamStore| {
            let rows = store.index().rows().iter();
            rows.map(|row| (row.partition, row.page))
                .collect::<Vec<_>>()
        };
        assert_eq!(places(&run.streams[1]), [(1, 0)]);
        // The same again, broken off once more, and then whole.
        let b = &mut run.streams[1];
        b.append(pieces(0).take(1).collect()).unwrap();
        b.append(pieces(0).collect()).unwrap();
        let mut group = b.group().unwrap();
        assert_eq!(group.answers(), 1);
        group.commit().unwrap();
        let run = open(&disk).unwrap();
        assert_eq!(places(&run.streams[1]), [(1, 0), (0, 0), (0, 1), (0, 2)]);
        let rows = run.streams[1].index().rows().to_vec();
        let recall = run.streams[1].recall();
        let read = |row| recall.records(row).unwrap();
        assert_eq!(
            rows[1..].iter().map(read).collect::<String>(),
            texts.concat()
        );
    }

    #[test]
    fn a_partition_that_begins_again_takes_its_pages_back() {
        let disk = begun();
        let b = &mut open(&disk).unwrap().streams.remove(1);
        b.supersede(0).unwrap();
        b.commit(vec![page(0, 0, "{\"n\":9}\n")]).unwrap();
        for index in [b.index(), open(&disk).unwrap().streams[1].index()] {
            let places: Vec<_> = index
                .rows()
                .iter()
                .map(|r| (r.partition, r.page, r.start))
                .collect();
            assert_eq!(places, [(1, 0, 16), (0, 0, 24)]);
        }
    }

    #[test]
    fn a_short_or_damaged_part_stops_with_its_page_named() {
        let disk = begun();
        disk.damage(&part(), |bytes| bytes[12] ^= 1);
        let mut run = open(&disk).unwrap();
        let error = run.streams[1].check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "/p/.gleaner/runs/r/1.part is damaged: the bytes of b, partition 1, page 2 from 8 on do not have their checksum"
        );
        assert!(run.streams[1].check().is_err(), "told once, then forgotten");
        disk.damage(&part(), |bytes| bytes.truncate(20));
        let error = open(&disk).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/p/.gleaner/runs/r/1.part ends at byte 20, but b, partition 2, page 1 was committed up to 24"
        );
    }

    #[test]
    fn a_run_without_a_beginning_is_no_run() {
        let disk = begun();
        disk.damage(&runs(Path::new(ROOT)).join("r/ledger"), |bytes| {
            bytes.truncate(9);
        });
        assert!(matches!(open(&disk), Err(StoreError::Unbegun { .. })));
    }

    #[test]
    fn a_stream_is_told_whether_it_was_published() {
        let disk = begun();
        let intent = PublishIntent {
            stream: "b".into(),
            target: "/p/b.csv".to_owned(),
            size: 4,
            crc: 5,
        };
        let mut run = open(&disk).unwrap();
        run.streams[1].intend(vec![intent.clone()]).unwrap();
        let mut run = open(&disk).unwrap();
        assert_eq!(run.streams[1].intents(), [intent]);
        assert!(!run.streams[1].is_published());
        run.streams[1].published().unwrap();
        run.folder.end(3).unwrap();
        // The output may be the part under a second name: it is not cut any more.
        disk.damage(&part(), |bytes| bytes.extend(b"by a person"));
        let mut run = open(&disk).unwrap();
        assert!(run.streams[1].is_published());
        assert_eq!(run.end, Some(RunEnd { exit: 3 }));
        assert_eq!(run.ended(), Some((Status::Failed, 3)), "`a` is held");
        assert!(disk.read(&part()).unwrap().ends_with(b"by a person"));
        for store in &mut run.streams {
            store.published().unwrap();
        }
        assert_eq!(run.ended(), Some((Status::Complete, 3)), "records lack");
        run.folder.end(0).unwrap();
        assert_eq!(open(&disk).unwrap().ended(), Some((Status::Complete, 0)));
        run.folder.remove().unwrap();
        assert!(disk.files().is_empty());
    }

    #[test]
    fn a_part_that_became_an_output_is_not_written_any_more() {
        let disk = begun();
        let output = Path::new("/p/b.ndjson");
        disk.door().link(&part(), output).unwrap();
        let whole = disk.read(output).unwrap();
        let b = &mut open(&disk).unwrap().streams[1];
        b.supersede(1).unwrap();
        // Cut to the pages that are left, and written to.
        let b = &mut open(&disk).unwrap().streams[1];
        b.commit(vec![page(1, 0, "{\"n\":7}\n")]).unwrap();
        assert_eq!(disk.read(output).unwrap(), whole);
        assert_eq!(disk.read(&part()).unwrap().len(), whole.len());
        assert!(disk.read(&part()).unwrap().ends_with(b"{\"n\":7}\n"));
        assert_eq!(disk.files().len(), 4, "{:?}", disk.files().keys());
    }

    #[test]
    fn room_is_left_on_the_disk() {
        let disk = begun();
        let floor = Floor::new(1 << 20);
        disk.set_capacity((1 << 20) + 100_000);
        let (door, root) = (disk.door(), Path::new(ROOT));
        let mut run = RunFolder::open(&door, root, "r", &floor).unwrap();
        run.streams[0].commit(vec![page(0, 0, "{}\n")]).unwrap();
        disk.set_capacity(1 << 20);
        // What may be written between two looks is far below the floor.
        let big = "x".repeat(17 << 20);
        let error = run.streams[0].commit(vec![page(0, 1, &big)]).unwrap_err();
        assert_eq!(error.exit(), crate::failure::Exit::Disk);
        assert!(matches!(error, StoreError::Full { floor, .. } if floor == 1 << 20));
        let error = RunFolder::open(&door, root, "r", &floor).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert!(RunFolder::create(&door, root, "s", start(&["a"]), &floor).is_err());
        disk.set_capacity(u64::MAX);
        let run = RunFolder::open(&door, root, "r", &floor).unwrap();
        assert_eq!(
            run.streams[0].index().records(),
            1,
            "what was committed is kept"
        );
    }

    #[test]
    fn the_part_is_synced_before_its_row_is_written() {
        let disk = begun();
        let mut run = open(&disk).unwrap();
        disk.set_trouble(Trouble::None);
        run.streams[0]
            .commit(vec![page(0, 0, "{}\n"), page(0, 1, "{}\n")])
            .unwrap();
        let log = disk.log();
        let done: Vec<&str> = log
            .iter()
            .filter_map(|line| line.split('/').next())
            .collect();
        assert_eq!(done, ["write ", "write ", "sync ", "write ", "sync "]);
        assert!(
            log[2].ends_with("0.part") && log[4].ends_with("ledger"),
            "{log:?}"
        );
    }

    #[test]
    fn locks_are_held_while_anybody_may_write() {
        let disk = begun();
        let lock = || locks::pipeline(&disk.door(), Path::new(ROOT), "p", Timestamp::UNIX_EPOCH);
        let mut run = open(&disk).unwrap();
        run.folder.hold(&Arc::new(vec![lock().unwrap()]));
        let mut store = run.streams.remove(0);
        drop(run);
        assert!(lock().is_err(), "a stream may write");
        let group = {
            store.append(vec![page(5, 0, "{}\n")]).unwrap();
            store.group().expect("a page to commit")
        };
        let (sent, _) = store.sent();
        drop(store);
        assert!(lock().is_err(), "a group is to be committed");
        drop(group);
        assert!(lock().is_err(), "requests may be written down");
        drop(sent);
        assert!(lock().is_ok());
    }
}
