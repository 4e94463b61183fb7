//! Services that their settings keep from sending spans: where nothing comes of one, that is the cause.

use std::collections::HashMap;

use crate::{
    case::{LedgerReport, Outcome, ServiceIdentity, Topology, View},
    expectation::SERVICES,
    finding::Failure,
    record::Record,
};

/// Says of failures about a service that nothing came of that its settings have it send nothing, where they do.
pub(super) fn explain(failures: &mut [Failure], view: View<'_>) {
    let mut known: HashMap<String, Option<String>> = HashMap::new();
    for failure in failures {
        let who = match failure.rule.as_str() {
            "no-trace" => view.case.entry(view.topology),
            "orphan-span" => failure.hop.as_ref().map(|hop| hop.caller.as_str()),
            "missing-hop" => failure.hop.as_ref().map(|hop| hop.callee.as_str()),
            SERVICES => failure.service.as_deref(),
            _ => None,
        };
        let Some(who) = who else { continue };
        // Many failures may be about one service.
        if !known.contains_key(who) {
            let cause = is_silent(view, who)
                .then(|| {
                    let reported = view.evidence.export_errors.get(who);
                    cause(view.topology, who).or(reported.map(|line| quoted(who, line)))
                })
                .flatten();
            let is_asked_for = failure.rule == SERVICES && failure.cause.is_none();
            let cause = cause.or_else(|| is_asked_for.then(|| reached(view, who)).flatten());
            known.insert(who.to_owned(), cause);
        }
        if let Some(Some(cause)) = known.get(who) {
            failure.set_cause(cause.clone());
        }
    }
}

/// Returns what may have kept the spans of a service that was called, as the answered call of a service in the trace shows, and that nothing
/// was captured of, as a cause.
fn reached(view: View<'_>, workload: &str) -> Option<String> {
    if !is_silent(view, workload) {
        return None;
    }
    let services = &view.topology.services;
    let family = view.family();
    let is_seen = |name: &str| view.service_spans().any(|span| view.workload_of(span) == name);
    let call = view.service_spans().find(|span| {
        let caller = view.workload_of(span);
        let Some(known) = services.iter().find(|one| one.workload == caller) else { return false };
        // Of several that are missing, it may have called another.
        let mut missing = known.callees.iter().filter(|callee| !is_seen(callee));
        let is_only =
            missing.next().is_some_and(|callee| callee == workload) && missing.next().is_none();
        let is_answered = span.kind() == "client" && !span.error && span.http_status().is_some();
        is_only
            && is_answered
            && !family.children(span.id).iter().any(|below| view.workload_of(below) != caller)
    })?;
    let caller = view.workload_of(call);
    let sampled = match view.topology.between(caller, workload) {
        Some(between) => {
            format!("{between}, through which the call leads, sends the context on as not sampled")
        }
        None => "it was sent the context as not sampled".to_owned(),
    };
    Some(format!(
        "`{caller}` called it (`{}`, {}) and was answered, so that it was reached: it does not export its spans, its own sampler dropped them (OTEL_TRACES_SAMPLER), or {sampled}",
        call.resource, call.id
    ))
}

/// Returns what a service's log says of spans that it could not export since one of the requests, as a cause.
pub(super) fn reported(record: &Record, workload: &str) -> Option<String> {
    let mut lines = record.cases.iter().filter_map(|of| of.evidence.export_errors.get(workload));
    lines.next().map(|line| quoted(workload, line))
}

fn quoted(workload: &str, line: &str) -> String {
    format!("its spans did not reach the collector: the log of `{workload}` says `{line}`")
}

/// The setting by which a service sends nothing, as a cause.
pub(super) fn cause(topology: &Topology, workload: &str) -> Option<String> {
    let is_it = |service: &&ServiceIdentity| service.workload == workload;
    topology.services.iter().find(is_it)?.kept_from_sending()
}

