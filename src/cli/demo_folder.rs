//! The folder of `tagwarden demo`, whose sample registry stops with it.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use url::Url;

use crate::config::Settings;
use crate::domain::Failure;
use crate::workflow::RunError;

/// The file that marks a folder of the demo.
const MARKER_FILE: &str = ".tagwarden-demo";

/// Longest wait for an answer of this machine to itself.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Makes sure that the sample registry runs, if the settings are those of a demo: it is not worth trying again for half
/// a minute, because only a person starts it.
///
/// # Errors
/// [`RunError::Unread`].
pub(super) fn require_sample_registry(settings: &Settings) -> Result<(), RunError> {
    let folder = settings.file.parent().unwrap_or(Path::new(""));
    if !folder.join(MARKER_FILE).exists() {
        return Ok(());
    }
    let Some(stopped) = settings.registries.iter().find(|one| is_stopped(&one.endpoint)) else { return Ok(()) };
    let message = format!("the sample registry of this demo, {}, has stopped", stopped.endpoint);
    let name = match folder.to_string_lossy() {
        here if here.is_empty() => ".".to_owned(),
        folder => folder.into_owned(),
    };
    let help = format!("`tagwarden demo --serve --folder {name}` starts a new one and keeps it running");
    Err(RunError::Unread(Failure::new((), message).with_help(help)))
}

/// Returns true if this machine refuses connections to an address of its own.
fn is_stopped(endpoint: &Url) -> bool {
    let Ok(addresses) = endpoint.socket_addrs(|| None) else { return false };
    let refuses = |address| {
        let tried = TcpStream::connect_timeout(address, CONNECT_TIMEOUT);
        tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback() && refuses(address))
}
