//! Datadog's names for a span: service, operation name, resource name and type.
//!
//! Rules: agent, `pkg/trace/traceutil/otel_util.go`, the second version of the naming (`OperationAndResourceNameV2`) unless
//! an option asks for the first.

use std::borrow::Cow;

use super::attributes::{Both, Keys};
use super::concepts::{
    DB_QUERY, DB_SYSTEM, FAAS_NAME, FAAS_PROVIDER, FAAS_TRIGGER, GRAPHQL_NAME, GRAPHQL_TYPE,
    HTTP_METHOD, HTTP_ROUTE, MESSAGING_DESTINATION, MESSAGING_OPERATION, MESSAGING_SYSTEM,
    OPERATION, PROTOCOL, RESOURCE, RPC_METHOD, RPC_SERVICE, RPC_SYSTEM, SERVICE, TYPE,
    URL_TEMPLATE,
};
use super::limits::MAX_RESOURCE_BYTES;
use super::rules::{self, Rule};
use super::{NamingOptions, normalize};
use crate::exporter::datadog::model::Text;
use crate::trace_batch::{Scope, Span, SpanKind};

/// A name, with the rule that gave it.
pub(super) type Named<'a> = (Text<'a>, &'static Rule);

pub(super) fn service<'a>(attributes: Both<'_, 'a>) -> Text<'a> {
    let name = attributes.text(SERVICE);
    normalize::service(if name.is_empty() {
        Cow::Borrowed(b"otlpresourcenoservicename")
    } else {
        name
    })
}

pub(super) fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Unspecified | SpanKind::Unknown => "unspecified",
    }
}

/// The operation name, by the naming in force; not yet normalized.
pub(super) fn operation<'a>(
    naming: &NamingOptions,
    span: &Span<'a>,
    scope: &Scope<'a>,
    attributes: Both<'_, 'a>,
) -> Text<'a> {
    if naming.is_second_version() {
        operation_v2(span, attributes).0
    } else {
        operation_v1(naming, span, scope, attributes)
    }
}

/// Returns the operation name by the second version of the naming.
pub(super) fn operation_v2<'a>(span: &Span<'a>, attributes: Both<'_, 'a>) -> Named<'a> {
    use rules::operation as rule;
    let normal = |keys: Keys| attributes.normal(keys);
    let explicit = normal(OPERATION);
    if !explicit.is_empty() {
        return (explicit, &rule::EXPLICIT);
    }
    let is_client = span.kind == SpanKind::Client;
    let is_server = span.kind == SpanKind::Server;
    if (is_client || is_server) && !attributes.text(HTTP_METHOD).is_empty() {
        let name: &[u8] = if is_server { b"http.server.request" } else { b"http.client.request" };
        return (Cow::Borrowed(name), &rule::HTTP);
    }
    let database = normal(DB_SYSTEM);
    if is_client && !database.is_empty() {
        return (join([&database, b".query"]), &rule::DATABASE);
    }
    let (system, action) = (normal(MESSAGING_SYSTEM), normal(MESSAGING_OPERATION));
    let has_peer =
        !matches!(span.kind, SpanKind::Unspecified | SpanKind::Internal | SpanKind::Unknown);
    if !system.is_empty() && !action.is_empty() && has_peer {
        return (join([&system, b".", &action]), &rule::MESSAGING);
    }
    let rpc = normal(RPC_SYSTEM);
    if !rpc.is_empty() && is_client {
        if *rpc != *b"aws-api" {
            return (join([&rpc, b".client.request"]), &rule::RPC_CLIENT);
        }
        let service = normal(RPC_SERVICE);
        let name = match service.is_empty() {
            true => Cow::Borrowed(&b"aws.client.request"[..]),
            false => join([b"aws.", &service, b".request"]),
        };
        return (name, &rule::AWS_CLIENT);
    }
    if !rpc.is_empty() && is_server {
        return (join([&rpc, b".server.request"]), &rule::RPC_SERVER);
    }
    let (provider, function) = (normal(FAAS_PROVIDER), normal(FAAS_NAME));
    if !provider.is_empty() && !function.is_empty() && is_client {
        return (join([&provider, b".", &function, b".invoke"]), &rule::FAAS_CLIENT);
    }
    let trigger = normal(FAAS_TRIGGER);
    if !trigger.is_empty() && is_server {
        return (join([&trigger, b".invoke"]), &rule::FAAS_SERVER);
    }
    if !normal(GRAPHQL_TYPE).is_empty() {
        return (Cow::Borrowed(b"graphql.server.request"), &rule::GRAPHQL);
    }
    let protocol = normal(PROTOCOL);
    if !protocol.is_empty() && (is_server || is_client) {
        let request: &[u8] = if is_server { b".server.request" } else { b".client.request" };
        return (join([&protocol, request]), &rule::PROTOCOL_NAME);
    }
    let name: &[u8] = match span.kind {
        SpanKind::Server => b"server.request",
        SpanKind::Client => b"client.request",
        SpanKind::Producer => b"Producer",
        SpanKind::Consumer => b"Consumer",
        SpanKind::Internal | SpanKind::Unspecified => b"Internal",
        // The name that Go gives to a kind it does not know.
        SpanKind::Unknown => b"",
    };
    (Cow::Borrowed(name), &rule::KIND)
}

