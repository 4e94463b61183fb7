//! Tables for people, as Markdown.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what this is for")]

use crate::run::Run;

pub(crate) fn last_word(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// A run is over.
pub(crate) fn progress(run: &Run) {
    let verdict = match run.problems.as_slice() {
        [] => "ok".into(),
        problems => problems.join("; "),
    };
    eprintln!(
        "{}, {}: {} lost of {}: {verdict}",
        run.fault.name(),
        run.subject,
        run.lost,
        run.acknowledged
    );
}

pub(crate) fn table(rate: u64, seconds: u64, queue_mib: u64, runs: &[Run]) {
    println!("{rate} spans/s, each fault for {seconds} s, queue of {queue_mib} MiB\n");
    println!(
        "| fault | subject | acknowledged | lost | arrived twice | counted as possibly twice | refused requests | unanswered requests | peak RSS (MiB) | drained in (s) | exit code |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for run in runs {
        let counted = run.counted.map_or_else(|| "–".into(), |counted| counted.to_string());
        println!(
            "| {} | {} | {} | **{}** | {} | {counted} | {} | {} | {} | {:.1} | {} |",
            run.fault.name(),
            run.subject,
            run.acknowledged,
            run.lost,
            run.doubled,
            run.refused,
            run.unanswered,
            run.peak_mib,
            run.drained_in.as_secs_f64(),
            run.exit,
        );
    }
    for run in runs.iter().filter(|run| !run.problems.is_empty()) {
        println!("\n{}, {}: {}", run.fault.name(), run.subject, run.problems.join("; "));
    }
}
