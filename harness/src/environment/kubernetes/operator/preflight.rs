//! What the operator needs of a cluster, looked at before anything is made in it: each thing that is missing is named, with
//! the command that helps.
//!
//! What may not be read is passed over: the dry run at the end goes the way that the real request will go, through
//! conversion and webhooks, and shows in the API server's words what is wrong there.

use std::{collections::BTreeSet, fmt};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
            WebhookClientConfig,
        },
        apps::v1::Deployment,
        core::v1::Service,
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, WebhookConversion,
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{super::cluster, GROUP, KIND, Operator, Version};
use crate::environment::EnvironmentError;

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
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// How cert-manager comes into a cluster.
const INSTALL_CERT_MANAGER: &str = "install it with `kubectl apply -f \
    https://github.com/cert-manager/cert-manager/releases/latest/download/cert-manager.yaml`, on EKS with \
    `aws eks create-addon --cluster-name CLUSTER --addon-name cert-manager`";
/// How the operator comes into a cluster.
const INSTALL_OPERATOR: &str = "install it with `kubectl apply -f \
    https://github.com/open-telemetry/opentelemetry-operator/releases/latest/download/opentelemetry-operator.yaml`, on EKS \
    with `aws eks create-addon --cluster-name CLUSTER --addon-name adot --resolve-conflicts OVERWRITE`";

/// Something that is missing or does not work, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    what: String,
    remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

fn finding(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), remedy: remedy.into() }
}

/// Looks whether the cluster has an operator that can make the collector, and how it is to be asked; `wanted` is the version
/// that the user wants.
///
/// # Errors
/// All that is missing, in one.
pub async fn preflight(
    environment: &'static str,
    client: &Client,
    wanted: Option<Version>,
) -> Result<Operator, EnvironmentError> {
    let failed = |findings: &[Finding]| EnvironmentError::NoOperator {
        environment,
        findings: findings.iter().map(ToString::to_string).collect(),
    };
    let look = Look { client: client.clone() };
    match timeout(LIMIT, look.all(wanted)).await {
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

/// What was found where one looked.
enum Seen<T> {
    There(T),
    Missing,
    /// It may not be looked at, or the answer was none.
    Unknown,
}

/// A webhook, whatever it is for.
struct Hook {
    /// In words, for example ``the webhook `x` of `y` ``.
    name: String,
    service: Option<ServiceRef>,
    has_authority: bool,
    certificate: Option<String>,
}

/// Where a webhook is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ServiceRef {
    namespace: String,
    name: String,
}

struct Look {
    client: Client,
}

impl Look {
    async fn all(&self, wanted: Option<Version>) -> Result<Operator, Vec<Finding>> {
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
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
        if !certificates.is_empty() {
            findings.extend(self.cert_manager(&certificates).await);
        }
        findings.extend(hooks.iter().filter(|one| !one.has_authority).map(|hook| {
            finding(
                format!("{} has no `caBundle`, so the API server trusts nobody there", hook.name),
                "cert-manager's CA injector fills it in: look at \
                 `kubectl -n cert-manager rollout status deployment cert-manager-cainjector`",
            )
        }));
        for service in distinct(hooks.iter().filter_map(|one| one.service.clone())) {
            findings.extend(self.served(&service).await);
        }
        let Some(operator) = operator else { return Err(findings) };
        if findings.is_empty() {
            findings.extend(self.dry_run(operator.version).await);
        }
        if findings.is_empty() { Ok(operator) } else { Err(findings) }
    }

    /// The versions that the API tells everybody of, where the definition may not be read.
    async fn discovered(&self, wanted: Option<Version>) -> Result<Operator, Finding> {
        let groups = self.client.list_api_groups().await.map_err(|error| {
            finding(
                format!(
                    "it cannot be told whether the operator is there: {}",
                    cluster::told(&error)
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

    /// Whether somebody answers behind a webhook's Service.
    async fn served(&self, service: &ServiceRef) -> Option<Finding> {
        let ServiceRef { namespace, name } = service;
        let services = Api::<Service>::namespaced(self.client.clone(), namespace);
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
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), namespace);
        let of_service =
            ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices = slices.list(&of_service).await.ok()?;
        let ready =
            slices.items.iter().flat_map(|slice| slice.endpoints.iter()).any(|endpoint| {
                endpoint.conditions.as_ref().and_then(|one| one.ready).unwrap_or(true)
            });
        if ready {
            return None;
        }
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), namespace);
        let operators =
            ListParams::default().labels("app.kubernetes.io/name=opentelemetry-operator");
        let deployments = deployments.list(&operators).await.map(|list| list.items);
        let unready = deployments.unwrap_or_default().iter().find_map(unavailable);
        let (why, remedy) = unready.unwrap_or_else(|| {
            (
                "no Deployment of it is there".to_owned(),
                format!("look at `kubectl -n {namespace} get deployments,pods`"),
            )
        });
        Some(finding(
            format!(
                "the operator is not ready: Service `{namespace}/{name}` behind its webhooks has no ready endpoint, {why}"
            ),
            remedy,
        ))
    }

    /// What is wrong with cert-manager, which is to make and renew these certificates.
    async fn cert_manager(&self, certificates: &[String]) -> Vec<Finding> {
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
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
        let deployments = Api::<Deployment>::all(self.client.clone());
        if let Ok(list) = deployments.list(&ListParams::default().labels(parts)).await {
            let its = cert_managers(&list.items);
            if its.is_empty() {
                let what = "cert-manager's definitions are there, but it does not run: no Deployment has the label \
                            `app.kubernetes.io/name: cert-manager`";
                findings.push(finding(what, INSTALL_CERT_MANAGER));
            }
            findings.extend(
                its.into_iter().filter_map(unavailable).map(|(why, remedy)| {
                    finding(format!("cert-manager is not ready: {why}"), remedy)
                }),
            );
        }
        if findings.is_empty() {
            findings.extend(self.issuer().await);
        }
        for certificate in certificates {
            findings.extend(self.certificate(certificate).await);
        }
        findings
    }

    /// Whether cert-manager's own webhook answers: only then is it ready.
    async fn issuer(&self) -> Option<Finding> {
        let api = of_cert_manager("Issuer");
        let issuer = DynamicObject::new("tracecheck-preflight", &api)
            .data(json!({ "spec": { "selfSigned": {} } }));
        let error = self.try_to_create(&api, &issuer).await?;
        Some(finding(
            format!("cert-manager is not ready: an Issuer cannot be created: {error}"),
            "look at `kubectl -n cert-manager get pods`, and try again when all are ready",
        ))
    }

    /// Whether a certificate was made, by `NAMESPACE/NAME`.
    async fn certificate(&self, path: &str) -> Option<Finding> {
        let (namespace, name) = path.split_once('/')?;
        let api = of_cert_manager("Certificate");
        let certificates =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &api);
        match seen(certificates.get_opt(name)).await {
            Seen::There(certificate) => {
                let why = not_ready(&certificate.data["status"])?;
                Some(finding(
                    format!(
                        "the certificate `{path}` of the operator's webhooks is not ready: {why}"
                    ),
                    format!("look at `kubectl -n {namespace} describe certificate {name}`"),
                ))
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
        let remedy = remedy(&error);
        Some(finding(
            format!("a dry run of an {KIND} ({}) is refused: {error}", version.name()),
            remedy,
        ))
    }

    /// Why an object cannot be created. That one has no right to is told when it is really made.
    async fn try_to_create(&self, api: &ApiResource, object: &DynamicObject) -> Option<String> {
        let objects =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), DRY_RUN_NAMESPACE, api);
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let error = objects.create(&params, object).await.err()?;
        let told = cluster::told(&error);
        let no_right = cluster::code(&error) == Some(403) && told.contains(" cannot create ");
        (!no_right).then_some(told)
    }
}

/// What helps when the API server cannot make use of the operator's webhooks; also for what is told of a real request.
pub(in super::super) fn remedy(error: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["x509", "tls: "]) {
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
            tracing::debug!(error = cluster::told(&error), "preflight");
            Seen::Unknown
        }
    }
}

