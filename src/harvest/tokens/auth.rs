//! `source.auth`, rendered: a credential that lasts, or what a token is had with.

use std::fmt::Write as _;
use std::path::Path;

use url::Url;

use super::{How, Login, Statement, Tokens};
use crate::disk::Disk;
use crate::failure::{Exit, Failure};
use crate::fetch::credentials::{CredentialProblem, Credentials};
use crate::fetch::grant::Grant;
use crate::fetch::jwt::{KeyProblem, ServiceAccount, SigningKey};
use crate::fetch::transport::{Reach, Request};
use crate::harvest::names::Names;
use crate::harvest::run::unrendered;
use crate::harvest::secrets::Secrets;
use crate::harvest::secrets::private;
use crate::plan::auth::{
    AuthPlan, GrantPlan, JwtPlan, KeyFrom, LoginAuth, LoginPlan, TokenPlan, TokenSource,
};
use crate::plan::language::Template;
use crate::plan::loopback::is_loopback;
use crate::plan::request::TreeTemplate;
use crate::store::tokens::TokenFile;

/// The ground that credentials stand on.
pub(in crate::harvest) struct Setting<'a> {
    pub(in crate::harvest) names: &'a Names,
    /// The source's URL, rendered.
    pub(in crate::harvest) base: &'a Url,
    pub(in crate::harvest) root: &'a Path,
    pub(in crate::harvest) disk: &'a Disk,
    /// The user's state folder.
    pub(in crate::harvest) state: Option<&'a Path>,
    pub(in crate::harvest) secrets: &'a Secrets,
    /// Nothing is sent, so nothing must be had.
    pub(in crate::harvest) offline: bool,
}

/// The credential of a run, and what makes it, where it does not last: then the credential only
/// shows where it goes and whose it is.
pub(in crate::harvest) fn open(
    plan: &AuthPlan,
    setting: &Setting<'_>,
) -> Result<(Credentials, Option<Tokens>), Box<Failure>> {
    let AuthPlan::Token(token) = plan else {
        return Ok((credentials(plan, setting.names, None)?, None));
    };
    let Some((how, identity)) = setting.how(token)? else {
        return Ok((Credentials::none(), None));
    };
    let shape = credentials(&token.carry, setting.names, Some("token"))?;
    let tokens = how.map(Tokens::new);
    Ok((shape.known_as(identity), tokens))
}

/// A credential as its templates say; `token` is what they see by that name.
pub(in crate::harvest) fn credentials(
    plan: &AuthPlan,
    names: &Names,
    token: Option<&str>,
) -> Result<Credentials, Box<Failure>> {
    let token = token.map(|token| ("token".to_owned(), minijinja::Value::from(token)));
    let names = names.request(token.as_slice());
    let text = |template: &Template| {
        template
            .text(&names)
            .map_err(|e| unrendered("source.auth", &e))
    };
    match plan {
        AuthPlan::None | AuthPlan::Token(_) => Ok(Credentials::none()),
        AuthPlan::Bearer(token) => Credentials::bearer(&text(token)?).map_err(wrong),
        AuthPlan::Basic { user, password } => {
            Credentials::basic(&text(user)?, &text(password)?).map_err(wrong)
        }
        AuthPlan::Header(headers) => headers
            .iter()
            .try_fold(Credentials::none(), |all, (name, value)| {
                all.header(name.clone(), &text(value)?).map_err(wrong)
            }),
        AuthPlan::Query(pairs) => pairs
            .iter()
            .try_fold(Credentials::none(), |all, (name, value)| {
                all.query(name, &text(value)?).map_err(wrong)
            }),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn wrong(problem: CredentialProblem) -> Box<Failure> {
    usage(format!("`source.auth`: {problem}"), None)
}

fn usage(message: String, hint: Option<&str>) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Usage,
        message,
        causes: Vec::new(),
        hint: hint.map(str::to_owned),
    })
}

/// What tokens are had with, and who asks; nothing where the credential renders empty. Offline there
/// is only the second.
type Found = Option<(Option<How>, String)>;

