//! Which span of one run is which of the other: by its place in the tree, then by what it is.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet, VecDeque},
};

use super::value;
use crate::trace::{Span, SpanId};

/// A span of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) span: &'a Span,
    /// Whether it is in another trace than the request's.
    pub(super) is_apart: bool,
    /// Whether its parent is the harness's own span, which was not exported.
    pub(super) below_driver: bool,
}

/// Two traces side by side; numbers are places in the lists that were given.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    /// Spans that are the same in both, parents before children.
    pub(super) pairs: Vec<Pair>,
    pub(super) only_a: Vec<usize>,
    pub(super) only_b: Vec<usize>,
}

/// A span in both.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) a: usize,
    pub(super) b: usize,
    /// Its places in A and in B, where that is not the same.
    pub(super) moved: Option<(String, String)>,
}

/// Attributes that distinguish spans of the same name.
const DETAILS: [&str; 12] = [
    "http.url",
    "url.full",
    "url.path",
    "http.target",
    "db.statement",
    "db.query.text",
    "rpc.method",
    "messaging.destination.name",
    "server.address",
    "http.status_code",
    "code.function",
    "peer.service",
];

/// Parts of a span that it is compared by, from all of it to its kind alone.
#[derive(Debug, Clone, Copy)]
struct By {
    service: bool,
    name: bool,
    resource: bool,
    details: bool,
    children: bool,
}

const ALL: By = By { service: true, name: true, resource: true, details: true, children: true };
/// In the same place of the tree the kind is enough.
const IN_PLACE: [By; 9] = [
    ALL,
    By { children: false, ..ALL },
    By { details: false, ..ALL },
    By { details: false, children: false, ..ALL },
    By { name: false, details: false, children: false, ..ALL },
    By { resource: false, details: false, children: false, ..ALL },
    By { service: false, details: false, children: false, ..ALL },
    By { name: false, resource: false, details: false, children: false, ..ALL },
    By { service: false, name: false, resource: false, details: false, children: false },
];
/// Elsewhere it must be the same work.
const ANYWHERE: [By; 4] = [
    ALL,
    By { children: false, ..ALL },
    By { details: false, children: false, ..ALL },
    IN_PLACE[4],
];

/// One side, with who is below whom.
struct Side<'a> {
    parts: &'a [Part<'a>],
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    /// Found out where it is needed, and once: most spans have no sibling.
    details: Vec<OnceCell<String>>,
}

impl<'a> Side<'a> {
    fn new(parts: &'a [Part<'a>]) -> Self {
        let mut at: HashMap<SpanId, usize> = HashMap::new();
        for (number, part) in parts.iter().enumerate() {
            at.entry(part.span.id).or_insert(number);
        }
        let parent: Vec<Option<usize>> = parts
            .iter()
            .enumerate()
            .map(|(number, part)| {
                let parent = part.span.parent_id.and_then(|id| at.get(&id).copied());
                // A parent in another trace holds nothing together in Datadog.
                parent.filter(|other| {
                    *other != number && parts[*other].span.trace_id == part.span.trace_id
                })
            })
            .collect();
        let mut children = vec![Vec::new(); parts.len()];
        for (number, parent) in parent.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(number);
            }
        }
        Self { parts, parent, children, details: vec![OnceCell::new(); parts.len()] }
    }

    fn roots(&self) -> Vec<usize> {
        (0..self.parts.len()).filter(|number| self.parent[*number].is_none()).collect()
    }

    /// Returns what a span is compared by, as a text.
    fn key(&self, number: usize, by: By) -> String {
        let span = self.parts[number].span;
        let mut key = String::from(span.kind());
        let mut add = |text: &str| {
            key.push('\u{1f}');
            key.push_str(text);
        };
        for (wanted, text) in
            [(by.service, &span.service), (by.name, &span.name), (by.resource, &span.resource)]
        {
            add(if wanted { text } else { "" });
        }
        if by.details {
            add(self.details[number].get_or_init(|| details(span)));
        }
        if by.children {
            let below = self.children[number].iter().map(|child| self.parts[*child].span);
            let mut below: Vec<_> =
                below.map(|span| (&span.service, span.kind(), &span.resource)).collect();
            below.sort_unstable();
            add(&format!("{below:?}"));
        }
        key
    }

    /// Says where a span hangs.
    fn above(&self, number: usize) -> String {
        let part = self.parts[number];
        match (self.parent[number], part.span.parent_id) {
            (Some(parent), _) => format!("below {}", describe(self.parts[parent].span)),
            (None, None) if part.is_apart => "the root of a trace of its own".to_owned(),
            (None, _) if part.is_apart => {
                "in a trace of its own, below a span that is not in it".to_owned()
            }
            (None, None) => "the root".to_owned(),
            (None, Some(_)) if part.below_driver => "below the harness's own span".to_owned(),
            (None, Some(_)) => "below a span that was not captured".to_owned(),
        }
    }
}

