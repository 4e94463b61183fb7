//! `--attach`: a system that is there already, and how its collector is pointed at the mock intake.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use harness::{
    environment::{
        attached::{Attached, AttachedEnvironment, Intake},
        kubernetes::service::{ForwardedService, ServiceName},
        process::ProcessEnvironment,
    },
    run::NewEnvironment,
    system::{Role, System},
};

use super::environment::kubernetes;

/// Which system that is there already is judged, and where its parts are.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Judges a system that is there already: nothing is deployed but the mock intake, and with `--evidence datadog` not even that.
    #[arg(long, requires = "entry")]
    attach: bool,
    /// That system's entry, to which requests are sent: a base URL, or a Service of the cluster, which is reached over the API server.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "attach", value_parser = place)]
    entry: Option<Place>,
    /// Its collector's OTLP/gRPC port, in the same way, where it can be reached from here; the harness's own spans are virtual parents
    /// where it is left out.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "attach", value_parser = place)]
    otlp: Option<Place>,
    /// A mock intake that is up already, in the same way.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "attach", value_parser = place, conflicts_with = "intake_listen")]
    intake: Option<Place>,
    /// Where the mock intake that the run starts listens: an address that the collector reaches.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        requires = "attach",
        default_value = "127.0.0.1:8126"
    )]
    intake_listen: SocketAddr,
}

/// Where something is that is there already.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// At this base URL.
    Url(String),
    /// Behind a Service of the cluster.
    Service(ServiceName),
}

/// Reads one.
pub(super) fn place(text: &str) -> Result<Place, String> {
    match text.contains("://") {
        true => base_url(text).map(Place::Url),
        false => text.parse().map(Place::Service).map_err(|error| {
            format!("{error}, or a base URL, for example http://shop.example.com:8080")
        }),
    }
}

impl Place {
    /// Its base URL as pods of the cluster reach it; a Service's port has to be a number for that, and is 80 where none is named.
    pub(super) fn url_in_cluster(&self) -> anyhow::Result<String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::Service(ServiceName { namespace, name, port }) => {
                let port = port.as_deref().unwrap_or("80");
                match port.parse::<u16>() {
                    Ok(number) => Ok(format!("http://{name}.{namespace}.svc:{number}")),
                    Err(_) => bail!(
                        "{namespace}/{name}:{port}: nobody asks the cluster here which number the port `{port}` has; write the number"
                    ),
                }
            }
        }
    }

    /// Its base URL; a Service is forwarded as long as what is put into `forwards` lives.
    async fn url(
        &self,
        cluster: &kubernetes::Args,
        forwards: &mut Vec<ForwardedService>,
    ) -> anyhow::Result<String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::Service(service) => {
                let forwarded = cluster.forward(service).await?;
                let url = forwarded.url();
                forwards.push(forwarded);
                Ok(url)
            }
        }
    }
}

fn base_url(text: &str) -> Result<String, String> {
    let is_base = text.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "http" | "https") && !rest.trim_matches('/').is_empty()
    });
    match is_base {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("write a base URL, for example http://shop.example.com:8080".to_owned()),
    }
}

impl Args {
    /// Whether a system that is there already is judged.
    pub(super) fn is_wanted(&self) -> bool {
        self.attach
    }

    /// What a system has to be for this: nothing of it is asked but its entry, and its intake takes any key.
    pub(super) fn adapt(&self, system: &mut System, with_intake: bool) {
        for workload in &mut system.workloads {
            workload.ledger = None;
        }
        system.workloads.retain(|workload| workload.role != Role::Intake || with_intake);
        let intakes = system.workloads.iter_mut().filter(|workload| workload.role == Role::Intake);
        for intake in intakes {
            intake.args = vec![format!("--listen={}", self.intake_listen)];
            intake.secrets.clear();
        }
    }

    /// An environment that attaches to the system.
    pub(super) async fn environment(
        &self,
        with_intake: bool,
        cluster: &kubernetes::Args,
    ) -> anyhow::Result<NewEnvironment> {
        let Some(entry) = &self.entry else { bail!("--attach: name the entry with --entry") };
        let mut forwards = Vec::new();
        let entry = entry.url(cluster, &mut forwards).await.context("--entry")?;
        let otlp = match &self.otlp {
            Some(otlp) => Some(otlp.url(cluster, &mut forwards).await.context("--otlp")?),
            None => None,
        };
        let running = match &self.intake {
            Some(intake) => Some(intake.url(cluster, &mut forwards).await.context("--intake")?),
            None => None,
        };
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let program = Arc::new(program);
        Ok(Box::new(move || {
            // They last as long as environments are made.
            let _forwards = &forwards;
            let intake = match &running {
                _ if !with_intake => Intake::None,
                Some(url) => Intake::Running(url.clone()),
                None => {
                    let environment = ProcessEnvironment::builder(program.as_ref()).build()?;
                    Intake::BroughtUp(Box::new(environment))
                }
            };
            let at = Attached { entry: entry.clone(), otlp: otlp.clone(), intake };
            Ok(Box::new(AttachedEnvironment::new(at)))
        }))
    }

    /// How the collector is pointed at the mock intake, for people.
    pub(super) fn how_to(&self) -> String {
        let intake = match &self.intake {
            Some(Place::Url(url)) => url.clone(),
            Some(Place::Service(ServiceName { namespace, name, port })) => {
                let port = port.as_ref().map_or_else(String::new, |port| format!(":{port}"));
                format!("http://{name}.{namespace}.svc{port}")
            }
            None => format!("http://{}", self.intake_listen),
        };
        format!(
            "\
The collector has to send to the mock intake at {intake}, as the collector reaches it. In its config:

    exporters:
      datadog:                       # beside what is there
        traces: {{ endpoint: {intake} }}
        metrics: {{ endpoint: {intake} }}
        host_metadata: {{ enabled: false }}
      otlphttp/datadog:              # or, for Datadog's OTLP intake
        traces_endpoint: {intake}/v1/traces

With the operator the same goes below `spec.config` of the OpenTelemetryCollector: `kubectl edit otelcol NAME`. In v1alpha1,
`config` is a text, and the lines go into it.
"
        )
    }
}
