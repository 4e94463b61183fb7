use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Config, found::Found, trust};

const FILE: &str = include_str!("../../../../../eks-config.yaml");

fn config() -> Config {
    Config::parse("eks-config.yaml", FILE, None, None).unwrap()
}

#[test]
fn a_runs_cluster_is_tagged_and_its_role_is_for_the_runs_namespace() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let text =
        config().of_run("590bc6e5", "tracecheck-590bc6e5-0", now, now + super::EXPIRY).unwrap();
    let value: Value = harness_core::source::read_yaml("x", &text).unwrap();
    assert_eq!(
        value["metadata"]["tags"],
        json!({
            "app.kubernetes.io/managed-by": "tracecheck",
            "tracecheck/run": "590bc6e5",
            "tracecheck/made": "2026-01-01T00:00:00Z",
            "tracecheck/expires": "2026-01-01T12:00:00Z",
        })
    );
    let account = &value["iam"]["serviceAccounts"][0];
    assert_eq!(account["metadata"]["namespace"], "tracecheck-590bc6e5-0");
    assert_eq!(account["attachPolicyARNs"].as_array().unwrap().len(), 3);
}

#[test]
fn name_and_region_can_be_others() {
    let config = Config::parse("x", FILE, Some("mine"), Some("eu-west-1")).unwrap();
    assert_eq!((config.name.as_str(), config.region.as_str()), ("mine", "eu-west-1"));
    assert_eq!(config.nodes(), "2 x t3.medium");
    assert_eq!(config.role_name.as_deref(), Some("aws-otel-collector"));
}

#[test]
fn what_is_no_configuration_is_reported_with_its_place() {
    for (text, reported) in [
        ("a: [", "x.yaml:1"),
        ("kind: Cluster\n", "`kind` is not `ClusterConfig`"),
        ("kind: ClusterConfig\nmetadata: 1\n", "`metadata` is not a mapping"),
        ("kind: ClusterConfig\nmetadata: { region: r }\n", "`metadata.name` is missing"),
    ] {
        let error = Config::parse("x.yaml", text, None, None).unwrap_err().to_string();
        assert!(error.contains(reported), "{error}");
    }
}

#[test]
fn a_role_is_of_the_clusters_account() {
    let cluster = json!({
        "Arn": "arn:aws-cn:eks:cn-north-1:123456789012:cluster/x",
        "Tags": { "tracecheck/run": "1", "tracecheck/expires": "2026-01-01T00:00:00Z" },
    });
    let found = Found::of(&cluster);
    assert_eq!(
        found.role_arn("aws-otel-collector").as_deref(),
        Some("arn:aws-cn:iam::123456789012:role/aws-otel-collector")
    );
    assert_eq!(found.run.as_deref(), Some("1"));
    assert!(found.expires.is_some() && found.made.is_none());
    assert_eq!(Found::of(&json!({ "Name": "x" })).run, None);
}

#[test]
fn the_role_can_be_taken_in_every_namespace_of_the_run_and_in_no_other() {
    let issuer = "oidc.eks.ap-northeast-1.amazonaws.com/id/ABC";
    let (sub, aud) = (format!("{issuer}:sub"), format!("{issuer}:aud"));
    let account = |namespace: &str| format!("system:serviceaccount:{namespace}:aws-otel-collector");
    let policy = |condition: Value| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": ["sts:AssumeRoleWithWebIdentity"],
            "Principal": { "Federated": "arn:aws:iam::123456789012:oidc-provider/x" },
            "Condition": condition,
        }] })
    };
    let of_eksctl = policy(json!({ "StringEquals": {
        &sub: account("tracecheck-590bc6e5-0"), &aud: "sts.amazonaws.com",
    } }));
    let wide = policy(json!({
        "StringEquals": { &aud: "sts.amazonaws.com" },
        "StringLike": { &sub: account("tracecheck-590bc6e5-*") },
    }));
    assert_eq!(trust::widened(&of_eksctl, "590bc6e5"), Some(wide));
    // One that is not of this run is left as it is.
    assert_eq!(trust::widened(&of_eksctl, "1234abcd"), None);
    assert_eq!(trust::widened(&Value::Null, "590bc6e5"), None);
}
