//! `gleaner demo`: a whole run against a pretend API on this machine.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Exit, Failure};
use crate::harvest::Options;
use crate::harvest::summary::Summary;
use crate::report::{Manner, Reporter, Verbosity, clean};
use crate::sim::api::SimApi;
use crate::sim::demo;
use crate::sim::serve::Server;

use super::drive::Drive;
use super::global::Global;
use super::rooms::{self, NoPlan, Overrides};
use super::{out, project, run, state, table};

/// The pipeline that runs, as shipped.
const PIPELINE: &str = include_str!("../../pipelines/demo.yaml");
/// Rows shown of one file.
const ROWS: usize = 4;

/// Show a whole run against a pretend API on this machine
///
/// Starts a small server on loopback that states a limit and breaks now and then, runs
/// pipelines/demo.yaml against it, and shows the progress, the files, a few rows, and what the
/// server itself saw. Needs no network. Exit code 0 means that every record came and that the
/// limit was kept.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DemoArgs {
    /// Folder for the files
    #[arg(long, value_name = "DIR", default_value = "data/demo")]
    into: PathBuf,
    /// A fiftieth of the records: what data/example holds
    #[arg(long)]
    small: bool,
}

impl DemoArgs {
    pub(super) async fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let talks = global.verbosity() != Verbosity::Quiet;
        let drive = Drive::new(Reporter::new(Manner {
            json: false,
            verbosity: global.verbosity(),
            terminal: std::io::stderr().is_terminal(),
            colour: out::stderr_colour(),
        }));
        let api = if self.small {
            demo::small_api()
        } else {
            demo::demo_api()
        };
        let server = Server::start(SimApi::new(api)).map_err(|error| {
            Failure::new(Exit::Failed, "cannot listen on 127.0.0.1").caused_by(&error)
        })?;
        if talks {
            out::stderr(&format!(
                "a pretend newspaper listens on {}; it allows 50 calls a second and breaks now and then\n",
                server.url()
            ));
        }
        let overrides = Overrides {
            vars: vec![(
                "base".to_owned(),
                format!("{}{}", server.url(), demo::BASE_PATH),
            )],
            sinks: vec![format!(
                "csv={}",
                self.into.join("{{ stream }}.csv").display()
            )],
            streams: Vec::new(),
        };
        let named = Path::new("pipelines/demo.yaml");
        let plan = match rooms::plan_text(named, PIPELINE, &overrides) {
            Ok(plan) => plan,
            Err(NoPlan::Failure(failure)) => return Err(failure),
            Err(NoPlan::Mistakes(mistakes)) => {
                out::stderr(&mistakes.draw(out::stderr_colour()));
                return Ok(Exit::Invalid);
            }
        };
        let root = project::here()?;
        let world = drive.world(rooms::transport(&plan, &root)?, root.clone());
        let options = Options {
            traceless: true,
            // Where all outputs have their locks: the folder is somebody's, and may be no project.
            state: state::folder(),
            ..Options::default()
        };
        let summary = drive.run(plan, world, options).await?;
        let shown = if talks {
            show(&summary, &root)
        } else {
            String::new()
        };
        let exit = run::tell(None, "", Ok(summary), !talks);
        out::stdout(&shown)?;

        let audit = server.api().audit();
        let line = audit.summary(demo::WINDOW);
        if talks {
            out::stdout(&format!("\nthe server says: {line}\n"))?;
        }
        if audit.max_in_window(demo::WINDOW) > demo::LIMIT || audit.refusals() > 0 {
            let message = "the server saw more requests than its limit allows";
            return Err(Failure::new(Exit::Failed, message).because(line));
        }
        Ok(exit)
    }
}

/// The first rows of the first file.
fn show(summary: &Summary, root: &Path) -> String {
    let Some(file) = summary
        .streams
        .iter()
        .flat_map(|stream| &stream.files)
        .next()
    else {
        return String::new();
    };
    let Some((header, rows)) = first_rows(&root.join(&file.path)) else {
        return String::new();
    };
    let path = short(&file.path, root).display().to_string();
    let table = table::ruled(&[header], &rows, table::width());
    format!("\nfirst rows of {}:\n{table}", clean(&path))
}

fn short<'a>(path: &'a Path, root: &Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// Nothing where the file cannot be read: the summary has already said what there is.
fn first_rows(path: &Path) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let mut reader = csv::Reader::from_path(path).ok()?;
    let cells = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect();
    let header = cells(reader.headers().ok()?);
    let rows = reader
        .records()
        .take(ROWS)
        .map_while(Result::ok)
        .map(|r| cells(&r))
        .collect();
    Some((header, rows))
}
