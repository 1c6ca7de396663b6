//! Outgoing HTTP, but for handshakes with upstreams: one request, one answer of a bounded size within a bounded time, and no redirects, so that
//! nobody is asked but whom the operator named.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::Scheme;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;
use std::{fmt, io};
use tokio::time::timeout;

/// A client of other servers.
pub(crate) struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    /// From the request to the last byte of the answer.
    pub(crate) time: Duration,
    /// Bytes of its body.
    pub(crate) bytes: usize,
}

/// Why there is no answer. Its words are for the log.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The request is none that could be sent.
    Request(http::Error),
    /// There was no connection, or it broke.
    Connection(hyper_util::client::legacy::Error),
    /// The body broke off.
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The body has more bytes than this.
    TooLong(usize),
    /// It took longer than this.
    TooLate(Duration),
    /// Another status than 200. A redirect is one, too.
    Status(StatusCode),
}

impl Fetch {
    /// A client that trusts whom this machine trusts.
    ///
    /// # Errors
    /// When the certificates of the machine cannot be read, or there are none.
    pub(crate) fn for_scheme(uri: &Uri) -> io::Result<Self> {
        let tls = HttpsConnectorBuilder::new();
        let tls = if uri.scheme() == Some(&Scheme::HTTP) {
            // Without TLS nobody has to be trusted, and a machine may have no certificates at all.
            tls.with_tls_config(without_roots()?)
        } else {
            tls.with_provider_and_native_roots(provider())?
        };
        let connector = tls.https_or_http().enable_http1().build();
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(30)).pool_max_idle_per_host(4);
        Ok(Self { client: client.build(connector) })
    }

    /// The body of what is there.
    pub(crate) async fn get(&self, uri: &Uri, accept: &str, limits: FetchLimits) -> Result<Bytes, FetchError> {
        let request = Request::get(uri).header(http::header::ACCEPT, accept).body(Full::default());
        let request = request.map_err(FetchError::Request)?;
        let answer = timeout(limits.time, self.send(request, limits.bytes));
        answer.await.unwrap_or(Err(FetchError::TooLate(limits.time)))
    }

    /// What becomes of a question in JSON: the status, and the headers beside it.
    pub(crate) async fn post(
        &self,
        uri: &Uri,
        json: String,
        limits: FetchLimits,
    ) -> Result<(StatusCode, HeaderMap), FetchError> {
        let request = Request::post(uri).header(CONTENT_TYPE, "application/json").body(Full::from(json));
        let request = request.map_err(FetchError::Request)?;
        let asked = async {
            let response = self.client.request(request).await.map_err(FetchError::Connection)?;
            let (answer, body) = response.into_parts();
            // The answer is known. With all of its body the connection can be used again; else it ends here.
            drop(Limited::new(body, limits.bytes).collect().await);
            Ok((answer.status, answer.headers))
        };
        timeout(limits.time, asked).await.unwrap_or(Err(FetchError::TooLate(limits.time)))
    }

    async fn send(&self, request: Request<Full<Bytes>>, most: usize) -> Result<Bytes, FetchError> {
        let response = self.client.request(request).await.map_err(FetchError::Connection)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => FetchError::TooLong(most),
            Err(error) => FetchError::Body(error),
        })
    }
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn without_roots() -> io::Result<rustls::ClientConfig> {
    let config = rustls::ClientConfig::builder_with_provider(provider().into()).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(_) => f.write_str("the request cannot be sent"),
            Self::Connection(_) => f.write_str("no connection"),
            Self::Body(_) => f.write_str("the answer broke off"),
            Self::TooLong(most) => write!(f, "the answer has more than {most} bytes"),
            Self::TooLate(time) => write!(f, "no answer within {time:?}"),
            Self::Status(status) if status.is_redirection() => {
                write!(f, "the answer is {status}, and redirects are not followed")
            }
            Self::Status(status) => write!(f, "the answer is {status}"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Request(error) => Some(error),
            Self::Connection(error) => Some(error),
            Self::Body(error) => Some(&**error),
            Self::TooLong(_) | Self::TooLate(_) | Self::Status(_) => None,
        }
    }
}
