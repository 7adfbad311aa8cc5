//! Which headers say what: every dialect of rate-limit headers that is read, as data.
//!
//! The only table of such names in the program; `docs/limits.md` is written from it. Order
//! matters: a header is read once, by the first dialect that knows it, so dialects with a tell-tale
//! header stand before the general ones that share their names.

/// A family of headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// Its name.
    pub(super) name: &'static str,
    /// Who sends it, for the manual.
    pub(super) who: &'static str,
    /// Read only where this header is there too.
    pub(super) marker: Option<&'static str>,
    /// How it is written.
    pub(super) form: Form,
}

/// How a dialect is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// One header a number.
    Plain(Plain),
    /// Items and policies with parameters (draft-ietf-httpapi-ratelimit-headers).
    Fields {
        /// Where the allowances stand.
        items: &'static str,
        /// Where the policies stand.
        policies: &'static str,
        /// What is counted where `qu` does not say; calls, if none.
        unit: Option<&'static str>,
    },
    /// `32/40`, or a list of `name=32/40`.
    Quotient {
        /// The header.
        header: &'static str,
        /// The window it counts in, in seconds.
        window: Option<u64>,
    },
    /// `total=100; remaining=98; resets=42` in headers with this beginning.
    Pairs(&'static str),
    /// `PREFIX1m: 120`: what is used in the window that ends the name.
    Used {
        /// How the names begin.
        prefix: &'static str,
        /// What is counted.
        unit: &'static str,
    },
    /// JSON with shares in percent.
    Percent(&'static str),
}

/// One header a number; those that are not known are `None`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain {
    /// What is counted; calls, if none.
    pub(super) unit: Option<&'static str>,
    /// Header with the name of the budget.
    pub(super) scope: Option<&'static str>,
    /// How much there is in a window.
    pub(super) limit: Option<&'static str>,
    /// How much is left.
    pub(super) remaining: Option<&'static str>,
    /// How much is used.
    pub(super) used: Option<&'static str>,
    /// When the count starts anew.
    pub(super) reset: Option<(&'static str, Time)>,
    /// How long the window is.
    pub(super) window: Window,
}

/// How long a window is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Window {
    /// Nothing says it, or a parameter `w` beside the limit.
    Unsaid,
    /// A header says it.
    Header(&'static str, Time),
    /// It is known, in seconds.
    Seconds(u64),
}

/// What a time is expected to be. What makes no sense as that is read by its size and shape, see
/// [`super::value::ahead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    Epoch,
    /// RFC 3339.
    Date,
    /// `1m3.5s`.
    Span,
}

const NONE: Plain = Plain {
    unit: None,
    scope: None,
    limit: None,
    remaining: None,
    used: None,
    reset: None,
    window: Window::Unsaid,
};

const X_RATELIMIT: Plain = Plain {
    limit: Some("x-ratelimit-limit"),
    remaining: Some("x-ratelimit-remaining"),
    reset: Some(("x-ratelimit-reset", Time::Epoch)),
    ..NONE
};

const X_RATE_LIMIT: Plain = Plain {
    limit: Some("x-rate-limit-limit"),
    remaining: Some("x-rate-limit-remaining"),
    reset: Some(("x-rate-limit-reset", Time::Epoch)),
    ..NONE
};

const RATELIMIT: Plain = Plain {
    limit: Some("ratelimit-limit"),
    remaining: Some("ratelimit-remaining"),
    reset: Some(("ratelimit-reset", Time::Seconds)),
    ..NONE
};

const fn plain(
    name: &'static str,
    who: &'static str,
    marker: Option<&'static str>,
    plain: Plain,
) -> Dialect {
    Dialect {
        name,
        who,
        marker,
        form: Form::Plain(plain),
    }
}

const fn other(name: &'static str, who: &'static str, form: Form) -> Dialect {
    Dialect {
        name,
        who,
        marker: None,
        form,
    }
}

/// A budget of a language model: `requests` or a number of `tokens`.
macro_rules! model {
    ($name:literal, $who:literal, $unit:expr, $limit:literal, $remaining:literal, $reset:literal, $time:expr) => {
        plain(
            $name,
            $who,
            None,
            Plain {
                unit: $unit,
                limit: Some($limit),
                remaining: Some($remaining),
                reset: Some(($reset, $time)),
                ..NONE
            },
        )
    };
}

/// Gateways that count in several windows at once, each with its own headers.
macro_rules! windowed {
    ($suffix:literal, $seconds:literal) => {
        plain(
            "kong",
            "Kong and other gateways",
            None,
            Plain {
                limit: Some(concat!("x-ratelimit-limit-", $suffix)),
                remaining: Some(concat!("x-ratelimit-remaining-", $suffix)),
                window: Window::Seconds($seconds),
                ..NONE
            },
        )
    };
}

