//! Looks for traces in Datadog until they are whole or their time is over.
//!
//! A task of its own asks, as often as the budget lets it; its answers are kept by trace. An answer is a picture of that moment,
//! so it takes the place of the one before, and a trace counts as quiet only once a later look has shown the same.
//!
//! Something that is missing is no proof that it did not arrive: it may be on its way. It is one once a span of the same service
//! that began *after* the request has been seen, which is what a sentinel is for elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

pub use self::looked::Found;
use self::looked::{Looked, Proof};
use super::{
    ApiError, Client, Endpoint,
    answer::Spans,
    budget::Budget,
    client::{Response, Search, query_of, query_of_services},
};
use crate::{
    case::{Capability, Case, DRIVER_SERVICE},
    evidence::EvidenceSource,
    trace::{Span, Trace, TraceId, unix_nanos},
};

mod looked;

/// So many traces that are due at once are searched for together, instead of one by one.
const MANY: usize = 8;
/// Most traces in one search.
const IN_ONE_SEARCH: usize = 25;
/// Most pages of one search.
const MAX_PAGES: usize = 20;
/// Shortest time between two looks at the same trace.
const LEAST_WAIT: Duration = Duration::from_secs(2);
/// Longest time between two looks at the same trace.
const MOST_WAIT: Duration = Duration::from_secs(30);
/// How far before a request and after it its spans are searched for: clocks differ.
const SLACK: Duration = Duration::from_secs(60);
/// How long every ingested span can be searched for; later only those that are retained.
const LIVE: Duration = Duration::from_secs(15 * 60);

/// Datadog as a source of evidence. Dropping it ends the looking.
pub struct DatadogSource {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    client: Client,
    patience: Duration,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Something else is to be looked for.
    wake: Notify,
}

#[derive(Default)]
struct State {
    looked_for: BTreeMap<TraceId, Looked>,
    budget: Budget,
    traces: Way,
    spans: Way,
}

/// The way to query, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Way {
    #[default]
    Open,
    /// These keys, or this site, do not have it.
    Closed(ApiError),
}

/// The next step.
enum Step {
    Trace(TraceId),
    Search(Vec<TraceId>),
    /// Looks for later spans of the services of this trace, and for traces of theirs that hang apart.
    Witness(TraceId),
    Wait(Option<Duration>),
}

