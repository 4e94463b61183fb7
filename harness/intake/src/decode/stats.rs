//! APM stats payloads: a msgpack `StatsPayload` becomes groups.

use base64::{Engine, engine::general_purpose::STANDARD};
use libdd_ddsketch::DDSketch;
use libdd_trace_protobuf::pb;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::DecodeError;

/// A decoded stats payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsPayload {
    /// `AgentHostname`.
    pub agent_hostname: String,
    /// `AgentEnv`.
    pub agent_env: String,
    /// `AgentVersion`.
    pub agent_version: String,
    /// `ClientComputed`.
    pub client_computed: bool,
    /// `SplitPayload`.
    pub split_payload: bool,
    /// All groups of all client payloads and buckets, in their order.
    pub groups: Vec<StatsGroup>,
}

/// A `ClientGroupedStats` with what its bucket and client payload said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsGroup {
    /// `ClientStatsPayload.Hostname`.
    pub hostname: String,
    /// `ClientStatsPayload.Env`.
    pub env: String,
    /// `ClientStatsPayload.Version`.
    pub version: String,
    /// `ClientStatsPayload.ContainerID`.
    pub container_id: String,
    /// `ClientStatsPayload.Lang`.
    pub lang: String,
    /// `ClientStatsPayload.GitCommitSha`: the commit that the service was built from; empty for none.
    #[serde(default)]
    pub git_commit_sha: String,
    /// `ClientStatsPayload.Tags`.
    pub tags: Vec<String>,
    /// `ClientStatsBucket.Start`: nanoseconds since the Unix epoch.
    pub start: u64,
    /// `ClientStatsBucket.Duration`: length of the bucket in nanoseconds.
    pub bucket: u64,
    /// `Service`.
    pub service: String,
    /// `Name`: Datadog's operation name.
    pub name: String,
    /// `Resource`: Datadog's resource name.
    pub resource: String,
    /// `Type`.
    #[serde(rename = "type")]
    pub span_type: String,
    /// `SpanKind`.
    pub span_kind: String,
    /// `HTTPStatusCode`; 0 for none.
    pub http_status_code: u32,
    /// `GRPCStatusCode`; empty for none.
    pub grpc_status_code: String,
    /// `PeerTags`.
    pub peer_tags: Vec<String>,
    /// `IsTraceRoot`; `None` where it was not reported.
    pub is_trace_root: Option<bool>,
    /// `Synthetics`.
    pub synthetics: bool,
    /// `Hits`: spans counted.
    pub hits: u64,
    /// `Errors`: spans with an error among them.
    pub errors: u64,
    /// `TopLevelHits`: top-level spans among them.
    pub top_level_hits: u64,
    /// `Duration`: the spans' durations together, in nanoseconds.
    pub duration: u64,
    /// `OkSummary`.
    pub ok_summary: Sketch,
    /// `ErrorSummary`.
    pub error_summary: Sketch,
}

/// A DDSketch of latencies, as sent: a protobuf `DDSketch`. Base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch(pub Vec<u8>);

/// The number and the sum of a sketch's latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latencies {
    /// Number of latencies.
    pub count: u64,
    /// Sum of the latencies in nanoseconds, as exact as the sketch: within 1 %.
    pub sum: u64,
}

impl Sketch {
    /// Returns the number and the sum of the sketch's latencies; `None` if it cannot be read.
    pub fn latencies(&self) -> Option<Latencies> {
        if self.0.is_empty() {
            return Some(Latencies::default());
        }
        let sketch = DDSketch::from_encoded(&self.0)?;
        let sum: f64 =
            sketch.ordered_bins().into_iter().map(|(value, weight)| value * weight).sum();
        Some(Latencies { count: sketch.count().round() as u64, sum: sum.round() as u64 })
    }
}

impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn decode(body: &[u8]) -> Result<StatsPayload, DecodeError> {
    let payload: pb::StatsPayload =
        rmp_serde::from_slice(body).map_err(DecodeError::MessagePack)?;
    let groups = payload.stats.iter().flat_map(|client| {
        let buckets = client.stats.iter();
        buckets.flat_map(move |bucket| bucket.stats.iter().map(|group| join(client, bucket, group)))
    });
    Ok(StatsPayload {
        groups: groups.collect(),
        agent_hostname: payload.agent_hostname,
        agent_env: payload.agent_env,
        agent_version: payload.agent_version,
        client_computed: payload.client_computed,
        split_payload: payload.split_payload,
    })
}

fn join(
    client: &pb::ClientStatsPayload,
    bucket: &pb::ClientStatsBucket,
    group: &pb::ClientGroupedStats,
) -> StatsGroup {
    StatsGroup {
        hostname: client.hostname.clone(),
        env: client.env.clone(),
        version: client.version.clone(),
        container_id: client.container_id.clone(),
        lang: client.lang.clone(),
        git_commit_sha: client.git_commit_sha.clone(),
        tags: client.tags.clone(),
        start: bucket.start,
        bucket: bucket.duration,
        service: group.service.clone(),
        name: group.name.clone(),
        resource: group.resource.clone(),
        span_type: group.r#type.clone(),
        span_kind: group.span_kind.clone(),
        http_status_code: group.http_status_code,
        grpc_status_code: group.grpc_status_code.clone(),
        peer_tags: group.peer_tags.clone(),
        is_trace_root: match pb::Trilean::try_from(group.is_trace_root) {
            Ok(pb::Trilean::True) => Some(true),
            Ok(pb::Trilean::False) => Some(false),
            Ok(pb::Trilean::NotSet) | Err(_) => None,
        },
        synthetics: group.synthetics,
        hits: group.hits,
        errors: group.errors,
        top_level_hits: group.top_level_hits,
        duration: group.duration,
        ok_summary: Sketch(group.ok_summary.clone()),
        error_summary: Sketch(group.error_summary.clone()),
    }
}
