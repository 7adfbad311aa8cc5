//! The manual's page about headers, written from the table that reads them.

use std::fmt::Write;

use super::dialects::{DIALECTS, Dialect, Form, Plain, Time, WAITS, Window};

const HEAD: &str = "\
# What answers say about limits

The limits you declare are what Gleaner keeps to. What an answer says of them may only make it
slower: fewer calls are left than it thought, or it is asked to wait. (A limit with
`signals: { trust: true }` may get faster by it too.) This page says which headers are read, and
how. It is written by a test from the table that the program reads them by. `gleaner limits` shows
what came of it: of every limit what is used, what is left and until when it is paused.

## When a request is refused

A 429, and a 503 or 403 that says how long to wait or that nothing is left, is no failure but a
wish. Everything that the limit covers is held until then, not the one request; those that waited
come back one first, then more with each answer, never all at once and never early. A wait longer
than `retry.max_wait` ends the run with exit code 75: run it again later.

How long to wait is read from these headers; of several the longest counts:

";

const AFTER_WAITS: &str = "
`Retry-After` may be a number of seconds, with a fraction too, or a date. A date is measured against
the `Date` of the same answer, so a wrong clock on either side does no harm. Less than a second, or
a date that has passed, counts as a second at least. What cannot be read (`-1`, `soon`) is
as if it were not there. Without any of them the wait ends when the exhausted allowance resets, if a
header of the next table says when; and else after a backoff.

## What is left

What is left decides whether a refusal is a wish to wait (a 403 with nothing left is one), and until
when. On good answers it lowers the pace before a refusal comes: if less is left than our own count
would allow until the reset, somebody else uses the limit too (another machine with the same key), or
it is lower than declared. Then no more is asked until the reset than is left, less what is in
flight and at least one call for what others take meanwhile; after the reset one request goes alone,
and its answer tells anew. Where nobody else uses a limit, and it is declared as it is, nothing is
lost by it. As much as we have in flight may go unseen of what others take, so a refusal is rare
and not impossible.

An answer seldom says which limit it is about. It is taken to be, of those that cover the request and
count the same unit, the one of the same size (of a bucket, its `burst`), else of the same window,
else the only one; where there are several it is about none, and never about a limit `in flight`. A
reset further away than a window of the limit is about another one. Percents are of the only limit in
calls. Where nothing says when there is more, a whole window is waited for, and a bucket leaks as
declared.

What no header says, or no known one, is read as the limit's own `signals` say, see
[the language](language.md#limits); these win over headers.

A header is read by the first row that fits; a row with \"only with\" fits where that header is there
too. Answers that a cache has kept (`Age` above 0) say nothing, nor do redirects: the answer at their end does.

";

const FOOT: &str = "
The column \"resets\" is what is expected. A value that makes no sense as that is read by its size and
shape: numbers from 100,000,000,000 are milliseconds since 1970, from 100,000,000 seconds since 1970,
below that seconds from now; `2026-11-01T12:00:00Z` and `Sun, 01 Nov 2026 12:00:00 GMT` are dates;
`1m3.5s` is a duration. Dates are measured against the answer's own `Date`, and taken to be off by a
second or two, as whole seconds are. A reset more than 32 days away, or over for more than a minute,
is nonsense, and so is more left than ten times the limit.

A value longer than 1,024 bytes (4,096 for JSON, 64 for a time to wait) is not read. Whatever cannot be
read, or is nonsense, is otherwise ignored; the summary and the event `signals_ignored` say how many
such values there were.

## When the server does not answer well

A page is tried again after a connection that fails or breaks, a time-out, or 408, 425, 500, 502, 503,
504, 520 to 529, up to `retry.attempts` times. Two things keep an outage from becoming a storm, each
per host:

- *A budget for retries.* It holds 500 tokens; a retry takes 5, one after a time-out 10. An answer
  gives 1 back, and a retry that helped gives back what it took. When it is empty nothing is repeated:
  the run ends with exit code 75.
- *A circuit.* After 5 failures without a good answer between them nothing is sent but one request at
  a time that asks whether the host is back: after 1 s, 2 s, 4 s and so on up to a minute. Pages that
  wait are charged no attempt. When it is back, requests come one, two, three at a time. A host that
  is away longer than `retry.page_deadline` ends the run with exit code 75.
";

/// `docs/limits.md`, as it must be.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| header | unit | sent by |\n|---|---|---|\n");
    for (name, unit, who) in WAITS {
        let unit = match unit {
            Time::Seconds => "seconds, or a date",
            other => time(other),
        };
        line(&mut page, &[&code(name), unit, who]);
    }
    page.push_str(AFTER_WAITS);
    page.push_str(
        "| sent by | limit | left or used | resets | window | counts | only with |\n|---|---|---|---|---|---|---|\n",
    );
    for dialect in DIALECTS {
        row(&mut page, dialect);
    }
    page.push_str(FOOT);
    page
}

