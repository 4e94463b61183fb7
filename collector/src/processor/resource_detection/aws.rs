//! AWS' metadata services.

use serde_json::Value;

use super::{DetectError, Detector, Found, json_of, kubernetes, text_of};
use crate::settings::pattern;

/// The metadata service of an EC2 instance.
struct Instance<'a> {
    client: &'a reqwest::Client,
    url: String,
    /// Of version 2; version 1 has none.
    token: Option<String>,
}

impl<'a> Instance<'a> {
    /// Begins a session; `None` if there is no such service.
    async fn begin(detector: &'a Detector<'_>) -> Result<Option<Self>, DetectError> {
        if detector
            .variable("AWS_EC2_METADATA_DISABLED")
            .is_some_and(|is| is.eq_ignore_ascii_case("true"))
        {
            return Ok(None);
        }
        let of_places = &detector.places.metadata_service;
        let url = detector.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(of_places);
        let url = url.trim_end_matches('/').to_owned();
        let client = &detector.client;
        let request = client
            .put(format!("{url}/latest/api/token"))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "60")
            // So that there is time left for what is known without it.
            .timeout(detector.config.timeout / 2);
        let token = match request.send().await {
            Ok(response) if response.status().is_success() => response.text().await.ok(),
            // Only version 1 is there.
            Ok(response) if matches!(response.status().as_u16(), 403..=405) => None,
            Ok(response) => {
                let status = response.status();
                return Err(DetectError::Wrong(format!("the metadata service answers {status}")));
            }
            Err(error) if error.is_timeout() => {
                let hint = super::hint(super::Kind::Ec2);
                return Err(DetectError::Late(detector.config.timeout / 2, hint));
            }
            Err(_) => return Ok(None),
        };
        let instance = Self { client, url, token };
        // Whatever answers at that address, only an instance has an id.
        Ok(instance.get("meta-data/instance-id").await.is_ok().then_some(instance))
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.get(format!("{}/latest/{path}", self.url));
        match &self.token {
            Some(token) => request.header("x-aws-ec2-metadata-token", token),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Result<String, DetectError> {
        text_of(self.request(path), "the metadata service").await
    }

    /// Puts what the service says of the instance.
    async fn describe(&self, found: &mut Found) -> Result<(), DetectError> {
        let path = "dynamic/instance-identity/document";
        let document = json_of(self.request(path), "the instance's identity").await?;
        for (name, key) in [
            ("cloud.region", "region"),
            ("cloud.account.id", "accountId"),
            ("cloud.availability_zone", "availabilityZone"),
            ("host.id", "instanceId"),
            ("host.image.id", "imageId"),
            ("host.type", "instanceType"),
        ] {
            found.put_some(name, document[key].as_str());
        }
        found.put_some("host.name", Some(&self.get("meta-data/hostname").await?));
        Ok(())
    }
}

/// An EC2 instance.
pub(super) async fn ec2(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let mut found = Found::default();
    let Some(instance) = Instance::begin(detector).await? else { return Ok(found) };
    cloud(&mut found, "aws_ec2");
    instance.describe(&mut found).await?;
    let wanted: Vec<_> =
        detector.config.ec2.tags.iter().filter_map(|tag| pattern::compile(tag).ok()).collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    match instance.get("meta-data/tags/instance").await {
        Ok(names) => {
            for name in names.lines().filter(|name| wanted.iter().any(|tag| tag.is_match(name))) {
                let path = format!("meta-data/tags/instance/{name}");
                match instance.get(&path).await {
                    Ok(value) => found.put(&format!("ec2.tag.{name}"), value),
                    Err(error) => {
                        tracing::warn!(tag = name, %error, "a tag of the instance cannot be read")
                    }
                }
            }
        }
        Err(error) => tracing::warn!(
            %error,
            "the instance's tags cannot be read; allow tags in its metadata (`InstanceMetadataTags`)"
        ),
    }
    Ok(found)
}

/// A node of an EKS cluster.
pub(super) async fn eks(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let mut found = Found::default();
    if detector.variable("KUBERNETES_SERVICE_HOST").is_none() {
        return Ok(found);
    }
    let has =
        |name: &str, part: &str| detector.variable(name).is_some_and(|value| value.contains(part));
    let is_eks = has("AWS_WEB_IDENTITY_TOKEN_FILE", "eks.amazonaws.com")
        || has("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "eks-pod-identity")
        || kubernetes::is_eks(detector).await?;
    if !is_eks {
        return Ok(found);
    }
    cloud(&mut found, "aws_eks");
    let of_instance = [
        "cloud.region",
        "cloud.account.id",
        "cloud.availability_zone",
        "host.id",
        "host.image.id",
        "host.type",
        "host.name",
    ];
    // Unless they are asked for, the metadata service is not, which a pod may not reach.
    if of_instance.iter().any(|name| detector.config.has(super::Kind::Eks, name)) {
        match Instance::begin(detector).await {
            Ok(Some(instance)) => {
                if let Err(error) = instance.describe(&mut found).await {
                    tracing::warn!(%error, "the node's instance is not described");
                }
            }
            Ok(None) => tracing::warn!(
                "the metadata service of the node's instance cannot be reached{}",
                super::hint(super::Kind::Eks)
            ),
            Err(error) => tracing::warn!(%error, "the node's instance is not described"),
        }
    }
    Ok(found)
}

/// An ECS task.
pub(super) async fn ecs(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let mut found = Found::default();
    let url = detector
        .variable("ECS_CONTAINER_METADATA_URI_V4")
        .or_else(|| detector.variable("ECS_CONTAINER_METADATA_URI"));
    let Some(url) = url else { return Ok(found) };
    let url = url.trim_end_matches('/');
    let task = json_of(detector.client.get(format!("{url}/task")), "the task's metadata").await?;
    cloud(&mut found, "aws_ecs");
    let text = |key: &str| task[key].as_str().unwrap_or_default();
    let arn: Vec<_> = text("TaskARN").split(':').collect();
    let (region, account, task_id) = match arn.as_slice() {
        [_, _, _, region, account, task, ..] => {
            (*region, *account, task.rsplit('/').next().unwrap_or_default())
        }
        _ => ("", "", ""),
    };
    found.put_some("aws.ecs.task.arn", Some(text("TaskARN")));
    found.put_some("aws.ecs.task.family", Some(text("Family")));
    found.put_some("aws.ecs.task.revision", Some(text("Revision")));
    found.put_some("cloud.account.id", Some(account));
    found.put_some("cloud.region", Some(region));
    found.put_some("aws.ecs.task.id", Some(task_id));
    let cluster = text("Cluster");
    let cluster = match cluster.contains(':') {
        true => cluster.to_owned(),
        false => format!("arn:aws:ecs:{region}:{account}:cluster/{cluster}"),
    };
    found.put("aws.ecs.cluster.arn", cluster);
    found.put_some("cloud.availability_zone", Some(text("AvailabilityZone")));
    let launch_type = text("LaunchType").to_lowercase();
    if ["ec2", "fargate"].contains(&launch_type.as_str()) {
        found.put("aws.ecs.launchtype", launch_type);
    }
    let own = json_of(detector.client.get(url), "the container's metadata").await;
    if let Ok(own) = own {
        put_logs(&mut found, &task, &own, account);
    }
    Ok(found)
}

/// Puts where the task's other containers log to.
fn put_logs(found: &mut Found, task: &Value, own: &Value, account: &str) {
    let (mut groups, mut group_arns) = (Vec::new(), Vec::new());
    let (mut streams, mut stream_arns) = (Vec::new(), Vec::new());
    for container in task["Containers"].as_array().into_iter().flatten() {
        let is = |key: &str, value: &str| container[key] == value;
        let logs = &container["LogOptions"];
        if !is("Type", "NORMAL")
            || !is("KnownStatus", "RUNNING")
            || !is("LogDriver", "awslogs")
            || container["DockerId"] == own["DockerId"]
            || !logs.is_object()
        {
            continue;
        }
        let option = |key: &str| logs[key].as_str().unwrap_or_default().to_owned();
        let (group, stream) = (option("awslogs-group"), option("awslogs-stream"));
        let arn = format!("arn:aws:logs:{}:{account}:log-group:{group}", option("awslogs-region"));
        stream_arns.push(format!("{arn}:log-stream:{stream}"));
        group_arns.push(arn);
        groups.push(group);
        streams.push(stream);
    }
    found.put_list("aws.log.group.names", groups);
    found.put_list("aws.log.group.arns", group_arns);
    found.put_list("aws.log.stream.names", streams);
    found.put_list("aws.log.stream.arns", stream_arns);
}

/// A function of AWS Lambda.
pub(super) fn lambda(detector: &Detector<'_>) -> Found {
    let mut found = Found::default();
    let Some(name) = detector.variable("AWS_LAMBDA_FUNCTION_NAME") else { return found };
    cloud(&mut found, "aws_lambda");
    found.put_some("cloud.region", detector.variable("AWS_REGION"));
    found.put("faas.name", name);
    found.put_some("faas.version", detector.variable("AWS_LAMBDA_FUNCTION_VERSION"));
    let stream = detector.variable("AWS_LAMBDA_LOG_STREAM_NAME");
    found.put_some("faas.instance", stream);
    found.put_some("faas.max_memory", detector.variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
    let list = |name: Option<&str>| name.map(str::to_owned).into_iter().collect();
    found.put_list("aws.log.group.names", list(detector.variable("AWS_LAMBDA_LOG_GROUP_NAME")));
    found.put_list("aws.log.stream.names", list(stream));
    found
}

fn cloud(found: &mut Found, platform: &str) {
    found.put("cloud.provider", "aws");
    found.put("cloud.platform", platform);
}
