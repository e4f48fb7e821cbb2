//! What came of a reconcile: what was done, and why no more was.

use super::brake::FLOOR;
use super::repeated_drift::was_reconciled;
use super::{Doubt, InvalidSpec, Unconfirmed};
use crate::account::{Account, AccountName, AffiliateName, ClusterId, FieldChange, KeyId, Life, Owner, RotationReason};
use crate::api::{
    ACCOUNT_LABEL, ApiAccountStatus, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, PAUSED_ANNOTATION,
    Reason,
};
use crate::database::{DatabaseError, KeyringError, NameHolder};
use crate::secrets::{SecretError, SecretRef, is_bookkeeping};
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// What came of a reconcile.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The account as it is now, if it is known.
    pub account: Option<Account>,
    /// The version of the Secret that is now verified to be right.
    pub secret_version: Option<String>,
    /// Whether something else sets the Secret's common label each time that the Secret is written; `None` if that was not
    /// looked at.
    pub relabelled: Option<bool>,
    /// What was done, in order.
    pub done: Vec<Done>,
    /// What differs and was only to be told.
    pub drift: Vec<Drift>,
    /// When the keys will be rotated by themselves.
    pub next_rotation: Option<Timestamp>,
    /// When to look again though nothing is told: at a rotation or an expiry, or for what others may do unseen.
    pub next_look: Option<Timestamp>,
    /// The account that has the name, as it was when the refusal was decided, if a name is why.
    pub name_holder: Option<NameHolder>,
    /// Why not everything is as declared; `None` if it is.
    pub not_ready: Option<NotReady>,
}

impl Outcome {
    /// Nothing done, for this reason.
    pub fn blocked(not_ready: NotReady) -> Self {
        Self { not_ready: Some(not_ready), ..Self::default() }
    }

    /// Tells what somebody else has changed from what follows from a change of the spec or of the keys: of a resource that
    /// `previous` says was reconciled as it is now, nothing but somebody else's change can have been updated; and of a Secret
    /// that it says was right for these keys, nothing but somebody else's change can have been put right.
    #[must_use]
    pub fn attribute_drift(mut self, previous: Option<&ApiAccountStatus>, generation: Option<i64>) -> Self {
        if previous.is_some_and(|status| was_reconciled(status, generation)) {
            for done in &mut self.done {
                if let Done::Updated { changes } = done {
                    *done = Done::DriftCorrected { changes: std::mem::take(changes) };
                }
            }
        }
        let active = self.account.as_ref().and_then(Account::active_key).map(|key| key.id.to_string());
        let was_right = previous.is_some_and(|status| {
            status.observed_generation == generation
                && status.secret_resource_version.is_some()
                && status.active_key().map(|key| &key.id) == active.as_ref()
        });
        if was_right {
            for done in &mut self.done {
                // Of a Secret without our label, an upgrade from a version that had none cannot be told from others' hands.
                if let Done::SecretUpdated { at, parts } = done
                    && !parts.contains(&format!("label {ACCOUNT_LABEL}"))
                    && !parts.iter().all(|part| is_bookkeeping(part))
                {
                    *done = Done::SecretPutBack { at: at.clone(), parts: std::mem::take(parts) };
                }
            }
        }
        self
    }
}

/// Something that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The field of the spec; or `account`, for all of it, or `secret`.
    pub field: String,
    /// What is declared, in words.
    pub declared: String,
    /// What is there, in words.
    pub actual: String,
}

impl From<FieldChange> for Drift {
    fn from(change: FieldChange) -> Self {
        Self { field: change.field.to_string(), declared: change.new, actual: change.old }
    }
}

