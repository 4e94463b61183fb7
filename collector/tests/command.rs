//! The program as users run it: arguments, output, signals and exit codes.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const YAML: &str = "yaml:{receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}, exporters: {debug: }, service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}}";

fn collector(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(args).env_clear();
    command
}

fn output(args: &[&str]) -> Output {
    collector(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Starts the collector and reads the line that says where it listens.
fn start(args: &[&str]) -> (Child, serde_json::Value) {
    let mut child = collector(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

/// Sends a signal and waits for the end.
fn end(mut child: Child, signal: &str) -> (Option<i32>, String) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    let status = child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (status.code(), log)
}

#[test]
fn it_says_where_it_listens_and_ends_well_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let (child, line) = start(&["--config", YAML]);
        let address = line["listening"]["otlp-http"].as_str().unwrap();
        std::net::TcpStream::connect(address).unwrap();
        let (code, log) = end(child, signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("shutting down"), "{log}");
    }
}

#[test]
fn a_wrong_config_ends_with_2_and_a_taken_port_with_1() {
    let wrong = output(&["--config", "/no/such.yaml"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).starts_with("error: cannot read config file `/no/such.yaml`"));
    assert_eq!(output(&["--no-such-flag"]).status.code(), Some(2));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let set = format!("receivers.otlp.protocols.http.endpoint={address}");
    let output = output(&["--config", YAML, "--set", &set]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: cannot listen on `{address}` (`receivers.otlp.protocols.http.endpoint`): Address already in use"
    );
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    assert!(output.stdout.is_empty(), "nothing is announced");
}

#[test]
fn validate_needs_no_network_and_runs_nothing() {
    let article = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config/good/article.yaml");
    let mut command = collector(&["validate", "--config", article.to_str().unwrap()]);
    let output = command.env("datadog_api_key", "x").output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn validate_needs_no_key_and_a_run_does() {
    let article = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config/good/article.yaml");
    let article = article.to_str().unwrap();
    let unset = format!(
        "{article}:19:12: `exporters.datadog.api.key`: environment variable `datadog_api_key` is not set"
    );
    let validated = output(&["validate", "--config", article]);
    let note = format!("note: {unset} here; set it where the config runs\n");
    assert_eq!((validated.status.code(), stderr(&validated)), (Some(0), note));
    let run = output(&["--config", article]);
    let error = format!("error: the config is not valid\n  {unset}; set it,");
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).starts_with(&error), "{}", stderr(&run));

    let empty = ["--config", article, "--set", "exporters.datadog.api.key="];
    let problem = "`exporters.datadog.api.key`: is not set; give Datadog's API key";
    let validated = output(&[&["validate"], &empty[..]].concat());
    assert_eq!(validated.status.code(), Some(0));
    let notes = stderr(&validated);
    assert!(notes.starts_with("note: ") && notes.contains(problem), "{notes}");
    let run = output(&empty);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains(problem), "{}", stderr(&run));

    let gate = output(&["validate", "--config", article, "--feature-gates=-pdata.useProtoPooling"]);
    assert_eq!(gate.status.code(), Some(0));
    assert!(stderr(&gate).starts_with("note: `--feature-gates`: `pdata.useProtoPooling` changes"));
}

#[test]
fn a_config_may_be_given_before_or_behind_the_subcommand() {
    let over = "exporters.debug.verbosity=loud";
    for args in [
        &["--config", YAML, "--set", over, "validate"][..],
        &["validate", "--config", YAML, "--set", over],
        &["--config", YAML, "validate", "--set", over],
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains("`exporters.debug.verbosity`"), "{}", stderr(&output));
    }
    assert_eq!(output(&["--config", YAML, "validate"]).status.code(), Some(0));
}

#[test]
fn a_config_is_printed_as_it_is_understood_and_without_secrets() {
    let exporter =
        "exporters.otlphttp={endpoint: 'http://x', timeout: 90s, headers: {token: '${TOKEN}'}}";
    let batch = "exporters.otlphttp.sending_queue.batch={max_size: 0x2710}";
    let args = ["print-config", "--config", YAML, "--set", exporter, "--set", batch];
    let print = |more: &[&str]| {
        let mut command = collector(&[&args[..], more].concat());
        let output = command.env("TOKEN", "a secret").output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&print(&[&["--format=json"], more].concat())).unwrap()
    };
    let understood = json(&[]);
    let http = &understood["exporters"]["otlphttp"];
    assert_eq!((&http["timeout"], &http["compression"]), (&"1m30s".into(), &"gzip".into()));
    assert_eq!(http["headers"]["token"], "[REDACTED]");
    assert_eq!(http["sending_queue"]["batch"]["max_size"], 10_000);
    assert_eq!(understood["service"]["pipelines"]["traces"]["receivers"][0], "otlp");
    let put_together = json(&["--mode=unredacted"]);
    let http = &put_together["exporters"]["otlphttp"];
    assert_eq!(
        (&http["headers"]["token"], &http["compression"]),
        (&"a secret".into(), &serde_json::Value::Null)
    );
    // What is printed is a config again.
    let printed = format!("yaml:{}", print(&[]));
    let again = output(&["print-config", "--format=json", "--config", &printed]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again, understood);
    let wrong =
        output(&["print-config", "--config", YAML, "--set", "exporters.debug.verbosity=loud"]);
    assert_eq!((wrong.status.code(), wrong.stdout.as_slice()), (Some(2), &b""[..]));
}

