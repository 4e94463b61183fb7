//! Checks of what the operator needs of a cluster, before anything is created in it: each thing that is missing is named, with
//! the command that helps.
//!
//! What may not be read is passed over: the dry run at the end goes the way that the real request will go, through
//! conversion and webhooks, and shows in the API server's words what is wrong there.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        apps::v1::Deployment,
        core::v1::{Event, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

pub use self::objects::Finding;
use self::objects::{
    Hook, ServiceRef, Unavailable, cert_managers, choose, conversion, finding, is_young,
    mutating_hooks, not_ready, operator_of, selector, unavailable, unfilled, validating_hooks,
};
use super::{
    super::{cluster, error::KubernetesError, evidence, pods::PodState, typed::Typed},
    GROUP, KIND, Operator, Version,
};
use crate::EnvironmentError;

mod objects;
#[cfg(test)]
mod tests;

/// Name of the resource's definition.
const DEFINITION: &str = "opentelemetrycollectors.opentelemetry.io";
/// The resources' name in rules of webhooks.
const PLURAL: &str = "opentelemetrycollectors";
/// Annotation that has cert-manager fill in an authority: the certificate as `NAMESPACE/NAME`.
const INJECT_CA: &str = "cert-manager.io/inject-ca-from";
/// A namespace that every cluster has; nothing is made in it.
const DRY_RUN_NAMESPACE: &str = "default";
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it is looked again while something of it has only just started.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How soon it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How cert-manager comes into a cluster.
const INSTALL_CERT_MANAGER: &str = "install it with `kubectl apply -f \
    https://github.com/cert-manager/cert-manager/releases/latest/download/cert-manager.yaml`, on EKS with \
    `aws eks create-addon --cluster-name CLUSTER --addon-name cert-manager`";
/// How the operator comes into a cluster.
const INSTALL_OPERATOR: &str = "install it with `kubectl apply -f \
    https://github.com/open-telemetry/opentelemetry-operator/releases/latest/download/opentelemetry-operator.yaml`, on EKS \
    with `aws eks create-addon --cluster-name CLUSTER --addon-name adot --resolve-conflicts OVERWRITE`";

/// Verifies that the cluster has an operator that can create the collector, of the version `wanted` if given; retries
/// for a while if the operator has only just started.
///
/// # Errors
///
/// Everything that is missing, in one error.
pub async fn preflight(
    environment: &'static str,
    client: &Client,
    wanted: Option<Version>,
) -> Result<Operator, EnvironmentError> {
    let failed = |findings: &[Finding]| {
        let findings = findings.iter().map(ToString::to_string).collect();
        EnvironmentError::from(KubernetesError::NoOperator { environment, findings })
    };
    let look = Look { client: client.clone() };
    match timeout(LIMIT, look.until_settled(wanted)).await {
        Ok(Ok(operator)) => Ok(operator),
        Ok(Err(findings)) => Err(failed(&findings)),
        Err(_) => Err(failed(&[finding(
            format!(
                "the API server did not answer all questions about the operator within {LIMIT:?}"
            ),
            "look whether the cluster is well, with `kubectl get --raw /readyz?verbose`",
        )])),
    }
}

/// Verifies the operator once, as [`preflight`] does, without retrying.
///
/// # Errors
///
/// Everything that is missing.
pub async fn look(client: &Client, wanted: Option<Version>) -> Result<Operator, Vec<Finding>> {
    Look { client: client.clone() }.all(wanted).await
}

/// Result of a look.
enum Seen<T> {
    There(T),
    Missing,
    /// It may not be looked at, or the answer was none.
    Unknown,
}

struct Look {
    client: Client,
}

impl Look {
    async fn until_settled(&self, wanted: Option<Version>) -> Result<Operator, Vec<Finding>> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let seen = self.all(wanted).await;
            match &seen {
                // What cannot come by itself is not waited for, whatever else may.
                Err(findings)
                    if findings.iter().all(Finding::may_pass) && Instant::now() < deadline =>
                {
                    tracing::debug!(
                        findings = findings.len(),
                        "the operator has only just started"
                    );
                    sleep(LOOK_AGAIN).await;
                }
                _ => return seen,
            }
        }
    }

    async fn all(&self, wanted: Option<Version>) -> Result<Operator, Vec<Finding>> {
        let definitions = Typed::<CustomResourceDefinition>::all(&self.client);
        let (definition, mutating, validating) = tokio::join!(
            seen(definitions.get_opt(DEFINITION)),
            list::<MutatingWebhookConfiguration>(&self.client),
            list::<ValidatingWebhookConfiguration>(&self.client),
        );
        let definition = match definition {
            Seen::There(definition) => Some(definition),
            Seen::Missing => {
                let mut findings = self.cert_manager(&[]).await;
                findings.push(finding(
                    format!("the OpenTelemetry operator is not installed: there is no definition `{DEFINITION}`"),
                    INSTALL_OPERATOR,
                ));
                return Err(findings);
            }
            Seen::Unknown => None,
        };
        let mut findings = Vec::new();
        let operator = match &definition {
            Some(definition) => operator_of(definition, wanted),
            None => self.discovered(wanted).await,
        };
        let operator = operator.map_err(|one| findings.push(one)).ok();
        let mut hooks: Vec<Hook> = definition.as_ref().and_then(conversion).into_iter().collect();
        if let (Some(mutating), Some(validating)) = (mutating, validating) {
            let (mutating, validating) = (mutating_hooks(&mutating), validating_hooks(&validating));
            for (hooks, kind) in [(&mutating, "mutating"), (&validating, "validating")] {
                if hooks.is_empty() {
                    findings.push(finding(
                        format!("the cluster has no {kind} webhook for `{PLURAL}`, so the operator is installed in part only"),
                        format!("{INSTALL_OPERATOR} once more"),
                    ));
                }
            }
            hooks.extend(mutating.into_iter().chain(validating));
        }
        let certificates: Vec<String> =
            distinct(hooks.iter().filter_map(|one| one.certificate.clone()));
        let mut fills = true;
        if !certificates.is_empty() {
            let manager = self.cert_manager(&certificates).await;
            fills = manager.iter().all(Finding::may_pass);
            findings.extend(manager);
        }
        findings.extend(unfilled(&hooks, fills));
        for service in distinct(hooks.iter().filter_map(|one| one.service.clone())) {
            findings.extend(self.served(&service).await);
        }
        let Some(operator) = operator else { return Err(findings) };
        if findings.is_empty() {
            findings.extend(self.dry_run(operator.version).await);
        }
        if findings.is_empty() { Ok(operator) } else { Err(findings) }
    }

    /// Returns the versions that the API lists for everybody, where the definition may not be read.
    async fn discovered(&self, wanted: Option<Version>) -> Result<Operator, Finding> {
        let groups = self.client.list_api_groups().await.map_err(|error| {
            finding(
                format!(
                    "it cannot be determined whether the operator is there: {}",
                    cluster::described(&error)
                ),
                cluster::remedy(&error),
            )
        })?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP);
        let Some(group) = group else {
            return Err(finding(
                format!(
                    "the OpenTelemetry operator is not installed: the API has no group `{GROUP}`"
                ),
                INSTALL_OPERATOR,
            ));
        };
        let names: Vec<String> = group.versions.into_iter().map(|one| one.version).collect();
        choose(&names, wanted).map(Operator::of)
    }

    /// Returns whether somebody answers behind a webhook's Service.
    async fn served(&self, service: &ServiceRef) -> Option<Finding> {
        let ServiceRef { namespace, name } = service;
        let services = Typed::<Service>::namespaced(&self.client, namespace);
        match seen(services.get_opt(name)).await {
            Seen::There(_) => {}
            Seen::Missing => {
                return Some(finding(
                    format!(
                        "the Service `{namespace}/{name}` behind the operator's webhooks is missing"
                    ),
                    format!("{INSTALL_OPERATOR} once more"),
                ));
            }
            Seen::Unknown => return None,
        }
        let slices = Typed::<EndpointSlice>::namespaced(&self.client, namespace);
        let of_service =
            ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices = slices.list(&of_service).await.ok()?;
        let ready = slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter())
            .any(|endpoint| endpoint.conditions.as_ref().and_then(|one| one.ready).unwrap_or(true));
        if ready {
            return None;
        }
        let deployments = Typed::<Deployment>::namespaced(&self.client, namespace);
        let operators =
            ListParams::default().labels("app.kubernetes.io/name=opentelemetry-operator");
        let deployments = deployments.list(&operators).await;
        let deployments = deployments.unwrap_or_default();
        let not_ready = |why: &str| {
            format!(
                "the operator is not ready: Service `{namespace}/{name}` behind its webhooks has no ready endpoint, {why}"
            )
        };
        Some(match self.unavailable(deployments.iter()).await.into_iter().next() {
            Some(unready) => {
                finding(not_ready(&unready.why), unready.remedy).passing(unready.starts)
            }
            // Its pods are there, and the Service knows it a moment later; or it is another Deployment's.
            None => {
                let why = match deployments.is_empty() {
                    true => "no Deployment of it is there",
                    false => "though its Deployment is available",
                };
                let remedy = format!("look at `kubectl -n {namespace} get deployments,pods`");
                finding(not_ready(why), remedy).passing(!deployments.is_empty())
            }
        })
    }

    /// Finds what is wrong with cert-manager, which is to create and renew these certificates.
    async fn cert_manager(&self, certificates: &[String]) -> Vec<Finding> {
        let definitions = Typed::<CustomResourceDefinition>::all(&self.client);
        for name in ["certificates.cert-manager.io", "issuers.cert-manager.io"] {
            if matches!(seen(definitions.get_opt(name)).await, Seen::Missing) {
                let what = format!(
                    "cert-manager, which makes the certificate of the operator's webhooks, is not installed: there is no \
                     definition `{name}`"
                );
                return vec![finding(what, INSTALL_CERT_MANAGER)];
            }
        }
        let mut findings = Vec::new();
        let parts = "app.kubernetes.io/name in (cert-manager,cainjector,webhook)";
        let deployments = Typed::<Deployment>::all(&self.client);
        if let Ok(list) = deployments.list(&ListParams::default().labels(parts)).await {
            let its = cert_managers(&list);
            if its.is_empty() {
                let what = "cert-manager's definitions are there, but it does not run: no Deployment has the label \
                            `app.kubernetes.io/name: cert-manager`";
                findings.push(finding(what, INSTALL_CERT_MANAGER));
            }
            let unready = self.unavailable(its.into_iter()).await;
            findings.extend(unready.into_iter().map(|unready| {
                finding(format!("cert-manager is not ready: {}", unready.why), unready.remedy)
                    .passing(unready.starts)
            }));
        }
        if findings.is_empty() {
            findings.extend(self.issuer().await);
        }
        let starts = !findings.is_empty() && findings.iter().all(Finding::may_pass);
        for certificate in certificates {
            findings.extend(self.certificate(certificate, starts).await);
        }
        findings
    }

    /// Returns those of the Deployments that serve nobody, each with what its pods say of it.
    async fn unavailable(
        &self,
        deployments: impl Iterator<Item = &Deployment>,
    ) -> Vec<Unavailable> {
        let mut found = Vec::new();
        let now = Timestamp::now();
        for deployment in deployments {
            if unavailable(deployment, &[], now).is_none() {
                continue;
            }
            let namespace = deployment.namespace().unwrap_or_default();
            let of_it = ListParams::default().labels(&selector(deployment));
            let pods = Typed::<Pod>::namespaced(&self.client, &namespace).list(&of_it).await;
            let mut pods: Vec<PodState> =
                pods.map(|list| list.iter().map(PodState::of).collect()).unwrap_or_default();
            for pod in &mut pods {
                // The kubelet says in events only what a container that is being made waits for.
                if !pod.running
                    && pod.waiting.as_ref().is_none_or(|(why, _)| why == "ContainerCreating")
                {
                    pod.waiting =
                        self.mount_failure(&namespace, &pod.name).await.or(pod.waiting.take());
                }
            }
            found.extend(unavailable(deployment, &pods, now));
        }
        found
    }

    /// Returns what the newest event says of a volume that a pod cannot have, as word and message.
    async fn mount_failure(&self, namespace: &str, pod: &str) -> Option<(String, String)> {
        let events = evidence::events(&self.client, namespace).await.ok()?;
        let of_pod = |event: &&Event| event.involved_object.name.as_deref() == Some(pod);
        let event = events.iter().rev().find(of_pod)?;
        let word = event.reason.clone().filter(|reason| reason == "FailedMount")?;
        Some((word, event.message.clone().unwrap_or_default()))
    }

    /// Returns whether something of cert-manager or the operator has only just started: what does not fit then may be mended at
    /// once. cert-manager writes an authority anew 2 s after its start.
    async fn something_is_young(&self) -> bool {
        let parts =
            "app.kubernetes.io/name in (cert-manager,cainjector,webhook,opentelemetry-operator)";
        let pods = Typed::<Pod>::all(&self.client);
        let pods = pods.list(&ListParams::default().labels(parts)).await;
        let now = Timestamp::now();
        pods.is_ok_and(|list| list.iter().any(|pod| is_young(&PodState::of(pod), now)))
    }

    /// Returns whether cert-manager's own webhook answers: only then is it ready.
    async fn issuer(&self) -> Option<Finding> {
        let api = of_cert_manager("Issuer");
        let issuer = DynamicObject::new("tracecheck-preflight", &api)
            .data(json!({ "spec": { "selfSigned": {} } }));
        let error = self.try_to_create(&api, &issuer).await?;
        let passes = self.may_pass(&error).await;
        let reported = finding(
            format!("cert-manager is not ready: an Issuer cannot be created: {error}"),
            "look at `kubectl -n cert-manager get pods`, and try again when all are ready",
        );
        Some(reported.passing(passes))
    }

    /// Returns what is wrong with a certificate, named `NAMESPACE/NAME`. `starts` says that cert-manager, which makes it, is just
    /// starting.
    async fn certificate(&self, path: &str, starts: bool) -> Option<Finding> {
        let (namespace, name) = path.split_once('/')?;
        let api = of_cert_manager("Certificate");
        let certificates =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &api);
        match seen(certificates.get_opt(name)).await {
            Seen::There(certificate) => {
                let why = not_ready(&certificate.data["status"])?;
                let is_new = objects::is_recent(
                    certificate.metadata.creation_timestamp.as_ref(),
                    Timestamp::now(),
                );
                let what = format!(
                    "the certificate `{path}` of the operator's webhooks is not ready: {why}"
                );
                let remedy =
                    format!("look at `kubectl -n {namespace} describe certificate {name}`");
                Some(finding(what, remedy).passing(starts || is_new))
            }
            Seen::Missing => Some(finding(
                format!("the certificate `{path}` of the operator's webhooks is missing"),
                format!("{INSTALL_OPERATOR} once more, now that cert-manager is there"),
            )),
            Seen::Unknown => None,
        }
    }

    /// Has the API server do all but keep a collector.
    async fn dry_run(&self, version: Version) -> Option<Finding> {
        let collector = DynamicObject::new("tracecheck-preflight", &version.api())
            .data(json!({ "spec": { "mode": "deployment", "config": probe(version) } }));
        let error = self.try_to_create(&version.api(), &collector).await?;
        let (remedy, passes) = (remedy(&error), self.may_pass(&error).await);
        let reported = format!("a dry run of an {KIND} ({}) is refused: {error}", version.name());
        Some(finding(reported, remedy).passing(passes))
    }

    /// Returns whether what a webhook answered may be well a moment later.
    async fn may_pass(&self, error: &str) -> bool {
        nobody_listens(error)
            || (is_untrusted(error) || is_late(error)) && self.something_is_young().await
    }

    /// Finds why an object cannot be created. A missing permission is reported when it is really created.
    async fn try_to_create(&self, api: &ApiResource, object: &DynamicObject) -> Option<String> {
        let objects =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), DRY_RUN_NAMESPACE, api);
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let error = objects.create(&params, object).await.err()?;
        let reported = cluster::described(&error);
        let no_right = cluster::code(&error) == Some(403) && reported.contains(" cannot create ");
        (!no_right).then_some(reported)
    }
}

