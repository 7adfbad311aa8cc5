//! `once`: a request that acts or costs is written down before it is sent, and never sent again
//! while nobody knows what came of it.
//!
//! What is written is one row, synced (`store::row::Sent`). The row of the page takes it back, or
//! another that says that nothing was done: the API refused, or no connection was made. What stands
//! alone when the run ends, or is killed, was sent, and its outcome is unknown. No program can find
//! it out: two parties on an unreliable wire cannot agree on the last message. So a person decides,
//! or the API does, where it takes a key (draft-ietf-httpapi-idempotency-key-header, Stripe's
//! `Idempotency-Key`): with one, the same request with the same key is answered from memory.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use jiff::SignedDuration;

use super::outcome::{Outcome, Sent as Acted};
use super::sendings::Sendings;
use super::turn::Under;
use super::verdict::{self, Trouble, Verdict};
use crate::event::Fact;
use crate::failure::{Exit, Failure};
use crate::fetch::transport::{SendError, SendErrorKind};
use crate::harvest::commit::Committer;
use crate::harvest::partitions::Partition;
use crate::harvest::partitions::slice::Slice;
use crate::harvest::stream::Stream;
use crate::plan::request::Once;
use crate::store::hash::stable;
use crate::store::row::{Row, Sent, Undone};
use crate::store::stream::StreamStore;

/// So many are named where a stream ends; `runs show` names all.
const NAMED: usize = 20;

/// For so long an API is believed to know a key again. Stripe forgets keys after a day at the
/// earliest; the draft leaves the time to each API.
const KEYS_LIVE: SignedDuration = SignedDuration::from_hours(20);

/// What to do with what was sent before and nobody knows the outcome of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Leave it alone, and say so.
    #[default]
    Name,
    /// Send it again, though it may act or cost twice.
    Resend,
    /// Publish without it.
    Skip,
}

/// Where a page stands.
#[derive(Clone, Copy)]
pub(in crate::harvest) struct Spot<'a> {
    /// Its partition.
    pub(in crate::harvest) partition: &'a Partition,
    /// The page's ordinal in it.
    pub(in crate::harvest) page: u32,
    /// What tells its request from all others of the stream.
    pub(in crate::harvest) print: u64,
    /// Stream, page and partition, for people; scrubbed.
    pub(in crate::harvest) text: &'a str,
    /// Whether its answer may be kept in pieces, as pages that follow one another.
    pub(in crate::harvest) in_pieces: bool,
    /// Whether pages came before it in the walk that asks for it: of a partition that was halved each
    /// half has a walk of its own, and a first page.
    pub(in crate::harvest) is_later: bool,
}

impl<'a> Spot<'a> {
    /// The first page, for those who only look.
    pub(in crate::harvest) fn first(partition: &'a Partition, text: &'a str) -> Self {
        Self {
            partition,
            page: 0,
            print: 0,
            text,
            in_pieces: false,
            is_later: false,
        }
    }

    fn key(&self) -> (u32, u32) {
        (self.partition.ordinal, self.page)
    }
}

impl Under {
    /// An answer came, of this status, to a request of this method.
    pub(in crate::harvest) fn heard(&mut self, method: &Method, status: StatusCode) {
        let acted = match status.as_u16() {
            // The server gave up on a request that it may have begun (RFC 9110, section 15.5.9).
            408 => true,
            // It did not do as it was told (RFC 9110, sections 15.4.8, 15.4.9 and 15.5).
            307 | 308 | 400..=499 => false,
            // To other redirects a client follows with a GET: what was asked may be done.
            300..=399 => *method == Method::POST,
            _ => true,
        };
        if acted {
            self.acted = Acted::Perhaps;
            if status.is_redirection() {
                self.led = Acted::Perhaps;
            }
        }
    }

    /// None came.
    pub(in crate::harvest) fn unheard(&mut self, error: &SendError) {
        if error.kind == SendErrorKind::HeadTooLarge {
            self.acted = Acted::Perhaps;
        }
    }

    /// Whether what was sent may have been acted on.
    pub(in crate::harvest) fn may_have_acted(&self, outcome: &Outcome) -> Acted {
        match outcome {
            // 429 and its like take back what the status says, but not what came before a redirect.
            Outcome::Trouble(_, Acted::No) => self.led,
            Outcome::Page(..)
            | Outcome::NotReady(_)
            | Outcome::Unread(..)
            | Outcome::Trouble(_, Acted::Perhaps) => Acted::Perhaps,
            Outcome::Stale(_)
            | Outcome::Fail(_)
            | Outcome::Refused(_)
            | Outcome::TooLarge(_)
            | Outcome::Expired(_) => self.acted,
        }
    }
}

