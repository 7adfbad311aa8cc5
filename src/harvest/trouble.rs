//! Failures in words: what failed, where, how often tried, how long, and what to do next.
//!
//! Server text in a message is shortened and without control characters; secrets are scrubbed by
//! the callers, who know them.

use std::time::Duration;

use super::answer::mistakes::in_file;
use super::attempt::outcome::Asked;
use super::attempt::verdict::Trouble;
use super::pages::walk::WalkFault;
use super::partitions::PartitionProblem;
use crate::event::FailureClass;
use crate::failure::{Exit, Failure};
use crate::fetch::body::BodyError;
use crate::fetch::transport::{SendError, SendErrorKind};
use crate::limits::NoTurn;
use crate::plan::RecordsPlan;
use crate::plan::duration::show;
use crate::records::problem::{SelectError, There};

/// What to do about an answer that is larger than it may be.
const LARGER: &str = "ask for less at once, or allow more under the stream, as in `max_body: 2GB`: rows of CSV and NDJSON then go over the disk, all else is held in memory";

/// Most characters of a server's words in a message.
const MOST_WORDS: usize = 200;

fn failed(message: String, causes: Vec<String>, hint: Option<&str>) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Failed,
        message,
        causes,
        hint: hint.map(str::to_owned),
    })
}

/// `message`, and the place it happened at.
pub(super) fn at(place: &str, message: &str) -> String {
    format!("{place}: {message}")
}

/// All attempts are spent.
pub(super) fn given_up(
    trouble: &Trouble,
    request: &str,
    place: &str,
    attempts: u32,
    spent: Duration,
    too_long: Option<(Duration, Duration)>,
    refused_repeat: bool,
) -> Box<Failure> {
    let tried = match attempts {
        1 => "tried once".to_owned(),
        n => format!("tried {n} times over {}", show(spent)),
    };
    let causes = vec![format!("asked {request}"), tried];
    let message = at(place, &trouble.message);
    if let Some((told, most)) = too_long {
        return asks_too_much(&message, causes, told, most);
    }
    if refused_repeat {
        return failed(
            message,
            causes,
            Some(
                "the stream says `once: true` and the request may have been acted on, so it is not repeated",
            ),
        );
    }
    let (exit, hint) = match trouble.class {
        FailureClass::Throttle => (
            Exit::Resumable,
            "the API still refuses; declare its real limits under `source.limits`, or run again later",
        ),
        FailureClass::Transient => (
            Exit::Resumable,
            "the server does not answer well; run again later",
        ),
        FailureClass::Suspect => (
            Exit::Failed,
            trouble.hint.unwrap_or("a success that is not data is often a login or error page: check `source.url`, `get` and the credential"),
        ),
        FailureClass::Fatal => (Exit::Failed, "look at the message of the server"),
    };
    Box::new(Failure {
        exit,
        message,
        causes,
        hint: Some(hint.to_owned()),
    })
}

/// The partitions of a stream cannot be told.
pub(super) fn open_failure(stream: &str, problem: &PartitionProblem) -> Box<Failure> {
    let hint = match problem {
        PartitionProblem::File { path, .. } if path.is_file() => {
            "correct the file, or what `for` says of it"
        }
        PartitionProblem::Parent { .. } => "`--fresh` discards what was kept and starts anew",
        PartitionProblem::File { .. } => {
            "the path is relative to the project root, the folder that holds pipelines/"
        }
        _ => "correct `for` in the pipeline file",
    };
    Box::new(Failure {
        exit: Exit::Usage,
        message: format!("{stream}: {problem}"),
        causes: Vec::new(),
        hint: Some(match problem {
            PartitionProblem::Template { problem, .. } => in_file(hint, problem.place.as_deref()),
            _ => hint.to_owned(),
        }),
    })
}

/// The API asks to wait `told`, and nobody waits longer than `most`.
pub(super) fn asks_too_much(
    message: &str,
    causes: Vec<String>,
    told: Duration,
    most: Duration,
) -> Box<Failure> {
    let hint = format!(
        "run again in {}, or raise `retry.max_wait` under `source`",
        show(whole(told))
    );
    Box::new(Failure {
        exit: Exit::Resumable,
        message: format!(
            "{message}; the API asks to wait {}, longer than `retry.max_wait` ({})",
            show(told),
            show(most)
        ),
        causes,
        hint: Some(hint),
    })
}

/// Up to a whole second, minute or hour: what is shown is rounded down, and who comes at that time
/// must not come early.
fn whole(wait: Duration) -> Duration {
    let step = match wait.as_secs() {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(seconds.div_ceil(step) * step)
}

/// A host has been away for `away`, longer than anybody waits.
pub(super) fn gone(away: Duration, url: &str, place: &str) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Resumable,
        message: at(
            place,
            &format!("the server has not answered for {}", show(away)),
        ),
        causes: vec![format!("asked {url}")],
        hint: Some(
            "run again when it is back, or raise `retry.page_deadline` under `source`".to_owned(),
        ),
    })
}

