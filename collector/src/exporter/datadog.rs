//! Sends traces to Datadog as contrib's `datadogexporter` does.
//!
//! [`translate`] maps spans (pure), [`payload`] writes bytes (pure), [`stats`] counts spans, [`client`] talks to the intake. A payload goes out as
//! soon as its batch arrives; waiting is the batch processor's matter.

#[cfg(any(test, fuzzing))]
mod both_ways;
mod client;
pub(crate) mod config;
mod counting;
mod model;
mod payload;
mod stats;
pub(crate) mod translate;
mod usage;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::Client;
pub(crate) use client::KeyCheck;
pub(crate) use config::Config;
use counting::{Counting, PEER_TAGS};
use payload::Sender;
use stats::Concentrator;
use tokio_util::sync::CancellationToken;
use translate::direct::{self, Scratch};
use translate::obfuscation::Obfuscation;
use translate::{NamingOptions, Settings};
use usage::{Reporter, Usage};

use super::compression::{Compression, Compressor};
use super::http_client::ClientError;
use super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use crate::settings::FeatureGates;
use crate::settings::pattern;
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

/// The exporter.
pub(crate) struct Datadog {
    client: Client,
    settings: Settings,
    sender: Arc<Sender>,
    compression: Compression,
    stats: Arc<Concentrator>,
    /// Whether all resources have their spans counted, and not only those that ask for it.
    counts_all: bool,
    usage: Arc<Usage>,
    reporter: Reporter,
    retry: crate::exporter::retry::Config,
    /// Pool of buffers for translating: as many as were ever in use at once.
    tools: Mutex<Vec<Tools>>,
}

/// Memory that is used again from batch to batch.
#[derive(Default)]
struct Tools {
    scratch: Scratch,
    compressor: Compressor,
}

/// A payload as it is sent.
pub(crate) struct Request {
    body: Bytes,
    spans: usize,
    compression: Compression,
}

