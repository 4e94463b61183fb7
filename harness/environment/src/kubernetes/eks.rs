//! A cluster of EKS, made by the program `eksctl` for one run, and deleted after it.
//!
//! Only a cluster that carries the run's own tag is ever deleted: one that was there before is refused, and one that somebody
//! else made meanwhile is left alone. Whatever is left is reported, with the command that removes it, since it costs money.
//! What is made is said by eksctl's configuration alone; nothing here talks to AWS itself.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use self::{
    config::Config,
    leftovers::{Leftover, find_leftovers, remove_leftover},
};
use self::{
    found::{Found, find},
    program::{Said, eksctl},
};
use super::{cluster::Access, io_error, kind::Progress};
use crate::EnvironmentError;

mod config;
mod found;
mod leftovers;
mod program;
#[cfg(test)]
mod tests;
mod trust;

/// The environment's name.
pub const NAME: &str = "eks";
/// Time that eksctl may take to list what there is.
const ASK_LIMIT: Duration = Duration::from_secs(60);
/// Default time that creating a cluster may take.
pub const CREATE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How long eksctl itself waits for one long operation.
const OPERATION_LIMIT: Duration = Duration::from_secs(40 * 60);
/// How long deleting may take.
const DELETE_LIMIT: Duration = Duration::from_secs(40 * 60);
/// After how long anybody may remove the cluster, whoever made it.
const EXPIRY: Duration = Duration::from_secs(12 * 60 * 60);

/// Options for creating a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's configuration.
    pub config: Config,
    /// The run that it is made for.
    pub run_id: String,
    /// Time limit for creating the cluster.
    pub create_limit: Duration,
    /// Whether what was made stays, also when it is only half made.
    pub keep: bool,
}

/// A cluster that was made for a run.
pub struct Cluster {
    making: Making,
    /// The role on AWS that the collector's account stands for.
    pub role_arn: Option<String>,
    /// The way to it.
    pub client: Client,
}

/// State of a cluster from the moment that eksctl is asked to create it.
struct Making {
    config: Config,
    run_id: String,
    /// Holds eksctl's configuration and the kubeconfig.
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Creates the cluster, which takes 15 minutes and more.
    ///
    /// # Errors
    ///
    /// If `eksctl` is not installed, AWS cannot be accessed, a cluster of that name exists already, or the cluster is
    /// not created in time or is cancelled. A cluster that was begun is deleted again unless it is to be kept; the
    /// message names what is left.
    pub async fn make(
        options: &Options,
        cancel: &CancellationToken,
        progress: Progress<'_>,
    ) -> Result<Self, EnvironmentError> {
        let (name, region) = (&options.config.name, &options.config.region);
        let version = version().await?;
        progress(&format!(
            "eks: eksctl {version}; looking whether cluster `{name}` is there in {region}"
        ));
        if find(name, region).await?.is_some() {
            return Err(unavailable(
                format!(
                    "there is a cluster `{name}` in {region} already, which this run did not make"
                ),
                "it is used with `--env cluster --context CONTEXT`; `--eks-name` gives the new one another name",
            ));
        }
        if cancel.is_cancelled() {
            return Err(unavailable(
                "interrupted before anything was made".to_owned(),
                "start again",
            ));
        }
        let making = Making::new(options)?;
        progress(&format!(
            "eks: making cluster `{name}` in {region}, at most {}; `{}` removes it, whatever happens here",
            humantime::format_duration(options.create_limit),
            making.removal()
        ));
        let made = tokio::select! {
            made = making.create(options.create_limit, progress) => made,
            () = cancel.cancelled() => Err(unavailable(
                format!("interrupted while eksctl made cluster `{name}`"), "start again"
            )),
        };
        let ready = match made {
            Ok(()) => making.connect(progress).await,
            Err(error) => Err(error),
        };
        match ready {
            Ok((client, role_arn)) => {
                progress(&format!("eks: cluster `{name}` is there"));
                Ok(Self { making, role_arn, client })
            }
            Err(error) => {
                let left = making.give_up(&error, options.keep, progress).await;
                Err(with_what_is_left(error, &left))
            }
        }
    }

