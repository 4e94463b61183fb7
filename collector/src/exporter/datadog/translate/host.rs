//! Where spans come from: host name, container id and container tags of a resource.
//!
//! Rules: `pkg/opentelemetry-mapping-go/otlp/attributes` of the reference.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::attributes::Attrs;
use crate::exporter::datadog::model::Text;
use crate::trace_batch::AnyValue;

/// OpenTelemetry's resource attributes that become container tags.
const CONTAINER_TAGS: [(&str, &str); 23] = [
    ("container.id", "container_id"),
    ("container.name", "container_name"),
    ("container.image.name", "image_name"),
    ("container.image.tag", "image_tag"),
    ("container.runtime", "runtime"),
    ("cloud.provider", "cloud_provider"),
    ("cloud.region", "region"),
    ("cloud.availability_zone", "zone"),
    ("aws.ecs.task.family", "task_family"),
    ("aws.ecs.task.arn", "task_arn"),
    ("aws.ecs.cluster.arn", "ecs_cluster_name"),
    ("aws.ecs.task.revision", "task_version"),
    ("aws.ecs.container.arn", "ecs_container_name"),
    ("k8s.container.name", "kube_container_name"),
    ("k8s.cluster.name", "kube_cluster_name"),
    ("k8s.deployment.name", "kube_deployment"),
    ("k8s.replicaset.name", "kube_replica_set"),
    ("k8s.statefulset.name", "kube_stateful_set"),
    ("k8s.daemonset.name", "kube_daemon_set"),
    ("k8s.job.name", "kube_job"),
    ("k8s.cronjob.name", "kube_cronjob"),
    ("k8s.namespace.name", "kube_namespace"),
    ("k8s.pod.name", "pod_name"),
];

/// A prefix for container tags of the user's own.
const CUSTOM_TAG_PREFIX: &[u8] = b"datadog.container.tag.";

const NOT_A_HOST: [&[u8]; 6] = [
    b"0.0.0.0",
    b"127.0.0.1",
    b"localhost",
    b"localhost.localdomain",
    b"localhost6.localdomain6",
    b"ip6-localhost",
];

/// The host's name, or `fallback` where the resource tells none; empty where there is no host (ECS Fargate).
pub(super) fn hostname<'a>(resource: &Attrs<'a>, fallback: &'a str) -> Text<'a> {
    source(resource).unwrap_or(Cow::Borrowed(fallback.as_bytes()))
}

/// The host's name, if the resource tells where its spans come from; empty where there is no host (ECS Fargate).
pub(super) fn source<'a>(resource: &Attrs<'a>) -> Option<Text<'a>> {
    let is_fargate = resource.string("aws.ecs.launchtype") == Some(b"fargate");
    if fargate_task(resource).is_some() {
        return Some(Cow::Borrowed(b""));
    }
    named_host(resource, is_fargate).filter(|name| !NOT_A_HOST.contains(&name.as_ref()))
}

fn named_host<'a>(resource: &Attrs<'a>, is_fargate: bool) -> Option<Text<'a>> {
    if resource.get("host").is_some() {
        return Some(resource.text(&["host"]));
    }
    if let Some(name) = resource.string("datadog.host.name") {
        return Some(Cow::Borrowed(name));
    }
    if is_fargate {
        return None;
    }
    let id = || resource.string("host.id").map(Cow::Borrowed);
    let name = || resource.string("host.name").map(Cow::Borrowed);
    match resource.string("cloud.provider") {
        Some(b"aws") => return id(),
        Some(b"gcp") => return google_host(resource),
        Some(b"azure") => return id().or_else(name),
        _ => {}
    }
    if let Some(node) = resource.string("k8s.node.name") {
        return Some(match resource.string("k8s.cluster.name") {
            Some(cluster) => Cow::Owned([node, b"-", cluster].concat()),
            None => Cow::Borrowed(node),
        });
    }
    id().or_else(name)
}

/// Google's hosts are `<name>.<project>`; a name that is itself a full one is cut at its first dot.
fn google_host<'a>(resource: &Attrs<'a>) -> Option<Text<'a>> {
    let mut name = resource.string("host.name")?;
    if name.iter().filter(|byte| **byte == b'.').count() >= 3 {
        name = name.split(|byte| *byte == b'.').next().unwrap_or(name);
    }
    let project = resource.string("cloud.account.id")?;
    Some(Cow::Owned([name, b".", project].concat()))
}

/// `key:value,key:value`, sorted by key; empty if the resource has none of them.
pub(super) fn container_tags(resource: &Attrs<'_>) -> Vec<u8> {
    let mut tags: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for (key, value) in resource.iter() {
        let AnyValue::String(value) = value else { continue };
        if value.is_empty() {
            continue;
        }
        let mapped = CONTAINER_TAGS.iter().find(|(name, _)| name.as_bytes() == key);
        if let Some((_, tag)) = mapped {
            tags.insert(tag.as_bytes(), value);
        } else if let Some(custom) = key.strip_prefix(CUSTOM_TAG_PREFIX)
            && !custom.is_empty()
        {
            tags.entry(custom).or_insert(value);
        }
    }
    let pairs: Vec<_> = tags.iter().map(|(key, value)| [key, &b":"[..], value].concat()).collect();
    let mut joined = pairs.join(&b","[..]);
    if let Some(task) = fargate_task(resource) {
        // The reference adds the task once more, as the source of the spans.
        joined.extend_from_slice(if joined.is_empty() { b"" } else { b"," });
        joined.extend_from_slice(b"task_arn:");
        joined.extend_from_slice(task);
    }
    joined
}

/// The task, of spans that come from one on ECS Fargate.
fn fargate_task<'a>(resource: &Attrs<'a>) -> Option<&'a [u8]> {
    let is_fargate = resource.string("aws.ecs.launchtype") == Some(b"fargate");
    resource.string("aws.ecs.task.arn").filter(|_| is_fargate)
}
