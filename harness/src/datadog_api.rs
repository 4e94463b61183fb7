//! Datadog's API as a source of evidence: what did arrive there, not what would.
//!
//! `client` asks for a trace or searches spans, `budget` says when it may, `answer` reads the answers, and `source`
//! looks for a run's traces until they are whole or their time is over. What the API cannot show (raw payloads, APM stats, that
//! something is *not* there) is not made up: checks that need it are not evaluated.
//!
//! Facts: Datadog's API reference for *Get a trace by ID* (preview) and *Search spans*.

use std::{fmt, str::FromStr};

pub use self::{
    client::{ApiError, Client, ClientSetupError},
    endpoint::Endpoint,
    source::{DatadogSource, Found},
};
use crate::secret::Secret;

mod answer;
mod budget;
mod client;
mod endpoint;
mod source;

/// Datadog's sites; keys of one mean nothing at another.
pub const SITES: [&str; 9] = [
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "uk1.datadoghq.com",
    "ddog-gov.com",
    "us2.ddog-gov.com",
];

/// One of Datadog's sites, for example `datadoghq.eu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site(String);

/// Error for a text that is not a Datadog site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a Datadog site; {remedy}")]
pub struct ParseSiteError {
    given: String,
    remedy: String,
}

impl Default for Site {
    fn default() -> Self {
        Self(SITES[0].to_owned())
    }
}

impl FromStr for Site {
    type Err = ParseSiteError;

    /// Also takes the address that a browser shows, such as `https://app.datadoghq.eu/`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim().to_ascii_lowercase();
        let name = name.strip_prefix("https://").unwrap_or(&name);
        let name = name.split('/').next().unwrap_or(name);
        let name =
            ["app.", "api."].into_iter().find_map(|part| name.strip_prefix(part)).unwrap_or(name);
        if SITES.contains(&name) {
            return Ok(Self(name.to_owned()));
        }
        let nearest = crate::source::nearest_or_known(name, SITES);
        Err(ParseSiteError { given: text.to_owned(), remedy: nearest.unwrap_or_default() })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Site {
    /// Returns the base URL of the site's API: `https://api.SITE`.
    pub fn api_url(&self) -> String {
        format!("https://api.{}", self.0)
    }
}

/// Site and keys for Datadog's API.
#[derive(Debug, Clone)]
pub struct Access {
    /// The site that the keys belong to.
    pub site: Site,
    /// Another base URL in place of the site's, for stand-ins; without a trailing slash.
    pub url: Option<String>,
    /// The API key.
    pub api_key: Secret,
    /// The application key.
    pub app_key: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_read_as_people_write_it_and_has_its_own_host() {
        let host = |text: &str| text.parse::<Site>().map(|site| site.api_url());
        assert_eq!(host("datadoghq.eu").unwrap(), "https://api.datadoghq.eu");
        assert_eq!(
            host("https://app.datadoghq.com/apm/traces").unwrap(),
            "https://api.datadoghq.com"
        );
        assert_eq!(host("US5.datadoghq.com").unwrap(), "https://api.us5.datadoghq.com");
        assert_eq!(Site::default().to_string(), "datadoghq.com");
        let error = host("datadog.eu").unwrap_err().to_string();
        assert!(error.contains("did you mean `datadoghq.eu`?"), "{error}");
    }
}
