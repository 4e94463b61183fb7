//! A cluster of the program `kind`, on this machine: made where it is not there, and deleted by the last run that uses it.
//!
//! Who made a cluster is kept in a file beside two locks: runs of one machine share a cluster, each holds a lock while it uses
//! it, and whoever is the last deletes it. A cluster that no run made is never deleted.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{Client, api::ListParams};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{self, Access},
    io_error,
    typed::Typed,
};
use crate::EnvironmentError;

mod unfinished;

use unfinished::Unfinished;

/// The environment's name.
pub const NAME: &str = "kind";
/// The program.
const PROGRAM: &str = "kind";
/// How kind calls a cluster whose config has no name.
const DEFAULT_CLUSTER: &str = "kind";
/// Time that kind may take to list what there is.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// How long kind may take to make a cluster; its node image may have to be pulled.
const CREATE_LIMIT: Duration = Duration::from_secs(6 * 60);
/// How long kind itself waits for the control plane.
const READY_LIMIT: &str = "120s";
/// How long an image may take into the nodes.
const LOAD_LIMIT: Duration = Duration::from_secs(3 * 60);
/// How long deleting may take.
const DELETE_LIMIT: Duration = Duration::from_secs(2 * 60);
/// How soon a lock is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Options of a kind cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// kind's configuration.
    pub config: PathBuf,
    /// The node image; kind's own where `None`.
    pub node_image: Option<String>,
    /// Folder of this user's locks; one of the machine's temporary ones where `None`.
    pub locks: Option<PathBuf>,
}

/// A cluster that is up and used by this run.
pub struct Cluster {
    name: String,
    kubeconfig: tempfile::NamedTempFile,
    record: Record,
    /// The way to it.
    pub client: Client,
}