/// One thing that was done. Its text may be shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The account was made.
    Created {
        /// The keys came from its Secret: only its row had been lost.
        recovered: bool,
    },
    /// The account was deleted or retained, and is declared again.
    Restored {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// Fields of the account were changed.
    Updated {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// An account that nobody declared was taken over.
    Adopted,
    /// The account has a new active pair.
    Rotated {
        /// Why.
        reason: RotationReason,
        /// The new pair.
        new: KeyId,
        /// Until when the old one goes on working; `None`: it was revoked.
        old_expires: Option<Timestamp>,
        /// The pairs that no longer work: expired ones, those that would be too many, the old one without an overlap.
        revoked: Vec<KeyId>,
    },
    /// Pairs whose time was over were removed.
    Revoked(Vec<KeyId>),
    /// Fields of the account were put back to what they had been before somebody else changed them.
    DriftCorrected {
        /// Each field, old to new.
        changes: Vec<FieldChange>,
    },
    /// The account had lost its keys, and has those again that this Secret still holds.
    KeyRestored(SecretRef),
    /// The account was disabled since its resource is gone.
    Disabled,
    /// The account is nobody's now, since its resource is gone, and asked for that or only observed it.
    Retained,
    /// The Secret was written.
    SecretWritten(SecretRef),
    /// The Secret was made to hold what it now should.
    SecretUpdated {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// The Secret was put back to what it had been before somebody else changed it.
    SecretPutBack {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// A Secret was deleted: the keys are in another one now, or the account is deleted.
    SecretRemoved(SecretRef),
    /// The Secret stays, and its resource goes.
    SecretReleased(SecretRef),
}

impl Done {
    /// Each word for what can be done.
    pub const REASONS: [&'static str; 16] = [
        "Created",
        "Recovered",
        "Restored",
        "Updated",
        "Adopted",
        "Rotated",
        "Revoked",
        "DriftCorrected",
        "KeyRestored",
        "Disabled",
        "Retained",
        "SecretWritten",
        "SecretUpdated",
        "SecretPutBack",
        "SecretRemoved",
        "SecretReleased",
    ];

    /// The same without these fields, which were not kept.
    #[must_use]
    pub(super) fn without(self, left: &[FieldChange]) -> Self {
        let kept = |changes: Vec<FieldChange>| {
            changes.into_iter().filter(|change| left.iter().all(|left| left.field != change.field)).collect()
        };
        match self {
            Self::Updated { changes } => Self::Updated { changes: kept(changes) },
            Self::Restored { changes } => Self::Restored { changes: kept(changes) },
            other => other,
        }
    }

    /// The pairs that do not work any more because of it.
    pub fn revoked(&self) -> &[KeyId] {
        match self {
            Self::Revoked(keys) | Self::Rotated { revoked: keys, .. } => keys,
            _ => &[],
        }
    }

    /// A word for it, as events' reasons are written.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Created { recovered: false } => "Created",
            Self::Created { recovered: true } => "Recovered",
            Self::Restored { .. } => "Restored",
            Self::Updated { .. } => "Updated",
            Self::Adopted => "Adopted",
            Self::Rotated { .. } => "Rotated",
            Self::Revoked(_) => "Revoked",
            Self::DriftCorrected { .. } => "DriftCorrected",
            Self::KeyRestored(_) => "KeyRestored",
            Self::Disabled => "Disabled",
            Self::Retained => "Retained",
            Self::SecretWritten(_) => "SecretWritten",
            Self::SecretUpdated { .. } => "SecretUpdated",
            Self::SecretPutBack { .. } => "SecretPutBack",
            Self::SecretRemoved(_) => "SecretRemoved",
            Self::SecretReleased(_) => "SecretReleased",
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { recovered: false } => f.write_str("created the account and its keys"),
            Self::Created { recovered: true } => f.write_str("made the account anew, with the keys from its Secret"),
            Self::Restored { changes } if changes.is_empty() => f.write_str("restored the account with its keys"),
            Self::Restored { changes } => write!(f, "restored the account with its keys; {}", list(changes)),
            Self::Updated { changes } | Self::DriftCorrected { changes } => f.write_str(&list(changes)),
            Self::Adopted => f.write_str("took over the account with its keys"),
            Self::Rotated { reason, new, old_expires: Some(expires), .. } => {
                write!(
                    f,
                    "rotated the keys: {}; the new pair is {new}, the old one works until {expires:.0}",
                    reason.as_str()
                )
            }
            Self::Rotated { reason, new, old_expires: None, .. } => {
                write!(f, "rotated the keys: {}; the new pair is {new}, the old one is revoked", reason.as_str())
            }
            Self::Revoked(keys) => {
                let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
                write!(f, "revoked what had expired: the pair {}", keys.join(", "))
            }
            Self::KeyRestored(at) => {
                write!(f, "gave the account the keys back that the Secret {} still holds", at.name)
            }
            Self::Disabled => f.write_str("disabled the account: its resource is gone"),
            Self::Retained => {
                f.write_str("left the account as it is: its resource is gone, and asked for that or only observed it")
            }
            Self::SecretWritten(at) => write!(f, "wrote the keys to the Secret {}", at.name),
            Self::SecretUpdated { at, parts } => write!(f, "put the Secret {} right: {}", at.name, parts.join(", ")),
            Self::SecretPutBack { at, parts } => write!(f, "put the Secret {} back: {}", at.name, parts.join(", ")),
            Self::SecretRemoved(at) => write!(f, "deleted the Secret {}, which is not needed any more", at.name),
            Self::SecretReleased(at) => write!(f, "left the Secret {} as it is", at.name),
        }
    }
}

fn list(changes: &[FieldChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why not everything is as declared. Its text says what a person can do, and may be shown to anybody.
#[derive(Debug, Error)]
pub enum NotReady {
    /// The spec says something that no account can be.
    #[error("{0}")]
    InvalidSpec(#[from] InvalidSpec),
    /// Another account has the name.
    #[error(
        "{holder} has the account name {:?}; choose another spec.name, or rename or delete the holder; two that swap their names need a name in between",
        name.as_str()
    )]
    NameTaken {
        /// The name asked for.
        name: AccountName,
        /// Who has it, in words.
        holder: String,
    },
    /// An account of the name exists that no resource declares.
    #[error(
        "an account {:?} exists that no ApiAccount declares{difference}; {way}",
        name.as_str()
    )]
    AdoptionRequired {
        /// The name asked for.
        name: AccountName,
        /// How it differs, in words that go on the sentence.
        difference: String,
        /// How it can be taken over.
        way: AdoptionPath,
    },
    /// An account of the name is declared elsewhere.
    #[error("{holder} has the account {:?}, and only what nobody declares can be taken over; let go of it there first: delete its ApiAccount there with deletionPolicy: Retain. One of `opsadmin apply` is let go of by nothing that --prune does, which disables it: run the controller with the --cluster-id that `apply` had", name.as_str())]
    OwnedElsewhere {
        /// The name asked for.
        name: AccountName,
        /// Who has it, in words.
        holder: String,
    },
    /// Too many accounts would lose their access at once.
    #[error(
        "not deleted, and its account stays as it is: more than {percent}% of all accounts, and more than {FLOOR}, were to lose their access within ten minutes, and while one of them is held so is every further one. If that is meant, confirm it with the annotation {CONFIRM_DELETION_ANNOTATION}=true"
    )]
    DeletionHeld {
        /// The percentage of all accounts that may at once: as configured, and so the same however many there are by now.
        percent: u8,
    },
    /// Too many accounts would be pruned in one run.
    #[error(
        "not deleted: {accounts} accounts are declared by no manifest, and more than {limit} at once are held. If that is meant, run with --deletion-brake 100"
    )]
    PruningHeld {
        /// How many would be.
        accounts: usize,
        /// How many may be.
        limit: usize,
    },
    /// The account is missing, and nothing says that the database is the right one.
    #[error("{}", creation_held(account, doubt))]
    CreationHeld {
        /// The account that is missing.
        account: String,
        /// Why it is not made anew.
        doubt: Doubt,
    },
    /// OpsAdmin's staff stopped the account.
    #[error(
        "suspended in OpsAdmin since {since:.0}: {reason:?}; everything else is as declared. Only OpsAdmin's staff end a suspension"
    )]
    Suspended {
        /// Since when.
        since: Timestamp,
        /// Why, in their words.
        reason: String,
    },
    /// The annotation says to leave everything as it is.
    #[error("the annotation {PAUSED_ANNOTATION} leaves everything as it is but a deletion; remove it to go on")]
    Paused,
    /// Something differs, and is only to be told.
    #[error("only observed (managementPolicy: Observe), and not as declared: {}", fields.join(", "))]
    Drifted {
        /// What differs, by field.
        fields: Vec<String>,
    },
    /// Something keeps changing what is put back.
    #[error(
        "something else keeps changing {}: each time that it is put back, it is changed again. It is put back ever less often, at last every 5 minutes; what would let in more than is declared, every 10 seconds. Find out what writes there, in the account database or the Secret, and end that",
        parts.join(", ")
    )]
    RepeatedDrift {
        /// Which fields of the account and parts of the Secret, by name.
        parts: Vec<String>,
    },
    /// The account has a list of addresses and the resource names none.
    #[error(
        "the account may be used from {} only, and spec.allowedIPs is left out: the account keeps its list. Write spec.allowedIPs with the list, or [] if any address is meant; everything else is as declared",
        some_of(kept)
    )]
    AllowedIpsMissing {
        /// The list.
        kept: Vec<String>,
    },
    /// OpsAdmin does not know the affiliate.
    #[error(
        "OpsAdmin knows no affiliate {:?}; register it there, correct spec.affiliate, or run with --unknown-affiliate register",
        affiliate.as_str()
    )]
    UnknownAffiliate {
        /// The affiliate asked for.
        affiliate: AffiliateName,
    },
    /// A Secret of the name exists and is not this account's.
    #[error("the Secret {} exists and is left alone: {holder}; delete or rename it, or choose another spec.secret.name", at.name)]
    SecretConflict {
        /// The Secret.
        at: SecretRef,
        /// Whose it is, in words.
        holder: String,
    },
    /// What was stored is not the Secret that was written.
    #[error(
        "the Secret {} does not stay as it is written: something changes {} on the way, such as a mutating admission policy or webhook; exempt Secrets with the label {ACCOUNT_LABEL} from it",
        at.name, parts.join(", ")
    )]
    SecretRewritten {
        /// The Secret.
        at: SecretRef,
        /// Which parts, by name.
        parts: Vec<String>,
    },
    /// The account is not in the database, and nothing proves that the keys in its Secret are its own.
    #[error(
        "the account is not in the database, and the Secret {} holds keys that nothing proves to be its own: it has no mark that fits them. Delete the Secret, and the account is made with new keys; to keep these, restore the database from a backup, or bring them in with `opsadmin import` and set spec.adoptionPolicy: IfUnowned",
        at.name
    )]
    UnprovenKeys {
        /// The Secret.
        at: SecretRef,
    },
    /// The account has no keys in the database, and those in its Secret belong to somebody else.
    #[error(
        "the API key in the Secret {} is that of another account and is not used; put the account's own keys there, or restore its row in account_keys from a backup",
        at.name
    )]
    KeyTaken {
        /// The Secret.
        at: SecretRef,
    },
    /// The Secret could not be read or written.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The account database did not do it.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// A secret key could not be opened.
    #[error("{0}")]
    Keyring(#[from] KeyringError),
    /// Somebody removed the account's keys from the database.
    #[error(
        "the account {account} has no active key pair in the database; restore its row in account_keys from a backup"
    )]
    NoKeys {
        /// The account's id.
        account: String,
    },
    /// The system has no randomness to make keys from.
    #[error("the system gave no randomness to make keys from: {0}")]
    NoRandomness(String),
    /// The work on the resource panicked.
    #[error(
        "the controller failed over this resource, which is a bug in opsadmin; account and Secret may be half as declared, and it is tried again. Please report it with the controller's log"
    )]
    Panicked,
    /// Others kept changing the same account.
    #[error("others keep changing this account or its Secret; trying again")]
    Contended,
    /// The resource may no longer be as it was read.
    #[error("{0}; trying again")]
    Unconfirmed(#[from] Unconfirmed),
}

