//! Keys are rotated while partners log in.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use opsadmin_operator::account::KeyState;
use tokio::sync::watch;
use tokio::time::timeout;

use super::scene::{Client, SOON, Scene};
use crate::database_contract::fixture::{pair, rotation_with_overlap};

/// The clients, each of which logs in again and again.
const CLIENTS: usize = 3;

/// Returns how often the keys are rotated: 100 times, or the number that a longer run requests.
fn rotations() -> usize {
    let more = env::var("OPSADMIN_TEST_ROTATIONS").ok();
    more.map_or(100, |number| number.parse().expect("OPSADMIN_TEST_ROTATIONS is a number"))
}

/// Clients read the keys as programs read a mounted Secret: a rotation reaches them later, within its overlap.
pub async fn no_login_fails_while_keys_are_rotated_again_and_again(scene: Scene) {
    let server = scene.serve(&["--tries-per-minute", "1000000"]).await;
    let partner = scene.account("acme", |_| {}).await;
    let (secret, is_over) = (watch::Sender::new(partner.clone()), AtomicBool::new(false));
    let logins = AtomicUsize::new(0);
    // How often each client has logged in.
    let counts = watch::Sender::new([0; CLIENTS]);
    let log_in_again_and_again = async |client: usize| {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mounted: Client = secret.borrow().clone();
            let answer = server.token(&mounted.assertion()).await;
            assert_eq!(answer.status, 200, "after {number} logins: {answer:?}");
            logins.fetch_add(1, Ordering::Relaxed);
            number += 1;
            counts.send_modify(|counts| counts[client] = number);
        }
    };
    let rotate = async || {
        let mut account = partner.account.clone();
        for _ in 0..rotations() {
            let new = pair();
            let retiring = account.keys.iter().filter(|key| key.state != KeyState::Active).map(|key| key.id);
            let in_an_hour = Timestamp::now() + Duration::from_hours(1);
            let rotate = rotation_with_overlap(&account, &new, Some(in_an_hour), retiring.collect());
            account = scene.database.accounts.commit(&rotate).await.unwrap();
            let active = account.keys.iter().find(|key| key.state == KeyState::Active).unwrap();
            assert_eq!(active.api_key, new.api_key);
            let newest = Client {
                account: account.clone(),
                api_key: new.api_key.as_str().to_owned(),
                secret_key: new.secret_key.expose().to_owned(),
            };
            secret.send_replace(newest);
            // A login that begins from now on has the new keys. The next rotation ends the overlap of the previous ones.
            let begun = *counts.borrow();
            let mut progress = counts.subscribe();
            let all = progress.wait_for(|counts| counts.iter().zip(&begun).all(|(now, begun)| *now > begun + 1));
            timeout(SOON, all).await.expect("the clients go on").expect("they still run");
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let clients =
        async { tokio::join!(log_in_again_and_again(0), log_in_again_and_again(1), log_in_again_and_again(2)) };
    tokio::join!(clients, rotate());
    assert!(logins.load(Ordering::Relaxed) >= rotations() * CLIENTS);
}
