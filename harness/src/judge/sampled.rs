//! Warns of traces that a sampler of the collector dropped whole: nothing is wrong with them, and nothing was seen of them.

use std::collections::BTreeSet;

use super::case::WHOLE_TRACE;
use crate::{finding::Warning, verdict::ScenarioResult};

/// Returns a warning of how many traces were dropped, by scenario; of a scenario of which none is left, the verdict says it.
pub(super) fn warning<'r>(
    system: &str,
    results: impl IntoIterator<Item = &'r ScenarioResult>,
) -> Option<Warning> {
    let of_scenarios: Vec<String> = results
        .into_iter()
        .filter_map(|result| {
            let skipped = result.cases.iter().filter_map(|case| {
                case.findings.not_evaluated.iter().find(|skipped| skipped.rule == WHOLE_TRACE)
            });
            let because: Vec<&str> = skipped.map(|skipped| skipped.because.as_str()).collect();
            let (dropped, all) = (because.len(), result.cases.len());
            let because = because.into_iter().collect::<BTreeSet<_>>().into_iter();
            (dropped > 0 && dropped < all).then(|| {
                format!(
                    "{dropped} of {all} traces of `{}` ({})",
                    result.name,
                    because.collect::<Vec<_>>().join("; ")
                )
            })
        })
        .collect();
    (!of_scenarios.is_empty()).then(|| Warning {
        text: format!("{system}: nothing was judged of {}", of_scenarios.join(", ")),
        more: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::NotEvaluated,
        judge::{judge, testing::World},
    };

    #[test]
    fn dropped_traces_are_counted_where_others_are_left() {
        let mut world = World::healthy();
        let another = world.record.cases[0].clone();
        world.record.cases.push(another);
        let mut result = judge(&world.record);
        assert_eq!(warning("the shop", [&result]), None);
        let skip = |result: &mut ScenarioResult, case: usize| {
            let because = "the collector's sampler `s` dropped the whole trace".to_owned();
            let skipped = NotEvaluated { rule: WHOLE_TRACE.to_owned(), because, required: false };
            result.cases[case].findings.not_evaluated.push(skipped);
        };
        skip(&mut result, 0);
        let found = warning("the shop", [&result]).unwrap().text;
        assert!(found.starts_with("the shop: nothing was judged of 1 of 2 traces of `"), "{found}");
        assert!(
            found.ends_with("(the collector's sampler `s` dropped the whole trace)"),
            "{found}"
        );
        skip(&mut result, 1);
        assert_eq!(warning("the shop", [&result]), None);
    }
}
