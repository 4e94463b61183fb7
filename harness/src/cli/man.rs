//! `tracecheck man`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;

/// The place to write it to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        tracecheck man | man -l -\n  \
                        tracecheck man --dir ~/.local/share/man/man1")]
pub(super) struct Args {
    /// Writes a page for the program and one for each command into this folder, which is made where it is not there; the program's page
    /// goes to stdout where this is left out.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let command = super::Cli::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return super::print(&String::from_utf8(page)?);
    };
    let unusable = || format!("--dir: the manual cannot be written to {}", dir.display());
    std::fs::create_dir_all(dir).with_context(unusable)?;
    clap_mangen::generate_to(command, dir).with_context(unusable)?;
    Ok(ExitCode::SUCCESS)
}
