//! The rules by which a span gets its operation name, its resource name and its type, in the order in which they are tried.
//!
//! [`naming`](super::naming) applies them; here stands what is said of them, with an example that the tests hold them to.

use super::attributes::Keys;
use super::concepts::{
    DB_QUERY, DB_SYSTEM, FAAS_NAME, FAAS_PROVIDER, FAAS_TRIGGER, GRAPHQL_NAME, GRAPHQL_TYPE,
    HTTP_METHOD, HTTP_ROUTE, MESSAGING_DESTINATION, MESSAGING_OPERATION, MESSAGING_SYSTEM,
    OPERATION, PROTOCOL, RESOURCE, RPC_METHOD, RPC_SERVICE, RPC_SYSTEM, TYPE, URL_TEMPLATE,
};
use super::table::BEFORE;

/// A rule of naming.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its name, for `tracecheck explain mapping`.
    pub(super) name: &'static str,
    /// When it applies.
    pub(super) when: &'static str,
    /// The value that it gives.
    pub(super) gives: &'static str,
    /// The attributes that it is made of.
    pub(super) keys: &'static [Keys],
    /// The version of the library that has it as it is.
    pub(super) since: &'static str,
    pub(super) example: Example,
}

/// A span to which a rule applies.
#[derive(Debug)]
pub(super) struct Example {
    /// Its kind, in OTLP's number for it.
    pub(super) kind: u32,
    pub(super) attributes: &'static [(&'static str, &'static str)],
    /// The rule's result.
    pub(super) result: &'static str,
}

const INTERNAL: u32 = 1;
const SERVER: u32 = 2;
const CLIENT: u32 = 3;
const CONSUMER: u32 = 5;

/// The rules of one field of a span.
macro_rules! rules {
    ($list:ident, $($constant:ident: $name:literal, $when:literal => $gives:literal, $keys:expr, $since:expr,
        ($kind:expr, $attributes:expr) => $result:literal;)+) => {
        $(pub(in crate::exporter::datadog::translate) static $constant: Rule = Rule {
            name: $name, when: $when, gives: $gives, keys: $keys, since: $since,
            example: Example { kind: $kind, attributes: $attributes, result: $result },
        };)+
        /// All of them, in their order.
        pub(in crate::exporter::datadog::translate) static $list: &[&Rule] = &[$(&$constant),+];
    };
}

pub(super) mod operation {
    //! Of operation names (agent, `getOTelOperationNameV2`).

    use super::{
        BEFORE, CLIENT, CONSUMER, DB_SYSTEM, Example, FAAS_NAME, FAAS_PROVIDER, FAAS_TRIGGER,
        GRAPHQL_TYPE, HTTP_METHOD, INTERNAL, MESSAGING_OPERATION, MESSAGING_SYSTEM, OPERATION,
        PROTOCOL, RPC_SERVICE, RPC_SYSTEM, Rule, SERVER,
    };

    rules! { ALL,
        EXPLICIT: "explicit", "`operation.name` is text" => "its value", &[OPERATION], "0.80.2",
            (SERVER, &[("operation.name", "my.operation")]) => "my.operation";
        HTTP: "http", "a server or client has an HTTP method"
            => "`http.server.request`, `http.client.request`", &[HTTP_METHOD], BEFORE,
            (CLIENT, &[("http.request.method", "GET")]) => "http.client.request";
        DATABASE: "database", "a client has a database system" => "`<system>.query`", &[DB_SYSTEM], "0.83.0",
            (CLIENT, &[("db.system.name", "postgresql")]) => "postgresql.query";
        MESSAGING: "messaging", "a span that is neither internal nor of no kind has a messaging system and operation"
            => "`<system>.<operation>`", &[MESSAGING_SYSTEM, MESSAGING_OPERATION], BEFORE,
            (CONSUMER, &[("messaging.system", "kafka"), ("messaging.operation", "receive")]) => "kafka.receive";
        AWS_CLIENT: "aws", "a client has the RPC system `aws-api`"
            => "`aws.<service>.request`, `aws.client.request` without one", &[RPC_SYSTEM, RPC_SERVICE], BEFORE,
            (CLIENT, &[("rpc.system", "aws-api"), ("rpc.service", "S3")]) => "aws.s3.request";
        RPC_CLIENT: "rpc-client", "a client has another RPC system" => "`<system>.client.request`", &[RPC_SYSTEM], BEFORE,
            (CLIENT, &[("rpc.system", "grpc")]) => "grpc.client.request";
        RPC_SERVER: "rpc-server", "a server has an RPC system" => "`<system>.server.request`", &[RPC_SYSTEM], BEFORE,
            (SERVER, &[("rpc.system", "grpc")]) => "grpc.server.request";
        FAAS_CLIENT: "faas-client", "a client names a function that it invokes, and its provider"
            => "`<provider>.<function>.invoke`", &[FAAS_PROVIDER, FAAS_NAME], BEFORE,
            (CLIENT, &[("faas.invoked_provider", "aws"), ("faas.invoked_name", "f")]) => "aws.f.invoke";
        FAAS_SERVER: "faas-server", "a server has a trigger" => "`<trigger>.invoke`", &[FAAS_TRIGGER], BEFORE,
            (SERVER, &[("faas.trigger", "timer")]) => "timer.invoke";
        GRAPHQL: "graphql", "a span of any kind has a GraphQL operation" => "`graphql.server.request`", &[GRAPHQL_TYPE], BEFORE,
            (SERVER, &[("graphql.operation.type", "query")]) => "graphql.server.request";
        PROTOCOL_NAME: "protocol", "a server or client has a protocol"
            => "`<protocol>.server.request`, `<protocol>.client.request`", &[PROTOCOL], BEFORE,
            (CLIENT, &[("network.protocol.name", "amqp")]) => "amqp.client.request";
        KIND: "kind", "nothing of the above"
            => "`server.request`, `client.request`, `Producer`, `Consumer`, `Internal`", &[], BEFORE,
            (INTERNAL, &[]) => "Internal";
    }
}

