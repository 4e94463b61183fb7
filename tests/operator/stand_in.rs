//! A stand-in for the OpenTelemetry operator: what it does as a pod, in so far as `mode: deployment` needs it.
//!
//! Not the operator, and no part of the product. It answers conversion and admission as the real one (v0.156) was seen to,
//! and makes the same objects with the same names of a resource; everything else of the operator is left out.

use std::{error::Error, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Json, Router, routing::post, serve::Listener};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, watcher},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How soon resources that cannot be watched are watched in the other version.
const WATCH_AGAIN: Duration = Duration::from_millis(200);
const KIND: &str = "OpenTelemetryCollector";
const SECTIONS: [&str; 6] =
    ["receivers", "exporters", "processors", "connectors", "extensions", "service"];

/// Serves the webhooks with the certificate in that folder, and reconciles, until it is ended.
pub(crate) async fn serve(dir: &str) {
    let certificate = CertificateDer::from_pem_file(format!("{dir}/tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{dir}/tls.key")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = Tls {
        tcp: TcpListener::bind("0.0.0.0:9443").await.unwrap(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    let routes = Router::new()
        .route(
            "/convert",
            post(|Json(review): Json<Value>| async move { Json(convert_review(review)) }),
        )
        .route(
            "/mutate-opentelemetry-io-v1beta1-opentelemetrycollector",
            post(|Json(review): Json<Value>| async move { Json(admission(&review, mutate)) }),
        )
        .route(
            "/validate-opentelemetry-io-v1beta1-opentelemetrycollector",
            post(|Json(review): Json<Value>| async move { Json(admission(&review, validate)) }),
        );
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let client = Client::try_default().await.unwrap();
    // The version that is stored, or the other where the cluster does not serve it.
    for version in ["v1beta1", "v1alpha1"].into_iter().cycle() {
        let error = follow(&client, &collector(version)).await;
        eprintln!("{version}: {error}");
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

/// Reconciles the resources of a version until they cannot be watched any more; returns why not.
async fn follow(client: &Client, version: &ApiResource) -> watcher::Error {
    let collectors = Api::<DynamicObject>::all_with(client.clone(), version);
    let mut changed = pin!(watcher(collectors, watcher::Config::default()).applied_objects());
    loop {
        match changed.try_next().await {
            Ok(Some(object)) => {
                if let Err(error) = reconcile(client, object, version).await {
                    eprintln!("{error}");
                }
            }
            Ok(None) => unreachable!("a watcher goes on for ever"),
            Err(error) => return error,
        }
    }
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // A probe that only connects, or an API server that does not trust the certificate, ends the handshake.
            if let Ok((stream, address)) = self.tcp.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// The resource in that version.
fn collector(version: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("opentelemetry.io", version, KIND))
}

fn convert_review(review: Value) -> Value {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().into_iter().flatten();
    let converted: Vec<Value> = objects.map(|object| converted(object.clone(), to)).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": { "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": converted },
    })
}

/// `config` is a text in v1alpha1 and an object in v1beta1.
fn converted(mut object: Value, to: &str) -> Value {
    let config = &object["spec"]["config"];
    if to.ends_with("v1beta1") && !config.is_object() {
        // What is no config was seen to be accepted as an empty one.
        let parsed = config.as_str().and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
        let mut parsed = parsed.filter(Value::is_object).unwrap_or_else(
            || json!({ "receivers": {}, "exporters": {}, "service": { "pipelines": {} } }),
        );
        if let Value::Object(sections) = &mut parsed {
            sections.retain(|name, _| SECTIONS.contains(&name.as_str()));
        }
        object["spec"]["config"] = parsed;
    } else if to.ends_with("v1alpha1") && config.is_object() {
        object["spec"]["config"] = rendered(config).into();
    }
    object["apiVersion"] = to.into();
    object
}

/// Response of a webhook: a patch, or a refusal, and warnings.
type Answer = Result<(Option<Value>, Vec<String>), String>;

fn admission(review: &Value, decide: fn(&Value) -> Answer) -> Value {
    let request = &review["request"];
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    match decide(request) {
        Ok((patch, warnings)) => {
            response["warnings"] = json!(warnings);
            if let Some(config) = patch {
                let patch = json!([{ "op": "replace", "path": "/spec/config", "value": config }]);
                response["patchType"] = "JSONPatch".into();
                response["patch"] = STANDARD.encode(patch.to_string()).into();
            }
        }
        Err(message) => {
            response["allowed"] = false.into();
            response["status"] = json!({ "message": message, "code": 403, "reason": "Forbidden" });
        }
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

/// Adds the metrics reader, and addresses of protocols that a pipeline uses.
fn mutate(request: &Value) -> Answer {
    let mut config = request["object"]["spec"]["config"].clone();
    if config.is_string() {
        return Err("json: cannot unmarshal string into Go struct field OpenTelemetryCollectorSpec.spec.config of type \
                    v1beta1.Config"
            .to_owned());
    }
    if config["receivers"].is_null() {
        return Err("panic: assignment to entry in nil map [recovered]".to_owned());
    }
    let metrics = &config["service"]["telemetry"]["metrics"];
    if metrics["readers"].is_null() && metrics["address"].is_null() {
        config["service"]["telemetry"]["metrics"]["readers"] = json!([{ "pull": { "exporter": { "prometheus": { "host": "0.0.0.0", "port": 8888 } } } }]);
    }
    let used = used(&config, "receivers");
    for (id, receiver) in config["receivers"].as_object_mut().into_iter().flatten() {
        for (protocol, port) in [("grpc", 4317), ("http", 4318)] {
            let settings = receiver.get_mut("protocols").and_then(|all| all.get_mut(protocol));
            if let Some(Value::Object(settings)) = settings.filter(|_| used.contains(id)) {
                let address = format!("0.0.0.0:{port}");
                settings.entry("endpoint").or_insert_with(|| address.into());
            }
        }
    }
    Ok((Some(config), Vec::new()))
}

fn validate(request: &Value) -> Answer {
    let (new, old) = (&request["object"]["spec"], &request["oldObject"]["spec"]);
    if let Some(mode) = old["mode"].as_str()
        && new["mode"] != old["mode"]
    {
        return Err(format!(
            "the OpenTelemetry Collector mode is set to {mode}, which does not support modification"
        ));
    }
    for (name, port) in ports(&new["config"]) {
        if !(1..=65_535).contains(&port) {
            return Err(format!(
                "the OpenTelemetry config is incorrect. The port name '{name}' errors: [], num '{port}' errors: [must be \
                 between 1 and 65535, inclusive]"
            ));
        }
    }
    let mut nulls = Vec::new();
    for (section, components) in new["config"].as_object().into_iter().flatten() {
        let components = components.as_object().into_iter().flatten();
        nulls.extend(
            components.filter(|(_, one)| one.is_null()).map(|(id, _)| format!("{section}.{id}:")),
        );
    }
    let warning = format!("Collector config spec.config has null objects: {}.", nulls.join(", "));
    Ok((None, if nulls.is_empty() { Vec::new() } else { vec![warning] }))
}

fn used(config: &Value, section: &str) -> Vec<String> {
    let pipelines = config["service"]["pipelines"].as_object();
    let lists = pipelines.into_iter().flatten().filter_map(|(_, one)| one[section].as_array());
    lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The ports of the receivers that pipelines use, by name.
fn ports(config: &Value) -> Vec<(String, i64)> {
    let mut ports = Vec::new();
    for id in used(config, "receivers") {
        for protocol in ["grpc", "http"] {
            let endpoint = config["receivers"][&id]["protocols"][protocol]["endpoint"].as_str();
            let port = endpoint.and_then(|text| text.rsplit_once(':')?.1.parse().ok());
            ports.extend(port.map(|port| (format!("{}-{protocol}", id.replace('/', "-")), port)));
        }
    }
    ports
}

/// Makes the objects of a resource, and says at once that it is ready. `version` is the one that it was read in.
async fn reconcile(
    client: &Client,
    object: DynamicObject,
    version: &ApiResource,
) -> Result<(), Box<dyn Error>> {
    let stored = converted(serde_json::to_value(object)?, "opentelemetry.io/v1beta1");
    let object: &DynamicObject = &serde_json::from_value(stored)?;
    let namespace = object.namespace().unwrap_or_default();
    if object.metadata.deletion_timestamp.is_none() {
        for child in children(object, &namespace, &version.api_version) {
            let (of, kind) = (child["apiVersion"].as_str(), child["kind"].as_str());
            let (group, of) = of.unwrap_or_default().split_once('/').unwrap_or(("", "v1"));
            let gvk = GroupVersionKind::gvk(group, of, kind.unwrap_or_default());
            let api = ApiResource::from_gvk(&gvk);
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &api);
            let name = child["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let params = PatchParams::apply("opentelemetry-operator").force();
            api.patch(&name, &params, &Patch::Apply(&child)).await?;
        }
        // Already said, so that an own change is not followed by another one.
        let observed = &object.data["status"]["observedGeneration"];
        if observed.as_i64() != object.metadata.generation {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, version);
            let status = json!({ "status": {
                "observedGeneration": object.metadata.generation,
                "image": object.data["spec"]["image"],
                "version": "0.156.0",
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Reconciled", "message": "Successfully reconciled",
                }],
            } });
            let params = PatchParams::default();
            api.patch_status(&object.name_any(), &params, &Patch::Merge(&status)).await?;
        }
    }
    Ok(())
}

/// The objects of a resource, owned by it in `owner`, a version that is served.
fn children(object: &DynamicObject, namespace: &str, owner: &str) -> Vec<Value> {
    let spec = &object.data["spec"];
    let name = format!("{}-collector", object.name_any());
    let text = rendered(&spec["config"]);
    let hash = hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    let config_map = format!("{name}-{}", &hash[..8]);
    let selector = json!({
        "app.kubernetes.io/component": "opentelemetry-collector",
        "app.kubernetes.io/managed-by": "opentelemetry-operator",
        "app.kubernetes.io/part-of": "opentelemetry",
        "app.kubernetes.io/instance": format!("{namespace}.{}", object.name_any()),
    });
    let tag = spec["image"]
        .as_str()
        .and_then(|image| image.rsplit_once(':'))
        .map_or("latest", |one| one.1);
    let mut labels: Map<String, Value> =
        object.labels().iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    labels.extend(selector.as_object().cloned().unwrap_or_default());
    labels.insert("app.kubernetes.io/name".to_owned(), name.clone().into());
    labels.insert("app.kubernetes.io/version".to_owned(), tag.into());
    let metadata = |name: &str, more: Value| {
        let mut labels = labels.clone();
        labels.extend(more.as_object().cloned().unwrap_or_default());
        json!({ "name": name, "namespace": namespace, "labels": labels, "ownerReferences": [{
            "apiVersion": owner, "kind": KIND, "name": object.name_any(),
            "uid": object.uid(), "controller": true, "blockOwnerDeletion": true,
        }] })
    };
    let otlp = ports(&spec["config"]);
    let service_ports: Vec<Value> = otlp
        .iter()
        .map(|(name, port)| {
            let protocol = if name.ends_with("grpc") { "grpc" } else { "http" };
            json!({ "name": name, "port": port, "targetPort": port, "appProtocol": protocol })
        })
        .collect();
    let service = |name: &str, kind: &str, ports: Value, more: Value| {
        let mut spec = json!({ "selector": selector, "ports": ports });
        spec.as_object_mut()
            .into_iter()
            .for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
        let kind = json!({ "operator.opentelemetry.io/collector-service-type": kind });
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata(name, kind), "spec": spec })
    };
    let monitoring = json!([{ "name": "monitoring", "port": 8888, "targetPort": 8888 }]);
    let mut args = vec!["--config=/conf/collector.yaml".to_owned()];
    for (name, value) in
        spec["args"].as_object().into_iter().flatten().filter(|(name, _)| *name != "config")
    {
        args.push(format!("--{name}={}", value.as_str().unwrap_or_default()));
    }
    let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
    let mut env = list("env");
    let resource = |name: &str, of: &str| json!({ "name": name, "valueFrom": { "resourceFieldRef": { "containerName": "otc-container", "resource": of } } });
    env.push(json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }));
    env.extend([resource("GOMEMLIMIT", "limits.memory"), resource("GOMAXPROCS", "limits.cpu")]);
    let mut container_ports = vec![json!({ "name": "metrics", "containerPort": 8888 })];
    container_ports
        .extend(otlp.iter().map(|(name, port)| json!({ "name": name, "containerPort": port })));
    let mut mounts = vec![json!({ "name": "otc-internal", "mountPath": "/conf" })];
    mounts.extend(list("volumeMounts"));
    let mut volumes = vec![json!({ "name": "otc-internal", "configMap": {
        "name": config_map, "items": [{ "key": "collector.yaml", "path": "collector.yaml" }],
    } })];
    volumes.extend(list("volumes"));
    let or = |field: &str, default: Value| {
        if spec[field].is_null() { default } else { spec[field].clone() }
    };
    let template = json!({
        "metadata": { "labels": labels, "annotations": {
            "opentelemetry-operator-config/sha256": hash,
            "operator.opentelemetry.io/prometheus-annotations-added": "true",
            "prometheus.io/scrape": "true", "prometheus.io/path": "/metrics", "prometheus.io/port": "8888",
        } },
        "spec": {
            "serviceAccountName": or("serviceAccount", name.clone().into()),
            "securityContext": or("podSecurityContext", json!({})),
            "shareProcessNamespace": or("shareProcessNamespace", false.into()),
            "volumes": volumes,
            "containers": [{
                "name": "otc-container", "image": spec["image"], "imagePullPolicy": or("imagePullPolicy", "IfNotPresent".into()),
                "args": args, "env": env, "ports": container_ports, "volumeMounts": mounts,
                "resources": or("resources", json!({})), "securityContext": or("securityContext", json!({})),
            }],
        },
    });
    let mut children = vec![
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(&config_map, json!({})),
                "data": { "collector.yaml": text } }),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(&name, json!({})),
                "spec": { "replicas": or("replicas", 1.into()), "selector": { "matchLabels": selector }, "template": template } }),
        json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata(&name, json!({})),
                "spec": { "maxUnavailable": 1, "selector": { "matchLabels": selector } } }),
        service(&format!("{name}-monitoring"), "monitoring", monitoring, json!({})),
    ];
    if !service_ports.is_empty() {
        children.push(service(
            &name,
            "base",
            json!(service_ports),
            json!({ "internalTrafficPolicy": "Cluster" }),
        ));
        let headless = json!({ "clusterIP": "None" });
        children.push(service(
            &format!("{name}-headless"),
            "headless",
            json!(service_ports),
            headless,
        ));
    }
    if spec["serviceAccount"].is_null() {
        children.push(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(&name, json!({})) }));
    }
    children
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A config as the operator writes it: block style, sorted keys, integers from a million up as floats.
fn rendered(config: &Value) -> String {
    let mut text = String::new();
    let known = SECTIONS.iter().filter_map(|name| Some((*name, config.get(name)?)));
    for (name, section) in known {
        entry(&mut text, name, section, 0);
    }
    text
}

