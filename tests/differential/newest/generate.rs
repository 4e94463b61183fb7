//! Makes configs: a small one that works, and a few settings laid upon it, right and wrong ones.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// A config that works, and has each component that is varied.
const BASE: &str = "
receivers:
  otlp: {protocols: {grpc: , http: }}
processors:
  attributes: {actions: [{key: a, value: b, action: insert}]}
  batch:
  groupbytrace: {wait_duration: 2s}
  memory_limiter: {check_interval: 1s, limit_mib: 400}
  probabilistic_sampler: {sampling_percentage: 15}
  resource: {attributes: [{key: a, value: b, action: insert}]}
  span: {status: {code: Ok}}
  tail_sampling: {policies: [{name: all, type: always_sample}]}
exporters:
  debug:
  otlp_grpc: {endpoint: 'localhost:4317', tls: {insecure: true}}
  otlp_http: {endpoint: 'http://localhost:4318'}
extensions:
  health_check:
service:
  extensions: [health_check]
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, attributes, resource, batch]
      exporters: [debug, otlp_grpc, otlp_http]
";

/// Kinds of values: what is right for each, and what is not.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Duration,
    Int,
    Float,
    Bool,
    Text,
    Endpoint,
    Words(&'static [&'static str]),
    Texts,
    TextMap,
    /// Only these.
    Raw(&'static [&'static str]),
}

