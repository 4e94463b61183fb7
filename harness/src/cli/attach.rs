//! `--attach`: a system that is there already, and how its collector is pointed at the mock intake.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use harness::{
    environment::{
        attached::{Attached, AttachedEnvironment, IntakeSource},
        kubernetes::{
            KubernetesEnvironment,
            service::{ForwardedService, ServiceName},
        },
        outside_intake::Outside,
        process::ProcessEnvironment,
    },
    run::NewEnvironment,
    system::{Role, System, parts::INTAKE},
};

use super::environment::{self, kubernetes};

/// Default address of the intake that the run starts on this machine.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8126);
/// Default time that a run waits for a collector to be pointed at the intake that it created in the cluster.
const POINTING: Duration = Duration::from_secs(120);

/// Which system that is there already is judged, and where its parts are.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Judges a system that is there already: nothing is deployed but the mock intake, and with `--evidence datadog` not even that.
    #[arg(long, requires = "entry")]
    attach: bool,
    /// That system's entry, to which requests are sent: a base URL, or a Service of the cluster, which is reached over the API server.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "attach", value_parser = place)]
    entry: Option<AttachPoint>,
    /// Its collector's OTLP/gRPC port, in the same way, where it can be reached from here; the harness's own spans are virtual parents
    /// where it is left out.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "attach", value_parser = place)]
    otlp: Option<AttachPoint>,
    /// A mock intake that is up already, in the same way.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "attach", value_parser = place, conflicts_with = "intake_listen")]
    intake: Option<AttachPoint>,
    /// Address on which the mock intake that the run starts on this machine listens: one that the collector reaches [default:
    /// 127.0.0.1:8126; with `--env cluster` the intake is in the cluster, unless this is given]. Without `--attach` it takes each
    /// system's intake out of the cluster; port 0 is a free port for each.
    #[arg(long, value_name = "ADDRESS:PORT")]
    intake_listen: Option<SocketAddr>,
    /// The base URL at which the collector reaches that intake, where it is not the address that it listens at.
    #[arg(long, value_name = "URL", requires = "intake_listen", value_parser = base_url)]
    intake_url: Option<String>,
    /// The namespace that is made for the mock intake in the cluster, and removed with it; with a name that stays the same, so does
    /// the address that the collector sends to [default: one for the run].
    #[arg(
        long,
        value_name = "NAME",
        requires = "attach",
        conflicts_with_all = ["intake", "intake_listen"]
    )]
    intake_namespace: Option<String>,
    /// How long the run sends requests and waits until something arrives at the mock intake that it started; then the scenarios are
    /// driven, whatever came [default: 2m for an intake in the cluster, else not at all].
    #[arg(long, value_name = "DURATION", requires = "attach", value_parser = humantime::parse_duration)]
    attach_wait: Option<Duration>,
}

/// Place of a run's mock intake.
enum IntakeAt<'a> {
    /// It is up already.
    Running(&'a AttachPoint),
    /// On this machine, listening here.
    Here(SocketAddr),
    /// In a namespace of the cluster, which is made for it.
    Namespace(String),
}

/// Place of something that is there already.
#[derive(Debug, Clone)]
pub(super) enum AttachPoint {
    /// At this base URL.
    Url(String),
    /// Behind a Service of the cluster.
    Service(ServiceName),
}

/// Reads one.
pub(super) fn place(text: &str) -> Result<AttachPoint, String> {
    match text.contains("://") {
        true => base_url(text).map(AttachPoint::Url),
        false => text.parse().map(AttachPoint::Service).map_err(|error| {
            format!("{error}, or a base URL, for example http://shop.example.com:8080")
        }),
    }
}

