//! Detectors of the environment, the operating system and Docker.

use super::{DetectError, Detector, Found, json_of};
use crate::processor::resource_detection::config::Source;

/// Attributes of `OTEL_RESOURCE_ATTRIBUTES`, as the reference reads them.
pub(super) fn env(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let mut found = Found::default();
    let names = ["OTEL_RESOURCE_ATTRIBUTES", "OTEL_RESOURCE"];
    let set = names.iter().find_map(|name| {
        let text = detector.variable(name)?.trim();
        (!text.is_empty()).then_some((name, text))
    });
    let Some((variable, text)) = set else { return Ok(found) };
    let wrong = |pair: &str| {
        DetectError::Wrong(format!(
            "{variable}: `{pair}` is not `key=value`, with values in URL encoding"
        ))
    };
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| wrong(pair))?;
        let value = unescaped(value.trim()).ok_or_else(|| wrong(pair))?;
        if key.trim().is_empty() {
            return Err(wrong(pair));
        }
        found.put(key.trim(), value);
    }
    Ok(found)
}

/// Text without its `%XX` and `+`; `None` if it is not right.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The host, as the operating system knows it.
pub(super) fn system(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let places = detector.places;
    let sources = match detector.config.system.hostname_sources.as_slice() {
        [] => &[Source::Dns, Source::Os],
        sources => sources,
    };
    let name = sources.iter().find_map(|source| match source {
        Source::Dns => in_hosts(&std::fs::read_to_string(&places.hosts).ok()?, &places.hostname),
        Source::Os => Some(places.hostname.clone()).filter(|name| !name.is_empty()),
    });
    let Some(name) = name else {
        return Err(DetectError::Wrong("no source has the host's name".into()));
    };
    let mut found = Found::default();
    found.put("host.name", name);
    found.put(
        "os.type",
        match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        },
    );
    found.put(
        "host.arch",
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    );
    Ok(found)
}

/// The whole name of a host: the first name of the line that has it.
fn in_hosts(text: &str, hostname: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut names = line.split_whitespace().skip(1);
        let first = names.next()?;
        let has = first == hostname || names.any(|name| name == hostname);
        (has && !hostname.is_empty()).then(|| first.trim_end_matches('.').to_owned())
    })
}

/// The host, as Docker knows it.
pub(super) async fn docker(detector: &Detector<'_>) -> Result<Found, DetectError> {
    let timeout = detector.config.timeout;
    let of_socket = |path: &std::path::Path| {
        let client = reqwest::Client::builder().timeout(timeout).unix_socket(path).build();
        client.map(|client| client.get("http://docker/info"))
    };
    let request = match detector.variable("DOCKER_HOST") {
        Some(host) => match (host.strip_prefix("unix://"), host.strip_prefix("tcp://")) {
            (Some(path), _) => of_socket(path.as_ref()),
            (_, Some(address)) => Ok(detector.client.get(format!("http://{address}/info"))),
            _ => {
                return Err(DetectError::Wrong(format!(
                    "DOCKER_HOST: `{host}` is neither `unix://` nor `tcp://`"
                )));
            }
        },
        None => of_socket(&detector.places.docker_socket),
    };
    let what = "Docker's engine";
    let request =
        request.map_err(|error| DetectError::Http { what: what.to_owned(), error, hint: "" })?;
    let info = json_of(request, what).await.map_err(|error| match error {
        DetectError::Http { what, error, .. } => DetectError::Http {
            what,
            error,
            hint: "; mount `/var/run/docker.sock` into the collector's container, readable for its user",
        },
        other => other,
    })?;
    let mut found = Found::default();
    found.put_some("host.name", info["Name"].as_str());
    found.put_some("os.type", info["OSType"].as_str());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{in_hosts, unescaped};

    #[test]
    fn a_whole_name_is_the_first_of_its_line() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 no web\n10.0.0.2 web.example.com. web # web\n";
        assert_eq!(in_hosts(hosts, "web").as_deref(), Some("web.example.com"));
        assert_eq!(in_hosts(hosts, "we"), None);
        assert_eq!(in_hosts(hosts, ""), None);
    }

    #[test]
    fn values_are_in_url_encoding() {
        assert_eq!(unescaped("a%2Cb+c%C3%A4").as_deref(), Some("a,b cä"));
        for wrong in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
