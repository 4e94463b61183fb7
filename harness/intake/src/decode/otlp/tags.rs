//! Builds a span's meta and metrics.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode},
};
use serde_json::{Value as Json, json};

use super::{
    naming::{Names, kind_name, tag_value},
    status,
    value::{Attributes, json_of, text},
    value_of,
};
use harness_core::trace::TraceId;

/// Most bytes of a value.
const MAX_VALUE: usize = 25_000;
/// A prefix for container tags of the user's own.
const CONTAINER_TAG: &str = "datadog.container.tag.";
/// Datadog's own words for container tags. A resource's attributes of these names are tags of its container, not of its spans.
const CONTAINER_TAGS: [&str; 24] = [
    "cloud_provider",
    "container_id",
    "container_name",
    "ecs_cluster_name",
    "ecs_container_name",
    "image_name",
    "image_tag",
    "kube_cluster_name",
    "kube_container_name",
    "kube_cronjob",
    "kube_daemon_set",
    "kube_deployment",
    "kube_job",
    "kube_namespace",
    "kube_node",
    "kube_replica_set",
    "kube_stateful_set",
    "pod_name",
    "region",
    "runtime",
    "task_arn",
    "task_family",
    "task_version",
    "zone",
];

type Meta = BTreeMap<String, String>;
type Metrics = BTreeMap<String, f64>;

/// Returns a span's meta and metrics. Of two values for a key the first stays: the span's own, the resource's. The scope's
/// attributes replace them.
pub(super) fn of(
    names: Names<'_>,
    scope: Option<&InstrumentationScope>,
    trace_id: TraceId,
) -> (Meta, Metrics) {
    let Names { span, own, resource } = names;
    let mut tags = Tags::default();
    tags.meta.insert("span.kind".to_owned(), kind_name(span.kind()).to_owned());
    let code = names.whole_number(&["http.status_code", "http.response.status_code"]);
    if let Some(code) = code.filter(|code| *code >= 0) {
        tags.metrics.insert("http.status_code".to_owned(), code as f64);
    }
    if let Some(code) = names.grpc_status() {
        tags.meta.insert("rpc.grpc.status_code".to_owned(), code);
    }
    if own.integer("_dd.measured").or_else(|| resource.integer("_dd.measured")) == Some(1) {
        tags.metrics.insert("_dd.measured".to_owned(), 1.0);
    }
    for (key, value) in own.iter() {
        match value {
            Value::IntValue(number) => tags.keep_number(key, *number as f64),
            Value::DoubleValue(number) => tags.keep_number(key, *number),
            other => tags.keep(key, text(other)),
        }
    }
    tags.set("otel.trace_id", trace_id.to_string());
    tags.set_if_absent("version", names.normal(&["service.version"]));
    add_facts(&mut tags, span, scope);
    let env = names.normal(&["deployment.environment.name", "deployment.environment"]);
    tags.set_if_absent("env", env);
    for (key, value) in resource.iter() {
        let of_container = key.starts_with(CONTAINER_TAG) || CONTAINER_TAGS.contains(&key);
        let is_text = matches!(value, Value::StringValue(text) if !text.is_empty());
        if !(of_container && is_text) {
            tags.keep(key, text(value));
        }
    }
    for (key, value) in Attributes(scope.map_or(&[], |scope| &scope.attributes)).iter() {
        tags.meta.insert(key.to_owned(), text(value));
    }
    tags.set_if_absent("db.name", names.text(&["db.namespace"]));
    if let Some(rate) = sampled_at(&span.trace_state) {
        tags.metrics.entry("_sample_rate".to_owned()).or_insert(rate);
    }
    tags.finished()
}

#[derive(Default)]
struct Tags {
    meta: Meta,
    metrics: Metrics,
}

impl Tags {
    /// Adds an attribute under Datadog's name for it, unless that has a value.
    fn keep(&mut self, key: &str, value: String) {
        let Some(key) = tag_name(key) else { return };
        if self.meta.get(&key).is_some_and(|known| !known.is_empty()) {
            return;
        }
        if key == "analytics.event" {
            // It asks a client to analyze the span, and is shown nowhere.
            return;
        }
        self.meta.insert(key, value);
    }

    fn keep_number(&mut self, key: &str, value: f64) {
        let Some(mut key) = tag_name(key) else { return };
        if key == "sampling.priority" {
            key = "_sampling_priority_v1".to_owned();
        }
        self.metrics.entry(key).or_insert(value);
    }

    /// Sets what is not empty.
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.meta.insert(key.to_owned(), value);
        }
    }

    fn set_if_absent(&mut self, key: &str, value: String) {
        if !self.meta.contains_key(key) {
            self.set(key, value);
        }
    }

    /// Brings values into the form in which Datadog keeps them.
    fn finished(mut self) -> (Meta, Metrics) {
        for key in ["env", "peer.service", "_dd.base_service"] {
            if let Some(value) = self.meta.get_mut(key) {
                *value = tag_value(value);
            }
        }
        let code = self.meta.get("http.status_code").map(|code| code.parse::<u64>());
        if code.is_some_and(|code| !code.is_ok_and(|code| (100..600).contains(&code))) {
            self.meta.remove("http.status_code");
        }
        for value in self.meta.values_mut().filter(|value| value.len() > MAX_VALUE) {
            value.truncate(value.floor_char_boundary(MAX_VALUE));
            value.push_str("...");
        }
        (self.meta, self.metrics)
    }
}

