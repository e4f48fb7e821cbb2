//! The state of a namespace and of its database, in a form that is equal for two runs of the same operation. The keys,
//! which differ in any two runs, are separate.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use opsadmin_operator::account::{Account, ClusterId, KeyState, Life};
use opsadmin_operator::api::{ApiAccount, OWNER_ANNOTATION, condition};
use opsadmin_operator::database::{AccountAdmin, Keyring, open};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;

use crate::controller::scene::{Scene, texts};

use super::stage::CLUSTER;

/// The complete state, as texts to compare and to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Each resource: its status, and whether the status agrees with the database.
    pub resources: BTreeMap<String, String>,
    /// Each account: its settings, its stage of life, and the states of its keys.
    pub accounts: BTreeMap<String, String>,
    /// Each Secret: its owner, and the meaning of each data entry.
    pub secrets: BTreeMap<String, String>,
    /// The journal of each account.
    pub journal: BTreeMap<String, Vec<String>>,
    /// The number of rows of accounts and of keys, of all owners.
    pub rows: (i64, i64),
}

impl State {
    /// Returns the differences of another state from this one.
    pub fn difference(&self, other: &Self) -> String {
        let mut parts = Vec::new();
        for (what, wanted, found) in [
            ("resources", format!("{:?}", self.resources), format!("{:?}", other.resources)),
            ("accounts", format!("{:?}", self.accounts), format!("{:?}", other.accounts)),
            ("Secrets", format!("{:?}", self.secrets), format!("{:?}", other.secrets)),
            ("journal", format!("{:?}", self.journal), format!("{:?}", other.journal)),
            ("rows", format!("{:?}", self.rows), format!("{:?}", other.rows)),
        ] {
            if wanted != found {
                parts.push(format!("{what}: wanted {wanted}\n  found {found}"));
            }
        }
        parts.join("\n")
    }
}

/// The id and the key pairs of each account. A key pair is its id, the API key and the secret key.
pub type Keys = BTreeMap<String, (String, Vec<(String, String, String)>)>;

/// Reads the state directly, without the proxies.
pub struct Observer {
    accounts: Api<ApiAccount>,
    secrets: Api<Secret>,
    database: Arc<dyn AccountAdmin>,
    database_url: String,
    keyring: Keyring,
}

impl Observer {
    /// Creates an observer of a scene's namespace and of this database.
    pub fn new(scene: &Scene, database_url: &str) -> Self {
        Self {
            accounts: scene.accounts(),
            secrets: scene.secrets(),
            database: open(database_url).expect("the database has a URL"),
            database_url: database_url.to_owned(),
            keyring: Keyring::load(&scene.keyring).expect("the scene's keyring can be read"),
        }
    }

    /// Returns the present state and the keys.
    pub async fn look(&self) -> (State, Keys) {
        let cluster = ClusterId::parse(CLUSTER).expect("it is an id");
        let accounts = self.database.list_by_cluster(&cluster).await.expect("the database answers");
        let accounts: BTreeMap<String, Account> =
            accounts.into_iter().map(|account| (owner(&account), account)).collect();
        let keys: Keys = accounts.iter().map(|(name, account)| (name.clone(), self.keys(account))).collect();
        let mut state =
            State { rows: (self.count("accounts").await, self.count("account_keys").await), ..State::default() };
        state.journal = self.journal(&accounts).await;

        let resources = self.accounts.list(&ListParams::default()).await.expect("the API server answers");
        for resource in &resources {
            let name = resource.metadata.name.clone().unwrap_or_default();
            state.resources.insert(name.clone(), describe_status(resource, accounts.get(&name)));
        }
        for secret in &self.secrets.list(&ListParams::default()).await.expect("the API server answers") {
            let name = secret.metadata.name.clone().unwrap_or_default();
            state.secrets.insert(name, describe_secret(secret, &resources.items, &keys));
        }
        for (name, account) in &accounts {
            let life = match account.life {
                Life::Live => "live",
                Life::Retained { .. } => "retained",
                Life::Deleted { .. } => "deleted",
            };
            let states: Vec<_> = account.keys.iter().map(|key| key_state(key.state)).collect();
            state.accounts.insert(name.clone(), format!("{life}, keys {states:?}: {:?}", account.settings));
        }
        (state, keys)
    }

    fn keys(&self, account: &Account) -> (String, Vec<(String, String, String)>) {
        let open = |key: &opsadmin_operator::account::StoredKey| {
            let secret_key = self.keyring.open(account.id, key.id, &key.sealed).expect("the keyring opens it");
            (key.id.to_string(), key.api_key.as_str().to_owned(), secret_key.expose().to_owned())
        };
        (account.id.to_string(), account.keys.iter().map(open).collect())
    }

