//! TLS: a certificate and its key from files, which may change while connections stand.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;
use tokio_rustls::TlsAcceptor;

/// Bytes of a file of certificates, or of a key.
const FILE_MOST: u64 = 1024 * 1024;

/// A certificate and its key. Clones are the same: a [`Tls::reload`] is for all of them, and for connections that come
/// after it. Those that stand keep what they began with.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Files>);

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    /// The files as they were when they were last read, whatever came of it.
    read: Mutex<Marks>,
}

/// What is shown to whoever connects now.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

/// What of a file changes when it is written or replaced; `None` when it cannot be looked at.
type Mark = Option<(SystemTime, u64)>;
type Marks = [Mark; 2];

/// Why a certificate cannot be served with.
#[derive(Debug)]
pub enum TlsProblem {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file has nothing of what it is to hold, or is no PEM.
    Pem {
        /// The file.
        file: PathBuf,
        /// A certificate or a private key.
        wanted: &'static str,
    },
    /// The file of the certificate holds something else between its lines.
    Certificate {
        /// The file.
        file: PathBuf,
    },
    /// The key is of a kind that cannot sign.
    Key {
        /// The file.
        file: PathBuf,
    },
    /// Key and certificate do not belong together.
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl TlsProblem {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "is the path right, and may the server read the file?",
            Self::Pem { wanted: "private key", .. } => {
                "it begins with `-----BEGIN PRIVATE KEY-----`, without a password"
            }
            Self::Pem { .. } => {
                "it begins with `-----BEGIN CERTIFICATE-----`: the server's own first, then those up to the root"
            }
            Self::Certificate { .. } => {
                "`openssl x509 -in FILE -noout -text` shows what it is; the server's own certificate is first"
            }
            Self::Key { .. } => "RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, and Ed25519 can sign",
            Self::Mismatch { .. } => "the first certificate of the file has to be the one that was made for this key",
        }
    }

    /// Whether it is about the file of the key.
    pub fn is_about_key(&self, key: &Path) -> bool {
        match self {
            Self::Unreadable { file, .. }
            | Self::Pem { file, .. }
            | Self::Certificate { file }
            | Self::Key { file } => file == key,
            Self::Mismatch { .. } => true,
        }
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(f, "cannot read {}: {error}", file.display()),
            Self::Pem { file, wanted } => write!(f, "there is no {wanted} in PEM in {}", file.display()),
            Self::Certificate { file } => write!(f, "the first certificate in {} cannot be understood", file.display()),
            Self::Key { file } => write!(f, "the private key in {} is of no kind that TLS can use", file.display()),
            Self::Mismatch { certificate, key } => {
                write!(f, "the key in {} is not that of the certificate in {}", key.display(), certificate.display())
            }
        }
    }
}

impl std::error::Error for TlsProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            Self::Pem { .. } | Self::Certificate { .. } | Self::Key { .. } | Self::Mismatch { .. } => None,
        }
    }
}

impl Tls {
    /// Certificates in PEM, the server's own first, and the private key of that one.
    ///
    /// # Errors
    /// [`TlsProblem`] when the files cannot be read, are not in PEM, or do not belong together.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsProblem> {
        let (certificate, key) = (certificate.into(), key.into());
        let read = [mark(&certificate), mark(&key)];
        let current = Arc::new(Current(RwLock::new(Arc::new(read_both(&certificate, &key)?))));
        Ok(Self(Arc::new(Files { certificate, key, current, read: Mutex::new(read) })))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`Tls::from_files`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsProblem> {
        let files = &*self.0;
        // Before the files are read: what is written meanwhile is seen as a change the next time.
        self.has_changed();
        let new = Arc::new(read_both(&files.certificate, &files.key)?);
        *files.current.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether a file has changed since it was last looked at, by this or by [`Tls::reload`].
    pub fn has_changed(&self) -> bool {
        let files = &*self.0;
        let now = [mark(&files.certificate), mark(&files.key)];
        let before = std::mem::replace(&mut *files.read.lock().unwrap_or_else(PoisonError::into_inner), now);
        before != now
    }

    /// What takes connections, and agrees on one of these protocols of HTTP (RFC 7301).
    pub(crate) fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let versions = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("the provider has suites for TLS 1.2 and for TLS 1.3"));
        let resolver = Arc::<Current>::clone(&self.0.current);
        let mut config = versions.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn mark(file: &Path) -> Mark {
    let about = std::fs::metadata(file).ok()?;
    Some((about.modified().ok()?, about.len()))
}

fn read_both(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsProblem> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let no_pem = |file: &Path, wanted| TlsProblem::Pem { file: file.into(), wanted };
    let chain = chain.ok_or_else(|| no_pem(certificate, "certificate"))?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|_| no_pem(key, "private key"))?;
    let private = provider().key_provider.load_private_key(private);
    let private = private.map_err(|_| TlsProblem::Key { file: key.into() })?;
    let both = CertifiedKey::new(chain, private);
    match both.keys_match() {
        Ok(()) => Ok(both),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsProblem::Mismatch { certificate: certificate.into(), key: key.into() })
        }
        // It is about the certificate alone: the key was understood.
        Err(_) => Err(TlsProblem::Certificate { file: certificate.into() }),
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, TlsProblem> {
    let unreadable = |error| TlsProblem::Unreadable { file: file.into(), error };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(FILE_MOST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MOST {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")));
    }
    Ok(bytes)
}