impl Stream {
    /// Keeps a book of what it sends, where a repeat would act or cost.
    pub(in crate::harvest) fn keeping_book(mut self, store: &StreamStore) -> Self {
        if self.plan().request.once.acts() {
            self.sendings = Some(Sendings::new(store));
        }
        self
    }

    /// Whether what was sent has been paid for, so that its answer is worth waiting for.
    pub(in crate::harvest) fn is_paid(&self) -> bool {
        self.plan().request.once.acts()
    }

    /// Puts the page's key on a request, by which the API knows a repeat.
    pub(in crate::harvest) fn put_key(&self, headers: &mut HeaderMap, spot: &Spot<'_>) {
        let Once::Keyed(name) = &self.plan().request.once else {
            return;
        };
        let place = format!("{} {:x} {:?}", self.name, spot.print, spot.key());
        let half = |of: &str| stable(&[&self.run.id, &self.run.seed.to_string(), &place, of]);
        let (high, low) = (half("high"), half("low"));
        // A UUID of our own making (RFC 9562, section 5.8): what APIs expect.
        let key = format!(
            "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            0x8000 | low >> 48 & 0x3fff,
            low & 0xffff_ffff_ffff
        );
        if let Ok(value) = HeaderValue::try_from(key) {
            headers.insert(name, value);
        }
    }

    /// 409: what an API says that is still at work on the first request with a key (so the draft
    /// wants it, and Stripe does it). Its answer will come.
    pub(in crate::harvest) fn by_key(&self, status: StatusCode) -> Option<Verdict> {
        let is_keyed = matches!(self.plan().request.once, Once::Keyed(_));
        (is_keyed && status == StatusCode::CONFLICT).then(|| {
            let message = verdict::show(status);
            Verdict::Trouble(Trouble::transient(message))
        })
    }

    /// Refuses what was sent before, while nobody knows what came of it.
    pub(in crate::harvest) fn refuse_repeat(&self, spot: &Spot<'_>) -> Result<(), Box<Failure>> {
        let Some(sendings) = &self.sendings else {
            return Ok(());
        };
        let mut book = sendings.book();
        let Some(sent) = book.before.get(&spot.key()) else {
            return Ok(());
        };
        let age = self.run.world.clock.calendar().duration_since(sent.at);
        let is_known_by_key = matches!(self.plan().request.once, Once::Keyed(_)) && age < KEYS_LIVE;
        if self.run.options.unknown == Unknown::Resend || is_known_by_key {
            return Ok(());
        }
        let why = format!(
            "sent at {}, and the run ended before its answer was kept",
            sent.at
        );
        let failure = Failure::new(Exit::Failed, format!("{}: {why}", spot.text));
        book.left
            .insert(spot.key(), format!("{}: {why}", spot.text));
        Err(Box::new(failure))
    }

    /// Writes down that a request is about to be sent; when it returns, that survives anything.
    pub(in crate::harvest) async fn announce(&self, spot: &Spot<'_>) -> Result<(), Box<Failure>> {
        let Some(sendings) = &self.sendings else {
            return Ok(());
        };
        {
            let mut book = sendings.book();
            if let Some(failure) = &book.failed {
                return Err(failure.clone());
            }
            let known = book.open.insert(spot.key(), spot.text.to_owned());
            if known.is_some() {
                // A redirect, or a repeat that the API knows by its key.
                return Ok(());
            }
        }
        let row = Row::Sent(Sent {
            stream: self.name.clone(),
            partition: spot.partition.ordinal,
            page: spot.page,
            request: spot.print,
            place: spot.text.to_owned(),
            at: self.run.world.clock.calendar(),
        });
        let done = sendings.commit(Some(row)).await;
        let mut book = sendings.book();
        match &done {
            Ok(()) => book.before.remove(&spot.key()).map(drop),
            // Nothing was sent; whether that it would be was written, nobody knows.
            Err(_) => book.open.remove(&spot.key()).map(drop),
        };
        done
    }

    /// An attempt has ended: where it surely did nothing, that is written down too.
    pub(in crate::harvest) fn attempted(&self, spot: &Spot<'_>, sent: Acted) {
        let Some(sendings) = &self.sendings else {
            return;
        };
        if sent == Acted::No && sendings.book().open.remove(&spot.key()).is_some() {
            let row = Row::Undone(Undone {
                stream: self.name.clone(),
                partition: spot.partition.ordinal,
                page: spot.page,
            });
            sendings.note(row);
        }
    }

    /// All partitions have ended: what surely did nothing is on the disk when this returns, so that the next run
    /// asks nobody about it.
    pub(in crate::harvest) async fn attempts_settled(&self) -> Result<(), Box<Failure>> {
        match &self.sendings {
            Some(sendings) => sendings.commit(None).await,
            None => Ok(()),
        }
    }