fn row(page: &mut String, dialect: &Dialect) {
    let who = dialect.who;
    let marker = dialect.marker.map(code).unwrap_or_default();
    match dialect.form {
        Form::Plain(plain) => plain_row(page, who, &plain, &marker),
        Form::Fields {
            items,
            policies,
            unit,
        } => line(
            page,
            &[
                who,
                &format!("{}: `q`", code(policies)),
                &format!("{}: `r`, or `remaining=`", code(items)),
                "`t`, or `reset=`: seconds from now",
                "`w`, or `window`",
                &format!("{}, or as `qu` says", unit.unwrap_or("calls")),
                "",
            ],
        ),
        Form::Quotient { header, window } => {
            let window = window.map(seconds).unwrap_or_default();
            let both = format!("{}: `32/40`, used of all", code(header));
            line(page, &[who, &both, "", "", &window, "calls", ""]);
        }
        Form::Pairs(prefix) => line(
            page,
            &[
                who,
                &format!("`{prefix}…`: `total=`"),
                "`remaining=`",
                "`resets=`: seconds from now",
                "",
                "calls",
                "",
            ],
        ),
        Form::Used { prefix, unit } => line(
            page,
            &[
                who,
                "",
                &format!("`{prefix}1m`"),
                "",
                "the end of the name",
                unit,
                "",
            ],
        ),
        Form::Percent(header) => line(
            page,
            &[
                who,
                "100",
                &format!(
                    "{}: the greatest of `call_count`, `total_time`, `total_cputime`",
                    code(header)
                ),
                "`estimated_time_to_regain_access`: minutes from now",
                "",
                "percent",
                "",
            ],
        ),
    }
}

fn plain_row(page: &mut String, who: &str, plain: &Plain, marker: &str) {
    let left: Vec<String> = [plain.remaining, plain.used]
        .into_iter()
        .flatten()
        .map(code)
        .collect();
    let reset = plain
        .reset
        .map(|(name, expects)| format!("{}: {}", code(name), time(expects)));
    let window = match plain.window {
        Window::Header(name, expects) => {
            let unit = match expects {
                Time::Milliseconds => "milliseconds",
                Time::Seconds => "seconds",
                _ => "a duration",
            };
            format!("{}: {unit}", code(name))
        }
        Window::Seconds(n) => seconds(n),
        Window::Unsaid => String::new(),
    };
    let counts = match (plain.unit, plain.scope) {
        (Some(unit), _) => unit.to_owned(),
        (None, Some(scope)) => format!("calls of {}", code(scope)),
        (None, None) => "calls".to_owned(),
    };
    line(
        page,
        &[
            who,
            &plain.limit.map(code).unwrap_or_default(),
            &left.join(", "),
            &reset.unwrap_or_default(),
            &window,
            &counts,
            marker,
        ],
    );
}

fn line(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {cell} ");
    }
    page.push_str("|\n");
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

fn time(time: Time) -> &'static str {
    match time {
        Time::Seconds => "seconds from now",
        Time::Milliseconds => "milliseconds",
        Time::Epoch => "seconds since 1970",
        Time::Date => "RFC 3339",
        Time::Span => "a duration",
    }
}

fn seconds(n: u64) -> String {
    match n {
        1 => "a second".to_owned(),
        60 => "a minute".to_owned(),
        3600 => "an hour".to_owned(),
        86_400 => "a day".to_owned(),
        n => format!("{n} s"),
    }
}
