//! Connects to the suitable one of the servers that the URL names. Reads the password again for each connection.

use super::{meaning, said};
use crate::backoff::Backoff;
use crate::database::DatabaseError;
use crate::database::server_url::{ServerState, ServerUrls, Wanted};
use crate::database::sql::ErrorKind;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// How long to try all servers for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long one of several servers may take, so that time remains for the servers after it.
const EACH_WITHIN: Duration = Duration::from_secs(2);

/// The pauses between two rounds over all servers.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// Asks for the server's state. [`state_of`] reads the row.
pub(super) const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean";

/// The servers, and how to log in there.
pub(super) struct Servers {
    urls: ServerUrls,
    wanted: Wanted,
    password_file: Option<PathBuf>,
    /// The server of the last connection. The next connection tries it first.
    last: AtomicUsize,
    /// When a server first refused the login since the last connection.
    refused_since: Mutex<Option<Instant>>,
}

/// A new connection.
pub(super) struct Connected {
    pub connection: PgConnection,
    /// The index of the server.
    pub server: usize,
    /// Whether statements may stay prepared: no pooler shares the session with other clients, and the URL allows it.
    pub is_direct: bool,
}

/// Why a server is not used.
enum UnusableServer {
    /// The connection failed.
    Failed(sqlx::Error),
    /// The server's state is not what `target_session_attrs` asks for.
    WrongState(&'static str),
}

impl Servers {
    /// Makes no connection yet. `wanted` applies if the URL has no `target_session_attrs`.
    pub fn new(urls: ServerUrls, wanted: Wanted, password_file: Option<PathBuf>) -> Self {
        let wanted = urls.wanted.unwrap_or(wanted);
        Self { urls, wanted, password_file, last: AtomicUsize::new(0), refused_since: Mutex::default() }
    }

    /// Returns why a server in this state is not suitable; `None` if it is suitable.
    pub fn refuses(&self, state: ServerState) -> Option<&'static str> {
        self.wanted.refuses(state)
    }

