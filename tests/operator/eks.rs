//! `--env eks` with the operator, as on EKS, up to a verdict: a stand-in for eksctl "makes" the cluster that is there.

use std::{
    path::Path,
    process::{Command, Output},
};

use kube::{Api, Client, api::ListParams};

use crate::{TRACECHECK, install};

const ROLE: &str = "arn:aws:iam::123456789012:role/aws-otel-collector";

/// Runs the program with an account that is a folder; gives what it said.
fn tracecheck(account: &Path, words: &[&str]) -> (Output, String) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracecheck"));
    command.args(words).current_dir(root).env("PATH", format!("{root}/tests/eks:{path}"));
    command
        .env("EKSCTL_STATE", account)
        .env("EKSCTL_KUBECONFIG", std::env::var("KUBECONFIG").unwrap());
    let output = command.env_remove("KUBECONFIG").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

/// Two systems, and so two namespaces whose collectors take the role.
pub(crate) fn two_systems_reach_their_verdicts() {
    let account = tempfile::tempdir().unwrap();
    let words = ["run", "scenarios", "--filter", "happy-path", "--filter", "one-service-name"];
    let eks = ["--env", "eks", "--yes", "--image", TRACECHECK];
    let (output, said) = tracecheck(account.path(), &[&words[..], &eks].concat());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("environment eks") && said.contains("2 passed"), "{said}");
    assert!(said.contains("eks: cluster `tracecheck` is deleted"), "{said}");
    assert!(!said.contains("can be taken in the namespace"), "{said}");
    assert!(!account.path().join("tracecheck.cluster").exists());
    let run = said.lines().find_map(|line| line.strip_prefix("run ")).unwrap();
    let run = run.split(':').next().unwrap();
    let policy = std::fs::read_to_string(account.path().join("aws-otel-collector.role")).unwrap();
    let account = format!("system:serviceaccount:tracecheck-{run}-*:aws-otel-collector");
    assert!(policy.contains("StringLike") && policy.contains(&account), "{policy}");
}

/// A system that stays: its collector is the operator's, with the role, and it goes with its cluster.
pub(crate) async fn a_system_stays(client: &Client) {
    let account = tempfile::tempdir().unwrap();
    let home = account.path().join("home").display().to_string();
    let state = ["--state-dir", &home];
    let up = ["up", "--env", "eks", "--yes", "--image", TRACECHECK];
    let (output, said) = tracecheck(account.path(), &[&up[..], &state].concat());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("environment eks"), "{said}");
    let run = said.split(", run ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let namespace = format!("tracecheck-{run}-0");
    let operated = install::api(
        client,
        "opentelemetry.io/v1beta1",
        "OpenTelemetryCollector",
        Some(&namespace),
    );
    assert_eq!(operated.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let accounts: Api<_> = install::api(client, "v1", "ServiceAccount", Some(&namespace));
    let collector = accounts.get("aws-otel-collector").await.unwrap();
    let annotations = collector.metadata.annotations.unwrap();
    assert_eq!(annotations["eks.amazonaws.com/role-arn"], ROLE);
    let (output, said) = tracecheck(account.path(), &[&["status"][..], &state].concat());
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (output, said) = tracecheck(account.path(), &[&["down"][..], &state].concat());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!account.path().join("tracecheck.cluster").exists());
    let left = install::api(client, "v1", "Namespace", None).get_opt(&namespace).await.unwrap();
    assert!(left.is_none(), "the system's namespace is left behind");
}
