//! Answers that are too large for memory: rows of CSV and NDJSON, in a file beside the part, which is
//! gone over twice. The first time it is seen to be whole and right, the second time its records
//! are handed on in pieces. Each piece is a page of the part; they are committed in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use crate::crc;
use crate::disk::DiskFile;
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::fetch::body::{BodyError, PAGE_CAP};
use crate::fetch::large::{LargeBody, Spill};
use crate::harvest::attempt::fetched::Fetched;
use crate::harvest::attempt::once::Spot;
use crate::harvest::commit::{Committer, Staged, What};
use crate::harvest::pages::digest::Digest;
use crate::harvest::stream::Stream;
use crate::plan::request::BodyPlan;
use crate::records::format::{Read, Reader, Told};
use crate::records::page::Page;
use crate::records::problem::SelectError;
use crate::store::bodies::Bodies;
use crate::store::error::StoreError;
use crate::store::index::PageRow;
use crate::store::row::Facts;
use crate::store::stream::Piece;

/// Most bytes of an answer in memory, where it need not be there as a whole.
pub(in crate::harvest) const WHOLE: usize = 16 << 20;
/// Most bytes of an answer in memory, where it must be, whatever `max_body` says: places in it have
/// 32 bits, and it becomes records beside itself.
const MOST_WHOLE: usize = 1 << 30;
/// Bytes of records in one piece.
const PIECE: usize = 1 << 20;

/// The name under which it is written down of how many pieces a page is.
pub(in crate::harvest) const PIECES: &str = "pieces";

impl Spill for Bodies {
    fn begin(&self) -> Result<DiskFile, BodyError> {
        Self::begin(self).map_err(|e| unwritten(&e))
    }

    fn append(&self, file: &DiskFile, bytes: &[u8]) -> Result<(), BodyError> {
        Self::append(self, file, bytes).map_err(|e| unwritten(&e))
    }
}

fn unwritten(error: &StoreError) -> BodyError {
    let cause = match error {
        StoreError::Disk(error) => format!(": {}", error.source),
        _ => String::new(),
    };
    BodyError::Disk {
        message: format!("{error}{cause}"),
        hint: error.hint(),
    }
}

/// An answer that was seen to be whole and right, and is not in memory.
#[derive(Debug, Clone)]
pub(in crate::harvest) struct Large {
    body: LargeBody,
    content_type: Option<String>,
    /// How many pieces it comes in; two at least.
    pub(in crate::harvest) pieces: u32,
    /// A hash of its records, for loop guards.
    pub(in crate::harvest) content: u64,
}

/// What goes over a large answer.
struct Over {
    reader: Arc<Reader>,
    member: Option<crate::plan::format::Member>,
}

impl Over {
    fn pieces(
        &self,
        body: &LargeBody,
        content_type: Option<&str>,
        out: &mut dyn FnMut(Page) -> Result<(), SelectError>,
    ) -> Result<Result<(), SelectError>, BodyError> {
        let told = Told {
            content_type,
            is_good: true,
        };
        body.each(self.member.as_ref(), &mut |name, file| {
            self.reader.pieces(told, name, file, PIECE, out)?;
            // What stands at the end of a packing is looked at there.
            let _ = std::io::copy(file, &mut std::io::sink());
            Ok(())
        })
    }
}

impl Stream {
    /// Most bytes of an answer in memory.
    pub(in crate::harvest) fn most_whole(&self) -> usize {
        self.most_body().min(MOST_WHOLE)
    }

    /// Most bytes of an answer.
    pub(in crate::harvest) fn most_body(&self) -> usize {
        self.plan().format.max_body.unwrap_or(PAGE_CAP)
    }

    /// Whether an answer need not be in memory as a whole: nobody looks into it but for its rows.
    pub(in crate::harvest) fn may_be_large(
        &self,
        spot: &Spot<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<&Arc<dyn Spill>> {
        let bodies = self.bodies.as_ref().filter(|_| spot.in_pieces)?;
        let looks = self.reads_text
            || self.is_paid()
            || self.plan().keeps_raw
            || self.plan().cost.iter().any(|cost| cost.actual.is_some())
            || matches!(self.plan().request.body, BodyPlan::Graphql { .. });
        let told = Told {
            content_type: headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()),
            is_good: true,
        };
        let is_rows = status.is_success() && !looks && self.reader.reads_rows(told);
        (is_rows && !self.counts_in_page()).then_some(bodies)
    }

    fn over(&self) -> Over {
        Over {
            reader: Arc::clone(&self.reader),
            member: self.plan().format.member.clone(),
        }
    }

