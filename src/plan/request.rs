//! What is asked: the request template, and how it is rendered for one partition.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use minijinja::Value;
use minijinja::value::ValueKind;
use url::Url;
use url::form_urlencoded::Serializer;

use super::json::Json;
use super::language::{LanguageProblem, Template};
use super::path::Path;

pub use super::rendered::{Param, RenderProblem, Rendered, Turn};

/// Where in a request a value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A query parameter.
    Query(String),
    /// A place in the body: in JSON a path, in a form a name.
    Body(Path),
    /// A header.
    Header(HeaderName),
}

/// The request of a stream, with source-wide headers and query already merged in.
#[derive(Debug)]
pub struct RequestPlan {
    /// `get` or `post`.
    pub method: Method,
    /// Path appended to the base URL, or an absolute URL where it begins with a template.
    pub target: Template,
    /// Parameters in order; a value that renders empty is dropped, a list repeats the name.
    pub query: Vec<(String, TreeTemplate)>,
    /// Headers in order; one that renders empty is dropped.
    pub headers: Vec<(HeaderName, Template)>,
    /// What a `post` carries.
    pub body: BodyPlan,
    /// Whether a repeat would act or cost twice.
    pub once: Once,
}

/// Whether a repeat would act or cost twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Once {
    /// It would not: a read.
    #[default]
    No,
    /// It would: what may have been done is never sent again unasked.
    Strict,
    /// It would, but for the key in this header, by which the API knows a repeat and gives the
    /// answer again (draft-ietf-httpapi-idempotency-key-header).
    Keyed(HeaderName),
}

impl Once {
    /// Whether a request acts or costs.
    pub fn acts(&self) -> bool {
        *self != Self::No
    }

    /// Whether what may have been done must not be sent again.
    pub fn is_strict(&self) -> bool {
        *self == Self::Strict
    }
}

/// What a request carries.
#[derive(Debug)]
pub enum BodyPlan {
    /// Nothing.
    None,
    /// `application/json`.
    Json(TreeTemplate),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, TreeTemplate)>),
    /// `text/plain`, unless a header says otherwise.
    Text(Template),
    /// GraphQL over HTTP: JSON with `query` and `variables`
    /// (<https://graphql.github.io/graphql-over-http/draft/>, section 5).
    Graphql {
        /// The document, sent as written.
        query: String,
        /// Its variables, in order.
        variables: Vec<(String, TreeTemplate)>,
    },
}

/// A tree whose scalars may be templates.
#[derive(Debug)]
pub enum TreeTemplate {
    /// A scalar without a template: its JSON text (`null`, `true`, `1.10`, `"x"`) and its spelling.
    Literal {
        /// As JSON text; numbers keep their spelling.
        json: String,
        /// As sent in a URL.
        spelled: String,
    },
    /// A scalar with a template.
    Template(Template),
    /// A list.
    List(Vec<TreeTemplate>),
    /// An object, in order.
    Map(Vec<(String, TreeTemplate)>),
}

impl RequestPlan {
    /// Renders the request for one partition. `base` is the rendered source URL.
    pub fn render(&self, base: &Url, names: &Value) -> Result<Rendered, RenderProblem> {
        let url = self.url(base, names)?;
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let key = || format!("headers.{name}");
            let text = template.text(names).map_err(|problem| at(key(), problem))?;
            if !text.is_empty() {
                headers.append(name, header_value(name, &text)?);
            }
        }
        let (body, content_type) = self.body.render(names)?;
        if let Some(content_type) = content_type
            && !headers.contains_key(CONTENT_TYPE)
        {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Ok(Rendered {
            method: self.method.clone(),
            url,
            headers,
            body,
        })
    }

    fn url(&self, base: &Url, names: &Value) -> Result<Url, RenderProblem> {
        let key = if self.method == Method::POST {
            "post"
        } else {
            "get"
        };
        let text = self
            .target
            .target(names)
            .map_err(|problem| at(key, problem))?;
        // The URL parser would silently drop them (WHATWG URL section 4.4).
        if text.chars().any(char::is_control) {
            return Err(RenderProblem::new(key, "the URL holds a control character"));
        }
        // Streams have no written origin of their own; a login may.
        let is_absolute = self.target.begins_with_expression()
            || ["http://", "https://"]
                .iter()
                .any(|scheme| self.target.written().starts_with(scheme));
        let mut url = if is_absolute {
            absolute(&text).map_err(|problem| RenderProblem::new(key, problem))?
        } else {
            joined(base, &text)
        };
        url.set_fragment(None);
        let mut pairs = Vec::new();
        for (name, tree) in &self.query {
            tree.pairs(&format!("query.{name}"), name, names, &mut pairs)?;
        }
        if !pairs.is_empty() {
            let mut query = Serializer::new(url.query().unwrap_or_default().to_owned());
            query.extend_pairs(pairs);
            url.set_query(Some(&query.finish()));
        }
        Ok(url)
    }
}

