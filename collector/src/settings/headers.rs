//! Headers of exporters.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::diagnostics::Diagnostics;
use super::secret::Secret;

/// Checks that headers can be sent; values that only the place has where the config is to run are not known here.
pub(crate) fn check_headers(diagnostics: &mut Diagnostics<'_>, headers: &BTreeMap<String, Secret>) {
    for (name, value) in headers {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let problem =
                "is not the name of a header: use letters, digits and `-`, without spaces or `:`";
            diagnostics.add(&["headers", name], problem);
        } else if !value.is_elsewhere() && HeaderValue::from_str(value.expose()).is_err() {
            let problem = "has a character that no header can carry, such as the end of a line; see whether the variable or file that it comes from ends in one";
            diagnostics.add(&["headers", name], problem);
        }
    }
}
