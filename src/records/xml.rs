//! One XML document as JSON text.
//!
//! An element is an object: attributes are `@name`, elements inside have their names, several of one
//! name are an array; its own text is `#text`, or the whole value where it has nothing else. Without
//! anything inside it is null. Names keep their prefixes as written; what declares prefixes
//! (`xmlns`) is left out. Text is trimmed at both ends. The root is the one member of the whole.
//!
//! Nothing is loaded and nothing declared: a DTD with declarations of its own is refused, and of
//! entities only the five of XML itself are known (XML 1.0, section 4.6).

use std::collections::HashMap;

use quick_xml::errors::{IllFormedError, SyntaxError};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Error, Reader, XmlVersion};

use super::problem::{self, SelectError};
use crate::json::push_quoted;
use crate::plan::format::Lists;

/// Most levels of elements: each is one of JSON, a list another one, of which 128 are read.
const DEEPEST: usize = 60;
/// Elements with so many different names inside are searched by a table.
const MANY: usize = 16;

/// The document as a JSON object with one member.
pub(super) fn json(text: &str, lists: &Lists) -> Result<String, SelectError> {
    Document {
        text,
        lists,
        reader: Reader::from_str(text),
        place: Vec::new(),
        open: vec![Element::default()],
    }
    .read()
}

struct Document<'t> {
    text: &'t str,
    lists: &'t Lists,
    reader: Reader<&'t [u8]>,
    /// The names of the open elements.
    place: Vec<String>,
    /// The document and the open elements.
    open: Vec<Element>,
}

/// What is known of an element so far.
#[derive(Default)]
struct Element {
    members: Vec<Member>,
    places: HashMap<String, usize>,
    text: String,
}

/// What stands in an element under one name.
struct Member {
    name: String,
    /// Values as JSON, with commas between.
    values: String,
    is_list: bool,
}

impl Document<'_> {
    fn read(mut self) -> Result<String, SelectError> {
        loop {
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = self.reader.error_position();
                    return Err(self.wrong(&lower(&error), at, self.is_cut(&error, at)));
                }
            };
            match event {
                Event::Start(start) => self.begin(&start)?,
                Event::Empty(start) => {
                    self.begin(&start)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => self.text(&text.xml10_content())?,
                Event::CData(text) => self.text(&text.xml10_content())?,
                Event::GeneralRef(reference) => self.reference(&reference)?,
                Event::DocType(declared) => {
                    if declared
                        .trim_ascii_start()
                        .to_ascii_lowercase()
                        .starts_with("html")
                    {
                        return Err(problem::markup(self.text, "XML"));
                    }
                    if declared.contains('[') {
                        let what = "it has a DTD with declarations of its own, which are not read";
                        return Err(self.here(what));
                    }
                }
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        let at = self.text.len() as u64;
        if let Some(name) = self.place.last() {
            return Err(self.wrong(&format!("`{name}` is not closed before the end"), at, true));
        }
        let mut out = String::with_capacity(self.text.len());
        match self.open.pop() {
            Some(document) if !document.members.is_empty() => document.write(&mut out),
            _ => return Err(SelectError::Empty { wanted: "XML" }),
        }
        Ok(out)
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<(), SelectError> {
        let name = start.name().0;
        if self.place.is_empty() {
            if name.eq_ignore_ascii_case("html") {
                return Err(problem::markup(self.text, "XML"));
            }
            if self
                .open
                .first()
                .is_some_and(|document| !document.members.is_empty())
            {
                return Err(self.here("there is a second element beside the outermost one"));
            }
        }
        if self.place.len() >= DEEPEST {
            return Err(self.here(&format!("it nests deeper than {DEEPEST} levels")));
        }
        let mut element = Element::default();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| self.here(&lower(&e)))?;
            let key = attribute.key.0;
            if key == "xmlns" || key.starts_with("xmlns:") {
                continue;
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|e| self.here(&lower(&e)))?;
            let mut quoted = String::new();
            push_quoted(&mut quoted, &value);
            element.add(&format!("@{key}"), &quoted, false);
        }
        self.place.push(name.to_owned());
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) {
        let (Some(element), Some(name)) = (self.open.pop(), self.place.last()) else {
            return;
        };
        let mut value = String::new();
        element.write(&mut value);
        let is_list = self.lists.has(&self.place);
        if let Some(parent) = self.open.last_mut() {
            parent.add(name, &value, is_list);
        }
        self.place.pop();
    }

    fn text(&mut self, text: &str) -> Result<(), SelectError> {
        if !self.place.is_empty() {
            if let Some(element) = self.open.last_mut() {
                element.text.push_str(text);
            }
        } else if !text.trim_ascii().is_empty() {
            return Err(self.here("there is text outside of any element"));
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), SelectError> {
        let character = reference
            .resolve_char_ref()
            .map_err(|e| self.here(&lower(&e)))?;
        let name: &str = reference;
        let known = match (character, name) {
            (Some(character), _) => character,
            (None, "lt") => '<',
            (None, "gt") => '>',
            (None, "amp") => '&',
            (None, "apos") => '\'',
            (None, "quot") => '"',
            (None, other) => {
                return Err(self.here(&format!("there is no entity `&{other};` in XML")));
            }
        };
        self.text(known.encode_utf8(&mut [0; 4]))
    }

    /// Whether what the reader calls wrong is that the text just stops.
    fn is_cut(&self, error: &Error, at: u64) -> bool {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let rest = self.text.get(at..).unwrap_or_default();
        match error {
            // The longest mark of this kind has nine characters: `<![CDATA[`.
            Error::Syntax(SyntaxError::InvalidBangMarkup) => rest.len() < 9,
            Error::Syntax(_) => true,
            Error::IllFormed(IllFormedError::UnclosedReference) => !rest.contains('<'),
            _ => false,
        }
    }

    fn here(&self, what: &str) -> SelectError {
        self.wrong(what, self.reader.buffer_position(), false)
    }

    fn wrong(&self, what: &str, at: u64, cut: bool) -> SelectError {
        // HTML is hardly ever well-formed; that it is HTML says more.
        if problem::is_html(self.text) {
            return problem::markup(self.text, "XML");
        }
        let at = usize::try_from(at)
            .unwrap_or(usize::MAX)
            .min(self.text.len());
        let before = self.text.get(..self.text.floor_char_boundary(at));
        SelectError::Line {
            line: 1 + before.map_or(0, |before| before.matches('\n').count() as u64),
            what: what.to_owned(),
            cut,
            sample: problem::around(self.text, at, problem::AROUND),
        }
    }
}

