//! Keys that are not supported, with values that ask for nothing: generated configs, and those that the Collector prints, have them.

use super::duration;
use super::node::{Node, Resolved, Value};

/// Values that say what is so here anyway, by the end of their key. What is so in the Collector without the key is among them, where
/// nobody asked for it.
const AS_IT_IS: [(&str, &[&str]); 36] = [
    ("transport", &["tcp"]),
    ("encoding", &["proto"]),
    ("keep_alives_enabled", &["true"]),
    ("force_attempt_http2", &["true"]),
    ("read_buffer_size", &["524288"]),
    ("write_buffer_size", &["524288"]),
    ("max_idle_conns", &["100"]),
    ("idle_conn_timeout", &["90s"]),
    ("idle_timeout", &["60s"]),
    ("read_header_timeout", &["60s"]),
    ("write_timeout", &["30s"]),
    ("metrics_url_path", &["/v1/metrics"]),
    ("logs_url_path", &["/v1/logs"]),
    ("profiles_url_path", &["/v1development/profiles"]),
    ("metadata_cardinality_limit", &["1000"]),
    ("balancer_name", &["round_robin"]),
    ("min_gc_interval_when_soft_limited", &["10s"]),
    ("output_paths", &["stderr"]),
    ("error_output_paths", &["stderr"]),
    ("min_gc_interval_when_hard_limited", &["0s"]),
    ("max_gc_interval_when_soft_limited", &["30s"]),
    ("max_gc_interval_when_hard_limited", &["30s"]),
    ("sampling_initial", &["2"]),
    ("sampling_thereafter", &["1"]),
    ("use_internal_logger", &["true"]),
    ("logs.sampling.enabled", &["true"]),
    ("logs.sampling.tick", &["10s"]),
    ("logs.sampling.initial", &["10"]),
    ("logs.sampling.thereafter", &["100"]),
    ("resource.schema_url", &["https://opentelemetry.io/schemas/1.40.0"]),
    ("check_collector_pipeline.interval", &["5m"]),
    ("check_collector_pipeline.exporter_failure_threshold", &["5"]),
    ("attribute_source", &["traceID"]),
    ("sampling_strategy", &["trace-complete"]),
    ("num_shards", &["1"]),
    ("emit_strategy", &["trace"]),
];

/// Keys whose `false` or 0 asks for something.
const MEANT: [&str; 2] = ["keep_alives_enabled", "force_attempt_http2"];

/// Returns whether a key that is refused changes nothing with this value.
pub(super) fn changes_nothing(path: &[&str], node: &Node) -> bool {
    let last = path.last().copied().unwrap_or_default();
    let is_named =
        |key: &str| key.rsplit('.').eq(path.iter().rev().copied().take(key.split('.').count()));
    let as_it_is =
        AS_IT_IS.iter().find(|(key, _)| is_named(key)).map_or(&[][..], |(_, values)| values);
    // `1m` is as long as `60s`.
    let is_as_it_is = |text: &str| {
        let time = duration::parse(text);
        as_it_is
            .iter()
            .any(|known| *known == text || time.is_some() && duration::parse(known) == time)
    };
    match &node.value {
        Value::Null => true,
        Value::List(items) => items.iter().all(|item| changes_nothing(path, item)),
        Value::Map(entries) => entries.iter().all(|(key, node)| {
            let path: Vec<_> = path.iter().copied().chain([key.name.as_str()]).collect();
            changes_nothing(&path, node)
        }),
        Value::Scalar(scalar) if is_as_it_is(&scalar.text) => true,
        Value::Scalar(_) if MEANT.contains(&last) => false,
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null | Resolved::Bool(false) | Resolved::Int(0) => true,
            Resolved::Text => matches!(scalar.text.as_str(), "" | "0s" | "0"),
            _ => false,
        },
    }
}
