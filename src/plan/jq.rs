//! jq filters: the only door to jaq, which reads and runs them.
//!
//! A filter sees one JSON value and nothing else: no files, no environment, no clock, no other
//! input, so that what comes out depends on the value alone. Numbers that it passes on keep their
//! spelling (`1.10`, 25 digits); those it reckons with are integers of any length or 64-bit floats.
//! jaq itself runs a filter for as long as it likes; `bounds` sees to it that it ends.

mod bounds;

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::Arc;

use jaq_core::load::lex::Expect as LexExpect;
use jaq_core::load::parse::{Def, Expect};
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars};
use jaq_json::{Num, Val, read};

use self::bounds::{Bounded, Bounds, MOST_SIZE};
use super::language::LanguageProblem;
use crate::spec::near;

/// Most steps for one value: a few seconds.
const MOST_STEPS: u64 = 10_000_000;
/// Most levels of a value (`records::select` has the same bound for what comes in).
const MOST_DEPTH: usize = 128;
/// Most characters of jaq's words, which quote whole values.
const MOST_WORDS: usize = 200;
/// How many of these are the last ones.
const MOST_TAIL: usize = 60;

/// The name that a program has among the definitions it is compiled with.
const MAIN: &str = "__filter";

/// What jq has and a filter here has not, with the reason.
const WITHHELD: [(&str, &str); 14] = [
    ("env", "a filter sees no environment"),
    ("$ENV", "a filter sees no environment"),
    (
        "now",
        "a filter sees no clock, so that it gives the same again",
    ),
    (
        "localtime",
        "the zone of this machine must not show in data",
    ),
    (
        "strflocaltime",
        "the zone of this machine must not show in data",
    ),
    ("input", "a filter sees one value at a time"),
    ("inputs", "a filter sees one value at a time"),
    ("debug", "a filter only gives values"),
    ("debug_empty", "a filter only gives values"),
    ("stderr", "a filter only gives values"),
    ("stderr_empty", "a filter only gives values"),
    (
        "halt",
        "a filter cannot end the run; `error(\"…\")` fails the stream",
    ),
    (
        "halt_error",
        "a filter cannot end the run; `error(\"…\")` fails the stream",
    ),
    ("input_filename", "a filter sees no files"),
];

/// A compiled filter.
#[derive(Clone)]
pub struct Jq {
    written: String,
    program: Arc<Filter<Bounded>>,
}

/// A JSON value that filters can run on; read once for several of them.
pub struct Input(Val);

