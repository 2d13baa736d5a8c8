//! Standard output of the commands that people run. The reader of the output may leave early, as
//! `head` does, and that is not a failure.

use std::io::{self, ErrorKind, Stdout, Write};

/// Standard output, whose errors say whether the reader has left.
#[derive(Debug)]
pub struct StandardOutput(Stdout);

/// The error for output that nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct ReaderLeft;

impl StandardOutput {
    /// The standard output of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(io::stdout())
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

/// Marks a broken pipe of the output with [`ReaderLeft`]. The broken pipe of a connection has no
/// mark, because it is a failure.
fn marked(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, ReaderLeft),
        _ => error,
    }
}

/// Whether the only error is that the reader of the output has left.
#[must_use]
pub fn is_reader_left(error: &anyhow::Error) -> bool {
    let inner = |cause: &(dyn std::error::Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<ReaderLeft>())
    };
    error.chain().any(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn only_the_outputs_own_end_is_no_failure() {
        let broken = || io::Error::from(ErrorKind::BrokenPipe);
        let of = |error: io::Error| anyhow::Error::new(error);
        assert!(is_reader_left(&of(marked(broken()))));
        assert!(is_reader_left(&Err::<(), _>(marked(broken())).context("failed to print").unwrap_err()));
        assert!(!is_reader_left(&of(broken())), "a connection's");
        assert!(!is_reader_left(&of(marked(io::Error::from(ErrorKind::StorageFull)))));
    }
}
