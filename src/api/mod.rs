//! The Rust types of the resource `apiaccounts.ops-admin.com`, and the names that the program uses on a cluster.
//!
//! Spec fields have only their JSON types: the schema and the CEL rules refuse invalid values at admission. An invalid
//! resource that the API server accepted must still be readable, since an unreadable object would stop the watch of all
//! the others. [`crate::reconcile::Desired`] parses the texts into validated types. For the same reason, unreadable
//! parts of a status are left out.

mod choice;
mod definition;
mod lenient;
mod reading;
mod schema;
mod spec;
mod status;

pub use choice::Choice;
pub use definition::definition;
pub use lenient::Lenient;
pub use spec::{
    AdoptionPolicy, ApiAccount, ApiAccountSpec, DeletionPolicy, ManagementPolicy, RotationSpec, SecretKeysSpec,
    SecretSpec,
};
pub use status::{ApiAccountStatus, DriftStatus, KeyStatus, Reason, condition};

/// The resource's API group.
pub const GROUP: &str = "ops-admin.com";
/// The resource's API version.
pub const VERSION: &str = "v1";
/// The resource's kind.
pub const KIND: &str = "ApiAccount";

/// The default of `spec.allowedIPs`: any address. The networks are written out so that a reader of the resource sees
/// them.
pub const EVERY_ADDRESS: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The finalizer that keeps a deleted resource until its account no longer authenticates.
pub const FINALIZER: &str = "ops-admin.com/account";
/// The name of the field manager and of the reporter of events, and the value of [`MANAGED_BY_LABEL`].
pub const MANAGER: &str = "opsadmin-operator";
/// The reason of the event about a partner that still logs in with an old key pair in the second half of its overlap.
pub const OLD_KEYS_IN_USE: &str = "OldKeysInUse";
/// The label of the Secrets that this program writes. The watch selects Secrets by it. Other programs have reasons to
/// change common labels, so this label is the operator's own.
pub const ACCOUNT_LABEL: &str = "ops-admin.com/account";
/// The value of [`ACCOUNT_LABEL`]. The watch selects by the label's name and accepts any value.
pub const ACCOUNT_LABEL_VALUE: &str = "true";
/// The label that shows users and tools which program writes a Secret. This program does not depend on it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The annotation of a Secret with its owner as `CLUSTER/NAMESPACE/NAME`.
pub const OWNER_ANNOTATION: &str = "ops-admin.com/owner";
/// The annotation of a Secret that lists the labels and annotations from `spec.secret`, so that they can be removed
/// later.
pub const APPLIED_ANNOTATION: &str = "ops-admin.com/applied";
/// The annotation of a Secret with imported keys that lists their data keys. Imported keys cannot be recognised by
/// their form.
pub const IMPORTED_ANNOTATION: &str = "ops-admin.com/imported";
/// The annotation of a Secret with a mark that only this program can create. It proves that the keys are the account's.
pub const MARK_ANNOTATION: &str = "ops-admin.com/mark";
/// The prefix of the operator's own labels and annotations. `spec.secret` may not set such names.
pub const RESERVED_PREFIX: &str = "ops-admin.com/";

/// The annotation of an ApiAccount that rotates its keys when its text changes, as `spec.rotation.trigger` does.
pub const ROTATE_ANNOTATION: &str = "ops-admin.com/rotate";
/// The annotation of an ApiAccount that pauses it if the value is `true`: only a deletion is still executed.
pub const PAUSED_ANNOTATION: &str = "ops-admin.com/paused";

/// The annotation of an ApiAccount that confirms a deletion held by the brake if the value is `true`.
pub const CONFIRM_DELETION_ANNOTATION: &str = "ops-admin.com/confirm-deletion";
/// The annotation of an ApiAccount that confirms that an account missing from the database is created again. The value
/// must be the missing account's id, as the status names it.
pub const CONFIRM_CREATION_ANNOTATION: &str = "ops-admin.com/confirm-creation";

/// The annotation of an ApiAccount with the name of the person who changed it, for the journal. Nobody checks it.
pub const CHANGED_BY_ANNOTATION: &str = "ops-admin.com/changed-by";

/// The default of `spec.rotation.overlap`.
pub const DEFAULT_OVERLAP: &str = "24h";
/// The default of the data key for the API key.
pub const DEFAULT_API_KEY_FIELD: &str = "OPSADMIN_API_KEY";
/// The default of the data key for the secret key.
pub const DEFAULT_SECRET_KEY_FIELD: &str = "OPSADMIN_SECRET_KEY";

/// Returns the default name of the Secret of a resource with this name.
pub fn default_secret_name(resource: &str) -> String {
    format!("{resource}-opsadmin")
}

/// Returns whether the resourceVersion `a` is later than `b`. The versions of objects of one kind only grow (KEP-5504).
/// If the versions differ and are not numbers, `a` counts as later, so that no change is missed.
pub fn is_later_version(a: &str, b: &str) -> bool {
    match (a.parse::<u128>(), b.parse::<u128>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => a != b,
    }
}
