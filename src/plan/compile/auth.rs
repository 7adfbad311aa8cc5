//! `source.auth`: credentials that last, and how one is had that does not.

use std::time::Duration;

use http::Method;
use url::Url;

use super::names::Judge;
use super::request::body;
use super::scope::Scope;
use super::source::headers;
use super::values;
use crate::plan::auth::{
    Alg, AuthPlan, ClientPlace, Expiry, GrantPlan, JwtPlan, KeyFrom, LoginAuth, LoginPlan,
    TokenPlan, TokenSource,
};
use crate::plan::duration;
use crate::plan::language::Template;
use crate::plan::loopback::is_loopback;
use crate::plan::paging::TokenFrom;
use crate::plan::request::{BodyPlan, Once, RequestPlan, TreeTemplate};
use crate::spec::at::At;
use crate::spec::auth::{
    AuthSpec, BasicSpec, CarryPlaceSpec, CarrySpec, ClientPlaceSpec, JwtSpec, LoginAuthSpec,
    LoginSpec, OauthSpec,
};
use crate::spec::choice::{ScalarOr, Table};
use crate::spec::near;
use crate::spec::source::SourceSpec;
use crate::spec::stream::{ResponseSpec, ThenWord};
use crate::spec::tree::Tree;

/// How long a statement holds where the file does not say: as long as GitHub takes at most.
const LIFETIME: Duration = Duration::from_mins(10);

/// The credential, or nothing where a mistake was noted.
pub(super) fn auth(judge: &mut Judge<'_>, spec: &At<AuthSpec>) -> Option<AuthPlan> {
    let scope = Scope::auth();
    Some(match &spec.value {
        AuthSpec::None => AuthPlan::None,
        AuthSpec::Bearer(token) => AuthPlan::Bearer(judge.template(token, &scope)?),
        AuthSpec::Basic(basic) => self::basic(judge, basic, &scope)?,
        AuthSpec::Header(table) => AuthPlan::Header(headers(judge, &table.0, &scope)?),
        AuthSpec::Query(table) => query(judge, table, &scope)?,
        AuthSpec::Oauth2(at) => AuthPlan::Token(Box::new(oauth(judge, at)?)),
        AuthSpec::Jwt(at) => AuthPlan::Token(Box::new(jwt(judge, at)?)),
        AuthSpec::Login(at) => AuthPlan::Token(Box::new(login(judge, at)?)),
    })
}

fn basic(judge: &mut Judge<'_>, spec: &BasicSpec, scope: &Scope) -> Option<AuthPlan> {
    let user = judge.template(&spec.user, scope);
    let empty = spec.user.with(String::new());
    let password = judge.template(spec.password.as_ref().unwrap_or(&empty), scope);
    Some(AuthPlan::Basic {
        user: user?,
        password: password?,
    })
}

fn query(judge: &mut Judge<'_>, table: &Table<At<String>>, scope: &Scope) -> Option<AuthPlan> {
    let all: Vec<_> = table
        .0
        .iter()
        .map(|(name, value)| Some((name.value.clone(), judge.template(value, scope)?)))
        .collect();
    Some(AuthPlan::Query(all.into_iter().collect::<Option<_>>()?))
}

/// `refresh_auth` where there is nothing to refresh.
pub(super) fn renewable(judge: &mut Judge<'_>, source: &SourceSpec, rules: &[&ResponseSpec]) {
    if let Some(AuthSpec::Oauth2(_) | AuthSpec::Jwt(_) | AuthSpec::Login(_)) =
        source.auth.as_deref()
    {
        return;
    }
    for rule in rules {
        if let ScalarOr::Short(ThenWord::RefreshAuth) = rule.then.value {
            let message = "there is no token to refresh: the credential of this source lasts";
            let hint = "`auth` with `oauth2`, `jwt` or `login` has tokens; else write `fail`";
            judge.wrong("nothing-to-refresh", &rule.then.span, message, hint);
        }
    }
}

