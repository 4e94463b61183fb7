//! The kind of a YAML file by its outermost keys, for messages about one that stands where another is expected.

use super::outline::Outline;

/// Kind of a file that people have beside their services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A scenario of this program.
    Scenario,
    /// A system file of this program.
    System,
    /// A file of Docker Compose.
    Compose,
    /// A manifest of Kubernetes.
    Manifest,
    /// A config of OpenTelemetry's collector.
    CollectorConfig,
}

impl FileKind {
    /// Returns the kind in words, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scenario => "a scenario",
            Self::System => "a system file",
            Self::Compose => "a file of Docker Compose",
            Self::Manifest => "a manifest of Kubernetes",
            Self::CollectorConfig => "a collector's config",
        }
    }
}

/// Returns the kind of a file by its outermost keys; `None` where they fit none, or several.
pub fn kind_of(text: &str) -> Option<FileKind> {
    let outline = Outline::of(text)?;
    let keys = outline.keys();
    let has = |key: &str| keys.contains(&key);
    match () {
        () if has("workloads") && !has("requests") => Some(FileKind::System),
        () if has("requests") && !has("workloads") => Some(FileKind::Scenario),
        () if has("workloads") || has("requests") => None,
        () if has("apiVersion") && has("kind") => Some(FileKind::Manifest),
        () if has("receivers") || has("exporters") => Some(FileKind::CollectorConfig),
        () if has("services") && !["entry", "description", "expect"].into_iter().any(has) => {
            Some(FileKind::Compose)
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_outermost_keys() {
        for (text, kind) in [
            ("name: x\nrequests: []\n", Some(FileKind::Scenario)),
            ("entry: x\nworkloads: []\n", Some(FileKind::System)),
            ("version: '3'\nservices: { a: { image: x } }\n", Some(FileKind::Compose)),
            ("apiVersion: v1\nkind: Service\n", Some(FileKind::Manifest)),
            ("receivers: {}\nservice: {}\n", Some(FileKind::CollectorConfig)),
            ("name: x\nexpect: { services: [a] }\n", None),
            ("entry: x\nservices: []\n", None),
            ("name: x\ndescription: y\nservices: [a]\n", None),
            ("requests: []\nworkloads: []\n", None),
            ("- requests\n", None),
        ] {
            assert_eq!(kind_of(text), kind, "{text}");
        }
    }
}
