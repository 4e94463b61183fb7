use serde_json::from_value;
use stub_server::StubServer;
use wiremock::{Mock, ResponseTemplate, matchers::path};

use super::*;

/// Starts the API of a cluster that has these objects, by their paths, and no others.
async fn cluster_with(objects: impl IntoIterator<Item = (&str, Value)>) -> (StubServer, Look) {
    let server = StubServer::start().await;
    for (at, object) in objects {
        let answer = ResponseTemplate::new(200).set_body_json(object);
        Mock::given(path(at)).respond_with(answer).mount(&server).await;
    }
    // Installs the provider of TLS, which kube's client asks for even where it has no use for it.
    let _builder = harness_core::http::client();
    let config = kube::Config::new(server.uri().parse().unwrap());
    (server, Look { client: Client::try_from(config).unwrap() })
}

fn list_of(kind: &str, items: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": format!("{kind}List"), "metadata": {}, "items": items })
}

fn definition(versions: &[(&str, bool)], established: bool) -> CustomResourceDefinition {
    let version = |(name, served): &(&str, bool)| {
        json!({
            "name": name, "served": served, "storage": *name == "v1beta1",
            "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                "spec": { "type": "object", "properties": { "config": {}, "mode": {} } },
            } } },
        })
    };
    from_value(json!({
        "metadata": { "name": DEFINITION, "annotations": { INJECT_CA: "ns/cert" } },
        "spec": {
            "group": GROUP, "scope": "Namespaced", "names": { "kind": KIND, "plural": PLURAL },
            "versions": versions.iter().map(version).collect::<Vec<_>>(),
            "conversion": { "strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": { "service": { "namespace": "ns", "name": "hooks", "path": "/convert" } },
            } },
        },
        "status": { "conditions": [
            { "type": "Established", "status": if established { "True" } else { "False" }, "reason": "", "lastTransitionTime": null },
        ] },
    }))
    .unwrap()
}

#[test]
fn the_newest_served_version_is_chosen_unless_one_is_wanted() {
    let both = definition(&[("v1alpha1", true), ("v1beta1", true)], true);
    let operator = operator_of(&both, None).unwrap();
    assert_eq!(operator.version, Version::V1Beta1);
    assert_eq!(operator.fields.unwrap().into_iter().collect::<Vec<_>>(), ["config", "mode"]);
    assert_eq!(operator_of(&both, Some(Version::V1Alpha1)).unwrap().version, Version::V1Alpha1);
    let old = definition(&[("v1alpha1", true), ("v1beta1", false)], true);
    assert_eq!(operator_of(&old, None).unwrap().version, Version::V1Alpha1);
    let reported = operator_of(&old, Some(Version::V1Beta1)).unwrap_err().to_string();
    assert!(reported.contains("does not serve OpenTelemetryCollector as v1beta1"), "{reported}");
    let reported = operator_of(&definition(&[("v2", true)], true), None).unwrap_err().to_string();
    assert!(reported.contains("neither as v1beta1 nor as v1alpha1"), "{reported}");
    let reported =
        operator_of(&definition(&[("v1beta1", true)], false), None).unwrap_err().to_string();
    assert!(reported.contains("not established"), "{reported}");
}

#[test]
fn a_definitions_webhook_without_an_authority_is_seen() {
    let hook = conversion(&definition(&[("v1beta1", true)], true)).unwrap();
    assert!(!hook.has_authority && hook.name.contains("conversion webhook"));
    assert_eq!(hook.certificate.as_deref(), Some("ns/cert"));
    assert_eq!(hook.service.unwrap().name, "hooks");
}

#[test]
fn only_webhooks_for_the_resource_count() {
    let hooks = |group: &str| -> Vec<Hook> {
        let configuration = from_value(json!({
            "metadata": { "name": "c" },
            "webhooks": [{
                "name": "m", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": { "caBundle": "eA==", "service": { "namespace": "ns", "name": "hooks" } },
                "rules": [{ "apiGroups": [group], "apiVersions": ["v1beta1"], "resources": [PLURAL], "operations": ["CREATE"] }],
            }],
        }));
        mutating_hooks(&[configuration.unwrap()])
    };
    assert!(hooks("apps").is_empty() && hooks("*").is_empty());
    let ours = hooks(GROUP);
    assert!(ours[0].has_authority && ours[0].name == "the webhook `m` of `c`");
}

