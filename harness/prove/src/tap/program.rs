//! The tap as a workload: a port for each edge, and one by which it is given its faults.

use std::{collections::BTreeMap, io::Write as _, net::SocketAddr, process::ExitCode, sync::Arc};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    routing::{get, put},
};
use harness_core::{
    fail,
    wire::{CONTROL_PORT, FAULTS_PATH, HEALTH_PATH, PASSED_PATH, Passed, WireFault},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{
    TapError,
    line::{Line, Orders},
    listen, serve,
};

/// A proxy between two workloads that does to what passes what a scenario's faults ask for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An edge: the name of a port, where it listens for those who call, and whom it passes on to.
    #[arg(long = "edge", value_name = "PORT=IP:PORT=HOST:PORT", required = true, value_parser = edge)]
    edges: Vec<Edge>,
    /// Address at which it is given its faults, and reports what passed.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    control: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    port: String,
    listen: SocketAddr,
    target: String,
}

fn edge(text: &str) -> Result<Edge, String> {
    let mut parts = text.splitn(3, '=');
    let (Some(port), Some(listen), Some(target)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err("write PORT=IP:PORT=HOST:PORT".to_owned());
    };
    let listen = listen.parse().map_err(|_| format!("`{listen}` is not IP:PORT"))?;
    Ok(Edge { port: port.to_owned(), listen, target: target.to_owned() })
}

/// Runs a tap until SIGTERM or SIGINT. Exits 0 then, 1 where it failed, 2 where it cannot listen.
pub fn run(args: Args) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Somebody else may have set up logging already; then that holds.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}"), 1),
    };
    match runtime.block_on(serve_until_asked_to_stop(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Tap(error)) => fail(&error.to_string(), 2),
        Err(RunError::Signal(error)) => fail(&format!("cannot wait for signals: {error}"), 1),
    }
}

enum RunError {
    Tap(TapError),
    Signal(std::io::Error),
}

async fn serve_until_asked_to_stop(args: Args) -> Result<(), RunError> {
    // Before the listening line: whoever reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let listening = start(args).await.map_err(RunError::Tap)?;
    let line = serde_json::json!({ "listening": listening });
    // A reader that is not there is no reason not to serve.
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!(%error, "cannot print the listening line");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Serves all edges and the control port from now on; where, by port.
async fn start(args: Args) -> Result<BTreeMap<String, String>, TapError> {
    let line = Arc::new(Line::new(Orders::default()));
    let mut listening = BTreeMap::new();
    for Edge { port, listen: at, target } in args.edges {
        let (listener, address) = listen(at).await?;
        listening.insert(port, address.to_string());
        let (line, target) = (Arc::clone(&line), Arc::new(target));
        tokio::spawn(serve::serve(listener, move |request: Request| {
            let (line, target) = (Arc::clone(&line), Arc::clone(&target));
            async move { line.pass(&target, request).await }
        }));
    }
    let (listener, address) = listen(args.control).await?;
    listening.insert(CONTROL_PORT.to_owned(), address.to_string());
    let control = Router::new()
        .route(HEALTH_PATH, get(|| async { StatusCode::OK }))
        .route(FAULTS_PATH, put(obey))
        .route(PASSED_PATH, get(|State(line): State<Arc<Line>>| async move { Json(line.passed()) }))
        .with_state(line);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, control).await {
            tracing::warn!(%error, "the control port of a tap ended");
        }
    });
    Ok(listening)
}

/// Does this from now on; answers what passed until then.
async fn obey(
    State(line): State<Arc<Line>>,
    Json(faults): Json<Vec<WireFault>>,
) -> Result<Json<Passed>, (StatusCode, String)> {
    let orders = Orders::from_faults(faults);
    let orders = orders.map_err(|wrong| (StatusCode::UNPROCESSABLE_ENTITY, wrong))?;
    let passed = line.passed();
    line.obey(orders);
    Ok(Json(passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_a_port_where_it_listens_and_whom_it_is_for() {
        let read = edge("otlp/x-http=127.0.0.1:0=collector:4318").unwrap();
        assert_eq!((read.port.as_str(), read.target.as_str()), ("otlp/x-http", "collector:4318"));
        assert_eq!(read.listen.port(), 0);
        assert!(edge("http=127.0.0.1:0").is_err());
        assert!(edge("http=here=there").unwrap_err().contains("`here` is not IP:PORT"));
    }
}
