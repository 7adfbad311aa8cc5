//! Which names each place of a pipeline file sees.

/// The names that a place may use (design 3.4).
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) place: &'static str,
    pub(super) names: Vec<String>,
}

/// Names that `for` must not take, because a place gives them a meaning.
pub(super) const RESERVED: [&str; 18] = [
    "vars", "env", "secret", "contact", "cursor", "run", "status", "headers", "body", "text",
    "count", "attempt", "last", "record", "index", "stream", "pipeline", "loop",
];

/// Functions of the template language.
pub(super) const FUNCTIONS: [&str; 6] = ["range", "dict", "namespace", "loop", "self", "debug"];

impl Scope {
    fn new(place: &'static str, names: &[&str]) -> Self {
        Self {
            place,
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }
    /// `source.url` and `source.contact`.
    pub(super) fn source() -> Self {
        Self::new("the source's address", &["vars", "env"])
    }
    /// `source.auth`, rendered once for all streams.
    pub(super) fn auth() -> Self {
        Self::new("`auth`", &["vars", "env", "secret", "contact", "run"])
    }
    /// Who hears how runs end.
    pub(super) fn alert() -> Self {
        Self::new("an alert", &["vars", "env", "secret", "contact", "run"])
    }
    /// How a token is sent.
    pub(super) fn token() -> Self {
        Self::auth().and(["token"])
    }
    /// Requests.
    pub(super) fn request() -> Self {
        Self::new(
            "a request",
            &["vars", "env", "secret", "contact", "run", "cursor"],
        )
    }
    /// Values of `for`: like requests, but never a secret.
    pub(super) fn partitions() -> Self {
        Self::new("`for`", &["vars", "env", "contact", "run"])
    }
    /// `where` of `for`: the record that a variable would be.
    pub(super) fn only(variable: &str) -> Self {
        let names = ["vars", "env", "contact", "run", "record"];
        Self::new("`where`", &names).and([variable])
    }
    /// `cost`: what is reckoned before a request, never from a secret.
    pub(super) fn cost() -> Self {
        Self::new("`cost`", &["vars", "contact", "run"])
    }
    /// `stop` and `responses`.
    pub(super) fn answer() -> Self {
        let names = [
            "vars", "env", "contact", "run", "cursor", "status", "headers", "body", "text",
            "count", "attempt", "last",
        ];
        Self::new("`responses` and `stop`", &names)
    }
    /// `signals` of a limit: what an answer says, whichever stream asked.
    pub(super) fn signals() -> Self {
        let names = [
            "vars", "env", "contact", "run", "status", "headers", "body", "text", "attempt",
        ];
        Self::new("`signals`", &names)
    }
    /// `transform`: the record, and what does not change while a run goes on.
    pub(super) fn transform() -> Self {
        let names = ["vars", "env", "contact", "run", "record", "index"];
        Self::new("`transform`", &names)
    }
    /// Columns.
    pub(super) fn column() -> Self {
        Self::new("a column", &["vars", "run", "index"])
    }
    /// Paths of sinks.
    pub(super) fn sink() -> Self {
        Self::new("a sink's path", &["stream", "pipeline", "run", "vars"])
    }
    /// The same with the variables of `for`.
    pub(super) fn and<'a>(mut self, variables: impl IntoIterator<Item = &'a str>) -> Self {
        self.names.extend(variables.into_iter().map(str::to_owned));
        self
    }
}