impl NotReady {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidSpec(_) => Reason::InvalidSpec,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::AllowedIpsMissing { .. } => Reason::AllowedIPsMissing,
            Self::UnknownAffiliate { .. } => Reason::UnknownAffiliate,
            Self::AdoptionRequired { .. } => Reason::AdoptionRequired,
            Self::OwnedElsewhere { .. } => Reason::OwnedElsewhere,
            Self::DeletionHeld { .. } | Self::PruningHeld { .. } => Reason::DeletionHeld,
            Self::CreationHeld { .. } => Reason::CreationHeld,
            Self::Suspended { .. } => Reason::Suspended,
            Self::Paused => Reason::Paused,
            Self::Drifted { .. } => Reason::Drifted,
            Self::SecretConflict { .. } | Self::UnprovenKeys { .. } | Self::KeyTaken { .. } => Reason::SecretConflict,
            Self::SecretRewritten { .. } => Reason::SecretRewritten,
            Self::Database(DatabaseError::NotKept { .. }) => Reason::AccountRewritten,
            Self::RepeatedDrift { .. } => Reason::RepeatedDrift,
            Self::Keyring(_) => Reason::KeyringMismatch,
            Self::NoKeys { .. } => Reason::KeysMissing,
            Self::NoRandomness(_) => Reason::NoRandomness,
            Self::Contended | Self::Unconfirmed(_) => Reason::Contended,
            Self::Secret(_) => Reason::SecretUnavailable,
            Self::Panicked => Reason::InternalError,
            Self::Database(_) => Reason::DatabaseUnavailable,
        }
    }

    /// The account name that is in the way as long as another account has it.
    pub fn waits_for(&self) -> Option<&AccountName> {
        match self {
            Self::NameTaken { name, .. } | Self::AdoptionRequired { name, .. } | Self::OwnedElsewhere { name, .. } => {
                Some(name)
            }
            _ => None,
        }
    }

    /// How long to wait at most before the next try. What others keep undoing is tried seldom: each try writes.
    pub fn longest_pause(&self) -> Duration {
        match self {
            Self::SecretRewritten { .. } | Self::Database(DatabaseError::NotKept { .. }) => Duration::from_mins(5),
            _ => Duration::from_mins(1),
        }
    }

    /// Whether it is as somebody wanted it, rather than something that went wrong.
    pub fn is_intended(&self) -> bool {
        matches!(self, Self::Suspended { .. } | Self::Paused | Self::Drifted { .. })
    }

    /// Whether all was done that can be, so that only a change or the clock is a reason to look again.
    pub fn is_settled(&self) -> bool {
        self.is_intended() || matches!(self, Self::AllowedIpsMissing { .. })
    }

    /// Whether it stays so until a person does something; otherwise it may pass by itself.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::InvalidSpec(_)
            | Self::NameTaken { .. }
            | Self::AllowedIpsMissing { .. }
            | Self::UnknownAffiliate { .. }
            | Self::SecretConflict { .. }
            | Self::SecretRewritten { .. }
            | Self::RepeatedDrift { .. }
            | Self::AdoptionRequired { .. }
            | Self::OwnedElsewhere { .. }
            | Self::DeletionHeld { .. }
            | Self::PruningHeld { .. }
            | Self::CreationHeld { .. }
            | Self::Suspended { .. }
            | Self::Paused
            | Self::Drifted { .. }
            | Self::KeyTaken { .. }
            | Self::UnprovenKeys { .. }
            | Self::Keyring(_)
            | Self::NoKeys { .. }
            | Self::Database(DatabaseError::LoginRefused { .. }) => true,
            Self::Secret(error) => {
                matches!(
                    error,
                    SecretError::Refused { .. }
                        | SecretError::Ending { .. }
                        | SecretError::Unlisted { .. }
                        | SecretError::File { .. }
                )
            }
            Self::Database(error) => !error.is_retryable(),
            Self::NoRandomness(_) | Self::Panicked | Self::Contended | Self::Unconfirmed(_) => false,
        }
    }
}

