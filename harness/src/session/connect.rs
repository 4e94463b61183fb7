//! Setting up what a session works with, once its system is up: the driver, the intake's client, and who is who.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::SessionError;
use crate::{
    case::{DRIVER_SERVICE, ServiceIdentity, Topology},
    driver::{Driver, DriverError, OtlpEndpoint},
    environment::Endpoints,
    evidence::EvidenceSource,
    intake::{self, client::IntakeClient},
    ledger::LedgerClient,
    strays::Places,
    system::{Role, System, Workload},
};

/// Longest wait for one ledger route, which is then asked once more.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts of a session whose system is up.
pub(super) struct Parts {
    pub(super) endpoints: Endpoints,
    pub(super) intake: Option<Arc<IntakeClient>>,
    pub(super) source: Arc<dyn EvidenceSource>,
    pub(super) driver: Driver,
    pub(super) topology: Topology,
    /// Longest time that spans wait in a service's SDK.
    pub(super) export_delay: Option<Duration>,
    pub(super) places: Places,
    pub(super) http: reqwest::Client,
    /// By service, one for each of its instances.
    pub(super) ledgers: BTreeMap<String, Vec<LedgerClient>>,
}

impl Parts {
    /// Connects to what has just come up.
    pub(super) async fn connect(
        endpoints: Endpoints,
        system: &System,
        run_id: &str,
        source: Option<Arc<dyn EvidenceSource>>,
    ) -> Result<Self, SessionError> {
        let named =
            |role: Role| system.workloads.iter().find(move |workload| workload.role == role);
        let intake_url = match (named(Role::Intake), &source) {
            (Some(intake), _) => {
                let url = endpoints.url(&intake.name, "http");
                Some(url.ok_or(SessionError::Incomplete("intake port `http`"))?)
            }
            (None, Some(_)) => None,
            (None, None) => return Err(SessionError::Incomplete("intake")),
        };
        let entry_url = endpoints
            .url(&system.entry, "http")
            .ok_or(SessionError::Incomplete("entry with a port `http`"))?;
        let otlp = named(Role::Collector).map(|collector| {
            let of = |port| endpoints.urls(&collector.name, port).into_iter();
            let grpc: Vec<_> = of("otlp-grpc").map(OtlpEndpoint::Grpc).collect();
            if grpc.is_empty() { of("otlp-http").map(OtlpEndpoint::Http).collect() } else { grpc }
        });
        let driver = Driver::new(entry_url, &otlp.unwrap_or_default(), run_id.to_owned())?;
        let intake = match intake_url {
            None => None,
            Some(url) => {
                let settings = intake::client::Settings::default();
                let client = IntakeClient::connect(&url, settings).await?;
                // What it had before is not to be taken for late.
                client.catch_up().await?;
                Some(Arc::new(client))
            }
        };
        let pushed = || intake.clone().map(|intake| intake as Arc<dyn EvidenceSource>);
        let source = source.or_else(pushed).ok_or(SessionError::Incomplete("intake"))?;
        let http = crate::http::client()
            .timeout(LEDGER_TIMEOUT)
            .build()
            .map_err(|error| DriverError::Client(crate::chain_of(&error)))?;
        let mut ledgers = BTreeMap::<String, Vec<LedgerClient>>::new();
        let mut services = Vec::new();
        let traced = system.traced_services();
        for workload in &traced {
            let mut identity = ServiceIdentity {
                workload: workload.name.clone(),
                service: workload.service_name(),
                instances: Vec::new(),
                meant: workload.meant_service(),
                meant_attributes: workload.meant_attributes(),
                propagators: workload.env.get("OTEL_PROPAGATORS").cloned(),
                held_for_ms: workload
                    .set_export_delay()
                    .and_then(|delay| u64::try_from(delay.as_millis()).ok()),
                silenced_by: workload.silenced_by(),
                callees: system.callees(workload),
                exports_elsewhere: workload.exports_to().filter(|set| leads_away(&endpoints, set)),
                misdirected: workload.misdirected(),
                own_sampler: workload.own_sampler(),
                uninstrumented_by: workload.uninstrumented_by(),
                direct_callers: system.direct_callers(workload),
                called_through: called_through(system, &traced, &workload.name),
                most_attributes: workload.most_attributes(),
                longest_value: workload.longest_value(),
                public: workload.public,
            };
            if workload.name == system.entry {
                identity.direct_callers.push(DRIVER_SERVICE.to_owned());
            }
            let urls = workload.ledger.as_ref().map(|port| endpoints.urls(&workload.name, port));
            for url in urls.unwrap_or_default() {
                let ledger = LedgerClient::new(http.clone(), url);
                match ledger.totals().await {
                    Ok(totals) => {
                        identity.service = Some(totals.service);
                        identity.instances.push(totals.instance_id);
                    }
                    Err(error) => tracing::warn!(workload = workload.name, %error, "no ledger"),
                }
                ledgers.entry(workload.name.clone()).or_default().push(ledger);
            }
            services.push(identity);
        }
        let topology = Topology { services };
        let export_delay = traced.iter().map(|workload| workload.export_delay()).max();
        let places = Places::of(system, &endpoints);
        Ok(Self {
            endpoints,
            intake,
            source,
            driver,
            topology,
            export_delay,
            places,
            http,
            ledgers,
        })
    }
}

