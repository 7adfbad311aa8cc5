//! From the bytes of an answer to records: what is packed is opened, and what is no JSON read as
//! what it is.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::large::{Large, WHOLE};
use crate::fetch::archive;
use crate::fetch::body::BodyError;
use crate::fetch::large::LargeBody;
use crate::harvest::attempt::outcome::{Answer, Outcome, Sent, is_timeout, timed_out, transient};
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::plan::format::Member;
use crate::records::format::{File, Read, Reader, Told};

/// Bodies larger than this are opened and read away from the async threads.
const BLOCKING_FROM: usize = 256 << 10;

/// An answer, about to be read.
struct Raw {
    body: Bytes,
    content_type: Option<String>,
    is_good: bool,
    member: Option<Member>,
    /// Most bytes that may come out of it.
    cap: usize,
}

impl Stream {
    /// The records of an answer, and its body as JSON where that is wanted. The body is gone where
    /// nobody looks into it any more.
    pub(in crate::harvest) async fn understand(
        &self,
        answer: &mut Answer,
        may_be_large: bool,
        place: &str,
    ) -> Result<(Read, Option<Large>), Outcome> {
        let content_type = answer.headers.get(CONTENT_TYPE);
        let mut raw = Raw {
            body: Bytes::new(),
            content_type: content_type.and_then(|value| Some(value.to_str().ok()?.to_owned())),
            is_good: answer.status.is_success(),
            member: self.plan().format.member.clone(),
            cap: 0,
        };
        if let Some(large) = answer.large.take() {
            let surveyed = self.survey(large, raw.content_type).await;
            return surveyed.map_err(|error| unread(&error, place));
        }
        raw.cap = if may_be_large {
            WHOLE
        } else {
            self.most_whole()
        };
        let is_kept = self.rereads_bodies || !raw.is_good;
        let takes_time = self.selector().takes_time();
        if !takes_time
            && self.reader.is_usual(raw.told(), &answer.body)
            && !archive::is_packed(&answer.body)
        {
            let selector = self.reader.selector();
            let page = if is_kept {
                selector.select(&answer.body)
            } else {
                selector.select_in_place(std::mem::take(&mut answer.body))
            };
            return Ok((Read { page, json: None }, None));
        }
        raw.body = std::mem::take(&mut answer.body).freeze();
        let read = if raw.body.len() <= BLOCKING_FROM && !takes_time {
            raw.read(&self.reader)
        } else {
            let reader = Arc::clone(&self.reader);
            let done = tokio::task::spawn_blocking(move || (raw.read(&reader), raw));
            let (read, back) = match done.await {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            raw = back;
            read
        };
        if may_be_large && matches!(read, Err(BodyError::TooLarge { .. })) {
            let large = LargeBody::file(raw.body, self.most_body());
            let surveyed = self.survey(large, raw.content_type).await;
            return surveyed.map_err(|error| unread(&error, place));
        }
        if is_kept {
            answer.body = raw.body.into();
        }
        match read {
            Ok(read) => Ok((read, None)),
            Err(error) => Err(unread(&error, place)),
        }
    }
}

/// What a body comes to that could not be read.
pub(in crate::harvest) fn unread(error: &BodyError, place: &str) -> Outcome {
    match trouble::body(error, place) {
        Ok(failure) => Outcome::Fail(failure),
        Err(message) if is_timeout(error) => timed_out(message),
        Err(message) => transient(message, Sent::Perhaps),
    }
}

impl Raw {
    fn told(&self) -> Told<'_> {
        Told {
            content_type: self.content_type.as_deref(),
            is_good: self.is_good,
        }
    }

    fn read(&self, reader: &Reader) -> Result<Read, BodyError> {
        let whole = |bytes: Bytes| [File { name: None, bytes }];
        if !archive::is_packed(&self.body) {
            return Ok(reader.read(self.told(), &whole(self.body.clone()), false));
        }
        match archive::open(&self.body, self.member.as_ref(), self.cap) {
            Ok(Err(unpacked)) => Ok(reader.read(self.told(), &whole(unpacked), false)),
            Ok(Ok(opened)) => {
                let files = opened.files.into_iter().map(|(name, bytes)| File {
                    name: Some(name),
                    bytes,
                });
                let files: Vec<File> = files.collect();
                Ok(reader.read(self.told(), &files, opened.is_many))
            }
            // What a refusal carries matters less than that it is one.
            Err(_) if !self.is_good => {
                Ok(reader.read(self.told(), &whole(self.body.clone()), false))
            }
            Err(error) => Err(error),
        }
    }
}
