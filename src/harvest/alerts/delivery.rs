//! Alerts and pings on the wire: a few tries with a bound, redirects refused.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use crate::clock::Clock;
use crate::fetch::agent::user_agent;
use crate::fetch::transport::{Reach, Request, SharedTransport};

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited before each further try.
const DELAYS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(9),
];

/// Why a message was not taken, after all tries.
#[derive(Debug, thiserror::Error)]
pub(in crate::harvest) enum Undelivered {
    /// The receiver refused it.
    #[error("it answered {0}")]
    Refused(StatusCode),
    /// There was no answer.
    #[error("{0}")]
    Unanswered(String),
}

/// Says that something happened.
pub(in crate::harvest) async fn get(
    transport: &SharedTransport,
    clock: Clock,
    url: &Url,
) -> Result<(), Undelivered> {
    deliver(transport, clock, Method::GET, url, None).await
}

/// Sends JSON.
pub(in crate::harvest) async fn post(
    transport: &SharedTransport,
    clock: Clock,
    url: &Url,
    json: String,
) -> Result<(), Undelivered> {
    deliver(transport, clock, Method::POST, url, Some(json.into())).await
}

async fn deliver(
    transport: &SharedTransport,
    clock: Clock,
    method: Method,
    url: &Url,
    body: Option<Bytes>,
) -> Result<(), Undelivered> {
    let mut headers = HeaderMap::new();
    if let Ok(agent) = user_agent(None) {
        headers.insert(USER_AGENT, agent);
    }
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut delays = DELAYS.into_iter();
    loop {
        let request = Request {
            method: method.clone(),
            url: url.clone(),
            headers: headers.clone(),
            body: body.clone(),
            reach: Reach::Anywhere,
            private: true,
            fresh: true,
        };
        let problem = match clock.timeout(PATIENCE, transport.send(request)).await {
            Ok(Ok(answer)) if answer.status.is_success() => return Ok(()),
            Ok(Ok(answer)) if !may_pass(answer.status) => {
                return Err(Undelivered::Refused(answer.status));
            }
            Ok(Ok(answer)) => Undelivered::Refused(answer.status),
            Ok(Err(error)) => Undelivered::Unanswered(error.message),
            Err(_) => Undelivered::Unanswered(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let Some(delay) = delays.next() else {
            return Err(problem);
        };
        clock.sleep_until(clock.now() + delay).await;
    }
}

/// Whether another try may be taken.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fetch::transport::{BodySource, Boxed, Response, SendError, Transport};

    /// Answers with one status after the other, the last for ever; 0 is none at all.
    #[derive(Debug)]
    struct Moody {
        statuses: Vec<u16>,
        asked: AtomicUsize,
    }

    struct Nothing;

    impl BodySource for Nothing {
        fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
            Box::pin(std::future::ready(Ok(None)))
        }
    }

    impl Transport for Moody {
        fn send(&self, _: Request) -> Boxed<'_, Result<Response, SendError>> {
            let at = self.asked.fetch_add(1, Ordering::Relaxed);
            let status = self.statuses[at.min(self.statuses.len() - 1)];
            Box::pin(async move {
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(Response {
                    status: StatusCode::from_u16(status).expect("a status"),
                    headers: HeaderMap::new(),
                    body: Box::new(Nothing),
                })
            })
        }
    }

    /// What became of it, how many tries that took, and how many seconds.
    fn told(statuses: &[u16]) -> (Result<(), String>, usize, u64) {
        crate::sim::in_stopped_time(async {
            let clock = Clock::simulated(jiff::Timestamp::UNIX_EPOCH);
            let moody = Arc::new(Moody {
                statuses: statuses.to_vec(),
                asked: AtomicUsize::new(0),
            });
            let transport: SharedTransport = moody.clone();
            let url = Url::parse("https://hooks.test/secret").expect("a URL");
            let began = clock.now();
            let told = post(&transport, clock, &url, "{}".to_owned()).await;
            let took = (clock.now() - began).as_secs();
            let told = told.map_err(|problem| problem.to_string());
            (told, moody.asked.load(Ordering::Relaxed), took)
        })
    }

    #[test]
    fn a_message_is_tried_again_with_a_bound() {
        assert_eq!(told(&[204]), (Ok(()), 1, 0));
        assert_eq!(told(&[503, 429, 200]), (Ok(()), 3, 4));
        let refused = |status: &str| Err(format!("it answered {status}"));
        assert_eq!(told(&[404]), (refused("404 Not Found"), 1, 0));
        assert_eq!(told(&[302]), (refused("302 Found"), 1, 0));
        assert_eq!(told(&[500]), (refused("500 Internal Server Error"), 4, 13));
        let silent = Err("no answer within 10 s".to_owned());
        assert_eq!(told(&[0]), (silent, 4, 53));
        assert_eq!(told(&[0, 200]), (Ok(()), 2, 11));
    }
}
