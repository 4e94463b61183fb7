//! Detection, with the metadata services played by stubs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stub_server::StubServer;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, ResponseTemplate};

use super::{Config, Found, Places, Value, detect, process};
use crate::settings::Purpose;
use crate::settings::decode::decode;
use crate::settings::node::Node;
use crate::telemetry::Registry;
use crate::trace_batch::{AnyValue, TraceBatch};

struct Rig {
    variables: BTreeMap<String, String>,
    places: Places,
    registry: Registry,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new(variables: &[(&str, &str)]) -> Self {
        crate::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        let places = Places {
            hosts: none.clone(),
            docker_socket: none.clone(),
            service_account: none,
            // Nobody listens there.
            metadata_service: "http://127.0.0.1:1".into(),
            ..Places::new("web")
        };
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Self {
            variables: variables.collect(),
            places,
            registry: Registry::default(),
            _folder: folder,
        }
    }

    async fn detect(&self, config: &str) -> Vec<String> {
        let mut config: Config =
            decode(&Node::parse("test", config).unwrap(), Purpose::Run).unwrap();
        config.look_up(&|name| self.variables.get(name).cloned());
        let found = detect(&config, "resource_detection", &self.places, &self.registry).await;
        found
            .0
            .iter()
            .map(|(name, value)| match value {
                Value::Text(text) => format!("{name}={text}"),
                Value::Texts(texts) => format!("{name}={texts:?}"),
            })
            .collect()
    }

    fn failures(&self) -> usize {
        self.registry
            .render(true)
            .lines()
            .filter(|line| line.contains("outcome=\"failure\"} 1"))
            .count()
    }
}

async fn answer(server: &StubServer, of: &str, body: ResponseTemplate) {
    Mock::given(method("GET")).and(path(of)).respond_with(body).mount(server).await;
}

fn text(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(text)
}

/// An instance's metadata service, of version 2.
async fn instance() -> StubServer {
    let server = StubServer::start().await;
    let of = |of: &str| {
        Mock::given(method("GET"))
            .and(path(format!("/latest/{of}")))
            .and(header("x-aws-ec2-metadata-token", "secret"))
    };
    Mock::given(method("PUT"))
        .and(path("/latest/api/token"))
        .and(header("x-aws-ec2-metadata-token-ttl-seconds", "60"))
        .respond_with(text("secret"))
        .mount(&server)
        .await;
    let document = json!({ "region": "eu-west-1", "accountId": "123", "availabilityZone": "eu-west-1a",
        "instanceId": "i-1", "imageId": "ami-1", "instanceType": "m5.large" });
    of("meta-data/instance-id").respond_with(text("i-1")).mount(&server).await;
    of("meta-data/hostname").respond_with(text("ip-10-0-0-1")).mount(&server).await;
    of("meta-data/tags/instance").respond_with(text("team\nsecret")).mount(&server).await;
    of("meta-data/tags/instance/team").respond_with(text("blue")).mount(&server).await;
    of("dynamic/instance-identity/document")
        .respond_with(ResponseTemplate::new(200).set_body_json(document))
        .mount(&server)
        .await;
    server
}

const OF_INSTANCE: [&str; 7] = [
    "cloud.region=eu-west-1",
    "cloud.account.id=123",
    "cloud.availability_zone=eu-west-1a",
    "host.id=i-1",
    "host.image.id=ami-1",
    "host.type=m5.large",
    "host.name=ip-10-0-0-1",
];

