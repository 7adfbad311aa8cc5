//! Templates and expressions: minijinja with our filters, fuel-limited, without files.
//!
//! Two environments: *strict* (a missing name is an error) for requests, *lenient* (a missing
//! field is nothing, chains included) for `responses` and `stop`. A template is compiled once,
//! when its pipeline is checked, and rendered often.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::{Environment, ErrorKind, Expression, Value};

use super::environment::{AS_FILE, AS_TARGET, AS_TEXT, LENIENT, STRICT, judge};
use super::guard::Guarded;
use super::names::Scan;
use super::place::Place;

/// A template that renders to text, or, where it is exactly one `{{ }}`, to a value.
#[derive(Clone)]
pub struct Template {
    written: String,
    place: Option<Arc<Place>>,
    /// `None` for text without a delimiter.
    compiled: Option<Arc<Compiled>>,
}

struct Compiled {
    /// Holds the template as text and, what follows `head`, as a request's target.
    environment: Environment<'static>,
    /// The leading `{{ }}`.
    head: Option<Head>,
    /// What was compiled for each reading, where that is not what was written.
    as_text: Option<Guarded>,
    as_target: Option<Guarded>,
    names: Vec<UsedName>,
}

struct Head {
    expression: Expression<'static, 'static>,
    guarded: Option<Guarded>,
    /// Its code in the written text.
    range: Range<usize>,
    /// Whether nothing follows it.
    alone: bool,
}

/// An expression, as in `stop: count < 1000`.
#[derive(Clone)]
pub struct Expr {
    written: String,
    place: Option<Arc<Place>>,
    compiled: Arc<(Expression<'static, 'static>, Option<Guarded>)>,
    names: Vec<UsedName>,
}

/// What is wrong with a template or expression, and where in its text (bytes).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LanguageProblem {
    /// What is wrong, without the position.
    pub message: String,
    /// Byte range in the written text, where known.
    pub range: Option<Range<usize>>,
    /// Where the text stands in the pipeline file, if that is known: what only the data show is
    /// told with it.
    pub place: Option<Arc<Place>>,
}

/// A name that a template uses, with its path: `vars.repos`, `secret.TOKEN`, `repo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedName {
    /// Dotted, the root first.
    pub path: Vec<String>,
    /// Byte offset of the root's first use in the written text, where found.
    pub at: Option<usize>,
    /// Whether every use stands before `default(…)`, or one asks `is defined`: it may be missing.
    pub optional: bool,
}

impl Template {
    /// Compiles a template; a name without a value is a mistake.
    pub fn parse(written: &str) -> Result<Self, LanguageProblem> {
        Self::of(written, &STRICT)
    }

    /// Compiles a template over an answer: what is missing is nothing, chains included.
    pub fn lenient(written: &str) -> Result<Self, LanguageProblem> {
        Self::of(written, &LENIENT)
    }

