//! Rotation and revocation of keys, adoption and suspension of accounts, and the purge of accounts that were deleted.

use super::fixture::*;
use super::rules::rows;
use jiff::ToSpan;
use opsadmin_operator::account::{
    Account, AccountId, Adopter, KeyId, KeyState, Life, Owner, RotationRequests, StoredKey, Suspension, Version,
};
use opsadmin_operator::database::{AccountAdmin, Action, DatabaseError, UnknownAffiliate};

fn rotation_requests(trigger: &str) -> RotationRequests {
    RotationRequests { trigger: Some(trigger.to_owned()), annotation: None }
}

fn new_key(account: &Account, hours: i64) -> StoredKey {
    StoredKey { created: now() + hours.hours(), ..stored(account.id, &pair()) }
}

async fn rotate(database: &dyn AccountAdmin, account: &Account, overlap: Option<i64>, revoke: Vec<KeyId>) -> Account {
    let hours = i64::try_from(account.keys.len()).unwrap();
    let action = Action::Rotate {
        expected: account.version,
        key: new_key(account, hours),
        old_expires: overlap.map(|hours| now() + hours.hours()),
        revoke,
        answered: rotation_requests("one"),
    };
    database.commit(&change(account.id, action)).await.unwrap()
}

pub async fn a_rotation_with_overlap_retires_the_old_key_pair(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("rotated"), settings("rotated")).await;

    let rotated = rotate(&*database, &made, Some(24), vec![]).await;

    assert_eq!(rotated.version, Version(2));
    assert_eq!(rotated.answered_requests, rotation_requests("one"));
    assert_eq!(rotated.keys.len(), 2);
    assert_eq!((rotated.keys[0].state, rotated.keys[1].id), (KeyState::Active, made.keys[0].id));
    assert_eq!(rotated.keys[1].state, KeyState::Retiring { expires: now() + 24.hours() });
    assert_eq!(database.find_by_owner(&owner("rotated")).await.unwrap(), Some(rotated.clone()));
    let journal = "SELECT action, changes FROM account_journal ORDER BY id DESC LIMIT 1";
    let journal = fresh.by_hand(journal).await.unwrap().remove(0);
    let expected = format!(r#"[{{"field":"keys","new":"{}","old":"{}"}}]"#, rotated.keys[0].id, made.keys[0].id);
    assert_eq!(journal, [Some("rotated".to_owned()), Some(expected)]);
}

pub async fn a_rotation_without_overlap_leaves_one_key_pair(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("leaked"), settings("leaked")).await;
    let retiring = rotate(&*database, &made, Some(24), vec![]).await;

    let rotated = rotate(&*database, &retiring, None, vec![made.keys[0].id]).await;

    assert_eq!(rotated.keys.len(), 1);
    assert!(retiring.keys.iter().all(|key| key.id != rotated.keys[0].id));
}

