//! Connecting: to the one of the named servers that will do, with the password as it is at that moment.

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

/// How long to try for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long one of several servers may take: those after it must have their turn.
const EACH_WITHIN: Duration = Duration::from_secs(2);

/// The pauses between two rounds over all servers.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// What a server says of itself, in the order of [`state_of`].
pub(super) const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean";

/// The servers, and how to log in there.
pub(super) struct Servers {
    urls: ServerUrls,
    wanted: Wanted,
    password_file: Option<PathBuf>,
    /// Which one served last. It is asked first.
    last: AtomicUsize,
    /// Since when every login was refused.
    refused_since: Mutex<Option<Instant>>,
}

/// A connection that was just made.
pub(super) struct Connected {
    pub connection: PgConnection,
    /// Which server it is to.
    pub server: usize,
    /// Whether the server has it to itself, and no pooler shares it with others.
    pub is_direct: bool,
}

/// Why a server is not used.
enum UnusableServer {
    /// It does not answer as it should.
    Failed(sqlx::Error),
    /// It is not what is wanted.
    Other(&'static str),
}

impl Servers {
    /// `wanted` counts where the URL does not say what a server must be.
    pub fn new(urls: ServerUrls, wanted: Wanted, password_file: Option<PathBuf>) -> Self {
        let wanted = urls.wanted.unwrap_or(wanted);
        Self { urls, wanted, password_file, last: AtomicUsize::new(0), refused_since: Mutex::default() }
    }

    /// Why a server in this state will not do; `None` if it will.
    pub fn refuses(&self, state: ServerState) -> Option<&'static str> {
        self.wanted.refuses(state)
    }

    /// Connects to the server that will do. One that is just starting, or being promoted, is waited for a little.
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
            let may_pass = reasons.iter().any(|(_, unfit)| unfit.may_pass());
            for (server, unfit) in reasons {
                // That the time is over says less than what the server said before.
                if !unfit.is_late() || !known.contains_key(&server) {
                    known.insert(server, unfit);
                }
            }
            if !may_pass || began.elapsed() + BACKOFF.pause(failures) > CONNECT_WITHIN {
                return Err(self.explain(&known.into_iter().collect::<Vec<_>>(), began));
            }
            sleep(BACKOFF.pause(failures)).await;
            failures += 1;
        }
    }

    /// How to connect to this server now.
    pub fn options(&self, server: usize) -> Result<PgConnectOptions, sqlx::Error> {
        // Read anew each time, and with it the password in `~/.pgpass`.
        let options = PgConnectOptions::from_url(&self.urls.each[server])?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("opsadmin"),
        };
        // PgBouncer refuses this parameter, and no number here has a fraction.
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
        // A session that a pooler gives to somebody else does not know this mark, nor would it know a statement that was
        // prepared in another one.
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
            Some(reason) => Err(UnusableServer::Other(reason)),
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
            // The first time it may be a password that is just being changed.
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

    /// A panic elsewhere cannot leave it half changed.
    fn refused_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.refused_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a row of [`STATE`] says.
pub(super) fn state_of(row: &PgRow) -> Result<ServerState, sqlx::Error> {
    Ok(ServerState { is_standby: row.try_get(0)?, is_read_only: row.try_get(1)? })
}

/// Where the database is, for a person.
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
    /// Whether it may be over within a moment.
    fn may_pass(&self) -> bool {
        match self {
            Self::Failed(sqlx::Error::Io(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            // too_many_connections, cannot_connect_now
            Self::Failed(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("53300" | "57P03"))
            }
            Self::Failed(_) => false,
            Self::Other(_) => true,
        }
    }

    fn is_late(&self) -> bool {
        matches!(self, Self::Failed(sqlx::Error::PoolTimedOut))
    }

    fn is_refused_login(&self) -> bool {
        let Self::Failed(sqlx::Error::Database(error)) = self else { return false };
        // invalid_authorization_specification and invalid_password; PgBouncer calls it a violation of the protocol.
        let code = error.code();
        let code = code.as_deref().unwrap_or_default();
        code.starts_with("28") || (code == "08P01" && error.message().contains("authentication failed"))
    }
}

impl fmt::Display for UnusableServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&said(error)),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}
