//! Requests of pages in browsers, which ask whether a page of another origin may send: the Fetch standard's CORS protocol, answered as
//! rs/cors does, which the Collector uses.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use crate::settings::Diagnostics;

/// Headers that pages may set where the settings name none.
const USUAL_HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];
/// Methods that pages may use.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::HEAD];
/// How many empty elements a list of headers may have.
const MAX_EMPTY: usize = 16;
/// Request headers that the answer to a preflight depends on.
const PREFLIGHT_VARY: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// Pages in browsers that may send, by CORS.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Origins of the pages, such as `https://shop.example.com`. One `*` in each stands for any text; `*` alone is every origin, to
    /// which browsers send no credentials. Default: none.
    pub(crate) allowed_origins: Vec<String>,
    /// Headers that pages may set, `*` for all. Default: `Accept`, `Content-Type`, `X-Requested-With`.
    pub(crate) allowed_headers: Vec<String>,
    /// Headers of replies that pages may read, beside those that they always may. Default: none.
    pub(crate) exposed_headers: Vec<String>,
    /// How many seconds a browser may remember that a page may send. Default 0: as long as it does by itself, which is 5 s by the
    /// standard; below zero: not at all.
    pub(crate) max_age: i64,
}

impl Config {
    /// Reports the problems of the section.
    pub(crate) fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            if let Some(problem) = problem_of_origin(origin) {
                let path = ["cors", "allowed_origins", &index.to_string()];
                diagnostics.add(&path, problem);
            }
        }
        for (key, headers) in
            [("allowed_headers", &self.allowed_headers), ("exposed_headers", &self.exposed_headers)]
        {
            for (index, header) in headers.iter().enumerate() {
                if HeaderName::from_bytes(header.as_bytes()).is_err() {
                    let problem = "is not the name of a header: use letters, digits and `-`, and an item of the list for each";
                    diagnostics.add(&["cors", key, &index.to_string()], problem);
                }
            }
        }
        let asks = !self.allowed_headers.is_empty()
            || !self.exposed_headers.is_empty()
            || self.max_age != 0;
        if self.allowed_origins.is_empty() && asks {
            let text = "names no `allowed_origins`, so that no page of another origin may send, and the rest has no effect";
            diagnostics.note(&["cors"], text);
        }
    }
}

/// Returns the reason for which no browser ever sends this origin, if there is one: it is `null`, or a scheme, a host and perhaps a port
/// (RFC 6454, 6.1).
fn problem_of_origin(origin: &str) -> Option<&'static str> {
    if origin == "*" || origin.eq_ignore_ascii_case("null") {
        return None;
    }
    let (has_scheme, rest) = match origin.split_once("://") {
        Some((scheme, rest)) => (!scheme.is_empty() && !rest.is_empty(), rest),
        None => (false, origin),
    };
    match () {
        () if HeaderValue::from_str(origin).is_err() || origin.contains(char::is_whitespace) => {
            Some("is not an origin; write for example `https://shop.example.com`")
        }
        () if origin.matches('*').count() > 1 => {
            Some("has more than one `*`, of which the second one would match nothing; use one")
        }
        () if rest.contains('/') => Some(
            "has a path, which a browser's origin never has, so that it would match none; end it behind the host or its port",
        ),
        () if !has_scheme && !origin.starts_with('*') => Some(
            "has no scheme, which a browser's origin always has, so that it would match none; write for example `https://shop.example.com`, or `*://` in front",
        ),
        () => None,
    }
}

/// Answers for one port.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Origins,
    /// In lower case, sorted; all if `None`.
    headers: Option<Vec<String>>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

#[derive(Debug)]
enum Origins {
    All,
    These(Vec<Pattern>),
}

/// An origin in lower case.
#[derive(Debug)]
enum Pattern {
    Whole(String),
    /// The texts in front of `*` and behind it.
    Around(String, String),
}

impl Pattern {
    fn of(origin: &str) -> Self {
        let origin = origin.to_lowercase();
        match origin.split_once('*') {
            Some((front, behind)) => Self::Around(front.into(), behind.into()),
            None => Self::Whole(origin),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Whole(whole) => whole == origin,
            Self::Around(front, behind) => {
                origin.len() >= front.len() + behind.len()
                    && origin.starts_with(front.as_str())
                    && origin.ends_with(behind.as_str())
            }
        }
    }
}

/// A request as CORS sees it, with the headers that its reply gets.
#[derive(Debug)]
pub(super) enum Asked {
    /// A browser asks whether a page may send: the headers are all there is to answer.
    Preflight(HeaderMap),
    /// Any other request.
    Actual(HeaderMap),
}

