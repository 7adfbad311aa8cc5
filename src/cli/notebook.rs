//! `gleaner notebook`: a notebook that loads what a pipeline has published.

mod charts;
mod draw;
mod load;
mod outputs;
mod page;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::failure::{Exit, Failure};
use crate::report::clean;

use super::rooms::{self, Overrides};
use super::{again, out, packages, project};
use outputs::Subject;

/// Write a notebook that loads what a pipeline has published
///
/// It loads every stream with the types of its columns, shows when and from where the data came, and
/// draws two first charts chosen by the columns. Run it again after the next run: it reads what is
/// there then. Where there is no pipeline NAME, it loads what a datapackage.json here or in data/ tells of,
/// such as `gleaner demo` leaves. It needs Jupyter, matplotlib and the engine (pip install jupyterlab matplotlib pandas).
#[derive(Debug, Args)]
pub(super) struct NotebookArgs {
    /// Name of a pipeline, or a `datapackage.json`, its folder, or a file that it tells of
    name: String,
    /// What the data are loaded with
    #[arg(long, value_enum, default_value_t = Engine::Pandas)]
    engine: Engine,
    /// Only this stream; may be given several times
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Where the outputs are, if not where the pipeline writes them
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write here instead of to notebooks/NAME.ipynb; - is standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a notebook that is there
    #[arg(long)]
    force: bool,
}

/// What loads the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// pandas
    Pandas,
    /// Polars
    Polars,
    /// DuckDB
    Duckdb,
}

impl NotebookArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        let Some((root, subject)) = self.subject()? else {
            return Ok(Exit::Invalid);
        };
        let name = &subject.name;
        let outputs = outputs::find(&root, &subject, &self.streams)?;
        if outputs.is_empty() {
            return Err(Failure::usage(format!(
                "{} has published nothing that a notebook can load",
                clean(name)
            ))
            .hint(format!(
                "`gleaner run {}` first; a notebook loads outputs that a datapackage.json tells of",
                clean(name)
            )));
        }
        let place = match &self.out {
            Some(given) if given.as_os_str() == "-" => None,
            Some(given) => Some(project::here()?.join(given)),
            None => Some(root.join("notebooks").join(format!("{}.ipynb", file(name)))),
        };
        let folder = match &place {
            Some(place) => place.parent().unwrap_or(&root).to_owned(),
            None => project::here()?,
        };
        let text = page::write(&subject, &outputs, self.engine, &way(&folder, &root));
        let Some(place) = place else {
            out::stdout(&text)?;
            return Ok(Exit::Complete);
        };
        if place.exists() && !self.force {
            return Err(Failure::usage(format!("{} is there already", place.display()))
                .hint("it may hold your work: name another file with --out, or write over it with --force"));
        }
        let failed = |error: &std::io::Error| {
            Failure::new(Exit::Disk, format!("cannot write {}", place.display())).caused_by(error)
        };
        fs::create_dir_all(&folder).map_err(|e| failed(&e))?;
        fs::write(&place, text).map_err(|e| failed(&e))?;
        out::stderr(&format!("wrote {}\n", place.display()));
        Ok(Exit::Complete)
    }

    /// The folder that the notebook sees, and what it is about: by the pipeline's file, or where there is
    /// none by what is told of its outputs. Nothing if the file has mistakes, which are shown.
    fn subject(&self) -> Result<Option<(PathBuf, Subject)>, Failure> {
        let here = project::here()?;
        let missing = match (packages::is_path(&self.name), project::find(&self.name)) {
            (true, _) => {
                let package = packages::at(&here.join(&self.name))?;
                let Some(name) = package.pipeline().map(str::to_owned) else {
                    let message = format!("{} tells of several pipelines, or of none", self.name);
                    return Err(Failure::usage(message)
                        .hint("`gleaner notebook NAME --data FOLDER` takes one of them"));
                };
                let told = vec![package.seen_from(&here)];
                return Ok(Some((here, Subject::of_packages(&name, told))));
            }
            (false, Ok(found)) => {
                let Some(plan) = rooms::plan_or_tell(&found.path, &Overrides::default())? else {
                    return Ok(None);
                };
                let data = match &self.data {
                    Some(data) => Some(inside(&found.root, &here.join(data))?),
                    None => None,
                };
                again::tell(&found.root, &plan.name)?;
                let subject = Subject::of_plan(&found.root, &plan, data.as_deref())?;
                return Ok(Some((found.root, subject)));
            }
            (false, Err(missing)) => missing,
        };
        let root = project::root().unwrap_or(here.clone());
        let told = match &self.data {
            Some(data) => packages::in_folder(&inside(&root, &here.join(data))?, &self.name)?,
            None => packages::of(&root, &self.name)?,
        };
        if told.is_empty() {
            return Err(missing);
        }
        let told = told.into_iter().map(|package| package.seen_from(&root));
        let subject = Subject::of_packages(&self.name, told.collect());
        Ok(Some((root, subject)))
    }
}

/// The name of a pipeline as that of a file: a package may call one anything.
fn file(name: &str) -> String {
    name.replace(['/', '\0'], "_")
}

/// A folder by its shortest name, seen from the project where it is in there.
fn inside(root: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| {
            Failure::usage(format!("cannot open {}", path.display())).caused_by(&error)
        })
    };
    let folder = real(folder)?;
    Ok(match folder.strip_prefix(real(root)?) {
        Ok(inside) => root.join(inside),
        Err(_) => folder,
    })
}

/// The way from one folder to another: a notebook that moves with its project still finds it.
fn way(from: &Path, to: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (from, to) = (absolute(from), absolute(to));
    let mut up = 0;
    let mut above = from.as_path();
    while !to.starts_with(above) {
        up += 1;
        match above.parent() {
            Some(parent) => above = parent,
            None => break,
        }
    }
    let mut way = PathBuf::new();
    for _ in 0..up {
        way.push("..");
    }
    way.extend(to.strip_prefix(above).unwrap_or(&to));
    if way.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        way.to_string_lossy().into_owned()
    }
}