impl Setting<'_> {
    fn how(&self, plan: &TokenPlan) -> Result<Found, Box<Failure>> {
        Ok(match &plan.from {
            TokenSource::ClientCredentials(grant) => {
                let id = self.client(grant)?;
                let how = How::Client(self.grant(grant)?);
                (!id.is_empty()).then(|| self.found(how, &["oauth2", &self.at(grant), &id]))
            }
            TokenSource::RefreshToken { grant, token } => {
                let (id, first) = (self.client(grant)?, self.text(token)?);
                let url = self.at(grant);
                let folder = match self.state {
                    Some(state) => state.join("tokens"),
                    None => self.root.join(".gleaner").join("tokens"),
                };
                let source = self.base.origin().ascii_serialization();
                let known_by = [source.as_str(), url.as_str(), id.as_str(), first.as_str()];
                let how = How::Refresh {
                    grant: self.grant(grant)?,
                    first: first.clone(),
                    file: TokenFile::new(self.disk, &folder, &known_by),
                };
                (!first.is_empty()).then(|| self.found(how, &["oauth2", &url, &id, &first]))
            }
            TokenSource::Assertion { jwt, grant } => {
                let url = self.at(grant);
                let Some((statement, who)) = self.statement(jwt, Some(&url))? else {
                    return Ok(None);
                };
                let grant = self.grant(grant)?;
                let how = statement.map(|statement| How::Assertion { statement, grant });
                Some((how, identity(&["jwt", &url, &who])))
            }
            TokenSource::Signed(jwt) => {
                let Some((statement, who)) = self.statement(jwt, None)? else {
                    return Ok(None);
                };
                Some((statement.map(How::Signed), identity(&["jwt", &who])))
            }
            TokenSource::Login(login) => {
                let (login, who) = self.login(login)?;
                Some((login.map(How::Login), identity(&["login", &who])))
            }
        })
    }

    fn found(&self, how: How, who: &[&str]) -> (Option<How>, String) {
        ((!self.offline).then_some(how), identity(who))
    }

    fn text(&self, template: &Template) -> Result<String, Box<Failure>> {
        let names = self.names.request(&[]);
        let text = template.text(&names);
        text.map_err(|e| unrendered("source.auth", &e))
    }

    fn optional(&self, template: Option<&Template>) -> Result<Option<String>, Box<Failure>> {
        let text = template.map(|one| self.text(one)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn client(&self, plan: &GrantPlan) -> Result<String, Box<Failure>> {
        match &plan.client {
            Some((id, _)) => self.text(id),
            None => Ok(String::new()),
        }
    }

    /// The endpoint's address, for what is known by it; what is wrong with it is told elsewhere.
    fn at(&self, plan: &GrantPlan) -> String {
        self.text(&plan.url).unwrap_or_default()
    }

    fn grant(&self, plan: &GrantPlan) -> Result<Grant, Box<Failure>> {
        let url = self.endpoint(&self.text(&plan.url)?)?;
        let client = match &plan.client {
            None => None,
            Some((id, secret)) => Some((self.text(id)?, self.optional(secret.as_ref())?)),
        };
        let shown = client
            .as_ref()
            .map(|(id, secret)| (&**id, secret.as_deref()));
        let mut grant = Grant::new(url, shown, plan.place).map_err(wrong)?;
        for (name, value) in [("scope", &plan.scope), ("audience", &plan.audience)] {
            let value = self.optional(value.as_ref())?;
            grant
                .form
                .extend(value.map(|value| (name.to_owned(), value)));
        }
        let names = self.names.request(&[]);
        let more = TreeTemplate::form(&plan.form, "source.auth.form", &names);
        grant
            .form
            .extend(more.map_err(|e| usage(e.to_string(), None))?);
        if let Some(shown) = grant.shown_client() {
            self.secrets.learn("client secret", &shown);
        }
        Ok(grant)
    }

    /// An address that secrets go to: https, or this machine, or where the API itself is asked without.
    fn endpoint(&self, text: &str) -> Result<Url, Box<Failure>> {
        let refused = |why: String| {
            let hint = "it must read like https://login.example.com/oauth/token";
            usage(
                format!("the address that `source.auth` sends to {why}"),
                Some(hint),
            )
        };
        let url = Url::parse(text).map_err(|e| refused(format!("is no URL: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("holds a user name or password".to_owned()));
        }
        let is_safe = match (url.scheme(), url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(host)) => is_loopback(&host) || url.origin() == self.base.origin(),
            _ => return Err(refused("is not an http or https URL".to_owned())),
        };
        if is_safe {
            Ok(url)
        } else {
            let why = "is plain http: the secrets could be read on their way".to_owned();
            Err(refused(why))
        }
    }

    /// A statement to sign, and who says it; nothing where there is no key.
    fn statement(
        &self,
        plan: &JwtPlan,
        url: Option<&str>,
    ) -> Result<Option<(Option<Statement>, String)>, Box<Failure>> {
        let key = match &plan.key {
            KeyFrom::Text(text) => self.text(text)?,
            KeyFrom::File(_) if self.offline => "unread".to_owned(),
            KeyFrom::File(path) => {
                private::read(&self.root.join(self.text(path)?), "the key file")?
            }
        };
        if key.is_empty() {
            return Ok(None);
        }
        let unfit = |problem: KeyProblem| {
            let place = match &plan.key {
                KeyFrom::Text(_) => "key",
                KeyFrom::File(_) => "key_file",
            };
            let hint = "a private key is PEM text, or a service account's whole JSON file";
            usage(format!("`source.auth.jwt.{place}`: {problem}"), Some(hint))
        };
        let account = match ServiceAccount::read(&key) {
            Some(account) if !self.offline => Some(account.map_err(unfit)?),
            _ => None,
        };
        let (mut iss, mut kid) = (
            self.optional(plan.iss.as_ref())?,
            self.optional(plan.kid.as_ref())?,
        );
        if let Some(account) = &account {
            iss = iss.or_else(|| account.client_email.clone());
            kid = kid.or_else(|| account.private_key_id.clone());
        }
        let sub = self.optional(plan.sub.as_ref())?;
        let aud = self
            .optional(plan.aud.as_ref())?
            .or_else(|| url.map(str::to_owned));
        let scope = self.optional(plan.scope.as_ref())?;
        let mut claims: Vec<(String, String)> = [
            ("iss", &iss),
            ("sub", &sub),
            ("aud", &aud),
            ("scope", &scope),
        ]
        .into_iter()
        .filter_map(|(name, value)| {
            let value = serde_json::Value::from(value.as_deref()?);
            Some((name.to_owned(), value.to_string()))
        })
        .collect();
        let names = self.names.request(&[]);
        let more = TreeTemplate::object(&plan.claims, "source.auth.jwt.claims", &names);
        claims.extend(more.map_err(|e| usage(e.to_string(), None))?);
        // A key that is changed for another is still the same asker, where it has a name.
        let who = match (&iss, &sub) {
            (None, None) => key.clone(),
            _ => format!("{iss:?} {sub:?}"),
        };
        if self.offline {
            return Ok(Some((None, who)));
        }
        let text = account
            .as_ref()
            .map_or(key.as_str(), |one| one.private_key.as_str());
        let statement = Statement {
            key: SigningKey::read(plan.alg, text).map_err(unfit)?,
            kid,
            claims,
            lifetime: plan.lifetime,
            is_exchanged: url.is_some(),
        };
        Ok(Some((Some(statement), who)))
    }

    fn login(&self, plan: &LoginPlan) -> Result<(Option<Login>, String), Box<Failure>> {
        let names = self.names.request(&[]);
        let rendered = plan.request.render(self.base, &names);
        let rendered = rendered.map_err(|e| usage(format!("`source.auth.login`: {e}"), None))?;
        let mut request = Request {
            method: rendered.method,
            url: self.endpoint(rendered.url.as_str())?,
            headers: rendered.headers,
            body: rendered.body,
            reach: Reach::Anywhere,
            private: true,
            fresh: true,
        };
        let (statement, signer) = match &plan.auth {
            LoginAuth::Plain(auth) => {
                credentials(auth, self.names, None)?.attach(&mut request);
                (None, String::new())
            }
            LoginAuth::Signed(jwt) => match self.statement(jwt, None)? {
                Some((statement, who)) => (statement, who),
                None => (None, String::new()),
            },
        };
        let mut who = format!("{} {} {signer}\0", request.method, request.url);
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            // A text takes whatever is written to it.
            let _ = write!(who, "{name}: {value}\0");
        }
        who.push_str(&String::from_utf8_lossy(
            request.body.as_deref().unwrap_or_default(),
        ));
        let login = Login { request, statement };
        Ok(((!self.offline).then_some(login), who))
    }
}

fn identity(parts: &[&str]) -> String {
    parts.join("\0")
}
