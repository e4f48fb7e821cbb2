//! Accounts read back as they were created, by every way to find them.

use super::fixture::*;
use opsadmin_operator::account::{Account, ClusterId, Description, Life, RotationRequests, StoredSettings, Version};
use opsadmin_operator::database::{Action, NameHolder, Obstacles};
use std::collections::{BTreeSet, HashMap};

pub async fn every_field_reads_back(fresh: Fresh) {
    let database = fresh.open().await;
    let creation = creation(owner("every-field"), full_settings("Énergie Ångström"));
    let Action::Create { owner, settings, key, .. } = &creation.action else { panic!("it creates") };
    let expected = Account {
        id: creation.account,
        version: Version(1),
        owner: Some(owner.clone()),
        life: Life::Live,
        settings: StoredSettings::from(settings),
        keys: vec![key.clone()],
        adopter: None,
        answered_requests: RotationRequests::default(),
        suspension: None,
    };
    assert_eq!(database.commit(&creation).await.unwrap(), expected);
    assert_eq!(database.find_by_owner(owner).await.unwrap(), Some(expected.clone()));
    assert_eq!(database.find_by_name(&settings.name).await.unwrap(), Some(expected.clone()));
    assert_eq!(expected.active_key(), Some(key));
}

pub async fn an_account_with_only_a_name_reads_back(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("least"), settings("least")).await;
    assert_eq!(made.settings, StoredSettings::from(&settings("least")));
    assert!(made.settings.any_ip && made.settings.allowed_ips.is_empty() && made.settings.affiliate.is_none());
    assert_eq!(database.find_by_owner(&owner("least")).await.unwrap(), Some(made));
}

pub async fn hostile_text_is_stored_as_text(fresh: Fresh) {
    let database = fresh.open().await;
    let hostile = r#"'; DROP TABLE accounts; -- " \ % _ $1 {} ?"#;
    let mut settings = settings(hostile);
    settings.description = Description::parse(&format!("{hostile}\n\r\n\t{hostile}")).unwrap();
    settings.affiliate = Some(affiliate(hostile));
    let mut owner = owner(hostile);
    owner.cluster = ClusterId::parse(hostile).unwrap();
    owner.namespace = hostile.to_owned();
    let mut creation = creation(owner.clone(), settings.clone());
    creation.actor = hostile.to_owned();
    let made = database.commit(&creation).await.unwrap();
    assert_eq!(made.settings, StoredSettings::from(&settings));
    assert_eq!(database.find_by_owner(&owner).await.unwrap(), Some(made.clone()));
    assert_eq!(database.list_by_cluster(&owner.cluster).await.unwrap(), std::slice::from_ref(&made));
    let deleted = database.commit(&deletion(&made)).await.unwrap();
    assert_eq!(database.commit(&update(&deleted, &settings)).await.unwrap().settings, made.settings);
    assert_eq!(
        fresh.column("SELECT DISTINCT actor FROM account_journal ORDER BY 1 DESC").await.last().unwrap(),
        hostile
    );
}

pub async fn an_account_is_found_by_its_name_in_any_case(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("case"), settings("Énergie NORD")).await;
    assert_eq!(database.find_by_name(&name("éNERGIE nord")).await.unwrap(), Some(made));
    assert_eq!(database.find_by_name(&name("energie nord")).await.unwrap(), None);
}

pub async fn unknown_owners_and_names_find_no_account(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("somebody"), settings("somebody")).await;
    assert_eq!(database.find_by_owner(&owner("nobody")).await.unwrap(), None);
    assert_eq!(database.find_by_owner(&owner_in("two", "somebody")).await.unwrap(), None);
    assert_eq!(database.find_by_name(&name("nobody")).await.unwrap(), None);
    assert_eq!(database.list_by_cluster(&ClusterId::parse("two").unwrap()).await.unwrap(), []);
}

pub async fn a_cluster_list_has_only_the_accounts_of_that_cluster(fresh: Fresh) {
    let database = fresh.open().await;
    let mut made = Vec::new();
    for number in 0..12 {
        let account_name = format!("account {number}");
        let settings = if number % 2 == 0 { full_settings(&account_name) } else { settings(&account_name) };
        made.push(create(&*database, owner(&account_name), settings).await);
    }
    made[3] = database.commit(&deletion(&made[3])).await.unwrap();
    create(&*database, owner_in("two", "account 1"), full_settings("of another cluster")).await;

    let mut listed = database.list_by_cluster(&ClusterId::parse("one").unwrap()).await.unwrap();

    listed.sort_by_key(|account| account.id);
    made.sort_by_key(|account| account.id);
    assert_eq!(listed, made);
    for account in listed {
        let owner = account.owner.clone().unwrap();
        assert_eq!(database.find_by_owner(&owner).await.unwrap(), Some(account));
    }
}