impl Cors {
    /// Makes one, where any origin is allowed.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let origins = match config.allowed_origins.as_slice() {
            [] => return None,
            origins if origins.iter().any(|origin| origin == "*") => Origins::All,
            origins => Origins::These(origins.iter().map(|origin| Pattern::of(origin)).collect()),
        };
        let headers = match config.allowed_headers.as_slice() {
            [] => Some(USUAL_HEADERS.map(str::to_owned).to_vec()),
            headers if headers.iter().any(|header| header == "*") => None,
            headers => {
                let mut headers: Vec<_> =
                    headers.iter().map(|header| header.to_lowercase()).collect();
                headers.sort_unstable();
                headers.dedup();
                Some(headers)
            }
        };
        let exposed: Vec<_> = config.exposed_headers.iter().map(|name| canonical(name)).collect();
        let exposed = (!exposed.is_empty()).then(|| exposed.join(", "));
        Some(Self {
            origins,
            headers,
            exposed: exposed.and_then(|names| HeaderValue::from_str(&names).ok()),
            max_age: (config.max_age != 0)
                .then(|| HeaderValue::from(config.max_age.max(0).unsigned_abs())),
        })
    }

    /// Looks at the head of a request.
    pub(super) fn look(&self, method: &Method, request: &HeaderMap) -> Asked {
        let asked = request.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|asked| !asked.is_empty());
        match asked {
            Some(asked) if method == Method::OPTIONS => {
                Asked::Preflight(self.preflight(asked, request))
            }
            _ => Asked::Actual(self.actual(method, request)),
        }
    }

    fn preflight(&self, method: &HeaderValue, request: &HeaderMap) -> HeaderMap {
        let mut reply = HeaderMap::new();
        reply.insert(VARY, PREFLIGHT_VARY);
        let asked_headers: Vec<_> =
            request.get_all(ACCESS_CONTROL_REQUEST_HEADERS).into_iter().collect();
        let is_method = Method::from_bytes(method.as_bytes()).is_ok_and(|method| allows(&method));
        if !is_method || !self.allows_headers(&asked_headers) {
            return reply;
        }
        let Some(origin) = self.allowed_origin(request) else { return reply };
        reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        reply.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if asked_headers.first().is_some_and(|first| !first.is_empty()) {
            for header in asked_headers {
                reply.append(ACCESS_CONTROL_ALLOW_HEADERS, header.clone());
            }
        }
        reply.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if let Some(max_age) = &self.max_age {
            reply.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        reply
    }

    fn actual(&self, method: &Method, request: &HeaderMap) -> HeaderMap {
        let mut reply = HeaderMap::new();
        reply.insert(VARY, HeaderValue::from_static("Origin"));
        if !allows(method) {
            return reply;
        }
        let Some(origin) = self.allowed_origin(request) else { return reply };
        reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let Some(exposed) = &self.exposed {
            reply.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        reply.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        reply
    }

    /// The answer to the origin of a request, if it is allowed.
    fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        match &self.origins {
            Origins::All => Some(HeaderValue::from_static("*")),
            Origins::These(patterns) => {
                let text = String::from_utf8_lossy(origin.as_bytes()).to_lowercase();
                patterns.iter().any(|pattern| pattern.matches(&text)).then(|| origin.clone())
            }
        }
    }

    /// Returns whether a page may set these headers: browsers list them in lower case, sorted, and each once (Fetch, 4.8).
    fn allows_headers(&self, lists: &[&HeaderValue]) -> bool {
        let Some(allowed) = &self.headers else { return true };
        let (mut next, mut empty) = (0, 0);
        for name in lists.iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b',')) {
            let name = without_space(name);
            if name.is_empty() {
                empty += 1;
                if empty > MAX_EMPTY {
                    return false;
                }
                continue;
            }
            let rest = &allowed[next..];
            match rest.iter().position(|allowed| allowed.as_bytes() == name) {
                Some(position) => next += position + 1,
                None => return false,
            }
        }
        true
    }
}

fn allows(method: &Method) -> bool {
    METHODS.contains(method) || method == Method::OPTIONS
}

/// A name without the one space or tab that may stand on either side of it.
fn without_space(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b" ").or(name.strip_prefix(b"\t")).unwrap_or(name);
    name.strip_suffix(b" ").or(name.strip_suffix(b"\t")).unwrap_or(name)
}

