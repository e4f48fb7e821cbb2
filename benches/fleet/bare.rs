//! The bare loop: the writes that a new account cannot do without, as fast as the API server and the database take them.
//!
//! For each account it adds the finalizer, creates the Secret, inserts one row and writes the status. It watches, reads and
//! decides nothing, so no controller that makes the same writes can be faster.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use opsadmin_operator::api::ApiAccount;
use serde_json::json;
use sqlx::postgres::{PgPool, PgPoolOptions};

/// The number of accounts at a time, as in the controller.
pub const AT_A_TIME: usize = 16;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS bare (id TEXT NOT NULL PRIMARY KEY, api_key TEXT NOT NULL UNIQUE, \
     sealed BYTEA NOT NULL, settings TEXT NOT NULL)";

/// Makes this number of accounts of the namespace, and returns how long that took.
pub async fn run(client: Client, namespace: &str, database: &str, count: usize) -> Duration {
    let connections = u32::try_from(AT_A_TIME).expect("it is a small number");
    let pool = PgPoolOptions::new().max_connections(connections).connect(database).await.expect("the database answers");
    sqlx::query(TABLE).execute(&pool).await.expect("the table is created");
    let begun = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(AT_A_TIME, |number| make(&client, &pool, namespace, format!("partner-{number}")))
        .await;
    let took = begun.elapsed();
    pool.close().await;
    took
}

async fn make(client: &Client, pool: &PgPool, namespace: &str, name: String) {
    let accounts: Api<ApiAccount> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let finalizer = json!({"metadata": {"finalizers": ["ops-admin.com/bare"]}});
    let patched = accounts.patch(&name, &PatchParams::default(), &Patch::Merge(finalizer)).await;
    let account = patched.unwrap_or_else(|error| panic!("the finalizer of {name}: {error}"));
    let uid = account.metadata.uid.expect("each object has one");
    let secret_key = "0123456789abcdef".repeat(4);
    let secret = json!({
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "bare"},
            "ownerReferences": [
                {"apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "name": name, "uid": uid, "controller": true},
            ],
        },
        "stringData": {"apiKey": uid, "secretKey": secret_key},
    });
    let secret: Secret = serde_json::from_value(secret).expect("it is a Secret");
    secrets.create(&PostParams::default(), &secret).await.unwrap_or_else(|error| panic!("the Secret {name}: {error}"));
    let inserted = sqlx::query("INSERT INTO bare (id, api_key, sealed, settings) VALUES ($1, $2, $3, $4)")
        .bind(format!("{namespace}/{name}"))
        .bind(&uid)
        .bind(secret_key.as_bytes())
        .bind(serde_json::to_string(&account.spec).expect("it is JSON"));
    inserted.execute(pool).await.unwrap_or_else(|error| panic!("the row of {name}: {error}"));
    let now = jiff::Timestamp::now();
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Reconciled", "observedGeneration": 1, "lastTransitionTime": now,
        "message": "the account and its Secret are as declared",
    });
    let status = json!({"status": {"observedGeneration": 1, "accountID": uid, "conditions": [condition]}});
    let written = accounts.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
    written.unwrap_or_else(|error| panic!("the status of {name}: {error}"));
}
