//! Sends traces to Datadog as contrib's `datadogexporter` does.
//!
//! [`translate`] maps spans (pure), [`payload`] writes bytes (pure), [`stats`] counts spans, [`client`] talks to the intake. A payload goes out as
//! soon as its batch arrives; waiting is the batch processor's matter.

mod client;
pub(crate) mod config;
mod model;
mod payload;
mod stats;
mod translate;
mod usage;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::Client;
pub(crate) use client::KeyCheck;
pub(crate) use config::Config;
use payload::{Payload, Sender};
use stats::Concentrator;
use tokio_util::sync::CancellationToken;
use translate::{Naming, Settings};
use usage::{Teller, Usage};

use super::compression::Compression;
use super::http_client::ClientError;
use super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use crate::config::FeatureGates;
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

/// The exporter.
pub(crate) struct Datadog {
    client: Client,
    settings: Settings,
    sender: Arc<Sender>,
    compression: Compression,
    /// None if the user does without.
    stats: Option<Arc<Concentrator>>,
    usage: Arc<Usage>,
    teller: Teller,
    retry: crate::exporter::retry::Config,
}

/// A payload, and its body as it is sent.
pub(crate) struct Request {
    payload: Payload,
    sender: Arc<Sender>,
    compression: Compression,
    body: Bytes,
}

impl Datadog {
    /// Sets up the exporter; `system_hostname` is the host of spans that tell none, unless the config has one.
    pub(crate) fn new(
        config: &Config,
        system_hostname: &str,
        gates: FeatureGates,
    ) -> Result<Self, ClientError> {
        let hostname = match config.hostname.as_str() {
            "" => system_hostname,
            configured => configured,
        };
        let agent_version = concat!("datadogexporter-collector-", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            client: Client::new(config, agent_version)?,
            settings: settings(config, hostname, gates),
            sender: Arc::new(Sender {
                host_name: hostname.into(),
                env: "none".into(),
                agent_version: agent_version.into(),
            }),
            compression: config.compression,
            stats: (!gates.disable_apm_stats)
                .then(|| Arc::new(Concentrator::new(stats_settings(config), now() as u64))),
            usage: Arc::default(),
            teller: Teller {
                hostname: hostname.into(),
                version: env!("CARGO_PKG_VERSION"),
                metadata: config.host_metadata.clone(),
            },
            retry: config.retry_on_failure.clone(),
        })
    }

    /// Counts the spans of a batch, which these payloads are of.
    fn count(&self, batch: &TraceBatch, tracers: &[model::TracerPayload<'_>]) {
        let Some(stats) = &self.stats else { return };
        let counted_until = batch.counted_until();
        let buckets = tracers.iter().map(|tracer| stats.add(tracer, &self.sender, counted_until));
        let last = buckets.max().unwrap_or_default();
        stats.note(batch.holds().filter(|(hold, _)| hold.wants_stats()), last);
    }

    /// Sends APM stats until `end`, and then what is left of them.
    pub(crate) fn stats_sender(
        &self,
        registry: &Registry,
        id: &str,
        end: CancellationToken,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let stats = Arc::clone(self.stats.as_ref()?);
        let (client, sender) = (self.client.clone(), Arc::clone(&self.sender));
        let (retry, registry, id) = (self.retry.clone(), registry.clone(), id.to_owned());
        Some(stats::run(stats, client, sender, retry, registry, id, end))
    }

    /// Tells Datadog that this exporter runs, until `end`.
    pub(crate) fn usage_sender(
        &self,
        end: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        usage::run(Arc::clone(&self.usage), self.client.clone(), self.teller.clone(), end)
    }

    /// Asks Datadog whether the API key is valid.
    pub(crate) fn key_checker(&self) -> impl Future<Output = KeyCheck> + Send + 'static {
        let client = self.client.clone();
        async move { client.check_key().await }
    }
}

/// The time in nanoseconds since the epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

fn stats_settings(config: &Config) -> stats::Settings {
    let traces = &config.traces;
    let mut peer_tags: Vec<String> = traces.peer_tags.clone();
    if traces.peer_tags_aggregation {
        peer_tags.extend(stats::PEER_TAGS.map(str::to_owned));
    }
    peer_tags.sort();
    peer_tags.dedup();
    stats::Settings { by_span_kind: traces.compute_stats_by_span_kind, peer_tags }
}

fn settings(config: &Config, hostname: &str, gates: FeatureGates) -> Settings {
    let traces = &config.traces;
    Settings {
        hostname: hostname.into(),
        naming: Naming {
            span_name_as_resource_name: traces.span_name_as_resource_name,
            span_name_remappings: traces.span_name_remappings.clone(),
            first_version: gates.first_version_names,
        },
        top_level_by_span_kind: traces.compute_top_level_by_span_kind,
        first_receiver: gates.first_receiver,
        // Checked with the config.
        ignore_resources: traces
            .ignore_resources
            .iter()
            .filter_map(|pattern| regex::Regex::new(pattern).ok())
            .collect(),
    }
}

impl Request {
    fn new(payload: Payload, sender: Arc<Sender>, compression: Compression) -> Self {
        let body = payload.body_for(&sender);
        // Compressing into memory does not fail; if it did, the body would be refused by the intake and be counted.
        let body = compression.compress(body).unwrap_or_default().into();
        Self { payload, sender, compression, body }
    }

    /// What is sent.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Outgoing for Request {
    fn span_count(&self) -> usize {
        self.payload.spans
    }

    fn trace_ids(&self) -> Vec<u128> {
        payload::trace_ids(&self.payload)
    }

    fn halve(self) -> Option<(Self, Self)> {
        let (front, back) = payload::halve(&self.payload)?;
        let request = |half| Self::new(half, Arc::clone(&self.sender), self.compression);
        Some((request(front), request(back)))
    }
}

impl Exporter for Datadog {
    type Request = Request;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Request> {
        let translation = translate::translate(&self.settings, batch, now());
        translation.tracers.iter().for_each(|tracer| self.usage.note(tracer));
        self.count(batch, &translation.tracers);
        let request = |payload| Request::new(payload, Arc::clone(&self.sender), self.compression);
        let requests = payload::build(&translation.tracers).into_iter().map(request).collect();
        let dropped = translation.dropped.iter().map(|(reason, spans)| (reason.name(), *spans));
        Prepared { requests, dropped: dropped.collect() }
    }

    fn has_stats(&self) -> bool {
        self.stats.is_some()
    }

    fn recount(&self, batch: &TraceBatch) {
        self.count(batch, &translate::translate(&self.settings, batch, now()).tracers);
    }

    async fn send(&self, request: &Request) -> Result<Sent, ExportError> {
        self.client.send_traces(request.body.clone()).await.map(|()| Sent::default())
    }
}

#[cfg(test)]
mod golden_tests;
