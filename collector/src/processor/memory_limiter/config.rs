//! Settings of the memory limiter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[(
    "there is no garbage collector; remove the key",
    &[
        "min_gc_interval_when_soft_limited",
        "min_gc_interval_when_hard_limited",
        "max_gc_interval_when_soft_limited",
        "max_gc_interval_when_hard_limited",
        "garbage_collector",
    ],
)]);

/// How much memory there may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How often memory is measured. Required, for example `1s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) check_interval: Duration,
    /// The most memory, in MiB.
    pub(crate) limit_mib: u64,
    /// The most that may come between two measurements, in MiB; above `limit_mib` less this, traces are refused. Default a
    /// fifth of the limit.
    pub(crate) spike_limit_mib: u64,
    /// The most memory, as a part of all that there is, in percent; instead of `limit_mib`.
    pub(crate) limit_percentage: u64,
    /// As `spike_limit_mib`, in percent.
    pub(crate) spike_limit_percentage: u64,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        if config.check_interval.is_zero() {
            diagnostics.add(&["check_interval"], "must be more than zero, for example `1s`");
        }
        if config.limit_mib == 0 && config.limit_percentage == 0 {
            diagnostics.add(&["limit_mib"], "is not set; set it or `limit_percentage`");
        }
        for (key, percentage) in [
            ("limit_percentage", config.limit_percentage),
            ("spike_limit_percentage", config.spike_limit_percentage),
        ] {
            if percentage > 100 {
                diagnostics.add(&[key], "must be from 0 to 100");
            }
        }
        if config.limit_mib > 0 && config.spike_limit_mib >= config.limit_mib {
            diagnostics.add(&["spike_limit_mib"], "must be smaller than `limit_mib`");
        }
        if config.limit_percentage > 0 && config.spike_limit_percentage >= config.limit_percentage {
            diagnostics.add(&["spike_limit_percentage"], "must be smaller than `limit_percentage`");
        }
        Some(config)
    }

    /// Says how the soft limit comes about, for messages.
    pub(crate) fn explain(&self) -> String {
        let limit = match self.limit_mib {
            0 => format!(
                "`limit_percentage` {} of {} MiB",
                self.limit_percentage,
                total_bytes() >> 20
            ),
            limit => format!("`limit_mib` {limit}"),
        };
        let spike = match (self.limit_mib, self.spike_limit_mib, self.spike_limit_percentage) {
            (1.., spike @ 1.., _) => format!("`spike_limit_mib` {spike}"),
            (0, _, spike @ 1..) => format!("`spike_limit_percentage` {spike}"),
            _ => "a fifth of it for spikes".into(),
        };
        format!("{limit} less {spike}")
    }

    /// Above this many bytes, traces are refused.
    pub(crate) fn soft_limit(&self) -> u64 {
        let (limit, spike) = if self.limit_mib > 0 {
            (self.limit_mib << 20, self.spike_limit_mib << 20)
        } else {
            let total = total_bytes();
            (total / 100 * self.limit_percentage, total / 100 * self.spike_limit_percentage)
        };
        limit - if spike == 0 { limit / 5 } else { spike.min(limit) }
    }
}

/// The memory that this process may have: its control group's, else the machine's.
fn total_bytes() -> u64 {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    if let Ok(bytes) = group.trim().parse() {
        return bytes;
    }
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(u64::MAX >> 10) << 10
}
