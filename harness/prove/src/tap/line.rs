//! One edge of a tap: each request is passed on, changed or not, and counted.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use harness_core::wire::{Passed, WireAction, WireFault};
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use libdd_trace_protobuf::pb::StatsPayload;
use prost::Message;

use super::passing::{Kind, PassError, Passing};
use crate::{
    catalogue,
    change::{Change, Delivery, On, Sites},
};

/// Longest wait for an answer of whom a request is for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Splits off whom a request is for, which stands at the beginning of its path.
pub(super) fn addressed(mut request: Request) -> Result<(String, Request), PassError> {
    let all = request.uri().path_and_query().map_or("/", |all| all.as_str()).to_owned();
    let (target, rest) = all[1..].split_once('/').unwrap_or((&all[1..], ""));
    match format!("/{rest}").parse() {
        Ok(rest) if target.contains(':') => {
            *request.uri_mut() = rest;
            Ok((target.to_owned(), request))
        }
        _ => Err(PassError::NoTarget(all)),
    }
}

/// Orders of a tap.
#[derive(Debug, Default)]
pub(super) struct Orders {
    change: Option<Change>,
    sites: Sites,
    faults: Vec<Armed>,
    counts: Counts,
}

/// How many requests of each kind passed.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    otlp: AtomicU64,
    payloads: AtomicU64,
    stats: AtomicU64,
    changed: AtomicU64,
}

#[derive(Debug)]
struct Armed {
    does: WireAction,
    next: Option<u64>,
    met: AtomicU64,
}

impl Orders {
    /// To make this change, or none, at these services.
    pub(super) fn of(change: Option<Change>, sites: Sites) -> Self {
        Self { change, sites, ..Self::default() }
    }

    /// To do what faults ask for.
    ///
    /// # Errors
    ///
    /// A breakage that the catalogue does not have, or a header that cannot be one.
    pub(super) fn from_faults(faults: Vec<WireFault>) -> Result<Self, String> {
        let mut orders = Self::default();
        for WireFault { does, next } in faults {
            match &does {
                WireAction::Breakage { name, entry, caller, at } => {
                    let breakage = catalogue::all().find(|one| one.name == *name);
                    let breakage = breakage.ok_or_else(|| format!("no breakage `{name}`"))?;
                    orders.change = breakage.how.change();
                    let [entry, caller, at] = [entry, caller, at].map(Clone::clone);
                    orders.sites = Sites { entry, caller, at };
                    continue;
                }
                WireAction::SetHeader { name, value } => {
                    name.parse::<HeaderName>().map_err(|_| format!("no header `{name}`"))?;
                    let parsed = value.parse::<HeaderValue>();
                    parsed.map_err(|_| format!("no value of a header: `{value}`"))?;
                }
                _ => {}
            }
            orders.faults.push(Armed { does, next: next.map(u64::from), met: AtomicU64::new(0) });
        }
        Ok(orders)
    }

