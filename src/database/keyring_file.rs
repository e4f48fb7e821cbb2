//! Reads the keyring's file again and again, so that a rotation of the keyring needs no restart of the program.
//!
//! A changed file is used only if it opens every secret key in the database. Otherwise the keyring in use stays in use.
//! The file is compared by its contents, because a mounted Secret changes by a symbolic link above the file.

use super::{AccountDatabase, CurrentKeyring, Keyring, KeyringError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The time between two reads of the file.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The keyring's file, and the keyring that follows it.
#[derive(Debug)]
pub struct KeyringFile {
    /// The database whose secret keys the keyring must open.
    pub database: Arc<dyn AccountDatabase>,
    /// The file.
    pub path: PathBuf,
    /// The keyring in use.
    pub keyring: CurrentKeyring,
}

/// What a read of the file led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyringRead {
    /// The file has the keyring in use.
    Unchanged,
    /// The file has another keyring, which is in use now.
    Replaced,
    /// The file cannot be used.
    Refused,
}

impl KeyringRead {
    /// Returns whether the file cannot be used.
    pub fn is_refused(self) -> bool {
        self == Self::Refused
    }
}

impl KeyringFile {
    /// Runs for as long as it is polled, and tells what each read led to.
    pub async fn run(self, mut tell: impl FnMut(KeyringRead)) {
        let mut refused: Option<String> = None;
        loop {
            tokio::time::sleep(READ_EVERY).await;
            if let Some(result) = self.changed().await {
                let read;
                (read, refused) = self.apply(result, refused.as_deref());
                tell(read);
            }
        }
    }

    /// Reads the file. Returns `None` if it is not known whether its keyring can be used.
    async fn changed(&self) -> Option<Result<Change, KeyringError>> {
        let path = self.path.clone();
        let found = match tokio::task::spawn_blocking(move || Keyring::load(&path)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Some(Err(error)),
            Err(error) => {
                tracing::error!(%error, "the keyring's file could not be read, which is a bug in opsadmin");
                return None;
            }
        };
        if is_same(&self.keyring.get(), &found) {
            return Some(Ok(Change::Nothing));
        }
        match self.database.sealing_keys_in_use().await {
            Ok(in_use) => Some(judge(&self.path, &self.keyring.get(), found, &in_use).map(Change::New)),
            Err(error) => {
                tracing::debug!(%error, "the keyring's file has changed, and the database could not be asked about it");
                None
            }
        }
    }

    /// Uses a new keyring, or logs why it is not used. Each refusal is logged once: `before` is the last one. Returns the
    /// present refusal too.
    fn apply(&self, result: Result<Change, KeyringError>, before: Option<&str>) -> (KeyringRead, Option<String>) {
        let path = self.path.display();
        match result {
            Ok(Change::Nothing) => (KeyringRead::Unchanged, None),
            Ok(Change::New(keyring)) => {
                let mut ids = keyring.ids();
                let (seals, opens) = (ids.next().unwrap_or_default(), ids.collect::<Vec<_>>().join(","));
                tracing::info!(%path, seals, opens, "the keyring's file has changed, and its keyring is used");
                self.keyring.replace(keyring);
                (KeyringRead::Replaced, None)
            }
            Err(error) => {
                let refusal = error.to_string();
                if before != Some(&refusal) {
                    tracing::error!(%path, "the keyring's file is not used, and the present keyring stays in use: {refusal}");
                }
                (KeyringRead::Refused, Some(refusal))
            }
        }
    }
}

/// What a read of the file found.
enum Change {
    /// The keyring in use.
    Nothing,
    /// Another keyring, which can be used.
    New(Keyring),
}

/// Returns whether both keyrings have the same keys in the same order. A key's id follows from the key.
fn is_same(current: &Keyring, found: &Keyring) -> bool {
    current.ids().eq(found.ids())
}

/// Decides whether a keyring can replace the one in use. `in_use` are the keys that secret keys are sealed with.
///
/// # Errors
/// The keyring does not open everything, or nothing shows that it belongs to this database.
fn judge(path: &Path, current: &Keyring, found: Keyring, in_use: &BTreeSet<String>) -> Result<Keyring, KeyringError> {
    found.check(in_use)?;
    let is_related = !in_use.is_empty() || found.ids().any(|id| current.ids().any(|known| known == id));
    if is_related { Ok(found) } else { Err(KeyringError::Unrelated { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn ring(byte: u8) -> Keyring {
        Keyring::from_random(Zeroizing::new([byte; 32]))
    }

    fn in_use(rings: &[&Keyring]) -> BTreeSet<String> {
        rings.iter().flat_map(|ring| ring.ids()).map(str::to_owned).collect()
    }

    #[test]
    fn a_keyring_is_the_same_only_with_the_same_keys_in_the_same_order() {
        let both = ring(1).with_another(Zeroizing::new([2; 32]));
        assert!(is_same(&both, &both.clone()));
        assert!(!is_same(&both, &both.clone().sealing_with_last_key()));
        assert!(!is_same(&both, &ring(1)) && !is_same(&ring(1), &both));
    }

    #[test]
    fn a_keyring_that_opens_everything_replaces_the_one_in_use() {
        let path = Path::new("keyring");
        let (one, two) = (ring(1), ring(2));
        let both = one.clone().with_another(Zeroizing::new([2; 32]));
        let judged = |current: &Keyring, found: &Keyring, in_use: &BTreeSet<String>| {
            judge(path, current, found.clone(), in_use)
                .map(|keyring| keyring.ids().map(str::to_owned).collect::<Vec<_>>())
        };
        assert!(judged(&one, &both, &in_use(&[&one])).is_ok());
        assert!(judged(&both, &two, &in_use(&[&two])).is_ok());
        assert!(judged(&one, &two, &in_use(&[&two])).is_ok(), "a whole rotation between two reads");
        assert!(judged(&one, &both, &in_use(&[])).is_ok());
        let lacks = judged(&both, &two, &in_use(&[&one, &two])).unwrap_err();
        assert!(matches!(lacks, KeyringError::LacksKey { .. }), "{lacks}");
        let unrelated = judged(&one, &two, &in_use(&[])).unwrap_err();
        assert!(matches!(unrelated, KeyringError::Unrelated { .. }), "{unrelated}");
    }
}
