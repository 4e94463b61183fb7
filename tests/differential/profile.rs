//! The ways in which the collectors and the agent are configured.

use crate::side::Options;

/// APM stats, as is our default and not the reference's.
pub(crate) const STATS_ON: &str = "-exporter.datadogexporter.DisableAPMStats";
/// No APM stats, as is the reference's default and not ours.
pub(crate) const STATS_OFF: &str = "exporter.datadogexporter.DisableAPMStats";

const TOP_LEVEL_BY_KIND: &str = "--feature=enable_otlp_compute_top_level_by_span_kind";
const AGENTS_FIRST_NAMES: &str = "--feature=disable_operation_and_resource_name_logic_v2";
const AGENTS_FIRST_RECEIVER: &str = "--feature=disable_receive_resource_spans_v2";

/// A way to configure all of them.
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) options: Options,
    /// Of 20 cases, the ones that go this way.
    pub(crate) share: std::ops::Range<u32>,
    pub(crate) stats: bool,
}

const FIRST_NAMES: &str = "-datadog.EnableOperationAndResourceNameV2";
const FIRST_RECEIVER: &str = "-datadog.EnableReceiveResourceSpansV2";

impl Profile {
    /// Returns whether only those resources have stats that ask for them.
    pub(crate) fn asks_for_stats(&self) -> bool {
        self.stats && self.options.gates.contains(&STATS_OFF)
    }
}

/// All of them.
pub(crate) const PROFILES: [Profile; 9] = [
    Profile {
        name: "defaults",
        options: Options { traces: &[], gates: &[STATS_OFF], flags: &[] },
        share: 0..8,
        stats: false,
    },
    Profile {
        name: "stats of resources that ask for them",
        options: Options { traces: &[], gates: &[STATS_OFF], flags: &[] },
        share: 8..9,
        stats: true,
    },
    Profile {
        name: "stats",
        options: Options {
            traces: &["peer_tags: [enduser.id]"],
            gates: &[STATS_ON],
            flags: &["--stats", "--peer-tag=enduser.id"],
        },
        share: 9..13,
        stats: true,
    },
    Profile {
        name: "stats without span kinds and peer tags, top level by kind",
        options: Options {
            traces: &[
                "compute_stats_by_span_kind: false",
                "peer_tags_aggregation: false",
                "compute_top_level_by_span_kind: true",
            ],
            gates: &[STATS_ON],
            flags: &[
                "--stats",
                "--compute-stats-by-span-kind=false",
                "--peer-tags-aggregation=false",
                TOP_LEVEL_BY_KIND,
            ],
        },
        share: 13..14,
        stats: true,
    },
    Profile {
        name: "span names as resource names",
        options: Options {
            traces: &["span_name_as_resource_name: true"],
            gates: &[STATS_OFF],
            flags: &["--span-name-as-resource-name"],
        },
        share: 14..15,
        stats: false,
    },
    Profile {
        name: "remapped names, ignored resources",
        options: Options {
            traces: &[
                "span_name_remappings: {\"remap me\": remapped, send: \"Sent Off\", io.lib.server: srv}",
                "ignore_resources: [\"^/ignored\", \"check$\"]",
                "trace_buffer: 10",
            ],
            gates: &[STATS_OFF],
            flags: &[
                "--span-name-remapping=remap me=remapped",
                "--span-name-remapping=send=Sent Off",
                "--span-name-remapping=io.lib.server=srv",
                "--ignore-resource=^/ignored",
                "--ignore-resource=check$",
                "--trace-buffer=10",
            ],
        },
        share: 15..16,
        stats: false,
    },
    Profile {
        name: "first version of names, top level by kind",
        options: Options {
            traces: &["compute_top_level_by_span_kind: true"],
            gates: &[STATS_OFF, FIRST_NAMES],
            flags: &[TOP_LEVEL_BY_KIND, AGENTS_FIRST_NAMES],
        },
        share: 16..17,
        stats: false,
    },
    Profile {
        name: "first receiver, top level by kind",
        options: Options {
            traces: &["compute_top_level_by_span_kind: true"],
            gates: &[STATS_OFF, FIRST_RECEIVER],
            flags: &[TOP_LEVEL_BY_KIND, AGENTS_FIRST_RECEIVER],
        },
        share: 17..18,
        stats: false,
    },
    Profile {
        name: "first receiver and names, remapped, stats",
        options: Options {
            traces: &[
                "span_name_remappings: {send: \"Sent Off\", opentelemetry.server: srv, my.operation: op}",
            ],
            gates: &[STATS_ON, FIRST_RECEIVER, FIRST_NAMES],
            flags: &[
                "--stats",
                "--span-name-remapping=send=Sent Off",
                "--span-name-remapping=opentelemetry.server=srv",
                "--span-name-remapping=my.operation=op",
                AGENTS_FIRST_RECEIVER,
                AGENTS_FIRST_NAMES,
            ],
        },
        share: 18..20,
        stats: true,
    },
];
