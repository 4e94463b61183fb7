//! A mock intake, and a collector with a small queue in front of it, as processes of their own.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use harness::intake::{
    client::{IntakeClient, Settings},
    decode::Route,
    replies::Script,
};
use reqwest::StatusCode;
use tokio::time::{sleep, timeout};

use crate::{
    exporters::{self, Case, Exporter, Language, Plan, Sender, Sending},
    program::Program,
    reference::Reference,
};

/// Shared by the collector and the intake, which refuses any other.
const API_KEY: (&str, &str) = ("DD_API_KEY", "0123456789abcdef0123456789abcdef");
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The service of the spans that fill the queue.
const FILLER: &str = "filler";

/// Defaults everywhere but for a queue that is full soon.
const CONFIG: &str = "yaml:{
receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0'}}}},
processors: {batch: {}},
exporters: {datadog: {
  api: {key: '${env:DD_API_KEY}'}, hostname: senders, host_metadata: {enabled: false},
  metrics: {endpoint: '${env:INTAKE_URL}'}, traces: {endpoint: '${env:INTAKE_URL}'},
  sending_queue: {queue_size: 1, num_consumers: 1}}},
extensions: {trace_ledger: {endpoint: '127.0.0.1:0'}},
service: {extensions: [trace_ledger],
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]}},
  pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [datadog]}}}}";

/// How many requests are to fill the queue of the reference, if it takes them all.
const MOST_FILLERS: u64 = 200;
/// After which time without an answer the reference holds a request.
const IS_HELD: Duration = Duration::from_secs(2);

/// Collector that spans are sent to.
pub(crate) enum Subject<'a> {
    /// Ours, with settings that are laid upon its config.
    Ours(&'a [&'a str]),
    /// The reference, with one of its exporters.
    Reference(&'a Path, &'a str),
}

enum Collector {
    Ours(Program),
    Reference(Reference),
}

impl Collector {
    fn url(&self, port: &str) -> String {
        match self {
            Self::Ours(program) => program.url(port),
            Self::Reference(reference) => reference.url(port),
        }
    }
}

/// Both, and what the intake has.
pub(crate) struct System {
    intake: Program,
    collector: Collector,
    captured: IntakeClient,
    http: reqwest::Client,
}

