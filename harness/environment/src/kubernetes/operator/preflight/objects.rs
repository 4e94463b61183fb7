//! Findings about an operator in the cluster's objects: pure functions.

use std::{collections::BTreeSet, fmt, time::Duration};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
            WebhookClientConfig,
        },
        apps::v1::Deployment,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, WebhookConversion,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;
use serde_json::Value;

use super::{
    super::{super::pods::PodState, GROUP, KIND, Operator, Version},
    DEFINITION, INJECT_CA, PLURAL,
};

/// How long after its start something that is not available is expected to become so.
const STARTING: Duration = Duration::from_secs(60);

/// Something that is missing or does not work, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    what: String,
    remedy: String,
    /// Whether something has only just started, so that it may be well a moment later.
    passes: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl Finding {
    /// The same, which may be over a moment later or not.
    pub(super) fn passing(self, passes: bool) -> Self {
        Self { passes, ..self }
    }

    pub(super) fn may_pass(&self) -> bool {
        self.passes
    }
}

pub(super) fn finding(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), remedy: remedy.into(), passes: false }
}

/// A webhook, whatever it is for.
pub(super) struct Hook {
    /// In words, for example ``the webhook `x` of `y` ``.
    pub(super) name: String,
    pub(super) service: Option<ServiceRef>,
    pub(super) has_authority: bool,
    pub(super) certificate: Option<String>,
}

