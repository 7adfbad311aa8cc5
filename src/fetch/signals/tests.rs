//! Every dialect as it is really sent, and garbage.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::value::LONGEST_WAIT;
use super::*;

const NOW: &str = "2026-11-01T12:00:00Z";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(n, v)| {
            (
                HeaderName::from_static(n),
                HeaderValue::from_str(v).unwrap(),
            )
        })
        .collect()
}

fn seconds(pairs: &[(&'static str, &str)]) -> Option<f64> {
    retry_after(&headers(pairs), NOW.parse().unwrap()).map(|d| d.as_secs_f64())
}

fn reset_in(pairs: &[(&'static str, &str)]) -> Option<f64> {
    reset(&headers(pairs), NOW.parse().unwrap()).map(|d| d.as_secs_f64())
}

#[test]
fn retry_after_in_seconds() {
    let told = |value: &str| seconds(&[("retry-after", value)]);
    assert_eq!(told("30"), Some(30.0));
    assert_eq!(told("1.5"), Some(1.5));
    assert_eq!(told("0"), Some(0.0));
    assert_eq!(told("1000000000000"), Some(LONGEST_WAIT.as_secs_f64()));
    assert_eq!(told("2m30s"), Some(150.0));
    for garbage in ["-1", "soon", "", "1e9", "inf", "NaN", "+5", "1.2.3"] {
        assert_eq!(told(garbage), None, "{garbage}");
    }
    assert_eq!(told(&"9".repeat(65)), None);
    assert_eq!(told(&"9".repeat(64)), Some(LONGEST_WAIT.as_secs_f64()));
    assert_eq!(seconds(&[]), None);
}

#[test]
fn retry_after_as_a_date_is_measured_by_the_servers_clock() {
    let date = ("retry-after", "Sun, 01 Nov 2026 12:00:20 GMT");
    assert_eq!(seconds(&[date]), Some(20.0));
    // The server's clock is an hour behind ours, and the wait is the same.
    let told = ("retry-after", "Sun, 01 Nov 2026 11:00:20 GMT");
    assert_eq!(
        seconds(&[told, ("date", "Sun, 01 Nov 2026 11:00:00 GMT")]),
        Some(20.0)
    );
    assert_eq!(
        seconds(&[("retry-after", "Sun, 01 Nov 2020 12:00:20 GMT")]),
        Some(0.0)
    );
}

#[test]
fn nothing_left() {
    for (name, value, zero) in [
        ("x-ratelimit-remaining", "0", true),
        ("x-rate-limit-remaining", "0.0", true),
        ("ratelimit-remaining", "0, 100;window=60", true),
        ("x-ratelimit-remaining", "10", false),
        ("x-ratelimit-remaining", "none", false),
        ("x-remaining", "0", false),
    ] {
        assert_eq!(
            remaining_zero(&headers(&[(name, value)])),
            zero,
            "{name}: {value}"
        );
    }
}

#[test]
fn resets_in_every_spelling() {
    let epoch = NOW.parse::<Timestamp>().unwrap().as_second();
    for (value, expected) in [
        ("41".to_owned(), Some(41.0)),
        ((epoch + 60).to_string(), Some(60.0)),
        (format!("{}.5", epoch + 60), Some(60.5)),
        (((epoch + 60) * 1000).to_string(), Some(60.0)),
        ((epoch - 60).to_string(), Some(0.0)),
        ("Sun, 01 Nov 2026 12:01:00 GMT".to_owned(), Some(60.0)),
        ("2026-11-01T12:01Z".to_owned(), Some(60.0)),
        ("9000000".to_owned(), None),
        ("later".to_owned(), None),
    ] {
        let headers = [("ratelimit-remaining", "0"), ("ratelimit-reset", &value)];
        assert_eq!(reset_in(&headers), expected, "{value}");
    }
}

#[test]
fn the_reset_of_the_exhausted_count_wins() {
    let both = [
        ("x-ratelimit-remaining", "7"),
        ("x-ratelimit-reset", "3600"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "5"),
    ];
    assert_eq!(reset_in(&both), Some(5.0));
}

#[test]
fn of_several_waits_the_longest_counts() {
    assert_eq!(seconds(&[("retry-after-ms", "1500")]), Some(1.5));
    assert_eq!(seconds(&[("x-retry-after", "7")]), Some(7.0));
    let both = [("retry-after", "1"), ("retry-after-ms", "734")];
    assert_eq!(seconds(&both), Some(1.0));
    let one = [("retry-after", "soon"), ("retry-after-ms", "2000")];
    assert_eq!(seconds(&one), Some(2.0));
}

#[test]
fn the_last_of_several_exhausted_budgets_wins() {
    let two = [
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "120ms"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "1m3.5s"),
    ];
    assert_eq!(reset_in(&two), Some(63.5));
}

/// What is read of `lines` (`name: value`), a line a signal, and how much was ignored.
fn shown(lines: &str) -> String {
    let pairs: Vec<(String, &str)> = lines
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let found = read(&headers, NOW.parse().unwrap());
    let mut shown: Vec<String> = Vec::new();
    for signal in found.signals {
        let mut line = vec![signal.dialect.to_owned()];
        if let Some(scope) = signal.scope {
            line.push(format!("[{scope}]"));
        }
        if let Unit::Named(unit) = signal.unit {
            line.push(unit);
        }
        if let Some(n) = signal.limit {
            line.push(format!("limit={n}"));
        }
        if let Some(n) = signal.remaining {
            line.push(format!("left={n}"));
        }
        if let Some(n) = signal.used {
            line.push(format!("used={n}"));
        }
        if let Some(window) = signal.window {
            line.push(format!("per={}s", window.as_secs_f64()));
        }
        if let Some(reset) = signal.resets_in {
            line.push(format!("resets={}s", reset.as_secs_f64()));
        }
        shown.push(line.join(" "));
    }
    if found.ignored > 0 {
        shown.push(format!("ignored {}", found.ignored));
    }
    shown.join("\n")
}

#[test]
fn dialects_as_they_are_sent() {
    // Noon of the first of November 2026 is 1793534400.
    for (headers, expected) in [
        // Draft -10, its own examples.
        (
            r#"RateLimit-Policy: "burst";q=100;w=60,"daily";q=1000;w=86400
               RateLimit: "burst";r=50;t=30"#,
            "ietf [burst] limit=100 left=50 per=60s resets=30s
             ietf [daily] limit=1000 per=86400s",
        ),
        (
            r#"RateLimit-Policy: "peruser";q=65535;qu="content-bytes";w=10;pk=:cHsdsRa894==:
               RateLimit: "peruser";r=12;t=3;pk=:cHsdsRa894==:"#,
            "ietf [peruser] content-bytes limit=65535 left=12 per=10s resets=3s",
        ),
        // Hugging Face: not valid by RFC 9651.
        (
            r#"RateLimit-Policy: "fixed window";"api";q=500;w=300
               RateLimit: "api";r=499;t=271"#,
            "ietf [api] limit=500 left=499 per=300s resets=271s",
        ),
        // Jira counts points.
        (
            r#"Beta-Ratelimit-Policy: "tenant-app-quota";q=100100;w=3600
               Beta-Ratelimit: "tenant-app-quota";r=17842;t=2107
               X-Ratelimit-Limit: 350
               X-Ratelimit-Remaining: 349"#,
            "ietf [tenant-app-quota] points limit=100100 left=17842 per=3600s resets=2107s
             x-ratelimit limit=350 left=349",
        ),
        // express-rate-limit, its three drafts.
        (
            r#"RateLimit-Policy: "5-in-10sec"; q=5; w=10; pk=:ZjMzNTdl:
               RateLimit: "5-in-10sec"; r=4; t=10"#,
            "ietf [5-in-10sec] limit=5 left=4 per=10s resets=10s",
        ),
        (
            "RateLimit-Policy: 5;w=10
             RateLimit: limit=5, remaining=4, reset=10",
            "ietf limit=5 left=4 per=10s resets=10s",
        ),
        (
            "RateLimit-Policy: 5;w=10
             RateLimit-Limit: 5
             RateLimit-Remaining: 4
             RateLimit-Reset: 10",
            "ratelimit limit=5 left=4 per=10s resets=10s",
        ),
        // WHOOP.
        (
            "X-RateLimit-Limit: 100, 100;window=60, 10000;window=86400
             X-RateLimit-Remaining: 98
             X-RateLimit-Reset: 3",
            "x-ratelimit limit=100 left=98 per=60s resets=3s",
        ),
        (
            "X-RateLimit-Limit: 5000
             X-RateLimit-Remaining: 4987
             X-RateLimit-Used: 13
             X-RateLimit-Reset: 1793535000
             X-RateLimit-Resource: core",
            "github [core] limit=5000 left=4987 used=13 resets=600s",
        ),
        // Our clock is an hour ahead of the server's; its own Date counts.
        (
            "Date: Sun, 01 Nov 2026 11:00:00 GMT
             X-RateLimit-Remaining: 1
             X-RateLimit-Reset: 1793530810",
            "x-ratelimit left=1 resets=10s",
        ),
        (
            "RateLimit-Limit: 60
             RateLimit-Name: throttle_authenticated_web
             RateLimit-Observed: 67
             RateLimit-Remaining: 0
             RateLimit-Reset: 1793534460",
            "gitlab [throttle_authenticated_web] limit=60 left=0 used=67 resets=60s",
        ),
        (
            "x-rate-limit-limit: 900
             x-rate-limit-remaining: 899
             x-rate-limit-reset: 1793535300",
            "x-rate-limit limit=900 left=899 resets=900s",
        ),
        (
            "x-ratelimit-used: 12
             x-ratelimit-remaining: 588.0
             x-ratelimit-reset: 211",
            "reddit left=588 used=12 resets=211s",
        ),
        (
            "X-RateLimit-Limit: 5
             X-RateLimit-Remaining: 0
             X-RateLimit-Reset: 1470173023.123
             X-RateLimit-Reset-After: 64.57
             X-RateLimit-Bucket: abcd1234",
            "discord [abcd1234] limit=5 left=0 resets=64.57s",
        ),
        (
            "X-Rate-Limit: 700
             X-Rate-Limit-Remaining: 699
             ratelimit-limit: 700
             ratelimit-remaining: 699
             ratelimit-reset: 41
             Zendesk-RateLimit-Tickets-Index: total=100; remaining=98; resets=42",
            "zendesk limit=700 left=699 per=60s resets=41s
             zendesk [tickets-index] limit=100 left=98 resets=42s
             ratelimit limit=700 left=699 resets=41s",
        ),
        (
            "X-HubSpot-RateLimit-Max: 100
             X-HubSpot-RateLimit-Remaining: 98
             X-HubSpot-RateLimit-Interval-Milliseconds: 10000
             X-HubSpot-RateLimit-Daily: 250000
             X-HubSpot-RateLimit-Daily-Remaining: 249000",
            "hubspot limit=100 left=98 per=10s
             hubspot limit=250000 left=249000 per=86400s",
        ),
        (
            "X-Shopify-Shop-Api-Call-Limit: 32/40",
            "shopify limit=40 left=8 used=32",
        ),
        (
            "Sforce-Limit-Info: api-usage=18/5000, per-app-api-usage=17/250(appName=sample-app)",
            "salesforce [api-usage] limit=5000 left=4982 used=18 per=86400s
             salesforce [per-app-api-usage] limit=250 left=233 used=17 per=86400s",
        ),
        (
            "x-mbx-used-weight-1m: 24
             x-mbx-used-weight: 24",
            "binance weight used=24 per=60s",
        ),
        (
            "x-ratelimit-limit-requests: 60
             x-ratelimit-limit-tokens: 150000
             x-ratelimit-remaining-requests: 59
             x-ratelimit-remaining-tokens: 149984
             x-ratelimit-reset-requests: 1s
             x-ratelimit-reset-tokens: 6m0s",
            "openai limit=60 left=59 resets=1s
             openai tokens limit=150000 left=149984 resets=360s",
        ),
        (
            "anthropic-ratelimit-requests-limit: 50
             anthropic-ratelimit-requests-remaining: 49
             anthropic-ratelimit-requests-reset: 2026-11-01T12:00:30Z",
            "anthropic limit=50 left=49 resets=30s",
        ),
        (
            "x-rate-limit-limit: 50
             x-rate-limit-interval: 1s
             x-concurrency-limit: 3",
            "crossref limit=50 per=1s
             crossref in flight limit=3",
        ),
        (
            r#"x-app-usage: {"call_count":28,"total_time":25,"total_cputime":31}
               x-business-use-case-usage: {"8720":[{"type":"ads_insights","call_count":100,"total_cputime":20,"total_time":20,"estimated_time_to_regain_access":19}]}"#,
            "meta percent limit=100 left=69 used=31
             meta [ads_insights] percent limit=100 left=0 used=100 resets=1140s",
        ),
        (
            "X-RateLimit-Limit: 350
             X-RateLimit-Remaining: 40
             X-RateLimit-Reset: 2026-11-01T12:01Z
             X-RateLimit-NearLimit: false",
            "atlassian limit=350 left=40 resets=60s",
        ),
        (
            "X-Ratelimit-Limit: 600
             X-Ratelimit-Remain: 598
             X-Ratelimit-Reset: 1793534500
             X-Ratelimit-Window: 5m",
            "companies-house limit=600 left=598 per=300s resets=100s",
        ),
        (
            "X-RateLimit-Limit-Minute: 20
             X-RateLimit-Remaining-Minute: 19
             X-RateLimit-Limit-Hour: 500
             X-RateLimit-Remaining-Hour: 499",
            "kong limit=20 left=19 per=60s
             kong limit=500 left=499 per=3600s",
        ),
    ] {
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(shown(headers), expected.join("\n"), "{headers}");
    }
}

#[test]
fn garbage_is_counted_and_the_rest_is_read() {
    let long = "9".repeat(1025);
    let much = vec!["\"a\";r=1"; 40].join(",");
    for (headers, expected) in [
        (
            "X-RateLimit-Limit: lots\nX-RateLimit-Remaining: 3".to_owned(),
            "x-ratelimit left=3\nignored 1",
        ),
        ("X-RateLimit-Remaining: -1".to_owned(), "ignored 1"),
        (
            "X-RateLimit-Remaining: 5\nX-RateLimit-Reset: 99999999999".to_owned(),
            "x-ratelimit left=5\nignored 1",
        ),
        (format!("X-RateLimit-Remaining: {long}"), "ignored 1"),
        ("RateLimit: \"open;r=5".to_owned(), "ignored 1"),
        ("RateLimit: \"a\";t=5".to_owned(), "ignored 1"),
        (
            "RateLimit: \"a\";r=5;t=soon".to_owned(),
            "ietf [a] left=5\nignored 1",
        ),
        ("RateLimit: ,,;;,=".to_owned(), "ignored 4"),
        ("RateLimit-Policy: \"a\";q=x".to_owned(), "ignored 1"),
        ("X-Shopify-Shop-Api-Call-Limit: 40".to_owned(), "ignored 1"),
        (
            "X-App-Usage: {\"call_count\":1e999}".to_owned(),
            "ignored 1",
        ),
        ("X-App-Usage: [[[[".to_owned(), "ignored 1"),
        ("x-mbx-used-weight-soon: 1".to_owned(), "ignored 1"),
        ("Retry-After: later".to_owned(), "ignored 1"),
        ("Age: 60\nX-RateLimit-Remaining: 5".to_owned(), ""),
        (
            "Age: 0\nX-RateLimit-Remaining: 5".to_owned(),
            "x-ratelimit left=5",
        ),
    ] {
        assert_eq!(shown(&headers), expected, "{headers}");
    }
    let found = shown(&format!("RateLimit: {much}"));
    assert_eq!(found.lines().count(), 17, "{found}");
    assert!(found.ends_with("ignored 1"), "{found}");
}

/// The name of any header of the table, prefixes made whole.
fn names() -> Vec<String> {
    let mut names = vec!["date".to_owned(), "age".to_owned()];
    names.extend(WAITS.iter().map(|(name, ..)| (*name).to_owned()));
    for dialect in DIALECTS {
        names.extend(dialect.marker.map(str::to_owned));
        match dialect.form {
            Form::Plain(p) => {
                let mut more = vec![p.scope, p.limit, p.remaining, p.used];
                more.push(p.reset.map(|(name, _)| name));
                if let Window::Header(name, _) = p.window {
                    more.push(Some(name));
                }
                names.extend(more.into_iter().flatten().map(str::to_owned));
            }
            Form::Fields {
                items, policies, ..
            } => {
                names.extend([items.to_owned(), policies.to_owned()]);
            }
            Form::Quotient { header, .. } | Form::Percent(header) => names.push(header.to_owned()),
            Form::Pairs(prefix) | Form::Used { prefix, .. } => names.push(format!("{prefix}1m")),
        }
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is sent: no panic, no number that arithmetic could stumble over, bounded.
    #[test]
    fn anything_may_be_sent(
        lines in prop::collection::vec(
            (
                prop::sample::select(names()),
                prop_oneof![
                    "[ -~]{0,80}",
                    "[\"a-c;:=,./ 0-9rtqw-]{0,60}",
                    "[0-9]{0,25}(\\.[0-9]{0,5})?(ms|s|m|h)?",
                    Just("{\"call_count\":1e308,\"a\":[{\"call_count\":-1}]}".to_owned()),
                    "[0-9]{500,1200}",
                ],
            ),
            0..12,
        ),
        now in -62_135_596_800_i64..253_402_200_000,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let now = Timestamp::from_second(now).unwrap();
        let found = read(&headers, now);
        prop_assert!(found.signals.len() <= MOST_SIGNALS);
        for signal in &found.signals {
            prop_assert!(signal.remaining.is_none_or(|n| n.is_finite() && n >= 0.0));
            prop_assert!(signal.used.is_none_or(|n| n.is_finite() && n >= 0.0));
            prop_assert!(signal.window.is_none_or(|w| !w.is_zero()));
            prop_assert!(signal.resets_in.is_none_or(|w| w <= LONGEST_WAIT));
        }
        for wait in [retry_after(&headers, now), reset(&headers, now)] {
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST_WAIT));
        }
        let _ = remaining_zero(&headers);
    }
}
