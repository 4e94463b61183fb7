//! Joins what is in the queue into batches of a size, behind it, and cuts what is too large (`sending_queue.batch`).
//!
//! What is joined still counts against the queue's size until the fate of all of it is known.

use std::sync::Arc;

use tokio::time::Instant;

use super::config::{Batch, Sizer};
use super::{Content, Held, Permits};
use crate::trace_batch::{Part, TraceBatch};

/// The batch that is being filled.
pub(super) struct Gatherer {
    settings: Batch,
    sizer: Sizer,
    filling: Gathered,
    /// When it goes however small it is.
    deadline: Instant,
}

/// Batches of the queue that are sent as one.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) memory: TraceBatch,
    pub(super) disk: Vec<Part>,
    size: usize,
    /// Those of a batch that was cut are shared by its parts.
    pub(super) permits: Vec<Arc<Permits>>,
}

impl Gatherer {
    /// Joins batches as a queue's settings say, if they say so.
    pub(super) fn new(config: &super::Config) -> Option<Self> {
        let settings = config.batch.clone()?;
        let sizer = settings.sizer(config.sizer);
        Some(Self { settings, sizer, filling: Gathered::default(), deadline: Instant::now() })
    }

    /// Adds a batch of the queue, and returns those that are large enough now.
    pub(super) fn add(&mut self, held: Held) -> Vec<Gathered> {
        if self.filling.is_empty() {
            self.begin();
        }
        let Held { content, permits, spans, bytes } = held;
        self.filling.size += if self.sizer == Sizer::Items { spans } else { bytes };
        self.filling.permits.push(Arc::new(permits));
        match content {
            Content::Memory(batch) => self.filling.memory.append(batch),
            Content::Disk(parts) => self.filling.disk.extend(parts),
        }
        let mut ready = Vec::new();
        // What is on disk is cut when it has been read.
        while self.filling.disk.is_empty()
            && let Some(memory) = self.cut().front(&mut self.filling.memory)
        {
            let permits = self.filling.permits.clone();
            ready.push(Gathered { memory, permits, ..Gathered::default() });
            self.filling.size = self.cut().size(&self.filling.memory);
            self.begin();
        }
        if self.filling.size >= self.settings.min_size {
            ready.extend(self.flush());
        }
        ready
    }

    /// When the batch that is being filled goes, if there is any.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.filling.is_empty()).then_some(self.deadline)
    }

    /// Takes the batch that is being filled, however small it is.
    pub(super) fn flush(&mut self) -> Option<Gathered> {
        (!self.filling.is_empty()).then(|| std::mem::take(&mut self.filling))
    }

    /// How a batch is cut that is read from disk.
    pub(super) fn cut(&self) -> Cut {
        Cut { sizer: self.sizer, max_size: self.settings.max_size }
    }

    fn begin(&mut self) {
        self.deadline = Instant::now() + self.settings.flush_timeout;
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }
}

/// How large a batch may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    sizer: Sizer,
    /// None is too large if it is 0.
    max_size: usize,
}

impl Cut {
    /// Takes as many spans off a batch that is too large as may go at a time; `None` if it is not.
    pub(super) fn front(self, batch: &mut TraceBatch) -> Option<TraceBatch> {
        if self.max_size == 0 || self.size(batch) <= self.max_size {
            return None;
        }
        let spans = match self.sizer {
            Sizer::Items => self.max_size,
            _ => batch.spans_within(self.max_size),
        };
        // One span may be too large by itself.
        (spans < batch.span_count()).then(|| batch.split_front(spans))
    }

    fn size(self, batch: &TraceBatch) -> usize {
        match self.sizer {
            Sizer::Items => batch.span_count(),
            // Of a part of a message, the length of what is not in it does not count.
            _ => batch.own_byte_count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::time::{Instant, advance};

    use super::super::{Batch, Config, Held, Sizer};
    use super::{Gathered, Gatherer};
    use crate::exporter::queue::faulty::batch;

    fn gatherer(sizer: Sizer, min_size: usize, max_size: usize) -> Gatherer {
        let flush_timeout = Duration::from_secs(1);
        let batch = Batch { flush_timeout, sizer: Some(sizer), min_size, max_size };
        Gatherer::new(&Config { batch: Some(batch), ..Config::default() }).unwrap()
    }

    fn held(first: u128, spans: usize, room: &Arc<Semaphore>) -> Held {
        let room = Arc::clone(room).try_acquire_owned().unwrap();
        Held::new(batch(first, spans), room, None)
    }

    fn sizes(ready: &[Gathered]) -> Vec<usize> {
        ready.iter().map(|gathered| gathered.memory.span_count()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_joined_until_they_are_large_enough_and_cut_where_too_large() {
        let room = Arc::new(Semaphore::new(10));
        let mut gatherer = gatherer(Sizer::Items, 4, 6);
        assert!(gatherer.deadline().is_none() && gatherer.flush().is_none());
        assert_eq!(sizes(&gatherer.add(held(1, 3, &room))), [0; 0]);
        let begun = Instant::now();
        advance(Duration::from_millis(400)).await;
        assert_eq!(gatherer.deadline(), Some(begun + Duration::from_secs(1)));
        assert_eq!(sizes(&gatherer.add(held(4, 1, &room))), [4]);
        assert_eq!(gatherer.deadline(), None);
        // What is left over waits anew, and the room of what it came with is taken until all of it is gone.
        let ready = gatherer.add(held(5, 14, &room));
        assert_eq!(sizes(&ready), [6, 6]);
        assert_eq!(gatherer.deadline(), Some(Instant::now() + Duration::from_secs(1)));
        drop(ready);
        assert_eq!(room.available_permits(), 9);
        let ids: Vec<_> = gatherer.flush().unwrap().memory.trace_ids().collect();
        assert_eq!(ids, [17, 18]);
        assert_eq!(room.available_permits(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn sizes_in_bytes_are_those_of_the_messages() {
        let room = Arc::new(Semaphore::new(10));
        let one = batch(1, 1).byte_count();
        let mut gatherer = gatherer(Sizer::Bytes, 3 * one, 3 * one);
        assert_eq!(sizes(&gatherer.add(held(1, 1, &room))), [0; 0]);
        assert_eq!(sizes(&gatherer.add(held(2, 1, &room))), [0; 0]);
        assert_eq!(sizes(&gatherer.add(held(3, 1, &room))), [3]);
        let ready = gatherer.add(held(4, 30, &room));
        assert!(ready.len() > 5, "{:?}", sizes(&ready));
        for gathered in ready.iter().chain(&gatherer.flush()) {
            let length = gathered.memory.to_protobuf().len();
            assert!(length <= 3 * one + 8, "{length} bytes against {}", 3 * one);
        }
        // A span that is too large by itself goes by itself.
        let mut tiny = super::tests::gatherer(Sizer::Bytes, 0, 1);
        assert_eq!(sizes(&tiny.add(held(1, 3, &room))), [1, 1, 1]);
    }
}
