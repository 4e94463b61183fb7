//! `--env cluster` and `--env kind`: what the command line says of a cluster.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use harness::{
    environment::{
        EnvironmentError,
        kubernetes::{
            self, KubernetesEnvironment, Settings,
            cluster::{Access, Found},
            eks,
            kind::{self, Cluster},
            leftovers,
            operator::{Operator, Version, preflight},
            service::{ForwardedService, ServiceName},
        },
    },
    run::NewEnvironment,
};

use super::{Chosen, Wanted};

/// Name of the environment.
pub(in crate::cli) const CLUSTER: &str = "cluster";
/// kind's configuration where the user has none: the one beside the scenarios.
const KIND_CONFIG: &str = include_str!("../../../../kind-config.yaml");
/// File in which the user's configuration is looked for.
const KIND_CONFIG_FILE: &str = "kind-config.yaml";

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct AccessArgs {
    /// The kubeconfig; by default what KUBECONFIG names, else ~/.kube/config, else the account of the pod this runs in.
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// The context in it; its current one by default.
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    context: Option<String>,
}

/// How the collector gets into the cluster, and which one.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct CollectorArgs {
    /// How the collector gets into the cluster: by `manifests` where nothing is said, and with `--env eks` by the `operator`.
    #[arg(long, value_enum, value_name = "WAY", help_heading = "Kubernetes")]
    collector_install: Option<Install>,
    /// The version of the resource that the operator is given; the newest that the cluster serves by default.
    #[arg(long, value_enum, value_name = "VERSION", help_heading = "Kubernetes")]
    collector_api_version: Option<ApiVersion>,
    /// An image whose entrypoint is another collector, in place of the built-in one; `--config` is added.
    #[arg(long, value_name = "REFERENCE", help_heading = "Kubernetes")]
    collector_image: Option<String>,
    /// User that runs that image, by number, where its Dockerfile names it (as ADOT's, whose number is known): Kubernetes'
    /// restricted policy, under which pods run, takes no names.
    #[arg(
        long,
        value_name = "UID",
        requires = "collector_image",
        value_parser = clap::value_parser!(i64).range(1..=4_294_967_294),
        help_heading = "Kubernetes"
    )]
    collector_user: Option<i64>,
    /// The role on AWS for the collector's service account (IRSA), `arn:aws:iam::ACCOUNT:role/NAME`.
    #[arg(long, value_name = "ARN", value_parser = role_arn, help_heading = "Kubernetes")]
    irsa_role_arn: Option<String>,
}

/// Which cluster, and how.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    collector: CollectorArgs,
    /// How long a system has to get ready, where the command line says it.
    #[arg(skip)]
    start_limit: Option<std::time::Duration>,
    /// The configuration of the cluster that `--env kind` makes; ./kind-config.yaml by default, else one node.
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    kind_config: Option<PathBuf>,
    /// The node image of that cluster; kind's own by default.
    #[arg(long, value_name = "IMAGE", help_heading = "Kubernetes")]
    kind_node_image: Option<String>,
}

/// How the collector gets into the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Install {
    /// A Deployment and a Service of its own.
    Manifests,
    /// An OpenTelemetryCollector, of which the OpenTelemetry operator (on EKS: ADOT's) makes them.
    Operator,
}

/// A version of the OpenTelemetryCollector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ApiVersion {
    /// Its config is a text; deprecated.
    V1alpha1,
    /// Its config is an object.
    V1beta1,
}

impl From<ApiVersion> for Version {
    fn from(version: ApiVersion) -> Self {
        match version {
            ApiVersion::V1alpha1 => Self::V1Alpha1,
            ApiVersion::V1beta1 => Self::V1Beta1,
        }
    }
}

fn role_arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, role]
            if partition.starts_with("aws")
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && role.strip_prefix("role/").is_some_and(|name| !name.is_empty()) =>
        {
            Ok(text.to_owned())
        }
        _ => {
            Err("write arn:aws:iam::ACCOUNT:role/NAME, with the 12 digits of the account"
                .to_owned())
        }
    }
}

impl CollectorArgs {
    /// Returns whether the operator is to create the collector, and of which version of its resource where one is asked for.
    fn wants_operator(&self, by_default: Install) -> anyhow::Result<Option<Option<Version>>> {
        let version = self.collector_api_version.map(Version::from);
        match self.collector_install.unwrap_or(by_default) {
            Install::Manifests if version.is_some() => {
                bail!("--collector-api-version is of use only with `--collector-install operator`")
            }
            Install::Manifests => Ok(None),
            Install::Operator => Ok(Some(version)),
        }
    }

