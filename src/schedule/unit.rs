//! The systemd unit that keeps the schedule of a project: as text, to be shown before it is written.
//!
//! Directives are those of systemd.service(5) and systemd.exec(5); quoting is that of systemd.syntax(7), and `%`,
//! which begins a specifier, is doubled.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Whose manager runs the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The user's own: `systemctl --user`.
    Users,
    /// The machine's.
    Machines,
}

/// What goes into a unit.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Whose it is.
    pub whose: Whose,
    /// The project.
    pub root: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// Who it runs as; for the machine's manager only.
    pub user: Option<String>,
    /// Variables that it needs.
    pub variables: Vec<(String, String)>,
}

/// What no line of a unit can hold.
#[derive(Debug, thiserror::Error)]
#[error("{what} has a character that a systemd unit cannot hold: {text:?}")]
pub struct NoUnit {
    what: &'static str,
    text: String,
}

impl Unit {
    /// Its file's name, after the project's folder.
    pub fn name(&self) -> String {
        let folder = self.root.file_name().unwrap_or_default().to_string_lossy();
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "_-.".contains(c) {
                c
            } else {
                '-'
            }
        };
        format!(
            "gleaner-{}.service",
            folder.chars().map(plain).collect::<String>()
        )
    }

    /// Its text.
    ///
    /// # Errors
    /// Where a path or a value has a line break or another control character.
    pub fn text(&self) -> Result<String, NoUnit> {
        let root = plain("the project's folder", &self.root.to_string_lossy())?;
        let program = plain("the program's path", &self.program.to_string_lossy())?;
        let mut text = format!(
            "[Unit]\n\
             Description=Gleaner keeps the schedule of {root}\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             Type=notify\n\
             WorkingDirectory={root}\n\
             ExecStart={} schedule\n",
            command(&program)
        );
        if let Some(user) = &self.user {
            let user = plain("the user's name", user)?;
            // A text takes whatever is written to it.
            let _ = writeln!(text, "User={user}");
        }
        for (name, value) in &self.variables {
            let value = plain("a variable", value)?;
            let _ = writeln!(text, "Environment={}", quoted(&format!("{name}={value}")));
        }
        let target = match self.whose {
            Whose::Users => "default.target",
            Whose::Machines => "multi-user.target",
        };
        // Runs get eight seconds to bring in what is in flight, and their last words take a moment.
        let _ = write!(
            text,
            "Restart=on-failure\n\
             RestartSec=30\n\
             WatchdogSec=5min\n\
             TimeoutStopSec=60\n\
             KillMode=mixed\n\
             NoNewPrivileges=yes\n\
             \n\
             [Install]\n\
             WantedBy={target}\n"
        );
        Ok(text)
    }
}

/// Without what would begin a new line, and with `%` as itself.
fn plain(what: &'static str, text: &str) -> Result<String, NoUnit> {
    if text.chars().any(char::is_control) {
        return Err(NoUnit {
            what,
            text: text.to_owned(),
        });
    }
    Ok(text.replace('%', "%%"))
}

/// As the first word of a command line.
fn command(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+%".contains(c);
    if path.chars().all(is_plain) {
        path.to_owned()
    } else {
        quoted(path)
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Where units of a manager are put by hand: systemd.unit(5), "Unit File Load Path".
pub fn folder(whose: Whose, config: &Path) -> PathBuf {
    match whose {
        Whose::Users => config.join("systemd/user"),
        Whose::Machines => PathBuf::from("/etc/systemd/system"),
    }
}
