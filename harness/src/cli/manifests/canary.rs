//! `tracecheck manifests --canary`: a CronJob that drives a scenario through a system that is in the cluster already, and asks
//! Datadog for its traces.
//!
//! What can never come to a verdict there is refused here: a schedule that says *inconclusive* each time helps nobody.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use harness::{
    environment::kubernetes::canary::{Canary, SCENARIOS_DIR, SECRET_KEYS},
    load,
    scenario::{Scenario, SystemChoice},
    system::build::{self, Overrides},
};

use super::yaml;
use crate::cli::{
    attach::{AttachPoint, place},
    canary::duration,
    datadog,
};

/// How long a Job may take beyond its rounds: pulling the image, the last round's traces, and their audit.
const SLACK: Duration = Duration::from_secs(120);
/// Most bytes of files: what a ConfigMap may hold, less some for its other parts.
const MAX_FILES: usize = 1_000_000;

/// Which canary.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Prints the CronJob of a canary instead: this scenario, or those of this folder, driven through a system that is in the
    /// cluster already, and judged by what Datadog shows.
    #[arg(
        long,
        value_name = "SCENARIO",
        requires = "schedule",
        requires = "entry",
        conflicts_with_all = ["scenario", "collector_config", "collector_install", "collector_api_version", "collector_image", "collector_user", "irsa_role_arn"],
        help_heading = "Canary"
    )]
    canary: Option<PathBuf>,
    /// When it runs, as cron writes it, for example '*/15 * * * *'; in the time zone of the cluster.
    #[arg(long, value_name = "CRON", requires = "canary", value_parser = schedule, help_heading = "Canary")]
    schedule: Option<String>,
    /// The system's entry: a base URL that pods reach, or a Service of the cluster.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "canary", value_parser = place, help_heading = "Canary")]
    entry: Option<AttachPoint>,
    /// Its collector's OTLP/gRPC port, in the same way; the harness's own spans are virtual parents where it is left out.
    #[arg(long, value_name = "URL|NAMESPACE/SERVICE[:PORT]", requires = "canary", value_parser = place, help_heading = "Canary")]
    otlp: Option<AttachPoint>,
    /// The Secret with Datadog's keys, in the same namespace: `api-key`, `app-key` and, where it is not datadoghq.com, `site`.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "datadog",
        requires = "canary",
        help_heading = "Canary"
    )]
    secret: String,
    /// Name of what is printed.
    #[arg(long, value_name = "NAME", default_value = "tracecheck-canary", requires = "canary", value_parser = object_name, help_heading = "Canary")]
    name: String,
    /// Time from the beginning of one round of a Job to that of the next.
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "canary", value_parser = duration, help_heading = "Canary")]
    every: Duration,
    /// How long a Job begins new rounds; by default it has one round.
    #[arg(long = "for", value_name = "DURATION", requires = "canary", value_parser = duration, help_heading = "Canary")]
    lasting: Option<Duration>,
    #[command(flatten, next_help_heading = "Canary")]
    datadog: datadog::Args,
}

fn schedule(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"*/,-?".contains(&byte);
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let macros = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"];
    match fields.as_slice() {
        [one] if macros.contains(one) => Ok((*one).to_owned()),
        five if five.len() == 5 && five.iter().all(|field| field.bytes().all(allowed)) => {
            Ok(five.join(" "))
        }
        _ => Err("write five fields (minute, hour, day of the month, month, day of the week), for example '*/15 * * * *'".to_owned()),
    }
}

/// Names of CronJobs are shorter than others: each Job's has a time appended.
fn object_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=52).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-');
    match is_name {
        true => Ok(text.to_owned()),
        false => Err("write at most 52 lower-case letters, digits and `-`".to_owned()),
    }
}

impl Args {
    /// The manifests, where a canary's are asked for.
    pub(super) fn manifests(&self, namespace: &str, image: &str) -> anyhow::Result<Option<String>> {
        let (Some(path), Some(schedule), Some(entry)) = (&self.canary, &self.schedule, &self.entry)
        else {
            return Ok(None);
        };
        let scenarios = load::load(std::slice::from_ref(path))?;
        for scenario in &scenarios {
            if let Some(because) = never_decided(scenario) {
                bail!("{}: no verdict can come of it here: {because}", scenario.file.display());
            }
        }
        let files = files(path, &scenarios)?;
        let mut args: Vec<String> = ["canary", SCENARIOS_DIR, "--attach"].map(str::to_owned).into();
        args.push(format!("--entry={}", entry.url_in_cluster().context("--entry")?));
        if let Some(otlp) = &self.otlp {
            args.push(format!("--otlp={}", otlp.url_in_cluster().context("--otlp")?));
        }
        args.push("--evidence=datadog".to_owned());
        args.extend(self.datadog.as_words());
        // One round is begun at least, and no second one as soon as this is over.
        let lasting = self.lasting.unwrap_or(Duration::from_secs(1));
        for (name, duration) in [("every", self.every), ("for", lasting)] {
            let reported = humantime::format_duration(duration).to_string().replace(' ', "");
            args.push(format!("--{name}={reported}"));
        }
        args.push("--format=json".to_owned());
        let systems: std::collections::BTreeSet<&SystemChoice> =
            scenarios.iter().map(|scenario| &scenario.system).collect();
        // Each system is driven and then brought to rest, and each may wait for Datadog to its limit.
        let waits = u32::try_from(systems.len() + scenarios.len()).unwrap_or(u32::MAX);
        let patience = self.datadog.patience().saturating_mul(waits.saturating_add(1));
        let deadline = lasting.saturating_add(patience).saturating_add(SLACK).as_secs();
        let canary = Canary {
            name: self.name.clone(),
            namespace: namespace.to_owned(),
            schedule: schedule.clone(),
            image: image.to_owned(),
            args,
            secret: self.secret.clone(),
            files,
            deadline: i64::try_from(deadline).unwrap_or(i64::MAX),
        };
        self.show_what_it_needs(namespace);
        let objects = canary.objects();
        let documents = [
            serde_json::to_value(&objects.account)?,
            serde_json::to_value(&objects.config_map)?,
            serde_json::to_value(&objects.cron_job)?,
        ];
        Ok(Some(yaml(&documents)?))
    }

