//! `tracecheck ui`: a run, with the page of its report while it goes on.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use harness::{
    intake::page::serve::{Shown, serve},
    report::html::live::Board,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{exit_code, run};

/// Options of `ui`: those of `run`, and where the page is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the page; port 0 takes a free one. Whoever can reach it can read it.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8127")]
    page: String,
    #[command(flatten)]
    run: run::Args,
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { page, run: args } = args;
    args.log();
    args.beside.refuse()?;
    args.html.check()?;
    let cancel = CancellationToken::new();
    run::cancel_on_signal(cancel.clone())?;
    let (listener, address) = listen(&page).await?;
    let board = Board::default();
    let stop = CancellationToken::new();
    let shown: Arc<dyn Shown> = Arc::new(board.clone());
    let serving = tokio::spawn(serve(listener, shown, stop.clone()));
    super::progress(&format!("the page of this run is http://{address}/"));
    let verdict = run::run_for(&args, Some(&board), cancel.clone()).await?;
    if !cancel.is_cancelled() {
        super::progress(&format!("the page stays at http://{address}/ until Ctrl-C"));
        cancel.cancelled().await;
    }
    stop.cancel();
    serving.await?.context("the page could not be served any more")?;
    Ok(exit_code::of(verdict))
}

async fn listen(page: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let bound = async {
        let listener = TcpListener::bind(page).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    match bound.await {
        Ok(bound) => Ok(bound),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "--page {page}: the port is in use, perhaps by another `tracecheck ui`; end that, or take a free port with `--page 127.0.0.1:0`"
        ),
        Err(error) => {
            bail!(
                "--page {page}: {error}; name an address of this machine, for example 127.0.0.1:8127"
            )
        }
    }
}
