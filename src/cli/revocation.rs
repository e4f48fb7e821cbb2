//! The option for the time until every auth server has heard of a change, and the wait for it.

use super::retention::parse_time;
use clap::Args;
use std::time::Duration;

/// The option for the lag of auth servers.
#[derive(Debug, Args)]
pub struct RevocationArgs {
    /// How long auth servers may still let an account in after a change: 1s where auth servers use PostgreSQL, 0s
    /// otherwise. A narrower access is reported only after this time. Give the controller and every command the same
    /// value.
    #[arg(
        long,
        value_name = "TIME",
        env = "OPSADMIN_REVOCATION_LAG",
        default_value = "0s",
        value_parser = parse_time
    )]
    pub revocation_lag: Duration,
}

impl RevocationArgs {
    /// Waits until a change that was just made is in force at every auth server.
    pub async fn in_force(&self) {
        tokio::time::sleep(self.revocation_lag).await;
    }
}
