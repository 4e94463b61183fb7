//! Builds the SDK's OTLP exporter from settings that are already checked.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use opentelemetry_otlp::{
    Compression, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use tonic::metadata::MetadataMap;
use tonic::transport::ClientTlsConfig;

use crate::StartError;
use crate::settings::telemetry::{OtlpCompression, OtlpProtocol, OtlpSettings};

/// Builds an exporter whose every export ends within the shorter of its own timeout and `export_timeout`: the SDK's
/// batch processor has a thread of its own and does not enforce its limit.
pub(super) fn make_exporter(
    settings: &OtlpSettings,
    export_timeout: Duration,
) -> Result<SpanExporter, StartError> {
    let timeout = settings.timeout.min(export_timeout);
    let compression = settings.compression.map(|compression| match compression {
        OtlpCompression::Gzip => Compression::Gzip,
        OtlpCompression::Zstd => Compression::Zstd,
    });
    match settings.protocol {
        OtlpProtocol::Grpc => {
            let mut builder = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&settings.endpoint)
                .with_timeout(timeout)
                .with_metadata(MetadataMap::from_headers(settings.headers.0.clone()));
            if settings.endpoint.starts_with("https:") {
                // Left to itself the exporter would trust no authority at all.
                builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
            }
            if let Some(compression) = compression {
                builder = builder.with_compression(compression);
            }
            Ok(builder.build()?)
        }
        OtlpProtocol::HttpProtobuf => {
            let headers = settings.headers.0.iter();
            let headers: HashMap<_, _> = headers
                .filter_map(|(name, value)| {
                    Some((name.to_string(), value.to_str().ok()?.to_owned()))
                })
                .collect();
            let mut builder = SpanExporter::builder()
                .with_http()
                .with_http_client(make_client(timeout)?)
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&settings.endpoint)
                .with_timeout(timeout)
                .with_headers(headers);
            if let Some(compression) = compression {
                builder = builder.with_compression(compression);
            }
            Ok(builder.build()?)
        }
    }
}

/// Makes the client that the batch processor's own thread can use: a blocking one. The SDK would choose by what Cargo
/// features are on in the whole build, and some of its choices need a tokio runtime on that thread.
fn make_client(timeout: Duration) -> Result<reqwest::blocking::Client, StartError> {
    // A blocking client must not be built on a runtime's thread.
    let built = thread::spawn(move || {
        reqwest::blocking::Client::builder().timeout(timeout).no_proxy().build()
    });
    built.join().map_err(|_| StartError::ExporterThread)?.map_err(StartError::Client)
}
