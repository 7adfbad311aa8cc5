//! `gleaner completions`: a script for the shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::{Exit, Failure};

use super::{Cli, out};

/// Print a completion script for a shell
///
/// For instance, for bash:
///
///   gleaner completions bash > ~/.local/share/bash-completion/completions/gleaner
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "gleaner", &mut script);
        out::stdout(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Complete)
    }
}
