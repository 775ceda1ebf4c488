//! Which web pages may use the server.

use super::hosts::Hosts;
use super::http::{HttpError, Request};

/// Whose pages may connect (RFC 6455 §10.2).
///
/// This protects the users of browsers. It is no authentication: other clients send any `Origin`, or none, which is always
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All pages.
    Any,
    /// Pages from the host and port that `Host` names, when it is one of these.
    SameHost(Hosts),
    /// Pages of exactly these origins, such as `https://app.example` or `https://app.example:8443`. There are no patterns.
    List(Vec<String>),
}

impl Default for Origins {
    fn default() -> Self {
        Self::SameHost(Hosts::default())
    }
}

/// What the response tells a browser about the page that asked (CORS): whether the page may read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// `None`: the request names no page of another origin.
    origin: Option<Box<str>>,
    credentials: bool,
}

impl Cors {
    /// The headers of every response to the page.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let origin = self.origin.as_deref();
        let echo = origin.map(|origin| ("Access-Control-Allow-Origin", origin));
        let credentials =
            origin.filter(|_| self.credentials).map(|_| ("Access-Control-Allow-Credentials", "true"));
        echo.into_iter().chain(credentials).chain(origin.map(|_| ("Vary", "Origin")))
    }

    /// Those of the answer to a preflight, too.
    pub fn preflight(&self, methods: &'static str) -> impl Iterator<Item = (&'static str, &str)> {
        let allowed = [
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, Idempotency-Key"),
            ("Access-Control-Max-Age", "600"),
        ];
        self.headers().chain(allowed.into_iter().filter(|_| self.origin.is_some()))
    }
}

/// Checks a request that a page may have made without a WebSocket. A browser that sends no `Origin` for it says at least that the
/// page is of another site.
///
/// # Errors
/// 403, when pages of this origin may not use the server.
pub fn check_page(request: &Request, origins: &Origins) -> Result<Cors, HttpError> {
    check_origin(request, origins)?;
    let origin = request.header("origin");
    let is_foreign = request.headers("sec-fetch-site").any(|site| site.eq_ignore_ascii_case("cross-site"));
    if origin.is_none() && is_foreign && *origins != Origins::Any {
        return Err(FORBIDDEN_ORIGIN);
    }
    // A page that was loaded by a name of its owner, which points here now, is of the same origin, and browsers name none then.
    if let (Origins::SameHost(hosts), None, Some(host)) = (origins, origin, request.host())
        && (hosts.is_local() || is_browser(request))
        && !hosts.knows(host)
    {
        return Err(UNKNOWN_HOST);
    }
    Ok(Cors { origin: origin.map(Into::into), credentials: matches!(origins, Origins::List(_)) })
}

/// Whether the request is from a browser, as far as it can be seen. Over plain HTTP only the name tells.
fn is_browser(request: &Request) -> bool {
    request.headers("sec-fetch-site").next().is_some()
        || request.headers("user-agent").any(|name| name.starts_with("Mozilla/"))
}

/// Checks that pages of the origin that the request names may connect.
///
/// # Errors
/// 403.
pub(super) fn check_origin(request: &Request, origins: &Origins) -> Result<(), HttpError> {
    let mut values = request.headers("origin");
    let origin = match (values.next(), values.next()) {
        (None, _) => return Ok(()),
        (Some(origin), None) => origin,
        (Some(_), Some(_)) => return Err(FORBIDDEN_ORIGIN),
    };
    let allowed = match origins {
        Origins::Any => true,
        Origins::SameHost(hosts) => match request.host().filter(|host| is_same_host(origin, host)) {
            Some(host) if !hosts.knows(host) => return Err(UNKNOWN_HOST),
            same_host => same_host.is_some(),
        },
        Origins::List(list) => {
            origin.is_ascii() && list.iter().any(|other| other.eq_ignore_ascii_case(origin))
        }
    };
    if allowed { Ok(()) } else { Err(FORBIDDEN_ORIGIN) }
}