impl Element {
    fn add(&mut self, name: &str, value: &str, is_list: bool) {
        let known = if self.members.len() < MANY {
            self.members.iter().position(|member| member.name == name)
        } else {
            if self.places.is_empty() {
                let names = self.members.iter().map(|member| member.name.clone());
                self.places = names.zip(0..).collect();
            }
            self.places.get(name).copied()
        };
        if let Some(member) = known.and_then(|at| self.members.get_mut(at)) {
            member.values.push(',');
            member.values.push_str(value);
            member.is_list = true;
            return;
        }
        if !self.places.is_empty() {
            self.places.insert(name.to_owned(), self.members.len());
        }
        self.members.push(Member {
            name: name.to_owned(),
            values: value.to_owned(),
            is_list,
        });
    }

    fn write(&self, out: &mut String) {
        let text = self.text.trim_ascii();
        if self.members.is_empty() {
            if text.is_empty() {
                out.push_str("null");
            } else {
                push_quoted(out, text);
            }
            return;
        }
        for (index, member) in self.members.iter().enumerate() {
            out.push(if index == 0 { '{' } else { ',' });
            push_quoted(out, &member.name);
            out.push(':');
            if member.is_list {
                out.push('[');
            }
            out.push_str(&member.values);
            if member.is_list {
                out.push(']');
            }
        }
        if !text.is_empty() {
            out.push_str(",\"#text\":");
            push_quoted(out, text);
        }
        out.push('}');
    }
}

