//! Keys that are not supported, with values that ask for nothing: generated configs, and those that the Collector prints, have them.

use super::node::{Node, Resolved, Value};

/// Values that say what is so here anyway, by the last part of their key.
const AS_IT_IS: [(&str, &[&str]); 19] = [
    ("transport", &["tcp"]),
    ("encoding", &["proto"]),
    ("keep_alives_enabled", &["true"]),
    ("force_attempt_http2", &["true"]),
    ("read_buffer_size", &["524288"]),
    ("write_buffer_size", &["524288"]),
    ("max_idle_conns", &["100"]),
    ("idle_conn_timeout", &["90s", "1m30s"]),
    ("idle_timeout", &["1m", "1m0s", "60s"]),
    ("read_header_timeout", &["1m", "1m0s", "60s"]),
    ("write_timeout", &["30s"]),
    ("metrics_url_path", &["/v1/metrics"]),
    ("logs_url_path", &["/v1/logs"]),
    ("profiles_url_path", &["/v1development/profiles"]),
    ("metadata_cardinality_limit", &["1000"]),
    ("balancer_name", &["round_robin"]),
    ("min_gc_interval_when_soft_limited", &["10s"]),
    ("output_paths", &["stderr"]),
    ("error_output_paths", &["stderr"]),
];

/// Keys whose `false` or 0 asks for something.
const MEANT: [&str; 2] = ["keep_alives_enabled", "force_attempt_http2"];

/// Returns whether a key that is refused changes nothing with this value.
pub(super) fn changes_nothing(path: &[&str], node: &Node) -> bool {
    let last = path.last().copied().unwrap_or_default();
    let as_it_is =
        AS_IT_IS.iter().find(|(key, _)| *key == last).map_or(&[][..], |(_, values)| values);
    match &node.value {
        Value::Null => true,
        Value::List(items) => items.iter().all(|item| changes_nothing(path, item)),
        Value::Map(entries) => entries.iter().all(|(key, node)| {
            let path: Vec<_> = path.iter().copied().chain([key.name.as_str()]).collect();
            changes_nothing(&path, node)
        }),
        Value::Scalar(scalar) if as_it_is.contains(&scalar.text.as_str()) => true,
        Value::Scalar(_) if MEANT.contains(&last) => false,
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null | Resolved::Bool(false) | Resolved::Int(0) => true,
            Resolved::Text => matches!(scalar.text.as_str(), "" | "0s" | "0"),
            _ => false,
        },
    }
}