/// Compares host and port. The scheme is not compared: when a proxy ends TLS, it is not known here.
fn is_same_host(origin: &str, host: &str) -> bool {
    let default_port = match origin.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => ":443",
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => ":80",
        _ => return false,
    };
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let without_default = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    without_default(authority) == without_default(host)
}

const FORBIDDEN_ORIGIN: HttpError =
    HttpError::new(403, "pages of this origin may not connect").with_setting("origins");
const UNKNOWN_HOST: HttpError =
    HttpError::new(403, "pages may not connect by this host name").with_setting("allowed_hosts");

#[cfg(test)]
mod tests {
    use super::super::hosts::Reach;
    use super::super::http::{HeadLimits, HeadReader};
    use super::*;

    fn check(headers: &str, origins: &Origins) -> Result<Vec<String>, u16> {
        let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let (request, _) =
            HeadReader::default().read(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        let cors = check_page(&request, origins).map_err(|error| error.status)?;
        Ok(cors.headers().map(|(name, value)| format!("{name}: {value}")).collect())
    }

    #[test]
    fn a_page_that_may_read_the_response_is_told_so_and_with_cookies_only_where_it_is_listed() {
        let (list, same) = (Origins::List(vec!["https://a.example".into()]), Origins::default());
        let echo = |origin: &str| format!("Access-Control-Allow-Origin: {origin}");
        let (credentials, vary) =
            ("Access-Control-Allow-Credentials: true".to_owned(), "Vary: Origin".to_owned());
        let listed = vec![echo("https://a.example"), credentials, vary.clone()];
        assert_eq!(check("Origin: https://a.example\r\n", &list), Ok(listed));
        assert_eq!(check("Origin: https://b\r\n", &Origins::Any), Ok(vec![echo("https://b"), vary.clone()]));
        assert_eq!(check("Origin: http://localhost\r\n", &same), Ok(vec![echo("http://localhost"), vary]));
        for origins in [&list, &same] {
            assert_eq!(check("Origin: https://b.example\r\n", origins), Err(403));
            assert_eq!(check("Origin: null\r\n", origins), Err(403));
            assert_eq!(check("", origins), Ok(vec![]));
        }
    }

    #[test]
    fn a_request_from_another_site_is_refused_also_without_its_origin() {
        for (site, expected) in [("cross-site", Err(403)), ("same-site", Ok(vec![])), ("none", Ok(vec![]))] {
            assert_eq!(
                check(&format!("Sec-Fetch-Site: {site}\r\n"), &Origins::default()),
                expected,
                "{site}"
            );
        }
        assert_eq!(check("Sec-Fetch-Site: cross-site\r\n", &Origins::Any), Ok(vec![]));
    }

    #[test]
    fn a_page_that_was_loaded_by_another_name_of_this_server_is_refused_also_without_its_origin() {
        let network = || Origins::SameHost(Hosts::new(Reach::Network, &["app.example"]));
        let request = |host: &str, headers: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
            HeadReader::default().read(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap().0
        };
        for (host, headers, origins, expected) in [
            ("evil.example", "", Origins::default(), false),
            ("localhost:8000", "User-Agent: Mozilla/5.0\r\n", Origins::default(), true),
            ("evil.example", "User-Agent: Mozilla/5.0\r\n", network(), false),
            ("evil.example", "Sec-Fetch-Site: same-origin\r\n", network(), false),
            ("app.example", "User-Agent: Mozilla/5.0\r\n", network(), true),
            ("backend.internal", "User-Agent: curl/8.5\r\n", network(), true),
            ("evil.example", "User-Agent: Mozilla/5.0\r\n", Origins::Any, true),
        ] {
            assert_eq!(check_page(&request(host, headers), &origins).is_ok(), expected, "{host} {headers}");
        }
    }

    #[test]
    fn a_preflight_says_what_a_page_may_send() {
        let cors = Cors { origin: Some("https://a".into()), credentials: false };
        assert_eq!(cors.preflight("GET").count(), 5);
        assert_eq!(Cors::default().preflight("GET").count(), 0);
    }
}
