//! `--feature-gates`, by the names that the reference has for what changes a payload.

/// What the gates change; the default is what this collector does without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FeatureGates {
    /// No APM stats: `exporter.datadogexporter.DisableAPMStats`.
    pub(crate) disable_apm_stats: bool,
    /// The first version of operation and resource names: `-datadog.EnableOperationAndResourceNameV2`.
    pub(crate) first_version_names: bool,
    /// The first version of the receiver: `-datadog.EnableReceiveResourceSpansV2`.
    pub(crate) first_receiver: bool,
}

const KNOWN: [&str; 3] = [
    "exporter.datadogexporter.DisableAPMStats",
    "datadog.EnableOperationAndResourceNameV2",
    "datadog.EnableReceiveResourceSpansV2",
];

/// Gates of the reference's exporter that change nothing here, whichever way they are set: they are about metrics, or about
/// which of Go's HTTP clients sends.
const WITHOUT_EFFECT: [&str; 6] = [
    "exporter.datadogexporter.TraceExportUseCustomHTTPClient",
    "exporter.datadogexporter.metricexportserializerclient",
    "exporter.datadogexporter.metricremappingdisabled",
    "exporter.datadogexporter.DisableAllMetricRemapping",
    "exporter.datadogexporter.EnableAttributeSliceMultiTagExporting",
    "exporter.datadogexporter.InferIntervalForDeltaMetrics",
];

impl FeatureGates {
    /// Reads the flag's values: names joined by commas, each with `-` in front to switch it off.
    pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut gates = Self::default();
        let names = values.into_iter().flat_map(|value| value.split(','));
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            let (name, on) = match name.strip_prefix('-') {
                Some(name) => (name, false),
                None => (name.strip_prefix('+').unwrap_or(name), true),
            };
            match name {
                "exporter.datadogexporter.DisableAPMStats" => gates.disable_apm_stats = on,
                "datadog.EnableOperationAndResourceNameV2" => gates.first_version_names = !on,
                "datadog.EnableReceiveResourceSpansV2" => gates.first_receiver = !on,
                name if WITHOUT_EFFECT.contains(&name) => {}
                _ => {
                    let unknown = super::decode::unknown("feature gate", name, &KNOWN);
                    return Err(format!("`--feature-gates`: {unknown}"));
                }
            }
        }
        Ok(gates)
    }
}

#[cfg(test)]
mod tests {
    use super::FeatureGates;

    #[test]
    fn gates_are_switched_by_the_references_names() {
        let parse = |values: &[&str]| FeatureGates::parse(values.iter().copied());
        let on = parse(&["exporter.datadogexporter.DisableAPMStats"]).unwrap();
        assert!(on.disable_apm_stats && !on.first_version_names);
        let off = parse(&[
            "-exporter.datadogexporter.DisableAPMStats,+datadog.EnableReceiveResourceSpansV2",
            "",
        ]);
        assert_eq!(off, Ok(FeatureGates::default()));
        assert!(parse(&["-datadog.EnableOperationAndResourceNameV2"]).unwrap().first_version_names);
        assert_eq!(
            parse(&["exporter.datadogexporter.DisableAPMStat"]).unwrap_err(),
            "`--feature-gates`: unknown feature gate `exporter.datadogexporter.DisableAPMStat`; did you mean `exporter.datadogexporter.DisableAPMStats`?"
        );
        assert!(parse(&["-datadog.EnableReceiveResourceSpansV2"]).unwrap().first_receiver);
        let metrics = parse(&["exporter.datadogexporter.metricexportserializerclient"]);
        assert_eq!(metrics, Ok(FeatureGates::default()), "it is not about traces");
    }
}
