//! Tokens that do not last: one at a time for all tasks of a run, and what they are had with.
//!
//! Who needs one while there is none stands in line; the first has it made (`renew`), the others find it
//! there. A token that is refused is taken away once, whoever says so first.

pub(super) mod auth;
pub(super) mod granted;
pub(super) mod logins;
pub(super) mod refresh;
pub(super) mod renew;

use std::fmt;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::failure::{Exit, Failure};
use crate::fetch::credentials::Credentials;
use crate::fetch::grant::Grant;
use crate::fetch::jwt::SigningKey;
use crate::fetch::transport::Request;
use crate::store::tokens::TokenFile;

/// A token is renewed so long before it ends, or a tenth of its life, whichever is less: time for
/// a request to arrive, and for clocks that differ.
const MARGIN: Duration = Duration::from_mins(1);

/// The tokens of a run.
#[derive(Debug)]
pub(super) struct Tokens {
    /// What they are had with.
    pub(super) how: How,
    /// Held by who has one made.
    pub(super) line: Arc<tokio::sync::Mutex<()>>,
    held: Mutex<Held>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<Arc<Token>>,
    /// The last one that a server refused.
    refused: Option<String>,
    /// Why there will be none.
    failed: Option<Box<Failure>>,
}

/// A token that can be sent.
pub(super) struct Token {
    text: String,
    /// What is put on requests.
    pub(super) credentials: Credentials,
    /// When it is renewed.
    until: Option<Instant>,
    /// Whether it was made for this run; another process may have had it long ago.
    pub(super) is_new: bool,
}

/// What tokens are had with, rendered.
#[derive(Debug)]
pub(super) enum How {
    /// The client's own id and secret.
    Client(Grant),
    /// A refresh token.
    Refresh {
        /// Where, and who asks.
        grant: Grant,
        /// The first one.
        first: String,
        /// Where the later ones are.
        file: TokenFile,
    },
    /// A signed statement, exchanged.
    Assertion {
        /// What is signed.
        statement: Statement,
        /// Where it is sent.
        grant: Grant,
    },
    /// A signed statement, sent itself.
    Signed(Statement),
    /// A request of the API's own.
    Login(Login),
}

/// A statement to be signed anew each time.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) key: SigningKey,
    pub(super) kid: Option<String>,
    /// Names and JSON, without those of time.
    pub(super) claims: Vec<(String, String)>,
    pub(super) lifetime: Duration,
    /// Whether it is sent to a token endpoint.
    pub(super) is_exchanged: bool,
}

/// A login, rendered.
#[derive(Debug)]
pub(super) struct Login {
    /// What is sent, with a credential that lasts.
    pub(super) request: Request,
    /// A credential that is signed each time.
    pub(super) statement: Option<Statement>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// A token that was had at `had` and holds for `lifetime` from then on.
    pub(super) fn new(
        text: String,
        credentials: Credentials,
        had: Instant,
        lifetime: Option<Duration>,
    ) -> Self {
        let usable = lifetime.map(|life| life.saturating_sub(MARGIN.min(life / 10)));
        Self {
            text,
            credentials,
            until: usable.and_then(|usable| had.checked_add(usable)),
            is_new: true,
        }
    }

    /// One that was not made for this run.
    pub(super) fn found(mut self) -> Self {
        self.is_new = false;
        self
    }
}

impl Tokens {
    pub(super) fn new(how: How) -> Self {
        Self {
            how,
            line: Arc::default(),
            held: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // It is whole after every step, so a poisoned one is still right.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if there is one that still holds.
    pub(super) fn fresh(&self, now: Instant) -> Option<Arc<Token>> {
        let held = self.held();
        let token = held.token.as_ref()?;
        token
            .until
            .is_none_or(|until| now < until)
            .then(|| Arc::clone(token))
    }

    /// A server refused it; nothing happens if there is another one by now.
    pub(super) fn refuse(&self, token: &Arc<Token>) {
        let mut held = self.held();
        if let Some(current) = held.token.take_if(|current| Arc::ptr_eq(current, token)) {
            held.refused = Some(current.text.clone());
        }
    }

    /// Whether a server refused just this one.
    pub(super) fn was_refused(&self, text: &str) -> bool {
        self.held().refused.as_deref() == Some(text)
    }

    /// From now on this is the token.
    pub(super) fn hold(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        self.held().token = Some(Arc::clone(&token));
        token
    }

    /// There will be none: who comes next need not try again. One that was only stopped may.
    pub(super) fn fail(&self, failure: &Failure) {
        if failure.exit != Exit::Interrupted {
            self.held().failed = Some(Box::new(failure.clone()));
        }
    }

    /// Why there is none.
    pub(super) fn failed(&self) -> Option<Box<Failure>> {
        self.held().failed.clone()
    }

    /// The run is over: a call that is on its way comes to its end, for what it brings may be the only
    /// token that is left; it is not repeated.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(self.line.lock().await);
    }

    /// Whether the run is over.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
