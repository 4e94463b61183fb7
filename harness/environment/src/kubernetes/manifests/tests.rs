use k8s_openapi::{
    api::{apps::v1::DeploymentSpec, core::v1::PodSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    workload::{escape, key},
    *,
};
use crate::kubernetes::plan;
use harness_core::secret::Secret as SecretText;
use harness_system::{System, chain::Chain};

fn chain() -> System {
    Chain::new(SecretText::new("5ecret")).system().unwrap()
}

fn settings() -> Settings {
    Settings {
        namespace: "tracecheck-1-0".to_owned(),
        run: Some("1".to_owned()),
        expires: Some("2026-01-02T00:00:00Z".to_owned()),
        image: "localhost/tracecheck:1".to_owned(),
        replicas: [("collector".to_owned(), 3)].into(),
        role_arn: None,
        collector_user: None,
        operator: None,
    }
}

fn of(system: &System, images: &BTreeMap<String, String>) -> Objects {
    objects(&plan(system, "cluster", images).unwrap(), &settings())
}

fn deployment<'a>(objects: &'a Objects, name: &str) -> &'a DeploymentSpec {
    let named = |one: &&Deployment| one.metadata.name.as_deref() == Some(name);
    objects.deployments.iter().find(named).unwrap().spec.as_ref().unwrap()
}

fn pod<'a>(objects: &'a Objects, name: &str) -> &'a PodSpec {
    deployment(objects, name).template.spec.as_ref().unwrap()
}

#[test]
fn what_stands_between_two_workloads_is_a_deployment_with_a_service_on_their_way() {
    let mut system = chain();
    let name = system.put_between("sample-app-1", "sample-app-2").unwrap();
    let objects = of(&system, &BTreeMap::new());
    let container = &pod(&objects, &name).containers[0];
    assert_eq!(container.command.as_deref().unwrap(), ["/tracecheck", "tap"]);
    let args = ["--edge=http=0.0.0.0:8080=sample-app-2:8080", "--control=0.0.0.0:9000"];
    assert_eq!(container.args.as_deref().unwrap(), args);
    let probe = container.readiness_probe.as_ref().unwrap().http_get.as_ref().unwrap();
    assert_eq!((probe.path.as_deref(), &probe.port), (Some("/health"), &IntOrString::Int(9000)));
    let service = objects.services.iter().find(|one| one.metadata.name.as_ref() == Some(&name));
    let ports = service.unwrap().spec.as_ref().unwrap().ports.as_ref().unwrap();
    let named: Vec<_> = ports.iter().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(named, [(Some("http"), 8080), (Some("tap-control"), 9000)]);
    let env = pod(&objects, "sample-app-1").containers[0].env.as_ref().unwrap();
    let upstream = env.iter().find(|one| one.name == "UPSTREAM_URIS").unwrap();
    assert_eq!(upstream.value, Some(format!("http://{name}:8080")));
}

#[test]
fn names_ports_labels_and_variables_are_the_articles() {
    let objects = of(&chain(), &BTreeMap::new());
    let names: Vec<_> =
        objects.services.iter().map(|one| one.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["intake", "my-collector-collector", "sample-app-1", "sample-app-2"]);
    let app = objects.services[2].spec.as_ref().unwrap();
    assert_eq!(app.selector.as_ref().unwrap()["name"], "sample-app-1");
    assert_eq!(app.ports.as_ref().unwrap()[0].port, 8080);
    let collector = objects.services[1].spec.as_ref().unwrap().ports.as_ref().unwrap();
    let numbers: Vec<i32> = collector.iter().map(|port| port.port).collect();
    // 9000 is for the ledger of traces, which the built-in collector has in every run.
    assert_eq!(numbers, [9000, 8888, 4317, 4318]);
    let env = pod(&objects, "sample-app-1").containers[0].env.as_ref().unwrap();
    let value =
        |name: &str| env.iter().find(|one| one.name == name).unwrap().value.clone().unwrap();
    assert_eq!(value("OTEL_EXPORTER_OTLP_ENDPOINT"), "http://my-collector-collector:4317");
    assert_eq!(value("UPSTREAM_URIS"), "http://sample-app-2:8080");
    let account = |name: &str| pod(&objects, name).service_account_name.clone().unwrap();
    assert_eq!(account("my-collector-collector"), "aws-otel-collector");
    assert_eq!(account("sample-app-2"), "tracecheck");
    assert_eq!(deployment(&objects, "my-collector-collector").replicas, Some(3));
    assert_eq!(deployment(&objects, "intake").replicas, Some(1));
}

