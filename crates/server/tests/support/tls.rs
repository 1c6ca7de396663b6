//! Certificates of a test's own, and clients that take them.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate and its key in a folder of their own.
pub struct Certificate {
    pub folder: PathBuf,
    pub der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self { der: write(&folder), folder }
    }

    /// Another certificate, in the same files.
    pub fn renew(&mut self) {
        self.der = write(&self.folder);
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    pub fn tls(&self) -> saywhy::Tls {
        saywhy::Tls::from_files(self.file(), self.key()).unwrap()
    }

    /// A connection over TLS that takes this certificate and no other, and offers these protocols.
    pub async fn connect(&self, tcp: TcpStream, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_by(rustls::ALL_VERSIONS, tcp, protocols).await
    }

    pub async fn connect_by(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        tcp: TcpStream,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("app.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn write(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}
