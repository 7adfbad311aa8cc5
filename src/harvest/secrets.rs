//! Secrets: looked up when a run opens, scrubbed from everything written.
//!
//! Values come from the environment, else from the file that `source.secrets` names, else from a `.env`
//! file in the project root. Tokens that a run is given are learned on the way. Scrubbing is by
//! value, longest first, and knows the forms in which a secret travels: as it is, percent-encoded
//! once and twice, in both alphabets of base64 (HTTP Basic, tokens), escaped in JSON and in HTML.

pub(super) mod env_file;
pub(super) mod private;
mod stand_in;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::event::{Event, Fact, Wait};
use crate::failure::{Exit, Failure};
use crate::plan::{Need, Plan};

/// Secrets shorter than this are not looked for: they would scrub ordinary words.
pub(super) const SHORTEST_SCRUBBED: usize = 4;

/// So many tokens of a run are looked for: those before have ended long ago.
const REMEMBERED: usize = 24;

/// Percent-encoded as RFC 3986 (section 2.3) wants it of values.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Percent-encoded as the URL parser does it in a query (WHATWG URL, section 1.3).
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\'');
/// Percent-encoded as the URL parser does it in a path (WHATWG URL, section 1.3).
const PATH: &AsciiSet = &QUERY
    .remove(b'\'')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// What a run may render: values of `secret.*` and `env.*`.
#[derive(Default)]
pub struct Secrets {
    values: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    /// What to replace by what, longest first.
    scrub: Vec<(String, String)>,
    /// The same for what a run was given on its way: tokens.
    learned: RwLock<Learned>,
    /// Secrets that something else stands for.
    unset: Vec<String>,
}