/// All objects of a kind; `None` where they may not be listed.
async fn list<K>(client: &Client) -> Option<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
{
    Api::<K>::all(client.clone()).list(&ListParams::default()).await.ok().map(|list| list.items)
}

fn of_cert_manager(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", kind))
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}

/// How the operator is asked, by its definition.
fn operator_of(
    definition: &CustomResourceDefinition,
    wanted: Option<Version>,
) -> Result<Operator, Finding> {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    let established = conditions
        .into_iter()
        .flatten()
        .any(|one| one.type_ == "Established" && one.status == "True");
    if !established {
        return Err(finding(
            format!("the definition `{DEFINITION}` is not established"),
            format!("look at `kubectl describe crd {DEFINITION}`"),
        ));
    }
    let served = definition.spec.versions.iter().filter(|one| one.served);
    let names: Vec<String> = served.map(|one| one.name.clone()).collect();
    let version = choose(&names, wanted)?;
    let named = definition.spec.versions.iter().find(|one| one.name == version.name());
    let schema = named.and_then(|one| one.schema.as_ref()?.open_api_v3_schema.as_ref());
    let spec = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    let fields = spec.and_then(|spec| spec.properties.as_ref());
    // One that takes everything knows nothing.
    let open = spec.is_some_and(|spec| spec.x_kubernetes_preserve_unknown_fields == Some(true));
    let fields = fields.filter(|_| !open).map(|fields| fields.keys().cloned().collect());
    Ok(Operator { version, fields })
}

