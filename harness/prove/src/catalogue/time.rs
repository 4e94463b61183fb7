//! Times of spans, as they leave the SDK.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::span::SpanKind,
};

use super::{AT, Breakage, CALLER, How, wire};
use crate::change::{Change, On};

const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 60 * MINUTE;

/// Moves all spans of the last app, which says that it is on a host of its own.
fn earlier(request: &mut ExportTraceServiceRequest, on: &On<'_>, by: u64) {
    elsewhere(request, on);
    for span in wire::spans(request, on.at) {
        span.start_time_unix_nano = span.start_time_unix_nano.saturating_sub(by);
        span.end_time_unix_nano = span.end_time_unix_nano.saturating_sub(by);
    }
}

fn later(request: &mut ExportTraceServiceRequest, on: &On<'_>, by: u64) {
    for span in wire::spans(request, on.at) {
        span.start_time_unix_nano = span.start_time_unix_nano.saturating_add(by);
        span.end_time_unix_nano = span.end_time_unix_nano.saturating_add(by);
    }
}

fn elsewhere(request: &mut ExportTraceServiceRequest, on: &On<'_>) {
    for resource in wire::resources(request, on.at) {
        wire::set(&mut resource.attributes, "host.name", "another-host");
    }
}

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "a-day-early",
        how: How::Tap(Change::Otlp(|request, on| earlier(request, on, 24 * HOUR))),
        twin: Some(How::Tap(Change::Otlp(|request, on| earlier(request, on, 5 * MINUTE)))),
        rule: "outside-request",
        hop: AT,
        stage: None,
        seen: "The spans are not where the trace is looked for; some are refused as too old.",
        cause: "A machine's date is wrong, or times of a test fixture or a replayed log are used.",
        remedy: "Keep the clock by NTP; take times from the SDK.",
    },
    Breakage {
        name: "local-time-taken-for-utc",
        how: How::Tap(Change::Otlp(|request, on| {
            elsewhere(request, on);
            later(request, on, 2 * HOUR);
        })),
        twin: Some(How::Tap(Change::Otlp(|request, on| {
            elsewhere(request, on);
            later(request, on, 5 * MINUTE);
        }))),
        rule: "outside-request",
        hop: AT,
        stage: None,
        seen: "The spans are hours after their request, or in the future and dropped.",
        cause: "Times are made by hand from a local time without its zone.",
        remedy: "Use UTC, or let the SDK take the times.",
    },
    Breakage {
        name: "clock-behind-on-one-host",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.start_time_unix_nano = span.start_time_unix_nano.saturating_sub(500_000_000);
            }
        })),
        twin: Some(How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.start_time_unix_nano = span.start_time_unix_nano.saturating_sub(5_000_000);
            }
        }))),
        rule: "altered-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The callee begins before its caller; the flame graph is skewed.",
        cause: "Start times are taken from another clock than end times, or by hand.",
        remedy: "Take both times from one clock.",
    },
    Breakage {
        name: "begun-after-the-caller-had-its-answer",
        how: How::Tap(Change::Otlp(|request, on| later(request, on, 10_000_000_000))),
        twin: None,
        rule: "child-outside-parent",
        hop: AT,
        stage: None,
        seen: "The callee hangs to the right of its caller's end.",
        cause: "The time of export is written as the span's.",
        remedy: "Set the start when the work begins.",
    },
    Breakage {
        name: "times-not-set",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.start_time_unix_nano = 0;
            }
            // Where no ledger reports its own start, only the caller's end shows it.
            let callers = wire::of_kind(request, on.caller, SpanKind::Client);
            for span in callers.filter(|_| on.caller != CALLER) {
                // As short as a call is on one machine, whatever it was here.
                span.end_time_unix_nano = span.start_time_unix_nano.saturating_add(1_000_000);
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The span is at the time of its export, and as long as fifty years or as nothing.",
        cause: "A span that is made by hand without a start; the exporter puts *now* in the place of 1970.",
        remedy: "Set the start time.",
    },
    Breakage {
        name: "end-not-set",
        how: How::Tap(Change::Otlp(|request, on| {
            wire::spans(request, on.at).for_each(|span| span.end_time_unix_nano = 0);
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The span lasts no time at all, or fifty years less than none, and the service's latencies are wrong.",
        cause: "A span that is made by hand or by a bridge is sent before it is ended.",
        remedy: "Set the end when the work is done.",
    },
    Breakage {
        name: "begun-ten-seconds-early",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                span.start_time_unix_nano -= 10 * 1_000_000_000;
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The callee begins long before its caller, and its latencies have a peak that nobody waited for.",
        cause: "The time at which a connection was opened, or a message was made, is taken for the start of the work.",
        remedy: "Set the start when the request is read.",
    },
    Breakage {
        name: "times-in-whole-seconds",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                for time in [&mut span.start_time_unix_nano, &mut span.end_time_unix_nano] {
                    *time -= *time % 1_000_000_000;
                }
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "All spans of the service begin on the second, and last none or whole ones.",
        cause: "A bridge reads times from a log that has no parts of a second.",
        remedy: "Take the times from the SDK.",
    },
];
