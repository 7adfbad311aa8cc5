//! `source`: where and how to ask, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::auth::AuthSpec;
use super::choice::{ScalarOr, Table};
use super::stream::ResponseSpec;
use super::tree::Tree;

/// Where and how to ask.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Base URL, http or https; the path of `get` is appended. May use `vars` and `env`.
    pub url: At<String>,
    /// E-mail or URL for the User-Agent; also a name in templates.
    pub contact: Option<At<String>>,
    /// How to authenticate; a credential that renders empty is not sent.
    pub auth: Option<At<AuthSpec>>,
    /// Headers of every request.
    pub headers: Option<Table<At<String>>>,
    /// Parameters of every request.
    pub query: Option<Table<Tree>>,
    /// What the API allows, as in `[5000/h, 80/min]`; `auto` finds it; `none` must be said out loud.
    #[schemars(extend("x-missing" = "write what the API's documentation allows, as in `limits: [60/min]`, or `limits: none` if it sets no limit"))]
    #[schemars(required)]
    pub limits: Option<At<ScalarOr<LimitsWord, Vec<LimitSpec>>>>,
    /// Most requests in flight; default 8.
    pub concurrency: Option<At<u64>>,
    /// How failures are tried again.
    pub retry: Option<RetrySpec>,
    /// How long each step of a request may take.
    pub timeouts: Option<TimeoutSpec>,
    /// Other origins that next links, redirects and templates may reach.
    pub allow_origins: Option<Vec<OriginSpec>>,
    /// What answers mean, for all streams; tried after those of the stream.
    pub responses: Option<Vec<ResponseSpec>>,
    /// An authority of one's own, and a certificate to show.
    pub tls: Option<TlsSpec>,
    /// The proxy that everything goes through: `http://…`, `https://…`, `socks5://…`.
    pub proxy: Option<At<String>>,
    /// A file of `NAME=value` lines with secrets, relative to the project; only its owner may read it.
    pub secrets: Option<At<String>>,
}

/// A word in the place of limits.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LimitsWord {
    /// Nothing, said out loud.
    None,
    /// Nothing is known: found by asking a little more until the API refuses.
    Auto,
}

/// One limit: `5000/h`, or with conditions.
pub type LimitSpec = At<ScalarOr<String, LongLimitSpec>>;

/// One limit with conditions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongLimitSpec {
    /// Calls, or units of a cost, per time: `5000/h`, `1/3s`, `600 weight/min`; or requests in
    /// flight: `1 in flight`.
    pub limit: At<String>,
    /// Counts only requests with a credential, or only those without.
    #[serde(rename = "if")]
    pub when: Option<At<LimitWhenSpec>>,
    /// `true`: evenly from the first call; `false`: as fast as asked until used up.
    pub spread: Option<bool>,
    /// Which requests it counts: globs over the path, a method may stand before it.
    pub routes: Option<At<ScalarOr<String, Vec<At<String>>>>>,
    /// A budget for each value of these: `host`, `credential`, variables of `for`.
    pub per: Option<At<ScalarOr<String, Vec<At<String>>>>>,
    /// The API's bucket: so many at once, then the rate of `limit`.
    pub burst: Option<At<u64>>,
    /// The API counts in this zone's own minutes, hours, days or months.
    pub calendar: Option<At<String>>,
    /// `true`: the API estimates a sliding window from two fixed ones.
    pub counter: Option<At<bool>>,
    /// What is left to others: `10%`, or a number.
    pub reserve: Option<At<String>>,
    /// One budget for all pipelines of this machine that name it so; they declare the same limit.
    pub shared_as: Option<At<String>>,
    /// `true`: count from receipts only, whatever the network does.
    pub strict: Option<bool>,
    /// Where answers say how much of it is left, in place of the headers that are known.
    pub signals: Option<At<SignalsSpec>>,
}

/// What answers say of a limit: expressions over status, headers, body, text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalsSpec {
    /// How many calls, or units, are left.
    pub remaining: Option<At<String>>,
    /// How many are used; in place of `remaining`.
    pub used: Option<At<String>>,
    /// When there are more: seconds from now or since 1970, a date, or `1m30s`.
    pub reset: Option<At<String>>,
    /// How long to send nothing, after a success too: seconds, or `1m30s`.
    pub pause: Option<At<String>>,
    /// `true`: what is told counts even where it is more than `limit` allows.
    pub trust: Option<bool>,
}

/// Which requests a limit counts.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum LimitWhenSpec {
    /// Those with a credential.
    #[serde(rename = "auth")]
    Auth,
    /// Those without.
    #[serde(rename = "not auth")]
    NotAuth,
}

/// How failures are tried again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrySpec {
    /// Most attempts at one page; default 6.
    pub attempts: Option<At<u32>>,
    /// A told wait longer than this ends the run resumably; default 15min.
    pub max_wait: Option<At<String>>,
    /// Most time for one page over all attempts; default 30min.
    pub page_deadline: Option<At<String>>,
}

/// How long each step of a request may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutSpec {
    /// Connecting; default 10s.
    pub connect: Option<At<String>>,
    /// Until the answer's headers; default 60s.
    pub headers: Option<At<String>>,
    /// Between two pieces of a body; default 30s.
    pub idle: Option<At<String>>,
    /// One attempt as a whole; default 300s.
    pub attempt: Option<At<String>>,
}

/// Files of TLS, as PEM, relative to the project.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSpec {
    /// Authorities that are trusted beside those of the system.
    pub ca: Option<At<String>>,
    /// The certificate that is shown to the server, with those above it.
    pub cert: Option<At<String>>,
    /// Its private key; only its owner may read the file.
    pub key: Option<At<String>>,
}

/// Another origin: `https://*.example.com`, or with a word on credentials.
pub type OriginSpec = At<ScalarOr<String, LongOriginSpec>>;

/// Another origin, with a word on credentials.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongOriginSpec {
    /// `scheme://host[:port]`, `*` allowed.
    pub origin: At<String>,
    /// Whether credentials go there too; default false.
    pub credentials: Option<bool>,
}
