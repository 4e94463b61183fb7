//! The way to the API, and what its errors mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as ClientConfig};

use super::super::config::{AuthType, Config};

/// How long a connection to the API may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the API may be silent; a watch is ended by it, and begun anew, after 290 s.
const SILENCE: Duration = Duration::from_secs(300);

/// A client of the API, as the config says; nothing is asked yet.
pub(super) async fn client(config: &Config, service_account: &Path) -> Result<Client, String> {
    crate::install_crypto_provider();
    let mut found = match config.auth_type {
        AuthType::KubeConfig => by_kubeconfig(config).await?,
        AuthType::ServiceAccount => {
            let token = service_account.join("token");
            let authority = service_account.join("ca.crt");
            if !token.is_file() || !authority.is_file() {
                return Err(format!(
                    "there is no service account in {}; run the collector in a pod whose account's token is mounted (`automountServiceAccountToken`), or set `auth_type: kubeConfig`",
                    service_account.display()
                ));
            }
            let token_file = Some(token.display().to_string());
            let mut found = in_pod(config)?;
            found.root_cert_file = Some(authority);
            found.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
            found
        }
        // Who shows no credentials has nothing that another server could take.
        AuthType::None => {
            let mut found = in_pod(config)?;
            found.accept_invalid_certs = true;
            found
        }
    };
    found.connect_timeout = Some(CONNECT);
    found.read_timeout = Some(SILENCE);
    found.reset_reader_on_write = true;
    // A cluster is not behind the proxy that senders use.
    found.proxy_url = None;
    // Credentials may be those of a program that is waited for.
    let runtime = tokio::runtime::Handle::current();
    let made = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        Client::try_from(found)
    });
    match tokio::time::timeout(config.wait_for_metadata_timeout, made).await {
        Ok(Ok(Ok(client))) => Ok(client),
        Ok(Ok(Err(error))) => Err(format!(
            "there is no client of Kubernetes' API: {}; look at the kubeconfig's user, or the pod's service account",
            described(&error)
        )),
        Ok(Err(_)) | Err(_) => Err(format!(
            "the credentials for Kubernetes' API were not there within {:?}; see what the kubeconfig's credential plugin waits for",
            config.wait_for_metadata_timeout
        )),
    }
}

/// The API in words.
pub(super) fn place(config: &Config) -> String {
    match config.auth_type {
        AuthType::KubeConfig => match config.context.as_str() {
            "" => format!("the current context of {}", kubeconfigs(config).1),
            context => format!("the context `{context}` of {}", kubeconfigs(config).1),
        },
        _ => address(config).unwrap_or_default(),
    }
}

fn address(config: &Config) -> Option<String> {
    let host = config.variable("KUBERNETES_SERVICE_HOST")?;
    let port = config.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn in_pod(config: &Config) -> Result<ClientConfig, String> {
    let Some(address) = address(config) else {
        return Err("there is no cluster: KUBERNETES_SERVICE_HOST is not set, as it is in every pod; run the collector in a pod, or set `auth_type: kubeConfig` or `passthrough: true`".into());
    };
    let url = format!("https://{address}").parse();
    let url =
        url.map_err(|_| format!("`{address}` (KUBERNETES_SERVICE_HOST) is not an address"))?;
    Ok(ClientConfig::new(url))
}

/// The files that are read, and all of them in words.
fn kubeconfigs(config: &Config) -> (Vec<PathBuf>, String) {
    let paths: Vec<PathBuf> = match config.variable("KUBECONFIG") {
        Some(paths) => std::env::split_paths(paths).filter(|path| path != Path::new("")).collect(),
        None => {
            let home = config.variable("HOME").unwrap_or_default();
            vec![Path::new(home).join(".kube/config")]
        }
    };
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    (paths, shown.join(", "))
}

async fn by_kubeconfig(config: &Config) -> Result<ClientConfig, String> {
    let (paths, shown) = kubeconfigs(config);
    let mut all = Kubeconfig::default();
    for path in paths {
        let merged = Kubeconfig::read_from(path).and_then(|one| all.merge(one));
        all = merged.map_err(|error| {
            format!(
                "no kubeconfig can be read from {shown}: {}; set KUBECONFIG, or `auth_type: serviceAccount`",
                chained(&error)
            )
        })?;
    }
    let context = Some(config.context.clone()).filter(|context| !context.is_empty());
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    ClientConfig::from_custom_kubeconfig(all, &options).await.map_err(|error| {
        format!(
            "{} cannot be used: {}; set `context` to one that is there",
            place(config),
            chained(&error)
        )
    })
}

/// Returns whether asking again does not help.
pub(super) fn is_final(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 400 | 401 | 403 | 404),
        kube::Error::Auth(_) => true,
        _ => false,
    }
}

/// An error of the API in words.
pub(super) fn described(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("{} ({})", status.reason, status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        _ => chained(error),
    }
}

/// An error with its causes.
pub(super) fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
