//! Spans on their way from an SDK to the collector: what is lost, doubled, or changed.

use opentelemetry_proto::tonic::{
    resource::v1::Resource,
    trace::v1::{ResourceSpans, Status, span::SpanKind, status::StatusCode},
};

use super::{AT, Breakage, CALLER, How, wire};
use crate::change::Change;

const UNKNOWN: [u8; 8] = [0xee; 8];
const PROD: &[(&str, &str, &str)] =
    &[("all", "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")];

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "server-span-lost",
        how: How::Tap(Change::Otlp(|request, on| {
            wire::retain(request, on.at, |span| span.kind != SpanKind::Server as i32);
        })),
        twin: None,
        rule: "lost-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The trace ends at the caller, though the callee did its work.",
        cause: "A filter on the way drops the spans of one service or kind.",
        remedy: "Compare the filter's conditions with the span's attributes.",
    },
    Breakage {
        name: "server-span-in-the-middle-lost",
        how: How::Tap(Change::Otlp(|request, on| {
            wire::retain(request, on.caller, |span| span.kind != SpanKind::Server as i32);
        })),
        twin: None,
        rule: "lost-span",
        hop: CALLER,
        stage: Some("before-collector"),
        seen: "The flame graph falls into two pieces: what the service called hangs below a span that is not there.",
        cause: "The span was never ended (a handler that was cancelled), or a filter drops it.",
        remedy: "End the span on every path, also where the handler is dropped.",
    },
    Breakage {
        name: "client-span-lost",
        how: How::Tap(Change::Otlp(|request, on| {
            wire::retain(request, on.caller, |span| span.kind != SpanKind::Client as i32);
        })),
        twin: None,
        rule: "lost-span",
        hop: CALLER,
        stage: Some("before-collector"),
        seen: "The callee hangs below a span that is not there, and the service map has no edge between the two.",
        cause: "A filter drops client spans to save money, or the span is ended after the SDK was shut down.",
        remedy: "Drop whole traces, not single spans.",
    },
    Breakage {
        name: "parent-unknown",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                span.parent_span_id = UNKNOWN.to_vec();
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The callee's spans stand beside the caller, below nothing.",
        cause: "Ids are rewritten on the way, for one side only.",
        remedy: "Rewrite ids nowhere, or everywhere by one rule.",
    },
    Breakage {
        name: "parent-removed",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                span.parent_span_id.clear();
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The trace has two roots, and Datadog shows one of them as the trace's.",
        cause: "The service starts a span without the context that it extracted, and sets the trace id only.",
        remedy: "Start the span with the extracted context as its parent.",
    },
    Breakage {
        name: "a-span-is-its-own-parent",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                span.parent_span_id.clone_from(&span.span_id);
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The span is not in the flame graph at all.",
        cause: "The ids of a context are used for the span that is made below it.",
        remedy: "Let the SDK make span ids.",
    },
    Breakage {
        name: "trace-id-cut-to-64-bits",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.trace_id.iter_mut().take(8).for_each(|byte| *byte = 0);
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The service's spans are in a trace whose id is the last 16 digits of the right one.",
        cause: "A bridge to a format with 64-bit ids (Zipkin, Datadog's old headers) stands on the way.",
        remedy: "Switch 128-bit ids on in the bridge.",
    },
    Breakage {
        name: "spans-put-into-another-trace",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.trace_id.iter_mut().for_each(|byte| *byte ^= 0x5a);
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The service's spans are in another trace, without its root.",
        cause: "A processor hashes or anonymizes ids, for one service only.",
        remedy: "Leave trace ids alone.",
    },
    Breakage {
        name: "kind-changed",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                span.kind = SpanKind::Internal as i32;
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: None,
        seen: "The service has no requests: its entry is an internal span, of the type `custom`.",
        cause: "A processor or a bridge to another format leaves the kind out.",
        remedy: "Carry the kind over.",
    },
    Breakage {
        name: "two-spans-with-one-id",
        how: How::Tap(Change::Otlp(|request, on| {
            let ids: Vec<(Vec<u8>, Vec<u8>)> = wire::of_kind(request, on.caller, SpanKind::Server)
                .map(|span| (span.trace_id.clone(), span.span_id.clone()))
                .collect();
            for span in wire::of_kind(request, on.caller, SpanKind::Client) {
                if let Some((_, id)) = ids.iter().find(|(trace, _)| *trace == span.trace_id) {
                    span.span_id.clone_from(id);
                }
            }
        })),
        twin: None,
        rule: "duplicate-span",
        hop: CALLER,
        stage: None,
        seen: "One of the two spans hides the other, and its children hang at the wrong place.",
        cause: "A generator of ids that is seeded by the time, or the same in forked processes.",
        remedy: "Use the SDK's generator, and seed it anew after a fork.",
    },
    Breakage {
        name: "a-span-exported-twice",
        how: How::Tap(Change::Otlp(|request, on| {
            for spans in request
                .resource_spans
                .iter_mut()
                .filter(|spans| wire::is(wire::service(spans), on.at))
            {
                for scope in &mut spans.scope_spans {
                    let again = scope.spans.clone();
                    scope.spans.extend(again);
                }
            }
        })),
        twin: None,
        rule: "duplicate-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "Spans are there twice, and hits and durations count twice.",
        cause: "Two span processors or two exporters of one SDK send to the same collector.",
        remedy: "Register the exporter once.",
    },
    Breakage {
        name: "service-renamed-before-the-collector",
        how: How::Tap(Change::Otlp(|request, on| {
            for resource in wire::resources(request, on.at) {
                wire::set(&mut resource.attributes, "service.name", "oops");
            }
        })),
        twin: Some(How::Tap(Change::Otlp(|request, on| {
            for resource in wire::resources(request, on.at) {
                wire::set(&mut resource.attributes, "service.name", &on.at.to_uppercase());
            }
        }))),
        rule: "wrong-service",
        hop: AT,
        stage: None,
        seen: "The service's page is empty, and another one has its traffic.",
        cause: "An agent or a processor sets `service.name` from the host, the pod or a default.",
        remedy: "Let it set the name only where there is none.",
    },
    Breakage {
        name: "service-called-otherwise-by-its-own-settings",
        how: How::Env(&[("sample-app-2", "OTEL_SERVICE_NAME", "oops")]),
        twin: Some(How::Env(&[(
            "sample-app-2",
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.version=2.0",
        )])),
        rule: "wrong-service",
        hop: CALLER,
        stage: None,
        seen: "The service's page is empty, and another one has its traffic.",
        cause: "A deployment was copied, and its `OTEL_SERVICE_NAME` with it.",
        remedy: "Set `OTEL_SERVICE_NAME` for each workload.",
    },
    Breakage {
        name: "service-name-removed",
        how: How::Tap(Change::Otlp(|request, on| {
            for resource in wire::resources(request, on.at) {
                resource.attributes.retain(|one| one.key != "service.name");
            }
        })),
        twin: None,
        rule: "missing-service-name",
        hop: AT,
        stage: None,
        seen: "The spans are of the service `otlpresourcenoservicename`.",
        cause: "A resource set in code leaves the environment out, or a processor removes resource attributes by a list of those to keep.",
        remedy: "Add `service.name` to that resource or list.",
    },
    Breakage {
        name: "two-versions-in-one-process",
        how: How::Tap(Change::Otlp(|request, on| {
            let mut more = Vec::new();
            for spans in request
                .resource_spans
                .iter_mut()
                .filter(|spans| wire::is(wire::service(spans), on.caller))
            {
                let mut resource: Resource = spans.resource.clone().unwrap_or_default();
                let mut calls = Vec::new();
                for scope in &mut spans.scope_spans {
                    let mut other = scope.clone();
                    other.spans.retain(|span| span.kind == SpanKind::Client as i32);
                    scope.spans.retain(|span| span.kind != SpanKind::Client as i32);
                    calls.push(other);
                }
                if let Some(own) = &mut spans.resource {
                    wire::set(&mut own.attributes, "service.version", "1.0");
                }
                wire::set(&mut resource.attributes, "service.version", "2.0");
                more.push(ResourceSpans {
                    resource: Some(resource),
                    scope_spans: calls,
                    schema_url: String::new(),
                });
            }
            request.resource_spans.extend(more);
        })),
        twin: Some(How::Tap(Change::Otlp(|request, on| {
            for (service, version) in [(on.caller, "1.0"), (on.at, "2.0")] {
                for resource in wire::resources(request, service) {
                    wire::set(&mut resource.attributes, "service.version", version);
                }
            }
        }))),
        rule: "resource-mixed",
        hop: CALLER,
        stage: None,
        seen: "Deployment tracking shows two versions of a service of which one runs.",
        cause: "Two SDKs in one process, or a processor that sets the version by what it knows of a part of the spans.",
        remedy: "Set `service.version` in one place.",
    },
    Breakage {
        name: "route-lost",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.attributes.retain(|one| one.key != "http.route");
            }
        })),
        twin: None,
        rule: "unnamed-resource",
        hop: AT,
        stage: None,
        seen: "All routes of the service are one resource, `GET`.",
        cause: "A framework without route instrumentation, or a processor that removes attributes of high cardinality.",
        remedy: "Set `http.route`; it is a template, so its cardinality is low.",
    },
    Breakage {
        name: "error-lost",
        how: How::TapUnderFault(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                // Where there is none, none is lost.
                span.status.take_if(|status| status.code == StatusCode::Error as i32);
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The service's error rate stays at zero while it answers 503.",
        cause: "The status is not set for 5xx, or a processor overwrites it.",
        remedy: "Set the span's status to ERROR where the service answers 5xx.",
    },
    Breakage {
        name: "error-invented",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                span.status =
                    Some(Status { code: StatusCode::Error as i32, message: "invented".to_owned() });
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: AT,
        stage: Some("before-collector"),
        seen: "The service has errors that no client saw.",
        cause: "A handled exception is recorded with an error status.",
        remedy: "Record it as an event, and leave the status alone.",
    },
    Breakage {
        name: "attributes-cut-by-a-limit",
        how: How::Env(&[("sample-app-3", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")]),
        twin: Some(How::Env(&[("sample-app-3", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "64")])),
        rule: "missing-attributes",
        hop: AT,
        stage: None,
        seen: "All routes of the service are one resource, and its spans have no status code.",
        cause: "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT is lower than what the instrumentation sets; what comes last is dropped.",
        remedy: "Raise the limit; the default is 128.",
    },
    Breakage {
        name: "http-attributes-deleted",
        how: How::Tap(Change::Otlp(|request, on| {
            let gone = ["http.", "url.", "server.", "client.", "network.", "user_agent."];
            for span in wire::spans(request, on.at) {
                span.attributes.retain(|one| !gone.iter().any(|key| one.key.starts_with(key)));
            }
        })),
        twin: None,
        rule: "missing-attributes",
        hop: AT,
        stage: None,
        seen: "The service's spans have no method, no status code and no path, and its metrics cannot be split by them.",
        cause: "A processor of attributes or a redaction that keeps a list of keys, written for the names of an older convention.",
        remedy: "List the keys of today's conventions too.",
    },
    Breakage {
        name: "environment-of-one-service-replaced",
        how: How::TapWithEnv(
            Change::Otlp(|request, on| {
                for resource in wire::resources(request, on.at) {
                    wire::set(&mut resource.attributes, "deployment.environment.name", "staging");
                }
            }),
            PROD,
        ),
        twin: None,
        rule: "resource-mixed",
        hop: AT,
        stage: None,
        seen: "The service is in another environment than those that call it, and missing where it is looked for.",
        cause: "An agent's resource processor puts its own environment on what passes.",
        remedy: "Let it set the environment only where there is none.",
    },
    Breakage {
        name: "all-kinds-internal",
        how: How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.caller) {
                span.kind = SpanKind::Internal as i32;
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: CALLER,
        stage: None,
        seen: "The service has neither requests nor calls, and the service map ends before it.",
        cause: "A bridge from another tracing library knows no kinds, and writes the default.",
        remedy: "Map the library's kinds in the bridge.",
    },
];