/// Adds what a span says of itself beyond its attributes.
fn add_facts(tags: &mut Tags, span: &Span, scope: Option<&InstrumentationScope>) {
    tags.set("_dd.span_links", links(span));
    tags.set("events", events(span));
    if span.events.iter().any(|event| event.name == "exception") {
        tags.set("_dd.span_events.has_exception", "true".to_owned());
    }
    tags.set("w3c.tracestate", span.trace_state.clone());
    let (name, version) = scope.map_or(("", ""), |scope| (&scope.name, &scope.version));
    for convention in ["otel.library", "otel.scope"] {
        tags.set(&format!("{convention}.name"), name.to_owned());
        tags.set(&format!("{convention}.version"), version.to_owned());
    }
    let status_code = match status(span) {
        StatusCode::Unset => "Unset",
        StatusCode::Ok => "Ok",
        StatusCode::Error => "Error",
    };
    tags.set("otel.status_code", status_code.to_owned());
    let message = span.status.as_ref().map_or("", |status| &status.message).to_owned();
    tags.set("otel.status_description", message.clone());
    if status(span) == StatusCode::Error {
        let error = if message.is_empty() { http_error(&tags.meta) } else { message };
        tags.set_if_absent("error.msg", error);
    }
}

/// Returns an HTTP status that was sent as text, with its words: what an error without a message is shown by.
fn http_error(meta: &Meta) -> String {
    let code = meta.get("http.status_code").cloned().unwrap_or_default();
    let known = code.parse().ok().and_then(|code| http::StatusCode::from_u16(code).ok());
    match known.and_then(|status| status.canonical_reason()) {
        Some(words) => format!("{code} {words}"),
        None => code,
    }
}

/// Returns the rate at which a sampler kept the trace, as its tracestate has it: a threshold in hexadecimal digits, of which
/// zeros at the end are left out, or a power of two.
fn sampled_at(trace_state: &str) -> Option<f64> {
    let members = trace_state.split(',').filter_map(|member| member.trim().split_once('='));
    let of_otel = members.into_iter().find(|(key, _)| *key == "ot")?.1;
    let fields: Option<BTreeMap<_, _>> =
        of_otel.split(';').map(|field| field.split_once(':')).collect();
    let fields = fields?;
    if let Some(threshold) = fields.get("th") {
        let digits = format!("{threshold:0<14}");
        let number = u64::from_str_radix(&digits, 16).ok();
        let is_threshold = !threshold.is_empty() && digits.len() == 14;
        return number.filter(|_| is_threshold).map(|number| 1.0 - number as f64 / 16_f64.powi(14));
    }
    let power: i32 = fields.get("p")?.parse().ok()?;
    (0..63).contains(&power).then(|| 0.5_f64.powi(power))
}

/// The events as JSON; empty where there are none.
fn events(span: &Span) -> String {
    list(span.events.iter().map(|event| {
        without_empty(json!({
            "time_unix_nano": event.time_unix_nano,
            "name": event.name,
            "attributes": event.attributes.iter().map(readable).collect::<serde_json::Map<_, _>>(),
            "dropped_attributes_count": event.dropped_attributes_count,
        }))
    }))
}

/// Returns an attribute as a member of a JSON object; a value that holds a number which JSON has no word for is not shown.
fn readable(attribute: &KeyValue) -> (String, Json) {
    fn is_json(value: &Value) -> bool {
        let is_one = |value: &AnyValue| value.value.as_ref().is_none_or(is_json);
        match value {
            Value::DoubleValue(number) => number.is_finite(),
            Value::ArrayValue(array) => array.values.iter().all(is_one),
            Value::KvlistValue(list) => list.values.iter().filter_map(value_of).all(is_json),
            _ => true,
        }
    }
    let value = match value_of(attribute) {
        Some(value) if !is_json(value) => "redacted".into(),
        Some(value) => json_of(value),
        None => Json::Null,
    };
    (attribute.key.clone(), value)
}

/// The links as JSON; empty where there are none.
fn links(span: &Span) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    list(span.links.iter().map(|link| {
        let attributes = Attributes(&link.attributes).iter();
        let attributes = attributes.map(|(key, value)| (key.to_owned(), text(value).into()));
        without_empty(json!({
            "trace_id": hex(&link.trace_id),
            "span_id": hex(&link.span_id),
            "tracestate": link.trace_state,
            "attributes": attributes.collect::<serde_json::Map<_, _>>(),
            "dropped_attributes_count": link.dropped_attributes_count,
        }))
    }))
}

/// An object without the members that say nothing.
fn without_empty(mut object: Json) -> Json {
    if let Json::Object(members) = &mut object {
        members
            .retain(|_, value| !(*value == json!(0) || *value == json!("") || *value == json!({})));
    }
    object
}

fn list(values: impl Iterator<Item = Json>) -> String {
    let values: Vec<Json> = values.collect();
    if values.is_empty() { String::new() } else { Json::Array(values).to_string() }
}

/// The tag that an attribute becomes; `None` for those that name the span.
fn tag_name(key: &str) -> Option<String> {
    if let Some(header) = key.strip_prefix("http.request.header.")
        && header != "referrer"
    {
        return Some(format!("http.request.headers.{header}"));
    }
    let name = match key {
        "" | "service.name" | "operation.name" | "resource.name" | "span.type" => return None,
        "client.address" => "http.client_ip",
        "http.response.body.size" => "http.response.content_length",
        "http.response.status_code" => "http.status_code",
        "http.request.body.size" => "http.request.content_length",
        "http.request.header.referrer" => "http.referrer",
        "http.request.method" => "http.method",
        "network.protocol.version" => "http.version",
        "server.address" => "http.server_name",
        "url.full" => "http.url",
        "user_agent.original" => "http.useragent",
        other => other,
    };
    Some(name.to_owned())
}
