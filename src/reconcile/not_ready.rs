//! Why a resource is not Ready: the message for people, and one table of what follows from each reason.
//!
//! A new reason is a variant here, a row in [`NotReady::handling`], and a word in [`Reason`].

use super::brake::MIN_DELETION_LIMIT;
use super::{Doubt, InvalidSpec, Obstacle, Unconfirmed};
use crate::account::{Account, AccountName, AffiliateName, ClusterId, Life, Owner};
use crate::api::{ACCOUNT_LABEL, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, PAUSED_ANNOTATION, Reason};
use crate::database::{DatabaseError, KeyringError};
use crate::secrets::{SecretError, SecretRef};
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Why a resource is not Ready. The text is the condition's message: it says what a person can do, and holds no secret.
#[derive(Debug, Error)]
pub enum NotReady {
    /// The spec is invalid.
    #[error("{0}")]
    InvalidSpec(#[from] InvalidSpec),
    /// Another account has the name.
    #[error(
        "{holder} has the account name {:?}; choose another spec.name, or rename or delete the holder; to swap two names, give one account a third name first",
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
        /// How the account differs, as the continuation of the sentence.
        difference: String,
        /// How the account can be adopted.
        way: AdoptionPath,
    },
    /// An account of the name is declared elsewhere.
    #[error("{holder} has the account {:?}, and only an unowned account can be taken over; first delete its ApiAccount there with deletionPolicy: Retain. `opsadmin apply --prune` disables an account instead of retaining it: to take over an account of `apply`, run the controller with the --cluster-id that `apply` had", name.as_str())]
    OwnedElsewhere {
        /// The name asked for.
        name: AccountName,
        /// Who has it, in words.
        holder: String,
    },
    /// Too many accounts would lose their access at once.
    #[error(
        "not deleted, and its account stays as it is: more than {percent}% of all accounts, and more than {MIN_DELETION_LIMIT}, would lose their access within ten minutes, and while one deletion is held, every further one is held too. If the deletion is intended, confirm it with the annotation {CONFIRM_DELETION_ANNOTATION}=true"
    )]
    DeletionHeld {
        /// The configured percentage of accounts that may lose access at once. It does not depend on the present number
        /// of accounts.
        percent: u8,
    },
    /// Too many accounts would be pruned in one run.
    #[error(
        "not deleted: {accounts} accounts are declared by no manifest, and more than {limit} deletions at once are held. If the deletions are intended, run with --deletion-brake 100"
    )]
    PruningHeld {
        /// How many accounts would be pruned.
        accounts: usize,
        /// How many accounts may be pruned.
        limit: usize,
    },
    /// The account is missing, and the database may be the wrong one.
    #[error("{}", creation_held(account, doubt))]
    CreationHeld {
        /// The account that is missing.
        account: String,
        /// Why the account is not created again.
        doubt: Doubt,
    },
    /// OpsAdmin's staff suspended the account.
    #[error(
        "suspended in OpsAdmin since {since:.0}: {reason:?}; everything else is as declared. Only OpsAdmin's staff end a suspension"
    )]
    Suspended {
        /// Since when.
        since: Timestamp,
        /// Why, in their words.
        reason: String,
    },
    /// The annotation pauses the resource.
    #[error("the annotation {PAUSED_ANNOTATION} pauses everything except a deletion; remove it to continue")]
    Paused,
    /// The resource only observes, and the account or the Secret differs.
    #[error("only observed (managementPolicy: Observe), and not as declared: {}", fields.join(", "))]
    Drifted {
        /// What differs, by field.
        fields: Vec<String>,
    },
    /// The controller is frozen, and something is left to do.
    #[error(
        "the controller is frozen (--freeze) and changes nothing. After the freeze it handles: {}", pending.join(", ")
    )]
    Frozen {
        /// What is left to do: the fields that differ, or the deletion.
        pending: Vec<String>,
    },
    /// Something keeps changing parts that the controller corrects.
    #[error(
        "something else changes {} again after each correction. The pause before the next correction grows up to 5 minutes; a change that would give more access than declared is corrected every 10 seconds. Find out what writes to the account database or the Secret, and stop it",
        parts.join(", ")
    )]
    RepeatedDrift {
        /// Which fields of the account and parts of the Secret, by name.
        parts: Vec<String>,
    },
    /// The account has a list of addresses and the resource names none.
    #[error(
        "the account may be used from {} only, and spec.allowedIPs is missing: the account keeps its list. Write spec.allowedIPs with the list, or [] to allow any address; everything else is as declared",
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
    #[error("the Secret {} exists and is not changed: {holder}; delete or rename it, or choose another spec.secret.name", at.name)]
    SecretConflict {
        /// The Secret.
        at: SecretRef,
        /// Whose it is, in words.
        holder: String,
    },
    /// The stored Secret is not the Secret that was written.
    #[error(
        "the Secret {} is not stored as it was written: something changes {} before it is stored, such as a mutating admission policy or webhook; exempt Secrets with the label {ACCOUNT_LABEL} from it",
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
        "the account is not in the database, and the Secret {} holds keys but no mark that matches them, so nothing proves that they are this account's keys. Delete the Secret, and the account is created with new keys; to keep these keys, restore the database from a backup, or import them with `opsadmin import` and set spec.adoptionPolicy: IfUnowned",
        at.name
    )]
    UnprovenKeys {
        /// The Secret.
        at: SecretRef,
    },
    /// The account has no keys in the database, and the keys in its Secret belong to another account.
    #[error(
        "the API key in the Secret {} belongs to another account and is not used; write the account's own keys to this Secret, or restore its row in account_keys from a backup",
        at.name
    )]
    KeyTaken {
        /// The Secret.
        at: SecretRef,
    },
    /// The Secret could not be read or written.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// A call to the account database failed.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// A secret key could not be opened.
    #[error("{0}")]
    Keyring(#[from] KeyringError),
    /// The account has no active key pair in the database.
    #[error(
        "the account {account} has no active key pair in the database; restore its row in account_keys from a backup"
    )]
    NoKeys {
        /// The account's id.
        account: String,
    },
    /// The system has no randomness to generate keys from.
    #[error("the system returned no random bytes to generate keys from: {0}")]
    NoRandomness(String),
    /// The reconcile of the resource panicked.
    #[error(
        "the controller failed while it reconciled this resource, which is a bug in opsadmin. The account and the Secret may be only partly as declared, and the controller tries again. Please report the bug with the controller's log"
    )]
    Panicked,
    /// Others kept changing the same account.
    #[error("other writers keep changing this account or its Secret; trying again")]
    Contended,
    /// The resource may no longer be as it was read.
    #[error("{0}; trying again")]
    Unconfirmed(#[from] Unconfirmed),
}

