//! What is kept of a page after its records were handed on: all that the walk asks of it. It is
//! written down in the ledger with the page, so that a walk can go over it again without asking
//! the API.

use std::sync::atomic::Ordering;

use super::more;
use crate::crc;
use crate::fetch::{link, origin};
use crate::harvest::answer::large::PIECES;
use crate::harvest::attempt::fetched::Fetched;
use crate::harvest::commit::New;
use crate::harvest::stream::Stream;
use crate::plan::paging::{Paging, TokenFrom};
use crate::records::page::Page;
use crate::store::stream::Piece;
use crate::store::{self, row::Facts};

/// The name under which the beginning of a record is written down that has no keyset field.
const WITHOUT: &str = "without";
/// The name under which it is written down how many records the API gave, where others are kept.
const GIVEN: &str = "given";
/// The name under which a sign of another page is written down.
const MORE: &str = "more";
/// The name under which members of the first record that came in an array are written down, where others are kept.
const LIKE: &str = "like";
/// The name under which it is written down that a window was halved.
const SPLIT: &str = "split";

/// What the walk asks of a page. Captured texts are raw JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::harvest) struct Digest {
    /// Records on the page.
    pub(in crate::harvest) count: u64,
    /// A hash of its records, for loop guards.
    pub(in crate::harvest) content: u64,
    /// Whether a rule of the pipeline made it the last of its partition.
    pub(in crate::harvest) ended: bool,
    /// Whether it stands for a window of time that was halved: it is no page.
    pub(in crate::harvest) is_split: bool,
    /// In how many pieces it is kept, if in several: pages of the part that follow one another.
    pub(in crate::harvest) pieces: u32,
    /// Values at [`super::walk::wants`], in that order.
    pub(in crate::harvest) wanted: Vec<Option<String>>,
    /// Where `Link: …; rel="next"` leads, or the next token, where a header holds it.
    pub(in crate::harvest) next: Option<String>,
    /// A sign of another page, in words.
    pub(in crate::harvest) more: Option<String>,
    /// What keyset paging finds in the last record.
    pub(in crate::harvest) last: Option<Last>,
    /// Members of a record as it came in an array, if the stream had not seen one before and `transform` makes
    /// others of it.
    pub(in crate::harvest) like: Option<Vec<String>>,
}

/// The last record of a page, as keyset paging sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::harvest) enum Last {
    /// The field's value.
    Value(String),
    /// It has no such field; this is how it begins.
    Without(String),
}

impl Stream {
    /// What the walk will ask of a page; `size` is the page size that its request asks for.
    pub(in crate::harvest) fn digest(&self, fetched: &Fetched, size: Option<u64>) -> Digest {
        let paging = &self.plan().paging;
        let wants = &fetched.page.wants;
        let (wanted, signs) = wants.split_at(wants.len().saturating_sub(self.signs.len()));
        let mut wanted = wanted.to_vec();
        let mut digest = Digest {
            count: fetched.page.count() as u64,
            content: content_hash(&fetched.page.lines),
            ended: fetched.last,
            more: more::sign(&self.signs, signs),
            ..Digest::default()
        };
        if fetched.page.lone.is_none() && self.liken(fetched.page.last()) {
            let like = self.like.get().cloned();
            digest.like = like.filter(|_| !self.plan().transform.is_empty());
        }
        if let Some(large) = &fetched.large {
            (digest.pieces, digest.content) = (large.pieces, large.content);
        }
        match paging {
            Paging::Link => {
                let next = link::next(&fetched.headers);
                digest.next = next.map(|next| self.absolute(fetched, next));
            }
            Paging::Next(_) => {
                if let Some(Some(raw)) = wanted.first_mut()
                    && let Ok(next) = serde_json::from_str::<String>(raw)
                    && !next.is_empty()
                {
                    *raw = serde_json::Value::from(self.absolute(fetched, next)).to_string();
                }
            }
            Paging::Token {
                from: TokenFrom::Header(name),
                ..
            } => {
                let value = fetched.headers.get(name);
                let value = value.and_then(|value| value.to_str().ok());
                digest.next = value.map(|value| value.trim().to_owned());
            }
            Paging::Keyset { field, .. } => {
                digest.last =
                    fetched
                        .page
                        .last()
                        .map(|record| match crate::json::get(record, field) {
                            Some(raw) => Last::Value(raw.to_owned()),
                            None => Last::Without(super::walk::shorten(record)),
                        });
            }
            Paging::None { .. }
            | Paging::Page { .. }
            | Paging::Offset { .. }
            | Paging::Token { .. }
            | Paging::Merge(_) => {}
        }
        digest.wanted = wanted;
        // Before the words in the body. Without paging the link counts whatever was paid.
        let looks = !self.plan().request.once.acts() || matches!(paging, Paging::None { .. });
        if looks && !matches!(paging, Paging::Link) && link::next(&fetched.headers).is_some() {
            digest.more = Some("it sends `Link: …; rel=\"next\"`".to_owned());
        }
        self.learn(&digest, size);
        digest
    }

    /// What a page, fetched now or kept, says of the API.
    pub(in crate::harvest) fn learn(&self, digest: &Digest, size: Option<u64>) {
        if size.is_some_and(|size| digest.count >= size) {
            self.size_kept.store(true, Ordering::Relaxed);
        }
    }