#[test]
fn everything_is_labelled_and_in_the_runs_namespace() {
    let objects = of(&chain(), &BTreeMap::new());
    let metadata = (objects.deployments.iter().map(|one| &one.metadata))
        .chain(objects.services.iter().map(|one| &one.metadata))
        .chain(objects.config_maps.iter().map(|one| &one.metadata))
        .chain(objects.secrets.iter().map(|one| &one.metadata))
        .chain(objects.accounts.iter().map(|one| &one.metadata));
    let mut count = 0;
    for one in metadata {
        count += 1;
        assert_eq!(one.namespace.as_deref(), Some("tracecheck-1-0"));
        let labels = one.labels.as_ref().unwrap();
        assert_eq!((labels[MANAGED_BY].as_str(), labels[RUN].as_str()), (MANAGER, "1"));
    }
    assert_eq!(count, 4 + 4 + 1 + 2 + 2);
    let namespace = &objects.namespace.metadata;
    assert_eq!(
        namespace.labels.as_ref().unwrap()["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    assert_eq!(namespace.annotations.as_ref().unwrap()[EXPIRES], "2026-01-02T00:00:00Z");
}

#[test]
fn pods_have_no_rights_and_a_workloads_key_is_in_its_secret_only() {
    let objects = of(&chain(), &BTreeMap::new());
    for one in &objects.deployments {
        let pod = one.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let security = pod.security_context.as_ref().unwrap();
        assert_eq!((security.run_as_non_root, security.run_as_user), (Some(true), Some(65_532)));
        assert_eq!(pod.automount_service_account_token, Some(false));
        let container = &pod.containers[0];
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert!(container.readiness_probe.is_some() && container.liveness_probe.is_none());
        let resources = container.resources.as_ref().unwrap();
        assert!(resources.limits.as_ref().unwrap().contains_key("memory"));
        assert!(resources.requests.as_ref().unwrap().contains_key("cpu"));
    }
    let text = serde_json::to_string(&objects.deployments).unwrap();
    assert!(!text.contains("5ecret"), "{text}");
    let secret = &objects.secrets[0];
    assert_eq!(secret.data.as_ref().unwrap()["DD_API_KEY"].0, b"5ecret");
}

#[test]
fn a_collector_that_watches_the_cluster_may_and_is_given_its_node() {
    let with = |processors: &str, order: &str| {
        let mut system = chain();
        let collector = system.workloads.iter_mut().find(|one| one.name == "collector").unwrap();
        let config = collector.files.get_mut("collector.yaml").unwrap();
        config.contents = format!(
            "{{processors: {{{processors}}}, service: {{pipelines: {{traces: {{processors: [{order}]}}}}}}}}"
        );
        of(&system, &BTreeMap::new())
    };
    let objects = with(
        "k8s_attributes/a: {filter: {node_from_env_var: NODE}, extract: {metadata: [k8s.deployment.uid], labels: [{key: a, from: node}]}}",
        "k8s_attributes/a",
    );
    let [role] = objects.cluster_roles.as_slice() else { panic!("{:?}", objects.cluster_roles) };
    let rules: Vec<_> = role
        .rules
        .iter()
        .flatten()
        .map(|rule| {
            let words = |words: &Option<Vec<String>>| words.as_ref().unwrap().join(" ");
            (words(&rule.api_groups), words(&rule.resources), rule.verbs.join(" "))
        })
        .collect();
    let verbs = || "get list watch".to_owned();
    let expected = [
        (String::new(), "nodes pods".to_owned(), verbs()),
        ("apps".to_owned(), "replicasets".to_owned(), verbs()),
    ];
    assert_eq!(rules, expected);
    assert_eq!(role.metadata.name.as_deref(), Some("tracecheck-1-0-aws-otel-collector"));
    assert_eq!(role.metadata.labels.as_ref().unwrap()[RUN], "1");
    let [binding] = objects.cluster_role_bindings.as_slice() else { panic!() };
    assert_eq!(Some(&binding.role_ref.name), role.metadata.name.as_ref());
    let subject = &binding.subjects.as_ref().unwrap()[0];
    assert_eq!(
        (subject.name.as_str(), subject.namespace.as_deref()),
        ("aws-otel-collector", Some("tracecheck-1-0"))
    );
    let pod_of = |name: &str| pod(&objects, name);
    let collector = pod_of("my-collector-collector");
    assert_eq!(collector.automount_service_account_token, Some(true));
    assert_eq!(pod_of("sample-app-1").automount_service_account_token, Some(false));
    let env = collector.containers[0].env.as_ref().unwrap();
    let node = env.iter().find(|one| one.name == "NODE").unwrap().value_from.as_ref().unwrap();
    assert_eq!(node.field_ref.as_ref().unwrap().field_path, "spec.nodeName");
    // Neither what is not used needs anything, nor what asks no API, nor what asks it as somebody else.
    for (processors, order) in [
        ("k8sattributes: ", ""),
        ("k8sattributes: {passthrough: true}", "k8sattributes"),
        ("k8sattributes: {auth_type: kubeConfig}", "k8sattributes"),
        ("batch: ", "batch"),
    ] {
        let objects = with(processors, order);
        assert_eq!(objects.cluster_roles, [], "{processors}");
        assert_eq!(objects.cluster_role_bindings, [], "{processors}");
    }
    assert_eq!(with("k8sattributes: ", "k8sattributes").cluster_roles.len(), 1);
}

#[test]
fn somebody_elses_image_says_itself_who_runs_it() {
    let images = BTreeMap::from([("collector".to_owned(), "otelcol:1".to_owned())]);
    let objects = of(&chain(), &images);
    let pod = pod(&objects, "my-collector-collector");
    assert_eq!(pod.security_context.as_ref().unwrap().run_as_user, None);
    assert_eq!(pod.security_context.as_ref().unwrap().run_as_non_root, Some(true));
    assert_eq!(pod.containers[0].image.as_deref(), Some("otelcol:1"));
}

#[test]
fn the_system_file_says_who_runs_an_image_that_names_its_user() {
    let images = BTreeMap::from([("sample-app-2".to_owned(), "shop:1".to_owned())]);
    let mut system = chain();
    system.workloads.iter_mut().find(|one| one.name == "sample-app-2").unwrap().user = Some(10_001);
    let objects = of(&system, &images);
    let user = |name: &str| pod(&objects, name).security_context.as_ref().unwrap().run_as_user;
    assert_eq!(user("sample-app-2"), Some(10_001));
    assert_eq!(user("sample-app-1"), Some(65_532), "only that one's");
}

#[test]
fn a_collectors_user_without_a_number_is_given_one() {
    let user = |image: &str, collector_user| {
        let images = BTreeMap::from([("collector".to_owned(), image.to_owned())]);
        let planned = plan(&chain(), "cluster", &images).unwrap();
        let objects = objects(&planned, &Settings { collector_user, ..settings() });
        let service = pod(&objects, "sample-app-1").security_context.as_ref().unwrap().run_as_user;
        assert_eq!(service, Some(65_532), "only the collector's");
        pod(&objects, "my-collector-collector").security_context.as_ref().unwrap().run_as_user
    };
    assert_eq!(
        user("registry.example:5000/aws-observability/aws-otel-collector:v0.49.0", None),
        Some(4317)
    );
    assert_eq!(user("aws-otel-collector@sha256:0", Some(7)), Some(7), "what is said goes first");
    assert_eq!(user("mine/aws-otel-collector-fork:1", None), None);
    assert_eq!(user("mine:1", Some(10_001)), Some(10_001));
}

#[test]
fn what_kubernetes_would_replace_is_escaped() {
    for (text, escaped) in [
        ("${env:KEY}", "${env:KEY}"),
        ("$(HOME)", "$$(HOME)"),
        ("a$$b", "a$$$b"),
        ("$$(x)", "$$$$(x)"),
        ("$", "$"),
    ] {
        assert_eq!(escape(text), escaped);
    }
}

#[test]
fn names_that_are_no_keys_still_have_one() {
    assert_eq!(key("collector.yaml", 0), "collector.yaml");
    assert_eq!(key("my config", 2), "item-2");
    assert_eq!(key("..data", 1), "item-1");
}

#[test]
fn a_pod_has_as_long_to_end_as_its_system_file_says() {
    let mut system = chain();
    let grace = |system: &System, name: &str| {
        pod(&of(system, &BTreeMap::new()), name).termination_grace_period_seconds
    };
    assert_eq!(grace(&system, "sample-app-1"), Some(STOP_GRACE_SECONDS));
    let app = system.workloads.iter_mut().find(|one| one.name == "sample-app-1").unwrap();
    app.limits.stop = Some(std::time::Duration::from_millis(1500));
    assert_eq!(grace(&system, "sample-app-1"), Some(2));
    assert_eq!(grace(&system, "sample-app-2"), Some(STOP_GRACE_SECONDS));
}
