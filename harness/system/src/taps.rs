//! Something that stands between two workloads: the built-in `tap`, put on the edges that lead from one to the other.

use std::collections::BTreeMap;

use harness_core::{source, wire};

use crate::{
    Health, Limits, Program, Role, System, Workload,
    reference::{self, Reference},
};

/// Most characters of a workload's name.
const MAX_NAME: usize = 63;

/// Error where nothing can stand between two workloads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// The system has no such workload.
    #[error("there is no workload `{name}` in the system; it has {known}")]
    Unknown {
        /// Name as given.
        name: String,
        /// The workloads that there are.
        known: String,
    },
    /// The first is not reported where the second is.
    #[error(
        "nothing can stand between `{caller}` and `{callee}`: `{caller}` is not given the address of `{callee}` by a reference such as `${{endpoint:{callee}.http}}`; {}",
        others(.caller, .callees)
    )]
    NoEdge {
        /// The workload that should call.
        caller: String,
        /// The workload that should be called.
        callee: String,
        /// Whom it is reported.
        callees: Vec<String>,
    },
    /// There are too many of one of them.
    #[error(
        "nothing can stand between `{caller}` and `{callee}` while `{callee}` has {instances} instances: they would be one to who calls them"
    )]
    Replicated {
        /// The workload that calls.
        caller: String,
        /// The workload that is called.
        callee: String,
        /// Number of instances.
        instances: u32,
    },
}

fn others(caller: &str, callees: &[String]) -> String {
    match callees {
        [] => format!("`{caller}` is given no other workload's address"),
        _ => format!("it is given that of {}", source::list(callees.iter().map(String::as_str))),
    }
}

impl System {
    /// Inserts a tap on all edges from one workload to another, unless there is one already, and returns its name.
    ///
    /// # Errors
    ///
    /// If there is no such edge, or a tap cannot be inserted.
    pub fn put_between(&mut self, caller: &str, callee: &str) -> Result<String, TapError> {
        let name = tap_name(caller, callee);
        if self.workload(&name).is_some() {
            return Ok(name);
        }
        let known = || source::list(self.names());
        let unknown = |name: &str| TapError::Unknown { name: name.to_owned(), known: known() };
        let to = self.workload(callee).ok_or_else(|| unknown(callee))?;
        let (to_ports, instances) = (to.ports.clone(), to.instances);
        let from = self.workload(caller).ok_or_else(|| unknown(caller))?;
        let mut ports: Vec<String> = Vec::new();
        let mut callees: Vec<String> = Vec::new();
        for edge in reference::references(from) {
            let Some((to, port)) = edge.edge() else { continue };
            if to == callee && to_ports.iter().any(|known| known == port) {
                if !ports.iter().any(|known| known == port) {
                    ports.push(port.to_owned());
                }
            } else if !callees.iter().any(|known| known == to) {
                callees.push(to.to_owned());
            }
        }
        let (caller, callee) = (caller.to_owned(), callee.to_owned());
        if ports.is_empty() {
            return Err(TapError::NoEdge { caller, callee, callees });
        }
        if instances > 1 {
            return Err(TapError::Replicated { caller, callee, instances });
        }
        if let Some(from) = self.workloads.iter_mut().find(|workload| workload.name == caller) {
            lead_through(from, &callee, &name);
        }
        self.workloads.push(tap(&name, &callee, ports));
        Ok(name)
    }
}

impl System {
    /// Returns the services that a workload calls, directly or through taps and workloads without spans.
    pub fn callees(&self, of: &Workload) -> Vec<String> {
        let mut callees: Vec<String> = Vec::new();
        let mut passed: Vec<&str> = vec![&of.name];
        let mut next: Vec<&Workload> = vec![of];
        while let Some(caller) = next.pop() {
            for reference in reference::references(caller) {
                let Some((named, _)) = reference.edge() else { continue };
                let named = self.behind(named).unwrap_or(named);
                let Some(callee) = self.workload(named).filter(|one| one.role == Role::Service)
                else {
                    continue;
                };
                if passed.contains(&callee.name.as_str()) {
                    continue;
                }
                passed.push(&callee.name);
                match callee.traced {
                    true => callees.push(callee.name.clone()),
                    false => next.push(callee),
                }
            }
        }
        callees
    }

