//! Certificates for tests, and what becomes of new ones while a collector runs.

use std::sync::Arc;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{DEADLINE, Rig, answer, intake, request, span_ids, start, until};

/// Certificates of an authority: of a server at 127.0.0.1, and of a client.
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certificates = Self { folder, authority };
        certificates.write("ca.pem", &certificates.authority.pem());
        certificates.renew("server");
        certificates.renew("client");
        certificates
    }

    /// Makes a new certificate and key of this name.
    pub(crate) fn renew(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn der(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(name)).unwrap()
    }

    pub(crate) fn server(&self) -> String {
        format!(
            "{{cert_file: {}, key_file: {}, client_ca_file: {}}}",
            self.path("server.pem"),
            self.path("server.key"),
            self.path("ca.pem")
        )
    }

    pub(crate) fn client(&self) -> String {
        format!(
            "{{cert_file: {}, key_file: {}, ca_file: {}}}",
            self.path("client.pem"),
            self.path("client.key"),
            self.path("ca.pem")
        )
    }

    /// Connects to a port by HTTP/1 over TLS.
    async fn connect(&self, address: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der("ca.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(IpAddr::try_from("127.0.0.1").unwrap());
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Returns the certificate that a port shows to a new connection.
    async fn shown(&self, address: &str) -> CertificateDer<'static> {
        let stream = self.connect(address).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// Sends one request over a connection that stays, and returns the status line.
async fn post(stream: &mut TlsStream<TcpStream>, body: &Bytes) -> String {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut reply = vec![0; 1024];
    let length = stream.read(&mut reply).await.unwrap();
    String::from_utf8_lossy(&reply[..length]).lines().next().unwrap_or_default().to_owned()
}

async fn rig(certificates: &Certificates) -> Rig {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let tls = format!(
        "{{cert_file: {}, key_file: {}, reload_interval: 100ms}}",
        certificates.path("server.pem"),
        certificates.path("server.key")
    );
    let settings =
        ["grpc", "http"].map(|protocol| format!("receivers.otlp.protocols.{protocol}.tls={tls}"));
    start(intake, &settings.each_ref().map(String::as_str), DEADLINE).await
}

async fn reloads(rig: &Rig, outcome: &str) -> u64 {
    let text = rig.metrics().await;
    let series = text.lines().filter(|line| {
        line.starts_with("otelcol_file_reloads") && line.contains(&format!("outcome=\"{outcome}\""))
    });
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_the_others_go_on() {
    let certificates = Certificates::make();
    let rig = rig(&certificates).await;
    let ports = [rig.address("otlp-http"), rig.address("otlp-grpc")];
    let first = certificates.der("server.pem");
    let mut old = certificates.connect(&ports[0]).await;
    assert_eq!(post(&mut old, &request([1])).await, "HTTP/1.1 200 OK");
    for port in &ports {
        assert_eq!(certificates.shown(port).await, first);
    }

    certificates.renew("server");
    let second = certificates.der("server.pem");
    for port in &ports {
        until("the new one is shown", async || certificates.shown(port).await == second).await;
    }
    assert_eq!(post(&mut old, &request([2])).await, "HTTP/1.1 200 OK", "it goes on");
    until("both are sent", async || span_ids(&rig.attempts().await) == [1, 2]).await;
    assert!(reloads(&rig, "success").await >= 2);

    // One that cannot be used, and then one whose key is another's.
    let before = reloads(&rig, "failure").await;
    certificates.write("server.pem", "nonsense");
    until("both ports count it", async || reloads(&rig, "failure").await >= before + 2).await;
    assert_eq!(certificates.shown(&ports[0]).await, second);
    let before = reloads(&rig, "failure").await;
    certificates.renew("server");
    certificates
        .write("server.key", &std::fs::read_to_string(certificates.path("client.key")).unwrap());
    until("both ports count it", async || reloads(&rig, "failure").await >= before + 4).await;
    assert_eq!(certificates.shown(&ports[1]).await, second);
    certificates.renew("server");
    let third = certificates.der("server.pem");
    until("it is mended", async || certificates.shown(&ports[1]).await == third).await;
}

#[tokio::test]
async fn authorities_of_clients_and_certificates_of_exporters_are_read_again() {
    let certificates = Certificates::make();
    let second = {
        let intake = intake().await;
        answer(&intake, 202, u64::MAX).await;
        let tls = certificates.server().replace('}', ", client_ca_file_reload: true}");
        start(intake, &[&format!("receivers.otlp.protocols.grpc.tls={tls}")], DEADLINE).await
    };
    let client = certificates.client().replace('}', ", reload_interval: 1ms}");
    let settings = [
        &format!("exporters.otlp.endpoint={}", second.address("otlp-grpc")),
        &format!("exporters.otlp.tls={client}"),
        "exporters.otlp.retry_on_failure={initial_interval: 10ms, max_interval: 20ms}",
        "service.pipelines.traces.exporters=[otlp]",
    ];
    // Its own certificate is of another authority at first, until it is renewed.
    let other = Certificates::make();
    let (pem, key) = (other.path("client.pem"), other.path("client.key"));
    let stranger = client
        .replace(&certificates.path("client.pem"), &pem)
        .replace(&certificates.path("client.key"), &key);
    let first = start(
        intake().await,
        &[settings[0], &format!("exporters.otlp.tls={stranger}"), settings[2], settings[3]],
        DEADLINE,
    )
    .await;
    first.send(request([1])).await;
    until("refused", async || first.metric("otelcol_exporter_send_failed_spans").await > 1).await;
    for (from, to) in [("client.pem", &pem), ("client.key", &key)] {
        std::fs::copy(certificates.path(from), to).unwrap();
    }
    until("taken", async || span_ids(&second.attempts().await) == [1]).await;
    assert!(first.stop().await.0.is_clean());

    // Now the server trusts the other authority instead.
    certificates.write("ca.pem.new", &std::fs::read_to_string(other.path("ca.pem")).unwrap());
    let trusted = certificates.path("ca.pem");
    std::fs::copy(&trusted, certificates.path("ca.pem.old")).unwrap();
    std::fs::rename(certificates.path("ca.pem.new"), &trusted).unwrap();
    other.renew("client");
    let stranger = stranger.replace(&trusted, &certificates.path("ca.pem.old"));
    let first = start(
        intake().await,
        &[settings[0], &format!("exporters.otlp.tls={stranger}"), settings[2], settings[3]],
        DEADLINE,
    )
    .await;
    first.send(request([2])).await;
    until("taken", async || span_ids(&second.attempts().await) == [1, 2]).await;
    assert!(first.stop().await.0.is_clean());
}