/// Returns, by caller, the workloads without spans that pass its calls on to a service.
fn called_through(
    system: &System,
    traced: &[&Workload],
    callee: &str,
) -> BTreeMap<String, Vec<String>> {
    let entry = system.workload(&system.entry).filter(|entry| !entry.traced);
    let callers = traced.iter().filter(|caller| caller.name != callee);
    let callers = callers.map(|caller| (caller.name.as_str(), *caller));
    let all = callers.chain(entry.map(|entry| (DRIVER_SERVICE, entry)));
    let through = all.map(|(name, caller)| (name.to_owned(), system.between(caller, callee)));
    through.filter(|(_, between)| !between.is_empty()).collect()
}

/// Returns whether a setting, as `NAME=URL`, is certain to lead to none of the system's workloads: it names a loopback address of this
/// machine, with a port that none of them has. Any other host may be one of theirs, as a Service of a cluster is.
fn leads_away(endpoints: &Endpoints, setting: &str) -> bool {
    let url = setting.split_once('=').and_then(|(_, url)| reqwest::Url::parse(url).ok());
    let Some((host, port)) = url.as_ref().and_then(|url| Some((url.host_str()?, url.port()?)))
    else {
        return false;
    };
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = address.map_or(host == "localhost", |address| address.is_loopback());
    let port_of = |address: &str| {
        let (_, port) = address.trim_end_matches('/').rsplit_once(':')?;
        port.split('/').next()?.parse::<u16>().ok()
    };
    let instances = endpoints.workloads.values().flat_map(|of| &of.instances);
    let mut ports = instances.flat_map(|of| of.ports.values());
    is_here && !ports.any(|known| port_of(known) == Some(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{InstanceEndpoints, WorkloadEndpoints};

    #[test]
    fn only_a_loopback_address_that_no_workload_has_leads_away() {
        let ports = ["127.0.0.1:4317", "http://127.0.0.1:4318/base"].into_iter();
        let ports = ports.map(|address| (address.to_owned(), address.to_owned())).collect();
        let instances = vec![InstanceEndpoints { name: String::new(), ports }];
        let collector = WorkloadEndpoints { role: Role::Collector, instances };
        let endpoints = Endpoints { workloads: [("collector".to_owned(), collector)].into() };
        let leads_away = |url: &str| leads_away(&endpoints, &format!("OTEL_ENDPOINT={url}"));
        for url in ["http://localhost:9", "https://127.1.2.3:9/v1/traces", "http://[::1]:9"] {
            assert!(leads_away(url), "{url}");
        }
        // One of the system's; without a port; not of this machine, or not known to be.
        for url in [
            "http://localhost:4317",
            "http://127.0.0.1:4318/v1/traces",
            "http://127.0.0.1",
            "http://collector:9",
            "http://collector.shop.svc:9",
            "http://10.0.0.1:9",
            "http://127.example.com:9",
            "http://localhost.example.com:9",
            "localhost:9",
            "",
        ] {
            assert!(!leads_away(url), "{url}");
        }
    }
}