/// The version to apply: the wanted one, else the newest that we know.
fn choose(served: &[String], wanted: Option<Version>) -> Result<Version, Finding> {
    let is_served = |version: &Version| served.iter().any(|name| name == version.name());
    let serves = || crate::source::list(served.iter().map(String::as_str));
    if let Some(wanted) = wanted {
        return Some(wanted).filter(is_served).ok_or_else(|| {
            finding(
                format!("the cluster does not serve {KIND} as {}: it serves {}", wanted.name(), serves()),
                "leave `--collector-api-version` out, or install a version of the operator that has it",
            )
        });
    }
    [Version::V1Beta1, Version::V1Alpha1].into_iter().find(is_served).ok_or_else(|| {
        finding(
            format!(
                "the cluster serves {KIND} neither as v1beta1 nor as v1alpha1: it serves {}",
                serves()
            ),
            "use a newer tracecheck, or `--collector-install manifests`",
        )
    })
}

/// What the definition says of conversion, where versions are converted.
fn conversion(definition: &CustomResourceDefinition) -> Option<Hook> {
    let conversion = definition.spec.conversion.as_ref()?;
    if conversion.strategy != "Webhook" {
        return None;
    }
    let client = match &conversion.webhook {
        Some(WebhookConversion { client_config: Some(client), .. }) => client,
        _ => return None,
    };
    let service = client.service.as_ref();
    Some(Hook {
        name: format!("the conversion webhook of the definition `{DEFINITION}`"),
        service: service
            .map(|one| ServiceRef { namespace: one.namespace.clone(), name: one.name.clone() }),
        has_authority: client.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty())
            || service.is_none(),
        certificate: definition.annotations().get(INJECT_CA).cloned(),
    })
}

fn mutating_hooks(configurations: &[MutatingWebhookConfiguration]) -> Vec<Hook> {
    let each = configurations.iter().flat_map(|one| {
        let hooks = one.webhooks.iter().flatten();
        hooks.filter(|hook| is_about(hook.rules.as_ref())).map(|hook| {
            let certificate = one.annotations().get(INJECT_CA).cloned();
            admission(&hook.name, &one.name_any(), &hook.client_config, certificate)
        })
    });
    each.collect()
}

fn validating_hooks(configurations: &[ValidatingWebhookConfiguration]) -> Vec<Hook> {
    let each = configurations.iter().flat_map(|one| {
        let hooks = one.webhooks.iter().flatten();
        hooks.filter(|hook| is_about(hook.rules.as_ref())).map(|hook| {
            let certificate = one.annotations().get(INJECT_CA).cloned();
            admission(&hook.name, &one.name_any(), &hook.client_config, certificate)
        })
    });
    each.collect()
}

fn admission(
    name: &str,
    configuration: &str,
    client: &WebhookClientConfig,
    certificate: Option<String>,
) -> Hook {
    let service = client.service.as_ref();
    Hook {
        name: format!("the webhook `{name}` of `{configuration}`"),
        service: service
            .map(|one| ServiceRef { namespace: one.namespace.clone(), name: one.name.clone() }),
        has_authority: client.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty())
            || service.is_none(),
        certificate,
    }
}

/// Whether rules name the resource itself; one for everything is somebody else's.
fn is_about(rules: Option<&Vec<RuleWithOperations>>) -> bool {
    let names =
        |list: &Option<Vec<String>>, name: &str| list.iter().flatten().any(|one| one == name);
    rules
        .into_iter()
        .flatten()
        .any(|rule| names(&rule.api_groups, GROUP) && names(&rule.resources, PLURAL))
}

/// cert-manager's Deployments, of those that have names like its.
fn cert_managers(deployments: &[Deployment]) -> Vec<&Deployment> {
    let is_main = |one: &&Deployment| {
        one.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "cert-manager")
    };
    let namespaces: BTreeSet<Option<String>> =
        deployments.iter().filter(is_main).map(ResourceExt::namespace).collect();
    deployments.iter().filter(|one| namespaces.contains(&one.namespace())).collect()
}

/// Why a Deployment serves nobody, and what helps.
fn unavailable(deployment: &Deployment) -> Option<(String, String)> {
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available =
        deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    if wanted == 0 {
        return Some((
            format!("Deployment `{namespace}/{name}` is scaled to 0"),
            format!(
                "scale it up with `kubectl -n {namespace} scale deployment {name} --replicas=1`"
            ),
        ));
    }
    (available == 0).then(|| {
        (
            format!("Deployment `{namespace}/{name}` has none of {wanted} pods available"),
            format!("wait for `kubectl -n {namespace} rollout status deployment {name}`, and see `kubectl -n {namespace} describe pods`"),
        )
    })
}

/// Why a resource with conditions is not ready.
fn not_ready(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    match conditions.clone().find(|one| one["type"] == "Ready") {
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) => Some(ready["message"].as_str().unwrap_or("no reason is given").to_owned()),
        None => Some("cert-manager has not looked at it yet".to_owned()),
    }
}
