//! `--feature-gates`, by the names that the reference has for what changes a payload.

/// Effects of the gates; the default is this collector's behaviour without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FeatureGates {
    /// No APM stats: `exporter.datadogexporter.DisableAPMStats`.
    pub(crate) disable_apm_stats: bool,
    /// The first version of operation and resource names: `-datadog.EnableOperationAndResourceNameV2`.
    pub(crate) first_version_names: bool,
    /// The first version of the receiver: `-datadog.EnableReceiveResourceSpansV2`.
    pub(crate) first_receiver: bool,
    /// A scope's name and version by the old convention alone: `-datadog.EnableScopeConvention`.
    pub(crate) old_scope_convention: bool,
    /// Several configs join their lists of components: `confmap.enableMergeAppendOption`.
    pub(crate) append_lists: bool,
}

const KNOWN: [&str; 5] = [
    "confmap.enableMergeAppendOption",
    "exporter.datadogexporter.DisableAPMStats",
    "datadog.EnableOperationAndResourceNameV2",
    "datadog.EnableReceiveResourceSpansV2",
    "datadog.EnableScopeConvention",
];

const METRICS: &str = "it is about metrics, and this collector handles traces only";

/// Gates of the reference that change nothing here, whichever way they are set, and why.
const WITHOUT_EFFECT: [(&str, &str); 11] = [
    ("exporter.datadogexporter.DisableAllMetricRemapping", METRICS),
    ("exporter.datadogexporter.EnableAttributeSliceMultiTagExporting", METRICS),
    ("exporter.datadogexporter.InferIntervalForDeltaMetrics", METRICS),
    (
        "exporter.datadogexporter.TraceExportUseCustomHTTPClient",
        "the exporter's HTTP settings always hold",
    ),
    ("exporter.datadogexporter.metricexportserializerclient", METRICS),
    ("exporter.datadogexporter.metricremappingdisabled", METRICS),
    ("pdata.useProtoPooling", "there is no memory pool for messages"),
    ("receiverhelper.newReceiverMetrics", "refused and failed spans are always counted separately"),
    ("service.AllowNoPipelines", "a config without a pipeline is refused all the same"),
    ("service.profilesSupport", "this collector handles traces only"),
    ("telemetry.newPipelineTelemetry", "self-metrics keep their labels"),
];

impl FeatureGates {
    /// Reads the flag's values: names joined by commas, each with `-` in front to switch it off. Gives also a line for each
    /// gate that changes nothing here.
    pub(crate) fn parse<'a>(
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<(Self, Vec<String>), String> {
        let (mut gates, mut notes) = (Self::default(), Vec::new());
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
                "datadog.EnableScopeConvention" => gates.old_scope_convention = !on,
                "confmap.enableMergeAppendOption" => gates.append_lists = on,
                _ => {
                    let known = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name);
                    if let Some((_, reason)) = known {
                        notes.push(format!(
                            "`--feature-gates`: `{name}` changes nothing here: {reason}"
                        ));
                        continue;
                    }
                    let unknown = super::decode::unknown("feature gate", name, &KNOWN);
                    return Err(format!("`--feature-gates`: {unknown}"));
                }
            }
        }
        Ok((gates, notes))
    }
}

#[cfg(test)]
mod tests {
    use super::FeatureGates;

    #[test]
    fn gates_are_switched_by_the_references_names() {
        let parse = |values: &[&str]| {
            let (gates, notes) = FeatureGates::parse(values.iter().copied())?;
            assert!(notes.is_empty(), "{notes:?}");
            Ok::<_, String>(gates)
        };
        let on = parse(&["exporter.datadogexporter.DisableAPMStats"]).unwrap();
        assert!(on.disable_apm_stats && !on.first_version_names);
        let off = parse(&[
            "-exporter.datadogexporter.DisableAPMStats,+datadog.EnableReceiveResourceSpansV2",
            "",
        ]);
        assert_eq!(off, Ok(FeatureGates::default()));
        assert!(parse(&["-datadog.EnableOperationAndResourceNameV2"]).unwrap().first_version_names);
        assert!(parse(&["confmap.enableMergeAppendOption"]).unwrap().append_lists);
        assert_eq!(
            parse(&["exporter.datadogexporter.DisableAPMStat"]).unwrap_err(),
            "`--feature-gates`: unknown feature gate `exporter.datadogexporter.DisableAPMStat`; did you mean `exporter.datadogexporter.DisableAPMStats`?"
        );
        assert!(parse(&["-datadog.EnableReceiveResourceSpansV2"]).unwrap().first_receiver);
        assert!(parse(&["-datadog.EnableScopeConvention"]).unwrap().old_scope_convention);
        assert!(!parse(&["datadog.EnableScopeConvention"]).unwrap().old_scope_convention);
    }

    #[test]
    fn gates_that_change_nothing_are_reported() {
        let values =
            ["-exporter.datadogexporter.metricexportserializerclient", "pdata.useProtoPooling"];
        let (gates, notes) = FeatureGates::parse(values).unwrap();
        assert_eq!(gates, FeatureGates::default());
        assert_eq!(
            notes,
            [
                "`--feature-gates`: `exporter.datadogexporter.metricexportserializerclient` changes nothing here: it is about metrics, and this collector handles traces only",
                "`--feature-gates`: `pdata.useProtoPooling` changes nothing here: there is no memory pool for messages",
            ]
        );
    }
}
