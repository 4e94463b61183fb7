//! Evidence that a cluster has of a system beyond its logs: events and the states of resources.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Event, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::typed::Typed;

/// Most events that an error shows.
const MAX_SHOWN: usize = 8;

/// The last events of objects whose name begins with `prefix`, each in a line, the oldest first.
pub(super) async fn last_events(client: &Client, namespace: &str, prefix: &str) -> Vec<String> {
    let mut events = match events(client, namespace).await {
        Ok(events) => events,
        Err(error) => {
            return vec![format!(
                "the events cannot be read: {}",
                super::cluster::described(&error)
            )];
        }
    };
    events.retain(|event| {
        event.involved_object.name.as_deref().is_some_and(|name| name.starts_with(prefix))
    });
    let skipped = events.len().saturating_sub(MAX_SHOWN);
    events.iter().skip(skipped).map(line).collect()
}

/// All events, the oldest first.
pub(super) async fn events(client: &Client, namespace: &str) -> kube::Result<Vec<Event>> {
    let mut events =
        Typed::<Event>::namespaced(client, namespace).list(&ListParams::default()).await?;
    events.sort_by_key(at);
    Ok(events)
}

/// When it was seen last.
fn at(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let micro = event.event_time.as_ref().map(|at| at.0);
    let last = event.last_timestamp.as_ref().map(|at| at.0);
    last.or(micro).or(event.metadata.creation_timestamp.as_ref().map(|at| at.0))
}

/// An event in one line.
pub(super) fn line(event: &Event) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let object = &event.involved_object;
    let times = event.count.filter(|count| *count > 1).map(|count| format!(" ({count} times)"));
    format!(
        "{} {} {}/{}: {}{}",
        text(&event.type_),
        text(&event.reason),
        text(&object.kind),
        text(&object.name),
        text(&event.message).trim(),
        times.unwrap_or_default()
    )
}

/// The states of all resources of the namespace but secrets, as JSON; what cannot be read says why.
pub(super) async fn resources(client: &Client, namespace: &str) -> Value {
    let (pods, deployments, replica_sets, services, slices, configs) = tokio::join!(
        list(client, namespace, ApiResource::erase::<Pod>(&())),
        list(client, namespace, ApiResource::erase::<Deployment>(&())),
        list(client, namespace, ApiResource::erase::<ReplicaSet>(&())),
        list(client, namespace, ApiResource::erase::<Service>(&())),
        list(client, namespace, ApiResource::erase::<EndpointSlice>(&())),
        list(client, namespace, ApiResource::erase::<ConfigMap>(&())),
    );
    json!({
        "pods": pods,
        "deployments": deployments,
        "replicaSets": replica_sets,
        "services": services,
        "endpointSlices": slices,
        "configMaps": configs,
    })
}

async fn list(client: &Client, namespace: &str, kind: ApiResource) -> Value {
    let objects = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
    match objects.list(&ListParams::default()).await {
        Ok(list) => {
            let plain = list.items.into_iter().map(|mut object| {
                object.managed_fields_mut().clear();
                serde_json::to_value(object).unwrap_or_default()
            });
            plain.collect()
        }
        Err(error) => Value::String(super::cluster::described(&error)),
    }
}
