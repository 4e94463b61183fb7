//! Obfuscation of texts that a user asks for, beyond the agent's own (`traces.obfuscation`).
//!
//! Datadog's `libdd-trace-obfuscation` does it, as the agent would where its `apm_config.obfuscation` asks for it; beyond that, a
//! resource name that is a query, the attributes of OpenTelemetry's conventions, DynamoDB and parameters are covered, too.

use std::borrow::Cow;

use libdd_trace_obfuscation::json::JsonObfuscator;
use libdd_trace_obfuscation::obfuscation_config::JsonObfuscatorConfig;
use libdd_trace_obfuscation::{memcached, redis};

use super::agent;
use super::attributes::Both;
use super::concepts::DB_SYSTEM;
use super::naming;
use crate::exporter::datadog::config;
use crate::exporter::datadog::model::Text;
use crate::trace_batch::AnyValue;
use crate::trace_batch::go_text::as_text;

/// Stands for what is taken out.
const TAKEN_OUT: &[u8] = b"?";

/// Settings of the obfuscation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Obfuscation {
    mongodb: Option<JsonObfuscator>,
    elasticsearch: Option<JsonObfuscator>,
    opensearch: Option<JsonObfuscator>,
    dynamodb: Option<JsonObfuscator>,
    redis: Option<Arguments>,
    valkey: Option<Arguments>,
    memcached: Option<Command>,
    has_sql: bool,
    has_parameters: bool,
    url: Url,
    /// Whether any of these is asked for.
    is_on: bool,
}

/// Of Redis's commands.
#[derive(Debug, Clone, Copy)]
enum Arguments {
    /// Those that are values; keys stay.
    Values,
    All,
}

/// Of Memcached's commands.
#[derive(Debug, Clone, Copy)]
enum Command {
    /// The data behind the first line.
    Data,
    Whole,
}

/// Of URLs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Url {
    query: bool,
    digits: bool,
}

/// The language of a span's queries, of which something is to be taken out.
#[derive(Debug, Clone, Copy)]
enum Language<'s> {
    Document(&'s JsonObfuscator),
    /// A document or PartiQL.
    Dynamodb(&'s JsonObfuscator),
    Redis(Arguments),
    Memcached(Command),
    Sql,
}

/// Texts of a span that are obfuscated.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenOut<'s> {
    of: &'s Obfuscation,
    language: Option<Language<'s>>,
}

impl Obfuscation {
    /// Reads the settings.
    pub(crate) fn new(config: &config::Obfuscation) -> Self {
        let is_on = |part: Option<bool>| part.unwrap_or(config.enabled);
        let documents = |part: &config::Documents| {
            is_on(part.enabled).then(|| {
                let mut settings = JsonObfuscatorConfig::enabled();
                settings.keep_keys.extend(part.keep_values.iter().cloned());
                JsonObfuscator::new(settings)
            })
        };
        let arguments = |part: &config::Arguments| {
            let what = if part.remove_all_args { Arguments::All } else { Arguments::Values };
            is_on(part.enabled).then_some(what)
        };
        let memcached = &config.memcached;
        let command = if memcached.keep_command { Command::Data } else { Command::Whole };
        let mut of = Self {
            mongodb: documents(&config.mongodb),
            elasticsearch: documents(&config.elasticsearch),
            opensearch: documents(&config.opensearch),
            dynamodb: documents(&config.dynamodb),
            redis: arguments(&config.redis),
            valkey: arguments(&config.valkey),
            memcached: is_on(memcached.enabled).then_some(command),
            has_sql: is_on(config.sql.enabled),
            has_parameters: is_on(config.query_parameters.enabled),
            url: Url {
                query: is_on(config.http.remove_query_string),
                digits: config.http.remove_paths_with_digits,
            },
            is_on: false,
        };
        of.is_on = of.has_any();
        of
    }

