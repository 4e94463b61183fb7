//! Lines of logs by which SDKs and collectors report that spans were not passed on.

use std::time::SystemTime;

use crate::trace::unix_nanos;

/// The longest text of a log that a finding quotes, in characters.
const MAX_QUOTED: usize = 300;

/// Text of such lines, those first that give the reason: as written by opentelemetry-rust 0.33, Python's SDK 1.45, the Java
/// agent 2.x, Node's SDK 2.x and 0.2x, Go's SDK 1.4x, and the `memory_limiter` and the exporters of the Collector and of ours.
const REPORTS: [&str; 15] = [
    "BatchSpanProcessor.ExportError",
    "encountered while exporting",
    "Failed to export span",
    "Failed to export traces",
    "Exception while exporting",
    "OTLPExporterError",
    "traces export: ",
    "Memory usage is above",
    "` refuses traces: ",
    "Exporting failed",
    "SpanDroppingStarted",
    "Queue is full, likely spans",
    "Queue full, dropping",
    "because maxQueueSize reached",
    "Export.Failed",
];

/// Text of reports that are about other signals than traces.
const OTHER_SIGNALS: [&str; 6] =
    ["metrics", "Metric", "exporting logs", "export logs", "v1/logs", "log records"];

/// Reports that an SDK writes once, and never again while it goes on losing spans.
const WRITTEN_ONCE: [&str; 2] = ["SpanDroppingStarted", "` refuses traces: "];

/// Returns whether a line of a log reports that spans were not passed on.
pub(crate) fn is_report(line: &str) -> bool {
    rank(line).is_some()
}

/// Returns the line that reports most of what happened since a time, in nanoseconds since 1970, or that was written before once and for all;
/// without what stands around it.
pub(crate) fn since(lines: &[(SystemTime, String)], sent_at: i64) -> Option<String> {
    let is_of_then = |(read_at, line): &&(SystemTime, String)| {
        unix_nanos(*read_at) >= sent_at || WRITTEN_ONCE.iter().any(|once| line.contains(once))
    };
    let reports = lines.iter().filter(is_of_then);
    let (_, line) = reports.min_by_key(|(_, line)| rank(line))?;
    let mut quoted = line.trim().replace('`', "'");
    if let Some((at, _)) = quoted.char_indices().nth(MAX_QUOTED) {
        quoted.truncate(at);
        quoted.push('…');
    }
    Some(quoted)
}

fn rank(line: &str) -> Option<usize> {
    // Exporters of metrics and logs write the same, and fail where a collector takes traces alone.
    if OTHER_SIGNALS.iter().any(|other| line.contains(other)) {
        return None;
    }
    REPORTS.iter().position(|report| line.contains(report))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64, line: &str) -> (SystemTime, String) {
        (UNIX_EPOCH + Duration::from_secs(second), line.to_owned())
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn the_line_with_the_reason_is_quoted_of_those_since_the_request() {
        let lines = [
            at(1, "ERROR BatchSpanProcessor.ExportError error=\"of before\""),
            at(5, "WARN Export.Failed.NonRetryable"),
            at(6, "ERROR BatchSpanProcessor.ExportError error=\"status code: 404\""),
        ];
        let quoted = since(&lines, 2 * SECOND).unwrap();
        assert_eq!(quoted, "ERROR BatchSpanProcessor.ExportError error=\"status code: 404\"");
        assert_eq!(since(&lines, 7 * SECOND), None);
    }

    #[test]
    fn what_is_written_once_holds_for_later_requests_too() {
        let lines = [at(1, "WARN BatchSpanProcessor.SpanDroppingStarted: queue full")];
        assert!(since(&lines, 9 * SECOND).is_some());
    }

    #[test]
    fn a_report_is_known_by_what_the_sdks_write() {
        for line in [
            "Failed to export traces to localhost:4317, error code: StatusCode.UNAVAILABLE",
            "Transient error StatusCode.UNAVAILABLE encountered while exporting traces to localhost:4317, retrying in 1s.",
            "2026/11/30 10:00:00 traces export: Post \"http://localhost:4318/v1/traces\": connection refused",
            "[otel.javaagent] WARN HttpExporter - Failed to export spans. Server responded with HTTP status code 401.",
            "{\"stack\":\"OTLPExporterError: Not Found\\n    at IncomingMessage\"}",
        ] {
            assert!(is_report(line), "{line}");
        }
        for line in [
            "Transient error StatusCode.UNIMPLEMENTED encountered while exporting metrics to localhost:4317, retrying in 1s.",
            "PeriodicExportingMetricReader: metrics export failed (error OTLPExporterError: Not Found)",
            "Failed to export logs to localhost:4317, error code: StatusCode.UNIMPLEMENTED",
        ] {
            assert!(!is_report(line), "{line}");
        }
        assert!(!is_report("INFO exported 12 invoices, 1 failed to export"));
    }

    #[test]
    fn a_long_line_is_cut() {
        let lines = [at(1, &format!("traces export: {}", "ü".repeat(2_000)))];
        assert_eq!(since(&lines, 0).unwrap().chars().count(), MAX_QUOTED + 1);
    }
}
