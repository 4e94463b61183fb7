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
        ("datadog: {api: {key: '${KEY}', site: '${SITE}'}}", "`SITE` is not set; set it"),
        ("datadog: {api: {key: '${KEY}', fail_on_invalid_key: '${FAIL}'}}", "`FAIL` is not set"),
        ("datadog: {api: {key: '${KEY}'}, timeout: '${TIMEOUT}'}", "`TIMEOUT` is not set"),
        ("datadog: {api: {key: '${KEY}'}, compression: '${HOW}'}", "`HOW` is not set"),
        ("datadog: {api: {key: '${KEY}'}, traces: '${TRACES}'}", "`TRACES` is not set"),
        ("datadog: {api: {key: '${KEY}', sit: x}}", "unknown key `sit`"),
        ("datadog: {api: {key: '${vault:KEY}'}}", "unknown scheme `vault`"),
        ("datadog: {api: {key: 'a b'}}", "has a character that no API key has"),
    ] {
        let error = check(&config(exporter)).unwrap_err();
        assert!(error.contains(finding), "{exporter}: {error}");
        assert!(!error.contains("`KEY`"), "{error}");
    }
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
