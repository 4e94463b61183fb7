//! Sends OTLP over gRPC, so that collectors can be chained.

pub(crate) mod config;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub(crate) use config::Config;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::compression::Compression;
use super::http_client::ClientError;
use super::otlphttp::partial_success;
use super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use crate::grpc_codec::BytesCodec;
use crate::grpc_snappy::SnappyChannel;
use crate::trace_batch::TraceBatch;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The exporter.
pub(crate) struct Otlp {
    channel: Channel,
    metadata: MetadataMap,
    compression: Compression,
    timeout: Duration,
}

/// A batch, and its message as it is sent.
pub(crate) struct Request {
    batch: TraceBatch,
    message: Bytes,
}

impl Otlp {
    pub(crate) fn new(config: &Config) -> Result<Self, ClientError> {
        let mut metadata = MetadataMap::new();
        for (name, value) in &config.headers {
            let wrong = || ClientError::Header(name.clone());
            let key = AsciiMetadataKey::from_bytes(name.to_lowercase().as_bytes())
                .map_err(|_| wrong())?;
            let mut value = AsciiMetadataValue::try_from(value.expose()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            metadata.insert(key, value);
        }
        let url = config.url();
        let wrong = || ClientError::Url(url.clone());
        let origin: Uri = url.parse().map_err(|_| wrong())?;
        // TLS is our connector's. Where another crate of the program switches tonic's own on, tonic refuses `https` without it.
        let plain = url.replacen("https://", "http://", 1);
        let endpoint = Endpoint::from_shared(plain)
            .map_err(|_| wrong())?
            .origin(origin)
            .connect_timeout(config.timeout.min(Duration::from_secs(10)))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(30));
        let channel = if config.is_secure() {
            let tls = Arc::new(config.tls.config(&[b"h2"])?);
            let name = config.tls.server_name_override.clone();
            endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
                connect(uri, TlsConnector::from(Arc::clone(&tls)), name.clone())
            }))
        } else {
            endpoint.connect_lazy()
        };
        Ok(Self { channel, metadata, compression: config.compression, timeout: config.timeout })
    }
}

/// Connects with TLS.
async fn connect(
    uri: Uri,
    tls: TlsConnector,
    name: Option<String>,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(4317))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.unwrap_or(host)).map_err(std::io::Error::other)?;
    Ok(TokioIo::new(tls.connect(name, stream).await?))
}

impl Request {
    fn new(batch: TraceBatch) -> Self {
        let message = batch.to_protobuf().into();
        Self { batch, message }
    }
}

impl Outgoing for Request {
    fn span_count(&self) -> usize {
        self.batch.span_count()
    }

    fn trace_ids(&self) -> Vec<u128> {
        self.batch.trace_ids().collect()
    }

    fn byte_count(&self) -> usize {
        self.batch.byte_count() + self.message.len()
    }

    fn halve(self) -> Option<(Self, Self)> {
        let (front, back) = self.batch.halve()?;
        Some((Self::new(front), Self::new(back)))
    }
}

impl Exporter for Otlp {
    type Request = Request;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Request> {
        Prepared { requests: vec![Request::new(batch.clone())], dropped: Vec::new() }
    }

    async fn send(&self, request: &Request) -> Result<Sent, ExportError> {
        let client = tonic::client::Grpc::new(self.channel.clone());
        let answer = tokio::time::timeout(self.timeout, async {
            match self.compression {
                Compression::Gzip => {
                    self.call(client.send_compressed(CompressionEncoding::Gzip), request).await
                }
                Compression::Zstd => {
                    self.call(client.send_compressed(CompressionEncoding::Zstd), request).await
                }
                Compression::Snappy => {
                    let channel = SnappyChannel(self.channel.clone());
                    self.call(tonic::client::Grpc::new(channel), request).await
                }
                // The others are none of gRPC's: checked with the config.
                _ => self.call(client, request).await,
            }
        });
        match answer.await {
            Ok(Ok(reply)) => Ok(partial_success(reply.get_ref())),
            Ok(Err(status)) => Err(judge(&status)),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.timeout);
                Err(ExportError::Retryable { reason, after: None, is_doubtful: true })
            }
        }
    }
}

impl Otlp {
    async fn call<C>(
        &self,
        mut client: tonic::client::Grpc<C>,
        request: &Request,
    ) -> Result<tonic::Response<Bytes>, Status>
    where
        C: GrpcService<Body>,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + 'static,
    {
        client.ready().await.map_err(|error| Status::unavailable(causes(&*error.into())))?;
        let mut message = tonic::Request::new(request.message.clone());
        *message.metadata_mut() = self.metadata.clone();
        client.unary(message, PathAndQuery::from_static(EXPORT), BytesCodec).await
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Classifies a status by the OTLP specification ("OTLP/gRPC response", failures).
fn judge(status: &Status) -> ExportError {
    if std::error::Error::source(status).is_some() {
        // It was made here, of an error of the connection: no receiver has judged the request.
        return ExportError::Retryable { reason: causes(status), after: None, is_doubtful: true };
    }
    let reason = format!("the receiver answered {:?}: {}", status.code(), status.message());
    let after = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::ResourceExhausted
            if after.is_none() && status.message().contains("larger than max") =>
        {
            ExportError::TooLarge { reason }
        }
        Code::OutOfRange if status.message().contains("message length too large") => {
            ExportError::TooLarge { reason }
        }
        Code::ResourceExhausted if after.is_none() => ExportError::Permanent { reason },
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => ExportError::Retryable {
            reason,
            after,
            is_doubtful: matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded),
        },
        _ => ExportError::Permanent { reason: format!("{reason}; check `endpoint` and `headers`") },
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, ExportError, Status, judge};
    use std::time::Duration;
    use tonic_types::{ErrorDetails, StatusExt as _};

    #[test]
    fn statuses_are_judged_by_the_otlp_specification() {
        let judged = |code, message: &str| judge(&Status::new(code, message));
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Aborted] {
            assert!(matches!(judged(code, ""), ExportError::Retryable { .. }), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::Unauthenticated, Code::ResourceExhausted] {
            assert!(matches!(judged(code, ""), ExportError::Permanent { .. }), "{code:?}");
        }
        let too_large = "grpc: received message larger than max (5 vs. 4)";
        assert!(matches!(judged(Code::ResourceExhausted, too_large), ExportError::TooLarge { .. }));
        let wait = Duration::from_secs(3);
        let details = ErrorDetails::with_retry_info(Some(wait));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        assert!(
            matches!(judge(&status), ExportError::Retryable { after: Some(after), .. } if after == wait)
        );
    }
}
