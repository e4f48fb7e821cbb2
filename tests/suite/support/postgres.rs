//! Real PostgreSQL servers: one that all tests share, and others that a test stops and starts as it likes.

use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::sync::OnceCell;

use super::names::unique;
use super::ports::free_port;
use super::postgres_programs::{User, find_programs};
use super::process::{Folder, Supervised};
use super::run::run_blocking;
use super::wait::eventually;

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const INITDB_WITHIN: Duration = Duration::from_mins(2);
/// How often another port is tried when something else took the free one first.
const ATTEMPTS: usize = 3;
const PORT_TAKEN: &str = "Address already in use";

/// The PostgreSQL server that all tests share, started by the first one that asks; each test has databases of its own
/// in it.
pub async fn postgres() -> &'static Postgres {
    static SHARED: OnceCell<Result<Postgres, String>> = OnceCell::const_new();
    match SHARED.get_or_init(Postgres::try_new).await {
        Ok(server) => server,
        Err(problem) => panic!("no test database server: {problem}"),
    }
}

/// A PostgreSQL server with its data in a temporary folder.
pub struct Postgres {
    // Dropped, and with it ended, before the folder.
    server: Option<Supervised>,
    folder: Arc<Folder>,
    programs: PathBuf,
    run_as: Option<User>,
    port: u16,
    password: String,
}

impl Postgres {
    /// A server for one test alone, running.
    pub async fn new() -> Self {
        match Self::try_new().await {
            Ok(server) => server,
            Err(problem) => panic!("no test database server: {problem}"),
        }
    }

    async fn try_new() -> Result<Self, String> {
        let initialised = tokio::task::spawn_blocking(Self::initialise).await;
        let mut server = initialised.map_err(|error| format!("initdb: {error}"))??;
        for attempt in 1.. {
            match server.try_start().await {
                Err(problem) if attempt < ATTEMPTS && problem.contains(PORT_TAKEN) => server.port = free_port(),
                Err(problem) => return Err(problem),
                Ok(()) => break,
            }
        }
        Ok(server)
    }