const COMPRESSIONS: &[&str] = &["gzip", "zstd", "snappy", "none", "zlib", "lz4", "deflate"];
const ACTIONS: &[&str] = &[
    "[{key: a, action: delete}]",
    "[{key: a, action: HASH}]",
    "[{pattern: 'a.*', action: hash}]",
    "[{pattern: '(', action: delete}]",
    "[{key: a, action: insert}]",
    "[{key: a, value: 5, action: Insert}]",
    "[{key: a, value: [1, 2], action: upsert}]",
    "[{key: a, value: {b: c}, action: upsert}]",
    "[{key: a, value: 1.5, action: update}, {key: b, from_attribute: a, action: upsert}]",
    "[{key: a, value: x, from_attribute: b, action: insert}]",
    "[{key: a, from_context: metadata.x, action: insert}]",
    "[{key: a, pattern: '^(?P<x>.*)$', action: extract}]",
    "[{key: a, pattern: '^(.*)$', action: extract}]",
    "[{key: a, pattern: '^(?P<x>.)(.*)$', action: extract}]",
    "[{key: a, pattern: x, action: extract}]",
    "[{key: a, converted_type: int, action: convert}]",
    "[{key: a, converted_type: bool, action: convert}]",
    "[{key: a, action: convert}]",
    "[{action: delete}]",
    "[{key: a, action: frobnicate}]",
    "[{key: a, value: x, action: delete}]",
    "[{key: a, value: ~, action: insert}]",
    "[]",
    "~",
];
const SPAN: &[&str] = &[
    "{name: {from_attributes: [a, b], separator: '::'}}",
    "{name: {from_attributes: a}}",
    "{name: {to_attributes: {rules: ['^(?P<a>.*)$'], break_after_match: true}}}",
    "{name: {to_attributes: {rules: ['('], keep_original_name: true}}}",
    "{name: {to_attributes: {rules: []}}}",
    "{status: {code: Error, description: x}}",
    "{status: {code: Ok, description: x}}",
    "{status: {code: ok}}",
    "{status: {code: fine}}",
    "{status: {description: x}}",
    "{include: {match_type: strict, span_names: [a]}}",
    "{include: {match_type: regexp, services: ['a.*'], regexp: {cacheenabled: true}}}",
    "{exclude: {span_names: [a]}}",
    "{exclude: {match_type: strict, nosuch: [a]}}",
    "~",
];
const POLICIES: &[&str] = &[
    "[]",
    "~",
    "[{name: a, type: always_sample}, {name: b, type: latency, latency: {threshold_ms: 5}}]",
    "[{name: a, type: always_sample}, {name: a, type: always_sample}]",
    "[{type: always_sample}]",
    "[{name: a}]",
    "[{name: a, type: nosuch}]",
    "[{name: a, type: probabilistic, probabilistic: {sampling_percentage: 150}}]",
    "[{name: a, type: status_code, status_code: {status_codes: [ERROR, UNSET]}}]",
    "[{name: a, type: status_code, status_code: {status_codes: [BAD]}}]",
    "[{name: a, type: string_attribute, string_attribute: {key: k, values: ['a.*'], enabled_regex_matching: true}}]",
    "[{name: a, type: string_attribute, string_attribute: {key: k, values: [a], nosuch: 1}}]",
    "[{name: a, type: numeric_attribute, numeric_attribute: {key: k, min_value: 1, max_value: 5}}]",
    "[{name: a, type: rate_limiting, rate_limiting: {spans_per_second: 35}}]",
    "[{name: a, type: ottl_condition, ottl_condition: {error_mode: ignore, span: ['true']}}]",
    "[{name: a, type: and, and: {and_sub_policy: [{name: b, type: always_sample}]}}]",
    "[{name: a, type: drop, drop: {drop_sub_policy: [{name: b, type: always_sample}]}}]",
];
const KEEPALIVE: &[&str] = &[
    "{server_parameters: {time: 30s, timeout: 5s}}",
    "{server_parameters: {max_connection_age: 1m}}",
    "{server_parameters: }",
    "{}",
    "~",
    "{enforcement_policy: {min_time: 5m}}",
    "{enforcement_policy: {permit_without_stream: true}}",
];
const TLS: &[&str] = &[
    "{insecure: true}",
    "{insecure_skip_verify: true}",
    "{min_version: '1.3'}",
    "{min_version: 1.3}",
    "{min_version: '1.9'}",
    "{server_name_override: x}",
    "{ca_file: /no/such/file}",
    "{cert_file: /x}",
    "{reload_interval: 5m}",
    "{}",
];
const QUEUE: &[&str] = &[
    "{}",
    "~",
    "{enabled: false}",
    "{queue_size: 5000, num_consumers: 3}",
    "{queue_size: 0}",
    "{num_consumers: 0}",
    "{sizer: items, queue_size: 100000}",
    "{sizer: bytes, queue_size: 1000000}",
    "{sizer: spans}",
    "{block_on_overflow: true, wait_for_result: true}",
    "{blocking: true}",
    "{batch: }",
    "{batch: {}}",
    "{sizer: items, queue_size: 100000, batch: {}}",
    "{sizer: bytes, queue_size: 1000000, batch: {}}",
    "{sizer: items, queue_size: 10, batch: {}}",
    "{sizer: items, batch: {min_size: 20, max_size: 10}}",
    "{batch: {min_size: 20, max_size: 100, flush_timeout: 5s}}",
    "{batch: {sizer: requests}}",
    "{batch: {sizer: bytes, min_size: 5000}}",
    "{batch: {flush_timeout: 0s}}",
    "{batch: {min_size: -1}}",
    "{storage: file_storage}",
];