    fn on(&self, nth: u64) -> On<'_> {
        let Sites { entry, caller, at } = &self.sites;
        On { nth, entry, caller, at }
    }

    fn note(&self) {
        self.counts.changed.fetch_add(1, Ordering::Relaxed);
    }

    /// Decides what becomes of a request, after what a change does to it.
    fn change(&self, passing: &mut Passing) -> Result<Delivery, PassError> {
        let Counts { calls, otlp, payloads, stats, .. } = &self.counts;
        let count = |of: &AtomicU64| of.fetch_add(1, Ordering::Relaxed);
        match (passing.kind(), self.change) {
            (Kind::Call, change) => {
                let nth = count(calls);
                if let Some(Change::Headers(change)) = change {
                    let before = passing.headers.clone();
                    change(&mut passing.headers, &self.on(nth));
                    if before != passing.headers {
                        self.note();
                    }
                }
                Ok(Delivery::Once)
            }
            (Kind::Otlp, change) => {
                let nth = count(otlp);
                match change {
                    Some(Change::Otlp(change)) => self.alter(passing, change, nth),
                    Some(Change::OtlpDelivery(decide)) => {
                        Ok(decide(&passing.message()?, &self.on(nth)))
                    }
                    _ => Ok(Delivery::Once),
                }
            }
            (Kind::Payload, change) => {
                let nth = count(payloads);
                match change {
                    Some(Change::Datadog(change)) => self.alter(passing, change, nth),
                    Some(Change::DatadogDelivery(decide)) => {
                        Ok(decide(&passing.message()?, &self.on(nth)))
                    }
                    _ => Ok(Delivery::Once),
                }
            }
            (Kind::Stats, Some(Change::Stats(change))) => {
                let nth = count(stats);
                self.alter_stats(passing, change, nth)
            }
            (Kind::Stats | Kind::Aside, _) => Ok(Delivery::Once),
        }
    }

    /// Changes a message of protobuf; where that changes nothing, the bytes stay as they came.
    fn alter<T: Message + Default + Clone + PartialEq>(
        &self,
        passing: &mut Passing,
        change: fn(&mut T, &On<'_>),
        nth: u64,
    ) -> Result<Delivery, PassError> {
        let mut message: T = passing.message()?;
        let before = message.clone();
        change(&mut message, &self.on(nth));
        if before != message {
            self.note();
            passing.write(message.encode_to_vec());
        }
        Ok(Delivery::Once)
    }

    fn alter_stats(
        &self,
        passing: &mut Passing,
        change: fn(&mut StatsPayload, &On<'_>),
        nth: u64,
    ) -> Result<Delivery, PassError> {
        let bytes = passing.decompressed()?;
        let decode = |error: &dyn std::fmt::Display| PassError::Decode(error.to_string());
        let mut stats: StatsPayload =
            rmp_serde::from_slice(&bytes).map_err(|error| decode(&error))?;
        let before = stats.clone();
        change(&mut stats, &self.on(nth));
        if before != stats {
            self.note();
            passing.write(rmp_serde::to_vec_named(&stats).map_err(|error| decode(&error))?);
        }
        Ok(Delivery::Once)
    }

    /// Has the faults act on a request that they strike.
    fn strike(&self, passing: &mut Passing) -> Struck {
        let mut struck = Struck::default();
        if matches!(passing.kind(), Kind::Aside | Kind::Stats) {
            return struck;
        }
        for fault in &self.faults {
            let met = fault.met.fetch_add(1, Ordering::Relaxed);
            if fault.next.is_some_and(|next| met >= next) {
                continue;
            }
            let before = passing.headers.clone();
            match &fault.does {
                WireAction::Delay(delay) => struck.delay += *delay,
                WireAction::Duplicate => struck.delivery = Some(Delivery::Twice),
                WireAction::Swallow => struck.delivery = Some(Delivery::Swallow),
                WireAction::Status(status) => {
                    let status = StatusCode::from_u16(*status);
                    struck.delivery =
                        Some(Delivery::Refuse(status.unwrap_or(StatusCode::BAD_GATEWAY)));
                }
                WireAction::DropHeader(name) => {
                    passing.headers.remove(name);
                }
                WireAction::SetHeader { name, value } => {
                    if let (Ok(name), Ok(value)) =
                        (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
                    {
                        passing.headers.insert(name, value);
                    }
                }
                WireAction::UpperCaseHeader(name) => {
                    for (_, value) in
                        passing.headers.iter_mut().filter(|(key, _)| key.as_str() == name)
                    {
                        if let Ok(upper) =
                            HeaderValue::from_bytes(&value.as_bytes().to_ascii_uppercase())
                        {
                            *value = upper;
                        }
                    }
                }
                WireAction::DoubleHeader(name) => {
                    let again = passing.headers.get(name).cloned();
                    if let (Some(again), Ok(name)) = (again, name.parse::<HeaderName>()) {
                        passing.headers.append(name, again);
                    }
                }
                WireAction::Pass | WireAction::Breakage { .. } => continue,
            }
            let is_about_headers = before != passing.headers;
            struck.is_changed |=
                is_about_headers || struck.delay > Duration::ZERO || struck.delivery.is_some();
        }
        struck
    }
}

/// Effects of faults on a request beside its headers.
#[derive(Debug, Default)]
struct Struck {
    delay: Duration,
    delivery: Option<Delivery>,
    is_changed: bool,
}

/// Passes requests on.
#[derive(Debug)]
pub(super) struct Line {
    plain: Client<HttpConnector, Body>,
    /// For those who speak HTTP/2 from the first byte on, as gRPC does.
    prior: Client<HttpConnector, Body>,
    orders: RwLock<std::sync::Arc<Orders>>,
}

impl Line {
    pub(super) fn new(orders: Orders) -> Self {
        let client = |is_http2: bool| {
            Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http()
        };
        let orders = RwLock::new(std::sync::Arc::new(orders));
        Self { plain: client(false), prior: client(true), orders }
    }

    fn orders(&self) -> std::sync::Arc<Orders> {
        std::sync::Arc::clone(&self.orders.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does this from now on, and counts anew.
    pub(super) fn obey(&self, orders: Orders) {
        *self.orders.write().unwrap_or_else(PoisonError::into_inner) = std::sync::Arc::new(orders);
    }

    /// Returns what passed since it was last given its faults.
    pub(super) fn passed(&self) -> Passed {
        let orders = self.orders();
        let Counts { calls, otlp, payloads, stats, changed } = &orders.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let passed = [calls, otlp, payloads, stats].into_iter().map(of).sum();
        Passed { passed, changed: of(changed) }
    }

    /// Passes a request on to whom it is for.
    pub(super) async fn pass(&self, target: &str, request: Request) -> Response {
        match self.try_pass(target, request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    async fn try_pass(&self, target: &str, request: Request) -> Result<Response, PassError> {
        let orders = self.orders();
        let mut passing = Passing::read(request).await?;
        let changed = orders.change(&mut passing)?;
        let struck = orders.strike(&mut passing);
        let delivery = struck.delivery.unwrap_or(changed);
        if struck.is_changed || changed != Delivery::Once {
            orders.note();
        }
        tokio::time::sleep(struck.delay).await;
        match delivery {
            Delivery::Once => {}
            Delivery::Twice => _ = self.send(target, &passing).await?,
            Delivery::Again(later) => self.send_again(target, &passing, later)?,
            Delivery::Swallow => return Ok(passing.done()),
            Delivery::Refuse(status) => return Ok(passing.refused(status)),
        }
        let mut response = self.send(target, &passing).await?;
        if let (Some(Change::Answer(change)), Kind::Call) = (orders.change, passing.kind()) {
            let status = change(response.status());
            if status != response.status() {
                orders.note();
                *response.status_mut() = status;
            }
        }
        Ok(response)
    }

    /// Sends it so much later, whatever is answered.
    fn send_again(
        &self,
        target: &str,
        passing: &Passing,
        later: Duration,
    ) -> Result<(), PassError> {
        let request = passing.request(target)?;
        let client = self.client(passing).clone();
        tokio::spawn(async move {
            tokio::time::sleep(later).await;
            if let Err(error) = client.request(request).await {
                tracing::warn!(%error, "a tap could not send a request again");
            }
        });
        Ok(())
    }

    fn client(&self, passing: &Passing) -> &Client<HttpConnector, Body> {
        if passing.version == Version::HTTP_2 { &self.prior } else { &self.plain }
    }

    async fn send(&self, target: &str, passing: &Passing) -> Result<Response, PassError> {
        let answer = self.client(passing).request(passing.request(target)?);
        let answer = tokio::time::timeout(TIMEOUT, answer).await.map_err(|_| PassError::Late)??;
        let mut response = answer.map(Body::new);
        for hop_by_hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(hop_by_hop);
        }
        *response.version_mut() = Version::default();
        Ok(response)
    }
}
