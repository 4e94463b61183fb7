//! Kubernetes' API, as a pod asks it with its service account.

use std::time::Duration;

use super::{DetectError, Detector, Found, json_of};
use crate::exporter::http_client;
use crate::tls::ClientTls;

/// Client of the API, where the collector is in a pod.
struct Api {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Api {
    fn new(detector: &Detector<'_>) -> Result<Option<Self>, DetectError> {
        let Some(host) = detector.variable("KUBERNETES_SERVICE_HOST") else { return Ok(None) };
        let port = detector.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
        let folder = &detector.places.service_account;
        let authority = folder.join("ca.crt");
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        // Without the authority's certificate nobody is given the token.
        let is_secure = authority.is_file();
        let token = std::fs::read_to_string(folder.join("token")).ok().filter(|_| is_secure);
        let token = token.map(|token| token.trim().to_owned());
        let scheme = if is_secure { "https" } else { "http" };
        let tls = ClientTls { ca_file: is_secure.then_some(authority), ..ClientTls::default() };
        let timeout: Duration = detector.config.timeout;
        let client = http_client::client("collector", timeout, &tls, None, is_secure);
        let client = client.map_err(|error| DetectError::Wrong(error.to_string()))?;
        Ok(Some(Self { client, url: format!("{scheme}://{host}:{port}"), token }))
    }

    async fn get(&self, path: &str, what: &str) -> Result<serde_json::Value, DetectError> {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        json_of(request, what).await.map_err(|error| match error {
            DetectError::Http { what, error, .. }
                if error.status() == Some(reqwest::StatusCode::FORBIDDEN) =>
            {
                DetectError::Http {
                    what,
                    error,
                    hint: "; give the collector's service account the right to `get` `nodes` and `namespaces`",
                }
            }
            other => other,
        })
    }
}

/// The node of the collector's pod.
pub(super) async fn node(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let Some(api) = Api::new(detector)? else { return Ok(Found::default()) };
    let variable = &detector.config.k8snode.node_from_env_var;
    let Some(name) = detector.variable(variable) else {
        return Err(DetectError::Wrong(format!(
            "{variable} is not set; set it by the downward API, from `spec.nodeName`"
        )));
    };
    let has = |name: &str| detector.config.has(super::Kind::K8snode, name);
    let mut found = Found::default();
    found.put("k8s.node.name", name);
    if has("k8s.node.uid") {
        let node = api.get(&format!("/api/v1/nodes/{name}"), "the node in Kubernetes' API").await?;
        found.put_some("k8s.node.uid", node["metadata"]["uid"].as_str());
    }
    if has("k8s.cluster.uid") {
        // The cluster has no id of its own.
        let what = "the namespace `kube-system` in Kubernetes' API";
        match api.get("/api/v1/namespaces/kube-system", what).await {
            Ok(namespace) => {
                found.put_some("k8s.cluster.uid", namespace["metadata"]["uid"].as_str());
            }
            Err(error) => tracing::debug!(%error, "k8s.cluster.uid is not detected"),
        }
    }
    Ok(found)
}

/// Returns whether the cluster's version is one of EKS.
pub(super) async fn is_eks(detector: &Detector<'_>) -> Result<bool, DetectError> {
    let Some(api) = Api::new(detector)? else { return Ok(false) };
    let version = api.get("/version", "the version of Kubernetes").await?;
    Ok(version["gitVersion"].as_str().is_some_and(|version| version.contains("-eks-")))
}
