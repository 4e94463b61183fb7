//! `--env cluster`: what the command line says of a cluster.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::bail;
use clap::ValueEnum;
use harness::{
    environment::kubernetes::{KubernetesEnvironment, Settings, cluster::Access},
    run::NewEnvironment,
};

use super::Chosen;

/// Name of the environment.
pub(super) const CLUSTER: &str = "cluster";

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
        run_id: &str,
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
            ..Settings::new(CLUSTER, client, run_id, image)
        };
        Ok(Chosen { name: CLUSTER, new: each(settings) })
    }
}

/// Makes an environment with a namespace of its own for each system.
fn each(settings: Settings) -> NewEnvironment {
    let number = AtomicUsize::new(0);
    Box::new(move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(KubernetesEnvironment::new(settings.clone(), number)?))
    })
}