/// Called at each step with what is done now.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Cluster {
    /// Finds the cluster, or creates it.
    ///
    /// # Errors
    /// When `kind` is not there, or does not make it in time. What was begun is deleted again.
    pub async fn ensure(
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<Self, EnvironmentError> {
        let name = name_in(&options.config)?;
        kind(&["version"], ASK_LIMIT).await?;
        let record = Record::open(options.locks.as_deref(), &name)?;
        let turn = record.turn(progress).await?;
        let kubeconfig = tempfile::NamedTempFile::new();
        let kubeconfig = kubeconfig.map_err(io_error("create a file in", &std::env::temp_dir()))?;
        let there = kind(&["get", "clusters"], ASK_LIMIT).await?;
        let there = String::from_utf8_lossy(&there.stdout).lines().any(|line| line.trim() == name);
        if there {
            progress(&format!("kind: cluster `{name}` is there"));
            let config = kind(&["get", "kubeconfig", "--name", &name], ASK_LIMIT).await?;
            fs::write(kubeconfig.path(), config.stdout)
                .map_err(io_error("write", kubeconfig.path()))?;
        } else {
            record.forget();
            progress(&format!(
                "kind: making cluster `{name}`{}, which takes a minute or so",
                options.node_image.iter().map(|image| format!(" of {image}")).collect::<String>()
            ));
            let mut making = Unfinished::new(&name, progress);
            create(&name, options, kubeconfig.path(), making.group()).await?;
            making.finish();
        }
        let access = Access { kubeconfig: Some(kubeconfig.path().to_owned()), context: None };
        let found = access.find().await.map_err(|error| {
            unavailable(
                &error.to_string(),
                "delete the cluster with `kind delete cluster`, and try again",
            )
        })?;
        let (client, _) = found.connect(NAME).await?;
        if !there {
            record.make(&identity(&client).await?)?;
        }
        record.use_it()?;
        drop(turn);
        Ok(Self { name, kubeconfig, record, client })
    }

    /// Returns the cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the cluster's kubeconfig, which is deleted when this value is dropped.
    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Returns whether every node has an image of that name. Nodes report new ones a little later, and not all.
    pub async fn has_image(&self, reference: &str) -> bool {
        let nodes = Typed::<Node>::all(&self.client);
        let Ok(nodes) = nodes.list(&ListParams::default()).await else { return false };
        nodes.iter().all(|node| {
            let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
            images.flat_map(|image| image.names.iter().flatten()).any(|name| name == reference)
        })
    }

    /// Loads an archive of images (`docker save`'s) into the nodes.
    ///
    /// # Errors
    /// When kind does not, or not in time.
    pub async fn load_archive(&self, archive: &Path) -> Result<(), EnvironmentError> {
        let archive = archive.display().to_string();
        kind(&["load", "image-archive", &archive, "--name", &self.name], LOAD_LIMIT).await?;
        Ok(())
    }

    /// Loads an image of this machine's Docker engine into the nodes; returns whether the engine has it.
    ///
    /// # Errors
    /// When kind does not, or not in time.
    pub async fn load_docker_image(&self, reference: &str) -> Result<bool, EnvironmentError> {
        match kind(&["load", "docker-image", reference, "--name", &self.name], LOAD_LIMIT).await {
            Ok(_) => Ok(true),
            Err(error) if error.to_string().contains("not present locally") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Releases the cluster: deletes it if a run created it and no other run uses it, unless it is to be kept.
    ///
    /// # Errors
    ///
    /// If kind does not delete it, or not in time.
    pub async fn release(self, keep: bool, progress: Progress<'_>) -> Result<(), EnvironmentError> {
        let _turn = self.record.turn(progress).await?;
        let is_last = self.record.leave_it();
        let Some(made) = self.record.made() else { return Ok(()) };
        if keep {
            self.record.forget();
            progress(&format!(
                "kind: cluster `{0}` is kept; `kind export kubeconfig --name {0}` leads to it, `kind delete cluster --name {0}` \
                 deletes it",
                self.name
            ));
            return Ok(());
        }
        if !is_last {
            progress(&format!(
                "kind: cluster `{}` is left to the other run that uses it",
                self.name
            ));
            return Ok(());
        }
        // Somebody may have made another one of that name meanwhile.
        if identity(&self.client).await.ok().as_ref() != Some(&made) {
            self.record.forget();
            return Ok(());
        }
        progress(&format!("kind: deleting cluster `{}`", self.name));
        delete(&self.name).await?;
        self.record.forget();
        Ok(())
    }
}

/// Makes a cluster, and notes the process group that does.
async fn create(
    name: &str,
    options: &Options,
    kubeconfig: &Path,
    group: &AtomicI32,
) -> Result<(), EnvironmentError> {
    let (config, kubeconfig) =
        (options.config.display().to_string(), kubeconfig.display().to_string());
    let mut words = vec![
        "create",
        "cluster",
        "--name",
        name,
        "--config",
        &config,
        "--kubeconfig",
        &kubeconfig,
        "--wait",
        READY_LIMIT,
    ];
    if let Some(image) = &options.node_image {
        words.extend(["--image", image]);
    }
    kind_of_group(&words, CREATE_LIMIT, group).await.map(drop)
}

async fn delete(name: &str) -> Result<(), EnvironmentError> {
    let (_nowhere, words) =
        deletion(name).map_err(io_error("create a file in", &std::env::temp_dir()))?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    kind(&words, DELETE_LIMIT).await.map(drop)
}

/// Returns kind's arguments to delete a cluster, and the file that stands for the user's kubeconfig meanwhile, which has no entry of it.
fn deletion(name: &str) -> io::Result<(tempfile::NamedTempFile, [String; 6])> {
    let nowhere = tempfile::NamedTempFile::new()?;
    let kubeconfig = nowhere.path().display().to_string();
    let words =
        ["delete", "cluster", "--name", name, "--kubeconfig", &kubeconfig].map(String::from);
    Ok((nowhere, words))
}

/// Queries the version of the installed `kind`.
///
/// # Errors
/// If it is not installed, or fails.
pub async fn version() -> Result<String, EnvironmentError> {
    let said = kind(&["version"], ASK_LIMIT).await?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Runs kind, and waits for its end.
async fn kind(words: &[&str], limit: Duration) -> Result<Output, EnvironmentError> {
    kind_of_group(words, limit, &AtomicI32::new(0)).await
}

/// Runs kind, notes its process group, and waits for its end.
async fn kind_of_group(
    words: &[&str],
    limit: Duration,
    group: &AtomicI32,
) -> Result<Output, EnvironmentError> {
    let mut command = Command::new(PROGRAM);
    // A group of its own: Ctrl-C is for us, who then have it delete what it made.
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .process_group(0);
    let line = format!("kind {}", words.join(" "));
    let output = async {
        let child = command.spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        group.store(leader.unwrap_or_default(), Ordering::Release);
        child.wait_with_output().await
    };
    match timeout(limit, output).await {
        Err(_) => Err(unavailable(
            &format!("`{line}` did not end within {limit:?}"),
            "does Docker answer, and can the node image be pulled? `docker pull` it, or name another with `--kind-node-image`",
        )),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(unavailable(
            "there is no program `kind`",
            "install it (kind.sigs.k8s.io), together with Docker; or use `--env cluster` with a cluster that is there",
        )),
        Ok(Err(error)) => {
            Err(unavailable(&format!("`{line}` cannot be run: {error}"), "look at the program"))
        }
        Ok(Ok(output)) if output.status.success() => Ok(output),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            Err(unavailable(
                &format!("`{line}` failed ({}):\n  {}\n", output.status, last.join("\n  ")),
                "see what it says; does Docker answer?",
            ))
        }
    }
}

fn unavailable(reason: &str, remedy: &str) -> EnvironmentError {
    EnvironmentError::Unavailable {
        environment: NAME,
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// Returns what no other cluster has: the uid of its first namespace.
async fn identity(client: &Client) -> Result<String, EnvironmentError> {
    let namespaces = Typed::<Namespace>::all(client);
    let namespace = timeout(ASK_LIMIT, namespaces.get("kube-system")).await;
    match namespace {
        Ok(Ok(namespace)) => Ok(namespace.metadata.uid.unwrap_or_default()),
        Ok(Err(error)) => Err(unavailable(&cluster::described(&error), cluster::remedy(&error))),
        Err(_) => Err(unavailable("the cluster does not answer", "look whether Docker does")),
    }
}

/// The name in kind's configuration.
fn name_in(config: &Path) -> Result<String, EnvironmentError> {
    let text = fs::read_to_string(config).map_err(io_error("read", config))?;
    let parsed =
        harness_core::source::read_yaml::<serde_json::Value>(&config.display().to_string(), &text);
    let parsed = parsed.map_err(|finding| unavailable(&finding.to_string(), "mend the file"))?;
    Ok(parsed["name"].as_str().unwrap_or(DEFAULT_CLUSTER).to_owned())
}

/// Record of who created the cluster of a name, and who uses it: files that all runs of this user share.
struct Record {
    /// Held by whoever makes or deletes the cluster.
    turn: PathBuf,
    /// Held by all who use it, together.
    users: File,
    /// Holds the identity of the cluster that a run made.
    maker: PathBuf,
}

impl Record {
    fn open(dir: Option<&Path>, name: &str) -> Result<Self, EnvironmentError> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("tracecheck-kind-{}", nix::unistd::getuid())),
        };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(io_error("create", &dir))?;
        let users = dir.join(format!("{name}.users"));
        Ok(Self {
            turn: dir.join(format!("{name}.turn")),
            users: open(&users)?,
            maker: dir.join(format!("{name}.made")),
        })
    }

    /// Waits until nobody else makes or deletes the cluster; until the file is closed, nobody does.
    async fn turn(&self, progress: Progress<'_>) -> Result<File, EnvironmentError> {
        let file = open(&self.turn)?;
        let deadline = Instant::now() + CREATE_LIMIT;
        let mut reported = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(unavailable(
                        &format!(
                            "another run has held {} for {CREATE_LIMIT:?}",
                            self.turn.display()
                        ),
                        "look for that run, and end it",
                    ));
                }
                Err(TryLockError::Error(source)) => {
                    return Err(io_error("lock", &self.turn)(source));
                }
            }
            if !reported {
                progress("kind: waiting for another run that makes or deletes the cluster");
                reported = true;
            }
            sleep(RETRY).await;
        }
    }

    /// Uses the cluster from now on. Nobody has it to himself but in his turn, which this is.
    fn use_it(&self) -> Result<(), EnvironmentError> {
        self.users.lock_shared().map_err(io_error("lock", &self.maker.with_extension("users")))
    }

    /// Uses it no more; says whether nobody else does.
    fn leave_it(&self) -> bool {
        self.users.unlock().is_ok() && self.users.try_lock().is_ok()
    }

    /// The identity of the cluster that a run made.
    fn made(&self) -> Option<String> {
        fs::read_to_string(&self.maker).ok()
    }

    fn make(&self, identity: &str) -> Result<(), EnvironmentError> {
        fs::write(&self.maker, identity).map_err(io_error("write", &self.maker))
    }

    fn forget(&self) {
        let _was_not_there = fs::remove_file(&self.maker);
    }
}

