//! Known behaviour of the exporters by which services send, where the collector reports whom it refused: docs/senders.md has how it was
//! seen.

use crate::case::View;

/// Says what the collector knows of senders whose spans it did not accept, as the end of a sentence; `None` where it knows of none.
pub(super) fn suspects(view: View<'_>) -> Option<String> {
    let entry = view.evidence.collector.as_ref()?;
    if !entry.refused_from.is_empty() {
        let each = entry.refused_from.iter().map(|(sender, spans)| {
            let sender = Sender::of(sender);
            let habit = sender.habit().map_or_else(String::new, |habit| format!(": {habit}"));
            format!("spans to `{}` ({spans}, each attempt counted){habit}", sender.agent)
        });
        let each: Vec<String> = each.collect();
        return Some(format!("the collector refused {}", each.join("; ")));
    }
    if let Some((sender, _)) = entry.unauthenticated.first_key_value() {
        let (sender, reason) = sender.rsplit_once(": ").unwrap_or((sender, "unknown"));
        let agent = Sender::of(sender).agent;
        return Some(format!(
            "the collector refused requests of `{agent}` for their credentials ({reason}): set OTEL_EXPORTER_OTLP_HEADERS there to what `auth` of the collector's receiver asks for"
        ));
    }
    let (sender, _) = entry.wrong_port.first_key_value()?;
    let Sender { agent, by_grpc } = Sender::of(sender);
    let (speaks, port, setting) = match by_grpc {
        true => ("gRPC", "the HTTP port", "http/protobuf"),
        false => ("HTTP", "the gRPC port", "grpc"),
    };
    Some(format!(
        "likely an exporter that speaks {speaks} (`{agent}`) is pointed at {port} of the collector, as requests to it show: set OTEL_EXPORTER_OTLP_PROTOCOL={setting} there, or another port in OTEL_EXPORTER_OTLP_ENDPOINT"
    ))
}

/// A sender, as a collector's ledger names it.
struct Sender<'a> {
    agent: &'a str,
    by_grpc: bool,
}

impl<'a> Sender<'a> {
    fn of(name: &'a str) -> Self {
        match name.strip_suffix(" (grpc)") {
            Some(agent) => Self { agent, by_grpc: true },
            None => Self { agent: name.strip_suffix(" (http)").unwrap_or(name), by_grpc: false },
        }
    }

    /// Known behaviour of such an exporter when it is refused, where that loses spans.
    fn habit(&self) -> Option<&'static str> {
        let is = |part: &str| self.agent.contains(part);
        if is("OTLP-Exporter-JavaScript") && self.by_grpc {
            Some(
                "Node's exporter over gRPC does not try again, whatever the collector answers; the one over HTTP does",
            )
        } else if is("OTLP-Exporter-Rust") {
            Some(
                "Rust's exporters give a batch up after a second where no delay is given, and after a few attempts where one is",
            )
        } else if is("OTLP Exporter Go") && self.by_grpc {
            Some(
                "Go's exporter over gRPC gives a batch up after ten seconds at most, and at once at RESOURCE_EXHAUSTED without a delay",
            )
        } else if is("OTel") || is("OpenTelemetry") {
            Some("exporters give a batch up after some seconds of refusals (docs/senders.md)")
        } else {
            None
        }
    }
}
