//! A dry run answers each change as the database does, and changes nothing in the database.

use super::fixture::{
    Fresh, affiliate, change, creation, deletion, full_settings, now, owner, owner_in, pair, random, settings, stored,
    update,
};
use opsadmin_operator::account::{Account, AccountName, ClusterId, KeyId, Owner, RotationRequests, Settings};
use opsadmin_operator::database::{AccountDatabase, Action, Change, DatabaseError, DryRunDatabase, UnknownAffiliate};
use std::fmt::Debug;
use std::sync::Arc;

/// Returns the next change, from the accounts that the earlier changes returned.
type Step = Box<dyn Fn(&[Account]) -> Change>;

/// The changes that are tried in order. Some of them are refused.
fn script() -> Vec<Step> {
    let refusing = |mut change: Change| {
        if let Action::Create { unknown_affiliate, .. } = &mut change.action {
            *unknown_affiliate = UnknownAffiliate::Refuse;
        }
        change
    };
    let (a, c, d) =
        (creation(owner("a"), settings("Acme")), creation(owner("c"), settings("Cedar")), full_settings("D"));
    let taken_key = {
        let mut taken = creation(owner("k"), settings("K"));
        if let (Action::Create { key: theirs, .. }, Action::Create { key, .. }) = (&a.action, &mut taken.action) {
            key.api_key = theirs.api_key.clone();
        }
        taken
    };
    let unknown = refusing(creation(owner("u"), Settings { affiliate: Some(affiliate("Nowhere")), ..settings("U") }));
    let known = refusing(creation(owner("e"), Settings { affiliate: d.affiliate.clone(), ..settings("E") }));
    let fixed = |change: Change| -> Step { Box::new(move |_| change.clone()) };
    let rotated = pair();
    let rotation = move |account: &Account| {
        let key = stored(account.id, &rotated);
        let answered = RotationRequests { trigger: Some("t".to_owned()), annotation: None };
        let (expected, old_expires) = (account.version, Some(now()));
        change(account.id, Action::Rotate { expected, key, old_expires, revoke: Vec::new(), answered })
    };
    let adoption = |account: &Account, by: &str| {
        let (owner, answered) = (owner_in("two", by), RotationRequests::default());
        change(account.id, Action::Adopt { expected: account.version, owner, answered })
    };
    vec![
        fixed(a),
        fixed(creation(owner("b"), settings("ACME"))),
        fixed(creation(owner("a"), settings("other"))),
        fixed(taken_key),
        fixed(unknown),
        fixed(c),
        Box::new(|done| update(&done[1], &settings("acme"))),
        Box::new(move |done| update(&done[1], &Settings { affiliate: d.affiliate.clone(), ..d.clone() })),
        fixed(creation(owner("f"), full_settings("F"))),
        fixed(known),
        Box::new(move |done| rotation(&done[0])),
        Box::new(|done| {
            let (account, stale) = (&done[0], KeyId::from_random(random()));
            change(account.id, Action::Revoke { expected: account.version, keys: vec![stale] })
        }),
        Box::new(move |done| adoption(&done[0], "early")),
        Box::new(|done| change(done[1].id, Action::Retain { expected: done[1].version })),
        Box::new(move |done| adoption(&done[done.len() - 1], "new")),
        Box::new(|done| deletion(&done[0])),
        Box::new(|done| deletion(done.iter().rev().find(|account| account.id == done[0].id).unwrap())),
        fixed(creation(owner("g"), settings("ACME"))),
    ]
}

fn text_of(answer: &Result<Account, DatabaseError>) -> String {
    match answer {
        Ok(account) => format!("{account:?}"),
        Err(error) => error.to_string(),
    }
}

/// What a database returns for the queries that read many accounts.
async fn seen(database: &dyn AccountDatabase) -> Vec<impl PartialEq + Debug> {
    let mut seen = Vec::new();
    for cluster in ["one", "two"].map(|cluster| ClusterId::parse(cluster).unwrap()) {
        let mut listed = database.list_by_cluster(&cluster).await.unwrap();
        let owners: Vec<Owner> = listed.iter().filter_map(|account| account.owner.clone()).collect();
        let mut found = database.find_by_owners(&owners).await.unwrap();
        let (mut names, mut api_keys) = (Vec::new(), Vec::new());
        for account in &listed {
            names.push(AccountName::parse(&account.settings.name).unwrap());
            api_keys.extend(account.keys.iter().map(|key| key.api_key.clone()));
        }
        let mut holders = database.find_holders(&names, &api_keys).await.unwrap();
        holders.sort_by_key(|account| account.id);
        let mut versions = database.versions(&cluster).await.unwrap();
        let mut live = database.live(&cluster).await.unwrap();
        listed.sort_by_key(|account| account.id);
        found.sort_by_key(|account| account.id);
        versions.sort();
        live.sort();
        seen.push((listed, found, holders, versions, live));
    }
    seen
}

pub async fn a_dry_run_answers_as_the_database_does(fresh: Fresh) {
    let database = fresh.open().await;
    let whole = DryRunDatabase::new(None);
    let (mut done, mut refused) = (Vec::new(), 0);
    for change in script() {
        let change = change(&done);
        let before = fresh.column("SELECT version FROM accounts ORDER BY id").await;
        let dry_run = DryRunDatabase::new(Some(Arc::clone(&database) as Arc<dyn AccountDatabase>));
        let rehearsed = dry_run.commit(&change).await;
        assert_eq!(fresh.column("SELECT version FROM accounts ORDER BY id").await, before);
        let from_nothing = whole.commit(&change).await;
        let answer = database.commit(&change).await;
        assert_eq!(text_of(&rehearsed), text_of(&answer), "{change:?}");
        assert_eq!(text_of(&from_nothing), text_of(&answer), "{change:?}");
        assert_eq!(seen(&dry_run).await, seen(database.as_ref()).await, "{change:?}");
        assert_eq!(seen(&whole).await, seen(database.as_ref()).await, "{change:?}");
        match answer {
            Ok(account) => done.push(account),
            Err(_) => refused += 1,
        }
    }
    assert!(done.len() > 8 && refused > 5, "{} {refused}", done.len());
    let last = done.last().unwrap();
    let key = &last.active_key().unwrap().api_key;
    assert_eq!(database.find_by_api_key(key).await.unwrap().as_ref(), Some(last));
    assert_eq!(whole.find_by_api_key(key).await.unwrap().as_ref(), Some(last));
    assert_eq!(database.affiliates().await.unwrap(), whole.affiliates().await.unwrap());
}
