//! Judging many cases at once, each by itself, on all cores.

use std::{num::NonZero, panic::resume_unwind, thread};

/// Fewest items for which another thread is worth starting.
const AT_LEAST: usize = 256;

/// Makes a result of each item, in their order.
pub(super) fn map<T: Sync, R: Send>(items: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(items.len() / AT_LEAST).max(1);
    let share = items.len().div_ceil(threads).max(1);
    let mut shares = items.chunks(share);
    let own = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let make = &make;
        let others = shares.map(|share| scope.spawn(move || share.iter().map(make).collect()));
        let others: Vec<thread::ScopedJoinHandle<'_, Vec<R>>> = others.collect();
        let mut made: Vec<R> = own.iter().map(make).collect();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panicked| resume_unwind(panicked)));
        }
        made
    })
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_come_in_the_order_of_their_items_however_many_there_are() {
        for count in [0, 1, 255, 256, 1_000, 5_001] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), doubled);
        }
    }
}