impl Jq {
    /// Compiles a filter.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(written: &str) -> Result<Self, LanguageProblem> {
        let at = |part: &str, message: String| LanguageProblem {
            message,
            range: place(written, part),
            place: None,
        };
        let arena = Arena::default();
        // Once as it is: only this way jaq says what is wrong.
        let as_main = File {
            code: written,
            path: (),
        };
        if let Err(errors) = Loader::new([]).load(&arena, as_main) {
            let error = errors.into_iter().map(|(_, error)| error).next();
            return Err(match error {
                Some(load::Error::Lex(all)) => match all.into_iter().next() {
                    Some((expected, part)) => at(part, lexed(&expected, part)),
                    None => at("", "it cannot be read".to_owned()),
                },
                Some(load::Error::Parse(all)) => match all.into_iter().next() {
                    Some((expected, part)) => at(part, parsed(&expected, part)),
                    None => at("", "it cannot be read".to_owned()),
                },
                Some(load::Error::Io(all)) => at(
                    all.first().map_or("", |(part, _)| part),
                    "a filter has no modules".to_owned(),
                ),
                None => at("", "it cannot be read".to_owned()),
            });
        }
        let main = load::parse(written, |parser| parser.term())
            .ok_or_else(|| at("", "a filter has no modules".to_owned()))?;
        let main = Def {
            name: MAIN,
            args: Vec::new(),
            body: main,
        };
        let prelude = (jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs()))
        .filter(|def| withheld(def.name).is_none());
        let known: Vec<Def<&str>> = prelude.collect();
        let names: Vec<&str> = known.iter().map(|def| def.name).collect();
        let definitions = known.iter().cloned().chain([main]);
        let definitions: Vec<_> = definitions
            .map(|def| bounds::bounded_def(def, &mut |_, _| ()))
            .collect();
        let call = File {
            code: MAIN,
            path: (),
        };
        let modules = Loader::new(definitions).load(&arena, call);
        let modules = modules.map_err(|_| at("", "it cannot be read".to_owned()))?;
        let natives = bounds::natives().filter(|(name, _, _)| withheld(name).is_none());
        let compiled = Compiler::default().with_funs(natives).compile(modules);
        let program = compiled.map_err(|errors| {
            let first = errors.into_iter().flat_map(|(_, all)| all).next();
            match first {
                Some((part, undefined)) => at(part, unknown(part, undefined.as_str(), &names)),
                None => at("", "it cannot be compiled".to_owned()),
            }
        })?;
        Ok(Self {
            written: written.to_owned(),
            program: Arc::new(program),
        })
    }

    /// Its text as written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Hands every output to `take` as JSON on one line.
    ///
    /// # Errors
    /// The filter's own errors, and what passes its bounds; outputs before it were handed over.
    pub fn run(&self, input: &Input, take: impl FnMut(&str)) -> Result<(), LanguageProblem> {
        self.run_within(MOST_STEPS, input, take)
    }

    fn run_within(
        &self,
        most: u64,
        input: &Input,
        mut take: impl FnMut(&str),
    ) -> Result<(), LanguageProblem> {
        let steps = Cell::new(most);
        let bounds = Bounds::new(&self.program.lut, &steps);
        let context = Ctx::<Bounded>::new(bounds, Vars::new([]));
        let (mut text, mut bytes) = (String::new(), 0_usize);
        for output in self.program.id.run((context, input.0.clone())) {
            let value = output.map_err(|exception| match exception.get_err() {
                Ok(error) => problem(error.to_string()),
                Err(_) => problem("it breaks off where nothing catches it"),
            })?;
            bounds::count(&bounds).map_err(|error| problem(error.to_string()))?;
            text.clear();
            write(&value, 0, &mut text).map_err(problem)?;
            bytes = bytes.saturating_add(text.len());
            if bytes > MOST_SIZE.saturating_mul(16) {
                return Err(problem("it gives more than a GiB"));
            }
            take(&text);
        }
        Ok(())
    }

    /// The output as one value: nothing where there is none, a list where there are several.
    ///
    /// # Errors
    /// As for [`Jq::run`].
    pub fn one(&self, input: &Input) -> Result<Option<String>, LanguageProblem> {
        let mut all: Vec<String> = Vec::new();
        self.run(input, |output| all.push(output.to_owned()))?;
        Ok(match all.len() {
            0 | 1 => all.pop(),
            _ => Some(format!("[{}]", all.join(","))),
        })
    }
}

impl Input {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// Text that is no JSON, or that holds half of a surrogate pair, which is no character.
    pub fn read(json: &str) -> Result<Self, LanguageProblem> {
        let value = read::parse_single(json.as_bytes());
        value
            .map(Self)
            .map_err(|error| problem(format!("the value cannot be read: {error}")))
    }
}

/// The same text is the same filter.
impl PartialEq for Jq {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Jq {}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jq").field(&self.written).finish()
    }
}

fn problem(words: impl AsRef<str>) -> LanguageProblem {
    let words = words.as_ref();
    let count = words.chars().count();
    let message = if count > MOST_WORDS {
        // What is wrong with a long value often stands behind it.
        let head: String = words.chars().take(MOST_WORDS - MOST_TAIL).collect();
        let tail: String = words.chars().skip(count - MOST_TAIL).collect();
        format!("{head}…{tail}")
    } else {
        words.to_owned()
    };
    LanguageProblem {
        message,
        range: None,
        place: None,
    }
}

/// Where a part of the text is, if it is a part of it.
fn place(written: &str, part: &str) -> Option<std::ops::Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(written.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    // What is missing at the end is shown at the last character.
    if start == end {
        let (at, last) = written
            .get(..start)?
            .trim_end()
            .char_indices()
            .next_back()?;
        return Some(at..at + last.len_utf8());
    }
    written.get(start..end).map(|_| start..end)
}

