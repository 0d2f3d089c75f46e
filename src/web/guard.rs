//! Access control, and restrictions for browsers.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::AppState;
use super::problem::Problem;

/// Allows style, script and icon from this server, and nothing from anywhere else.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Requires authorization for responses, and sets the headers that restrict browsers.
pub(super) async fn guard(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let is_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let problem = Problem {
            status: StatusCode::METHOD_NOT_ALLOWED,
            kind: "read-only",
            message: "nothing can be changed here: only GET and HEAD are answered".to_owned(),
        };
        ([(ALLOW, "GET, HEAD")], problem).into_response()
    } else if is_health {
        next.run(request).await
    } else {
        match authorize(app.context.settings().listen_token.as_ref(), request.uri(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
                let ask = [(WWW_AUTHENTICATE, "Basic realm=\"Tagwarden\", charset=\"UTF-8\"")];
                (ask, problem).into_response()
            }
            Err(problem) => problem.into_response(),
        }
    };
    let fixed = [
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Status responses are outdated within a minute; only assets named by their content may be cached.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Returns an error unless a request may see more than the health.
pub(super) fn authorize(token: Option<&SecretString>, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = token else {
        // Without a token only this machine is served. A page of another site whose name was rebound to this address
        // still sends its own name.
        let host = uri.host().or_else(|| headers.get(HOST)?.to_str().ok());
        if host.is_none_or(is_localhost_or_ip) {
            return Ok(());
        }
        return Err(Problem {
            status: StatusCode::MISDIRECTED_REQUEST,
            kind: "other-host",
            message: "without a token only `localhost` and IP addresses are answered; behind a proxy, set \
                      `listen_token_file` and let the proxy send the token"
                .to_owned(),
        });
    };
    let shown = headers.get(AUTHORIZATION).and_then(|value| parse_token(value.to_str().ok()?));
    if shown.is_some_and(|shown| constant_time_eq(&shown, token.expose_secret())) {
        return Ok(());
    }
    Err(Problem {
        status: StatusCode::UNAUTHORIZED,
        kind: "token",
        message: "send the token of `listen_token_file` as `Authorization: Bearer …`; in a browser it is the password"
            .to_owned(),
    })
}

/// Returns true if a name with or without a port is that of this machine, or an IP address.
fn is_localhost_or_ip(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, _)| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// Returns the token in a header: itself, or as a password, because browsers ask people for one.
fn parse_token(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// Returns true if two texts are equal, compared in constant time.
fn constant_time_eq(shown: &str, token: &str) -> bool {
    let (shown, token) = (Sha256::digest(shown.as_bytes()), Sha256::digest(token.as_bytes()));
    shown.iter().zip(token.iter()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_told_from_others() {
        for host in
            ["localhost", "LOCALHOST:9464", "a.localhost:1", "127.0.0.1:9464", "10.1.2.3", "[::1]:9464", "[::1]"]
        {
            assert!(is_localhost_or_ip(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com:80", "127.0.0.1.example.com", "[evil]", "", "xlocalhost"] {
            assert!(!is_localhost_or_ip(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_read_from_either_scheme() {
        assert_eq!(parse_token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(parse_token("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(parse_token(&format!("Basic {}", STANDARD.encode("me:a:b"))).as_deref(), Some("a:b"));
        for wrong in ["abc", "Basic abc", "Digest abc", "Basic !!", ""] {
            assert_eq!(parse_token(wrong), None, "{wrong}");
        }
        assert!(constant_time_eq("abc", "abc") && !constant_time_eq("abc", "abd") && !constant_time_eq("", "abc"));
    }
}
