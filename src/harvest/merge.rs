//! `mode: merge`: the newest version of every record, gathered over all runs.
//!
//! The base of the last publish and the records of this run, both in the order of their keys, are
//! read side by side into a new base; the output is made from that alone. A new base counts only
//! when the state points to it.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::computed::Computed;
use super::fitting;
use super::formatted::formatted;
use super::key::Key;
use super::newest::push_rank;
use super::publish::{Extras, Output, PublishError, read_end, templates};
use super::rows::Rows;
use super::versions::{Liner, Origins, Version};
use crate::disk::DiskError;
use crate::failure::Exit;
use crate::json;
use crate::plan::sink::SinkPlan;
use crate::sink::{self, Row, Target};
use crate::store::base::{self, BaseError, BaseReader, BaseWriter};
use crate::store::cursors::Base;
use crate::store::sorter::{Sorted, Sorter};

/// Why records cannot be merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    /// The base cannot be read or written.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Records cannot be read, or a template of the key failed.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A record without a key would come again with every run.
    #[error(
        "{count} record(s) have none of `key: {key}`, so it cannot be told which they are new versions of: {sample}"
    )]
    Keyless {
        /// How many.
        count: u64,
        /// The key.
        key: String,
        /// One of them.
        sample: String,
    },
}

impl MergeError {
    /// The exit code that it calls for, and what to do.
    pub(super) fn end(&self) -> (Exit, Option<&'static str>) {
        match self {
            Self::Disk(error) | Self::Base(BaseError::Disk(error)) if !error.is_missing() => {
                (Exit::Disk, Some(error.hint()))
            }
            Self::Disk(_) | Self::Base(BaseError::Disk(_) | BaseError::Damaged { .. }) => (
                Exit::Failed,
                Some(
                    "the old file stays; bring .gleaner/base back from a backup, or forget what was gathered and fetch it again: `gleaner state reset NAME --base`",
                ),
            ),
            Self::Base(BaseError::Newer { .. }) => (Exit::Failed, Some("use the later version")),
            Self::Keyless { .. } => (
                Exit::Held,
                Some("the old file stays; correct `key`, or leave such records out in the request"),
            ),
            Self::Read(error) => read_end(error),
        }
    }
}

/// A base with all records that are known.
#[derive(Debug)]
pub(super) struct Merged {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What the state must point to; none where it points there already.
    pub(super) new: Option<Base>,
    /// Records of this run that gave way to others of it.
    pub(super) repeats: u64,
}

/// Merges the records of this run into what was gathered before.
pub(super) fn merge(
    rows: &Rows<'_>,
    old: Option<&Base>,
    spills: &Path,
) -> Result<Merged, MergeError> {
    let run = rows.run;
    let place = base::folder(&run.world.root);
    if let Some(old) = old
        && rows.index.records() == 0
    {
        return Ok(Merged {
            path: place.join(&old.file),
            new: None,
            repeats: 0,
        });
    }
    let mut sorter = Sorter::new(&run.world.disk, spills, &format!("{}.sort", rows.plan.name));
    let definition = Key::definition(rows.plan);
    let mut of_before = match old {
        None => Before::default(),
        Some(old) => Before::open(rows, &place.join(&old.file), &definition, &mut sorter)?,
    };
    push_run(rows, &mut sorter)?;
    let mut of_run = OfRun {
        sorted: sorter.finish()?,
        repeats: 0,
        next: None,
    };

    let generation = old.map_or(1, |old| old.generation + 1);
    let file = base::name(&run.plan.name, &rows.plan.name, generation);
    let path = place.join(&file);
    let mut out = BaseWriter::create(&run.world.disk, &path, &definition)?;
    of_before.advance()?;
    let mut newest = of_run.next()?;
    loop {
        let order = match (&of_before.head, &newest) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(new)) => before.key.cmp(&new.key),
        };
        match order {
            Ordering::Less => of_before.keep(&mut out)?,
            // The same record: the later counts, unless it is older by its cursor (a server that
            // answers from a copy that lags).
            Ordering::Equal => {
                let is_older =
                    |before: &Head| newest.as_ref().is_some_and(|new| new.rank < before.rank);
                if of_before.head.as_ref().is_some_and(is_older) {
                    of_before.keep(&mut out)?;
                } else {
                    write(newest.as_ref(), &mut out)?;
                    of_before.advance()?;
                }
                newest = of_run.next()?;
            }
            Ordering::Greater => {
                write(newest.as_ref(), &mut out)?;
                newest = of_run.next()?;
            }
        }
    }
    out.finish()?;
    Ok(Merged {
        path,
        new: Some(Base {
            file,
            generation,
            run: run.id.clone(),
        }),
        repeats: of_run.repeats,
    })
}

