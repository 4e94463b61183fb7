//! The last decisions, for spans that come later. The one that was asked for longest ago is forgotten first.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Decisions {
    capacity: usize,
    /// When it was made, and when it was asked for last, as a number.
    known: HashMap<u128, (Instant, u64)>,
    asked: BTreeMap<u64, u128>,
    next: u64,
}

impl Decisions {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, known: HashMap::new(), asked: BTreeMap::new(), next: 0 }
    }

    /// Remembers a decision.
    pub(super) fn put(&mut self, id: u128, now: Instant) {
        self.next += 1;
        if let Some((_, before)) = self.known.insert(id, (now, self.next)) {
            self.asked.remove(&before);
        }
        self.asked.insert(self.next, id);
        if self.known.len() > self.capacity
            && let Some((_, oldest)) = self.asked.pop_first()
        {
            self.known.remove(&oldest);
        }
    }

    /// Returns when a decision was made, if it is known.
    pub(super) fn get(&mut self, id: u128) -> Option<Instant> {
        let (made, asked) = self.known.get_mut(&id)?;
        self.next += 1;
        self.asked.remove(asked);
        *asked = self.next;
        self.asked.insert(self.next, id);
        Some(*made)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::Decisions;

    #[test]
    fn what_was_not_asked_for_is_forgotten_first() {
        let mut decisions = Decisions::new(2);
        let now = Instant::now();
        decisions.put(1, now);
        decisions.put(2, now);
        assert_eq!(decisions.get(1), Some(now));
        decisions.put(3, now);
        assert_eq!((decisions.get(2), decisions.get(1)), (None, Some(now)));
        decisions.put(3, now);
        assert_eq!((decisions.known.len(), decisions.asked.len()), (2, 2));
    }
}
