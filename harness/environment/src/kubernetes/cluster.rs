//! The way to a cluster: a kubeconfig's context, or the pod this runs in; and what errors of its API mean.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::apimachinery::pkg::version::Info;
pub use kube::Client;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::EnvironmentError;
use harness_core::source;

pub mod permissions;

/// How long credentials and the first answer may take; a credential plugin may ask a cloud.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection to the API server may take to come about.
const TCP_LIMIT: Duration = Duration::from_secs(5);

/// Selection of a cluster by kubeconfig and context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig; those that `KUBECONFIG` names, else `~/.kube/config`, else the pod's own account, where `None`.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; its current one where `None`.
    pub context: Option<String>,
}

/// Error of the caller's: there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be read.
    #[error("{}: {reason}; name one with `--kubeconfig`", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The kubeconfig has no such context.
    #[error("there is no context `{context}` in {place}: it has {known}{}", suggestion.as_ref().map(|text| format!("; {text}")).unwrap_or_default())]
    NoContext {
        /// Context as requested.
        context: String,
        /// The file, or files.
        place: String,
        /// The contexts that there are.
        known: String,
        /// The nearest one.
        suggestion: Option<String>,
    },
    /// No context is given, and the kubeconfig has no current one.
    #[error("{place} has no current context; name one with `--context`: it has {known}")]
    NoCurrentContext {
        /// The file, or files.
        place: String,
        /// The contexts that there are.
        known: String,
    },
    /// There is neither a kubeconfig nor a pod's account.
    #[error(
        "no kubeconfig was found ({reason}), and this does not run in a pod; name one with `--kubeconfig`, or set KUBECONFIG"
    )]
    Nowhere {
        /// The ways that were tried.
        reason: String,
    },
    /// The context cannot be used.
    #[error("context `{context}` in {place} cannot be used: {reason}")]
    Unusable {
        /// Name of the context.
        context: String,
        /// The file, or files.
        place: String,
        /// The problem.
        reason: String,
    },
}

/// A way to a cluster that was found, but not taken yet.
#[derive(Debug, Clone)]
pub struct Found {
    config: Config,
    /// In words: the context, and the API server's address.
    pub name: String,
}

impl Access {
    /// Reads the kubeconfig.
    ///
    /// # Errors
    /// When there is none, or not that context.
    pub async fn find(&self) -> Result<Found, AccessError> {
        let (read, place) = match &self.kubeconfig {
            Some(path) => (Kubeconfig::read_from(path), path.display().to_string()),
            None => (Kubeconfig::read(), place_by_default()),
        };
        let kubeconfig = match (read, &self.kubeconfig) {
            (Ok(kubeconfig), _) => kubeconfig,
            (Err(error), Some(path)) => {
                let (path, reason) = (path.clone(), harness_core::chain_of(&error));
                return Err(AccessError::Unreadable { path, reason });
            }
            (Err(error), None) => {
                // A context is always one of a kubeconfig.
                let in_pod = self.context.is_none().then(|| Config::incluster().ok()).flatten();
                let Some(config) = in_pod else {
                    return Err(AccessError::Nowhere { reason: harness_core::chain_of(&error) });
                };
                let name = format!("the cluster of this pod ({})", config.cluster_url);
                return Ok(Found { config: limited(config), name });
            }
        };
        let names = || kubeconfig.contexts.iter().map(|context| context.name.as_str());
        let known = || source::list(names());
        let context = self.context.clone().or_else(|| kubeconfig.current_context.clone());
        let Some(context) = context.filter(|context| !context.is_empty()) else {
            return Err(AccessError::NoCurrentContext { place, known: known() });
        };
        if !names().any(|name| name == context) {
            let suggestion = source::nearest(&context, names());
            return Err(AccessError::NoContext { known: known(), context, place, suggestion });
        }
        let options = KubeConfigOptions { context: Some(context.clone()), ..Default::default() };
        match Config::from_custom_kubeconfig(kubeconfig, &options).await {
            Ok(config) => {
                let name = format!("context {context} ({})", config.cluster_url);
                Ok(Found { config: limited(config), name })
            }
            Err(error) => {
                let reason = harness_core::chain_of(&error);
                Err(AccessError::Unusable { context, place, reason })
            }
        }
    }
}

fn limited(mut config: Config) -> Config {
    config.connect_timeout = Some(TCP_LIMIT);
    config
}

fn place_by_default() -> String {
    match std::env::var("KUBECONFIG") {
        Ok(paths) if !paths.is_empty() => paths,
        _ => "~/.kube/config".to_owned(),
    }
}

impl Found {
    /// Connects to the cluster and verifies that the API server accepts the credentials.
    ///
    /// # Errors
    /// If the credentials are missing or rejected, or the API server cannot be reached.
    pub async fn connect(
        &self,
        environment: &'static str,
    ) -> Result<(Client, Info), EnvironmentError> {
        let unavailable = |reason: String, remedy: &str| EnvironmentError::Unavailable {
            environment,
            reason: format!("{}: {reason}", self.name),
            remedy: remedy.to_owned(),
        };
        let config = self.config.clone();
        // A credential plugin is waited for.
        let runtime = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let _inside = runtime.enter();
            Client::try_from(config)
        });
        let late = || {
            unavailable(
                format!("its credentials were not there within {CONNECT_LIMIT:?}"),
                "run the credential plugin of the kubeconfig by hand, to see what it waits for",
            )
        };
        let made = tokio::time::timeout(CONNECT_LIMIT, made).await.map_err(|_| late())?;
        let client = match made {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                return Err(unavailable(
                    described(&error),
                    "look at the user of this context in the kubeconfig; does its credential plugin run, and has its \
                     log-in expired?",
                ));
            }
            Err(_) => return Err(EnvironmentError::Interrupted),
        };
        let version = tokio::time::timeout(CONNECT_LIMIT, async {
            // Anybody may ask for the version, but not for who one is.
            let version = client.apiserver_version().await?;
            client.list_api_groups().await.map(|_| version)
        });
        match version.await {
            Ok(Ok(version)) => Ok((client, version)),
            Ok(Err(error)) => Err(unavailable(described(&error), remedy(&error))),
            Err(_) => Err(unavailable(
                format!("the API server did not answer within {CONNECT_LIMIT:?}"),
                "look whether the cluster is up and can be reached from here",
            )),
        }
    }
}

/// Returns the text of an error of the API, without its type's name.
pub(super) fn described(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("{} ({})", status.reason, status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        _ => harness_core::chain_of(error),
    }
}

/// The status code of an answer that is an error.
pub(super) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Returns what to do about it.
pub(super) fn remedy(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the credentials were not taken: log in again, or renew the token in the kubeconfig"
        }
        kube::Error::Api(status) if status.message.contains("exceeded quota") => {
            "raise the quota, or run fewer systems at once (`--parallel`)"
        }
        kube::Error::Api(status) if status.code == 403 => {
            "ask for the rights that docs/environments.md lists"
        }
        kube::Error::Api(_) => "see what the API server says",
        kube::Error::Auth(_) => {
            "look at the user of this context in the kubeconfig; does its credential plugin run, and has its log-in expired?"
        }
        _ => "look whether the cluster is up and can be reached from here",
    }
}
