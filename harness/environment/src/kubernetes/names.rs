//! Names of things in a cluster: the article's names, and names that Kubernetes accepts.

use std::collections::{BTreeMap, BTreeSet};

use harness_system::{Role, System};

/// The collector's Deployment and Service: what the operator makes of the article's resource `my-collector`.
pub(super) const COLLECTOR: &str = "my-collector-collector";
/// The collector's service account, as in the article.
pub(super) const COLLECTOR_ACCOUNT: &str = "aws-otel-collector";
/// Everybody else's service account.
pub(super) const ACCOUNT: &str = "tracecheck";

/// The container in every pod of a workload.
pub(super) const CONTAINER: &str = "workload";
/// The collector's container in pods that the operator makes.
pub(super) const OPERATOR_CONTAINER: &str = "otc-container";

/// Label of everything that this program makes, with the value [`MANAGER`].
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Name of the manager; also the name under which fields are owned.
pub(super) const MANAGER: &str = "tracecheck";
/// Label with the run's id.
pub(super) const RUN: &str = "tracecheck/run";
/// Label with the workload's name in the system.
pub(super) const WORKLOAD: &str = "tracecheck/workload";
/// Annotation of a namespace: when it may be removed, whoever made it; RFC 3339.
pub(super) const EXPIRES: &str = "tracecheck/expires";
/// Annotation of a service account: the role on AWS that it stands for.
pub(super) const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
/// The label by which the article's Services choose their pods.
pub(super) const NAME: &str = "name";

/// Most characters of a container port's name.
const MAX_PORT_NAME: usize = 15;

/// Name of a workload's Deployment and Service, by which others find it too.
pub(super) fn object_name(system: &System, workload: &str) -> String {
    let collectors = || system.workloads.iter().filter(|one| one.role == Role::Collector);
    match collectors().next() {
        Some(first) if first.name == workload => COLLECTOR.to_owned(),
        // A Service's name begins with a letter, a workload's may begin with a digit.
        _ if workload.starts_with(|first: char| first.is_ascii_digit()) => format!("w-{workload}"),
        _ => workload.to_owned(),
    }
}

/// The name of each port as Kubernetes takes it: at most 15 lower-case letters, digits and single `-`, with a letter among
/// them. What cannot be kept is `port-NUMBER`.
pub(super) fn port_names(ports: &BTreeMap<String, u16>) -> BTreeMap<&str, String> {
    let mut taken = BTreeSet::new();
    let mut names = BTreeMap::new();
    for (port, number) in ports {
        let wanted = port_name(port).filter(|name| !taken.contains(name));
        let name = wanted.unwrap_or_else(|| format!("port-{number}"));
        taken.insert(name.clone());
        names.insert(port.as_str(), name);
    }
    names
}

fn port_name(port: &str) -> Option<String> {
    let lower = port.to_ascii_lowercase();
    let words = lower.split(|one: char| !one.is_ascii_alphanumeric());
    let name = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let fits = name.len() <= MAX_PORT_NAME && name.bytes().any(|byte| byte.is_ascii_lowercase());
    // Such a name is kept for those that have none of their own.
    (fits && !name.starts_with("port-")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_are_kubernetes_names_and_no_two_are_the_same() {
        let ports = [
            "http",
            "otlp-grpc",
            "otlp/x-grpc",
            "OTLP x_grpc",
            "4317",
            "a-very-long-port-name",
            "/",
        ];
        let numbers = ports.iter().zip(9000..).map(|(port, number)| ((*port).to_owned(), number));
        let numbers: BTreeMap<String, u16> = numbers.collect();
        let names = port_names(&numbers);
        assert_eq!(names["http"], "http");
        assert_eq!(names["otlp-grpc"], "otlp-grpc");
        // The first in order keeps it.
        assert_eq!(names["OTLP x_grpc"], "otlp-x-grpc");
        for port in ["otlp/x-grpc", "4317", "a-very-long-port-name", "/"] {
            assert_eq!(names[port], format!("port-{}", numbers[port]));
        }
        let different: BTreeSet<&String> = names.values().collect();
        assert_eq!(different.len(), ports.len());
    }

    #[test]
    fn the_collector_has_the_articles_name() {
        let mut collector = harness_system::testing::service("collector", &[]);
        collector.role = Role::Collector;
        let gateway = harness_system::testing::service("2nd", &[]);
        let system = harness_system::testing::system([gateway, collector]);
        assert_eq!(object_name(&system, "collector"), "my-collector-collector");
        assert_eq!(object_name(&system, "2nd"), "w-2nd");
    }
}
