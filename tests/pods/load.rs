//! Accounts that are created while something happens to the operator, and what must be true of them afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use opsadmin_operator::api::{ACCOUNT_LABEL, ApiAccount};
use serde_json::json;
use tokio::time::interval;

use crate::scene::{Pair, Scene, is_ready};
use crate::support::wait::eventually;
use crate::world::SOON;

/// The time between two new accounts.
const PACE: Duration = Duration::from_millis(200);

/// Does something, and creates accounts until it is done.
pub async fn while_accounts_are_created(scene: &Scene, prefix: &str, happening: impl Future<Output = ()>) {
    let accounts = scene.release.accounts(scene.namespace);
    let mut pace = interval(PACE);
    let mut number = 0;
    tokio::pin!(happening);
    loop {
        tokio::select! {
            () = &mut happening => break,
            _ = pace.tick() => {
                number += 1;
                create(&accounts, &format!("{prefix}-{number}")).await;
            }
        }
    }
    println!("{number} accounts were created: {prefix}");
}

/// Creates an account.
pub async fn create(accounts: &Api<ApiAccount>, name: &str) {
    let account = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name },
        "spec": { "roles": ["Customer"] },
    });
    let account = serde_json::from_value(account).expect("it is an account");
    accounts.create(&PostParams::default(), &account).await.expect("the API server accepts it");
}

/// The keys of each account, and the version of its Secret.
pub type Keys = BTreeMap<String, (Pair, Option<String>)>;

/// Waits until each account in the namespace is ready. Then checks that each was created once, has one key pair, and has
/// this pair in its Secret. Returns the keys.
pub async fn settled(scene: &Scene) -> Keys {
    let accounts = all_ready(scene).await;
    let in_secrets = in_secrets(scene).await;
    let sql = scene.release.sql().await;
    let query = "SELECT owner_name, api_key FROM accounts JOIN account_keys ON account_id = accounts.id \
        WHERE owner_namespace = $1 ORDER BY owner_name";
    let rows: Vec<(String, String)> =
        sqlx::query_as(query).bind(scene.namespace).fetch_all(&sql).await.expect("the database answers");
    let expected: Vec<_> = in_secrets.iter().map(|(name, (pair, _))| (name.clone(), pair.api_key.clone())).collect();
    assert_eq!(rows, expected, "the database and the Secrets");
    assert!(in_secrets.keys().eq(&accounts), "{accounts:?} have these Secrets: {:?}", in_secrets.keys());
    let created = "SELECT count(*) FROM account_journal WHERE action = 'created'";
    let created: i64 = sqlx::query_scalar(created).fetch_one(&sql).await.expect("the database answers");
    assert_eq!(usize::try_from(created), Ok(accounts.len()), "the journal's creations");
    in_secrets
}

/// Waits until each account is ready, and returns the names in order.
async fn all_ready(scene: &Scene) -> Vec<String> {
    let accounts = scene.release.accounts(scene.namespace);
    eventually("all accounts to be ready", SOON, async || {
        let all = match accounts.list(&ListParams::default()).await {
            Ok(all) => all.items,
            Err(error) => return Err(error.to_string()),
        };
        match all.iter().find(|account| !is_ready(account)) {
            None => Ok(all.into_iter().filter_map(|account| account.metadata.name).collect()),
            Some(waiting) => Err(format!("{:?}\n{}", waiting, scene.release.log().await)),
        }
    })
    .await
}

async fn in_secrets(scene: &Scene) -> Keys {
    let secrets: Api<Secret> = Api::namespaced(scene.release.world.client.clone(), scene.namespace);
    let all = secrets.list(&ListParams::default().labels(ACCOUNT_LABEL)).await.expect("the API server answers");
    let keys = all.items.into_iter().map(|secret| {
        let name = secret.metadata.name.as_deref().expect("a Secret has a name");
        let account = name.strip_suffix("-opsadmin").expect("it has the default name").to_owned();
        let pair = Pair::of(&secret, "OPSADMIN_API_KEY", "OPSADMIN_SECRET_KEY");
        (account, (pair, secret.metadata.resource_version))
    });
    keys.collect()
}
