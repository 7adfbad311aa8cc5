//! How far each stream has come, from events alone, and that as one line of text a stream.
//!
//! Pure: time comes with the events and with the asker, so that a test needs no terminal.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::count::{plural, thousands};
use crate::event::{Event, Fact, Name, Wait};

use super::clean::clean;
use super::show;

/// Rates look back this far.
const RECENT: Duration = Duration::from_secs(10);
/// A limit that was waited for this recently still counts as what holds the stream.
const LINGER: Duration = Duration::from_secs(1);

/// Waits from here on say what the clock will show.
const WORTH_A_CLOCK: Duration = Duration::from_mins(1);

/// All streams of a run.
#[derive(Debug, Default)]
pub(super) struct Board {
    rows: Vec<Row>,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Row {
    name: Name,
    /// Pages so far.
    pub(super) pages: u64,
    /// Pages to come to, and whether that is all of them.
    expected: Option<(u64, bool)>,
    records: u64,
    first: Option<Timestamp>,
    recent: VecDeque<(Timestamp, u64)>,
    waits: BTreeMap<u64, (Wait, Option<Timestamp>)>,
    limited: Option<(String, Timestamp)>,
    ended: bool,
}

impl Board {
    /// Takes one event into account.
    pub(super) fn hear(&mut self, event: &Event) {
        match &event.fact {
            Fact::RunStarted { streams, .. } => {
                self.rows = streams.iter().cloned().map(Row::new).collect();
            }
            Fact::PageFetched {
                stream, records, ..
            } => {
                self.row(stream).page(event.at, *records);
            }
            Fact::PagesKept {
                stream,
                pages,
                records,
            } => {
                // Not at the present rate: they were here before.
                let row = self.row(stream);
                row.pages += pages;
                row.records += records;
            }
            Fact::PagesVoid {
                stream,
                pages,
                records,
                ..
            } => {
                let row = self.row(stream);
                row.pages = row.pages.saturating_sub(*pages);
                row.records = row.records.saturating_sub(*records);
            }
            Fact::PagesExpected {
                stream,
                pages,
                complete,
            } => {
                self.row(stream).expected = Some((*pages, *complete));
            }
            Fact::WaitBegan {
                stream,
                id,
                why,
                until,
            } if *why != Wait::Concurrency => {
                self.row(stream).waits.insert(*id, (why.clone(), *until));
            }
            Fact::WaitEnded {
                stream, id, why, ..
            } => {
                let row = self.row(stream);
                row.waits.remove(id);
                if let Wait::Limit { limit, scope } = why {
                    let shown = Wait::limit(limit, scope.as_deref());
                    row.limited = Some((shown, event.at));
                }
            }
            Fact::Published { stream, .. } | Fact::StreamFailed { stream, .. } => {
                self.row(stream).ended = true;
            }
            _ => {}
        }
    }

    /// Streams that have begun and not ended, in the order of the file.
    pub(super) fn running(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| !r.ended && r.begun())
    }

    /// The stream's row; a stream that was not announced gets one.
    pub(super) fn row(&mut self, stream: &Name) -> &mut Row {
        let known = self.rows.iter().position(|row| row.name == *stream);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row::new(Name::clone(stream)));
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Width of the longest name of those running.
    pub(super) fn name_width(&self) -> usize {
        self.running()
            .map(|r| clean(&r.name).chars().count())
            .max()
            .unwrap_or(0)
    }
}

impl Row {
    fn new(name: Name) -> Self {
        Self {
            name,
            pages: 0,
            expected: None,
            records: 0,
            first: None,
            recent: VecDeque::new(),
            waits: BTreeMap::new(),
            limited: None,
            ended: false,
        }
    }

    fn begun(&self) -> bool {
        self.pages > 0 || !self.waits.is_empty()
    }

    fn page(&mut self, at: Timestamp, records: u64) {
        self.pages += 1;
        self.records += records;
        self.first.get_or_insert(at);
        // One bucket a quarter of a second: memory stays small at any speed.
        match self.recent.back_mut() {
            Some((since, sum)) if elapsed(*since, at) < RECENT / 40 => *sum += records,
            _ => self.recent.push_back((at, records)),
        }
        while self
            .recent
            .front()
            .is_some_and(|(since, _)| elapsed(*since, at) > RECENT)
        {
            self.recent.pop_front();
        }
    }