    /// A next page's address as an absolute one without credentials, which servers echo: then it
    /// can be written down. One that cannot be read stays as it is and fails where it is asked.
    fn absolute(&self, fetched: &Fetched, reference: String) -> String {
        match origin::resolve(&fetched.url, &reference) {
            Ok(mut url) => {
                self.run.credentials.strip(&mut url);
                url.into()
            }
            Err(_) => reference,
        }
    }

    /// A digest as it is written down. One that holds a secret is not: a run that goes on asks for
    /// the page again.
    pub(in crate::harvest) fn written(&self, digest: &Digest) -> Facts {
        let texts = digest.wanted.iter().flatten();
        let texts = texts.chain(&digest.next).chain(match &digest.last {
            Some(Last::Value(text) | Last::Without(text)) => Some(text),
            None => None,
        });
        let texts = texts.chain(digest.like.iter().flatten());
        for text in texts {
            if self.run.secrets.is_in(text) {
                return Facts::default();
            }
        }
        Facts {
            wanted: digest.wanted.clone(),
            next: digest.next.clone(),
            last: match &digest.last {
                Some(Last::Value(value)) => Some(value.clone()),
                _ => None,
            },
            content: Some(format!("{:016x}", digest.content)),
            ended: digest.ended,
            reading: self.reading().filter(|_| !digest.is_split),
            more: self.more(digest),
            ..Facts::default()
        }
    }
}

/// Whether a page stands for a window that was halved.
pub(in crate::harvest) fn is_split(facts: &Facts) -> bool {
    facts.more.contains_key(SPLIT)
}

impl Stream {
    fn more(&self, digest: &Digest) -> serde_json::Map<String, serde_json::Value> {
        let mut more = serde_json::Map::new();
        if digest.is_split {
            more.insert(SPLIT.to_owned(), true.into());
        } else if let Some(Last::Without(record)) = &digest.last {
            more.insert(WITHOUT.to_owned(), record.as_str().into());
        }
        if let Some(sign) = &digest.more {
            more.insert(MORE.to_owned(), sign.as_str().into());
        }
        if let Some(like) = &digest.like {
            more.insert(LIKE.to_owned(), like.as_slice().into());
        }
        if digest.pieces > 1 {
            more.insert(PIECES.to_owned(), digest.pieces.into());
        }
        if !digest.is_split && (digest.pieces > 1 || !self.plan().transform.is_empty()) {
            more.insert(GIVEN.to_owned(), digest.count.into());
        }
        more
    }
}

impl Fetched {
    /// Its records as they are kept: after `transform`.
    pub(in crate::harvest) fn kept(&self) -> &Page {
        self.transformed.as_ref().unwrap_or(&self.page)
    }

    /// What is committed of it.
    pub(in crate::harvest) fn into_new(self, digest: &Digest, print: u64, facts: Facts) -> New {
        let known = crc_of(digest.content, self.page.lines.len());
        self.staged(Some(known), print, facts)
    }

    /// The same of a piece.
    pub(in crate::harvest) fn into_piece(self, print: u64, facts: Facts) -> New {
        self.staged(None, print, facts)
    }

    /// `known` is the checksum of its records as they came, where somebody made it.
    fn staged(self, known: Option<u32>, print: u64, facts: Facts) -> New {
        let records = self.kept().count();
        let (lines, known) = match self.transformed {
            Some(page) => (page.lines, None),
            None => (self.page.lines, known),
        };
        let crc = known.unwrap_or_else(|| crc::of(&lines));
        New {
            crc,
            lines,
            records: u32::try_from(records).unwrap_or(u32::MAX),
            print,
            facts,
            piece: Piece::Whole,
            _reservation: Some(self.reservation),
        }
    }
}

impl Digest {
    /// As it was written down; nothing where it was not.
    pub(in crate::harvest) fn of(page: &store::row::Page) -> Option<Self> {
        let facts = &page.facts;
        Some(Self {
            count: (facts.more.get(GIVEN).and_then(serde_json::Value::as_u64))
                .unwrap_or(u64::from(page.records)),
            content: u64::from_str_radix(facts.content.as_ref()?, 16).ok()?,
            ended: facts.ended,
            is_split: facts.more.contains_key(SPLIT),
            pieces: (facts.more.get(PIECES).and_then(serde_json::Value::as_u64))
                .and_then(|pieces| u32::try_from(pieces).ok())
                .unwrap_or_default(),
            wanted: facts.wanted.clone(),
            next: facts.next.clone(),
            more: facts
                .more
                .get(MORE)
                .and_then(|sign| Some(sign.as_str()?.to_owned())),
            last: match (&facts.last, facts.more.get(WITHOUT)) {
                (Some(value), _) => Some(Last::Value(value.clone())),
                (None, Some(record)) => Some(Last::Without(record.as_str()?.to_owned())),
                (None, None) => None,
            },
            like: (facts.more.get(LIKE).and_then(serde_json::Value::as_array)).map(|names| {
                let names = names.iter().filter_map(serde_json::Value::as_str);
                names.map(str::to_owned).collect()
            }),
        })
    }
}

/// 64 bits over a page's records, for loop guards: two CRCs of halves, since one alone would collide
/// once in a few tens of thousands of pages.
fn content_hash(lines: &[u8]) -> u64 {
    let (left, right) = lines.split_at(lines.len() / 2);
    (u64::from(crc::of(left)) << 32) | u64::from(crc::of(right))
}

/// The CRC32C of records of this length, given their hash: their bytes are summed up once.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
pub(in crate::harvest) fn crc_of(content: u64, len: usize) -> u32 {
    let (left, right) = ((content >> 32) as u32, content as u32);
    crc::combine(left, right, (len - len / 2) as u64)
}