/// What follows from a reason for not being Ready: the condition's reason, who can end it, and when to try again.
struct Handling {
    reason: Reason,
    /// Whether only a person can end the problem. Otherwise, it may pass by itself.
    needs_a_person: bool,
    /// Whether a user or OpsAdmin's staff caused the state on purpose, so that nothing went wrong.
    is_intended: bool,
    next: NextAttempt,
}

/// When to reconcile a resource again that is not Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// Only when the resource changes, or is released from what holds it.
    OnChange,
    /// When the obstacle is gone. One check serves all resources that wait.
    WithoutObstacle(Obstacle),
    /// After a pause that grows with each failure in a row, up to this one.
    Backoff(Duration),
    /// At the time that the outcome names, as the history of corrections allows.
    AfterPostponedCorrection,
    /// As if the resource were Ready: at the time that the outcome names, if it names one.
    Scheduled,
}

/// The longest pause between two attempts at what may pass by itself.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// The longest pause between two attempts at what others keep undoing: each attempt writes.
const LONGEST_BACKOFF_IF_UNDONE: Duration = Duration::from_mins(5);

const fn intended(reason: Reason) -> Handling {
    Handling { reason, needs_a_person: true, is_intended: true, next: NextAttempt::Scheduled }
}

const fn stalled(reason: Reason, next: NextAttempt) -> Handling {
    Handling { reason, needs_a_person: true, is_intended: false, next }
}

