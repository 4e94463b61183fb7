//! `tracecheck image`.

use std::{env, io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use bytesize::ByteSize;
use clap::Subcommand;
use harness::image::{self, Image, Sources};

/// Operations on the image of this program.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds an image of this very program, without pulling anything, and prints its name on stdout.
    Build(Build),
}

/// Destination of the image.
#[derive(Debug, clap::Args)]
struct Build {
    /// Its name; one made from its content when left out.
    #[arg(long, value_name = "REFERENCE")]
    tag: Option<String>,
    /// Writes it to this file, for `docker load`, `kind load image-archive`, `ctr images import` or `podman load`; `-` is stdout.
    #[arg(long, value_name = "TAR")]
    output: Option<PathBuf>,
    /// Loads it into the Docker engine (`DOCKER_HOST`, else the usual socket).
    #[arg(long)]
    load: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::Build(args) = &args.command;
    build(args)
}

/// The image of this program, named or by its content. Reads the whole program.
pub(super) fn of_this_program(reference: Option<String>) -> anyhow::Result<Image> {
    let program = env::current_exe().context("the path of this program cannot be determined")?;
    let library_path = env::var_os("LD_LIBRARY_PATH")
        .map(|paths| env::split_paths(&paths).filter(|path| path.is_absolute()).collect())
        .unwrap_or_default();
    let sources = Sources { library_path, reference, ..Sources::default() };
    let image = Image::of_program(&program, &sources)?;
    if image.certificates().is_none() {
        super::warn(
            "no CA certificates were found on this machine, so nothing can be reached over TLS from the image; install ca-certificates",
        );
    }
    Ok(image)
}

#[expect(clippy::print_stderr, reason = "what is not the image's name or the image itself")]
fn build(args: &Build) -> anyhow::Result<ExitCode> {
    let to_stdout = args.output.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout && std::io::stdout().is_terminal() {
        bail!("--output -: stdout is a terminal; send it to a file or a program");
    }
    let image = of_this_program(args.tag.clone())?;
    eprintln!("{}: {} in {} files", image.reference(), size(image.bytes()), image.files().len());
    for (path, bytes) in image.files() {
        eprintln!("  {:>10}  {path}", size(bytes));
    }
    if cfg!(debug_assertions) {
        super::warn(
            "this is a debug build, which results in a large image; `cargo build --release` results in a small one",
        );
    }
    if to_stdout {
        image.write(std::io::stdout().lock())?;
    } else if let Some(path) = &args.output {
        image.save(path)?;
        eprintln!("written to {}", path.display());
    }
    if args.load {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let loaded = runtime.block_on(image::docker::load(&image))?;
        eprintln!("{}", if loaded { "loaded into Docker" } else { "Docker has it already" });
    }
    if !args.load && args.output.is_none() {
        eprintln!("nothing was written; give --output TAR, --load, or both");
    }
    if to_stdout {
        Ok(ExitCode::SUCCESS)
    } else {
        super::print(&format!("{}\n", image.reference()))
    }
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}
