//! Whether the daemon on this machine is alive: for the health check of a container, which has no other program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::HealthArgs;
use super::commands::environment;
use super::output::{print, say};
use crate::config;
use crate::run::RunError;
use crate::transport::{Ask, Patience, Peer, Transport, plain};

/// Asked once: whoever wants to know asks again anyway.
const ONCE: Patience = Patience { retries: 0, first: Duration::ZERO, longest: Duration::ZERO, total: Duration::ZERO };

pub(super) async fn health(config: Option<&Path>, args: &HealthArgs) -> Result<u8, RunError> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => address(config, args.ready)?,
    };
    let peer = Peer { name: url.to_string(), ca_file: None, timeout: args.timeout };
    let transport = Transport::direct(&peer, ONCE).map_err(|error| RunError::Output(error.message))?;
    match transport.send(&Ask::get(url.clone(), "text/plain", 64 * 1024), None).await {
        Ok(answer) => {
            let told = plain(String::from_utf8_lossy(&answer.body).trim());
            if answer.status.is_success() {
                print(&format!("{told}\n"));
                return Ok(0);
            }
            say(&format!("{url} answered {}: {told}", answer.status));
        }
        Err(error) => say(&error.message),
    }
    Ok(1)
}

/// Where the daemon of these settings answers. Only `listen` is read: settings that have become wrong since it started
/// say nothing of its health.
fn address(config: Option<&Path>, ready: bool) -> Result<Url, RunError> {
    let file = config::find(config)?;
    let environment: Vec<(String, String)> = environment().collect();
    let listen = reachable(config::listen_address(&file, &environment)?);
    let path = if ready { "readyz" } else { "healthz" };
    let url = format!("http://{listen}/{path}").parse();
    url.map_err(|error| RunError::Usage(format!("http://{listen}/{path} is no address: {error}")))
}

/// Who listens on all addresses is asked at this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
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
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
