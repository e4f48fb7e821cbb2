//! Tests of the checks with a healthy installation and with installations that have one fault each.

use super::Check::{Names, Owners, Rows, SealedKeys, Secrets};
use super::*;
use crate::account::samples;
use crate::account::{AccountId, Adopter, KeyEntropy, KeyId, KeyPair, KeyState, Life, Owner, StoredKey};
use crate::api::definition;
use crate::secrets::SecretRef;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionStatus;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

fn keyring(byte: u8) -> Keyring {
    Keyring::from_random(Zeroizing::new([byte; 32]))
}

fn owner(name: &str) -> Owner {
    Owner { cluster: ClusterId::parse("here").unwrap(), namespace: "ns".to_owned(), name: name.to_owned() }
}

fn at(name: &str) -> SecretRef {
    SecretRef { namespace: "ns".to_owned(), name: format!("{name}-opsadmin") }
}

fn pair(number: u8) -> KeyPair {
    let entropy = KeyEntropy { api_key: [number; 16], secret_key: Zeroizing::new([number; 32]) };
    KeyPair::from_entropy(KeyId::from_random([number; 16]), &entropy)
}

/// Returns a live account with this name and its key pair.
fn account(name: &str, number: u8) -> Account {
    let (id, pair) = (AccountId::from_random([number; 16]), pair(number));
    let sealed = keyring(1).seal(id, pair.id, &pair.secret_key, [number; 12]);
    let created = Timestamp::UNIX_EPOCH;
    let key = StoredKey { id: pair.id, api_key: pair.api_key, sealed, state: KeyState::Active, created };
    let mut account = Account { id, owner: Some(owner(name)), keys: vec![key], ..samples::account() };
    account.settings.name = name.to_owned();
    account
}

fn secret(name: &str, number: u8) -> CheckedSecret {
    let KeyPair { api_key, secret_key, .. } = pair(number);
    CheckedSecret { at: at(name), owner: owner(name), keys: Some((api_key, secret_key)) }
}

fn resource(name: &str) -> CheckedResource {
    CheckedResource { owner: owner(name), account: Some("id".to_owned()), is_managed: true, secret: Some(at(name)) }
}

fn diagnose(
    accounts: Vec<Result<Account, String>>,
    secrets: Vec<CheckedSecret>,
    resources: Vec<CheckedResource>,
) -> Vec<Finding> {
    let (keyring, cluster) = (keyring(1), ClusterId::parse("here").unwrap());
    let (secrets, resources) = (Some(secrets), Some(resources));
    Installation { accounts, keyring: &keyring, cluster, secrets, resources }.diagnose()
}

/// Returns the findings for a healthy installation with one account, after `change` to that account.
fn after(change: impl FnOnce(&mut Account)) -> Vec<(Check, String)> {
    let mut account = account("acme", 1);
    change(&mut account);
    let findings = diagnose(vec![Ok(account)], vec![secret("acme", 1)], vec![resource("acme")]);
    findings.into_iter().map(|finding| (finding.check, finding.problem)).collect()
}

#[test]
fn a_healthy_installation_has_no_finding() {
    assert_eq!(after(|_| {}), []);
    let another_cluster =
        |account: &mut Account| account.owner.as_mut().unwrap().cluster = ClusterId::parse("x").unwrap();
    assert_eq!(
        diagnose(
            vec![Ok({
                let mut a = account("acme", 1);
                another_cluster(&mut a);
                a
            })],
            vec![],
            vec![]
        ),
        []
    );
}

