//! The ledger of the whole system: how many spans each stage tells of, from the services to the intake.
//!
//! A stage that cannot tell is *unknown*, with the reason. It explains failures; it does not cause any.

use std::collections::BTreeMap;

/// The Collector's counters that are told, by what they are told as; with or without the suffix `_total`.
const COUNTERS: &[(&str, &str)] = &[
    ("otelcol_receiver_accepted_spans", "accepted"),
    ("otelcol_receiver_refused_spans", "refused"),
    ("otelcol_exporter_sent_spans", "sent"),
    ("otelcol_exporter_send_failed_spans", "failed to send"),
];

/// What a collector says of itself, in words: `accepted 12, sent 12`.
///
/// # Errors
///
/// Why it says nothing.
pub(crate) async fn collector(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let answer = async {
        let response = client.get(format!("{url}/metrics")).send().await?.error_for_status()?;
        response.text().await
    };
    let text = answer.await.map_err(|error| crate::chain_of(&error.without_url()))?;
    let told = counters(&text);
    let told: Vec<String> = told.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if told.is_empty() {
        Err("its metrics have none of the Collector's span counters".to_owned())
    } else {
        Ok(told.join(", "))
    }
}

/// The counters that matter here, each summed over its labels, from the Prometheus text format.
fn counters(text: &str) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or("");
        let name = name.strip_suffix("_total").unwrap_or(name);
        let Some((_, told)) = COUNTERS.iter().find(|(counter, _)| *counter == name) else {
            continue;
        };
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        *sums.entry(*told).or_default() += value.unwrap_or(0.0) as u64;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels_with_either_name() {
        let text = "# HELP x y\n\
            otelcol_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"grpc\"} 10\n\
            otelcol_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"http\"} 2\n\
            otelcol_exporter_sent_spans{exporter=\"datadog\"} 7\n\
            otelcol_process_uptime 3\n";
        assert_eq!(counters(text), BTreeMap::from([("accepted", 12), ("sent", 7)]));
    }
}
