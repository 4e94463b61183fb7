//! Rules about names.

use std::{cell::LazyCell, collections::BTreeMap};

use super::{Checked, conventions::limit, on_the_way::OnTheWay};
use crate::{case::View, finding::Failure, trace::Span};

/// Name that the reference exporter writes when a resource has no `service.name` (measured on v0.155.0).
const NO_SERVICE: &str = "otlpresourcenoservicename";

/// Returns whether this is what stands for a service's name where there is none.
pub(super) fn is_nameless(service: &str) -> bool {
    matches!(service, "" | NO_SERVICE) || service.starts_with("unknown_service")
}

pub(super) fn missing_service_name(view: View<'_>) -> Checked {
    // All spans of one SDK lack it together.
    let mut unnamed: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.spans() {
        let service = span.service.as_str();
        if is_nameless(service) {
            unnamed.entry(service).or_default().push(span);
        }
    }
    let found = unnamed.into_iter().map(|(service, spans)| {
        let what = match service {
            "" => "no service".to_owned(),
            NO_SERVICE => {
                format!("the service `{NO_SERVICE}`, since their resource has no `service.name`")
            }
            // The SDK specification's default when nothing is configured.
            name => format!("the SDK's default service `{name}`"),
        };
        let which = match spans.as_slice() {
            [only] => format!("{} has", view.name(only)),
            [first, rest @ ..] => format!("{} and {} more have", view.name(first), rest.len()),
            [] => String::new(),
        };
        // Which service they are of is what is missing.
        Failure::found(format!("{which} {what}; {}", remedy(view))).of_spans(&spans)
    });
    Checked::Found(found.collect())
}

/// Advice about spans without a service name: where every workload is given one, setting it helps nothing.
fn remedy(view: View<'_>) -> String {
    let services = &view.topology.services;
    if services.is_empty() || services.iter().any(|service| service.service.is_none()) {
        return "set OTEL_SERVICE_NAME".to_owned();
    }
    // What the program itself puts in the place of a name it was not given is none.
    let unnamed = services.iter().filter(|service| service.meant.is_none());
    let unnamed: Vec<String> = unnamed.map(|one| format!("`{}`", one.workload)).collect();
    if !unnamed.is_empty() {
        return format!("set OTEL_SERVICE_NAME of {}, which is given none", unnamed.join(" and "));
    }
    let is_silent =
        |workload: &str| !view.spans().iter().any(|span| view.workload_of(span) == workload);
    let silent = services.iter().map(|service| service.workload.as_str());
    let silent: Vec<String> =
        silent.filter(|name| is_silent(name)).map(|name| format!("`{name}`")).collect();
    let whose = match silent.as_slice() {
        [] => "its service".to_owned(),
        names => names.join(" or "),
    };
    format!(
        "every workload is given its name in its environment, so {whose} does not read it: its SDK is set up before the variable is there, or with a resource of its own that leaves the environment out"
    )
}

pub(super) fn unnamed_resource(view: View<'_>) -> Checked {
    let empty = view.spans().iter().filter(|span| span.resource.is_empty());
    let mut found: Vec<Failure> = empty
        .map(|span| {
            let here = view.workload_of(span);
            let detail = format!("span {} of `{here}` has an empty resource name", span.id);
            Failure::found(detail).about(here).of_span(span.id)
        })
        .collect();
    let by_method: Vec<&Span> =
        view.spans().iter().filter(|span| is_named_by_method(span)).collect();
    // Of services that are not ours it is not known whether they have routes: a proxy has none, nor has a GraphQL endpoint or a
    // plain HTTP server.
    let has_routes = |span: &Span| {
        let here = view.workload_of(span);
        view.shape.hops.iter().any(|hop| hop.workload == here)
    };
    let way = LazyCell::new(|| OnTheWay::of(view));
    found.extend(by_method.iter().filter(|span| has_routes(span)).map(|span| {
        let here = view.workload_of(span);
        let found = Failure::found(format!(
            "{} is named by its method alone, so that all routes become one resource",
            view.name(span)
        ));
        let part = way.part_of_attribute(span.id, &["http.route"], |_| true);
        let (place, proof) = (part.place(here), part.proof(here));
        let cause = match limit(view, &way, here, &[*span]) {
            _ if part.is_behind_the_service() => {
                format!("{place} removes `http.route`, {proof} with it")
            }
            Some(setting) => format!(
                "the SDK of `{here}` may have cut `http.route`, as it keeps no more attributes: {setting} is set for it"
            ),
            None => "the instrumentation does not set `http.route`".to_owned(),
        };
        found.because(cause).about(here).of_span(span.id).at_stage(part.stage())
    }));
    let unknown: Vec<String> =
        by_method.iter().filter(|span| !has_routes(span)).map(|span| view.name(span)).collect();
    if found.is_empty() && !unknown.is_empty() {
        return Checked::NotEvaluated {
            because: format!(
                "{} has its method alone, and it is unknown whether its service has routes; where it has, let the instrumentation set `http.route`, and ask for the `resource` in `expect`",
                unknown.join(", ")
            ),
            required: false,
        };
    }
    Checked::Found(found)
}

/// Returns whether a server span that a route took is named by its method alone. Where no route matched, or the request was turned away
/// before, as a 503 of a server that is full, there is none to report.
fn is_named_by_method(span: &Span) -> bool {
    let handled = span.http_status().is_none_or(|status| matches!(status, 200..=299 | 500));
    let method = span.meta.get("http.method").map_or("", String::as_str);
    span.kind() == "server" && !method.is_empty() && span.resource == method && handled
}
