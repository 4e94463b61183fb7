//! All scenarios in an existing Kubernetes cluster, and what goes wrong in clusters.
//!
//! Needs a cluster that `KUBECONFIG` leads to, and an image of tracecheck that its nodes have, named by
//! `TRACECHECK_TEST_IMAGE`; one test also the address at which its pods reach this machine, `TRACECHECK_TEST_HOST`. Everything is made in namespaces of the runs' own and of the tests' own, and is gone afterwards.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

#[path = "../kubernetes/support.rs"]
mod support;

mod pods;
mod proxy;
mod refused;
mod standing;
mod ways_in;

use std::time::Duration;

use support::{Cluster, cluster, one_at_a_time, scenario_count, scenario_file, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_passes_and_nothing_is_left() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let ran = cluster.run(&["scenarios"]).await.expect_code(0);
    let ran = ran.expect_stdout(&format!("{} passed", scenario_count()));
    cluster.expect_nothing_left(&ran).await;
}

/// Three collectors behind one Service, which no other environment has, and what strikes among requests.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_load_and_workloads_break_under_one() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let ran = cluster.run(&["scenarios/kubernetes", "scenarios/chaos", "-v"]).await;
    let ran = ran.expect_code(0).expect_stdout("5 passed");
    cluster.expect_nothing_left(&ran).await;
}

/// It passes only where the faults strike: what stands between has taken what went there, and changed it.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_between_two_workloads_strikes_what_passes() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let scenario = scenario_file(
        "name: between\ndescription: The context is lost on the way, and payloads come late.\n\
         requests: [{ get: /outgoing-sampleapp }]\n\
         faults:\n\
         \x20 - { between: [sample-app-1, sample-app-2], drop_header: traceparent }\n\
         \x20 - { between: [collector, intake], delay: 10ms }\n",
    );
    let ran = cluster.run(&[&scenario.path().display().to_string()]).await.expect_code(0);
    let ran = ran.expect_stdout("1 passed");
    cluster.expect_nothing_left(&ran).await;
}

/// The check that all stages agree is one that can fail: here nobody is left to share a load with.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_no_replica_shares_is_reported() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let scenario = scenario_file(
        "name: alone\ndescription: One app has one connection.\n\
         system: { chain: { apps: 1, collector_instances: 2 } }\n\
         requests: [{ get: /, times: 4 }]\n\
         expect: { balance: { collector_instances: 2 } }\n",
    );
    let ran = cluster.run(&[&scenario.path().display().to_string()]).await.expect_code(1);
    let ran = ran.expect_stdout("1 of 2 instances of the collector had spans of the services");
    cluster.expect_nothing_left(&ran).await;
}

