//! An index over what has a start and an end, so that asking what was in progress at one moment need not look at all of it.

/// Items by their start, each with its end.
#[derive(Debug)]
pub(crate) struct InProgress<T> {
    /// Start, end and item.
    items: Vec<(i64, i64, T)>,
    /// The latest end of each and all before it.
    latest_end: Vec<i64>,
}

impl<T: Copy> InProgress<T> {
    /// Indexes items by their start and end; those that start at once stay in their order.
    pub(crate) fn new(items: impl IntoIterator<Item = (i64, i64, T)>) -> Self {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort_by_key(|(start, ..)| *start);
        let latest_end = items.iter().scan(i64::MIN, |latest, (_, end, _)| {
            *latest = (*end).max(*latest);
            Some(*latest)
        });
        Self { latest_end: latest_end.collect(), items }
    }

    /// Returns what was in progress at a time, or so near to it as the clocks may be apart, by its start.
    pub(crate) fn at(&self, time: i64, tolerance: i64) -> impl Iterator<Item = T> {
        let (from, until) = (time.saturating_sub(tolerance), time.saturating_add(tolerance));
        let first = self.latest_end.partition_point(|end| *end < from);
        let last = self.items.partition_point(|(start, ..)| *start <= until);
        let begun = self.items.get(first..last).unwrap_or_default().iter();
        begun.filter(move |(_, end, _)| *end >= from).map(|(.., item)| *item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::InProgress;

    proptest! {
        #[test]
        fn what_is_in_progress_is_the_same_as_by_looking_at_all(
            times in proptest::collection::vec((-50i64..50, -5i64..40), 0..20),
            time in -60i64..100,
            tolerance in 0i64..10,
        ) {
            let numbered = (0..).zip(times);
            let mut items: Vec<_> = numbered
                .map(|(number, (start, duration))| (start, start + duration, number))
                .collect();
            let found: Vec<i32> = InProgress::new(items.clone()).at(time, tolerance).collect();
            items.sort_by_key(|(start, ..)| *start);
            let is_in_progress = |(start, end, _): &(i64, i64, i32)| {
                *start <= time + tolerance && *end >= time - tolerance
            };
            let all = items.into_iter().filter(is_in_progress).map(|(.., number)| number);
            prop_assert_eq!(found, all.collect::<Vec<_>>());
        }
    }
}