    /// Releases the cluster: deletes it, unless it is to be kept.
    ///
    /// # Errors
    ///
    /// If eksctl does not delete it, or not in time; the message names the command that does.
    pub async fn release(self, keep: bool, progress: Progress<'_>) -> Result<(), EnvironmentError> {
        let Config { name, region, .. } = &self.making.config;
        if keep {
            progress(&format!(
                "eks: cluster `{name}` is kept, and costs money until `{}`; `eksctl utils write-kubeconfig --cluster {name} \
                 --region {region}` leads to it",
                self.making.removal()
            ));
            return Ok(());
        }
        let left = |reason: String| {
            unavailable(reason, &format!("it costs money until `{}`", self.making.removal()))
        };
        match find(name, region).await {
            Err(error) => Err(left(format!(
                "whether cluster `{name}` is still this run's cannot be determined, so that it is left: {error}"
            ))),
            Ok(None) => {
                progress(&format!("eks: cluster `{name}` is gone already"));
                Ok(())
            }
            Ok(Some(found)) if found.run.as_ref() != Some(&self.making.run_id) => {
                progress(&format!(
                    "eks: cluster `{name}` is another one by now, and is left alone"
                ));
                Ok(())
            }
            Ok(Some(_)) => {
                progress(&format!(
                    "eks: deleting cluster `{name}`, which takes 10 minutes and more"
                ));
                self.making.delete(progress).await.map_err(|error| left(reason_of(error)))?;
                progress(&format!("eks: cluster `{name}` is deleted"));
                Ok(())
            }
        }
    }
}

