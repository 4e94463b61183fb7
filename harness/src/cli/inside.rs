//! `tracecheck inside`: what the harness has done inside a pod of its own image. Not for users.

use std::{
    fs,
    io::ErrorKind,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::TcpStream, time};

use harness::environment::proc;

/// How soon an address is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How long one try may take: names may have to be asked for again.
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// How long a process may take to stand still after SIGSTOP.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether it does.
const FREEZE_POLL: Duration = Duration::from_millis(1);

/// Operations inside a pod.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Waits until all these addresses take connections.
    Reach {
        /// HOST:PORT
        #[arg(required = true)]
        addresses: Vec<String>,
        /// Waits until they refuse connections instead, as an address does that nobody serves any more
        #[arg(long)]
        refused: bool,
        /// Longest wait for all of them
        #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
        within: Duration,
    },
    /// Sends a signal to the pod's workload.
    Signal {
        /// Which one
        #[arg(value_enum)]
        verb: Verb,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verb {
    /// Freezes it
    Pause,
    /// Lets it go on
    Resume,
    /// Ends it at once
    Kill,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Reach { addresses, refused, within } => reach(addresses, refused, within)?,
        Command::Signal { verb } => signal(verb)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn reach(addresses: Vec<String>, refused: bool, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    let tries = addresses.iter().map(|address| async move {
        loop {
            let found = match time::timeout(TRY_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(_)) if !refused => return Ok(()),
                Ok(Ok(_)) => "it still accepts connections".to_owned(),
                Ok(Err(error)) if refused && error.kind() == ErrorKind::ConnectionRefused => {
                    return Ok(());
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {TRY_LIMIT:?}"),
            };
            if Instant::now() + RETRY >= deadline {
                bail!("{address}: {found}");
            }
            time::sleep(RETRY).await;
        }
    });
    futures_util::future::try_join_all(tries).await.map(drop)
}

/// The pod's processes share a namespace, whose first one is Kubernetes' own. The workload is the one beside it that nobody
/// in the pod started, as little as this process, which has `inside` for its first argument.
#[tokio::main(flavor = "current_thread")]
async fn signal(verb: Verb) -> anyhow::Result<()> {
    let signal = match verb {
        Verb::Pause => Signal::SIGSTOP,
        Verb::Resume => Signal::SIGCONT,
        Verb::Kill => Signal::SIGKILL,
    };
    let mut found = Vec::new();
    for pid in proc::pids() {
        // A process may end meanwhile.
        let Some(stat) = proc::Stat::of(pid) else { continue };
        let Ok(words) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if pid != 1 && stat.parent == 0 && words.split(|byte| *byte == 0).nth(1) != Some(b"inside")
        {
            found.push(pid);
        }
    }
    match found[..] {
        [pid] => {
            kill(Pid::from_raw(pid), signal)
                .with_context(|| format!("process {pid} does not take {signal}"))?;
            let deadline = Instant::now() + FREEZE_LIMIT;
            while signal == Signal::SIGSTOP && !proc::is_frozen(pid) {
                if Instant::now() >= deadline {
                    bail!("process {pid} was still at work {FREEZE_LIMIT:?} after {signal}");
                }
                time::sleep(FREEZE_POLL).await;
            }
            Ok(())
        }
        [] => bail!("no process of the workload was found"),
        _ => bail!("it is not clear which process is the workload: {found:?}"),
    }
}