fn operation_v1<'a>(
    naming: &NamingOptions,
    span: &Span<'a>,
    scope: &Scope<'a>,
    attributes: Both<'_, 'a>,
) -> Text<'a> {
    let mut name = attributes.resource_first(OPERATION);
    if name.is_empty() {
        name = if naming.span_name_as_resource_name {
            Cow::Borrowed(span.name)
        } else {
            let kind = match span.kind {
                SpanKind::Unknown => "",
                kind => kind_name(kind),
            };
            scope_and_kind(scope, kind)
        };
    }
    remapped(naming, name)
}

/// `<scope>.<kind>`.
pub(super) fn scope_and_kind<'a>(scope: &Scope<'a>, kind: &str) -> Text<'a> {
    let library = if scope.name.is_empty() { b"opentelemetry" } else { scope.name };
    join([library, b".", kind.as_bytes()])
}

/// The operation name that the user wants for this one.
pub(super) fn remapped<'a>(naming: &NamingOptions, name: Text<'a>) -> Text<'a> {
    match std::str::from_utf8(&name).ok().and_then(|name| naming.span_name_remappings.get(name)) {
        Some(mapped) => Cow::Owned(mapped.clone().into_bytes()),
        None => name,
    }
}

/// Returns the resource name, by the naming in force, and whether it is the text of a query.
pub(super) fn resource<'a>(
    naming: &NamingOptions,
    span: &Span<'a>,
    attributes: Both<'_, 'a>,
) -> (Text<'a>, bool) {
    let (name, is_query) = if naming.is_second_version() {
        let (name, rule) = resource_v2(span, attributes);
        (name, std::ptr::eq(rule, &rules::resource::DATABASE))
    } else {
        (resource_v1(span, attributes), false)
    };
    let name = match name {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..text.len().min(MAX_RESOURCE_BYTES)]),
        Cow::Owned(mut text) => {
            text.truncate(MAX_RESOURCE_BYTES);
            Cow::Owned(text)
        }
    };
    (name, is_query)
}