#[test]
fn a_deployment_that_serves_nobody_is_reported_with_the_command_that_helps() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let deployment = |replicas: i32, available: Option<i32>, unavailable_since: &str| {
        let deployment = from_value::<Deployment>(json!({
            "metadata": { "name": "d", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "replicas": replicas, "selector": {}, "template": {} },
            "status": { "availableReplicas": available, "conditions": [
                { "type": "Available", "status": "False", "lastTransitionTime": unavailable_since },
            ] },
        }));
        unavailable(&deployment.unwrap(), &[], now)
    };
    let long_ago = "2026-01-01T00:00:30Z";
    assert_eq!(deployment(1, Some(1), long_ago), None);
    let none = deployment(0, None, "2026-01-01T00:09:59Z").unwrap();
    assert!(none.why.contains("scaled to 0") && none.remedy.contains("--replicas=1"), "{none:?}");
    assert!(!none.starts, "nothing is coming");
    let down = deployment(2, None, long_ago).unwrap();
    assert!(down.why.contains("none of 2") && down.remedy.contains("rollout status"), "{down:?}");
    assert!(!down.starts, "it has had its time");
    assert!(deployment(2, None, "2026-01-01T00:09:30Z").unwrap().starts);
    let new = json!({
        "metadata": { "name": "d", "creationTimestamp": "2026-01-01T00:09:58Z" },
        "spec": { "selector": {}, "template": {} },
    });
    assert!(unavailable(&from_value(new).unwrap(), &[], now).unwrap().starts, "no condition yet");
}

#[test]
fn what_its_pods_say_of_a_deployment_goes_before_how_long_it_has_been_there() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let old: Deployment = from_value(json!({
        "metadata": { "name": "d", "namespace": "ns", "creationTimestamp": "2025-12-01T00:00:00Z" },
        "spec": { "selector": { "matchLabels": { "app": "d", "tier": "x" } }, "template": {} },
    }))
    .unwrap();
    assert_eq!(selector(&old), "app=d,tier=x");
    let pod = |created: &str, waiting: &str, message: &str| {
        let pod = json!({
            "metadata": { "name": created, "creationTimestamp": created },
            "spec": { "containers": [{ "name": "manager" }] },
            "status": { "containerStatuses": [{
                "name": "manager", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": waiting, "message": message } },
            }] },
        });
        PodState::of(&from_value(pod).unwrap())
    };
    let of = |pods: &[PodState]| unavailable(&old, pods, now).unwrap();
    let (long_ago, just_now) = ("2026-01-01T00:00:00Z", "2026-01-01T00:09:59Z");
    let mut young = pod(just_now, "ContainerCreating", "");
    assert!(of(std::slice::from_ref(&young)).starts, "never available, but it has just begun");
    young.deleting = true;
    assert!(!of(&[young, pod(long_ago, "ContainerCreating", "")]).starts);
    let mount = of(&[pod(long_ago, "FailedMount", "secret \"s\" not found")]);
    assert!(
        mount.why.contains("(FailedMount: secret \"s\" not found)") && !mount.starts,
        "{mount:?}"
    );
    assert!(!of(&[pod(just_now, "ImagePullBackOff", "")]).starts, "that does not pass by itself");
    let mut again = pod(long_ago, "", "");
    again.waiting = None;
    (again.running, again.since) = (true, from_value(just_now.into()).unwrap());
    assert!(of(&[again]).starts, "its container was just started");
}

#[test]
fn webhooks_without_an_authority_are_one_finding() {
    let hook = |name: &str, certificate: Option<&str>, has_authority| Hook {
        name: name.to_owned(),
        service: None,
        has_authority,
        certificate: certificate.map(str::to_owned),
    };
    let [a, b] = ["a", "b"].map(|name| hook(name, Some("ns/c"), false));
    let reported = unfilled(&[a, hook("c", None, true), b], true).unwrap();
    assert!(
        reported.to_string().starts_with("a, b have no `caBundle`") && reported.may_pass(),
        "{reported}"
    );
    let alone = |certificate, fills| unfilled(&[hook("a", certificate, false)], fills).unwrap();
    assert!(alone(None, true).to_string().starts_with("a has no"));
    assert!(!alone(None, true).may_pass(), "nothing fills it in");
    assert!(!alone(Some("ns/c"), false).may_pass(), "cert-manager is not well");
    assert!(unfilled(&[hook("a", None, true)], true).is_none());
}