    /// The operator that is to make the collector, where no cluster can be asked: the version that newer operators store
    /// unless one is named.
    pub(in crate::cli) fn unseen_operator(&self) -> anyhow::Result<Option<Operator>> {
        let wanted = self.wants_operator(Install::Manifests)?;
        Ok(wanted.map(|version| Operator::of(version.unwrap_or(Version::V1Beta1))))
    }

    /// An image whose entrypoint is another collector.
    pub(in crate::cli) fn image(&self) -> Option<&str> {
        self.collector_image.as_deref()
    }

    /// User that runs that image, by number.
    pub(in crate::cli) fn user(&self) -> Option<i64> {
        self.collector_user
    }

    /// The role on AWS for the collector's account.
    pub(in crate::cli) fn role_arn(&self) -> Option<&str> {
        self.irsa_role_arn.as_deref()
    }
}

impl AccessArgs {
    /// Finds the cluster.
    pub(in crate::cli) async fn find(&self) -> anyhow::Result<Found> {
        let access = Access { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        Ok(access.find().await?)
    }
}

impl Args {
    /// A Service of the cluster at an address of this machine.
    pub(in crate::cli) async fn forward(
        &self,
        service: &ServiceName,
    ) -> anyhow::Result<ForwardedService> {
        let (client, _version) = self.access.find().await?.connect(CLUSTER).await?;
        Ok(ForwardedService::open(client, service).await?)
    }

    /// Finds the cluster, and that it lets us in. `image` is that of `tracecheck`; `images` are those of workloads.
    pub(super) async fn cluster(
        &self,
        wanted: &Wanted<'_>,
        image: Option<String>,
        images: BTreeMap<String, String>,
    ) -> anyhow::Result<Chosen> {
        let settings = self.cluster_settings(wanted.run_id, image, images).await?;
        Ok(Chosen { name: CLUSTER, new: each(settings), release: None })
    }

    /// Finds the cluster, and that it lets us in, and says how something is brought up in it.
    pub(super) async fn cluster_settings(
        &self,
        run_id: &str,
        image: Option<String>,
        images: BTreeMap<String, String>,
    ) -> anyhow::Result<Settings> {
        let found = self.access.find().await?;
        let Some(image) = image else {
            bail!(
                "--env cluster needs `--image REFERENCE`, an image of tracecheck that the cluster's nodes have or can pull; `tracecheck image build` builds one"
            );
        };
        let (client, _version) = found.connect(CLUSTER).await?;
        // A run can go on beside what others left; that it could not be removed is logged.
        if let Err(error) = remove_expired(&client).await {
            crate::cli::warn(&format!(
                "what a run that was killed left behind is still there: {error}"
            ));
        }
        let operator = self.operator(CLUSTER, &client).await?;
        Ok(Settings {
            images,
            operator,
            ..self.settings(Settings::new(CLUSTER, client, run_id, image))
        })
    }

    /// The same with how long a system has to get ready.
    pub(super) fn with_start_limit(&self, start_limit: Option<std::time::Duration>) -> Self {
        Self { start_limit, ..self.clone() }
    }

    /// Returns whether a cluster that is there is named.
    pub(super) fn names_a_cluster(&self) -> bool {
        self.access.kubeconfig.is_some() || self.access.context.is_some()
    }

    /// Adds what the command line specifies of every cluster.
    pub(super) fn settings(&self, settings: Settings) -> Settings {
        Settings {
            start_limit: self.start_limit.unwrap_or(settings.start_limit),
            collector_image: self.collector.collector_image.clone(),
            collector_user: self.collector.collector_user,
            role_arn: self.collector.irsa_role_arn.clone(),
            ..settings
        }
    }

    /// The operator that is to make the collector, where one is, and all that it needs is there.
    pub(super) async fn operator(
        &self,
        environment: &'static str,
        client: &kubernetes::cluster::Client,
    ) -> anyhow::Result<Option<Operator>> {
        let by_default = match environment {
            eks::NAME => Install::Operator,
            _ => Install::Manifests,
        };
        match self.collector.wants_operator(by_default)? {
            None => Ok(None),
            Some(wanted) => Ok(Some(preflight::preflight(environment, client, wanted).await?)),
        }
    }