/// Who holds an account, in words for a resource of `cluster`.
pub(super) fn holder(account: &Account, cluster: &ClusterId) -> String {
    match account.owner.as_ref().filter(|_| account.life == Life::Live) {
        Some(owner) if owner.cluster == *cluster => format!("the ApiAccount {}/{}", owner.namespace, owner.name),
        Some(owner) => format!("the ApiAccount {}/{} of the cluster {}", owner.namespace, owner.name, owner.cluster),
        None => format!("the account {}, which no ApiAccount declares,", account.id),
    }
}

/// Why nothing is made, and what to do. Nothing in it changes as more accounts turn out to be missing.
fn creation_held(account: &str, doubt: &Doubt) -> String {
    let confirm = format!(
        "if the accounts are lost or this database is meant, confirm with `opsadmin release` that they are made anew (annotation {CONFIRM_CREATION_ANNOTATION}={account})"
    );
    match doubt {
        Doubt::Many => format!(
            "the database lacks the account {account} that this ApiAccount had, and too many others with it, so nothing is made anew; correct --database or --cluster-id, or finish restoring the database, and this ends by itself; {confirm}"
        ),
        Doubt::OtherDatabase { had_it, this } => format!(
            "the account {account} of this ApiAccount is in the database {had_it}, and this is another one ({}), so nothing is made in it; correct --database, or restore the right one, and this ends by itself; {confirm}",
            this.as_deref().unwrap_or("without an id")
        ),
        Doubt::Secrets => "the database lacks this account though its Secret is there, and too many others with it, so nothing is made anew; correct --database or --cluster-id, or restore the database; if the accounts are lost or this database is meant, run with --confirm-creation".to_owned(),
    }
}