/// A header's name as Go writes it: `Retry-After`.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::{Asked, Config, Cors, canonical, problem_of_origin};

    fn cors(yaml: &str) -> Cors {
        let node = crate::settings::node::Node::parse("test", yaml).unwrap();
        let config: Config =
            crate::settings::decode::decode(&node, crate::settings::Purpose::Run).unwrap();
        Cors::new(&config).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    /// The headers of CORS that a reply gets, but for `Vary`.
    fn answered(cors: &Cors, method: Method, request: &[(&'static str, &'static str)]) -> String {
        let (Asked::Preflight(reply) | Asked::Actual(reply)) =
            cors.look(&method, &headers(request));
        let mut lines: Vec<_> = reply
            .iter()
            .filter_map(|(name, value)| {
                let name = name.as_str().strip_prefix("access-control-")?;
                Some(format!("{name}={}", value.to_str().unwrap()))
            })
            .collect();
        lines.sort();
        lines.join(" ")
    }

    const PAGE: (&str, &str) = ("origin", "https://shop.example.com");
    const POST: (&str, &str) = ("access-control-request-method", "POST");
    const TYPE: (&str, &str) = ("access-control-request-headers", "content-type");

    #[test]
    fn a_browser_hears_whether_a_page_may_send() {
        let cors = cors("{allowed_origins: ['https://*.Example.com', 'http://a'], max_age: 7200}");
        let asked = |request: &[_]| answered(&cors, Method::OPTIONS, request);
        let allowed = "allow-credentials=true allow-headers=content-type allow-methods=POST allow-origin=https://shop.example.com max-age=7200";
        assert_eq!(asked(&[PAGE, POST, TYPE]), allowed);
        assert_eq!(asked(&[("origin", "https://shop.example.org"), POST, TYPE]), "");
        assert_eq!(asked(&[("origin", "http://a.b"), POST, TYPE]), "");
        assert_eq!(asked(&[POST, TYPE]), "", "it is of no page");
        assert_eq!(asked(&[PAGE, ("access-control-request-method", "PUT")]), "");
        let of = |names| asked(&[PAGE, POST, ("access-control-request-headers", names)]);
        assert_ne!(of("accept, content-type,,x-requested-with"), "");
        assert_ne!(of(""), "");
        for refused in
            ["authorization", "Content-Type", "content-type,accept", "accept,  content-type"]
        {
            assert_eq!(of(refused), "", "{refused}");
        }
        let asked = cors.look(&Method::OPTIONS, &headers(&[PAGE, POST]));
        let Asked::Preflight(reply) = asked else { panic!("{asked:?}") };
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        assert_eq!(reply["vary"], vary);
    }

    #[test]
    fn a_page_may_read_the_reply_to_what_it_sends() {
        let cors = cors(
            "{allowed_origins: ['https://shop.example.com'], exposed_headers: [retry-after, X-a]}",
        );
        let sent = |method, request: &[_]| answered(&cors, method, request);
        assert_eq!(
            sent(Method::POST, &[PAGE]),
            "allow-credentials=true allow-origin=https://shop.example.com expose-headers=Retry-After, X-A"
        );
        assert_eq!(sent(Method::POST, &[("origin", "https://other.example.com")]), "");
        assert_eq!(sent(Method::PUT, &[PAGE]), "");
        let asked = cors.look(&Method::OPTIONS, &headers(&[PAGE]));
        let Asked::Actual(reply) = asked else { panic!("{asked:?}") };
        assert_eq!(reply["vary"], "Origin");
    }

    #[test]
    fn every_origin_and_every_header_can_be_allowed() {
        let cors =
            cors("{allowed_origins: ['http://a', '*'], allowed_headers: [x, '*'], max_age: -1}");
        let request = [PAGE, POST, ("access-control-request-headers", "z,a")];
        assert_eq!(
            answered(&cors, Method::OPTIONS, &request),
            "allow-credentials=true allow-headers=z,a allow-methods=POST allow-origin=* max-age=0"
        );
        assert!(Cors::new(&Config::default()).is_none());
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_found() {
        for fine in [
            "*",
            "null",
            "https://a",
            "http://localhost:3000",
            "*.example.com",
            "https://*.a.b",
            "app://x",
            "*",
        ] {
            assert_eq!(problem_of_origin(fine), None, "{fine}");
        }
        for (wrong, problem) in [
            ("https://a/", "has a path"),
            ("https://a/b", "has a path"),
            ("a.example.com", "has no scheme"),
            ("localhost:3000", "has no scheme"),
            ("https://*.*.b", "more than one"),
            ("https://a, https://b", "is not an origin"),
            ("", "has no scheme"),
        ] {
            let found = problem_of_origin(wrong).unwrap_or_default();
            assert!(found.contains(problem), "{wrong}: {found}");
        }
        assert_eq!(canonical("x-reQuest-id"), "X-Request-Id");
    }
}