/// Settings that are varied: the key, and what it takes.
const SETTINGS: &[(&str, Kind)] = &[
    ("receivers::otlp::protocols::grpc::endpoint", Kind::Endpoint),
    ("receivers::otlp::protocols::grpc::max_recv_msg_size_mib", Kind::Int),
    ("receivers::otlp::protocols::grpc::max_concurrent_streams", Kind::Int),
    ("receivers::otlp::protocols::grpc::transport", Kind::Words(&["tcp", "unix", "tcp4"])),
    ("receivers::otlp::protocols::grpc::read_buffer_size", Kind::Int),
    ("receivers::otlp::protocols::grpc::write_buffer_size", Kind::Int),
    ("receivers::otlp::protocols::grpc::include_metadata", Kind::Bool),
    ("receivers::otlp::protocols::grpc::keepalive", Kind::Raw(KEEPALIVE)),
    (
        "receivers::otlp::protocols::grpc::keepalive::server_parameters::max_connection_age",
        Kind::Duration,
    ),
    ("receivers::otlp::protocols::http::endpoint", Kind::Endpoint),
    ("receivers::otlp::protocols::http::max_request_body_size", Kind::Int),
    (
        "receivers::otlp::protocols::http::traces_url_path",
        Kind::Raw(&["/a", "a", "'/v1/traces'", "''", "~"]),
    ),
    ("receivers::otlp::protocols::http::metrics_url_path", Kind::Raw(&["/v1/metrics", "/m"])),
    ("receivers::otlp::protocols::http::include_metadata", Kind::Bool),
    ("receivers::otlp::protocols::http::cors", Kind::Raw(&["~", "{}", "{allowed_origins: ['*']}"])),
    (
        "receivers::otlp::protocols::http::keepalive",
        Kind::Raw(&["~", "{}", "{idle_timeout: 1m}", "{idle_timeout: 5s}", "{enabled: false}"]),
    ),
    ("receivers::otlp::protocols::http::idle_timeout", Kind::Raw(&["60s", "0s", "5m"])),
    ("receivers::otlp::protocols::http::read_timeout", Kind::Duration),
    ("receivers::otlp::protocols::http::write_timeout", Kind::Duration),
    ("receivers::otlp::protocols::http::response_headers", Kind::Raw(&["~", "{}", "{a: b}"])),
    ("receivers::otlp::protocols::http::compression_algorithms", Kind::Texts),
    (
        "receivers::otlp::protocols",
        Kind::Raw(&["{grpc: }", "{http: }", "{}", "~", "{grpc: {}, http: ~}", "{thrift: }"]),
    ),
    ("processors::batch::timeout", Kind::Duration),
    ("processors::batch::send_batch_size", Kind::Int),
    ("processors::batch::send_batch_max_size", Kind::Int),
    ("processors::batch::metadata_keys", Kind::Texts),
    ("processors::batch::metadata_cardinality_limit", Kind::Raw(&["1000", "5"])),
    ("processors::memory_limiter::check_interval", Kind::Duration),
    ("processors::memory_limiter::limit_mib", Kind::Int),
    ("processors::memory_limiter::spike_limit_mib", Kind::Int),
    ("processors::memory_limiter::limit_percentage", Kind::Int),
    ("processors::memory_limiter::spike_limit_percentage", Kind::Int),
    ("processors::memory_limiter::min_gc_interval_when_soft_limited", Kind::Duration),
    ("processors::attributes::actions", Kind::Raw(ACTIONS)),
    ("processors::resource::attributes", Kind::Raw(ACTIONS)),
    ("processors::groupbytrace::wait_duration", Kind::Duration),
    ("processors::groupbytrace::num_traces", Kind::Int),
    ("processors::groupbytrace::num_workers", Kind::Raw(&["1", "4", "x"])),
    ("processors::groupbytrace::discard_orphans", Kind::Bool),
    ("processors::probabilistic_sampler::sampling_percentage", Kind::Float),
    ("processors::probabilistic_sampler::hash_seed", Kind::Int),
    (
        "processors::probabilistic_sampler::mode",
        Kind::Words(&["hash_seed", "proportional", "equalizing"]),
    ),
    ("processors::probabilistic_sampler::fail_closed", Kind::Bool),
    (
        "processors::probabilistic_sampler::sampling_precision",
        Kind::Raw(&["1", "4", "14", "0", "15"]),
    ),
    ("processors::span", Kind::Raw(SPAN)),
    ("processors::tail_sampling::decision_wait", Kind::Duration),
    ("processors::tail_sampling::num_traces", Kind::Int),
    ("processors::tail_sampling::expected_new_traces_per_sec", Kind::Int),
    (
        "processors::tail_sampling::decision_cache",
        Kind::Raw(&[
            "~",
            "{}",
            "{sampled_cache_size: 100}",
            "{sampled_cache_size: -1}",
            "{size: 5}",
        ]),
    ),
    ("processors::tail_sampling::policies", Kind::Raw(POLICIES)),
    ("exporters::debug::verbosity", Kind::Words(&["basic", "normal", "detailed"])),
    ("exporters::debug::sampling_initial", Kind::Int),
    ("exporters::debug::use_internal_logger", Kind::Bool),
    (
        "exporters::otlp_grpc::endpoint",
        Kind::Raw(&[
            "'localhost:4317'",
            "'http://x:1'",
            "'https://x:1'",
            "''",
            "x",
            "'dns:///x:1'",
            "~",
        ]),
    ),
    ("exporters::otlp_grpc::timeout", Kind::Duration),
    ("exporters::otlp_grpc::compression", Kind::Words(COMPRESSIONS)),
    ("exporters::otlp_grpc::headers", Kind::TextMap),
    ("exporters::otlp_grpc::tls", Kind::Raw(TLS)),
    ("exporters::otlp_grpc::balancer_name", Kind::Words(&["round_robin", "pick_first"])),
    ("exporters::otlp_grpc::wait_for_ready", Kind::Bool),
    ("exporters::otlp_grpc::authority", Kind::Text),
    ("exporters::otlp_grpc::sending_queue", Kind::Raw(QUEUE)),
    ("exporters::otlp_grpc::retry_on_failure::enabled", Kind::Bool),
    ("exporters::otlp_grpc::retry_on_failure::initial_interval", Kind::Duration),
    ("exporters::otlp_grpc::retry_on_failure::multiplier", Kind::Float),
    ("exporters::otlp_grpc::retry_on_failure::randomization_factor", Kind::Float),
    ("exporters::otlp_grpc::retry_on_failure::max_elapsed_time", Kind::Duration),
    (
        "exporters::otlp_http::endpoint",
        Kind::Raw(&["'http://x'", "'https://x/y/'", "x", "''", "'ftp://x'", "~"]),
    ),
    ("exporters::otlp_http::traces_endpoint", Kind::Raw(&["'http://x/v1/traces'", "x", "~"])),
    ("exporters::otlp_http::timeout", Kind::Duration),
    ("exporters::otlp_http::compression", Kind::Words(COMPRESSIONS)),
    ("exporters::otlp_http::compression_params", Kind::Raw(&["{level: 0}", "{level: 5}", "~"])),
    ("exporters::otlp_http::encoding", Kind::Words(&["proto", "json"])),
    ("exporters::otlp_http::headers", Kind::TextMap),
    ("exporters::otlp_http::proxy_url", Kind::Text),
    ("exporters::otlp_http::max_idle_conns", Kind::Raw(&["100", "5"])),
    ("exporters::otlp_http::idle_conn_timeout", Kind::Raw(&["90s", "5s"])),
    (
        "exporters::otlp_http::keepalive",
        Kind::Raw(&["~", "{}", "{idle_conn_timeout: 90s}", "{max_idle_conns: 5}"]),
    ),
    ("exporters::otlp_http::disable_keep_alives", Kind::Bool),
    ("exporters::otlp_http::force_attempt_http2", Kind::Bool),
    (
        "exporters::otlp_http::cookies",
        Kind::Raw(&["~", "{}", "{enabled: false}", "{enabled: true}"]),
    ),
    ("exporters::otlp_http::sending_queue", Kind::Raw(QUEUE)),
    ("exporters::otlp_http::tls", Kind::Raw(TLS)),
    (
        "exporters",
        Kind::Raw(&[
            "{otlp: {endpoint: 'x:1'}}",
            "{otlphttp: {endpoint: 'http://x'}}",
            "{debug/two: }",
            "{nosuch: }",
            "{'debug/': }",
        ]),
    ),
    ("extensions::health_check::endpoint", Kind::Endpoint),
    ("extensions::health_check::path", Kind::Raw(&["/h", "h", "~"])),
    (
        "extensions",
        Kind::Raw(&[
            "{file_storage: {directory: /tmp}}",
            "{health_check/two: {endpoint: 'localhost:1'}}",
        ]),
    ),
    (
        "service::extensions",
        Kind::Raw(&["[]", "~", "[health_check, health_check]", "[nosuch]", "health_check"]),
    ),
    ("service::telemetry::logs::level", Kind::Words(&["debug", "info", "warn", "error", "fatal"])),
    ("service::telemetry::logs::encoding", Kind::Words(&["console", "json"])),
    ("service::telemetry::logs::development", Kind::Bool),
    ("service::telemetry::logs::output_paths", Kind::Raw(&["[stderr]", "[stdout]", "~"])),
    ("service::telemetry::metrics::level", Kind::Words(&["none", "basic", "normal", "detailed"])),
    (
        "service::telemetry::metrics::readers",
        Kind::Raw(&[
            "[]",
            "[{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]",
            "~",
        ]),
    ),
    ("service::telemetry::resource", Kind::Raw(&["{}", "~", "{service.name: x}"])),
    (
        "service::pipelines::traces::receivers",
        Kind::Raw(&["[otlp]", "[otlp, otlp]", "[]", "~", "[nosuch]", "otlp"]),
    ),
    (
        "service::pipelines::traces::processors",
        Kind::Raw(&["[batch]", "[]", "~", "[batch, batch]", "[nosuch]"]),
    ),
    (
        "service::pipelines::traces::exporters",
        Kind::Raw(&["[debug]", "[debug, debug]", "[]", "[otlp]"]),
    ),
    (
        "service::pipelines",
        Kind::Raw(&[
            "{traces/two: {receivers: [otlp], exporters: [debug]}}",
            "{spans: {receivers: [otlp], exporters: [debug]}}",
            "{metrics: {receivers: [otlp], exporters: [debug]}}",
        ]),
    ),
    ("nosuch", Kind::Raw(&["~", "{}"])),
    ("receivers::otlp::nosuch", Kind::Raw(&["~", "5"])),
    ("processors::batch::nosuch", Kind::Raw(&["5"])),
];