#[test]
fn each_fault_is_found() {
    let mut findings = Vec::new();
    findings.extend(diagnose(vec![Err("the row x".to_owned())], vec![], vec![]));
    let mut sealed_elsewhere = account("acme", 1);
    sealed_elsewhere.keys[0].sealed =
        keyring(2).seal(sealed_elsewhere.id, sealed_elsewhere.keys[0].id, &pair(1).secret_key, [0; 12]);
    findings.extend(diagnose(vec![Ok(sealed_elsewhere)], vec![secret("acme", 1)], vec![resource("acme")]));
    let twin = Account { settings: account("ACME", 1).settings, ..account("twin", 2) };
    findings.extend(diagnose(
        vec![Ok(account("acme", 1)), Ok(twin)],
        vec![secret("acme", 1), secret("twin", 2)],
        vec![resource("acme"), resource("twin")],
    ));
    findings.extend(diagnose(vec![Ok(account("acme", 1))], vec![secret("acme", 2)], vec![resource("acme")]));
    findings.extend(diagnose(vec![Ok(account("acme", 1))], vec![], vec![resource("acme")]));
    findings.extend(diagnose(vec![Ok(account("acme", 1))], vec![secret("acme", 1)], vec![]));
    findings.extend(diagnose(vec![], vec![secret("acme", 1)], vec![resource("acme")]));
    let found: Vec<(Check, &str)> = findings.iter().map(|finding| (finding.check, finding.subject.as_str())).collect();
    let checks: Vec<Check> = found.iter().map(|(check, _)| *check).collect();
    assert_eq!(checks, [Rows, SealedKeys, Names, Secrets, Secrets, Owners, Secrets, Owners], "{found:#?}");
    let shown = serde_json::to_string(&findings).unwrap();
    assert!(!shown.contains(pair(1).secret_key.expose()), "no secret key is shown");
}

#[test]
fn contradictory_settings_are_found() {
    let problems = |change: fn(&mut Account)| after(change);
    let all: [fn(&mut Account); 6] = [
        |account| account.settings.allowed_ips = BTreeSet::from(["10.0.0.0/8".to_owned()]),
        |account| account.settings.any_ip = false,
        |account| account.settings.roles = BTreeSet::from(["Admin".to_owned()]),
        |account| {
            (account.settings.any_ip, account.settings.allowed_ips) = (false, BTreeSet::from(["nowhere".to_owned()]));
        },
        |account| account.keys.clear(),
        |account| account.adopter = Adopter::parse("here/ns"),
    ];
    for (number, change) in all.into_iter().enumerate() {
        let found = problems(change);
        assert_eq!(found.iter().map(|(check, _)| *check).collect::<Vec<_>>(), [Check::Settings], "{number}: {found:?}");
    }
}

#[test]
fn a_secret_without_a_complete_key_pair_or_of_a_deleted_account_is_found() {
    let found = after(|account| account.life = Life::Deleted { since: Timestamp::UNIX_EPOCH });
    assert_eq!(found.len(), 1, "{found:?}");
    let empty = CheckedSecret { keys: None, ..secret("acme", 1) };
    let found = diagnose(vec![Ok(account("acme", 1))], vec![empty], vec![resource("acme")]);
    assert_eq!(found[0].problem, "it does not hold exactly one complete key pair");
}

#[test]
fn without_a_cluster_a_live_account_without_a_secret_is_found() {
    let (keyring, cluster) = (keyring(1), ClusterId::parse("here").unwrap());
    let (accounts, secrets) = (vec![Ok(account("acme", 1))], Some(Vec::new()));
    let found = Installation { accounts, keyring: &keyring, cluster, secrets, resources: None }.diagnose();
    assert_eq!(found.iter().map(|finding| finding.problem.as_str()).collect::<Vec<_>>(), ["it has no Secret"]);
}

#[test]
fn a_definition_that_lacks_a_field_is_found() {
    let wanted = definition();
    assert_eq!(missing_fields(&wanted, &wanted), [""; 0]);
    let mut older = wanted.clone();
    let schema = older.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    let status = schema.properties.as_mut().unwrap().get_mut("status").unwrap();
    status.properties.as_mut().unwrap().remove("databaseId");
    assert_eq!(missing_fields(&wanted, &older), ["status.databaseId"]);
}

#[test]
fn a_version_in_which_resources_are_stored_and_that_is_unknown_is_found() {
    let (wanted, mut found) = (definition(), definition());
    assert_eq!(unknown_stored_versions(&wanted, &found), [""; 0]);
    let stored_versions = Some(vec!["v1beta1".to_owned(), "v1".to_owned()]);
    found.status = Some(CustomResourceDefinitionStatus { stored_versions, ..Default::default() });
    assert_eq!(unknown_stored_versions(&wanted, &found), ["v1beta1"]);
}