    fn has_any(&self) -> bool {
        let documents = [&self.mongodb, &self.elasticsearch, &self.opensearch, &self.dynamodb];
        documents.iter().any(|document| document.is_some())
            || self.redis.is_some()
            || self.valkey.is_some()
            || self.memcached.is_some()
            || self.has_sql
            || self.has_parameters
            || self.url != Url::default()
    }

    /// Returns what is to be taken out of a span of this type, in whatever language its queries are; `None` if nothing is asked
    /// for at all.
    #[inline]
    pub(super) fn of_span(
        &self,
        attributes: Both<'_, '_>,
        span_type: &[u8],
    ) -> Option<TakenOut<'_>> {
        self.is_on.then(|| self.taken_out(attributes, span_type))
    }

    fn taken_out(&self, attributes: Both<'_, '_>, span_type: &[u8]) -> TakenOut<'_> {
        let language = match &*attributes.normal(DB_SYSTEM) {
            b"mongodb" => self.mongodb.as_ref().map(Language::Document),
            b"elasticsearch" => self.elasticsearch.as_ref().map(Language::Document),
            b"opensearch" => self.opensearch.as_ref().map(Language::Document),
            b"dynamodb" | b"aws.dynamodb" => self.dynamodb.as_ref().map(Language::Dynamodb),
            b"redis" => self.redis.map(Language::Redis),
            b"valkey" => self.valkey.map(Language::Redis),
            b"memcached" => self.memcached.map(Language::Memcached),
            system => {
                // Of these types the agent takes them out by itself.
                let is_done = matches!(span_type, b"sql" | b"cassandra");
                (self.has_sql && !is_done && is_sql(system)).then_some(Language::Sql)
            }
        };
        TakenOut { of: self, language }
    }

    /// Returns whether something is to be taken out of the attribute of this key.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.is_on
            && match key {
                b"db.statement"
                | b"db.query.text"
                | b"mongodb.query"
                | b"elasticsearch.body"
                | b"opensearch.body"
                | b"redis.raw_command"
                | b"valkey.raw_command"
                | b"memcached.command"
                | b"url.query"
                | b"http.target"
                | b"http.url"
                | b"url.full" => true,
                key => is_parameter(key),
            }
    }
}

/// Returns whether the queries of a system are SQL, or near it.
fn is_sql(system: &[u8]) -> bool {
    /// Systems whose spans have the type `db`.
    const OF_NO_TYPE: [&[u8]; 7] = [
        b"azure.cosmosdb",
        b"cosmosdb",
        b"gcp.spanner",
        b"hive",
        b"snowflake",
        b"spanner",
        b"trino",
    ];
    matches!(naming::database_type(system), b"sql" | b"cassandra") || OF_NO_TYPE.contains(&system)
}

fn is_parameter(key: &[u8]) -> bool {
    key.starts_with(b"db.query.parameter.") || key.starts_with(b"db.operation.parameter.")
}

impl TakenOut<'_> {
    /// Returns a resource name that is the text of a query, without its literals.
    pub(super) fn query<'a>(&self, query: Text<'a>) -> Text<'a> {
        match self.language {
            Some(language) if !query.is_empty() => language.without_literals(&query).into(),
            _ => query,
        }
    }

    /// Returns the text that is shown in place of an attribute's value; `None` if it stays as it is.
    pub(super) fn attribute<'a>(&self, key: &[u8], value: &AnyValue<'a>) -> Option<Text<'a>> {
        let of = self.of;
        let language = match key {
            b"db.statement" | b"db.query.text" => self.language?,
            b"mongodb.query" => Language::Document(of.mongodb.as_ref()?),
            b"elasticsearch.body" => Language::Document(of.elasticsearch.as_ref()?),
            b"opensearch.body" => Language::Document(of.opensearch.as_ref()?),
            b"redis.raw_command" => Language::Redis(of.redis?),
            b"valkey.raw_command" => Language::Redis(of.valkey?),
            b"memcached.command" => Language::Memcached(of.memcached?),
            b"url.query" => return of.url.query.then_some(Cow::Borrowed(TAKEN_OUT)),
            b"http.target" | b"http.url" | b"url.full" => {
                return (of.url != Url::default())
                    .then(|| of.url.obfuscated(&as_text(value)).into());
            }
            key if is_parameter(key) => {
                return of.has_parameters.then_some(Cow::Borrowed(TAKEN_OUT));
            }
            _ => return None,
        };
        let text = as_text(value);
        let is_number = matches!(value, AnyValue::Int(_) | AnyValue::Double(_));
        (!is_number && !text.is_empty()).then(|| language.without_literals(&text).into())
    }
}

