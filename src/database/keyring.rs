//! The keyring: the encryption keys that seal the secret keys in the database.
//!
//! The keyring is a JSON file, `{"keys": [{"id": "...", "key": "BASE64 OF 32 BYTES"}]}`. The first key seals, and every
//! key opens what it sealed. A key's id is derived from the key, so a file in which an id belongs to another key is
//! refused.
//!
//! Sealing is AES-256-GCM (NIST SP 800-38D). The sealed bytes begin with a random 96-bit nonce. The associated data is
//! the account's id and the key pair's id, so that a sealed secret key that was moved to another row does not open
//! there. The format must not change: secret keys in existing databases would no longer open.

use super::marks;
use crate::account::{AccountId, ApiKey, KeyId, KeyPair, Mark, Owner, SealedSecret, SecretKey};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use thiserror::Error;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// One or more keys. The first key seals, and every key opens what it sealed.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<KeyringKey>,
    /// Whether this keyring replaces the real one, which is not available. Then no mark can be made or verified.
    is_placeholder: bool,
}

#[derive(Clone)]
struct KeyringKey {
    id: String,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

/// What is wrong with a keyring or with a sealed secret key. No variant shows a key.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// The file does not exist.
    #[error("there is no keyring {}; make one with `opsadmin keyring init --keyring FILE`, or name the one this database is sealed with", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file does not exist, and secret keys in the database are sealed with its keys.
    #[error(
        "there is no keyring {}, and secret keys in this database are sealed with one: restore the backup of the keyring there, or name it with --keyring FILE; a new one opens none of them",
        path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// The file exists already. To overwrite it would lose every secret key that is sealed with it.
    #[error("the keyring {} exists already; it is left as it is", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another program is changing the file.
    #[error("another program is changing the keyring {}; wait until it is done, and run this again", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Another program, which ignores the lock, wrote another keyring to the file.
    #[error("the keyring {} was changed by another program meanwhile, and is left as it is; run this again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot use the keyring {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error. It is not the error's source, because then a message that shows sources would
        /// show it twice.
        reason: io::Error,
    },
    /// The file exists and is no keyring.
    #[error("{} is no keyring: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Contents that are not in a file are no keyring.
    #[error("this is no keyring: {reason}")]
    Contents {
        /// What is wrong with it.
        reason: String,
    },
    /// A secret key is sealed with a key that this keyring lacks.
    #[error(
        "the keyring lacks the key {} that secret keys in this database are sealed with; if the keyring was rotated since this program read it, start it again with the keyring as it is now, and otherwise use the one they were written with, or put the missing key back: from a backup, or from FILE.removed beside the keyring FILE if `opsadmin keyring rotate` removed it for another database",
        missing.join(", ")
    )]
    LacksKey {
        /// The ids of the missing keys.
        missing: Vec<String>,
    },
    /// A file changed to a keyring that has nothing in common with the one in use.
    #[error(
        "the keyring {} has no key of the keyring in use, and no secret key in this database shows that it belongs to it; restart this program to use it",
        path.display()
    )]
    Unrelated {
        /// The file.
        path: PathBuf,
    },
    /// The keyring has the key, but the sealed bytes do not open: they were altered, or moved from another account.
    #[error(
        "the secret key of pair {key} of account {account} does not open: it was altered or moved; restore the row from a backup"
    )]
    Altered {
        /// The account.
        account: AccountId,
        /// The key pair.
        key: KeyId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyringFile {
    keys: Vec<KeyringFileKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyringFileKey {
    id: String,
    key: Zeroizing<String>,
}

impl Keyring {
    /// Creates a keyring of one key. The key must be random.
    pub fn from_random(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { keys: vec![KeyringKey::new(key)], is_placeholder: false }
    }

    /// Creates a replacement for a user who may not have the real keyring. It opens what it sealed itself, and accepts
    /// every mark.
    pub fn placeholder(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { is_placeholder: true, ..Self::from_random(key) }
    }

    /// Returns the mark for the Secret that holds this owner's key pair.
    pub fn mark(&self, owner: &Owner, pair: &KeyPair) -> Mark {
        if self.is_placeholder {
            return Mark::unknown();
        }
        let first = &self.keys[0];
        Mark::new(&first.id, &marks::code(&first.key, owner, &pair.api_key, &pair.secret_key))
    }

    /// Returns the id of the key that makes marks; `None` if this keyring accepts every mark.
    pub fn marks_with(&self) -> Option<&str> {
        (!self.is_placeholder).then(|| self.keys[0].id.as_str())
    }

    /// Returns whether one of the keyring's keys made this mark for this owner and this key pair.
    pub fn verifies_mark(&self, mark: &str, owner: &Owner, api_key: &ApiKey, secret_key: &SecretKey) -> bool {
        let (id, code) = Mark::parts(mark);
        let made = |key: &KeyringKey| key.id == id && marks::holds(code, &key.key, owner, api_key, secret_key);
        self.is_placeholder || self.keys.iter().any(made)
    }

    /// Reads a keyring file.
    ///
    /// # Errors
    /// The file is missing, cannot be read or is no keyring.
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        let text = std::fs::read_to_string(path).map_err(|reason| match reason.kind() {
            io::ErrorKind::NotFound => KeyringError::Missing { path: path.to_owned() },
            _ => KeyringError::File { path: path.to_owned(), reason },
        })?;
        let text = Zeroizing::new(text);
        Self::parse(&text).map_err(|reason| KeyringError::Form { path: path.to_owned(), reason })
    }

    /// Reads a keyring from the contents of a keyring file.
    ///
    /// # Errors
    /// [`KeyringError::Contents`] if it is no keyring.
    pub fn from_json(contents: &[u8]) -> Result<Self, KeyringError> {
        let text = std::str::from_utf8(contents).map_err(|_| "it is not text".to_owned());
        text.and_then(Self::parse).map_err(|reason| KeyringError::Contents { reason })
    }

    /// Writes the keyring to a new file with mode 0600. Returns once the file is on the disk: if the file is lost,
    /// everything that is sealed with it is lost too.
    ///
    /// # Errors
    /// The file exists already, or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), KeyringError> {
        let failed = |reason: io::Error| match reason.kind() {
            io::ErrorKind::AlreadyExists => KeyringError::Exists { path: path.to_owned() },
            _ => KeyringError::File { path: path.to_owned(), reason },
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Temporary files have mode 0600. The file gets its name only when it is complete.
        let mut file = NamedTempFile::with_prefix_in(".opsadmin-", folder).map_err(failed)?;
        file.write_all(self.to_json().as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist_noclobber(path).map_err(|error| failed(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Seals a secret key for its row in the database. The nonce must be random, and new for each call.
    ///
    /// # Panics
    /// Never: AES-GCM refuses only texts of more than 64 GiB.
    pub fn seal(&self, account: AccountId, key: KeyId, secret: &SecretKey, nonce: [u8; NONCE_BYTES]) -> SealedSecret {
        let first = &self.keys[0];
        let aad = associated_data(account, key);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        #[expect(clippy::expect_used, reason = "AES-GCM refuses only texts of more than 64 GiB")]
        let sealed = first.cipher().encrypt(&Nonce::from(nonce), payload).expect("a secret key is short");
        SealedSecret { sealed_with: first.id.clone(), bytes: [nonce.as_slice(), &sealed].concat() }
    }

    /// Opens the sealed secret key of this account and this key pair.
    ///
    /// # Errors
    /// [`KeyringError::LacksKey`] if the keyring lacks the key, [`KeyringError::Altered`] if the bytes were not sealed
    /// for this account and this key pair.
    pub fn open(&self, account: AccountId, key: KeyId, sealed: &SealedSecret) -> Result<SecretKey, KeyringError> {
        let altered = || KeyringError::Altered { account, key };
        let with = self
            .keys
            .iter()
            .find(|k| k.id == sealed.sealed_with)
            .ok_or_else(|| KeyringError::LacksKey { missing: vec![sealed.sealed_with.clone()] })?;
        let (nonce, ciphertext) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(altered)?;
        let aad = associated_data(account, key);
        let opened = with
            .cipher()
            .decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| altered())?;
        let text = std::str::from_utf8(&opened).map_err(|_| altered())?;
        SecretKey::stored(text).map_err(|_| altered())
    }

    /// Checks that this keyring has all of these keys.
    ///
    /// # Errors
    /// [`KeyringError::LacksKey`] names the keys that the keyring lacks.
    pub fn check(&self, in_use: &BTreeSet<String>) -> Result<(), KeyringError> {
        let missing: Vec<String> =
            in_use.iter().filter(|id| self.keys.iter().all(|key| key.id != **id)).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(KeyringError::LacksKey { missing }) }
    }

    /// Returns the ids of the keyring's keys, beginning with the key that seals.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Adds a key, which opens and does not seal yet.
    #[must_use]
    pub fn with_another(mut self, key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        self.keys.push(KeyringKey::new(key));
        self
    }

    /// Makes the key that was added last the one that seals.
    #[must_use]
    pub fn sealing_with_last_key(mut self) -> Self {
        self.keys.rotate_right(1);
        self
    }

    /// Removes these keys, except the one that seals. Returns the remaining keyring, and a keyring of the removed keys
    /// if any key was removed.
    #[must_use]
    pub(super) fn split(self, ids: &BTreeSet<String>) -> (Self, Option<Self>) {
        let sealing = self.keys[0].id.clone();
        let is_placeholder = self.is_placeholder;
        let (removed, remaining): (Vec<_>, Vec<_>) =
            self.keys.into_iter().partition(|key| key.id != sealing && ids.contains(&key.id));
        let keyring = |keys| Self { keys, is_placeholder };
        (keyring(remaining), (!removed.is_empty()).then(|| keyring(removed)))
    }

    /// Adds the keys of another keyring that this one lacks. The added keys open and do not seal.
    #[must_use]
    pub(super) fn with_those_of(mut self, other: Self) -> Self {
        for key in other.keys {
            if self.ids().all(|id| id != key.id) {
                self.keys.push(key);
            }
        }
        self
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: KeyringFile = serde_json::from_str(text).map_err(|error| {
            // The parser's own message may quote a line, and the line may contain a key.
            format!(
                "it is not the JSON that `opsadmin keyring init` writes (line {}, column {})",
                error.line(),
                error.column()
            )
        })?;
        let keys: Vec<KeyringKey> = file.keys.iter().map(KeyringFileKey::parse).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err("it has no keys".to_owned());
        }
        Ok(Self { keys, is_placeholder: false })
    }

    /// Returns the contents of a keyring file with this keyring.
    ///
    /// # Panics
    /// Never: strings always serialize.
    pub fn to_json(&self) -> Zeroizing<String> {
        let keys = self.keys.iter().map(KeyringKey::to_file).collect();
        #[expect(clippy::expect_used, reason = "strings always serialize")]
        let json = serde_json::to_string_pretty(&KeyringFile { keys }).expect("strings serialize");
        Zeroizing::new(json + "\n")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl KeyringKey {
    fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { id: id_of(&key), key }
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*self.key))
    }

    fn to_file(&self) -> KeyringFileKey {
        KeyringFileKey { id: self.id.clone(), key: Zeroizing::new(STANDARD.encode(self.key.as_slice())) }
    }
}

impl KeyringFileKey {
    fn parse(&self) -> Result<KeyringKey, String> {
        let bytes = STANDARD.decode(self.key.as_bytes()).map(Zeroizing::new);
        let key = bytes
            .ok()
            .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok())
            .ok_or_else(|| format!("the key {:?} is not {KEY_BYTES} bytes in base64", self.id))?;
        let key = KeyringKey::new(Zeroizing::new(key));
        if key.id != self.id {
            return Err(format!(
                "the key {:?} is not the one its id was made for: one of the two was altered",
                self.id
            ));
        }
        Ok(key)
    }
}

