//! The bare loop: the writes that a new account cannot do without, as fast as the API server and the database take them.
//!
//! For each account it adds the finalizer, inserts one row, creates the Secret and writes the status, with the same fields
//! as the controller. It watches, reads and decides nothing, so no controller that makes the same writes can be faster.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use opsadmin_operator::api::{
    ACCOUNT_LABEL, ACCOUNT_LABEL_VALUE, ApiAccount, ApiAccountStatus, DEFAULT_API_KEY_FIELD, DEFAULT_SECRET_KEY_FIELD,
    FINALIZER, KeyStatus, MANAGED_BY_LABEL, MANAGER, MARK_ANNOTATION, OWNER_ANNOTATION, condition, default_secret_name,
};
use serde_json::json;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::accounts;

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
        .for_each_concurrent(AT_A_TIME, |number| make(&client, &pool, accounts::account(namespace, number)))
        .await;
    let took = begun.elapsed();
    pool.close().await;
    took
}

/// Makes the account of a resource that exists.
async fn make(client: &Client, pool: &PgPool, resource: ApiAccount) {
    let (namespace, name) =
        (resource.metadata.namespace.expect("it has one"), resource.metadata.name.expect("it has one"));
    let resources: Api<ApiAccount> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);

    let finalizer = Patch::Merge(json!({"metadata": {"finalizers": [FINALIZER]}}));
    let patched = resources.patch_metadata(&name, &as_manager(), &finalizer).await;
    let patched = patched.unwrap_or_else(|error| panic!("the finalizer of {name}: {error}"));
    let account = Account::of(namespace, name, patched.metadata.uid.expect("each object has one"));

    let settings = serde_json::to_string(&resource.spec).expect("it is JSON");
    let inserted = sqlx::query("INSERT INTO bare (id, api_key, sealed, settings) VALUES ($1, $2, $3, $4)")
        .bind(account.path())
        .bind(&account.api_key)
        .bind(account.secret_key.as_bytes())
        .bind(settings);
    inserted.execute(pool).await.unwrap_or_else(|error| panic!("the row of {}: {error}", account.name));

    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let secret = secrets.create(&params, &account.secret()).await;
    let secret = secret.unwrap_or_else(|error| panic!("the Secret of {}: {error}", account.name));

    let status = account.status(secret.metadata.resource_version, Timestamp::now());
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": account.id},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).expect("it is a JSON patch"));
    let written = resources.patch_status(&account.name, &as_manager(), &patch).await;
    written.unwrap_or_else(|error| panic!("the status of {}: {error}", account.name));
}

fn as_manager() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// What the controller would generate for one resource.
struct Account {
    namespace: String,
    name: String,
    id: String,
    api_key: String,
    secret_key: String,
}

impl Account {
    /// Makes all values from the UID of the resource, as long as those of the controller.
    fn of(namespace: String, name: String, uid: String) -> Self {
        let digits = uid.replace('-', "");
        Self { namespace, name, api_key: format!("opsa_{digits}"), secret_key: digits.repeat(2), id: uid }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn secret(&self) -> Secret {
        let secret = json!({
            "metadata": {
                "name": default_secret_name(&self.name),
                "namespace": self.namespace,
                "labels": {ACCOUNT_LABEL: ACCOUNT_LABEL_VALUE, MANAGED_BY_LABEL: MANAGER},
                "annotations": {OWNER_ANNOTATION: format!("benchmark/{}", self.path()), MARK_ANNOTATION: self.secret_key},
            },
            "type": "Opaque",
            "stringData": {DEFAULT_API_KEY_FIELD: self.api_key, DEFAULT_SECRET_KEY_FIELD: self.secret_key},
        });
        serde_json::from_value(secret).expect("it is a Secret")
    }

    fn status(&self, secret_version: Option<String>, now: Timestamp) -> ApiAccountStatus {
        let ready = Condition {
            type_: condition::READY.to_owned(),
            status: "True".to_owned(),
            reason: "Reconciled".to_owned(),
            message: "account and Secret are as declared".to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(now),
        };
        let key = KeyStatus {
            id: self.id.clone(),
            api_key: self.api_key.clone(),
            state: KeyStatus::ACTIVE.to_owned(),
            created: Time(now),
            expires: None,
            last_used: None,
        };
        ApiAccountStatus {
            observed_generation: Some(1),
            conditions: vec![ready],
            account_id: Some(self.id.clone()),
            database_id: Some(self.id.clone()),
            secret_name: Some(default_secret_name(&self.name)),
            secret_resource_version: secret_version,
            next_rotation: Some(Time(now)),
            keys: vec![key],
            ..ApiAccountStatus::default()
        }
    }
}
