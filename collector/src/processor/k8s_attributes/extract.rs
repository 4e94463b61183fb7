//! Attributes that an object makes, as the config asks for them.

use std::collections::BTreeMap;

use super::attribute::Attribute;
use super::config::{Config, Field};
use super::image::{self, Image};
use super::kind::Kind;
use super::object::Object;

/// Annotation by which a pod's spans get no attributes.
const IGNORE: &str = "opentelemetry.io/k8s-processor/ignore";
/// Beginning of annotations that name attributes.
const OTEL_ANNOTATION: &str = "resource.opentelemetry.io/";
/// How far the time in the name of a job may be from when its pod was created, in minutes.
const MOST_MINUTES: i64 = 24 * 60;

/// A container's attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    /// Those that are text.
    pub(super) texts: Vec<(&'static str, String)>,
    /// Those that are lists of one text.
    pub(super) lists: Vec<(&'static str, String)>,
    /// Its ids and digests by how often it was started anew.
    pub(super) runs: BTreeMap<i64, (Option<String>, Option<String>)>,
}

/// Containers of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Containers {
    pub(super) by_name: BTreeMap<String, Container>,
    /// Names by ids.
    pub(super) names: BTreeMap<String, String>,
}

/// Returns whether a pod's spans get no attributes.
pub(super) fn is_excluded(config: &Config, pod: &Object) -> bool {
    let asks =
        pod.annotations.get(IGNORE).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    asks || config.excluded.iter().any(|pattern| pattern.is_match(&pod.name))
}

/// The attributes of a pod that its resource has by itself.
pub(super) fn of_pod(config: &Config, pod: &Object) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |attribute: Attribute, value: &str| {
        if config.has(attribute) && !value.is_empty() {
            all.insert(attribute.name().to_owned(), value.to_owned());
        }
    };
    put(Attribute::PodName, &pod.name);
    put(Attribute::ServiceName, &pod.name);
    put(Attribute::PodHostname, &pod.spec.hostname);
    put(Attribute::PodIp, &pod.status.pod_ip);
    put(Attribute::NamespaceName, &pod.namespace);
    put(Attribute::ServiceNamespace, &pod.namespace);
    put(Attribute::PodStartTime, &pod.created_text);
    put(Attribute::PodUid, &pod.uid);
    put(Attribute::NodeName, &pod.spec.node_name);
    for owner in &pod.owners {
        let (name, uid) = match owner.kind.as_str() {
            "ReplicaSet" => (Attribute::ReplicaSetName, Attribute::ReplicaSetUid),
            "DaemonSet" => (Attribute::DaemonSetName, Attribute::DaemonSetUid),
            "StatefulSet" => (Attribute::StatefulSetName, Attribute::StatefulSetUid),
            "Job" => (Attribute::JobName, Attribute::JobUid),
            _ => continue,
        };
        put(name, &owner.name);
        put(uid, &owner.uid);
        put(Attribute::ServiceName, &owner.name);
        // Who made the one that made the pod is read off its name.
        let (maker, above) = match name {
            Attribute::ReplicaSetName => (deployment(pod), Attribute::DeploymentName),
            Attribute::JobName => (cron_job(pod), Attribute::CronJobName),
            _ => continue,
        };
        put(above, maker.unwrap_or_default());
        put(Attribute::ServiceName, maker.unwrap_or_default());
    }
    fields(&config.extract.labels, "label", Kind::Pod, &pod.labels, &mut all);
    let well_known = [
        ("app.kubernetes.io/name", Attribute::ServiceName),
        ("app.kubernetes.io/instance", Attribute::ServiceName),
        ("app.kubernetes.io/version", Attribute::ServiceVersion),
    ];
    for (label, attribute) in well_known {
        if let Some(value) = pod.label(label).filter(|_| config.has(attribute)) {
            all.insert(attribute.name().to_owned(), value.to_owned());
        }
    }
    fields(&config.extract.annotations, "annotation", Kind::Pod, &pod.annotations, &mut all);
    if config.extract.otel_annotations {
        for (key, value) in &pod.annotations {
            if let Some(name) = key.strip_prefix(OTEL_ANNOTATION).filter(|name| !name.is_empty()) {
                all.insert(name.to_owned(), value.clone());
            }
        }
    }
    all
}

/// The attributes that labels and annotations of an object that is no pod make.
pub(super) fn of_other(config: &Config, kind: Kind, object: &Object) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    fields(&config.extract.labels, "label", kind, &object.labels, &mut all);
    fields(&config.extract.annotations, "annotation", kind, &object.annotations, &mut all);
    all
}

