//! Purpose of reading a config, on which depends what must be there.

/// Purpose of reading a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is to run, here and now.
    Run,
    /// It may run elsewhere, where the secrets are.
    Check,
}
