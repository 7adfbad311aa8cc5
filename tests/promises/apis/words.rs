//! The small language of plays: values with `{{ }}` in them, and expressions, both Jinja2.
//!
//! Expressions are compiled when a play is read, so that a mistake in one is found at once.

use std::sync::LazyLock;

use minijinja::{Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};
use serde::Deserialize;
use serde_json::Value as Json;

static ENV: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Chainable);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("between", between);
    env.add_filter("epoch", epoch);
    env.add_filter("iso", iso);
    env.add_filter("base64", base64);
    env.add_filter("claims", |jwt: &str| value(&claims(jwt)));
    env
});

/// What stands between two texts, or nothing: `query.search | between("[", " TO")`.
fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    let found = if after.is_empty() {
        rest
    } else {
        rest.split_once(after)?.0
    };
    Some(found.to_owned())
}

/// The seconds since 1970 of an RFC 3339 instant or a date (UTC); what is a number already stays.
fn epoch(value: &Value) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return Ok(value.clone());
    };
    let whole = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let at: Result<jiff::Timestamp, _> = whole.parse();
    at.map(|at| Value::from(at.as_second()))
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("{text}: {e}")))
}

/// The RFC 3339 instant of seconds since 1970.
fn iso(seconds: i64) -> Result<String, Error> {
    jiff::Timestamp::from_second(seconds)
        .map(|at| at.to_string())
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

/// The text in base64 (RFC 4648 section 4), as HTTP Basic sends it.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            if place <= three.len() {
                let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
                out.push(char::from(letter));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// The claims of a signed statement (RFC 7519, section 3); the signature is not looked at.
pub(crate) fn claims(jwt: &str) -> serde_json::Value {
    let part = jwt.split('.').nth(1).expect("three parts");
    let mut bits = 0_u32;
    let (mut have, mut bytes) = (0, Vec::new());
    for c in part.bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(digit);
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push(u8::try_from(bits >> have & 0xff).expect("a byte"));
        }
    }
    serde_json::from_slice(&bytes).expect("claims")
}

/// An expression.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Json")]
pub(crate) struct Expr {
    written: String,
    compiled: std::sync::Arc<Expression<'static, 'static>>,
}

impl TryFrom<Json> for Expr {
    type Error = String;

    fn try_from(written: Json) -> Result<Self, String> {
        let written = match written {
            Json::String(text) => text,
            Json::Number(_) | Json::Bool(_) => written.to_string(),
            other => return Err(format!("{other}: an expression is text")),
        };
        let compiled = ENV
            .compile_expression_owned(written.clone())
            .map_err(|e| format!("{written:?}: {e}"))?;
        Ok(Self {
            written,
            compiled: compiled.into(),
        })
    }
}

impl Expr {
    /// Its value; a mistake in a play stops the suite, with the expression named.
    pub(crate) fn eval(&self, names: &Value) -> Value {
        self.compiled
            .eval(names)
            .unwrap_or_else(|e| panic!("a play's expression {:?}: {e}", self.written))
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, names: &Value) -> bool {
        self.eval(names).is_true()
    }
}

impl std::fmt::Debug for Expr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

/// A value with `{{ }}` in its texts. A text that is exactly one `{{ }}` becomes what that is; a
/// field or element whose value is undefined is left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Json")]
pub(crate) enum Shape {
    Fixed(Json),
    /// `{{ rows }}`: the records of the page, as they were made.
    Rows,
    /// `{{ row }}`: the first of them.
    Row,
    Expr(Expr),
    /// Texts and values in turn.
    Joined(Vec<Piece>),
    /// With `{% %}`: a whole template.
    Text(String),
    List(Vec<Shape>),
    Map(Vec<(Shape, Shape)>),
}

#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Fixed(String),
    Expr(Expr),
}

impl TryFrom<Json> for Shape {
    type Error = String;

    fn try_from(written: Json) -> Result<Self, String> {
        Ok(match written {
            Json::String(text) if text.contains("{%") => Self::Text(text),
            Json::String(text) if text.contains("{{") => pieces(&text)?,
            Json::Array(list) => Self::List(
                list.into_iter()
                    .map(Self::try_from)
                    .collect::<Result<_, _>>()?,
            ),
            Json::Object(map) => Self::Map(
                map.into_iter()
                    .map(|(key, value)| {
                        Ok((Self::try_from(Json::String(key))?, Self::try_from(value)?))
                    })
                    .collect::<Result<_, String>>()?,
            ),
            other => Self::Fixed(other),
        })
    }
}

