//! Stages by themselves, for benchmarks and fuzzing. Not part of the interface: anything here may change.

use bytes::Bytes;

use crate::config::{Config, FeatureGates, Sources};
use crate::exporter::datadog::Datadog;
use crate::exporter::{Exporter as _, ExporterConfig, Outgoing as _};
use crate::trace_batch::TraceBatch;

/// The Datadog exporter without its queue and its network.
pub struct DatadogStages(Datadog);

impl DatadogStages {
    /// Sets it up with `settings` for the exporter (YAML), with or without APM stats.
    ///
    /// # Errors
    ///
    /// If the settings are wrong.
    pub fn new(settings: &str, stats: bool) -> Result<Self, String> {
        let yaml = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{datadog: {settings}}}, service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [datadog]}}}}}}}}"
        );
        let sources = Sources { configs: vec![yaml], ..Sources::default() };
        let config = Config::load(&sources, &|_| None).map_err(|error| error.to_string())?;
        let gates = FeatureGates { disable_apm_stats: !stats, ..FeatureGates::default() };
        match config.exporters.into_values().next() {
            Some(ExporterConfig::Datadog(config)) => {
                crate::install_crypto_provider();
                let exporter = Datadog::new(&config, "bench", gates);
                exporter.map(Self).map_err(|error| error.to_string())
            }
            _ => Err("the exporter is not datadog".into()),
        }
    }

    /// Translates, writes and compresses; gives the number of spans in the payloads.
    pub fn requests(&self, batch: &TraceBatch) -> usize {
        self.0.requests(batch).requests.iter().map(|request| request.span_count()).sum()
    }

    /// The bodies of the requests to the intake, each with its number of spans.
    pub fn payloads(&self, batch: &TraceBatch) -> Vec<(Vec<u8>, usize)> {
        let requests = self.0.requests(batch).requests.into_iter();
        requests.map(|request| (request.body().to_vec(), request.span_count())).collect()
    }
}

/// Reads an OTLP request in protobuf.
///
/// # Errors
///
/// If the bytes are no such request.
pub fn decode_protobuf(request: Bytes) -> Result<TraceBatch, String> {
    TraceBatch::from_protobuf(request).map_err(|error| error.to_string())
}

/// Writes a batch as an OTLP request in protobuf.
pub fn encode_protobuf(batch: &TraceBatch) -> Bytes {
    batch.to_protobuf().into()
}

/// Reads an OTLP request in JSON.
///
/// # Errors
///
/// If the bytes are no such request.
pub fn decode_json(request: &[u8]) -> Result<TraceBatch, String> {
    TraceBatch::from_json(request).map_err(|error| error.to_string())
}
