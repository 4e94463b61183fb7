//! Resource use of this process, read when it is scraped, under the Collector's names.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Distinguishes this process from others that ran here before, or run elsewhere.
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    // A random UUID (RFC 9562, version 4).
    let random: u128 = rand::random();
    let id = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
});

/// When the process began, as far as it is known here.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Begins to count the process's time.
pub(crate) fn begin() {
    LazyLock::force(&BEGUN);
}

/// The resident memory of this process, in bytes; 0 where it cannot be found out.
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// The memory that this process has of its own, in bytes: its resident memory without files and what is shared; all of its
/// resident memory where that cannot be found out.
pub(crate) fn own_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = own.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or_else(resident_bytes, |kib| kib << 10)
}

/// The process's metrics as Prometheus text; `total` says whether the names of counters end in `_total`.
pub(super) fn render(total: bool) -> String {
    let suffix = if total { "_total" } else { "" };
    let mut out = String::new();
    let mut metric = |name: &str, help: &str, kind: &str, suffix: &str, value: f64| {
        let _ = writeln!(
            out,
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n{name}{suffix} {value}"
        );
    };
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
        let help = "Total CPU user and system time in seconds.";
        metric("otelcol_process_cpu_seconds", help, "counter", suffix, cpu);
    }
    let (resident, help) = (resident_bytes(), "Total physical memory (resident set size).");
    metric("otelcol_process_memory_rss", help, "gauge", "", resident as f64);
    let help = "Uptime of the process, in seconds.";
    metric("otelcol_process_uptime", help, "counter", suffix, BEGUN.elapsed().as_secs_f64());
    let _ = writeln!(
        out,
        "# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info{{service_instance_id=\"{}\",service_name=\"{}\",service_version=\"{}\"}} 1",
        *INSTANCE,
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::{own_bytes, render, resident_bytes};

    #[test]
    fn the_process_reports_its_time_and_its_memory() {
        let value = |text: &str, name: &str| -> f64 {
            let lines = text.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            values.next().unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
        };
        super::begin();
        let text = render(true);
        assert!(value(&text, "otelcol_process_memory_rss") > 1e6, "{text}");
        assert!(value(&text, "otelcol_process_cpu_seconds_total") > 0.0, "{text}");
        assert!(value(&text, "otelcol_process_uptime_total") > 0.0, "{text}");
        assert!(value(&render(false), "otelcol_process_uptime") > 0.0);
    }

    #[test]
    fn memory_of_its_own_is_part_of_what_is_resident() {
        let before = own_bytes();
        assert!(before > 0 && before < resident_bytes(), "{before}");
        let more = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(own_bytes() > before + (32 << 20), "{} MiB are not seen", more.len() >> 20);
    }

    #[test]
    fn the_process_says_which_one_it_is() {
        let text = render(true);
        let line = text.lines().find(|line| line.starts_with("target_info{")).unwrap();
        let pattern = "^target_info\\{service_instance_id=\"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\",service_name=\"collector\",service_version=\"[0-9.]+\"\\} 1$";
        assert!(regex::Regex::new(pattern).unwrap().is_match(line), "{line}");
        assert!(render(true).contains(line), "it stays the same");
    }
}
