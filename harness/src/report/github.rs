//! The report for GitHub Actions: annotations at the scenarios' files, and a summary of the step.
//!
//! Annotations are commands to the runner, which reads them from stdout. What else is written there may hold texts of spans, so the
//! runner is asked to take no commands from it.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    Reporter,
    plain::{self, count},
    text::Text,
    visible::{visible, visible_lines},
};
use crate::{
    event::Event,
    verdict::{ScenarioResult, Summary, Verdict},
};

/// Most characters of an annotation's message; GitHub shows the first lines of it.
const MAX_MESSAGE: usize = 4_000;
/// Most characters of an annotation's title.
const MAX_TITLE: usize = 200;
/// Most characters of a scenario in the summary.
const MAX_DETAILS: usize = 20_000;
/// Most bytes of the summary: GitHub takes 1 MiB of a step.
const MAX_SUMMARY: usize = 900 << 10;
/// Failing traces of a scenario that are described.
const CASES: usize = 2;

/// Escapes a text so that GitHub's runner finds no workflow commands in it.
pub fn without_commands(text: &str) -> String {
    let token = new_token();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("::stop-commands::{token}\n{text}{end}::{token}::\n")
}

/// A text that no text of a span can know.
fn new_token() -> String {
    format!("tracecheck-{:032x}", rand::random::<u128>())
}

/// The report for people, as GitHub's runner should read it: as text alone, without commands.
pub struct Log<W: Write> {
    text: Text<Vec<u8>>,
    out: W,
}

impl<W: Write> Log<W> {
    /// Writes to `out`.
    pub fn new(out: W, verbose: bool) -> Self {
        Self { text: Text::new(Vec::new(), false, verbose), out }
    }
}

impl<W: Write> Reporter for Log<W> {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        self.text.observe(event)?;
        let text = self.text.take();
        if text.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text);
        self.out.write_all(without_commands(&text).as_bytes())?;
        self.out.flush()
    }
}

/// Writes annotations to stdout, and the summary of the step, when the run is over.
#[derive(Debug)]
pub struct Annotations<W: Write> {
    out: W,
    /// The file that GitHub shows as the step's summary; `None` outside of GitHub Actions.
    summary: Option<PathBuf>,
    /// The folder that the files of annotations are relative to: the repository's.
    root: PathBuf,
}

impl<W: Write> Annotations<W> {
    /// Writes annotations to `out`, with files relative to `root`, and appends to `summary`.
    pub fn new(out: W, summary: Option<PathBuf>, root: PathBuf) -> Self {
        Self { out, summary, root }
    }
}

impl<W: Write> Reporter for Annotations<W> {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        let Event::RunFinished { summary } = event else { return Ok(()) };
        for annotation in annotations(summary, &self.root) {
            writeln!(self.out, "{annotation}")?;
        }
        self.out.flush()?;
        let Some(path) = &self.summary else { return Ok(()) };
        let appended = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(markdown(summary).as_bytes()));
        appended
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

/// A line for each scenario that did not pass, and for what is to be known of the run.
fn annotations(summary: &Summary, root: &Path) -> Vec<String> {
    let not_passed = summary
        .scenarios
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Fail | Verdict::Inconclusive));
    let of_scenarios = not_passed.map(|result| {
        let command = if result.verdict == Verdict::Fail { "error" } else { "warning" };
        let rules = plain::failing_rules(result).join(", ");
        let title = match rules.as_str() {
            "" => format!("{}: {}", result.name, result.verdict.name()),
            rules => format!("{}: {rules}", result.name),
        };
        let mut properties = Vec::new();
        if !result.file.as_os_str().is_empty() {
            let file = std::path::absolute(&result.file).unwrap_or_else(|_| result.file.clone());
            let relative = file.strip_prefix(root).unwrap_or(&file);
            properties.push(format!("file={}", property(&relative.to_string_lossy())));
            properties.push(format!("line={}", line_of(&result.file, &result.name)));
        }
        properties.push(format!("title={}", property(&visible(&title, MAX_TITLE))));
        let details = plain::details(result, CASES);
        format!("::{command} {}::{}", properties.join(","), message(&details))
    });
    let of_run = summary.undecided.iter().chain(&summary.warnings);
    let of_run = of_run.map(|text| format!("::warning title=tracecheck::{}", message(text)));
    of_scenarios.chain(of_run).collect()
}

/// The line of a scenario's file with its name, from 1.
fn line_of(file: &Path, name: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let is_name = |line: &str| {
        let value = line.strip_prefix("name:").and_then(|rest| rest.split(" #").next());
        value.is_some_and(|value| value.trim().trim_matches(['"', '\'']) == name)
    };
    text.lines().position(is_name).map_or(1, |at| at + 1)
}

