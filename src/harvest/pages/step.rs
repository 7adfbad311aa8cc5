//! The step from a page of a partition to what follows it.

use std::sync::atomic::Ordering;

use url::Url;

use super::Got;
use super::digest::Digest;
use super::walk::{Next, Walk, WalkFault};
use crate::failure::Failure;
use crate::fetch::origin;
use crate::harvest::answer::{Seen, mistakes};
use crate::harvest::partitions::Partition;
use crate::harvest::partitions::slice::Slice;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::plan::language::LanguageProblem;
use crate::plan::paging::Paging;
use crate::plan::request::{Rendered, Turn};

impl Stream {
    /// The request of one page that follows.
    pub(super) fn following(
        &self,
        slice: &Slice,
        next: &Next,
        url: &Url,
        place: &str,
    ) -> Result<Option<Rendered>, Box<Failure>> {
        let turn = match next {
            Next::End | Next::Many { .. } => return Ok(None),
            Next::One(turn) => slice.base.page(turn),
            Next::Url(reference) => {
                let mut url = origin::resolve(url, reference)
                    .map_err(|e| trouble::refused(&e.to_string(), e.hint().as_deref(), place))?;
                // Servers echo what they were asked with; loop guards and messages must not.
                self.run.credentials.strip(&mut url);
                // It is the API's address that cannot be asked for, not a template of ours.
                return match slice.base.page(&Turn::Url(url)) {
                    Ok(request) => Ok(Some(request)),
                    Err(e) => Err(trouble::refused(&e.message, None, place)),
                };
            }
        };
        turn.map(Some).map_err(|e| self.unrendered(&e))
    }

    /// What follows a page.
    pub(super) fn after(
        &self,
        walk: &mut Walk<'_>,
        digest: &mut Digest,
        got: &Got,
        partition: &Partition,
        place: &str,
    ) -> Result<Next, StepFault> {
        let mut next = if digest.ended {
            Next::End
        } else {
            walk.after(digest, self.size_kept.load(Ordering::Relaxed))
                .map_err(StepFault::Walk)?
        };
        if next == Next::End
            && self.expect_total.is_some()
            && matches!(self.plan().paging, Paging::None { declared: false })
            && let Some(total) = self.told_total(digest)
            && total > digest.count
        {
            return Err(StepFault::Walk(WalkFault::Forgotten(format!(
                "it tells of {total} records and holds {}",
                digest.count
            ))));
        }
        // What it said of a kept page was written down with it.
        if let (Some(stop), Some(fetched)) = (&self.plan().stop, got.at_hand())
            && next != Next::End
        {
            let names = self.answer_names(
                fetched.status,
                &fetched.headers,
                Seen::of(&fetched.body, fetched.page.json.as_ref()),
                &partition.variables,
                1,
                Some(&fetched.page),
            );
            let holds = stop.holds(&names);
            let failed = |e: LanguageProblem| {
                let sample = self.beginning(&fetched.body);
                StepFault::Failure(mistakes::rule("stop", &e, place, sample))
            };
            if holds.map_err(failed)? {
                digest.ended = true;
                next = Next::End;
            }
        }
        Ok(next)
    }
}

/// Why a page leads no further.
pub(super) enum StepFault {
    Walk(WalkFault),
    Failure(Box<Failure>),
}

impl StepFault {
    pub(super) fn into_failure(self, place: &str, request: &str) -> Box<Failure> {
        match self {
            Self::Walk(fault) => trouble::walk(&fault, place, request),
            Self::Failure(failure) => failure,
        }
    }
}

/// The page size that the request asks for.
pub(in crate::harvest) fn asked_size(paging: &Paging, request: &Rendered) -> Option<u64> {
    let (Paging::Page { size, .. } | Paging::Offset { size, .. } | Paging::Keyset { size, .. }) =
        paging
    else {
        return None;
    };
    request.get(size.as_ref()?)?.parse().ok()
}
