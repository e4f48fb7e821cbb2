//! Walks through the spec. Each field goes from its default through valid values, limits and refused values, and back.
//! Each two fields are set together. After each step, either the declared state is reached or nothing has changed. At
//! the end, the state is the same as at the beginning.

mod fields;

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use opsadmin_operator::api::{ApiAccount, Choice, MARK_ANNOTATION, ManagementPolicy, OWNER_ANNOTATION, condition};
use serde_json::{Value, json};
use sqlx::PgPool;

use self::fields::{Field, fields};
use super::scene::{SOON, Scene, texts};
use crate::support::wait::eventually;

/// The state of one resource, without versions and times.
#[derive(Debug, Clone, PartialEq)]
struct Reached {
    /// Each column of the account's row, and its roles and addresses.
    account: Value,
    /// The account's key pairs, the active one first.
    pairs: Value,
    /// The Secrets by name: data, labels and annotations.
    secrets: BTreeMap<String, Value>,
}

struct Stage {
    scene: Scene,
    sql: PgPool,
}

impl Stage {
    async fn set(test_name: &str) -> Self {
        let scene = Scene::with_controller(test_name, &["--sweep-interval", "1h"]).await;
        scene.create("holder", json!({ "name": "Taken" })).await;
        scene.ready("holder").await;
        let theirs = Secret {
            metadata: ObjectMeta { name: Some("theirs".to_owned()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([("password".to_owned(), ByteString(b"theirs".to_vec()))])),
            ..Secret::default()
        };
        scene.secrets().create(&PostParams::default(), &theirs).await.expect("the API server takes the Secret");
        let sql = scene.sql().await;
        let affiliates = "INSERT INTO affiliates (name, created_at) VALUES ('North', 0), (rpad('North', 100, 'x'), 0)";
        sqlx::query(affiliates).execute(&sql).await.expect("the affiliates are registered");
        Self { scene, sql }
    }

    /// Creates a resource with an empty spec, and returns its state.
    async fn begin(&self, resource: &str) -> Reached {
        self.scene.create(resource, json!({})).await;
        let account = self.scene.ready(resource).await;
        self.reached(&account).await
    }

    /// Returns the present state of a resource. If the resource is enforced, the state must be as declared.
    async fn reached(&self, account: &ApiAccount) -> Reached {
        let name = account.metadata.name.as_deref().expect("it has a name");
        let row = "SELECT to_jsonb(a) - 'version' - 'updated_at' || jsonb_build_object( \
             'roles', (SELECT coalesce(jsonb_agg(role ORDER BY role), '[]') FROM account_roles r WHERE r.account_id = a.id), \
             'cidrs', (SELECT coalesce(jsonb_agg(cidr ORDER BY cidr), '[]') FROM account_allowed_ips i WHERE i.account_id = a.id)) \
             FROM accounts a WHERE owner_name = $1";
        let pairs = "SELECT coalesce(jsonb_agg(to_jsonb(k) ORDER BY k.expires_at NULLS FIRST, k.id), '[]') FROM account_keys k \
             JOIN accounts a ON a.id = k.account_id WHERE a.owner_name = $1";
        let [account_row, pairs] = [row, pairs].map(|sql| sqlx::query_scalar::<_, Value>(sql).bind(name));
        let account_row = account_row.fetch_one(&self.sql).await.expect("there is one account");
        let pairs = pairs.fetch_one(&self.sql).await.expect("the database answers");
        let secrets = self.scene.secrets().list(&ListParams::default()).await.expect("the API server lists Secrets");
        let is_noted = |noted: &String| noted.ends_with(&format!("/{name}"));
        let own = secrets.into_iter().filter(|secret| {
            secret.metadata.annotations.as_ref().and_then(|noted| noted.get(OWNER_ANNOTATION)).is_some_and(is_noted)
        });
        let secrets = own.map(|secret| {
            let content = json!({
                "data": texts(&secret), "type": secret.type_,
                "labels": secret.metadata.labels, "annotations": secret.metadata.annotations,
            });
            (secret.metadata.name.expect("it has a name"), content)
        });
        Reached { account: account_row, pairs, secrets: secrets.collect() }
    }

    /// Changes the spec, and returns the state after the controller has reconciled the change.
    async fn step(&self, resource: &str, patch: &Value) -> Reached {
        let changed = self.scene.change(resource, patch.clone()).await;
        let is_observed = changed.spec.management_policy == Choice::Known(ManagementPolicy::Observe);
        let account = self.seen(resource, |reason| reason == "Reconciled" || is_observed && reason == "Drifted").await;
        let reached = self.reached(&account).await;
        if !is_observed {
            assert_eq!(reached.difference(&account), "", "after {patch}\n{}", self.scene.log());
        }
        reached
    }

    /// Changes the spec in a way that the controller refuses.
    async fn wrong_step(&self, resource: &str, patch: &Value, reason: &str) -> Reached {
        self.scene.change(resource, patch.clone()).await;
        let account = self.seen(resource, |found| found == reason).await;
        self.reached(&account).await
    }

    /// Waits until the Ready condition is for the newest generation, with a reason for which `is` returns true.
    async fn seen(&self, resource: &str, is: impl Fn(&str) -> bool) -> ApiAccount {
        eventually(&format!("{resource} to be seen"), SOON, async || {
            let account = self.scene.accounts().get(resource).await.map_err(|error| error.to_string())?;
            let conditions = account.status.iter().flat_map(|status| &status.conditions);
            let mut ready = conditions.filter(|found| found.type_ == condition::READY);
            let seen =
                |found: &Condition| found.observed_generation == account.metadata.generation && is(&found.reason);
            if ready.any(seen) { Ok(account) } else { Err(format!("{:?}\n{}", account.status, self.scene.log())) }
        })
        .await
    }

    /// Changes the spec in a way that the API server refuses.
    async fn refused(&self, resource: &str, patch: &Value) {
        let generation = async || self.scene.accounts().get(resource).await.expect("it is there").metadata.generation;
        let before = generation().await;
        let patch = Patch::Merge(json!({ "spec": patch }));
        // The API server refuses a value of another type. The client could not read such an object either.
        let changed = self.scene.accounts().patch(resource, &PatchParams::default(), &patch).await;
        let refused = matches!(&changed, Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422));
        assert!(refused, "{patch:?}: {changed:?}");
        assert_eq!(generation().await, before, "{patch:?}");
    }
}

