//! An authority made for one test, and certificates of it for the collector and for a sending program.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::process::Command;

/// PEM files: `ca.pem`; `server.pem` and `client.pem`, each with its `-key.pem`.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn make() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: String| {
            fs::write(dir.path().join(name), text).expect("the temporary folder takes files");
        };
        let mut authority = CertificateParams::new([]).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        write("ca.pem", authority.pem());
        for (name, host) in [("server", "127.0.0.1"), ("client", "client")] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}-key.pem"), key.serialize_pem());
        }
        Self(dir)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Has a program trust the authority, and show the client's certificate.
    pub(crate) fn pass_to(&self, command: &mut Command) {
        let file = |name: &str| self.dir().join(name);
        command
            .env("OTEL_EXPORTER_OTLP_CERTIFICATE", file("ca.pem"))
            .env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", file("client.pem"))
            .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", file("client-key.pem"));
    }
}