    fn of(written: &str, base: &'static Environment<'static>) -> Result<Self, LanguageProblem> {
        if !["{{", "{%", "{#"].iter().any(|open| written.contains(open)) {
            return Ok(Self {
                written: written.to_owned(),
                place: None,
                compiled: None,
            });
        }
        let mut environment = base.clone();
        environment
            .add_template_owned(AS_TEXT, written.to_owned())
            .map_err(|error| problem(&error, None, 0, written))?;
        let scan = Scan::template(written);
        judge(&scan, base)?;
        let found = scan.head();
        let rest = found.as_ref().map_or(0, |(_, end)| *end);
        // The first value of a target is its origin and stays as it is; see `target`.
        environment
            .add_template_owned(AS_TARGET, written[rest..].to_owned())
            .map_err(|error| problem(&error, None, rest, written))?;
        let head = match found {
            Some((range, end)) => {
                let (expression, guarded) = expression(base, &written[range.clone()])
                    .map_err(|error| problem(&error, None, range.start, written))?;
                Some(Head {
                    expression,
                    guarded,
                    range,
                    alone: end == written.len(),
                })
            }
            None => None,
        };
        let undeclared = environment
            .get_template(AS_TEXT)
            .map_err(|error| problem(&error, None, 0, written))?
            .undeclared_variables(true);
        let names = names(&scan, undeclared, base);
        let mut guard = |reading: &'static str, from: usize| {
            let guarded = Guarded::template(&written[from..]);
            if let Some(guarded) = &guarded {
                environment
                    .add_template_owned(reading, guarded.text.clone())
                    .map_err(|error| problem(&error, Some(guarded), from, written))?;
            }
            Ok(guarded)
        };
        let (as_text, as_target) = (guard(AS_TEXT, 0)?, guard(AS_TARGET, rest)?);
        Ok(Self {
            written: written.to_owned(),
            place: None,
            compiled: Some(Arc::new(Compiled {
                environment,
                head,
                as_text,
                as_target,
                names,
            })),
        })
    }

    /// Its text as written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The same, known to stand there in the pipeline file.
    #[must_use]
    pub fn placed(mut self, place: Place) -> Self {
        self.place = Some(Arc::new(place));
        self
    }

    /// Where it stands in the pipeline file, if that is known.
    pub fn place(&self) -> Option<Arc<Place>> {
        self.place.clone()
    }

    fn failed(&self, problem: LanguageProblem) -> LanguageProblem {
        LanguageProblem {
            place: self.place.clone(),
            ..problem
        }
    }

    /// Whether it has no `{{`, `{%` or `{#`: it renders to itself.
    pub fn is_literal(&self) -> bool {
        self.compiled.is_none()
    }

    /// Whether its text begins with `{{`.
    pub fn begins_with_expression(&self) -> bool {
        self.written.starts_with("{{")
    }

    /// The names it uses.
    pub fn names(&self) -> Vec<UsedName> {
        self.compiled
            .as_ref()
            .map(|compiled| compiled.names.clone())
            .unwrap_or_default()
    }

    /// Renders to text; strict. Null is empty.
    pub fn text(&self, names: &Value) -> Result<String, LanguageProblem> {
        let text = match &self.compiled {
            None => Ok(self.written.clone()),
            Some(compiled) => self.render(compiled, AS_TEXT, 0, names),
        };
        text.map_err(|problem| self.failed(problem))
    }

    /// Renders to a value: the value itself where the template is exactly one `{{ }}`, else text.
    pub fn value(&self, names: &Value) -> Result<Value, LanguageProblem> {
        match self
            .compiled
            .as_ref()
            .and_then(|compiled| compiled.head.as_ref())
        {
            Some(head) if head.alone => {
                let value = self.head_value(head, names);
                value.map_err(|problem| self.failed(problem))
            }
            _ => self.text(names).map(Value::from),
        }
    }

    /// Renders to the target of a request: every value is percent-encoded whole, but for one
    /// that the template begins with: that one is the URL's own beginning.
    pub fn target(&self, names: &Value) -> Result<String, LanguageProblem> {
        let text = self.target_text(names);
        text.map_err(|problem| self.failed(problem))
    }

    fn target_text(&self, names: &Value) -> Result<String, LanguageProblem> {
        let Some(compiled) = &self.compiled else {
            return Ok(self.written.clone());
        };
        let Some(head) = &compiled.head else {
            return self.render(compiled, AS_TARGET, 0, names);
        };
        let value = self.head_value(head, names)?;
        if value.is_none() {
            return Err(LanguageProblem {
                message: format!(
                    "`{}` is null, not a URL",
                    self.written[head.range.clone()].trim()
                ),
                range: Some(head.range.clone()),
                place: None,
            });
        }
        let mut text = value.to_string();
        if !head.alone {
            let rest = head.range.end + self.written[head.range.end..].find("}}").unwrap_or(0) + 2;
            text.push_str(&self.render(compiled, AS_TARGET, rest, names)?);
        }
        Ok(text)
    }

    /// Renders to the path of a file: a value is a part of a name and brings no separator, unless
    /// it went through `path`.
    pub fn file(&self, names: &Value) -> Result<String, LanguageProblem> {
        let Some(compiled) = &self.compiled else {
            return Ok(self.written.clone());
        };
        // Asked for once a run, so it is compiled only then.
        let mut environment = compiled.environment.clone();
        let guarded = compiled.as_text.as_ref();
        let text = guarded.map_or(&self.written, |guarded| &guarded.text);
        environment
            .add_template_owned(AS_FILE, text.clone())
            .and_then(|()| environment.get_template(AS_FILE)?.render(names))
            .map_err(|error| self.failed(problem(&error, guarded, 0, &self.written)))
    }

    fn head_value(&self, head: &Head, names: &Value) -> Result<Value, LanguageProblem> {
        let value = head.expression.eval(names).map_err(|error| {
            problem(
                &error,
                head.guarded.as_ref(),
                head.range.start,
                &self.written,
            )
        })?;
        if value.is_undefined() {
            return Err(LanguageProblem {
                message: format!("`{}` has no value", self.written[head.range.clone()].trim()),
                range: Some(head.range.clone()),
                place: None,
            });
        }
        Ok(value)
    }

    fn render(
        &self,
        compiled: &Compiled,
        reading: &str,
        offset: usize,
        names: &Value,
    ) -> Result<String, LanguageProblem> {
        let guarded = if reading == AS_TARGET {
            &compiled.as_target
        } else {
            &compiled.as_text
        };
        compiled
            .environment
            .get_template(reading)
            .and_then(|template| template.render(names))
            .map_err(|error| problem(&error, guarded.as_ref(), offset, &self.written))
    }
}

