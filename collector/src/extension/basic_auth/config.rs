//! Settings of the extension `basicauth`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::htpasswd::Users;
use crate::settings::secret::Secret;
use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "it is for exporters; set the header `authorization` in the exporter's `headers`",
        &["client_auth"],
    ),
    (
        "there are no extensions that provide secrets; use `htpasswd.file`, which is read again when it changes",
        &["htpasswd.secret_provider"],
    ),
]);

/// Authenticates senders by a user's name and password, for receivers whose `auth.authenticator` names it. Exporters do not use it:
/// they have `headers`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The users, as Apache's `htpasswd` writes them: `name:password` in each line, with the password as bcrypt (`htpasswd -B`), MD5
    /// (`$apr1$`, `$1$`), SHA-1 (`{SHA}`, `{SSHA}`), SHA-2 (`$5$`, `$6$`) or plain text.
    pub(crate) htpasswd: Htpasswd,
}

/// Users with their passwords.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Htpasswd {
    /// Their file. It is read again when it changes; one that cannot be used is logged and counted (`otelcol_file_reloads`), and the
    /// users before it stay.
    pub(crate) file: Option<PathBuf>,
    /// The users themselves; they go before those of the file.
    pub(crate) inline: Option<Secret>,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let mut config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        let Htpasswd { file, inline } = &mut config.htpasswd;
        // The Collector prints what is not there as empty text.
        *file = file.take().filter(|path| !path.as_os_str().is_empty());
        *inline = inline.take().filter(|text| text.is_elsewhere() || !text.expose().is_empty());
        if file.is_none() && inline.is_none() {
            let problem = "names no users, so that no sender could be let in; set `htpasswd.file` or `htpasswd.inline`";
            diagnostics.add_for_run(&[], problem);
        }
        if let Some(inline) = inline
            && !inline.is_elsewhere()
            && let Err(problem) = Users::read("", inline.expose())
        {
            diagnostics.add(&["htpasswd", "inline"], &problem);
        }
        Some(config)
    }
}
