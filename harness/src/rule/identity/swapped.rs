//! Two services that have one another's names, which only the addresses show that their callers are given.

use std::collections::BTreeSet;

use crate::{
    case::{DRIVER_SERVICE, View},
    finding::Failure,
};

/// Finds two workloads whose names, once swapped, make every call of the trace one to an address that its caller is given, while as they
/// are, at least two calls are none.
pub(super) fn swapped(view: View<'_>) -> Vec<Failure> {
    let services = &view.topology.services;
    let Some(entry) = view.case.entry(view.topology) else { return Vec::new() };
    let is_given = |caller: &str, callee: &str| match caller {
        DRIVER_SERVICE => callee == entry,
        _ => {
            let caller = services.iter().find(|one| one.workload == caller);
            caller.is_some_and(|caller| caller.callees.iter().any(|one| one == callee))
        }
    };
    let family = view.family();
    let calls: BTreeSet<(&str, &str)> = view
        .service_spans()
        .filter_map(|span| {
            let parent = family.parent(span)?;
            let is_call = span.kind() == "server" && parent.kind() == "client";
            is_call.then(|| (view.workload_of(parent), view.workload_of(span)))
        })
        .collect();
    if calls.iter().filter(|(caller, callee)| !is_given(caller, callee)).count() < 2 {
        return Vec::new();
    }
    let names: Vec<&str> = services.iter().map(|one| one.workload.as_str()).collect();
    let pairs = names
        .iter()
        .enumerate()
        .flat_map(|(at, one)| names[at + 1..].iter().map(move |other| (*one, *other)));
    let fits = |(one, other): &(&str, &str)| {
        let really = |name: &str| {
            match name {
                name if name == *one => *other,
                name if name == *other => *one,
                _ => name,
            }
            .to_owned()
        };
        calls.iter().all(|(caller, callee)| is_given(&really(caller), &really(callee)))
    };
    let fitting: Vec<_> = pairs.filter(fits).collect();
    let [(one, other)] = fitting.as_slice() else { return Vec::new() };
    let found = [(one, other), (other, one)].map(|(is, named)| {
        let detail = format!(
            "what is called at the address of `{is}` answers as service `{named}`, and what is called at that of `{named}` as `{is}`"
        );
        let cause = "the two have one another's names: each was given the other's settings, or something between them and Datadog changes `service.name`";
        Failure::found(detail).because(cause).about(is)
    });
    found.into()
}
