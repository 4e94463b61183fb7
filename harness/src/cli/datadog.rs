//! Access to Datadog, its site and keys: options and the variables that Datadog's own tools use.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use harness::{
    datadog_api::{Access, Client, DatadogSource, SITES, Site},
    secret::Secret,
    system::build::ToDatadog,
};

/// Source of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum EvidenceChoice {
    /// The mock intake's capture.
    Mock,
    /// Each trace as Datadog's API shows it.
    Datadog,
}

/// How Datadog's API is asked.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// How long Datadog may take to show a span; what is missing later, while later spans are there, did not arrive.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = patience)]
    patience: Duration,
    /// Asks here instead of at the API of the site that DD_SITE names; for stand-ins.
    #[arg(long, value_name = "URL", env = "TRACECHECK_DATADOG_API_URL")]
    datadog_api_url: Option<String>,
}

fn patience(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(patience) if patience >= Duration::from_secs(1) => Ok(patience),
        Ok(_) => Err("write at least 1s".to_owned()),
        Err(error) => Err(format!("{error}; write for example 90s or 5m")),
    }
}

/// The site that is asked with the keys of the environment; for a look whether they are there.
pub(super) fn keys() -> anyhow::Result<String> {
    let args = Args { patience: Duration::ZERO, datadog_api_url: None };
    Ok(args.access()?.site.to_string())
}

impl Args {
    /// How long Datadog may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// These options again, for another call of the program.
    pub(super) fn as_words(&self) -> Vec<String> {
        let url = self.datadog_api_url.iter().map(|url| format!("--datadog-api-url={url}"));
        let patience = format!("--patience={}", humantime::format_duration(self.patience));
        std::iter::once(patience.replace(' ', "")).chain(url).collect()
    }

    /// The source of evidence, with the keys of the environment.
    pub(super) fn source(&self) -> anyhow::Result<Arc<DatadogSource>> {
        let client = Client::new(&self.access()?)?;
        Ok(Arc::new(DatadogSource::new(client, self.patience)))
    }

    /// Destination of a collector that the run starts, with the same key.
    pub(super) fn destination(&self) -> anyhow::Result<ToDatadog> {
        let access = self.access()?;
        Ok(ToDatadog { site: access.site.to_string(), api_key: access.api_key })
    }

    /// Returns site and keys. All that is missing is reported at once, with where to get it.
    fn access(&self) -> anyhow::Result<Access> {
        let site = match std::env::var("DD_SITE") {
            Ok(text) if !text.trim().is_empty() => text.parse::<Site>().context("DD_SITE")?,
            _ => Site::default(),
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (api_key, app_key) = (variable("DD_API_KEY"), variable("DD_APP_KEY"));
        let (Some(api_key), Some(app_key)) = (&api_key, &app_key) else {
            let missing = [("DD_API_KEY", &api_key), ("DD_APP_KEY", &app_key)];
            let missing =
                missing.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name);
            bail!(
                "{} not set. To ask Datadog for traces, set DD_API_KEY (Organization Settings > API Keys), DD_APP_KEY (Organization Settings > Application Keys; it needs the permission `apm_read`) and DD_SITE, the site that the keys belong to (now {site}; known are {})",
                missing.collect::<Vec<_>>().join(" and "),
                SITES.join(", ")
            );
        };
        Ok(Access {
            site,
            url: self.datadog_api_url.clone(),
            api_key: Secret::new(api_key),
            app_key: Secret::new(app_key),
        })
    }
}