/// Returns the first 64 bits of the key's SHA-256, in hexadecimal.
fn id_of(key: &[u8; KEY_BYTES]) -> String {
    let first = Sha256::digest(key).iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    format!("{first:016x}")
}

/// Returns the associated data of a sealed secret key: the account's id and the key pair's id.
fn associated_data(account: AccountId, key: KeyId) -> [u8; 32] {
    let mut data = [0; 32];
    data[..16].copy_from_slice(account.as_bytes());
    data[16..].copy_from_slice(key.as_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClusterId, KeyEntropy};

    fn ring(byte: u8) -> Keyring {
        Keyring::from_random(Zeroizing::new([byte; KEY_BYTES]))
    }

    fn pair() -> KeyPair {
        let entropy = KeyEntropy { api_key: [2; 16], secret_key: Zeroizing::new([3; 32]) };
        KeyPair::from_entropy(KeyId::from_random([1; 16]), &entropy)
    }

    #[test]
    fn a_sealed_secret_key_opens_only_for_its_account_and_with_its_key() {
        let (here, elsewhere) = (AccountId::from_random([4; 16]), AccountId::from_random([5; 16]));
        let pair = pair();
        let sealed = ring(1).seal(here, pair.id, &pair.secret_key, [6; 12]);
        assert_eq!(ring(1).open(here, pair.id, &sealed).unwrap(), pair.secret_key);
        assert!(matches!(ring(1).open(elsewhere, pair.id, &sealed), Err(KeyringError::Altered { .. })));
        assert!(matches!(ring(2).open(here, pair.id, &sealed), Err(KeyringError::LacksKey { .. })));
        let mut altered = sealed;
        altered.bytes[20] ^= 1;
        assert!(matches!(ring(1).open(here, pair.id, &altered), Err(KeyringError::Altered { .. })));
        altered.bytes.truncate(5);
        assert!(matches!(ring(1).open(here, pair.id, &altered), Err(KeyringError::Altered { .. })));
    }

    #[test]
    fn a_mark_is_valid_only_for_its_owner_and_key_pair_and_needs_the_key() {
        let owner = |name: &str| Owner {
            cluster: ClusterId::parse("here").unwrap(),
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        };
        let (acme, pair) = (owner("acme"), pair());
        let mark = ring(1).mark(&acme, &pair);
        let holds = |ring: &Keyring, mark: &str, owner: &Owner, pair: &KeyPair| {
            ring.verifies_mark(mark, owner, &pair.api_key, &pair.secret_key)
        };
        assert!(holds(&ring(1), mark.as_str(), &acme, &pair));
        let older = ring(2).with_those_of(ring(1));
        assert!(holds(&older, mark.as_str(), &acme, &pair), "one that opens still knows its marks");
        assert_ne!(older.mark(&acme, &pair), mark);
        assert!(!holds(&ring(2), mark.as_str(), &acme, &pair));
        assert!(!holds(&ring(1), mark.as_str(), &owner("other"), &pair));
        let entropy = KeyEntropy { api_key: [2; 16], secret_key: Zeroizing::new([4; 32]) };
        assert!(!holds(&ring(1), mark.as_str(), &acme, &KeyPair::from_entropy(pair.id, &entropy)));
        let (id, code) = Mark::parts(mark.as_str());
        for forged in [id.to_owned(), format!("{id}."), format!("{id}.{}", &code[1..]), "unknown".to_owned()] {
            assert!(!holds(&ring(1), &forged, &acme, &pair), "{forged}");
        }
        assert!(!mark.as_str().contains(&pair.secret_key.expose()[8..20]));
    }

    #[test]
    fn a_secret_key_that_looks_like_an_api_key_opens_too() {
        let account = AccountId::from_random([4; 16]);
        let swapped = SecretKey::stored(pair().api_key.as_str()).unwrap();
        let sealed = ring(1).seal(account, pair().id, &swapped, [6; 12]);
        assert_eq!(ring(1).open(account, pair().id, &sealed).unwrap(), swapped);
    }

    #[test]
    fn a_keyring_is_written_with_mode_0600_and_read_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opsadmin.keyring");
        assert!(matches!(Keyring::load(&path), Err(KeyringError::Missing { .. })));
        ring(1).create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(ring(2).create(&path), Err(KeyringError::Exists { .. })));
        let account = AccountId::from_random([4; 16]);
        let sealed = ring(1).seal(account, pair().id, &pair().secret_key, [6; 12]);
        assert_eq!(Keyring::load(&path).unwrap().open(account, pair().id, &sealed).unwrap(), pair().secret_key);
    }

    #[test]
    fn an_invalid_file_is_refused_without_showing_a_key() {
        let good = ring(1).to_json();
        let key = STANDARD.encode([1; KEY_BYTES]);
        assert!(good.contains(&key));
        let other = STANDARD.encode([2; KEY_BYTES]);
        let cut = &good[..good.len() / 2];
        for (text, reason) in [
            (cut, "it is not the JSON"),
            (good.replace(&key, &other).as_str(), "one of the two was altered"),
            (good.replace(&key, &key[4..]).as_str(), "is not 32 bytes in base64"),
            (r#"{"keys": []}"#, "it has no keys"),
        ] {
            let said = Keyring::parse(text).unwrap_err();
            assert!(said.contains(reason), "{said}");
            assert!(!said.contains(&key[4..12]), "{said}");
        }
    }

    #[test]
    fn check_names_the_missing_keys() {
        let in_use = BTreeSet::from([id_of(&[1; 32]), id_of(&[2; 32])]);
        let said = ring(1).check(&in_use).unwrap_err().to_string();
        assert!(said.contains(&id_of(&[2; 32])) && !said.contains(&id_of(&[1; 32])), "{said}");
        assert!(ring(1).check(&BTreeSet::new()).is_ok());
    }
}
