//! Tables for people, in Markdown, and lines of JSON.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the program's output")]

use crate::measure::{Cost, Latency, Plan};
use crate::subject::counterpart;

/// Describes the machine it was measured on.
pub(crate) fn environment(plan: &Plan) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let program = |is_subcommand| if is_subcommand { " collector" } else { "" };
    for (name, build) in [("ours", Some(&plan.ours)), ("before", plan.before.as_ref())] {
        let Some(build) = build else { continue };
        println!("{name}: {}{}", build.path.display(), program(build.is_subcommand));
    }
    println!(
        "{cores} cores ({}), {} spans a run, {} connections, generator and sink on the same cores",
        model.map_or("unknown", |(_, name)| name),
        plan.spans,
        plan.connections,
    );
}

/// A run has ended.
pub(crate) fn progress(json: bool, run: &Cost) {
    eprintln!(
        "{}, {} spans/request: {:.2} us/span, {:.0} spans/s, peak {:.0} MiB",
        run.subject,
        run.shape.spans_per_request,
        run.micros_per_span(),
        run.spans_per_second(),
        run.peak_mib
    );
    if json {
        let line = serde_json::json!({
            "subject": run.subject, "spans_per_request": run.shape.spans_per_request,
            "spans_per_trace": run.shape.spans_per_trace, "attributes": run.shape.attributes,
            "services": run.shape.services, "groups": run.shape.groups,
            "sent": run.sent, "arrived": run.arrived.spans, "payloads": run.arrived.payloads,
            "cpu_seconds": run.cpu_seconds, "seconds": run.seconds, "idle_mib": run.idle_mib,
            "peak_mib": run.peak_mib, "after_mib": run.after_mib, "refused": run.refused,
            "bytes": run.arrived.bytes, "stats_bytes": run.arrived.stats_bytes,
            "bytes_in_per_span": run.bytes_in_per_span,
        });
        println!("{line}");
    }
}

/// The table of costs: the median of each subject's runs; ours also as a part of the revision `before`.
pub(crate) fn cost(runs: &[Cost], before: Option<&str>) {
    let mut shapes: Vec<_> = runs.iter().map(|run| run.shape).collect();
    shapes.dedup();
    shapes.sort_by_key(|shape| shape.spans_per_request);
    shapes.dedup();
    for shape in shapes {
        let runs: Vec<_> = runs.iter().filter(|run| run.shape == shape).collect();
        let mut names: Vec<&str> = Vec::new();
        for run in &runs {
            if !names.contains(&run.subject.as_str()) {
                names.push(&run.subject);
            }
        }
        let column = |name: &str, value: fn(&Cost) -> f64| {
            median(runs.iter().filter(|run| run.subject == name).map(|run| value(run)).collect())
        };
        let base = names.iter().find(|name| name.starts_with("reference"));
        let base = base
            .map(|name| (column(name, Cost::micros_per_span), column(name, |run| run.peak_mib)));
        println!(
            "\n{} spans in a request, {:.0} bytes each:\n",
            shape.spans_per_request,
            column(names[0], |run| run.bytes_in_per_span)
        );
        let (head, line) = of_before(before);
        println!(
            "| | CPU µs/span |{head} of the reference | spans/s | idle MiB | peak MiB | of the reference | bytes sent/span | arrived | refused |"
        );
        println!("|---|--:|{line}--:|--:|--:|--:|--:|--:|--:|--:|");
        for name in &names {
            let (micros, peak) =
                (column(name, Cost::micros_per_span), column(name, |run| run.peak_mib));
            let part = |value: f64, base: f64| format!("1/{:.1}", base / value);
            println!(
                "| {name} | {micros:.2} |{} {} | {:.0} | {:.1} | {peak:.1} | {} | {:.1} | {:.2} % | {:.0} |",
                ratio(before, name, &names, micros, |name| column(name, Cost::micros_per_span)),
                base.map_or("–".into(), |(base, _)| part(micros, base)),
                column(name, Cost::spans_per_second),
                column(name, |run| run.idle_mib),
                base.map_or("–".into(), |(_, base)| part(peak, base)),
                column(name, Cost::bytes_per_span),
                column(name, |run| run.arrived.spans as f64 * 100.0 / run.sent as f64),
                column(name, |run| run.refused as f64),
            );
        }
    }
}

/// The table of latencies.
pub(crate) fn latency(runs: &[Latency]) {
    println!(
        "\nOne trace of ten spans every 37 ms, batches of at most 100 ms; from sending to the sink:\n"
    );
    println!("| | requests | lost | p50 ms | p99 ms | max ms | CPU µs/span |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for run in runs {
        println!(
            "| {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.0} |",
            run.subject, run.requests, run.lost, run.p50, run.p99, run.max, run.micros_per_span
        );
    }
}

/// The table of costs against the form of the traffic.
pub(crate) fn scale(runs: &[(String, Cost)], before: Option<&str>) {
    let (head, line) = of_before(before);
    println!("\n| | | CPU µs/span |{head} spans/s | peak MiB | bytes in/span | bytes sent/span |");
    println!("|---|---|--:|{line}--:|--:|--:|--:|");
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for (what, run) in runs {
        if !rows.contains(&(what, &run.subject)) {
            rows.push((what, &run.subject));
        }
    }
    let names: Vec<&str> = rows.iter().map(|(_, name)| *name).collect();
    for (what, name) in rows {
        let column = |name: &str, value: fn(&Cost) -> f64| {
            let of_row = runs.iter().filter(|(row, run)| row == what && run.subject == name);
            median(of_row.map(|(_, run)| value(run)).collect())
        };
        let micros = column(name, Cost::micros_per_span);
        println!(
            "| {what} | {name} | {micros:.2} |{} {:.0} | {:.1} | {:.0} | {:.1} |",
            ratio(before, name, &names, micros, |name| column(name, Cost::micros_per_span)),
            column(name, Cost::spans_per_second),
            column(name, |run| run.peak_mib),
            column(name, |run| run.bytes_in_per_span),
            column(name, Cost::bytes_per_span),
        );
    }
}

/// The head of the column with [`ratio`], and the line below it; empty without a revision.
fn of_before(before: Option<&str>) -> (String, &'static str) {
    before.map_or_else(Default::default, |before| (format!(" of {before} |"), "--:|"))
}

/// A cell that says what part of the revision's CPU time ours takes in the same settings.
fn ratio(
    before: Option<&str>,
    name: &str,
    names: &[&str],
    micros: f64,
    micros_of: impl Fn(&str) -> f64,
) -> String {
    let Some(before) = before else { return String::new() };
    let counterpart = counterpart(name, before);
    match counterpart != name && names.contains(&counterpart.as_str()) {
        true => format!(" {:.2} |", micros / micros_of(&counterpart)),
        false => " – |".into(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