/// Returns whether the API server found nobody behind a webhook, or nobody who kept the connection: as it is for a moment though
/// its pod is ready, while the nodes learn the way to it.
fn nobody_listens(error: &str) -> bool {
    [
        "connection refused",
        "connection reset by peer",
        "host is down",
        "network is unreachable",
        "no endpoints available",
        "no route to host",
        ": EOF",
    ]
    .iter()
    .any(|words| error.contains(words))
}

/// Returns whether a webhook took the API server's connection, or nothing, and did not answer in time: so does one whose pod has
/// just taken the place of another.
fn is_late(error: &str) -> bool {
    ["context deadline exceeded", "i/o timeout"].iter().any(|words| error.contains(words))
}

/// Returns whether the API server does not trust a webhook's certificate.
fn is_untrusted(error: &str) -> bool {
    ["x509", "tls: "].iter().any(|words| error.contains(words))
}

/// Returns what helps when the API server cannot use the operator's webhooks; also for what a real request is answered.
pub(in super::super) fn remedy(error: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if is_untrusted(error) {
        "the authority (`caBundle`) of the definition or of the webhooks does not fit the operator's certificate: have \
         cert-manager write it again with `kubectl -n cert-manager rollout restart deployment cert-manager-cainjector`"
            .to_owned()
    } else if has(&["denied the request", "is invalid", "strict decoding", "field not declared"]) {
        "the operator does not take such a resource: see what it says".to_owned()
    } else if has(&["webhook"]) {
        "the operator does not answer: look at `kubectl get pods --all-namespaces -l \
         app.kubernetes.io/name=opentelemetry-operator`"
            .to_owned()
    } else {
        "see what the API server says".to_owned()
    }
}

/// A config that every collector takes.
fn probe(version: Version) -> Value {
    let config = json!({
        "receivers": { "otlp": { "protocols": { "grpc": { "endpoint": "0.0.0.0:4317" } } } },
        "exporters": { "debug": {} },
        "service": { "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["debug"] } } },
    });
    match version {
        Version::V1Alpha1 => config.to_string().into(),
        Version::V1Beta1 => config,
    }
}

async fn seen<T>(answer: impl Future<Output = kube::Result<Option<T>>>) -> Seen<T> {
    match answer.await {
        Ok(Some(one)) => Seen::There(one),
        Ok(None) => Seen::Missing,
        Err(error) => {
            // The kind itself is not there.
            if cluster::code(&error) == Some(404) {
                return Seen::Missing;
            }
            tracing::debug!(error = cluster::described(&error), "preflight");
            Seen::Unknown
        }
    }
}

/// All objects of a kind; `None` where they may not be listed.
async fn list<K>(client: &Client) -> Option<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + DeserializeOwned,
{
    Typed::<K>::all(client).list(&ListParams::default()).await.ok()
}

fn of_cert_manager(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", kind))
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}
