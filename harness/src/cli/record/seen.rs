//! Observed traces as expectations, without what differs from run to run (ids, ports, times).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use harness::{
    case::{DRIVER_SERVICE, Topology},
    expectation::DEFAULT_WITHIN,
    record::{CaseRecord, Record},
    trace::{Span, SpanId},
};

use crate::cli::init::quoted;

/// How many digits in a row make an id or a port of a text.
const DIGITS_OF_AN_ID: usize = 4;
/// The kinds by which a tree names its spans.
const KINDS: [&str; 5] = ["server", "client", "internal", "producer", "consumer"];

/// A span without what is its own alone, and what hangs below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    kind: String,
    at: String,
    /// The content of `is`.
    is: String,
    children: Vec<Seen>,
}

/// The `expect` of a scenario, as YAML, that what was seen of each request fits; `times` says how often each is sent.
pub(in crate::cli) fn expect(record: &Record, times: &[u32], within: Duration) -> String {
    let mut text =
        String::from("# Recorded from one run: read it before you rely on it.\nexpect:\n");
    if within != DEFAULT_WITHIN {
        let _infallible = writeln!(text, "  within: {}", humantime::format_duration(within));
    }
    let trees: Vec<Option<Seen>> =
        record.cases.iter().map(|of| tree(of, &record.topology)).collect();
    match trees.split_first() {
        Some((Some(first), rest)) if rest.iter().all(|other| other.as_ref() == Some(first)) => {
            text.push_str("  tree:\n");
            lines(first, 4, &mut text);
        }
        _ => counts(record, times, &mut text),
    }
    let linked: Vec<Option<Vec<Seen>>> = record.cases.iter().map(|of| linked(of, record)).collect();
    if let Some((Some(first), rest)) = linked.split_first()
        && !first.is_empty()
        && rest.iter().all(|other| other.as_ref() == Some(first))
    {
        text.push_str("  linked:\n");
        for tree in first {
            let mut item = String::new();
            lines(tree, 6, &mut item);
            text.push_str("    - ");
            text.push_str(item.trim_start());
        }
    }
    text
}

/// The tree of a request's spans, where it has one top and every span hangs below that.
fn tree(of: &CaseRecord, topology: &Topology) -> Option<Seen> {
    let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
    let spans: Vec<&Span> = spans.filter(|span| span.service != DRIVER_SERVICE).collect();
    let driver = of.case.driver_span;
    whole(&spans, topology, &|parent| parent == driver)
}

/// The tree of these spans; `is_top` says which parents are no span of theirs.
fn whole(spans: &[&Span], topology: &Topology, is_top: &dyn Fn(SpanId) -> bool) -> Option<Seen> {
    let mut below: BTreeMap<Option<SpanId>, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        let parent = span.parent_id.filter(|parent| !is_top(*parent));
        below.entry(parent).or_default().push(span);
    }
    let [top] = below.get(&None)?.as_slice() else { return None };
    let mut count = 0;
    let seen = with_children(top, &below, topology, &mut count)?;
    (count == spans.len()).then_some(seen)
}

fn with_children(
    span: &Span,
    below: &BTreeMap<Option<SpanId>, Vec<&Span>>,
    topology: &Topology,
    count: &mut usize,
) -> Option<Seen> {
    *count += 1;
    let kind = KINDS.iter().find(|kind| **kind == span.kind())?;
    let children = below.get(&Some(span.id)).into_iter().flatten();
    let children = children.map(|child| with_children(child, below, topology, count));
    let mut children = children.collect::<Option<Vec<Seen>>>()?;
    children.sort();
    Some(Seen { kind: (*kind).to_owned(), at: at(span, topology), is: is(span), children })
}

/// The trees of the traces that are linked with a request's.
fn linked(of: &CaseRecord, record: &Record) -> Option<Vec<Seen>> {
    let strays = record.strays.iter().filter(|stray| stray.origin.is_link());
    let own = strays.filter(|stray| stray.origin.owners().any(|owner| owner == of.case.trace_id));
    let trees = own.map(|stray| {
        let ids: BTreeSet<SpanId> = stray.trace.spans.iter().map(|span| span.id).collect();
        let spans: Vec<&Span> = stray.trace.spans.iter().collect();
        whole(&spans, &record.topology, &|parent| !ids.contains(&parent))
    });
    let mut trees = trees.collect::<Option<Vec<Seen>>>()?;
    trees.sort();
    Some(trees)
}

fn at(span: &Span, topology: &Topology) -> String {
    topology.workload_of(span).unwrap_or(&span.service).to_owned()
}

/// Returns the properties of a span that are the same in every run.
fn is(span: &Span) -> String {
    let mut keys = Vec::new();
    for (key, value) in [("name", &span.name), ("resource", &span.resource)] {
        if !value.is_empty() && is_stable(value) {
            keys.push(format!("{key}: {}", quoted(value)));
        }
    }
    keys.extend(span.http_status().map(|status| format!("status: {status}")));
    keys.push(format!("error: {}", span.error));
    format!("{{ {} }}", keys.join(", "))
}