/// Tokens of a run, the latest last.
#[derive(Default)]
struct Learned {
    known: VecDeque<(&'static str, String)>,
    scrub: Vec<(String, String)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Secrets {
    /// What can be found, for those who do without the rest: a file that cannot be read takes nothing from
    /// what the environment and other files have.
    pub(super) fn as_found(plan: &Plan, root: &Path) -> Self {
        let mut file = env_file::read(&root.join(".env")).unwrap_or_default();
        file.extend(env_file::named(plan, root).unwrap_or_default());
        Self::among(plan, &file).0
    }

    /// What has a value, and the names of secrets and of variables that have none.
    fn look(plan: &Plan, root: &Path) -> Result<(Self, Vec<String>, Vec<String>), Box<Failure>> {
        let mut file = env_file::read(&root.join(".env"))?;
        file.extend(env_file::named(plan, root)?);
        Ok(Self::among(plan, &file))
    }

    /// The same, of the environment and what files have.
    fn among(plan: &Plan, file: &BTreeMap<String, String>) -> (Self, Vec<String>, Vec<String>) {
        let mut found = Self::default();
        let (mut missing, mut missing_env) = (Vec::new(), Vec::new());
        find(&plan.secrets, file, &mut found.values, &mut missing);
        find(&plan.env, file, &mut found.env, &mut missing_env);
        found.scrub = scrub_table(&found.values);
        (found, missing, missing_env)
    }

    /// Names of secrets that have a value.
    pub(super) fn set(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Names of secrets that something else stands for.
    pub(super) fn unset(&self) -> &[String] {
        &self.unset
    }

    /// Looks up every name the plan uses; names without a value are all reported at once.
    pub fn load(plan: &Plan, root: &Path) -> Result<Self, Box<Failure>> {
        let (found, mut missing, missing_env) = Self::look(plan, root)?;
        missing.extend(missing_env);
        if !missing.is_empty() {
            return Err(unset(plan, &missing));
        }
        Ok(found)
    }

    /// From now on `value` is hidden too, as `[name]`.
    pub(super) fn learn(&self, name: &'static str, value: &str) {
        // One that has a name in the file keeps it.
        if self.values.values().any(|known| known == value) {
            return;
        }
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        if learned.known.iter().any(|(_, known)| known == value) {
            return;
        }
        if learned.known.len() == REMEMBERED {
            learned.known.pop_front();
        }
        learned.known.push_back((name, value.to_owned()));
        let mut table = Vec::new();
        for (name, value) in &learned.known {
            push_forms(&mut table, name, value);
        }
        learned.scrub = in_order(table);
    }

    fn learned(&self) -> RwLockReadGuard<'_, Learned> {
        self.learned.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Values of `secret.*`, for rendering requests.
    pub fn secret_values(&self) -> minijinja::Value {
        minijinja::Value::from_pairs(self.values.clone())
    }

    /// Environment variables that the plan uses.
    pub(super) fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.env.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Values of `env.*`.
    pub fn env_values(&self) -> minijinja::Value {
        minijinja::Value::from_pairs(self.env.clone())
    }

    /// Whether `text` holds a secret in any of its forms.
    pub fn is_in(&self, text: &str) -> bool {
        let learned = self.learned();
        let mut all = self.scrub.iter().chain(&learned.scrub);
        all.any(|(form, _)| text.contains(form.as_str()))
    }

    /// `text` with every secret value replaced by its name in brackets.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let learned = self.learned();
        if learned.scrub.is_empty() && self.scrub.is_empty() {
            return text;
        }
        // What came later may hold what came first: a token may name its owner.
        for (form, name) in learned.scrub.iter().chain(&self.scrub) {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), name);
            }
        }
        drop(learned);
        self.scrub_cut(text)
    }

    /// `text` with the values of the secrets that the file names replaced by their names: what a request is
    /// known by, so that a page that is kept stays good when a key is changed for another.
    pub(super) fn by_name(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (form, name) in &self.scrub {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), name);
            }
        }
        text
    }

    /// Names of secrets whose values have so many bytes.
    pub(super) fn of_length(&self, bytes: Range<usize>) -> impl Iterator<Item = &str> {
        let values = self.values.iter();
        values
            .filter_map(move |(name, value)| bytes.contains(&value.len()).then_some(name.as_str()))
    }

    /// An event without secrets, where it has words that did not come from the file; `None` where
    /// it has none.
    pub(super) fn scrub_event(&self, event: &Event) -> Option<Event> {
        if self.scrub.is_empty() && self.learned().scrub.is_empty() {
            return None;
        }
        let mut event = event.clone();
        match &mut event.fact {
            Fact::AttemptFailed {
                place,
                request,
                message,
                ..
            } => {
                for text in [place, request, message] {
                    *text = self.scrub(text);
                }
            }
            Fact::CheckFailed {
                expected,
                seen,
                message,
                ..
            } => {
                for text in [expected, seen, message] {
                    *text = self.scrub(text);
                }
            }
            Fact::FieldsUnread { fields, .. } => {
                for field in fields {
                    *field = self.scrub(field);
                }
            }
            Fact::Noticed { message, .. }
            | Fact::FellShort { message, .. }
            | Fact::RunNoticed { message }
            | Fact::StreamFailed { message, .. } => {
                *message = self.scrub(message);
            }
            Fact::WaitBegan { why, .. } | Fact::WaitEnded { why, .. } => {
                let (told, scope) = match why {
                    Wait::Pause { told, scope } => (Some(told), scope),
                    Wait::NotReady { told } => {
                        *told = self.scrub(told).into();
                        return Some(event);
                    }
                    Wait::Limit { scope, .. } => (None, scope),
                    Wait::Concurrency | Wait::Backoff { .. } => return None,
                };
                for text in [told, scope.as_mut()].into_iter().flatten() {
                    *text = self.scrub(text).into();
                }
            }
            // Numbers, and names that come from the file or are made here. All are written out, so
            // that nobody adds one without a thought of this.
            Fact::RunStarted { .. }
            | Fact::RunContinued { .. }
            | Fact::PagesKept { .. }
            | Fact::PagesVoid { .. }
            | Fact::PageFetched { .. }
            | Fact::PagesExpected { .. }
            | Fact::PartitionFinished { .. }
            | Fact::Committed { .. }
            | Fact::Published { .. }
            | Fact::RequestSent { .. }
            | Fact::MarginUsed { .. }
            | Fact::LimitsLearned { .. }
            | Fact::SignalsIgnored { .. }
            // The schedule's, which knows no secrets.
            | Fact::Scheduled { .. }
            | Fact::ScheduleBroken { .. }
            | Fact::ScheduleMended { .. }
            | Fact::Unscheduled { .. }
            | Fact::TimeSkipped { .. }
            | Fact::TimeCame { .. }
            | Fact::TimeDone { .. }
            | Fact::ScheduleNoticed { .. }
            | Fact::ScheduleWaits { .. }
            | Fact::ScheduleStuck { .. }
            | Fact::RunFinished { .. } => return None,
        }
        Some(event)
    }

    /// Every part of a failure scrubbed.
    pub(super) fn scrub_failure(&self, mut failure: Box<Failure>) -> Box<Failure> {
        failure.message = self.scrub(&failure.message);
        for cause in &mut failure.causes {
            *cause = self.scrub(cause);
        }
        failure.hint = failure.hint.map(|hint| self.scrub(&hint));
        failure
    }

    /// Texts of servers are shortened before they come here: what stands before `…` may be the
    /// beginning of a secret, and what stands behind it the end of one.
    fn scrub_cut(&self, mut text: String) -> String {
        const CUT: char = '…';
        let mut from = 0;
        while let Some(at) = text[from..].find(CUT).map(|at| from + at) {
            let begun =
                self.longest(|form| lengths(form).find(|len| text[..at].ends_with(&form[..*len])));
            let after = at + CUT.len_utf8();
            let ended = self.longest(|form| {
                lengths(form).find(|len| text[after..].starts_with(&form[form.len() - len..]))
            });
            if let Some((len, name)) = ended {
                text.replace_range(after..after + len, &name);
            }
            from = match begun {
                Some((len, name)) => {
                    text.replace_range(at - len..at, &name);
                    after - len + name.len()
                }
                None => after,
            };
        }
        text
    }

    /// The longest of the lengths that `found` gives for a form, with the form's name.
    fn longest(&self, found: impl Fn(&str) -> Option<usize>) -> Option<(usize, String)> {
        let learned = self.learned();
        let all = self.scrub.iter().chain(&learned.scrub);
        all.filter_map(|(form, name)| Some((found(form)?, name.clone())))
            .max_by_key(|(len, _)| *len)
    }
}

