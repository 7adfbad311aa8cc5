//! A JSON document as an ordered tree whose numbers keep their spelling: `1.10` stays `1.10`, a
//! 25-digit id stays exact. For bodies that are built or edited, and for values in templates.

use std::fmt::Write as _;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::value::RawValue;

use super::number;
use super::path::{Path, Step};

/// A JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// As spelled.
    Number(String),
    /// Unescaped.
    Text(String),
    /// In order.
    List(Vec<Json>),
    /// In order; of equal names the last one counts.
    Map(Vec<(String, Json)>),
}

/// What a JSON number becomes in a template or expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// A number where it prints as it is spelled, else one that prints as spelled and is reckoned with as a number: for requests and columns.
    Spelled,
    /// Always a number, if need be a rounded one: for conditions, which compare.
    Numeric,
}

/// Deeper documents are refused: they are read by recursion.
const MAX_DEPTH: usize = 128;

impl Json {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // serde_json checks the whole text, so the walk below meets only what is well formed.
        let raw: &RawValue = serde_json::from_str(text).map_err(|problem| problem.to_string())?;
        let mut reader = Reader {
            text: raw.get(),
            at: 0,
        };
        reader.value(0).ok_or_else(|| {
            format!("a JSON text with a broken string or more than {MAX_DEPTH} levels")
        })
    }

    /// As a value for templates and expressions.
    pub fn to_value(&self, numbers: Numbers) -> Value {
        match self {
            Self::Null => Value::from(()),
            Self::Bool(flag) => Value::from(*flag),
            Self::Number(spelled) => number_to_value(spelled, numbers),
            Self::Text(text) => Value::from(text.as_str()),
            Self::List(items) => items.iter().map(|item| item.to_value(numbers)).collect(),
            Self::Map(members) => Value::from_pairs(
                members
                    .iter()
                    .map(|(name, member)| (name.as_str(), member.to_value(numbers))),
            ),
        }
    }

    /// A template's value as JSON.
    ///
    /// # Errors
    /// A value that JSON cannot say (`nan`, undefined).
    pub fn from_value(value: &Value) -> Result<Self, String> {
        if let Some(number) = number::spelling(value) {
            return Ok(Self::Number(number.to_owned()));
        }
        Ok(match value.kind() {
            ValueKind::Undefined => return Err("the value is undefined".to_owned()),
            ValueKind::None => Self::Null,
            ValueKind::Bool => Self::Bool(value.is_true()),
            ValueKind::Number => {
                let spelled = value.to_string();
                if serde_json::from_str::<serde_json::Number>(&spelled).is_err() {
                    return Err(format!("`{spelled}` is not a JSON number"));
                }
                Self::Number(spelled)
            }
            ValueKind::Seq | ValueKind::Iterable => Self::List(
                value
                    .try_iter()
                    .map_err(|problem| problem.to_string())?
                    .map(|item| Self::from_value(&item))
                    .collect::<Result<_, _>>()?,
            ),
            ValueKind::Map => Self::Map(
                value
                    .try_iter()
                    .map_err(|problem| problem.to_string())?
                    .map(|name| {
                        let member = value
                            .get_item(&name)
                            .map_err(|problem| problem.to_string())?;
                        Ok((name.to_string(), Self::from_value(&member)?))
                    })
                    .collect::<Result<_, String>>()?,
            ),
            _ => Self::Text(value.to_string()),
        })
    }

    /// What stands at a path without `*`.
    pub fn at(&self, path: &Path) -> Option<&Self> {
        path.steps
            .iter()
            .try_fold(self, |node, step| match (node, step) {
                (Self::Map(members), Step::Key(name)) => members
                    .iter()
                    .rev()
                    .find(|(member, _)| member == name)
                    .map(|(_, member)| member),
                (Self::List(items), Step::Key(index)) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index)),
                _ => None,
            })
    }

    /// Sets what stands at a path, making objects on the way.
    ///
    /// # Errors
    /// A path with `*`, or through something that is not an object.
    pub fn set(&mut self, path: &Path, value: Self) -> Result<(), String> {
        let mut node = self;
        for step in &path.steps {
            let Step::Key(name) = step else {
                return Err(format!("`{path}` names several places; one is needed"));
            };
            if *node == Self::Null {
                *node = Self::Map(Vec::new());
            }
            node = match node {
                Self::Map(members) => {
                    let index = members
                        .iter()
                        .rposition(|(member, _)| member == name)
                        .unwrap_or_else(|| {
                            members.push((name.clone(), Self::Null));
                            members.len() - 1
                        });
                    &mut members[index].1
                }
                Self::List(items) => name
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get_mut(index))
                    .ok_or_else(|| format!("`{path}`: the list has no element `{name}`"))?,
                _ => {
                    return Err(format!(
                        "`{path}`: what should hold `{name}` is not an object"
                    ));
                }
            };
        }
        *node = value;
        Ok(())
    }

    /// A scalar as it is sent in a URL; lists and objects as JSON text, null as nothing.
    pub fn spelled(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) | Self::Number(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Json {
    /// Writes compact JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(spelled) => f.write_str(spelled),
            Self::Text(text) => write_text(f, text),
            Self::List(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    item.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Map(members) => {
                f.write_char('{')?;
                for (index, (name, member)) in members.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    write_text(f, name)?;
                    f.write_char(':')?;
                    member.fmt(f)?;
                }
                f.write_char('}')
            }
        }
    }
}