#[test]
fn pipelines_of_other_signals_are_left_out_where_that_is_asked_for() {
    let metrics = "service.pipelines.metrics={receivers: [otlp, hostmetrics], exporters: [debug]}";
    let args = ["validate", "--config", YAML, "--set", metrics];
    assert_eq!(output(&args).status.code(), Some(2));
    for flag in ["--traces-only", "--traces-only=true"] {
        let output = output(&[&args[..], &[flag]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let note = "`service.pipelines.metrics`: is left out, together with `hostmetrics`";
        assert!(stderr(&output).contains(note), "{}", stderr(&output));
    }
    assert_eq!(output(&[&args[..], &["--traces-only=false"]].concat()).status.code(), Some(2));
}

#[test]
fn components_are_listed_as_json() {
    let list: serde_json::Value = serde_json::from_slice(&output(&["components"]).stdout).unwrap();
    assert!(list["exporters"].as_array().unwrap().contains(&"datadog".into()), "{list}");
}

#[test]
fn the_version_is_reported_as_the_collector_reports_it() {
    for flag in ["--version", "-v", "-V"] {
        let output = output(&[flag]);
        let reported = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), reported.as_str()),
            (Some(0), concat!("collector ", env!("CARGO_PKG_VERSION"), "\n")),
            "{flag}"
        );
    }
}

/// Sends one span with this trace id as JSON; the status line.
fn send_span(address: &str, trace_id: u128) -> String {
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace_id:032x}","spanId":"0000000000000001","name":"n"}}]}}]}}]}}"#
    );
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.lines().next().unwrap_or_default().to_owned()
}

/// Behind a destination that nobody can reach, the queue is full; what processors still have then is lost, too.
#[test]
fn what_processors_cannot_hand_on_before_the_end_is_reported() {
    for processor in
        ["batch: {send_batch_size: 1, timeout: 0s}", "groupbytrace: {wait_duration: 10ms}"]
    {
        let (name, _) = processor.split_once(':').unwrap();
        let yaml = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, processors: {{{processor}}}, exporters: {{otlphttp: {{endpoint: 'http://127.0.0.1:1', sending_queue: {{queue_size: 1, num_consumers: 1}}}}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], processors: [{name}], exporters: [otlphttp]}}}}}}}}"
        );
        let (child, line) = start(&["--config", &yaml, "--shutdown-timeout", "500ms"]);
        for id in 1..=6 {
            let status = send_span(line["listening"]["otlp-http"].as_str().unwrap(), id);
            assert_eq!(status, "HTTP/1.1 200 OK", "{processor}");
        }
        let (code, log) = end(child, "TERM");
        assert_eq!(code, Some(1), "{log}");
        let reported =
            "error: 6 spans could not be sent within 500ms of shutting down; they are lost";
        assert!(log.contains(reported), "{processor}: {log}");
    }
}

#[test]
fn what_a_shutdown_cannot_send_is_reported_and_makes_the_exit_code_1() {
    // Nobody listens on port 1.
    let yaml = "yaml:{receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}, processors: {batch: }, exporters: {otlphttp: {endpoint: 'http://127.0.0.1:1'}}, service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [otlphttp]}}}}";
    let (child, line) = start(&["--config", yaml, "--shutdown-timeout", "500ms"]);
    let status = send_span(line["listening"]["otlp-http"].as_str().unwrap(), 1);
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (code, log) = end(child, "TERM");
    assert_eq!(code, Some(1), "{log}");
    let reported = "error: 1 spans could not be sent within 500ms of shutting down; they are lost";
    assert!(log.contains(reported), "{log}");
}

#[test]
fn spans_that_no_destination_takes_are_reported_in_the_log_but_not_each_time() {
    let yaml = "yaml:{receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}, exporters: {datadog: {api: {key: abc}, traces: {endpoint: 'http://127.0.0.1:1'}, metrics: {endpoint: 'http://127.0.0.1:1'}, host_metadata: {enabled: false}}}, service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [datadog]}}}}";
    let (child, line) = start(&["--config", yaml, "--shutdown-timeout", "10s"]);
    for _ in 0..9 {
        let status = send_span(line["listening"]["otlp-http"].as_str().unwrap(), 0);
        assert_eq!(status, "HTTP/1.1 200 OK");
    }
    let (code, log) = end(child, "TERM");
    assert_eq!(code, Some(0), "{log}");
    let reported = log.lines().filter(|line| line.contains("reason=\"zero_trace_id\"")).count();
    assert_eq!(reported, 1, "{log}");
}