/// Returns whether nothing was captured of a service, nor ended by what it says itself.
fn is_silent(view: View<'_>, workload: &str) -> bool {
    let ended = matches!(
        view.evidence.ledgers.get(workload),
        Some(LedgerReport::Known(entry)) if !entry.spans.is_empty()
    );
    let spans = view.service_spans().chain(view.strays.iter().flat_map(|stray| &stray.trace.spans));
    let is_seen = spans.into_iter().any(|span| view.workload_of(span) == workload);
    let is_answered = !matches!(view.case.outcome, Outcome::Failed { .. });
    is_answered && !ended && !is_seen && !view.evidence.heard.contains(workload)
}

#[cfg(test)]
mod tests {
    use crate::{
        finding::Failure,
        judge::{judge, testing::World},
        scenario::SystemChoice,
    };

    /// The only failure where nothing came and the entry is set to send nothing.
    fn of_nothing(change: impl FnOnce(&mut World)) -> Failure {
        let mut world = World::healthy();
        world.record.topology.services[0].silenced_by = Some("OTEL_SDK_DISABLED=true".to_owned());
        world.lose_all();
        world.evidence().ledgers.clear();
        change(&mut world);
        let result = judge(&world.record);
        result.cases[0].findings.failures[0].clone()
    }

    #[test]
    fn a_service_that_was_called_and_of_which_nothing_came_may_have_been_sampled_out_on_its_way() {
        let missing = |change: &dyn Fn(&mut World)| {
            let mut world = World::healthy();
            world.record.scenario.system = SystemChoice::File("shop.yaml".into());
            world.expect().services.push("sample-app-2".to_owned());
            world.lose("sample-app-2");
            world.evidence().ledgers.clear();
            world.record.topology.services[0].callees.push("sample-app-2".to_owned());
            change(&mut world);
            let result = judge(&world.record);
            let all = result.cases[0].findings.failures.iter().flat_map(Failure::unfolded);
            let found = all.map(|(_, one)| one).find(|one| one.rule == "services").cloned();
            found.unwrap().cause
        };
        let cause = missing(&|_| {}).unwrap();
        assert!(cause.starts_with("`sample-app-1` called it (`GET`, 00000000000000a2)"), "{cause}");
        assert!(cause.ends_with("or it was sent the context as not sampled"), "{cause}");
        let cause = missing(&|world| {
            let through = &mut world.record.topology.services[1].called_through;
            through.insert("sample-app-1".to_owned(), vec!["edge".to_owned()]);
        });
        let cause = cause.unwrap();
        assert!(
            cause.ends_with(
                "or `edge`, through which the call leads, sends the context on as not sampled"
            ),
            "{cause}"
        );
        // It may have called another, and a call that failed reached nobody.
        let of_two = missing(&|world| {
            world.record.topology.services[0].callees.push("sample-app-3".to_owned());
        });
        let failed = missing(&|world| {
            let trace = world.evidence().trace.as_mut().unwrap();
            trace.spans.iter_mut().for_each(|span| span.error = true);
        });
        let called = |cause: &Option<String>| {
            cause.as_ref().is_some_and(|cause| cause.contains("called it"))
        };
        assert_eq!((called(&of_two), called(&failed)), (false, false));
    }

    const CAUSE: &str = "`sample-app-1` sends no spans to the collector, since OTEL_SDK_DISABLED=true is set for it";

    #[test]
    fn what_its_log_says_of_exports_that_failed_is_the_cause_where_nothing_came_of_a_service() {
        const LINE: &str = "Failed to export traces, reason: 401";
        let failure = of_nothing(|world| {
            world.record.topology.services[0].silenced_by = None;
            let errors = &mut world.evidence().export_errors;
            errors.insert("sample-app-1".to_owned(), LINE.to_owned());
        });
        assert!(failure.detail.contains("the log of `sample-app-1` says `Failed"), "{failure:?}");
    }

