//! `gleaner init`: asks a few questions, or takes flags, and writes a first pipeline file.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::failure::{Exit, Failure};
use crate::plan::limit::LimitPlan;
use crate::report::{Verbosity, clean};
use crate::spec::load;

use super::draft::{Auth, Draft, Format, Pages, Place, identifier};
use super::global::Global;
use super::out;
use super::project::{self, PIPELINES};
use super::rooms::{self, NoPlan, Overrides};

/// The schema that a new file names for editors.
const SCHEMA: &str = "pipeline.schema.json";

#[expect(clippy::doc_markdown, reason = "clap shows it as written")]
/// Write a first pipeline file, with comments
///
/// Asks on a terminal for what the flags do not say; elsewhere --url is needed and the rest has
/// defaults. The URL of any page will do: it is taken apart, and a credential in it is replaced
/// by a secret. The file passes `gleaner check`; one that exists is never overwritten unless
/// --force is given.
///
/// For example:
///
///   gleaner init quakes --url https://earthquake.usgs.gov/fdsnws/event/1/query?format=geojson \
///     --records features --pages offset --limit 1/s
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct InitArgs {
    /// Name of the pipeline; made from the host if left out
    name: Option<String>,

    /// Where the API is: its base URL, or the URL of a page
    #[arg(long)]
    url: Option<String>,

    /// Path after the base URL
    #[arg(long, value_name = "PATH")]
    get: Option<String>,

    /// Where in an answer the records are: data, or result.items
    #[arg(long, value_name = "PATH")]
    records: Option<String>,

    /// How the API pages
    #[arg(long, value_enum)]
    pages: Option<Pages>,

    /// What the API allows: 80/min, 5000/h, several with commas, or none
    #[arg(long)]
    limit: Option<String>,

    /// E-mail or URL for the User-Agent
    #[arg(long)]
    contact: Option<String>,

    /// How the API wants to know who asks
    #[arg(long, value_enum)]
    auth: Option<Auth>,

    /// Format of the files
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Overwrite a file that exists
    #[arg(long)]
    force: bool,
}

impl InitArgs {
    pub(super) fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let here = project::here()?;
        let root = load::project_root(&here).unwrap_or_else(|| here.clone());
        let draft = self.draft(&root)?;
        let path = file(&root, &draft.name);
        let shown = path.strip_prefix(&here).unwrap_or(&path).to_owned();
        self.is_free(&root, &draft.name).map_err(|taken| {
            Failure::usage(taken).hint("choose another name, or --force to overwrite it")
        })?;
        let text = draft.yaml();
        match rooms::plan_text(&shown, &text, &Overrides::default()) {
            Ok(_) => {}
            Err(NoPlan::Failure(failure)) => return Err(failure),
            Err(NoPlan::Mistakes(mistakes)) => {
                out::stderr(&mistakes.draw(out::stderr_colour()));
                return Err(Failure::usage(
                    "these answers make no pipeline; nothing was written",
                ));
            }
        }
        write(&path, &text)?;
        let schema = path.with_file_name(SCHEMA);
        if !schema.exists() {
            write(&schema, &rooms::schema())?;
        }
        if global.verbosity() != Verbosity::Quiet {
            let name = clean(&draft.name);
            out::stdout(&format!(
                "wrote {}\nnext: `gleaner preview {name}` shows a first page, `gleaner run {name}` fetches all\n",
                clean(&shown.display().to_string())
            ))?;
        }
        Ok(Exit::Complete)
    }

    /// Whether a pipeline of this name may be written.
    fn is_free(&self, root: &Path, name: &str) -> Result<(), String> {
        if file(root, name).exists() && !self.force {
            return Err(format!("{PIPELINES}/{name}.yaml exists"));
        }
        Ok(())
    }

    /// What the flags say, and the answers to what they do not.
    fn draft(&self, root: &Path) -> Result<Draft, Failure> {
        let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
        let url = match &self.url {
            Some(url) => url.clone(),
            None if asks => asked("URL of the API, or of one of its pages", "", |url| {
                Place::read(url, self.get.as_deref()).map(drop)
            })?,
            None => return Err(Failure::usage("--url is needed where nobody can be asked")),
        };
        let place = Place::read(&url, self.get.as_deref()).map_err(Failure::usage)?;
        // Who gave the URL by flag knows the flags; only who was asked is asked on.
        let asks = asks && self.url.is_none();
        let text = |given: &Option<String>, question, usual: &str| match given {
            Some(given) => Ok(Some(given.clone())),
            None if asks => Ok(Some(ask(question, usual)?).filter(|text| !text.is_empty())),
            None => Ok(None),
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None if asks => asked("name of the pipeline", &place.name(), |name| {
                named(name)?;
                self.is_free(root, name)
            })?,
            None => place.name(),
        };
        named(&name).map_err(Failure::usage)?;
        let auth = if place.credential.is_some() {
            Auth::Query
        } else {
            Auth::None
        };
        let pages = place.pages();
        Ok(Draft {
            records: text(
                &self.records,
                "where in an answer the records are (empty: at the top)",
                "",
            )?,
            pages: choice(self.pages, asks, "how it pages", pages)?,
            limit: match &self.limit {
                Some(limit) => Some(limit.clone()),
                None if asks => Some(asked(
                    "what it allows, as 80/min or 5000/h (empty: a careful guess)",
                    "",
                    limits,
                )?)
                .filter(|limit| !limit.is_empty()),
                None => None,
            },
            contact: text(
                &self.contact,
                "an e-mail or URL to tell the API (may be empty)",
                "",
            )?,
            auth: choice(self.auth, asks, "how it wants to know who asks", auth)?,
            format: choice(self.format, asks, "format of the files", Format::Csv)?,
            name,
            place,
        })
    }
}

