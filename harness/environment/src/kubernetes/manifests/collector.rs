//! The `OpenTelemetryCollector` that the operator makes a collector of.

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::{
    super::{
        names::COLLECTOR_ACCOUNT,
        operator::{self, Operator, RESOURCE, Version},
    },
    Settings,
    workload::{Maker, container_security, mount, scratch},
};
use harness_core::source;
use harness_system::parts::CONFIG_FILE;

/// The resource for a collector's container, whose only file is the config to use.
pub(super) fn resource(maker: &Maker<'_>, operator: &Operator) -> DynamicObject {
    let Maker { container, settings } = maker;
    let text = container.files.get(CONFIG_FILE).map(String::as_str).unwrap_or_default();
    let config = match operator.version {
        Version::V1Alpha1 => text.into(),
        Version::V1Beta1 => source::read_yaml(CONFIG_FILE, text).unwrap_or_default(),
    };
    let mut spec = Map::from_iter([
        ("mode".to_owned(), json!("deployment")),
        ("serviceAccount".to_owned(), json!(COLLECTOR_ACCOUNT)),
        ("image".to_owned(), json!(maker.image())),
        // Also for a tag `latest`: an image may be one that was loaded and that no registry has.
        ("imagePullPolicy".to_owned(), json!("IfNotPresent")),
        ("replicas".to_owned(), json!(replicas(maker, settings))),
        ("env".to_owned(), json!(maker.env())),
        ("resources".to_owned(), json!(maker.resources())),
        ("podSecurityContext".to_owned(), json!(maker.pod_security())),
        ("securityContext".to_owned(), json!(container_security())),
        // A process that is not the first one of its namespace can be frozen and killed.
        ("shareProcessNamespace".to_owned(), json!(true)),
        ("volumes".to_owned(), json!([scratch()])),
        ("volumeMounts".to_owned(), json!([mount("tmp", "/tmp", false)])),
        ("config".to_owned(), config),
    ]);
    let args = container.args.iter().filter_map(|arg| operator::config::argument(arg));
    let args: Map<String, Value> =
        args.map(|(name, value)| (name.to_owned(), value.into())).collect();
    if !args.is_empty() {
        spec.insert("args".to_owned(), args.into());
    }
    spec.retain(|field, _| operator.knows(field));
    let mut object = DynamicObject::new(RESOURCE, &operator.version.api())
        .within(&settings.namespace)
        .data(json!({ "spec": Value::Object(spec) }));
    // The operator copies these onto what it makes, pods included.
    object.metadata.labels = Some(maker.run_and_workload());
    object
}

fn replicas(maker: &Maker<'_>, settings: &Settings) -> u32 {
    settings.replicas.get(&maker.container.workload).copied().unwrap_or(1)
}
