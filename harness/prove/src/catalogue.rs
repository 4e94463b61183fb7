//! The catalogue of breakages.
//!
//! All of them strike a chain of three sample apps between the second and the third: HTTP between these two, OTLP from all apps to the
//! collector, and Datadog's payloads from the collector to the intake pass through a [tap](crate::tap).

use std::fmt::Write as _;

use crate::tap::Change;

mod datadog;
mod delivery;
mod propagation;
mod sampling;
mod spans;
mod stats;
mod time;
mod wire;

/// The app at which most breakages strike.
pub(crate) const AT: &str = "sample-app-3";
/// The app that calls it.
pub(crate) const CALLER: &str = "sample-app-2";
/// The app that is called from outside.
pub(crate) const ENTRY: &str = "sample-app-1";

/// All of them.
pub const SERVICES: [&str; 3] = [ENTRY, CALLER, AT];

/// A way in which a pipeline goes wrong.
#[derive(Clone, Copy)]
pub struct Breakage {
    /// Unique; kebab-case.
    pub name: &'static str,
    /// How it is made.
    pub how: How,
    /// What is like it, and sound; where it is `None`, the same system without the breakage.
    pub twin: Option<How>,
    /// The rule that must fail.
    pub rule: &'static str,
    /// What that failure must name: a service, or a link between two.
    pub hop: &'static str,
    /// What it looks like in Datadog.
    pub seen: &'static str,
    /// How it comes about.
    pub cause: &'static str,
    /// How it is mended.
    pub remedy: &'static str,
}

/// How a breakage, or what is like it, is made.
#[derive(Clone, Copy)]
pub enum How {
    /// By a tap on the wire.
    Tap(Change),
    /// By a tap on the wire, while a fault makes the last app answer 503, which must be marked as an error.
    TapUnderFault(Change),
    /// By the environment of services: app, variable, value.
    Env(&'static [(&'static str, &'static str, &'static str)]),
    /// By a change on the wire, with variables that the services are given in the broken run and in its twin.
    TapWithEnv(Change, &'static [(&'static str, &'static str, &'static str)]),
    /// By a tap on the stats' way, in a scenario that asks for stats.
    TapStats(Change),
    /// The same with variables that the services are given in the broken run and in its twin.
    TapStatsWithEnv(Change, &'static [(&'static str, &'static str, &'static str)]),
    /// By a fault of a scenario, as it is written there.
    Fault(&'static str),
}

impl How {
    /// The change that a tap makes.
    pub fn change(self) -> Option<Change> {
        match self {
            Self::Tap(change)
            | Self::TapUnderFault(change)
            | Self::TapWithEnv(change, _)
            | Self::TapStats(change)
            | Self::TapStatsWithEnv(change, _) => Some(change),
            Self::Env(_) | Self::Fault(_) => None,
        }
    }

    /// The variables that services are given: app, name, value.
    pub fn env(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Self::Env(env) | Self::TapWithEnv(_, env) | Self::TapStatsWithEnv(_, env) => env,
            _ => &[],
        }
    }

    /// The faults of the scenario, as they are written there.
    pub fn faults(self) -> &'static str {
        match self {
            Self::TapUnderFault(_) => "faults: [{ at: sample-app-3, status: 503 }]\n",
            Self::Fault(faults) => faults,
            _ => "",
        }
    }

    /// Whether the scenario asks for APM stats.
    pub fn asks_for_stats(self) -> bool {
        matches!(self, Self::TapStats(_) | Self::TapStatsWithEnv(..))
    }

    /// The same system without what is broken in it.
    pub fn sound(self) -> Sound {
        let stats = self.asks_for_stats();
        match self {
            Self::TapUnderFault(_) => Sound { env: &[], faults: self.faults(), stats },
            Self::TapWithEnv(_, env) | Self::TapStatsWithEnv(_, env) => {
                Sound { env, faults: "", stats }
            }
            _ => Sound { env: &[], faults: "", stats },
        }
    }

    /// Where it strikes.
    pub fn place(self) -> &'static str {
        match self {
            Self::Env(_) => "a service's settings",
            Self::Fault(_) => "a part of the system",
            Self::Tap(change)
            | Self::TapUnderFault(change)
            | Self::TapWithEnv(change, _)
            | Self::TapStats(change)
            | Self::TapStatsWithEnv(change, _) => match change {
                Change::Headers(_) | Change::Answer(_) => "HTTP between services",
                Change::Otlp(_) | Change::OtlpDelivery(_) => "OTLP, SDK to collector",
                Change::Datadog(_) | Change::DatadogDelivery(_) => "collector to Datadog",
                Change::Stats(_) => "stats, collector to Datadog",
            },
        }
    }
}

/// A system in which nothing is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// The variables that services are given: app, name, value.
    pub env: &'static [(&'static str, &'static str, &'static str)],
    /// The faults of the scenario, as they are written there.
    pub faults: &'static str,
    /// Whether the scenario asks for APM stats.
    pub stats: bool,
}

/// All breakages by their families, in the order in which they are told.
pub const FAMILIES: &[(&str, &[Breakage])] = &[
    ("Propagation", propagation::ALL),
    ("Spans", spans::ALL),
    ("Time", time::ALL),
    ("Delivery", delivery::ALL),
    ("Sampling", sampling::ALL),
    ("Datadog's own fields", datadog::ALL),
    ("APM stats", stats::ALL),
];

/// All breakages.
pub fn all() -> impl Iterator<Item = &'static Breakage> {
    FAMILIES.iter().flat_map(|(_, breakages)| breakages.iter())
}

/// The catalogue as a page of Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# What the harness detects\n\n\
         Written from the catalogue of breakages (`harness/prove/src/catalogue`); a test keeps it up to date.\n\n\
         `tracecheck prove` brings a chain of three apps up for each of these, breaks it while real requests pass, and judges by the rules \
         alone. A breakage is caught where its scenario fails, the rule named here is among the failures, and that failure names the hop. \
         Then its clean twin, which is the same system without the breakage, or something like it that is sound, must pass. The exit code is \
         1 where one is missed, misleads or a twin does not pass. A finding beside the right one misleads where it is about a service at which the \
         breakage does not strike, or says lost where nothing was; what another finding explains is told below that one, and not counted. Nothing is changed in memory or in a saved run: what is *on the wire* is changed by a tap, \
         a proxy between services, between SDK and collector, or between collector and intake; the rest by a service's own \
         settings or a fault.\n\n",
    );
    let _never_fails = writeln!(page, "{} breakages:\n", all().count());
    page.push_str("| breakage | where it is made | rule | hop |\n| --- | --- | --- | --- |\n");
    for one in all() {
        let Breakage { name, rule, hop, .. } = one;
        let _never_fails =
            writeln!(page, "| `{name}` | {} | `{rule}` | `{hop}` |", one.how.place());
    }
    for (family, breakages) in FAMILIES {
        let _never_fails = write!(page, "\n## {family}\n");
        for Breakage { name, seen, cause, remedy, .. } in *breakages {
            let _never_fails = write!(page, "\n**`{name}`**. {seen} {cause} {remedy}\n");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_breakage_has_a_name_of_its_own_and_a_paragraph() {
        let names: BTreeSet<&str> = all().map(|one| one.name).collect();
        assert_eq!(names.len(), all().count());
        for Breakage { name, seen, cause, remedy, .. } in all() {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
            for sentence in [seen, cause, remedy] {
                assert!(sentence.len() > 10 && sentence.ends_with('.'), "{name}: {sentence}");
            }
        }
    }
}
