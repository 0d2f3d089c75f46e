//! Failures carry their cause as a value of its own type, and read as before: each sentence once.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::SocketAddr;

use tagwarden::domain::chain;
use tagwarden::registry::{
    DistributionReader, InvalidContent, RegistryErrorKind, RegistryReader as _, RegistrySettings, RetryPolicy,
};
use tagwarden::report::{PlanReadError, read_plan};
use tagwarden::sources::{FileSet, ImageReferences, Source as _, TextSettings};
use tagwarden::state::{SqliteState, StateErrorKind};
use tagwarden::workflow::{Refused, RunError};
use tagwarden::{config, policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wiremock::MockServer;

use crate::registry::{answer, quick, settings};

/// The cause of an error, after a look at the words of them all.
#[track_caller]
pub(crate) fn cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> &'e E {
    let words = chain(error);
    let mut seen = BTreeSet::new();
    for sentence in words.split(": ").flat_map(|part| part.split("; ")) {
        assert!(seen.insert(sentence), "`{sentence}` comes twice: {words}");
    }
    let source = error.source().unwrap_or_else(|| panic!("no cause: {words}"));
    assert!(words.contains(&source.to_string()) && !error.to_string().contains(&source.to_string()), "{words}");
    source.downcast_ref().unwrap_or_else(|| panic!("another type of cause: {source:?}"))
}

fn reader(settings: RegistrySettings) -> DistributionReader {
    DistributionReader::with_retry_policy(settings, RetryPolicy { max_retries: 0, ..quick() }).unwrap()
}

#[tokio::test]
async fn a_refused_connection_has_the_error_of_the_client() {
    let free: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = reader(settings(&format!("http://{free}"))).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Connection);
    assert!(cause::<reqwest::Error>(&error).is_connect());
    assert!(chain(&error).contains("Connection refused"), "{}", chain(&error));
}

#[tokio::test]
async fn a_port_without_tls_is_named_without_the_layers_around() {
    let server = MockServer::start().await;
    let error = reader(settings(&server.uri().replace("http://", "https://"))).catalogue().await.unwrap_err();
    let address = server.address();
    let said = format!("could not connect: {address} answers, but not with TLS; write `http://` if it has none");
    assert!(chain(&error).contains(&said), "{}", chain(&error));
}

/// A server that refuses each handshake: the alert `handshake_failure` (RFC 8446, section 6.2).
async fn refuse_handshakes() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 1024];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).await;
        }
    });
    address
}

#[tokio::test]
async fn failing_tls_has_the_error_of_the_client() {
    let server = refuse_handshakes().await;
    let error = reader(settings(&format!("https://{server}"))).catalogue().await.unwrap_err();
    let mut found: Option<&(dyn Error + 'static)> = Some(cause::<reqwest::Error>(&error));
    let mut is_tls = false;
    while let Some(error) = found {
        is_tls |= error.is::<rustls::Error>();
        // The source of such an error is that of the error in it, which it leaves out.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        found = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    assert!(is_tls, "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_json_has_the_error_of_the_parser() {
    let server = MockServer::start().await;
    let page = wiremock::ResponseTemplate::new(200).set_body_string("{\"repositories\": 7}");
    answer(&server, "GET", "/v2/_catalog", page).await;
    let error = reader(settings(&server.uri())).catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Malformed);
    assert!(matches!(cause(&error), InvalidContent::Json(error) if error.is_data()), "{error:?}");
}

#[tokio::test]
async fn files_that_cannot_be_read_have_the_error_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;

    let error = config::load(&missing, []).unwrap_err();
    assert!(is_missing(cause(&error.diagnostics[0])));
    let error = policy::load(&missing).unwrap_err();
    assert!(is_missing(cause(&error.diagnostics[0])));
    assert!(chain(&RunError::Invalid(error.diagnostics)).contains("cannot be read: No such file"));

    let ca_file = Some(missing);
    let error = DistributionReader::new(RegistrySettings { ca_file, ..settings("https://r.example") }).unwrap_err();
    assert!(is_missing(cause(&error)));
    assert!(chain(&error).ends_with("; give a PEM file with one or more certificates"), "{}", chain(&error));
}

#[cfg(unix)]
#[tokio::test]
async fn a_source_keeps_the_error_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    let files = FileSet { base: folder.path().to_owned(), globs: vec!["loop".to_owned()] };
    let source = ImageReferences::new(files, Vec::new(), TextSettings::default());
    let error = source.query(jiff::Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(error.kind, "unreadable");
    assert!(cause::<io::Error>(&error).raw_os_error().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_damaged_state_has_the_error_of_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    SqliteState::open(&path).await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The page of the schema.
    bytes[100..4000].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let error = SqliteState::open(&path).await.unwrap_err();
    assert_eq!(error.kind, StateErrorKind::Corrupt, "{error:?}");
    assert!(cause::<sqlx::sqlite::SqliteError>(&error).to_string().ends_with("malformed"));
    assert!(chain(&error).ends_with("put back a backup, or move it away to start anew"), "{}", chain(&error));
}

#[test]
fn a_refused_plan_has_the_error_of_the_parser() {
    let error = read_plan("{").unwrap_err();
    assert!(matches!(error, PlanReadError::NotJson(_)));
    assert!(cause::<serde_json::Error>(&error).is_eof());
    let refused = RunError::Refused(Refused::InvalidPlan(error));
    assert!(matches!(cause::<Refused>(&refused).source(), Some(source) if source.is::<serde_json::Error>()));
    assert!(chain(&refused).starts_with("refused: the plan is not JSON: EOF"), "{}", chain(&refused));
}
