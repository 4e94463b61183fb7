//! Warnings about a run that can be given before it: settings that will not do for its scenarios.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    scenario::Scenario,
    source,
    system::{Program, Role, System, Workload, parts::CONFIG_FILE, reference},
};

/// How many scenarios are named.
const NAMED: usize = 3;

/// Processors that keep spans, with the setting that says for how long, and how long that is where nothing is set: milliseconds.
const KEEPING: [(&str, &str, u64); 3] = [
    ("batch", "timeout", 200),
    ("tail_sampling", "decision_wait", 30_000),
    ("groupbytrace", "wait_duration", 1000),
];

/// Returns warnings, in words, of services and collectors that keep spans for longer than scenarios wait for them, and of services that
/// share a name.
pub fn foreseen<'s>(
    system: &System,
    scenarios: impl IntoIterator<Item = &'s Scenario>,
) -> Vec<String> {
    let scenarios: Vec<&Scenario> = scenarios.into_iter().collect();
    let services: Vec<&Workload> =
        system.workloads.iter().filter(|workload| workload.role == Role::Service).collect();
    let late = services.iter().filter_map(|workload| late(workload, &scenarios));
    let mut late: Vec<String> = late.collect();
    let collectors = system.workloads.iter().filter(|workload| workload.role == Role::Collector);
    late.extend(collectors.filter_map(|collector| late_in_collector(collector, &scenarios)));
    let lost = services.iter().filter_map(|workload| without_a_collector(workload, system));
    late.into_iter().chain(lost).chain(namesakes(&services)).collect()
}

/// Says which scenarios wait for less than a service may keep its spans.
fn late(workload: &Workload, scenarios: &[&Scenario]) -> Option<String> {
    let Some(delay) = workload.set_export_delay() else {
        return late_by_default(workload, scenarios);
    };
    let waiting = waiting_no_longer(delay, scenarios)?;
    Some(format!(
        "`{}` keeps spans for up to {delay:?} (OTEL_BSP_SCHEDULE_DELAY), and {waiting}: they may come too late; set the delay well below `within`, 100 for example, or raise `within`",
        workload.name
    ))
}

/// Says the same of one whose SDK keeps spans for as long as the specification has it, unless its code says otherwise.
fn late_by_default(workload: &Workload, scenarios: &[&Scenario]) -> Option<String> {
    if !is_of_the_users(workload) {
        return None;
    }
    let delay = workload.export_delay();
    let waiting = waiting_no_longer(delay, scenarios)?;
    Some(format!(
        "`{}` keeps spans for up to {delay:?}, as SDKs do where OTEL_BSP_SCHEDULE_DELAY is not set, and {waiting}: they may come too late; set it well below `within`, to 100 (milliseconds) for example, or raise `within`",
        workload.name
    ))
}

/// Returns whether a workload is a service of the user's that makes spans.
fn is_of_the_users(workload: &Workload) -> bool {
    matches!(workload.program, Program::Command(_))
        && workload.traced
        && workload.silenced_by().is_none()
}

/// Says of a service that it is given no address to export spans to.
fn without_a_collector(workload: &Workload, system: &System) -> Option<String> {
    let mut collectors = system.workloads.iter().filter(|one| one.role == Role::Collector);
    let collector = &collectors.next()?.name;
    let is_set = workload.env.keys().any(|name| {
        name.starts_with("OTEL_EXPORTER_OTLP") && name.ends_with("ENDPOINT")
            || name == "OTEL_EXPERIMENTAL_CONFIG_FILE"
            || name == "OTEL_CONFIG_FILE"
    });
    let refers = reference::references(workload).iter().any(|one| {
        let to = one.edge().map(|(name, _)| name);
        system.workloads.iter().any(|known| Some(&*known.name) == to && known.role != Role::Service)
    });
    (is_of_the_users(workload) && !is_set && !refers).then(|| {
        format!(
            "`{}` is given no address of the collector, so that its SDK exports to its default one: set `OTEL_EXPORTER_OTLP_ENDPOINT: ${{endpoint:{collector}.otlp-http}}` (or `.otlp-grpc`) in its `env`; where it makes no spans, write `traced: false`",
            workload.name
        )
    })
}

/// Says which scenarios wait for less than a collector may keep spans, by its config.
fn late_in_collector(collector: &Workload, scenarios: &[&Scenario]) -> Option<String> {
    let config = collector.files.get(CONFIG_FILE)?;
    // Whether it can be read is the collector's to say.
    let root: Value = source::read_yaml(CONFIG_FILE, &config.contents).ok()?;
    let (delay, settings) = kept_longest(&root)?;
    let waiting = waiting_no_longer(delay, scenarios)?;
    Some(format!(
        "`{}` keeps spans for up to {delay:?} ({settings}), and {waiting}: they may come too late; raise `within`, or set a shorter time in a config for tests",
        collector.name
    ))
}

