//! Where the rim writes: standard output for what was asked for, standard error for the rest.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};

use crate::failure::{Exit, Failure};

/// Writes `text` to standard output. A reader that went away (`| head`) is no failure.
pub(super) fn stdout(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Failure::new(Exit::Disk, "cannot write to standard output").caused_by(&error))
        }
    }
}

/// Writes `text` to standard error; when that is gone there is nobody left to tell.
pub(super) fn stderr(text: &str) {
    let mut err = anstream::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Whether standard error gets colour, after `--color` and the environment.
pub(super) fn stderr_colour() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Whether standard output gets colour, after `--color` and the environment.
pub(super) fn stdout_colour() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Hands bytes on to standard output as they are; to a terminal without what would steer it. A reader
/// that went away is no failure.
pub(super) fn copy(from: &mut dyn Read) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let is_terminal = out.is_terminal();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes)?;
        let Some(some) = bytes.get_mut(..read).filter(|some| !some.is_empty()) else {
            break;
        };
        if is_terminal {
            for byte in some.iter_mut() {
                if byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t') {
                    *byte = b'?';
                }
            }
        }
        match out.write_all(some) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        flushed => flushed,
    }
}
