//! Puts the stand-in into a cluster under the real one's names, with something in cert-manager's place, and takes it out.

use k8s_openapi::ByteString;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "opentelemetry-operator-system";
pub(crate) const DEPLOYMENT: &str = "opentelemetry-operator-controller-manager";
pub(crate) const DEFINITION: &str = "opentelemetrycollectors.opentelemetry.io";
const SERVICE: &str = "opentelemetry-operator-webhook-service";
const CERTIFICATE: &str = "opentelemetry-operator-serving-cert";
const SECRET: &str = "opentelemetry-operator-controller-manager-service-cert";
/// On everything that is made here, so that it is found again.
const LABEL: &str = "tracecheck-test";

/// An authority, as PEM, and what it signed.
pub(crate) struct Authority {
    pub(crate) bundle: String,
    certificate: String,
    key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = [format!("{SERVICE}.{NAMESPACE}.svc")];
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Self { bundle: issuer.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn encoded(&self) -> Value {
        json!(ByteString(self.bundle.clone().into_bytes()))
    }
}

/// The way to objects of any kind.
pub(crate) fn api(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

pub(crate) async fn apply(client: &Client, mut object: Value) {
    object["metadata"]["labels"][LABEL] = "operator".into();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let api = api(
        client,
        &text(&object["apiVersion"]),
        &text(&object["kind"]),
        metadata["namespace"].as_str(),
    );
    let params = PatchParams::apply("operator-stand-in").force();
    api.patch(&text(&metadata["name"]), &params, &Patch::Apply(&object)).await.unwrap();
}

/// cert-manager's definitions, something that runs under its names, and the certificate that it would have made.
pub(crate) async fn cert_manager(client: &Client, image: &str) {
    for (kind, plural, singular) in
        [("Certificate", "certificates", "certificate"), ("Issuer", "issuers", "issuer")]
    {
        let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        apply(client, json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.cert-manager.io") },
            "spec": {
                "group": "cert-manager.io", "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": singular },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": any } }],
            },
        })).await;
    }
    namespace(client, "cert-manager").await;
    for (name, label) in [
        ("cert-manager", "cert-manager"),
        ("cert-manager-cainjector", "cainjector"),
        ("cert-manager-webhook", "webhook"),
    ] {
        let labels = json!({ "app.kubernetes.io/name": label, "app.kubernetes.io/instance": "cert-manager" });
        apply(client, deployment("cert-manager", name, labels, image, &["idle"], false)).await;
    }
}

