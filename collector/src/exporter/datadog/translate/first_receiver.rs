//! The first version of the agent's OTLP receiver, which `--feature-gates=-datadog.EnableReceiveResourceSpansV2` asks for.
//!
//! It copies the resource's attributes before the span's, keeps HTTP's attributes under their own names as well, takes
//! nothing from the scope's attributes, and knows fewer types. Rules: agent, `receiveResourceSpansV1` and `convertSpan` in
//! `pkg/trace/api/otlp.go`.

use std::borrow::Cow;

use super::attributes::{Attrs, Both};
use super::concepts::{DB_NAMESPACE, ENV, VERSION};
use super::obfuscation::TakenOut;
use super::span::{self, Translated, parse_bool, set_unless_empty};
use super::{Settings, host, naming, normalize, sampling};
use crate::exporter::datadog::model::{Span as DatadogSpan, Text, TracerPayload};
use crate::trace_batch::go_text::as_text;
use crate::trace_batch::{AnyValue, Scope, Span, SpanKind};

const CONTAINER: [&str; 2] = ["container.id", "k8s.pod.uid"];

/// Returns a payload's fields around the spans; what the resource does not say, the first span that does.
pub(super) fn payload<'a>(
    settings: &'a Settings,
    resource: &Attrs<'a>,
    spans: &[Translated<'a>],
) -> TracerPayload<'a> {
    let first = |key: &str| {
        let mut reported = spans.iter().filter_map(|span| span.span.meta.get(key.as_bytes()));
        reported.next().cloned()
    };
    let host = || {
        let own = resource.get("_dd.hostname").map(|host| as_text(&host));
        own.or_else(|| first("_dd.hostname"))
    };
    let fallback = || Cow::Borrowed(settings.hostname.as_bytes());
    let env = some_text(first_filled(ENV.names(), |key| resource.text(&[key])));
    let env = env.or_else(|| {
        let metas = spans.iter().filter_map(|span| span.span.meta.get(b"env"));
        metas.into_iter().find(|env| !env.is_empty()).cloned()
    });
    let container = some_text(first_filled(CONTAINER, |key| resource.text(&[key])));
    let container = container.or_else(|| {
        let of_span = |span: &Translated<'a>| {
            let meta = |key: &str| span.span.meta.get(key.as_bytes()).cloned();
            some_text(first_filled(CONTAINER, |key| meta(key).unwrap_or_default()))
        };
        spans.iter().find_map(of_span)
    });
    TracerPayload {
        container_id: container.unwrap_or_default(),
        language_name: resource.text(&["telemetry.sdk.language"]),
        tracer_version: Cow::Owned(
            [b"otlp-", &*resource.text(&["telemetry.sdk.version"])].concat(),
        ),
        env: normalize::tag_value(env.unwrap_or(Cow::Borrowed(b"none"))),
        hostname: host::source(resource).or_else(host).unwrap_or_else(fallback),
        has_stats: settings.counts_on_request || !resource.text(&["_dd.stats_computed"]).is_empty(),
        ..TracerPayload::default()
    }
}

pub(super) fn translate<'a>(
    settings: &Settings,
    span: &Span<'a>,
    scope: &Scope<'a>,
    resource: &Attrs<'a>,
) -> Translated<'a> {
    let own = Attrs::new(span.attributes());
    let both = Both { span: &own, resource };
    let mut out = span::begun(span);
    let taken_out = settings.obfuscation.of_span(both, &naming::span_type(span, both).0);
    let hidden = |key: &[u8], value: &AnyValue<'a>| taken_out?.attribute(key, value);
    for (key, value) in resource.iter() {
        set_meta(&mut out, key, hidden(key, &value).unwrap_or_else(|| as_text(&value)));
    }
    if settings.top_level_by_span_kind {
        span::mark_by_kind(&mut out, span);
    }
    out.meta.set(&b"otel.trace_id"[..], span::hex(&span.trace_id.to_be_bytes()).to_vec().into());
    out.meta.set(&b"span.kind"[..], naming::kind_name(span.kind).as_bytes().into());
    if !out.meta.contains(b"version") {
        set_unless_empty(&mut out, "version", resource.text(VERSION));
    }
    span::set_events_and_links(&mut out, span);
    set_attributes(&mut out, &own, hidden);
    if !out.meta.contains(b"env") {
        let meta = |key: &str| out.meta.get(key.as_bytes()).cloned().unwrap_or_default();
        let env = first_filled(ENV.names(), meta);
        if !env.is_empty() {
            out.meta.set(&b"env"[..], normalize::tag(env));
        }
    }
    if !out.meta.contains(b"db.name") {
        set_unless_empty(&mut out, "db.name", both.resource_first(DB_NAMESPACE));
    }
    span::set_facts(&mut out, span, scope, settings.scope_keys());
    span::set_error_message(&mut out, span);
    name(&mut out, settings, span, scope, both, taken_out);
    let language = resource.text(&["telemetry.sdk.language"]);
    out.service = normalize::service_or_language(std::mem::take(&mut out.service), &language);
    out.name = normalize::name(std::mem::take(&mut out.name));
    let priority = out.metrics.get(sampling::PRIORITY).copied();
    Translated { span: out, priority }
}

