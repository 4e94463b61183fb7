//! Determines the host that Datadog shows for a resource.

use super::value::Attributes;

/// Names that are no host's own.
const LOCAL: [&str; 6] = [
    "0.0.0.0",
    "127.0.0.1",
    "localhost",
    "localhost.localdomain",
    "localhost6.localdomain6",
    "ip6-localhost",
];

/// Returns the host's name; an empty one where there is no host, or none is named.
pub(super) fn hostname(resource: Attributes<'_>) -> String {
    let has = |key: &str| !resource.text(&[key]).is_empty();
    let is_without_hosts = match resource.text(&["cloud.platform"]).as_str() {
        "gcp_cloud_run"
        | "gcp_cloud_functions"
        | "azure.container_apps"
        | "azure_container_apps" => true,
        "azure.app_service" | "azure_app_service" | "azure.functions" | "azure_functions" => {
            ["service.name", "cloud.account.id", "azure.resource_group.name"].into_iter().all(has)
        }
        _ => false,
    };
    let is_fargate = resource.text(&["aws.ecs.launchtype"]) == "fargate";
    if is_without_hosts || is_fargate && has("aws.ecs.task.arn") {
        return String::new();
    }
    let name = named(resource, is_fargate);
    if LOCAL.contains(&name.as_str()) { String::new() } else { name }
}

fn named(resource: Attributes<'_>, is_fargate: bool) -> String {
    let text = |keys: &[&str]| resource.text(keys);
    let own = text(&["host", "datadog.host.name"]);
    if !own.is_empty() || is_fargate {
        return own;
    }
    match text(&["cloud.provider"]).as_str() {
        "aws" => text(&["host.id"]),
        "azure" => text(&["host.id", "host.name"]),
        "gcp" => {
            let (name, project) = (text(&["host.name"]), text(&["cloud.account.id"]));
            // A full name is cut at its first point.
            let short = match name.matches('.').count() {
                0..=2 => name.as_str(),
                _ => name.split('.').next().unwrap_or_default(),
            };
            match project.is_empty() || short.is_empty() {
                true => String::new(),
                false => format!("{short}.{project}"),
            }
        }
        _ => {
            let (node, cluster) = (text(&["k8s.node.name"]), text(&["k8s.cluster.name"]));
            match (node.is_empty(), cluster.is_empty()) {
                (true, _) => text(&["host.id", "host.name"]),
                (false, true) => node,
                (false, false) => format!("{node}-{cluster}"),
            }
        }
    }
}
