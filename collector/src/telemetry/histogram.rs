//! How often values of each size occurred, in buckets that end at fixed values.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The ends of buckets of spans, as the Collector's `batch` processor has them.
pub(crate) const SPANS: &[u64] = &[
    10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000,
    9_000, 10_000, 20_000, 30_000, 50_000, 100_000,
];

/// The ends of buckets of bytes, as the Collector's `batch` processor has them.
pub(crate) const BYTES: &[u64] = &[
    10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000,
    9_000, 10_000, 20_000, 30_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000,
    700_000, 800_000, 900_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 6_000_000,
    7_000_000, 8_000_000, 9_000_000,
];

/// Counts values by their size.
#[derive(Debug, Clone)]
pub(crate) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    ends: &'static [u64],
    /// One for each end, and one for what is beyond the last.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// One whose buckets end at these values, which rise.
    pub(super) fn new(ends: &'static [u64]) -> Self {
        let counts = (0..=ends.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { ends, counts, sum: AtomicU64::new(0) }))
    }

    /// A value occurred.
    pub(crate) fn record(&self, value: usize) {
        let value = value as u64;
        let index = self.0.ends.partition_point(|end| *end < value);
        self.0.counts[index].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Writes the series of `name` with these labels.
    pub(super) fn render(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let ends = self.0.ends.iter().map(|end| number(*end)).chain(["+Inf".into()]);
        let mut count = 0;
        for (end, bucket) in ends.zip(&self.0.counts) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{end}\"}} {count}");
        }
        let sum = self.0.sum.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
    }
}

/// As Go writes a float: `500`, `1e+06`.
fn number(value: u64) -> String {
    match value {
        0..1_000_000 => value.to_string(),
        _ => {
            let text = format!("{:e}", value as f64);
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{digits}e+{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, Histogram, SPANS, number};

    #[test]
    fn values_are_counted_up_to_the_end_of_their_bucket() {
        let histogram = Histogram::new(&[10, 25]);
        for value in [0, 10, 11, 25, 26, 1_000] {
            histogram.record(value);
        }
        let mut out = String::new();
        histogram.render(&mut out, "h", "a=\"b\"");
        assert_eq!(
            out,
            "h_bucket{a=\"b\",le=\"10\"} 2\nh_bucket{a=\"b\",le=\"25\"} 4\nh_bucket{a=\"b\",le=\"+Inf\"} 6\nh_sum{a=\"b\"} 1072\nh_count{a=\"b\"} 6\n"
        );
    }

    #[test]
    fn ends_rise_and_are_written_as_go_writes_them() {
        assert!(SPANS.is_sorted() && BYTES.is_sorted());
        let written: Vec<_> = [10, 999_999, 1_000_000, 9_000_000, 12_500_000].map(number).into();
        assert_eq!(written, ["10", "999999", "1e+06", "9e+06", "1.25e+07"]);
    }
}