fn fields(
    rules: &[Field],
    what: &str,
    kind: Kind,
    values: &BTreeMap<String, String>,
    all: &mut BTreeMap<String, String>,
) {
    for rule in rules.iter().filter(|rule| rule.kind == kind) {
        let by_default = |key: &str| format!("k8s.{}.{what}.{key}", kind.name());
        let Some(pattern) = &rule.pattern else {
            if let Some(value) = values.get(&rule.key) {
                let name = match rule.tag_name.as_str() {
                    "" => by_default(&rule.key),
                    name => name.to_owned(),
                };
                all.insert(name, value.clone());
            }
            continue;
        };
        let names_groups = pattern.captures_len() > 1 && !rule.tag_name.is_empty();
        for (key, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
            let Some(captures) = pattern.captures(key) else { continue };
            let mut name = String::new();
            match names_groups {
                true => captures.expand(&rule.tag_name, &mut name),
                false => name = by_default(key),
            }
            all.insert(name, value.clone());
        }
    }
}

/// The deployment that made a pod's replica set: named as the deployment, and behind that a hash that the pod has as a label.
fn deployment(pod: &Object) -> Option<&str> {
    let hash = pod.label("pod-template-hash").filter(|hash| !hash.is_empty())?;
    let name = pod.owner("ReplicaSet")?.name.strip_suffix(hash)?.strip_suffix('-')?;
    Some(name).filter(|name| !name.is_empty())
}

/// The cron job that made a pod's job: named as the cron job, and behind that the minute for which it was made.
fn cron_job(pod: &Object) -> Option<&str> {
    let (name, minute) = pod.owner("Job")?.name.rsplit_once('-')?;
    let is_minute = minute.len() == 8 && minute.bytes().all(|byte| byte.is_ascii_digit());
    let minute: i64 = minute.parse().ok().filter(|_| is_minute)?;
    ((pod.created / 60 - minute).abs() <= MOST_MINUTES && !name.is_empty()).then_some(name)
}

/// The attributes of a pod's containers.
pub(super) fn containers(config: &Config, pod: &Object) -> Containers {
    let mut all = Containers::default();
    let has = |attribute| config.has(attribute);
    let is_asked = [
        Attribute::ContainerId,
        Attribute::ContainerImageName,
        Attribute::ContainerImageTags,
        Attribute::ContainerImageRepoDigests,
        Attribute::ContainerName,
        Attribute::ServiceVersion,
        Attribute::ServiceInstanceId,
    ];
    let is_source = config.pod_association.iter().flat_map(|way| &way.sources);
    if !is_asked.into_iter().any(has)
        && !is_source.into_iter().any(|source| source.name == Attribute::ContainerId.name())
    {
        return all;
    }
    for planned in pod.spec.containers.iter().chain(&pod.spec.init_containers) {
        let container = all.by_name.entry(planned.name.clone()).or_default();
        let Some(image) = Image::parse(&planned.image) else { continue };
        let mut put = |attribute: Attribute, value: Option<String>| {
            let value = value.filter(|_| has(attribute));
            container.texts.extend(value.map(|value| (attribute.name(), value)));
        };
        put(Attribute::ContainerImageName, Some(image.name.to_owned()));
        put(Attribute::ServiceVersion, image.version());
        if has(Attribute::ContainerImageTags) {
            let tag = image.tag.unwrap_or("latest").to_owned();
            container.lists.push((Attribute::ContainerImageTags.name(), tag));
        }
    }
    for running in pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses) {
        let container = all.by_name.entry(running.name.clone()).or_default();
        let mut put = |attribute: Attribute, value: String| {
            container.texts.extend(has(attribute).then_some((attribute.name(), value)));
        };
        put(Attribute::ContainerName, running.name.clone());
        let instance = format!("{}.{}.{}", pod.namespace, pod.name, running.name);
        put(Attribute::ServiceInstanceId, instance);
        let id = match running.container_id.split_once("://") {
            Some((_, id)) => id,
            None => &running.container_id,
        };
        if !id.is_empty() {
            all.names.insert(id.to_owned(), running.name.clone());
        }
        let run = (
            Some(id.to_owned()).filter(|id| has(Attribute::ContainerId) && !id.is_empty()),
            image::canonical(&running.image_id)
                .filter(|_| has(Attribute::ContainerImageRepoDigests)),
        );
        if run != (None, None) {
            container.runs.insert(running.restart_count, run);
        }
    }
    all
}
