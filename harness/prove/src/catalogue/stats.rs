//! APM stats on their way to Datadog, which makes its request, error and latency metrics of them alone.

use libdd_trace_protobuf::pb::{ClientGroupedStats, ClientStatsPayload, StatsPayload};

use super::{AT, Breakage, How, wire};
use crate::change::{Change, On};

const SECOND: u64 = 1_000_000_000;
const PROD: &[(&str, &str, &str)] =
    &[("all", "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")];

/// The payloads in which there are groups of the service.
fn clients<'a>(
    payload: &'a mut StatsPayload,
    on: &'a On<'_>,
) -> impl Iterator<Item = &'a mut ClientStatsPayload> {
    payload.stats.iter_mut().filter(|client| {
        let mut groups = client.stats.iter().flat_map(|bucket| &bucket.stats);
        groups.any(|group| wire::is(&group.service, on.at))
    })
}

/// The groups of the service.
fn groups<'a>(
    payload: &'a mut StatsPayload,
    on: &'a On<'_>,
) -> impl Iterator<Item = &'a mut ClientGroupedStats> {
    let buckets = payload.stats.iter_mut().flat_map(|client| &mut client.stats);
    buckets.flat_map(|bucket| &mut bucket.stats).filter(|group| wire::is(&group.service, on.at))
}

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "stats-hits-changed",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.hits += 1);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The request rate is not the number of requests, while every trace is right.",
        cause: "Spans are counted in two places, such as an agent and a connector.",
        remedy: "Compute stats once, and switch the other one off.",
    },
    Breakage {
        name: "stats-errors-invented",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.errors = group.hits);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The error rate is high, while no trace has an error.",
        cause: "Stats are computed before a processor that takes an error back.",
        remedy: "Compute them behind everything that changes spans.",
    },
    Breakage {
        name: "stats-top-level-hits-lost",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.top_level_hits = 0);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The service's page has no requests, though there are hits.",
        cause: "A relay rebuilds stats payloads, and leaves the field out.",
        remedy: "Copy `TopLevelHits`.",
    },
    Breakage {
        name: "stats-duration-in-another-unit",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.duration /= 1000);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "Average latencies are a thousandth of those of the traces.",
        cause: "Microseconds are written where nanoseconds are meant.",
        remedy: "Write nanoseconds.",
    },
    Breakage {
        name: "stats-env-changed",
        how: How::TapStatsWithEnv(
            Change::Stats(|payload, on| {
                clients(payload, on).for_each(|client| client.env = "staging".to_owned());
            }),
            PROD,
        ),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The service's metrics are in another environment than its traces.",
        cause: "An agent puts its own environment on the stats, and not on the spans.",
        remedy: "Set the same environment in both.",
    },
    Breakage {
        name: "stats-status-code-lost",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.http_status_code = 0);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "Metrics cannot be split by status code.",
        cause: "Stats are computed before the attribute is there, or from its new name alone.",
        remedy: "Compute them from the attribute that the instrumentation sends.",
    },
    Breakage {
        name: "stats-of-another-hour",
        how: How::TapStats(Change::Stats(|payload, on| {
            let buckets = clients(payload, on).flat_map(|client| &mut client.stats);
            buckets.for_each(|bucket| bucket.start -= 3600 * SECOND);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "Metrics and traces of a load are an hour apart.",
        cause: "A relay keeps payloads back, or a local time is taken for UTC.",
        remedy: "Send the start of a bucket in UTC.",
    },
    Breakage {
        name: "stats-of-one-service-missing",
        how: How::TapStats(Change::Stats(|payload, on| {
            let buckets = payload.stats.iter_mut().flat_map(|client| &mut client.stats);
            buckets
                .for_each(|bucket| bucket.stats.retain(|group| !wire::is(&group.service, on.at)));
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The service has traces and no metrics.",
        cause: "A limit on the groups of a bucket drops the last ones.",
        remedy: "Raise the limit, or lower the number of resources.",
    },
    Breakage {
        name: "stats-doubled",
        how: How::TapStats(Change::Stats(|payload, on| {
            let again: Vec<ClientStatsPayload> =
                clients(payload, on).map(|one| one.clone()).collect();
            payload.stats.extend(again);
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The request rate is twice the number of requests.",
        cause: "A relay sends a payload again that was taken, in another one.",
        remedy: "Send a payload again unchanged, so that it is known to be the same.",
    },
    Breakage {
        name: "stats-latencies-lost",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.ok_summary.clear());
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "The service has hits and no percentiles.",
        cause: "A relay rebuilds stats payloads, and leaves the sketches out.",
        remedy: "Copy `OkSummary` and `ErrorSummary`.",
    },
    Breakage {
        name: "stats-resource-renamed",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.resource = "GET /?".to_owned());
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "Endpoints of the metrics are not those of the traces, and lead to none.",
        cause: "Stats are computed with an obfuscation that the traces do not pass.",
        remedy: "Compute stats and traces of the same spans.",
    },
    Breakage {
        name: "stats-kind-lost",
        how: How::TapStats(Change::Stats(|payload, on| {
            groups(payload, on).for_each(|group| group.span_kind.clear());
        })),
        twin: None,
        rule: "stats-disagree",
        hop: AT,
        stage: None,
        seen: "Metrics cannot be split by span kind, and the request rate counts calls too.",
        cause: "A relay rebuilds stats payloads, and leaves the field out.",
        remedy: "Copy `SpanKind`.",
    },
];
