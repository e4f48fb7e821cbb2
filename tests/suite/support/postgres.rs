//! Real PostgreSQL servers: one that all tests share, and servers that one test can stop and start.

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
/// The number of ports to try if another program takes the free port first.
const ATTEMPTS: usize = 3;
const PORT_TAKEN: &str = "Address already in use";

/// Returns the PostgreSQL server that all tests share. The first test that calls this function starts it. Each test has
/// its own databases on it.
pub async fn postgres() -> &'static Postgres {
    static SHARED: OnceCell<Result<Postgres, String>> = OnceCell::const_new();
    match SHARED.get_or_init(async || Postgres::try_new(false).await).await {
        Ok(server) => server,
        Err(problem) => panic!("no test database server: {problem}"),
    }
}

/// A PostgreSQL server with its data in a temporary folder.
pub struct Postgres {
    // The server is dropped, and so ended, before the folder.
    server: Option<Supervised>,
    folder: Arc<Folder>,
    programs: PathBuf,
    run_as: Option<User>,
    port: u16,
    password: String,
    /// Whether a commit waits until it is on the disk.
    is_durable: bool,
    /// Whether the server can count statements, by the extension `pg_stat_statements`.
    counts_statements: bool,
}

impl Postgres {
    /// Starts a server that only one test uses.
    pub async fn new() -> Self {
        Self::started(false).await
    }

    /// Starts such a server whose commits wait for the disk, as in production.
    pub async fn durable() -> Self {
        Self::started(true).await
    }

    /// Starts a server that can count statements: each database can create the extension `pg_stat_statements`.
    pub async fn counting() -> Self {
        let mut server = Self::started(false).await;
        server.stop().await;
        server.counts_statements = true;
        server.start().await;
        server
    }

    async fn started(is_durable: bool) -> Self {
        match Self::try_new(is_durable).await {
            Ok(server) => server,
            Err(problem) => panic!("no test database server: {problem}"),
        }
    }

    async fn try_new(is_durable: bool) -> Result<Self, String> {
        let initialised = tokio::task::spawn_blocking(move || Self::initialise(is_durable)).await;
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

    fn initialise(is_durable: bool) -> Result<Self, String> {
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
        let server = Self {
            server: None,
            folder,
            programs,
            run_as,
            port: free_port(),
            password,
            is_durable,
            counts_statements: false,
        };
        let mut initdb = server.command("initdb");
        initdb.arg(format!("--pgdata={}", server.data().display())).args([
            "--username=postgres",
            // Other users of this machine can reach the port too. A plain-text password is sent over loopback only, and
            // it takes no time, unlike SCRAM.
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

    /// Starts a standby of this server: a read-only copy that follows it.
    pub async fn standby(&self) -> Self {
        let mut standby = Self {
            server: None,
            folder: Folder::new("postgres"),
            programs: self.programs.clone(),
            run_as: self.run_as.as_ref().map(|user| User { uid: user.uid, gid: user.gid }),
            port: free_port(),
            password: self.password.clone(),
            is_durable: self.is_durable,
            counts_statements: false,
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

    /// Promotes a standby to a primary.
    pub async fn promote(&self) {
        execute(&self.url("postgres"), "SELECT pg_promote()").await.expect("the standby is promoted");
    }

    /// Starts a stopped server as a standby of `primary`, which was its own standby before.
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

    /// Waits until a standby has everything that has been written to its primary so far.
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

    /// Runs a statement in one of the server's databases as the superuser.
    pub async fn execute(&self, database: &str, statement: &str) {
        execute(&self.url(database), statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Requires SCRAM authentication for connections over the network, as a production server does.
    pub async fn ask_for_scram(&self) {
        let file = self.data().join("pg_hba.conf");
        fs::write(&file, "host all all 127.0.0.1/32 scram-sha-256\n").expect("the file is written");
        self.execute("postgres", "SELECT pg_reload_conf()").await;
    }

    /// Returns the port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server again, on the same port and with the same data.
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
            // The data of a test need not survive a crash of the machine.
            format!("fsync={}", self.is_durable),
            format!("full_page_writes={}", self.is_durable),
        ] {
            postgres.arg("-c").arg(setting);
        }
        if self.counts_statements {
            postgres.args(["-c", "shared_preload_libraries=pg_stat_statements"]);
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

    /// Stops the server in order. The server rolls back open transactions and notifies the clients. Then no program
    /// listens on its port.
    pub async fn stop(&mut self) {
        self.end("INT").await;
    }

    /// Stops the server at once, as in a crash. The next start recovers what was committed.
    pub async fn crash(&mut self) {
        self.end("QUIT").await;
    }

    async fn end(&mut self, signal: &str) {
        let mut server = self.server.take().expect("the database server runs");
        server.signal(signal);
        server.wait(STOPPED_WITHIN).await;
    }

    /// Creates an empty database. It is dropped when the value is dropped.
    pub async fn database(&self, test_name: &str) -> TestDatabase {
        let name = unique(test_name);
        let maintenance = self.url("postgres");
        let created = execute(&maintenance, &format!(r#"CREATE DATABASE "{name}""#)).await;
        created.unwrap_or_else(|error| panic!("creating database {name}: {error}"));
        TestDatabase { url: self.url(&name), name, maintenance }
    }

    /// Returns the URL of one of the server's databases, with the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Returns the server's log since the server was created.
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

/// A database that only one test uses. It is dropped with this value, even if clients are connected.
pub struct TestDatabase {
    name: String,
    url: String,
    maintenance: String,
}

impl TestDatabase {
    /// Returns the URL of the database, with the superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // This runs in a separate thread, because the test's runtime may be ending and a drop cannot wait for a future.
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
