//! What goes wrong on purpose, and with which request.

use std::time::Duration;

/// A fault and the requests it befalls.
#[derive(Debug, Clone)]
pub struct FaultRule {
    /// Which requests are counted.
    pub of: Of,
    /// Which of the counted ones it befalls.
    pub turn: Turn,
    /// What happens.
    pub fault: Fault,
}

impl FaultRule {
    /// Befalls the nth arrival (from 1).
    pub fn nth(n: u64, fault: Fault) -> Self {
        Self {
            of: Of::All,
            turn: Turn::Nth(n),
            fault,
        }
    }

    /// Befalls the nth request (from 1) for a path.
    pub fn nth_of(path: &str, n: u64, fault: Fault) -> Self {
        Self {
            of: Of::Path(path.to_owned()),
            turn: Turn::Nth(n),
            fault,
        }
    }

    /// Befalls every kth arrival.
    pub fn every(k: u64, fault: Fault) -> Self {
        Self {
            of: Of::All,
            turn: Turn::Every(k),
            fault,
        }
    }

    /// Befalls the first `n` requests whose path and query contain `text`.
    pub fn first_of(text: &str, n: u64, fault: Fault) -> Self {
        Self {
            of: Of::Containing(text.to_owned()),
            turn: Turn::First(n),
            fault,
        }
    }

    /// Befalls every request for a path.
    pub fn always(path: &str, fault: Fault) -> Self {
        Self {
            of: Of::Path(path.to_owned()),
            turn: Turn::Every(1),
            fault,
        }
    }
}

/// Which requests a rule counts. Requests refused by a limit or for their credentials count
/// nowhere, so that a rule's fault is not lost on one.
#[derive(Debug, Clone)]
pub enum Of {
    /// All of them.
    All,
    /// Those for exactly this path.
    Path(String),
    /// Those whose path and query contain this text.
    Containing(String),
}

impl Of {
    /// Whether a request counts.
    pub fn counts(&self, path: &str, target: &str) -> bool {
        match self {
            Self::All => true,
            Self::Path(one) => one == path,
            Self::Containing(text) => target.contains(text.as_str()),
        }
    }
}

/// Which of the counted requests a fault befalls.
#[derive(Debug, Clone, Copy)]
pub enum Turn {
    /// The nth, from 1.
    Nth(u64),
    /// The kth, the 2kth and so on.
    Every(u64),
    /// The first n.
    First(u64),
}

impl Turn {
    /// Whether the request with this count (from 1) is one of them.
    pub fn takes(self, count: u64) -> bool {
        match self {
            Self::Nth(n) => count == n,
            Self::Every(k) => k > 0 && count.is_multiple_of(k),
            Self::First(n) => count <= n,
        }
    }
}

/// What happens instead of a good answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another status, with headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// A login page with status 200.
    HtmlLogin200,
    /// Status 200, JSON by its headers, and nothing in it.
    EmptyBody,
    /// Half of the body, then the connection is closed.
    TruncatedBody,
    /// The connection breaks and nothing was answered.
    Reset,
    /// The name server does not know the host (in memory; on a socket the connection breaks).
    UnknownHost,
    /// No answer, ever; the connection stays open.
    Stall,
    /// The right answer in pieces of `piece` bytes, one every `every`.
    SlowDrip {
        /// Bytes at a time.
        piece: usize,
        /// Time between two pieces.
        every: Duration,
    },
    /// `302 Found` with this `Location`.
    Redirect(String),
    /// Bytes that are no text at all, labelled as JSON.
    Garbage,
    /// JSON that stops in the middle, though the answer is whole as far as HTTP can tell.
    BadJson,
}

impl Fault {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }

    /// A status with `Retry-After` (RFC 9110 section 10.2.3).
    pub fn status_retry_after(status: u16, value: &str) -> Self {
        let header = ("retry-after".to_owned(), value.to_owned());
        Self::Status(status, vec![header], String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_take_the_requests_they_name() {
        let taken = |turn: Turn| (1..=6).filter(|n| turn.takes(*n)).collect::<Vec<u64>>();
        assert_eq!(taken(Turn::Nth(3)), [3]);
        assert_eq!(taken(Turn::Every(2)), [2, 4, 6]);
        assert_eq!(taken(Turn::Every(0)), [0; 0]);
        assert_eq!(taken(Turn::First(2)), [1, 2]);
    }
}
