//! Service, operation name, resource name and type of a span, by OpenTelemetry's semantic conventions, old and current.
//!
//! Rules: measured on Datadog's trace agent v0.85.4. Those of the current conventions that it does not understand
//! (`messaging.operation.type` and `.name`, `rpc.system.name`) name nothing here either.

use libdd_trace_normalization::normalize_utils::{
    normalize_name, normalize_service, normalize_tag_cloned,
};
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, span::SpanKind};

use super::{is_call, value::Attributes};

/// The service of spans that name none, as Datadog shows it.
const NO_SERVICE_NAME: &str = "otlpresourcenoservicename";
/// Most bytes of a resource name.
const MAX_RESOURCE: usize = 5000;

/// Inputs for a span's names.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) span: &'a OtlpSpan,
    pub(super) own: Attributes<'a>,
    pub(super) resource: Attributes<'a>,
}

/// The kind as Datadog's `span.kind` spells it.
pub(super) fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

impl Names<'_> {
    /// Returns the first of the keys that is a string and not empty: with each key the span's, then the resource's.
    pub(super) fn text(self, keys: &[&str]) -> String {
        let lists =
            keys.iter().flat_map(|key| [self.own.text(&[*key]), self.resource.text(&[*key])]);
        lists.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// Returns the first of the keys that is a number, or the text of a whole one: with each key numbers before text.
    pub(super) fn whole_number(self, keys: &[&str]) -> Option<i64> {
        keys.iter().find_map(|key| {
            let number = self.own.integer(key).or_else(|| self.resource.integer(key));
            number.or_else(|| self.text(&[*key]).parse().ok())
        })
    }

    /// Returns gRPC's status code, a number or a name. The current key is that of all systems' codes.
    pub(super) fn grpc_status(self) -> Option<String> {
        let code = |key: &&str| {
            let number = || self.own.integer(key).or_else(|| self.resource.integer(key));
            let text = Some(self.text(&[*key])).filter(|text| !text.is_empty());
            text.or_else(|| number().map(|number| number.to_string()))
        };
        const OWN: [&str; 4] =
            ["rpc.grpc.status_code", "grpc.code", "rpc.grpc.status.code", "grpc.status.code"];
        let is_grpc = self.text(&["rpc.system.name", "rpc.system"]) == "grpc";
        let current = Some("rpc.response.status_code").filter(|_| is_grpc);
        OWN.iter().find_map(code).or_else(|| current.iter().find_map(code))
    }

    /// The same in the form of a tag's value: lower case, without what Datadog does not take.
    pub(super) fn normal(self, keys: &[&str]) -> String {
        tag_value(&self.text(keys))
    }

    fn has(self, keys: &[&str]) -> bool {
        !self.text(keys).is_empty()
    }

    fn method(self) -> String {
        match self.text(&["http.request.method", "http.method"]).as_str() {
            "_OTHER" => "HTTP".to_owned(),
            method => method.to_owned(),
        }
    }

    fn db_system(self) -> String {
        self.normal(&["db.system.name", "db.system"])
    }

    pub(super) fn service(self) -> String {
        let mut service = self.text(&["service.name"]);
        if service.is_empty() {
            return NO_SERVICE_NAME.to_owned();
        }
        normalize_service(&mut service);
        service
    }

    pub(super) fn operation(self) -> String {
        let mut name = self.plain_operation();
        normalize_name(&mut name);
        name
    }

    fn plain_operation(self) -> String {
        let kind = self.span.kind();
        let given = self.normal(&["operation.name"]);
        if !given.is_empty() {
            return given;
        }
        if is_call(kind) && self.has(&["http.request.method", "http.method"]) {
            return format!("http.{}.request", kind_name(kind));
        }
        let (system, operation) =
            (self.normal(&["messaging.system"]), self.normal(&["messaging.operation"]));
        let rpc = self.normal(&["rpc.system"]);
        let (provider, function) =
            (self.normal(&["faas.invoked_provider"]), self.normal(&["faas.invoked_name"]));
        let trigger = self.normal(&["faas.trigger"]);
        match kind {
            SpanKind::Client if !self.db_system().is_empty() => {
                format!("{}.query", self.db_system())
            }
            SpanKind::Client | SpanKind::Server | SpanKind::Producer | SpanKind::Consumer
                if !system.is_empty() && !operation.is_empty() =>
            {
                format!("{system}.{operation}")
            }
            SpanKind::Client if rpc == "aws-api" => match self.normal(&["rpc.service"]).as_str() {
                "" => "aws.client.request".to_owned(),
                service => format!("aws.{service}.request"),
            },
            SpanKind::Client | SpanKind::Server if !rpc.is_empty() => {
                format!("{rpc}.{}.request", kind_name(kind))
            }
            SpanKind::Client if !provider.is_empty() && !function.is_empty() => {
                format!("{provider}.{function}.invoke")
            }
            SpanKind::Server if !trigger.is_empty() => format!("{trigger}.invoke"),
            _ if self.has(&["graphql.operation.type"]) => "graphql.server.request".to_owned(),
            SpanKind::Client | SpanKind::Server => {
                match self.normal(&["network.protocol.name"]).as_str() {
                    "" => format!("{}.request", kind_name(kind)),
                    protocol => format!("{protocol}.{}.request", kind_name(kind)),
                }
            }
            SpanKind::Producer => "Producer".to_owned(),
            SpanKind::Consumer => "Consumer".to_owned(),
            SpanKind::Internal | SpanKind::Unspecified => "Internal".to_owned(),
        }
    }

    /// The resource name; `by_span_name` is the OTLP intake's default.
    pub(super) fn resource(self, by_span_name: bool) -> String {
        let given = self.text(&["resource.name"]);
        let mut name = match (given.is_empty(), by_span_name) {
            (false, _) => given,
            (true, true) => self.span.name.clone(),
            (true, false) => self.plain_resource(),
        };
        name.truncate(name.floor_char_boundary(MAX_RESOURCE));
        name
    }

    fn plain_resource(self) -> String {
        let joined = |first: String, second: String| match second.is_empty() {
            true => first,
            false => format!("{first} {second}"),
        };
        if self.has(&["http.request.method", "http.method"]) {
            let target = match self.span.kind() {
                SpanKind::Server => self.text(&["http.route"]),
                SpanKind::Client => self.text(&["url.template"]),
                _ => String::new(),
            };
            return joined(self.method(), target);
        }
        let operation = self.text(&["messaging.operation"]);
        if !operation.is_empty() {
            let destination = self.text(&["messaging.destination", "messaging.destination.name"]);
            return joined(operation, destination);
        }
        let method = self.text(&["rpc.method"]);
        if !method.is_empty() {
            return joined(method, self.text(&["rpc.service"]));
        }
        let graphql = self.text(&["graphql.operation.type"]);
        if !graphql.is_empty() {
            return joined(graphql, self.text(&["graphql.operation.name"]));
        }
        match self.text(&["db.statement", "db.query.text"]) {
            statement if statement.is_empty() || self.db_system().is_empty() => {
                self.span.name.clone()
            }
            statement => statement,
        }
    }

    pub(super) fn span_type(self) -> String {
        let given = self.text(&["span.type"]);
        if !given.is_empty() {
            return given;
        }
        let known = match self.span.kind() {
            SpanKind::Server => "web",
            SpanKind::Client => match self.db_system().as_str() {
                "" => "http",
                system => database_type(system),
            },
            _ => "custom",
        };
        known.to_owned()
    }
}