/// How a token is sent.
fn carry(
    judge: &mut Judge<'_>,
    spec: Option<&CarrySpec>,
    whole: &std::ops::Range<usize>,
) -> Option<AuthPlan> {
    let scope = Scope::token();
    let (plan, texts): (_, Vec<&At<String>>) = match spec.map(|at| &at.value) {
        None | Some(ScalarOr::Short(_)) => {
            let at = At {
                value: "{{ token }}".to_owned(),
                span: whole.clone(),
            };
            return judge.template(&at, &scope).map(AuthPlan::Bearer);
        }
        Some(ScalarOr::Long(place)) => match place {
            CarryPlaceSpec::Bearer(at) => {
                (judge.template(at, &scope).map(AuthPlan::Bearer), vec![at])
            }
            CarryPlaceSpec::Basic(both) => (
                basic(judge, both, &scope),
                std::iter::once(&both.user).chain(&both.password).collect(),
            ),
            CarryPlaceSpec::Header(table) => (
                headers(judge, &table.0, &scope).map(AuthPlan::Header),
                table.0.iter().map(|(_, at)| at).collect(),
            ),
            CarryPlaceSpec::Query(table) => (
                query(judge, table, &scope),
                table.0.iter().map(|(_, at)| at).collect(),
            ),
        },
    };
    let uses = |at: &&At<String>| {
        let template = Template::parse(&at.value);
        template.is_ok_and(|one| one.names().iter().any(|n| n.path == ["token"]))
    };
    if let (Some(at), Some(_), false) = (spec, &plan, texts.iter().any(uses)) {
        let hint = "write `\"{{ token }}\"` where its text goes";
        judge.wrong("no-token", &at.span, "`as` does not send the token", hint);
        return None;
    }
    plan
}

fn oauth(judge: &mut Judge<'_>, at: &At<OauthSpec>) -> Option<TokenPlan> {
    let scope = Scope::auth();
    let optional = |judge: &mut Judge<'_>, at: Option<&At<String>>| match at {
        None => Some(None),
        Some(at) => judge.template(at, &scope).map(Some),
    };
    match &at.value {
        OauthSpec::ClientCredentials(spec) => {
            let url = endpoint(judge, &spec.url);
            let id = judge.template(&spec.id, &scope);
            let secret = judge.template(&spec.secret, &scope);
            let wanted = optional(judge, spec.scope.as_ref());
            let audience = optional(judge, spec.audience.as_ref());
            let form = form(judge, spec.form.as_ref());
            let carry = carry(judge, spec.carry.as_ref(), &at.span);
            Some(TokenPlan {
                from: TokenSource::ClientCredentials(GrantPlan {
                    url: url?,
                    client: Some((id?, Some(secret?))),
                    place: place(spec.place.as_ref(), ClientPlace::Basic),
                    scope: wanted?,
                    audience: audience?,
                    form: form?,
                }),
                carry: carry?,
                carry_said: spec.carry.is_some(),
            })
        }
        OauthSpec::RefreshToken(spec) => {
            let url = endpoint(judge, &spec.url);
            let id = judge.template(&spec.id, &scope);
            let secret = optional(judge, spec.secret.as_ref());
            let token = judge.template(&spec.token, &scope);
            let wanted = optional(judge, spec.scope.as_ref());
            let form = form(judge, spec.form.as_ref());
            let carry = carry(judge, spec.carry.as_ref(), &at.span);
            // A public client has nothing to show but its name (RFC 6749, section 3.2.1).
            let usual = match &spec.secret {
                Some(_) => ClientPlace::Basic,
                None => ClientPlace::Body,
            };
            Some(TokenPlan {
                from: TokenSource::RefreshToken {
                    grant: GrantPlan {
                        url: url?,
                        client: Some((id?, secret?)),
                        place: place(spec.place.as_ref(), usual),
                        scope: wanted?,
                        audience: None,
                        form: form?,
                    },
                    token: token?,
                },
                carry: carry?,
                carry_said: spec.carry.is_some(),
            })
        }
    }
}

fn place(written: Option<&At<ClientPlaceSpec>>, usual: ClientPlace) -> ClientPlace {
    match written.map(|at| at.value) {
        None => usual,
        Some(ClientPlaceSpec::Basic) => ClientPlace::Basic,
        Some(ClientPlaceSpec::Body) => ClientPlace::Body,
    }
}

fn form(judge: &mut Judge<'_>, table: Option<&Table<Tree>>) -> Option<Vec<(String, TreeTemplate)>> {
    values::map(
        judge,
        table.map_or(&[][..], |table| &table.0),
        &Scope::auth(),
    )
}

