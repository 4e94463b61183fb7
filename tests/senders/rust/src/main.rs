//! Ends spans with the official OpenTelemetry SDK, through one exporter of each kind that it is asked for, its defaults untouched.
//!
//! The first line of standard input says what is to be done, as JSON; `go` begins, `stop` has the SDK shut down, and the end of the
//! input ends the program at once.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::Deserialize;

#[derive(Deserialize)]
struct Plan {
    cases: Vec<Case>,
    spans: u32,
    seconds: f64,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    protocol: String,
    endpoint: String,
}

fn provider(case: &Case) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let exporter = match case.protocol.as_str() {
        "grpc" => SpanExporter::builder().with_tonic().with_endpoint(&case.endpoint).build()?,
        _ => {
            let endpoint = format!("{}/v1/traces", case.endpoint);
            SpanExporter::builder().with_http().with_endpoint(endpoint).build()?
        }
    };
    let resource = Resource::builder().with_service_name(case.name.clone()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

fn end_spans(tracers: &[SdkTracer], spans: u32, seconds: f64) {
    let begun = Instant::now();
    for number in 0..spans {
        let due = Duration::from_secs_f64(seconds * f64::from(number) / f64::from(spans));
        thread::sleep(due.saturating_sub(begun.elapsed()));
        for tracer in tracers {
            tracer.start("work").end();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // The connection of the exporter over gRPC lives on it; the one over HTTP blocks, and must not run on it.
    let runtime = tokio::runtime::Runtime::new()?;
    let mut lines = std::io::stdin().lines();
    let plan: Plan = serde_json::from_str(&lines.next().ok_or("there is no plan")??)?;
    let mut providers = Vec::new();
    println!("ready");
    for line in lines {
        match line?.as_str() {
            "go" => {
                // Not before, so that the timers of all batch processors begin with the spans.
                for case in &plan.cases {
                    let _entered = (case.protocol == "grpc").then(|| runtime.enter());
                    providers.push(provider(case)?);
                }
                let tracers: Vec<_> =
                    providers.iter().map(|one| one.tracer("tests/senders")).collect();
                thread::spawn(move || end_spans(&tracers, plan.spans, plan.seconds));
            }
            "stop" => {
                thread::scope(|scope| {
                    for provider in &providers {
                        scope.spawn(|| provider.shutdown());
                    }
                });
                break;
            }
            _ => {}
        }
    }
    // Not even what is done at the end of what is dropped.
    std::process::exit(0)
}