const fn passing(reason: Reason) -> Handling {
    Handling { reason, needs_a_person: false, is_intended: false, next: NextAttempt::Backoff(LONGEST_BACKOFF) }
}

impl NotReady {
    /// Returns what follows from each variant.
    fn handling(&self) -> Handling {
        use NextAttempt::{AfterPostponedCorrection, Backoff, OnChange, Scheduled, WithoutObstacle};
        match self {
            Self::Paused => intended(Reason::Paused),
            Self::Suspended { .. } => intended(Reason::Suspended),
            Self::Drifted { .. } => intended(Reason::Drifted),
            Self::Frozen { .. } => intended(Reason::Frozen),
            Self::AllowedIpsMissing { .. } => stalled(Reason::AllowedIPsMissing, Scheduled),
            Self::RepeatedDrift { .. } => stalled(Reason::RepeatedDrift, AfterPostponedCorrection),
            Self::InvalidSpec(_) => stalled(Reason::InvalidSpec, OnChange),
            Self::DeletionHeld { .. } | Self::PruningHeld { .. } => stalled(Reason::DeletionHeld, OnChange),
            Self::CreationHeld { .. } => stalled(Reason::CreationHeld, OnChange),
            Self::NameTaken { .. } => stalled(Reason::NameTaken, WithoutObstacle(Obstacle::Name)),
            Self::AdoptionRequired { .. } => stalled(Reason::AdoptionRequired, WithoutObstacle(Obstacle::Name)),
            Self::OwnedElsewhere { .. } => stalled(Reason::OwnedElsewhere, WithoutObstacle(Obstacle::Name)),
            Self::UnknownAffiliate { .. } => stalled(Reason::UnknownAffiliate, WithoutObstacle(Obstacle::Affiliate)),
            Self::KeyTaken { .. } => stalled(Reason::SecretConflict, WithoutObstacle(Obstacle::ApiKey)),
            Self::SecretConflict { .. } | Self::UnprovenKeys { .. } => {
                stalled(Reason::SecretConflict, Backoff(LONGEST_BACKOFF))
            }
            Self::SecretRewritten { .. } => stalled(Reason::SecretRewritten, Backoff(LONGEST_BACKOFF_IF_UNDONE)),
            Self::Keyring(_) => stalled(Reason::KeyringMismatch, Backoff(LONGEST_BACKOFF)),
            Self::NoKeys { .. } => stalled(Reason::KeysMissing, Backoff(LONGEST_BACKOFF)),
            Self::Secret(error) if error.needs_a_person() => {
                stalled(Reason::SecretUnavailable, Backoff(LONGEST_BACKOFF))
            }
            Self::Secret(_) => passing(Reason::SecretUnavailable),
            Self::Database(DatabaseError::NotStored { .. }) => {
                stalled(Reason::AccountRewritten, Backoff(LONGEST_BACKOFF_IF_UNDONE))
            }
            Self::Database(error) if error.needs_a_person() => {
                stalled(Reason::DatabaseUnavailable, Backoff(LONGEST_BACKOFF))
            }
            Self::Database(_) => passing(Reason::DatabaseUnavailable),
            Self::NoRandomness(_) => passing(Reason::NoRandomness),
            Self::Contended | Self::Unconfirmed(_) => passing(Reason::Contended),
            Self::Panicked => passing(Reason::InternalError),
        }
    }

    /// Returns the reason of the Ready condition.
    pub fn reason(&self) -> Reason {
        self.handling().reason
    }

