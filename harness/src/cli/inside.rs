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
        /// How long an address must do so at each try before it counts
        #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
        steady: Duration,
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
        Command::Reach { addresses, refused, steady, within } => {
            reach(addresses, refused, steady, within)?
        }
        Command::Signal { verb } => signal(verb)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn reach(
    addresses: Vec<String>,
    refused: bool,
    steady: Duration,
    within: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    let tries = addresses.iter().map(|address| async move {
        let mut since = None;
        loop {
            let tried = Instant::now();
            let found = match time::timeout(TRY_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(_)) if !refused => None,
                Ok(Ok(_)) => Some("it still accepts connections".to_owned()),
                Ok(Err(error)) if refused && error.kind() == ErrorKind::ConnectionRefused => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {TRY_LIMIT:?}")),
            };
            since = if found.is_none() { since.or(Some(tried)) } else { None };
            if since.is_some_and(|since| since.elapsed() >= steady) {
                return Ok(());
            }
            let found = found.unwrap_or_else(|| format!("not yet so for {steady:?}"));
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
                .with_context(|| format!("{signal} cannot be sent to process {pid}"))?;
            if signal == Signal::SIGSTOP {
                let frozen = proc::frozen(|| proc::is_frozen(pid)).await;
                frozen.with_context(|| format!("process {pid} does not stop"))?;
            }
            Ok(())
        }
        [] => bail!("no process of the workload was found"),
        _ => bail!("it is not clear which process is the workload: {found:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const WITHIN: Duration = Duration::from_millis(900);
    const STEADY: Duration = Duration::from_millis(300);

    fn listener() -> (TcpListener, Vec<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, vec![address])
    }

    #[test]
    fn an_address_that_stops_accepting_is_not_reached_steadily() {
        let (leaving, addresses) = listener();
        let once = thread::spawn(move || leaving.accept().map(drop));
        let reached = reach(addresses.clone(), false, STEADY, WITHIN);
        once.join().unwrap().unwrap();
        let refused = reached.unwrap_err().to_string();
        assert!(refused.starts_with(&addresses[0]) && refused.contains("refused"), "{refused}");
    }

    #[test]
    fn an_address_that_goes_on_accepting_is_reached_after_the_time() {
        let (_staying, addresses) = listener();
        let began = Instant::now();
        reach(addresses.clone(), false, STEADY, WITHIN).unwrap();
        assert!(began.elapsed() >= STEADY);
        let too_long = reach(addresses, false, WITHIN, STEADY).unwrap_err().to_string();
        assert!(too_long.ends_with("not yet so for 900ms"), "{too_long}");
    }
}