/// Two systems at once, each with an intake of its own on this machine; and one after the other at one port.
#[tokio::test(flavor = "multi_thread")]
async fn the_intakes_of_systems_in_the_cluster_are_outside() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let host = std::env::var("TRACECHECK_TEST_HOST").expect(
        "TRACECHECK_TEST_HOST names the address at which the cluster's pods reach this machine",
    );
    let free = std::net::TcpListener::bind((host.as_str(), 0)).unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for (second, options) in [
        ("intake-outage", &["--intake-listen", &format!("{host}:0")][..]),
        ("one-service-name", &["--intake-listen", &free.to_string(), "--intake-url", &url]),
    ] {
        let saved = tempfile::tempdir().unwrap();
        let dir = saved.path().display().to_string();
        let filters = ["scenarios", "--filter", "happy-path", "--filter", second];
        let ran = cluster.run(&[&filters[..], options, &["--save", &dir]].concat()).await;
        let ran = ran.expect_code(0).expect_stdout("2 passed");
        let mut states = Vec::new();
        collect(saved.path(), "kubernetes-resources.json", &mut states);
        assert_eq!(states.len(), 2, "{states:?}");
        for path in states {
            let states: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let deployments = states["deployments"].as_array().unwrap();
            let names: Vec<_> = deployments.iter().map(|one| &one["metadata"]["name"]).collect();
            assert_eq!(names.len(), 3, "{names:?}");
            assert!(names.iter().all(|name| *name != "intake"), "{names:?}");
        }
        cluster.expect_nothing_left(&ran).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_do_not_meet() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let args = ["scenarios", "--filter", "happy-path", "--filter", "unreachable"];
    let (one, two) = tokio::join!(cluster.run(&args), cluster.run(&args));
    for ran in [one, two] {
        let ran = ran.expect_code(0).expect_stdout("2 passed");
        cluster.expect_nothing_left(&ran).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_found_by_its_label_and_removed() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let mut run = cluster.start(&["scenarios", "--filter", "happy-path", "--keep"]);
    let id = run.run_id().await;
    wait_until("the run's namespace is there", Duration::from_secs(60), async || {
        !cluster.namespaces_of(&id).await.is_empty()
    })
    .await;
    run.kill().await;
    assert_eq!(cluster.namespaces_of(&id).await.len(), 1);
    // Younger than what is asked for, and still its owner's.
    cluster.tracecheck(&["reap", "--env", "cluster", "--older-than", "1h"]).await.expect_code(0);
    assert_eq!(cluster.namespaces_of(&id).await.len(), 1);
    let reaped =
        cluster.tracecheck(&["reap", "--env", "cluster", "--older-than", "0s", "--run", &id]).await;
    reaped.expect_code(0).expect_stdout(&format!("tracecheck-{id}-0"));
    assert!(cluster.namespaces_of(&id).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_takes_everything_down() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let mut run = cluster.start(&["scenarios", "--filter", "happy-path"]);
    let id = run.run_id().await;
    wait_until("the run's namespace is there", Duration::from_secs(60), async || {
        !cluster.namespaces_of(&id).await.is_empty()
    })
    .await;
    run.interrupt();
    let ran = run.ended().await.expect_code(3);
    cluster.expect_nothing_left(&ran).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_events_and_the_states_of_resources_are_kept_with_the_run() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let saved = tempfile::tempdir().unwrap();
    let dir = saved.path().display().to_string();
    let args = ["scenarios", "--filter", "happy-path", "--save", &dir];
    cluster.run(&args).await.expect_code(0);
    let read = |name: &str| {
        let mut found = Vec::new();
        collect(saved.path(), name, &mut found);
        assert_eq!(found.len(), 1, "{name} in {dir}: {found:?}");
        std::fs::read_to_string(&found[0]).unwrap()
    };
    let events = read("kubernetes-events.txt");
    assert!(events.contains("Pod/sample-app-1") && events.contains("Scheduled"), "{events}");
    let resources: serde_json::Value =
        serde_json::from_str(&read("kubernetes-resources.json")).unwrap();
    assert_eq!(resources["deployments"].as_array().unwrap().len(), 4, "{resources}");
    assert!(read("sample-app-1.log").contains("listening"));
}

/// Of a run that is not kept, what shows why it did not pass is kept, as it was before the system was taken down.
#[tokio::test(flavor = "multi_thread")]
async fn logs_events_and_states_are_kept_where_a_scenario_does_not_pass() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let scenario = scenario_file(
        "name: cut\ndescription: Propagation is off.\nrequests: [{ get: /outgoing-sampleapp }]\n\
         expect: { within: 3s }\n",
    );
    let path = scenario.path().display().to_string();
    let args = [&path, "--app-env", "sample-app-1:OTEL_PROPAGATORS=none"];
    let ran = cluster.run(&args).await.expect_code(1).expect_stdout("sample-app-1.log: ");
    let dir = ran.stdout.split("are kept in ").nth(1).and_then(|rest| rest.lines().next());
    let dir = std::path::PathBuf::from(dir.expect("a folder is named"));
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert!(read("kubernetes-events.txt").contains("Pod/sample-app-1"));
    let states: serde_json::Value =
        serde_json::from_str(&read("kubernetes-resources.json")).unwrap();
    let deployments = states["deployments"].as_array().unwrap();
    assert_eq!(deployments.len(), 4, "{states}");
    assert!(deployments.iter().all(|one| one["spec"]["replicas"] == 1), "{states}");
    assert!(read("sample-app-1.log").lines().count() > 1, "its last lines are not there");
    std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    cluster.expect_nothing_left(&ran).await;
}

fn collect(dir: &std::path::Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, name, found);
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_manifests_are_taken_by_the_cluster() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let printed = cluster.manifests(&["--namespace", "tracecheck-printed"]).await.expect_code(0);
    cluster.expect_applies(&printed.stdout, "tracecheck-printed").await;
}

/// The API server is away for ten seconds while requests are in flight: what could not be seen is inconclusive, never
/// failed, and what goes on afterwards is judged as ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_for_ten_seconds_fails_no_scenario() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let proxy = proxy::Proxy::start(&cluster.server).await;
    let through = cluster.through(proxy.address());
    let scenario = scenario_file(
        "name: long\ndescription: Requests over half a minute, one after the other.\n\
         requests: [{ get: /outgoing-sampleapp, times: 60 }]\n\
         faults: [{ at: sample-app-2, delay: 400ms }]\n\
         expect: { within: 40s }\n",
    );
    let path = scenario.path().display().to_string();
    let mut run = through.start(&[&path, "--format", "json"]);
    // Up, and then some requests, of which some may be judged.
    run.has_printed("\"event\":\"scenario-started\"", Duration::from_secs(90)).await;
    run.has_printed("\"judged\":3", Duration::from_secs(60)).await;
    proxy.away_for(Duration::from_secs(10)).await;
    let ran = run.ended().await;
    let broken = proxy.broken();
    assert!(broken > 0, "no connection was broken, so nothing was tried");
    let code = ran.code;
    assert!(code == Some(0) || code == Some(3), "{code:?}\n{}\n{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("\"verdict\":\"fail\""), "{}", ran.stdout);
    if code == Some(3) {
        let ran = ran.expect_stdout("got no answer while the way to the system was broken");
        cluster.expect_nothing_left(&ran).await;
    } else {
        cluster.expect_nothing_left(&ran).await;
    }
}

impl Cluster {
    async fn expect_applies(&self, manifests: &str, namespace: &str) {
        support::apply_and_wait(self, manifests, namespace).await;
    }
}
