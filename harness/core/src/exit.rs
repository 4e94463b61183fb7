//! The end of a program that cannot go on.

use std::process::ExitCode;

/// Prints the process's last word, and returns its exit code.
#[expect(clippy::print_stderr, reason = "it is for the user, also where no log is set up")]
pub fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(code)
}
