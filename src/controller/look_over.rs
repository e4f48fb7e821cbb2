//! Looks over all resources of a scope: at the start, after an outage at the start, and once its Secrets are listed.
//!
//! At the start, accounts are read in pages, a page ahead of the reconciles that need them. So no reconcile reads its
//! account alone, and only about a page of accounts is in memory, however many there are.

use super::connect::{Connection, Ready};
use super::context::Context;
use super::held::{Key, Store};
use super::watches::Listing;
use super::work::Work;
use crate::account::Owner;
use crate::database::DatabaseError;
use tokio::sync::watch;

/// The number of accounts that are read at a time.
const PAGE: usize = 500;

/// The next page is read when at most this number of resources is due.
const FEW: usize = PAGE / 2;

/// How many unreadable accounts of a scope are logged one by one.
const SHOWN: usize = 10;

/// Makes all resources of a scope due, each time that there is a reason, for as long as it is polled.
pub(super) async fn run(store: &Store, work: &Work, context: &Context, mut secrets: watch::Receiver<Listing>) {
    store.listed().await;
    let mut connection = context.connection.clone();
    secrets.mark_unchanged();
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
        // The sender ends together with the watch of the Secrets.
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
    for page in store.keys().chunks(PAGE) {
        let owners: Vec<Owner> = page.iter().map(|key| owner(key, context)).collect();
        match ready.reconciler.database.find_readable(&owners).await {
            Ok(accounts) => {
                for account in accounts {
                    match account {
                        Ok(account) => ready.startup_accounts.add(account),
                        Err(error) => {
                            unreadable += 1;
                            report_unreadable(&error, unreadable);
                        }
                    }
                }
            }
            // Each reconcile reads its account, and reports what it finds.
            Err(error) => tracing::debug!(%error, "a page of accounts could not be read at the start"),
        }
        for key in page {
            work.add(key);
        }
        work.has_at_most(FEW).await;
    }
    if unreadable > SHOWN {
        tracing::warn!(accounts = unreadable, "there are more accounts that cannot be read");
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
