//! The end of a program that cannot go on.

use std::process::ExitCode;

/// Prints a last message, and returns the exit code of the process.
#[expect(clippy::print_stderr, reason = "it is for the user, also where no log is set up")]
pub fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(code)
}
