//! Self-observation of the collector: counters under the Collector's own names, as Prometheus text, and its logs.

pub(crate) mod histogram;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use histogram::Histogram;

/// All counters and gauges of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
    histograms: Arc<Mutex<BTreeMap<&'static str, HistogramFamily>>>,
}

#[derive(Debug)]
struct HistogramFamily {
    help: &'static str,
    /// By their labels, as they are written.
    series: BTreeMap<String, Histogram>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: Kind,
    /// By their labels, as they are written.
    series: BTreeMap<String, Value>,
}

/// Source of a series' value.
#[derive(Clone)]
enum Value {
    Kept(Arc<AtomicU64>),
    /// Asked for when the series is written.
    Read(Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.now())
    }
}

impl Value {
    fn now(&self) -> u64 {
        match self {
            Self::Kept(value) => value.load(Ordering::Relaxed),
            Self::Read(read) => read(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

/// A number that goes up and down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Registry {
    /// The counter of that name and these labels; made at its first use.
    pub(crate) fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Counter {
        Counter(self.series(name, help, Kind::Counter, labels))
    }

    /// The gauge of that name and these labels; made at its first use.
    pub(crate) fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Gauge {
        Gauge(self.series(name, help, Kind::Gauge, labels))
    }

    /// Adds a gauge whose value is asked for whenever it is shown; one of the same name and labels is replaced.
    ///
    /// `read` is called while the registry is locked: it must neither block nor use the registry.
    pub(crate) fn gauge_of(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Family { help, kind: Kind::Gauge, series: BTreeMap::new() };
        let family = families.entry(name).or_insert_with(new);
        family.series.insert(written(labels), Value::Read(Arc::new(read)));
    }

    /// The histogram of that name and these labels, with buckets that end at these values; made at its first use.
    pub(crate) fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        ends: &'static [u64],
        labels: &[(&str, &str)],
    ) -> Histogram {
        let mut families = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || HistogramFamily { help, series: BTreeMap::new() };
        let family = families.entry(name).or_insert_with(new);
        let series = family.series.entry(written(labels));
        series.or_insert_with(|| Histogram::new(ends)).clone()
    }

    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &[(&str, &str)],
    ) -> Arc<AtomicU64> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert(Family { help, kind, series: BTreeMap::new() });
        let kept =
            family.series.entry(written(labels)).or_insert_with(|| Value::Kept(Arc::default()));
        match kept {
            Value::Kept(value) => Arc::clone(value),
            // Shown is what is read; what is kept beside it is not.
            Value::Read(_) => Arc::default(),
        }
    }

    /// All series as Prometheus text; `total` says whether the names of counters end in `_total`.
    pub(crate) fn render(&self, total: bool) -> String {
        let mut out = String::new();
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter() {
            let (kind, suffix) = match family.kind {
                Kind::Counter => ("counter", if total { "_total" } else { "" }),
                Kind::Gauge => ("gauge", ""),
            };
            let _ = writeln!(out, "# HELP {name}{suffix} {}", family.help);
            let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
            for (labels, value) in &family.series {
                let value = value.now();
                let _ = match labels.as_str() {
                    "" => writeln!(out, "{name}{suffix} {value}"),
                    labels => writeln!(out, "{name}{suffix}{{{labels}}} {value}"),
                };
            }
        }
        drop(families);
        let histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in histograms.iter() {
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} histogram", family.help);
            for (labels, histogram) in &family.series {
                histogram.render(&mut out, name, labels);
            }
        }
        out
    }
}

/// Labels as Prometheus text.
fn written(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (index, (key, value)) in labels.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{comma}{key}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Registry;

    #[test]
    fn series_are_written_as_prometheus_text() {
        let registry = Registry::default();
        registry.counter("a", "Help.", &[("x", "1\"\n"), ("y", "2")]).add(3);
        registry.counter("a", "Help.", &[("x", "1\"\n"), ("y", "2")]).add(4);
        registry.gauge("b", "More.", &[]).set(5);
        let text = "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"1\\\"\\n\",y=\"2\"} 7\n# HELP b More.\n# TYPE b gauge\nb 5\n";
        assert_eq!(registry.render(true), text);
        assert_eq!(registry.render(false), text.replace("a_total", "a"));
    }

    #[test]
    fn a_gauge_that_is_read_shows_what_is_so_when_it_is_asked_for() {
        let registry = Registry::default();
        let size = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&size);
        registry.gauge_of("size", "Help.", &[], move || read.load(Ordering::Relaxed));
        let text = |size: u64| format!("# HELP size Help.\n# TYPE size gauge\nsize {size}\n");
        assert_eq!(registry.render(true), text(1));
        size.store(180, Ordering::Relaxed);
        assert_eq!(registry.render(true), text(180));
    }
}