    /// Puts another collector in the place of the one that was named.
    pub(in super::super) fn set_collector_image(&mut self, reference: String) {
        self.collector.collector_image = Some(reference);
    }

    /// Returns whether the collector is one of which only an image is known.
    pub(super) fn has_collector_image(&self) -> bool {
        self.collector.collector_image.is_some()
    }

    /// Finds or makes kind's cluster, and brings the images into it.
    pub(super) async fn kind(
        &self,
        wanted: &Wanted<'_>,
        image: Option<String>,
        images: BTreeMap<String, String>,
    ) -> anyhow::Result<Chosen> {
        if self.names_a_cluster() {
            bail!(
                "--kubeconfig and --context name a cluster that is there: use them with `--env cluster`, also for one of kind's"
            );
        }
        let fallback = tempfile::NamedTempFile::new()?;
        let config = match &self.kind_config {
            Some(config) => config.clone(),
            None if PathBuf::from(KIND_CONFIG_FILE).exists() => PathBuf::from(KIND_CONFIG_FILE),
            None => {
                std::fs::write(fallback.path(), KIND_CONFIG)?;
                fallback.path().to_owned()
            }
        };
        let mut to_load = images.clone();
        to_load.extend(
            self.collector.collector_image.iter().map(|image| (String::new(), image.clone())),
        );
        let options =
            kind::Options { config, node_image: self.kind_node_image.clone(), locks: None };
        let ready = async {
            let cluster = Cluster::ensure(&options, &crate::cli::progress).await?;
            let loaded = async {
                let operator = self.operator(kind::NAME, &cluster.client).await?;
                Ok::<_, anyhow::Error>((load(&cluster, image, &to_load).await?, operator))
            };
            let loaded = loaded.await;
            Ok::<_, anyhow::Error>((cluster, loaded))
        };
        let (cluster, loaded) = tokio::select! {
            ready = ready => ready?,
            () = wanted.cancel.cancelled() => bail!("interrupted"),
        };
        let (image, operator) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                cluster.release(wanted.keep, &crate::cli::progress).await?;
                return Err(error);
            }
        };
        let settings = Settings {
            images,
            operator,
            ..self.settings(Settings::new(kind::NAME, cluster.client.clone(), wanted.run_id, image))
        };
        let keep = wanted.keep;
        let release = Box::pin(async move {
            cluster.release(keep, &crate::cli::progress).await.map_err(anyhow::Error::from)
        });
        Ok(Chosen { name: kind::NAME, new: each(settings), release: Some(release) })
    }
}

/// Brings the image of this program, or the named one, and those of workloads into the nodes; gives the first one's name.
async fn load(
    cluster: &Cluster,
    image: Option<String>,
    images: &BTreeMap<String, String>,
) -> anyhow::Result<String> {
    let own = match &image {
        Some(image) => image.clone(),
        None => {
            let made =
                tokio::task::spawn_blocking(|| crate::cli::image::of_this_program(None)).await??;
            let reference = made.reference().to_owned();
            if !cluster.has_image(&reference).await {
                crate::cli::progress(&format!("kind: loading image {reference}"));
                let archive = tempfile::NamedTempFile::new().context("no file for the image")?;
                let archive = tokio::task::spawn_blocking(move || {
                    made.save(archive.path()).map(|()| archive)
                });
                cluster.load_archive(archive.await??.path()).await?;
            }
            reference
        }
    };
    for reference in image.iter().chain(images.values()) {
        if cluster.has_image(reference).await {
            continue;
        }
        crate::cli::progress(&format!("kind: loading image {reference}"));
        if !cluster.load_docker_image(reference).await? {
            crate::cli::progress(&format!(
                "kind: Docker here has no image {reference}, so the nodes are left to pull it"
            ));
        }
    }
    Ok(own)
}

/// Removes the namespaces of runs whose time is over.
async fn remove_expired(client: &kubernetes::cluster::Client) -> Result<(), EnvironmentError> {
    let now = SystemTime::now();
    let mut expired = leftovers::find(CLUSTER, client).await?;
    expired.retain(|leftover| leftover.has_expired(now));
    leftovers::remove(CLUSTER, client, &expired).await
}

/// Makes an environment with a namespace of its own for each system.
pub(super) fn each(settings: Settings) -> NewEnvironment {
    let number = AtomicUsize::new(0);
    Box::new(move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(KubernetesEnvironment::new(settings.clone(), number)?))
    })
}