impl Language<'_> {
    fn without_literals(self, query: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(query);
        match self {
            Self::Document(json) => document(json, &text).into_bytes(),
            Self::Dynamodb(json) if text.trim_start().starts_with(['{', '[']) => {
                document(json, &text).into_bytes()
            }
            Self::Dynamodb(_) | Self::Sql => agent::obfuscated_query(query).into_owned(),
            Self::Redis(Arguments::Values) => redis::obfuscate_redis_string(&text).into_bytes(),
            Self::Redis(Arguments::All) => redis::remove_all_redis_args(&text).into_bytes(),
            Self::Memcached(Command::Data) => {
                memcached::obfuscate_memcached_string(&text).into_bytes()
            }
            Self::Memcached(Command::Whole) => Vec::new(),
        }
    }
}

/// Returns a query of a document store without its literals: what stands before the first document (an operation, a
/// collection, a path) is kept; where none follows, all from the first bracket, quote or question mark on is taken out.
fn document(json: &JsonObfuscator, text: &str) -> String {
    let Some(at) = text.find(['{', '[', '(', '"', '\'', '?']) else { return text.to_owned() };
    let (head, rest) = text.split_at(at);
    let inner = rest.strip_prefix('(').unwrap_or(rest);
    if !inner.trim_start().starts_with(['{', '[']) {
        return format!("{head}?");
    }
    let opening = if inner.len() < rest.len() { "(" } else { "" };
    format!("{head}{opening}{}", json.obfuscate(inner).0)
}

