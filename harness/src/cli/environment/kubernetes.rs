//! `--env cluster` and `--env kind`: what the command line says of a cluster.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use harness::{
    environment::kubernetes::{
        KubernetesEnvironment, Settings,
        cluster::Access,
        kind::{self, Cluster},
    },
    run::NewEnvironment,
};

use super::{Chosen, Wanted};

/// Name of the environment.
pub(super) const CLUSTER: &str = "cluster";
/// kind's configuration where the user has none: the one beside the scenarios.
const KIND_CONFIG: &str = include_str!("../../../../kind-config.yaml");
/// Where the user's is looked for.
const KIND_CONFIG_FILE: &str = "kind-config.yaml";

/// Which cluster, and how.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct Args {
    /// The kubeconfig; by default what KUBECONFIG names, else ~/.kube/config, else the account of the pod this runs in.
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// The context in it; its current one by default.
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    context: Option<String>,
    /// How the collector gets into the cluster.
    #[arg(long, value_enum, value_name = "WAY", default_value_t = Install::Manifests, help_heading = "Kubernetes")]
    collector_install: Install,
    /// How long a system has to get ready.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration, help_heading = "Kubernetes")]
    start_limit: std::time::Duration,
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
}

impl Args {
    /// Which cluster is meant.
    fn access(&self) -> Access {
        Access { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// Finds the cluster, and that it lets us in. `image` is that of `tracecheck`; `images` are those of workloads.
    pub(super) async fn cluster(
        &self,
        wanted: &Wanted<'_>,
        image: Option<String>,
        images: BTreeMap<String, String>,
    ) -> anyhow::Result<Chosen> {
        let found = self.access().find().await?;
        let Some(image) = image else {
            bail!(
                "--env cluster needs `--image REFERENCE`, an image of tracecheck that the cluster's nodes can pull or have; \
                 `tracecheck image build` makes one"
            );
        };
        let (client, _version) = found.connect(CLUSTER).await?;
        let settings = Settings {
            images,
            start_limit: self.start_limit,
            ..Settings::new(CLUSTER, client, wanted.run_id, image)
        };
        Ok(Chosen { name: CLUSTER, new: each(settings), release: None })
    }

    /// Finds or makes kind's cluster, and brings the images into it.
    pub(super) async fn kind(
        &self,
        wanted: &Wanted<'_>,
        image: Option<String>,
        images: BTreeMap<String, String>,
    ) -> anyhow::Result<Chosen> {
        if self.kubeconfig.is_some() || self.context.is_some() {
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
        let options =
            kind::Options { config, node_image: self.kind_node_image.clone(), locks: None };
        let ready = async {
            let cluster = Cluster::ensure(&options, &crate::cli::tell).await?;
            let loaded = load(&cluster, image, &images).await;
            Ok::<_, anyhow::Error>((cluster, loaded))
        };
        let (cluster, loaded) = tokio::select! {
            ready = ready => ready?,
            () = wanted.cancel.cancelled() => bail!("interrupted"),
        };
        let image = match loaded {
            Ok(image) => image,
            Err(error) => {
                cluster.release(wanted.keep, &crate::cli::tell).await?;
                return Err(error);
            }
        };
        let settings = Settings {
            images,
            start_limit: self.start_limit,
            ..Settings::new(kind::NAME, cluster.client.clone(), wanted.run_id, image)
        };
        let keep = wanted.keep;
        let release = Box::pin(async move {
            cluster.release(keep, &crate::cli::tell).await.map_err(anyhow::Error::from)
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
                crate::cli::tell(&format!("kind: loading image {reference}"));
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
        crate::cli::tell(&format!("kind: loading image {reference}"));
        if !cluster.load_docker_image(reference).await? {
            crate::cli::tell(&format!(
                "kind: Docker here has no image {reference}, so the nodes are left to pull it"
            ));
        }
    }
    Ok(own)
}

/// Makes an environment with a namespace of its own for each system.
fn each(settings: Settings) -> NewEnvironment {
    let number = AtomicUsize::new(0);
    Box::new(move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(KubernetesEnvironment::new(settings.clone(), number)?))
    })
}