/// Lengths at which `form` can be cut from either end, the longest first.
fn lengths(form: &str) -> impl Iterator<Item = usize> {
    (SHORTEST_SCRUBBED..form.len())
        .rev()
        .filter(|len| form.is_char_boundary(*len) && form.is_char_boundary(form.len() - len))
}

fn unset(plan: &Plan, missing: &[String]) -> Box<Failure> {
    let (is, it) = match missing {
        [_] => ("is", "it"),
        _ => ("are", "them"),
    };
    let names = missing.join(", ");
    let first = missing.first().map(String::as_str).unwrap_or_default();
    Box::new(Failure {
        exit: Exit::Usage,
        message: format!("{names} {is} not set, but `{}` needs {it}", plan.name),
        causes: Vec::new(),
        hint: Some(format!(
            "export {first}=… or put it into a file named .env beside the pipelines folder"
        )),
    })
}

fn find(
    needs: &[Need],
    file: &BTreeMap<String, String>,
    into: &mut BTreeMap<String, String>,
    missing: &mut Vec<String>,
) {
    for need in needs {
        let value = std::env::var(&need.name)
            .ok()
            .or_else(|| file.get(&need.name).cloned());
        match value {
            Some(value) => {
                into.insert(need.name.clone(), value);
            }
            None if need.optional => {}
            None => missing.push(need.name.clone()),
        }
    }
}

