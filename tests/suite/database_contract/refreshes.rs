//! Refreshes of logins: of concurrent ones one succeeds, and none revives a login that ended.

use super::fixture::*;
use super::logins::{account, assertion, begin, family, family_of, hash, login, next, refresh};
use futures::future::join_all;
use jiff::ToSpan as _;
use opsadmin_operator::database::open_with_logins;
use opsadmin_operator::login::{
    AssertionUse, End, EndReason, Family, Login, LoginId, RefreshWrite, TokenHash, Tokens, UsedAssertion,
};

pub async fn a_refresh_replaces_the_generations(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "refreshed").await;
    let begun = family(&account);
    begin(&database, &begun).await;
    let first = next(&begun);
    assert_eq!(refresh(&database, &begun, &first).await, RefreshWrite::Done);
    let expected =
        Family { current: first.current.clone(), previous: Some(first.previous.clone()), ..family_of(&begun).clone() };
    let expected = Login { tokens: Tokens::Family(expected), ..begun.clone() };
    assert_eq!(database.logins.find(begun.id).await.unwrap().as_ref(), Some(&expected));

    // A refresh that is repeated writes the same generations with another end of the access token.
    let mut repeated = first.clone();
    repeated.current.access.expires = now() + 20.seconds();
    assert_eq!(refresh(&database, &expected, &repeated).await, RefreshWrite::Done);
    let found = database.logins.find_by_access_token(&first.previous.access.hash).await.unwrap().unwrap();
    assert_eq!(family_of(&found).current, repeated.current);

    assert_eq!(refresh(&database, &found, &next(&found)).await, RefreshWrite::Done);
    let displaced = database.logins.find_by_access_token(&first.previous.access.hash).await.unwrap();
    assert_eq!(displaced, None, "only the current and the previous token are kept");
}

pub async fn a_refused_refresh_leaves_no_trace(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let account = account(&database, "refused").await;
    let begun = family(&account);
    let (used, unused) = (assertion(begun.key), assertion(begun.key));
    assert_eq!(database.logins.begin(&begun, &used).await.unwrap(), AssertionUse::First);
    let current = family_of(&begun).current.refresh;
    let refresh = async |expected: &TokenHash, assertion: &UsedAssertion| {
        database.logins.refresh(begun.id, expected, &next(&begun), assertion).await.unwrap()
    };
    assert_eq!(refresh(&current, &used).await, RefreshWrite::Replay);
    assert_eq!(refresh(&hash(), &unused).await, RefreshWrite::Overtaken);
    assert_eq!(database.logins.find(begun.id).await.unwrap(), Some(begun.clone()));
    // The caller decides again, with the same assertion.
    assert_eq!(refresh(&current, &unused).await, RefreshWrite::Done);

    let without = login(&account);
    begin(&database, &without).await;
    let of_another_kind =
        database.logins.refresh(without.id, &current, &next(&begun), &assertion(begun.key)).await.unwrap();
    assert_eq!(of_another_kind, RefreshWrite::Overtaken);
}

pub async fn of_concurrent_refreshes_one_succeeds(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let handles = [database.clone(), open_with_logins(fresh.url()).unwrap()];
    let account = account(&database, "refreshes").await;
    let mut login = family(&account);
    begin(&database, &login).await;
    for _ in 0..5 {
        let refreshes = (0..8).map(|number| {
            let (handle, login, next) = (handles[number % 2].clone(), login.clone(), next(&login));
            tokio::spawn(async move { (refresh(&handle, &login, &next).await, next) })
        });
        let done: Vec<_> = join_all(refreshes.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
        let (winners, losers): (Vec<_>, Vec<_>) = done.into_iter().partition(|(write, _)| *write == RefreshWrite::Done);
        assert_eq!((winners.len(), losers.len()), (1, 7));
        assert!(losers.iter().all(|(write, _)| *write == RefreshWrite::Overtaken), "{losers:?}");
        login = database.logins.find(login.id).await.unwrap().unwrap();
        assert_eq!(family_of(&login).current, winners[0].1.current);
    }
}

pub async fn an_ended_login_stays_ended(fresh: Fresh) {
    let database = fresh.open_with_logins().await;
    let [ours, theirs] = [account(&database, "ours").await, account(&database, "theirs").await];
    let ended = family(&ours);
    let others = [login(&ours), family(&ours), login(&theirs)];
    for login in others.iter().chain([&ended]) {
        begin(&database, login).await;
    }
    assert!(database.logins.end(ended.id, now(), EndReason::Reused).await.unwrap());
    assert!(!database.logins.end(ended.id, now() + 1.hour(), EndReason::Revoked).await.unwrap());
    assert!(!database.logins.end(LoginId::from_random(random()), now(), EndReason::Revoked).await.unwrap());
    assert_eq!(refresh(&database, &ended, &next(&ended)).await, RefreshWrite::Overtaken);

    assert_eq!(database.logins.end_account(ours.id, now(), EndReason::LoggedOut).await.unwrap(), 2);
    assert_eq!(database.logins.end_account(ours.id, now(), EndReason::Revoked).await.unwrap(), 0);
    let end_of = async |login: &Login| database.logins.find(login.id).await.unwrap().unwrap().end;
    let end = |reason| Some(End { at: now(), reason });
    assert_eq!(end_of(&ended).await, end(EndReason::Reused));
    assert_eq!(end_of(&others[0]).await, end(EndReason::LoggedOut));
    assert_eq!(end_of(&others[1]).await, end(EndReason::LoggedOut));
    assert_eq!(end_of(&others[2]).await, None);
}
