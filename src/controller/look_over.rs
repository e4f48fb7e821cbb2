//! Looks over all resources of a scope: at the start, after an outage at the start, and once its Secrets are listed.
//!
//! At the start, accounts are read in pages, a page ahead of the reconciles that need them. So no reconcile reads its
//! account alone, and only about a page of accounts is in memory, however many there are.

use super::connect::{Connection, Ready};
use super::context::Context;
use super::held::{Key, Store};
use super::watches::Listing;
use super::work::Work;
use crate::account::{Account, Owner};
use crate::database::DatabaseError;
use std::collections::HashMap;
use tokio::sync::watch;

/// The number of accounts that are read at a time.
const PAGE: usize = 500;

/// How many unreadable accounts of a scope are logged one by one.
const SHOWN: usize = 10;

/// Makes all resources of a scope due, each time that there is a reason, for as long as it is polled.
pub(super) async fn run(store: &Store, work: &Work, context: &Context, mut secrets: watch::Receiver<Listing>) {
    store.listed().await;
    // The sender ends together with the watch of the Secrets.
    if secrets.wait_for(|listing| *listing != Listing::Trying).await.is_err() {
        return std::future::pending().await;
    }
    let mut connection = context.connection.clone();
    let mut was_waiting = false;
    loop {
        let state = connection.borrow_and_update().clone();
        match state {
            Connection::Trying => {}
            Connection::Ready(ready) => {
                read_ahead(store, work, context, &ready).await;
                break;
            }
            // An outage concerns all resources alike. The later attempts to connect are not reported again.
            Connection::Waiting { .. } if was_waiting => {}
            Connection::Waiting { .. } => {
                was_waiting = true;
                all(store, work);
            }
        }
        tokio::select! {
            changed = connection.changed() => if changed.is_err() { return std::future::pending().await },
            () = secrets_became_listed(&mut secrets) => all(store, work),
        }
    }
    loop {
        secrets_became_listed(&mut secrets).await;
        all(store, work);
    }
}

/// Waits until the Secrets are listed that could not be listed before.
async fn secrets_became_listed(secrets: &mut watch::Receiver<Listing>) {
    loop {
        if secrets.changed().await.is_err() {
            return std::future::pending().await;
        }
        if *secrets.borrow_and_update() == Listing::Done {
            return;
        }
    }
}

fn all(store: &Store, work: &Work) {
    for key in store.keys() {
        work.add(&key);
    }
}

/// Makes all resources due, in pages, after the accounts of each page were read.
async fn read_ahead(store: &Store, work: &Work, context: &Context, ready: &Ready) {
    let mut unreadable = 0;
    in_pages(&store.keys(), PAGE, work, async |page| {
        let owners: Vec<Owner> = page.iter().map(|key| owner(key, context)).collect();
        let read = match ready.reconciler.database.find_readable(&owners).await {
            Ok(read) => read,
            // Each reconcile reads its account, and reports what it finds.
            Err(error) => return tracing::debug!(%error, "a page of accounts could not be read at the start"),
        };
        let (mut accounts, mut is_complete) = (Vec::with_capacity(read.len()), true);
        for account in read {
            match account {
                Ok(account) => accounts.push(account),
                Err(error) => {
                    is_complete = false;
                    unreadable += 1;
                    report_unreadable(&error, unreadable);
                }
            }
        }
        for (owner, account) in by_owner(owners, accounts, is_complete) {
            ready.startup_accounts.add(owner, account);
        }
    })
    .await;
    if unreadable > SHOWN {
        tracing::warn!(accounts = unreadable, "there are more accounts that cannot be read");
    }
}

/// Returns what a read found for each of these owners. An error does not tell whose account cannot be read. So if the
/// read `is_complete`, owners without an account are returned too, and otherwise they are left out.
fn by_owner(owners: Vec<Owner>, accounts: Vec<Account>, is_complete: bool) -> Vec<(Owner, Option<Account>)> {
    let mut found: HashMap<Owner, Account> =
        accounts.into_iter().filter_map(|account| Some((account.owner.clone()?, account))).collect();
    let each = owners.into_iter().map(|owner| {
        let account = found.remove(&owner);
        (owner, account)
    });
    each.filter(|(_, account)| is_complete || account.is_some()).collect()
}

/// Makes resources due in pages, after `read` was called for each page. The next page waits until half of a page is done.
async fn in_pages(keys: &[Key], page: usize, work: &Work, mut read: impl AsyncFnMut(&[Key])) {
    for page_of_keys in keys.chunks(page) {
        read(page_of_keys).await;
        for key in page_of_keys {
            work.add(key);
        }
        work.has_at_most(page / 2).await;
    }
}

/// One unreadable account does not delay the others. The reconcile of its resource reads it again and reports the error.
fn report_unreadable(error: &DatabaseError, number: usize) {
    if number <= SHOWN {
        tracing::warn!("{error}; its resource reports this, and other accounts are not affected");
    }
}

fn owner(key: &Key, context: &Context) -> Owner {
    let (namespace, name) = key.parts();
    Owner { cluster: context.cluster.clone(), namespace: namespace.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClusterId, samples};
    use crate::api::ApiAccount;
    use futures::FutureExt;
    use kube::runtime::reflector::ObjectRef;
    use std::cell::RefCell;

    #[test]
    fn an_owner_has_no_account_only_if_every_account_could_be_read() {
        let owner_of_it =
            Owner { cluster: ClusterId::parse("here").unwrap(), namespace: "ns".to_owned(), name: "one".to_owned() };
        let account = Account { owner: Some(owner_of_it.clone()), ..samples::account() };
        let other = Owner { name: "another".to_owned(), ..owner_of_it.clone() };
        let owners = || vec![other.clone(), owner_of_it.clone()];
        let of_one = (owner_of_it.clone(), Some(account.clone()));
        assert_eq!(by_owner(owners(), vec![account.clone()], true), [(other.clone(), None), of_one.clone()]);
        assert_eq!(by_owner(owners(), vec![account], false), [of_one]);
    }

    #[tokio::test]
    async fn a_page_is_read_when_half_of_the_one_before_is_done() {
        let key = |number: usize| Key::of(&ObjectRef::<ApiAccount>::new(&number.to_string()).within("ns"));
        let keys: Vec<Key> = (0..7).map(key).collect();
        let (work, read) = (Work::default(), RefCell::new(Vec::new()));
        let mut reading = std::pin::pin!(in_pages(&keys, 4, &work, async |page| read.borrow_mut().push(page.len())));
        let mut done = Vec::new();
        let expected = [vec![4], vec![4], vec![4, 3], vec![4, 3]];
        for read_by_then in expected {
            assert!(reading.as_mut().now_or_never().is_none());
            assert_eq!(*read.borrow(), read_by_then, "after {done:?}");
            done.extend(work.next().now_or_never());
        }
        done.extend(work.next().now_or_never());
        assert!(reading.as_mut().now_or_never().is_some(), "the rest is due");
        done.extend(std::iter::from_fn(|| work.next().now_or_never()));
        assert_eq!(done, keys);
    }
}
