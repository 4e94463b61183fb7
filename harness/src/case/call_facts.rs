//! Facts that a span carries about the call that it made or answered.

use crate::trace::Span;

/// Facts about a call from one of its sides; unknown ones match anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CallFacts {
    /// HTTP method.
    pub(crate) method: Option<String>,
    /// Path of the URL, without its query.
    pub(crate) path: Option<String>,
    /// HTTP status of the answer.
    pub(crate) status: Option<u16>,
    /// The method of a remote procedure call.
    pub(crate) procedure: Option<String>,
    /// The queue or topic of a message.
    pub(crate) destination: Option<String>,
    /// The host that was called.
    pub(crate) host: Option<String>,
    /// The port that was called.
    pub(crate) port: Option<u16>,
}

impl CallFacts {
    pub(crate) fn of(span: &Span) -> Self {
        let url = text(span, &["url.full", "http.url"]).unwrap_or_default();
        let (authority, path_of_url) = parts(&url);
        let (host_of_url, port_of_url) = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().ok()),
            _ => (authority, None),
        };
        let path =
            text(span, &["url.path", "http.target"]).map(|path| without_query(&path).to_owned());
        let host = text(span, &["server.address", "net.peer.name", "peer.hostname", "out.host"]);
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let is_rpc = text(span, &["rpc.system", "rpc.system.name"]).is_some();
        // Newer conventions put the service before the method's name.
        let method = text(span, &["rpc.method"]).filter(|_| is_rpc);
        let method = method.map(|full| full.rsplit('/').next().unwrap_or_default().to_owned());
        Self {
            method: text(span, &["http.request.method", "http.method"])
                .map(|one| one.to_uppercase()),
            path: path.or_else(|| given(path_of_url)),
            status: span.http_status().or_else(|| number(span, &["http.response.status_code"])),
            procedure: method,
            destination: text(span, &["messaging.destination.name", "messaging.destination"]),
            host: host.or_else(|| given(host_of_url)),
            port: number(span, &["server.port", "net.peer.port", "out.port"]).or(port_of_url),
        }
    }

    /// Returns whether this, of the caller's side, and another, of the side that was called, may be of one call: facts that both have
    /// must be equal. Of a call that was redirected, the caller has the status that it got in the end. Where it went through a proxy,
    /// that may have left out the beginning of the path.
    pub(crate) fn may_be(&self, other: &Self, through_a_proxy: bool) -> bool {
        let is_redirect = other.status.is_some_and(|status| (300..400).contains(&status));
        let is_path = match (&self.path, &other.path) {
            (Some(asked), Some(path)) => asked == path || through_a_proxy && asked.ends_with(path),
            _ => true,
        };
        same(self.method.as_ref(), other.method.as_ref())
            && is_path
            && (is_redirect || same(self.status, other.status))
            && same(self.procedure.as_ref(), other.procedure.as_ref())
            && same(self.destination.as_ref(), other.destination.as_ref())
    }

    /// How many of them both have.
    pub(crate) fn in_common(&self, other: &Self) -> u32 {
        let both = [
            self.method.is_some() && other.method.is_some(),
            self.path.is_some() && other.path.is_some(),
            self.status.is_some() && other.status.is_some(),
            self.procedure.is_some() && other.procedure.is_some(),
            self.destination.is_some() && other.destination.is_some(),
        ];
        both.into_iter().map(u32::from).sum()
    }
}

fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// Returns whether a span is a call to a database or a cache, which begins no trace.
pub(crate) fn is_of_a_store(span: &Span) -> bool {
    text(span, &["db.system", "db.system.name"]).is_some()
        || ["sql", "db", "cache", "redis", "mongodb", "elasticsearch", "cassandra", "memcached"]
            .contains(&span.span_type.as_str())
}

/// The value of the first of these keys that a span has.
pub(crate) fn text(span: &Span, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| span.meta.get(*key).filter(|value| !value.is_empty()).cloned())
}

fn number(span: &Span, keys: &[&str]) -> Option<u16> {
    keys.iter().find_map(|key| match span.metrics.get(*key) {
        Some(value) if (0.0..=65_535.0).contains(value) => Some(*value as u16),
        _ => span.meta.get(*key)?.parse().ok(),
    })
}

/// Host and port of a URL, and its path; a path alone has no host.
fn parts(url: &str) -> (&str, &str) {
    let Some((_, rest)) = url.split_once("://") else {
        return ("", if url.starts_with('/') { without_query(url) } else { "" });
    };
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let path = without_query(path);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (authority, if path.is_empty() { "/" } else { path })
}

/// A path without what follows `?` or `#`.
pub(crate) fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_whatever_it_lacks() {
        for (url, taken) in [
            ("http://pay:8080/charge?id=1", ("pay:8080", "/charge")),
            ("https://user:secret@pay/charge#top", ("pay", "/charge")),
            ("http://pay?x=/y", ("pay", "/")),
            ("http://[::1]:80/", ("[::1]:80", "/")),
            ("/charge?id=1", ("", "/charge")),
            ("", ("", "")),
        ] {
            assert_eq!(parts(url), taken, "{url}");
        }
    }
}
