//! In what order workloads are started: a callee is ready before its callers start, as far as there is no cycle.

use std::collections::BTreeSet;

use crate::{System, reference};

/// Start of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Index in [`System::workloads`].
    pub workload: usize,
    /// Indices of the workloads that are ready before it starts.
    pub waits_for: BTreeSet<usize>,
    /// Whether a cycle is broken at it: its ports are chosen beforehand, so that its callers can be started before it.
    pub ports_beforehand: bool,
}

/// Error for workloads that depend on each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{cycle} need each other's address to start, and no port among them can be assigned beforehand; give one of them its port with `${{listen:PORT}}` or `${{port:PORT}}`"
)]
pub struct CycleError {
    /// The workloads of the cycle, in backquotes.
    pub cycle: String,
    /// One workload of the cycle.
    pub workload: String,
}

/// Orders the steps in which the workloads start, so that each step can be taken after those before it. References to
/// workloads that do not exist are ignored; validation reports them.
///
/// # Errors
/// A cycle in which no workload is given its port.
pub fn start_order(system: &System) -> Result<Vec<Step>, CycleError> {
    let graph = Graph::of(system);
    let mut waits_for = graph.callees.clone();
    let mut left: BTreeSet<usize> = (0..system.workloads.len()).collect();
    let mut beforehand = BTreeSet::new();
    let mut steps = Vec::new();
    while let Some(&first) = left.first() {
        let free = left.iter().copied().find(|one| waits_for[*one].is_disjoint(&left));
        if let Some(workload) = free {
            left.remove(&workload);
            steps.push(Step {
                workload,
                waits_for: waits_for[workload].clone(),
                ports_beforehand: beforehand.contains(&workload),
            });
            continue;
        }
        let cycle = graph.cycle(&left, &beforehand, first);
        let Some(&broken) = cycle.iter().find(|one| graph.is_given_its_ports[**one]) else {
            let names: Vec<&str> =
                cycle.iter().map(|one| system.workloads[*one].name.as_str()).collect();
            return Err(CycleError {
                cycle: harness_core::source::list(names.iter().copied()),
                workload: names.first().map(|name| (*name).to_owned()).unwrap_or_default(),
            });
        };
        beforehand.insert(broken);
        for waits in &mut waits_for {
            waits.remove(&broken);
        }
    }
    Ok(steps)
}

struct Graph {
    /// By caller.
    callees: Vec<BTreeSet<usize>>,
    /// Whether every port that others refer to can be fixed before it starts.
    is_given_its_ports: Vec<bool>,
}

impl Graph {
    fn of(system: &System) -> Self {
        let index = |name: &str| system.workloads.iter().position(|one| one.name == name);
        let count = system.workloads.len();
        let mut callees = vec![BTreeSet::new(); count];
        let mut wanted = vec![BTreeSet::new(); count];
        let mut reported = vec![BTreeSet::new(); count];
        for (caller, workload) in system.workloads.iter().enumerate() {
            for reference in reference::references(workload) {
                if let Some((callee, port)) = reference.edge()
                    && let Some(callee) = index(callee)
                {
                    callees[caller].insert(callee);
                    wanted[callee].insert(port.to_owned());
                }
                if let Some(port) = reference.own_port() {
                    reported[caller].insert(port.to_owned());
                }
            }
        }
        let is_given_its_ports = wanted
            .iter()
            .zip(&reported)
            .map(|(wanted, reported)| wanted.is_subset(reported))
            .collect();
        Self { callees, is_given_its_ports }
    }

    /// Some cycle among `left`, which all wait for one another, in written order.
    fn cycle(&self, left: &BTreeSet<usize>, broken: &BTreeSet<usize>, first: usize) -> Vec<usize> {
        let next = |from: usize| {
            self.callees[from].iter().copied().find(|to| left.contains(to) && !broken.contains(to))
        };
        let mut path = vec![first];
        while let Some(to) = path.last().and_then(|last| next(*last)) {
            if let Some(start) = path.iter().position(|seen| *seen == to) {
                path.drain(..start);
                break;
            }
            path.push(to);
        }
        path.sort_unstable();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{service, system};

    fn names(system: &System) -> Vec<&str> {
        let steps = start_order(system).unwrap();
        steps.iter().map(|step| system.workloads[step.workload].name.as_str()).collect()
    }

    #[test]
    fn callees_start_first_and_the_independent_wait_for_nobody() {
        let system = system([
            service("a", &["${endpoint:b.http}", "${address:c.http}"]),
            service("b", &["${endpoint:d.http}"]),
            service("c", &[]),
            service("d", &[]),
        ]);
        assert_eq!(names(&system), ["c", "d", "b", "a"]);
        let steps = start_order(&system).unwrap();
        assert!(steps[0].waits_for.is_empty() && steps[1].waits_for.is_empty());
        assert_eq!(steps[3].waits_for, BTreeSet::from([1, 2]));
        assert!(steps.iter().all(|step| !step.ports_beforehand));
    }

    #[test]
    fn a_cycle_is_broken_at_a_workload_that_is_reported_its_port() {
        let system = system([
            service("a", &["${endpoint:b.http}"]),
            service("b", &["${endpoint:a.http}", "${listen:http}"]),
        ]);
        let steps = start_order(&system).unwrap();
        assert_eq!(names(&system), ["a", "b"]);
        assert_eq!((steps[0].ports_beforehand, steps[1].ports_beforehand), (false, true));
        assert!(steps[0].waits_for.is_empty());
        assert_eq!(steps[1].waits_for, BTreeSet::from([0]));
    }

    #[test]
    fn a_workload_may_be_given_its_own_endpoint() {
        let system = system([service("a", &["${endpoint:a.http}", "${port:http}"])]);
        let steps = start_order(&system).unwrap();
        assert!(steps[0].ports_beforehand && steps[0].waits_for.is_empty());
    }

    #[test]
    fn a_cycle_without_a_port_to_fix_is_an_error_that_names_it() {
        let system = system([
            service("x", &["${endpoint:a.http}"]),
            service("a", &["${endpoint:b.http}"]),
            service("b", &["${endpoint:a.http}"]),
        ]);
        let error = start_order(&system).unwrap_err();
        assert!(error.to_string().starts_with("`a`, `b` need each other's address"), "{error}");
    }
}
