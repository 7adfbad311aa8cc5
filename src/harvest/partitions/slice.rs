//! A partition with its request, and what tells its pages from those of others.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use super::Partition;
use super::record;
use crate::failure::Failure;
use crate::harvest::attempt::once::Spot;
use crate::harvest::pages::walk::Walk;
use crate::harvest::secrets::Secrets;
use crate::harvest::stream::Stream;
use crate::plan::paging::Paging;
use crate::plan::request::{Rendered, Slot};
use crate::store::hash::stable;

/// A partition with its request.
pub(in crate::harvest) struct Slice {
    pub(in crate::harvest) partition: Partition,
    /// The request before paging.
    pub(in crate::harvest) base: Rendered,
    /// Tells its values from those of other partitions.
    print: u64,
    /// What tells the one page of a partition that asks for nothing.
    pub(in crate::harvest) first: Option<u64>,
    /// Requests are known by the names of their secrets, not by values.
    secrets: Arc<Secrets>,
}

impl Slice {
    /// Where one of its pages stands, one after the first of its walk.
    pub(in crate::harvest) fn spot<'a>(&'a self, page: u32, print: u64, text: &'a str) -> Spot<'a> {
        Spot {
            partition: &self.partition,
            page,
            print,
            text,
            in_pieces: false,
            is_later: true,
        }
    }

    /// What tells a request of this partition from every other one of the stream: a value may
    /// travel in a header, which a request's own fingerprint leaves out.
    pub(in crate::harvest) fn print(&self, paging: &Paging, request: &Rendered) -> u64 {
        if let Some(print) = self.first {
            return print;
        }
        let in_header = match paging {
            Paging::Page { to, .. }
            | Paging::Offset { to, .. }
            | Paging::Token { to, .. }
            | Paging::Keyset { to, .. }
                if matches!(to, Slot::Header(_)) =>
            {
                request.get(to)
            }
            _ => None,
        };
        let asked = request.fingerprint_hiding(|text| self.secrets.by_name(text));
        let mut prints = String::with_capacity(2 * 16 + 1);
        let _ = write!(prints, "{:x} {asked:x}", self.print);
        stable(&[&prints, in_header.as_deref().unwrap_or_default()])
    }
}

impl Stream {
    /// A partition with its request.
    pub(in crate::harvest) fn slice(&self, partition: Partition) -> Result<Slice, Box<Failure>> {
        let is_child = self.plan().parents().next().is_some();
        let print = if is_child {
            // Another record may lead to the same request.
            self.headers_print(&partition)
        } else {
            partition.print()
        };
        Ok(Slice {
            base: self.render(&partition)?,
            print,
            first: None,
            partition,
            secrets: self.run.secrets.clone(),
        })
    }

    /// A hash of the variables that headers name, which the fingerprint of a request leaves out.
    fn headers_print(&self, partition: &Partition) -> u64 {
        let headers = self.plan().request.headers.iter();
        let names: HashSet<String> = headers
            .flat_map(|(_, template)| template.names())
            .filter_map(|name| name.path.into_iter().next())
            .collect();
        let variables = partition.variables.iter();
        let sent = variables.filter(|(name, _)| names.contains(name));
        let texts: Vec<String> = sent
            .map(|(name, value)| format!("{name} {}", record::text(value)))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        stable(&texts)
    }

    /// What tells the first page of a partition from those of others.
    pub(in crate::harvest) fn first_print(&self, slice: &Slice) -> Result<u64, Box<Failure>> {
        let paging = &self.plan().paging;
        let walk = Walk::new(paging, None, true);
        let turn = walk.first(self.start_token(&slice.partition)?);
        match slice.base.page(&turn) {
            Ok(request) => Ok(slice.print(paging, &request)),
            Err(e) => Err(self.unrendered(&e)),
        }
    }
}