    /// Name, pages, records, rate, wait and time to go, as far as `width` columns hold them.
    /// A `name_width` of 0 leaves the name as it is.
    pub(super) fn line(&self, now: Timestamp, width: usize, name_width: usize) -> String {
        let name = clean(&self.name);
        let name_width = match name_width {
            0 => name.chars().count(),
            all => all.min(width / 3).max(4),
        };
        let name = shorten(&name, name_width);
        let mut parts = vec![
            // (place in the line, text), the most important first
            (0, format!("{name:<name_width$}")),
            (1, self.shown_pages()),
        ];
        parts.extend(self.shown_wait(now).map(|wait| (4, wait)));
        parts.push((2, format!("{} rec", thousands(self.records))));
        parts.extend(
            self.time_to_go(now)
                .map(|eta| (5, format!("ETA {}", show::whole_seconds(eta)))),
        );
        parts.extend(self.rate(now).map(|rate| (3, show::rate(rate))));

        let mut kept: Vec<(u8, String)> = Vec::new();
        let mut used = 0;
        for (place, text) in parts {
            let gap = if kept.is_empty() { 0 } else { 2 };
            let needs = text.chars().count() + gap;
            if used + needs <= width {
                used += needs;
                kept.push((place, text));
            } else if place == 4 && width > used + 12 {
                // Why it waits is worth more than whole words.
                kept.push((place, shorten(&text, width - used - gap)));
                break;
            }
        }
        kept.sort_by_key(|(place, _)| *place);
        let texts: Vec<String> = kept.into_iter().map(|(_, text)| text).collect();
        texts.join("  ")
    }

    fn shown_pages(&self) -> String {
        match self.expected {
            Some((pages, complete)) if pages >= self.pages => format!(
                "{}/{}{} pages",
                thousands(self.pages),
                thousands(pages),
                if complete { "" } else { "+" }
            ),
            _ => plural(self.pages, "page"),
        }
    }

    /// Records a second over the last while; none before there is a while to speak of.
    fn rate(&self, now: Timestamp) -> Option<f64> {
        let (since, _) = *self
            .recent
            .iter()
            .find(|(at, _)| elapsed(*at, now) <= RECENT)?;
        let span = elapsed(since, now).as_secs_f64();
        let sum: u64 = self
            .recent
            .iter()
            .filter(|(at, _)| *at >= since)
            .map(|(_, records)| records)
            .sum();
        (span >= 1.0).then(|| sum as f64 / span)
    }

    /// From the pace so far, once the number of pages is known for good.
    fn time_to_go(&self, now: Timestamp) -> Option<Duration> {
        let (expected, true) = self.expected? else {
            return None;
        };
        let so_far = elapsed(self.first?, now);
        let to_go = expected.checked_sub(self.pages)?;
        if self.pages < 2 || to_go == 0 || so_far < Duration::from_secs(1) {
            return None;
        }
        // The first page marks the start, so it took none of the time.
        let pace = so_far.as_secs_f64() / (self.pages - 1) as f64;
        Duration::try_from_secs_f64(pace * to_go as f64).ok()
    }

    /// What holds the stream: the wait that ends first.
    fn shown_wait(&self, now: Timestamp) -> Option<String> {
        let first = self
            .waits
            .values()
            .min_by_key(|(_, until)| until.unwrap_or(Timestamp::MAX));
        match first {
            Some((why, until)) => wait(why, *until, now),
            None => self
                .limited
                .as_ref()
                .filter(|(_, at)| elapsed(*at, now) < LINGER)
                .map(|(limit, _)| at_limit(limit)),
        }
    }
}

/// A wait in words: `waiting 12s for 80/min`.
pub(super) fn wait(why: &Wait, until: Option<Timestamp>, now: Timestamp) -> Option<String> {
    wait_in(&TimeZone::system(), why, until, now)
}