/// The repeat of a failed request that nobody pays for: too much fails at its host.
pub(super) fn unpaid(mut failed: Box<Failure>) -> Box<Failure> {
    failed.exit = Exit::Resumable;
    failed
        .causes
        .push("so many requests failed that the retry budget of the host is spent".to_owned());
    failed.hint = Some("the server does not answer well; run again later".to_owned());
    failed
}

/// What was asked for again and again was never ready.
pub(super) fn never_ready(
    message: &str,
    request: &str,
    place: &str,
    within: Duration,
) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Resumable,
        message: at(
            place,
            &format!("not ready within {}: {message}", show(within)),
        ),
        causes: vec![format!("asked {request}")],
        hint: Some(
            "run again later: what is here is kept; or raise `within` of that rule".to_owned(),
        ),
    })
}

/// A source that gave no sign of life in the whole run: its address may be wrong.
pub(super) fn never_answered(mut failure: Box<Failure>) -> Box<Failure> {
    failure.hint = Some(
        "no good answer came from there: check http or https, host and port under `source.url`, or run again when the server is up"
            .to_owned(),
    );
    failure
}

/// A request that no repeat will bring through.
pub(super) fn unsendable(error: &SendError, asked: &Asked, place: &str) -> Box<Failure> {
    let what = match error.kind {
        SendErrorKind::UnknownHost => format!("there is no host behind {}", asked.origin),
        SendErrorKind::Certificate => format!("no secure connection to {}", asked.origin),
        SendErrorKind::NotPublic => format!(
            "refused to reach {}, which is not on the public internet",
            asked.origin
        ),
        SendErrorKind::Unrecorded => "there is no recorded answer".to_owned(),
        SendErrorKind::Withheld => "the run does not keep all of its pages".to_owned(),
        SendErrorKind::HeadTooLarge => {
            format!(
                "the answer of {} has more headers than anybody reads: more than 100, or of more than 400 kB",
                asked.origin
            )
        }
        _ => "the request cannot be sent".to_owned(),
    };
    let hint = match error.kind {
        SendErrorKind::UnknownHost => {
            "is the host name under `source.url` right, and is this machine online?"
        }
        SendErrorKind::Certificate => {
            "check scheme, host and port under `source.url`; certificates are always verified: if this one is of your own authority, install that on this machine or name it in SSL_CERT_FILE"
        }
        SendErrorKind::NotPublic => {
            "a server named it and `allow_origins` allows it by a pattern only; if it belongs to the API, name its origin there without a wildcard"
        }
        SendErrorKind::Unrecorded => {
            "a replay needs the pipeline, `--var` and the files of `for` to ask what the recording asked; make a new one with `--record`"
        }
        SendErrorKind::Withheld => {
            "a request is not the one that was sent: look at templates that change a secret and at secrets of fewer than four characters; a page whose next link holds a secret is not kept whole. `gleaner run NAME` asks the API"
        }
        SendErrorKind::HeadTooLarge => {
            "hardly an API sends so many: look what answers under `source.url`, or whether a proxy on the way adds them"
        }
        _ => "check the headers and the URL that the templates render",
    };
    let causes = vec![error.message.clone(), format!("asked {}", asked.request)];
    failed(at(place, &what), causes, Some(hint))
}

/// A request that the limits never allow.
pub(super) fn no_turn(why: &NoTurn, place: &str) -> Box<Failure> {
    let hint = match why {
        NoTurn::Uncovered { .. } => {
            "add a limit for it under `source.limits`: one without `routes` covers everything"
        }
        NoTurn::TooCostly { .. } => "ask for less at once, or look whether the limit is right",
        NoTurn::BadCost { .. } => "look at the stream's `cost`",
    };
    failed(at(place, &why.to_string()), Vec::new(), Some(hint))
}

/// A URL of another origin.
pub(super) fn refused(why: &str, hint: Option<&str>, place: &str) -> Box<Failure> {
    failed(at(place, why), Vec::new(), hint)
}

/// A body that did not arrive: `Err` is a transient trouble's text.
pub(super) fn body(error: &BodyError, place: &str) -> Result<Box<Failure>, String> {
    match error {
        BodyError::Send(_) => Err(error.to_string()),
        BodyError::TooLarge { .. } => Ok(failed(
            at(place, &error.to_string()),
            Vec::new(),
            Some(LARGER),
        )),
        BodyError::Decode(_) => Ok(failed(at(place, &error.to_string()), Vec::new(), None)),
        BodyError::Disk { hint, .. } => Ok(Box::new(Failure {
            exit: Exit::Disk,
            ..*failed(at(place, &error.to_string()), Vec::new(), Some(hint))
        })),
    }
}

