//! Reports of `doctor` about a machine.

use std::process::{Command, Stdio};

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