/// What a library says, as our messages begin.
fn lower(error: &impl std::fmt::Display) -> String {
    let said = error.to_string();
    let mut characters = said.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::path::Path;

    fn read(text: &str) -> String {
        json(text, &Lists::default()).unwrap_or_else(|error| format!("! {error}"))
    }

    #[test]
    fn elements_are_objects() {
        assert_eq!(
            read(
                "<?xml version=\"1.0\"?>\n<!-- c -->\n<a x='1&lt;'>\n <b>t &amp; u&#233;</b><b/><c><d>1</d>e</c><f><![CDATA[<g>]]></f>\n</a>\n"
            ),
            r##"{"a":{"@x":"1<","b":["t & ué",null],"c":{"d":"1","#text":"e"},"f":"<g>"}}"##
        );
        assert_eq!(
            read("<x:feed xmlns:x='u' xmlns='v'><n:t xmlns:n='w'> 25 </n:t></x:feed>"),
            r#"{"x:feed":{"n:t":"25"}}"#
        );
        assert_eq!(read("<a/>"), r#"{"a":null}"#);
        assert_eq!(read("<a> \n </a>"), r#"{"a":null}"#);
        assert_eq!(
            read("<a l='en'>x</a>"),
            r##"{"a":{"@l":"en","#text":"x"}}"##
        );
    }

    #[test]
    fn what_a_path_opens_is_a_list_also_of_one() {
        let mut lists = Lists::default();
        let path = |written| Path::parse(written).unwrap();
        lists.learn(&path("feed.entry"), &path("author.*.name"));
        lists.names.push("link".to_owned());
        let text = "<feed><author>x</author><entry><author><name>n</name></author><link href='u'/></entry></feed>";
        assert_eq!(
            json(text, &lists).unwrap(),
            r#"{"feed":{"author":"x","entry":{"author":[{"name":"n"}],"link":[{"@href":"u"}]}}}"#
        );
    }

    #[test]
    fn what_is_hostile_or_broken_is_refused() {
        for (text, said) in [
            ("", "the body is empty where XML was expected"),
            ("<a><b></a>", "expected `</b>`"),
            ("<a></a><b/>", "second element"),
            ("<a/>x", "text outside"),
            ("x", "text outside"),
            ("<a>&nbsp;</a>", "no entity `&nbsp;`"),
            ("<a x='&b;'/>", "b"),
            ("<a x='1' x='2'/>", "duplicate"),
            ("<!DOCTYPE a [<!ENTITY b \"x\">]><a>&b;</a>", "DTD"),
            (
                "<!DOCTYPE html><html><body><br></body></html>",
                "an HTML page instead of XML",
            ),
            (
                "<html><body><p>login<br></body></html>",
                "an HTML page instead of XML",
            ),
        ] {
            let read = read(text);
            assert!(
                read.starts_with('!') && read.contains(said),
                "{text}: {read}"
            );
        }
        let external = "<!DOCTYPE a PUBLIC \"-//X//Y\" \"http://127.0.0.1:1/x.dtd\"><a>1</a>";
        assert_eq!(read(external), r#"{"a":"1"}"#);
        let bomb = "<!DOCTYPE l [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;&a;&a;\">]><l>&b;</l>";
        assert!(read(bomb).contains("DTD"));
        let deep = format!("{}{}", "<a>".repeat(10_000), "</a>".repeat(10_000));
        assert!(read(&deep).contains("nests deeper"));
    }

    #[test]
    fn what_is_cut_off_is_known_as_such() {
        let whole = "<feed>\n<entry id='1'><t>a&amp;b</t></entry>\n<entry/></feed>";
        for end in 1..whole.len() {
            let error = json(&whole[..end], &Lists::default()).unwrap_err();
            assert!(error.is_cut(), "{:?}: {error}", &whole[..end]);
        }
        assert!(!json("<a><b></a>", &Lists::default()).unwrap_err().is_cut());
    }

    #[test]
    fn many_names_are_found_again() {
        let many = 3 * MANY;
        let one = (0..many).fold(String::new(), |all, n| all + &format!("<n{n}>{n}</n{n}>"));
        let value: serde_json::Value =
            serde_json::from_str(&read(&format!("<a>{one}{one}</a>"))).unwrap();
        for n in 0..many {
            assert_eq!(
                value["a"][format!("n{n}")],
                serde_json::json!([n.to_string(), n.to_string()])
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_text_is_json_or_refused(text in "[<>/ab ='\"&;#x1\\[\\]!?-]{0,40}") {
            if let Ok(json) = json(&text, &Lists::default()) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
            }
        }
    }
}
