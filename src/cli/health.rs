//! `tagwarden health`: a query of the daemon on this machine, for a container's health check, which has no other
//! program.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::arguments::parse_duration;
use super::context::environment;
use super::output::{print, print_stderr};
use crate::config;
use crate::domain::Failure;
use crate::http_client::{ClientConfig, HttpClient, Request, RequestError, RequestErrorKind, RetryPolicy, one_line};
use crate::workflow::RunError;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Ask whether the daemon is ready (/readyz), not only alive
    ///
    /// It is ready when it runs by its schedule. Without the flag, /healthz is asked.
    #[arg(long, conflicts_with = "url")]
    ready: bool,
    /// Ask this address [default: `listen` in the settings]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,
    /// Wait this long for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = text.parse::<Url>().ok().filter(Url::has_host);
    url.ok_or_else(|| "write it with its scheme, such as http://127.0.0.1:9464/healthz".to_owned())
}

/// A single request: the caller repeats the check anyway.
const NO_RETRY: RetryPolicy = RetryPolicy {
    max_retries: 0,
    initial_delay: Duration::ZERO,
    max_delay: Duration::ZERO,
    max_total_delay: Duration::ZERO,
};

/// Queries the daemon on this machine.
pub(super) async fn health(config: Option<&Path>, args: &HealthArgs) -> Result<u8, RunError> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => health_url(config, args.ready)?,
    };
    let peer = ClientConfig { name: url.to_string(), ca_file: None, timeout: args.timeout };
    let client = HttpClient::without_proxy(&peer, NO_RETRY).map_err(|error| RunError::Output(error.with_kind(())))?;
    match client.send(&Request::get(url.clone(), "text/plain", 64 * 1024), None).await {
        Ok(response) => {
            let told = one_line(String::from_utf8_lossy(&response.body).trim());
            if response.status.is_success() {
                print(&format!("{told}\n"));
                return Ok(0);
            }
            print_stderr(&format!("{url} answered {}: {told}", response.status));
        }
        Err(error) => print_stderr(&format!("error: {}", describe_failure(&url, args.url.is_some(), &error))),
    }
    Ok(1)
}

/// Describes a request without an answer: the address, the innermost cause, and what to do next.
fn describe_failure(url: &Url, is_given: bool, error: &RequestError) -> String {
    let (RequestErrorKind::Connection, Some(host)) = (error.kind, url.host_str()) else { return error.chain() };
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    let mut innermost = error.source();
    while let Some(inner) = innermost.and_then(Error::source) {
        innermost = Some(inner);
    }
    if has_timed_out(error) {
        return format!(
            "{host}{port} takes connections and does not answer in time: the daemon there hangs, or is overloaded, and may \
             still hold the lease of the state; look at its log, and restart it (`systemctl restart tagwarden`)"
        );
    }
    // The layers above it say only that there was no connection.
    let reason = innermost.map(|innermost| format!(": {innermost}")).unwrap_or_default();
    let correct = if is_given { "--url" } else { "listen" };
    format!("no daemon answers at {host}{port}{reason}; start it with `tagwarden serve`, or correct `{correct}`")
}

/// Returns true if a connection was made and no answer came in time.
fn has_timed_out(error: &RequestError) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(request) = inner.downcast_ref::<reqwest::Error>() {
            return request.is_timeout() && !request.is_connect();
        }
        cause = inner.source();
    }
    false
}

/// Returns the health URL of the daemon with these settings. Only `listen` is read: later errors in the settings do not
/// affect its health.
fn health_url(config: Option<&Path>, ready: bool) -> Result<Url, RunError> {
    let file = config::find(config)?;
    let environment: Vec<(String, String)> = environment().collect();
    let listen = reachable_address(config::listen_address(&file, &environment)?);
    let path = if ready { "readyz" } else { "healthz" };
    let url = format!("http://{listen}/{path}").parse();
    url.map_err(|error: url::ParseError| {
        RunError::Usage(Failure::new((), format!("http://{listen}/{path} is not a valid address")).caused_by(error))
    })
}

/// Returns the loopback address if the daemon listens on all addresses.
fn reachable_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_asked_here() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:2", "10.0.0.7:2"),
        ] {
            assert_eq!(reachable_address(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