fn write_text(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| std::fmt::Error)?)
}

/// A JSON number as a value.
pub fn number_to_value(spelled: &str, numbers: Numbers) -> Value {
    let number = number::read(spelled);
    match numbers {
        Numbers::Spelled => number
            .filter(|number| number.to_string() == spelled)
            .unwrap_or_else(|| number::spelled(spelled)),
        Numbers::Numeric => number.unwrap_or_else(|| Value::from(spelled)),
    }
}

/// Walks a well-formed JSON text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'"' => self.string().map(Json::Text),
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.take(b']') {
                    items.push(self.value(depth + 1)?);
                    self.take(b',');
                }
                Some(Json::List(items))
            }
            b'{' => {
                self.at += 1;
                let mut members = Vec::new();
                while !self.take(b'}') {
                    self.peek()?;
                    let name = self.string()?;
                    if !self.take(b':') {
                        return None;
                    }
                    members.push((name, self.value(depth + 1)?));
                    self.take(b',');
                }
                Some(Json::Map(members))
            }
            _ => Some(match self.word() {
                "null" => Json::Null,
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                number => Json::Number(number.to_owned()),
            }),
        }
    }

    fn string(&mut self) -> Option<String> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at += 1;
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at)?;
        if quoted.contains('\\') {
            // A lone surrogate is well formed but no text.
            serde_json::from_str(quoted).ok()
        } else {
            quoted.get(1..quoted.len() - 1).map(str::to_owned)
        }
    }

    fn word(&mut self) -> &str {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace())
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"id":1234567890123456789012345,"p":1.10,"a":[1,{"b":"x\"\u00e9","n":null}],"z":{},"e":[]}"#;

    #[test]
    fn what_is_read_is_written_the_same() {
        let json = Json::parse(&format!(" {} ", TEXT.replace(',', " ,\n "))).unwrap();
        assert_eq!(json.to_string(), TEXT.replace("\\u00e9", "é"));
        assert!(Json::parse("{\"a\":1").is_err());
        assert!(Json::parse(r#""\ud800""#).is_err());
        assert!(Json::parse(&"[".repeat(200)).is_err());
        assert!(Json::parse(&format!("{}{}", "[".repeat(200), "]".repeat(200))).is_err());
    }

    #[test]
    fn numbers_keep_their_spelling_or_become_numbers() {
        let json = Json::parse(TEXT).unwrap();
        let spelled = json.to_value(Numbers::Spelled);
        assert_eq!(
            spelled.get_attr("id").unwrap().to_string(),
            "1234567890123456789012345"
        );
        assert_eq!(spelled.get_attr("p").unwrap().to_string(), "1.10");
        for (text, number) in [("1", true), ("52.52", true), ("1e3", false), ("-0", false)] {
            let value = number_to_value(text, Numbers::Spelled);
            assert_eq!(
                (value.is_number(), value.to_string()),
                (number, text.to_owned())
            );
            assert_eq!(Json::from_value(&value), Ok(Json::Number(text.to_owned())));
        }
        assert_eq!(number_to_value("1.10", Numbers::Numeric), Value::from(1.1));
        assert_eq!(
            number_to_value("1e3", Numbers::Numeric),
            Value::from(1000.0)
        );
    }

    #[test]
    fn a_place_is_set_without_touching_the_rest() {
        let mut json = Json::parse(TEXT).unwrap();
        json.set(&Path::parse("a.1.n.deep").unwrap(), Json::Bool(true))
            .unwrap();
        assert_eq!(
            json.to_string(),
            TEXT.replace("null", "{\"deep\":true}")
                .replace("\\u00e9", "é")
        );
        assert_eq!(
            json.at(&Path::parse("a.1.n.deep").unwrap()),
            Some(&Json::Bool(true))
        );
        assert!(json.set(&Path::parse("p.x").unwrap(), Json::Null).is_err());
        assert!(json.set(&Path::parse("a.7").unwrap(), Json::Null).is_err());
        assert!(json.set(&Path::parse("a.*").unwrap(), Json::Null).is_err());
    }
}
