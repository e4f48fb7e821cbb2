//! The store of Secrets as manifests in a directory, for use without a cluster. Each file is ready for `kubectl apply`.
//!
//! Files are named `NAMESPACE.NAME.yaml`, are readable by their owner only, and are replaced as a whole, so that a
//! crash leaves either the old or the new file. File access is blocking, because files are small and local.

use super::{
    FoundSecret, Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef, SecretStore, Stored, VerifiedSecret,
};
use crate::account::Owner;
use crate::api::OWNER_ANNOTATION;
use crate::yaml;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// A directory of Secret manifests.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The Secrets of each owner. The directory is read only once, because it may hold thousands of files.
    owners: Mutex<HashMap<Owner, Vec<SecretRef>>>,
}

impl Directory {
    /// Opens this directory. If it does not exist, it is created with access for its owner only.
    ///
    /// # Errors
    /// [`SecretError::File`] if the directory cannot be created or read.
    pub fn open(path: &Path) -> Result<Self, SecretError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| at(path, &error))?;
        Self::open_to_read(path)
    }

    /// Opens this directory. A missing directory counts as empty and is not created.
    ///
    /// # Errors
    /// [`SecretError::File`] if the directory cannot be read.
    pub fn open_to_read(path: &Path) -> Result<Self, SecretError> {
        let directory = Self { path: path.to_owned(), owners: Mutex::default() };
        let mut owners: HashMap<Owner, Vec<SecretRef>> = HashMap::new();
        let entries = match path.read_dir() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(directory),
            entries => entries.map_err(|error| at(path, &error))?,
        };
        for entry in entries {
            let file = entry.map_err(|error| at(path, &error))?.path();
            if let Some((owner, secret)) = owner_of(&file)? {
                owners.entry(owner).or_default().push(secret);
            }
        }
        *directory.owners() = owners;
        Ok(directory)
    }

    /// Returns the owners of Secrets in the directory that fulfil `is_wanted`.
    pub fn owners_of_secrets(&self, is_wanted: impl Fn(&Owner) -> bool) -> Vec<Owner> {
        let owners = self.owners();
        let with = owners.iter().filter(|(owner, secrets)| !secrets.is_empty() && is_wanted(owner));
        with.map(|(owner, _)| owner.clone()).collect()
    }

    fn file(&self, at: &SecretRef) -> PathBuf {
        self.path.join(format!("{}.{}.yaml", at.namespace, at.name))
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn owners(&self) -> MutexGuard<'_, HashMap<Owner, Vec<SecretRef>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, secret: &Secret) -> Result<NamedTempFile, SecretError> {
        let text = yaml::to_string(secret).map(Zeroizing::new);
        let text = text.map_err(|error| SecretError::File { path: self.path.clone(), reason: error.to_string() })?;
        NamedTempFile::with_prefix_in(".opsadmin-", &self.path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.as_file().sync_all()?;
                Ok(file)
            })
            .map_err(|error| at(&self.path, &error))
    }
}

#[async_trait]
impl SecretStore for Directory {
    async fn find(&self, place: &SecretRef, _verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError> {
        let file = self.file(place);
        match std::fs::read_to_string(&file).map(Zeroizing::new) {
            Err(error) if error.kind() == ErrorKind::NotFound && !file.is_symlink() => Ok(Lookup::Absent),
            Err(error) => Err(at(&file, &error)),
            Ok(text) => Ok(Lookup::Found(Box::new(FoundSecret::new(place.clone(), parse(&file, &text)?)))),
        }
    }

    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError> {
        Ok(self.owners().get(&wanted.owner).cloned().unwrap_or_default())
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        let file = self.file(&manifest.at);
        self.write(&manifest.to_secret())?.persist_noclobber(&file).map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => SecretError::Exists(manifest.at.clone()),
            _ => at(&file, &error.error),
        })?;
        self.owners().entry(manifest.identity.owner.clone()).or_default().push(manifest.at.clone());
        Ok(Stored::default())
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        let file = self.file(&manifest.at);
        self.write(&found.corrected(manifest))?.persist(&file).map_err(|error| at(&file, &error.error))?;
        Ok(Stored::default())
    }

    async fn remove(&self, place: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        let is_own = match self.find(place, None).await? {
            Lookup::Found(found) => of.check(found.metadata()).is_ok(),
            Lookup::Absent | Lookup::Unchanged => false,
        };
        if is_own {
            let file = self.file(place);
            std::fs::remove_file(&file).map_err(|error| at(&file, &error))?;
        }
        if let Some(secrets) = self.owners().get_mut(&of.owner) {
            secrets.retain(|secret| secret != place);
        }
        Ok(is_own)
    }

    /// Does nothing: without a cluster there is no garbage collector.
    async fn release(&self, _place: &SecretRef, _of: &ResourceIdentity) -> Result<bool, SecretError> {
        Ok(false)
    }
}

/// Returns the owner and place of the Secret in a file, if the file has the name and contents of a Secret of this
/// program. Other files are ignored. If another file has the name of an account's Secret, [`SecretStore::find`] reports
/// it.
fn owner_of(file: &Path) -> Result<Option<(Owner, SecretRef)>, SecretError> {
    let Some(at) = place_of(file).filter(|_| file.is_file()) else {
        return Ok(None);
    };
    let text = match std::fs::read_to_string(file).map(Zeroizing::new) {
        Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(None),
        text => text.map_err(|error| self::at(file, &error))?,
    };
    let Ok(secret) = serde_saphyr::from_str::<Secret>(&text) else {
        return Ok(None);
    };
    let noted = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(OWNER_ANNOTATION));
    let Some(owner) = noted.and_then(|noted| Owner::parse(noted)) else {
        return Ok(None);
    };
    let identity = ResourceIdentity { owner, uid: None };
    let is_own = identity.check(&secret.metadata).is_ok();
    Ok(is_own.then_some((identity.owner, at)))
}

/// Returns the place of the Secret that a file of this name holds.
fn place_of(file: &Path) -> Option<SecretRef> {
    let stem = file.file_name()?.to_str()?.strip_suffix(".yaml")?;
    let (namespace, name) = stem.split_once('.').filter(|(namespace, _)| !namespace.is_empty())?;
    Some(SecretRef { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// Parses a Secret. The error contains only the line, because the parser's message could quote the data.
fn parse(file: &Path, text: &str) -> Result<Secret, SecretError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| format!(" (line {})", location.line())).unwrap_or_default();
        SecretError::File { path: file.to_owned(), reason: format!("it is not a Secret manifest{line}; move it away") }
    })
}

fn at(path: &Path, error: &io::Error) -> SecretError {
    SecretError::File { path: path.to_owned(), reason: error.to_string() }
}
