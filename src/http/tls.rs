//! The certificate that a server uses, and that follows its files.
//!
//! The files are read again and again, so that a renewed certificate needs no restart. They are compared by their
//! contents, because a mounted Secret changes by a symbolic link above the files.

use super::tls_files::{Fingerprint, Loaded, TlsError, TlsFiles};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// The time between two reads of the files.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The certificate and private key in use. Several servers can share them.
pub struct Tls {
    config: RwLock<Arc<ServerConfig>>,
    is_refused: AtomicBool,
}

impl Tls {
    /// Reads the files, and follows them for as long as somebody uses the result. Must be called in a runtime.
    ///
    /// # Errors
    /// A file cannot be read, has not what it should have, or the two do not belong together.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let (tls, follower) = Self::with_follower(files)?;
        tokio::spawn(follower.run(READ_EVERY));
        Ok(tls)
    }

    fn with_follower(files: TlsFiles) -> Result<(Arc<Self>, Follower), TlsError> {
        let Loaded { config, fingerprint } = files.load()?;
        let tls = Arc::new(Self { config: RwLock::new(config), is_refused: AtomicBool::new(false) });
        let follower = Follower { tls: Arc::downgrade(&tls), files, used: fingerprint, last: None, reported: None };
        Ok((tls, follower))
    }

    /// Returns whether the files have changed to something that cannot be used, so that the former certificate is still
    /// in use. It will expire.
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Returns what makes the next handshake, with the present certificate.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn replace(&self, config: Arc<ServerConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("is_refused", &self.is_refused()).finish_non_exhaustive()
    }
}

/// Keeps a certificate as in its files.
struct Follower {
    tls: Weak<Tls>,
    files: TlsFiles,
    used: Fingerprint,
    /// Why the last read was refused; `None` if it was not.
    last: Option<String>,
    /// The refusal that was reported last; `None` since the files can be used.
    reported: Option<String>,
}

impl Follower {
    /// Runs until nobody uses the certificate any more.
    async fn run(mut self, every: Duration) {
        loop {
            sleep(every).await;
            let Some(tls) = self.tls.upgrade() else { return };
            self.check(&tls).await;
        }
    }

    /// Reads the files once, and uses their certificate if they have changed.
    async fn check(&mut self, tls: &Tls) {
        let files = self.files.clone();
        match spawn_blocking(move || files.load()).await {
            Ok(Ok(loaded)) => self.accept(tls, loaded),
            Ok(Err(error)) => self.refuse(tls, error.to_string()),
            Err(error) => {
                tracing::error!(%error, "the files of the certificate could not be read, which is a bug in opsadmin");
            }
        }
    }

    fn accept(&mut self, tls: &Tls, loaded: Loaded) {
        if loaded.fingerprint != self.used {
            tls.replace(loaded.config);
            self.used = loaded.fingerprint;
            tracing::info!(
                certificate = %self.files.certificate.display(),
                "the certificate's files have changed, and new connections use the new certificate"
            );
        }
        (self.last, self.reported) = (None, None);
        tls.is_refused.store(false, Ordering::Relaxed);
    }

    /// Keeps the former certificate. A read can fall between the replacements of the two files, so a refusal is reported
    /// only when the next read confirms it. Each refusal is logged once.
    fn refuse(&mut self, tls: &Tls, refusal: String) {
        let is_confirmed = self.last.as_ref() == Some(&refusal);
        if is_confirmed && self.reported.as_ref() != Some(&refusal) {
            tls.is_refused.store(true, Ordering::Relaxed);
            tracing::error!(
                "the certificate's files have changed and are not used, and the former certificate stays in use: {refusal}"
            );
            self.reported = Some(refusal.clone());
        }
        self.last = Some(refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_client::{Identity, Mounted, handshake, soon, tls_server};

    #[tokio::test]
    async fn new_connections_use_the_new_certificate_after_a_mounted_secret_has_changed() {
        let (before, after) = (Identity::new(), Identity::new());
        let mounted = Mounted::new(&before);
        let (tls, mut follower) = Tls::with_follower(mounted.files()).unwrap();
        let address = tls_server(&tls).await;
        assert_eq!(handshake(address, &[&before, &after], b"http/1.1").await.unwrap(), before.der());
        follower.check(&tls).await;
        assert_eq!(handshake(address, &[&before, &after], b"http/1.1").await.unwrap(), before.der());
        mounted.replace(&after.certificate, &after.key);
        follower.check(&tls).await;
        assert_eq!(handshake(address, &[&before, &after], b"http/1.1").await.unwrap(), after.der());
        assert!(!tls.is_refused());
    }

    #[tokio::test]
    async fn a_wrong_new_file_keeps_the_former_certificate_until_it_is_corrected() {
        let (before, after) = (Identity::new(), Identity::new());
        let mounted = Mounted::new(&before);
        let (tls, mut follower) = Tls::with_follower(mounted.files()).unwrap();
        let address = tls_server(&tls).await;
        for wrong in [after.key.as_str(), "no PEM"] {
            mounted.replace(&after.certificate, &before.key);
            follower.check(&tls).await;
            assert!(!tls.is_refused(), "the key may follow");
            mounted.replace(wrong, &before.key);
            follower.check(&tls).await;
            follower.check(&tls).await;
            assert!(tls.is_refused());
            assert_eq!(handshake(address, &[&before, &after], b"http/1.1").await.unwrap(), before.der());
            mounted.replace(&before.certificate, &before.key);
            follower.check(&tls).await;
            assert!(!tls.is_refused());
        }
        mounted.replace(&after.certificate, &after.key);
        follower.check(&tls).await;
        assert_eq!(handshake(address, &[&before, &after], b"http/1.1").await.unwrap(), after.der());
    }

    #[tokio::test]
    async fn the_files_are_followed_until_the_certificate_is_dropped() {
        let (before, after) = (Identity::new(), Identity::new());
        let mounted = Mounted::new(&before);
        let (tls, follower) = Tls::with_follower(mounted.files()).unwrap();
        let following = tokio::spawn(follower.run(Duration::from_millis(1)));
        let former = Arc::downgrade(&tls.config.read().unwrap());
        mounted.replace(&after.certificate, &after.key);
        let replaced = async {
            while former.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        soon(replaced).await;
        drop(tls);
        soon(following).await.unwrap();
    }

    #[test]
    fn debug_output_has_no_key() {
        let mounted = Mounted::new(&Identity::new());
        let (tls, _follower) = Tls::with_follower(mounted.files()).unwrap();
        assert_eq!(format!("{tls:?}"), "Tls { is_refused: false, .. }");
    }
}
