//! Locks and changes a keyring file, so that only one program changes it at a time.
//!
//! Without the lock, of two programs that add a key at once, one would overwrite the other's key. Every secret key that
//! is sealed with the overwritten key would then be lost.

use super::keyring::{Keyring, KeyringError};
use std::collections::BTreeSet;
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The mode of the file for removed keys. Other users who may read the keyring need not read removed keys.
const OWNER_ONLY: u32 = 0o600;

/// A keyring and its file. The file is locked until this value is dropped.
#[derive(Debug)]
pub struct LockedKeyring {
    keyring: Keyring,
    /// The path of the file, with symbolic links resolved.
    path: PathBuf,
    file: File,
}

impl LockedKeyring {
    /// Locks the file against changes by other programs, and reads the keyring.
    ///
    /// # Errors
    /// As [`Keyring::load`]; also [`KeyringError::Busy`] if another program is changing the file.
    pub fn take(path: &Path) -> Result<Self, KeyringError> {
        let failed = |reason: io::Error| match reason.kind() {
            io::ErrorKind::NotFound => KeyringError::Missing { path: path.to_owned() },
            _ => KeyringError::File { path: path.to_owned(), reason },
        };
        let busy = || KeyringError::Busy { path: path.to_owned() };
        let path = if path.is_symlink() { path.canonicalize().map_err(failed)? } else { path.to_owned() };
        let file = File::open(&path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => busy(),
            TryLockError::Error(error) => failed(error),
        })?;
        // Another program may have replaced the file after it was opened and before it was locked.
        if file.metadata().map_err(failed)?.ino() != path.metadata().map_err(failed)?.ino() {
            return Err(busy());
        }
        Ok(Self { keyring: Keyring::load(&path)?, path, file })
    }

    /// Returns the keyring that the file holds.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Replaces the file with another keyring. The replacement is atomic even if the program crashes. The new file has
    /// the same owner, group and mode.
    ///
    /// # Errors
    /// [`KeyringError::File`] if the file cannot be written or its owner cannot be kept; [`KeyringError::Changed`] if a
    /// program that ignores the lock has written another keyring to the file.
    pub fn replace(&mut self, keyring: Keyring) -> Result<(), KeyringError> {
        if !Keyring::load(&self.path)?.ids().eq(self.keyring.ids()) {
            return Err(KeyringError::Changed { path: self.path.clone() });
        }
        self.file = self.write(&keyring, &self.path, None)?;
        self.keyring = keyring;
        Ok(())
    }

    /// Removes these keys from the file, except the key that seals. First adds them to the file [`Self::removed`],
    /// because another database may still need them.
    ///
    /// # Errors
    /// As [`Self::replace`]; also if the file for removed keys cannot be read or written.
    pub fn remove(&mut self, ids: &BTreeSet<String>) -> Result<(), KeyringError> {
        let (rest, Some(taken)) = self.keyring.clone().split(ids) else { return Ok(()) };
        let removed = self.removed();
        let all = match Keyring::load(&removed) {
            Err(KeyringError::Missing { .. }) => taken,
            earlier => earlier?.with_those_of(taken),
        };
        self.write(&all, &removed, Some(OWNER_ONLY))?;
        self.replace(rest)
    }

    /// Returns the path of the file for removed keys, beside the keyring's file. The program never uses its keys. A
    /// person can restore a key from it.
    pub fn removed(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".removed");
        path.into()
    }

    /// Writes a keyring to `path` as a new file that is locked before it gets its name. The file has the owner and the
    /// group of the keyring's file, and its mode too if `mode` is `None`.
    fn write(&self, keyring: &Keyring, path: &Path, mode: Option<u32>) -> Result<File, KeyringError> {
        let write = || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut file = NamedTempFile::with_prefix_in(".opsadmin-", folder)?;
            file.as_file().lock()?;
            let (old, new) = (self.file.metadata()?, file.as_file().metadata()?);
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
            file.as_file().set_permissions(Permissions::from_mode(mode.unwrap_or(old.mode() & 0o777)))?;
            file.write_all(keyring.to_json().as_bytes())?;
            file.as_file().sync_all()?;
            let file = file.persist(path)?;
            File::open(folder)?.sync_all()?;
            Ok(file)
        };
        write().map_err(|reason| KeyringError::File { path: path.to_owned(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use zeroize::Zeroizing;

    fn ring(byte: u8) -> Keyring {
        Keyring::from_random(Zeroizing::new([byte; 32]))
    }

    fn ids(keyring: &Keyring) -> Vec<String> {
        keyring.ids().map(str::to_owned).collect()
    }

    #[test]
    fn the_lock_excludes_other_programs_also_after_a_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        ring(1).create(&path).unwrap();
        let mut held = LockedKeyring::take(&path).unwrap();
        for byte in 2..4 {
            assert!(matches!(LockedKeyring::take(&path), Err(KeyringError::Busy { .. })));
            let more = held.keyring().clone().with_another(Zeroizing::new([byte; 32]));
            held.replace(more).unwrap();
        }
        let all = ids(held.keyring());
        drop(held);
        assert_eq!((all.len(), ids(LockedKeyring::take(&path).unwrap().keyring())), (3, all));
    }

    #[test]
    fn a_keyring_that_another_program_wrote_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("keyring"), folder.path().join("other"));
        ring(1).create(&path).unwrap();
        ring(2).create(&other).unwrap();
        let mut held = LockedKeyring::take(&path).unwrap();
        fs::copy(&other, &path).unwrap();
        assert!(matches!(held.replace(ring(3)), Err(KeyringError::Changed { .. })));
        assert_eq!(ids(&Keyring::load(&path).unwrap()), ids(&ring(2)));
    }

    #[test]
    fn a_replacement_keeps_links_and_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("keyring"), folder.path().join("link"));
        ring(1).create(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        LockedKeyring::take(&link).unwrap().replace(ring(2)).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(ids(&Keyring::load(&path).unwrap()), ids(&ring(2)));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        let missing = LockedKeyring::take(&folder.path().join("missing")).unwrap_err();
        assert!(matches!(missing, KeyringError::Missing { .. }));
    }

    #[test]
    fn a_removed_key_is_kept_in_another_file_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("keyring"), folder.path().join("link"));
        let removed = folder.path().join("keyring.removed");
        ring(1).with_another(Zeroizing::new([2; 32])).with_another(Zeroizing::new([3; 32])).create(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        let [first, second, third] = [1, 2, 3].map(|byte| ids(&ring(byte)).remove(0));
        let mut held = LockedKeyring::take(&link).unwrap();
        held.remove(&BTreeSet::from([first.clone()])).unwrap();
        assert!(!removed.exists(), "the key that seals stays");

        for (id, kept, taken) in
            [(&second, vec![&first, &third], vec![&second]), (&third, vec![&first], vec![&second, &third])]
        {
            held.remove(&BTreeSet::from([id.clone()])).unwrap();
            assert_eq!(ids(&Keyring::load(&path).unwrap()).iter().collect::<Vec<_>>(), kept);
            assert_eq!(ids(&Keyring::load(&held.removed()).unwrap()).iter().collect::<Vec<_>>(), taken);
        }
        assert_eq!([&path, &removed].map(|file| file.metadata().unwrap().mode() & 0o777), [0o640, 0o600]);

        // A key is in both files after a crash between the two writes, or after a person restored it.
        held.replace(held.keyring().clone().with_another(Zeroizing::new([3; 32]))).unwrap();
        held.remove(&BTreeSet::from([third.clone()])).unwrap();
        assert_eq!(ids(&Keyring::load(&removed).unwrap()), [second, third]);
    }

    #[test]
    fn a_key_stays_if_the_file_for_removed_keys_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        ring(1).with_another(Zeroizing::new([2; 32])).create(&path).unwrap();
        fs::write(folder.path().join("keyring.removed"), "somebody's notes").unwrap();
        let mut held = LockedKeyring::take(&path).unwrap();
        let refused = held.remove(&ids(&ring(2)).into_iter().collect()).unwrap_err();
        assert!(matches!(refused, KeyringError::Form { .. }), "{refused}");
        assert_eq!(ids(&Keyring::load(&path).unwrap()).len(), 2);
    }
}