fn pieces(text: &str) -> Result<Shape, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after
            .split_once("}}")
            .ok_or_else(|| format!("{text:?}: no }}}}"))?;
        if !before.is_empty() {
            found.push(Piece::Fixed(before.to_owned()));
        }
        found.push(Piece::Expr(Json::from(inside.trim()).try_into()?));
        rest = after;
    }
    if !rest.is_empty() {
        found.push(Piece::Fixed(rest.to_owned()));
    }
    Ok(match found.as_slice() {
        [Piece::Expr(one)] if one.written == "rows" => Shape::Rows,
        [Piece::Expr(one)] if one.written == "row" => Shape::Row,
        [Piece::Expr(one)] => Shape::Expr(one.clone()),
        _ => Shape::Joined(found),
    })
}

impl Shape {
    /// The value with everything filled in; `None` where it is undefined.
    pub(crate) fn fill(&self, names: &Value, rows: &[Json]) -> Option<Json> {
        Some(match self {
            Self::Fixed(json) => json.clone(),
            Self::Rows => Json::Array(rows.to_vec()),
            Self::Row => rows.first()?.clone(),
            Self::Expr(expr) => {
                let value = expr.eval(names);
                if value.is_undefined() {
                    return None;
                }
                serde_json::to_value(&value).expect("a value that is JSON")
            }
            Self::Joined(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Fixed(fixed) => text.push_str(fixed),
                        Piece::Expr(expr) => text.push_str(&expr.eval(names).to_string()),
                    }
                }
                Json::String(text)
            }
            Self::Text(text) => Json::String(
                ENV.render_str(text, names)
                    .unwrap_or_else(|e| panic!("a play's text: {e:#}\n{text}")),
            ),
            Self::List(list) => Json::Array(
                list.iter()
                    .filter_map(|one| one.fill(names, rows))
                    .collect(),
            ),
            Self::Map(map) => Json::Object(
                map.iter()
                    .filter_map(|(key, value)| {
                        let key = spelt(&key.fill(names, rows)?);
                        Some((key, value.fill(names, rows)?))
                    })
                    .collect(),
            ),
        })
    }

    /// The value as text.
    pub(crate) fn text(&self, names: &Value, rows: &[Json]) -> Option<String> {
        self.fill(names, rows).map(|json| spelt(&json))
    }
}

/// JSON as a value that expressions can take apart.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(yes) => Value::from(*yes),
        Json::Number(number) => number.as_i64().map_or_else(
            || {
                number.as_u64().map_or_else(
                    || Value::from(number.as_f64().unwrap_or(f64::NAN)),
                    Value::from,
                )
            },
            Value::from,
        ),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::from(list.iter().map(value).collect::<Vec<_>>()),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(name, inner)| (name.clone(), value(inner))))
        }
    }
}

/// A value as a cell of a table has it: texts as they are, null as nothing, all else as JSON.
pub(crate) fn spelt(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_filled_and_undefined_is_left_out() {
        let shape = serde_json::json!({
            "a": "{{ n }}", "b": "no {{ n }} yet", "c": "{{ none_such }}", "{{ n }}": [1, "{{ gone }}"],
            "d": "{% if n > 1 %}many{% endif %}", "e": "{{ none }}",
        });
        let shape = Shape::try_from(shape).expect("a shape");
        let filled = shape.fill(&minijinja::context! { n => 2 }, &[]);
        let wanted = r#"{"a":2,"b":"no 2 yet","2":[1],"d":"many","e":null}"#;
        assert_eq!(filled.expect("a value").to_string(), wanted);
        assert!(Shape::try_from(Json::from("{{ 1 + }}")).is_err());
    }

    #[test]
    fn filters_say_what_they_should() {
        let value = |text: &str| {
            let expr = Expr::try_from(Json::from(text)).expect("an expression");
            expr.eval(&Value::UNDEFINED).to_string()
        };
        assert_eq!(
            value("'x:[20250101 TO 3]' | between('[', ' TO')"),
            "20250101"
        );
        assert_eq!(value("'1970-01-02' | epoch"), "86400");
        assert_eq!(value("86400 | iso"), "1970-01-02T00:00:00Z");
        assert_eq!(value("'user:' | base64"), "dXNlcjo=");
        assert_eq!(
            value("'Aladdin:open sesame' | base64"),
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }
}