#[test]
fn each_way_a_webhook_fails_has_its_remedy() {
    for (error, remedy_has) in [
        ("failed calling webhook \"x\": dial tcp: connect: connection refused", "get pods"),
        ("conversion webhook for y failed: no endpoints available for service", "get pods"),
        (
            "failed calling webhook \"x\": dial tcp 10.0.0.1:443: connect: no route to host",
            "get pods",
        ),
        (
            "failed calling webhook \"x\": failed to call webhook: Post \"https://a.svc/\": EOF",
            "get pods",
        ),
        (
            "failed calling webhook: read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer",
            "get pods",
        ),
        (
            "failed calling webhook \"x\": failed to call webhook: Post: context deadline exceeded",
            "-l app",
        ),
        (
            "failed calling webhook: tls: failed to verify certificate: x509: unknown authority",
            "cainjector",
        ),
        ("admission webhook \"x\" denied the request: no", "does not take"),
        ("boom", "API server"),
    ] {
        let remedy = remedy(error);
        assert!(remedy.contains(remedy_has), "{error}: {remedy}");
        // Where nobody listens yet it may be well a moment later; an authority only where its writer has just started.
        assert_eq!(nobody_listens(error), remedy_has == "get pods", "{error}");
        assert_eq!(is_untrusted(error), remedy_has == "cainjector", "{error}");
        assert_eq!(is_late(error), remedy_has == "-l app", "{error}");
    }
}

#[test]
fn a_certificate_that_is_not_there_yet_is_not_ready() {
    let condition = |status: &str| json!({ "conditions": [{ "type": "Ready", "status": status, "message": "why" }] });
    assert_eq!(not_ready(&condition("True")), None);
    assert_eq!(not_ready(&condition("False")).as_deref(), Some("why"));
    assert!(not_ready(&Value::Null).is_some());
}

#[tokio::test]
async fn a_certificate_that_is_missing_is_not_waited_for() {
    let of = |name: &str| format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    let [ours, certificates, issuers] =
        [DEFINITION, "certificates.cert-manager.io", "issuers.cert-manager.io"].map(of);
    let there = || json!(definition(&[("v1beta1", true)], true));
    let named = |name: &str| json!({ "metadata": { "name": name } });
    let (server, look) = cluster_with([
        (&*ours, there()),
        (&*certificates, there()),
        (&*issuers, there()),
        ("/apis/cert-manager.io/v1/namespaces/default/issuers", named("tracecheck-preflight")),
        ("/api/v1/namespaces/ns/services/hooks", named("hooks")),
    ])
    .await;
    let seen = timeout(SETTLE_LIMIT / 2, look.until_settled(None)).await;
    let findings = seen.expect("it is not waited for").unwrap_err();
    let missing = "the certificate `ns/cert` of the operator's webhooks is missing";
    assert!(findings[0].to_string().starts_with(missing), "{findings:?}");
    let asked = server.received_requests().await.unwrap();
    assert_eq!(asked.iter().filter(|request| request.url.path() == ours).count(), 1);
    // Neither where cert-manager, which made it once, is just starting.
    assert!(!look.certificate("ns/cert", true).await.unwrap().may_pass());
}

#[tokio::test]
async fn a_volume_that_a_pod_waits_for_is_named_as_the_kubelet_names_it_in_events() {
    let pod = json!({
        "metadata": { "name": "d-1", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "containers": [{ "name": "manager" }] },
        "status": { "containerStatuses": [{
            "name": "manager", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ContainerCreating" } },
        }] },
    });
    let event = json!({
        "metadata": { "name": "e" }, "involvedObject": { "name": "d-1" },
        "reason": "FailedMount", "message": "secret \"s\" not found",
    });
    let (_server, look) = cluster_with([
        ("/api/v1/namespaces/ns/pods", list_of("Pod", json!([pod]))),
        ("/api/v1/namespaces/ns/events", list_of("Event", json!([event]))),
    ])
    .await;
    let deployment: Deployment = from_value(json!({
        "metadata": { "name": "d", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "selector": { "matchLabels": { "app": "d" } }, "template": {} },
    }))
    .unwrap();
    let found = look.unavailable([deployment].iter()).await;
    assert!(found[0].why.contains("(FailedMount: secret \"s\" not found)"), "{found:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_may_pass_only_while_its_writer_is_young() {
    for (created, passes) in
        [(Timestamp::now().to_string(), true), ("2020-01-01T00:00:00Z".to_owned(), false)]
    {
        let pod = json!({ "metadata": { "name": "cainjector-1", "creationTimestamp": created } });
        let (_server, look) = cluster_with([("/api/v1/pods", list_of("Pod", json!([pod])))]).await;
        let untrusted =
            "failed calling webhook \"x\": x509: certificate signed by unknown authority";
        assert_eq!(look.may_pass(untrusted).await, passes, "{created}");
    }
}
