//! Settings of the Datadog connector.

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "set it in the exporter's `traces`",
        &[
            "traces.ignore_resources",
            "traces.span_name_remappings",
            "traces.span_name_as_resource_name",
            "traces.compute_stats_by_span_kind",
            "traces.compute_top_level_by_span_kind",
            "traces.peer_tags_aggregation",
            "traces.peer_tags",
        ],
    ),
    (
        "set `peer_tags_aggregation` in the exporter's `traces`",
        &["traces.peer_service_aggregation"],
    ),
    ("nothing waits in front of the exporter's queue; remove the key", &["traces.trace_buffer"]),
    (
        "stats carry no container tags; remove the key",
        &["traces.resource_attributes_as_container_tags"],
    ),
    ("buckets are of ten seconds; remove the key", &["traces.bucket_interval"]),
    (
        "missing fields are made of OpenTelemetry's attributes, as in the exporter; remove the key",
        &["traces.ignore_missing_datadog_fields"],
    ),
]);

/// Nothing: stats are computed by the exporter, and set up there.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    traces: Traces,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
struct Traces {}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        diagnostics.decode(&[], &[("", UNSUPPORTED)])
    }
}