/// The base URL with the target appended to its path.
fn joined(base: &Url, target: &str) -> Url {
    let mut url = base.clone();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !path.is_empty() {
        let stem = base.path();
        let stem = stem.strip_suffix('/').unwrap_or(stem);
        let slash = if path.starts_with('/') { "" } else { "/" };
        url.set_path(&format!("{stem}{slash}{path}"));
    }
    match (base.query(), query) {
        (_, None) => {}
        (Some(first), Some(second)) => url.set_query(Some(&format!("{first}&{second}"))),
        (None, Some(second)) => url.set_query(Some(second)),
    }
    url
}

fn absolute(text: &str) -> Result<Url, String> {
    // Without the query, which may hold what should not be shown.
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    let url = Url::parse(text).map_err(|problem| {
        format!(
            "a target that begins with a template is an absolute URL, and `{shown}` is not one \
             ({problem}); to append it to the source's URL, begin with `/`"
        )
    })?;
    super::rendered::check(&url)?;
    Ok(url)
}

pub(super) fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue, RenderProblem> {
    HeaderValue::from_str(text).map_err(|_| {
        RenderProblem::new(
            format!("headers.{name}"),
            "the value holds a character that a header cannot carry (a line break, or not ASCII)",
        )
    })
}

fn at(key: impl std::fmt::Display, problem: LanguageProblem) -> RenderProblem {
    RenderProblem {
        place: problem.place,
        ..RenderProblem::new(key, problem.message)
    }
}

impl BodyPlan {
    /// The body's bytes and their content type.
    fn render(
        &self,
        names: &Value,
    ) -> Result<(Option<Bytes>, Option<&'static str>), RenderProblem> {
        Ok(match self {
            Self::None => (None, None),
            Self::Json(tree) => {
                let json = tree
                    .json("body", names)?
                    .unwrap_or(Json::Text(String::new()));
                (Some(json.to_string().into()), Some("application/json"))
            }
            Self::Form(members) => {
                let mut pairs = Vec::new();
                for (name, tree) in members {
                    tree.pairs(&format!("body.{name}"), name, names, &mut pairs)?;
                }
                let form = Serializer::new(String::new()).extend_pairs(pairs).finish();
                (Some(form.into()), Some("application/x-www-form-urlencoded"))
            }
            Self::Text(template) => {
                let text = template
                    .text(names)
                    .map_err(|problem| at("body", problem))?;
                (Some(text.into()), Some("text/plain; charset=utf-8"))
            }
            Self::Graphql { query, variables } => {
                let variables = members("body.graphql.variables", variables, names)?;
                let json = Json::Map(vec![
                    ("query".to_owned(), Json::Text(query.clone())),
                    ("variables".to_owned(), Json::Map(variables)),
                ]);
                (Some(json.to_string().into()), Some("application/json"))
            }
        })
    }
}

/// The members of an object; a template that renders to empty text is dropped.
fn members(
    key: &str,
    members: &[(String, TreeTemplate)],
    names: &Value,
) -> Result<Vec<(String, Json)>, RenderProblem> {
    let mut found = Vec::with_capacity(members.len());
    for (name, member) in members {
        if let Some(json) = member.json(&format!("{key}.{name}"), names)? {
            found.push((name.clone(), json));
        }
    }
    Ok(found)
}