impl AttachPoint {
    /// Its base URL as pods of the cluster reach it; a Service's port has to be a number for that, and is 80 where none is named.
    pub(super) fn url_in_cluster(&self) -> anyhow::Result<String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::Service(ServiceName { namespace, name, port }) => {
                let port = port.as_deref().unwrap_or("80");
                match port.parse::<u16>() {
                    Ok(number) => Ok(format!("http://{name}.{namespace}.svc:{number}")),
                    Err(_) => bail!(
                        "{namespace}/{name}:{port}: named ports are not resolved here: give the number of `{port}`"
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
    /// Returns whether a system that is there already is judged.
    pub(super) fn is_wanted(&self) -> bool {
        self.attach
    }

    /// Reduces a system to what this needs: nothing of it is used but its entry, and its intake accepts any key.
    pub(super) fn adapt(&self, system: &mut System, with_intake: bool, env: &environment::Args) {
        for workload in &mut system.workloads {
            workload.ledger = None;
        }
        system.workloads.retain(|workload| workload.role != Role::Intake || with_intake);
        let intakes = system.workloads.iter_mut().filter(|workload| workload.role == Role::Intake);
        for intake in intakes {
            // In the cluster it listens where every intake does.
            if let IntakeAt::Here(listen) = self.intake_at(env, "") {
                intake.args = vec![format!("--listen={listen}")];
            }
            intake.secrets.clear();
        }
    }

    fn intake_at(&self, env: &environment::Args, run_id: &str) -> IntakeAt<'_> {
        match (&self.intake, self.intake_listen) {
            (Some(place), _) => IntakeAt::Running(place),
            (None, Some(listen)) => IntakeAt::Here(listen),
            (None, None) if env.is_cluster() => {
                let own = || format!("tracecheck-{run_id}-intake");
                IntakeAt::Namespace(self.intake_namespace.clone().unwrap_or_else(own))
            }
            (None, None) => IntakeAt::Here(LISTEN),
        }
    }

    /// Intakes of the systems that the run deploys, where they are not with the systems.
    pub(super) fn outside(
        &self,
        with_intake: bool,
        env: &environment::Args,
    ) -> anyhow::Result<Option<Outside>> {
        let Some(listen) = self.intake_listen.filter(|_| !self.attach) else { return Ok(None) };
        if !with_intake {
            bail!(
                "--intake-listen: with `--evidence datadog` there is no mock intake; leave it out"
            );
        }
        if !env.is_kubernetes() {
            bail!(
                "--intake-listen takes the intake out of a cluster: use it with `--env cluster`, `kind` or `eks`, or with --attach"
            );
        }
        if listen.ip().is_unspecified() && self.intake_url.is_none() {
            bail!(
                "--intake-listen {listen} is not an address at which pods reach this machine: give one of its addresses, or --intake-url"
            );
        }
        if listen.port() == 0 && self.intake_url.is_some() {
            bail!("--intake-url needs a port of its own choice: give --intake-listen one, not 0");
        }
        Ok(Some(Outside { listen, url: self.intake_url.clone(), turn: Arc::default() }))
    }

    /// Refuses an intake whose address changes from run to run, where there are several.
    pub(super) fn check_rounds(&self, env: &environment::Args) -> anyhow::Result<()> {
        if self.attach
            && self.intake_namespace.is_none()
            && let IntakeAt::Namespace(_) = self.intake_at(env, "")
        {
            bail!(
                "each round makes a mock intake of its own: name its namespace with --intake-namespace, so that the address \
                 that the collector sends to stays the same, or one that is up already with --intake"
            );
        }
        Ok(())
    }

    /// An environment that attaches to the system.
    pub(super) async fn environment(
        &self,
        with_intake: bool,
        env: &environment::Args,
        run_id: &str,
    ) -> anyhow::Result<NewEnvironment> {
        let cluster = &env.kubernetes;
        if self.intake_namespace.is_some() && !env.is_cluster() {
            bail!("--intake-namespace requires `--env cluster`");
        }
        let Some(entry) = &self.entry else { bail!("--attach: name the entry with --entry") };
        let mut forwards = Vec::new();
        let entry = entry.url(cluster, &mut forwards).await.context("--entry")?;
        let otlp = match &self.otlp {
            Some(otlp) => Some(otlp.url(cluster, &mut forwards).await.context("--otlp")?),
            None => None,
        };
        let at = self.intake_at(env, run_id);
        let running = match &at {
            IntakeAt::Running(intake) => {
                Some(intake.url(cluster, &mut forwards).await.context("--intake")?)
            }
            _ => None,
        };
        let in_cluster = match at {
            IntakeAt::Namespace(namespace) if with_intake => {
                Some((env.cluster_settings(run_id).await?, namespace))
            }
            _ => None,
        };
        let pointing = if in_cluster.is_some() { Some(POINTING) } else { None };
        let pointing = self.attach_wait.or(pointing).filter(|limit| !limit.is_zero());
        let program =
            std::env::current_exe().context("the path of this program cannot be determined")?;
        let program = Arc::new(program);
        Ok(Box::new(move || {
            // They last as long as environments are made.
            let _forwards = &forwards;
            let intake = match (&running, &in_cluster) {
                _ if !with_intake => IntakeSource::None,
                (Some(url), _) => IntakeSource::Running(url.clone()),
                (None, Some((settings, namespace))) => {
                    let environment = KubernetesEnvironment::new(settings.clone(), 0)?;
                    IntakeSource::BroughtUp(Box::new(environment.in_namespace(namespace)))
                }
                (None, None) => {
                    let environment = ProcessEnvironment::builder(program.as_ref()).build()?;
                    IntakeSource::BroughtUp(Box::new(environment))
                }
            };
            let at = Attached { entry: entry.clone(), otlp: otlp.clone(), intake, pointing };
            Ok(Box::new(AttachedEnvironment::new(at)))
        }))
    }

    /// How the collector is pointed at the mock intake, for people.
    pub(super) fn how_to(&self, env: &environment::Args, run_id: &str) -> String {
        let intake = match self.intake_at(env, run_id) {
            IntakeAt::Running(AttachPoint::Url(url)) => url.clone(),
            IntakeAt::Running(AttachPoint::Service(ServiceName { namespace, name, port })) => {
                let port = port.as_ref().map_or_else(String::new, |port| format!(":{port}"));
                format!("http://{name}.{namespace}.svc{port}")
            }
            IntakeAt::Here(listen) => {
                self.intake_url.clone().unwrap_or_else(|| format!("http://{listen}"))
            }
            IntakeAt::Namespace(namespace) => format!("http://{INTAKE}.{namespace}.svc:8080"),
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
