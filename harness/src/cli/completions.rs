//! `tracecheck completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        tracecheck completions bash > ~/.local/share/bash-completion/completions/tracecheck\n  \
                        tracecheck completions zsh > \"${fpath[1]}/_tracecheck\"\n  \
                        tracecheck completions fish > ~/.config/fish/completions/tracecheck.fish")]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = super::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "tracecheck", &mut script);
    super::print(&String::from_utf8(script)?)
}