pub async fn the_accounts_of_many_owners_are_found_in_one_read(fresh: Fresh) {
    let database = fresh.open().await;
    let mut wanted = vec![owner("nobody"), owner_in("three", "1"), owner("1")];
    let mut made = Vec::new();
    for name in ["0", "null", "\"", "\\", "[1,\"x\"]", "é 'x'; DROP TABLE accounts; --", "\u{1f511}"] {
        wanted.push(owner_in("two", name));
        made.push(create(&*database, owner_in("two", name), full_settings(name)).await);
        create(&*database, owner_in("three", name), settings(&format!("three {name}"))).await;
    }
    made[3] = database.commit(&deletion(&made[3])).await.unwrap();

    let mut found = database.find_by_owners(&wanted).await.unwrap();

    found.sort_by_key(|account| account.id);
    made.sort_by_key(|account| account.id);
    assert_eq!(found, made);
    assert_eq!(database.find_by_owners(&[]).await.unwrap(), []);
}

pub async fn holders_of_many_names_or_keys_are_found_in_one_read(fresh: Fresh) {
    let database = fresh.open().await;
    let key = |account: &Account| account.keys[0].api_key.clone();
    let mut made = Vec::new();
    for name in ["0", "null", "\"", "\\", "[1,\"x\"]", "É 'x'; DROP TABLE accounts; --", "\u{1f511}", "gone", "another"]
    {
        made.push(create(&*database, owner(name), full_settings(name)).await);
    }
    made[7] = database.commit(&deletion(&made[7])).await.unwrap();
    let names: Vec<_> = made[..6].iter().map(|account| name(&account.settings.name.to_lowercase())).collect();
    let names = [&names[..], &[name("gone"), name("nobody")]].concat();
    // An account that is found by its name too, an account that is found only by its key, and a key of no account.
    let keys = [key(&made[0]), key(&made[6]), pair().api_key];

    let mut found = database.find_holders(&names, &keys).await.unwrap();

    found.sort_by_key(|account| account.id);
    let mut expected = made[..7].to_vec();
    expected.sort_by_key(|account| account.id);
    assert_eq!(found, expected);
    assert_eq!(
        database.find_holders(&[], &[key(&made[7])]).await.unwrap(),
        [made[7].clone()],
        "a deleted one keeps its keys"
    );
    assert_eq!(database.find_holders(&[], &[]).await.unwrap(), []);
}

pub async fn holders_of_names_and_known_affiliates_are_found_in_one_read(fresh: Fresh) {
    let database = fresh.open().await;
    let live = create(&*database, owner("live"), full_settings("Énergie \"x\"")).await;
    let retained = create(&*database, owner("retained"), settings("retained")).await;
    let retained = database.commit(&change(retained.id, Action::Retain { expected: retained.version })).await.unwrap();
    let deleted = create(&*database, owner("deleted"), settings("deleted")).await;
    database.commit(&deletion(&deleted)).await.unwrap();
    let nobodys = database.commit(&import(settings("nobody's"))).await.unwrap();
    let names = ["énergie \"X\"", "Retained", "deleted", "nobody's", "free"].map(name);
    let affiliates = ["Énergie du Nord", "énergie du nord", "Nowhere"].map(affiliate);

    let found = database.find_obstacles(&names, &affiliates).await.unwrap();

    let holder = |account: &Account, is_declared| {
        let holder = NameHolder { id: account.id.to_string(), version: account.version, is_declared };
        (name(&account.settings.name).comparable(), holder)
    };
    let holders = [holder(&live, true), holder(&retained, false), holder(&nobodys, false)];
    assert_eq!(found.names, HashMap::from(holders));
    assert_eq!(found.affiliates, BTreeSet::from(["Énergie du Nord".to_owned()]));
    assert_eq!(database.find_obstacles(&[], &[]).await.unwrap(), Obstacles::default());
    database.answers().await.unwrap();
}

pub async fn the_maximum_number_of_addresses_reads_back(fresh: Fresh) {
    let database = fresh.open().await;
    let addresses: Vec<String> = (1..=256).map(|number| format!("2001:db8::{number:x}")).collect();
    let mut settings = settings("many");
    settings.allowed_ips = ips(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let made = create(&*database, owner("many"), settings.clone()).await;
    assert_eq!(made.settings.allowed_ips.len(), 256);
    assert_eq!(made.settings, StoredSettings::from(&settings));
    settings.allowed_ips = ips(&["192.0.2.1"]);
    let changed = database.commit(&update(&made, &settings)).await.unwrap();
    assert_eq!(changed.settings.allowed_ips, BTreeSet::from(["192.0.2.1/32".to_owned()]));
}

pub async fn the_sealing_keys_in_use_are_listed(fresh: Fresh) {
    let database = fresh.open().await;
    assert_eq!(database.sealing_keys_in_use().await.unwrap(), BTreeSet::new());
    let mut sealed_with = BTreeSet::new();
    for number in 0..3 {
        let mut creation = creation(owner(&number.to_string()), settings(&number.to_string()));
        let Action::Create { key, .. } = &mut creation.action else { panic!("it creates") };
        if number == 2 {
            "another".clone_into(&mut key.sealed.sealed_with);
        }
        sealed_with.insert(key.sealed.sealed_with.clone());
        database.commit(&creation).await.unwrap();
    }
    assert_eq!(sealed_with.len(), 2);
    assert_eq!(database.sealing_keys_in_use().await.unwrap(), sealed_with);
}