fn scrub_table(secrets: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut table = Vec::new();
    for (name, value) in secrets {
        push_forms(&mut table, name, value);
    }
    in_order(table)
}

fn in_order(mut table: Vec<(String, String)>) -> Vec<(String, String)> {
    table.retain(|(form, _)| form.len() >= SHORTEST_SCRUBBED);
    table.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
    table.dedup();
    table
}

/// The forms in which a secret travels.
fn push_forms(table: &mut Vec<(String, String)>, name: &str, value: &str) {
    if value.len() < SHORTEST_SCRUBBED {
        return;
    }
    let shown = format!("[{name}]");
    let escaped = serde_json::to_string(value).unwrap_or_default();
    let mut forms: Vec<String> = [NON_ALPHANUMERIC, COMPONENT, PATH, QUERY]
        .into_iter()
        .map(|set| utf8_percent_encode(value, set).to_string())
        .collect();
    forms.push(url::form_urlencoded::byte_serialize(value.as_bytes()).collect());
    let lower: Vec<String> = forms.iter().map(|form| lower_hex(form)).collect();
    forms.extend(lower);
    // An address inside a parameter of another, as in `login?return=`.
    let twice: Vec<String> = forms.iter().map(|form| form.replace('%', "%25")).collect();
    forms.extend(twice);
    forms.push(in_markup(value));
    // PHP escapes slashes.
    forms.push(escaped[1..escaped.len().saturating_sub(1)].replace('/', "\\/"));
    forms.push(escaped[1..escaped.len().saturating_sub(1)].to_owned());
    forms.push(value.to_owned());
    table.extend(forms.into_iter().map(|form| (form, shown.clone())));
    // In base64 a secret can start at any of three offsets; the outer characters depend on
    // the neighbours and are left out.
    for core in (0..3).filter_map(|offset| base64_core(value.as_bytes(), offset)) {
        // RFC 4648 section 5.
        table.push((core.replace('+', "-").replace('/', "_"), shown.clone()));
        table.push((core, shown.clone()));
    }
}