/// How an account that nobody declares can be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptionPath {
    /// The resource may, if it says so.
    Policy,
    /// It is for somebody else, or for nobody yet; OpsAdmin's staff may name this resource's namespace.
    Staff {
        /// Whom it is for, in words.
        whom: String,
        /// The command to run.
        command: String,
    },
}

impl AdoptionPath {
    /// For a resource that may not take this account over.
    pub(super) fn staff(account: &Account, owner: &Owner) -> Self {
        let whom = match (&account.adopter, &account.owner) {
            (Some(adopter), _) => format!("it is for {adopter}"),
            (None, Some(had)) => {
                format!("it is kept for the namespace {} of the cluster {}, which had it", had.namespace, had.cluster)
            }
            (None, None) => "it was imported for no namespace".to_owned(),
        };
        let Owner { cluster, namespace, .. } = owner;
        let command = format!("opsadmin allow-adoption {} --to {namespace} --cluster-id {cluster}", account.id);
        Self::Staff { whom, command }
    }
}

impl fmt::Display for AdoptionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => f.write_str("to take it over with its keys, set spec.adoptionPolicy: IfUnowned"),
            Self::Staff { whom, command } => write!(
                f,
                "{whom}. OpsAdmin's staff name who else may take it over, with `{command}`; then set spec.adoptionPolicy: IfUnowned"
            ),
        }
    }
}

/// The first addresses of a list, and how many more there are.
fn some_of(addresses: &[String]) -> String {
    const SHOWN: usize = 5;
    match addresses.len().saturating_sub(SHOWN) {
        _ if addresses.is_empty() => "no address".to_owned(),
        0 => addresses.join(", "),
        more => format!("{} and {more} more", addresses[..SHOWN].join(", ")),
    }
}
