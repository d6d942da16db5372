//! Certificate authorities of a test, and what they sign.
//!
//! Who trusts whom is each test's.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::fs;
use std::path::Path;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One of this name; others of the same name are others.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Writes its certificate to `directory/name.pem`.
    pub fn publish(&self, directory: &Path, name: &str) -> &Authority {
        fs::write(directory.join(format!("{name}.pem")), self.0.pem()).expect("a file");
        self
    }

    /// Signs a certificate for these names, and writes it to `directory/name.pem` and its key to `directory/name.key`.
    pub fn sign(&self, directory: &Path, name: &str, common: &str, names: &[&str]) -> &Authority {
        self.sign_until(directory, name, common, names, 2999)
    }

    /// The same with the year in which the certificate expires.
    pub fn sign_until(&self, directory: &Path, name: &str, common: &str, names: &[&str], year: i32) -> &Authority {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        // The key first: whoever reads both finds a pair, or none.
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).expect("a file");
        self
    }
}

/// Names of a server on this machine.
pub const HERE: [&str; 2] = ["localhost", "127.0.0.1"];
