//! Events for programs: one JSON object a line.

use std::fmt::Write;

use super::clean::clean_json;
use crate::event::{Event, Fact};

/// The event as one line of JSON, without the newline; the last word of each is its run, once there is one.
pub(super) fn line(event: &Event, run: Option<&str>) -> String {
    let mut line = serde_json::to_string(event).unwrap_or_else(|error| {
        // Only a path that is not UTF-8 can fail; the line stays well-formed and says so.
        serde_json::json!({
            "at": event.at.to_string(),
            "event": "not_shown",
            "message": error.to_string(),
        })
        .to_string()
    });
    let names_it = matches!(event.fact, Fact::RunStarted { .. });
    if let Some(run) = run
        && !names_it
        && line.pop() == Some('}')
    {
        let run = serde_json::Value::from(run);
        // A text takes whatever is written to it.
        let _ = write!(line, ",\"run\":{run}}}");
    }
    clean_json(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use crate::event::{FailureClass, Wait};

    use super::*;

    #[test]
    fn events_are_flat_and_tagged() {
        let lines: Vec<String> = [
            Fact::PageFetched {
                stream: "issues".into(),
                partition: 0,
                page: 3,
                records: 100,
                bytes: 2048,
                took: Duration::from_micros(1_234_567),
            },
            Fact::WaitBegan {
                stream: "issues".into(),
                id: 7,
                why: Wait::Limit {
                    limit: "80/min".into(),
                    scope: None,
                },
                until: Some(Timestamp::UNIX_EPOCH),
            },
            Fact::WaitEnded {
                stream: "issues".into(),
                id: 8,
                why: Wait::Backoff {
                    class: FailureClass::Transient,
                },
                took: Duration::from_secs(2),
            },
            Fact::Published {
                stream: "issues".into(),
                path: "data/issues.csv".into(),
                rows: 10,
                bytes: 99,
            },
        ]
        .into_iter()
        .map(|fact| {
            let at = Timestamp::UNIX_EPOCH;
            line(&Event { at, fact }, Some("r1"))
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"at":"1970-01-01T00:00:00Z","event":"page_fetched","stream":"issues","partition":0,"page":3,"records":100,"bytes":2048,"took":1.234567,"run":"r1"}
        {"at":"1970-01-01T00:00:00Z","event":"wait_began","stream":"issues","id":7,"why":{"for":"limit","limit":"80/min"},"until":"1970-01-01T00:00:00Z","run":"r1"}
        {"at":"1970-01-01T00:00:00Z","event":"wait_ended","stream":"issues","id":8,"why":{"for":"backoff","class":"transient"},"took":2.0,"run":"r1"}
        {"at":"1970-01-01T00:00:00Z","event":"published","stream":"issues","path":"data/issues.csv","rows":10,"bytes":99,"run":"r1"}
        "#);
    }
}
