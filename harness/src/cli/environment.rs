//! `--env`: where systems run. Each environment is made by one small function here.

use std::{collections::BTreeMap, path::Path, pin::Pin, time::Duration};

use anyhow::{Context, bail};
use clap::ValueEnum;
use harness::{
    environment::{
        kubernetes::START_LIMIT,
        outside_intake::{Outside, OutsideIntake},
        process::{self, ProcessEnvironment},
    },
    run::NewEnvironment,
    system::{
        self,
        build::BuildError,
        program::{self, Missing},
    },
};
use tokio_util::sync::CancellationToken;

mod docker;
pub(super) mod eks;
pub(super) mod kubernetes;

/// How long the folder of a run that crashed is left alone.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// Options that choose where systems run.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Environment that the systems run in.
    #[arg(long, value_enum, default_value_t = EnvironmentKind::Process)]
    env: EnvironmentKind,
    /// The image to run in containers: of `tracecheck` itself, made of this very program when left out, or, as WORKLOAD=REFERENCE,
    /// of one workload. May be given several times.
    #[arg(long = "image", value_name = "[WORKLOAD=]REFERENCE", value_parser = image)]
    images: Vec<Image>,
    /// How long a system's workloads have to get ready: each of them where they are processes (30s when left out) or containers (60s), all
    /// of them together in a cluster (2m). `start_limit` of a system file says it of one process.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    start_limit: Option<Duration>,
    #[command(flatten)]
    docker: docker::Args,
    #[command(flatten)]
    pub(super) kubernetes: kubernetes::Args,
    #[command(flatten)]
    eks: eks::Args,
}

/// An image that is named on the command line.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// `None` for `tracecheck` itself.
    workload: Option<String>,
    reference: String,
}

/// Reads one.
pub(super) fn image(text: &str) -> Result<Image, String> {
    let (workload, reference) = match text.split_once('=') {
        Some((workload, reference)) => (Some(workload.to_owned()), reference),
        None => (None, text),
    };
    if reference.is_empty() || workload.as_ref().is_some_and(String::is_empty) {
        return Err(
            "write REFERENCE or WORKLOAD=REFERENCE, for example collector=otelcol:1".to_owned()
        );
    }
    Ok(Image { workload, reference: reference.to_owned() })
}

/// The image of `tracecheck` itself, empty where none is named, and those of workloads.
pub(super) fn named(images: &[Image]) -> (String, BTreeMap<String, String>) {
    let mut own = String::new();
    let mut others = BTreeMap::new();
    for Image { workload, reference } in images {
        match workload {
            None => own.clone_from(reference),
            Some(workload) => {
                others.insert(workload.clone(), reference.clone());
            }
        }
    }
    (own, others)
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EnvironmentKind {
    /// Child processes of this program on free ports.
    Process,
    /// Containers of a Docker engine.
    Docker,
    /// A Kubernetes cluster of the program `kind` on this machine, made where it is not there.
    Kind,
    /// An existing Kubernetes cluster, in namespaces of its own.
    Cluster,
    /// A cluster of Amazon EKS, made with the program `eksctl` and deleted afterwards; it costs money.
    Eks,
}

/// Refuses a system file that says of its workloads what means nothing in a cluster, whichever it will be.
pub(super) fn check_system_of_cluster(path: &Path) -> anyhow::Result<()> {
    let findings = system::file::load(path).map_err(BuildError::Invalid)?.not_for_images(true);
    if findings.is_empty() { Ok(()) } else { Err(BuildError::Invalid(findings).into()) }
}

/// An environment that was chosen.
pub(super) struct Chosen {
    /// Its name, for people.
    pub(super) name: &'static str,
    /// Constructor of one for each system.
    pub(super) new: NewEnvironment,
    /// To be awaited when the run is over.
    pub(super) release: Option<Release>,
}

/// Gives up what all systems of a run shared.
pub(super) type Release = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Requirements of a run on its environment.
pub(super) struct Wanted<'a> {
    /// The run's id.
    pub(super) run_id: &'a str,
    /// Whether what was made for the run is to stay.
    pub(super) keep: bool,
    /// Cancelled when the user wants an early end.
    pub(super) cancel: &'a CancellationToken,
}

impl Args {
    /// Sets the environment up for a run, and starts nothing. What it cannot do without is found missing here.
    pub(super) async fn choose(&self, wanted: &Wanted<'_>) -> anyhow::Result<Chosen> {
        match self.env {
            EnvironmentKind::Process => {
                if self.has_collector_image() {
                    bail!(
                        "--collector-image: the `process` environment runs programs of this machine, not images; use \
                         `--collector-command`"
                    );
                }
                if let Some(Image { workload, reference }) = self.images.first() {
                    let workload = workload.iter().map(|name| format!("{name}="));
                    bail!(
                        "--image {}{reference}: the `process` environment runs programs of this machine, not images",
                        workload.collect::<String>()
                    );
                }
                process(self.start_limit)
            }
            EnvironmentKind::Docker => {
                let (image, images) = named(&self.images);
                let image = (!image.is_empty()).then_some(image);
                self.docker.docker(wanted.run_id, image, images, self.start_limit).await
            }
            EnvironmentKind::Kind | EnvironmentKind::Cluster | EnvironmentKind::Eks => {
                let (image, images) = named(&self.images);
                let image = (!image.is_empty()).then_some(image);
                let kubernetes = self.kubernetes.with_start_limit(self.start_limit);
                match self.env {
                    EnvironmentKind::Kind => kubernetes.kind(wanted, image, images).await,
                    EnvironmentKind::Eks => self.eks.eks(&kubernetes, wanted, image, images).await,
                    _ => kubernetes.cluster(wanted, image, images).await,
                }
            }
        }
    }

