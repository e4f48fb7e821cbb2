//! The steps of a walk: actions of users, of OpsAdmin's staff and of other writers, failures, and moves of the clock.
//!
//! There are few values, so that resources conflict: they use the same account names, Secrets and texts.

use crate::api::{AdoptionPolicy, DeletionPolicy, ManagementPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The index of a resource: `acme`, `beta` or `gamma`.
pub type Slot = usize;

/// The maximum number of resources.
pub const SLOTS: usize = 3;

/// One step.
#[derive(Debug, Clone)]
pub enum Step {
    /// The resource is created as it was last declared, unless it exists.
    Apply(Slot),
    /// A user changes what is declared.
    Declare(Slot, Declare),
    /// A user deletes the resource.
    Delete(Slot),
    /// The resource is deleted without the finalizer's work, because the finalizer was removed.
    Vanish(Slot),
    /// Orphans are disabled: accounts whose resource has vanished.
    EndOrphans,
    /// Another writer changes the database or a Secret.
    Edit(Edit),
    /// The cluster deletes Secrets whose owner is gone.
    Collect,
    /// Deleted accounts are purged after their retention.
    Purge,
    /// The controller restarts: the first reconcile of each account uses one bulk read.
    Restart,
    /// The clock moves by this many seconds, which may be negative.
    Clock(i64),
    /// The resource is reconciled. The calls to the ports with these numbers, from 0, fail in these ways.
    Pass(Slot, Vec<(usize, Trouble)>),
    /// Everything is reconciled until nothing is left to do, and then checked.
    Settle,
}

/// What goes wrong with one call to a port.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// The call is not made.
    NotMade,
    /// The call is made, and the answer is lost.
    AnswerLost,
    /// Another writer makes this edit first.
    Meanwhile(Edit),
}