/// All dialects, the particular ones first.
pub(super) static DIALECTS: &[Dialect] = &[
    other(
        "ietf",
        "draft-ietf-httpapi-ratelimit-headers-07 to -10; Hugging Face, express-rate-limit",
        Form::Fields {
            items: "ratelimit",
            policies: "ratelimit-policy",
            unit: None,
        },
    ),
    other(
        "ietf",
        "Jira Cloud",
        Form::Fields {
            items: "beta-ratelimit",
            policies: "beta-ratelimit-policy",
            unit: Some("points"),
        },
    ),
    plain(
        "github",
        "GitHub",
        Some("x-ratelimit-resource"),
        Plain {
            scope: Some("x-ratelimit-resource"),
            used: Some("x-ratelimit-used"),
            ..X_RATELIMIT
        },
    ),
    plain(
        "discord",
        "Discord",
        Some("x-ratelimit-bucket"),
        Plain {
            scope: Some("x-ratelimit-bucket"),
            reset: Some(("x-ratelimit-reset-after", Time::Seconds)),
            ..X_RATELIMIT
        },
    ),
    plain(
        "atlassian",
        "Jira, Confluence",
        Some("x-ratelimit-nearlimit"),
        Plain {
            reset: Some(("x-ratelimit-reset", Time::Date)),
            ..X_RATELIMIT
        },
    ),
    plain(
        "atlassian",
        "Jira and Confluence Data Center",
        Some("x-ratelimit-interval-seconds"),
        Plain {
            reset: None,
            window: Window::Header("x-ratelimit-interval-seconds", Time::Seconds),
            ..X_RATELIMIT
        },
    ),
    plain(
        "companies-house",
        "Companies House",
        Some("x-ratelimit-remain"),
        Plain {
            remaining: Some("x-ratelimit-remain"),
            window: Window::Header("x-ratelimit-window", Time::Span),
            ..X_RATELIMIT
        },
    ),
    plain(
        "reddit",
        "Reddit",
        Some("x-ratelimit-used"),
        Plain {
            used: Some("x-ratelimit-used"),
            reset: Some(("x-ratelimit-reset", Time::Seconds)),
            ..X_RATELIMIT
        },
    ),
    plain(
        "gitlab",
        "GitLab",
        Some("ratelimit-observed"),
        Plain {
            scope: Some("ratelimit-name"),
            used: Some("ratelimit-observed"),
            reset: Some(("ratelimit-reset", Time::Epoch)),
            ..RATELIMIT
        },
    ),
    plain(
        "crossref",
        "Crossref",
        Some("x-rate-limit-interval"),
        Plain {
            window: Window::Header("x-rate-limit-interval", Time::Span),
            ..X_RATE_LIMIT
        },
    ),
    plain(
        "crossref",
        "Crossref",
        None,
        Plain {
            unit: Some("in flight"),
            limit: Some("x-concurrency-limit"),
            ..NONE
        },
    ),
    plain(
        "zendesk",
        "Zendesk",
        Some("x-rate-limit"),
        Plain {
            limit: Some("x-rate-limit"),
            remaining: Some("x-rate-limit-remaining"),
            reset: Some(("ratelimit-reset", Time::Seconds)),
            window: Window::Seconds(60),
            ..NONE
        },
    ),
    other(
        "zendesk",
        "Zendesk, per endpoint",
        Form::Pairs("zendesk-ratelimit-"),
    ),
    plain(
        "hubspot",
        "HubSpot",
        None,
        Plain {
            limit: Some("x-hubspot-ratelimit-max"),
            remaining: Some("x-hubspot-ratelimit-remaining"),
            window: Window::Header(
                "x-hubspot-ratelimit-interval-milliseconds",
                Time::Milliseconds,
            ),
            ..NONE
        },
    ),
    plain(
        "hubspot",
        "HubSpot, per day",
        None,
        Plain {
            limit: Some("x-hubspot-ratelimit-daily"),
            remaining: Some("x-hubspot-ratelimit-daily-remaining"),
            window: Window::Seconds(86_400),
            ..NONE
        },
    ),
    model!(
        "openai",
        "OpenAI, Groq",
        None,
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        Time::Span
    ),
    model!(
        "openai",
        "OpenAI, Groq",
        Some("tokens"),
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        Time::Span
    ),
    model!(
        "anthropic",
        "Anthropic",
        None,
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        Time::Date
    ),
    model!(
        "anthropic",
        "Anthropic",
        Some("tokens"),
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        Time::Date
    ),
    model!(
        "anthropic",
        "Anthropic",
        Some("input tokens"),
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
        Time::Date
    ),
    model!(
        "anthropic",
        "Anthropic",
        Some("output tokens"),
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
        Time::Date
    ),
    other(
        "shopify",
        "Shopify",
        Form::Quotient {
            header: "x-shopify-shop-api-call-limit",
            window: None,
        },
    ),
    other(
        "salesforce",
        "Salesforce",
        Form::Quotient {
            header: "sforce-limit-info",
            window: Some(86_400),
        },
    ),
    other(
        "binance",
        "Binance",
        Form::Used {
            prefix: "x-mbx-used-weight-",
            unit: "weight",
        },
    ),
    other(
        "binance",
        "Binance",
        Form::Used {
            prefix: "x-mbx-order-count-",
            unit: "orders",
        },
    ),
    other("meta", "Meta", Form::Percent("x-app-usage")),
    other("meta", "Meta", Form::Percent("x-page-usage")),
    other("meta", "Meta", Form::Percent("x-business-use-case-usage")),
    windowed!("second", 1),
    windowed!("minute", 60),
    windowed!("hour", 3600),
    windowed!("day", 86_400),
    plain(
        "x-ratelimit",
        "many; Okta, OpenAlex, Flask-Limiter",
        None,
        X_RATELIMIT,
    ),
    plain("x-rate-limit", "X (Twitter) and others", None, X_RATE_LIMIT),
    plain(
        "ratelimit",
        "draft-ietf-httpapi-ratelimit-headers-03 to -06; Twitch, Zendesk, many",
        None,
        RATELIMIT,
    ),
];

/// Headers of a refusal that say how long to wait, and in what: of several the longest counts.
pub(super) static WAITS: [(&str, Time, &str); 5] = [
    ("retry-after", Time::Seconds, "RFC 9110 section 10.2.3"),
    ("retry-after-ms", Time::Milliseconds, "OpenAI, Azure"),
    ("x-ms-retry-after-ms", Time::Milliseconds, "Azure Cosmos DB"),
    ("x-retry-after", Time::Seconds, "several"),
    (
        "x-rate-limit-retry-after-seconds",
        Time::Seconds,
        "Bucket4j",
    ),
];