    fn initialise() -> Result<Self, String> {
        let programs = find_programs()?;
        let run_as = User::for_postgres()?;
        let folder = Folder::new("postgres");
        let password = format!("{:016x}", SysRng.try_next_u64().map_err(|error| error.to_string())?);
        let password_file = folder.write("password", &password);
        if let Some(user) = &run_as {
            for path in [folder.path(), &password_file] {
                chown(path, Some(user.uid), Some(user.gid)).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        let server = Self { server: None, folder, programs, run_as, port: free_port(), password };
        let mut initdb = server.command("initdb");
        initdb.arg(format!("--pgdata={}", server.data().display())).args([
            "--username=postgres",
            // Other users of this machine can reach the port too. A password in the clear goes over loopback only, and
            // costs no time, unlike SCRAM.
            "--auth=password",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        initdb.arg(format!("--pwfile={}", password_file.display()));
        let finished = run_blocking(initdb, b"", INITDB_WITHIN)?;
        if !finished.status.success() {
            return Err(format!("initdb failed: {}{}", finished.stdout, finished.stderr));
        }
        Ok(server)
    }

    /// A standby of this server, running: a copy that follows it and takes no writes.
    pub async fn standby(&self) -> Self {
        let mut standby = Self {
            server: None,
            folder: Folder::new("postgres"),
            programs: self.programs.clone(),
            run_as: self.run_as.as_ref().map(|user| User { uid: user.uid, gid: user.gid }),
            port: free_port(),
            password: self.password.clone(),
        };
        if let Some(user) = &standby.run_as {
            chown(standby.folder.path(), Some(user.uid), Some(user.gid)).expect("the folder is given away");
        }
        let mut copy = standby.command("pg_basebackup");
        copy.arg(format!("--dbname={}", self.url("postgres")));
        copy.arg(format!("--pgdata={}", standby.data().display()));
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        let copied = tokio::task::spawn_blocking(|| run_blocking(copy, b"", INITDB_WITHIN)).await;
        let copied = copied.expect("it is waited for").expect("pg_basebackup runs");
        assert!(copied.status.success(), "{}{}", copied.stdout, copied.stderr);
        standby.start().await;
        standby
    }

    /// Makes a standby take writes.
    pub async fn promote(&self) {
        execute(&self.url("postgres"), "SELECT pg_promote()").await.expect("the standby is promoted");
    }

    /// Starts a server that was stopped as a standby of another one, which had been its own standby before.
    pub async fn start_behind(&mut self, primary: &Self) {
        let settings = format!("\nprimary_conninfo = '{}'\n", primary.url("postgres"));
        let file = self.data().join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.push_str(&settings);
        for (name, contents) in [("postgresql.auto.conf", text.as_str()), ("standby.signal", "")] {
            let file = self.data().join(name);
            fs::write(&file, contents).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            if let Some(user) = &self.run_as {
                chown(&file, Some(user.uid), Some(user.gid)).expect("the file is given away");
            }
        }
        self.start().await;
    }

    /// Waits until a standby has all that was written to its primary up to now.
    pub async fn caught_up_with(&self, primary: &Self) {
        let text = async |server: &Self, query: &'static str| -> String {
            let mut connection = PgConnection::connect(&server.url("postgres")).await.expect("the server answers");
            sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("the server answers")
        };
        let written = text(primary, "SELECT pg_current_wal_lsn()::text").await;
        eventually("the standby to catch up", READY_WITHIN, async || {
            let mut connection =
                PgConnection::connect(&self.url("postgres")).await.map_err(|error| error.to_string())?;
            let is_there = sqlx::query_scalar("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn").bind(&written);
            match is_there.fetch_one(&mut connection).await {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Runs a statement in one of its databases, as its administrator.
    pub async fn execute(&self, database: &str, statement: &str) {
        execute(&self.url(database), statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Asks for passwords as a server does that is set up with care: by SCRAM, over the network too.
    pub async fn ask_for_scram(&self) {
        let file = self.data().join("pg_hba.conf");
        fs::write(&file, "host all all 127.0.0.1/32 scram-sha-256\n").expect("the file is written");
        self.execute("postgres", "SELECT pg_reload_conf()").await;
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again, on the same port and with the same data.
    pub async fn start(&mut self) {
        if let Err(problem) = self.try_start().await {
            panic!("the database server does not start again: {problem}");
        }
    }

    async fn try_start(&mut self) -> Result<(), String> {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data());
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "max_connections=300".into(),
            // The data need not survive the machine.
            "fsync=off".into(),
            "full_page_writes=off".into(),
        ] {
            postgres.arg("-c").arg(setting);
        }
        let started = Supervised::spawn(&self.folder, "postgres", "QUIT", &postgres);
        let url = self.url("postgres");
        let server = self.server.insert(started);
        eventually(&format!("PostgreSQL to answer on port {}", self.port), READY_WITHIN, async || {
            match PgConnection::connect(&url).await {
                Ok(connection) => Ok(connection.close().await.map_err(|error| error.to_string())),
                Err(error) => match server.ended() {
                    Some(code) => {
                        Ok(Err(format!("it ended with exit code {code}; the end of its log:\n{}", server.tail())))
                    }
                    None => Err(error),
                },
            }
        })
        .await
    }

    /// Stops it in order: open transactions are rolled back, clients are told, and from then on nothing listens on its
    /// port.
    pub async fn stop(&mut self) {
        self.end("INT").await;
    }

    /// Stops it at once, as in a crash: what is committed comes back by recovery.
    pub async fn crash(&mut self) {
        self.end("QUIT").await;
    }

    async fn end(&mut self, signal: &str) {
        let mut server = self.server.take().expect("the database server runs");
        server.signal(signal);
        server.wait(STOPPED_WITHIN).await;
    }

    /// A new and empty database, which goes when the value is dropped.
    pub async fn database(&self, test_name: &str) -> TestDatabase {
        let name = unique(test_name);
        let maintenance = self.url("postgres");
        let created = execute(&maintenance, &format!(r#"CREATE DATABASE "{name}""#)).await;
        created.unwrap_or_else(|error| panic!("creating database {name}: {error}"));
        TestDatabase { url: self.url(&name), name, maintenance }
    }

    /// The URL of one of its databases; the user in it may do everything.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// All that it has logged since it was made.
    pub fn log(&self) -> String {
        let log = self.folder.path().join("postgres.log");
        fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.run_as {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
        };
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command.current_dir(self.folder.path());
        command
    }
}

/// A database that only one test uses, dropped with this, whoever is still connected.
pub struct TestDatabase {
    name: String,
    url: String,
    maintenance: String,
}

impl TestDatabase {
    /// Where to connect; the user in it may do everything.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A thread of its own, because the test's runtime may be about to end, and cannot wait for anything in a drop.
        let dropped = thread::scope(|threads| {
            threads
                .spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let runtime = runtime.map_err(|error| error.to_string())?;
                    let statement = format!(r#"DROP DATABASE "{}" WITH (FORCE)"#, self.name);
                    runtime.block_on(execute(&self.maintenance, &statement)).map_err(|error| error.to_string())
                })
                .join()
        });
        match dropped {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => eprintln!("dropping database {}: {problem}", self.name),
            Err(_) => eprintln!("dropping database {}: panicked", self.name),
        }
    }
}

async fn execute(url: &str, statement: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await
}
