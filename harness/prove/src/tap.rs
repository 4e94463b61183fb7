//! A tap: an HTTP server that stands on the edges of a system under test, passes on what goes over them, and changes it on the way.
//!
//! Within this process one [`Tap`] serves any number of edges. Whom a request is for stands at the beginning of its path: a workload
//! that is to go through the tap at `127.0.0.1:7000` is given `http://127.0.0.1:7000/127.0.0.1:4318` in place of
//! `http://127.0.0.1:4318`. As a workload of its own ([`program`]) it has a port for each edge, and is given its faults while it runs.
//! What a request is follows from its path: traces in OTLP, trace payloads or stats of Datadog's, or else a call between services.
//!
//! Without a [`Change`] everything is passed on as it came, byte for byte, so that a system with a tap in it is as sound as one
//! without.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{extract::Request, response::IntoResponse as _};
use tokio::{net::TcpListener, task::AbortHandle};

use self::line::{Line, Orders};
use crate::change::{Change, Sites};

mod grpc;
mod line;
mod passing;
pub mod program;
mod serve;
#[cfg(test)]
mod tests;

/// A tap that runs until it is dropped.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    line: Arc<Line>,
    server: AbortHandle,
}

/// Error of a tap that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A port could not be bound.
    #[error("a tap cannot listen on {address}: {source}")]
    Listen {
        /// Address of the tap.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
}

impl Tap {
    /// Starts a tap that makes this change, or none, at these services.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(change: Option<Change>, sites: Sites) -> Result<Self, TapError> {
        let (listener, address) = listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
        let line = Arc::new(Line::new(Orders::of(change, sites)));
        let passes = Arc::clone(&line);
        let server = tokio::spawn(serve::serve(listener, move |request: Request| {
            let line = Arc::clone(&passes);
            async move {
                match line::addressed(request) {
                    Ok((target, request)) => line.pass(&target, request).await,
                    Err(refused) => refused.into_response(),
                }
            }
        }));
        Ok(Self { address, line, server: server.abort_handle() })
    }

    /// Returns the URL that a workload is given in place of `http://TARGET`; `target` may be a reference that an
    /// environment resolves.
    pub fn instead_of(&self, target: &str) -> String {
        format!("http://{}/{target}", self.address)
    }

    /// Returns how many requests the tap changed, or delivered other than intended by their sender.
    pub fn changed(&self) -> u64 {
        self.line.passed().changed
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), TapError> {
    let failed = |source| TapError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
