//! What earlier runs gathered of a table, in the order of its keys: the base of the last publish, whose
//! lines say whose they are where several streams write it.

use std::io;
use std::path::Path;

use super::versions::{Origins, Version, push_of};
use super::{MergeError, OF_BEFORE, Old, keys, length};
use crate::harvest::publish::key::Key;
use crate::harvest::publish::rows::{Ranks, Rows};
use crate::store::base::{self, BaseError, BaseReader, BaseWriter};
use crate::store::sorter::Sorter;

/// What a base says of the table that it gathers.
pub(in crate::harvest) struct Gathered {
    /// What its keys are made of, and of which streams it is, where there are several.
    pub(in crate::harvest) definition: String,
    is_shared: bool,
}

impl Gathered {
    pub(in crate::harvest) fn of(rows: &Rows<'_>) -> Self {
        let mut keys: Vec<String> = Vec::new();
        for member in &rows.members {
            let key = Key::definition(member.plan);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let is_shared = rows.members.len() > 1;
        let of = if is_shared {
            format!("{}: ", rows.names())
        } else {
            String::new()
        };
        Self {
            definition: format!("{of}{}", keys.join(" | ")),
            is_shared,
        }
    }

    /// Whether a base is of this table already.
    pub(in crate::harvest) fn is_made_so(
        &self,
        rows: &Rows<'_>,
        path: &Path,
    ) -> Result<bool, MergeError> {
        let (_, head) = BaseReader::open(&rows.run.world.disk, path)?;
        Ok(head.key == self.definition)
    }
}

/// Which stream of the table a line of its base is of. Of a stream that is in the pipeline no more
/// the records stay, and count as the first one's; those of one that writes elsewhere now do not.
pub(in crate::harvest) fn member_of(rows: &Rows<'_>, stream: Option<&str>) -> Option<usize> {
    let Some(name) = stream else { return Some(0) };
    let place = rows.members.iter().position(|one| one.plan.name == name);
    let is_there = || rows.run.plan.streams.iter().any(|plan| plan.name == name);
    place.or_else(|| (!is_there()).then_some(0))
}

/// The base of the last publish, in order of its keys.
#[derive(Default)]
pub(in crate::harvest) struct Before<'r, 'a> {
    reader: Option<BaseReader>,
    rows: Option<&'r Rows<'a>>,
    keys: Vec<Key<'a>>,
    /// The stream of lines that do not say whose they are.
    owner: Option<usize>,
    origins: Origins,
    pub(in crate::harvest) head: Option<Head>,
    /// What the key is made of.
    definition: String,
    is_shared: bool,
}

/// Its next record.
#[derive(Default)]
pub(in crate::harvest) struct Head {
    pub(in crate::harvest) key: Vec<u8>,
    pub(in crate::harvest) rank: Vec<u8>,
    line: Vec<u8>,
}

impl<'r, 'a> Before<'r, 'a> {
    /// Opens a base. One of another table, or whose keys were made of something else, is sorted anew,
    /// with the run; so is one that is not the only one.
    pub(in crate::harvest) fn open(
        rows: &'r Rows<'a>,
        old: &Old,
        table: &Gathered,
        is_only: bool,
        age: u64,
        sorter: &mut Sorter,
    ) -> Result<Self, MergeError> {
        let path = base::folder(&rows.run.world.root).join(&old.base.file);
        let (reader, head) = BaseReader::open(&rows.run.world.disk, &path)?;
        let mut before = Self {
            reader: Some(reader),
            rows: Some(rows),
            keys: keys(rows),
            owner: rows.members.iter().position(|m| m.plan.name == old.owner),
            origins: Origins::default(),
            head: None,
            definition: table.definition.clone(),
            is_shared: table.is_shared,
        };
        if is_only && head.key == table.definition {
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
            value.extend(OF_BEFORE.to_le_bytes());
            order.push(0);
            order.extend(age.to_be_bytes());
            order.extend(ordinal.to_be_bytes());
            value.extend_from_slice(&head.line);
            sorter.push(&order, &value)?;
            ordinal += 1;
        }
        Ok(Self::default())
    }

    /// Moves to the next record, which must come later in the order.
    pub(in crate::harvest) fn advance(&mut self) -> Result<(), MergeError> {
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
        self.head = None;
        let (Some(reader), Some(rows)) = (&mut self.reader, self.rows) else {
            return Ok(false);
        };
        loop {
            let Some(line) = reader.next()? else {
                return Ok(false);
            };
            let version = Version::parse(line);
            let known = version.and_then(|version| Some((version, self.origins.of(&version)?)));
            let Some((version, partition)) = known else {
                return Err(self.damaged("a line is no record"));
            };
            let at = match version.stream {
                None => self.owner.or(Some(0)),
                Some(_) => member_of(rows, version.stream),
            };
            let Some(at) = at else { continue };
            let (Some(key), Some(member)) = (self.keys.get_mut(at), rows.members.get(at)) else {
                return Ok(false);
            };
            let mut head = Head::default();
            if self.is_shared && version.stream.is_none() {
                push_of(&member.plan.name, line, &mut head.line);
            } else {
                head.line.extend_from_slice(line.as_bytes());
            }
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
            let ranks = Ranks::of(&rows.members);
            ranks.push_old(member.plan, version.record, &mut head.rank);
            self.head = Some(head);
            return Ok(true);
        }
    }

    /// Keeps its record, and moves on.
    pub(in crate::harvest) fn keep(&mut self, out: &mut BaseWriter) -> Result<(), MergeError> {
        if let Some(head) = &self.head {
            out.line(&head.line)?;
        }
        self.advance()
    }

    fn damaged(&self, what: &'static str) -> MergeError {
        let path = self.reader.as_ref().map(|reader| reader.path().to_owned());
        MergeError::Base(BaseError::Damaged {
            path: path.unwrap_or_default(),
            what,
        })
    }
}