fn open(path: &Path) -> Result<File, EnvironmentError> {
    File::options().create(true).append(true).open(path).map_err(io_error("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_of_those_who_use_a_cluster_is_notified() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Record::open(Some(dir.path()), "a").unwrap();
        let (one, two) = (open(), open());
        for record in [&one, &two] {
            let turn = record.turn(&|_| {}).await.unwrap();
            record.use_it().unwrap();
            drop(turn);
        }
        one.make("uid").unwrap();
        assert_eq!(two.made().as_deref(), Some("uid"));
        let turn = one.turn(&|_| {}).await.unwrap();
        assert!(!one.leave_it());
        // Whoever comes meanwhile waits for his turn.
        let waits = timeout(Duration::from_millis(50), two.turn(&|_| {})).await;
        assert!(waits.is_err());
        drop(turn);
        let _turn = two.turn(&|_| {}).await.unwrap();
        assert!(two.leave_it());
        two.forget();
        assert_eq!(one.made(), None);
    }

    #[test]
    fn a_config_without_a_name_is_kinds_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kind-config.yaml");
        for (text, name) in [("kind: Cluster\nname: mine\n", "mine"), ("kind: Cluster\n", "kind")] {
            fs::write(&path, text).unwrap();
            assert_eq!(name_in(&path).unwrap(), name);
        }
        fs::write(&path, "a: [").unwrap();
        assert!(name_in(&path).unwrap_err().to_string().contains("kind-config.yaml:"));
    }
}