/// Address of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceRef {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// How the operator is asked, by its definition.
pub(super) fn operator_of(
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
pub(super) fn choose(served: &[String], wanted: Option<Version>) -> Result<Version, Finding> {
    let is_served = |version: &Version| served.iter().any(|name| name == version.name());
    let serves = || harness_core::source::list(served.iter().map(String::as_str));
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

/// Returns what the definition says of conversion, where versions are converted.
pub(super) fn conversion(definition: &CustomResourceDefinition) -> Option<Hook> {
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

pub(super) fn mutating_hooks(configurations: &[MutatingWebhookConfiguration]) -> Vec<Hook> {
    let each = configurations.iter().flat_map(|one| {
        let hooks = one.webhooks.iter().flatten();
        hooks.filter(|hook| is_about(hook.rules.as_ref())).map(|hook| {
            let certificate = one.annotations().get(INJECT_CA).cloned();
            admission(&hook.name, &one.name_any(), &hook.client_config, certificate)
        })
    });
    each.collect()
}

pub(super) fn validating_hooks(configurations: &[ValidatingWebhookConfiguration]) -> Vec<Hook> {
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

/// Returns whether rules name the resource itself; one for everything is somebody else's.
fn is_about(rules: Option<&Vec<RuleWithOperations>>) -> bool {
    let names =
        |list: &Option<Vec<String>>, name: &str| list.iter().flatten().any(|one| one == name);
    rules
        .into_iter()
        .flatten()
        .any(|rule| names(&rule.api_groups, GROUP) && names(&rule.resources, PLURAL))
}

/// cert-manager's Deployments, of those that have names like its.
pub(super) fn cert_managers(deployments: &[Deployment]) -> Vec<&Deployment> {
    let is_main = |one: &&Deployment| {
        one.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "cert-manager")
    };
    let namespaces: BTreeSet<Option<String>> =
        deployments.iter().filter(is_main).map(ResourceExt::namespace).collect();
    deployments.iter().filter(|one| namespaces.contains(&one.namespace())).collect()
}

/// A Deployment that serves nobody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unavailable {
    /// The reason.
    pub(super) why: String,
    /// The remedy.
    pub(super) remedy: String,
    /// Whether it has only just begun to start.
    pub(super) starts: bool,
}

/// Returns why a Deployment serves nobody, as its pods say where they may be read, and what helps.
pub(super) fn unavailable(
    deployment: &Deployment,
    pods: &[PodState],
    now: Timestamp,
) -> Option<Unavailable> {
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available =
        deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    if wanted == 0 {
        let why = format!("Deployment `{namespace}/{name}` is scaled to 0");
        let remedy = format!(
            "scale it up with `kubectl -n {namespace} scale deployment {name} --replicas=1`"
        );
        return Some(Unavailable { why, remedy, starts: false });
    }
    if available > 0 {
        return None;
    }
    let mut why = format!("Deployment `{namespace}/{name}` has none of {wanted} pods available");
    let mut pods: Vec<&PodState> = pods.iter().filter(|pod| !pod.deleting).collect();
    pods.sort_by(|a, b| (&b.created, &b.name).cmp(&(&a.created, &a.name)));
    if let Some((word, message)) = pods.iter().find_map(|pod| pod.waiting.as_ref()) {
        why.push_str(&format!(" ({word}"));
        if !message.is_empty() {
            why.push_str(&format!(": {message}"));
        }
        why.push(')');
    }
    Some(Unavailable {
        why,
        remedy: format!(
            "wait for `kubectl -n {namespace} rollout status deployment {name}`, and see `kubectl -n {namespace} describe \
             pods`"
        ),
        starts: match pods.is_empty() {
            true => has_just_changed(deployment, now),
            false => pods.iter().any(|pod| is_young(pod, now)),
        },
    })
}

/// Returns whether a pod has been there, or its container has run, for less than [`STARTING`], and does not wait for something
/// that only a change brings.
pub(super) fn is_young(pod: &PodState, now: Timestamp) -> bool {
    const GIVEN_UP: [&str; 7] = [
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    ];
    let is_given_up = pod.waiting.as_ref().is_some_and(|(word, _)| GIVEN_UP.contains(&&**word));
    let is_new = is_recent(pod.created.as_ref(), now) || is_recent(pod.since.as_ref(), now);
    is_new && !is_given_up && !pod.deleting && pod.failed.is_none()
}

/// Returns whether something was less than [`STARTING`] ago. The cluster's clock may be a little before ours.
pub(super) fn is_recent(at: Option<&Time>, now: Timestamp) -> bool {
    at.is_some_and(|at| now.duration_since(at.0).as_secs() < STARTING.as_secs() as i64)
}

/// Returns whether a Deployment without available pods has had them, or been there, within the last [`STARTING`].
fn has_just_changed(deployment: &Deployment, now: Timestamp) -> bool {
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let available = conditions.find(|one| one.type_ == "Available");
    let since = available.and_then(|one| one.last_transition_time.as_ref());
    is_recent(since.or(deployment.metadata.creation_timestamp.as_ref()), now)
}

/// Returns the selector of a Deployment's pods, as the API takes it; one without labels has none.
pub(super) fn selector(deployment: &Deployment) -> String {
    let labels = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    let each = labels.into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
    each.collect::<Vec<_>>().join(",")
}

/// Returns one finding for all webhooks without an authority. `fills` says that cert-manager, which fills them in where they name
/// a certificate, is well or about to be.
pub(super) fn unfilled(hooks: &[Hook], fills: bool) -> Option<Finding> {
    let without: Vec<&Hook> = hooks.iter().filter(|hook| !hook.has_authority).collect();
    let (have, there) = match without.len() {
        0 => return None,
        1 => ("has", "there"),
        _ => ("have", "at any of them"),
    };
    let names: Vec<&str> = without.iter().map(|hook| &*hook.name).collect();
    let names = names.join(", ");
    let passes = fills && without.iter().all(|hook| hook.certificate.is_some());
    let reported = finding(
        format!("{names} {have} no `caBundle`, so the API server trusts nobody {there}"),
        "cert-manager's CA injector fills it in: look at \
         `kubectl -n cert-manager rollout status deployment cert-manager-cainjector`",
    );
    Some(reported.passing(passes))
}

/// Returns why a resource with conditions is not ready.
pub(super) fn not_ready(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    match conditions.clone().find(|one| one["type"] == "Ready") {
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) => Some(ready["message"].as_str().unwrap_or("no reason is given").to_owned()),
        None => Some("cert-manager has not looked at it yet".to_owned()),
    }
}
