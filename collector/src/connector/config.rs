//! Settings of the Datadog connector.

use serde::Deserialize;

use crate::settings::Diagnostics;

pub(crate) const REFUSED: [(&str, &str); 12] = [
    ("traces.ignore_resources", "set it in the exporter's `traces`"),
    ("traces.span_name_remappings", "set it in the exporter's `traces`"),
    ("traces.span_name_as_resource_name", "set it in the exporter's `traces`"),
    ("traces.compute_stats_by_span_kind", "set it in the exporter's `traces`"),
    ("traces.compute_top_level_by_span_kind", "set it in the exporter's `traces`"),
    ("traces.peer_tags_aggregation", "set it in the exporter's `traces`"),
    ("traces.peer_service_aggregation", "set `peer_tags_aggregation` in the exporter's `traces`"),
    ("traces.peer_tags", "set it in the exporter's `traces`"),
    ("traces.trace_buffer", "nothing waits in front of the exporter's queue; remove the key"),
    (
        "traces.resource_attributes_as_container_tags",
        "stats carry no container tags; remove the key",
    ),
    ("traces.bucket_interval", "buckets are of ten seconds; remove the key"),
    (
        "traces.ignore_missing_datadog_fields",
        "missing fields are made of OpenTelemetry's attributes, as in the exporter; remove the key",
    ),
];

/// Nothing: stats are computed by the exporter, and set up there.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    traces: Traces,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
struct Traces {}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        diagnostics.decode(&[], &REFUSED)
    }
}
