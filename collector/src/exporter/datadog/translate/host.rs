//! Origin of spans: host name, container id and container tags of a resource.
//!
//! Rules: `pkg/opentelemetry-mapping-go/otlp/attributes` of the reference.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::attributes::Attrs;
use super::table::{CONTAINER_TAGS, IMAGE_TAGS};
use crate::exporter::datadog::model::Text;
use crate::trace_batch::AnyValue;

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

/// The host's name, or `fallback` where the resource has none; empty where there is no host (ECS Fargate).
pub(super) fn hostname<'a>(resource: &Attrs<'a>, fallback: &'a str) -> Text<'a> {
    source(resource).unwrap_or(Cow::Borrowed(fallback.as_bytes()))
}

/// The host's name, if the resource says where its spans come from; empty where there is no host (ECS Fargate).
pub(super) fn source<'a>(resource: &Attrs<'a>) -> Option<Text<'a>> {
    let is_fargate = resource.string("aws.ecs.launchtype") == Some(b"fargate");
    match serverless(resource) {
        Some(Serverless::Known) => return Some(Cow::Borrowed(b"")),
        Some(Serverless::Incomplete) => return None,
        None if fargate_task(resource).is_some() => return Some(Cow::Borrowed(b"")),
        None => {}
    }
    named_host(resource, is_fargate).filter(|name| !NOT_A_HOST.contains(&name.as_ref()))
}

/// Origin without a host's name.
enum Serverless {
    Known,
    /// The attribute that would identify it is missing; even so the host that the resource names is not the spans' own.
    Incomplete,
}

/// Returns what the resource says of a platform without hosts (agent, `SourceFromAttrs`).
fn serverless(resource: &Attrs<'_>) -> Option<Serverless> {
    let has_all = |keys: &[&'static str]| {
        keys.iter().all(|key| resource.string(key).is_some_and(|text| !text.is_empty()))
    };
    const AZURE: [&str; 3] = ["service.name", "cloud.account.id", "azure.resource_group.name"];
    match resource.string("cloud.platform")? {
        b"gcp_cloud_run" | b"gcp_cloud_functions" => {
            const JOB: [&str; 2] = ["gcp.cloud_run.job.execution", "gcp.cloud_run.job.task_index"];
            const GOOGLE: [&str; 4] =
                ["cloud.account.id", "cloud.region", "faas.name", "faas.instance"];
            let is_known = !resource.has(&JOB) && has_all(&GOOGLE);
            Some(if is_known { Serverless::Known } else { Serverless::Incomplete })
        }
        b"azure.container_apps" | b"azure_container_apps" => Some(Serverless::Known),
        b"azure.app_service" | b"azure_app_service" | b"azure.functions" | b"azure_functions" => {
            has_all(&AZURE).then_some(Serverless::Known)
        }
        _ => None,
    }
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

/// Origin of a container tag; a later one counts before those above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A key in Datadog's own words.
    Datadog,
    /// A key with [`CUSTOM_TAG_PREFIX`].
    Custom,
    /// OpenTelemetry's key for it.
    Conventions,
}

/// Returns the container tag that an attribute of a resource becomes, and its value.
fn container_tag<'a>(key: &'a [u8], value: &AnyValue<'a>) -> Option<(&'a [u8], &'a [u8], Origin)> {
    let value = match value {
        AnyValue::String(text) => text,
        AnyValue::Array(_) if key == IMAGE_TAGS.as_bytes() => match value.elements().next() {
            Some(AnyValue::String(text)) => text,
            _ => return None,
        },
        _ => return None,
    };
    if value.is_empty() {
        return None;
    }
    if let Some((_, tag, ..)) = CONTAINER_TAGS.iter().find(|(name, ..)| name.as_bytes() == key) {
        return Some((tag.as_bytes(), value, Origin::Conventions));
    }
    if let Some(custom) = key.strip_prefix(CUSTOM_TAG_PREFIX) {
        return Some((custom, value, Origin::Custom));
    }
    let is_tag = CONTAINER_TAGS.iter().any(|(_, tag, ..)| tag.as_bytes() == key);
    is_tag.then_some((key, value, Origin::Datadog))
}

/// `key:value,key:value`, sorted by key; empty if the resource has none of them (agent, `ConsumeContainerTagsFromResource`).
pub(super) fn container_tags(resource: &Attrs<'_>) -> Vec<u8> {
    let mut tags: BTreeMap<&[u8], (&[u8], Origin)> = BTreeMap::new();
    for (key, value) in resource.iter() {
        let Some((tag, value, origin)) = container_tag(key, &value) else { continue };
        if tags.get(tag).is_none_or(|(_, known)| origin > *known) {
            tags.insert(tag, (value, origin));
        }
    }
    joined(tags.iter().map(|(tag, (value, _))| (*tag, *value)))
}

/// Returns the resource's attributes for its spans, without those that are container tags under no name of OpenTelemetry's;
/// `None` if it has none of these.
pub(super) fn without_container_tags<'a>(resource: &Attrs<'a>) -> Option<Attrs<'a>> {
    let is_kept = |key: &'a [u8], value: &AnyValue<'a>| {
        container_tag(key, value).is_none_or(|(_, _, origin)| origin == Origin::Conventions)
    };
    if resource.iter().all(|(key, value)| is_kept(key, &value)) {
        return None;
    }
    let mut kept = Attrs::default();
    for (key, value) in resource.raw() {
        if is_kept(key, &value.get()) {
            kept.push(key, value);
        }
    }
    Some(kept)
}

/// As [`container_tags`], by the first version of the receiver: without tags in Datadog's words, the last one of a name
/// counts, and a task on ECS Fargate is added once more.
pub(super) fn first_container_tags(resource: &Attrs<'_>) -> Vec<u8> {
    let mut tags: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for (key, value) in resource.iter() {
        match container_tag(key, &value) {
            Some((tag, value, Origin::Conventions)) => {
                tags.insert(tag, value);
            }
            Some((tag, value, Origin::Custom)) if !tag.is_empty() => {
                tags.entry(tag).or_insert(value);
            }
            _ => {}
        }
    }
    let mut joined = joined(tags.into_iter());
    if let Some(task) = fargate_task(resource) {
        joined.extend_from_slice(if joined.is_empty() { b"" } else { b"," });
        joined.extend_from_slice(b"task_arn:");
        joined.extend_from_slice(task);
    }
    joined
}

fn joined<'a>(tags: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let pairs: Vec<_> = tags.map(|(key, value)| [key, b":", value].concat()).collect();
    pairs.join(&b","[..])
}

/// The task, of spans that come from one on ECS Fargate.
fn fargate_task<'a>(resource: &Attrs<'a>) -> Option<&'a [u8]> {
    let is_fargate = resource.string("aws.ecs.launchtype") == Some(b"fargate");
    resource.string("aws.ecs.task.arn").filter(|_| is_fargate)
}
