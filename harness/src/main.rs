//! The program `tracecheck`: parses, runs, and maps the outcome to an exit code.

use std::process::ExitCode;

mod cli;
mod embedded;

fn main() -> ExitCode {
    // The one TLS provider of the program and of everything it carries inside itself.
    let _first_to_install = rustls::crypto::ring::default_provider().install_default();
    cli::main()
}
