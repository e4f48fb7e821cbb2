//! What users do, as data: each operation is one line, and every kind of fault meets all of them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::stage::{ACME, Stage};
use super::state::State;
use crate::support::proxy::Call;

/// Something that a user does to the account `acme`.
pub struct Operation {
    pub name: &'static str,
    /// What was done before it, undisturbed.
    before: &'static [Step],
    act: Step,
    /// Whether the account has the keys from before when it is done.
    pub keeps_keys: bool,
}

/// One thing that a user does.
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
    /// Makes the account in the database nobody's.
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

/// Makes an account.
pub const CREATE: Operation = Operation { name: "create", before: &[], act: Create(PLAIN), keeps_keys: false };
/// Renames and disables it, and gives it other roles.
pub const UPDATE: Operation =
    Operation { name: "update", before: &[Create(PLAIN)], act: Change(CHANGE), keeps_keys: true };
/// Has its keys in another Secret, under other names.
pub const MOVE_SECRET: Operation =
    Operation { name: "move the Secret", before: &[Create(PLAIN)], act: Change(MOVE), keeps_keys: true };
/// Has its keys under other names in the same Secret.
pub const RENAME_KEYS: Operation =
    Operation { name: "rename the keys", before: &[Create(PLAIN)], act: Change(RENAME), keeps_keys: true };
/// Empties its Secret and takes the Secret's owner away.
pub const EDIT_SECRET: Operation =
    Operation { name: "edit the Secret", before: &[Create(PLAIN)], act: EditSecret(EMPTIED), keeps_keys: true };
/// Deletes its Secret.
pub const DELETE_SECRET: Operation =
    Operation { name: "delete the Secret", before: &[Create(PLAIN)], act: DeleteSecret, keeps_keys: true };
/// Deletes it.
pub const DELETE: Operation = Operation { name: "delete", before: &[Create(PLAIN)], act: Delete, keeps_keys: true };
/// Deletes it and leaves account and Secret.
pub const RETAIN: Operation = Operation { name: "retain", before: &[Create(RETAINED)], act: Delete, keeps_keys: true };
/// Makes it again after it was deleted.
pub const RESTORE: Operation =
    Operation { name: "restore", before: &[Create(PLAIN), Delete], act: Create(PLAIN), keeps_keys: true };
/// Makes it again after it was deleted and left.
pub const TAKE_UP: Operation =
    Operation { name: "take up", before: &[Create(RETAINED), Delete], act: Create(PLAIN), keeps_keys: true };

/// Has new keys, beside the old ones for a while.
pub const ROTATE_KEYS: Operation =
    Operation { name: "rotate", before: &[Create(PLAIN)], act: Change(ROTATE), keeps_keys: false };
/// Has new keys, and the old ones revoked.
pub const REVOKE_KEYS: Operation =
    Operation { name: "rotate for a leak", before: &[Create(PLAIN)], act: Change(LEAKED), keeps_keys: false };
/// Takes over an account that nobody declares. Its keys before are nobody's to look at; that it has one pair still, and
/// that the journal tells of no other, is part of the state that is compared.
pub const ADOPT: Operation =
    Operation { name: "adopt", before: &[Create(RETAINED), Delete, Disown], act: Create(WANTED), keeps_keys: false };

/// An operation's undisturbed run.
pub struct Record {
    pub calls: Vec<Call>,
    pub end: State,
    /// The reasons of the events that tell what was done.
    pub told: BTreeSet<String>,
}

impl Operation {
    /// A stage on which everything that comes before it is done, with the record about to begin.
    pub async fn stage(&self) -> Stage {
        let stage = Stage::with_controller(self.name).await;
        for step in self.before {
            step.act(&stage).await;
            step.settled(&stage).await;
        }
        stage.quiet().await;
        stage.proxy.trace.begin();
        stage
    }

    /// Does it undisturbed.
    pub async fn record(&self) -> Record {
        let stage = self.stage().await;
        self.act(&stage).await;
        self.settled(&stage).await;
        stage.quiet().await;
        let calls = stage.proxy.trace.calls();
        let (end, _) = stage.look().await;
        let told = stage.told().await;
        Record { calls, end, told }
    }

    /// Asks for it, without waiting for anything.
    pub async fn act(&self, stage: &Stage) {
        self.act.act(stage).await;
    }

    /// Waits until it looks done.
    pub async fn settled(&self, stage: &Stage) {
        self.act.settled(stage).await;
    }
}

impl Step {
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
