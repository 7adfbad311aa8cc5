//! `source.tls` and `source.proxy`, rendered: what the door to the network is built with.

use std::path::Path;

use url::Url;

use super::names::Names;
use super::run::unrendered;
use super::secrets::Secrets;
use super::secrets::private;
use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::fetch::transport::ClientSettings;
use crate::plan::Plan;
use crate::plan::language::Template;

/// What the plan asks of the network. Reads the files and the secrets that it names, and nothing where
/// it names none.
pub fn settings(plan: &Plan, root: &Path, clock: Clock) -> Result<ClientSettings, Box<Failure>> {
    let mut settings = ClientSettings::new(plan.source.timeouts.connect);
    let (tls, proxy) = (&plan.source.tls, &plan.source.proxy);
    if tls.ca.is_none() && tls.shown.is_none() && proxy.is_none() {
        return Ok(settings);
    }
    let secrets = Secrets::load(plan, root)?;
    fill(&mut settings, plan, root, clock, &secrets)
        .map_err(|failure| secrets.scrub_failure(failure))?;
    Ok(settings)
}

fn fill(
    settings: &mut ClientSettings,
    plan: &Plan,
    root: &Path,
    clock: Clock,
    secrets: &Secrets,
) -> Result<(), Box<Failure>> {
    let names = Names::new(plan, secrets, clock.calendar());
    let names = names.map_err(|e| unrendered("source.contact", &e))?;
    let text = |key: &str, template: &Template| {
        let text = template.text(&names.request(&[]));
        text.map_err(|e| unrendered(key, &e))
    };
    let tls = &plan.source.tls;
    if let Some(ca) = &tls.ca {
        let path = root.join(text("source.tls.ca", ca)?);
        let read = std::fs::read(&path);
        let pem = read.map_err(|e| private::unreadable(&path, "the authorities in", &e))?;
        settings.authorities = Some(pem);
    }
    if let Some((cert, key)) = &tls.shown {
        let path = root.join(text("source.tls.cert", cert)?);
        let read = std::fs::read_to_string(&path);
        let mut pem = read.map_err(|e| private::unreadable(&path, "the certificate", &e))?;
        let path = root.join(text("source.tls.key", key)?);
        let key = private::read(&path, "the key file")?;
        if !pem.contains(key.trim()) {
            pem.push('\n');
            pem.push_str(&key);
        }
        settings.identity = Some(pem.into_bytes());
    }
    if let Some(proxy) = &plan.source.proxy {
        // User and password are coded as values of a path are; a whole address is taken as it is.
        let written = if proxy.begins_with_expression() {
            text("source.proxy", proxy)?
        } else {
            let text = proxy.target(&names.request(&[]));
            text.map_err(|e| unrendered("source.proxy", &e))?
        };
        // Renders empty: none, as with a credential.
        if !written.is_empty() {
            settings.proxy = Some(self::proxy(&written)?);
        }
    }
    Ok(())
}

fn proxy(written: &str) -> Result<Url, Box<Failure>> {
    let wrong = |why: String| {
        Box::new(
            Failure::new(Exit::Usage, format!("`source.proxy` {why}"))
                .hint("it must read like http://proxy.example.org:8080 or socks5://127.0.0.1:1080"),
        )
    };
    let url = Url::parse(written).map_err(|e| wrong(format!("is no URL: {e}")))?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https" | "socks5" | "socks5h", Some(_)) => Ok(url),
        _ => Err(wrong("is no address of a proxy".to_owned())),
    }
}