fn write(newest: Option<&Newest>, out: &mut BaseWriter) -> Result<(), MergeError> {
    match newest {
        Some(newest) => Ok(out.line(&newest.line)?),
        None => Ok(()),
    }
}

/// Hands every record of the run to the sorter: by key, then cursor, then place.
fn push_run(rows: &Rows<'_>, sorter: &mut Sorter) -> Result<(), MergeError> {
    let Some(mut key) = Key::new(rows.plan, &rows.run.names) else {
        return Ok(());
    };
    let mut liner = Liner::new(rows.run.started);
    let (mut order, mut line) = (Vec::new(), Vec::new());
    let (mut keyless, mut sample) = (0, None);
    rows.each(&mut |placed, partition| {
        order.clear();
        let has_key = key
            .push(placed.json, partition, placed.in_page, &mut order)
            .map_err(io::Error::other)?;
        if !has_key {
            keyless += 1;
            sample.get_or_insert_with(|| placed.json.chars().take(120).collect::<String>());
            return Ok(());
        }
        line.clear();
        line.extend(length(order.len()).to_le_bytes());
        push_rank(rows.plan.cursor.as_ref(), placed.json, &mut order);
        line.extend(length(order.len()).to_le_bytes());
        // What an earlier run brought comes before.
        order.push(1);
        order.extend(placed.ordinal.to_be_bytes());
        liner.push(partition, placed.in_page, placed.json, &mut line);
        sorter.push(&order, &line).map_err(io::Error::other)
    })?;
    if keyless > 0 {
        return Err(MergeError::Keyless {
            count: keyless,
            key: rows.plan.key.join(", "),
            sample: sample.unwrap_or_default(),
        });
    }
    Ok(())
}

fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// The newest version of a record in this run.
#[derive(Debug, Default)]
struct Newest {
    key: Vec<u8>,
    rank: Vec<u8>,
    line: Vec<u8>,
}

/// Versions of this run, in order of their keys.
struct OfRun {
    sorted: Sorted,
    repeats: u64,
    /// The first of the next key.
    next: Option<Newest>,
}

impl OfRun {
    /// The newest version of the next record.
    fn next(&mut self) -> Result<Option<Newest>, MergeError> {
        let mut newest = self.next.take();
        while let Some((order, value)) = self.sorted.next()? {
            let Some(one) = take(order, value) else {
                continue;
            };
            match &newest {
                Some(known) if known.key != one.key => {
                    self.next = Some(one);
                    break;
                }
                Some(_) => self.repeats += 1,
                None => {}
            }
            newest = Some(one);
        }
        Ok(newest)
    }
}

/// What [`push_run`] handed to the sorter.
fn take(order: &[u8], value: &[u8]) -> Option<Newest> {
    let (key_end, rest) = value.split_first_chunk::<4>()?;
    let (rank_end, line) = rest.split_first_chunk::<4>()?;
    let key_end = u32::from_le_bytes(*key_end) as usize;
    let rank_end = u32::from_le_bytes(*rank_end) as usize;
    Some(Newest {
        key: order.get(..key_end)?.to_vec(),
        rank: order.get(key_end..rank_end)?.to_vec(),
        line: line.to_vec(),
    })
}

/// The base of the last publish, in order of its keys.
#[derive(Default)]
struct Before<'a> {
    reader: Option<(BaseReader, Key<'a>)>,
    origins: Origins,
    cursor: Option<&'a crate::plan::cursor::CursorPlan>,
    head: Option<Head>,
    /// What the key is made of.
    definition: String,
}

/// Its next record.
#[derive(Default)]
struct Head {
    key: Vec<u8>,
    rank: Vec<u8>,
    line: Vec<u8>,
}

