//! Headers of exporters.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::diagnostics::Diagnostics;
use super::secret::Secret;

/// Reads headers: a map, or as the Collector prints them a list of `name` and `value`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Secret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        name: String,
        value: Secret,
    }

    struct Headers;

    impl<'de> Visitor<'de> for Headers {
        type Value = BTreeMap<String, Secret>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a map of headers")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            BTreeMap::deserialize(MapAccessDeserializer::new(map))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            let pairs = Vec::<Pair>::deserialize(SeqAccessDeserializer::new(list))?;
            Ok(pairs.into_iter().map(|pair| (pair.name, pair.value)).collect())
        }
    }

    from.deserialize_any(Headers)
}

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
