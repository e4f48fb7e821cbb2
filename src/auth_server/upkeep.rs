//! What an auth server does in the background: it writes uses, removes what has expired, and asks whether the database
//! answers.

use super::current_access::in_time;
use super::service::Service;
use std::time::Duration;
use tokio::time::sleep;

const FLUSH_EVERY: Duration = Duration::from_mins(1);

const PURGE_EVERY: Duration = Duration::from_mins(1);

/// How many rows one statement removes. Small statements hold no lock for long.
const PURGE_AT_ONCE: usize = 1000;

/// The pause between two such statements.
const PURGE_PAUSE: Duration = Duration::from_millis(100);

const ASK_EVERY: Duration = Duration::from_secs(2);

impl Service {
    /// Writes the uses of key pairs from time to time, for as long as it is polled.
    pub(super) async fn write_uses(&self) {
        loop {
            sleep(FLUSH_EVERY).await;
            self.flush_uses().await;
        }
    }

    /// Writes the uses of key pairs.
    pub(super) async fn flush_uses(&self) {
        if let Err(error) = self.uses.flush(&*self.database.logins).await {
            tracing::warn!("the last uses of key pairs could not be written, and are written later: {error}");
        }
    }

    /// Removes expired rows from time to time, for as long as it is polled.
    pub(super) async fn purge(&self) {
        loop {
            match self.database.logins.purge_expired(self.environment.now(), PURGE_AT_ONCE).await {
                Ok(0) => sleep(PURGE_EVERY).await,
                Ok(_) => sleep(PURGE_PAUSE).await,
                Err(error) => {
                    tracing::warn!("expired logins could not be removed, and are removed later: {error}");
                    sleep(PURGE_EVERY).await;
                }
            }
        }
    }

    /// Keeps the readiness as the database is, for as long as it is polled.
    pub(super) async fn ask_database(&self) {
        loop {
            let pending = in_time(self.database.accounts.pending_migrations()).await;
            let is_ready = match &pending {
                Ok(pending) => pending.is_empty(),
                Err(_) => false,
            };
            if is_ready != self.readiness.is_ready() {
                match pending {
                    Ok(pending) if pending.is_empty() => tracing::info!("the account database answers"),
                    Ok(pending) => tracing::error!("the account database lacks migrations: {}", pending.join(", ")),
                    Err(error) => tracing::warn!("requests that need the account database are not answered: {error}"),
                }
            }
            self.readiness.set(is_ready);
            sleep(ASK_EVERY).await;
        }
    }
}
