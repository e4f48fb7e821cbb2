//! Tests of Secrets that a mutating admission policy changes when they are written.

use super::generators::{reconciler, run};
use super::memory::{Accounts, Secrets, lock};
use super::scenarios::desired;
use crate::api::{ACCOUNT_LABEL, ApiAccountStatus, MANAGED_BY_LABEL, Reason};
use crate::reconcile::{Done, NextAttempt, Outcome, Reconciler, Verified, status};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;

type Policy = fn(&mut Secret);

struct Stage {
    secrets: Arc<Secrets>,
    reconciler: Reconciler,
    status: Option<ApiAccountStatus>,
}

impl Stage {
    fn new() -> Self {
        let (accounts, secrets) = (Arc::new(Accounts::default()), Arc::new(Secrets::default()));
        Self { reconciler: reconciler(&accounts, &secrets), secrets, status: None }
    }

    fn with_policy(policy: Policy) -> Self {
        let stage = Self::new();
        *lock(&stage.secrets.policy) = Some(policy);
        stage
    }

    /// Reconciles once, as the controller does.
    fn reconcile(&mut self) -> Outcome {
        let previous = self.status.clone();
        let verified = previous.as_ref().and_then(Verified::of);
        let outcome = run(self.reconciler.reconcile(&desired(), verified.as_ref(), None));
        let outcome = outcome.attribute_drift(previous.as_ref(), Some(1));
        self.status = Some(status(Some(1), "s", &outcome, previous.as_ref(), Timestamp::UNIX_EPOCH));
        outcome
    }

    fn message(&self) -> &str {
        &self.status.as_ref().unwrap().conditions[0].message
    }

    fn writes(&self) -> u64 {
        *lock(&self.secrets.writes)
    }

    fn edit(&self, edit: impl FnOnce(&mut Secret)) {
        let mut secret = lock(&self.secrets.objects)[&desired().secret.at].clone();
        edit(&mut secret);
        self.secrets.put(&desired().secret.at, secret);
    }
}

fn label(name: &str, value: &str) -> impl Fn(&mut Secret) {
    move |secret| _ = secret.metadata.labels.get_or_insert_default().insert(name.to_owned(), value.to_owned())
}

fn reasons(outcome: &Outcome) -> Vec<&'static str> {
    outcome.done.iter().map(Done::reason).collect()
}

#[test]
fn a_common_label_that_a_policy_sets_is_reported_and_the_resource_is_ready() {
    let mut stage = Stage::with_policy(label_platform);
    assert_eq!(reasons(&stage.reconcile()), ["Created", "SecretWritten"]);
    let said = "something else sets the Secret's label app.kubernetes.io/managed-by";
    assert!(stage.message().contains(said), "{}", stage.message());
    let (status, writes) = (stage.status.clone(), stage.writes());
    let again = stage.reconcile();
    assert!(again.not_ready.is_none() && again.done.is_empty(), "{again:?}");
    assert_eq!((&stage.status, stage.writes()), (&status, writes), "it is told for as long as it is so, and not again");

    // An edit is corrected, and only the corrected parts are reported.
    stage.edit(|secret| drop(secret.data.as_mut().and_then(|data| data.remove("s"))));
    let at = desired().secret.at;
    assert_eq!(stage.reconcile().done, [Done::SecretPutBack { at, parts: vec!["data.s".to_owned()] }]);
    assert!(stage.message().contains(said), "{}", stage.message());

    // Without the policy, the label is corrected with the next edit, and nothing more is reported.
    *lock(&stage.secrets.policy) = None;
    stage.edit(|secret| drop(secret.data.as_mut().and_then(|data| data.remove("s"))));
    assert_eq!(reasons(&stage.reconcile()), ["SecretPutBack"]);
    assert_eq!(stage.message(), "account and Secret are as declared");
}

fn label_platform(secret: &mut Secret) {
    label(MANAGED_BY_LABEL, "platform")(secret);
}

#[test]
fn other_parts_that_a_policy_changes_are_refused_by_name_and_reported_once() {
    let policies: [(Policy, &str); 3] = [
        (|secret| _ = secret.metadata.labels.as_mut().unwrap().remove(ACCOUNT_LABEL), "label ops-admin.com/account"),
        (
            |secret| _ = secret.metadata.annotations.as_mut().unwrap().remove("ops-admin.com/owner"),
            "annotation ops-admin.com/owner",
        ),
        (|secret| _ = secret.data.as_mut().unwrap().insert("s".to_owned(), ByteString(b"masked".to_vec())), "data.s"),
    ];
    for (policy, part) in policies {
        let mut stage = Stage::with_policy(policy);
        let first = stage.reconcile();
        let not_ready = first.not_ready.as_ref().expect("it is not as declared");
        assert_eq!(not_ready.reason(), Reason::SecretRewritten);
        assert!(not_ready.needs_a_person());
        let pause = std::time::Duration::from_mins(5);
        assert_eq!(not_ready.next_attempt(), NextAttempt::Backoff(pause));
        assert!(stage.message().contains(part), "{}", stage.message());
        assert!(!stage.message().contains("masked") && !stage.message().contains("opsa_"), "{}", stage.message());
        let status = stage.status.clone();
        let again = stage.reconcile();
        assert_eq!(
            (reasons(&again), again.not_ready.map(|not_ready| not_ready.reason())),
            (vec![], Some(Reason::SecretRewritten))
        );
        assert_eq!(stage.status, status, "the same text for the same trouble");

        *lock(&stage.secrets.policy) = None;
        let healed = stage.reconcile();
        assert!(healed.not_ready.is_none(), "{healed:?}");
        assert_eq!(stage.message(), "account and Secret are as declared");
    }
}

#[test]
fn a_secret_of_an_earlier_version_gets_the_label_and_keeps_its_keys() {
    let mut stage = Stage::new();
    stage.reconcile();
    let keys = lock(&stage.secrets.objects)[&desired().secret.at].data.clone();
    stage.edit(|secret| _ = secret.metadata.labels.as_mut().unwrap().remove(ACCOUNT_LABEL));
    // The watch does not show a Secret without the label.
    lock(&stage.secrets.unseen).insert(desired().secret.at);
    let writes = stage.writes();
    let outcome = stage.reconcile();
    let part = format!("label {ACCOUNT_LABEL}");
    assert_eq!(outcome.done, [Done::SecretUpdated { at: desired().secret.at, parts: vec![part] }], "nobody changed it");
    assert!(outcome.not_ready.is_none() && stage.writes() == writes + 1);
    let secret = lock(&stage.secrets.objects)[&desired().secret.at].clone();
    assert_eq!(secret.data, keys);
    assert!(secret.metadata.labels.unwrap().contains_key(ACCOUNT_LABEL));
    assert!(stage.reconcile().done.is_empty());
}