    /// Returns whether only a person can end the problem. Otherwise, it may pass by itself.
    pub fn needs_a_person(&self) -> bool {
        self.handling().needs_a_person
    }

    /// Returns whether a user or OpsAdmin's staff caused the state on purpose, so that nothing went wrong.
    pub fn is_intended(&self) -> bool {
        self.handling().is_intended
    }

    /// Returns when to reconcile the resource again.
    pub fn next_attempt(&self) -> NextAttempt {
        self.handling().next
    }

    /// Returns the obstacle that has to be gone before another attempt can succeed; `None` if no single read can find
    /// this out.
    pub fn obstacle(&self) -> Option<Obstacle> {
        match self.next_attempt() {
            NextAttempt::WithoutObstacle(obstacle) => Some(obstacle),
            _ => None,
        }
    }

    /// Returns the account name that this resource waits for while another account has the name.
    pub fn waits_for(&self) -> Option<&AccountName> {
        match self {
            Self::NameTaken { name, .. } | Self::AdoptionRequired { name, .. } | Self::OwnedElsewhere { name, .. } => {
                Some(name)
            }
            _ => None,
        }
    }
}

/// Describes the holder of an account for a resource of `cluster`.
pub(super) fn holder(account: &Account, cluster: &ClusterId) -> String {
    match account.owner.as_ref().filter(|_| account.life == Life::Live) {
        Some(owner) if owner.cluster == *cluster => format!("the ApiAccount {}/{}", owner.namespace, owner.name),
        Some(owner) => format!("the ApiAccount {}/{} of the cluster {}", owner.namespace, owner.name, owner.cluster),
        None => format!("the account {}, which no ApiAccount declares,", account.id),
    }
}

/// Describes why the account is not created and what to do. The text must not change when more accounts turn out to be
/// missing, because each change would be a status update.
fn creation_held(account: &str, doubt: &Doubt) -> String {
    let confirm = format!(
        "if the accounts are lost or this is the right database, confirm with `opsadmin release` that they are created again (annotation {CONFIRM_CREATION_ANNOTATION}={account})"
    );
    match doubt {
        Doubt::Many => format!(
            "the database lacks the account {account} that this ApiAccount had, and too many other accounts, so none is created again; correct --database or --cluster-id, or finish restoring the database, and the hold ends automatically; {confirm}"
        ),
        Doubt::OtherDatabase { had_it, this } => format!(
            "the account {account} of this ApiAccount is in the database {had_it}, and this is a different database ({}), so the account is not created in it; correct --database, or restore the right database, and the hold ends automatically; {confirm}",
            this.as_deref().unwrap_or("without an id")
        ),
        Doubt::Secrets => "the database lacks this account although its Secret exists, and too many other accounts, so none is created again; correct --database or --cluster-id, or restore the database; if the accounts are lost or this is the right database, run with --confirm-creation".to_owned(),
    }
}

/// How an unowned account can be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptionPath {
    /// The resource may adopt the account if its adoption policy says so.
    Policy,
    /// The account is for another namespace or for none yet. OpsAdmin's staff can assign it to this resource's
    /// namespace.
    Staff {
        /// Who the account is for, in words.
        whom: String,
        /// The command to run.
        command: String,
    },
}

impl AdoptionPath {
    /// Returns the path for a resource that may not adopt this account.
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
                "{whom}. To let another resource take it over, OpsAdmin's staff run `{command}`; then set spec.adoptionPolicy: IfUnowned"
            ),
        }
    }
}

/// Describes a list by its first addresses and the number of further ones.
fn some_of(addresses: &[String]) -> String {
    const SHOWN: usize = 5;
    match addresses.len().saturating_sub(SHOWN) {
        _ if addresses.is_empty() => "no address".to_owned(),
        0 => addresses.join(", "),
        more => format!("{} and {more} more", addresses[..SHOWN].join(", ")),
    }
}
