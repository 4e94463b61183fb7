//! APM stats of two runs: which groups each has, and how many spans they count.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use super::{Example, book::Book};
use crate::{
    intake::{
        decode::{self, DEFAULT_MAX_DECODED, Decoded},
        store::{Bounds, Store},
    },
    record::Record,
    saved::{SavedError, SavedSystem},
    stats::{self, Forms, Key, Numbers},
    trace::{PayloadForm, Span, TraceId},
};

/// The stats of a run.
#[derive(Debug, Default)]
struct Stats {
    systems: Vec<OfSystem>,
    /// In which form the spans of each scenario came.
    forms: BTreeMap<String, Forms>,
    /// Whether there were payloads at all.
    captured: bool,
}

/// The stats of a system.
#[derive(Debug, Default)]
struct OfSystem {
    scenarios: BTreeSet<String>,
    /// The groups that were captured.
    groups: Groups,
    /// The groups of which its spans are, by their scenarios; `None` for those of the harness's own requests.
    spans: BTreeMap<Option<String>, Groups>,
}

type Groups = BTreeMap<Key, Numbers>;

impl Stats {
    /// The groups of all but some scenarios. The requests of the harness's own, such as the sentinel of each system, are taken out: runs
    /// may share their scenarios between systems in different ways.
    fn groups(&self, left_out: &BTreeSet<&str>) -> Groups {
        let mut all = Groups::new();
        let is_out = |name: &String| left_out.contains(name.as_str());
        for system in &self.systems {
            if !system.scenarios.is_empty() && system.scenarios.iter().all(is_out) {
                continue;
            }
            let mut others = Groups::new();
            let spans = system.spans.iter().filter(|(of, _)| of.as_ref().is_none_or(is_out));
            for (key, numbers) in spans.flat_map(|(_, groups)| groups) {
                let other = others.entry(key.clone()).or_default();
                other.hits += numbers.hits;
                other.errors += numbers.errors;
            }
            for (key, numbers) in &system.groups {
                let other = others.get(key).copied().unwrap_or_default();
                let sum = all.entry(key.clone()).or_default();
                sum.hits += numbers.hits.saturating_sub(other.hits);
                sum.errors += numbers.errors.saturating_sub(other.errors);
            }
        }
        all.retain(|_, numbers| numbers.hits > 0);
        all
    }
}

/// Compares the stats of two runs. Where one has none as Datadog computes them, that is said.
pub(super) fn compare(
    a: &[SavedSystem],
    b: &[SavedSystem],
    is_same_work: bool,
    book: &mut Book,
    undecided: &mut Vec<String>,
) -> Result<(), SavedError> {
    differing((&read(a)?, &read(b)?), is_same_work, book, undecided);
    Ok(())
}

fn differing(
    (a, b): (&Stats, &Stats),
    is_same_work: bool,
    book: &mut Book,
    undecided: &mut Vec<String>,
) {
    if !a.captured || !b.captured {
        // Where nothing was captured by a mock intake there are no stats to compare.
        undecided
            .push("APM stats were not compared: a run without a mock intake has none".to_owned());
        return;
    }
    let left_out = as_otlp((a, b), book, undecided);
    let both = || a.forms.keys().filter(|name| b.forms.contains_key(*name));
    if both().all(|name| left_out.contains(name.as_str())) {
        return;
    }
    if !is_same_work {
        undecided.push(
            "APM stats were not compared: they are of a whole run, and the runs are not of the same requests".to_owned(),
        );
        return;
    }
    in_groups([a, b].map(|of| of.groups(&left_out)), book);
}