impl Making {
    fn new(options: &Options) -> Result<Self, EnvironmentError> {
        let dir = tempfile::Builder::new().prefix("tracecheck-eks-").tempdir();
        let dir = dir.map_err(io_error("create a directory in", &std::env::temp_dir()))?;
        let making = Self { config: options.config.clone(), run_id: options.run_id.clone(), dir };
        let namespace = trust::first_namespace(&options.run_id);
        let now = SystemTime::now();
        let text = making.config.of_run(&options.run_id, &namespace, now, now + EXPIRY)?;
        let path = making.file();
        fs::write(&path, text).map_err(io_error("write", &path))?;
        Ok(making)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("eks-config.yaml")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// The command that removes it, for people: it needs no file of ours.
    fn removal(&self) -> String {
        format!("eksctl {}", delete_by_name(&self.config.name, &self.config.region).join(" "))
    }

    async fn create(
        &self,
        limit: Duration,
        progress: Progress<'_>,
    ) -> Result<(), EnvironmentError> {
        let (file, kubeconfig) = (text(&self.file()), text(&self.kubeconfig()));
        let timeout = humantime::format_duration(OPERATION_LIMIT.min(limit)).to_string();
        let words = [
            "create",
            "cluster",
            "-f",
            &file,
            "--kubeconfig",
            &kubeconfig,
            "--set-kubeconfig-context=false",
            "--timeout",
            &timeout.replace(' ', ""),
            "-C",
            "false",
            "-v",
            "3",
        ];
        eksctl(&words, limit, Some(progress)).await.map(drop)
    }

    /// The way to the cluster, and the collector's role.
    async fn connect(
        &self,
        progress: Progress<'_>,
    ) -> Result<(Client, Option<String>), EnvironmentError> {
        let access = Access { kubeconfig: Some(self.kubeconfig()), context: None };
        let found = access.find().await.map_err(|error| {
            unavailable(
                format!("the kubeconfig that eksctl wrote cannot be used: {error}"),
                "it gets its tokens from `aws` or `aws-iam-authenticator`: is one of them installed?",
            )
        })?;
        let (client, _version) = found.connect(NAME).await?;
        let described = find(&self.config.name, &self.config.region).await?;
        let role = self.config.role_name.as_deref();
        let role_arn = described.and_then(|found| found.role_arn(role?));
        if let Some(role) = role
            && let Err(error) = trust::widen(role, &self.run_id).await
        {
            // In mock mode a collector need not call AWS at all, so that this is no reason to give a cluster up.
            progress(&format!(
                "eks: the role `{role}` can be taken in the namespace `{}` alone, so that in later systems of this run an exporter \
                 that calls AWS is refused: {error}",
                trust::first_namespace(&self.run_id)
            ));
        }
        Ok((client, role_arn))
    }

    async fn delete(&self, progress: Progress<'_>) -> Result<(), EnvironmentError> {
        let file = text(&self.file());
        let words =
            ["delete", "cluster", "-f", &file, "--wait", "--force", "--disable-nodegroup-eviction"];
        eksctl(&words, DELETE_LIMIT, Some(progress)).await.map(drop)
    }

    /// Takes away what there is of a cluster that was not made to its end; says what is left.
    async fn give_up(
        &self,
        error: &EnvironmentError,
        keep: bool,
        progress: Progress<'_>,
    ) -> String {
        let Config { name, region, .. } = &self.config;
        let costs = format!("it costs money until `{}`", self.removal());
        if keep {
            return format!("what there is of cluster `{name}` is kept, and {costs}");
        }
        let exists =
            error.to_string().to_ascii_lowercase().replace(' ', "").contains("alreadyexist");
        match find(name, region).await {
            Err(error) => {
                return format!(
                    "what there is of cluster `{name}` cannot be determined ({}), so that it is left; {costs}",
                    reason_of(error)
                );
            }
            Ok(Some(Found { run, .. })) if run.as_ref() != Some(&self.run_id) => {
                return format!(
                    "the cluster `{name}` that is there is not this run's, and is left alone"
                );
            }
            Ok(None) if exists => {
                return format!(
                    "something of that name was there before, and is left alone; where it is yours, `{}` removes it",
                    self.removal()
                );
            }
            Ok(_) => {}
        }
        progress(&format!(
            "eks: deleting what there is of cluster `{name}`, which may take 10 minutes and more"
        ));
        match self.delete(progress).await {
            Ok(()) => format!("what there was of cluster `{name}` is deleted"),
            Err(error) => {
                let reason = reason_of(error);
                format!("what there is of cluster `{name}` could not be deleted: {reason}; {costs}")
            }
        }
    }
}

/// Queries the version of the installed `eksctl`.
///
/// # Errors
/// If it is not installed, or fails.
pub async fn version() -> Result<String, EnvironmentError> {
    let Said { stdout } = eksctl(&["version"], ASK_LIMIT, None).await?;
    Ok(stdout.trim().to_owned())
}

fn delete_by_name<'a>(name: &'a str, region: &'a str) -> [&'a str; 9] {
    [
        "delete",
        "cluster",
        "--name",
        name,
        "--region",
        region,
        "--wait",
        "--force",
        "--disable-nodegroup-eviction",
    ]
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn unavailable(reason: String, remedy: &str) -> EnvironmentError {
    EnvironmentError::Unavailable { environment: NAME, reason, remedy: remedy.to_owned() }
}

/// The reason alone, where it stands within another one.
fn reason_of(error: EnvironmentError) -> String {
    match error {
        EnvironmentError::Unavailable { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn with_what_is_left(error: EnvironmentError, left: &str) -> EnvironmentError {
    match error {
        EnvironmentError::Unavailable { environment, reason, remedy } => {
            let remedy = format!("{remedy}; {left}");
            EnvironmentError::Unavailable { environment, reason, remedy }
        }
        other => unavailable(other.to_string(), left),
    }
}