/// The walk cannot go on.
pub(super) fn walk(fault: &WalkFault, place: &str, request: &str) -> Box<Failure> {
    let (message, hint) = match fault {
        WalkFault::Loop(what) => (
            format!("the paging goes round in circles: {what}"),
            "the API may ignore the paging parameter: compare `pages` with its documentation",
        ),
        WalkFault::Inclusive(what) => (
            format!("the paging goes round in circles: {what}"),
            "where the API takes the value for the first of the next page (`>=`), the last record comes again for ever: whole numbers take `add: 1` under `pages.keyset`; for others say `size`, which tells the last page, and a `key`, which drops what comes twice",
        ),
        WalkFault::Forgotten(_) => (
            fault.to_string(),
            "say how to page, for example `pages: link`, or `pages: none` if one page is meant",
        ),
        WalkFault::Unfound(_) => (
            fault.to_string(),
            "compare `pages` with an answer of the API (`gleaner preview` shows one), or write `pages: none` if one page is meant",
        ),
        WalkFault::Empty(_) => (
            fault.to_string(),
            "where an empty page is the last, say so under the stream: `stop: count == 0`; where more follow, run again to go on after them",
        ),
        WalkFault::Unusable(_) => (
            fault.to_string(),
            "compare `pages` with an answer of the API: `gleaner preview` shows one",
        ),
    };
    failed(
        at(place, &message),
        vec![format!("asked {request}")],
        Some(hint),
    )
}

/// The records are not where they should be, or the page is not usable.
pub(super) fn select(
    error: &SelectError,
    records: &RecordsPlan,
    url: &str,
    place: &str,
    scrub: impl Fn(&str) -> String,
) -> Box<Failure> {
    let hint = match error {
        SelectError::Absent {
            reached,
            missing,
            there: There::Object(names),
            ..
        } if let Some(near) = near(missing, names) => {
            let path: Vec<&str> = reached.iter().map(String::as_str).chain([near]).collect();
            Some(format!("did you mean `records: {}`?", path.join(".")))
        }
        SelectError::Absent { .. } => Some(format!(
            "correct `records` after an answer of the API; if `{0}` may be missing, write `records: {{ optional: {0} }}`",
            records.path
        )),
        SelectError::Filter { .. } => Some(
            "correct the filter after an answer of the API; where records may be missing, write `records: { optional: { jq: … } }`"
                .to_owned(),
        ),
        SelectError::Shape { key, .. } => Some(format!(
            "compare `{key}` with an answer of the API; `gleaner preview` shows what comes of it"
        )),
        error if error.is_ours() => Some(
            "compare `format` with an answer of the API: delimiter, header, quote, encoding, member".to_owned(),
        ),
        _ => None,
    };
    let is_here = matches!(
        error,
        SelectError::Absent { .. } | SelectError::Shape { .. } | SelectError::Filter { .. }
    );
    let shown = records.place.as_ref().filter(|_| is_here);
    Box::new(Failure {
        exit: Exit::Failed,
        message: scrub(&at(place, &error.to_string())),
        causes: vec![format!("asked {url}")],
        hint: hint.map(|hint| in_file(&hint, shown)),
    })
}

/// The name that was probably meant.
fn near<'a>(missing: &str, names: &'a [String]) -> Option<&'a str> {
    names
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(missing, name), name))
        .filter(|(likeness, _)| *likeness > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.as_str())
}

/// What a server says of an error: the usual members of JSON error bodies (RFC 9457 and custom),
/// else the start of a short text.
pub(super) fn server_words(body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
        return json_words(&value, 0).map(|words| format!("\"{}\"", shorten(&words, MOST_WORDS)));
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    // A page of markup says nothing in its first words.
    (!text.is_empty() && !text.starts_with('<'))
        .then(|| format!("\"{}\"", shorten(text, MOST_WORDS)))
}

fn json_words(value: &serde_json::Value, depth: u8) -> Option<String> {
    use serde_json::Value;
    if depth > 3 {
        return None;
    }
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(list) => list.iter().find_map(|v| json_words(v, depth + 1)),
        Value::Object(map) => [
            "detail",
            "message",
            "error_description",
            "error",
            "errors",
            "reason",
            "title",
            "msg",
            "info",
            "value",
        ]
        .iter()
        .find_map(|name| map.get(*name).and_then(|v| json_words(v, depth + 1))),
        _ => None,
    }
}

/// At most `most` characters on one line, without control characters.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let mut short = String::new();
    let mut space = false;
    for (n, c) in text.trim().chars().enumerate() {
        if n >= most {
            short.push('…');
            break;
        }
        if c.is_whitespace() || c.is_control() {
            space = true;
            continue;
        }
        if std::mem::take(&mut space) {
            short.push(' ');
        }
        short.push(c);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_are_found() {
        let words = |body: &str| server_words(body.as_bytes());
        assert_eq!(
            words(r#"{"message":"Bad credentials","documentation_url":"…"}"#).as_deref(),
            Some("\"Bad credentials\"")
        );
        assert_eq!(
            words(r#"{"error":{"code":"NOT_FOUND","message":"No matches"}}"#).as_deref(),
            Some("\"No matches\"")
        );
        assert_eq!(
            words(r#"{"errors":[{"detail":"too many"}]}"#).as_deref(),
            Some("\"too many\"")
        );
        assert_eq!(
            words("slow\n\u{1b}[31m down").as_deref(),
            Some("\"slow [31m down\"")
        );
        assert_eq!(words("<html>no</html>"), None);
        assert_eq!(words(r#"{"ok":false}"#), None);
    }
}
