//! `--env eks`: what the command line says of the cluster that is made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::bail;
use harness::environment::kubernetes::{
    Settings,
    eks::{self, Cluster, Config, Options},
};

use super::{Chosen, Wanted, kubernetes};

/// eksctl's configuration where the user has none: the one beside the scenarios.
const CONFIG: &str = include_str!("../../../../eks-config.yaml");
/// File in which the user's configuration is looked for.
const CONFIG_FILE: &str = "eks-config.yaml";

/// How long a system may stay in a cluster that is made for it: an hour less than the time after which anybody may remove that.
pub(super) const LONGEST: Duration = Duration::from_secs(11 * 60 * 60);

/// Which cluster is made.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// How long making the cluster may take.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration, help_heading = "EKS")]
    eks_limit: Duration,
    /// Agrees to what `--env eks` costs; without it nothing is made.
    #[arg(long, help_heading = "EKS")]
    yes: bool,
}

/// Which configuration.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct ConfigArgs {
    /// The configuration of eksctl (ClusterConfig) for the cluster that `--env eks` makes; ./eks-config.yaml by default, else
    /// tracecheck's own.
    #[arg(long, value_name = "FILE", help_heading = "EKS")]
    eks_config: Option<PathBuf>,
    /// The cluster's name in place of the configuration's.
    #[arg(long, value_name = "NAME", help_heading = "EKS")]
    eks_name: Option<String>,
    /// The region on AWS in place of the configuration's.
    #[arg(long, value_name = "REGION", help_heading = "EKS")]
    eks_region: Option<String>,
}

impl ConfigArgs {
    /// Reads the configuration.
    pub(in crate::cli) fn read(&self) -> anyhow::Result<Config> {
        let (name, region) = (self.eks_name.as_deref(), self.eks_region.as_deref());
        Ok(match &self.eks_config {
            Some(path) => Config::read(path, name, region)?,
            None if Path::new(CONFIG_FILE).exists() => {
                Config::read(Path::new(CONFIG_FILE), name, region)?
            }
            None => Config::parse(CONFIG_FILE, CONFIG, name, region)?,
        })
    }
}

impl Args {
    /// Says what it costs, and makes the cluster where the user agrees.
    pub(super) async fn eks(
        &self,
        cluster_args: &kubernetes::Args,
        wanted: &Wanted<'_>,
        image: Option<String>,
        images: BTreeMap<String, String>,
    ) -> anyhow::Result<Chosen> {
        if cluster_args.names_a_cluster() {
            bail!(
                "--kubeconfig and --context name a cluster that is there: use them with `--env cluster`, also for one of EKS"
            );
        }
        let Some(image) = image else {
            bail!(
                "--env eks needs `--image REFERENCE`, an image of tracecheck in a registry that the cluster's nodes can pull from; `tracecheck image build` builds one"
            );
        };
        let config = self.config.read()?;
        crate::cli::progress(&costs(&config));
        if !self.yes {
            bail!(
                "--env eks makes what costs money, so that it needs `--yes`, in a terminal as well as in a script; nothing was made"
            );
        }
        let options = Options {
            config,
            run_id: wanted.run_id.to_owned(),
            create_limit: self.eks_limit,
            keep: wanted.keep,
        };
        let cluster = Cluster::make(&options, wanted.cancel, &crate::cli::progress).await?;
        let client = cluster.client.clone();
        let operator = tokio::select! {
            operator = cluster_args.operator(eks::NAME, &client) => operator,
            () = wanted.cancel.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        let operator = match operator {
            Ok(operator) => operator,
            Err(error) => {
                cluster.release(wanted.keep, &crate::cli::progress).await?;
                return Err(error);
            }
        };
        let own = Settings::new(eks::NAME, client, wanted.run_id, image);
        let mut settings = Settings { images, operator, ..cluster_args.settings(own) };
        settings.role_arn = settings.role_arn.or_else(|| cluster.role_arn.clone());
        let keep = wanted.keep;
        let release = Box::pin(async move {
            cluster.release(keep, &crate::cli::progress).await.map_err(anyhow::Error::from)
        });
        Ok(Chosen { name: eks::NAME, new: kubernetes::each(settings), release: Some(release) })
    }
}

fn costs(config: &Config) -> String {
    format!(
        "eks: this creates a cluster `{}` in {} with {}, and deletes it afterwards. Creating it takes about 15 to 25 minutes, \
         deleting it about 10 to 15.\n\
         eks: AWS bills the control plane (0.10 USD an hour by its list price), the nodes, a NAT gateway, volumes and traffic \
         until all is deleted: for an hour, less than 1 USD with the nodes of tracecheck's own configuration; \
         `aws.amazon.com/eks/pricing` has the prices.",
        config.name,
        config.region,
        config.nodes()
    )
}
