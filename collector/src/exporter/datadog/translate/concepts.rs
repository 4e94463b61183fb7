//! Which attributes a field of Datadog's is made of: in each list, the name that counts first is the first.
//!
//! Source: agent, `pkg/trace/semantics/mappings.json`.

pub(crate) use super::attributes::Keys;
use super::attributes::keys;
use crate::exporter::datadog::model::Text;
use crate::trace_batch::go_text::parse_uint;

pub(super) const SERVICE: Keys = keys!["service.name"];
pub(super) const VERSION: Keys = keys!["service.version"];
pub(super) const ENV: Keys = keys!["deployment.environment.name", "deployment.environment"];
pub(super) const OPERATION: Keys = keys!["operation.name"];
pub(super) const RESOURCE: Keys = keys!["resource.name"];
pub(super) const TYPE: Keys = keys!["span.type"];
pub(super) const HTTP_METHOD: Keys = keys!["http.request.method", "http.method"];
pub(super) const HTTP_ROUTE: Keys = keys!["http.route"];
pub(super) const URL_TEMPLATE: Keys = keys!["url.template"];
pub(super) const DB_SYSTEM: Keys = keys!["db.system.name", "db.system"];
pub(super) const DB_QUERY: Keys = keys!["db.statement", "db.query.text"];
pub(super) const DB_NAMESPACE: Keys = keys!["db.namespace"];
pub(super) const MESSAGING_SYSTEM: Keys = keys!["messaging.system"];
/// The current names (`messaging.operation.type` and `.name`) are understood by no version of the agent.
pub(super) const MESSAGING_OPERATION: Keys = keys!["messaging.operation"];
pub(super) const MESSAGING_DESTINATION: Keys =
    keys!["messaging.destination", "messaging.destination.name"];
pub(super) const RPC_SYSTEM: Keys = keys!["rpc.system"];
/// The system of an RPC; used only to determine whether a status code is gRPC's.
pub(super) const RPC_SYSTEM_OF_CODE: Keys = keys!["rpc.system.name"];
pub(super) const RPC_SERVICE: Keys = keys!["rpc.service"];
pub(super) const RPC_METHOD: Keys = keys!["rpc.method"];
pub(super) const FAAS_PROVIDER: Keys = keys!["faas.invoked_provider"];
pub(super) const FAAS_NAME: Keys = keys!["faas.invoked_name"];
pub(super) const FAAS_TRIGGER: Keys = keys!["faas.trigger"];
pub(super) const GRAPHQL_TYPE: Keys = keys!["graphql.operation.type"];
pub(super) const GRAPHQL_NAME: Keys = keys!["graphql.operation.name"];
pub(super) const PROTOCOL: Keys = keys!["network.protocol.name"];
/// HTTP's status code: a number, or the text of one; the next name counts where the one before it is neither.
pub(super) const STATUS_CODES: [Keys; 2] =
    [keys!["http.status_code"], keys!["http.response.status_code"]];
/// gRPC's status code.
pub(super) const GRPC_CODES: [Keys; 4] = [
    keys!["rpc.grpc.status_code"],
    keys!["grpc.code"],
    keys!["rpc.grpc.status.code"],
    keys!["grpc.status.code"],
];
/// The names of gRPC's status codes, by number.
const GRPC_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The status code of a call in whatever system, gRPC among them.
pub(super) const RPC_CODE: Keys = keys!["rpc.response.status_code"];

/// Returns HTTP's status code by what `code` finds under each of its names.
pub(crate) fn status_code(code: impl Fn(Keys) -> Option<i64>) -> Option<i64> {
    STATUS_CODES.into_iter().find_map(code)
}

/// Returns gRPC's status code by what `code` finds under each of its names, and `system` under those of RPC systems: the current
/// name of the code is that of all systems' codes.
pub(crate) fn grpc_code<'a, T>(
    code: impl Fn(Keys) -> Option<T>,
    system: impl Fn(Keys) -> Text<'a>,
) -> Option<T> {
    let is_grpc = || match &*system(RPC_SYSTEM_OF_CODE) {
        b"" => *system(RPC_SYSTEM) == *b"grpc",
        system => system == b"grpc",
    };
    let current = || is_grpc().then(|| code(RPC_CODE)).flatten();
    GRPC_CODES.into_iter().find_map(&code).or_else(current)
}

/// Returns the number of a gRPC status code that is a number or a name; empty if it is neither.
pub(crate) fn grpc_status_number(code: &[u8]) -> String {
    if let Some(number) = parse_uint(code).filter(|code| u32::try_from(*code).is_ok()) {
        return number.to_string();
    }
    let code = String::from_utf8_lossy(code);
    let name = code.strip_prefix("StatusCode.").unwrap_or(&code).to_uppercase();
    let name = if name == "CANCELED" { "CANCELLED" } else { &name };
    let position =
        GRPC_NAMES.iter().position(|known| *known == name || known.replace('_', "") == name);
    position.map(|code| code.to_string()).unwrap_or_default()
}

/// Attributes from which something is made, beside or in place of their copies: in each, the name that counts first is the first.
pub(super) static CONCEPTS: [(&str, &[Keys]); 13] = [
    ("service", &[SERVICE]),
    (
        "operation name",
        &[
            OPERATION,
            HTTP_METHOD,
            DB_SYSTEM,
            MESSAGING_SYSTEM,
            MESSAGING_OPERATION,
            RPC_SYSTEM,
            RPC_SERVICE,
            FAAS_PROVIDER,
            FAAS_NAME,
            FAAS_TRIGGER,
            GRAPHQL_TYPE,
            PROTOCOL,
        ],
    ),
    (
        "resource name",
        &[
            RESOURCE,
            HTTP_METHOD,
            HTTP_ROUTE,
            URL_TEMPLATE,
            MESSAGING_OPERATION,
            MESSAGING_DESTINATION,
            RPC_METHOD,
            RPC_SERVICE,
            GRAPHQL_TYPE,
            GRAPHQL_NAME,
            DB_SYSTEM,
            DB_QUERY,
        ],
    ),
    ("type", &[TYPE, DB_SYSTEM]),
    ("metric `http.status_code`", &STATUS_CODES),
    ("`rpc.grpc.status_code`", &GRPC_CODES),
    (
        "`rpc.grpc.status_code`, where the system is `grpc`",
        &[RPC_CODE, RPC_SYSTEM_OF_CODE, RPC_SYSTEM],
    ),
    ("`env`", &[ENV]),
    ("`version`", &[VERSION]),
    ("`db.name`, where there is none", &[DB_NAMESPACE]),
    ("sampling priority, where it is a number", &[keys!["sampling.priority"]]),
    ("`_dd1.sr.eausr`: whether the span is analyzed", &[keys!["analytics.event"]]),
    ("`error.msg`, where the status has no message and this is text", &STATUS_CODES),
];
