//! What the server tells of changed accounts with an owner.

use super::listening::News;
use crate::account::{ClusterId, Owner, Version};
use crate::database::Changed;
use serde::Deserialize;

/// The JSON of a notification, as the trigger of the migration writes it.
#[derive(Deserialize)]
struct Payload {
    cluster: String,
    namespace: String,
    name: String,
    version: Option<i64>,
}

impl News for Changed {
    const CHANNEL: &'static str = "opsadmin_accounts";

    fn anything() -> Self {
        Self::Anything
    }

    fn read(payload: &str) -> Self {
        let owner = |payload: &Payload| {
            let cluster = ClusterId::parse(&payload.cluster).ok()?;
            Some(Owner { cluster, namespace: payload.namespace.clone(), name: payload.name.clone() })
        };
        match serde_json::from_str::<Payload>(payload) {
            Err(_) => Self::Anything,
            Ok(payload) => owner(&payload)
                .map_or(Self::Anything, |owner| Self::Account { owner, version: payload.version.map(Version) }),
        }
    }

    fn silence(reason: String) -> Option<Self> {
        Some(Self::Silence { reason })
    }
}
