//! A temporary certificate authority for one control plane.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The certificate authority that a control plane and its clients trust.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, in PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// Creates an authority with a new key.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "opsadmin-suite");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = new_key();
        let certificate = params.self_signed(&key).expect("a CA certificate can be signed");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Returns the certificate of the authority, in PEM.
    pub fn certificate(&self) -> String {
        self.certificate.pem()
    }

    /// Signs a certificate for a server with these DNS names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are DNS names or addresses");
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Signs a certificate for a client that the API server authenticates as `user`, and as a member of `group` if it
    /// is given.
    pub fn client(&self, user: &str, group: Option<&str>) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Pair {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Generates a private key.
pub fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system gives random numbers")
}