/// Returns the scenarios whose spans came as OTLP in one of the runs, so that the collector makes no stats of them. What that means is
/// reported: Datadog computes them, or nobody does.
fn as_otlp<'a>(
    (a, b): (&'a Stats, &'a Stats),
    book: &mut Book,
    undecided: &mut Vec<String>,
) -> BTreeSet<&'a str> {
    let both = a.forms.iter().filter_map(|(name, of_a)| Some((name, of_a, b.forms.get(name)?)));
    let otlp: Vec<_> = both.clone().filter(|(_, of_a, of_b)| of_a.otlp || of_b.otlp).collect();
    let mut computed = Vec::new();
    for (name, of_a, of_b) in &otlp {
        match (of_a.without_stats, of_b.without_stats) {
            (true, true) => {}
            (false, false) => computed.push(*name),
            (_, without_in_b) => {
                let (has, lacks) = if without_in_b { ("A", "B") } else { ("B", "A") };
                let example = Example {
                    scenario: (*name).clone(),
                    place: "all spans".to_owned(),
                    a: Some(presence(of_a.without_stats)),
                    b: Some(presence(of_b.without_stats)),
                    ..Example::default()
                };
                book.add_stats("all services", &format!("some in {has}, none in {lacks}"), example);
            }
        }
    }
    if !computed.is_empty() {
        let of = if computed.len() == both.count() {
            String::new()
        } else {
            let names = super::listed(computed.iter());
            format!(" of {} {names}", if computed.len() == 1 { "scenario" } else { "scenarios" })
        };
        undecided.push(format!(
            "APM stats{of} were not compared: of spans that are sent as OTLP Datadog computes them on its side"
        ));
    }
    otlp.into_iter().map(|(name, ..)| name.as_str()).collect()
}

/// Compares the groups of what both runs have.
fn in_groups([mut of_a, of_b]: [Groups; 2], book: &mut Book) {
    if of_a.is_empty() != of_b.is_empty() {
        let (has, lacks) = if of_b.is_empty() { ("A", "B") } else { ("B", "A") };
        let [a, b] = [&of_a, &of_b].map(|of| match of.len() {
            0 => "none, as long as the run lasted; a collector that sends them every ten seconds needs longer: `--listen 15s`".to_owned(),
            groups => format!("{groups} groups"),
        });
        let example =
            Example { place: "all spans".to_owned(), a: Some(a), b: Some(b), ..Example::default() };
        book.add_stats("all services", &format!("some in {has}, none in {lacks}"), example);
        return;
    }
    for (key, numbers) in std::mem::take(&mut of_a) {
        // Under the name that the spans have in B, which is reported already.
        let key = match book.key_in_b(&key).filter(|in_b| **in_b != key).cloned() {
            Some(in_b) if of_b.contains_key(&in_b) => {
                book.stats_follow(&key, &in_b);
                in_b
            }
            _ => key,
        };
        let all = of_a.entry(key).or_default();
        all.hits += numbers.hits;
        all.errors += numbers.errors;
    }
    let keys: BTreeSet<&Key> = of_a.keys().chain(of_b.keys()).collect();
    for key in keys {
        let [a, b] = [&of_a, &of_b].map(|of| of.get(key).copied().unwrap_or_default());
        let way = match (a, b) {
            (a, b) if a == b => continue,
            (_, b) if b.hits == 0 => "none in B",
            (a, _) if a.hits == 0 => "none in A",
            (a, b) if a.hits != b.hits => "other hits",
            _ => "other errors",
        };
        let example = Example {
            place: key.to_string(),
            a: Some(a.to_string()),
            b: Some(b.to_string()),
            ..Example::default()
        };
        book.add_stats(&key.service, way, example);
    }
}

fn presence(without: bool) -> String {
    match without {
        true => {
            "sent as OTLP without the header `compute_stats: \"true\"`: no trace metrics".to_owned()
        }
        false => "trace metrics".to_owned(),
    }
}

