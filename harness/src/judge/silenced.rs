//! Services that their settings keep from sending spans: where nothing comes of one, that is the cause.

use std::collections::HashMap;

use crate::{
    case::{LedgerReport, Outcome, ServiceIdentity, Topology, View},
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
            "services" => failure.service.as_deref(),
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
            known.insert(who.to_owned(), cause);
        }
        if let Some(Some(cause)) = known.get(who) {
            failure.set_cause(cause.clone());
        }
    }
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
        world.record.scenario.system =
            crate::scenario::SystemChoice::File("shop.system.yaml".into());
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
        world.record.scenario.system =
            crate::scenario::SystemChoice::File("shop.system.yaml".into());
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