/// As HTML and XML spell it.
fn in_markup(value: &str) -> String {
    value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The hexadecimal digits of percent-encoding in lower case, as some servers echo them.
fn lower_hex(form: &str) -> String {
    let mut lower = String::with_capacity(form.len());
    let mut digits = 0;
    for c in form.chars() {
        if c == '%' {
            digits = 3;
        }
        lower.push(if digits > 0 {
            c.to_ascii_lowercase()
        } else {
            c
        });
        digits = usize::saturating_sub(digits, 1);
    }
    lower
}

/// The characters that `secret` surely yields in base64 when `offset` bytes stand before it.
fn base64_core(secret: &[u8], offset: usize) -> Option<String> {
    let skip = (3 - offset) % 3;
    let whole = secret.len().checked_sub(skip)? / 3 * 3;
    (whole >= 6).then(|| crate::fetch::credentials::base64(&secret[skip..skip + whole]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_scrubbed_wherever_they_have_words() {
        let s = with("KEY", "s3cr3t-value");
        let told = |fact: Fact| {
            let at = jiff::Timestamp::UNIX_EPOCH;
            let event = Event { at, fact };
            let scrubbed = s.scrub_event(&event);
            serde_json::to_string(scrubbed.as_ref().unwrap_or(&event)).unwrap()
        };
        let words = || "a s3cr3t-value".to_owned();
        let waits = [
            Wait::Pause {
                told: words().into(),
                scope: Some(words().into()),
            },
            Wait::Limit {
                limit: "1/s".into(),
                scope: Some(words().into()),
            },
        ];
        let mut facts: Vec<Fact> = waits
            .into_iter()
            .map(|why| Fact::WaitBegan {
                stream: "s".into(),
                id: 1,
                why,
                until: None,
            })
            .collect();
        facts.extend([
            Fact::AttemptFailed {
                stream: "s".into(),
                place: words(),
                request: words(),
                class: crate::event::FailureClass::Fatal,
                message: words(),
                attempt: 1,
                of: 1,
                retry_at: None,
            },
            Fact::Noticed {
                stream: "s".into(),
                message: words(),
            },
            Fact::FellShort {
                stream: "s".into(),
                message: words(),
            },
            Fact::RunNoticed { message: words() },
            Fact::StreamFailed {
                stream: "s".into(),
                exit: 1,
                message: words(),
            },
        ]);
        for fact in facts {
            let shown = told(fact);
            assert!(
                shown.contains("[KEY]") && !shown.contains("s3cr3t"),
                "{shown}"
            );
        }
        let plain = Event {
            at: jiff::Timestamp::UNIX_EPOCH,
            fact: Fact::RequestSent { stream: "s".into() },
        };
        assert!(s.scrub_event(&plain).is_none());
    }

    fn with(name: &str, value: &str) -> Secrets {
        let secrets = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Secrets {
            scrub: scrub_table(&secrets),
            values: secrets,
            ..Secrets::default()
        }
    }

    #[test]
    fn a_secret_is_scrubbed_in_every_form_it_travels_in() {
        let s = with("KEY", "s3cr3t/va\"lue+long");
        for prefix in ["", "u", "us", "user:"] {
            let basic = crate::fetch::credentials::base64(
                format!("{prefix}s3cr3t/va\"lue+long:").as_bytes(),
            );
            let shown = s.scrub(&basic);
            assert!(shown.contains("[KEY]"), "{basic} → {shown}");
        }
        for text in [
            "x s3cr3t/va\"lue+long y",
            "k=s3cr3t%2Fva%22lue%2Blong&",
            r#"{"k":"s3cr3t/va\"lue+long"}"#,
            r#"{"k":"s3cr3t\/va\"lue+long"}"#,
            "return=k%3Ds3cr3t%252Fva%2522lue%252Blong",
            "<a href=\"?k=s3cr3t/va&quot;lue+long\">",
        ] {
            let shown = s.scrub(text);
            assert!(
                shown.contains("[KEY]") && !shown.contains("s3cr3t"),
                "{shown}"
            );
        }
    }

    #[test]
    fn both_alphabets_of_base64_are_scrubbed() {
        let s = with("KEY", "???>>>~~~~");
        for text in ["x Pz8/Pj4+fn5+ y", "x Pz8_Pj4-fn5- y"] {
            assert!(s.scrub(text).contains("[KEY]"), "{text}");
        }
    }

    #[test]
    fn the_longer_of_two_secrets_goes_first() {
        let secrets = BTreeMap::from([
            ("A".to_owned(), "token".to_owned()),
            ("B".to_owned(), "token-long".to_owned()),
        ]);
        let s = Secrets {
            scrub: scrub_table(&secrets),
            values: secrets,
            ..Secrets::default()
        };
        assert_eq!(s.scrub("x token-long token"), "x [B] [A]");
    }

    #[test]
    fn a_secret_cut_short_is_scrubbed_too() {
        let s = with("KEY", "s3cr3t-value");
        assert_eq!(s.scrub("bad token s3cr3t-v…"), "bad token [KEY]…");
        assert_eq!(s.scrub("s3cr…, s3c…, x…"), "[KEY]…, s3c…, x…");
        assert_eq!(s.scrub("…t-value is…"), "…[KEY] is…");
        assert_eq!(s.scrub("s3cr3…"), "[KEY]…");
    }

    #[test]
    fn lower_case_percent_forms_are_scrubbed() {
        let s = with("KEY", "S3cr/et+A");
        assert_eq!(s.scrub("k=S3cr%2fet%2bA"), "k=[KEY]");
    }

    #[test]
    fn debug_shows_names_only() {
        assert_eq!(format!("{:?}", with("KEY", "hunter22")), r#"{"KEY"}"#);
    }
}
