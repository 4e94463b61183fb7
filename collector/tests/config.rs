//! Configs of users: the good ones load, and each bad one gets a message that says what to do.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::path::{Path, PathBuf};

use collector::{Config, Sources};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 2, "no files");
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
fn a_variable_that_is_not_set_is_nothing_and_told_and_a_secret_must_be_set() {
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
    let told = "`exporters.datadog.hostname`: environment variable `HOST` is not set; it is taken as empty, as the Collector does";
    assert!(notes[0].ends_with(told), "{notes:?}");
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
        assert_eq!(error.lines().count(), 2, "told once: {error}");
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
        "receivers::otlp::protocols::http: {cors: ~, auth: null, include_metadata: false, keep_alives_enabled: true, idle_timeout: 1m0s, read_timeout: 0s, write_timeout: 30s, response_headers: {}, metrics_url_path: /v1/metrics}".into(),
        "exporters::otlphttp: {endpoint: 'http://x', encoding: proto, disable_keep_alives: false, force_attempt_http2: true, idle_conn_timeout: 1m30s, cookies: {enabled: false}, compression_params: {level: 0}, max_idle_conns: 100}".into(),
        "service::telemetry: {logs: {development: false, output_paths: [stderr], initial_fields: {}}, traces: ~, resource: {}}".into(),
    ] {
        assert!(over(&yaml).is_ok(), "{yaml}: {:?}", over(&yaml).err());
    }
    for (yaml, key) in [
        (format!("{grpc}: {{transport: unix}}"), "transport"),
        (format!("{grpc}: {{include_metadata: true}}"), "include_metadata"),
        (
            "receivers::otlp::protocols::http: {keep_alives_enabled: false}".into(),
            "keep_alives_enabled",
        ),
        ("exporters::otlphttp: {endpoint: 'http://x', encoding: json}".into(), "encoding"),
        ("service::telemetry::logs::output_paths: [stdout]".into(), "output_paths"),
    ] {
        let error = over(&yaml).unwrap_err();
        assert!(error.contains(&format!("{key}`: not supported")), "{yaml}: {error}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let over = "yaml:\nreceivers::otlp::protocols::grpc: {endpont: x, max_recv_msg_size_mib: 50.7, transport: unix, tls: {cert: y}}\nprocessors:\n  batch:\n    tiemout: 5s\n    timeout: 5\n    send_batch_size: ~\n  attributes: {actions: [{key: a, action: upsrt}, {key: b}]}\nexporters::debug: {verbosty: x}\n";
    let error = load(&[GOOD, over], &[]).unwrap_err();
    for finding in [
        "`receivers.otlp.protocols.grpc`: unknown key `endpont`; did you mean `endpoint`?",
        "`receivers.otlp.protocols.grpc.max_recv_msg_size_mib`: expected an integer, found the number `50.7`; the Collector would take 50 without a word",
        "`receivers.otlp.protocols.grpc.transport`: not supported",
        "`receivers.otlp.protocols.grpc.tls`: unknown key `cert`",
        "`processors.batch`: unknown key `tiemout`; did you mean `timeout`?",
        "`processors.batch.timeout`: a duration has a unit; write for example `5s` (the Collector would take 5 ns without a word)",
        "`processors.batch.send_batch_size`: expected an integer, found nothing (null); the Collector would take zero without a word",
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