    /// Returns the workloads without spans that pass a workload's calls on to another one, as proxies and gateways do; the first of them is the
    /// workload itself where it has none.
    pub fn between(&self, caller: &Workload, callee: &str) -> Vec<String> {
        let mut passed: Vec<&Workload> = vec![caller];
        let mut index = 0;
        while let Some(at) = passed.get(index).copied() {
            index += 1;
            if at.traced && at.name != caller.name {
                continue;
            }
            for reference in reference::references(at) {
                let Some((named, _)) = reference.edge() else { continue };
                let named = self.behind(named).unwrap_or(named);
                let to = self.workload(named).filter(|one| one.role == Role::Service);
                passed.extend(to.filter(|to| !passed.iter().any(|one| one.name == to.name)));
            }
        }
        let leads =
            |one: &&Workload| !one.traced && self.callees(one).iter().any(|to| to == callee);
        passed.into_iter().filter(leads).map(|one| one.name.clone()).collect()
    }

    /// Returns the services that reach a workload directly or through taps only, without a workload in between that
    /// produces no spans and could answer in its place.
    pub fn direct_callers(&self, of: &Workload) -> Vec<String> {
        let is_direct = |caller: &&Workload| {
            let references = reference::references(caller);
            let edges = references.iter().filter_map(Reference::edge);
            let to = edges.map(|(to, _)| self.behind(to).unwrap_or(to));
            let mut to = to.filter_map(|name| self.workload(name));
            let passes_on = |to: &Workload| {
                to.role == Role::Service && !to.traced && self.callees(to).contains(&of.name)
            };
            let mut is_given = false;
            let is_straight = to.all(|to| {
                is_given |= to.name == of.name;
                !passes_on(to)
            });
            is_given && is_straight
        };
        let services = self.workloads.iter().filter(|one| one.role == Role::Service && one.traced);
        services.filter(is_direct).map(|caller| caller.name.clone()).collect()
    }

    /// Returns the services that produce spans: first the one that requests reach, then the others in the order of
    /// the system's description.
    pub fn traced_services(&self) -> Vec<&Workload> {
        let entry = self.workload(&self.entry);
        // What is sent to a proxy reaches the one behind it.
        let behind = entry.filter(|entry| !entry.traced).map(|entry| self.callees(entry));
        let first = match behind.as_deref() {
            Some([only]) => only.as_str(),
            _ => self.entry.as_str(),
        };
        let services = self
            .workloads
            .iter()
            .filter(|workload| workload.role == Role::Service && workload.traced);
        let (mut all, others): (Vec<&Workload>, Vec<&Workload>) =
            services.partition(|workload| workload.name == first);
        all.extend(others);
        all
    }

    /// Returns the workload to which a tap forwards requests; `None` if this workload is not a tap.
    pub fn behind(&self, tap: &str) -> Option<&str> {
        let tap = self.workload(tap).filter(|workload| workload.role == Role::Tap)?;
        let edge = reference::references(tap).into_iter().find_map(|one| {
            let (callee, _) = one.edge()?;
            Some(callee.to_owned())
        })?;
        self.names().find(|name| **name == edge)
    }
}

/// Returns the name of the tap between two workloads.
pub fn tap_name(caller: &str, callee: &str) -> String {
    let name = format!("tap-{caller}-{callee}");
    let cut: String = name.chars().take(MAX_NAME).collect();
    cut.trim_end_matches('-').to_owned()
}

/// Lets all references of a workload to `callee` lead to the tap of that name.
fn lead_through(workload: &mut Workload, callee: &str, tap: &str) {
    let through = |text: &mut String| {
        let led = reference::rewrite(text, |reference| match reference {
            Reference::Endpoint { workload, port } if workload == callee => {
                Some(Reference::Endpoint { workload: tap.to_owned(), port: port.clone() })
            }
            Reference::Address { workload, port } if workload == callee => {
                Some(Reference::Address { workload: tap.to_owned(), port: port.clone() })
            }
            _ => None,
        });
        // What is no reference is reported where systems are checked.
        if let Ok(led) = led {
            *text = led;
        }
    };
    workload.args.iter_mut().for_each(through);
    workload.env.values_mut().for_each(through);
    let files = workload.files.values_mut().filter(|file| file.expand);
    files.for_each(|file| through(&mut file.contents));
}