pub async fn a_revoked_or_purged_key_pair_is_refused(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("ended"), settings("ended")).await;
    let retiring = rotate(&*database, &made, Some(24), vec![]).await;
    let kept = retiring.keys.iter().map(|key| key.api_key.clone()).collect::<Vec<_>>();
    assert!(database.revoked(&kept).await.unwrap().is_empty(), "a pair on its way out works");

    // Four keys are removed: a retiring one, an active one, an expired one, and one that is purged with its account.
    let leaked = rotate(&*database, &retiring, None, vec![made.keys[0].id]).await;
    let expiring = rotate(&*database, &leaked, Some(1), vec![]).await;
    let expired = expiring.keys.iter().filter(|key| key.state != KeyState::Active).map(|key| key.id).collect();
    let action = Action::Revoke { expected: expiring.version, keys: expired };
    let last = database.commit(&change(expiring.id, action)).await.unwrap();
    database.commit(&deletion(&last)).await.unwrap();
    let later = now() + 1.hours();
    let purged = database.purge(&owner("any").cluster, &|_| false, later, later).await.unwrap();
    assert_eq!(purged.accounts, 1);
    let removed: Vec<StoredKey> = [&retiring.keys[..], &expiring.keys[..]].concat();
    let api_keys: Vec<_> = removed.iter().map(|key| key.api_key.clone()).collect();
    assert_eq!(database.revoked(&api_keys).await.unwrap().len(), 4);
    let reasons = "SELECT reason, count(*) FROM revoked_keys GROUP BY reason ORDER BY reason";
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(fresh.by_hand(reasons).await.unwrap(), [[text("purged"), text("1")], [text("revoked"), text("3")]]);

    let again = create(&*database, owner("again"), settings("again")).await;
    fresh.by_hand("DELETE FROM account_keys").await.unwrap();
    let again = database.find_by_owner(&again.owner.unwrap()).await.unwrap().unwrap();
    let before = rows(&fresh).await;
    for (number, key) in removed.into_iter().enumerate() {
        let key = StoredKey { state: KeyState::Active, ..key };
        let restore = Action::RestoreKey { expected: again.version, key: key.clone() };
        let unknown_affiliate = UnknownAffiliate::Refuse;
        let (settings, answered) = (settings(&format!("n{number}")), RotationRequests::default());
        let import = Action::Import { settings: settings.clone(), key: key.clone(), adopter: None, unknown_affiliate };
        let owner = owner(&format!("n{number}"));
        let create = Action::Create { owner, settings, key, answered, unknown_affiliate };
        for (account, action) in
            [(again.id, restore), (AccountId::from_random([7; 16]), import), (AccountId::from_random([8; 16]), create)]
        {
            let refused = database.commit(&change(account, action)).await;
            assert!(matches!(refused, Err(DatabaseError::KeyRevoked)), "{refused:?}");
        }
    }
    assert_eq!(rows(&fresh).await, before, "nothing of it stays");
}

pub async fn a_revocation_never_removes_the_active_key_pair(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("revoked"), settings("revoked")).await;
    let rotated = rotate(&*database, &made, Some(1), vec![]).await;
    let keys = rotated.keys.iter().map(|key| key.id).collect();

    let action = Action::Revoke { expected: rotated.version, keys };
    let revoked = database.commit(&change(rotated.id, action)).await.unwrap();

    assert_eq!(revoked.keys, rotated.keys[..1]);
}

pub async fn a_second_rotation_of_the_same_version_is_a_conflict(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("twice"), settings("twice")).await;
    let rotation = || {
        let (key, answered) = (new_key(&made, 1), RotationRequests::default());
        change(made.id, Action::Rotate { expected: made.version, key, old_expires: None, revoke: vec![], answered })
    };
    let first = database.commit(&rotation()).await.unwrap();
    let before = rows(&fresh).await;
    assert_conflict(database.commit(&rotation()).await);
    assert_eq!(rows(&fresh).await, before);
    assert_eq!(first.keys.len(), 1);
}

pub async fn only_unowned_and_retained_accounts_can_be_adopted(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("old"), settings("wanted")).await;
    let adopt = |account: &Account, by: &str| {
        let (owner, answered) = (owner_in("two", by), rotation_requests("one"));
        change(account.id, Action::Adopt { expected: account.version, owner, answered })
    };
    assert_conflict(database.commit(&adopt(&made, "new")).await);

    let retained = database.commit(&change(made.id, Action::Retain { expected: made.version })).await.unwrap();
    let adopted = database.commit(&adopt(&retained, "new")).await.unwrap();
    assert_eq!((adopted.owner.clone(), adopted.life), (Some(owner_in("two", "new")), Life::Live));
    assert_eq!(
        (&adopted.keys, &adopted.settings, adopted.answered_requests.clone()),
        (&made.keys, &made.settings, rotation_requests("one"))
    );
    assert_eq!(database.find_by_owner(&owner("old")).await.unwrap(), None);

    fresh.by_hand("UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL").await.unwrap();
    let unowned = database.find_by_name(&name("wanted")).await.unwrap().unwrap();
    assert_eq!(unowned.owner, None);
    create(&*database, owner_in("two", "busy"), settings("busy")).await;
    assert_conflict(database.commit(&adopt(&unowned, "busy")).await);
    let whom = Adopter::parse("two/namespace");
    let allow = |account: &Account| {
        change(account.id, Action::AllowAdoption { expected: account.version, adopter: whom.clone() })
    };
    let allowed = database.commit(&allow(&unowned)).await.unwrap();
    assert_eq!(allowed.adopter, whom);
    assert_eq!(database.find_by_name(&name("wanted")).await.unwrap(), Some(allowed.clone()));
    let adopted = database.commit(&adopt(&allowed, "new")).await.unwrap();
    assert_eq!(adopted.adopter, None, "it was for this once");
    assert_conflict(database.commit(&allow(&adopted)).await);
    fresh.by_hand("UPDATE accounts SET adopter = 'nobody' WHERE name = 'wanted'").await.unwrap();
    let unreadable = database.find_by_name(&name("wanted")).await.unwrap_err();
    assert!(unreadable.to_string().contains("adopter"), "{unreadable}");
}

