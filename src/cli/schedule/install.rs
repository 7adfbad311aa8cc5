//! `gleaner schedule install`: a systemd unit, shown before it is written.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::global::Global;
use crate::cli::init::{ask, write};
use crate::cli::{out, project};
use crate::failure::{Exit, Failure};
use crate::report::{Verbosity, clean};
use crate::schedule::unit::{Unit, Whose, folder};

/// The project that a unit keeps the schedule of.
fn keeps(unit: &str) -> Option<&str> {
    unit.lines()
        .find_map(|line| line.strip_prefix("WorkingDirectory="))
}

/// Variables that the schedule has to see as they are now.
const VARIABLES: [&str; 3] = ["GLEANER_STATE_DIR", "GLEANER_KEEP_FREE", "XDG_STATE_HOME"];

/// Write a systemd unit that keeps the schedule of this project
///
/// Shows the unit and asks before it writes; nothing is enabled or started, the last lines say how.
#[derive(Debug, Args)]
pub(in crate::cli) struct InstallArgs {
    /// For the machine, in /etc/systemd/system, instead of for the user
    #[arg(long)]
    system: bool,

    /// Who the unit runs as; with --system, and needed there for root
    #[arg(long, value_name = "USER", requires = "system")]
    user: Option<String>,

    /// Write without asking
    #[arg(long, conflicts_with = "show")]
    yes: bool,

    /// Only show it: on standard output, and nothing else there
    #[arg(long)]
    show: bool,
}

impl InstallArgs {
    pub(in crate::cli) fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let unit = self.unit()?;
        let text = unit
            .text()
            .map_err(|problem| Failure::usage(problem.to_string()))?;
        if self.show {
            out::stdout(&text)?;
            return Ok(Exit::Complete);
        }
        let place = folder(unit.whose, &config()?).join(unit.name());
        let shown = clean(&place.display().to_string()).into_owned();
        let before = std::fs::read_to_string(&place).ok();
        if before.as_ref() == Some(&text) {
            out::stderr(&format!(
                "{shown} is there already, and just as it would be written\n"
            ));
            return Ok(Exit::Complete);
        }
        if let Some(other) = before.as_deref().and_then(keeps)
            && Some(other) != keeps(&text)
            // The unit of a project that was moved or removed is in nobody's way.
            && Path::new(other).join(project::PIPELINES).is_dir()
        {
            let message = format!("{shown} keeps another project: {}", clean(other));
            return Err(Failure::usage(message)
                .hint("give this project's folder another name, or write the unit under another name with --show"));
        }
        if let Some(before) = &before {
            out::stderr(&format!(
                "{shown} is there already:\n\n{}\n",
                indented(before)
            ));
            out::stderr(&format!("in its place:\n\n{}\n", indented(&text)));
        } else {
            out::stderr(&format!("{shown}:\n\n{}\n", indented(&text)));
        }
        if !self.yes {
            if !io::stdin().is_terminal() {
                return Err(
                    Failure::usage("nothing was written: nobody is there to be asked")
                        .hint("--yes writes what is shown, --show prints it"),
                );
            }
            let answer = ask("write it? y or n", "n")?;
            if !matches!(answer.to_lowercase().as_str(), "y" | "yes") {
                out::stderr("nothing was written\n");
                return Ok(Exit::Complete);
            }
        }
        write(&place, &text)?;
        if global.verbosity() != Verbosity::Quiet {
            out::stdout(&format!("wrote {shown}\n{}", steps(&unit)))?;
        }
        Ok(Exit::Complete)
    }

    fn unit(&self) -> Result<Unit, Failure> {
        let root = project::root()?;
        let root = root.canonicalize().map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot find {}", root.display())).caused_by(&error)
        })?;
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::Failed, "cannot find this program").caused_by(&error)
        })?;
        let whose = if self.system {
            Whose::Machines
        } else {
            Whose::Users
        };
        // Under sudo, who called it; the project is theirs.
        let caller = || {
            ["SUDO_USER", "USER"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
        };
        let user = match (whose, &self.user) {
            (Whose::Users, _) => None,
            (Whose::Machines, Some(user)) => Some(user.clone()),
            (Whose::Machines, None) => {
                Some(caller().filter(|user| user != "root").ok_or_else(|| {
                    Failure::usage("who shall the unit run as?").hint(
                        "--user NAME: whoever owns the project; root is not needed for anything",
                    )
                })?)
            }
        };
        let variables = VARIABLES.iter().filter_map(|name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), value))
        });
        Ok(Unit {
            whose,
            root,
            program,
            user,
            variables: variables.collect(),
        })
    }
}

/// The user's folder of settings (XDG Base Directory Specification).
fn config() -> Result<PathBuf, Failure> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let own = var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    own.or_else(|| Some(PathBuf::from(var("HOME")?).join(".config")))
        .ok_or_else(|| {
            Failure::usage("there is no home folder for the user's units").hint("set HOME")
        })
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| format!("    {}", clean(line)).trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

/// What is left to be done.
fn steps(unit: &Unit) -> String {
    let name = unit.name();
    match unit.whose {
        Whose::Users => format!(
            "next: systemctl --user daemon-reload\n      \
             systemctl --user enable --now {name}\n      \
             loginctl enable-linger     (so that it runs while you are not logged in)\n\
             logs: journalctl --user -u {name}\n"
        ),
        Whose::Machines => format!(
            "next: systemctl daemon-reload\n      \
             systemctl enable --now {name}\n\
             logs: journalctl -u {name}\n"
        ),
    }
}
