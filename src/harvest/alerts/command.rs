//! The command of `schedule.on_failure`: started in the project, with the alert on its standard input
//! and its main words in the environment; ended when it takes too long.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;

use crate::clock::Clock;

/// How long it may take.
pub(in crate::harvest) const PATIENCE: Duration = Duration::from_mins(1);
/// How long its end is waited for once it was killed.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// What is started.
#[derive(Debug)]
pub(in crate::harvest) struct Given {
    /// The program and its arguments.
    pub(in crate::harvest) words: Vec<String>,
    /// Where it works.
    pub(in crate::harvest) folder: PathBuf,
    /// Variables beside those that we have.
    pub(in crate::harvest) variables: Vec<(&'static str, String)>,
    /// What it can read.
    pub(in crate::harvest) input: String,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(in crate::harvest) enum CommandProblem {
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

/// Runs it to its end, or for so long: then it is killed, with all that it has started; so it is where nobody
/// waits for it any more.
///
/// It stands in a process group of its own, so that a program behind a shell ends with the shell. One that
/// has left the group lives on, and holds up nobody: it is waited for and written to on threads that the
/// end of the process does not wait for.
pub(in crate::harvest) async fn run(
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
    let mut group = Group(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
    if let Some(mut input) = child.stdin.take() {
        let text = given.input;
        thread("alert-input", move || {
            // Many commands do not read it.
            let _ = input.write_all(text.as_bytes());
        })
        .map_err(start)?;
    }
    let (tells, mut told) = oneshot::channel();
    thread("alert-command", move || {
        // Nobody listens any more if it took too long.
        let _ = tells.send(child.wait());
    })
    .map_err(start)?;
    let Ok(ended) = clock.timeout(patience, &mut told).await else {
        drop(group);
        let _ = clock.timeout(AFTER_KILL, &mut told).await;
        return Err(CommandProblem::Slow { program });
    };
    // It has ended, and its number may be another's by now.
    group.0 = None;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(CommandProblem::Failed { program, status }),
        Ok(Err(source)) => Err(start(source)),
        Err(_) => Err(start(std::io::Error::other("nobody could wait for it"))),
    }
}

/// All that a command has started; it ends with whoever waits for it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody has taken its end yet, so the number is still its own.
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop)
}

fn begin(given: &Given) -> std::io::Result<Child> {
    let mut words = given.words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command
        .args(words)
        .current_dir(&given.folder)
        .envs(given.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .process_group(0)
        // Ours may carry records or events; what it has to say goes to standard error.
        .stdout(Stdio::null());
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str], patience: Duration) -> Result<(), String> {
        given(words, patience, "{\"event\":\"failed\"}")
    }

    fn given(words: &[&str], patience: Duration, input: &str) -> Result<(), String> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let given = Given {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            folder: folder.path().to_owned(),
            variables: vec![("GLEANER_EVENT", "failed".to_owned())],
            input: input.to_owned(),
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

    #[test]
    fn what_a_command_has_started_holds_up_nobody() {
        // More than a pipe holds, so that whoever writes it waits for a reader.
        let long = "x".repeat(1 << 20);
        let folder = tempfile::tempdir().expect("a folder");
        let [lock, begun, lived] = ["lock", "begun", "lived"].map(|name| folder.path().join(name));
        // A program behind a shell ends with the shell: else it would leave a sign before it gives the
        // lock back.
        let behind = format!(
            "flock {} sh -c 'echo > {}; sleep 90; echo > {}' & wait",
            lock.display(),
            begun.display(),
            lived.display()
        );
        // One that was ended before the program behind it had begun shows nothing.
        for patience in [500, 5_000, 60_000].map(Duration::from_millis) {
            let slow = given(&["sh", "-c", &behind], patience, &long).expect_err("too long");
            assert!(slow.contains("took too long and was ended"), "{slow}");
            if begun.exists() {
                break;
            }
        }
        assert!(begun.exists(), "it has not begun in a minute");
        let lock = std::fs::File::create(lock).expect("a file");
        lock.lock().expect("the lock");
        assert!(!lived.exists(), "the program behind the shell has lived on");
        // One that stays, reads nothing and has the pipe does not make a command slow that has ended.
        let stays = "setsid sleep 20 <&0 & exit 0";
        assert_eq!(given(&["sh", "-c", stays], PATIENCE, &long), Ok(()));
    }
}