    #[test]
    fn a_silent_service_that_reports_that_it_could_not_export_fails() {
        let mut world = World::healthy();
        world.record.facts.silent.push("sample-app-2".to_owned());
        assert_eq!(judge(&world.record).failures, []);
        let errors = &mut world.evidence().export_errors;
        errors.insert("sample-app-2".to_owned(), "traces export: refused".to_owned());
        let result = judge(&world.record);
        let [failure] = &result.failures[..] else { panic!("{result:#?}") };
        assert_eq!(
            (&*failure.rule, failure.service.as_deref()),
            ("silent-service", Some("sample-app-2"))
        );
        assert!(failure.detail.contains("says `traces export: refused`"), "{failure:?}");
        assert_eq!(result.undecided, [""; 0]);
    }

    #[test]
    fn an_entry_that_is_set_to_send_nothing_is_the_cause_where_nothing_came() {
        let found = of_nothing(|_| {});
        assert_eq!((found.rule.as_str(), found.cause.as_deref()), ("no-trace", Some(CAUSE)));
        assert!(found.detail.ends_with(&format!(": {CAUSE}")), "{found:#?}");
    }

    #[test]
    fn an_entry_that_exports_to_another_address_is_the_cause_where_nothing_came() {
        let found = of_nothing(|world| {
            let entry = &mut world.record.topology.services[0];
            entry.silenced_by = None;
            entry.exports_elsewhere =
                Some("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9".to_owned());
        });
        let cause = found.cause.as_deref().unwrap_or_default();
        assert!(
            cause.contains("elsewhere: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9"),
            "{cause}"
        );
    }

    #[test]
    fn one_that_was_heard_of_is_not_silenced() {
        let found = of_nothing(|world| {
            world.evidence().heard.insert("sample-app-1".to_owned());
        });
        assert_ne!(found.cause.as_deref(), Some(CAUSE));
    }

    #[test]
    fn a_silenced_service_is_the_cause_where_a_scenario_asks_for_it() {
        let mut world = World::healthy();
        world.record.topology.services[1].silenced_by = Some("OTEL_SDK_DISABLED=true".to_owned());
        world.record.scenario.system = SystemChoice::File("shop.system.yaml".into());
        world.evidence().ledgers.clear();
        world.lose("sample-app-2");
        world.expect().services = vec!["sample-app-2".to_owned()];
        let result = judge(&world.record);
        let missing = &result.cases[0].findings.failures[0];
        let cause = "`sample-app-2` sends no spans to the collector, since OTEL_SDK_DISABLED=true is set for it";
        assert_eq!((missing.rule.as_str(), missing.cause.as_deref()), ("services", Some(cause)));
        assert!(missing.detail.contains(cause), "{}", missing.detail);
    }

    #[test]
    fn a_silenced_caller_is_the_cause_of_a_missing_parent_and_of_an_undecided_run() {
        let mut world = World::healthy();
        let services = &mut world.record.topology.services;
        services[0].silenced_by = Some("OTEL_SDK_DISABLED=true".to_owned());
        services[0].callees = vec!["sample-app-2".to_owned()];
        world.record.scenario.system = SystemChoice::File("shop.system.yaml".into());
        world.evidence().ledgers.clear();
        world.lose("sample-app-1");
        let result = judge(&world.record);
        let orphan = &result.cases[0].findings.failures[0];
        assert_eq!((orphan.rule.as_str(), orphan.cause.as_deref()), ("orphan-span", Some(CAUSE)));
        let mut world = World::healthy();
        world.record.topology.services[1].silenced_by = Some("OTEL_SDK_DISABLED=true".to_owned());
        world.record.facts.silent.push("sample-app-2".to_owned());
        let undecided = judge(&world.record).undecided.join("\n");
        assert!(
            undecided.contains("`sample-app-2` sends no spans to the collector, since OTEL_SDK"),
            "{undecided}"
        );
    }
}