/// Differences that are meant and that chance seldom comes upon.
const ALWAYS: [(&str, &str); 3] = [
    ("receivers::otlp::protocols::grpc::max_recv_msg_size_mib", "0"),
    ("exporters::otlp_grpc::compression", "lz4"),
    ("exporters::otlp_grpc::headers", "{'a b': c}"),
];

/// A config, and the settings that were laid upon what works.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) laid: Vec<(&'static str, String)>,
}

/// The first config is what all others are made of.
pub(crate) fn base() -> Case {
    Case { number: 0, text: BASE.to_owned(), laid: Vec::new() }
}

/// Makes configs: each setting comes up, and what it is with others; a few more are always the same.
pub(crate) fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut random = StdRng::seed_from_u64(seed);
    (1..=count)
        .map(|number| {
            let mut laid = vec![SETTINGS[(number - 1) % SETTINGS.len()]];
            // Most wrong things alone, so that each is seen; some together.
            if random.random_ratio(1, 4) {
                laid.push(*SETTINGS.choose(&mut random).unwrap());
            }
            let laid: Vec<_> =
                laid.into_iter().map(|(key, kind)| (key, kind.value(&mut random))).collect();
            Case { number, text: BASE.to_owned(), laid }
        })
        .chain(ALWAYS.into_iter().enumerate().map(|(index, (key, value))| Case {
            number: count + 1 + index,
            text: BASE.to_owned(),
            laid: vec![(key, value.to_owned())],
        }))
        .collect()
}