    /// Refuses a system file whose workloads cannot be started here as it says.
    pub(super) fn check_system(&self, path: &Path) -> anyhow::Result<()> {
        let file = system::file::load(path).map_err(BuildError::Invalid)?;
        let is_kubernetes = self.is_kubernetes();
        let mut findings = match self.is_elsewhere() {
            false => file.missing_programs(std::env::var_os("PATH").as_deref()),
            true => file.not_for_images(is_kubernetes),
        };
        // In a cluster all of them together have the run's limit.
        let usual = is_kubernetes.then_some(START_LIMIT);
        if let Some(limit) = self.start_limit.or(usual) {
            findings.extend(file.beyond_start_limit(limit));
        }
        if findings.is_empty() { Ok(()) } else { Err(BuildError::Invalid(findings).into()) }
    }

    /// Refuses a collector's command line whose program cannot be started here; in containers it is the image's.
    pub(super) fn check_collector(&self, option: &str, words: &[String]) -> anyhow::Result<()> {
        if self.is_elsewhere() {
            return Ok(());
        }
        let search = std::env::var_os("PATH");
        match words.first().and_then(|program| program::missing(program, search.as_deref())) {
            None => Ok(()),
            Some(Missing { message, remedy }) => bail!(
                "{option} {}: {message}; {remedy}. It is the command line of a collector, \
                 seen from {}",
                shlex::try_join(words.iter().map(String::as_str))?,
                std::env::current_dir()?.display()
            ),
        }
    }

    /// Returns whether systems are in containers, which take their logs along.
    pub(super) fn is_elsewhere(&self) -> bool {
        !matches!(self.env, EnvironmentKind::Process)
    }

    /// For how long a system may stay, where that is less than anywhere else: the cluster that is made for it is nobody's after a time.
    pub(super) fn longest(&self) -> Option<Duration> {
        matches!(self.env, EnvironmentKind::Eks).then_some(eks::LONGEST)
    }

    /// Returns whether systems are in a cluster, whoever made it.
    pub(super) fn is_kubernetes(&self) -> bool {
        matches!(self.env, EnvironmentKind::Kind | EnvironmentKind::Cluster | EnvironmentKind::Eks)
    }

    /// Returns whether systems are in an existing cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.env, EnvironmentKind::Cluster)
    }

    /// How something is brought up in the existing cluster.
    pub(super) async fn cluster_settings(
        &self,
        run_id: &str,
    ) -> anyhow::Result<harness::environment::kubernetes::Settings> {
        let (image, images) = named(&self.images);
        let image = (!image.is_empty()).then_some(image);
        let kubernetes = self.kubernetes.with_start_limit(self.start_limit);
        kubernetes.cluster_settings(run_id, image, images).await
    }

    /// Returns whether another collector takes the built-in one's place, of which only an image is known.
    pub(super) fn has_collector_image(&self) -> bool {
        self.kubernetes.has_collector_image()
    }

    /// Removes what runs that crashed left in it.
    pub(super) async fn remove_leftovers(&self) {
        match self.env {
            EnvironmentKind::Process => {
                process::remove_leftovers(&std::env::temp_dir(), LEFTOVER_AGE);
            }
            EnvironmentKind::Docker => docker::remove_orphans().await,
            EnvironmentKind::Kind | EnvironmentKind::Cluster | EnvironmentKind::Eks => {}
        }
    }
}

/// Takes the intake of each system out of where the rest of it is, onto this machine.
pub(super) fn with_intake_outside(
    new: NewEnvironment,
    outside: Outside,
) -> anyhow::Result<NewEnvironment> {
    let of_intake = process(None)?.new;
    Ok(Box::new(move || Ok(Box::new(OutsideIntake::new(outside.clone(), of_intake()?, new()?)))))
}

fn process(start_limit: Option<Duration>) -> anyhow::Result<Chosen> {
    let program =
        std::env::current_exe().context("the path of this program cannot be determined")?;
    let new: NewEnvironment = Box::new(move || {
        let mut builder = ProcessEnvironment::builder(&program);
        if let Some(limit) = start_limit {
            builder = builder.start_limit(limit);
        }
        Ok(Box::new(builder.build()?))
    });
    Ok(Chosen { name: "process", new, release: None })
}
