//! Debian's pgbouncer 1.18 in front of a server, in transaction mode: each transaction may have another session.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::Duration;

use tagwarden::state::StateStore;
use tempfile::TempDir;

use super::postgres::{PASSWORD, Postgres, USER, hand_over, ordinary_user};

/// A running pooler and the server behind it; stopped when dropped.
pub(crate) struct PgBouncer {
    pub(crate) server: Postgres,
    port: u16,
    folder: TempDir,
    process: Child,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl PgBouncer {
    /// Starts both. Two sessions serve all clients, so that nothing that a session holds would go unnoticed.
    pub(crate) async fn start() -> Self {
        let server = Postgres::start().await;
        let folder = tempfile::Builder::new().prefix("tagwarden-pgb-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("users"), format!("\"{USER}\" \"{PASSWORD}\"\n")).unwrap();
        let config = format!(
            "[databases]\nstate = host=127.0.0.1 port={} dbname=state\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 2\nserver_round_robin = 1\nlogfile = {}\n",
            server.port,
            path("users").display(),
            path("log").display(),
        );
        fs::write(path("pgbouncer.ini"), config).unwrap();
        hand_over(folder.path());
        let mut command = ordinary_user();
        command.arg("pgbouncer").arg("-q").arg(path("pgbouncer.ini"));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = spawned.unwrap_or_else(|error| {
            panic!(
                "cannot run {command:?} ({error}); install the Debian package `pgbouncer`, which these tests talk to"
            )
        });
        let mut pooler = Self { server, port, folder, process };
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return pooler;
            }
            if pooler.process.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!(
            "pgbouncer did not come up: {}",
            fs::read_to_string(pooler.folder.path().join("log")).unwrap_or_default()
        );
    }
}

/// A new state behind a pooler.
pub(crate) async fn fresh() -> (PgBouncer, StateStore) {
    let pooler = PgBouncer::start().await;
    let location = pooler.server.location_at(&Postgres::url_at(pooler.port));
    let store = StateStore::open(location).await.unwrap();
    (pooler, store)
}
