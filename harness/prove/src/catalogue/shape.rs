//! Traces whose spans are all there, and put together wrongly.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{AT, Breakage, CALLER, How, wire};
use crate::change::Change;

const VERSION: &[(&str, &str, &str)] = &[(
    "all",
    "OTEL_RESOURCE_ATTRIBUTES",
    "deployment.environment.name=prod,service.version=1.2.3",
)];

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "client-span-beside-its-server-span",
        how: How::Tap(Change::Otlp(|request, on| {
            let servers = wire::of_kind(request, on.caller, SpanKind::Server);
            let servers: Vec<(Vec<u8>, Vec<u8>)> =
                servers.map(|span| (span.span_id.clone(), span.parent_span_id.clone())).collect();
            for span in wire::of_kind(request, on.caller, SpanKind::Client) {
                if let Some((_, above)) = servers.iter().find(|(id, _)| *id == span.parent_span_id)
                {
                    span.parent_span_id.clone_from(above);
                }
            }
        })),
        twin: None,
        rule: "altered-span",
        hop: CALLER,
        stage: Some("before-collector"),
        seen: "The call stands beside the request that it belongs to, and the time of the two is counted twice.",
        cause: "The code makes the call with the context that came with the request, and not with that of its own span.",
        remedy: "Use the current context; make the server span the current one.",
    },
    Breakage {
        name: "instrumented-twice",
        how: How::Tap(Change::Otlp(|request, on| {
            let of = request.resource_spans.iter_mut();
            let of = of.filter(|spans| wire::is(wire::service(spans), on.at));
            for spans in of.flat_map(|spans| &mut spans.scope_spans) {
                let is_server = |span: &&_| wire::is_kind(span, SpanKind::Server);
                let mut again: Vec<_> = spans.spans.iter().filter(is_server).cloned().collect();
                for span in &mut again {
                    span.parent_span_id.clone_from(&span.span_id);
                    span.span_id.iter_mut().for_each(|byte| *byte ^= 0x5a);
                }
                spans.spans.extend(again);
            }
        })),
        twin: None,
        rule: "wrong-service-edge",
        hop: AT,
        stage: None,
        seen: "Each request is there twice, one span within the other, and requests and errors count twice.",
        cause: "An agent and a library, or a framework and its server, both instrument the same request.",
        remedy: "Switch one of them off.",
    },
    Breakage {
        name: "service-names-swapped",
        how: How::Tap(Change::Otlp(|request, on| {
            for spans in &mut request.resource_spans {
                let other = match wire::service(spans) {
                    name if name == on.at => on.caller,
                    name if name == on.caller => on.at,
                    _ => continue,
                };
                if let Some(resource) = &mut spans.resource {
                    wire::set(&mut resource.attributes, "service.name", other);
                }
            }
        })),
        twin: None,
        rule: "wrong-service",
        hop: "reach Datadog as service `sample-app-3`, and are meant to be of `sample-app-2`",
        stage: None,
        seen: "Each of two services has the traffic of the other.",
        cause: "Two deployments got one another's settings, or a relay maps addresses to names by a table that is out of date.",
        remedy: "Set `OTEL_SERVICE_NAME` for each workload, and let nothing change it.",
    },
    Breakage {
        name: "version-of-one-service-removed",
        how: How::TapWithEnv(
            Change::Otlp(|request, on| {
                for resource in wire::resources(request, on.at) {
                    resource.attributes.retain(|one| one.key != "service.version");
                }
            }),
            VERSION,
        ),
        twin: None,
        rule: "resource-mixed",
        hop: AT,
        stage: None,
        seen: "Deployments of the service are not seen, and errors are of no version.",
        cause: "A processor keeps a list of resource attributes, which does not have this one.",
        remedy: "Add `service.version` to it.",
    },
];
