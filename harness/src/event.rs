//! Events of a run as values: reporters render them and decide nothing.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    compare::Comparison,
    verdict::{ScenarioResult, Summary, Verdict},
};

/// A moment of a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// Version of this vocabulary; a reader should refuse one that it does not know.
        schema: u32,
        /// The run's id.
        run_id: String,
        /// Name of the environment.
        environment: String,
        /// Number of scenarios.
        scenarios: usize,
    },
    /// A system is ready for its scenarios.
    SystemReady {
        /// Description of the system.
        system: String,
        /// Time that the system took to start, in milliseconds.
        took_ms: u64,
        /// The scenarios that share it.
        scenarios: Vec<String>,
    },
    /// A scenario's first request is about to be sent.
    ScenarioStarted {
        /// Its name.
        name: String,
        /// Number of requests that the scenario sends.
        requests: u32,
    },
    /// One more of a scenario's cases is judged.
    CaseJudged {
        /// The scenario.
        name: String,
        /// Number of cases judged so far.
        judged: usize,
    },
    /// A scenario has its verdict.
    ScenarioFinished {
        /// The verdict and everything behind it.
        result: Box<ScenarioResult>,
    },
    /// The audit at the end changed a verdict, or what is behind it.
    VerdictRevised {
        /// The first verdict.
        from: Verdict,
        /// The new verdict and everything behind it.
        result: Box<ScenarioResult>,
    },
    /// Something the user should know.
    Warning {
        /// Text of the warning.
        text: String,
        /// The findings that the text only counts, each in words.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        more: Vec<String>,
    },
    /// Quota that a source of evidence has used, where it has one.
    Usage {
        /// Used and remaining quota, in words.
        text: String,
    },
    /// The run before was compared with one of the same scenarios.
    Compared {
        /// All that differs.
        comparison: Box<Comparison>,
    },
    /// The run is over, and everything is taken down.
    RunFinished {
        /// All of it.
        summary: Box<Summary>,
    },
}

impl Event {
    /// Creates a warning without further details.
    pub fn warning(text: impl Into<String>) -> Self {
        Self::Warning { text: text.into(), more: Vec::new() }
    }
}

/// Version of the vocabulary of [`Event`].
pub const SCHEMA: u32 = 1;

/// Returns the JSON Schema of a line of `--format json`, as pretty JSON with a final newline.
pub fn json_schema() -> String {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Event>();
    schema
        .insert("title".to_owned(), format!("A line of `--format json`, version {SCHEMA}").into());
    schema.insert("$id".to_owned(), format!("urn:tracecheck:report:{SCHEMA}").into());
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}