fn lexed(expected: &LexExpect<&str>, part: &str) -> String {
    let expected = expected.as_str();
    match part.chars().next() {
        Some(found) => format!("{expected} is expected, not `{found}`"),
        None => format!("{expected} is missing at the end"),
    }
}

fn parsed(expected: &Expect<&str>, part: &str) -> String {
    let expected = match expected {
        Expect::Just(word) => format!("`{word}`"),
        Expect::Nothing => "the end".to_owned(),
        other => format!("a {}", other.as_str()),
    };
    match part {
        "" => format!("{expected} is missing at the end"),
        found => format!("{expected} is expected, not `{}`", head(found)),
    }
}

/// The first word or sign.
fn head(text: &str) -> &str {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let end = match text.chars().next() {
        Some(first) if word(first) => text.find(|c| !word(c)).unwrap_or(text.len()),
        Some(first) => first.len_utf8(),
        None => 0,
    };
    text.get(..end).unwrap_or(text)
}

fn unknown(name: &str, kind: &str, names: &[&str]) -> String {
    if let Some(why) = withheld(name) {
        return format!("there is no `{name}` here: {why}");
    }
    let mut message = format!("there is no {kind} `{name}`");
    if let Some(near) = near::near(name, names.iter().copied()) {
        let _ = write!(message, "; did you mean `{near}`?");
    }
    message
}

fn withheld(name: &str) -> Option<&'static str> {
    let found = WITHHELD.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// Writes a value as JSON on one line.
