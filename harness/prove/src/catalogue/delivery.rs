//! Delivery: what does not arrive, or too often.

use std::time::Duration;

use http::StatusCode;
use libdd_trace_protobuf::pb::Span;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::span::SpanKind,
};

use super::{AT, Breakage, CALLER, How, wire};
use crate::change::{Change, Delivery};

/// Returns whether a request brings spans of a service.
fn brings(request: &ExportTraceServiceRequest, of: &str) -> bool {
    request.resource_spans.iter().any(|spans| wire::is(wire::service(spans), of))
}

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "collector-stopped",
        how: How::Fault("faults: [{ at: collector, stop: true }]\n"),
        twin: None,
        rule: "no-trace",
        hop: "between the services and the intake",
        stage: None,
        seen: "There is nothing at all.",
        cause: "The collector is down, or its address is wrong.",
        remedy: "Look at the collector, and at OTEL_EXPORTER_OTLP_ENDPOINT of the services.",
    },
    Breakage {
        name: "api-key-refused",
        how: How::Fault("faults: [{ at: intake, status: 403 }]\n"),
        twin: Some(How::Fault("faults: [{ at: intake, status: 503, next: 1 }]\n")),
        rule: "no-trace",
        hop: "answered 403 (the API key is refused)",
        stage: Some("collector"),
        seen: "There is nothing at all, and the collector logs 403.",
        cause: "The API key is wrong, was revoked, or is of another site.",
        remedy: "Set the key of the site that the collector sends to.",
    },
    Breakage {
        name: "payload-too-large",
        how: How::Fault("faults: [{ at: intake, status: 413 }]\n"),
        twin: None,
        rule: "no-trace",
        hop: "lost in the collector",
        stage: Some("collector"),
        seen: "Traces of busy times are missing.",
        cause: "Payloads are larger than the intake takes.",
        remedy: "Make batches smaller, and cut large attributes.",
    },
    Breakage {
        name: "otlp-of-one-service-swallowed",
        how: How::Tap(Change::OtlpDelivery(|request, on| match brings(request, on.at) {
            true => Delivery::Swallow,
            false => Delivery::Once,
        })),
        twin: None,
        rule: "lost-span",
        hop: "lost between `sample-app-3` and the collector",
        stage: Some("before-collector"),
        seen: "The service is missing, while its exporter reports success.",
        cause: "A sidecar or agent between takes the spans and drops them, for want of memory or of a pipeline.",
        remedy: "Look at the agent's own metrics of what it refused and dropped.",
    },
    Breakage {
        name: "otlp-of-one-service-refused",
        how: How::Tap(Change::OtlpDelivery(|request, on| match brings(request, on.at) {
            true => Delivery::Refuse(StatusCode::BAD_REQUEST),
            false => Delivery::Once,
        })),
        twin: None,
        rule: "lost-span",
        hop: "lost between `sample-app-3` and the collector",
        stage: Some("before-collector"),
        seen: "The service is missing.",
        cause: "The collector does not read what the service sends: another protocol at that port, or a body that is too large.",
        remedy: "Look at the service's log; compare OTEL_EXPORTER_OTLP_PROTOCOL with the port.",
    },
    Breakage {
        name: "otlp-sent-again-after-it-was-taken",
        how: How::Tap(Change::OtlpDelivery(|request, on| match brings(request, on.caller) {
            true => Delivery::Twice,
            false => Delivery::Once,
        })),
        twin: None,
        rule: "duplicate-span",
        hop: CALLER,
        stage: Some("before-collector"),
        seen: "Spans are there twice, and hits and durations count twice.",
        cause: "An answer is lost on its way back, and the exporter tries again.",
        remedy: "Raise the exporter's timeout above the collector's slowest answer.",
    },
    Breakage {
        name: "otlp-sent-again-two-seconds-later",
        how: How::TapLate(Change::OtlpDelivery(|request, on| match brings(request, on.caller) {
            true => Delivery::Again(Duration::from_secs(2)),
            false => Delivery::Once,
        })),
        twin: None,
        rule: "duplicate-span",
        hop: CALLER,
        stage: Some("before-collector"),
        seen: "Spans are there twice, some time after the trace looked whole.",
        cause: "A queue on disk is sent again when its owner starts anew, or a message is delivered a second time.",
        remedy: "Mark what was sent before it is acknowledged; `--listen` of a run waits for what comes so late.",
    },
    Breakage {
        name: "payload-swallowed-after-202",
        how: How::Tap(Change::DatadogDelivery(|_, _| Delivery::Swallow)),
        twin: None,
        rule: "no-trace",
        hop: "lost between the collector and the intake",
        stage: Some("behind-collector"),
        seen: "Nothing of the services is there, while the collector counts everything as sent.",
        cause: "A proxy between collector and Datadog answers for it.",
        remedy: "Let the collector send to Datadog's own address, or look at the proxy's log.",
    },
    Breakage {
        name: "chunks-of-one-service-cut-out",
        how: How::Tap(Change::Datadog(|payload, on| {
            for tracer in &mut payload.tracer_payloads {
                tracer
                    .chunks
                    .retain(|chunk| chunk.spans.iter().all(|span| !wire::is(&span.service, on.at)));
            }
        })),
        twin: None,
        rule: "lost-span",
        hop: "lost between the collector and the intake",
        stage: Some("behind-collector"),
        seen: "The service is missing, while the collector counts its spans as sent.",
        cause: "A proxy or an ingestion filter on the way removes spans of some services.",
        remedy: "Look at what stands between the collector and Datadog.",
    },
    Breakage {
        name: "half-of-a-payload-lost",
        how: How::Tap(Change::Datadog(|payload, on| {
            for chunk in wire::chunks(payload, on.caller) {
                chunk.spans.truncate(chunk.spans.len() / 2);
            }
        })),
        twin: None,
        rule: "lost-span",
        hop: CALLER,
        stage: Some("behind-collector"),
        seen: "Traces have holes.",
        cause: "A limit on spans per trace or bytes per request cuts a payload instead of splitting it.",
        remedy: "Lower the batch size below that limit.",
    },
    Breakage {
        name: "what-comes-later-is-lost",
        // The scenario's own requests have a query, and what the harness sends after them has none.
        how: How::TapAfterwards(Change::Otlp(|request, on| {
            wire::retain(request, on.entry, |span| {
                span.kind != SpanKind::Server as i32
                    || wire::text(&span.attributes, "url.query").is_some()
            });
        })),
        twin: None,
        rule: "lost-span",
        hop: "in a request like the scenario's that followed it: `sample-app-1` ended",
        stage: Some("before-collector"),
        seen: "Traces are whole for a while, and have holes from then on.",
        cause: "A queue or a quota fills up, and what comes then is dropped.",
        remedy: "Look at the metrics of what was dropped, and make the queue larger than a burst.",
    },
    Breakage {
        name: "chunk-twice-in-one-payload",
        how: How::Tap(Change::Datadog(|payload, on| {
            for tracer in &mut payload.tracer_payloads {
                let again: Vec<_> = tracer
                    .chunks
                    .iter()
                    .filter(|chunk| chunk.spans.iter().any(|span| wire::is(&span.service, on.at)))
                    .cloned()
                    .collect();
                tracer.chunks.extend(again);
            }
        })),
        twin: Some(How::Tap(Change::DatadogDelivery(|_, _| Delivery::Twice))),
        rule: "duplicate-span",
        hop: AT,
        stage: Some("behind-collector"),
        seen: "Spans are there twice in one trace.",
        cause: "Two pipelines of a collector have the same receiver and exporter.",
        remedy: "Send each span through one pipeline.",
    },
    Breakage {
        name: "one-replica-drops-a-service-in-the-middle",
        how: How::Tap(Change::OtlpDelivery(|request, on| match brings(request, on.caller) {
            true => Delivery::Swallow,
            false => Delivery::Once,
        })),
        twin: None,
        rule: "lost-span",
        hop: "lost between `sample-app-2` and the collector",
        stage: Some("before-collector"),
        seen: "What the service called hangs below a span that is not there, and the service is missing.",
        cause: "Several replicas with a tail sampler stand behind one address, and each decides on the part of a trace that it sees.",
        remedy: "Send all spans of a trace to one replica, by a balancer that knows trace ids.",
    },
    Breakage {
        name: "a-span-sent-unfinished-and-again",
        how: How::Tap(Change::Datadog(|payload, on| {
            for chunk in wire::chunks(payload, on.caller) {
                let first = chunk.spans.iter().find(|span| wire::is(&span.service, on.caller));
                let Some(first) = first.cloned() else { continue };
                chunk.spans.insert(0, Span { duration: 0, ..first });
            }
        })),
        twin: None,
        rule: "duplicate-span",
        hop: CALLER,
        stage: Some("behind-collector"),
        seen: "A span is there twice, once as long as it took and once without a duration; hits count twice.",
        cause: "A relay flushes traces that are not whole, and sends their open spans again when they end.",
        remedy: "Send spans once, when they have ended.",
    },
    Breakage {
        name: "spans-held-back-for-a-minute",
        how: How::Env(&[(AT, "OTEL_BSP_SCHEDULE_DELAY", "60000")]),
        twin: None,
        rule: "lost-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The service comes a minute later than its trace, and not at all if it is stopped hard.",
        cause: "OTEL_BSP_SCHEDULE_DELAY is set to what would be right for a batch job.",
        remedy: "Set it to a few seconds; the default is 5 s.",
    },
    Breakage {
        name: "too-many-requests-for-good",
        how: How::Tap(Change::DatadogDelivery(|_, _| {
            Delivery::Refuse(StatusCode::TOO_MANY_REQUESTS)
        })),
        twin: None,
        rule: "no-trace",
        hop: "answered 429",
        stage: Some("collector"),
        seen: "There is nothing at all, and the collector logs 429.",
        cause: "A proxy in front of Datadog, or Datadog itself, takes no more of this sender.",
        remedy: "Send less, or have the limit raised; look at who else sends with this key.",
    },
];
