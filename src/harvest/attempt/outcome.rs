//! What came of an attempt: what it says about the host that was asked, whether it was asked at all,
//! and why there is no page.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::circuit::Came;
use super::ready::NotReady;
use super::verdict::Trouble;
use crate::event::FailureClass;
use crate::failure::Failure;
use crate::fetch::body::BodyError;
use crate::fetch::large::LargeBody;
use crate::fetch::transport::{SendError, SendErrorKind};
use crate::harvest::answer::edit::Packed;
use crate::harvest::answer::large::Large;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::records::page::Page;

/// An answer as it came.
pub(in crate::harvest) struct Answer {
    pub(in crate::harvest) status: StatusCode,
    pub(in crate::harvest) headers: HeaderMap,
    pub(in crate::harvest) body: BytesMut,
    /// The body, where it is too large for memory.
    pub(in crate::harvest) large: Option<LargeBody>,
    /// Bytes of the body.
    pub(in crate::harvest) size: usize,
    pub(in crate::harvest) url: Url,
    pub(in crate::harvest) took: Duration,
}

/// What one attempt came to.
pub(in crate::harvest) enum Outcome {
    Page(Box<Good>),
    Trouble(Trouble, Sent),
    /// The token is refused; the failure if a new one is refused too.
    Stale(Box<Failure>),
    NotReady(NotReady),
    Fail(Box<Failure>),
    /// The API understood the request and will not answer it, whoever asks.
    Refused(Box<Failure>),
    /// What was paid for came, and cannot be read.
    Unread(Box<Answer>, Box<Failure>),
    /// The window of time holds too much for the API.
    TooLarge(Box<Failure>),
    /// What led to the page leads nowhere any more.
    Expired(Box<Failure>),
}

/// An answer that is a page.
pub(in crate::harvest) struct Good {
    pub(in crate::harvest) answer: Answer,
    pub(in crate::harvest) page: Page,
    /// What its records are read from, where the page holds the last of them alone.
    pub(in crate::harvest) large: Option<Large>,
    /// Whether a rule said that no page follows.
    pub(in crate::harvest) last: bool,
}

/// What was asked, for people.
pub(in crate::harvest) struct Asked {
    /// Method and address, without credentials.
    pub(in crate::harvest) request: String,
    /// Scheme, host and port.
    pub(in crate::harvest) origin: String,
}

/// Whether the server may have acted on the request: decides what `once` allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::harvest) enum Sent {
    /// It surely did not.
    #[default]
    No,
    /// It may have.
    Perhaps,
}

impl Outcome {
    /// Whether the API refused because it was asked too often.
    pub(in crate::harvest) fn is_throttle(&self) -> bool {
        matches!(self, Self::Trouble(trouble, _) if trouble.class == FailureClass::Throttle)
    }

    /// What it says about the host; `status` is that of the answer, if one came whole.
    pub(in crate::harvest) fn came(&self, status: Option<StatusCode>) -> Came {
        let class = match self {
            Self::Trouble(trouble, _) => Some(trouble.class),
            Self::Page(..)
            | Self::NotReady(_)
            | Self::Stale(_)
            | Self::Fail(_)
            | Self::Refused(_)
            | Self::Unread(..)
            | Self::TooLarge(_)
            | Self::Expired(_) => None,
        };
        match (class, status) {
            (Some(FailureClass::Throttle), _) => Came::Throttle,
            (Some(FailureClass::Transient), None) => Came::Failure,
            // A rule may ask for a repeat of a success; the host is well all the same.
            (Some(FailureClass::Transient), Some(status)) if !status.is_success() => Came::Failure,
            // Refused on this side: a certificate, a header, a cap.
            (None, None) => Came::Nothing,
            _ => Came::Answer,
        }
    }
}

/// Why a page was not fetched.
#[derive(Debug)]
pub(in crate::harvest) struct Unfetched {
    pub(in crate::harvest) failure: Box<Failure>,
    /// The API will not answer just this request; it may answer others.
    pub(in crate::harvest) is_refused: bool,
    /// The window of time that it asks for holds too much.
    pub(in crate::harvest) is_too_large: bool,
    /// What led to it leads nowhere any more.
    pub(in crate::harvest) is_expired: bool,
    /// What came, where that was paid for and cannot be read.
    pub(in crate::harvest) came: Option<Box<Packed>>,
}

impl From<Box<Failure>> for Unfetched {
    fn from(failure: Box<Failure>) -> Self {
        Self {
            failure,
            is_refused: false,
            is_too_large: false,
            is_expired: false,
            came: None,
        }
    }
}

impl From<Unfetched> for Box<Failure> {
    fn from(unfetched: Unfetched) -> Self {
        unfetched.failure
    }
}

/// A trouble that kept the server busy for as long as we wait.
pub(in crate::harvest) fn timed_out(message: String) -> Outcome {
    Outcome::Trouble(
        Trouble {
            slow: true,
            ..Trouble::transient(message)
        },
        Sent::Perhaps,
    )
}

/// Whether a body did not come in time.
pub(in crate::harvest) fn is_timeout(error: &BodyError) -> bool {
    matches!(error, BodyError::Send(error) if error.kind == SendErrorKind::Timeout)
}

/// A trouble that may go away by itself.
pub(in crate::harvest) fn transient(message: String, sent: Sent) -> Outcome {
    Outcome::Trouble(Trouble::transient(message), sent)
}

impl Stream {
    /// What it means that no answer came.
    pub(in crate::harvest) fn send_trouble(
        &self,
        error: &SendError,
        asked: &Asked,
        place: &str,
    ) -> Outcome {
        let unsendable = || Outcome::Fail(trouble::unsendable(error, asked, place));
        match error.kind {
            SendErrorKind::Certificate
            | SendErrorKind::Request
            | SendErrorKind::NotPublic
            | SendErrorKind::Unrecorded
            | SendErrorKind::Withheld
            | SendErrorKind::HeadTooLarge => unsendable(),
            // Fatal at first; later the name is known to be right and the resolver has a bad day.
            SendErrorKind::UnknownHost if !self.run.was_reached() => unsendable(),
            SendErrorKind::UnknownHost | SendErrorKind::Connect => transient(
                format!("no connection to {}: {}", asked.origin, error.message),
                Sent::No,
            ),
            SendErrorKind::Unprocessed => transient(error.message.clone(), Sent::No),
            SendErrorKind::Timeout => timed_out(error.message.clone()),
            SendErrorKind::Dropped | SendErrorKind::Broken | SendErrorKind::Truncated => {
                transient(error.message.clone(), Sent::Perhaps)
            }
        }
    }
}
