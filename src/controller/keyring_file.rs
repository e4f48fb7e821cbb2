//! What the controller does when the keyring's file has changed.

use super::context::Context;
use super::queues::Queues;
use crate::database::{AccountDatabase, CurrentKeyring, KeyringFile, KeyringRead};
use std::path::PathBuf;
use std::sync::Arc;

/// Lets a keyring follow its file for as long as it is polled. After a change, every resource is requeued: Secrets get marks
/// of the key that seals, and accounts whose keys could not be opened are tried again.
pub(super) async fn follow(
    (path, keyring): (PathBuf, CurrentKeyring),
    database: Arc<dyn AccountDatabase>,
    context: &Context,
    queues: Queues,
) {
    let file = KeyringFile { database, path, keyring };
    file.run(|read| {
        if read == KeyringRead::Replaced {
            for key in context.stores.keys() {
                queues.send(&key.reference());
            }
        }
        context.metrics.keyring_refused(read.is_refused());
    })
    .await;
}
