//! Systems that stay in a cluster, and a run in a cluster that a stand-in for eksctl "makes": it hands out this one.

use std::process::Stdio;

use crate::support::{Cluster, cluster, one_at_a_time, root};

/// Brings a system up; gives its run's id and its keeper's process id.
async fn up(cluster: &Cluster, home: &str) -> (String, String) {
    let words = ["up", "--env", "cluster", "--image", cluster.image(), "--state-dir", home];
    cluster.tracecheck(&words).await.expect_code(0);
    let status = ["status", "default", "--format", "json", "--state-dir", home];
    let status = cluster.tracecheck(&status).await.expect_code(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let run = status["system"]["run"].as_str().unwrap().to_owned();
    (run, status["system"]["keeper"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_stays_until_it_is_taken_down() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let home = tempfile::tempdir().unwrap();
    let home = home.path().display().to_string();
    let (run, _) = up(&cluster, &home).await;
    assert_eq!(cluster.namespaces_of(&run).await.len(), 1);
    let status = cluster.tracecheck(&["status", "--state-dir", &home]).await;
    status.expect_code(0).expect_stdout("system default: environment cluster");
    let down = cluster.tracecheck(&["down", "--state-dir", &home]).await;
    down.expect_code(0).expect_stdout("`default` is down");
    assert!(cluster.namespaces_of(&run).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_keeper_left_is_named_with_the_command_that_removes_it() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let home = tempfile::tempdir().unwrap();
    let home = home.path().display().to_string();
    let (run, keeper) = up(&cluster, &home).await;
    let keeper = nix::unistd::Pid::from_raw(keeper.parse().unwrap());
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
    let down = cluster.tracecheck(&["down", "--state-dir", &home]).await.expect_code(3);
    let command = format!("reap --env cluster --older-than 0s --run {run}");
    down.expect_stderr("left its system behind").expect_stderr(&format!("`tracecheck {command}`"));
    assert_eq!(cluster.namespaces_of(&run).await.len(), 1);
    let words: Vec<&str> = command.split(' ').collect();
    cluster.tracecheck(&words).await.expect_code(0);
    assert!(cluster.namespaces_of(&run).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_eksctl_made_is_used_and_deleted() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let account = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tracecheck"));
    command.args(["run", "scenarios/happy-path.yaml", "--env", "eks", "--yes"]);
    // No operator is in this cluster.
    command.args(["--image", cluster.image(), "--collector-install", "manifests"]);
    command.current_dir(root()).stdin(Stdio::null());
    command.env("PATH", format!("{}:{path}", root().join("tests/eks").display()));
    command.env("EKSCTL_STATE", account.path()).env("EKSCTL_KUBECONFIG", &cluster.kubeconfig);
    // That the collector's role is for one namespace only is reported, and no reason to give the cluster up.
    command.env("AWS_MODE", "denied");
    let output = command.env_remove("KUBECONFIG").output().await.unwrap();
    let text = [&output.stdout, &output.stderr]
        .map(|said| String::from_utf8_lossy(said).into_owned())
        .concat();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("environment eks") && text.contains("1 passed"), "{text}");
    assert!(text.contains("can be taken in the namespace `tracecheck-"), "{text}");
    assert!(text.contains("AccessDenied"), "{text}");
    assert!(text.contains("eks: cluster `tracecheck` is deleted"), "{text}");
    assert!(!account.path().join("tracecheck.cluster").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_the_clusters_version_and_that_no_permission_is_missing() {
    let cluster = cluster().await;
    let reported = cluster.tracecheck(&["doctor", "--env", "cluster"]).await.expect_code(0);
    reported.expect_stdout("cluster: can be used").expect_stdout("all that a run needs");
}