/// Returns the resource name by the second version of the naming; the agent cuts it.
pub(super) fn resource_v2<'a>(span: &Span<'a>, attributes: Both<'_, 'a>) -> Named<'a> {
    use rules::resource as rule;
    let text = |keys: Keys| attributes.text(keys);
    let explicit = text(RESOURCE);
    if !explicit.is_empty() {
        return (explicit, &rule::EXPLICIT);
    }
    let method = text(HTTP_METHOD);
    if !method.is_empty() {
        let method = if *method == *b"_OTHER" { Cow::Borrowed(&b"HTTP"[..]) } else { method };
        let target = match span.kind {
            SpanKind::Client => text(URL_TEMPLATE),
            SpanKind::Server => text(HTTP_ROUTE),
            _ => Cow::Borrowed(&b""[..]),
        };
        return (with_detail(method, &target), &rule::HTTP);
    }
    let action = text(MESSAGING_OPERATION);
    if !action.is_empty() {
        return (with_detail(action, &text(MESSAGING_DESTINATION)), &rule::MESSAGING);
    }
    let method = text(RPC_METHOD);
    if !method.is_empty() {
        return (with_detail(method, &text(RPC_SERVICE)), &rule::RPC);
    }
    let operation = text(GRAPHQL_TYPE);
    if !operation.is_empty() {
        return (with_detail(operation, &text(GRAPHQL_NAME)), &rule::GRAPHQL);
    }
    if !text(DB_SYSTEM).is_empty() {
        let query = text(DB_QUERY);
        if !query.is_empty() {
            return (query, &rule::DATABASE);
        }
    }
    (Cow::Borrowed(span.name), &rule::SPAN_NAME)
}

fn resource_v1<'a>(span: &Span<'a>, attributes: Both<'_, 'a>) -> Text<'a> {
    let text = |keys: Keys| attributes.resource_first(keys);
    let explicit = text(RESOURCE);
    if !explicit.is_empty() {
        return explicit;
    }
    for (what, detail) in FIRST_RESOURCES {
        let what = text(what);
        if !what.is_empty() {
            return with_detail(what, &text(detail));
        }
    }
    Cow::Borrowed(span.name)
}

/// Sources of a resource name by the first version of the naming: one attribute, and another one behind it.
pub(super) const FIRST_RESOURCES: [(Keys, Keys); 4] = [
    (HTTP_METHOD, HTTP_ROUTE),
    (MESSAGING_OPERATION, MESSAGING_DESTINATION),
    (RPC_METHOD, RPC_SERVICE),
    (GRAPHQL_TYPE, GRAPHQL_NAME),
];

/// Returns Datadog's span type.
pub(super) fn span_type<'a>(span: &Span<'a>, attributes: Both<'_, 'a>) -> Named<'a> {
    use rules::span_type as rule;
    let explicit = attributes.text(TYPE);
    if !explicit.is_empty() {
        return (explicit, &rule::EXPLICIT);
    }
    match span.kind {
        SpanKind::Server => (Cow::Borrowed(b"web"), &rule::SERVER_KIND),
        SpanKind::Client => match &*attributes.normal(DB_SYSTEM) {
            b"" => (Cow::Borrowed(b"http"), &rule::CLIENT_KIND),
            system => (Cow::Borrowed(database_type(system)), &rule::DATABASE),
        },
        _ => (Cow::Borrowed(b"custom"), &rule::OTHER),
    }
}

/// Returns the type of a client's span by the system that it calls.
pub(super) fn database_type(system: &[u8]) -> &'static [u8] {
    const SQL: [&[u8]; 35] = [
        b"other_sql",
        b"mssql",
        b"mysql",
        b"oracle",
        b"db2",
        b"postgresql",
        b"redshift",
        b"cloudscape",
        b"hsqldb",
        b"maxdb",
        b"ingres",
        b"firstsql",
        b"edb",
        b"cache",
        b"firebird",
        b"derby",
        b"informix",
        b"mariadb",
        b"sqlite",
        b"sybase",
        b"teradata",
        b"vertica",
        b"h2",
        b"coldfusion",
        b"cockroachdb",
        b"progress",
        b"hanadb",
        b"adabas",
        b"filemaker",
        b"instantdb",
        b"interbase",
        b"netezza",
        b"pervasive",
        b"pointbase",
        b"clickhouse",
    ];
    // What the current conventions (`db.system.name`) call some of them; the reference's table has their old names only.
    const CURRENT_SQL: [&[u8]; 13] = [
        b"microsoft.sql_server",
        b"oracle.db",
        b"ibm.db2",
        b"ibm.informix",
        b"ibm.netezza",
        b"aws.redshift",
        b"sap.hana",
        b"sap.maxdb",
        b"actian.ingres",
        b"firebirdsql",
        b"intersystems.cache",
        b"h2database",
        b"softwareag.adabas",
    ];
    match system {
        b"cassandra" => b"cassandra",
        b"redis" => b"redis",
        b"memcached" => b"memcached",
        b"mongodb" => b"mongodb",
        b"elasticsearch" => b"elasticsearch",
        b"opensearch" => b"opensearch",
        system if SQL.contains(&system) || CURRENT_SQL.contains(&system) => b"sql",
        _ => b"db",
    }
}

