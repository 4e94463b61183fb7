//! Single fields of spans that change on their way, before the collector or behind it.

use libdd_trace_protobuf::pb::{AgentPayload, Span as DatadogSpan};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{Status, span::SpanKind},
};

use super::{AT, Breakage, CALLER, How, wire};
use crate::change::{Change, On};

const BEFORE: Option<&str> = Some("before-collector");
const BEHIND: Option<&str> = Some("behind-collector");

/// Has a field changed by something that hands spans on.
const fn field(
    name: &'static str,
    how: How,
    stage: Option<&'static str>,
    [seen, cause, remedy]: [&'static str; 3],
) -> Breakage {
    Breakage { name, how, twin: None, rule: "altered-span", hop: AT, stage, seen, cause, remedy }
}

/// The server's spans of the service, as Datadog's.
fn servers<'a>(
    payload: &'a mut AgentPayload,
    on: &'a On<'_>,
) -> impl Iterator<Item = &'a mut DatadogSpan> {
    let is_server =
        |span: &&mut DatadogSpan| span.meta.get("span.kind").is_some_and(|kind| kind == "server");
    wire::datadog_spans(payload, on.at).filter(is_server)
}

pub(super) const ALL: &[Breakage] = &[
    field(
        "ids-in-the-route",
        How::Tap(Change::Otlp(|request, on| {
            for span in wire::of_kind(request, on.at, SpanKind::Server) {
                let id: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
                span.name = format!("GET /outgoing-sampleapp/{id}");
                let route = format!("/outgoing-sampleapp/{id}");
                wire::set(&mut span.attributes, "http.route", &route);
            }
        })),
        BEFORE,
        [
            "The service has an endpoint for each request, and none has enough of them for a metric.",
            "A relay makes the route of the path.",
            "Leave `http.route` alone where there is one.",
        ],
    ),
    field(
        "duration-in-another-unit-before-the-collector",
        How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                let duration = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
                span.end_time_unix_nano = span.start_time_unix_nano + duration / 1000;
            }
        })),
        BEFORE,
        [
            "The service's latencies are a thousandth of what its callers wait for.",
            "A bridge writes a duration in microseconds where nanoseconds are meant.",
            "Compute the end from the start in nanoseconds.",
        ],
    ),
    field(
        "status-set-to-ok-before-the-collector",
        How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.status = Some(Status { code: 1, ..Status::default() });
            }
        })),
        BEFORE,
        [
            "Errors of the service are never marked, now and in the future.",
            "A processor sets the status of whatever it has looked at.",
            "Leave the status alone.",
        ],
    ),
    field(
        "attribute-dropped-before-the-collector",
        How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                span.attributes.retain(|one| one.key != "client.address");
            }
        })),
        BEFORE,
        [
            "What is searched for by that attribute is not found.",
            "A relay removes what it takes for personal data.",
            "Remove it in one place that is known, the collector's configuration.",
        ],
    ),
    field(
        "attribute-values-cut-before-the-collector",
        How::Tap(Change::Otlp(|request, on| {
            for span in wire::spans(request, on.at) {
                for one in &mut span.attributes {
                    let value = one.value.as_mut().and_then(|value| value.value.as_mut());
                    if let Some(Value::StringValue(text)) = value {
                        text.truncate(5);
                    }
                }
            }
        })),
        BEFORE,
        [
            "Routes, addresses and queries end in the middle, and different ones are one.",
            "A relay cuts the values of attributes at a length that is too small.",
            "Raise that length; Datadog takes 25,000 characters.",
        ],
    ),
    field(
        "all-but-a-few-attributes-dropped-before-the-collector",
        How::Tap(Change::Otlp(|request, on| {
            wire::spans(request, on.at).for_each(|span| span.attributes.truncate(9));
        })),
        BEFORE,
        [
            "The last of each span's attributes are missing: the status code among them.",
            "A relay has a limit on the number of attributes.",
            "Raise it to at least the SDK's own, 128.",
        ],
    ),
    field(
        "kind-changed-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            for span in servers(payload, on) {
                span.meta.insert("span.kind".to_owned(), "internal".to_owned());
            }
        })),
        BEHIND,
        [
            "The service has no requests of which metrics by kind are made.",
            "A relay sets the kind of what it has not seen the parent of.",
            "Let it keep `span.kind`.",
        ],
    ),
    field(
        "type-lost-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            servers(payload, on).for_each(|span| span.r#type.clear());
        })),
        BEHIND,
        [
            "The service is of the type `custom`, and its page has no endpoints of the web.",
            "A relay rebuilds spans, and leaves the type out.",
            "Copy `type`.",
        ],
    ),
    field(
        "operation-name-changed-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            servers(payload, on).for_each(|span| span.name = "web.request".to_owned());
        })),
        BEHIND,
        [
            "The service has a second operation, and monitors of the first one have no data.",
            "A relay renames operations to what another tracing library calls them.",
            "Name operations in one place.",
        ],
    ),
    field(
        "resource-name-changed-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            servers(payload, on).for_each(|span| span.resource = "GET /?".to_owned());
        })),
        BEHIND,
        [
            "All endpoints of the service are one.",
            "A relay obfuscates resource names by a rule that is too wide.",
            "Leave routes alone, which are templates already.",
        ],
    ),
    field(
        "duration-changed-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            servers(payload, on).for_each(|span| span.duration /= 1000);
        })),
        BEHIND,
        [
            "Latencies of the traces are a thousandth of those of the metrics.",
            "A relay takes nanoseconds for microseconds.",
            "Copy `duration` as it is.",
        ],
    ),
    field(
        "start-changed-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            servers(payload, on).for_each(|span| span.start += 40_000_000);
        })),
        BEHIND,
        [
            "Spans begin later than they did, within those that called them.",
            "A relay corrects clocks that were right.",
            "Keep clocks by NTP, and leave times alone.",
        ],
    ),
    field(
        "error-invented-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            servers(payload, on).for_each(|span| span.error = 1);
        })),
        BEHIND,
        [
            "The service's error rate is high in traces, and zero in its logs.",
            "A relay marks spans by a rule of its own, such as their latency.",
            "Use a monitor for that.",
        ],
    ),
    field(
        "tag-dropped-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            for span in servers(payload, on) {
                span.meta.remove("http.route");
            }
        })),
        BEHIND,
        [
            "What is searched for by that tag is not found.",
            "A relay keeps a list of tags, which does not have this one.",
            "Let it keep all of `meta`.",
        ],
    ),
    field(
        "number-dropped-behind-the-collector",
        How::Tap(Change::Datadog(|payload, on| {
            for span in servers(payload, on) {
                span.metrics.retain(|key, _| key.starts_with('_'));
                span.meta.remove("http.status_code");
            }
        })),
        BEHIND,
        [
            "The service's numbers are missing: status codes, ports, sizes.",
            "A relay keeps a span's texts, and leaves its numbers out.",
            "Copy `metrics` too.",
        ],
    ),
    Breakage {
        rule: "wrong-service",
        hop: CALLER,
        stage: None,
        ..field(
            "client-spans-under-a-service-of-their-own",
            How::Tap(Change::Datadog(|payload, on| {
                let name = format!("{}-http-client", on.caller);
                let is_client = |span: &&mut DatadogSpan| {
                    span.meta.get("span.kind").is_some_and(|kind| kind == "client")
                };
                for span in wire::datadog_spans(payload, on.caller).filter(is_client) {
                    span.service.clone_from(&name);
                }
            })),
            BEHIND,
            [
                "There is a service that nobody runs, and the caller's page lacks its calls.",
                "A relay gives calls a service of their own, as old tracing libraries do.",
                "Switch that off; `peer.service` says who is called.",
            ],
        )
    },
];