/// Returns a text as the value of a tag. A whole tag may not begin with a digit; the value of one may.
pub(super) fn tag_value(text: &str) -> String {
    const KEY: &str = "key:";
    let tag = normalize_tag_cloned(&format!("{KEY}{text}"));
    tag.strip_prefix(KEY).unwrap_or_default().trim_start_matches('_').to_owned()
}

/// OpenTelemetry's names of databases that speak SQL, the old ones and today's.
const SQL: [&str; 48] = [
    "actian.ingres",
    "aws.redshift",
    "clickhouse",
    "firebirdsql",
    "h2database",
    "ibm.db2",
    "ibm.informix",
    "ibm.netezza",
    "intersystems.cache",
    "microsoft.sql_server",
    "oracle.db",
    "sap.hana",
    "sap.maxdb",
    "softwareag.adabas",
    "adabas",
    "cache",
    "cloudscape",
    "cockroachdb",
    "coldfusion",
    "db2",
    "derby",
    "edb",
    "firebird",
    "firstsql",
    "h2",
    "hanadb",
    "hsqldb",
    "informix",
    "ingres",
    "instantdb",
    "interbase",
    "mariadb",
    "maxdb",
    "mssql",
    "mysql",
    "netezza",
    "oracle",
    "other_sql",
    "pervasive",
    "pointbase",
    "postgresql",
    "progress",
    "redshift",
    "sqlite",
    "sybase",
    "teradata",
    "vertica",
    "filemaker",
];

fn database_type(system: &str) -> &'static str {
    match system {
        "redis" => "redis",
        "memcached" => "memcached",
        "mongodb" => "mongodb",
        "elasticsearch" => "elasticsearch",
        "opensearch" => "opensearch",
        "cassandra" => "cassandra",
        system if SQL.contains(&system) => "sql",
        _ => "db",
    }
}
