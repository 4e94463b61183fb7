//! Configs of users: the good ones load, and each bad one gets a message that says what to do.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::path::{Path, PathBuf};

use collector::{Config, Sources};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 1, "no files");
    files
}

fn load(configs: &[&str], settings: &[&str]) -> Result<Config, String> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let sources =
        Sources { configs: owned(configs), settings: owned(settings), ..Sources::default() };
    let environment = |name: &str| (name == "datadog_api_key").then(|| "0123".to_owned());
    Config::load(&sources, &environment).map_err(|error| error.to_string())
}

#[test]
fn good_configs_load() {
    for file in files("good") {
        if let Err(error) = load(&[file.to_str().unwrap()], &[]) {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn each_bad_config_gets_its_message() {
    let mut all = String::new();
    for file in files("bad") {
        let error = load(&[file.to_str().unwrap()], &[]).expect_err(file.to_str().unwrap());
        let name = file.file_name().unwrap().to_str().unwrap();
        let folder = format!("{}/", file.parent().unwrap().display());
        all.push_str(&format!("# {name}\n{}\n\n", error.replace(&folder, "")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn configs_for_all_signals_load_for_traces_only_and_each_part_left_out_is_reported() {
    let mut all = String::new();
    for file in files("traces-only") {
        let configs = vec![file.to_str().unwrap().to_owned()];
        let sources = Sources { configs, ..Sources::default() };
        let environment = |name: &str| (name == "DD_API_KEY").then(|| "0123".to_owned());
        assert!(Config::check(&sources, &environment).is_err(), "refused without the flag");
        let sources = Sources { traces_only: true, ..sources };
        let config = Config::load(&sources, &environment);
        let config = config.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.file_name().unwrap().to_str().unwrap();
        let folder = format!("{}/", file.parent().unwrap().display());
        all.push_str(&format!("# {name}\n{}\n\n", config.notes().join("\n").replace(&folder, "")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_traces_need_is_refused_for_traces_only_too() {
    let load = |yaml: &str| {
        let configs = vec![GOOD.into(), format!("yaml:{yaml}")];
        let sources = Sources { configs, traces_only: true, ..Sources::default() };
        Config::load(&sources, &|_| None).map_err(|error| error.to_string())
    };
    for (yaml, finding) in [
        (
            "service::pipelines: {traces: ~, logs: {receivers: [a], exporters: [b]}}",
            "`receivers` is empty",
        ),
        ("service::pipelines::traces::receivers: [otlp, prometheus]", "refers to `prometheus`"),
        (
            "{receivers: {jaeger: }, service::pipelines::traces::receivers: [jaeger]}",
            "`jaeger` is not supported",
        ),
        (
            "{extensions: {oauth2client: }, exporters::otlphttp: {endpoint: 'http://x', auth: {authenticator: oauth2client}}, service: {extensions: [oauth2client], pipelines::traces::exporters: [otlphttp]}}",
            "extension `oauth2client` is not supported",
        ),
        (
            "service: {pipelines: {metrics: 5}, extensions: x}",
            "`service.extensions`: expected a list",
        ),
        ("{receivers: 7, service::pipelines: [metrics]}", "`service.pipelines`: expected a map"),
    ] {
        let error = load(yaml).err().unwrap_or_default();
        assert!(error.contains(finding), "{yaml}: {error}");
    }
}

#[test]
fn what_the_collector_prints_of_itself_is_read() {
    let over = |yaml: &str| load(&[GOOD, &format!("yaml:{yaml}")], &[]);
    for yaml in [
        "processors::memory_limiter: {check_interval: 1s, limit_mib: 400, garbage_collector: {}, max_gc_interval_when_soft_limited: 30s, min_gc_interval_when_soft_limited: 10000ms}",
        "processors::attributes::actions: [{key: a, action: insert, value: b, default_value: ~, from_attribute: '', from_context: '', converted_type: '', pattern: ''}]",
        "extensions::health_check: {transport: tcp, use_v2: false, http: ~, grpc: ~, keepalive: {idle_timeout: 1m0s}, check_collector_pipeline: {enabled: false, interval: 5m, exporter_failure_threshold: 5}}",
        "exporters::otlphttp: {endpoint: 'http://x', headers: [{name: a, value: b}]}",
        "exporters::debug: {sampling_initial: 2, sampling_thereafter: 1, use_internal_logger: true}",
        "service::telemetry: {logs: {sampling: {enabled: true, tick: 10s, initial: 10, thereafter: 100}}}",
    ] {
        assert!(over(yaml).is_ok(), "{yaml}: {:?}", over(yaml).err());
    }
    for (yaml, finding) in [
        (
            "processors::attributes::actions: [{key: a, action: insert, from_context: auth.subject}]",
            "`from_context` knows of `auth.` only `auth.username`",
        ),
        (
            "exporters::otlphttp: {endpoint: 'http://x', headers: [{name: a, text: b}]}",
            "unknown key `text`",
        ),
        (
            "exporters::otlphttp: {endpoint: 'http://x', retry_on_failure: {max_elapsed_time: 100ms}}",
            "must not be less than `initial_interval`",
        ),
        ("processors::batch::timeout: ~", "the Collector would silently use zero"),
        (
            "extensions::health_check::use_v2: true",
            "`extensions.health_check.use_v2`: not supported",
        ),
    ] {
        let error = over(yaml).unwrap_err();
        assert!(error.contains(finding), "{yaml}: {error}");
    }
}

#[test]
fn what_has_no_effect_is_taken_and_said() {
    let notes = |yaml: &str| {
        let config = load(&[GOOD, &format!("yaml:{yaml}")], &[]);
        config.unwrap_or_else(|error| panic!("{yaml}: {error}")).notes().join("\n")
    };
    const METADATA: &str = "receivers::otlp::protocols::http::include_metadata: true";
    let reading = |processors: &str| {
        format!(
            "processors::batch: {{}}, processors::attributes::actions: [{{key: a, action: insert, from_context: metadata.x-tenant}}], service::pipelines::traces::processors: {processors}"
        )
    };
    for (yaml, note) in [
        (METADATA.to_owned(), "keeps what nothing in this config reads"),
        (format!("{{{}}}", reading("[attributes]")), "which no receiver of its pipelines keeps"),
        (format!("{{{METADATA}, {}}}", reading("[batch, attributes]")), "put it in front"),
        (
            "receivers::otlp::protocols::http::cors: {allowed_headers: [x-team]}".to_owned(),
            "names no `allowed_origins`",
        ),
        ("exporters::otlphttp: {endpoint: 'http://x', headers: {a: b}}".to_owned(), ""),
    ] {
        let found = notes(&yaml);
        assert!(found.contains(note), "{yaml}: {found}");
    }
    let found = notes(&format!("{{{METADATA}, {}}}", reading("[attributes, batch]")));
    assert_eq!(found, "");
}

#[test]
fn a_sampler_stands_in_front_of_a_connector_and_not_behind_it() {
    let pipelines = |front: &str, behind: &str| {
        let yaml = format!(
            "yaml:{{processors: {{probabilistic_sampler: {{sampling_percentage: 10}}}}, connectors: {{datadog: }}, service: {{pipelines: {{traces: {{receivers: [otlp], processors: {front}, exporters: [datadog]}}, traces/2: {{receivers: [datadog], processors: {behind}, exporters: [debug]}}}}}}}}"
        );
        load(&[GOOD, &yaml], &[])
    };
    assert!(pipelines("[probabilistic_sampler]", "[]").is_ok());
    let error = pipelines("[]", "[probabilistic_sampler]").unwrap_err();
    assert!(error.contains("`probabilistic_sampler` stands behind a connector"), "{error}");
    for wrong in ["-1", "1e-20", ".nan"] {
        let setting = format!("processors.probabilistic_sampler.sampling_percentage={wrong}");
        assert!(load(&[GOOD], &[&setting]).is_err(), "{wrong}");
    }
}

#[test]
fn policies_of_tail_sampling_are_checked_one_by_one() {
    let policies = |policies: &str| {
        let setting = format!("processors.tail_sampling={{policies: [{policies}]}}");
        load(&[GOOD], &[&setting])
    };
    const ALL: &str = "{name: all, type: always_sample}";
    // As the Collector prints one, with all that it is not.
    assert!(policies(&format!("{ALL}, {{name: x, type: not, latency: {{threshold_ms: 0}}, composite: {{policy_order: []}}, not: {{not_sub_policy: {{name: y, type: latency, latency: {{threshold_ms: 5}}, ottl_condition: {{error_mode: '', span: []}}}}}}, and: {{and_sub_policy: []}}}}")).is_ok());
    for (wrong, place, problem) in [
        ("", "policies`", "is empty"),
        ("{type: always_sample}", "policies.0.name`", "is missing"),
        (&format!("{ALL}, {ALL}"), "policies.1.name`", "is the name of a policy before it"),
        ("{name: x}", "policies.0.type`", "is missing"),
        ("{name: x, type: latencies}", "policies.0.type`", "`latency`"),
        ("{name: x, type: ottl_condition}", "policies.0.type`", "is not supported"),
        ("{name: x, type: status_code}", "status_code.status_codes`", "is empty"),
        (
            "{name: x, type: status_code, status_code: {status_codes: [FAILED]}}",
            "status_codes.0`",
            "`ERROR`",
        ),
        (
            "{name: x, type: latency, status_code: {status_codes: [OK]}}",
            "policies.0.status_code`",
            "joined by `and`",
        ),
        (
            "{name: x, type: numeric_attribute, numeric_attribute: {key: a}}",
            "numeric_attribute`",
            "needs `min_value`",
        ),
        (
            "{name: x, type: string_attribute, string_attribute: {key: a, values: ['('], enabled_regex_matching: true}}",
            "values.0`",
            "regular expression",
        ),
        (
            "{name: x, type: and, and: {and_sub_policy: [{name: y, type: drop}]}}",
            "and_sub_policy.0.type`",
            "cannot stand here",
        ),
        ("{name: x, type: not}", "not.not_sub_policy`", "is empty"),
        (
            "{name: x, type: drop, drop: {drop_sub_policy: [{name: y, type: always_sample}]}}",
            "policies`",
            "`drop` policies only",
        ),
        (
            "{name: x, type: composite, composite: {max_total_spans_per_second: 5, policy_order: [z, y], composite_sub_policy: [{name: y, type: always_sample}, {name: z, type: always_sample}]}}",
            "composite.policy_order`",
            "the Collector goes",
        ),
        (
            "{name: x, type: composite, composite: {max_total_spans_per_second: 5, composite_sub_policy: [{name: y, type: always_sample}], rate_allocation: [{policy: no, percent: 5}]}}",
            "rate_allocation.0.policy`",
            "is not a policy",
        ),
    ] {
        let error = policies(wrong).unwrap_err();
        let found = error.lines().any(|line| line.contains(place) && line.contains(problem));
        assert!(found, "{wrong}: {place}: {problem}\n{error}");
    }
    for setting in
        ["num_traces=0", "sampling_strategy=span-ingest", "tail_storage=x", "num_shards=4"]
    {
        let (key, value) = setting.split_once('=').unwrap();
        let setting = format!("processors.tail_sampling={{{key}: {value}, policies: [{ALL}]}}");
        assert!(load(&[GOOD], &[&setting]).unwrap_err().contains(key), "{setting}");
    }
    let behind = "yaml:{processors: {tail_sampling: {policies: [{name: all, type: always_sample}]}}, connectors: {datadog: }, service: {pipelines: {traces: {exporters: [datadog]}, traces/2: {receivers: [datadog], processors: [tail_sampling], exporters: [debug]}}}}";
    assert!(load(&[GOOD, behind], &[]).unwrap_err().contains("stands behind a connector"));
}

#[test]
fn the_choice_of_spans_is_checked_with_the_processors_that_have_it() {
    let span = |settings: &str| load(&[GOOD], &[&format!("processors.span={{{settings}}}")]);
    let attributes = |settings: &str| {
        let setting =
            format!("processors.attributes={{actions: [{{key: a, action: delete}}], {settings}}}");
        load(&[GOOD], &[&setting])
    };
    assert!(span("name: {from_attributes: [a]}").is_ok());
    assert!(attributes("include: {match_type: regexp, regexp: {cacheenabled: true}, services: [a], log_bodies: []}").is_ok());
    for (wrong, place, problem) in [
        ("include: {match_type: strict}", "include`", "names no property"),
        ("include: {services: [a]}", "include.match_type`", "is missing"),
        (
            "exclude: {match_type: regexp, span_names: ['(']}",
            "exclude.span_names.0`",
            "regular expression",
        ),
        (
            "exclude: {match_type: strict, span_kinds: [SERVER]}",
            "exclude.span_kinds.0`",
            "`SPAN_KIND_SERVER`",
        ),
        (
            "include: {match_type: regexp, attributes: [{key: a, value: 5}]}",
            "attributes.0.value`",
            "put it in quotes",
        ),
        (
            "include: {match_type: strict, services: [a], log_bodies: [b]}",
            "include.log_bodies`",
            "does not apply to spans",
        ),
    ] {
        for error in [attributes(wrong), span(&format!("status: {{code: Ok}}, {wrong}"))] {
            let error = error.unwrap_err();
            let found = error.lines().any(|line| line.contains(place) && line.contains(problem));
            assert!(found, "{wrong}: {place}: {problem}\n{error}");
        }
    }
    for (wrong, problem) in [
        ("", "changes nothing"),
        ("name: {to_attributes: {rules: ['(a)']}}", "group without a name"),
        ("name: {to_attributes: {rules: [a]}}", "no named group"),
        ("status: {code: fine}", "`Ok`"),
        ("status: {code: Ok, description: d}", "`code: Error` only"),
    ] {
        let error = span(wrong).unwrap_err();
        assert!(error.contains(problem), "{wrong}: {problem}\n{error}");
    }
}

#[test]
fn all_findings_of_one_component_are_reported_at_once() {
    // Of a wrong shape, unknown, not supported, and inconsistent; none hides another, and none is said twice.
    let exporter = "exporters.datadog={api: {key: 'a b', site: 'https://x', kye: 1}, traces: {endpoint: 'localhost:8126', ignore_resources: ['(', [], 'b', ')'], span_name_as_resource_name: maybe}, timeout: 0s, metrics: [], host_metadata: {reporter_period: 1m, hostname_source: me}, sending_queue: {queue_size: many, num_consumers: 0}}";
    let error = load(&[GOOD], &[exporter]).unwrap_err();
    let found = |path: &str| {
        let path = format!("`exporters.datadog.{path}`: ");
        error.lines().filter(|line| line.contains(&path)).count()
    };
    for path in [
        "api",
        "api.key",
        "api.site",
        "traces.endpoint",
        "traces.ignore_resources.0",
        "traces.ignore_resources.1",
        "traces.ignore_resources.3",
        "traces.span_name_as_resource_name",
        "timeout",
        "metrics",
        "host_metadata.reporter_period",
        "host_metadata.hostname_source",
        "sending_queue.queue_size",
        "sending_queue.num_consumers",
    ] {
        assert_eq!(found(path), 1, "{path}\n{error}");
    }
    assert_eq!(error.lines().count(), 1 + 14, "{error}");
    // What is missing since it was wrong is not reported as missing.
    let error = load(&[GOOD], &["receivers.otlp={protocols: {grcp: }}"]).unwrap_err();
    assert_eq!(error.lines().count(), 2, "{error}");
    let error = load(&[GOOD], &["processors.span={status: {cod: Ok}}"]).unwrap_err();
    assert_eq!(error.lines().count(), 2, "{error}");
    // No word is empty.
    let policy = "processors.tail_sampling={policies: [{name: a, type: nosuch}]}";
    let error = load(&[GOOD], &[policy]).unwrap_err();
    assert!(error.contains("known are `always_sample`, "), "{error}");
}

#[test]
fn notes_say_where_processors_do_not_do_what_a_config_may_expect() {
    let notes = |processors: &str, order: &str, exporter: &str| {
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{batch: , {processors}}}, exporters: {{otlphttp: {{endpoint: 'http://x', sending_queue: {exporter}}}}}, extensions: {{file_storage: {{directory: /tmp}}}}, service: {{extensions: [file_storage], pipelines: {{traces: {{receivers: [otlp], processors: [{order}], exporters: [otlphttp]}}}}}}}}"
        );
        let sources = Sources { configs: vec![config], ..Sources::default() };
        Config::check(&sources, &|_| None).unwrap()
    };
    let group =
        |order: &str, exporter: &str| notes("groupbytrace: {num_workers: 4}", order, exporter);
    let found = group("groupbytrace", "{}");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("num_workers`: changes nothing here"), "{found:?}");
    let found = group("groupbytrace", "{storage: file_storage, wait_for_result: true}");
    assert_eq!(found.len(), 3, "{found:?}");
    for key in ["storage", "wait_for_result"] {
        let note =
            format!("`sending_queue.{key}` of the exporter `otlphttp` holds from then on only");
        assert!(found.iter().any(|line| line.contains(&note)), "{key}: {found:?}");
    }
    let pods = |order: &str| notes("k8s_attributes: ", order, "{}");
    assert_eq!(pods("k8s_attributes, batch"), [""; 0]);
    let found = pods("batch, k8s_attributes");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`k8s_attributes` stands behind `batch`"), "{found:?}");
    let by_uid = "k8s_attributes: {pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.uid}]}]}";
    assert_eq!(notes(by_uid, "batch, k8s_attributes", "{}"), [""; 0]);
    // A variable that is set where it runs.
    let found =
        notes("k8s_attributes: {filter: {node_from_env_var: NODE}}", "k8s_attributes", "{}");
    assert!(found[0].contains("`NODE` is not set"), "{found:?}");
}

#[test]
fn detectors_are_checked_for_what_they_find() {
    let detection =
        |settings: &str| load(&[GOOD], &[&format!("processors.resource_detection={{{settings}}}")]);
    assert!(detection("detectors: [env, system, docker, k8snode, k8s_api, ec2, ecs, eks, lambda], override: false, retry: {enabled: true, max_interval: 30s}, refresh_interval: 0s, max_idle_conns: 100").is_ok());
    assert!(load(&[GOOD], &["processors.resourcedetection/x={timeout: 2s}"]).is_ok());
    for (wrong, problem) in [
        ("detectors: []", "is empty"),
        ("detectors: [gcp]", "`ec2`"),
        ("timeout: 0s", "must be more than zero"),
        ("refresh_interval: 1h", "once, at the start"),
        ("fail_on_missing_metadata: true", "a start never fails"),
        ("ec2: {tags: [a]}", "tags_from_imds"),
        ("ec2: {tags: ['('], tags_from_imds: true}", "not a regular expression"),
        ("system: {resource_attributes: {host.ip: {enabled: true}}}", "is not detected"),
        ("eks: {resource_attributes: {k8s.cluster.name: {enabled: true}}}", "is not detected"),
        ("system: {hostname_sources: [cname]}", "`dns`"),
    ] {
        let error = detection(wrong).unwrap_err();
        assert!(error.contains(problem), "{wrong}: {problem}\n{error}");
    }
    // What is off need not be known.
    assert!(detection("system: {resource_attributes: {host.ip: {enabled: false}}}").is_ok());
}

const GOOD: &str = "yaml:{receivers: {otlp: {protocols: {grpc: }}}, exporters: {debug: }, service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}}";

#[test]
fn several_configs_are_merged_maps_by_key_and_lists_as_a_whole() {
    let over = "yaml:service::pipelines::traces: {exporters: [debug/second]}";
    assert!(load(&[GOOD, over], &[]).unwrap_err().contains("refers to `debug/second`"));
    assert!(load(&[GOOD, over, "yaml:exporters::debug/second::verbosity: detailed"], &[]).is_ok());
    assert!(load(&[GOOD, over], &["exporters.debug/second.verbosity=detailed"]).is_ok());
}

#[test]
fn lists_of_components_are_joined_if_the_gate_says_so() {
    let over = "yaml:{exporters: {debug/second: }, service: {pipelines: {traces: {exporters: [debug, debug/second]}}}}";
    let sources = Sources {
        configs: vec![GOOD.into(), over.into()],
        settings: vec!["service.pipelines.traces.exporters=[debug/third]".into()],
        feature_gates: vec!["confmap.enableMergeAppendOption".into()],
        ..Sources::default()
    };
    // The third is reported as missing, which also says where it stands in the joined list.
    let error = Config::load(&sources, &|_| None).unwrap_err().to_string();
    assert!(
        error.contains("`service.pipelines.traces.exporters.2`: refers to `debug/third`"),
        "{error}"
    );
    assert!(!error.contains("twice"), "{error}");
}

#[test]
fn a_check_asks_for_no_secret_and_for_everything_else() {
    let check = |yaml: &str| {
        let sources = Sources { configs: vec![format!("yaml:{yaml}")], ..Sources::default() };
        Config::check(&sources, &|_| None).map_err(|error| error.to_string())
    };
    let config = |exporter: &str| {
        format!(
            "{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{{exporter}}}, service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [e]}}}}}}}}"
        )
        .replace("[e]", &format!("[{}]", exporter.split(':').next().unwrap()))
    };
    let notes = check(&config("otlphttp: {endpoint: 'http://x', headers: {authorization: 'Bearer ${TOKEN}'}, tls: {cert_pem: c, key_pem: '${env:PEM}'}}")).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0]
            .contains("`exporters.otlphttp.headers.authorization`: environment variable `TOKEN`")
    );
    assert!(notes[1].contains("`exporters.otlphttp.tls.key_pem`: environment variable `PEM`"));
    for (exporter, finding) in [
        (
            "datadog: {api: {key: '${KEY}', site: '${SITE}'}}",
            "`exporters.datadog.api.site`: is not a Datadog site",
        ),
        (
            "datadog: {api: {key: '${KEY}', site: '${SITE}'}}",
            "environment variable `SITE` is not set here",
        ),
        ("datadog: {api: {key: '${KEY}', fail_on_invalid_key: '${FAIL}'}}", "`FAIL` is not set"),
        ("datadog: {api: {key: '${KEY}'}, timeout: '${TIMEOUT}'}", "`TIMEOUT` is not set"),
        ("datadog: {api: {key: '${KEY}'}, compression: '${HOW}'}", "`HOW` is not set"),
        ("datadog: {api: {key: '${KEY}', sit: x}}", "unknown key `sit`"),
        ("datadog: {api: {key: '${vault:KEY}'}}", "unknown scheme `vault`"),
        ("datadog: {api: {key: 'a b'}}", "has a character that no API key has"),
    ] {
        let error = check(&config(exporter)).unwrap_err();
        assert!(error.contains(finding), "{exporter}: {error}");
    }
}

/// A config with this exporter, called `e` in its pipeline.
fn with_exporter(exporter: &str) -> String {
    format!(
        "yaml:{{exporters: {{{exporter}}}, service: {{pipelines: {{traces: {{exporters: [{}]}}}}}}}}",
        exporter.split(':').next().unwrap()
    )
}

#[test]
fn a_variable_that_is_not_set_is_nothing_and_reported_and_a_secret_must_be_set() {
    let sources = |exporter: &str| Sources {
        configs: vec![GOOD.into(), with_exporter(exporter)],
        ..Sources::default()
    };
    let load = |exporter: &str| {
        let config = Config::load(&sources(exporter), &|_| None);
        config.map(|config| config.notes().to_vec()).map_err(|error| error.to_string())
    };
    let notes =
        load("datadog: {api: {key: k}, hostname: '${env:HOST}', traces: '${TRACES}'}").unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let reported = "`exporters.datadog.hostname`: environment variable `HOST` is not set; it is taken as empty, as the Collector does";
    assert!(notes[0].ends_with(reported), "{notes:?}");
    // What is left is checked as it is.
    let error = load("otlphttp: {endpoint: 'http://${NO_HOST}:4318'}").unwrap_err();
    assert!(error.contains("`exporters.otlphttp.endpoint`: "), "{error}");
    assert!(error.contains("variable `NO_HOST` is not set; it is taken as empty"), "{error}");
    for (exporter, finding) in [
        (
            "datadog: {api: {key: '${KEY}'}}",
            "`exporters.datadog.api.key`: environment variable `KEY` is not set; set it",
        ),
        (
            "otlphttp: {endpoint: 'http://x', headers: {a: 'Bearer ${KEY}'}}",
            "`exporters.otlphttp.headers.a`: environment variable `KEY` is not set; set it",
        ),
        (
            "datadog: {api: {key: k}, timeout: '${T}'}",
            "`exporters.datadog.timeout`: environment variable `T` is not set; set it",
        ),
    ] {
        let error = load(exporter).unwrap_err();
        assert!(error.contains(finding), "{exporter}: {error}");
        assert_eq!(error.lines().count(), 2, "reported once: {error}");
    }
}

#[test]
fn values_are_read_as_the_collector_reads_them() {
    let over = |yaml: &str| load(&[GOOD, &format!("yaml:{yaml}")], &[]);
    for yaml in [
        "service::telemetry::logs::level: INFO",
        "service::telemetry::logs::level: warning",
        "service::telemetry::metrics::level: Detailed",
        "exporters::debug::verbosity: Detailed",
        "processors: {resource: {attributes: [{key: a, value: b, action: UPSERT}]}}",
        "processors: {batch: ~, batch/2: {send_batch_size: 1_000, send_batch_max_size: 0o2000}}",
        "processors: {batch: {send_batch_size: 8192}}\n---\n",
        "service::pipelines::traces: {receivers: [otlp, otlp], exporters: [debug, debug]}",
    ] {
        assert!(over(yaml).is_ok(), "{yaml}: {:?}", over(yaml).err());
    }
    // Octal, as by the Collector's reader: 062 is 50.
    let error =
        over("processors: {batch: {send_batch_size: 062, send_batch_max_size: 049}}").unwrap_err();
    assert!(error.contains("(49 < 50)"), "{error}");
    let error = over("processors: {batch: }\n---\nreceivers: {}").unwrap_err();
    assert!(error.contains("a second YAML document begins here"), "{error}");
}

#[test]
fn keys_that_ask_for_nothing_are_taken_with_values_that_do_not() {
    let over = |yaml: &str| load(&[GOOD, &format!("yaml:{yaml}")], &[]);
    let grpc = "receivers::otlp::protocols::grpc";
    for yaml in [
        format!("{grpc}: {{transport: tcp, include_metadata: false, auth: ~, read_buffer_size: 524288, write_buffer_size: 0, middlewares: [], keepalive: {{enforcement_policy: {{}}}}}}"),
        "receivers::otlp::protocols::http: {cors: ~, auth: null, include_metadata: false, keep_alives_enabled: true, idle_timeout: 1m0s, read_timeout: 0s, write_timeout: 30s, keepalive: {idle_timeout: 1m}, response_headers: {}, metrics_url_path: /v1/metrics}".into(),
        "exporters::otlphttp: {endpoint: 'http://x', encoding: proto, disable_keep_alives: false, force_attempt_http2: true, idle_conn_timeout: 1m30s, cookies: {enabled: false}, compression_params: {level: 0}, max_idle_conns: 100, keepalive: {max_idle_conns: 100, max_idle_conns_per_host: 0, idle_conn_timeout: 90s}}".into(),
        "service::telemetry: {logs: {development: false, output_paths: [stderr], initial_fields: {}}, traces: ~, resource: {}}".into(),
    ] {
        assert!(over(&yaml).is_ok(), "{yaml}: {:?}", over(&yaml).err());
    }
    for (yaml, key) in [
        (format!("{grpc}: {{transport: unix}}"), "transport"),
        (
            "receivers::otlp::protocols::http: {keep_alives_enabled: false}".into(),
            "keep_alives_enabled",
        ),
        ("receivers::otlp::protocols::http::keepalive: {idle_timeout: 5m}".into(), "keepalive"),
        ("exporters::otlphttp: {endpoint: 'http://x', encoding: json}".into(), "encoding"),
        (
            "exporters::otlphttp: {endpoint: 'http://x', keepalive: {max_idle_conns: 5}}".into(),
            "keepalive",
        ),
        ("service::telemetry::logs::output_paths: [stdout]".into(), "output_paths"),
    ] {
        let error = over(&yaml).unwrap_err();
        assert!(error.contains(&format!("{key}`: not supported")), "{yaml}: {error}");
    }
}

#[test]
fn all_that_is_wrong_is_reported_at_once() {
    let over = "yaml:\nreceivers::otlp::protocols::grpc: {endpont: x, max_recv_msg_size_mib: 50.7, transport: unix, tls: {cert: y}}\nprocessors:\n  batch:\n    tiemout: 5s\n    timeout: 5\n    send_batch_size: ~\n  attributes: {actions: [{key: a, action: upsrt}, {key: b}]}\nexporters::debug: {verbosty: x}\n";
    let error = load(&[GOOD, over], &[]).unwrap_err();
    for finding in [
        "`receivers.otlp.protocols.grpc`: unknown key `endpont`; did you mean `endpoint`?",
        "`receivers.otlp.protocols.grpc.max_recv_msg_size_mib`: expected an integer, found the number `50.7`; the Collector would silently use 50",
        "`receivers.otlp.protocols.grpc.transport`: not supported",
        "`receivers.otlp.protocols.grpc.tls`: unknown key `cert`",
        "`processors.batch`: unknown key `tiemout`; did you mean `timeout`?",
        "`processors.batch.timeout`: a duration has a unit; write for example `5s` (the Collector would silently read it as 5 ns)",
        "`processors.batch.send_batch_size`: expected an integer, found nothing (null); the Collector would silently use zero",
        "`processors.attributes.actions.0.action`: unknown value `upsrt`; did you mean `upsert`?",
        "`exporters.debug`: unknown key `verbosty`",
    ] {
        assert_eq!(error.matches(finding).count(), 1, "{finding}\n{error}");
    }
}

#[test]
fn lists_maps_and_files_come_from_variables_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123\n").unwrap();
    let yaml = format!(
        "yaml:{{receivers: '${{env:RECEIVERS}}', exporters: {{datadog: {{api: {{key: '${{file:{}}}'}}, host_metadata: {{tags: '${{env:TAGS}}'}}, hostname: '${{env:NAME}}'}}}}, service: {{pipelines: {{traces: {{receivers: [otlp], exporters: '${{env:EXPORTERS}}'}}}}}}}}",
        file.path().display()
    );
    let environment = |name: &str| {
        let value = match name {
            "RECEIVERS" => "otlp:\n  protocols:\n    grpc:\n",
            "TAGS" => "[env:prod, 'team:${env:TEAM}']",
            "TEAM" => "shop",
            "EXPORTERS" => "[datadog]",
            // A list by its looks, and text where text is wanted.
            "NAME" => "[host]",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let sources = Sources { configs: vec![yaml], ..Sources::default() };
    let config = format!("{:?}", Config::load(&sources, &environment).unwrap());
    assert!(config.contains(r#"tags: ["env:prod", "team:shop"]"#), "{config}");
    assert!(config.contains(r#"hostname: "[host]""#), "{config}");
}

#[test]
fn what_would_fail_at_the_start_is_found_before() {
    let exporter = |settings: &str| {
        let over = format!(
            "yaml:exporters::debug/x: \nexporters::otlphttp: {{endpoint: 'http://x', {settings}}}"
        );
        load(&[GOOD, &over], &[]).map(drop)
    };
    assert_eq!(exporter("headers: {X-Scope: a}"), Ok(()));
    let error = exporter("headers: {'a b': c}").unwrap_err();
    assert!(
        error.contains("`exporters.otlphttp.headers.a b`: is not the name of a header"),
        "{error}"
    );
    let error = exporter("headers: {token: \"abc\\n\"}").unwrap_err();
    assert!(error.contains("`exporters.otlphttp.headers.token`: has a character"), "{error}");
    assert!(!error.contains("abc"), "{error}");
    let twice =
        "yaml:{extensions: {health_check: }, service: {extensions: [health_check, health_check]}}";
    let error = load(&[GOOD, twice], &[]).unwrap_err();
    assert!(error.contains("`service.extensions.1`: `health_check` is there twice"), "{error}");
}

#[test]
fn sources_that_cannot_be_read_are_named() {
    let message = |configs: &[&str], settings: &[&str]| load(configs, settings).unwrap_err();
    assert_eq!(
        message(&["/no/such/file.yaml"], &[]),
        "cannot read config file `/no/such/file.yaml`: No such file or directory (os error 2); pass an existing file with `--config`"
    );
    assert_eq!(
        message(&["env:NO_SUCH_VARIABLE"], &[]),
        "config `env:NO_SUCH_VARIABLE`: environment variable `NO_SUCH_VARIABLE` is not set"
    );
    assert_eq!(
        message(&["https://example.org/x.yaml"], &[]),
        "config `https://example.org/x.yaml` has the unknown scheme `https`; known are `file:`, `env:` and `yaml:`"
    );
    assert_eq!(message(&[], &[]), "no config was given; pass one with `--config FILE`");
    assert_eq!(message(&[GOOD], &["a"]), "`--set a`: write `--set path.to.key=value`");
}

#[test]
fn a_key_that_came_from_a_variable_is_never_shown() {
    let yaml = "yaml:{exporters: {datadog: {api: {key: x}, timeout: \"${env:datadog_api_key}\"}}, service: }";
    let message = load(&[yaml], &[]).unwrap_err();
    assert!(!message.contains("0123"), "{message}");
    let config =
        load(&[GOOD, "yaml:exporters::datadog::api::key: ${datadog_api_key}"], &[]).unwrap();
    assert!(!format!("{config:?}").contains("0123"));
}