/// What a user changes.
#[derive(Debug, Clone)]
pub enum Declare {
    Name(Option<&'static str>),
    Description(&'static str),
    Enabled(bool),
    RefreshToken(bool),
    Affiliate(Option<&'static str>),
    Roles(&'static [&'static str]),
    AllowedIps(&'static [&'static str]),
    SecretName(Option<&'static str>),
    SecretKeys(&'static str, &'static str),
    Labels(&'static [(&'static str, &'static str)]),
    Annotations(&'static [(&'static str, &'static str)]),
    Interval(Option<&'static str>),
    Overlap(&'static str),
    Trigger(Option<&'static str>),
    /// The annotation that requests a rotation.
    Rotate(Option<&'static str>),
    Paused(bool),
    Adoption(AdoptionPolicy),
    Management(ManagementPolicy),
    Deletion(DeletionPolicy),
}

/// An edit by another writer, of the account or the Secret of one resource.
#[derive(Debug, Clone)]
pub enum Edit {
    Account(Slot, AccountEdit),
    Secret(Slot, SecretEdit),
}

/// A manual edit in the database.
#[derive(Debug, Clone)]
pub enum AccountEdit {
    Name(&'static str),
    Disable,
    Enable,
    Affiliate(Option<&'static str>),
    Administrator,
    AnyIp,
    NoIp,
    Suspend,
    Resume,
    /// The account's row is deleted.
    Delete,
    /// The active key pair is deleted.
    DeleteActive,
    /// The active key pair is retired.
    RetireActive,
    /// The account is given to a resource of another cluster.
    TakenElsewhere,
    /// The account becomes unowned.
    LetGo,
    /// An unowned account is created with the name that the resource declares.
    UnownedNamesake,
}

/// An edit of the Secret under the declared name.
#[derive(Debug, Clone)]
pub enum SecretEdit {
    Delete,
    Empty,
    Scramble,
    AddData,
    /// The Secret is given another well-formed key pair.
    OtherPair,
    RemoveLabels,
    RemoveAnnotations,
    /// The mark, which proves the origin of the keys, is removed.
    Unmark,
    /// The Secret is given the owner reference that earlier versions wrote.
    Tie,
    /// Another writer adds a label, an annotation and an owner reference.
    Decorate,
    MakeImmutable,
    /// A user puts a foreign Secret under the name.
    Foreign,
    /// The controller of a Certificate puts a Secret under the name.
    Controlled,
    /// The cache lags, and the Secret seems absent.
    Unseen,
}

/// Generates a walk of all kinds of steps, or one about the keys or the Secret of a resource. Those have their own
/// walks, because rare bugs there need many steps of one kind.
pub fn walk() -> impl Strategy<Value = Vec<Step>> {
    let steps =
        prop_oneof![2 => vec(step(), 1..120), 1 => vec(step_of_keys(), 1..120), 1 => vec(step_of_secrets(), 1..80)];
    steps.prop_map(|steps| {
        let begin = [Step::Apply(0), Step::Apply(1), Step::Settle];
        begin.into_iter().chain(steps).chain([Step::Settle]).collect()
    })
}

/// Selects one resource more often than the others, so that many steps concern the same resource.
fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![3 => Just(0), 2 => 1..SLOTS]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => slot().prop_map(Step::Apply),
        14 => (slot(), declare()).prop_map(|(slot, declare)| Step::Declare(slot, declare)),
        2 => slot().prop_map(Step::Delete),
        1 => slot().prop_map(Step::Vanish),
        1 => Just(Step::EndOrphans),
        8 => edit().prop_map(Step::Edit),
        1 => Just(Step::Collect),
        1 => Just(Step::Purge),
        1 => Just(Step::Restart),
        5 => clock().prop_map(Step::Clock),
        8 => (slot(), vec((0..12_usize, trouble()), 0..3)).prop_map(|(slot, troubles)| Step::Pass(slot, troubles)),
        8 => Just(Step::Settle),
    ]
}

fn step_of_keys() -> impl Strategy<Value = Step> {
    let lives = vec![Step::Apply(0), Step::Apply(0), Step::Delete(0), Step::Vanish(0), Step::Purge, Step::Collect];
    let edits = vec![AccountEdit::Delete, AccountEdit::DeleteActive, AccountEdit::Suspend, AccountEdit::Resume];
    prop_oneof![
        8 => declare_of_keys().prop_map(|declare| Step::Declare(0, declare)),
        3 => clock().prop_map(Step::Clock),
        3 => vec((0..16_usize, trouble()), 0..3).prop_map(|troubles| Step::Pass(0, troubles)),
        8 => Just(Step::Settle),
        1 => select(lives),
        1 => select(edits).prop_map(|edit| Step::Edit(Edit::Account(0, edit))),
    ]
}

fn step_of_secrets() -> impl Strategy<Value = Step> {
    let lives = vec![Step::Apply(0), Step::Apply(0), Step::Delete(0), Step::Collect];
    prop_oneof![
        5 => declare_of_secrets().prop_map(|declare| Step::Declare(0, declare)),
        4 => secret_edit().prop_map(|edit| Step::Edit(Edit::Secret(0, edit))),
        3 => vec((0..12_usize, trouble()), 0..3).prop_map(|troubles| Step::Pass(0, troubles)),
        5 => Just(Step::Settle),
        1 => select(lives),
    ]
}

fn clock() -> impl Strategy<Value = i64> {
    const HOUR: i64 = 3600;
    prop_oneof![
        2 => 0..120_i64,
        4 => 0..3 * HOUR,
        2 => 0..4 * 24 * HOUR,
        1 => 5 * 24 * HOUR..60 * 24 * HOUR,
        3 => -3 * HOUR..0,
        1 => -4 * 24 * HOUR..0,
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        2 => Just(Trouble::NotMade),
        3 => Just(Trouble::AnswerLost),
        3 => edit().prop_map(Trouble::Meanwhile),
    ]
}

fn declare() -> impl Strategy<Value = Declare> {
    use Declare as D;
    prop_oneof![
        3 => mostly(vec![None, Some("Shared"), Some("SHARED"), Some("Other")], Some(" shared")).prop_map(D::Name),
        1 => mostly(vec!["", "the portal"], "bell\u{7}").prop_map(D::Description),
        2 => any::<bool>().prop_map(D::Enabled),
        1 => any::<bool>().prop_map(D::RefreshToken),
        2 => mostly(vec![None, Some("North"), Some("Nowhere")], Some("")).prop_map(D::Affiliate),
        1 => mostly(vec![&[] as &[_], &["Customer"], &["Customer", "Administrator"]], &["Nobody"]).prop_map(D::Roles),
        2 => mostly(vec![&[] as &[_], &["10.0.0.0/8"], &["203.0.113.7", "2001:db8::/32"]], &["10.0.0.1/8"])
            .prop_map(D::AllowedIps),
        5 => declare_of_secrets(),
        15 => declare_of_keys(),
        1 => any::<bool>().prop_map(D::Paused),
        4 => select(vec![AdoptionPolicy::Never, AdoptionPolicy::IfUnowned, AdoptionPolicy::IfUnowned]).prop_map(D::Adoption),
        1 => select(vec![ManagementPolicy::Enforce, ManagementPolicy::Enforce, ManagementPolicy::Observe])
            .prop_map(D::Management),
        1 => select(vec![DeletionPolicy::Delete, DeletionPolicy::Retain]).prop_map(D::Deletion),
    ]
}

fn declare_of_secrets() -> impl Strategy<Value = Declare> {
    const LABELS: [&[(&str, &str)]; 3] = [&[], &[("a", "1")], &[("a", "2"), ("b", "1")]];
    prop_oneof![
        2 => mostly(vec![None, Some("one"), Some("two")], Some("Upper")).prop_map(Declare::SecretName),
        1 => mostly(vec![("a", "s"), ("s", "a"), ("OPSADMIN_API_KEY", "s")], ("same", "same"))
            .prop_map(|(api_key, secret_key)| Declare::SecretKeys(api_key, secret_key)),
        1 => mostly(LABELS.to_vec(), &[("ops-admin.com/a", "1")]).prop_map(Declare::Labels),
        1 => mostly(LABELS.to_vec(), &[("ops-admin.com/a", "1")]).prop_map(Declare::Annotations),
    ]
}

fn declare_of_keys() -> impl Strategy<Value = Declare> {
    prop_oneof![
        3 => mostly(vec![None, Some("2h"), Some("48h")], Some("0s")).prop_map(Declare::Interval),
        2 => mostly(vec!["0s", "30m", "24h"], "a day").prop_map(Declare::Overlap),
        6 => select(vec![None, Some("t"), Some("u")]).prop_map(Declare::Trigger),
        4 => select(vec![None, Some("t"), Some("u")]).prop_map(Declare::Rotate),
    ]
}

/// Selects an invalid value only rarely: a resource is refused for as long as one field is invalid.
fn mostly<T: Clone + std::fmt::Debug + 'static>(valid: Vec<T>, invalid: T) -> impl Strategy<Value = T> {
    prop_oneof![9 => select(valid), 1 => Just(invalid)]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (slot(), account_edit()).prop_map(|(slot, edit)| Edit::Account(slot, edit)),
        (slot(), secret_edit()).prop_map(|(slot, edit)| Edit::Secret(slot, edit)),
    ]
}

fn account_edit() -> impl Strategy<Value = AccountEdit> {
    use AccountEdit as E;
    prop_oneof![
        2 => select(vec!["By hand", "Shared"]).prop_map(E::Name),
        1 => Just(E::Disable),
        1 => Just(E::Enable),
        1 => select(vec![None, Some("North")]).prop_map(E::Affiliate),
        1 => Just(E::Administrator),
        1 => Just(E::AnyIp),
        1 => Just(E::NoIp),
        2 => Just(E::Suspend),
        2 => Just(E::Resume),
        2 => Just(E::Delete),
        2 => Just(E::DeleteActive),
        1 => Just(E::RetireActive),
        1 => Just(E::TakenElsewhere),
        3 => Just(E::LetGo),
        2 => Just(E::UnownedNamesake),
    ]
}

fn secret_edit() -> impl Strategy<Value = SecretEdit> {
    use SecretEdit as E;
    prop_oneof![
        2 => Just(E::Delete),
        1 => Just(E::Empty),
        1 => Just(E::Scramble),
        1 => Just(E::AddData),
        1 => Just(E::OtherPair),
        1 => Just(E::RemoveLabels),
        1 => Just(E::RemoveAnnotations),
        1 => Just(E::Unmark),
        1 => Just(E::Tie),
        1 => Just(E::Decorate),
        1 => Just(E::MakeImmutable),
        2 => Just(E::Foreign),
        1 => Just(E::Controlled),
        1 => Just(E::Unseen),
    ]
}
