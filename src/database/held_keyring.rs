//! A keyring's file while one program changes it, and no other does.
//!
//! Two that changed it at once would each write its own new key over the other's, and whatever is sealed with that is lost.

use super::keyring::{Keyring, KeyringError};
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A keyring with its file, which is locked for as long as this lives.
#[derive(Debug)]
pub struct HeldKeyring {
    keyring: Keyring,
    /// Where the file itself is, behind every link.
    path: PathBuf,
    file: File,
}

impl HeldKeyring {
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
        let path = path.canonicalize().map_err(at)?;
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
        self.file = self.write(&keyring).map_err(|reason| KeyringError::File { path: self.path.clone(), reason })?;
        self.keyring = keyring;
        Ok(())
    }

    /// The new file, locked before anybody sees it.
    fn write(&self, keyring: &Keyring) -> io::Result<File> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let mut file = NamedTempFile::with_prefix_in(".opsadmin-", folder)?;
        file.as_file().lock()?;
        let (old, new) = (self.file.metadata()?, file.as_file().metadata()?);
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        file.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        file.write_all(keyring.to_json().as_bytes())?;
        file.as_file().sync_all()?;
        let file = file.persist(&self.path)?;
        fs::File::open(folder)?.sync_all()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let mut held = HeldKeyring::take(&path).unwrap();
        for byte in 2..4 {
            assert!(matches!(HeldKeyring::take(&path), Err(KeyringError::Busy { .. })));
            let more = held.keyring().clone().with_another(Zeroizing::new([byte; 32]));
            held.replace(more).unwrap();
        }
        let all = ids(held.keyring());
        drop(held);
        assert_eq!((all.len(), ids(HeldKeyring::take(&path).unwrap().keyring())), (3, all));
    }

    #[test]
    fn what_was_put_there_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("keyring"), folder.path().join("other"));
        ring(1).create(&path).unwrap();
        ring(2).create(&other).unwrap();
        let mut held = HeldKeyring::take(&path).unwrap();
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
        HeldKeyring::take(&link).unwrap().replace(ring(2)).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(ids(&Keyring::load(&path).unwrap()), ids(&ring(2)));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        let missing = HeldKeyring::take(&folder.path().join("missing")).unwrap_err();
        assert!(matches!(missing, KeyringError::Missing { .. }));
    }
}