    async fn journal(&self, accounts: &BTreeMap<String, Account>) -> BTreeMap<String, Vec<String>> {
        let statement = "SELECT account_id, action, changes FROM account_journal ORDER BY id";
        let rows: Vec<(String, String, String)> = if self.is_server() {
            sqlx::query_as(statement).fetch_all(&mut self.postgres().await).await
        } else {
            sqlx::query_as(statement).fetch_all(&mut self.sqlite().await).await
        }
        .expect("there is a journal");
        let mut journal: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (id, action, changes) in rows {
            // The id of the key pair differs in each run.
            let names_pairs = matches!(action.as_str(), "rotated" | "revoked");
            let changes = if names_pairs { String::new() } else { changes };
            let name = accounts.iter().find(|(_, account)| account.id.to_string() == id).map(|(name, _)| name.clone());
            journal.entry(name.unwrap_or_else(|| "nobody".to_owned())).or_default().push(format!("{action} {changes}"));
        }
        journal
    }

    async fn count(&self, table: &'static str) -> i64 {
        let statement = match table {
            "accounts" => "SELECT count(*) FROM accounts",
            _ => "SELECT count(*) FROM account_keys",
        };
        let count = if self.is_server() {
            sqlx::query_scalar(statement).fetch_one(&mut self.postgres().await).await
        } else {
            sqlx::query_scalar(statement).fetch_one(&mut self.sqlite().await).await
        };
        count.expect("the table is there")
    }

    fn is_server(&self) -> bool {
        self.database_url.starts_with("postgres:")
    }

    async fn postgres(&self) -> PgConnection {
        PgConnection::connect(&self.database_url).await.expect("the database answers")
    }

    async fn sqlite(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.database_url).await.expect("the database can be opened")
    }
}

fn owner(account: &Account) -> String {
    account.owner.as_ref().map(|owner| owner.name.clone()).unwrap_or_default()
}

fn key_state(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::Retiring { .. } => "retiring",
    }
}

/// Describes the status of a resource, and where it contradicts the database.
fn describe_status(resource: &ApiAccount, account: Option<&Account>) -> String {
    let finalizers = resource.metadata.finalizers.iter().flatten().cloned().collect::<Vec<_>>().join(",");
    let leaving = if resource.metadata.deletion_timestamp.is_some() { "leaving, " } else { "" };
    let Some(status) = &resource.status else { return format!("{leaving}finalizers {finalizers}, no status") };
    let conditions = status.conditions.iter().map(|condition| {
        let of = if condition.observed_generation == resource.metadata.generation { "" } else { " of before" };
        format!("{} {} {}{of}", condition.type_, condition.status, condition.reason)
    });
    let conditions = conditions.collect::<Vec<_>>().join("; ");
    let is_ready = status.conditions.iter().any(|c| c.type_ == condition::READY && c.status == "True");
    let mut lies = Vec::new();
    if is_ready {
        let keys = account.into_iter().flat_map(|account| &account.keys);
        let keys: Vec<_> = keys.map(|key| (key.id.to_string(), key.api_key.as_str().to_owned())).collect();
        let told: Vec<_> = status.keys.iter().map(|key| (key.id.clone(), key.api_key.clone())).collect();
        if status.account_id != account.map(|account| account.id.to_string()) {
            lies.push("another account");
        }
        if keys != told {
            lies.push("other keys");
        }
    }
    format!("{leaving}finalizers {finalizers}, {conditions}, Secret {:?}, lies {lies:?}", status.secret_name)
}

/// Describes a Secret: its owner, and which of the known keys each data entry is.
fn describe_secret(secret: &Secret, resources: &[ApiAccount], keys: &Keys) -> String {
    let noted = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(OWNER_ANNOTATION));
    let owners = noted.and_then(|noted| noted.rsplit_once('/')).into_iter().map(|(_, owner)| {
        let is_there = resources.iter().any(|resource| resource.metadata.name.as_deref() == Some(owner));
        format!("{owner}{}", if is_there { "" } else { " of before" })
    });
    let owners: Vec<_> = owners.collect();
    let what = |value: &str| {
        for (name, (_, pairs)) in keys {
            for (number, (_, api_key, secret_key)) in pairs.iter().enumerate() {
                if value == api_key {
                    return format!("API key {number} of {name}");
                }
                if value == secret_key {
                    return format!("secret key {number} of {name}");
                }
            }
        }
        "something else".to_owned()
    };
    let data: BTreeMap<_, _> = texts(secret).into_iter().map(|(key, value)| (key, what(&value))).collect();
    format!("owners {owners:?}, {data:?}")
}