fn jwt(judge: &mut Judge<'_>, at: &At<JwtSpec>) -> Option<TokenPlan> {
    let spec = &at.value;
    let statement = statement(judge, at);
    let carry = carry(judge, spec.carry.as_ref(), &at.span);
    let members = form(judge, spec.form.as_ref());
    let from = match &spec.url {
        None => {
            if spec.form.is_some() {
                let hint = "add `url:`, the token endpoint, or remove `form`";
                let message = "`form` is sent to a token endpoint, and there is none";
                judge.wrong("no-endpoint", &at.span, message, hint);
                return None;
            }
            TokenSource::Signed(statement?)
        }
        Some(url) => {
            let url = endpoint(judge, url);
            let scope = spec.scope.as_ref();
            let scope = scope.and_then(|scope| judge.template(scope, &Scope::auth()));
            TokenSource::Assertion {
                jwt: statement?,
                grant: GrantPlan {
                    url: url?,
                    client: None,
                    place: ClientPlace::Body,
                    scope,
                    audience: None,
                    form: members?,
                },
            }
        }
    };
    Some(TokenPlan {
        from,
        carry: carry?,
        carry_said: spec.carry.is_some(),
    })
}

fn statement(judge: &mut Judge<'_>, at: &At<JwtSpec>) -> Option<JwtPlan> {
    let spec = &at.value;
    let scope = Scope::auth();
    let key = match (&spec.key, &spec.key_file) {
        (Some(key), None) => judge.template(key, &scope).map(KeyFrom::Text),
        (None, Some(file)) => judge.template(file, &Scope::source()).map(KeyFrom::File),
        (Some(_), Some(file)) => {
            let message = "there are both `key` and `key_file`";
            judge.wrong("two-keys", &file.span, message, "keep one of them");
            None
        }
        (None, None) => {
            let hint = "add `key: \"{{ secret.NAME }}\"`, or `key_file:` with the file's path";
            judge.wrong("no-key", &at.span, "there is no key to sign with", hint);
            None
        }
    };
    let alg = match &spec.alg {
        None => Some(Alg::Rs256),
        Some(at) => {
            let alg = Alg::named(&at.value);
            if alg.is_none() {
                let known = Alg::ALL.map(Alg::name);
                let hint = near::hint(&at.value, known, "algorithms");
                let message = format!("`{}` is no algorithm that is known", at.value);
                judge.wrong("bad-alg", &at.span, message, &hint);
            }
            alg
        }
    };
    let mut optional = |at: Option<&At<String>>| match at {
        None => Some(None),
        Some(at) => judge.template(at, &scope).map(Some),
    };
    let kid = optional(spec.kid.as_ref());
    let iss = optional(spec.iss.as_ref());
    let sub = optional(spec.sub.as_ref());
    let aud = optional(spec.aud.as_ref());
    let wanted = optional(spec.scope.as_ref());
    let claims = spec.claims.as_ref().map_or(&[][..], |table| &table.0);
    for (name, _) in claims {
        if ["iss", "sub", "aud", "scope", "iat", "exp"].contains(&name.as_str()) {
            let hint = "`iss`, `sub`, `aud`, `scope` and `lifetime` stand beside `claims`";
            let message = format!("`{}` is no claim of one's own", name.value);
            judge.wrong("bad-claim", &name.span, message, hint);
        }
    }
    let claims = values::map(judge, claims, &scope);
    let lifetime = judge.duration(spec.lifetime.as_ref(), LIFETIME);
    if let (Some(at), true) = (&spec.lifetime, lifetime < Duration::from_secs(1)) {
        let message = "a statement must hold for a second at least";
        judge.wrong("bad-duration", &at.span, message, "");
    }
    Some(JwtPlan {
        key: key?,
        alg: alg?,
        kid: kid?,
        iss: iss?,
        sub: sub?,
        aud: aud?,
        scope: wanted?,
        lifetime,
        claims: claims?,
    })
}