/// The same, on the clock of a zone: `waiting 4min for 5000/h (repo=a/b), until 14:03`.
fn wait_in(
    zone: &TimeZone,
    why: &Wait,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Option<String> {
    let left = until
        .map(|until| elapsed(now, until))
        .filter(|d| *d >= Duration::from_secs(1));
    // Of what is longer one wants to know when to come back.
    let until = until
        .filter(|_| left >= Some(WORTH_A_CLOCK))
        .map(|until| format!(", until {}", show::clock_time(until, now, zone)))
        .unwrap_or_default();
    let left = left.map(show::whole_seconds);
    Some(match (why, left) {
        (Wait::Concurrency, _) => return None,
        (Wait::Limit { limit, scope }, left) => {
            let shown = Wait::limit(limit, scope.as_deref());
            match left {
                Some(left) => format!("waiting {left} for {}{until}", clean(&shown)),
                None => at_limit(&shown),
            }
        }
        (Wait::Pause { told, scope }, left) => {
            let left = left.map(|left| format!(" {left}")).unwrap_or_default();
            let scope = scope.as_ref().map(|scope| format!(" ({scope})"));
            let scope = scope.unwrap_or_default();
            format!("paused{left}{}{until}: {}", clean(&scope), clean(told))
        }
        (Wait::Backoff { .. }, Some(left)) => format!("retrying in {left}"),
        (Wait::Backoff { .. }, None) => "retrying".to_owned(),
        (Wait::NotReady { told }, left) => {
            let left = left.map(|left| format!(" in {left}")).unwrap_or_default();
            format!("not ready, asking again{left}{until}: {}", clean(told))
        }
    })
}

fn at_limit(limit: &str) -> String {
    format!("at its limit {}", clean(limit))
}

/// From one moment to a later one; nothing when the clock was set back.
pub(super) fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// At most `width` characters, the last of them `…` where something was cut.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis)
    }

    fn page(millis: i64) -> Event {
        Event {
            at: at(millis),
            fact: Fact::PageFetched {
                stream: "articles".into(),
                partition: 0,
                page: 0,
                records: 100,
                bytes: 1,
                took: Duration::ZERO,
            },
        }
    }

    fn busy() -> Board {
        let mut board = Board::default();
        for i in 0..=40 {
            board.hear(&page(i * 100));
        }
        board.hear(&Event {
            at: at(4000),
            fact: Fact::PagesExpected {
                stream: "articles".into(),
                pages: 1240,
                complete: true,
            },
        });
        board.hear(&Event {
            at: at(4000),
            fact: Fact::WaitBegan {
                stream: "articles".into(),
                id: 1,
                why: Wait::Limit {
                    limit: "80/min".into(),
                    scope: None,
                },
                until: Some(at(16_000)),
            },
        });
        board
    }

    #[test]
    fn waits_name_their_scope_and_long_ones_their_end() {
        let scope = Some(Name::from("repo=a/b"));
        let limit = Wait::Limit {
            limit: "5000/h".into(),
            scope: scope.clone(),
        };
        let pause = |scope| Wait::Pause {
            told: "429 with Retry-After: 240".into(),
            scope,
        };
        let all = [limit, pause(scope), pause(None)];
        let told = |ends: Option<i64>| {
            let until = ends.map(at);
            let told = all
                .iter()
                .map(|why| wait_in(&TimeZone::UTC, why, until, at(0)));
            told.collect::<Option<Vec<_>>>().unwrap().join("\n")
        };
        insta::assert_snapshot!(told(Some(240_000)), @r"
        waiting 4min for 5000/h (repo=a/b), until 00:04
        paused 4min (repo=a/b), until 00:04: 429 with Retry-After: 240
        paused 4min, until 00:04: 429 with Retry-After: 240
        ");
        insta::assert_snapshot!(told(Some(30_000)), @r"
        waiting 30s for 5000/h (repo=a/b)
        paused 30s (repo=a/b): 429 with Retry-After: 240
        paused 30s: 429 with Retry-After: 240
        ");
        insta::assert_snapshot!(told(None), @r"
        at its limit 5000/h (repo=a/b)
        paused (repo=a/b): 429 with Retry-After: 240
        paused: 429 with Retry-After: 240
        ");
    }

    #[test]
    fn a_line_fits_every_width() {
        let board = busy();
        let row = board.running().next().unwrap();
        let drawn: Vec<String> = [100, 80, 60, 40, 20]
            .iter()
            .map(|w| row.line(at(4000), *w, 8))
            .collect();
        for (line, width) in drawn.iter().zip([100, 80, 60, 40, 20]) {
            assert!(line.chars().count() <= width, "{line}");
        }
        insta::assert_snapshot!(drawn.join("\n"), @r"
        articles  41/1,240 pages  4,100 rec  1,025/s  waiting 12s for 80/min  ETA 2min
        articles  41/1,240 pages  4,100 rec  1,025/s  waiting 12s for 80/min  ETA 2min
        articles  41/1,240 pages  4,100 rec  waiting 12s for 80/min
        articles  41/1,240 pages  waiting 12s f…
        artic…  waiting 12s…
        ");
    }

    #[test]
    fn rates_forget_and_waits_end() {
        let mut board = busy();
        board.hear(&Event {
            at: at(16_000),
            fact: Fact::WaitEnded {
                stream: "articles".into(),
                id: 1,
                why: Wait::Limit {
                    limit: "80/min".into(),
                    scope: None,
                },
                took: Duration::from_secs(12),
            },
        });
        let row = board.running().next().unwrap();
        insta::assert_snapshot!(row.line(at(16_500), 100, 8), @"articles  41/1,240 pages  4,100 rec  at its limit 80/min  ETA 8min 15s");
        insta::assert_snapshot!(row.line(at(17_500), 100, 8), @"articles  41/1,240 pages  4,100 rec  ETA 8min 45s");
    }
}
