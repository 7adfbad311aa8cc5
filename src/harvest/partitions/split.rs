//! Partitions that do not come to their end as they were begun: those whose paging ended under way are
//! begun again, and windows of time that turn out too large are halved, and the halves walked one
//! after the other.
//!
//! They stay one partition, whose pages are numbered on. An answer that splits takes the place of the
//! window's first page, without records, and is kept like any other page: a run that goes on halves
//! the same windows without asking. Pages that the window had brought before count no more, since
//! the halves bring their records again.

use std::sync::Arc;

use minijinja::Value;

use super::Partition;
use super::slice::Slice;
use crate::event::Fact;
use crate::failure::Failure;
use crate::harvest::commit::{Committer, New, Staged, What};
use crate::harvest::pages::Ended;
use crate::harvest::pages::digest::{Digest, crc_of};
use crate::harvest::stream::Stream;
use crate::plan::window::Window;
use crate::store::stream::Piece;

/// So often is a partition begun again by a rule; one that never comes to its end is not worth more.
const MOST_RESTARTS: u32 = 3;

impl Stream {
    /// Walks a partition to its end.
    pub(in crate::harvest) async fn walk_slice(
        self: Arc<Self>,
        slice: Slice,
        committer: Committer,
    ) -> Result<(), Box<Failure>> {
        let ordinal = slice.partition.ordinal;
        let whole = Arc::new(slice);
        // What is still to be walked, the next one last.
        let mut parts = vec![whole.clone()];
        let (mut page, mut replay) = (0, true);
        let mut restarts = 0;
        while let Some(part) = parts.pop() {
            let begins = page;
            let walk = self.clone();
            match walk.walk_part(&part, &committer, &mut page, replay).await? {
                Ended::Whole => {}
                Ended::Again => {
                    parts = vec![whole.clone()];
                    (page, replay) = (0, false);
                }
                // Its first page depends on nothing that was given before, and what was paid for is not
                // asked for again.
                Ended::Expired(failure) if page == 0 || self.is_paid() => return Err(failure),
                Ended::Expired(failure) if restarts == MOST_RESTARTS => {
                    return Err(often(failure));
                }
                Ended::Expired(failure) => {
                    restarts += 1;
                    self.tell_restart(&failure, restarts);
                    parts = vec![whole.clone()];
                    (page, replay) = (0, false);
                }
                Ended::Split => {
                    let halves = self.halves(&part)?.ok_or_else(|| {
                        let place = self.place(&part.partition, begins);
                        self.unrendered(format!("{place}: its window cannot be halved any more"))
                    })?;
                    parts.extend(halves);
                }
                Ended::TooLarge(failure) => {
                    let Some(halves) = self.halves(&part)? else {
                        return Err(smallest(failure));
                    };
                    self.put_split(&part, begins, page, replay, &committer)
                        .await?;
                    page = begins + 1;
                    parts.extend(halves);
                }
            }
        }
        self.emit(Fact::PartitionFinished {
            stream: self.name.clone(),
            partition: u64::from(ordinal),
        });
        Ok(())
    }

    /// A partition is begun again.
    fn tell_restart(&self, failure: &Failure, nth: u32) {
        self.notice(&format!(
            "{}; its partition is fetched from the start ({nth} of {MOST_RESTARTS} times)",
            failure.message
        ));
    }

    /// The halves of a part, the first last; none where requests for them would not be smaller.
    fn halves(&self, part: &Slice) -> Result<Option<[Arc<Slice>; 2]>, Box<Failure>> {
        let variables = &part.partition.variables;
        let at = variables
            .iter()
            .rposition(|(_, value)| Window::of(value).is_some());
        let halves = at.and_then(|at| Some((at, Window::of(&variables[at].1)?.halves()?)));
        let Some((at, (first, second))) = halves else {
            return Ok(None);
        };
        let of = |half: Window| {
            let mut variables = variables.clone();
            variables[at].1 = Value::from_object(half);
            self.slice(Partition {
                ordinal: part.partition.ordinal,
                variables,
            })
        };
        let (first, second) = (of(first)?, of(second)?);
        let are_alike = |a: &Slice, b: &Slice| {
            a.base.fingerprint() == b.base.fingerprint() && a.base.headers == b.base.headers
        };
        // Days in the request say nothing of half a day.
        let is_cut = !are_alike(&first, part) && !are_alike(&second, part);
        Ok((is_cut && !are_alike(&first, &second)).then(|| [Arc::new(second), Arc::new(first)]))
    }

    /// Puts an answer that splits in the place of a part's first page.
    async fn put_split(
        &self,
        part: &Slice,
        begins: u32,
        page: u32,
        replay: bool,
        committer: &Committer,
    ) -> Result<(), Box<Failure>> {
        let partition = part.partition.ordinal;
        let what = match (begins, replay) {
            // As the new beginning of a partition that is walked again.
            (0, false) if page == 0 => Some(What::Again),
            _ if page > begins => Some(What::Void),
            _ => None,
        };
        if let Some(what) = what {
            let void = Staged {
                partition,
                page: begins,
                what,
            };
            committer.commit(void).await?;
        }
        let digest = Digest {
            is_split: true,
            ..Digest::default()
        };
        let mut reservation = self.reserve().await?;
        reservation.shrink(0);
        let split = Staged {
            partition,
            page: begins,
            what: What::New(Box::new(New {
                crc: crc_of(0, 0),
                lines: bytes::Bytes::new(),
                records: 0,
                print: self.first_print(part)?,
                facts: self.written(&digest),
                piece: Piece::Whole,
                _reservation: Some(reservation),
            })),
        };
        Ok(committer.commit(split).await?)
    }
}

fn often(mut failure: Box<Failure>) -> Box<Failure> {
    let Failure { message, .. } = &mut *failure;
    *message = format!("{message}; it was begun again {MOST_RESTARTS} times");
    failure
}

fn smallest(mut failure: Box<Failure>) -> Box<Failure> {
    failure.message += "; its window cannot be halved any more";
    failure.hint = Some(
        "the request says no shorter time than that, or there is no window: narrow it by another parameter under `for`"
            .to_owned(),
    );
    failure
}