impl Url {
    fn obfuscated(self, url: &[u8]) -> Vec<u8> {
        if url.is_empty() {
            return Vec::new();
        }
        agent::obfuscated_url_less(url, self.query, self.digits)
            .unwrap_or_else(|| TAKEN_OUT.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Settings, translate};
    use super::Obfuscation;
    use crate::config::{Config, Sources};
    use crate::exporter::ExporterConfig;
    use crate::exporter::datadog::config;
    use crate::trace_batch::TraceBatch;

    const SERVER: u32 = 2;
    const CLIENT: u32 = 3;

    fn settings(json: &str) -> Settings {
        let config: config::Obfuscation = serde_json::from_str(json).unwrap();
        Settings { obfuscation: Obfuscation::new(&config), ..Settings::default() }
    }

    /// Returns the resource name, and all of meta and metrics, of a span with these attributes.
    fn shown(settings: &Settings, kind: u32, attributes: &Value) -> (String, Value) {
        let value = |value: &Value| match value.as_i64() {
            Some(int) => json!({ "intValue": int.to_string() }),
            None => json!({ "stringValue": value }),
        };
        let pairs = attributes.as_object().unwrap().iter();
        let pairs: Value =
            pairs.map(|(key, text)| json!({ "key": key, "value": value(text) })).collect();
        let span = json!({
            "traceId": "0000000000000000000000000000000a", "spanId": "000000000000000b", "kind": kind,
            "name": "find users", "startTimeUnixNano": "1700000000000000000", "attributes": pairs,
        });
        let request = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] });
        let batch = TraceBatch::from_json(request.to_string().as_bytes()).unwrap();
        let translation = translate(settings, &batch, 1);
        let span = &translation.tracers[0].chunks[0].spans[0];
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let meta = span.meta.iter().map(|(key, value)| (text(key), json!(text(value))));
        let metrics = span.metrics.iter().map(|(key, value)| (text(key), json!(value)));
        (text(&span.resource), meta.chain(metrics).collect())
    }

    #[test]
    fn queries_of_all_stores_lose_their_literals_where_that_is_asked_for() {
        let document = r#"{"find": "users", "filter": {"name": "joe", "age": 7}}"#;
        let taken = r#"{"find":"?","filter":{"name":"?","age":"?"}}"#;
        for (system, query, expected) in [
            ("mongodb", document, taken),
            ("mongodb", r#"db.users.find({"name": "joe"})"#, r#"db.users.find({"name":"?"}..."#),
            ("mongodb", "find users", "find users"),
            ("elasticsearch", document, taken),
            ("elasticsearch", "GET /shop/_search?q=joe", "GET /shop/_search?"),
            ("opensearch", document, taken),
            ("aws.dynamodb", document, taken),
            ("dynamodb", "SELECT * FROM \"t\" WHERE a = 'joe'", "SELECT * FROM t WHERE a = ?"),
            ("memcached", "set mykey 0 60 3\r\njoe", ""),
            ("gcp.spanner", "SELECT a FROM t WHERE b = 'joe'", "SELECT a FROM t WHERE b = ?"),
        ] {
            for key in ["db.query.text", "db.statement"] {
                let attributes = json!({ "db.system.name": system, key: query });
                let (resource, meta) =
                    shown(&settings(r#"{"enabled": true}"#), CLIENT, &attributes);
                assert_eq!(meta[key], expected, "{system}");
                let without = format!("{system}.query");
                assert_eq!(resource, if expected.is_empty() { &without } else { expected });
                let (resource, meta) = shown(&Settings::default(), CLIENT, &attributes);
                assert_eq!((&*resource, meta[key].as_str().unwrap()), (query, query), "{system}");
            }
        }
    }

    #[test]
    fn commands_keep_what_the_user_wants_to_keep() {
        let redis = json!({ "db.system.name": "redis", "db.query.text": "SET key joe" });
        let text = |config: &str, attributes: &Value| {
            shown(&settings(config), CLIENT, attributes).1["db.query.text"].clone()
        };
        assert_eq!(text("{}", &redis), "SET key joe");
        assert_eq!(text(r#"{"redis": {"enabled": true}}"#, &redis), "SET key ?");
        let all = r#"{"redis": {"enabled": true, "remove_all_args": true}}"#;
        assert_eq!(text(all, &redis), "SET ?");
        assert_eq!(
            text(r#"{"enabled": true, "redis": {"enabled": false}}"#, &redis),
            "SET key joe"
        );
        let cached =
            json!({ "db.system.name": "memcached", "db.query.text": "set k 0 60 3\r\njoe" });
        assert_eq!(
            text(r#"{"memcached": {"enabled": true, "keep_command": true}}"#, &cached),
            "set k 0 60 3"
        );
        let mongo = json!({ "db.system.name": "mongodb", "db.query.text": r#"{"find":"users","name":"joe"}"# });
        let keeping = r#"{"mongodb": {"enabled": true, "keep_values": ["find"]}}"#;
        assert_eq!(text(keeping, &mongo), r#"{"find":"users","name":"?"}"#);
    }

    #[test]
    fn datadogs_own_attributes_and_parameters_are_covered_on_any_span() {
        let attributes = json!({
            "mongodb.query": r#"{"a":"joe"}"#, "elasticsearch.body": r#"{"b":"joe"}"#,
            "redis.raw_command": "SET key joe", "memcached.command": "set k joe",
            "db.query.parameter.name": "joe", "db.query.parameter.age": 7,
            "db.operation.parameter.path": "/joe",
        });
        let (_, meta) = shown(&settings(r#"{"enabled": true}"#), SERVER, &attributes);
        for (key, expected) in [
            ("mongodb.query", r#"{"a":"?"}"#),
            ("elasticsearch.body", r#"{"b":"?"}"#),
            ("redis.raw_command", "SET key ?"),
            ("memcached.command", ""),
            ("db.query.parameter.name", "?"),
            ("db.query.parameter.age", "?"),
            ("db.operation.parameter.path", "?"),
        ] {
            assert_eq!(meta[key], expected, "{key}");
        }
        let (_, meta) = shown(&Settings::default(), SERVER, &attributes);
        assert_eq!(meta["db.query.parameter.age"], 7.0);
    }

    #[test]
    fn sql_of_spans_that_are_no_clients_is_covered_where_that_is_asked_for() {
        let attributes = json!({ "db.system.name": "postgresql", "db.query.text": "SELECT 'joe'" });
        let shown = |config| shown(&settings(config), SERVER, &attributes);
        let (resource, meta) = shown(r#"{"sql": {"enabled": true}}"#);
        assert_eq!((&*resource, &meta["db.query.text"]), ("SELECT ?", &json!("SELECT ?")));
        let (resource, meta) = shown("{}");
        assert_eq!((&*resource, &meta["db.query.text"]), ("SELECT 'joe'", &json!("SELECT 'joe'")));
    }

    #[test]
    fn urls_lose_their_users_and_what_stands_behind_the_question_mark() {
        let attributes = json!({
            "db.system.name": "elasticsearch", "url.full": "https://joe:pw@h/users/17?q=secret#f",
            "url.query": "q=secret", "http.target": "/users/17?q=secret",
        });
        let urls = |config| {
            let (_, meta) = shown(&settings(config), CLIENT, &attributes);
            ["http.url", "url.query", "http.target"]
                .map(|key| meta[key].as_str().unwrap().to_owned())
        };
        assert_eq!(
            urls(r#"{"http": {"remove_query_string": true}}"#),
            ["https://h/users/17?#f", "?", "/users/17?"]
        );
        assert_eq!(
            urls(r#"{"http": {"remove_query_string": true, "remove_paths_with_digits": true}}"#),
            ["https://h/users/??#f", "?", "/users/??"]
        );
        assert_eq!(
            urls("{}"),
            ["https://joe:pw@h/users/17?q=secret#f", "q=secret", "/users/17?q=secret"]
        );
        let odd = json!({ "url.full": "1:x?secret" });
        let (_, meta) = shown(&settings(r#"{"enabled": true}"#), CLIENT, &odd);
        assert_eq!(meta["http.url"], "?", "what is no URL");
    }

    #[test]
    fn a_name_that_an_application_gives_itself_stays() {
        let attributes = json!({
            "db.system.name": "mongodb", "db.query.text": r#"{"a":"joe"}"#, "resource.name": "users {by name}",
        });
        let (resource, _) = shown(&settings(r#"{"enabled": true}"#), CLIENT, &attributes);
        assert_eq!(resource, "users {by name}");
    }

    #[test]
    fn the_option_is_read_from_a_config_and_what_is_no_key_of_it_is_refused() {
        let load = |obfuscation: &str| {
            let datadog = format!("{{api: {{key: k}}, traces: {{obfuscation: {obfuscation}}}}}");
            let yaml = format!(
                "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{datadog: {datadog}}}, \
                 service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [datadog]}}}}}}}}"
            );
            let sources = Sources { configs: vec![yaml], ..Sources::default() };
            Config::load(&sources, &|_| None).map_err(|error| error.to_string())
        };
        let config = load("{enabled: true, mongodb: {keep_values: [find]}}").unwrap();
        let ExporterConfig::Datadog(config) = config.exporters.into_values().next().unwrap() else {
            panic!("the first exporter is not datadog")
        };
        let obfuscation = &config.traces.obfuscation;
        assert!(obfuscation.enabled && obfuscation.mongodb.keep_values == ["find"]);
        let refused = load("{mongo: {enabled: true}}").unwrap_err();
        assert!(refused.contains("`mongodb`"), "{refused}");
    }
}
