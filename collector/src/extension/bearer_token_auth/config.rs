//! Settings of the extension `bearertokenauth`.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::settings::secret::Secret;
use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[(
    "the file must be there when the collector starts; remove the key",
    &["retry_on_failure", "wait_for_token_file"],
)]);

/// Authenticates senders by a token, for receivers whose `auth.authenticator` names it. Exporters do not use it: they have `headers`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The header that has the token. Default `Authorization`.
    pub(crate) header: String,
    /// The text in front of the token, with a space between them; empty for nothing. Default `Bearer`.
    pub(crate) scheme: String,
    /// The token.
    pub(crate) token: Option<Secret>,
    /// Tokens that are all valid, instead of `token`.
    pub(crate) tokens: Vec<Secret>,
    /// File that has a token in each line, instead of `token` and `tokens`; what stands behind a token and a space is a comment. It
    /// is read again when it changes; one that cannot be used is logged and counted (`otelcol_file_reloads`), and the tokens before
    /// it stay valid.
    pub(crate) filename: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header: "Authorization".into(),
            scheme: "Bearer".into(),
            token: None,
            tokens: Vec::new(),
            filename: None,
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let mut config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        if HeaderName::from_bytes(config.header.as_bytes()).is_err() {
            let problem =
                "is not the name of a header: use letters, digits and `-`, without spaces or `:`";
            diagnostics.add(&["header"], problem);
        }
        // The Collector prints what is not there as empty text.
        let is_nothing = |token: &Secret| !token.is_elsewhere() && token.expose().is_empty();
        config.token = config.token.filter(|token| !is_nothing(token));
        config.filename = config.filename.filter(|path| !path.as_os_str().is_empty());
        let sources =
            [config.token.is_some(), !config.tokens.is_empty(), config.filename.is_some()];
        match sources.iter().filter(|is_given| **is_given).count() {
            1 => {}
            0 => diagnostics.add_for_run(
                &[],
                "has no token, so that no sender could be let in; set `token`, `tokens` or `filename`",
            ),
            _ => diagnostics.add(
                &[],
                "has tokens in more than one place; keep one of `token`, `tokens` and `filename`, where the Collector would leave some out",
            ),
        }
        let one = config.token.iter().map(|token| (vec!["token".to_owned()], token));
        let several = config.tokens.iter().enumerate();
        let several =
            several.map(|(index, token)| (vec!["tokens".to_owned(), index.to_string()], token));
        for (path, token) in one.chain(several) {
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            if is_nothing(token) {
                diagnostics.add_for_run(&path, "is empty, so that anyone could be let in");
            } else if !token.is_elsewhere() && HeaderValue::from_str(token.expose()).is_err() {
                let problem = "has a character that no header can carry, such as the end of a line, so that no sender could show it; see whether the variable or file that it comes from ends in one";
                diagnostics.add(&path, problem);
            }
        }
        Some(config)
    }
}
