//! `tracecheck manifests`: what would be applied to a cluster, for whoever applies things himself.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use harness::{
    environment::kubernetes::{
        self, Placing,
        manifests::{self, Objects},
    },
    intake, load,
    scenario::{ChainChoice, Scenario, SystemChoice},
    secret::Secret,
    system::{
        Role, System,
        build::{self, Overrides},
    },
};
use serde::Serialize;

use super::{
    choice::check_traces_only,
    environment::{self, kubernetes::CollectorArgs},
};

mod canary;

/// Stands for a secret that is the user's own.
const PLACEHOLDER: &str = "REPLACE-ME";

/// Which system, and what is written into its objects.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A scenario file whose system is meant; the built-in chain of two when left out.
    scenario: Option<PathBuf>,
    /// The namespace for everything.
    #[arg(long, value_name = "NAME", default_value = "tracecheck")]
    namespace: String,
    /// The image of tracecheck, or, as WORKLOAD=REFERENCE, that of one workload. May be given several times.
    #[arg(long = "image", value_name = "[WORKLOAD=]REFERENCE", required = true, value_parser = environment::image)]
    images: Vec<environment::Image>,
    /// The collector's config, passed on unchanged.
    #[arg(long, value_name = "FILE")]
    collector_config: Option<PathBuf>,
    /// Leaves out of that config what is for metrics, logs and profiles alone; a note says so of each part.
    #[arg(long, requires = "collector_config")]
    traces_only: bool,
    #[command(flatten)]
    collector: CollectorArgs,
    #[command(flatten)]
    canary: canary::Args,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (image, images) = environment::named(&args.images);
    if image.is_empty() {
        bail!("name an image of tracecheck that the cluster can pull: `--image REFERENCE`");
    }
    if let Some(text) = args.canary.manifests(&args.namespace, &image)? {
        return super::print(&text);
    }
    let mut choice = match &args.scenario {
        None => SystemChoice::Chain(ChainChoice::default()),
        Some(path) => one_scenario(path)?.system,
    };
    if let (SystemChoice::Chain(chain), Some(config)) = (&mut choice, &args.collector_config) {
        chain.collector_config = Some(config.clone());
    }
    if let SystemChoice::File(path) = &choice {
        environment::check_system_of_cluster(path).context("the system")?;
    }
    check_traces_only(args.traces_only, args.collector.image().is_some())?;
    let overrides = Overrides {
        collector_config: args.collector_config.clone(),
        traces_only: args.traces_only,
        ..Overrides::default()
    };
    let system = build::system(&choice, &overrides).context("the system")?.system;
    let operator = args.collector.unseen_operator()?;
    let placing = Placing {
        environment: "cluster",
        image: &image,
        images: &images,
        operator: operator.is_some(),
        collector_image: args.collector.image(),
    };
    let containers = placing.plan(&system)?;
    let settings = manifests::Settings {
        namespace: args.namespace.clone(),
        run: None,
        expires: None,
        image: image.clone(),
        replicas: kubernetes::replicas(&system),
        role_arn: args.collector.role_arn().map(str::to_owned),
        collector_user: args.collector.user(),
        operator,
    };
    let mut objects = manifests::objects(&containers, &settings);
    let hidden = hide_secrets(&mut objects, &system);
    let text = yaml(&documents(&objects)?)?;
    for name in hidden {
        super::warn(&format!(
            "secret `{name}` is not printed: replace {PLACEHOLDER} by its values, or take it from your store of secrets"
        ));
    }
    super::print(&text)
}

/// The one scenario of a file.
fn one_scenario(path: &PathBuf) -> anyhow::Result<Scenario> {
    let mut scenarios = load::load(std::slice::from_ref(path))?;
    match scenarios.pop().filter(|_| scenarios.is_empty()) {
        Some(scenario) => Ok(scenario),
        None => bail!("{}: name one scenario's file, since its system is printed", path.display()),
    }
}

/// Replaces all secrets but the mock's key, which opens nothing else; gives the names of those with others.
fn hide_secrets(objects: &mut Objects, system: &System) -> Vec<String> {
    let intake = system.workloads.iter().find(|workload| workload.role == Role::Intake);
    let key = intake.and_then(|intake| intake.secrets.get(intake::API_KEY_VARIABLE));
    let key = key.map(Secret::reveal).unwrap_or_default().as_bytes();
    let mut hidden = Vec::new();
    for secret in &mut objects.secrets {
        let mut hides = false;
        for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
            if value.0 != key {
                value.0 = PLACEHOLDER.as_bytes().to_vec();
                hides = true;
            }
        }
        if hides {
            hidden.extend(secret.metadata.name.clone());
        }
    }
    hidden
}

/// All objects, in an order in which they can be applied.
fn documents(objects: &Objects) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut documents = vec![serde_json::to_value(&objects.namespace)?];
    all(&objects.accounts, &mut documents)?;
    all(&objects.cluster_roles, &mut documents)?;
    all(&objects.cluster_role_bindings, &mut documents)?;
    all(&objects.secrets, &mut documents)?;
    all(&objects.config_maps, &mut documents)?;
    all(&objects.services, &mut documents)?;
    all(&objects.collectors, &mut documents)?;
    all(&objects.deployments, &mut documents)?;
    Ok(documents)
}

fn all<T: Serialize>(objects: &[T], documents: &mut Vec<serde_json::Value>) -> anyhow::Result<()> {
    for object in objects {
        documents.push(serde_json::to_value(object)?);
    }
    Ok(())
}

/// Objects as documents of one YAML stream.
fn yaml(documents: &[serde_json::Value]) -> anyhow::Result<String> {
    let texts = documents.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.iter().map(|text| format!("---\n{}\n", text.trim_end())).collect())
}