/// Counts what a run has.
fn read(systems: &[SavedSystem]) -> Result<Stats, SavedError> {
    let mut all = Stats::default();
    for system in systems {
        let mut store = Store::new(Bounds { max_bytes: usize::MAX, max_attempts: usize::MAX });
        system.each_attempt(|attempt| {
            let decoded = decode::decode(&attempt, DEFAULT_MAX_DECODED);
            // Their bodies are needed for the headers of OTLP and to find redeliveries.
            let has_data =
                matches!(decoded, Decoded::Traces(_) | Decoded::OtlpTraces(_) | Decoded::Stats(_));
            if has_data {
                store.insert(attempt, decoded, Instant::now());
            }
        })?;
        all.captured |= store.newest() > 0;
        let of_system = count(system.records(), &store, &mut all.forms);
        all.systems.push(of_system);
    }
    Ok(all)
}

/// Counts what a system has, and says in which forms its scenarios' spans came.
fn count(records: &[Record], store: &Store, forms: &mut BTreeMap<String, Forms>) -> OfSystem {
    let mut owners: HashMap<TraceId, &str> = HashMap::new();
    for record in records {
        let name = record.scenario.name.as_str();
        forms.entry(name.to_owned()).or_default();
        owners.extend(record.strays.iter().map(|stray| (stray.trace.id, name)));
        owners.extend(record.cases.iter().map(|of| (of.case.trace_id, name)));
    }
    let mut of = OfSystem {
        scenarios: records.iter().map(|record| record.scenario.name.clone()).collect(),
        ..OfSystem::default()
    };
    let groups = || {
        let payloads = store.entries().filter_map(|entry| entry.stats.as_ref());
        payloads.flat_map(|payload| &payload.groups)
    };
    // A group with hits beside its top-level ones is counted by the kind of spans.
    let by_kind = groups().any(|group| group.hits > group.top_level_hits);
    for entry in store.entries() {
        let computes = decode::computes_stats(&entry.attempt);
        for span in entry.spans() {
            let span: &Span = span;
            let owner = owners.get(&span.trace_id).copied();
            if span.form == PayloadForm::Otlp {
                if let Some(form) = owner.and_then(|name| forms.get_mut(name)) {
                    form.otlp = true;
                    form.without_stats |= !computes;
                }
            } else if stats::counts(span, by_kind) {
                let groups = of.spans.entry(owner.map(str::to_owned)).or_default();
                let numbers = groups.entry(Key::of(span)).or_default();
                numbers.hits += 1;
                numbers.errors += u64::from(span.error);
            }
        }
    }
    for group in groups() {
        let numbers = of.groups.entry(Key::of_group(group)).or_default();
        numbers.hits += group.hits;
        numbers.errors += group.errors;
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Kind;

    /// Groups by resource, with hits and errors.
    type Counted<'a> = &'a [(&'a str, u64, u64)];

    fn groups(groups: Counted<'_>) -> Groups {
        let key = |resource: &str| Key {
            service: "shop".to_owned(),
            name: "http.server.request".to_owned(),
            resource: resource.to_owned(),
            kind: "server".to_owned(),
        };
        let groups = groups.iter().map(|(resource, hits, errors)| {
            (key(resource), Numbers { hits: *hits, errors: *errors })
        });
        groups.collect()
    }

    /// The stats of a run with one system, for each scenario: its name, its form and its groups.
    fn run(scenarios: &[(&str, Forms, Counted<'_>)]) -> Stats {
        let mut of = OfSystem::default();
        let mut forms = BTreeMap::new();
        for (name, form, counted) in scenarios {
            forms.insert((*name).to_owned(), *form);
            of.scenarios.insert((*name).to_owned());
            of.spans.insert(Some((*name).to_owned()), groups(counted));
            for (key, numbers) in groups(counted) {
                let all = of.groups.entry(key).or_default();
                all.hits += numbers.hits;
                all.errors += numbers.errors;
            }
        }
        Stats { systems: vec![of], forms, captured: true }
    }

    const DATADOG: Forms = Forms { otlp: false, without_stats: false };
    const OTLP: Forms = Forms { otlp: true, without_stats: false };
    const WITHOUT: Forms = Forms { otlp: true, without_stats: true };

    fn stats(groups: Counted<'_>) -> Stats {
        run(&[("one", DATADOG, groups)])
    }

    fn found(a: Stats, b: Stats) -> (Vec<String>, Vec<String>) {
        let (mut book, mut undecided) = (Book::default(), Vec::new());
        differing((&a, &b), true, &mut book, &mut undecided);
        let (differences, _) = book.close();
        assert!(differences.iter().all(|one| one.kind == Kind::Stats));
        (differences.into_iter().map(|one| one.title).collect(), undecided)
    }

    #[test]
    fn groups_that_are_gone_and_that_count_otherwise_are_found() {
        let a = || stats(&[("GET /a", 3, 1), ("GET /b", 1, 0)]);
        assert_eq!(found(a(), a()), (vec![], vec![]));
        let titles = |b: Stats| found(a(), b).0;
        assert_eq!(titles(stats(&[("GET /a", 3, 1)])), ["APM stats of `shop`: none in B"]);
        assert_eq!(
            titles(stats(&[("GET /a", 4, 1), ("GET /b", 1, 1)])),
            ["APM stats of `shop`: other errors", "APM stats of `shop`: other hits"]
        );
    }

    #[test]
    fn stats_that_datadog_computes_are_undecided_and_those_that_nobody_computes_are_missing() {
        let otlp = |form| run(&[("one", form, &[])]);
        let (titles, undecided) = found(stats(&[("GET /a", 3, 1)]), otlp(OTLP));
        assert_eq!(titles.len(), 0);
        assert!(undecided[0].starts_with("APM stats were not compared"), "{undecided:?}");
        assert!(undecided[0].contains("Datadog computes them on its side"), "{undecided:?}");
        let (titles, undecided) = found(stats(&[("GET /a", 3, 1)]), otlp(WITHOUT));
        assert_eq!((titles.len(), undecided.len()), (1, 0));
        assert_eq!(titles[0], "APM stats of `all services`: some in A, none in B");
        assert_eq!(found(otlp(WITHOUT), otlp(WITHOUT)), (vec![], vec![]));
        let titles = found(stats(&[]), stats(&[("GET /a", 3, 1), ("GET /b", 3, 1)])).0;
        assert_eq!(titles, ["APM stats of `all services`: some in B, none in A"]);
        let (_, undecided) = found(Stats::default(), stats(&[]));
        assert!(undecided[0].contains("without a mock intake"), "{undecided:?}");
    }

    #[test]
    fn a_scenario_that_is_sent_as_otlp_leaves_out_its_own_stats_and_no_others() {
        let a = || run(&[("shop", DATADOG, &[("GET /a", 3, 1)]), ("moved", OTLP, &[])]);
        let b = |errors, form, moved| {
            run(&[("shop", DATADOG, &[("GET /a", 3, errors)]), ("moved", form, moved)])
        };
        let not_compared = "APM stats of scenario `moved` were not compared: ";
        // It is OTLP in one of them or in both; what the other counts of it is nothing that differs.
        for (form, moved) in [(OTLP, &[][..]), (DATADOG, &[("GET /a", 5, 0), ("GET /m", 2, 0)])] {
            let (titles, undecided) = found(a(), b(1, form, moved));
            assert_eq!((titles, undecided.len()), (vec![], 1));
            assert!(undecided[0].starts_with(not_compared), "{undecided:?}");
            let (titles, undecided) = found(a(), b(2, form, moved));
            assert_eq!(titles, ["APM stats of `shop`: other errors"]);
            assert!(undecided[0].starts_with(not_compared), "{undecided:?}");
        }
        let (titles, undecided) = found(a(), b(2, WITHOUT, &[]));
        assert_eq!(
            titles,
            [
                "APM stats of `all services`: some in A, none in B",
                "APM stats of `shop`: other errors"
            ]
        );
        assert_eq!(undecided.len(), 0, "{undecided:?}");
    }
}