    fn show_what_it_needs(&self, namespace: &str) {
        let literals = SECRET_KEYS.map(|(name, key)| format!("--from-literal={key}=\"${name}\""));
        crate::cli::progress(&format!(
            "\
Create the namespace and the Secret yourself, since the keys are nowhere else:

    kubectl create namespace {namespace}
    kubectl --namespace {namespace} create secret generic {} {}

Its first Job at once: kubectl --namespace {namespace} create job --from=cronjob/{} first
",
            self.secret,
            literals.join(" "),
            self.name
        ));
    }
}

/// Reason why a scenario is inconclusive each time where a system was there before and Datadog is asked; `None` where it is not.
fn never_decided(scenario: &Scenario) -> Option<String> {
    let fault = scenario.faults.iter().find(|fault| fault.kind.needs_own_system());
    if let Some(fault) = fault {
        return Some(format!(
            "it has a fault at `{}` that acts on a workload or on the mock intake, and both are not the run's own",
            fault.at
        ));
    }
    if scenario.expect.absent {
        return Some("it expects `absent`, and Datadog cannot show what is not there".to_owned());
    }
    scenario
        .expect
        .stats
        .is_some()
        .then(|| "it expects `stats`, which Datadog's API does not show".to_owned())
}

/// The scenarios and what they name, by their paths below the folder that the scenarios are in.
fn files(path: &Path, scenarios: &[Scenario]) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = match path.is_dir() {
        true => path,
        false => path.parent().unwrap_or(Path::new("")),
    };
    let mut files = BTreeMap::new();
    let mut add = |file: &Path| -> anyhow::Result<()> {
        let Ok(relative) = file.strip_prefix(folder) else {
            bail!(
                "{}: it is not in the folder of the scenarios, and the pod has that one alone; move it there",
                file.display()
            );
        };
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        files.insert(relative.display().to_string(), text);
        Ok(())
    };
    for scenario in scenarios {
        add(&scenario.file)?;
        if let SystemChoice::File(system) = &scenario.system {
            add(system)?;
        }
        let built = build::system(&scenario.system, &Overrides::default());
        let built = built.with_context(|| scenario.file.display().to_string())?;
        if let Some(config) = &built.collector_config {
            add(config)?;
        }
    }
    let size: usize = files.iter().map(|(path, text)| path.len() + text.len()).sum();
    if size > MAX_FILES {
        bail!("{}: {size} bytes of files are too many for a ConfigMap", path.display());
    }
    as_the_pod_sees_them(&files)?;
    Ok(files)
}

/// Loads the files where nothing else is, so that what the pod would miss is missed here.
fn as_the_pod_sees_them(files: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for (path, text) in files {
        let path = dir.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    let alone = || "the pod has the scenarios, the system files and the collector configs that they name, and nothing else";
    let scenarios = load::load(&[dir.path().to_owned()]).with_context(alone)?;
    for scenario in scenarios {
        build::system(&scenario.system, &Overrides::default()).with_context(alone)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_has_five_fields_or_is_a_macro() {
        assert_eq!(schedule(" */5 *  * * MON-FRI "), Ok("*/5 * * * MON-FRI".to_owned()));
        assert_eq!(schedule("@hourly"), Ok("@hourly".to_owned()));
        for wrong in ["", "5m", "@often", "* * * *", "* * * * * *", "TZ=UTC * * * *", "*;* * * * *"]
        {
            assert!(schedule(wrong).unwrap_err().contains("five fields"), "{wrong}");
        }
    }

    #[test]
    fn names_leave_room_for_the_time_of_a_job() {
        assert!(object_name("tracecheck-canary").is_ok());
        for wrong in ["", "-a", "a-", "A", "a_b", &"a".repeat(53)] {
            assert!(object_name(wrong).is_err(), "{wrong}");
        }
    }
}
