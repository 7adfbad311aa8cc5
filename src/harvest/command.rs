//! The command of `schedule.on_failure`: started in the project, with the alert on its standard input
//! and its main words in the environment; ended when it takes too long.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::clock::Clock;

/// How long it may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// What is started.
#[derive(Debug)]
pub(super) struct Given {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// Where it works.
    pub(super) folder: PathBuf,
    /// Variables beside those that we have.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What it can read.
    pub(super) input: String,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandProblem {
    /// It cannot be started or waited for.
    #[error("`{program}` cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("`{program}` ended with {status}")]
    Failed {
        /// The program.
        program: String,
        /// How.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("`{program}` took too long and was ended")]
    Slow {
        /// The program.
        program: String,
    },
}

/// Runs it to its end, or for so long.
pub(super) async fn run(
    given: Given,
    clock: Clock,
    patience: Duration,
) -> Result<(), CommandProblem> {
    let program = given.words.first().cloned().unwrap_or_default();
    let start = |source| CommandProblem::Start {
        program: program.clone(),
        source,
    };
    let mut child = begin(&given).map_err(start)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut work = tokio::task::spawn_blocking(move || {
        if let Some(mut input) = child.stdin.take() {
            // Many commands do not read it.
            let _ = input.write_all(given.input.as_bytes());
        }
        child.wait()
    });
    let Ok(ended) = clock.timeout(patience, &mut work).await else {
        // Nobody has taken its end yet, so the number is still its own.
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = work.await;
        return Err(CommandProblem::Slow { program });
    };
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(CommandProblem::Failed { program, status }),
        Ok(Err(source)) => Err(start(source)),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn begin(given: &Given) -> std::io::Result<Child> {
    let mut words = given.words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command
        .args(words)
        .current_dir(&given.folder)
        .envs(given.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        // Ours may carry records or events; what it has to say goes to standard error.
        .stdout(Stdio::null());
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str], patience: Duration) -> Result<(), String> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let given = Given {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            folder: folder.path().to_owned(),
            variables: vec![("GLEANER_EVENT", "failed".to_owned())],
            input: "{\"event\":\"failed\"}".to_owned(),
        };
        let ended = runtime.block_on(async { run(given, Clock::system(), patience).await });
        ended.map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_command_has_the_alert_and_a_bound() {
        let sees =
            r#"read line; test "$line" = '{"event":"failed"}' && test "$GLEANER_EVENT" = failed"#;
        assert_eq!(told(&["sh", "-c", sees], PATIENCE), Ok(()));
        assert_eq!(told(&["true"], PATIENCE), Ok(()), "which reads nothing");
        let failed = told(&["sh", "-c", "exit 3"], PATIENCE).expect_err("it failed");
        assert!(failed.contains("exit status: 3"), "{failed}");
        let missing = told(&["/no/such/program"], PATIENCE).expect_err("it is not there");
        assert!(missing.contains("cannot be started"), "{missing}");
        let slow = told(&["sleep", "1000"], Duration::from_millis(20)).expect_err("too long");
        assert!(slow.contains("took too long and was ended"), "{slow}");
    }
}
