//! Takes an order, and asks the stock for it; without `STOCK_URL` it is the stock.

mod telemetry;

use std::{env, error::Error, time::Duration};

use axum::{
    Router, extract::Path, http::StatusCode, middleware::from_fn, response::IntoResponse,
    routing::get,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let provider = telemetry::start()?;
    let app = Router::new()
        .route("/orders/{order}", get(order))
        .layer(from_fn(telemetry::server_span))
        .route("/ready", get(|| async { "ready" }));
    let listener = TcpListener::bind(env::var("LISTEN")?).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminated.recv().await;
        })
        .await?;
    // Sends what is left.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    Ok(())
}

async fn order(Path(order): Path<String>) -> impl IntoResponse {
    let Ok(stock) = env::var("STOCK_URL") else {
        let in_stock = order != "declined";
        return if in_stock { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    };
    let url = format!("{stock}/orders/{order}");
    match telemetry::get(&url, Duration::from_secs(3)).await {
        Ok(status) if status.is_success() => StatusCode::OK,
        Err(error) if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}