pub async fn a_suspension_has_a_reason_and_survives_updates(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("suspended"), settings("suspended")).await;
    fresh.by_hand("UPDATE accounts SET suspended_at = 5, suspended_reason = 'unpaid'").await.unwrap();
    assert!(fresh.by_hand("UPDATE accounts SET suspended_reason = NULL").await.is_err(), "half a suspension");

    let seen = database.find_by_owner(&owner("suspended")).await.unwrap().unwrap();
    let changed = database.commit(&update(&seen, &settings("renamed"))).await.unwrap();

    let since = jiff::Timestamp::from_microsecond(5).unwrap();
    let suspension = Some(Suspension { since, reason: "unpaid".to_owned() });
    assert_eq!((seen.suspension, changed.suspension), (suspension.clone(), suspension));
    assert_eq!(made.suspension, None);
}

pub async fn accounts_deleted_long_ago_are_purged_and_keep_their_journal(fresh: Fresh) {
    let database = fresh.open().await;
    let gone = create(&*database, owner("gone"), full_settings("gone")).await;
    database.commit(&deletion(&gone)).await.unwrap();
    create(&*database, owner("live"), settings("live")).await;
    let elsewhere = create(&*database, owner_in("two", "elsewhere"), settings("elsewhere")).await;
    database.commit(&deletion(&elsewhere)).await.unwrap();
    let cluster = owner("any").cluster;

    assert_eq!(database.purge(&cluster, &|_| false, now(), now()).await.unwrap().accounts, 0, "not yet");
    let later = now() + 1.second();
    let is_declared = |asked: &Owner| *asked == owner("gone");
    assert_eq!(database.purge(&cluster, &is_declared, later, later).await.unwrap().accounts, 0, "it may be restored");
    assert!(database.find_by_owner(&owner("gone")).await.unwrap().is_some());
    let is_declared = |asked: &Owner| *asked == owner("live");
    assert_eq!(database.purge(&cluster, &is_declared, later, later).await.unwrap().accounts, 1);

    assert_eq!(database.find_by_owner(&owner("gone")).await.unwrap(), None);
    assert!(database.find_by_owner(&owner("live")).await.unwrap().is_some());
    assert!(database.find_by_owner(&owner_in("two", "elsewhere")).await.unwrap().is_some());
    let parts = "SELECT (SELECT count(*) FROM account_roles) + (SELECT count(*) FROM account_allowed_ips)";
    assert_eq!(fresh.by_hand(parts).await.unwrap()[0], [Some("0".to_owned())]);
    let history = format!("SELECT action FROM account_journal WHERE account_id = '{}' ORDER BY id", gone.id);
    let history = fresh.by_hand(&history).await.unwrap().concat();
    assert_eq!(history, ["created", "deleted", "purged"].map(|action| Some(action.to_owned())));
    assert_eq!(database.purge(&cluster, &|_| false, later, later).await.unwrap().accounts, 0);
    assert_ne!(create(&*database, owner("gone"), settings("gone")).await.id, AccountId::from_random([0; 16]));
}

/// Accounts are purged in batches, so that other transactions do not wait for the whole purge.
pub async fn a_purge_removes_more_accounts_than_one_batch(fresh: Fresh) {
    let database = fresh.open().await;
    for number in 0..101 {
        let name = format!("gone-{number}");
        let gone = create(&*database, owner(&name), settings(&name)).await;
        database.commit(&deletion(&gone)).await.unwrap();
    }
    let later = now() + 1.second();
    assert_eq!(database.purge(&owner("any").cluster, &|_| false, later, later).await.unwrap().accounts, 101);
    assert_eq!(fresh.by_hand("SELECT count(*) FROM accounts").await.unwrap()[0], [Some("0".to_owned())]);
}