impl DatadogSource {
    /// Creates a source that polls for each trace it is given; `patience` is how long Datadog may take to show a
    /// span.
    pub fn new(client: Client, patience: Duration) -> Self {
        let shared = Arc::new(Shared {
            client,
            patience,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            wake: Notify::new(),
        });
        let task = tokio::spawn(look(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Polls for a trace that a third party created within these times.
    pub fn look_for_made(&self, id: TraceId, from: SystemTime, to: SystemTime) {
        let (from, to) = (unix_nanos(from), unix_nanos(to));
        self.begin(id, Looked::new(Proof::Age, from, to, BTreeSet::new()));
    }

    fn begin(&self, id: TraceId, looked: Looked) {
        self.shared.state().looked_for.insert(id, looked);
        self.shared.wake.notify_one();
    }

    /// Returns how a trace was found in Datadog; `None` if it was not found.
    pub fn found(&self, id: TraceId) -> Option<Found> {
        self.shared.state().looked_for.get(&id)?.found()
    }
}

impl Drop for DatadogSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl EvidenceSource for DatadogSource {
    fn name(&self) -> &'static str {
        "Datadog"
    }

    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn look_for(&self, case: &Case, services: &BTreeSet<String>) {
        let services = services.iter().map(|name| name.to_lowercase()).collect();
        let looked = Looked::new(Proof::LaterSpans, case.sent_at, case.ended_at, services);
        self.begin(case.trace_id, looked);
    }

    fn stop_looking(&self, id: TraceId) {
        if let Some(looked) = self.shared.state().looked_for.get_mut(&id) {
            looked.over = true;
        }
    }

    fn forget(&self) {
        self.shared.state().looked_for.retain(|_, looked| !looked.over);
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.shared.patience)
    }

    fn is_quiet(&self, id: TraceId) -> bool {
        self.shared.state().looked_for.get(&id).is_some_and(|looked| looked.confirmed)
    }

    fn is_over(&self) -> bool {
        let state = self.shared.state();
        state.traces != Way::Open && state.spans != Way::Open
    }

    fn unsettled(&self, id: TraceId) -> Option<String> {
        let state = self.shared.state();
        if let (Way::Closed(traces), Way::Closed(spans)) = (&state.traces, &state.spans) {
            return Some(format!("Datadog cannot be asked. {traces}. {spans}"));
        }
        match state.looked_for.get(&id) {
            None => Some("Datadog was not asked for it".to_owned()),
            Some(looked) => looked.unsettled(self.shared.patience, self.shared.client.host()),
        }
    }

    fn trace_ids(&self) -> Vec<TraceId> {
        let state = self.shared.state();
        let found = state.looked_for.iter().filter(|(_, looked)| !looked.spans.is_empty());
        found.map(|(id, _)| *id).collect()
    }

    fn trace(&self, id: TraceId) -> Option<Trace> {
        self.shared.state().looked_for.get(&id)?.trace()
    }

    fn progress(&self, id: TraceId) -> Option<(usize, StdInstant)> {
        let state = self.shared.state();
        let looked = state.looked_for.get(&id)?;
        Some((looked.spans.len(), looked.grew_at?))
    }

    fn unclaimed(&self, claimed: &HashSet<TraceId>) -> Vec<Trace> {
        let state = self.shared.state();
        let mut found: BTreeMap<TraceId, Trace> = BTreeMap::new();
        for looked in state.looked_for.values() {
            found.extend(looked.apart.iter().map(|trace| (trace.id, trace.clone())));
        }
        // A trace that is requested by its id is returned whole.
        let own = state.looked_for.values().filter_map(Looked::trace);
        found.extend(own.map(|trace| (trace.id, trace)));
        found.retain(|id, _| !claimed.contains(id));
        found.into_values().collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    fn gaps(&self) -> Vec<String> {
        Vec::new()
    }

    async fn drain(&self, _limit: Duration) -> Result<(), String> {
        Ok(())
    }

    fn counted(&self) -> String {
        let state = self.shared.state();
        let spans: usize = state.looked_for.values().map(|looked| looked.spans.len()).sum();
        format!(
            "Datadog showed {spans} spans of {} traces that were looked for",
            state.looked_for.len()
        )
    }

    fn usage(&self) -> Option<String> {
        let state = self.shared.state();
        let mut reported = format!(
            "Datadog ({}): {}",
            self.shared.client.host(),
            state.budget.describe(Instant::now())
        );
        for (way, instead) in [(&state.traces, Endpoint::Spans), (&state.spans, Endpoint::Trace)] {
            if let Way::Closed(error) = way {
                reported.push_str(&format!(". Asked by the {instead} alone, since {error}"));
            }
        }
        Some(reported)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes those who wait for evidence.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.send_modify(|changes| *changes += 1);
        done
    }

    /// How long to wait until the next look at a trace of this age, so that neither it nor the budget runs out.
    fn next_look(
        &self,
        state: &State,
        age: Duration,
        endpoint: Endpoint,
        now: Instant,
    ) -> Duration {
        let least = LEAST_WAIT.min(self.patience / 10);
        let pending = state.looked_for.values().filter(|looked| !looked.over).count();
        (age / 2).clamp(least, MOST_WAIT).max(state.budget.spacing(endpoint, pending, now))
    }
}

impl State {
    /// Returns the next step, and takes it out of the budget.
    fn step(&mut self, patience: Duration, now: Instant) -> Step {
        let due = |looked: &Looked| !looked.over && looked.next <= now;
        let mut ids: Vec<TraceId> =
            self.looked_for.iter().filter(|(_, looked)| due(looked)).map(|(id, _)| *id).collect();
        ids.sort_by_key(|id| self.looked_for[id].next);
        let Some(first) = ids.first().copied() else { return self.idle(patience, now) };
        let open = |way: &Way| *way == Way::Open;
        // A trace that is not found by its id again and again may be found by its spans.
        let by_spans = ids.len() > MANY || self.looked_for[&first].is_to_be_searched();
        let mut ways = vec![Endpoint::Trace, Endpoint::Spans];
        if by_spans {
            ways.reverse();
        }
        ways.retain(|endpoint| match endpoint {
            Endpoint::Trace => open(&self.traces),
            Endpoint::Spans => open(&self.spans),
        });
        let mut wait: Option<Duration> = None;
        for endpoint in ways {
            match self.budget.take(endpoint, now) {
                Ok(()) if endpoint == Endpoint::Trace => return Step::Trace(first),
                Ok(()) => {
                    ids.truncate(IN_ONE_SEARCH);
                    return Step::Search(ids);
                }
                Err(opens_in) => wait = Some(wait.map_or(opens_in, |wait| wait.min(opens_in))),
            }
        }
        if let Some(wait) = wait {
            let reported = format!(
                "the rate limit of Datadog's API is used up ({}); it opens again in {}",
                self.budget.describe(now),
                humantime::format_duration(Duration::from_secs(wait.as_secs().max(1)))
            );
            for looked in self.looked_for.values_mut().filter(|looked| due(looked)) {
                looked.trouble = Some(reported.clone());
            }
        }
        // Where no way is open there is nothing to wait for but another request.
        Step::Wait(wait)
    }

    /// When no trace is due: looks for witnesses, else waits until one is.
    fn idle(&mut self, patience: Duration, now: Instant) -> Step {
        let spans_open = self.spans == Way::Open;
        let wanting = |looked: &Looked| spans_open && looked.wants_witnesses(patience, now);
        let witness = self
            .looked_for
            .iter()
            .find(|(_, looked)| wanting(looked) && looked.next_witness <= now);
        if let Some((id, _)) = witness {
            let id = *id;
            match self.budget.take(Endpoint::Spans, now) {
                Ok(()) => return Step::Witness(id),
                Err(opens_in) => {
                    if let Some(looked) = self.looked_for.get_mut(&id) {
                        looked.next_witness = now + opens_in;
                    }
                }
            }
        }
        let pending = self.looked_for.values().filter(|looked| !looked.over);
        let times = pending.flat_map(|looked| {
            let witness = (spans_open && looked.lacks_witnesses())
                .then(|| looked.next_witness.max(looked.since + patience / 2));
            [Some(looked.next), witness].into_iter().flatten()
        });
        Step::Wait(
            times
                .min()
                .map(|next| next.saturating_duration_since(now).max(Duration::from_millis(1))),
        )
    }
}

/// Asks until the task is aborted.
async fn look(shared: Arc<Shared>) {
    loop {
        let step = shared.state().step(shared.patience, Instant::now());
        match step {
            Step::Trace(id) => ask_trace(&shared, id).await,
            Step::Search(ids) => search_traces(&shared, &ids).await,
            Step::Witness(id) => search_witnesses(&shared, id).await,
            Step::Wait(wait) => {
                let woken = shared.wake.notified();
                match wait {
                    // Whoever waits is to know of a limit that is used up, and of a way that is closed.
                    Some(wait) => {
                        let _woken_or_time = tokio::time::timeout(wait, woken).await;
                    }
                    None => {
                        shared.change(|_| ());
                        woken.await;
                    }
                }
            }
        }
    }
}

async fn ask_trace(shared: &Shared, id: TraceId) {
    let Response { limit, result } = shared.client.trace(id).await;
    let now = Instant::now();
    shared.change(|state| {
        state.budget.learn(Endpoint::Trace, limit, now);
        state.heed(Endpoint::Trace, result.as_ref().err(), now);
        let Some(age) = state.looked_for.get(&id).map(|looked| now - looked.since) else { return };
        let next = now + shared.next_look(state, age, Endpoint::Trace, now);
        let again_now = state.traces != Way::Open;
        let Some(looked) = state.looked_for.get_mut(&id) else { return };
        looked.next = if again_now { now } else { next };
        match result {
            Ok(spans) => looked.show(spans, Endpoint::Trace),
            Err(ApiError::NotFound { .. }) => looked.show_nothing(),
            Err(error) => looked.trouble = Some(error.to_string()),
        }
    });
}

async fn search_traces(shared: &Shared, ids: &[TraceId]) {
    let (from, to) = {
        let state = shared.state();
        let looked = || ids.iter().filter_map(|id| state.looked_for.get(id));
        let from = looked().map(|looked| looked.from).min().unwrap_or(0);
        (from, looked().filter_map(Looked::until).max())
    };
    let from = time(from) - SLACK;
    let to = to.map_or_else(SystemTime::now, |to| time(to) + SLACK);
    let result = search(shared, &query_of(ids), (from, to), ids).await;
    let now = Instant::now();
    shared.change(|state| {
        let mut by_id: BTreeMap<u64, Vec<Span>> = BTreeMap::new();
        let (partial, error) = match result {
            Ok(spans) => {
                for span in spans.spans {
                    by_id.entry(span.datadog_trace_id).or_default().push(span);
                }
                (spans.partial, None)
            }
            Err(error) => (Vec::new(), Some(error)),
        };
        let again_now = state.spans != Way::Open;
        for id in ids {
            let Some(age) = state.looked_for.get(id).map(|looked| now - looked.since) else {
                continue;
            };
            let next = now + shared.next_look(state, age, Endpoint::Spans, now);
            let Some(looked) = state.looked_for.get_mut(id) else { continue };
            looked.next = if again_now { now } else { next };
            match (&error, by_id.remove(&id.low())) {
                (Some(error), _) => looked.trouble = Some(error.to_string()),
                (None, Some(spans)) => {
                    let spans = Spans { spans, partial: partial.clone(), next: None };
                    looked.show(spans, Endpoint::Spans);
                }
                (None, None) if partial.is_empty() => looked.show_nothing(),
                (None, None) => looked.trouble = Some(partial.join("; ")),
            }
        }
    });
}

/// All pages of a search; the first one is out of the budget already.
async fn search(
    shared: &Shared,
    query: &str,
    (from, to): (SystemTime, SystemTime),
    traces: &[TraceId],
) -> Result<Spans, ApiError> {
    let mut all = Spans::default();
    let mut cursor: Option<String> = None;
    for page in 0.. {
        if page > 0
            && let Err(opens_in) = shared.state().budget.take(Endpoint::Spans, Instant::now())
        {
            let wait = humantime::format_duration(Duration::from_secs(opens_in.as_secs()));
            all.partial.push(format!("the rate limit of the spans search is used up after {page} pages; it opens again in {wait}"));
            break;
        }
        let asked = Search { query, from, to, cursor: cursor.as_deref(), traces };
        let Response { limit, result } = shared.client.search(&asked).await;
        let now = Instant::now();
        {
            let mut state = shared.state();
            state.budget.learn(Endpoint::Spans, limit, now);
            state.heed(Endpoint::Spans, result.as_ref().err(), now);
        }
        let reported = result?;
        all.spans.extend(reported.spans);
        all.partial.extend(reported.partial);
        cursor = reported.next;
        if cursor.is_none() {
            break;
        }
        if page + 1 == MAX_PAGES {
            all.partial
                .push(format!("only the first {MAX_PAGES} pages of the spans search were read"));
            break;
        }
    }
    // A page may begin with what the one before ended with.
    let mut seen = HashSet::new();
    all.spans.retain(|span| seen.insert((span.datadog_trace_id, span.id)));
    Ok(all)
}

/// Looks for spans of a trace's services that began after it: then what is missing of it did not arrive. Those that began while it
/// was in progress, in traces of their own, may be what is missing.
async fn search_witnesses(shared: &Shared, id: TraceId) {
    let (services, from, until) = {
        let state = shared.state();
        let Some(looked) = state.looked_for.get(&id) else { return };
        (looked.services.clone(), looked.from, looked.ended_at)
    };
    let query = query_of_services(services.iter().map(String::as_str));
    let asked = Search {
        query: &query,
        from: time(from) - Duration::from_secs(1),
        to: SystemTime::now(),
        cursor: None,
        traces: &[],
    };
    // One page: on a busy system it holds enough, and the budget is small.
    let Response { limit, result } = shared.client.search(&asked).await;
    let now = Instant::now();
    shared.change(|state| {
        state.budget.learn(Endpoint::Spans, limit, now);
        state.heed(Endpoint::Spans, result.as_ref().err(), now);
        let Some(looked) = state.looked_for.get_mut(&id) else { return };
        looked.next_witness = now + (shared.patience / 8).max(LEAST_WAIT.min(shared.patience / 10));
        match result {
            Err(error) => looked.witness_trouble = Some(error.to_string()),
            Ok(found) => {
                looked.witness_trouble = found.partial.first().cloned();
                for span in &found.spans {
                    if span.start > until && span.datadog_trace_id != id.low() {
                        looked.witnesses.insert(span.service.clone());
                    }
                }
                let mut apart: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
                for span in found.spans {
                    let other = span.datadog_trace_id != id.low() && span.service != DRIVER_SERVICE;
                    if other && span.start <= until {
                        apart.entry(span.trace_id).or_default().push(span);
                    }
                }
                looked.apart = apart.into_iter().map(|(id, spans)| Trace::new(id, spans)).collect();
            }
        }
    });
}

impl State {
    /// Closes a way that is refused, and waits where it is said to.
    fn heed(&mut self, endpoint: Endpoint, error: Option<&ApiError>, now: Instant) {
        let way = match endpoint {
            Endpoint::Trace => &mut self.traces,
            Endpoint::Spans => &mut self.spans,
        };
        match error {
            Some(error @ ApiError::Refused { .. }) => *way = Way::Closed(error.clone()),
            // Without the route, the search itself is not found; of a trace, 404 means that there is none yet.
            Some(error @ ApiError::NotFound { endpoint: Endpoint::Spans, .. }) => {
                *way = Way::Closed(error.clone());
            }
            Some(error @ ApiError::Status { status: 400..=499, .. }) => {
                *way = Way::Closed(error.clone())
            }
            Some(ApiError::RateLimited { wait, .. }) => self.budget.close(endpoint, *wait, now),
            _ => {}
        }
    }
}

fn time(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests;