    /// Goes over a large answer for the first time. The page that comes of it holds the last record
    /// alone, and how many come before it; of one that turns out small, all of them.
    pub(in crate::harvest) async fn survey(
        &self,
        body: LargeBody,
        content_type: Option<String>,
    ) -> Result<(Read, Option<Large>), BodyError> {
        let over = self.over();
        let work = move || {
            let (mut pieces, mut nulls, mut before) = (0_u32, 0, 0);
            let mut hashes = [0, 0];
            let mut last = Page::default();
            let read = over.pieces(&body, content_type.as_deref(), &mut |piece| {
                let hash = &mut hashes[pieces as usize % 2];
                *hash = crc::append(*hash, &piece.lines);
                pieces += 1;
                nulls += piece.nulls;
                before += last.count();
                last = piece;
                Ok(())
            })?;
            if let Err(error) = read {
                let page = Err(error);
                return Ok((Read { page, json: None }, None));
            }
            last.nulls = nulls;
            if pieces < 2 {
                let page = Ok(last);
                return Ok((Read { page, json: None }, None));
            }
            let at_end = last.last().unwrap_or_default().to_owned() + "\n";
            let page = Page {
                before: before + last.count().saturating_sub(1),
                wants: last.wants,
                nulls,
                ..Page::of_lines(at_end.into())
            };
            let large = Large {
                body,
                content_type,
                pieces,
                content: (u64::from(hashes[0]) << 32) | u64::from(hashes[1]),
            };
            let page = Ok(page);
            Ok((Read { page, json: None }, Some(large)))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Hands on the records of a large answer, in pieces. Nothing of it counts before the last of them.
    pub(in crate::harvest) async fn hand_on_pieces(
        self: &Arc<Self>,
        mut fetched: Fetched,
        large: &Large,
        digest: &Digest,
        spot: &Spot<'_>,
        committer: &Committer,
    ) -> Result<(), Box<Failure>> {
        // Each piece has a share of the budget of its own; the right to be larger stays.
        fetched.reservation.shrink(0);
        let (send, mut pieces) = mpsc::channel(1);
        let (over, body) = (self.over(), large.body.clone());
        let content_type = large.content_type.clone();
        let reading = tokio::task::spawn_blocking(move || {
            over.pieces(&body, content_type.as_deref(), &mut |piece| {
                let gone = || SelectError::Unread("nobody reads on".to_owned());
                send.blocking_send(piece).map_err(|_| gone())
            })
        });
        let (mut given, mut kept, mut at) = (0, 0, 0);
        while let Some(page) = pieces.recv().await {
            let mut reservation = self.reserve().await?;
            reservation.shrink(page.lines.len());
            let piece = Fetched {
                page,
                transformed: None,
                large: None,
                status: fetched.status,
                headers: HeaderMap::new(),
                body: BytesMut::new(),
                size: 0,
                url: fetched.url.clone(),
                last: fetched.last,
                took: fetched.took,
                reservation,
            };
            let came = piece.page.count();
            let piece = self.transform_from(piece, given, spot).await?;
            given += came;
            self.judge_types(piece.kept().records(), spot.partition, spot.text)?;
            let count = piece.kept().count() as u64;
            kept += count;
            self.records.fetch_add(count, Ordering::Relaxed);
            // Of a sample nobody wants the rest.
            let all = if self.has_enough() {
                at + 1
            } else {
                large.pieces
            };
            let facts = match at {
                0 => self.written(digest),
                _ => Facts {
                    more: serde_json::Map::from_iter([(PIECE_OF.to_owned(), at.into())]),
                    ..Facts::default()
                },
            };
            let mut new = piece.into_piece(spot.print, facts);
            new.piece = Piece::of(at, all);
            let staged = Staged {
                partition: spot.partition.ordinal,
                page: spot.page + at,
                what: What::New(Box::new(new)),
            };
            committer.commit(staged).await?;
            at += 1;
            if at == all {
                break;
            }
        }
        drop(pieces);
        let read = match reading.await {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if at < large.pieces && !self.has_enough() {
            let why = match read {
                Err(error) => error.to_string(),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) => "it is shorter than it was".to_owned(),
            };
            let message = format!("{}: a large answer cannot be read again: {why}", spot.text);
            return Err(Box::new(Failure::new(
                Exit::Disk,
                self.run.secrets.scrub(&message),
            )));
        }
        self.emit(Fact::PageFetched {
            stream: self.name.clone(),
            partition: u64::from(spot.partition.ordinal),
            page: u64::from(spot.page),
            records: kept,
            bytes: fetched.size as u64,
            took: fetched.took,
        });
        Ok(())
    }

    /// Hands on the further pieces of a page that an earlier attempt kept.
    pub(in crate::harvest) async fn hand_on_kept(
        &self,
        digest: &Digest,
        spot: &Spot<'_>,
        committer: &Committer,
    ) -> Result<(), Box<Failure>> {
        for at in 1..digest.pieces {
            let row = self.kept_piece(spot, at)?;
            let count = u64::from(row.records);
            self.records.fetch_add(count, Ordering::Relaxed);
            let staged = Staged {
                partition: spot.partition.ordinal,
                page: spot.page + at,
                what: What::KeptPiece(row),
            };
            committer.commit(staged).await?;
        }
        Ok(())
    }

    fn kept_piece(&self, spot: &Spot<'_>, at: u32) -> Result<PageRow, Box<Failure>> {
        let Some(recall) = self.recall() else {
            return Err(crate::harvest::run::interrupted());
        };
        let mut first = None;
        for row in recall.find(spot.partition.ordinal, spot.page + at) {
            let written = recall.page(&row).map_err(StoreError::into_failure)?;
            let is_it = written
                .facts
                .more
                .get(PIECE_OF)
                .and_then(serde_json::Value::as_u64);
            if written.request == spot.print && is_it == Some(u64::from(at)) {
                return Ok(row);
            }
            first.get_or_insert(row);
        }
        let what = "a piece of a large answer is missing";
        if let Some(row) = first {
            return Err(recall.unread(&row, what).into_failure());
        }
        let message = format!("{}: {what} in what is kept", spot.text);
        let mut failure = Failure::new(Exit::Disk, message);
        failure.hint = Some("`--fresh` discards what was kept and starts anew".to_owned());
        Err(Box::new(failure))
    }

    /// Whether its columns count records within a page, which pieces would count anew.
    fn counts_in_page(&self) -> bool {
        let columns = self.plan().columns.iter().flatten();
        let mut names = columns.filter_map(|column| match &column.from {
            crate::plan::ColumnFrom::Template(template) => Some(template.names()),
            _ => None,
        });
        names.any(|names| {
            let mut roots = names.iter().filter_map(|name| name.path.first());
            roots.any(|root| root == "index")
        })
    }
}

/// The name under which a piece says which of its page it is.
const PIECE_OF: &str = "piece";
