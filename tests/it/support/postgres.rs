//! A real PostgreSQL: Debian's newest on loopback, with a folder of its own, run by an ordinary user.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tagwarden::state::{PostgresLocation, PostgresPassword, StateLocation, StateStore};
use tempfile::TempDir;

/// The user of the database, and the password, which no output may show.
pub(crate) const USER: &str = "tagwarden";
pub(crate) const PASSWORD: &str = "open:sesame/42";

/// Where Debian has the server's own programs, each version in a folder of its own.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A running server with an empty database `state`; stopped when dropped.
pub(crate) struct Postgres {
    folder: TempDir,
    pub(crate) port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns true if this process is root, as whom PostgreSQL does not run.
fn is_root() -> bool {
    // The owner of this process's own entry.
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

/// The beginning of a command that runs as an ordinary user, and is killed when this thread ends, however it ends.
pub(crate) fn ordinary_user() -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/bin");
    command
}

fn program(name: &str) -> Command {
    let mut command = ordinary_user();
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.max_by_key(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    command.arg(newest.unwrap_or_else(|| PathBuf::from(VERSIONS)).join("bin").join(name));
    command
}

/// The beginning of a command that runs a client, such as `pg_dump`.
pub(crate) fn client_program(name: &str) -> Command {
    program(name)
}

fn succeed(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("cannot run {command:?} ({error}); install the Debian package `postgresql`, which these tests talk to")
    });
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Gives a folder to the user who runs the server.
pub(crate) fn hand_over(folder: &Path) {
    if is_root() {
        succeed(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(folder));
    }
}

/// A folder in which a server was set up, once for all tests of this user.
fn template() -> PathBuf {
    let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap());
    let place = std::env::temp_dir().join(format!("tagwarden-tests-postgres-15-{uid}"));
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let (data, done, password) = (place.join("data"), place.join("done"), place.join("password"));
    if !done.exists() {
        let _ = fs::remove_dir_all(&data);
        fs::write(&password, PASSWORD).unwrap();
        hand_over(&place);
        succeed(
            program("initdb")
                .args([
                    "--username",
                    USER,
                    "--auth-host=scram-sha-256",
                    "--auth-local=trust",
                    "--no-sync",
                    "--encoding=UTF8",
                ])
                // Other rules of sorting than those by bytes, to be told by.
                .args(["--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--wal-segsize=1"])
                .arg("--pwfile")
                .arg(&password)
                .arg("--pgdata")
                .arg(&data),
        );
        fs::write(&done, "").unwrap();
    }
    data
}

impl Postgres {
    /// Starts it and waits until it answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Does the same with a certificate and its key, as PEM.
    pub(crate) async fn start_encrypted(certificate: &str, key: &str) -> Self {
        Self::start_with(Some((certificate, key))).await
    }

    async fn start_with(tls: Option<(&str, &str)>) -> Self {
        let folder = tempfile::Builder::new().prefix("tagwarden-pg-").tempdir().unwrap();
        succeed(Command::new("chmod").arg("755").arg(folder.path()));
        succeed(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template()).arg(folder.path().join("data")));
        let mut settings = Vec::new();
        if let Some((certificate, key)) = tls {
            fs::write(folder.path().join("data/server.crt"), certificate).unwrap();
            fs::write(folder.path().join("data/server.key"), key).unwrap();
            succeed(Command::new("chmod").arg("600").arg(folder.path().join("data/server.key")));
            settings.push("ssl=on".to_owned());
        }
        hand_over(&folder.path().join("data"));
        fs::write(folder.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        let mut server = Self { folder, port: 0, settings, process: None };
        for _ in 0..5 {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if server.try_start().await {
                let mut connection = server.connect_to("postgres").await.unwrap();
                sqlx::raw_sql("CREATE DATABASE state").execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                return server;
            }
        }
        panic!("postgres did not come up on any of five ports: {}", server.log());
    }

    /// Starts it again on the same port, after it was killed.
    pub(crate) async fn restart(&mut self) {
        assert!(self.process.is_none());
        // Processes of the one that was killed hold its memory a moment longer, and it refuses to start meanwhile.
        for _ in 0..50 {
            if self.try_start().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("postgres did not start again: {}", self.log());
    }

    async fn try_start(&mut self) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = program("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).args(["-p", &self.port.to_string()]);
        let socket = format!("unix_socket_directories={}", self.folder.path().join("data").display());
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB", &*socket] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        for _ in 0..800 {
            if self.connect_to("postgres").await.is_ok() {
                return true;
            }
            if self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.kill();
        false
    }

    /// Kills it, as a machine that dies does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            // Its own processes end by themselves, and another server waits for that.
        }
    }

    /// The words of the server so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A file that holds the password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// The URL of the database, with that port of loopback.
    pub(crate) fn url_at(port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/state")
    }

    /// The URL of the database.
    pub(crate) fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// The place of the state in the database.
    pub(crate) fn location(&self) -> StateLocation {
        self.location_at(&self.url())
    }

    /// The same at another URL.
    pub(crate) fn location_at(&self, url: &str) -> StateLocation {
        let database = PostgresLocation::parse(url).unwrap();
        database.with_password(PostgresPassword::File(self.password_file())).into()
    }

    /// A connection of its own to the database of the state, for looking and meddling.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.connect_to("state").await.unwrap()
    }

    async fn connect_to(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options =
            PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port).ssl_mode(PgSslMode::Prefer);
        options.username(USER).password(PASSWORD).database(database).connect().await
    }

    /// Runs statements in the database of the state.
    pub(crate) async fn meddle(&self, statements: &'static str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Reads one number from the database of the state.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        let mut connection = self.connect().await;
        let number = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        number
    }
}

/// A new state in a server of its own.
pub(crate) async fn fresh() -> (Postgres, StateStore) {
    let server = Postgres::start().await;
    let store = StateStore::open(server.location()).await.unwrap();
    (server, store)
}