    /// A page is on its way to the disk, where its row says what came of its request.
    pub(in crate::harvest) fn arrived(&self, partition: u32, page: u32) {
        if let Some(sendings) = &self.sendings {
            sendings.book().open.remove(&(partition, page));
        }
    }

    /// A partition that ended with a failure: if what it sent may have been done, and must not be
    /// sent again, the partition is left there, and the others go on.
    pub(in crate::harvest) fn left(
        &self,
        partition: u32,
        failure: Box<Failure>,
    ) -> Result<(), Box<Failure>> {
        let Some(sendings) = &self.sendings else {
            return Err(failure);
        };
        let mut book = sendings.book();
        let of_it = (partition, 0)..=(partition, u32::MAX);
        if failure.exit == Exit::Failed && self.plan().request.once.is_strict() {
            let open: Vec<_> = book
                .open
                .range(of_it.clone())
                .map(|(key, _)| *key)
                .collect();
            for key in open {
                book.open.remove(&key);
                book.left.insert(key, failure.message.clone());
            }
        }
        let is_left = book.left.range(of_it.clone()).next().is_some();
        let is_unread = book.unread.range(of_it).next().is_some();
        if failure.exit == Exit::Failed && (is_left || is_unread) {
            return Ok(());
        }
        book.failed.get_or_insert_with(|| failure.clone());
        Err(failure)
    }

    /// What came to a page cannot be read: it is kept, and the others go on.
    pub(in crate::harvest) fn cannot_read(&self, spot: &Spot<'_>, failure: &Failure) {
        if let Some(sendings) = &self.sendings {
            let failure = Box::new(failure.clone());
            sendings.book().unread.insert(spot.key(), failure);
        }
    }

    /// How many requests of the run so far nobody knows the outcome of.
    pub(in crate::harvest) fn unknown(&self) -> usize {
        let Some(sendings) = &self.sendings else {
            return 0;
        };
        let book = sendings.book();
        book.open.len() + book.left.len() + book.before.len()
    }

    /// What the first pages of partitions were asked for that an earlier process sent, and their
    /// numbers: nobody else may have these.
    pub(in crate::harvest) fn sent_firsts(&self) -> Vec<(u32, u64)> {
        let Some(sendings) = &self.sendings else {
            return Vec::new();
        };
        let book = sendings.book();
        let firsts = book.before.values().filter(|sent| sent.page == 0);
        firsts.map(|sent| (sent.partition, sent.request)).collect()
    }

    /// All that can be fetched is here: is that enough to be published?
    pub(in crate::harvest) fn judge_left(&self) -> Result<(), Box<Failure>> {
        let Some(sendings) = &self.sendings else {
            return Ok(());
        };
        let book = sendings.book();
        let (left, unread) = (&book.left, &book.unread);
        if left.is_empty() && unread.is_empty() {
            return Ok(());
        }
        let them = match left.len() + unread.len() {
            1 => "it",
            _ => "them",
        };
        let mut said = Vec::new();
        match left.len() {
            0 => {}
            1 => said.push("1 request was sent, and nobody knows what came of it".to_owned()),
            n => said.push(format!(
                "{n} requests were sent, and nobody knows what came of them"
            )),
        }
        match unread.len() {
            0 => {}
            1 => said.push("1 answer came that cannot be read".to_owned()),
            n => said.push(format!("{n} answers came that cannot be read")),
        }
        let why = unread.values().map(|failure| &failure.message);
        let all = left.values().chain(why);
        let mut named: Vec<String> = all.clone().take(NAMED).cloned().collect();
        let more = all.count().saturating_sub(NAMED);
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        let message = format!("{}: {}", self.name, said.join("; "));
        if self.run.options.unknown == Unknown::Skip {
            self.emit(Fact::FellShort {
                stream: self.name.clone(),
                message: format!("{message}; it is published without: {}", named.join("; ")),
            });
            return Ok(());
        }
        let read = unread.values().next().and_then(|one| one.hint.clone());
        let hint = match read {
            Some(read) if left.is_empty() => format!(
                "{read}\n`--unknown resend` asks again, `--unknown skip` publishes without {them}"
            ),
            _ => format!(
                "the stream says `once: true`, so what was sent was not repeated: look whether the API has acted; then run again with `--unknown resend`, or with `--unknown skip` to publish without {them}"
            ),
        };
        Err(Box::new(Failure {
            exit: Exit::Failed,
            message,
            causes: named,
            hint: Some(hint),
        }))
    }

    /// A partition from its first page to its last, or to where it has to be left.
    pub(in crate::harvest) async fn walk_or_leave(
        self: Arc<Self>,
        slice: Slice,
        committer: Committer,
    ) -> Result<(), Box<Failure>> {
        let ordinal = slice.partition.ordinal;
        match self.clone().walk_slice(slice, committer).await {
            Ok(()) => Ok(()),
            Err(failure) => self.left(ordinal, failure),
        }
    }
}
