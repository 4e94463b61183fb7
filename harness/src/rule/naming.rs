//! Rules about names.

use super::Checked;
use crate::{case::View, expectation::span_status};

/// What the reference exporter writes when a resource has no `service.name` (measured on v0.155.0).
const NO_SERVICE: &str = "otlpresourcenoservicename";

pub(super) fn missing_service_name(view: View<'_>) -> Checked {
    let found = view.spans().iter().filter_map(|span| {
        let what = match span.service.as_str() {
            "" => "has no service".to_owned(),
            NO_SERVICE => {
                format!("has the service `{NO_SERVICE}`: its resource has no `service.name`")
            }
            // The SDK specification's default when nothing is configured.
            name if name.starts_with("unknown_service") => {
                format!("has the SDK's default service `{name}`")
            }
            _ => return None,
        };
        Some(format!("{} {what}; set OTEL_SERVICE_NAME", view.name(span)))
    });
    Checked::Found(found.collect())
}

pub(super) fn unnamed_resource(view: View<'_>) -> Checked {
    let found = view.spans().iter().filter_map(|span| {
        if span.resource.is_empty() {
            return Some(format!("span {} of `{}` has an empty resource name", span.id, view.workload_of(span)));
        }
        // Where no route matched, or the request went nowhere, there is none to tell.
        let handled = span_status(span).is_none_or(|status| matches!(status, 200..=299 | 500..=599));
        let method = span.meta.get("http.method").map_or("", String::as_str);
        if span.kind() == "server" && !method.is_empty() && span.resource == method && handled {
            return Some(format!(
                "{} is named by its method alone: the instrumentation does not set `http.route`, so all routes become one resource",
                view.name(span)
            ));
        }
        None
    });
    Checked::Found(found.collect())
}
