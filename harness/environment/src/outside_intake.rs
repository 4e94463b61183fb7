//! A system in one environment whose mock intake runs in another: in a cluster, with the intake on the machine of the harness.
//!
//! The intake is brought up first, since the rest is given its address. Whether it is reached from there is the user's to know, who
//! gives the address.

use std::{net::SocketAddr, path::Path, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Endpoints, Environment, EnvironmentError, LineTest, UnexpectedExit};
use harness_system::{
    Problem, Role, System, Workload,
    reference::{self, Reference},
};

/// Listen address of a system's intake.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Address to bind; a free port where the port is 0.
    pub listen: SocketAddr,
    /// The base URL at which the system reaches it, where that is not what it listens at.
    pub url: Option<String>,
    /// Lock by which one system after the other gets the port, where it is always the same one.
    pub turn: Arc<Mutex<()>>,
}

/// The environment of a system, and that of its intake.
pub struct OutsideIntake {
    outside: Outside,
    intake: Box<dyn Environment>,
    rest: Box<dyn Environment>,
    /// The intake's name, once there is a system.
    name: String,
    turn: Option<OwnedMutexGuard<()>>,
}

impl OutsideIntake {
    /// Combines two environments: `intake` runs the mock intake, `rest` all other workloads.
    pub fn new(outside: Outside, intake: Box<dyn Environment>, rest: Box<dyn Environment>) -> Self {
        Self { outside, intake, rest, name: String::new(), turn: None }
    }

    fn of(&mut self, workload: &str) -> &mut dyn Environment {
        if workload == self.name { self.intake.as_mut() } else { self.rest.as_mut() }
    }
}

/// The rest of a system, in which whoever sends to the intake is given this base URL.
fn without_intake(system: &System, intake: &str, url: &str) -> Result<System, EnvironmentError> {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let value = |reference: &Reference| match reference {
        Reference::Endpoint { workload, .. } if workload == intake => Some(url.to_owned()),
        Reference::Address { workload, .. } if workload == intake => Some(address.to_owned()),
        _ => None,
    };
    let reported = |workload: &Workload, text: &mut String| {
        *text = reference::replace(text, value).map_err(|error| EnvironmentError::Unresolved {
            workload: workload.name.clone(),
            reference: error.to_string(),
        })?;
        Ok::<_, EnvironmentError>(())
    };
    let tap = system.workloads.iter().find(|one| {
        one.role == Role::Tap && reference::references(one).iter().any(|to| is_to(to, intake))
    });
    if let (Some(tap), true) = (tap, url.starts_with("https://")) {
        return Err(EnvironmentError::Unsupported {
            environment: "cluster",
            verb: "start",
            workload: tap.name.clone(),
            reason: format!(
                "it passes plain HTTP on, and the intake is reached at {url}; give a URL with http:// by which it is reached as well"
            ),
        });
    }
    let others = system.workloads.iter().filter(|workload| workload.name != intake);
    let others = others.map(|workload| {
        let mut changed = workload.clone();
        for text in changed.args.iter_mut().chain(changed.env.values_mut()) {
            reported(workload, text)?;
        }
        for file in changed.files.values_mut().filter(|file| file.expand) {
            reported(workload, &mut file.contents)?;
        }
        Ok(changed)
    });
    let workloads = others.collect::<Result<_, EnvironmentError>>()?;
    Ok(System { workloads, entry: system.entry.clone(), own_traces: system.own_traces.clone() })
}

/// Returns whether a reference is to a workload.
fn is_to(reference: &Reference, workload: &str) -> bool {
    reference.edge().is_some_and(|(to, _)| to == workload)
}

