//! Subjects of the measurement: the reference, ours, and the floor, each with its settings.

use std::path::{Path, PathBuf};

/// The feature gate of contrib's exporter that leaves APM stats to the connector.
const NO_STATS: &str = "exporter.datadogexporter.DisableAPMStats";

/// Our collector as it is now.
const OURS: &str = "ours";

/// The name of the same settings of `before`, of one that is of ours.
pub(crate) fn counterpart(name: &str, before: &str) -> String {
    name.replacen(OURS, before, 1)
}

/// A program in certain settings.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    /// Its name, if it is another revision's: with `ours` for the revision.
    settings: String,
    pub(crate) kind: Kind,
    pub(crate) compression: &'static str,
    pub(crate) stats: bool,
    /// A processor in front of `batch`, and its settings.
    processor: Option<(&'static str, &'static str)>,
}

/// Processors whose cost is measured, with settings that keep every span. `k8s_attributes` asks no cluster so: what is measured is to read
/// and to write resources.
const PROCESSORS: [(&str, &str); 7] = [
    ("attributes", "{actions: [{key: bench, value: x, action: upsert}]}"),
    ("resource_detection", "{detectors: [env, system]}"),
    ("k8s_attributes", "{passthrough: true}"),
    ("span", "{name: {to_attributes: {rules: ['^(?P<bench>[A-Z]+) '], keep_original_name: true}}}"),
    ("probabilistic_sampler", "{sampling_percentage: 100}"),
    ("groupbytrace", "{wait_duration: 100ms}"),
    (
        "tail_sampling",
        "{decision_wait: 100ms, policies: [{name: all, type: latency, latency: {threshold_ms: 0}}]}",
    ),
];

/// Which program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Reference(PathBuf),
    Ours {
        build: Build,
        /// The folder of the disk queue, if it has one.
        storage: Option<PathBuf>,
    },
    Floor,
}

/// Which build of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    WorkingTree,
    /// That of the revision which ours is compared with.
    Before,
}

impl Subject {
    /// All that can be measured; `before` is the name of the revision that ours is compared with.
    pub(crate) fn all(
        reference: Option<&Path>,
        before: Option<&str>,
        storage: Option<&Path>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut subjects = Vec::new();
        if let Some(path) = reference {
            anyhow::ensure!(path.is_file(), "there is no reference at `{}`", path.display());
            for stats in [false, true] {
                subjects.push(Self::new("reference", Kind::Reference(path.into()), "gzip", stats));
            }
        }
        let mut ours = Vec::new();
        for (compression, stats) in [("zstd", true), ("zstd", false), ("gzip", true)] {
            ours.push(Self::ours(OURS, None, compression, stats));
        }
        if let Some(storage) = storage {
            let storage = std::path::absolute(storage)?;
            ours.push(Self::ours("ours on disk", Some(storage), "zstd", true));
        }
        for subject in ours {
            // One behind the other, so that what else the machine does meets both alike.
            subjects.extend(before.map(|name| subject.of_before(name)));
            subjects.push(subject);
        }
        for compression in ["zstd", "gzip"] {
            subjects.push(Self::new("floor", Kind::Floor, compression, false));
        }
        Ok(subjects)
    }

    /// Ours without and with each processor.
    pub(crate) fn processors() -> Vec<Self> {
        let alone = Self::ours(OURS, None, "zstd", true);
        let with = PROCESSORS.into_iter().map(|processor| Self {
            name: format!("{} with {}", alone.name, processor.0),
            processor: Some(processor),
            ..alone.clone()
        });
        std::iter::once(alone.clone()).chain(with).collect()
    }

    fn ours(what: &str, storage: Option<PathBuf>, compression: &'static str, stats: bool) -> Self {
        Self::new(what, Kind::Ours { build: Build::WorkingTree, storage }, compression, stats)
    }

    /// The same settings in the build of the revision that ours is compared with.
    fn of_before(&self, revision: &str) -> Self {
        let mut subject = Self { name: counterpart(&self.name, revision), ..self.clone() };
        if let Kind::Ours { build, storage } = &mut subject.kind {
            *build = Build::Before;
            // Formats may differ.
            *storage = storage.take().map(|folder| folder.join("before"));
        }
        subject
    }

    fn new(what: &str, kind: Kind, compression: &'static str, stats: bool) -> Self {
        let stats_name = match (&kind, stats) {
            (Kind::Floor, _) => "",
            (_, true) => ", stats",
            (_, false) => ", no stats",
        };
        let name = format!("{what}, {compression}{stats_name}");
        Self { settings: name.clone(), name, kind, compression, stats, processor: None }
    }

    /// Returns whether it makes Datadog's spans of OTLP's.
    pub(crate) fn translates(&self) -> bool {
        self.kind != Kind::Floor
    }

    /// Returns whether its name contains this, or that of the same settings of ours.
    pub(crate) fn is_called(&self, text: &str) -> bool {
        self.name.contains(text) || self.settings.contains(text)
    }

    /// The arguments of a collector.
    pub(crate) fn arguments(&self, port: u16, sink: u16, batch_timeout_ms: u64) -> Vec<String> {
        // The reference knows gzip only, and has no key for it.
        let compression = match self.kind {
            Kind::Reference(_) => String::new(),
            _ => format!("compression: {}, ", self.compression),
        };
        let (mut extension, mut uses, mut queue) = (String::new(), String::new(), String::new());
        if let Kind::Ours { storage: Some(folder), .. } = &self.kind {
            extension = format!(
                "extensions: {{file_storage: {{directory: '{}', create_directory: true}}}}, ",
                folder.display()
            );
            uses = "extensions: [file_storage], ".into();
            queue = "sending_queue: {storage: file_storage}, ".into();
        }
        let (mut processor, mut first) = (String::new(), String::new());
        if let Some((name, settings)) = self.processor {
            processor = format!("{name}: {settings}, ");
            first = format!("{name}, ");
        }
        let endpoint = format!("{{endpoint: 'http://127.0.0.1:{sink}'}}");
        let config = format!(
            "yaml:{{{extension}\
             receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}', max_recv_msg_size_mib: 64}}}}}}}}, \
             processors: {{{processor}batch: {{timeout: {batch_timeout_ms}ms, send_batch_size: 8192}}}}, \
             exporters: {{datadog: {{{compression}{queue}\
             api: {{key: '0123456789abcdef0123456789abcdef'}}, hostname: bench, \
             metrics: {endpoint}, traces: {endpoint}, logs: {endpoint}, host_metadata: {{enabled: false}}}}}}, \
             service: {{{uses}telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}, \
             pipelines: {{traces: {{receivers: [otlp], processors: [{first}batch], exporters: [datadog]}}}}}}}}"
        );
        let sign = if self.stats { "-" } else { "+" };
        vec!["--config".into(), config, format!("--feature-gates={sign}{NO_STATS}")]
    }
}
