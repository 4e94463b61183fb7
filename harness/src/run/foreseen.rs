//! Warnings about a run that can be given before it: settings that will not do for its scenarios.

use std::collections::BTreeMap;

use crate::{
    scenario::Scenario,
    system::{Role, System, Workload},
};

/// How many scenarios are named.
const NAMED: usize = 3;

/// Returns warnings, in words, of services that keep spans for longer than scenarios wait for them, and of those that share a name.
pub fn foreseen<'s>(
    system: &System,
    scenarios: impl IntoIterator<Item = &'s Scenario>,
) -> Vec<String> {
    let scenarios: Vec<&Scenario> = scenarios.into_iter().collect();
    let services: Vec<&Workload> =
        system.workloads.iter().filter(|workload| workload.role == Role::Service).collect();
    let late = services.iter().filter_map(|workload| late(workload, &scenarios));
    let late: Vec<String> = late.collect();
    late.into_iter().chain(namesakes(&services)).collect()
}

/// Says which scenarios wait for less than a service may keep its spans.
fn late(workload: &Workload, scenarios: &[&Scenario]) -> Option<String> {
    let delay = workload.set_export_delay()?;
    // Nothing is waited for where nothing is to come.
    let waits = |scenario: &&&Scenario| !scenario.expect.absent && scenario.expect.within <= delay;
    let short: Vec<&&Scenario> = scenarios.iter().filter(waits).collect();
    let named = short.iter().take(NAMED).map(|scenario| {
        format!("`{}` waits {:?} (`within`)", scenario.name, scenario.expect.within)
    });
    let mut named: Vec<String> = named.collect();
    if short.len() > NAMED {
        named.push(format!("{} more wait no longer", short.len() - NAMED));
    }
    (!named.is_empty()).then(|| {
        format!(
            "`{}` keeps spans for up to {delay:?} (OTEL_BSP_SCHEDULE_DELAY), and {}: they may come too late; set the delay well below `within`, 100 for example, or raise `within`",
            workload.name,
            named.join(", ")
        )
    })
}

/// Says which workloads have the same service name, so that their spans cannot be distinguished.
fn namesakes(services: &[&Workload]) -> Vec<String> {
    let mut by_name = BTreeMap::<String, Vec<&str>>::new();
    // Those that have a ledger are known by their instances.
    for workload in services.iter().filter(|workload| workload.ledger.is_none()) {
        if let Some(name) = workload.service_name().filter(|name| !name.contains(['$', '%'])) {
            by_name.entry(name.to_lowercase()).or_default().push(&workload.name);
        }
    }
    let shared = by_name.into_iter().filter(|(_, workloads)| workloads.len() > 1);
    let said = shared.map(|(name, workloads)| {
        let workloads: Vec<String> =
            workloads.into_iter().map(|workload| format!("`{workload}`")).collect();
        format!(
            "{} have one service name, `{name}`, so that their spans cannot be distinguished: give each its own OTEL_SERVICE_NAME",
            workloads.join(" and ")
        )
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{judge::testing::World, secret::Secret, system::file::SystemFile};

    fn system(settings: &[(&str, &str, &str)]) -> System {
        let mut text = "entry: web\nworkloads:\n".to_owned();
        for (name, key, value) in settings {
            text.push_str(&format!(
                "- {{ name: {name}, command: [app, \"${{listen:http}}\"], ports: [http], env: {{ {key}: \"{value}\" }} }}\n"
            ));
        }
        let file = SystemFile::parse("shop.yaml", &text, Path::new("."), &|_| None).unwrap();
        file.system(&Secret::new("")).unwrap()
    }

    #[test]
    fn a_service_that_keeps_spans_for_as_long_as_a_scenario_waits_is_named() {
        let mut short = World::healthy().record.scenario;
        short.expect.within = Duration::from_secs(3);
        let mut long = short.clone();
        (long.name, long.expect.within) = ("long".to_owned(), Duration::from_secs(9));
        let delay = |ms: &str| system(&[("web", "OTEL_BSP_SCHEDULE_DELAY", ms)]);
        assert_eq!(
            foreseen(&delay("3000"), [&short, &long]),
            [
                "`web` keeps spans for up to 3s (OTEL_BSP_SCHEDULE_DELAY), and `happy` waits 3s (`within`): they may come too late; set the delay well below `within`, 100 for example, or raise `within`"
            ]
        );
        assert_eq!(foreseen(&delay("2999"), [&short, &long]), [""; 0]);
        assert_eq!(foreseen(&delay("9000"), [&short; 5]).len(), 1);
        short.expect.absent = true;
        assert_eq!(foreseen(&delay("3000"), [&short]), [""; 0]);
    }

    #[test]
    fn services_of_one_name_are_named() {
        let of = |one: &str| {
            foreseen(
                &system(&[
                    ("web", "OTEL_SERVICE_NAME", "pricing"),
                    ("ledger", "OTEL_RESOURCE_ATTRIBUTES", one),
                ]),
                [],
            )
        };
        assert_eq!(
            of("service.name=Pricing"),
            [
                "`web` and `ledger` have one service name, `pricing`, so that their spans cannot be distinguished: give each its own OTEL_SERVICE_NAME"
            ]
        );
        assert_eq!(of("service.name=ledger"), [""; 0]);
        let mut with_ledgers = system(&[
            ("web", "OTEL_SERVICE_NAME", "pricing"),
            ("ledger", "OTEL_SERVICE_NAME", "pricing"),
        ]);
        with_ledgers.workloads.iter_mut().for_each(|one| one.ledger = Some("http".to_owned()));
        assert_eq!(foreseen(&with_ledgers, []), [""; 0]);
    }
}
