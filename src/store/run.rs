//! A run's own folder under `.gleaner/runs/`: made, opened again, removed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;
use super::index::{Index, PageRow};
use super::ledger::{self, Ledger};
use super::part::Part;
use super::row::{Page, PublishIntent, Row, RunEnd, RunStart, VERSION};
use super::space::Floor;
use super::stream::{SharedLedger, StreamStore};
use crate::disk::{Access, Disk, DiskError, Found, Open};

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

/// What the rows of one stream came to.
#[derive(Debug, Default)]
struct Told {
    index: Index,
    intents: Vec<PublishIntent>,
    is_published: bool,
}

/// Where the runs of a project are.
pub fn runs(root: &Path) -> PathBuf {
    root.join(".gleaner").join("runs")
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
        disk.sync_folder(&path)?;
        // The folders themselves, up to the root.
        for folder in path.ancestors().skip(1) {
            disk.sync_folder(folder)?;
            if folder == root {
                break;
            }
        }
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
        floor.check(disk, &path)?;
        if extent.len > extent.good {
            file.set_len(extent.good)?;
            file.sync_data()?;
        }
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
            ledger: Arc::new(Mutex::new(Ledger::new(file, extent.good))),
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
                appended: Default::default(),
            });
        OpenRun {
            streams: streams.collect(),
            folder: self,
            start,
            end,
        }
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
            Row::Page(page) => {
                let told = self
                    .of(&page.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                let row =
                    page_row(&page, place).ok_or_else(|| wrong("a page ends before it begins"))?;
                told.index.push(row);
            }
            Row::Superseded(row) => {
                let told = self
                    .of(&row.stream)
                    .ok_or_else(|| wrong("an unknown stream"))?;
                told.index.supersede(row.partition);
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

impl RunStart {
    /// The version that this program writes, and its own.
    pub fn versions() -> (u32, String) {
        (VERSION, env!("CARGO_PKG_VERSION").to_owned())
    }
}
