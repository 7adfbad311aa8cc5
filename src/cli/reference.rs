//! The page of all commands and options, made from the same definitions as `--help`.

use std::fmt::Write;

use clap::CommandFactory;

use super::Cli;

/// `docs/cli.md`, as it must be.
pub fn reference() -> String {
    let mut program = Cli::command();
    program.build();
    let mut page = String::from(
        "# Commands\n\nThis page is `gleaner --help` and the help of every command, written by a test.\n",
    );
    section(&mut page, "gleaner", &mut program);
    for command in program.get_subcommands_mut() {
        let name = format!("gleaner {}", command.get_name());
        section(&mut page, &name, command);
    }
    page
}

fn section(page: &mut String, name: &str, command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"));
}