impl System {
    /// Starts an intake and our collector, with its defaults.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(&Subject::Ours(&[])).await
    }

    /// Starts an intake and a collector.
    pub(crate) async fn start_with(subject: &Subject<'_>) -> anyhow::Result<Self> {
        let intake = Program::start("intake", &["--listen", "127.0.0.1:0"], &[API_KEY]).await;
        let url = intake.url("http");
        let collector = match subject {
            Subject::Ours(settings) => {
                let mut args = vec!["--config", CONFIG];
                args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
                let variables = [API_KEY, ("INTAKE_URL", url.as_str())];
                Collector::Ours(Program::start("collector", &args, &variables).await)
            }
            Subject::Reference(path, exporter) => {
                Collector::Reference(Reference::start(path, exporter, &url, API_KEY.1).await?)
            }
        };
        let captured = IntakeClient::connect(&url, Settings::default()).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { intake, collector, captured, http })
    }

    fn case(&self, exporter: Exporter) -> Case {
        let port = if exporter.is_grpc() { "otlp-grpc" } else { "otlp-http" };
        Case {
            name: service(exporter),
            protocol: exporter.protocol.to_owned(),
            endpoint: self.collector.url(port),
        }
    }

    /// Has the intake answer 503 from now on, and fills the queue, until senders are held.
    pub(crate) async fn begin_outage(&self) -> anyhow::Result<()> {
        for route in Route::OF_SPANS {
            let script = Script { path: route.path().to_owned(), ..Script::status(503) };
            self.captured.script_reply(&script).await?;
        }
        if let Collector::Reference(_) = self.collector {
            return self.fill_reference().await;
        }
        let begun = Instant::now();
        for number in 1u64.. {
            let one = tokio::spawn(self.fill(number));
            while !one.is_finished() {
                if self.held().await? > 0 {
                    return Ok(());
                }
                ensure!(begun.elapsed() < PATIENCE, "the queue is not full within {PATIENCE:?}");
                sleep(Duration::from_millis(5)).await;
            }
            one.await??;
        }
        bail!("the queue was never full")
    }

    /// Sends requests until one is not taken, or there were many.
    async fn fill_reference(&self) -> anyhow::Result<()> {
        for number in 1..=MOST_FILLERS {
            match timeout(IS_HELD, self.fill(number)).await {
                Ok(Ok(status)) if status.is_success() => {}
                _ => break,
            }
        }
        Ok(())
    }

    fn fill(&self, number: u64) -> impl Future<Output = anyhow::Result<StatusCode>> + use<> {
        let span = serde_json::json!({
            "traceId": format!("{number:032x}"), "spanId": format!("{number:016x}"), "name": FILLER,
        });
        let service =
            serde_json::json!({ "key": "service.name", "value": { "stringValue": FILLER } });
        let body = serde_json::json!({ "resourceSpans": [{
            "resource": { "attributes": [service] }, "scopeSpans": [{ "spans": [span] }],
        }] });
        let post = self.http.post(format!("{}/v1/traces", self.collector.url("otlp-http")));
        let post = post.json(&body).send();
        async move {
            let answer = post.await.context("a request that is to fill the queue")?;
            Ok(answer.status())
        }
    }

    /// Has the collector refuse the next request, and give a delay of 1 s.
    pub(crate) async fn refuse_next(&self) -> anyhow::Result<()> {
        let url = self.collector.url("ledger");
        let script =
            self.http.post(format!("{url}/debug/replies?status=503&retry_after=1s&next=1"));
        script.send().await?.error_for_status().map(drop).context("scripting the collector")
    }

    /// Has the intake take all again.
    pub(crate) async fn end_outage(&self) -> anyhow::Result<()> {
        Ok(self.captured.clear_replies().await?)
    }

    /// How many requests were held so far.
    pub(crate) async fn held(&self) -> anyhow::Result<u64> {
        Ok(self.metric("otelcol_processor_held_requests").await?
            + self.metric("otelcol_exporter_held_requests").await?)
    }

    /// How many requests were refused so far.
    pub(crate) async fn refused(&self) -> anyhow::Result<u64> {
        self.metric("otelcol_receiver_refused_requests").await
    }

    async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let url = format!("{}/metrics", self.collector.url("metrics"));
        let text = self.http.get(url).send().await?.text().await?;
        let series = text.lines().filter_map(|line| line.strip_prefix(name));
        let series = series.map(|rest| rest.strip_prefix("_total").unwrap_or(rest));
        let series = series.filter(|rest| rest.starts_with(['{', ' ']));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// Waits until so many spans of each of these have arrived, or for as long as is waited for anything: what is missing is reported by
    /// who counts them.
    pub(crate) async fn until_all_of(
        &self,
        exporters: impl IntoIterator<Item = Exporter>,
        spans: u32,
    ) {
        let begun = Instant::now();
        let exporters: Vec<_> = exporters.into_iter().collect();
        let lacks = |captured: BTreeMap<Exporter, u32>| {
            exporters.iter().any(|exporter| captured[exporter] < spans)
        };
        while lacks(self.captured()) && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !holds().await? {
            ensure!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How many spans of each exporter the intake has captured.
    pub(crate) fn captured(&self) -> BTreeMap<Exporter, u32> {
        count(&self.captured)
    }

    /// Ends both; what the collector holds is sent first. Returns what was captured then.
    pub(crate) async fn stop(self) -> anyhow::Result<BTreeMap<Exporter, u32>> {
        match self.collector {
            Collector::Ours(program) => program.stop().await,
            Collector::Reference(reference) => reference.stop().await?,
        }
        self.captured.drain(PATIENCE).await?;
        let counts = count(&self.captured);
        self.intake.stop().await;
        Ok(counts)
    }
}

fn count(intake: &IntakeClient) -> BTreeMap<Exporter, u32> {
    let mut counts: BTreeMap<Exporter, u32> =
        exporters::ALL.into_iter().map(|exporter| (exporter, 0)).collect();
    let traces = intake.trace_ids().into_iter().filter_map(|id| intake.trace(id));
    for span in traces.flat_map(|trace| trace.spans) {
        let of = exporters::ALL.into_iter().find(|one| service(*one) == span.service);
        if let Some(count) = of.and_then(|exporter| counts.get_mut(&exporter)) {
            *count += 1;
        }
    }
    counts
}

/// Starts the sending programs of all languages, each exporter pointed at the collector that is chosen for it.
pub(crate) async fn start_senders<'a>(
    senders: &BTreeMap<Language, Sender>,
    of: impl Fn(Exporter) -> &'a System,
    spans: u32,
    seconds: f64,
) -> anyhow::Result<Vec<Sending>> {
    let mut sendings = Vec::new();
    for (language, sender) in senders {
        let of_it = exporters::ALL.into_iter().filter(|one| one.language == *language);
        let cases = of_it.map(|exporter| of(exporter).case(exporter)).collect();
        sendings.push(sender.start(&Plan { cases, spans, seconds }).await?);
    }
    Ok(sendings)
}

/// The service name of an exporter's spans, as Datadog normalizes it.
fn service(exporter: Exporter) -> String {
    let language = exporter.language.name().to_lowercase();
    format!("{language}-{}", exporter.protocol.replace('/', "-"))
}