#[async_trait]
impl Environment for OutsideIntake {
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError> {
        let intake = system.workloads.iter().find(|workload| workload.role == Role::Intake);
        let Some(intake) = intake else { return self.rest.up(system).await };
        let problems: Vec<Problem> = system.problems();
        if !problems.is_empty() {
            return Err(EnvironmentError::InvalidSystem(problems));
        }
        self.name.clone_from(&intake.name);
        if self.outside.listen.port() != 0 && self.turn.is_none() {
            self.turn = Some(Arc::clone(&self.outside.turn).lock_owned().await);
        }
        let mut alone = intake.clone();
        alone.args = vec![format!("--listen={}", self.outside.listen)];
        let alone =
            System { workloads: vec![alone], entry: intake.name.clone(), own_traces: Vec::new() };
        let mut endpoints = self.intake.up(&alone).await?;
        let listens = endpoints.url(&intake.name, "http");
        let url = self.outside.url.clone().or(listens).unwrap_or_default();
        let rest = without_intake(system, &intake.name, &url)?;
        endpoints.workloads.extend(self.rest.up(&rest).await?.workloads);
        Ok(endpoints)
    }

    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.of(workload).start(workload).await
    }

    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.of(workload).stop(workload).await
    }

    async fn stop_all(&mut self, workloads: &[String]) -> Result<(), EnvironmentError> {
        let (intake, rest): (Vec<String>, Vec<String>) =
            workloads.iter().cloned().partition(|workload| *workload == self.name);
        self.rest.stop_all(&rest).await?;
        if intake.is_empty() { Ok(()) } else { self.intake.stop_all(&intake).await }
    }

    async fn restart(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.of(workload).restart(workload).await
    }

    async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.of(workload).kill(workload).await
    }

    async fn scale(&mut self, workload: &str, instances: u32) -> Result<(), EnvironmentError> {
        self.of(workload).scale(workload, instances).await
    }

    async fn pause(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.of(workload).pause(workload).await
    }

    async fn resume(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.of(workload).resume(workload).await
    }

    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        let mut exits = self.intake.unexpected_exits().await;
        exits.extend(self.rest.unexpected_exits().await);
        exits
    }

    async fn disturbances(&self) -> Vec<String> {
        let mut disturbances = self.intake.disturbances().await;
        disturbances.extend(self.rest.disturbances().await);
        disturbances
    }

    async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        match workload == self.name {
            true => self.intake.log_tail(workload, lines).await,
            false => self.rest.log_tail(workload, lines).await,
        }
    }

    async fn logged(&self, workload: &str, is_meant: LineTest) -> Vec<(SystemTime, String)> {
        match workload == self.name {
            true => self.intake.logged(workload, is_meant).await,
            false => self.rest.logged(workload, is_meant).await,
        }
    }

    async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError> {
        self.intake.collect_logs(dir).await?;
        self.rest.collect_logs(dir).await
    }

    async fn down(&mut self) -> Result<(), EnvironmentError> {
        // The intake last, so that it takes what the rest sends when it ends.
        let rest = self.rest.down().await;
        let intake = self.intake.down().await;
        self.turn = None;
        rest.and(intake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_system::{
        File,
        testing::{service, system},
    };

    #[test]
    fn whoever_sends_to_the_intake_is_reported_where_it_is_and_all_else_stays() {
        let mut collector =
            service("collector", &["${endpoint:intake.http}/x", "$${env:KEY}", "${listen:http}"]);
        collector
            .env
            .insert("A".to_owned(), "${address:intake.http} ${address:app.http}".to_owned());
        for (name, expand) in [("own", false), ("ours", true)] {
            let contents = "${endpoint:intake.http} $${env:KEY}".to_owned();
            collector.files.insert(name.to_owned(), File { contents, expand });
        }
        let mut intake = service("intake", &[]);
        intake.role = Role::Intake;
        let all = system([service("app", &[]), collector, intake]);
        let rest = without_intake(&all, "intake", "http://10.0.0.1:8126").unwrap();
        assert_eq!(rest.names().collect::<Vec<_>>(), ["app", "collector"]);
        let collector = rest.workload("collector").unwrap();
        assert_eq!(collector.args, ["http://10.0.0.1:8126/x", "$${env:KEY}", "${listen:http}"]);
        assert_eq!(collector.env["A"], "10.0.0.1:8126 ${address:app.http}");
        assert_eq!(collector.files["own"].contents, "${endpoint:intake.http} $${env:KEY}");
        assert_eq!(collector.files["ours"].contents, "http://10.0.0.1:8126 $${env:KEY}");
    }

    #[test]
    fn what_stands_before_the_intake_passes_on_to_where_it_is_and_not_to_tls() {
        let collector = service("collector", &["${endpoint:intake.http}/x"]);
        let mut intake = service("intake", &[]);
        intake.role = Role::Intake;
        let mut all = system([collector, intake]);
        let tap = all.put_between("collector", "intake").unwrap();
        let rest = without_intake(&all, "intake", "http://10.0.0.1:8126").unwrap();
        let args = &rest.workload(&tap).unwrap().args;
        assert_eq!(args[0], "--edge=http=${listen:http}=10.0.0.1:8126");
        assert_eq!(
            rest.workload("collector").unwrap().args,
            [format!("${{endpoint:{tap}.http}}/x")]
        );
        let error = without_intake(&all, "intake", "https://intake.example").unwrap_err();
        assert!(error.to_string().contains("it passes plain HTTP on"), "{error}");
    }
}
