//! Addresses to listen on.

use super::diagnostics::Diagnostics;

/// Checks that an endpoint is `host:port`.
pub(crate) fn check_endpoint(diagnostics: &mut Diagnostics<'_>, path: &[&str], endpoint: &str) {
    let port = endpoint.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    let problem = match port {
        Some((host, Ok(_))) if !host.contains("://") && !host.contains('/') => return,
        Some((host, _)) if host.contains("://") || host.contains("//") => "it has a scheme",
        Some(_) => "its port is not a number from 0 to 65535",
        None => "it has no port",
    };
    let problem = format!(
        "`{endpoint}` is not an address: {problem}; write `host:port`, for example `0.0.0.0:4317`"
    );
    diagnostics.add(path, &problem);
}
