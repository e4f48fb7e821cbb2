//! The resource `apiaccounts.ops-admin.com` as users write it and as the API server checks it. Types only.
//!
//! Spec fields are as loose as their JSON types, on purpose: the schema and the CEL rules refuse what is wrong at
//! admission, and a resource that got past them all the same must still be readable, or one bad object would stop
//! the watch of all the others. [`crate::reconcile::Desired`] is where text becomes values that cannot be wrong. A status
//! is read as far as it can be, for the same reason.

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
/// Its version.
pub const VERSION: &str = "v1";
/// Its kind.
pub const KIND: &str = "ApiAccount";

/// What `spec.allowedIPs` is where it is left out: any address, written out so that nobody overlooks it.
pub const EVERY_ADDRESS: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Keeps a resource until its account no longer authenticates.
pub const FINALIZER: &str = "ops-admin.com/account";
/// Who writes: field manager, reporter of events, and the value of [`MANAGED_BY_LABEL`].
pub const MANAGER: &str = "opsadmin-operator";
/// Marks the Secrets that this program writes, and narrows the watch to them. A label of its own, since others have reasons
/// to change the common ones.
pub const ACCOUNT_LABEL: &str = "ops-admin.com/account";
/// The value of [`ACCOUNT_LABEL`]; the watch asks for the label alone, whatever its value.
pub const ACCOUNT_LABEL_VALUE: &str = "true";
/// Tells people, and tools that look at many programs' objects, who writes a Secret. Nothing here depends on it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// On a Secret: the owner it belongs to, as `CLUSTER/NAMESPACE/NAME`.
pub const OWNER_ANNOTATION: &str = "ops-admin.com/owner";
/// On a Secret: which labels and annotations came from `spec.secret`, so that they can be taken away again.
pub const APPLIED_ANNOTATION: &str = "ops-admin.com/applied";
/// On a Secret whose keys were made elsewhere, and so cannot be told by their form: under which names they stand.
pub const IMPORTED_ANNOTATION: &str = "ops-admin.com/imported";
/// On a Secret: a mark that only this program can make, so that its keys can be believed to be the account's.
pub const MARK_ANNOTATION: &str = "ops-admin.com/mark";
/// What all labels and annotations of this program's own begin with; `spec.secret` may not set them.
pub const RESERVED_PREFIX: &str = "ops-admin.com/";

/// On an ApiAccount: any new text rotates its keys, as `spec.rotation.trigger` does.
pub const ROTATE_ANNOTATION: &str = "ops-admin.com/rotate";
/// On an ApiAccount: `true` stops everything but deletion.
pub const PAUSED_ANNOTATION: &str = "ops-admin.com/paused";

/// On an ApiAccount that is being deleted and held by the brake: `true` lets it go.
pub const CONFIRM_DELETION_ANNOTATION: &str = "ops-admin.com/confirm-deletion";
/// On an ApiAccount whose account the database lacks, and is not made anew unasked: the id of that account, as its status
/// names it, has another one made.
pub const CONFIRM_CREATION_ANNOTATION: &str = "ops-admin.com/confirm-creation";

/// How long an old pair goes on working, unless the spec says otherwise.
pub const DEFAULT_OVERLAP: &str = "24h";
/// The data key that holds the API key, unless the spec names another.
pub const DEFAULT_API_KEY_FIELD: &str = "OPSADMIN_API_KEY";
/// The data key that holds the secret key, unless the spec names another.
pub const DEFAULT_SECRET_KEY_FIELD: &str = "OPSADMIN_SECRET_KEY";

/// The name of the Secret of the resource of this name, unless the spec names another.
pub fn default_secret_name(resource: &str) -> String {
    format!("{resource}-opsadmin")
}

/// Whether the resource version `a` is later than `b`: versions of one kind of object only grow (KEP-5504). Two that
/// cannot be compared count as later, so that a change is looked at rather than missed.
pub fn is_later_version(a: &str, b: &str) -> bool {
    match (a.parse::<u128>(), b.parse::<u128>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => a != b,
    }
}
