//! The files with the certificate and the private key of a server: reads them and makes of them what TLS needs.

use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use zeroize::Zeroizing;

/// The files of `--tls-certificate` and `--tls-key`, in PEM (RFC 7468).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The file with the server's certificate, followed by the intermediate certificates.
    pub certificate: PathBuf,
    /// The file with the private key, in PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: PathBuf,
}

/// What is wrong with the files of a certificate and its private key. No variant shows a key.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}; correct {option}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The option that names the file.
        option: &'static str,
        /// The operating system's error. It is not the error's source, because then a message that shows sources would
        /// show it twice.
        reason: io::Error,
    },
    /// The file has no certificate.
    #[error(
        "{} has no certificate ({reason}); --tls-certificate names a file in PEM with the server's certificate, followed by the intermediate certificates",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with the text.
        reason: pem::Error,
    },
    /// The file has no private key.
    #[error(
        "{} has no private key that can be used ({reason}); --tls-key names a file in PEM with the private key of the certificate, in PKCS #8, PKCS #1 or SEC 1, without a passphrase",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with the text.
        reason: pem::Error,
    },
    /// The certificate is for another private key.
    #[error(
        "the certificate in {} is not for the private key in {}; give --tls-certificate and --tls-key two files that belong together, with the server's certificate first in its file",
        files.certificate.display(),
        files.key.display()
    )]
    Mismatch {
        /// The files.
        files: TlsFiles,
    },
    /// The certificate or the private key is of a kind that TLS cannot use here.
    #[error(
        "cannot use the certificate in {} with the private key in {}: {reason}; have a certificate issued for an ECDSA key (P-256 or P-384), an Ed25519 key, or an RSA key of 2048 bits or more",
        files.certificate.display(),
        files.key.display()
    )]
    Unusable {
        /// The files.
        files: TlsFiles,
        /// What is wrong. It is not the error's source, for the same reason as above.
        reason: rustls::Error,
    },
}

/// What was read from the files.
pub(super) struct Loaded {
    pub config: Arc<ServerConfig>,
    pub fingerprint: Fingerprint,
}

/// A hash over the contents of both files. It shows whether they have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl TlsFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// A file cannot be read, has not what it should have, or the two do not belong together.
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let certificate = read(&self.certificate, "--tls-certificate")?;
        let key = read(&self.key, "--tls-key")?;
        let chain = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(|reason| TlsError::NoCertificate { path: self.certificate.clone(), reason })?;
        let private_key =
            PrivateKeyDer::from_pem_slice(&key).map_err(|reason| TlsError::NoKey { path: self.key.clone(), reason })?;
        let config = config(chain, private_key).map_err(|reason| match reason {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { files: self.clone() }
            }
            reason => TlsError::Unusable { files: self.clone(), reason },
        })?;
        Ok(Loaded { config: Arc::new(config), fingerprint: Fingerprint::of(&certificate, &key) })
    }
}

impl Fingerprint {
    fn of(certificate: &[u8], key: &[u8]) -> Self {
        let both = Sha256::new().chain_update(Sha256::digest(certificate)).chain_update(Sha256::digest(key));
        Self(both.finalize().into())
    }
}

fn read(path: &Path, option: &'static str) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let contents = std::fs::read(path).map(Zeroizing::new);
    contents.map_err(|reason| TlsError::Unreadable { path: path.to_owned(), option, reason })
}

/// Returns the settings of a server with this certificate: TLS 1.2 and 1.3 by ring, and HTTP/1.1 as the one protocol
/// (RFC 7301).
fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_client::Identity;
    use std::fs;

    /// Returns the error of these contents.
    fn refusal(certificate: &str, key: &str) -> TlsError {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        files.load().err().expect("it is refused")
    }

    #[test]
    fn each_mistake_is_refused_with_what_to_do_and_without_the_key() {
        let (one, other) = (Identity::new(), Identity::new());
        let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let cut = &one.certificate[..one.certificate.len() / 2];
        let altered = one.certificate.replace("\nMII", "\nAAA");
        let cases = [
            (one.certificate.as_str(), other.key.as_str(), "two files that belong together"),
            ("", &one.key, "has no certificate"),
            (&one.key, &one.key, "has no certificate"),
            (cut, &one.key, "has no certificate"),
            (&one.certificate, "", "has no private key"),
            (&one.certificate, &one.certificate, "has no private key"),
            (&one.certificate, &encrypted, "without a passphrase"),
            (&altered, &one.key, "have a certificate issued"),
        ];
        for (certificate, key, advice) in cases {
            let error = refusal(certificate, key);
            assert!(error.to_string().contains(advice), "{advice}: {error}");
            let secret = other.key.lines().chain(one.key.lines()).filter(|line| !line.starts_with("---"));
            for line in secret {
                assert!(!error.to_string().contains(line) && !format!("{error:?}").contains(line), "{error:?}");
            }
        }
    }

    #[test]
    fn a_missing_file_is_refused_with_its_option() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let error = files.load().err().unwrap().to_string();
        assert!(error.contains("tls.crt") && error.ends_with("correct --tls-certificate"), "{error}");
        fs::write(&files.certificate, Identity::new().certificate).unwrap();
        let error = files.load().err().unwrap().to_string();
        assert!(error.contains("tls.key") && error.ends_with("correct --tls-key"), "{error}");
    }
}
