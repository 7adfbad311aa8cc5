//! A stream's committed records in canonical order.

use std::io;

use super::partitions::{Partition, Source};
use super::run::Run;
use crate::plan::StreamPlan;
use crate::store::index::Index;
use crate::store::part::Part;

/// Reads records in canonical order, page by page.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// Variables and templates.
    pub(super) run: &'a Run,
    /// The stream.
    pub(super) plan: &'a StreamPlan,
    /// Its records.
    pub(super) part: &'a Part,
    /// Where they are, sorted.
    pub(super) index: &'a Index,
    /// At most so many.
    pub(super) most: u64,
}

/// One record with where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    /// Its ordinal in the stream.
    pub(super) ordinal: u64,
    /// Its ordinal in its page.
    pub(super) in_page: u32,
    /// Its JSON text.
    pub(super) json: &'a str,
}

impl Rows<'_> {
    /// Every record with its partition, in canonical order.
    pub(super) fn each(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_placed(&mut |placed, partition, _| visit(placed, partition))
    }

    pub(super) fn load<'b>(
        &self,
        start: u64,
        len: u32,
        into: &'b mut Vec<u8>,
    ) -> io::Result<&'b str> {
        into.resize(len as usize, 0);
        self.part.read(start, into).map_err(io::Error::other)?;
        std::str::from_utf8(into).map_err(io::Error::other)
    }

    /// Every record with its partition and where it begins in the part, in canonical order.
    pub(super) fn each_placed(
        &self,
        visit: &mut dyn FnMut(Placed<'_>, &Partition, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut partitions = Source::of(self.run, self.plan).walk();
        let mut partition: Option<Partition> = None;
        let mut buffer = Vec::new();
        let mut ordinal = 0;
        for row in self.index.rows() {
            while partition.as_ref().is_none_or(|p| p.ordinal < row.partition) {
                partition = Some(
                    partitions
                        .next()
                        .transpose()
                        .map_err(io::Error::other)?
                        .ok_or_else(|| io::Error::other("a page of no partition"))?,
                );
            }
            let Some(partition) = &partition else { break };
            let page = self.load(row.start, row.len, &mut buffer)?;
            let mut start = row.start;
            for (in_page, json) in (0_u32..).zip(page.split_terminator('\n')) {
                if ordinal >= self.most {
                    return Ok(());
                }
                visit(
                    Placed {
                        ordinal,
                        in_page,
                        json,
                    },
                    partition,
                    start,
                )?;
                start += json.len() as u64 + 1;
                ordinal += 1;
            }
        }
        Ok(())
    }
}