/// The file of a pipeline.
fn file(root: &Path, name: &str) -> PathBuf {
    root.join(PIPELINES).join(format!("{name}.yaml"))
}

/// Whether a pipeline can have this name.
fn named(name: &str) -> Result<(), String> {
    let plain = name.replace('-', "_");
    if identifier(&plain, "") == plain {
        return Ok(());
    }
    Err(format!(
        "`{}` cannot be a name: small letters, digits, - and _, a letter first",
        clean(name)
    ))
}

/// Whether these are limits, with commas between them.
fn limits(written: &str) -> Result<(), String> {
    if matches!(written.trim(), "" | "none") {
        return Ok(());
    }
    let mut all = written.split(',');
    all.try_for_each(|one| LimitPlan::parse(one.trim()).map(drop))
}

/// One question, asked again until its answer can be used.
fn asked(
    question: &str,
    usual: &str,
    judge: impl Fn(&str) -> Result<(), String>,
) -> Result<String, Failure> {
    loop {
        let answer = ask(question, usual)?;
        match judge(&answer) {
            Ok(()) => return Ok(answer),
            Err(why) => out::stderr(&format!("  {}\n", clean(&why))),
        }
    }
}

fn choice<T: ValueEnum>(
    given: Option<T>,
    asks: bool,
    question: &str,
    usual: T,
) -> Result<T, Failure> {
    let name = |value: &T| {
        value
            .to_possible_value()
            .map(|v| v.get_name().to_owned())
            .unwrap_or_default()
    };
    match given {
        Some(given) => Ok(given),
        None if !asks => Ok(usual),
        None => loop {
            let all: Vec<String> = T::value_variants().iter().map(name).collect();
            let answer = ask(&format!("{question} ({})", all.join(", ")), &name(&usual))?;
            if let Ok(value) = T::from_str(&answer, true) {
                return Ok(value);
            }
            out::stderr("  that is none of them\n");
        },
    }
}

/// One question; an empty answer means the usual one.
pub(super) fn ask(question: &str, usual: &str) -> Result<String, Failure> {
    let shown = if usual.is_empty() {
        String::new()
    } else {
        format!(" [{usual}]")
    };
    out::stderr(&format!("{question}{shown}: "));
    let mut answer = String::new();
    let read = io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(Exit::Failed, "cannot read the answer").caused_by(&error))?;
    if read == 0 {
        out::stderr("\n");
        return Err(Failure::usage(
            "the answers ended early; nothing was written",
        ));
    }
    let answer = answer.trim();
    Ok(if answer.is_empty() { usual } else { answer }.to_owned())
}

/// Whole or not at all: beside the target first, then renamed.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let beside: PathBuf = path.with_extension("tmp");
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        Failure::new(Exit::Disk, format!("cannot write {}", path.display())).caused_by(&error)
    })
}