    /// Connects to a suitable server. Waits up to [`CONNECT_WITHIN`] for a server that is starting or being promoted.
    pub async fn connect(&self) -> Result<Connected, DatabaseError> {
        let began = Instant::now();
        let mut failures = 0;
        let mut known: BTreeMap<usize, UnusableServer> = BTreeMap::new();
        loop {
            let reasons = match self.try_each(began).await {
                Ok(connected) => {
                    *self.refused_since() = None;
                    self.last.store(connected.server, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(reasons) => reasons,
            };
            let is_transient = reasons.iter().any(|(_, unfit)| unfit.is_transient());
            for (server, unfit) in reasons {
                // A timeout says less than an earlier error of the same server.
                if !unfit.is_timeout() || !known.contains_key(&server) {
                    known.insert(server, unfit);
                }
            }
            if !is_transient || began.elapsed() + BACKOFF.pause(failures) > CONNECT_WITHIN {
                return Err(self.explain(&known.into_iter().collect::<Vec<_>>(), began));
            }
            sleep(BACKOFF.pause(failures)).await;
            failures += 1;
        }
    }

    /// Returns the options to connect to this server, with the current password.
    pub fn options(&self, server: usize) -> Result<PgConnectOptions, sqlx::Error> {
        // To read the URL again also reads the password in `~/.pgpass` again.
        let options = PgConnectOptions::from_url(&self.urls.each[server])?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("opsadmin"),
        };
        // PgBouncer refuses this parameter, and the tables have no numbers with fractions.
        let options = options.extra_float_digits(None);
        let Some(file) = &self.password_file else { return Ok(options) };
        let password = std::fs::read_to_string(file)
            .map_err(|error| sqlx::Error::Io(io::Error::other(format!("cannot read {}: {error}", file.display()))))?;
        match password.trim_end_matches(['\r', '\n']) {
            "" => Err(sqlx::Error::Io(io::Error::other(format!("{} holds no password", file.display())))),
            password => Ok(options.password(password)),
        }
    }

    async fn try_each(&self, began: Instant) -> Result<Connected, Vec<(usize, UnusableServer)>> {
        let servers = self.urls.each.len();
        let first = self.last.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        let mut fallback = None;
        for server in (0..servers).map(|offset| (first + offset) % servers) {
            let left = CONNECT_WITHIN.saturating_sub(began.elapsed());
            let within = if servers == 1 { left } else { left.min(EACH_WITHIN) };
            match timeout(within, self.try_one(server)).await {
                Ok(Ok((connected, state))) if self.wanted == Wanted::PreferStandby && !state.is_standby => {
                    fallback = fallback.or(Some(connected));
                }
                Ok(Ok((connected, _))) => return Ok(connected),
                Ok(Err(unfit)) => reasons.push((server, unfit)),
                Err(_) => reasons.push((server, UnusableServer::Failed(sqlx::Error::PoolTimedOut))),
            }
        }
        fallback.ok_or(reasons)
    }

    async fn try_one(&self, server: usize) -> Result<(Connected, ServerState), UnusableServer> {
        let options = self.options(server)?;
        // Tells whether a pooler is in between. A session that a pooler assigns does not know this mark, and would not
        // know statements that were prepared in another session.
        let mark = format!("{:032x}", rand::random::<u128>());
        let marked = options.clone().options([("opsadmin.session", mark.as_str())]);
        let mut connection = match marked.connect().await {
            Err(sqlx::Error::Database(error)) if error.message().contains("startup parameter") => {
                options.connect().await?
            }
            connected => connected?,
        };
        let ask = format!("{STATE}, coalesce(current_setting('opsadmin.session', true), '') = '{mark}'");
        let row = sqlx::raw_sql(AssertSqlSafe(ask)).fetch_one(&mut connection).await?;
        let state = state_of(&row)?;
        let is_direct = row.try_get(2)?;
        match self.wanted.refuses(state) {
            Some(reason) => Err(UnusableServer::WrongState(reason)),
            None => Ok((Connected { connection, server, is_direct: is_direct && self.urls.keeps_statements }, state)),
        }
    }

    fn explain(&self, reasons: &[(usize, UnusableServer)], began: Instant) -> DatabaseError {
        let reason = match reasons {
            [(_, only)] => format!("{self}: {only}"),
            several => {
                let each = several.iter().map(|(server, unfit)| format!("{}: {unfit}", self.host(*server)));
                format!("{self}: {}", each.collect::<Vec<_>>().join("; "))
            }
        };
        if reasons.iter().any(|(_, unfit)| unfit.is_refused_login()) {
            let first = *self.refused_since().get_or_insert_with(Instant::now);
            // The first refused login may be due to a password that is being changed at this moment.
            return if began > first {
                DatabaseError::LoginRefused { reason }
            } else {
                DatabaseError::Unavailable { reason }
            };
        }
        match reasons {
            [(_, UnusableServer::Failed(sqlx::Error::Database(error)))] if meaning(&**error) == ErrorKind::Refused => {
                DatabaseError::Refused { reason }
            }
            _ => DatabaseError::Unavailable { reason },
        }
    }

    fn host(&self, server: usize) -> String {
        match PgConnectOptions::from_url(&self.urls.each[server]) {
            Ok(options) => match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            },
            Err(_) => "a server".to_owned(),
        }
    }

    /// Locks the field. A poisoned lock is used too, because no code that holds it leaves a partial change.
    fn refused_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.refused_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a row of [`STATE`].
pub(super) fn state_of(row: &PgRow) -> Result<ServerState, sqlx::Error> {
    Ok(ServerState { is_standby: row.try_get(0)?, is_read_only: row.try_get(1)? })
}

/// Writes the hosts, the database and the user, for messages.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = (0..self.urls.each.len()).map(|server| self.host(server)).collect();
        match self.urls.each.first().map(PgConnectOptions::from_url) {
            Some(Ok(options)) => {
                let user = options.get_username();
                write!(f, "{}/{} as {user}", hosts.join(","), options.get_database().unwrap_or(user))
            }
            _ => f.write_str(&hosts.join(",")),
        }
    }
}

impl From<sqlx::Error> for UnusableServer {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl UnusableServer {
    /// Returns whether the server may become suitable within seconds.
    fn is_transient(&self) -> bool {
        match self {
            Self::Failed(sqlx::Error::Io(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            // too_many_connections, cannot_connect_now
            Self::Failed(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("53300" | "57P03"))
            }
            Self::Failed(_) => false,
            Self::WrongState(_) => true,
        }
    }

    fn is_timeout(&self) -> bool {
        matches!(self, Self::Failed(sqlx::Error::PoolTimedOut))
    }

    fn is_refused_login(&self) -> bool {
        let Self::Failed(sqlx::Error::Database(error)) = self else { return false };
        // invalid_authorization_specification and invalid_password. PgBouncer reports protocol_violation instead.
        let code = error.code();
        let code = code.as_deref().unwrap_or_default();
        code.starts_with("28") || (code == "08P01" && error.message().contains("authentication failed"))
    }
}

impl fmt::Display for UnusableServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&said(error)),
            Self::WrongState(reason) => f.write_str(reason),
        }
    }
}