impl<'a> Before<'a> {
    /// Opens a base. One whose keys were made of something else is sorted anew, with the run.
    fn open(
        rows: &Rows<'a>,
        path: &Path,
        definition: &str,
        sorter: &mut Sorter,
    ) -> Result<Self, MergeError> {
        let (reader, head) = BaseReader::open(&rows.run.world.disk, path)?;
        let Some(key) = Key::new(rows.plan, &rows.run.names) else {
            return Ok(Self::default());
        };
        let mut before = Self {
            reader: Some((reader, key)),
            origins: Origins::default(),
            cursor: rows.plan.cursor.as_ref(),
            head: None,
            definition: definition.to_owned(),
        };
        if head.key == definition {
            return Ok(before);
        }
        let (mut ordinal, mut order, mut value) = (0_u64, Vec::new(), Vec::new());
        while before.read()? {
            let Some(head) = &before.head else { break };
            order.clear();
            order.extend_from_slice(&head.key);
            value.clear();
            value.extend(length(order.len()).to_le_bytes());
            order.extend_from_slice(&head.rank);
            value.extend(length(order.len()).to_le_bytes());
            order.push(0);
            order.extend(ordinal.to_be_bytes());
            value.extend_from_slice(&head.line);
            sorter.push(&order, &value)?;
            ordinal += 1;
        }
        Ok(Self::default())
    }

    /// Moves to the next record, which must come later in the order.
    fn advance(&mut self) -> Result<(), MergeError> {
        let last = self.head.take();
        self.read()?;
        if let (Some(last), Some(head)) = (&last, &self.head)
            && last.key >= head.key
        {
            return Err(self.damaged("its records are not in order"));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<bool, MergeError> {
        let Some((reader, key)) = &mut self.reader else {
            return Ok(false);
        };
        let Some(line) = reader.next()? else {
            self.head = None;
            return Ok(false);
        };
        let version = Version::parse(line);
        let known = version.and_then(|version| Some((version, self.origins.of(&version)?)));
        let Some((version, partition)) = known else {
            return Err(self.damaged("a line is no record"));
        };
        let mut head = Head {
            line: line.as_bytes().to_vec(),
            ..Head::default()
        };
        let has_key = key
            .push(version.record, partition, version.in_page, &mut head.key)
            .map_err(io::Error::other)?;
        if !has_key {
            return Err(MergeError::Keyless {
                count: 1,
                key: self.definition.clone(),
                sample: version.record.chars().take(120).collect(),
            });
        }
        push_rank(self.cursor, version.record, &mut head.rank);
        self.head = Some(head);
        Ok(true)
    }

    /// Keeps its record, and moves on.
    fn keep(&mut self, out: &mut BaseWriter) -> Result<(), MergeError> {
        if let Some(head) = &self.head {
            out.line(&head.line)?;
        }
        self.advance()
    }

    fn damaged(&self, what: &'static str) -> MergeError {
        let path = self
            .reader
            .as_ref()
            .map(|(reader, _)| reader.path().to_owned());
        MergeError::Base(BaseError::Damaged {
            path: path.unwrap_or_default(),
            what,
        })
    }
}

/// Builds an output from a base.
pub(super) fn project(
    rows: &Rows<'_>,
    base: &Path,
    sink: &SinkPlan,
    target: &Target,
) -> Result<Output, PublishError> {
    let columns = rows.plan.columns.as_deref();
    let rejects = fitting::rejects(target, sink.mode);
    let rejects = rejects.as_ref();
    let written = sink::write::<PublishError>(
        &formatted(rows, sink),
        target,
        columns,
        rejects,
        &mut |each| each_row(rows, base, None, each),
    )?;
    Ok(written.into())
}

/// Every record of a base with what stands beside it, or those that the run brought which started at
/// `only`.
pub(super) fn each_row(
    rows: &Rows<'_>,
    base: &Path,
    only: Option<Timestamp>,
    each: &mut sink::Each<'_, PublishError>,
) -> Result<(), PublishError> {
    let only = only.map(|started| json::quoted(&started.to_string()));
    let (mut reader, _) = BaseReader::open(&rows.run.world.disk, base).map_err(MergeError::from)?;
    let mut origins = Origins::default();
    let mut extras = Extras::default();
    let mut computed = Computed::new(&rows.run.names, templates(rows.plan.columns.as_deref()));
    while let Some(line) = reader.next().map_err(MergeError::from)? {
        let damaged = || {
            MergeError::Base(BaseError::Damaged {
                path: base.to_owned(),
                what: "a line is no record",
            })
        };
        let version = Version::parse(line).ok_or_else(damaged)?;
        if only.as_ref().is_some_and(|only| version.started != only) {
            continue;
        }
        let partition = origins.of(&version).ok_or_else(damaged)?;
        let values = computed
            .of(partition, version.in_page)
            .map_err(io::Error::other)?;
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        each(Row {
            json: version.record,
            extras: extras.of(partition),
            computed: &values,
        })?;
    }
    Ok(())
}
