//! Setting up what a session works with, once its system is up: the driver, the intake's client, and who is who.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::SessionError;
use crate::{
    case::{ServiceIdentity, Topology},
    driver::{Driver, DriverError, OtlpEndpoint},
    environment::{Endpoints, Environment, UnexpectedExit},
    intake::{self, client::IntakeClient},
    ledger::LedgerClient,
    system::{Role, System, Workload},
};

/// Longest wait for one ledger route.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often dead workloads are looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// What a session has once its system is up.
pub(super) struct Parts {
    pub(super) endpoints: Endpoints,
    pub(super) intake: IntakeClient,
    pub(super) driver: Driver,
    pub(super) topology: Topology,
    pub(super) http: reqwest::Client,
    pub(super) ledgers: BTreeMap<String, LedgerClient>,
}

impl Parts {
    /// Connects to what has just come up.
    pub(super) async fn connect(
        endpoints: Endpoints,
        system: &System,
        run_id: &str,
    ) -> Result<Self, SessionError> {
        let named =
            |role: Role| system.workloads.iter().find(move |workload| workload.role == role);
        let intake = named(Role::Intake).ok_or(SessionError::Incomplete("intake"))?;
        let intake_url = endpoints
            .url(&intake.name, "http")
            .ok_or(SessionError::Incomplete("intake port `http`"))?;
        let entry_url = endpoints
            .url(&system.entry, "http")
            .ok_or(SessionError::Incomplete("entry with a port `http`"))?;
        let otlp = named(Role::Collector).and_then(|collector| {
            let grpc = endpoints.url(&collector.name, "otlp-grpc").map(OtlpEndpoint::Grpc);
            grpc.or_else(|| endpoints.url(&collector.name, "otlp-http").map(OtlpEndpoint::Http))
        });
        let driver = Driver::new(entry_url, otlp, run_id.to_owned())?;
        let intake =
            IntakeClient::connect(&intake_url, intake::client::Settings::default()).await?;
        let http = crate::http::client()
            .timeout(LEDGER_TIMEOUT)
            .build()
            .map_err(|error| DriverError::Client(crate::chain_of(&error)))?;
        let mut ledgers = BTreeMap::new();
        let mut services = Vec::new();
        for workload in services_from_entry(system) {
            let mut identity = ServiceIdentity {
                workload: workload.name.clone(),
                service: None,
                instances: Vec::new(),
            };
            if let Some(url) =
                workload.ledger.as_ref().and_then(|port| endpoints.url(&workload.name, port))
            {
                let ledger = LedgerClient::new(http.clone(), url);
                match ledger.totals().await {
                    Ok(totals) => {
                        identity.service = Some(totals.service);
                        identity.instances.push(totals.instance_id);
                    }
                    Err(error) => tracing::warn!(workload = workload.name, %error, "no ledger"),
                }
                ledgers.insert(workload.name.clone(), ledger);
            }
            services.push(identity);
        }
        Ok(Self { endpoints, intake, driver, topology: Topology { services }, http, ledgers })
    }
}

/// The services, the entry first, the others as written.
fn services_from_entry(system: &System) -> impl Iterator<Item = &Workload> {
    let services = || system.workloads.iter().filter(|workload| workload.role == Role::Service);
    let entry = services().filter(|workload| workload.name == system.entry);
    entry.chain(services().filter(|workload| workload.name != system.entry))
}

/// Tells of each workload that ended by itself.
pub(super) async fn watch_exits(
    environment: Arc<AsyncMutex<Box<dyn Environment>>>,
    tell: watch::Sender<Vec<UnexpectedExit>>,
) {
    let mut every = tokio::time::interval(WATCH_INTERVAL);
    loop {
        every.tick().await;
        let ended = environment.lock().await.unexpected_exits().await;
        if !ended.is_empty() {
            tell.send_modify(|all| all.extend(ended));
        }
    }
}