#[tokio::test]
async fn the_environment_and_the_operating_system_are_asked_in_order() {
    let rig = Rig::new(&[("OTEL_RESOURCE_ATTRIBUTES", "host.name=mine, a = b%20c ")]);
    let all = rig.detect("{detectors: [env, system]}").await;
    assert_eq!(all, ["host.name=mine", "a=b c", "os.type=linux"]);
    let system = "{detectors: [system], system: {resource_attributes: {host.arch: {enabled: true}, os.type: {enabled: false}}}}";
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(rig.detect(system).await, ["host.name=web".to_owned(), format!("host.arch={arch}")]);
    assert_eq!(Rig::new(&[]).detect("{}").await, [""; 0]);
    let wrong = Rig::new(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b,c")]);
    assert_eq!((wrong.detect("{}").await, wrong.failures()), (vec![], 1));
}

#[tokio::test]
async fn an_instance_is_described_by_both_versions_of_its_service() {
    let server = instance().await;
    let mut rig = Rig::new(&[]);
    rig.places.metadata_service = server.uri();
    let expected: Vec<_> =
        ["cloud.provider=aws", "cloud.platform=aws_ec2"].into_iter().chain(OF_INSTANCE).collect();
    assert_eq!(rig.detect("{detectors: [ec2]}").await, expected);
    let tags = rig.detect("{detectors: [ec2], ec2: {tags: ['^te'], tags_from_imds: true}}").await;
    assert_eq!(tags.last().unwrap(), "ec2.tag.team=blue");
    assert_eq!(tags.len(), expected.len() + 1);

    let old = StubServer::start().await;
    let forbidden = ResponseTemplate::new(403);
    Mock::given(method("PUT")).respond_with(forbidden).mount(&old).await;
    answer(&old, "/latest/meta-data/instance-id", text("i-2")).await;
    answer(&old, "/latest/meta-data/hostname", text("h")).await;
    let document = ResponseTemplate::new(200).set_body_json(json!({ "instanceId": "i-2" }));
    answer(&old, "/latest/dynamic/instance-identity/document", document).await;
    let rig = Rig::new(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &old.uri())]);
    let found = rig.detect("{detectors: [ec2]}").await;
    assert_eq!(found[2..], ["host.id=i-2", "host.name=h"]);
    assert_eq!(rig.failures(), 0);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_no_failure_and_one_that_hangs_does_not_stop_the_start() {
    let rig = Rig::new(&[]);
    let all = "{detectors: [ec2, ecs, eks, lambda, k8snode, env]}";
    assert_eq!((rig.detect(all).await, rig.failures()), (vec![], 0));
    // As where the hop limit keeps a container's requests from being answered.
    let hanging = StubServer::start().await;
    let never = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    Mock::given(method("PUT")).respond_with(never).mount(&hanging).await;
    let mut rig = Rig::new(&[
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
        ("KUBERNETES_SERVICE_HOST", "k"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/token"),
    ]);
    rig.places.metadata_service = hanging.uri();
    let begin = std::time::Instant::now();
    let settings = "{detectors: [ec2, eks, env], timeout: 200ms, eks: {resource_attributes: {host.id: {enabled: true}}}}";
    let found = rig.detect(settings).await;
    assert_eq!(found, ["cloud.provider=aws", "cloud.platform=aws_eks", "a=b"]);
    assert_eq!(rig.failures(), 1, "ec2");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_node_is_known_by_kubernetes_and_its_instance() {
    let api = StubServer::start().await;
    let node = json!({ "metadata": { "uid": "node-uid" } });
    answer(&api, "/api/v1/nodes/n1", ResponseTemplate::new(200).set_body_json(node)).await;
    let version = json!({ "gitVersion": "v1.33.0-eks-1" });
    answer(&api, "/version", ResponseTemplate::new(200).set_body_json(version)).await;
    let (host, port) = (api.address().ip().to_string(), api.address().port().to_string());
    let server = instance().await;
    let mut rig = Rig::new(&[
        ("KUBERNETES_SERVICE_HOST", &host),
        ("KUBERNETES_SERVICE_PORT", &port),
        ("K8S_NODE_NAME", "n1"),
    ]);
    rig.places.metadata_service = server.uri();
    for name in ["k8snode", "k8s_node", "k8s_api"] {
        let found = rig.detect(&format!("{{detectors: [{name}]}}")).await;
        assert_eq!(found, ["k8s.node.name=n1", "k8s.node.uid=node-uid"]);
    }
    assert_eq!(
        rig.detect("{detectors: [eks]}").await,
        ["cloud.provider=aws", "cloud.platform=aws_eks"]
    );
    let more = "{detectors: [eks], eks: {resource_attributes: {host.id: {enabled: true}, cloud.region: {enabled: true}}}}";
    assert_eq!(rig.detect(more).await[2..], ["cloud.region=eu-west-1", "host.id=i-1"]);
    let unnamed =
        Rig::new(&[("KUBERNETES_SERVICE_HOST", &host), ("KUBERNETES_SERVICE_PORT", &port)]);
    assert_eq!((unnamed.detect("{detectors: [k8snode]}").await, unnamed.failures()), (vec![], 1));
}

#[tokio::test]
async fn a_task_and_a_function_say_what_they_are() {
    let server = StubServer::start().await;
    let container = |id: &str, kind: &str| {
        json!({ "DockerId": id, "Type": kind, "KnownStatus": "RUNNING", "LogDriver": "awslogs",
            "LogOptions": { "awslogs-group": "g", "awslogs-region": "r1", "awslogs-stream": id } })
    };
    let task = json!({ "Cluster": "c", "TaskARN": "arn:aws:ecs:r1:123:task/c/t1", "Family": "f", "Revision": "7",
        "AvailabilityZone": "r1a", "LaunchType": "FARGATE",
        "Containers": [container("own", "NORMAL"), container("app", "NORMAL"), container("pause", "CNI_PAUSE")] });
    answer(&server, "/v4/x/task", ResponseTemplate::new(200).set_body_json(task)).await;
    answer(&server, "/v4/x", ResponseTemplate::new(200).set_body_json(container("own", "NORMAL")))
        .await;
    let url = format!("{}/v4/x", server.uri());
    let rig = Rig::new(&[("ECS_CONTAINER_METADATA_URI_V4", &url)]);
    assert_eq!(
        rig.detect("{detectors: [ecs]}").await,
        [
            "cloud.provider=aws",
            "cloud.platform=aws_ecs",
            "aws.ecs.task.arn=arn:aws:ecs:r1:123:task/c/t1",
            "aws.ecs.task.family=f",
            "aws.ecs.task.revision=7",
            "cloud.account.id=123",
            "cloud.region=r1",
            "aws.ecs.task.id=t1",
            "aws.ecs.cluster.arn=arn:aws:ecs:r1:123:cluster/c",
            "cloud.availability_zone=r1a",
            "aws.ecs.launchtype=fargate",
            "aws.log.group.names=[\"g\"]",
            "aws.log.group.arns=[\"arn:aws:logs:r1:123:log-group:g\"]",
            "aws.log.stream.names=[\"app\"]",
            "aws.log.stream.arns=[\"arn:aws:logs:r1:123:log-group:g:log-stream:app\"]",
        ]
    );
    let rig = Rig::new(&[
        ("AWS_LAMBDA_FUNCTION_NAME", "fn"),
        ("AWS_REGION", "r1"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
    ]);
    assert_eq!(
        rig.detect("{detectors: [lambda]}").await,
        [
            "cloud.provider=aws",
            "cloud.platform=aws_lambda",
            "cloud.region=r1",
            "faas.name=fn",
            "faas.instance=s",
            "aws.log.stream.names=[\"s\"]",
        ]
    );
}

#[tokio::test]
async fn docker_is_asked_where_it_is() {
    let server = StubServer::start().await;
    let info = json!({ "Name": "docker-host", "OSType": "linux" });
    answer(&server, "/info", ResponseTemplate::new(200).set_body_json(info)).await;
    let host = format!("tcp://{}", server.address());
    let rig = Rig::new(&[("DOCKER_HOST", &host)]);
    assert_eq!(
        rig.detect("{detectors: [docker]}").await,
        ["host.name=docker-host", "os.type=linux"]
    );
    let rig = Rig::new(&[]);
    assert_eq!((rig.detect("{detectors: [docker]}").await, rig.failures()), (vec![], 1));
}

#[test]
fn resources_get_what_was_found_over_or_beside_what_they_have() {
    let json = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"intValue":1}},{"key":"b","value":{"intValue":2}}]},"scopeSpans":[{"spans":[{"name":"n"}]}]},{"scopeSpans":[{"spans":[{"name":"m"}]}]}]}"#;
    let batch = TraceBatch::from_json(json.as_bytes()).unwrap();
    let mut found = Found::default();
    found.put("a", "new");
    found.put_list("l", vec!["x".into(), "y".into()]);
    let attributes = |replaces: bool| {
        let batch = process(&found, replaces, &batch);
        let batch = TraceBatch::from_protobuf(batch.to_protobuf().into()).unwrap();
        let of = |value: AnyValue<'_>| match value {
            AnyValue::String(text) => String::from_utf8_lossy(text).into_owned(),
            AnyValue::Int(value) => value.to_string(),
            list => list.elements().count().to_string(),
        };
        let resources = batch.resources().map(|resource| {
            let pairs = resource
                .attributes()
                .iter()
                .map(|(key, value)| format!("{}={}", String::from_utf8_lossy(key), of(value)))
                .collect::<Vec<_>>();
            pairs.join(" ")
        });
        resources.collect::<Vec<_>>()
    };
    assert_eq!(attributes(true), ["b=2 a=new l=2", "a=new l=2"]);
    assert_eq!(attributes(false), ["a=1 b=2 l=2", "a=new l=2"]);
}
