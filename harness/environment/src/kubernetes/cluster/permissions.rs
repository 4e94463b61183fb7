//! Permissions of a context's user, among those that a run needs; docs/environments.md has the same as a ClusterRole.

use futures_util::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Client, api::PostParams};

use super::{super::typed::Typed, described};

/// Verb, group, resource, subresource.
const NEEDED: [(&str, &str, &str, &str); 14] = [
    ("create", "", "namespaces", ""),
    ("delete", "", "namespaces", ""),
    ("create", "", "serviceaccounts", ""),
    ("create", "", "secrets", ""),
    ("create", "", "configmaps", ""),
    ("create", "", "services", ""),
    ("watch", "", "pods", ""),
    ("get", "", "pods", "log"),
    ("list", "", "events", ""),
    ("create", "", "pods", "portforward"),
    ("create", "", "pods", "exec"),
    ("create", "apps", "deployments", ""),
    ("patch", "apps", "deployments", "scale"),
    ("list", "discovery.k8s.io", "endpointslices", ""),
];

/// Lists the permissions that are missing, for example `create pods/exec`.
///
/// # Errors
/// When the API server does not say, in its words.
pub async fn missing(client: &Client) -> Result<Vec<String>, String> {
    let reviews = &Typed::<SelfSubjectAccessReview>::all(client);
    let asked = NEEDED.map(|(verb, group, resource, subresource)| async move {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: some(verb),
                    group: some(group),
                    resource: some(resource),
                    subresource: some(subresource),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| described(&error))?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let slash = if subresource.is_empty() { "" } else { "/" };
        Ok::<_, String>((!allowed).then(|| format!("{verb} {resource}{slash}{subresource}")))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}