fn write(value: &Val, depth: usize, out: &mut String) -> Result<(), String> {
    if depth > MOST_DEPTH {
        return Err(format!("it gives a value of more than {MOST_DEPTH} levels"));
    }
    match value {
        Val::Null => out.push_str("null"),
        Val::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Val::Num(Num::Float(number)) if !number.is_finite() => {
            return Err(format!("it gives {number}, which JSON has no number for"));
        }
        Val::Num(number) => {
            // Writing to a string cannot fail.
            let _ = write!(out, "{number}");
        }
        Val::TStr(text) => quote(&String::from_utf8_lossy(text), out)?,
        Val::BStr(_) => return Err("it gives bytes, which are no JSON value".to_owned()),
        Val::Arr(list) => {
            out.push('[');
            for (at, element) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(element, depth + 1, out)?;
            }
            out.push(']');
        }
        Val::Obj(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                let Val::TStr(name) = name else {
                    return Err("it gives an object with a name that is no text".to_owned());
                };
                quote(&String::from_utf8_lossy(name), out)?;
                out.push(':');
                write(member, depth + 1, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) -> Result<(), String> {
    let quoted = serde_json::to_string(text).map_err(|error| error.to_string())?;
    out.push_str(&quoted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(filter: &str, json: &str) -> Result<Vec<String>, String> {
        let jq = Jq::parse(filter).map_err(|problem| problem.message)?;
        let input = Input::read(json).map_err(|problem| problem.message)?;
        let mut all = Vec::new();
        jq.run_within(200_000, &input, |output| all.push(output.to_owned()))
            .map_err(|problem| problem.message)?;
        Ok(all)
    }

    fn gives(filter: &str, json: &str) -> String {
        all(filter, json).unwrap().join(" ")
    }

    fn fails(filter: &str, json: &str) -> String {
        all(filter, json).unwrap_err()
    }

    #[test]
    fn long_words_keep_their_end() {
        let filter = Jq::parse(".name + 1").unwrap();
        let long = format!("{{\"name\": \"{}\"}}", "a".repeat(300));
        let problem = filter
            .run(&Input::read(&long).unwrap(), |_| {})
            .unwrap_err();
        assert!(
            problem.message.starts_with("cannot calculate \"aaa"),
            "{}",
            problem.message
        );
        assert!(
            problem.message.ends_with("aaa\" + 1"),
            "{}",
            problem.message
        );
        assert_eq!(problem.message.chars().count(), MOST_WORDS + 1);
    }

    #[test]
    fn filters_can_be_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Jq>();
    }

    #[test]
    fn numbers_that_are_passed_on_keep_their_spelling() {
        let record =
            r#"{"id":1234567890123456789012345,"price":1.10,"tiny":1e-400,"big":1E400,"a":[0.10]}"#;
        assert_eq!(gives(".", record), record);
        assert_eq!(
            gives("{price, id, list: [.a[], .tiny]}", record),
            r#"{"price":1.10,"id":1234567890123456789012345,"list":[0.10,1e-400]}"#
        );
        assert_eq!(gives(".id + 1", record), "1234567890123456789012346");
        assert_eq!(gives(".price * 2, 7 / 2, 6 / 2", record), "2.2 3.5 3.0");
        assert_eq!(
            gives("\"\\(.price) \\(.id)\"", record),
            "\"1.10 1234567890123456789012345\""
        );
    }

    #[test]
    fn the_language_works_under_the_bounds() {
        for (filter, json, expected) in [
            (
                ".a[] | select(.n > 1) | .n",
                r#"{"a":[{"n":1},{"n":2},{"n":3}]}"#,
                "2 3",
            ),
            ("[range(5)] | map(. * 2) | add", "null", "20"),
            ("def f: if . > 3 then . else . + 1 | f end; f", "0", "4"),
            (
                "def fac: if . < 2 then 1 else . * (. - 1 | fac) end; fac",
                "20",
                "2432902008176640000",
            ),
            (
                "reduce .[] as [$x] (0; . + $x), [foreach .[] as [$a] (0; . + $a)]",
                "[[1],[2]]",
                "3 [1,3]",
            ),
            ("[.. | numbers]", r#"{"a":[1,{"b":2}]}"#, "[1,2]"),
            (
                "walk(if type == \"string\" then ascii_upcase else . end)",
                r#"["a",{"b":"c"}]"#,
                r#"["A",{"b":"C"}]"#,
            ),
            (
                "with_entries(.value += 1)",
                r#"{"a":1,"b":2}"#,
                r#"{"a":2,"b":3}"#,
            ),
            (
                ".a *= 3 | del(.b) | .c |= . + 1",
                r#"{"a":2,"b":1,"c":5}"#,
                r#"{"a":6,"c":6}"#,
            ),
            (
                "to_entries[] | {(.key): .value}",
                r#"{"x":1,"y":2}"#,
                r#"{"x":1} {"y":2}"#,
            ),
            (
                "[limit(3; repeat(1))], first(range(10; 0; -3)), [paths]",
                r#"{"a":[0]}"#,
                r#"[1,1,1] 10 [["a"],["a",0]]"#,
            ),
            (
                "test(\"^a\"), (split(\",\") | length), ascii_upcase",
                "\"a,b\"",
                "true 2 \"A,B\"",
            ),
            (
                "\"ab\" * 3, \"ab\" * 0, ({} * {a: 1})",
                "0",
                r#""ababab" null {"a":1}"#,
            ),
            ("try error(\"x\") catch .", "0", "\"x\""),
            (
                "label $out | .[] | if . > 1 then ., break $out else . end",
                "[1,2,3]",
                "1 2",
            ),
            (
                "getpath([\"a\",\"b\"]), [getpath([\"a\"]) |= 5]",
                r#"{"a":{"b":1}}"#,
                r#"1 [{"a":5}]"#,
            ),
            (
                "\"2024-01-31T00:00:00Z\" | fromdate | todate",
                "0",
                "\"2024-01-31T00:00:00Z\"",
            ),
            (
                ".a as {b: $c, d: [$e]} | $c + $e",
                r#"{"a":{"b":1,"d":[2]}}"#,
                "3",
            ),
            (
                "flatten, (.[1] | recurse(.[]?; true) | arrays | length)",
                "[1,[2,[3]]]",
                "[1,2,3] 2 1",
            ),
        ] {
            assert_eq!(
                all(filter, json),
                Ok(expected.split(' ').map(str::to_owned).collect()),
                "{filter}"
            );
        }
    }

    #[test]
    fn what_never_ends_is_cut() {
        for (filter, words) in [
            ("def f: f; f", "steps"),
            ("def f: ., f; f | empty", "steps"),
            ("[repeat(1)]", "steps"),
            ("[range(1e18)] | length", "steps"),
            ("range(1e18) | empty", "steps"),
            ("last(range(infinite))", "steps"),
            ("def f: 1 + f; f", "too deep"),
            ("def f: [f]; f", "too deep"),
            ("reduce range(100) as $i (\"x\"; . + .)", "too large"),
            ("reduce range(1e9) as $i ([]; [.])", "deeper"),
            ("reduce range(1e9) as $i (2; . * .)", "too large"),
            ("def f: (. + .) | f; \"x\" | f", "too large"),
            ("\"x\" * 1000000000000000", "too large"),
            (".a *= 1e17 | .a | length", ""),
            (
                "[.[] as $a | .[] as $b | .[] as $c | .[] as $d | .[] as $e | .[] as $f | .[] as $g | .[] as $h | 1]",
                "steps",
            ),
        ] {
            let json = if filter.starts_with("[.[]") {
                "[1,2,3,4,5,6,7,8,9,0]"
            } else {
                r#"{"a":"x"}"#
            };
            let said = fails(filter, json);
            assert!(said.contains(words), "{filter}: {said}");
        }
    }

    #[test]
    fn a_filter_sees_nothing_but_its_value() {
        for name in [
            "env",
            "$ENV",
            "now",
            "input",
            "inputs",
            "debug",
            "halt",
            "stderr",
            "localtime",
        ] {
            let said = fails(name, "null");
            assert!(
                said.contains(&format!("no `{name}` here")),
                "{name}: {said}"
            );
        }
        for filter in ["include \"x\"; .", "import \"x\" as x; ."] {
            assert!(fails(filter, "1").contains("no modules"), "{filter}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (filter, place, words) in [
            (".a | slect(.b)", "slect", "did you mean `select`"),
            (".a | map(.b", "b", "closing parenthesis"),
            (".a | | .b", "|", "a term is expected"),
            (".a |\n", "|", "missing at the end"),
            ("$x", "$x", "no variable"),
            (".a + \"x", "x", "closing quote"),
            ("if . then 1 els 2 end", "els", "else or end"),
        ] {
            let problem = Jq::parse(filter).unwrap_err();
            let range = problem
                .range
                .clone()
                .unwrap_or_else(|| panic!("{filter}: {problem:?}"));
            assert_eq!(&filter[range], place, "{filter}: {problem:?}");
            assert!(problem.message.contains(words), "{filter}: {problem:?}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_an_error() {
        assert!(fails("infinite", "1").contains("no number"));
        assert!(fails("nan", "1").contains("no number"));
        assert!(fails("{(1): 2}", "1").contains("no text"));
        assert!(fails("tobytes", "\"a\"").contains("bytes"));
        assert!(fails(".a.b", r#"{"a":5}"#).contains("cannot index 5"));
        assert!(Input::read(r#""\ud800""#).is_err());
        let long = format!("\"{}\"", "é".repeat(500));
        assert_eq!(fails(".a", &long).chars().count(), MOST_WORDS + 1);
    }

    #[test]
    fn a_column_has_one_value() {
        let one = |filter: &str| {
            Jq::parse(filter)
                .unwrap()
                .one(&Input::read("[1,2]").unwrap())
                .unwrap()
        };
        assert_eq!(one("empty"), None);
        assert_eq!(one(".[0]").as_deref(), Some("1"));
        assert_eq!(one(".[]").as_deref(), Some("[1,2]"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_passed_on_is_unchanged(
            numbers in prop::collection::vec("-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", 0..6),
            text in "[ -~é\u{1F600}\n]{0,20}",
        ) {
            // jaq has one integer zero.
            let numbers: Vec<_> = numbers.into_iter().filter(|number| number != "-0").collect();
            let text = serde_json::to_string(&text).unwrap();
            let json = format!("{{\"n\":[{}],\"t\":{text}}}", numbers.join(","));
            prop_assert_eq!(gives(".", &json), json);
        }

        #[test]
        fn no_filter_text_panics(filter in "[.|,a-c$()\\[\\]{}:;\"\\\\0-9 +*/<=?]{0,14}") {
            let _ = all(&filter, r#"{"a":[1,"b"],"c":null}"#);
        }
    }
}
