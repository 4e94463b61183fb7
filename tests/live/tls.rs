//! TLS before the stand-in for Datadog's API: keys are sent in the clear to nobody but this machine, and pods are elsewhere.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// A port with TLS, until the test ends.
pub(crate) struct Tls {
    /// Of a URL that begins with `https://HOST:`.
    pub(crate) port: u16,
    /// The authority to trust, as PEM.
    pub(crate) authority: String,
}

impl Tls {
    /// Takes TLS for this host, and passes what comes on to a port of this machine.
    pub(crate) async fn before(host: &str, to: SocketAddr) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([host.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config =
            ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .expect("a certificate with its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust it goes away, and says so itself.
                    let Ok(mut inside) = acceptor.accept(connection).await else { return };
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    let _either_end_went = copy_bidirectional(&mut inside, &mut server).await;
                });
            }
        });
        Self { port, authority: issuer.pem() }
    }
}
