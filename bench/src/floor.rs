//! The least that a collector could do: it reads the same requests, and compresses and sends a payload of as many spans,
//! which was translated beforehand.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How the floor is started.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    sink: u16,
    /// The payload, not compressed
    #[arg(long)]
    payload: PathBuf,
    /// How many spans the payload has
    #[arg(long)]
    payload_spans: usize,
    #[arg(long)]
    spans_per_request: usize,
    #[arg(long)]
    compression: String,
}

/// Serves until it is killed.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let payload = std::fs::read(&args.payload)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(Arc::new(args), payload.into()))
}

async fn serve(args: Arc<Args>, payload: Bytes) -> anyhow::Result<()> {
    let (full, mut batches) = mpsc::unbounded_channel::<()>();
    let held = Arc::new(Mutex::new((0, Vec::<Bytes>::new())));
    let (sender, body) = (Arc::clone(&args), payload.clone());
    tokio::spawn(async move {
        while batches.recv().await.is_some() {
            // Each batch by a task of its own, as the collector's queue has it.
            let (sender, body) = (Arc::clone(&sender), body.clone());
            tokio::spawn(async move { send(&sender, &body).await });
        }
    });
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (args, held, full) = (Arc::clone(&args), Arc::clone(&held), full.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                receive(Arc::clone(&args), Arc::clone(&held), full.clone(), request)
            });
            // How a connection ends shows in what arrives.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .adaptive_window(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Trailers =
    WithTrailers<Empty<Bytes>, std::future::Ready<Option<Result<HeaderMap, Infallible>>>>;

async fn receive(
    args: Arc<Args>,
    held: Arc<Mutex<(usize, Vec<Bytes>)>>,
    full: mpsc::UnboundedSender<()>,
    request: Request<Incoming>,
) -> Result<Response<Trailers>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 += args.spans_per_request;
        // Held until their batch is full, as in the collector.
        held.1.push(body.to_bytes());
        if held.0 >= args.payload_spans {
            held.0 -= args.payload_spans;
            held.1.clear();
            // The other end lives as long as this process.
            let _ = full.send(());
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response =
        Response::new(Empty::new().with_trailers(std::future::ready(Some(Ok(trailers)))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Compresses the payload and sends it, on a connection that is kept for the next one.
async fn send(args: &Args, payload: &[u8]) -> anyhow::Result<()> {
    static IDLE: Mutex<Vec<hyper::client::conn::http1::SendRequest<Full<Bytes>>>> =
        Mutex::new(Vec::new());
    let body = match args.compression.as_str() {
        "gzip" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(payload)?;
            encoder.finish()?
        }
        _ => zstd::bulk::compress(payload, 1)?,
    };
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match idle {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", args.sink)).await?;
            stream.set_nodelay(true)?;
            let (send, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            send
        }
    };
    let request = Request::post("/api/v0.2/traces")
        .header("host", "127.0.0.1")
        .header("content-encoding", &args.compression)
        .body(Full::from(body))?;
    connection.ready().await?;
    connection.send_request(request).await?.into_body().collect().await?;
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    Ok(())
}
