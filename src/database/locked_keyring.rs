//! A keyring's file while one program changes it, and no other does.
//!
//! Two that changed it at once would each write its own new key over the other's, and whatever is sealed with that is lost.

use super::keyring::{Keyring, KeyringError};
use std::collections::BTreeSet;
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The mode of a file for keys that are no longer in use: those who may read the keyring need not read these.
const OWNER_ONLY: u32 = 0o600;

/// A keyring with its file, which is locked for as long as this lives.
#[derive(Debug)]
pub struct LockedKeyring {
    keyring: Keyring,
    /// Where the file itself is, behind every link.
    path: PathBuf,
    file: File,
}

impl LockedKeyring {
    /// Reads the keyring and keeps others from changing it.
    ///
    /// # Errors
    /// As [`Keyring::load`]; [`KeyringError::Busy`] if another program is changing it.
    pub fn take(path: &Path) -> Result<Self, KeyringError> {
        let at = |reason: io::Error| match reason.kind() {
            io::ErrorKind::NotFound => KeyringError::Missing { path: path.to_owned() },
            _ => KeyringError::File { path: path.to_owned(), reason },
        };
        let busy = || KeyringError::Busy { path: path.to_owned() };
        let path = if path.is_symlink() { path.canonicalize().map_err(at)? } else { path.to_owned() };
        let file = File::open(&path).map_err(at)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => busy(),
            TryLockError::Error(error) => at(error),
        })?;
        // Another file stands here if somebody was done with it between the two steps.
        if file.metadata().map_err(at)?.ino() != path.metadata().map_err(at)?.ino() {
            return Err(busy());
        }
        Ok(Self { keyring: Keyring::load(&path)?, path, file })
    }

    /// The keyring as it stands in its file.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Writes another keyring over the file, in one step that a crash leaves undone or done. Who may read it stays.
    ///
    /// # Errors
    /// The file cannot be written, or its owner not kept; [`KeyringError::Changed`] if something that heeds no lock has put
    /// another keyring there.
    pub fn replace(&mut self, keyring: Keyring) -> Result<(), KeyringError> {
        if !Keyring::load(&self.path)?.ids().eq(self.keyring.ids()) {
            return Err(KeyringError::Changed { path: self.path.clone() });
        }
        self.file = self.write(&keyring, &self.path, None)?;
        self.keyring = keyring;
        Ok(())
    }

    /// Takes these keys out, all but the one that seals, once they are in the file for [`Self::removed`] keys: only one
    /// database says that it does not need them.
    ///
    /// # Errors
    /// As [`Self::replace`]; that other file cannot be used.
    pub fn remove(&mut self, ids: &BTreeSet<String>) -> Result<(), KeyringError> {
        let (rest, Some(went)) = self.keyring.clone().split(ids) else { return Ok(()) };
        let removed = self.removed();
        let all = match Keyring::load(&removed) {
            Err(KeyringError::Missing { .. }) => went,
            earlier => earlier?.with_those_of(went),
        };
        self.write(&all, &removed, Some(OWNER_ONLY))?;
        self.replace(rest)
    }

    /// The file beside this one that has the keys that were taken out of it, and that nobody reads but who puts one back.
    pub fn removed(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".removed");
        path.into()
    }

    /// A new file with the owner of the keyring's, locked before anybody sees it; without a mode, with that one's too.
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
    fn one_at_a_time_changes_it_also_after_it_was_replaced() {
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
    fn what_was_put_there_meanwhile_is_not_written_over() {
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
    fn links_and_who_may_read_it_stay() {
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
    fn a_key_that_is_removed_is_kept_beside_for_its_owner_alone() {
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

        for (id, stay, went) in
            [(&second, vec![&first, &third], vec![&second]), (&third, vec![&first], vec![&second, &third])]
        {
            held.remove(&BTreeSet::from([id.clone()])).unwrap();
            assert_eq!(ids(&Keyring::load(&path).unwrap()).iter().collect::<Vec<_>>(), stay);
            assert_eq!(ids(&Keyring::load(&held.removed()).unwrap()).iter().collect::<Vec<_>>(), went);
        }
        assert_eq!([&path, &removed].map(|file| file.metadata().unwrap().mode() & 0o777), [0o640, 0o600]);

        // As after a crash between the two files, or when it was put back.
        held.replace(held.keyring().clone().with_another(Zeroizing::new([3; 32]))).unwrap();
        held.remove(&BTreeSet::from([third.clone()])).unwrap();
        assert_eq!(ids(&Keyring::load(&removed).unwrap()), [second, third]);
    }

    #[test]
    fn a_key_that_cannot_be_kept_is_not_removed() {
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