fn login(judge: &mut Judge<'_>, at: &At<LoginSpec>) -> Option<TokenPlan> {
    let spec = &at.value;
    let scope = Scope::auth();
    let asked = match (&spec.get, &spec.post) {
        (Some(get), None) => Some((Method::GET, get)),
        (None, Some(post)) => Some((Method::POST, post)),
        (Some(get), Some(_)) => {
            let message = "`login` has both `get` and `post`";
            judge.wrong("get-and-post", &get.span, message, "keep one of them");
            None
        }
        (None, None) => {
            let hint = "add `post: /path`";
            judge.wrong("no-request", &at.span, "`login` asks for nothing", hint);
            None
        }
    };
    let target = match &asked {
        Some((_, target)) => self::target(judge, target, &scope),
        None => None,
    };
    let parameters = spec.query.as_ref().map_or(&[][..], |table| &table.0);
    let query = values::map(judge, parameters, &scope);
    let own = spec.headers.as_ref().map_or(&[][..], |table| &table.0);
    let headers = headers(judge, own, &scope);
    let carried = match &spec.body {
        None => Some(BodyPlan::None),
        Some(carried) => {
            if matches!(&asked, Some((Method::GET, _))) {
                let hint = "ask with `post:`, or send the values as `query:`";
                judge.wrong(
                    "body-with-get",
                    &carried.span,
                    "a `get` carries no body",
                    hint,
                );
            }
            body(judge, &carried.value, &scope)
        }
    };
    let auth = match spec.auth.as_ref().map(|at| (at, &at.value)) {
        None => Some(LoginAuth::Plain(AuthPlan::None)),
        Some((_, LoginAuthSpec::Bearer(token))) => {
            let token = judge.template(token, &scope);
            token.map(|token| LoginAuth::Plain(AuthPlan::Bearer(token)))
        }
        Some((_, LoginAuthSpec::Basic(both))) => basic(judge, both, &scope).map(LoginAuth::Plain),
        Some((_, LoginAuthSpec::Header(table))) => {
            let all = self::headers(judge, &table.0, &scope);
            all.map(|all| LoginAuth::Plain(AuthPlan::Header(all)))
        }
        Some((_, LoginAuthSpec::Query(table))) => {
            self::query(judge, table, &scope).map(LoginAuth::Plain)
        }
        Some((at, LoginAuthSpec::Jwt(jwt))) => {
            let exchanged = [jwt.url.is_some(), jwt.form.is_some(), jwt.carry.is_some()];
            if exchanged.contains(&true) {
                let message = "the statement of a login is sent itself, as a bearer";
                let hint = "remove `url`, `form` and `as` from it";
                judge.wrong("bad-login", &at.span, message, hint);
            }
            statement(judge, jwt).map(|jwt| LoginAuth::Signed(Box::new(jwt)))
        }
    };
    let token = token_from(judge, &spec.token);
    let expires = match &spec.expires {
        None => Some(Expiry::Untold),
        Some(at) => match duration::parse(&at.value) {
            Ok(time) => Some(Expiry::After(time)),
            // `30 mins` is a slip, and `data.30` is a path.
            Err(why) if at.starts_with(|c: char| c.is_ascii_digit()) => {
                judge.wrong("bad-duration", &at.span, why, "");
                None
            }
            Err(_) => token_from(judge, at).map(Expiry::Told),
        },
    };
    let carry = carry(judge, spec.carry.as_ref(), &at.span);
    Some(TokenPlan {
        from: TokenSource::Login(LoginPlan {
            request: RequestPlan {
                method: asked?.0,
                target: target?,
                query: query?,
                headers: headers?,
                body: carried?,
                once: Once::No,
            },
            auth: auth?,
            token: token?,
            expires: expires?,
        }),
        carry: carry?,
        carry_said: spec.carry.is_some(),
    })
}

fn token_from(judge: &mut Judge<'_>, at: &At<String>) -> Option<TokenFrom> {
    match at.strip_prefix("headers.") {
        Some(name) => judge
            .header(&at.with(name.to_owned()))
            .map(TokenFrom::Header),
        None => judge.path(at).map(TokenFrom::Body),
    }
}

/// A login's path, or its absolute URL.
fn target(judge: &mut Judge<'_>, at: &At<String>, scope: &Scope) -> Option<Template> {
    if at.contains("://") {
        return endpoint(judge, at);
    }
    let template = judge.template(at, scope)?;
    if at.starts_with('/') || template.begins_with_expression() {
        return Some(template);
    }
    let message = "the path must begin with `/` or with a template";
    let hint = "write `/path`; it is appended to `source.url`";
    judge.wrong("bad-path", &at.span, message, hint);
    None
}

/// The address of a token endpoint. Secrets are sent there, so nothing but the file names it, and it is
/// https unless it is this machine (RFC 6749, section 3.2).
fn endpoint(judge: &mut Judge<'_>, at: &At<String>) -> Option<Template> {
    let template = judge.template(at, &Scope::source())?;
    if !template.is_literal() {
        return Some(template);
    }
    let hint = "write the token endpoint's address, as in `https://login.example.com/oauth/token`";
    let message = match Url::parse(&at.value) {
        Err(error) => format!("this is not a URL: {error}"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "the URL holds a user name or password".to_owned()
        }
        Ok(url) => match (url.scheme(), url.host()) {
            ("https", Some(_)) => return Some(template),
            ("http", Some(host)) if is_loopback(&host) => return Some(template),
            ("http", Some(_)) => {
                "over plain http the secrets that are sent there could be read by others".to_owned()
            }
            (scheme, _) => format!("gleaner asks over http and https, not `{scheme}:`"),
        },
    };
    judge.wrong("bad-url", &at.span, message, hint);
    None
}