impl Reached {
    /// Returns the differences from what the resource declares.
    fn difference(&self, account: &ApiAccount) -> String {
        let spec = &account.spec;
        let resource = account.metadata.name.as_deref().expect("it has a name");
        let name = spec.name.as_deref().unwrap_or(resource);
        let sorted = |mut texts: Vec<String>| {
            texts.sort();
            texts
        };
        let cidr = |address: &String| match (address.contains('/'), address.contains(':')) {
            (true, _) => address.clone(),
            (false, true) => format!("{address}/128"),
            (false, false) => format!("{address}/32"),
        };
        let addresses = spec.named_addresses().unwrap_or_default();
        let mut expected = self.account.clone();
        let declared = json!({
            "name": name, "name_key": name.to_lowercase(), "description": spec.description, "enabled": spec.enabled,
            "use_refresh_token": spec.use_refresh_token, "affiliate": spec.named_affiliate(),
            "any_ip": addresses.is_empty(), "roles": sorted(spec.roles.clone()),
            "cidrs": sorted(addresses.iter().map(cidr).collect()),
        });
        expected.as_object_mut().expect("a row").extend(declared.as_object().expect("columns").clone());
        let mut wrong = Vec::new();
        if expected != self.account {
            wrong.push(format!("wanted {expected}\n found {}", self.account));
        }

        let secret_name = spec.secret.name.clone().unwrap_or_else(|| format!("{resource}-opsadmin"));
        let names: Vec<_> = self.secrets.keys().collect();
        let Some(secret) = self.secrets.get(&secret_name).filter(|_| names.len() == 1) else {
            return format!("wanted the one Secret {secret_name}\n found {names:?}");
        };
        let data = &secret["data"];
        let has_keys = data[&spec.secret.keys.api_key] == self.pairs[0]["api_key"]
            && data[&spec.secret.keys.secret_key].as_str().is_some_and(|key| key.starts_with("opsa_sk_"))
            && data.as_object().map(serde_json::Map::len) == Some(2);
        let has = |what: &str, wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, value)| secret[what][name] == json!(value))
                && secret[what].as_object().is_some_and(|found| {
                    found.keys().all(|name| {
                        wanted.contains_key(name) || name.contains("ops-admin.com/") || name.contains("managed-by")
                    })
                })
        };
        if !has_keys || !has("labels", &spec.secret.labels) || !has("annotations", &spec.secret.annotations) {
            wrong.push(format!("another Secret: {secret}\n the pairs are {}", self.pairs));
        }
        let status = account.status.as_ref().expect("it has a status");
        let is_scheduled = spec.rotation.as_ref().is_some_and(|rotation| rotation.interval.is_some());
        if status.next_rotation.is_some() != is_scheduled || status.secret_name.as_ref() != Some(&secret_name) {
            wrong.push(format!("another status: {status:?}"));
        }
        wrong.join("\n")
    }

    /// Returns the part of the state that is restored with the former spec: everything but keys that were rotated on
    /// request.
    fn that_comes_back(mut self, rotated: bool) -> Self {
        if rotated {
            self.account["answered_trigger"] = Value::Null;
            self.pairs = Value::Null;
            for secret in self.secrets.values_mut() {
                secret["data"] = Value::Null;
                secret["annotations"][MARK_ANNOTATION] = Value::Null;
            }
        }
        self
    }
}

