//! Datadog's own fields, in payloads on their way to Datadog.

use super::{AT, Breakage, CALLER, How, wire};
use crate::change::Change;

const PROD: &[(&str, &str, &str)] =
    &[("all", "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,host.name=node-1")];

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "priority-zero",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::chunks(payload, on.at).for_each(|chunk| chunk.priority = 0);
        })),
        twin: Some(How::Tap(Change::Datadog(|payload, on| {
            wire::chunks(payload, on.at).for_each(|chunk| chunk.priority = 2);
        }))),
        rule: "priority-lost",
        hop: AT,
        stage: None,
        seen: "The service's spans are delivered and not kept; the trace has a hole.",
        cause: "A proxy or relay rebuilds payloads, and leaves the priority out: in protobuf that is 0.",
        remedy: "Copy the chunk's `priority`.",
    },
    Breakage {
        name: "priority-below-zero",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::chunks(payload, on.at).for_each(|chunk| chunk.priority = -1);
        })),
        twin: None,
        rule: "priority-lost",
        hop: AT,
        stage: None,
        seen: "The service's spans are dropped at Datadog.",
        cause: "Something on the way samples chunks one by one, by a rule of its own.",
        remedy: "Sample whole traces, before the exporter.",
    },
    Breakage {
        name: "chunk-marked-as-dropped",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::chunks(payload, on.at).for_each(|chunk| chunk.dropped_trace = true);
        })),
        twin: None,
        rule: "priority-lost",
        hop: AT,
        stage: None,
        seen: "The trace has a hole, though all was delivered.",
        cause: "A sampler on the way marks what it drops, and passes it on.",
        remedy: "Switch that sampler off, or let it see whole traces.",
    },
    Breakage {
        name: "top-level-lost",
        how: How::Tap(Change::Datadog(|payload, on| {
            for span in wire::datadog_spans(payload, on.at) {
                span.metrics.remove("_top_level");
            }
        })),
        twin: None,
        rule: "top-level-lost",
        hop: AT,
        stage: None,
        seen: "The service has no trace metrics, and is not in the service list.",
        cause: "A filter removes metrics whose names begin with `_`.",
        remedy: "Let it pass Datadog's own keys.",
    },
    Breakage {
        name: "env-changed",
        how: How::TapWithEnv(
            Change::Datadog(|payload, on| {
                wire::tracers(payload, on.at).for_each(|tracer| tracer.env = "staging".to_owned());
            }),
            PROD,
        ),
        twin: None,
        rule: "resource-mixed",
        hop: AT,
        stage: None,
        seen: "The service is in another environment than those that call it.",
        cause: "A relay puts its own environment on everything that passes.",
        remedy: "Let it set the environment only where there is none.",
    },
    Breakage {
        name: "host-changed",
        how: How::TapWithEnv(
            Change::Datadog(|payload, on| {
                wire::tracers(payload, on.at)
                    .for_each(|tracer| tracer.hostname = "relay".to_owned());
            }),
            PROD,
        ),
        twin: None,
        rule: "resource-mixed",
        hop: AT,
        stage: None,
        seen: "All services are on one host, and infrastructure metrics do not fit them.",
        cause: "A relay puts its own host name on everything that passes.",
        remedy: "Let it keep the payload's host name.",
    },
    Breakage {
        name: "service-renamed-behind-the-collector",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::datadog_spans(payload, on.at).for_each(|span| span.service = "oops".to_owned());
        })),
        twin: None,
        rule: "wrong-service",
        hop: AT,
        stage: None,
        seen: "The service's page is empty, and another one has its traffic.",
        cause: "A relay renames services, for example by a prefix for each team.",
        remedy: "Name services in one place.",
    },
    Breakage {
        name: "resource-name-lost",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::datadog_spans(payload, on.at).for_each(|span| span.resource.clear());
        })),
        twin: None,
        rule: "unnamed-resource",
        hop: AT,
        stage: None,
        seen: "Spans have no resource, and are in no list of endpoints.",
        cause: "A scrubber that removes whatever looks like a path.",
        remedy: "Scrub ids within the path, and keep the route.",
    },
    Breakage {
        name: "low-half-of-the-trace-id-changed",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::datadog_spans(payload, on.at).for_each(|span| span.trace_id ^= 1);
        })),
        twin: None,
        rule: "trace-id-halves-disagree",
        hop: AT,
        stage: None,
        seen: "The service's spans are in a trace of their own.",
        cause: "A number above 2^53 went through JSON or a float.",
        remedy: "Carry ids as text, or as 64-bit integers.",
    },
    Breakage {
        name: "upper-half-of-the-trace-id-changed",
        how: How::Tap(Change::Datadog(|payload, on| {
            for span in wire::datadog_spans(payload, on.at) {
                span.meta.insert("_dd.p.tid".to_owned(), "00000000000000aa".to_owned());
            }
        })),
        twin: None,
        rule: "trace-id-halves-disagree",
        hop: AT,
        stage: None,
        seen: "The service's spans are in a trace of their own, of which the last 16 digits are the same.",
        cause: "The upper half is made anew, from the time, by each service.",
        remedy: "Propagate it (`_dd.p.tid` in tracestate), or use W3C ids.",
    },
    Breakage {
        name: "otel-trace-id-of-another-trace",
        how: How::Tap(Change::Datadog(|payload, on| {
            for span in wire::datadog_spans(payload, on.at) {
                let other =
                    format!("{:032x}", 0x00aa_0000_0000_0000_0000_u128 + u128::from(span.span_id));
                span.meta.insert("otel.trace_id".to_owned(), other);
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The trace is whole by its 64-bit id, and searches by `@otel.trace_id` miss the service.",
        cause: "A relay fills the attribute in from a log line or from another span.",
        remedy: "Copy it from the span's own trace id, or leave it alone.",
    },
    Breakage {
        name: "parent-lost-behind-the-collector",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::datadog_spans(payload, on.at).for_each(|span| span.parent_id = 0);
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("behind-collector"),
        seen: "The trace has two roots.",
        cause: "A relay rebuilds payloads, and leaves the parent out.",
        remedy: "Copy `parentID`.",
    },
    Breakage {
        name: "error-flag-lost-behind-the-collector",
        how: How::TapUnderFault(Change::Datadog(|payload, on| {
            wire::datadog_spans(payload, on.at).for_each(|span| span.error = 0);
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("behind-collector"),
        seen: "The service's error rate is zero while it answers 503.",
        cause: "A relay rebuilds payloads, and leaves the flag out.",
        remedy: "Copy `error`.",
    },
    Breakage {
        name: "client-span-lost-behind-the-collector",
        how: How::Tap(Change::Datadog(|payload, on| {
            for chunk in wire::chunks(payload, on.caller) {
                chunk.spans.retain(|span| {
                    !wire::is(&span.service, on.caller)
                        || span.meta.get("span.kind").is_none_or(|kind| kind != "client")
                });
            }
        })),
        twin: None,
        rule: "lost-span",
        hop: CALLER,
        stage: Some("behind-collector"),
        seen: "The callee hangs below a span that is not there.",
        cause: "A span-level ingestion filter of a relay.",
        remedy: "Filter whole traces.",
    },
    Breakage {
        name: "upper-half-of-the-trace-id-lost",
        how: How::Tap(Change::Datadog(|payload, on| {
            for span in wire::datadog_spans(payload, on.at) {
                span.meta.remove("otel.trace_id");
                span.meta.remove("_dd.p.tid");
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The service's spans are in a trace of their own, which has an id of 64 bits.",
        cause: "A relay rebuilds payloads, and keeps the tags that it knows.",
        remedy: "Copy all of `meta`.",
    },
    Breakage {
        name: "language-changed",
        how: How::Tap(Change::Datadog(|payload, on| {
            wire::tracers(payload, on.at)
                .for_each(|tracer| tracer.language_name = "java".to_owned());
        })),
        twin: None,
        rule: "resource-mixed",
        hop: AT,
        stage: None,
        seen: "The service has the icon, the runtime metrics and the library advice of a language that it is not written in.",
        cause: "A relay puts its own language on everything that passes.",
        remedy: "Let it keep the payload's language.",
    },
    Breakage {
        name: "env-removed",
        how: How::TapWithEnv(
            Change::Datadog(|payload, on| {
                for tracer in wire::tracers(payload, on.at) {
                    tracer.env.clear();
                    for span in tracer.chunks.iter_mut().flat_map(|chunk| &mut chunk.spans) {
                        span.meta.remove("env");
                    }
                }
            }),
            PROD,
        ),
        twin: None,
        rule: "resource-mixed",
        hop: AT,
        stage: None,
        seen: "The service is in the environment `none`, and missing in that of those which call it.",
        cause: "A relay rebuilds payloads, and leaves the environment out.",
        remedy: "Copy `env`.",
    },
];
