//! What commands print: the one way to standard output, and to standard error beside it.
//!
//! A reader that goes early, such as `head`, is no error: the command ends quietly, as if it had
//! said all. Any other failure to write is reported, since half an answer must not look like a
//! whole one. `println!` knows neither and panics.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Whoever read the output has gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReaderGone;

impl Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Prints a text and the end of its line.
///
/// # Errors
/// [`ReaderGone`], which ends a command without a word; all else that goes wrong.
pub(crate) fn say(text: impl Display) -> anyhow::Result<()> {
    write(&mut io::stdout().lock(), text)
}

/// The same to standard error: words beside an answer that programs read.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_aside(text: impl Display) -> anyhow::Result<()> {
    write(&mut io::stderr().lock(), text)
}

/// Takes a reader that has gone for an end like any other.
///
/// # Errors
/// All but [`ReaderGone`].
pub(crate) fn quietly(said: anyhow::Result<()>) -> anyhow::Result<()> {
    match said {
        Err(error) if error.is::<ReaderGone>() => Ok(()),
        other => other,
    }
}

fn write(out: &mut impl Write, text: impl Display) -> anyhow::Result<()> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("writing the answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing, for one reason.
    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_ends_quietly() {
        let gone = write(&mut Refusing(ErrorKind::BrokenPipe), "a line");
        assert!(quietly(gone).is_ok());
        let full = write(&mut Refusing(ErrorKind::StorageFull), "a line");
        assert_eq!(quietly(full).unwrap_err().to_string(), "writing the answer");
    }

    #[test]
    fn a_text_ends_its_line() {
        let mut out = Vec::new();
        write(&mut out, "a line").unwrap();
        assert_eq!(out, b"a line\n");
    }
}