/// Returns whether a text holds nothing that looks like an id or a port.
pub(in crate::cli) fn is_stable(text: &str) -> bool {
    let mut digits = 0;
    let mut words = text.split(|c: char| !c.is_ascii_hexdigit());
    let has_hex_id =
        words.any(|word| word.len() >= 8 && word.contains(|c: char| c.is_ascii_digit()));
    let has_number = text.chars().any(|c| {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        digits >= DIGITS_OF_AN_ID
    });
    !has_hex_id && !has_number
}

fn lines(seen: &Seen, depth: usize, text: &mut String) {
    let indent = " ".repeat(depth);
    let Seen { kind, at, is, children } = seen;
    let _infallible = writeln!(text, "{indent}{kind}: {}\n{indent}is: {is}", quoted(at));
    if children.is_empty() {
        return;
    }
    let _infallible = writeln!(text, "{indent}children:");
    for child in children {
        let mut item = String::new();
        lines(child, depth + 4, &mut item);
        let _infallible = writeln!(text, "{indent}  - {}", item.trim());
    }
}

/// Describes requests that leave different trees: the services in all of them, and the number of spans of each kind.
/// Numbers of spans by origin, kind, and content of `is`.
type Counts = BTreeMap<(String, String, String), u64>;

/// Sums up how many spans of each kind all requests leave, given those of some of each request, and how often each is sent; and returns
/// apart the kinds of which equal requests left unequal numbers.
fn totals(
    of_requests: &BTreeMap<usize, Vec<Counts>>,
    times: &[u32],
) -> (Counts, BTreeSet<(String, String, String)>) {
    let (mut counts, mut varying) = (Counts::new(), BTreeSet::new());
    for (request, of_cases) in of_requests {
        let times = u64::from(times.get(*request).copied().unwrap_or(1));
        for key in of_cases.iter().flat_map(BTreeMap::keys) {
            let mut each = of_cases.iter().map(|of| of.get(key).copied().unwrap_or_default());
            let first = each.next().unwrap_or_default();
            if each.any(|count| count != first) {
                varying.insert(key.clone());
            }
        }
        for (key, count) in of_cases.first().into_iter().flatten() {
            *counts.entry(key.clone()).or_default() += count * times;
        }
    }
    counts.retain(|key, _| !varying.contains(key));
    (counts, varying)
}

fn counts(record: &Record, times: &[u32], text: &mut String) {
    let mut everywhere: Option<BTreeSet<String>> = None;
    let mut of_requests: BTreeMap<usize, Vec<Counts>> = BTreeMap::new();
    for of in &record.cases {
        let mut counts = Counts::new();
        let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
        let mut here = BTreeSet::new();
        for span in spans.filter(|span| span.service != DRIVER_SERVICE) {
            let at = at(span, &record.topology);
            here.insert(at.clone());
            let kind = KINDS.iter().find(|kind| **kind == span.kind());
            let kind = kind.map_or_else(String::new, |kind| format!(", kind: {kind}"));
            *counts.entry((at, kind, is(span))).or_default() += 1;
        }
        of_requests.entry(of.case.request).or_default().push(counts);
        everywhere = Some(match everywhere {
            None => here,
            Some(all) => all.intersection(&here).cloned().collect(),
        });
    }
    let (counts, varying) = totals(&of_requests, times);
    for (at, kind, is) in &varying {
        let _infallible = writeln!(
            text,
            "  # Left out, since equal requests had unequal numbers of it: {{ at: {}{kind}, is: {is} }}",
            quoted(at)
        );
    }
    let services: Vec<String> = everywhere.iter().flatten().map(|name| quoted(name)).collect();
    if !services.is_empty() {
        let _infallible = writeln!(text, "  services: [{}]", services.join(", "));
    }
    text.push_str("  totals:\n");
    for ((at, kind, is), count) in counts {
        let _infallible =
            writeln!(text, "    - {{ at: {}{kind}, is: {is}, count: {count} }}", quoted(&at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_equal_requests_have_unequal_numbers_of_is_no_part_of_the_totals() {
        let key = |at: &str| (at.to_owned(), String::new(), String::new());
        let of = |counts: &[(&str, u64)]| -> Counts {
            counts.iter().map(|(at, count)| (key(at), *count)).collect()
        };
        let orders = vec![of(&[("shop", 2), ("connect", 1)]), of(&[("shop", 2)])];
        let of_requests = BTreeMap::from([(0, orders), (1, vec![of(&[("shop", 1), ("pay", 1)])])]);
        let (counts, varying) = totals(&of_requests, &[5, 3]);
        assert_eq!(counts, of(&[("shop", 13), ("pay", 3)]));
        assert_eq!(varying, BTreeSet::from([key("connect")]));
    }

    #[test]
    fn what_looks_like_an_id_or_a_port_is_left_out() {
        for stable in
            ["GET /orders/{order}", "GET /orders/1", "pay.v1.Payments/Charge", "SELECT shop"]
        {
            assert!(is_stable(stable), "{stable}");
        }
        for own in
            ["GET 127.0.0.1:43211", "job 6f1c0d2ab4", "GET /o/550e8400-e29b-41d4-a716-446655440000"]
        {
            assert!(!is_stable(own), "{own}");
        }
    }
}
