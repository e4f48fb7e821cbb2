//! The actions of users, as data. Each operation is one line, and every kind of fault is tested with all of them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::stage::{ACME, Stage};
use super::state::State;
use crate::support::proxy::Call;

/// An action of a user on the account `acme`.
pub struct Operation {
    pub name: &'static str,
    /// The steps before the action, without a fault.
    before: &'static [Step],
    act: Step,
    /// Whether the account has the same keys after the action.
    pub keeps_keys: bool,
}

/// One step of a user.
pub enum Step {
    /// Creates the account with this spec.
    Create(&'static str),
    /// Merges this into the spec.
    Change(&'static str),
    /// Deletes the account.
    Delete,
    /// Merges this into the account's Secret.
    EditSecret(&'static str),
    /// Deletes the account's Secret.
    DeleteSecret,
    /// Makes the account in the database unowned.
    Disown,
}

use Step::{Change, Create, Delete, DeleteSecret, Disown, EditSecret};

const PLAIN: &str = r#"{ "roles": ["Customer"], "allowedIPs": ["192.0.2.0/24"] }"#;
const RETAINED: &str = r#"{ "roles": ["Customer"], "deletionPolicy": "Retain" }"#;
const CHANGE: &str = r#"{ "name": "Acme Energy", "enabled": false, "roles": ["PlansAndRates"] }"#;
const MOVE: &str = r#"{ "secret": { "name": "moved", "keys": { "apiKey": "id", "secretKey": "key" } } }"#;
const RENAME: &str = r#"{ "secret": { "keys": { "apiKey": "id", "secretKey": "key" }, "labels": { "team": "b" } } }"#;
const ROTATE: &str = r#"{ "rotation": { "trigger": "now" } }"#;
const LEAKED: &str = r#"{ "rotation": { "trigger": "now", "overlap": "0s" } }"#;
const WANTED: &str = r#"{ "roles": ["PlansAndRates"], "adoptionPolicy": "IfUnowned" }"#;
const EMPTIED: &str = r#"{ "data": null }"#;

/// Creates an account.
pub const CREATE: Operation = Operation { name: "create", before: &[], act: Create(PLAIN), keeps_keys: false };
/// Renames and disables the account, and changes its roles.
pub const UPDATE: Operation =
    Operation { name: "update", before: &[Create(PLAIN)], act: Change(CHANGE), keeps_keys: true };
/// Moves the keys to another Secret, under other names.
pub const MOVE_SECRET: Operation =
    Operation { name: "move the Secret", before: &[Create(PLAIN)], act: Change(MOVE), keeps_keys: true };
/// Renames the keys in the same Secret.
pub const RENAME_KEYS: Operation =
    Operation { name: "rename the keys", before: &[Create(PLAIN)], act: Change(RENAME), keeps_keys: true };
/// Empties the Secret and removes its owner.
pub const EDIT_SECRET: Operation =
    Operation { name: "edit the Secret", before: &[Create(PLAIN)], act: EditSecret(EMPTIED), keeps_keys: true };
/// Deletes the Secret.
pub const DELETE_SECRET: Operation =
    Operation { name: "delete the Secret", before: &[Create(PLAIN)], act: DeleteSecret, keeps_keys: true };
/// Deletes the account.
pub const DELETE: Operation = Operation { name: "delete", before: &[Create(PLAIN)], act: Delete, keeps_keys: true };
/// Deletes the resource. Its account and its Secret are retained.
pub const RETAIN: Operation = Operation { name: "retain", before: &[Create(RETAINED)], act: Delete, keeps_keys: true };
/// Creates the account again after it was deleted.
pub const RESTORE: Operation =
    Operation { name: "restore", before: &[Create(PLAIN), Delete], act: Create(PLAIN), keeps_keys: true };
/// Creates the account again after it was retained.
pub const TAKE_UP: Operation =
    Operation { name: "take up", before: &[Create(RETAINED), Delete], act: Create(PLAIN), keeps_keys: true };

/// Rotates the keys. The old keys work for an overlap.
pub const ROTATE_KEYS: Operation =
    Operation { name: "rotate", before: &[Create(PLAIN)], act: Change(ROTATE), keeps_keys: false };
/// Rotates the keys and revokes the old ones at once.
pub const REVOKE_KEYS: Operation =
    Operation { name: "rotate for a leak", before: &[Create(PLAIN)], act: Change(LEAKED), keeps_keys: false };
/// Adopts an unowned account. The test cannot read the account's earlier keys. The compared state shows that it still
/// has one key pair, and that the journal contains no other.
pub const ADOPT: Operation =
    Operation { name: "adopt", before: &[Create(RETAINED), Delete, Disown], act: Create(WANTED), keeps_keys: false };

/// The record of an operation without a fault.
pub struct Record {
    pub calls: Vec<Call>,
    pub end: State,
    /// The reasons of the events that report the changes.
    pub told: BTreeSet<String>,
}

impl Operation {
    /// Creates a stage, runs all steps before the action, and starts a new record of the calls.
    pub async fn stage(&self) -> Stage {
        let stage = Stage::with_controller(self.name).await;
        for step in self.before {
            step.act(&stage).await;
            step.settled(&stage).await;
        }
        // Otherwise a late event would count as a call of the action.
        stage.events_sent(self.before.iter().filter(|step| step.causes_event()).count()).await;
        stage.quiet().await;
        stage.proxy.trace.begin();
        stage
    }

    /// Runs the operation without a fault.
    pub async fn record(&self) -> Record {
        let stage = self.stage().await;
        self.act(&stage).await;
        self.settled(&stage).await;
        stage.events_sent(1).await;
        stage.quiet().await;
        let calls = stage.proxy.trace.calls();
        let (end, _) = stage.look().await;
        let told = stage.told().await;
        Record { calls, end, told }
    }

    /// Starts the action, without waiting for its effect.
    pub async fn act(&self, stage: &Stage) {
        self.act.act(stage).await;
    }

    /// Waits until the action seems to be done.
    pub async fn settled(&self, stage: &Stage) {
        self.act.settled(stage).await;
    }
}

impl Step {
    /// Returns whether the controller tells the step in an event.
    fn causes_event(&self) -> bool {
        !matches!(self, Self::Disown)
    }

    async fn act(&self, stage: &Stage) {
        let scene = &stage.scene;
        match self {
            Self::Create(spec) => drop(scene.create(ACME, parsed(spec)).await),
            Self::Change(spec) => drop(scene.change(ACME, parsed(spec)).await),
            Self::Delete => {
                scene.accounts().delete(ACME, &DeleteParams::default()).await.expect("the API server takes it");
            }
            Self::EditSecret(edit) => {
                let patch = Patch::Merge(parsed(edit));
                scene.secrets().patch(SECRET, &PatchParams::default(), &patch).await.expect("the API server takes it");
            }
            Self::Disown => {
                let mut connection = PgConnection::connect(stage.database_url()).await.expect("the database answers");
                let statement = "UPDATE accounts SET owner_name = 'before'";
                sqlx::query(statement).execute(&mut connection).await.expect("the account is nobody's");
            }
            Self::DeleteSecret => {
                scene.secrets().delete(SECRET, &DeleteParams::default()).await.expect("the API server takes it");
            }
        }
    }

    async fn settled(&self, stage: &Stage) {
        match self {
            Self::Create(_) | Self::Change(_) => drop(stage.scene.ready(ACME).await),
            Self::Disown => {}
            Self::Delete => stage.gone(ACME).await,
            Self::EditSecret(_) | Self::DeleteSecret => {
                let is_whole = |secret: &Secret| secret.data.is_some();
                stage.scene.secret_where(SECRET, "to be put back", is_whole).await;
            }
        }
    }
}

const SECRET: &str = "acme-opsadmin";

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}