/// Two names with a space between, or the first if there is no second.
pub(super) fn with_detail<'a>(what: Text<'a>, detail: &[u8]) -> Text<'a> {
    if detail.is_empty() { what } else { join([&what, b" ", detail]) }
}

fn join<'a, const N: usize>(parts: [&[u8]; N]) -> Text<'a> {
    Cow::Owned(parts.concat())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Settings, translate};
    use crate::trace_batch::TraceBatch;

    /// Name, resource name and type of a span of this kind with these attributes.
    fn named(kind: u32, attributes: &Value) -> [String; 3] {
        let pairs = attributes.as_object().unwrap().iter();
        let pairs = pairs.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
        let span = json!({
            "traceId": "0000000000000000000000000000000a", "spanId": "000000000000000b", "kind": kind,
            "name": "n", "attributes": pairs.collect::<Vec<_>>(),
        });
        let request = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
        let (settings, batch) =
            (Settings::default(), TraceBatch::from_json(request.to_string().as_bytes()).unwrap());
        let translation = translate(&settings, &batch, 1);
        let span = &translation.tracers[0].chunks[0].spans[0];
        [&span.name, &span.resource, &span.span_type]
            .map(|text| String::from_utf8_lossy(text).into_owned())
    }

    #[test]
    fn messaging_spans_have_names_by_the_old_conventions_alone() {
        let (client, producer, consumer) = (3, 4, 5);
        let old = json!({
            "messaging.system": "kafka", "messaging.operation": "receive", "messaging.destination": "q",
        });
        assert_eq!(named(consumer, &old), ["kafka.receive", "receive q", "custom"]);
        let current = json!({
            "messaging.system": "kafka", "messaging.operation.type": "receive",
            "messaging.operation.name": "poll", "messaging.destination.name": "q",
        });
        assert_eq!(named(consumer, &current), ["Consumer", "n", "custom"]);
        assert_eq!(named(producer, &current), ["Producer", "n", "custom"]);
        let queue = json!({
            "rpc.system": "aws-api", "rpc.service": "SQS", "rpc.method": "SendMessage",
            "messaging.system": "aws_sqs", "messaging.operation.type": "send",
        });
        assert_eq!(named(client, &queue), ["aws.sqs.request", "SendMessage SQS", "http"]);
    }

    #[test]
    fn http_clients_are_named_by_the_templates_of_their_urls() {
        let (server, client) = (2, 3);
        let span = json!({
            "http.request.method": "GET", "url.template": "/users/{id}", "http.route": "/u",
        });
        assert_eq!(named(client, &span)[1], "GET /users/{id}");
        assert_eq!(named(server, &span)[1], "GET /u");
    }

    #[test]
    fn old_and_current_database_conventions_give_the_same_names() {
        let client = 3;
        let old = json!({"db.system": "postgresql", "db.statement": "SELECT 1"});
        let current = json!({"db.system.name": "postgresql", "db.query.text": "SELECT 1"});
        let names = ["postgresql.query", "SELECT ?", "sql"];
        assert_eq!(named(client, &old), names);
        assert_eq!(named(client, &current), names);
        for (system, span_type) in [
            ("microsoft.sql_server", "sql"),
            ("oracle.db", "sql"),
            ("aws.redshift", "sql"),
            ("aws.dynamodb", "db"),
            ("redis", "redis"),
        ] {
            assert_eq!(named(client, &json!({"db.system.name": system}))[2], span_type, "{system}");
        }
    }
}