impl Expr {
    /// Compiles an expression.
    pub fn parse(written: &str) -> Result<Self, LanguageProblem> {
        let lenient = &*LENIENT;
        if written.trim_start().starts_with("{{") {
            return Err(LanguageProblem {
                message: "this is an expression already: write it without `{{ }}`".to_owned(),
                range: Some(0..written.len()),
                place: None,
            });
        }
        let as_written = lenient
            .compile_expression_owned(written.to_owned())
            .map_err(|error| problem(&error, None, 0, written))?;
        let scan = Scan::expression(written);
        judge(&scan, lenient)?;
        let names = names(&scan, as_written.undeclared_variables(true), lenient);
        let (compiled, guarded) =
            expression(lenient, written).map_err(|error| problem(&error, None, 0, written))?;
        Ok(Self {
            written: written.to_owned(),
            place: None,
            compiled: Arc::new((compiled, guarded)),
            names,
        })
    }

    /// Its text as written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The names it uses.
    pub fn names(&self) -> Vec<UsedName> {
        self.names.clone()
    }

    /// The same, known to stand there in the pipeline file.
    #[must_use]
    pub fn placed(mut self, place: Place) -> Self {
        self.place = Some(Arc::new(place));
        self
    }

    /// Where it stands in the pipeline file, if that is known.
    pub fn place(&self) -> Option<Arc<Place>> {
        self.place.clone()
    }

    /// Evaluates it leniently.
    pub fn value(&self, names: &Value) -> Result<Value, LanguageProblem> {
        let (expression, guarded) = &*self.compiled;
        expression.eval(names).map_err(|error| LanguageProblem {
            place: self.place.clone(),
            ..problem(&error, guarded.as_ref(), 0, &self.written)
        })
    }

    /// Evaluates it leniently, as a condition.
    pub fn holds(&self, names: &Value) -> Result<bool, LanguageProblem> {
        Ok(self.value(names)?.is_true())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.written).finish()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expr").field(&self.written).finish()
    }
}

fn names(
    scan: &Scan<'_>,
    mut undeclared: std::collections::HashSet<String>,
    environment: &Environment<'static>,
) -> Vec<UsedName> {
    for (global, _) in environment.globals() {
        undeclared.remove(global);
    }
    scan.locate(undeclared)
}

/// An expression with its guards.
fn expression(
    environment: &'static Environment<'static>,
    written: &str,
) -> Result<(Expression<'static, 'static>, Option<Guarded>), minijinja::Error> {
    // What is wrong is said of what was written.
    environment.compile_expression_owned(written.to_owned())?;
    let guarded = Guarded::expression(written);
    let text = guarded.as_ref().map_or(written, |guarded| &guarded.text);
    Ok((
        environment.compile_expression_owned(text.to_owned())?,
        guarded,
    ))
}