/// Sets the span's own attributes. Of two names for an HTTP method or status, the new one wins where it comes first.
fn set_attributes<'a>(
    out: &mut DatadogSpan<'a>,
    attributes: &Attrs<'a>,
    hidden: impl Fn(&[u8], &AnyValue<'a>) -> Option<Text<'a>>,
) {
    let (mut has_method, mut has_status) = (false, false);
    for (key, value) in attributes.iter() {
        if let Some(text) = hidden(key, &value) {
            set_meta(out, key, text);
            continue;
        }
        match value {
            AnyValue::Int(int) => set_metric(out, key, int as f64),
            AnyValue::Double(double) => set_metric(out, key, double),
            _ if matches!(key, b"http.method" | b"http.status_code") => {}
            value => set_meta(out, key, as_text(&value)),
        }
        let renamed: Option<&[u8]> = match key {
            b"http.request.method" => Some(b"http.method"),
            b"http.method" if !has_method => Some(key),
            b"http.response.status_code" => Some(b"http.status_code"),
            b"http.status_code" if !has_status => Some(key),
            _ => None,
        };
        has_method |= key == b"http.request.method";
        has_status |= key == b"http.response.status_code";
        if let Some(renamed) = renamed {
            out.meta.set(renamed, as_text(&value));
        }
    }
}

/// Sets an attribute, which may be a field of the span.
fn set_meta<'a>(out: &mut DatadogSpan<'a>, key: &'a [u8], value: Text<'a>) {
    match key {
        b"operation.name" => out.name = value,
        b"service.name" => out.service = value,
        b"resource.name" => out.resource = value,
        b"span.type" => out.span_type = value,
        b"analytics.event" => {
            if let Some(wanted) = parse_bool(&value) {
                out.metrics.set(&b"_dd1.sr.eausr"[..], f64::from(u8::from(wanted)));
            }
        }
        key => out.meta.set(key, value),
    }
}

fn set_metric<'a>(out: &mut DatadogSpan<'a>, key: &'a [u8], value: f64) {
    out.metrics.set(sampling::metric_key(key), value);
}

/// Gives the span the names that its attributes did not.
fn name<'a>(
    out: &mut DatadogSpan<'a>,
    settings: &Settings,
    span: &Span<'a>,
    scope: &Scope<'a>,
    attributes: Both<'_, 'a>,
    taken_out: Option<TakenOut<'_>>,
) {
    let naming = &settings.naming;
    if naming.is_second_version() {
        out.name = naming::operation_v2(span, attributes).0;
    } else if out.name.is_empty() {
        let name = if naming.span_name_as_resource_name {
            Cow::Borrowed(span.name)
        } else {
            naming::scope_and_kind(scope, naming::kind_name(span.kind))
        };
        out.name = naming::remapped(naming, name);
    }
    if out.service.is_empty() {
        out.service = Cow::Borrowed(b"OTLPResourceNoServiceName");
    }
    if out.resource.is_empty() {
        out.resource = if naming.is_second_version() {
            match (naming::resource(naming, span, attributes), taken_out) {
                ((query, true), Some(taken_out)) => taken_out.query(query),
                ((resource, _), _) => resource,
            }
        } else {
            let named = resource_from_meta(out);
            if named.is_empty() { Cow::Borrowed(span.name) } else { named }
        };
    }
    if out.span_type.is_empty() {
        let database = normalize::tag_value(attributes.resource.text(&["db.system"]));
        let database = match database.is_empty() {
            true => normalize::tag_value(attributes.span.text(&["db.system"])),
            false => database,
        };
        out.span_type = Cow::Borrowed(match (span.kind, &*database) {
            (SpanKind::Server, _) => b"web",
            (SpanKind::Client, b"") => b"http",
            (SpanKind::Client, b"redis" | b"memcached") => b"cache",
            (SpanKind::Client, _) => b"db",
            _ => b"custom",
        });
    }
}