/// All of the operator.
pub(crate) async fn operator(client: &Client, image: &str, authority: &Authority) {
    namespace(client, NAMESPACE).await;
    let encoded = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    apply(client, json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET, "namespace": NAMESPACE },
        "type": "kubernetes.io/tls",
        "data": { "tls.crt": encoded(&authority.certificate), "tls.key": encoded(&authority.key) },
    })).await;
    apply(client, json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "opentelemetry-operator-stand-in" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": NAMESPACE }],
    })).await;
    let labels = json!({ "app.kubernetes.io/name": "opentelemetry-operator", "control-plane": "controller-manager" });
    apply(
        client,
        deployment(NAMESPACE, DEPLOYMENT, labels.clone(), image, &["serve", "/certificate"], true),
    )
    .await;
    apply(client, json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": SERVICE, "namespace": NAMESPACE },
        "spec": { "selector": labels, "ports": [{ "port": 443, "targetPort": 9443 }] },
    })).await;
    apply(client, definition(authority)).await;
    for (kind, name, hook, path) in [
        (
            "MutatingWebhookConfiguration",
            "opentelemetry-operator-mutating-webhook-configuration",
            "mopentelemetrycollectorbeta.kb.io",
            "/mutate-opentelemetry-io-v1beta1-opentelemetrycollector",
        ),
        (
            "ValidatingWebhookConfiguration",
            "opentelemetry-operator-validating-webhook-configuration",
            "vopentelemetrycollectorcreateupdatebeta.kb.io",
            "/validate-opentelemetry-io-v1beta1-opentelemetrycollector",
        ),
    ] {
        apply(client, json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": { "name": name, "annotations": injected() },
            "webhooks": [{
                "name": hook, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                "matchPolicy": "Equivalent", "timeoutSeconds": 10,
                "clientConfig": {
                    "service": { "namespace": NAMESPACE, "name": SERVICE, "path": path }, "caBundle": authority.encoded(),
                },
                "rules": [{ "apiGroups": ["opentelemetry.io"], "apiVersions": ["v1beta1"], "operations": ["CREATE", "UPDATE"],
                            "resources": ["opentelemetrycollectors"], "scope": "Namespaced" }],
            }],
        })).await;
    }
    // Its definition is known to the API a moment after it was made.
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": { "name": CERTIFICATE, "namespace": NAMESPACE }, "spec": { "secretName": SECRET },
        "status": { "conditions": [{ "type": "Ready", "status": "True", "message": "Certificate is up to date and has not expired" }] },
    });
    crate::until("cert-manager's kinds are known", async || {
        let certificates = api(client, "cert-manager.io/v1", "Certificate", Some(NAMESPACE));
        certificates.list(&Default::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    apply(client, certificate).await;
}

fn injected() -> Value {
    json!({ "cert-manager.io/inject-ca-from": format!("{NAMESPACE}/{CERTIFICATE}") })
}

/// The resource's definition, with the fields that the harness writes; the real one has many more.
fn definition(authority: &Authority) -> Value {
    let any = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let fields = |config: Value| {
        let mut fields = json!({
            "mode": { "type": "string", "enum": ["daemonset", "deployment", "sidecar", "statefulset"], "default": "deployment" },
            "managementState": { "type": "string", "default": "managed" },
            "upgradeStrategy": { "type": "string", "default": "automatic" },
            "replicas": { "type": "integer", "default": 1 },
            "image": { "type": "string" }, "imagePullPolicy": { "type": "string" }, "serviceAccount": { "type": "string" },
            "shareProcessNamespace": { "type": "boolean" },
            "args": { "type": "object", "additionalProperties": { "type": "string" } },
        });
        for list in ["env", "volumes", "volumeMounts", "ports"] {
            fields[list] = json!({ "type": "array", "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
        }
        for object in ["resources", "podSecurityContext", "securityContext"] {
            fields[object] =
                json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        }
        fields["config"] = config;
        fields
    };
    let schema = |config: Value| {
        json!({ "openAPIV3Schema": { "type": "object", "properties": {
        "spec": { "type": "object", "properties": fields(config) },
        "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    } } })
    };
    let object = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["service"],
        "properties": { "service": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["pipelines"],
            "properties": { "pipelines": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
        }, "receivers": any },
    });
    let subresources = json!({ "status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.scale.replicas",
    } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": DEFINITION, "annotations": injected(),
            "labels": { "app.kubernetes.io/name": "opentelemetry-operator" },
        },
        "spec": {
            "group": "opentelemetry.io", "scope": "Namespaced",
            "names": { "kind": "OpenTelemetryCollector", "listKind": "OpenTelemetryCollectorList",
                       "plural": "opentelemetrycollectors", "singular": "opentelemetrycollector", "shortNames": ["otelcol"] },
            "versions": [
                { "name": "v1alpha1", "served": true, "storage": false, "schema": schema(json!({ "type": "string" })),
                  "deprecated": true, "subresources": subresources,
                  "deprecationWarning": "OpenTelemetryCollector v1alpha1 is deprecated. Migrate to v1beta1." },
                { "name": "v1beta1", "served": true, "storage": true, "schema": schema(object), "subresources": subresources },
            ],
            "conversion": { "strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": { "namespace": NAMESPACE, "name": SERVICE, "path": "/convert" }, "caBundle": authority.encoded(),
                },
            } },
        },
    })
}

pub(crate) async fn namespace(client: &Client, name: &str) {
    apply(client, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
        .await;
}

fn deployment(
    namespace: &str,
    name: &str,
    labels: Value,
    image: &str,
    args: &[&str],
    serves: bool,
) -> Value {
    let mut container = json!({
        "name": "manager", "image": image, "imagePullPolicy": "IfNotPresent", "args": args,
        "resources": { "requests": { "cpu": "5m", "memory": "16Mi" } },
    });
    let mut volumes = json!([]);
    if serves {
        container["readinessProbe"] = json!({ "tcpSocket": { "port": 9443 }, "periodSeconds": 1 });
        container["volumeMounts"] = json!([{ "name": "certificate", "mountPath": "/certificate" }]);
        volumes = json!([{ "name": "certificate", "secret": { "secretName": SECRET } }]);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace, "labels": labels.clone() },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": {
                "containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1,
            } },
        },
    })
}

/// Takes everything out again, also what a test that crashed left.
pub(crate) async fn remove(client: &Client) {
    let labelled = kube::api::ListParams::default().labels(&format!("{LABEL}=operator"));
    let kinds = [
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("v1", "Namespace"),
    ];
    for (version, kind) in kinds {
        let objects = api(client, version, kind, None);
        for object in objects.list(&labelled).await.unwrap() {
            let name = object.metadata.name.unwrap();
            let _gone_already = objects.delete(&name, &DeleteParams::default()).await;
        }
    }
    for (version, kind) in kinds {
        crate::until("what the test made is gone", async || {
            let left = api(client, version, kind, None).list(&labelled).await;
            let left = left.map_err(|error| error.to_string())?.items.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} of {kind} are left")) }
        })
        .await;
    }
}