/// A message as the runner reads it: in one line.
fn message(text: &str) -> String {
    let lines = visible_lines(text);
    let bounded: String = lines.chars().take(MAX_MESSAGE).collect();
    let more = lines.chars().count().saturating_sub(MAX_MESSAGE);
    let more = if more > 0 { format!("… ({more} more characters)") } else { String::new() };
    escaped(&(bounded + &more))
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property's value as the runner reads it.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// The run as Markdown.
fn markdown(summary: &Summary) -> String {
    let mut out = format!("### tracecheck: {}\n\n", summary.verdict().name());
    out.push_str(
        "| Verdict | Scenario | Traces | Spans | Time |\n| --- | --- | ---: | ---: | ---: |\n",
    );
    let mut results: Vec<&ScenarioResult> = summary.scenarios.iter().collect();
    results.sort_by_key(|result| std::cmp::Reverse(result.verdict));
    let mut left_out = 0;
    for result in &results {
        let row = format!(
            "| {} {} | {} | {} | {} | {:.2} s |\n",
            sign(result.verdict),
            result.verdict.name(),
            html(&result.name),
            result.cases.len(),
            result.spans(),
            result.took_ms as f64 / 1000.0
        );
        left_out += push(&mut out, &row);
    }
    let undecided = summary.undecided.iter().map(|text| format!("undecided: {text}"));
    let warnings = summary.warnings.iter().map(|text| format!("warning: {text}"));
    for text in undecided.chain(warnings) {
        left_out += push(&mut out, &format!("\n<pre>{}</pre>\n", html(&text)));
    }
    for result in results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Fail | Verdict::Inconclusive))
    {
        let details = plain::details(result, CASES);
        let part = format!(
            "\n<details><summary>{} {}</summary>\n<pre>{}</pre>\n</details>\n",
            sign(result.verdict),
            html(&result.name),
            html(details.trim_start_matches('\n'))
        );
        left_out += push(&mut out, &part);
    }
    if left_out > 0 {
        out.push_str(&format!(
            "\n{} left out: GitHub takes 1 MiB at most.\n",
            count(left_out, "part")
        ));
    }
    out
}

/// Adds a part where there is room for it, and returns how many were left out.
fn push(out: &mut String, part: &str) -> usize {
    if out.len() + part.len() > MAX_SUMMARY {
        return 1;
    }
    out.push_str(part);
    0
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Skipped => "⏭️",
        Verdict::Inconclusive => "❔",
        Verdict::Fail => "❌",
    }
}

/// A text as Markdown shows it between tags and in tables: as it is, however it reads.
fn html(text: &str) -> String {
    let lines = visible_lines(text);
    let mut out = String::with_capacity(lines.len());
    for letter in lines.chars().take(MAX_DETAILS) {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' => out.push_str("&#124;"),
            '`' => out.push_str("&#96;"),
            letter => out.push(letter),
        }
    }
    let more = lines.chars().count().saturating_sub(MAX_DETAILS);
    if more > 0 {
        out.push_str(&format!("… ({more} more characters)"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Failure;

    fn failed(detail: &str) -> Summary {
        let mut result = ScenarioResult::new("pay, now", "A customer pays.");
        result.verdict = Verdict::Fail;
        result.failures = vec![Failure::new("lost-span", detail)];
        let mut summary = Summary::new("run");
        summary.scenarios = vec![result];
        summary
    }

    #[test]
    fn an_annotation_is_one_line_with_the_place_of_the_scenario() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a:b.yaml");
        std::fs::write(&file, "# one\nname: 'pay, now' # the name\n").unwrap();
        let mut summary = failed("100 %\nlost");
        summary.scenarios[0].file = file;
        summary.undecided.push("a trace is nobody's".to_owned());
        let lines = annotations(&summary, dir.path());
        assert_eq!(
            lines,
            [
                "::error file=a%3Ab.yaml,line=2,title=pay%2C now%3A lost-span::      A customer pays.%0A      \
                 lost-span: 100 %25%0Alost%0A%0A      hint: `tracecheck explain lost-span` says what usually causes it",
                "::warning title=tracecheck::a trace is nobody's",
            ]
        );
    }

    #[test]
    fn texts_of_spans_are_no_commands_no_markup_and_bounded() {
        let hostile =
            format!("x\n::error::forged\r\u{1b}[31m</pre><script>|`{}", "y".repeat(50_000));
        let summary = failed(&hostile);
        let line = &annotations(&summary, Path::new("/"))[0];
        assert!(!line.contains(['\n', '\r', '\u{1b}']) && line.len() < 5_000, "{}", line.len());
        let page = markdown(&summary);
        assert!(
            !page.contains("<script>") && page.contains("&lt;/pre&gt;&lt;script&gt;&#124;&#96;")
        );
        assert!(page.len() < 30_000 && !page.contains('\u{1b}'));
        let mut log = Log::new(Vec::new(), false);
        let result = Box::new(summary.scenarios[0].clone());
        log.observe(&Event::ScenarioFinished { result }).unwrap();
        let text = String::from_utf8(log.out).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let token = first.strip_prefix("::stop-commands::").unwrap();
        assert!(rest.contains("::error::forged") && rest.ends_with(&format!("\n::{token}::\n")));
    }

    #[test]
    fn a_summary_that_is_too_long_says_what_is_left_out() {
        let mut summary = failed(&"z".repeat(30_000));
        summary.scenarios = vec![summary.scenarios[0].clone(); 300];
        let page = markdown(&summary);
        assert!(
            page.len() < 1 << 20 && page.ends_with("parts left out: GitHub takes 1 MiB at most.\n")
        );
    }
}