fn resource_from_meta<'a>(span: &DatadogSpan<'a>) -> Text<'a> {
    /// Names the target of a call where there is no route.
    const GRPC_PATH: &str = "grpc.path";
    let meta = |key: &str| span.meta.get(key.as_bytes()).cloned().unwrap_or_default();
    for (index, (what, detail)) in naming::FIRST_RESOURCES.into_iter().enumerate() {
        let what = first_filled(what.names(), meta);
        if !what.is_empty() {
            let path = (index == 0).then_some(GRPC_PATH);
            return naming::with_detail(what, &first_filled(detail.names().chain(path), meta));
        }
    }
    Cow::Borrowed(b"")
}

/// Returns the value of the first of these keys that has any text.
fn first_filled<'a>(
    keys: impl IntoIterator<Item = &'static str>,
    text: impl Fn(&'static str) -> Text<'a>,
) -> Text<'a> {
    keys.into_iter().map(text).find(|text| !text.is_empty()).unwrap_or_default()
}

fn some_text(text: Text<'_>) -> Option<Text<'_>> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Settings, translate};
    use crate::exporter::datadog::model::TracerPayload;
    use crate::trace_batch::TraceBatch;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    fn payload(
        resource: &serde_json::Value,
        span: &serde_json::Value,
        check: impl FnOnce(&TracerPayload<'_>),
    ) {
        let attributes = |map: &serde_json::Value| {
            let pairs = map.as_object().unwrap().iter().map(|(key, value)| match value.as_i64() {
                Some(int) => json!({"key": key, "value": {"intValue": int.to_string()}}),
                None => json!({"key": key, "value": {"stringValue": value}}),
            });
            pairs.collect::<Vec<_>>()
        };
        let span = json!({
            "traceId": "0000000000000000000000000000000a", "spanId": "000000000000000b", "kind": 3,
            "name": "n", "startTimeUnixNano": "1700000000000000000", "attributes": attributes(span),
        });
        let scope = json!({"scope": {"attributes": attributes(&json!({"of.scope": "x"}))}, "spans": [span]});
        let request = json!({"resourceSpans": [
            {"resource": {"attributes": attributes(resource)}, "scopeSpans": [scope]}
        ]});
        let settings = Settings { first_receiver: true, ..Settings::default() };
        let batch = TraceBatch::from_json(request.to_string().as_bytes()).unwrap();
        check(&translate(&settings, &batch, 1).tracers[0]);
    }

    #[test]
    fn http_attributes_keep_their_names_and_the_scopes_are_left_out() {
        let span = json!({"http.request.method": "GET", "http.response.status_code": 200, "db.system": "redis"});
        payload(&json!({"service.name": "!", "telemetry.sdk.language": "go"}), &span, |payload| {
            let span = &payload.chunks[0].spans[0];
            let meta = |key: &[u8]| span.meta.get(key).map(|value| text(value));
            assert_eq!(meta(b"http.request.method"), Some("GET"));
            assert_eq!(meta(b"http.method"), Some("GET"));
            assert_eq!(meta(b"http.status_code"), Some("200"));
            assert_eq!(span.metrics.get(b"http.response.status_code"), Some(&200.0));
            assert_eq!(meta(b"of.scope"), None);
            assert_eq!(text(&span.service), "unnamed-go-service");
            assert_eq!(text(&span.span_type), "cache");
            assert_eq!(text(&span.name), "http.client.request");
        });
    }

    #[test]
    fn the_payload_says_what_its_first_span_does_where_the_resource_does_not() {
        let span = json!({"env": "Dev", "_dd.hostname": "h", "k8s.pod.uid": "Pod"});
        payload(&json!({"deployment.environment": ""}), &span, |payload| {
            assert_eq!((text(&payload.env), text(&payload.hostname)), ("dev", "h"));
            assert_eq!(text(&payload.container_id), "Pod");
        });
        payload(&json!({"deployment.environment": "9-Prod"}), &json!({}), |payload| {
            assert_eq!(text(&payload.env), "9-prod");
            let env = payload.chunks[0].spans[0].meta.get(b"env").unwrap();
            assert_eq!(text(env), "prod");
        });
        payload(&json!({}), &json!({}), |payload| assert_eq!(text(&payload.env), "none"));
    }
}