impl Case {
    /// The sources of the config, each laid upon those before it.
    pub(crate) fn sources(&self) -> Vec<String> {
        let laid = self.laid.iter().map(|(key, value)| format!("{key}: {value}\n"));
        std::iter::once(self.text.clone()).chain(laid).collect()
    }
}

impl Kind {
    fn value(self, random: &mut StdRng) -> String {
        let of =
            |random: &mut StdRng, values: &[&str]| (*values.choose(random).unwrap()).to_owned();
        match self {
            Self::Duration => of(
                random,
                &[
                    "5s",
                    "250ms",
                    "1m30s",
                    "0s",
                    "0",
                    "5",
                    "-1s",
                    "1h",
                    "5x",
                    "~",
                    "1.5s",
                    "'5s'",
                    "abc",
                    "[]",
                    "${env:SET}s",
                    "${env:UNSET}",
                    "${env:UNSET:-3s}",
                    "1m",
                    "1us",
                    "true",
                ],
            ),
            Self::Int => of(
                random,
                &[
                    "0",
                    "1",
                    "100",
                    "8192",
                    "-1",
                    "062",
                    "0x10",
                    "1_000",
                    "1e3",
                    "50.7",
                    "'5'",
                    "~",
                    "abc",
                    "${env:SET}",
                    "${SET}",
                    "${env:EMPTY}",
                    "${env:UNSET:-7}",
                    "99999999999",
                    "[]",
                    "true",
                    "1e30",
                    "0o17",
                ],
            ),
            Self::Float => of(
                random,
                &[
                    "0",
                    "1",
                    "1.5",
                    "0.5",
                    "-1",
                    "~",
                    "'1.5'",
                    "abc",
                    "1e2",
                    ".5",
                    "${env:SET}",
                    "true",
                ],
            ),
            Self::Bool => of(
                random,
                &[
                    "true",
                    "false",
                    "True",
                    "FALSE",
                    "yes",
                    "'true'",
                    "~",
                    "1",
                    "0",
                    "abc",
                    "${env:UNSET:-true}",
                    "${env:EMPTY}",
                ],
            ),
            Self::Text => of(
                random,
                &[
                    "abc",
                    "'5'",
                    "5",
                    "true",
                    "''",
                    "~",
                    "${env:WORDS}",
                    "${env:SET}",
                    "a${env:SET}b",
                    "$$x",
                    "${env:UNSET}",
                    "1.0",
                    "[]",
                    "{}",
                    "${env:LIST}",
                ],
            ),
            Self::Endpoint => of(
                random,
                &[
                    "'0.0.0.0:4317'",
                    "'localhost:4317'",
                    "':4317'",
                    "'[::1]:4317'",
                    "'[::]:0'",
                    "localhost",
                    "'x:abc'",
                    "''",
                    "~",
                    "4317",
                    "'0.0.0.0:99999'",
                    "'${env:WORDS}:1'",
                    "'localhost:${env:SET}'",
                    "'${env:UNSET:-localhost}:4317'",
                    "'http://x:1'",
                ],
            ),
            Self::Words(words) => {
                let word = of(random, words);
                match random.random_range(0..6) {
                    0 => word.to_uppercase(),
                    1 => format!("{word}x"),
                    2 => of(random, &["~", "''", "5", "[]"]),
                    _ => word,
                }
            }
            Self::Texts => of(
                random,
                &[
                    "[]",
                    "~",
                    "[a]",
                    "[a, b]",
                    "a",
                    "[a, A]",
                    "[5]",
                    "[~]",
                    "['']",
                    "${env:LIST}",
                    "{a: b}",
                ],
            ),
            Self::TextMap => of(
                random,
                &[
                    "{}",
                    "~",
                    "{a: b}",
                    "{A: b, c: '5'}",
                    "{a: 5}",
                    "{a: true}",
                    "{a: ~}",
                    "{a: [b]}",
                    "{a: '${env:WORDS}'}",
                    "[]",
                    "{'a b': c}",
                    "{a: \"b\\nc\"}",
                    "{a: '${env:UNSET}'}",
                    "{a: ''}",
                    "[{name: a, value: b}]",
                ],
            ),
            Self::Raw(values) => of(random, values),
        }
    }
}
