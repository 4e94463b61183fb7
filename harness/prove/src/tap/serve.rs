//! Serving HTTP/1 and HTTP/2 without TLS, as services and SDKs speak among themselves.

use std::{convert::Infallible, future::Future, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinSet};

/// How long it waits after a connection that it could not take.
const AGAIN: Duration = Duration::from_millis(10);

/// Answers every request that comes; ends when it is dropped.
pub(super) async fn serve<F, Answer>(listener: TcpListener, answer: F)
where
    F: Fn(Request) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    // Connections end with it.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a tap could not take a connection");
                // Such as where there are too many files: not at once again.
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            let answer = answer(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        connections.spawn(async move {
            let served = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection to a tap ended");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