/// Returns how long the slowest pipeline of a collector's config for traces may keep spans, with the settings that say so.
fn kept_longest(root: &Value) -> Option<(Duration, String)> {
    let kind = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
    let pipelines = root["service"]["pipelines"].as_object()?.iter();
    let each = pipelines.filter(|(id, _)| kind(id) == "traces").map(|(_, pipeline)| {
        let ids = pipeline["processors"].as_array().into_iter().flatten();
        let keeping = ids.filter_map(Value::as_str).filter_map(|id| {
            let (_, key, default) = KEEPING.iter().find(|(name, ..)| *name == kind(id))?;
            let time = match &root["processors"][id][key] {
                Value::Null => Duration::from_millis(*default),
                set => humantime::parse_duration(set.as_str()?).ok()?,
            };
            Some((time, format!("`{id}`: {key} {time:?}")))
        });
        let (times, settings): (Vec<Duration>, Vec<String>) = keeping.unzip();
        (times.iter().sum(), settings.join(", "))
    });
    each.max_by_key(|(time, _): &(Duration, _)| *time)
}

/// Names the scenarios that wait no longer than this, as a part of a sentence; `None` where all do.
fn waiting_no_longer(delay: Duration, scenarios: &[&Scenario]) -> Option<String> {
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
    (!named.is_empty()).then(|| named.join(", "))
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
            let delay = match *key {
                "OTEL_BSP_SCHEDULE_DELAY" | "A" => "",
                _ => "OTEL_BSP_SCHEDULE_DELAY: \"100\", ",
            };
            let endpoint = match *key {
                "A" | "COLLECTOR" => "",
                _ => "OTEL_EXPORTER_OTLP_ENDPOINT: \"${endpoint:collector.otlp-http}\", ",
            };
            text.push_str(&format!(
                "- {{ name: {name}, command: [app, \"${{listen:http}}\"], ports: [http], env: {{ {delay}{endpoint}{key}: \"{value}\" }} }}\n"
            ));
        }
        let file = SystemFile::parse("shop.yaml", &text, Path::new("."), &|_| None).unwrap();
        file.system(&Secret::new("")).unwrap()
    }

    #[test]
    fn a_service_without_an_address_or_with_the_default_delay_is_named() {
        let mut scenario = World::healthy().record.scenario;
        scenario.expect.within = Duration::from_secs(5);
        let text = |system: &System| foreseen(system, [&scenario]).join("\n");
        let neither = text(&system(&[("web", "A", "b")]));
        for part in [
            "`web` keeps spans for up to 5s, as SDKs do where OTEL_BSP_SCHEDULE_DELAY is not set, and `happy` waits 5s",
            "`web` is given no address of the collector",
            "`OTEL_EXPORTER_OTLP_ENDPOINT: ${endpoint:collector.otlp-http}`",
        ] {
            assert!(neither.contains(part), "{part}: {neither}");
        }
        let given = text(&system(&[("web", "COLLECTOR", "${endpoint:collector.otlp-grpc}")]));
        assert!(!given.contains("no address"), "{given}");
        let silent = text(&system(&[("web", "OTEL_SDK_DISABLED", "true")]));
        assert_eq!(silent, "");
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
    fn a_collector_that_keeps_spans_for_as_long_as_a_scenario_waits_is_named_with_its_settings() {
        let mut scenario = World::healthy().record.scenario;
        scenario.expect.within = Duration::from_secs(10);
        let warned = |processors: &str, used: &str| {
            let mut system = system(&[("web", "OTHER", "b")]);
            let mut collectors = system.workloads.iter_mut();
            let collector = collectors.find(|one| one.role == Role::Collector).unwrap();
            collector.files.get_mut(CONFIG_FILE).unwrap().contents = format!(
                "processors: {{ {processors} }}\nservice: {{ pipelines: {{ metrics: {{ processors: [tail_sampling] }}, traces/a: {{ processors: [{used}] }} }} }}\n"
            );
            foreseen(&system, [&scenario])
        };
        assert_eq!(
            warned("batch/slow: { timeout: 9800ms }, batch: ", "batch/slow, batch"),
            [
                "`collector` keeps spans for up to 10s (`batch/slow`: timeout 9.8s, `batch`: timeout 200ms), and `happy` waits 10s (`within`): they may come too late; raise `within`, or set a shorter time in a config for tests"
            ]
        );
        assert_eq!(warned("batch: { timeout: 9s }", "batch"), [""; 0]);
        assert_eq!(warned("batch: { timeout: \"${env:TIMEOUT}\" }", "batch"), [""; 0]);
        assert_eq!(warned("tail_sampling: { policies: [] }", "tail_sampling").len(), 1);
        assert_eq!(warned("tail_sampling: { decision_wait: 1s }", "tail_sampling"), [""; 0]);
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