fn tap(name: &str, callee: &str, ports: Vec<String>) -> Workload {
    let mut args: Vec<String> = Vec::new();
    for port in &ports {
        args.push(format!("--edge={port}=${{listen:{port}}}=${{address:{callee}.{port}}}"));
    }
    args.push(format!("--control=${{listen:{}}}", wire::CONTROL_PORT));
    let control = wire::CONTROL_PORT.to_owned();
    let health = Health { port: control.clone(), path: wire::HEALTH_PATH.to_owned() };
    Workload {
        name: name.to_owned(),
        role: Role::Tap,
        program: Program::Builtin(wire::TAP.to_owned()),
        args,
        env: BTreeMap::new(),
        meant_service: None,
        traced: false,
        public: false,
        secrets: BTreeMap::new(),
        ports: ports.into_iter().chain([control]).collect(),
        health: Some(health),
        ledger: None,
        instances: 1,
        files: BTreeMap::new(),
        working_dir: None,
        limits: Limits::default(),
        user: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::Chain, start_order::start_order};
    use harness_core::secret::Secret;

    fn chain() -> System {
        Chain { length: 3, ..Chain::new(Secret::new("5ecret")) }.system().unwrap()
    }

    #[test]
    fn what_leads_to_the_callee_leads_through_the_tap_and_nothing_else_does() {
        let mut system = chain();
        let name = system.put_between("sample-app-2", "sample-app-3").unwrap();
        assert_eq!(name, "tap-sample-app-2-sample-app-3");
        let callees = |app: &str| system.callees(system.workload(app).unwrap());
        assert_eq!(callees("sample-app-2"), ["sample-app-3"]);
        assert_eq!(callees("sample-app-3"), [""; 0]);
        let env = |app: &str| system.workload(app).unwrap().env["UPSTREAM_URIS"].clone();
        assert_eq!(env("sample-app-2"), "${endpoint:tap-sample-app-2-sample-app-3.http}");
        assert_eq!(env("sample-app-1"), "${endpoint:sample-app-2.http}");
        assert_eq!(system.workload(&name).unwrap().ports, ["http", wire::CONTROL_PORT]);
        assert_eq!(system.behind(&name), Some("sample-app-3"));
        assert_eq!(system.behind("sample-app-3"), None);
        assert_eq!(system.problems(), []);
        let order = start_order(&system).unwrap();
        let place = |name: &str| {
            order.iter().position(|step| system.workloads[step.workload].name == name).unwrap()
        };
        assert!(place("sample-app-3") < place(&name) && place(&name) < place("sample-app-2"));
        assert_eq!(system.put_between("sample-app-2", "sample-app-3"), Ok(name));
    }

    #[test]
    fn a_caller_is_direct_where_nothing_between_could_answer() {
        let mut system = chain();
        let callers =
            |system: &System| system.direct_callers(system.workload("sample-app-3").unwrap());
        assert_eq!(callers(&system), ["sample-app-2"]);
        system.put_between("sample-app-2", "sample-app-3").unwrap();
        assert_eq!(callers(&system), ["sample-app-2"]);
        let mut proxy = system.workload("sample-app-2").unwrap().clone();
        (proxy.name, proxy.traced) = ("proxy".to_owned(), false);
        system.workloads.push(proxy);
        let caller = system.workloads.iter_mut().find(|one| one.name == "sample-app-2").unwrap();
        caller.env.insert("PROXY".to_owned(), "${endpoint:proxy.http}".to_owned());
        assert_eq!(callers(&system), [""; 0]);
        let between =
            |caller: &str, callee: &str| system.between(system.workload(caller).unwrap(), callee);
        assert_eq!(between("sample-app-2", "sample-app-3"), ["proxy"]);
        assert_eq!(between("proxy", "sample-app-3"), ["proxy"]);
        assert_eq!(between("sample-app-1", "sample-app-2"), [""; 0]);
    }

    #[test]
    fn the_collectors_way_to_the_intake_leads_through_a_tap_as_well() {
        let mut system = chain();
        let name = system.put_between("collector", "intake").unwrap();
        let overlay = &system.workload("collector").unwrap().files["overlay.json"].contents;
        assert!(overlay.contains(&format!("${{endpoint:{name}.http}}")), "{overlay}");
        assert!(!overlay.contains("endpoint:intake"), "{overlay}");
        assert_eq!(system.problems(), []);
    }

    #[test]
    fn where_there_is_no_edge_it_is_reported_which_there_are() {
        let mut system = chain();
        let error = system.put_between("sample-app-1", "sample-app-3").unwrap_err().to_string();
        assert!(
            error.contains("`sample-app-1` is not given the address of `sample-app-3`")
                && error.ends_with("it is given that of `collector`, `sample-app-2`"),
            "{error}"
        );
        let error = system.put_between("sample-app-9", "collector").unwrap_err().to_string();
        assert!(error.starts_with("there is no workload `sample-app-9`"), "{error}");
        assert_eq!(system, chain());
    }
}