/// The values by which spans of the same name are distinguished.
fn details(span: &Span) -> String {
    let mut all = String::new();
    for detail in DETAILS {
        all.push('\u{1f}');
        if let Some(text) = span.meta.get(detail) {
            all.push_str(&value::steady(detail, text));
        }
    }
    all
}

/// A span in words: `` `GET /checkout` (server, shop) ``.
pub(super) fn describe(span: &Span) -> String {
    let kind = if span.kind().is_empty() { "span" } else { span.kind() };
    format!("`{}` ({kind}, {})", span.resource, span.service)
}

/// Matches the spans of two traces.
pub(super) fn pair(a: &[Part<'_>], b: &[Part<'_>]) -> Pairing {
    let (a, b) = (Side::new(a), Side::new(b));
    let mut of_a: Vec<Option<usize>> = vec![None; a.parts.len()];
    let mut of_b: Vec<Option<usize>> = vec![None; b.parts.len()];
    let mut order = Vec::new();
    let mut open = VecDeque::from([(a.roots(), b.roots())]);
    while let Some((left, right)) = open.pop_front() {
        let kind = |side: &Side<'_>, number: usize| side.parts[number].span.kind().to_owned();
        let assigned = match (left.as_slice(), right.as_slice()) {
            // Alone in its place the kind is enough, whatever else it says.
            (&[one], &[other]) if kind(&a, one) == kind(&b, other) => vec![(one, other)],
            _ => assign((&a, &left), (&b, &right), &IN_PLACE),
        };
        for (one, other) in assigned {
            (of_a[one], of_b[other]) = (Some(other), Some(one));
            order.push(one);
            open.push_back((a.children[one].clone(), b.children[other].clone()));
        }
    }
    let rest = |of: &[Option<usize>]| -> Vec<usize> {
        (0..of.len()).filter(|number| of[*number].is_none()).collect()
    };
    for (one, other) in assign((&a, &rest(&of_a)), (&b, &rest(&of_b)), &ANYWHERE) {
        (of_a[one], of_b[other]) = (Some(other), Some(one));
        order.push(one);
    }
    let pairs = order.into_iter().filter_map(|one| {
        let other = of_a[one]?;
        let is_in_place = match (a.parent[one], b.parent[other]) {
            (Some(parent), below) => of_a[parent].is_some() && of_a[parent] == below,
            (None, Some(_)) => false,
            (None, None) => a.above(one) == b.above(other),
        };
        let moved = (!is_in_place).then(|| (a.above(one), b.above(other)));
        Some(Pair { a: one, b: other, moved })
    });
    Pairing { pairs: pairs.collect(), only_a: rest(&of_a), only_b: rest(&of_b) }
}

/// Matches spans that could be each other, the most alike first, in their order.
fn assign(
    (a, left): (&Side<'_>, &[usize]),
    (b, right): (&Side<'_>, &[usize]),
    ways: &[By],
) -> Vec<(usize, usize)> {
    let (mut left, mut right) = (left.to_vec(), right.to_vec());
    let mut pairs = Vec::new();
    for by in ways {
        if left.is_empty() || right.is_empty() {
            break;
        }
        let mut waiting: HashMap<String, VecDeque<usize>> = HashMap::new();
        for other in &right {
            waiting.entry(b.key(*other, *by)).or_default().push_back(*other);
        }
        let before = pairs.len();
        left.retain(|one| {
            let found = waiting.get_mut(&a.key(*one, *by)).and_then(VecDeque::pop_front);
            if let Some(other) = found {
                pairs.push((*one, other));
            }
            found.is_none()
        });
        let taken: HashSet<usize> = pairs[before..].iter().map(|(_, other)| *other).collect();
        right.retain(|other| !taken.contains(other));
    }
    pairs.sort_unstable();
    pairs
}