impl TreeTemplate {
    /// Its templates, in order.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Literal { .. } => Vec::new(),
            Self::Template(template) => vec![template],
            Self::List(items) => items.iter().flat_map(Self::templates).collect(),
            Self::Map(members) => members
                .iter()
                .flat_map(|(_, tree)| tree.templates())
                .collect(),
        }
    }

    /// Members of a form, `key` naming their place in the file.
    pub fn form(
        members: &[(String, Self)],
        key: &str,
        names: &Value,
    ) -> Result<Vec<(String, String)>, RenderProblem> {
        let mut pairs = Vec::new();
        for (name, tree) in members {
            tree.pairs(&format!("{key}.{name}"), name, names, &mut pairs)?;
        }
        Ok(pairs)
    }

    /// Members of a JSON object, each as text; what renders empty is left out.
    pub fn object(
        members: &[(String, Self)],
        key: &str,
        names: &Value,
    ) -> Result<Vec<(String, String)>, RenderProblem> {
        let mut found = Vec::new();
        for (name, tree) in members {
            if let Some(json) = tree.json(&format!("{key}.{name}"), names)? {
                found.push((name.clone(), json.to_string()));
            }
        }
        Ok(found)
    }

    /// As parameters of a URL or a form: what is empty is dropped, a list repeats the name.
    fn pairs(
        &self,
        key: &str,
        name: &str,
        names: &Value,
        pairs: &mut Vec<(String, String)>,
    ) -> Result<(), RenderProblem> {
        let mut push = |text: String| {
            if !text.is_empty() {
                pairs.push((name.to_owned(), text));
            }
        };
        match self {
            Self::Literal { json, .. } if json == "null" => {}
            Self::Literal { spelled, .. } => push(spelled.clone()),
            Self::Template(template) => {
                let value = template.value(names).map_err(|problem| at(key, problem))?;
                if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
                    let items = value
                        .try_iter()
                        .map_err(|problem| RenderProblem::new(key, problem))?;
                    for item in items {
                        push(scalar(key, &item)?);
                    }
                } else {
                    push(scalar(key, &value)?);
                }
            }
            Self::List(items) => {
                for item in items {
                    if matches!(item, Self::List(_)) {
                        return Err(RenderProblem::new(
                            key,
                            "a list in a list cannot be sent here",
                        ));
                    }
                    item.pairs(key, name, names, pairs)?;
                }
            }
            Self::Map(_) => return Err(RenderProblem::new(key, NO_OBJECT)),
        }
        Ok(())
    }

    /// As JSON; `None` for a template that renders to empty text.
    fn json(&self, key: &str, names: &Value) -> Result<Option<Json>, RenderProblem> {
        Ok(Some(match self {
            Self::Literal { json, .. } => {
                Json::parse(json).map_err(|problem| RenderProblem::new(key, problem))?
            }
            Self::Template(template) => {
                let value = template.value(names).map_err(|problem| at(key, problem))?;
                if value.as_str() == Some("") {
                    return Ok(None);
                }
                Json::from_value(&value).map_err(|problem| RenderProblem::new(key, problem))?
            }
            // An element is never dropped: that would move the ones behind it.
            Self::List(items) => Json::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let json = item.json(&format!("{key}.{index}"), names)?;
                        Ok(json.unwrap_or(Json::Text(String::new())))
                    })
                    .collect::<Result<_, RenderProblem>>()?,
            ),
            Self::Map(members) => Json::Map(self::members(key, members, names)?),
        }))
    }
}

const NO_OBJECT: &str =
    "an object cannot be sent here; name its members one by one, or pass it through `tojson`";

