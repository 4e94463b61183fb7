//! The faults of a scenario that act on workloads and on the intake; those of requests travel with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use harness_core::wire::{self, Passed, WireFault};

use super::{Session, SessionError, up::Stopped};
use crate::{
    driver::OWN_HEADER,
    environment::EnvironmentError,
    intake::{
        client::IntakeClient,
        decode::Route,
        replies::{Script, ScriptedReply},
    },
    scenario::{
        Fault, FaultKind,
        fault::{CollectorFault, IntakeFault, IntakeReply},
    },
    system::taps::tap_name,
};

/// How long nothing must come before the start-up of a service that was started again is over.
const CALM: Duration = Duration::from_millis(200);
/// The longest wait for that.
const CALM_AT_MOST: Duration = Duration::from_secs(2);
/// The longest wait for what stands between two workloads to take an order.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    /// Injects the faults of workloads, taps, the collector and the intake; faults of requests are sent with the
    /// requests.
    ///
    /// # Errors
    ///
    /// When the environment cannot do it.
    pub async fn inject(&self, faults: &[Fault]) -> Result<(), SessionError> {
        for tap in taps(faults) {
            let of_tap = faults.iter().filter(|fault| tap_of(fault).as_ref() == Some(&tap));
            let of_tap = of_tap.filter_map(|fault| fault.kind.between());
            let reported: Vec<WireFault> = of_tap
                .map(|between| WireFault { does: between.does.clone(), next: between.next })
                .collect();
            self.instruct_tap(&tap, &reported).await?;
        }
        for fault in faults {
            match &fault.kind {
                FaultKind::Stop => {
                    self.note_stopped(&fault.at);
                    let stopped = self.up.environment().await.stop(&fault.at).await;
                    self.note_gone(stopped)?;
                }
                FaultKind::Pause => {
                    self.witness.note_out(&fault.at, true);
                    self.up.environment().await.pause(&fault.at).await?;
                }
                FaultKind::Kill | FaultKind::Restart => {
                    self.note_stopped(&fault.at);
                    let mut environment = self.up.environment().await;
                    if fault.kind == FaultKind::Kill {
                        environment.kill(&fault.at).await?;
                        environment.start(&fault.at).await?;
                    } else {
                        let stopped = environment.stop(&fault.at).await;
                        self.note_gone(stopped)?;
                        environment.start(&fault.at).await?;
                    }
                    self.up.note_stopped(&fault.at, Stopped::Again);
                    // In the middle of the requests it is never calm.
                    let over_in = match fault.after {
                        None => self.calm().await,
                        Some(_) => CALM,
                    };
                    self.witness.note_back(&fault.at, over_in);
                }
                FaultKind::ScaleToZero => {
                    self.witness.note_out(&fault.at, false);
                    self.up.environment().await.scale(&fault.at, 0).await?;
                    self.up.note_stopped(&fault.at, Stopped::Down);
                }
                FaultKind::Intake(fault) => {
                    for script in scripts(fault) {
                        self.scripted()?.script_reply(&script).await?;
                    }
                }
                FaultKind::Collector(fault) => {
                    if !self.accounts.has_collector_ledger() {
                        return Err(SessionError::NoScripts);
                    }
                    self.accounts.script(Some(&query(fault))).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that a workload is stopped on purpose from now on.
    fn note_stopped(&self, workload: &str) {
        self.up.note_stopped(workload, Stopped::Down);
        self.witness.note_out(workload, false);
    }

    /// Waits until nothing has come for a moment: what services do when they start up is over then, which is in no time.
    async fn calm(&self) -> Duration {
        let deadline = Instant::now() + CALM_AT_MOST;
        let mut changes = self.source().changes();
        changes.borrow_and_update();
        while Instant::now() < deadline
            && matches!(tokio::time::timeout(CALM, changes.changed()).await, Ok(Ok(())))
        {}
        Duration::ZERO
    }

    /// Takes a workload that a fault stops for stopped though it did not stop cleanly: it is gone, which is what was asked.
    fn note_gone(&self, stopped: Result<(), EnvironmentError>) -> Result<(), EnvironmentError> {
        let Err(EnvironmentError::UncleanStop(stops)) = stopped else { return stopped };
        let reported = stops
            .iter()
            .map(|stop| format!("the fault at `{}`: it was {}", stop.workload, stop.how));
        self.up.note(reported);
        Ok(())
    }

    /// Removes the faults between two workloads, and returns what passed until then, by tap.
    ///
    /// # Errors
    ///
    /// When a tap cannot be determined.
    pub async fn let_pass(
        &self,
        faults: &[Fault],
    ) -> Result<BTreeMap<String, Passed>, SessionError> {
        let mut passed = BTreeMap::new();
        for tap in taps(faults) {
            passed.insert(tap.clone(), self.instruct_tap(&tap, &[]).await?);
        }
        Ok(passed)
    }

    /// Reports a tap what to do from now on; gives what passed until then.
    async fn instruct_tap(&self, tap: &str, faults: &[WireFault]) -> Result<Passed, SessionError> {
        let failed = |reason: String| SessionError::Tap { tap: tap.to_owned(), reason };
        let url = self.endpoints().url(tap, wire::CONTROL_PORT);
        let url = url.ok_or_else(|| failed("its place is unknown".to_owned()))?;
        let client = crate::http::client().timeout(TELL_TIMEOUT).build();
        let client = client.map_err(|error| failed(crate::chain_of(&error)))?;
        let reported = client.put(format!("{url}{}", wire::FAULTS_PATH)).json(faults).send().await;
        let answer = reported.map_err(|error| failed(crate::chain_of(&error)))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            return Err(failed(format!("it answered {status}: {text}")));
        }
        answer.json().await.map_err(|error| failed(crate::chain_of(&error)))
    }

    /// Resumes the workloads that [`Session::inject`] paused.
    ///
    /// # Errors
    ///
    /// When the environment cannot do it.
    pub async fn thaw(&self, faults: &[Fault]) -> Result<(), SessionError> {
        for fault in faults.iter().filter(|fault| fault.kind == FaultKind::Pause) {
            self.up.environment().await.resume(&fault.at).await?;
            self.witness.note_back(&fault.at, Duration::ZERO);
        }
        Ok(())
    }

    /// Reverts the faults that [`Session::inject`] made to last: starts what it stopped, and restores normal replies
    /// of the intake.
    ///
    /// # Errors
    ///
    /// When the environment cannot do it.
    pub async fn heal(&self, faults: &[Fault]) -> Result<(), SessionError> {
        for fault in faults {
            match &fault.kind {
                FaultKind::Stop => {
                    self.up.environment().await.start(&fault.at).await?;
                    self.up.note_stopped(&fault.at, Stopped::Again);
                    self.witness.note_back(&fault.at, CALM);
                }
                FaultKind::ScaleToZero => {
                    let before = self.up.endpoints().workloads.get(&fault.at);
                    let before = before.map_or(1, |workload| workload.instances.len());
                    let before = u32::try_from(before).unwrap_or(u32::MAX);
                    self.up.environment().await.scale(&fault.at, before).await?;
                    self.up.note_stopped(&fault.at, Stopped::Again);
                    self.witness.note_back(&fault.at, CALM);
                }
                FaultKind::Intake(_) => {
                    if let Some(intake) = self.intake() {
                        intake.clear_replies().await?;
                    }
                }
                FaultKind::Collector(_) => self.accounts.script(None).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The mock intake, which a fault is to script.
    fn scripted(&self) -> Result<&IntakeClient, SessionError> {
        self.intake().ok_or_else(|| SessionError::NoMockIntake(self.source().name()))
    }
}

/// The tap that does what a fault asks for; `None` where none does.
fn tap_of(fault: &Fault) -> Option<String> {
    fault.kind.between().map(|between| tap_name(&between.caller, &fault.at))
}

fn taps(faults: &[Fault]) -> BTreeSet<String> {
    faults.iter().filter_map(tap_of).collect()
}

/// A fault of the collector as its ledger takes it. The harness's own spans are taken as usual.
fn query(fault: &CollectorFault) -> String {
    let CollectorFault { status, retry_after, next, lasting } = fault;
    let mut query = format!("status={status}&except={OWN_HEADER}");
    if let Some(after) = retry_after {
        query.push_str(&format!("&retry_after={}s", after.as_secs()));
    }
    if let Some(next) = next {
        query.push_str(&format!("&next={next}"));
    }
    if let Some(lasting) = lasting {
        query.push_str(&format!("&for={}ms", lasting.as_millis()));
    }
    query
}

/// A fault of the intake as its control API takes it: at every route that takes spans, since a collector uses one of them.
fn scripts(fault: &IntakeFault) -> impl Iterator<Item = Script> {
    Route::OF_SPANS.into_iter().map(|route| script(fault, route))
}

fn script(fault: &IntakeFault, route: Route) -> Script {
    let usual = Script { path: route.path().to_owned(), ..Script::status(200) };
    let reply = fault.reply.map(|reply| match reply {
        IntakeReply::Status(status) => ScriptedReply::Status(status),
        IntakeReply::Reset => ScriptedReply::Reset(true),
    });
    Script { reply, delay: fault.delay, next: fault.next, lasting: fault.lasting, ..usual }
}
