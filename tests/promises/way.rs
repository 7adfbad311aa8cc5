//! The way from the program to a server: a transport that delays requests, loses none, and writes
//! down what the program saw of each. Requests arrive even if nobody waits for them any more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gleaner::clock::{Clock, Instant};
use gleaner::fetch::transport::{
    BodySource, Boxed, Request, Response, SendError, SendErrorKind, SharedTransport, Transport,
};
use http::{HeaderMap, StatusCode};

const MS: Duration = Duration::from_millis(1);

/// What the way is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// A request is on its way for up to this long.
    most: Duration,
    /// One in so many is held up for 0.3 to 3 s more; 0 is none.
    held_up: u32,
    /// What the dice are seeded with.
    seed: u64,
    /// What is told to the program.
    tells: Tells,
}

/// What the program is told of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tells {
    /// What is so.
    Truth,
    /// That its head came when the request was sent. So every permit comes back one window after
    /// its request was *sent*: the law without its margin, which trusts that nothing takes time.
    Haste,
    /// That a refusal was a failure that may go away: nobody hears that the server said "wait".
    NoRefusal,
}

impl Way {
    /// Up to `most` long, drawn from `seed`.
    pub(crate) fn of(most: Duration, seed: u64) -> Self {
        Self {
            most,
            held_up: 0,
            seed,
            tells: Tells::Truth,
        }
    }

    /// One in so many requests is held up for 0.3 to 3 s more.
    pub(crate) fn held_up(mut self, one_in: u32) -> Self {
        self.held_up = one_in;
        self
    }

    /// With this told to the program.
    pub(crate) fn tells(mut self, tells: Tells) -> Self {
        self.tells = tells;
        self
    }
}

/// One request as the program saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When the last byte of its answer was received, if it was.
    pub(crate) received: Option<Instant>,
    /// A refusal that was received: not to be tried again for so long after its receipt.
    pub(crate) told: Option<Duration>,
}

/// What the program saw of all requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    fn with<T>(&self, then: impl FnOnce(&mut Vec<Call>) -> T) -> T {
        then(&mut self.0.lock().expect("no panic"))
    }

    /// How many refusals were received.
    pub(crate) fn refusals(&self) -> usize {
        self.with(|calls| calls.iter().filter(|call| call.told.is_some()).count())
    }

    /// Calls that were sent after a refusal was received and before what it told was over.
    pub(crate) fn inside_a_pause(&self) -> usize {
        self.with(|calls| {
            let pauses: Vec<(Instant, Instant)> = calls
                .iter()
                .filter_map(|call| Some((call.received?, call.received? + call.told?)))
                .collect();
            let inside = |call: &&Call| {
                let mut pauses = pauses.iter();
                pauses.any(|(from, until)| call.sent > *from && call.sent < *until)
            };
            calls.iter().filter(inside).count()
        })
    }
}

/// The transport.
#[derive(Debug)]
pub(crate) struct Far {
    near: SharedTransport,
    clock: Clock,
    way: Way,
    dice: Mutex<fastrand::Rng>,
    calls: Calls,
}

impl Far {
    /// A way that leads to `near`.
    pub(crate) fn new(near: SharedTransport, clock: Clock, way: Way) -> Self {
        Self {
            near,
            clock,
            dice: Mutex::new(fastrand::Rng::with_seed(way.seed)),
            way,
            calls: Calls::default(),
        }
    }

    /// What is written down, also while requests are under way.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    fn delay(&self) -> Duration {
        let mut dice = self.dice.lock().expect("no panic");
        let usual = self.way.most.mul_f64(dice.f64());
        if self.way.held_up > 0 && dice.u32(0..self.way.held_up) == 0 {
            return usual + MS * dice.u32(300..3000);
        }
        usual
    }
}

type Exchange = Boxed<'static, Result<Response, SendError>>;

impl Transport for Far {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        let (near, clock, calls) = (Arc::clone(&self.near), self.clock, self.calls.clone());
        let sent = clock.now();
        let index = calls.with(|calls| {
            calls.push(Call {
                sent,
                received: None,
                told: None,
            });
            calls.len() - 1
        });
        let delay = self.delay();
        // A caller that is gone has closed the connection: its request arrives, and that is all.
        let (answer, waits) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            if !delay.is_zero() {
                clock.sleep_until(sent + delay).await;
            }
            let mut answer = answer;
            tokio::select! {
                biased;
                response = near.send(request) => drop(answer.send(response)),
                () = answer.closed() => {}
            }
        });
        let exchange: Exchange = Box::pin(async move {
            let mut response = waits.await.expect("it is answered")?;
            let told = (response.status == StatusCode::TOO_MANY_REQUESTS).then(|| {
                let told = response.headers.get("retry-after");
                let told = told.and_then(|told| told.to_str().ok()?.parse().ok());
                Duration::from_secs(told.unwrap_or(0))
            });
            response.body = Box::new(Noted {
                inner: response.body,
                clock,
                told,
                index,
                calls,
            });
            Ok(response)
        });
        match self.way.tells {
            Tells::Truth => exchange,
            Tells::NoRefusal => Box::pin(async move {
                let mut response = exchange.await?;
                if response.status == StatusCode::TOO_MANY_REQUESTS {
                    response.status = StatusCode::INTERNAL_SERVER_ERROR;
                    response.headers.clear();
                }
                Ok(response)
            }),
            Tells::Haste => Box::pin(std::future::ready(Ok(Response {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: Box::new(Hasty::Asking(exchange)),
            }))),
        }
    }
}

/// A body whose end is written down.
struct Noted {
    inner: Box<dyn BodySource>,
    clock: Clock,
    told: Option<Duration>,
    index: usize,
    calls: Calls,
}

impl BodySource for Noted {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        Box::pin(async move {
            let piece = self.inner.chunk().await?;
            if piece.is_none() {
                let (now, told) = (self.clock.now(), self.told);
                self.calls.with(|calls| {
                    calls[self.index].received = Some(now);
                    calls[self.index].told = told;
                });
            }
            Ok(piece)
        })
    }
}

/// A body whose answer has not even begun. What turns out to be none is a broken connection.
enum Hasty {
    Asking(Exchange),
    Body(Box<dyn BodySource>),
}

impl BodySource for Hasty {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        Box::pin(async move {
            if let Self::Asking(exchange) = self {
                let response = exchange.await?;
                if response.status != StatusCode::OK {
                    return Err(SendError {
                        kind: SendErrorKind::Broken,
                        message: format!("it was a {}", response.status),
                    });
                }
                *self = Self::Body(response.body);
            }
            match self {
                Self::Body(body) => body.chunk().await,
                Self::Asking(_) => Ok(None),
            }
        })
    }
}