/// A parameter's text; null is empty.
fn scalar(key: &str, value: &Value) -> Result<String, RenderProblem> {
    match value.kind() {
        ValueKind::None => Ok(String::new()),
        ValueKind::Undefined => Err(RenderProblem::new(key, "the value is undefined")),
        ValueKind::Map => Err(RenderProblem::new(key, NO_OBJECT)),
        ValueKind::Seq | ValueKind::Iterable => Err(RenderProblem::new(
            key,
            "a list in a list cannot be sent here",
        )),
        // minijinja would say `True`.
        ValueKind::Bool => Ok(value.is_true().to_string()),
        _ => Ok(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn template(written: &str) -> TreeTemplate {
        TreeTemplate::Template(Template::parse(written).unwrap())
    }

    fn literal(json: &str) -> TreeTemplate {
        TreeTemplate::Literal {
            json: json.to_owned(),
            spelled: json.trim_matches('"').to_owned(),
        }
    }

    fn plan(target: &str) -> RequestPlan {
        RequestPlan {
            method: Method::GET,
            target: Template::parse(target).unwrap(),
            query: Vec::new(),
            headers: Vec::new(),
            body: BodyPlan::None,
            once: Once::No,
        }
    }

    fn names() -> Value {
        context! {
            repo => "a/b", empty => "", nothing => (), n => 7, price => "1.10",
            list => vec!["x", "", "y z"], object => context! { a => 1 },
            link => "https://other.example/p?q=1#top", evil => "https://u:p@other.example/",
            file => "file:///etc/passwd", broken => "a\r\nb", ids => vec![1, 2],
        }
    }

    fn url(base: &str, plan: &RequestPlan) -> Result<String, String> {
        plan.render(&Url::parse(base).unwrap(), &names())
            .map(|rendered| rendered.url.to_string())
            .map_err(|problem| problem.message)
    }

    #[test]
    fn the_target_is_appended_to_the_base() {
        for (base, target, expected) in [
            (
                "https://x.example",
                "/r/{{ repo }}",
                "https://x.example/r/a%2Fb",
            ),
            (
                "https://x.example/v1/",
                "/r/{{ repo | path }}/",
                "https://x.example/v1/r/a/b/",
            ),
            ("https://x.example/v1", "r", "https://x.example/v1/r"),
            ("https://x.example/v1/", "", "https://x.example/v1/"),
            (
                "https://x.example/a?k=v",
                "/r?fixed=a+b",
                "https://x.example/a/r?k=v&fixed=a+b",
            ),
            (
                "https://x.example",
                "//evil.example/x",
                "https://x.example//evil.example/x",
            ),
            (
                "https://x.example",
                "{{ link }}",
                "https://other.example/p?q=1",
            ),
        ] {
            assert_eq!(url(base, &plan(target)).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn targets_that_are_refused_name_the_key() {
        for (target, part) in [
            ("{{ repo }}", "absolute URL"),
            ("{{ file }}", "http"),
            ("{{ evil }}", "user name"),
            ("/{{ gone }}", "`gone`"),
            ("/{{ nothing }}", "null"),
            ("/a\tb", "control character"),
        ] {
            let problem = url("https://x.example", &plan(target)).unwrap_err();
            assert!(
                problem.starts_with("get: ") && problem.contains(part),
                "{target}: {problem}"
            );
            assert!(!problem.contains("u:p"), "{problem}");
        }
    }

    #[test]
    fn parameters_drop_repeat_and_keep_their_spelling() {
        let mut request = plan("/r?first=1");
        request.query = vec![
            ("a".to_owned(), literal("1.10")),
            ("dropped".to_owned(), template("{{ empty }}")),
            ("null".to_owned(), template("{{ nothing }}")),
            ("null".to_owned(), literal("null")),
            ("list".to_owned(), template("{{ list }}")),
            (
                "both".to_owned(),
                TreeTemplate::List(vec![literal("true"), template("{{ n }}")]),
            ),
            ("text".to_owned(), template("{{ n }}&{{ repo }}")),
        ];
        assert_eq!(
            url("https://x.example", &request).unwrap(),
            "https://x.example/r?first=1&a=1.10&list=x&list=y+z&both=true&both=7&text=7%26a%2Fb"
        );
        request.query = vec![("o".to_owned(), template("{{ object }}"))];
        assert!(
            url("https://x.example", &request)
                .unwrap_err()
                .starts_with("query.o: an object")
        );
        request.query = vec![("since".to_owned(), template("{{ gone }}"))];
        assert_eq!(
            url("https://x.example", &request).unwrap_err(),
            "query.since: `gone` has no value"
        );
    }

    #[test]
    fn bodies_keep_types_and_drop_empty_members() {
        let mut request = plan("/r");
        request.method = Method::POST;
        request.body = BodyPlan::Json(TreeTemplate::Map(vec![
            ("price".to_owned(), literal("1.10")),
            ("n".to_owned(), template("{{ n }}")),
            ("ids".to_owned(), template("{{ ids }}")),
            ("gone".to_owned(), template("{{ empty }}")),
            ("kept".to_owned(), literal("\"\"")),
            (
                "deep".to_owned(),
                TreeTemplate::Map(vec![
                    ("nothing".to_owned(), template("{{ nothing }}")),
                    ("gone".to_owned(), template("{{ empty }}")),
                ]),
            ),
        ]));
        let base = Url::parse("https://x.example").unwrap();
        let rendered = request.render(&base, &names()).unwrap();
        assert_eq!(
            rendered.body.unwrap(),
            r#"{"price":1.10,"n":7,"ids":[1,2],"kept":"","deep":{"nothing":null}}"#
        );
        assert_eq!(rendered.headers[CONTENT_TYPE], "application/json");

        request.body = BodyPlan::Form(vec![
            ("a".to_owned(), template("{{ repo }}")),
            ("b".to_owned(), template("{{ empty }}")),
        ]);
        request.headers = vec![(
            CONTENT_TYPE,
            Template::parse("application/x-www-form-urlencoded;v={{ n }}").unwrap(),
        )];
        let rendered = request.render(&base, &names()).unwrap();
        assert_eq!(rendered.body.unwrap(), "a=a%2Fb");
        assert_eq!(
            rendered.headers[CONTENT_TYPE],
            "application/x-www-form-urlencoded;v=7"
        );
    }

    #[test]
    fn a_bad_header_is_named_without_its_value() {
        let mut request = plan("/r");
        let name = HeaderName::from_static("x-a");
        request.headers = vec![
            (
                HeaderName::from_static("x-b"),
                Template::parse("{{ empty }}").unwrap(),
            ),
            (name, Template::parse("secret {{ broken }}").unwrap()),
        ];
        let problem = url("https://x.example", &request).unwrap_err();
        assert!(
            problem.starts_with("headers.x-a: ") && !problem.contains("secret"),
            "{problem}"
        );
        request.headers.pop();
        let rendered = request
            .render(&Url::parse("https://x.example").unwrap(), &names())
            .unwrap();
        assert!(rendered.headers.is_empty());
    }
}
