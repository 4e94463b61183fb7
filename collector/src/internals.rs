//! Stages by themselves, for benchmarks and fuzzing. Not part of the interface: anything here may change.

use bytes::Bytes;

use crate::config::{Config, Sources};
use crate::exporter::compression::{Compression, Compressor};
use crate::exporter::datadog::Datadog;
use crate::exporter::{Exporter as _, ExporterConfig, Outgoing as _};
use crate::settings::FeatureGates;
use crate::trace_batch::TraceBatch;

/// The Datadog exporter without its queue and its network.
pub struct DatadogStages(Datadog);

impl DatadogStages {
    /// Creates the pipeline with `settings` for the exporter (YAML), with or without APM stats.
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

    /// Translates, encodes and compresses a batch; returns the number of spans in the payloads.
    pub fn requests(&self, batch: &TraceBatch) -> usize {
        self.0.requests(batch).requests.iter().map(|request| request.span_count()).sum()
    }

    /// Translates in the plain way and in the direct one, and panics where they differ; gives the number of spans sent.
    #[cfg(fuzzing)]
    pub fn compare(&self, batch: &TraceBatch, now: i64) -> usize {
        let [plain, direct] = self.0.both_ways(batch, now);
        assert_eq!(direct, plain);
        plain.payloads.iter().map(|(_, spans)| spans).sum()
    }

    /// Takes the bodies of all APM stats counted so far.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn stats(&self) -> Result<Vec<Bytes>, String> {
        self.0.take_stats()
    }

    /// Returns the bodies of the requests that the batch becomes, each with its number of spans.
    pub fn payloads(&self, batch: &TraceBatch) -> Vec<(Vec<u8>, usize)> {
        let requests = self.0.requests(batch).requests.into_iter();
        requests.map(|request| (request.body().to_vec(), request.span_count())).collect()
    }
}

/// Compresses bodies as the exporter does, one after the other.
///
/// # Errors
///
/// If there is no compression of that name.
pub fn compressor(name: &str) -> Result<impl FnMut(&[u8]) -> usize, String> {
    let compression = match name {
        "zstd" => Compression::Zstd,
        "gzip" => Compression::Gzip,
        _ => return Err(format!("there is no compression `{name}`")),
    };
    let mut compressor = Compressor::default();
    Ok(move |body: &[u8]| compressor.compress(compression, body).map_or(0, |body| body.len()))
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

/// Reads a config from a text; `environment` is asked for its variables.
///
/// # Errors
///
/// All that is wrong with it.
pub fn check_config(
    yaml: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let sources = Sources { configs: vec![format!("yaml:{yaml}")], ..Sources::default() };
    Config::load(&sources, environment).map(drop).map_err(|error| error.to_string())
}

/// Splits a batch in halves until each has one span or cannot be split further; returns the pieces.
pub fn pieces(batch: TraceBatch) -> Vec<TraceBatch> {
    let (mut whole, mut pieces) = (vec![batch], Vec::new());
    while let Some(batch) = whole.pop() {
        match batch.clone().halve() {
            Some((front, back)) => whole.extend([back, front]),
            None => pieces.push(batch),
        }
    }
    pieces
}

/// Splits a batch by trace; returns each trace's id and spans.
pub fn traces(batch: &TraceBatch) -> Vec<(u128, TraceBatch)> {
    batch.by_trace()
}

/// Returns the trace id of each span.
pub fn trace_ids(batch: &TraceBatch) -> Vec<u128> {
    batch.trace_ids().collect()
}
