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

use super::rooms::{self, Overrides};
use super::{out, project};

/// Write a notebook that loads what a pipeline has published
///
/// It loads every stream with the types of its columns, shows when and from where the data came, and
/// draws two first charts chosen by the columns. Run it again after the next run: it reads what is
/// there then. It needs Jupyter, matplotlib and the engine (pip install jupyterlab matplotlib pandas).
#[derive(Debug, Args)]
pub(super) struct NotebookArgs {
    /// The pipeline
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
        let found = project::find(&self.name)?;
        let Some(plan) = rooms::plan_or_tell(&found.path, &Overrides::default())? else {
            return Ok(Exit::Invalid);
        };
        let data = match &self.data {
            Some(data) => Some(inside(&found.root, &project::here()?.join(data))?),
            None => None,
        };
        let outputs = outputs::find(&found.root, &plan, &self.streams, data.as_deref())?;
        if outputs.is_empty() {
            return Err(Failure::usage(format!(
                "{} has published nothing that a notebook can load",
                plan.name
            ))
            .hint(format!(
                "`gleaner run {}` first; a notebook loads outputs that a datapackage.json tells of",
                plan.name
            )));
        }
        let place = match &self.out {
            Some(given) if given.as_os_str() == "-" => None,
            Some(given) => Some(project::here()?.join(given)),
            None => Some(
                found
                    .root
                    .join("notebooks")
                    .join(format!("{}.ipynb", plan.name)),
            ),
        };
        let folder = match &place {
            Some(place) => place.parent().unwrap_or(&found.root).to_owned(),
            None => project::here()?,
        };
        let text = page::write(&plan, &outputs, self.engine, &way(&folder, &found.root));
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