/// Returns whether a walk through these fields rotates the keys.
fn rotates(fields: &[&Field]) -> bool {
    fields.iter().any(|field| field.path == "rotation.trigger")
}

#[tokio::test]
async fn each_field_can_be_changed_and_changed_back() {
    let stage = Stage::set("walks of fields").await;
    let count = fields("any").len();
    join_all((0..count).map(async |at| {
        let resource = format!("field-{at}");
        let field = &fields(&resource)[at];
        let before = stage.begin(&resource).await;
        let mut reached = before.clone();
        for value in &field.valid {
            reached = stage.step(&resource, &field.set(value)).await;
            for refused in &field.refused {
                stage.refused(&resource, &field.set(refused)).await;
            }
        }
        let account = stage.scene.accounts().get(&resource).await.expect("it is there");
        assert_eq!(stage.reached(&account).await, reached, "what was refused has changed {resource}, {}", field.path);
        if let Some((value, reason)) = &field.wrong {
            assert_eq!(stage.wrong_step(&resource, &field.set(value), reason).await, reached, "{reason}");
        }
        let after = stage.step(&resource, &field.take_back()).await;
        let rotated = rotates(&[field]);
        assert_ne!(rotated, after.pairs == before.pairs, "{}", field.path);
        assert_eq!(after.that_comes_back(rotated), before.that_comes_back(rotated), "{}", field.path);
    }))
    .await;
}

#[tokio::test]
async fn each_two_fields_can_be_changed_and_changed_back_together() {
    let stage = Stage::set("walks of two fields").await;
    let count = fields("any").len();
    join_all((0..count).map(async |first| {
        let resource = format!("pair-{first}");
        let all = fields(&resource);
        let one = &all[first];
        let mut before = stage.begin(&resource).await;
        for other in &all[first + 1..] {
            let together = merged(one.set(&one.valid[0]), &other.set(&other.valid[0]));
            let reached = stage.step(&resource, &together).await;
            if other.path == "managementPolicy" || one.path == "managementPolicy" {
                assert_eq!(reached, before, "{together} is only to be told");
            }
            let half_refused = merged(one.set(&one.valid[0]), &other.set(&other.refused[0]));
            stage.refused(&resource, &half_refused).await;
            let after = stage.step(&resource, &merged(one.take_back(), &other.take_back())).await;
            let rotated = rotates(&[one, other]);
            let names = (one.path, other.path);
            assert_eq!(after.clone().that_comes_back(rotated), before.that_comes_back(rotated), "{names:?}");
            before = after;
        }
        // Either the whole change is applied, or nothing.
        for (other, value, reason) in wrong_settings(&all) {
            let reason = match one.path {
                "managementPolicy" => continue,
                path if path == other.path => continue,
                "adoptionPolicy" if reason == "NameTaken" => "OwnedElsewhere",
                _ => reason,
            };
            let half_wrong = merged(one.set(&one.valid[0]), &other.set(value));
            let now = stage.wrong_step(&resource, &half_wrong, reason).await;
            assert_eq!(now, before, "{} with {} {reason}", one.path, other.path);
            let after = stage.step(&resource, &merged(one.take_back(), &other.take_back())).await;
            assert_eq!(after, before, "{} with {} {reason}", one.path, other.path);
        }
    }))
    .await;
}

/// Returns the wrong settings of an account that only the controller can detect. Leaves out Secret conflicts, because
/// settings are applied even while a Secret cannot be written.
fn wrong_settings(all: &[Field]) -> impl Iterator<Item = (&Field, &Value, &'static str)> {
    let wrong = all.iter().filter_map(|field| field.wrong.as_ref().map(|(value, reason)| (field, value, *reason)));
    wrong.filter(|(_, _, reason)| *reason != "SecretConflict")
}

/// Returns one merge patch with the effect of two.
fn merged(mut one: Value, other: &Value) -> Value {
    match (&mut one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in other {
                let there = one.remove(name).unwrap_or(Value::Null);
                one.insert(name.clone(), merged(there, value));
            }
        }
        (one, other) => *one = other.clone(),
    }
    one
}
