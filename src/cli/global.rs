//! Options that every command takes.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::report::Verbosity;

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Global {
    /// Work as if started in DIR
    #[arg(short = 'C', long, value_name = "DIR", global = true)]
    project: Option<PathBuf>,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Also tell every page, every attempt and every longer wait
    #[arg(short, long, global = true)]
    verbose: bool,

    /// How to tell what happens: for people, or as a log of JSON lines; `auto` is JSON lines for
    /// `schedule` away from a terminal, else for people
    #[arg(long, value_name = "HOW", value_enum, default_value_t, global = true)]
    log: LogStyle,

    #[expect(clippy::doc_markdown, reason = "clap shows it as written")]
    /// When to use colour; NO_COLOR is honoured
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true)]
    color: Colour,
}

/// How to tell what happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogStyle {
    /// JSON lines for `schedule` where standard error is no terminal, else for people
    #[default]
    Auto,
    /// Progress and results
    Human,
    /// A JSON object a line, on standard error
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Colour {
    /// On a terminal
    #[default]
    Auto,
    /// Also in files and pipes
    Always,
    /// Nowhere
    Never,
}

impl Global {
    /// How much to tell.
    pub(super) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Usual,
        }
    }

    /// Whether what happens is told as JSON lines; `unattended` is what nobody watches unless at a terminal.
    pub(super) fn logs(&self, unattended: bool) -> bool {
        match self.log {
            LogStyle::Auto => unattended && !std::io::stderr().is_terminal(),
            LogStyle::Human => false,
            LogStyle::Json => true,
        }
    }

    /// Puts colour and folder into force for the whole process; called once, before any command.
    pub(super) fn apply(&self) -> Result<(), Failure> {
        match self.color {
            // Left alone, so that NO_COLOR and CLICOLOR_FORCE decide.
            Colour::Auto => {}
            Colour::Always => anstream::ColorChoice::Always.write_global(),
            Colour::Never => anstream::ColorChoice::Never.write_global(),
        }
        let Some(folder) = &self.project else {
            return Ok(());
        };
        std::env::set_current_dir(folder).map_err(|error| {
            Failure::usage(format!("cannot work in {}", folder.display())).caused_by(&error)
        })
    }
}
