//! `conditional: true`: asking whether an answer changed, and having the old one again if not
//! (RFC 9110, sections 13.1.2, 13.1.3 and 15.4.5; RFC 9111, section 4.3.4).

use std::sync::PoisonError;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, SET_COOKIE, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::outcome::transient;
use super::outcome::{Answer, Outcome, Sent};
use crate::harvest::stream::Stream;
use crate::harvest::tape::Tape;
use crate::plan::request::Rendered;
use crate::store::copies::{Copies, CopyHead, KeptCopy};
use crate::store::hash::stable;

/// Headers that say something of one message alone, or are kept elsewhere.
const OF_ONE_MESSAGE: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    DATE,
    ETAG,
    LAST_MODIFIED,
    SET_COOKIE,
    TRANSFER_ENCODING,
];

/// A copy of the answer to a request, and whether to ask by it.
pub(in crate::harvest) struct Known {
    request: u64,
    copies: Copies,
    copy: Option<KeptCopy>,
}

impl Known {
    /// Asks only for what changed.
    pub(in crate::harvest) fn ask(&self, headers: &mut HeaderMap) {
        let Some(copy) = &self.copy else { return };
        let (name, value) = match (&copy.head.etag, &copy.head.last_modified) {
            (Some(etag), _) => (IF_NONE_MATCH, etag),
            (None, Some(since)) => (IF_MODIFIED_SINCE, since),
            (None, None) => return,
        };
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }

    /// Whether an answer says that nothing changed, and it was asked for that.
    pub(in crate::harvest) fn is_answer(&self, status: StatusCode) -> bool {
        status == StatusCode::NOT_MODIFIED && self.copy.is_some()
    }
}

impl Stream {
    /// What is known of the answer to a request; `None` where nobody asks by it.
    pub(in crate::harvest) async fn known(&self, request: &Rendered) -> Option<Known> {
        let run = &self.run;
        // A recording has to be whole, and a replay has what is in it.
        let is_taped = !matches!(run.options.tape, Tape::Off);
        if !self.plan().conditional || !run.options.leaves_trace() || is_taped {
            return None;
        }
        // What else tells requests apart; a secret tells nobody anything.
        let headers = request.headers.iter().filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            (!run.secrets.is_in(value)).then(|| format!("{name}: {value}"))
        });
        let mut parts: Vec<String> = headers.collect();
        parts.push(format!("{:x}", request.fingerprint()));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let number = stable(&parts);
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number);
        let copies = Copies::new(
            &run.world.disk,
            &run.world.root,
            &run.plan.name,
            &self.plan().name,
        );
        let finder = copies.clone();
        let copy = tokio::task::spawn_blocking(move || finder.find(number));
        Some(Known {
            request: number,
            copies,
            copy: copy.await.ok().flatten(),
        })
    }

    /// The old answer in the place of one that says that nothing changed: with the new headers,
    /// where there are such.
    pub(in crate::harvest) async fn again(
        &self,
        known: &mut Known,
        mut answer: Answer,
    ) -> Result<Answer, Outcome> {
        let Some(copy) = known.copy.take() else {
            return Ok(answer);
        };
        let (copies, request) = (known.copies.clone(), known.request);
        let read = tokio::task::spawn_blocking(move || {
            let body = copy.body();
            if body.is_none() {
                // It is asked for as if never seen; if it cannot be removed, that is so again.
                let _ = copies.forget(request);
            }
            body.map(|body| (copy.head, body))
        });
        let Ok(Some((head, body))) = read.await else {
            let message = "the answer that was kept is damaged".to_owned();
            return Err(transient(message, Sent::No));
        };
        for (name, value) in &head.headers {
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::from_str(value),
            ) && !answer.headers.contains_key(&name)
            {
                answer.headers.append(name, value);
            }
        }
        answer.status = StatusCode::OK;
        answer.size = body.len();
        answer.body = Bytes::from(body).into();
        Ok(answer)
    }

    /// Keeps an answer that was good and can be asked by.
    pub(in crate::harvest) async fn keep_copy(&self, known: Known, answer: &Answer) {
        let of = |name: &HeaderName| {
            let value = answer.headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (etag, last_modified) = (of(&ETAG), of(&LAST_MODIFIED));
        let can_ask = etag.is_some() || last_modified.is_some();
        if answer.status != StatusCode::OK || !can_ask {
            return;
        }
        let headers: Vec<(String, String)> = answer
            .headers
            .iter()
            .filter(|(name, _)| !OF_ONE_MESSAGE.contains(name))
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        // What echoes a secret is not written down.
        let secrets = &self.run.secrets;
        if headers.iter().any(|(_, value)| secrets.is_in(value))
            || secrets.is_in(&String::from_utf8_lossy(&answer.body))
        {
            return;
        }
        let head = CopyHead::new(etag, last_modified, headers);
        let body = answer.body.clone();
        let keep =
            tokio::task::spawn_blocking(move || known.copies.keep(known.request, &head, &body));
        // Without a copy the page is asked for in full next time.
        let _ = keep.await;
    }

    /// Removes copies that this run did not ask for; one that went on did not ask for all it has.
    pub(in crate::harvest) fn sweep_copies(&self) {
        let run = &self.run;
        let has_asked = matches!(run.options.tape, Tape::Off) && !self.is_continued();
        if !self.plan().conditional || !run.options.leaves_trace() || !has_asked {
            return;
        }
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = Copies::new(
            &run.world.disk,
            &run.world.root,
            &run.plan.name,
            &self.plan().name,
        );
        // What stays behind is swept by the next run.
        let _ = copies.sweep(&|request| asked.contains(&request));
    }
}