/// `+` between a text and a number, in our words.
fn arithmetic(detail: &str) -> Option<String> {
    let rest = detail.strip_prefix("tried to use ")?;
    let (sign, kinds) = rest.split_once(" operator on unsupported types ")?;
    let (one, other) = kinds.split_once(" and ")?;
    let named = |kind: &str| match kind.split(' ').next() {
        Some("string") => "a text".to_owned(),
        Some("number") => "a number".to_owned(),
        Some("sequence" | "iterator") => "a list".to_owned(),
        Some("map") => "an object".to_owned(),
        Some("bool") => "true or false".to_owned(),
        Some("undefined" | "none") => "nothing".to_owned(),
        _ => kind.to_owned(),
    };
    Some(format!(
        "`{sign}` does not go with {} and {}",
        named(one),
        named(other)
    ))
}

/// minijinja's error in our words, its place moved to the written text.
fn problem(
    error: &minijinja::Error,
    guarded: Option<&Guarded>,
    offset: usize,
    written: &str,
) -> LanguageProblem {
    let range = error
        .range()
        .map(|range| guarded.map_or(range.clone(), |guarded| guarded.written(&range)))
        .map(|range| {
            (range.start + offset).min(written.len())..(range.end + offset).min(written.len())
        })
        .filter(|range| range.start < range.end && written.get(range.clone()).is_some());
    let message = match error.kind() {
        ErrorKind::UndefinedError => match range.clone().map(|range| written[range].trim()) {
            Some(name) if error.detail().is_none() => format!("`{name}` has no value"),
            _ => error
                .detail()
                .unwrap_or("a value is missing")
                .replace(" is undefined", " has no value"),
        },
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        kind => error.detail().map_or_else(
            || kind.to_string(),
            |detail| arithmetic(detail).unwrap_or_else(|| detail.to_owned()),
        ),
    };
    LanguageProblem {
        message,
        range,
        place: None,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::super::environment::{FILTERS, TESTS};
    use super::*;

    fn sight() -> Value {
        context! {
            repo => "rust-lang/rust",
            n => 7,
            nothing => (),
            day => context! { from => "2024-01-31T22:30:00Z", to => "2024-02-01" },
            vars => context! { repos => vec!["a", "b"], host => "https://x.example" },
            secret => context! { TOKEN => "t" },
        }
    }

    fn text(template: &str) -> String {
        Template::parse(template).unwrap().text(&sight()).unwrap()
    }

    fn fails(template: &str) -> LanguageProblem {
        Template::parse(template)
            .and_then(|template| template.value(&sight()))
            .unwrap_err()
    }

    #[test]
    fn booleans_are_spelled_as_in_json() {
        assert_eq!(text("a={{ n == 7 }}&b={{ false }}"), "a=true&b=false");
    }

    #[test]
    fn templates_are_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Template>();
        check::<Expr>();
    }

    #[test]
    fn renders_text_and_values() {
        assert_eq!(text("plain }} text\n"), "plain }} text\n");
        assert_eq!(
            text("{{ n }}-{{ repo }}{{ nothing }}\n"),
            "7-rust-lang/rust\n"
        );
        assert_eq!(text("{{ secret.GONE | default('') }}"), "");
        assert_eq!(text("{{ repo.split('/')[0] | upper }}"), "RUST-LANG");
        let value = |template: &str| Template::parse(template).unwrap().value(&sight()).unwrap();
        assert_eq!(value("{{ n }}"), Value::from(7));
        assert_eq!(value("{{ vars.repos }}").len(), Some(2));
        assert_eq!(value("{{ n }}{{ n }}"), Value::from("77"));
        assert!(value("{{ nothing }}").is_none());
    }

    #[test]
    fn dates_and_epochs() {
        assert_eq!(text("{{ day.from | date }}"), "2024-01-31");
        assert_eq!(text("{{ day.to | date('%Y%m%d') }}"), "20240201");
        assert_eq!(text("{{ day.from | epoch }}"), "1706740200");
        assert_eq!(text("{{ day.to | epoch_ms }}"), "1706745600000");
        assert_eq!(
            text("{{ '2024-01-01T01:00:00+02:00' | date }}"),
            "2024-01-01",
            "where it was written"
        );
        assert!(fails("{{ repo | date }}").message.contains("not a date"));
        assert!(fails("{{ n | epoch }}").message.contains("a number"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        for (template, place) in [
            ("{{ gone }}", "gone"),
            ("{{ secret.GONE }}", "secret.GONE"),
            ("x {{ secret.GONE }}", "secret.GONE"),
            ("{{ gone | upper }}", "upper"),
            ("/{{ day.gone | date }}", "date"),
        ] {
            let problem = fails(template);
            let range = problem.range.clone().unwrap();
            assert!(template[range].contains(place), "{template}: {problem:?}");
            assert!(!problem.message.contains('<'), "{problem}");
        }
        for template in [
            "{{ secret.GONE }}",
            "x {{ secret.GONE }}",
            "{{ secret.GONE | upper }}",
        ] {
            assert_eq!(
                fails(template).message,
                "`secret.GONE` has no value",
                "{template}"
            );
        }
    }

    #[test]
    fn mistakes_are_found_when_parsed() {
        for (template, part, place) in [
            ("{{ a", "", ""),
            ("{{ a | uper }}", "did you mean `upper`", "uper"),
            ("{{ a | safe }}", "unknown filter", "safe"),
            ("{{ 1 if a is defned }}", "did you mean `defined`", "defned"),
            ("{% include 'x' %}", "no files", "include"),
            ("{% if a %}", "", ""),
        ] {
            let problem = Template::parse(template).unwrap_err();
            assert!(problem.message.contains(part), "{template}: {problem:?}");
            assert!(!problem.message.contains("<string>"), "{problem}");
            if !place.is_empty() {
                assert_eq!(&template[problem.range.unwrap()], place);
            }
        }
        assert!(Expr::parse("{{ a }}").is_err());
        assert!(Expr::parse("a ==").is_err());
        assert!(Expr::parse("").is_err());
        for filter in FILTERS {
            Template::parse(&format!("{{{{ a | {filter} }}}}")).unwrap();
        }
        for test in TESTS {
            Expr::parse(&format!("a is {test}")).unwrap();
        }
    }

    #[test]
    fn loops_that_run_away_are_stopped() {
        let problem = fails("{% for i in range(100000) %}{{ i }}{% endfor %}");
        assert!(problem.message.contains("too many"), "{problem}");
    }

    #[test]
    fn names_have_places_and_may_be_optional() {
        let template = Template::parse(
            "x {{ secret.A | default('') }}{{ vars.repos[0] }}{{ repo | path }}{% if env.B is defined %}{{ env.B }}{% endif %}{{ range(3) | join }}{{ 'no.name' }}",
        )
        .unwrap();
        let found: Vec<(String, &str, bool)> = template
            .names()
            .into_iter()
            .map(|name| {
                let dotted = name.path.join(".");
                let here = &template.written()[name.at.unwrap()..][..dotted.len()];
                (dotted, here, name.optional)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("secret.A".to_owned(), "secret.A", true),
                ("vars.repos".to_owned(), "vars.repos", false),
                ("repo".to_owned(), "repo", false),
                ("env.B".to_owned(), "env.B", true),
            ]
        );
        assert_eq!(
            Expr::parse("not body.a and count < 3").unwrap().names()[1].at,
            Some(15)
        );
    }

    #[test]
    fn targets_are_encoded() {
        let names = context! {
            repo => "a b/ü", up => "..", odd => "x/../y", n => 5, nothing => (),
            url => "https://x.example/a?b=c", day => "2024-01-31",
        };
        let target = |template: &str| Template::parse(template).unwrap().target(&names);
        assert_eq!(
            target("/r s/{{ repo }}/{{ n }}").unwrap(),
            "/r s/a%20b%2F%C3%BC/5"
        );
        assert_eq!(target("/r/{{ repo | path }}").unwrap(), "/r/a%20b/%C3%BC");
        assert_eq!(
            target("/{{ day | date('%Y/%m/%d') | path }}").unwrap(),
            "/2024/01/31"
        );
        assert_eq!(target("{{ url }}").unwrap(), "https://x.example/a?b=c");
        assert_eq!(
            target("{{ url }}/{{ repo }}").unwrap(),
            "https://x.example/a?b=c/a%20b%2F%C3%BC"
        );
        assert_eq!(
            target("/{% if n > 3 %}{{ repo }}{% endif %}").unwrap(),
            "/a%20b%2F%C3%BC"
        );
        for refused in [
            "/{{ up }}",
            "/{{ odd | path }}",
            "/{{ nothing }}",
            "/{{ gone }}",
            "/{{ [1] }}",
            "{{ nothing }}",
        ] {
            assert!(target(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn values_in_a_files_name_bring_no_separator() {
        let file = |template: &str, value: &str| {
            let names = context! { v => value, stream => "s" };
            Template::parse(template).unwrap().file(&names)
        };
        for value in [
            "north",
            "2024-01-31T10:00:00Z",
            "Größe 7",
            "a.b_c-d+e=f,g@h",
            "",
        ] {
            let path = file("data/.x/{{ stream }}-{{ v }}.csv", value).unwrap();
            assert_eq!(path, format!("data/.x/s-{value}.csv"));
        }
        for value in [
            "..",
            ".",
            ".hidden",
            "a/b",
            "/etc/x",
            "../x",
            "a\\b",
            "a\0b",
            "a\nb",
            "a*",
            "a?b",
            "~",
            "$HOME",
            "a;b",
            "a|b",
            "\u{202e}vsc",
            "a\u{1b}[2J",
            "<a>",
            "\"",
            "'",
            "`id`",
            "#",
            "%2e",
        ] {
            let problem = file("data/{{ v }}.csv", value).unwrap_err();
            assert!(problem.message.contains("in a file's name"), "{problem}");
            assert!(!problem.message.contains(char::is_control), "{problem:?}");
        }
        let folders = "data/{{ v | path }}/x.csv";
        assert_eq!(file(folders, "a/b c").unwrap(), "data/a/b c/x.csv");
        for value in ["a/../b", "a/.b", "a/b\\c"] {
            assert!(file(folders, value).is_err(), "{value}");
        }
    }

    #[test]
    fn expressions_take_missing_fields_as_nothing() {
        let names = context! {
            status => 429, count => 3, text => "x", nothing => (),
            body => context! { items => vec![context! { code => "THROTTLED" }] },
        };
        for (written, expected) in [
            ("status == 429 and \"Minutely\" in body.reason", false),
            ("body.items.0.code == \"THROTTLED\"", true),
            ("body.errors.0.extensions.code == \"THROTTLED\"", false),
            ("body.0.message", false),
            ("not body.has_more", true),
            ("body.total > 10000", false),
            ("count < 1000", true),
            ("body.error.code in [\"maxlag\"]", false),
            ("body.gone | length == 0", true),
            ("gone.at.all is defined", false),
            ("gone < 3", false),
            ("gone > 3", false),
            ("gone <= gone2", false),
            ("gone == gone2", true),
            ("body.next == none and not body.next != none", true),
            ("nothing == none and nothing == body.next", true),
            ("count != none and not count == none", true),
            ("body.next is none", false),
            ("status >= 400 and not gone > 3", true),
            (
                "body.items[0]['code'] > 'T' and count * 2 > 5 and 1 < count <= 3",
                true,
            ),
            ("body.items | length > gone | default(0)", true),
            ("count == 'three' or [count] == 3", false),
            (
                "count is gt 2 and [1, 5] | select('gt', count) | list == [5]",
                true,
            ),
        ] {
            let found = Expr::parse(written).unwrap().holds(&names);
            assert_eq!(found.as_ref().ok(), Some(&expected), "{written}: {found:?}");
        }
    }

    /// All of these would be false, or worse, without a word.
    #[test]
    fn what_cannot_be_compared_is_told() {
        let names = context! {
            price => "2.50", word => "soon", flag => true, n => 2, list => vec![1], nothing => (),
            words => Value::from_pairs(["in", "if", "or"].map(|word| (word, 5))),
        };
        for (written, says) in [
            (
                "price > 2",
                "the text \"2.50\" and the number 2 have no order; write `| float`",
            ),
            (
                "n <= price",
                "the number 2 and the text \"2.50\" have no order",
            ),
            (
                "n < 3 and word < 3",
                "the text \"soon\" and the number 3 have no order",
            ),
            ("1 < n < price", "have no order"),
            ("flag > 0", "true and the number 0 have no order"),
            ("list > 0", "a list and the number 0 have no order"),
            (
                "price == 2.5",
                "the text \"2.50\" and the number 2.5 are the same number, spelled in two ways",
            ),
            (
                "2.5 != price",
                "the text \"2.50\" and the number 2.5 are the same number, spelled in two ways",
            ),
            ("price is gt 2", "have no order"),
            (
                "[price] | select('>', 2) | list | length > 0",
                "have no order",
            ),
            ("price * 2 > 3", "the text \"2.50\" cannot be multiplied"),
            ("n + nothing > 3", "`nothing` has no value"),
        ] {
            let expression = Expr::parse(written).unwrap().holds(&names);
            let problem = expression.expect_err(written);
            assert!(problem.message.contains(says), "{written}: {problem}");
            let range = problem.range.clone().expect("a place");
            assert!(written.get(range).is_some(), "{written}: {problem:?}");
            for template in [
                format!("{{{{ {written} }}}}"),
                format!("x{{% if {written} %}}y{{% endif %}}"),
            ] {
                let problem = Template::parse(&template)
                    .unwrap()
                    .value(&names)
                    .expect_err(&template);
                assert!(problem.message.contains(says), "{template}: {problem}");
                let place = &template[problem.range.clone().expect("a place")];
                assert!(written.contains(place.trim()), "{template}: {place}");
            }
        }
        // Fields that are now a number and now a text, and fields that are called like words.
        for holds in [
            "n == '2' or n == 2",
            "n | string == '2'",
            "n != '3'",
            "words.in == 5 and words.if < 6 and words.or != 6",
        ] {
            assert!(
                Expr::parse(holds).unwrap().holds(&names).unwrap(),
                "{holds}"
            );
        }
        let unheld = Expr::parse("words.in > 5 or words.if > words.in or n == '3'").unwrap();
        assert!(!unheld.holds(&names).unwrap());
        let template = Template::parse("{{ 'x' if n < gone }}").unwrap();
        let problem = template.value(&names).unwrap_err();
        assert!(problem.message.contains("has no value"), "{problem}");
        let template = Template::parse("{{ nothing < 3 or word != 3 and not nothing > 3 }}");
        assert_eq!(template.unwrap().text(&names).unwrap(), "true");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

        #[test]
        fn any_text_is_compiled_or_refused(
            written in "([a-z.|<> '\"\\\\ä3-]|\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}){0,12}",
        ) {
            if let Ok(template) = Template::parse(&written) {
                let _ = (template.names(), template.value(&sight()), template.target(&sight()));
            }
            if let Ok(expression) = Expr::parse(&written) {
                let _ = (expression.names(), expression.value(&sight()));
            }
        }

        #[test]
        fn a_guarded_comparison_of_numbers_means_the_same(a in -3..3, b in -3..3) {
            for sign in ["<", "<=", ">", ">="] {
                let names = context! { a, b };
                let expression = Expr::parse(&format!("not a {sign} b")).unwrap();
                let expected = match sign {
                    "<" => a >= b,
                    "<=" => a > b,
                    ">" => a <= b,
                    _ => a < b,
                };
                proptest::prop_assert_eq!(expression.holds(&names).unwrap(), expected);
            }
        }
    }
}