impl Datadog {
    /// Sets up the exporter; `system_hostname` is the host of spans that name none, unless the config has one.
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
            stats: Arc::new(Concentrator::new(counting(config), now() as u64)),
            counts_all: !gates.disable_apm_stats,
            usage: Arc::default(),
            reporter: Reporter {
                hostname: hostname.into(),
                version: env!("CARGO_PKG_VERSION"),
                metadata: config.host_metadata.clone(),
            },
            retry: config.retry_on_failure.clone(),
            tools: Mutex::default(),
        })
    }

    /// Translates a batch and counts its spans. `done` gets the body of each payload, and its number of spans.
    fn translate(
        &self,
        batch: &TraceBatch,
        scratch: &mut Scratch,
        done: &mut dyn FnMut(&[u8], usize),
    ) -> Vec<(&'static str, usize)> {
        let (counted_until, mut last) = (batch.counted_until(), 0);
        let mut counted = |counted: direct::CountedResource<'_, '_>| {
            self.usage.note(counted.tracer);
            let bucket = self.stats.add(counted.tracer, &self.sender, counted_until);
            last = last.max(bucket).max(self.stats.add_records(counted.records, counted_until));
        };
        let context = self.context(now());
        let dropped = direct::translate(context, batch, scratch, done, &mut counted);
        if self.counts_all {
            self.stats.note(batch.holds().filter(|(hold, _)| hold.wants_stats()), last);
        }
        dropped.into_iter().map(|(reason, spans)| (reason.name(), spans)).collect()
    }

    fn context(&self, now: i64) -> direct::Context<'_> {
        direct::Context {
            settings: &self.settings,
            sender: &self.sender,
            counting: self.counts_all.then(|| self.stats.counting()),
            now,
        }
    }

    /// Sends APM stats until `end`, and then what is left of them.
    pub(crate) fn stats_sender(
        &self,
        registry: &Registry,
        id: &str,
        end: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let stats = Arc::clone(&self.stats);
        let (client, sender) = (self.client.clone(), Arc::clone(&self.sender));
        let (retry, registry, id) = (self.retry.clone(), registry.clone(), id.to_owned());
        stats::run(stats, client, sender, retry, registry, id, end)
    }

    /// Takes out all stats counted so far, as they are sent.
    pub(crate) fn take_stats(&self) -> Result<Vec<Bytes>, String> {
        let (payloads, _) = self.stats.flush(&self.sender, now() as u64, true);
        payloads.iter().map(stats::encode).collect()
    }

    /// Reports to Datadog that this exporter runs, until `end`.
    pub(crate) fn usage_sender(
        &self,
        end: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        usage::run(Arc::clone(&self.usage), self.client.clone(), self.reporter.clone(), end)
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

fn counting(config: &Config) -> Counting {
    let traces = &config.traces;
    let mut peer_tags: Vec<String> = traces.peer_tags.clone();
    if traces.peer_tags_aggregation {
        peer_tags.extend(PEER_TAGS.map(str::to_owned));
    }
    Counting::new(traces.compute_stats_by_span_kind, peer_tags)
}

fn settings(config: &Config, hostname: &str, gates: FeatureGates) -> Settings {
    let traces = &config.traces;
    Settings {
        hostname: hostname.into(),
        naming: NamingOptions {
            span_name_as_resource_name: traces.span_name_as_resource_name,
            span_name_remappings: traces.span_name_remappings.clone(),
            first_version: gates.first_version_names,
        },
        top_level_by_span_kind: traces.compute_top_level_by_span_kind,
        first_receiver: gates.first_receiver,
        old_scope_convention: gates.old_scope_convention,
        counts_on_request: gates.disable_apm_stats,
        obfuscation: Obfuscation::new(&traces.obfuscation),
        // Checked with the config.
        ignore_resources: traces
            .ignore_resources
            .iter()
            .filter_map(|pattern| pattern::compile(pattern).ok())
            .collect(),
    }
}

impl Request {
    /// Returns the body to send.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The payload. It is kept compressed only: it is seldom needed once more.
    fn payload(&self) -> Vec<u8> {
        // What we compressed can be decompressed.
        self.compression.decompress(&self.body).unwrap_or_default()
    }
}

impl Outgoing for Request {
    fn span_count(&self) -> usize {
        self.spans
    }

    fn trace_ids(&self) -> Vec<u128> {
        payload::trace_ids(&self.payload())
    }

    fn show_spans(&self, show: &mut dyn FnMut(u128, &[u8])) {
        payload::spans(&self.payload()).for_each(|(id, span)| show(id, span));
    }

    fn byte_count(&self) -> usize {
        self.body.len()
    }

    fn halve(self) -> Option<(Self, Self)> {
        let [front, back] = payload::halve(&self.payload(), self.spans)?;
        let (mut compressor, compression) = (Compressor::default(), self.compression);
        let mut request = |(body, spans): (Vec<u8>, usize)| {
            let body = compressor.compress(compression, &body).ok()?;
            Some(Self { body: body.into(), spans, compression })
        };
        Some((request(front)?, request(back)?))
    }
}

impl Exporter for Datadog {
    type Request = Request;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Request> {
        let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Tools { mut scratch, mut compressor } = tools.unwrap_or_default();
        let mut requests = Vec::new();
        let mut done = |body: &[u8], spans: usize| {
            // Compressing into memory does not fail; if it did, the body would be refused by the intake and be counted.
            let body = compressor.compress(self.compression, body).unwrap_or_default();
            requests.push(Request { body: body.into(), spans, compression: self.compression });
        };
        let dropped = self.translate(batch, &mut scratch, &mut done);
        let tools = Tools { scratch, compressor };
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).push(tools);
        Prepared { requests, dropped }
    }

    fn has_stats(&self) -> bool {
        self.counts_all
    }

    fn recount(&self, batch: &TraceBatch) {
        self.translate(batch, &mut Scratch::default(), &mut |_, _| {});
    }

    async fn send(&self, request: &Request) -> Result<Sent, ExportError> {
        self.client.send_traces(request.body.clone()).await.map(|()| Sent::default())
    }
}

#[cfg(test)]
mod golden_tests;
