//! Reports of `doctor` about a machine.

use std::process::{Command, Stdio};

use serde_json::json;
use stub_server::StubServer;
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{any, path},
};

use crate::support::{TRACECHECK, ran, root, tracecheck};

#[test]
fn doctor_reports_what_is_missing_and_never_a_key() {
    tracecheck(&["doctor", "--env", "process"])
        .expect_code(0)
        .expect_stdout("process: can be used");
    let doctor = |words: &[&str]| {
        let mut command = Command::new(TRACECHECK);
        command.arg("doctor").args(words).current_dir(root()).stdin(Stdio::null());
        command
            .env("PATH", "/nowhere")
            .env("HOME", "/nowhere")
            .env("KUBECONFIG", "/nowhere/config");
        command.env("DD_API_KEY", "0123456789abcdef").env_remove("DD_APP_KEY");
        ran(command.env("DOCKER_HOST", "tcp://127.0.0.1:1").output())
    };
    for env in ["docker", "kind", "cluster", "eks", "datadog"] {
        let reported = format!("{env}: cannot be used");
        let ran = doctor(&["--env", env]).expect_code(3).expect_stdout(&reported);
        assert!(!ran.stdout.contains("0123456789abcdef"), "{}", ran.stdout);
    }
    // What is not asked for by name may be missing.
    let all = doctor(&["--format", "json"]).expect_code(0).stdout;
    let mut lines =
        all.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let eksctl = lines.find(|line| line["what"] == "eksctl").unwrap();
    assert_eq!(eksctl["outcome"], "missing");
    assert!(eksctl["remedy"].as_str().unwrap().contains("eksctl.io"), "{eksctl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_of_the_operator_what_a_run_would_end_with() {
    let server = StubServer::start().await;
    let version = json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    let allowed = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "metadata": {}, "spec": {}, "status": { "allowed": true },
    });
    let none = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] });
    let core =
        json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] });
    for (at, answer) in [
        ("/apis", none),
        ("/api", core),
        ("/version", version),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", allowed),
    ] {
        let answer = ResponseTemplate::new(200).set_body_json(answer);
        Mock::given(path(at)).respond_with(answer).mount(&server).await;
    }
    // As an API server answers for what it does not have.
    let not_found = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404,
    });
    let not_found = ResponseTemplate::new(404).set_body_json(not_found);
    Mock::given(any()).respond_with(not_found).with_priority(u8::MAX).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "stub", "users": [],
        "clusters": [{ "name": "stub", "cluster": { "server": server.uri() } }],
        "contexts": [{ "name": "stub", "context": { "cluster": "stub", "user": "" } }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let asked = |words: &'static [&'static str]| {
        let mut command = Command::new(TRACECHECK);
        command.args(words).current_dir(root()).stdin(Stdio::null());
        command.env("KUBECONFIG", &kubeconfig);
        tokio::task::spawn_blocking(move || ran(command.output()))
    };
    let missing = "the OpenTelemetry operator is not installed";
    let operator = &["doctor", "--env", "cluster", "--collector-install", "operator"];
    asked(operator)
        .await
        .unwrap()
        .expect_code(3)
        .expect_stdout("cluster: cannot be used")
        .expect_stdout(missing);
    let run = &[
        "run",
        "scenarios/happy-path.yaml",
        "--env",
        "cluster",
        "--image",
        "tracecheck:1",
        "--collector-install",
        "operator",
    ];
    asked(run).await.unwrap().expect_code(3).expect_stderr(missing);
    // Where the collector is installed otherwise, it is not needed.
    asked(&["doctor", "--env", "cluster"])
        .await
        .unwrap()
        .expect_code(0)
        .expect_stdout("cluster: can be used")
        .expect_stdout(missing);
}
