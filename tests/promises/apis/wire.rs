//! Requests taken apart, and answers put together.

use std::collections::BTreeMap;

use gleaner::sim::SimReply;
use minijinja::Value;
use serde_json::Value as Json;

use super::play::Reply;
use super::words::{Shape, spelt};

/// Names and values; a name that comes again makes a list.
pub(crate) fn pairs(sent: &[(String, String)]) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in sent {
        match found.iter_mut().find(|(one, _)| one == name) {
            Some((_, values)) => values.push(value.clone()),
            None => found.push((name.clone(), vec![value.clone()])),
        }
    }
    found
        .into_iter()
        .map(|(name, mut values)| match values.len() {
            1 => (name, Value::from(values.remove(0))),
            _ => (name, Value::from(values)),
        })
        .collect()
}

/// What the `{names}` of a pattern stand for in a path, decoded.
pub(crate) fn captures(pattern: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut rest = path;
    let mut left = pattern;
    while let Some((literal, after)) = left.split_once('{') {
        rest = rest.strip_prefix(literal)?;
        let (name, after) = after.split_once('}')?;
        let literal = after.split('{').next().unwrap_or_default();
        let end = if literal.is_empty() {
            rest.len()
        } else {
            rest.find(literal)?
        };
        let (value, then) = rest.split_at(end);
        let name = match name.strip_suffix('*') {
            Some(name) => name,
            None if value.contains('/') || value.is_empty() => return None,
            None => name,
        };
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        found.insert(name.to_owned(), value.into_owned());
        rest = then;
        left = after;
    }
    (rest == left).then_some(found)
}

/// An answer, filled in.
pub(crate) fn reply(reply: &Reply, names: &Value, rows: &[Json]) -> SimReply {
    let fill = |shape: &Shape| shape.fill(names, rows);
    let (kind, bytes) = match (&reply.body, &reply.text) {
        (Some(body), _) => {
            let body = fill(body).unwrap_or(Json::Null).to_string();
            (Some("application/json"), body.into_bytes())
        }
        (None, Some(text)) => {
            let text = fill(text).map(|text| spelt(&text)).unwrap_or_default();
            (Some("text/plain"), text.into_bytes())
        }
        (None, None) => (None, Vec::new()),
    };
    let bytes = match reply.packed.as_deref() {
        None => bytes,
        Some("gzip") => gzip(&bytes),
        Some(other) => panic!("no way to pack as {other}"),
    };
    let mut made = SimReply::new(reply.status, &[], bytes);
    let has = |name: &str| {
        reply
            .headers
            .keys()
            .any(|one| one.eq_ignore_ascii_case(name))
    };
    if let Some(kind) = kind.filter(|_| !has("content-type")) {
        made = made.header("content-type", kind);
    }
    for (name, shape) in &reply.headers {
        if let Some(text) = shape.text(names, rows).filter(|text| !text.is_empty()) {
            made = made.header(name, &text);
        }
    }
    made
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("a Vec takes all");
    writer.finish().expect("a Vec takes all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_paths() {
        let found =
            captures("/repos/{owner}/{name}/issues", "/repos/a%20b/c/issues").expect("fits");
        assert_eq!(
            (found["owner"].as_str(), found["name"].as_str()),
            ("a b", "c")
        );
        assert_eq!(
            captures("/repos/{owner}/{name}/issues", "/repos/a/b/c/issues"),
            None
        );
        assert_eq!(
            captures("/CIK{cik}.json", "/CIK007.json").expect("fits")["cik"],
            "007"
        );
        assert_eq!(
            captures("/x/{day*}", "/x/2025/01/02").expect("fits")["day"],
            "2025/01/02"
        );
        assert_eq!(captures("/x", "/x/y"), None);
    }
}
