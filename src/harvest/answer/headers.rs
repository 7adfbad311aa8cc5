//! The headers of an answer as a value of conditions: `headers.x_next`, and by any other spelling of the name.

use std::sync::Arc;

use http::HeaderMap;
use minijinja::Value;
use minijinja::value::{Enumerator, Object};

/// Names are the same in any case (RFC 9110 section 5.1), and a condition writes `_` for `-`.
#[derive(Debug)]
struct Headers(HeaderMap);

impl Object for Headers {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let wanted = key.as_str()?;
        let is_wanted = |name: &str| name.bytes().map(plain).eq(wanted.bytes().map(plain));
        let (_, value) = self
            .0
            .iter()
            .filter(|(name, _)| is_wanted(name.as_str()))
            .last()?;
        Some(Value::from(String::from_utf8_lossy(value.as_bytes())))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.keys().map(|name| name.as_str().replace('-', "_"));
        Enumerator::Values(names.map(Value::from).collect())
    }
}

fn plain(byte: u8) -> u8 {
    match byte {
        b'-' => b'_',
        _ => byte.to_ascii_lowercase(),
    }
}

/// As a value.
pub(super) fn value(headers: &HeaderMap) -> Value {
    Value::from_object(Headers(headers.clone()))
}

#[cfg(test)]
mod tests {
    use crate::plan::language::Expr;

    use super::*;

    #[test]
    fn a_header_is_found_by_any_spelling() {
        let mut headers = HeaderMap::new();
        headers.insert("x-left_today", "5".parse().unwrap());
        headers.insert("link", "<next>".parse().unwrap());
        let names = Value::from_pairs([("headers", value(&headers))]);
        for written in [
            "headers.x_left_today == '5'",
            "headers['X-Left-Today'] == '5'",
            "headers[\"x-left_today\"] | int == 5",
            "headers.X_Left_Today is defined and 'x-left-today' in headers",
            "headers.gone is not defined and headers['x-left'] == none",
            "headers | length == 2 and headers | list | sort == ['link', 'x_left_today']",
            "headers.items() | list | length == 2 and headers",
        ] {
            let found = Expr::parse(written).unwrap().holds(&names);
            assert!(found.as_ref().is_ok_and(|it| *it), "{written}: {found:?}");
        }
    }
}