fn entry(text: &mut String, key: &str, value: &Value, depth: usize) {
    text.push_str(&format!("{}{}:", "  ".repeat(depth), scalar(&key.into())));
    below(text, value, depth + 1);
}

/// A value after `key:` or `-`.
fn below(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            map.iter().for_each(|(key, value)| entry(text, key, value, depth));
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            for value in list {
                text.push_str(&format!("{}-", "  ".repeat(depth)));
                below(text, value, depth + 1);
            }
        }
        other => text.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = |one: char| one.is_alphanumeric() || "/_.-${}".contains(one);
            let is_text = serde_saphyr::from_str::<Value>(text).is_ok_and(|one| one.is_string());
            let is_plain = text.starts_with(|one: char| one.is_alphabetic() || one == '$');
            if is_plain && is_text && text.chars().all(plain) {
                text.clone()
            } else {
                value.to_string()
            }
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_i64() && float.abs() >= 1e6 => exponent(float),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// As Go writes it: `1.234567e+06`.
fn exponent(number: f64) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{mantissa}e+{exponent:0>2}")
}

/// Compares the stand-in with what was seen of the real one.
pub(crate) fn check_itself() {
    let config = json!({ "processors": { "batch": { "send_batch_size": 1_234_567, "timeout": "5s" } }, "receivers": {},
        "exporters": { "datadog": { "api": { "key": "${datadog_api_key}", "id": "0777" } } } });
    assert_eq!(
        rendered(&config),
        "receivers: {}\nexporters:\n  datadog:\n    api:\n      id: \"0777\"\n      key: ${datadog_api_key}\nprocessors:\n  \
         batch:\n    send_batch_size: 1.234567e+06\n    timeout: \"5s\"\n"
    );
    let back: Value = serde_saphyr::from_str(&rendered(&config)).unwrap();
    assert_eq!(back["exporters"], config["exporters"]);
    let port = json!({ "object": { "spec": { "config": {
        "receivers": { "otlp": { "protocols": { "grpc": { "endpoint": "0.0.0.0:99999" } } } },
        "service": { "pipelines": { "traces": { "receivers": ["otlp"] } } },
    } } } });
    assert!(
        validate(&port).unwrap_err().contains("The port name 'otlp-grpc' errors: [], num '99999'")
    );
}
