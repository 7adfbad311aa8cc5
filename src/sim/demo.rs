//! The pretend news API behind `gleaner demo`: about 400 requests at 50 per second, three faults.
//!
//! Base URL `http://127.0.0.1:PORT/v1` (the port is free, so the URL is a pipeline variable).
//!
//! | Stream     | Request                                                 | Records  | Paging |
//! |------------|---------------------------------------------------------|----------|--------|
//! | `articles` | `GET /v1/articles?section=…&page=1&per_page=100`        | `data`   | page number from 1, total at `meta.total`; `section` is one of [`SECTIONS`] and required |
//! | `events`   | `GET /v1/events?limit=200`, then `…&cursor=TOKEN`       | `events` | token at `next_cursor`, null at the end |
//!
//! Records: `id`, `title`, `state`, `user {login, id}`, `labels []`, `score`, `comments`,
//! `created_at`, `closed_at` (nullable), `locked`, `body`. Ids are unique within a stream.
//!
//! The server enforces its limit (50 in any second, over all paths) with 429 and `Retry-After`, so a
//! breach shows as a refusal in the audit line. Request 60 gets a 503, request 170 a reset,
//! request 300 a body cut short. Each is good the second time. No credentials are asked for.

use std::sync::Arc;
use std::time::Duration;

use super::data::{Shape, records};
use super::fault::{Fault, FaultRule};
use super::limit::ServerLimit;
use super::paging::{End, Paging};
use super::rules::{Latency, Listing, Route, Rules, Source};

/// What the server's URL is followed by.
pub const BASE_PATH: &str = "/v1";
/// Path of the paged articles.
pub const ARTICLES: &str = "/v1/articles";
/// Path of the events.
pub const EVENTS: &str = "/v1/events";
/// The values of `section`.
pub const SECTIONS: [&str; 4] = ["world", "science", "culture", "sport"];
/// How many articles each section has.
pub const ARTICLES_IN: [usize; 4] = [10_950, 8_420, 9_300, 7_001];
/// How many events there are.
pub const EVENT_COUNT: usize = 9_950;
/// Articles to a page.
pub const ARTICLES_PER_PAGE: usize = 100;
/// Events to a page.
pub const EVENTS_PER_PAGE: usize = 200;
/// Requests that the limit allows in its window.
pub const LIMIT: usize = 50;
/// The limit's window.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Faults that every run meets.
pub const FAULTS: u64 = 3;

/// The rules of the demo.
pub fn demo_api() -> Rules {
    api(1)
}

/// A fiftieth of it, for an example that can be kept.
pub fn small_api() -> Rules {
    api(50)
}

fn api(fraction: usize) -> Rules {
    let mut first_id = 1;
    let mut sets = Vec::new();
    for (section, count) in SECTIONS.into_iter().zip(ARTICLES_IN) {
        let count = count / fraction;
        let shape = Shape {
            seed: count as u64,
            first_id,
            label: format!("Article from {section}"),
        };
        sets.push((section.to_owned(), Arc::new(records(count, &shape))));
        first_id += i64::try_from(count).unwrap_or(0);
    }
    let articles = Source::By {
        param: "section".to_owned(),
        sets,
    };
    let events = records(
        EVENT_COUNT / fraction,
        &Shape {
            seed: 5,
            first_id: 1,
            label: "Event".to_owned(),
        },
    );
    Rules {
        routes: vec![
            Route::list(
                ARTICLES,
                Listing::new(articles, Paging::page_total("meta.total")).size(ARTICLES_PER_PAGE),
            ),
            Route::list(
                EVENTS,
                Listing::new(events, Paging::token(End::Null))
                    .size(EVENTS_PER_PAGE)
                    .records_at("events"),
            ),
        ],
        limits: vec![ServerLimit::sliding(LIMIT, WINDOW)],
        latency: Latency::Between(Duration::from_millis(30), Duration::from_millis(80), 11),
        faults: vec![
            FaultRule::nth(60, Fault::status(503)),
            FaultRule::nth(170, Fault::Reset),
            FaultRule::nth(300, Fault::TruncatedBody),
        ],
        ..Rules::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_takes_about_ten_seconds_at_its_limit() {
        let pages: usize = ARTICLES_IN
            .iter()
            .map(|count| count.div_ceil(ARTICLES_PER_PAGE))
            .sum::<usize>()
            + EVENT_COUNT.div_ceil(EVENTS_PER_PAGE);
        assert!((380..=450).contains(&pages), "{pages} pages");
        let rules = demo_api();
        assert_eq!(rules.faults.len() as u64, FAULTS);
        assert_eq!(rules.routes.len(), 2);
    }
}