pub(super) mod resource {
    //! Of resource names (agent, `getOTelResourceV2`).

    use super::{
        BEFORE, CLIENT, CONSUMER, DB_QUERY, DB_SYSTEM, Example, GRAPHQL_NAME, GRAPHQL_TYPE,
        HTTP_METHOD, HTTP_ROUTE, INTERNAL, MESSAGING_DESTINATION, MESSAGING_OPERATION, RESOURCE,
        RPC_METHOD, RPC_SERVICE, Rule, SERVER, URL_TEMPLATE,
    };

    rules! { ALL,
        EXPLICIT: "explicit", "`resource.name` is text" => "its value", &[RESOURCE], "0.80.2",
            (SERVER, &[("resource.name", "my resource")]) => "my resource";
        HTTP: "http", "there is an HTTP method"
            => "the method (`HTTP` for `_OTHER`), with a client's template of the URL or a server's route behind it",
            &[HTTP_METHOD, URL_TEMPLATE, HTTP_ROUTE], "0.84.0",
            (CLIENT, &[("http.request.method", "GET"), ("url.template", "/users/{id}")]) => "GET /users/{id}";
        MESSAGING: "messaging", "there is a messaging operation" => "`<operation> <destination>`",
            &[MESSAGING_OPERATION, MESSAGING_DESTINATION], BEFORE,
            (CONSUMER, &[("messaging.operation", "receive"), ("messaging.destination.name", "orders")]) => "receive orders";
        RPC: "rpc", "there is an RPC method" => "`<method> <service>`", &[RPC_METHOD, RPC_SERVICE], BEFORE,
            (CLIENT, &[("rpc.method", "Add"), ("rpc.service", "shop.Cart")]) => "Add shop.Cart";
        GRAPHQL: "graphql", "there is a GraphQL operation" => "`<type> <name>`", &[GRAPHQL_TYPE, GRAPHQL_NAME], BEFORE,
            (SERVER, &[("graphql.operation.type", "query"), ("graphql.operation.name", "find")]) => "query find";
        DATABASE: "database", "there are a database system and a query"
            => "the query; without literals, where the type is `sql` or `cassandra`, commands alone, where it is `redis`",
            &[DB_SYSTEM, DB_QUERY], "0.83.0",
            (CLIENT, &[("db.system.name", "mysql"), ("db.query.text", "SELECT a FROM t WHERE b = 7")])
                => "SELECT a FROM t WHERE b = ?";
        SPAN_NAME: "span-name", "nothing of the above" => "the span's name; the operation name, if that is empty", &[], BEFORE,
            (INTERNAL, &[]) => "the span's name";
    }
}

pub(super) mod span_type {
    //! Of types (agent, `GetOTelSpanTypeWithAccessor`).

    use super::{BEFORE, CLIENT, DB_SYSTEM, Example, INTERNAL, Rule, SERVER, TYPE};

    rules! { ALL,
        EXPLICIT: "explicit", "`span.type` is text" => "its value", &[TYPE], "0.80.2",
            (SERVER, &[("span.type", "worker")]) => "worker";
        SERVER_KIND: "server", "a server" => "`web`", &[], BEFORE,
            (SERVER, &[]) => "web";
        DATABASE: "database", "a client has a database system"
            => "`sql`, `cassandra`, `redis`, `memcached`, `mongodb`, `elasticsearch`, `opensearch`, or `db` for another system",
            &[DB_SYSTEM], "A 0.84.0",
            (CLIENT, &[("db.system.name", "microsoft.sql_server")]) => "sql";
        CLIENT_KIND: "client", "another client" => "`http`", &[], BEFORE,
            (CLIENT, &[]) => "http";
        OTHER: "other", "nothing of the above" => "`custom`", &[], BEFORE,
            (INTERNAL, &[]) => "custom";
    }
}
