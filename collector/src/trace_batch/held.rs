//! Holds of the requests that a batch's spans came with, for those that depend on their outcome.

use std::sync::Arc;

use super::{ResourceSpans, TraceBatch};
use crate::hold::Hold;

/// The request of a resource's spans: which of its resources they are.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    hold: Arc<Hold>,
    resource: usize,
    /// How many of the resource's spans stand before those of the request.
    shift: usize,
}

/// Some spans of a request, counted without holding them: they are read again from the record of its hold.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) hold: Arc<Hold>,
    /// Which of the record's resources; all of them if there is none.
    place: Option<Cut>,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    resource: usize,
    skip: usize,
    take: usize,
}

impl Part {
    /// All spans of a record.
    pub(crate) fn whole(hold: Arc<Hold>) -> Self {
        Self { hold, place: None }
    }

    /// How many spans it has, if it is not a whole record.
    pub(crate) fn span_count(&self) -> Option<usize> {
        self.place.map(|place| place.take)
    }
}

impl TraceBatch {
    /// From now on these spans are those of `hold`'s request; the batch must be all of it.
    pub(crate) fn attach(&mut self, hold: &Arc<Hold>) {
        for (resource, spans) in self.resources.iter_mut().enumerate() {
            let hold = Arc::clone(hold);
            spans.origins.push(Origin { hold, resource, shift: spans.skip });
        }
    }

    /// Forgets the requests of other exporters.
    pub(crate) fn keep_origins(&mut self, exporter: &str) {
        for spans in &mut self.resources {
            spans.origins.retain(|origin| origin.hold.is_of(exporter));
        }
    }

    /// The requests of its spans, and how many spans each has here.
    pub(crate) fn holds(&self) -> impl Iterator<Item = (&Arc<Hold>, usize)> {
        self.resources
            .iter()
            .flat_map(|spans| spans.origins.iter().map(|origin| (&origin.hold, spans.take)))
    }

    /// Spans that ended before this time are in stats already, of a process before this one.
    pub(crate) fn counted_until(&self) -> u64 {
        self.holds().next().map_or(0, |(hold, _)| hold.counted_until)
    }

    /// The batch without its spans; `None` if they could not be read again.
    pub(crate) fn parts(&self) -> Option<Vec<Part>> {
        let part = |spans: &ResourceSpans| {
            let [Origin { hold, resource, shift }] = &*spans.origins else { return None };
            hold.record()?;
            let place = Cut { resource: *resource, skip: spans.skip - shift, take: spans.take };
            Some(Part { hold: Arc::clone(hold), place: Some(place) })
        };
        self.resources.iter().filter(|spans| spans.take > 0).map(part).collect()
    }

    /// Adds the spans of a part, which this request has.
    pub(crate) fn append_part(&mut self, part: &Part, request: &Self) {
        match part.place {
            None => {
                let mut all = request.clone();
                all.attach(&part.hold);
                self.append(all);
            }
            Some(Cut { resource, skip, take }) => {
                let Some(spans) = request.resources.get(resource) else { return };
                let hold = Arc::clone(&part.hold);
                let origins = vec![Origin { hold, resource, shift: 0 }];
                self.push(ResourceSpans { skip, take, origins, ..spans.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TraceBatch;
    use crate::hold::{Failure, Note};

    fn batch(names: &[&[&str]]) -> TraceBatch {
        let resources: Vec<_> = names
            .iter()
            .map(|names| {
                let spans: Vec<_> =
                    names.iter().map(|name| serde_json::json!({ "name": name })).collect();
                serde_json::json!({ "scopeSpans": [{ "spans": spans }] })
            })
            .collect();
        let json = serde_json::json!({ "resourceSpans": resources }).to_string();
        TraceBatch::from_json(json.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_over_when_all_its_spans_are_settled_wherever_they_went() {
        for fails in [false, true] {
            let mut request = batch(&[&["a", "b"], &["c", "d", "e"]]);
            let other = batch(&[&["x"]]);
            let note = Note::new("e".into(), request.span_count(), false, None, true);
            let (hold, answer) = note.keep();
            let mut answer = answer.unwrap();
            request.attach(&hold);
            drop(hold);
            let mut batched = other.clone();
            batched.append(request.map_spans(<[u8]>::to_vec));
            let (first, second) = (batched.split_front(4), batched);
            let refused = Failure::for_good("refused");
            let settle = |batch: &TraceBatch, failure| {
                batch.holds().for_each(|(hold, spans)| hold.settle(spans, failure));
            };
            settle(&first, fails.then_some(&refused));
            assert!(answer.try_recv().is_err(), "two spans are left");
            settle(&second, None);
            assert_eq!(answer.await.unwrap(), if fails { Err(refused) } else { Ok(()) });
        }
    }

    #[tokio::test]
    async fn a_request_that_is_forgotten_is_not_taken_for_sent() {
        let mut request = batch(&[&["a"]]);
        let (hold, answer) = Note::new("e".into(), 1, false, None, true).keep();
        request.attach(&hold);
        drop((request, hold));
        assert!(answer.unwrap().await.is_err());
    }
}
