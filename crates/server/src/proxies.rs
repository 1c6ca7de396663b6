//! Proxies in front: which are believed about where a connection comes from, in the PROXY protocol and in headers.

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use ppp::{v1, v2};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Which proxies are believed, and about what. By default none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Where they connect from. Whatever others say about themselves is not looked at.
    pub trusted: Vec<Network>,
    /// They begin each connection with a header of the PROXY protocol, version 1 or 2; one without it is ended.
    pub proxy_protocol: bool,
    /// The header in which they say who connected to them.
    pub header: ForwardedHeader,
}

/// The header in which a proxy says who connected to it. Only one is looked at: another may be a client's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// None.
    None,
}

/// A range of addresses: `10.0.0.0/8`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetwork;

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network is an IP address, and perhaps the number of bits that it stands for, such as 10.0.0.0/8")
    }
}

impl std::error::Error for InvalidNetwork {}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| InvalidNetwork)?;
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a request comes from, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) addr: SocketAddr,
    /// Whether it came over TLS, to us or to the outermost proxy that is believed.
    pub(crate) secure: Option<bool>,
}

impl Proxies {
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        // An address of IPv4 may be written as one of IPv6.
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.0.contains(&address))
    }

    /// Who made a request that `source` sent: the last address that no trusted proxy has.
    pub(crate) fn origin(&self, mut source: Source, headers: &HeaderMap) -> Source {
        if !self.trusts(source.addr.ip()) {
            return source;
        }
        match self.header {
            ForwardedHeader::None => {}
            ForwardedHeader::XForwardedFor => {
                // Of several, the first: those inside do not know how the client spoke to the outermost.
                let proto = text(headers, &X_FORWARDED_PROTO).next().flatten();
                source.secure = proto.and_then(|proto| secure(proto.split(',').next()?)).or(source.secure);
                for list in text(headers, &X_FORWARDED_FOR).rev() {
                    // What is no text is nobody's address.
                    for item in list.unwrap_or("").rsplit(',') {
                        match address(item.trim()) {
                            Some(addr) if self.trusts(source.addr.ip()) => source.addr = addr,
                            _ => return source,
                        }
                    }
                }
            }
            ForwardedHeader::Forwarded => {
                for list in text(headers, &http::header::FORWARDED).rev() {
                    for item in rfc7239::parse(list.unwrap_or("")).rev() {
                        let Ok(item) = item else { return source };
                        if !self.trusts(source.addr.ip()) {
                            return source;
                        }
                        source.secure = item.protocol.and_then(secure).or(source.secure);
                        // Also `unknown`, and names that a proxy hides addresses behind.
                        let Some((ip, port)) = item.forwarded_for.and_then(|node| Some((*node.ip()?, node.port)))
                        else {
                            return source;
                        };
                        source.addr = (ip, port.unwrap_or(0)).into();
                    }
                }
            }
        }
        source
    }
}

/// The values of a header, `None` for one that is no text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = Option<&'a str>> {
    headers.get_all(name).iter().map(|value| value.to_str().ok())
}

/// With or without a port, which may be of either use.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(|ip: IpAddr| (ip, 0).into()).or_else(|_| text.parse()).ok()
}

fn secure(proto: &str) -> Option<bool> {
    match proto.trim().trim_matches('"').to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

// ---- the PROXY protocol -----------------------------------------------------------------------------------------

/// The shortest header of version 1, `PROXY UNKNOWN` with its line feed. No header is shorter, so that nothing of what
/// follows is read.
const V1_LEAST: usize = 15;
/// And the longest.
const V1_MOST: usize = 107;
/// What is fixed of version 2: signature, kinds, and the length of the rest.
const V2_HEAD: usize = 16;
/// The longest of version 2 that is read. Proxies that add what they know of a certificate need some hundred bytes.
const V2_MOST: usize = 4 * 1024;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header that a proxy begins with, and not a byte more: who connected to it. `None` when the connection is
/// its own, such as a health check, or of a kind that has no address.
///
/// # Errors
/// When there is no such header, or it is too long.
pub(crate) async fn read_header(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; V1_LEAST];
    io.read_exact(&mut header).await?;
    if header.starts_with(V2_SIGNATURE) { read_v2(io, header).await } else { read_v1(io, header).await }
}

async fn read_v1(io: &mut (impl AsyncRead + Unpin), mut header: Vec<u8>) -> io::Result<Option<SocketAddr>> {
    if !header.starts_with(b"PROXY ") {
        return Err(invalid("the connection does not begin with a header of the PROXY protocol"));
    }
    while !header.ends_with(b"\n") {
        if header.len() >= V1_MOST {
            return Err(invalid("the header of the PROXY protocol does not end"));
        }
        header.push(io.read_u8().await?);
    }
    match v1::Header::try_from(&*header)
        .map_err(|_| invalid("a bad header of the PROXY protocol, version 1"))?
        .addresses
    {
        v1::Addresses::Tcp4(pair) => Ok(Some((pair.source_address, pair.source_port).into())),
        v1::Addresses::Tcp6(pair) => Ok(Some((pair.source_address, pair.source_port).into())),
        v1::Addresses::Unknown => Ok(None),
    }
}

async fn read_v2(io: &mut (impl AsyncRead + Unpin), mut header: Vec<u8>) -> io::Result<Option<SocketAddr>> {
    header.push(io.read_u8().await?);
    let rest = match header[..] {
        [.., high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    if V2_HEAD + rest > V2_MOST {
        return Err(invalid("the header of the PROXY protocol is too long"));
    }
    header.resize(V2_HEAD + rest, 0);
    io.read_exact(&mut header[V2_HEAD..]).await?;
    let header =
        v2::Header::try_from(&*header).map_err(|_| invalid("a bad header of the PROXY protocol, version 2"))?;
    match (header.command, header.addresses) {
        (v2::Command::Local, _) => Ok(None),
        (v2::Command::Proxy, v2::Addresses::IPv4(pair)) => Ok(Some((pair.source_address, pair.source_port).into())),
        (v2::Command::Proxy, v2::Addresses::IPv6(pair)) => Ok(Some((pair.source_address, pair.source_port).into())),
        (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => Ok(None),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ForwardedHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(|network| network.parse().unwrap());
        Proxies { trusted: trusted.into(), proxy_protocol: false, header }
    }

    /// Who made the request, when a proxy sent these headers.
    fn origin(header: ForwardedHeader, from: &str, lines: &[(&str, &str)]) -> (String, Option<bool>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let source = Source { addr: (from.parse::<IpAddr>().unwrap(), 1).into(), secure: None };
        let source = proxies(header).origin(source, &headers);
        (source.addr.ip().to_string(), source.secure)
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_of_ours_counts() {
        let of =
            |from: &str, value: &str| origin(ForwardedHeader::XForwardedFor, from, &[("x-forwarded-for", value)]).0;
        assert_eq!(of("10.0.0.1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(of("::ffff:10.0.0.1", "203.0.113.9"), "203.0.113.9", "the same proxy, as IPv6 has it");
        assert_eq!(of("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.1.1, 192.0.2.7"), "203.0.113.9");
        assert_eq!(of("10.0.0.1", "10.9.9.9, 10.1.1.1"), "10.9.9.9", "all are ours: the outermost");
        assert_eq!(of("2001:db8::1", "[2001:db8:1::5]:4711, 2001:db9::1"), "2001:db9::1");
        assert_eq!(of("10.0.0.1", "203.0.113.9:4711"), "203.0.113.9");
        // Where the chain cannot be followed, it is the last that can be.
        assert_eq!(of("10.0.0.1", "203.0.113.9, unknown"), "10.0.0.1");
        assert_eq!(of("10.0.0.1", "203.0.113.9, unknown, 10.1.1.1"), "10.1.1.1");
        assert_eq!(of("10.0.0.1", ""), "10.0.0.1");
        // Whoever is not one of ours says nothing about itself.
        assert_eq!(of("203.0.113.1", "10.0.0.1"), "203.0.113.1");
        let two = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9, 10.1.1.1")];
        assert_eq!(
            origin(ForwardedHeader::XForwardedFor, "10.0.0.1", &two).0,
            "203.0.113.9",
            "several lines are one list"
        );
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        let of = |value: &str| origin(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]);
        assert_eq!(of("for=203.0.113.9;proto=https"), ("203.0.113.9".into(), Some(true)));
        assert_eq!(of(r#"For="[2001:db9::1]:4711"; proto=http"#).0, "2001:db9::1");
        assert_eq!(
            of("for=198.51.100.1;proto=http, for=203.0.113.9;proto=https, for=10.1.1.1;proto=http").0,
            "203.0.113.9"
        );
        assert_eq!(of("for=198.51.100.1;proto=http, for=203.0.113.9;proto=\"https\", for=10.1.1.1").1, Some(true));
        for lost in ["for=unknown", "for=_hidden", "by=10.0.0.1", "nonsense", "for=203.0.113.9, for=a:b:c"] {
            assert_eq!(of(lost).0, "10.0.0.1", "{lost}");
        }
    }

    #[test]
    fn one_header_is_looked_at_and_no_other() {
        let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=198.51.100.1;proto=https")];
        assert_eq!(origin(ForwardedHeader::XForwardedFor, "10.0.0.1", &both), ("203.0.113.9".into(), None));
        assert_eq!(origin(ForwardedHeader::Forwarded, "10.0.0.1", &both), ("198.51.100.1".into(), Some(true)));
        assert_eq!(origin(ForwardedHeader::None, "10.0.0.1", &both), ("10.0.0.1".into(), None));
    }

    #[test]
    fn the_scheme_is_that_of_the_outermost_proxy() {
        let of =
            |from: &str, value: &str| origin(ForwardedHeader::XForwardedFor, from, &[("x-forwarded-proto", value)]).1;
        assert_eq!(of("10.0.0.1", "https"), Some(true));
        assert_eq!(of("10.0.0.1", "HTTPS, http"), Some(true));
        assert_eq!(of("10.0.0.1", "http"), Some(false));
        assert_eq!(of("10.0.0.1", "gopher"), None);
        assert_eq!(of("203.0.113.1", "https"), None);
    }

    /// What a header says, and how much of the bytes is left.
    async fn header(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        let read = read_header(&mut rest).await;
        (read, rest.len())
    }

    #[tokio::test]
    async fn the_proxy_protocol_is_read_to_its_end_and_no_further() {
        let addr = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let v2 = |kind: &[u8], addresses: &[u8]| {
            [V2_SIGNATURE, kind, &(addresses.len() as u16).to_be_bytes(), addresses, b"GET"].concat()
        };
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
        let tlv = [&v4[..], &[4, 0, 3, 1, 2, 3]].concat();
        let right: [(Vec<u8>, Option<SocketAddr>); 7] = [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\nGET".into(), addr("203.0.113.9:4711")),
            (b"PROXY TCP6 2001:db9::1 ::1 4711 80\r\nGET".into(), addr("[2001:db9::1]:4711")),
            (b"PROXY UNKNOWN\r\nGET".into(), None),
            (v2(&[0x21, 0x11], &v4), addr("203.0.113.9:4711")),
            (v2(&[0x21, 0x11], &tlv), addr("203.0.113.9:4711")),
            (v2(&[0x20, 0x00], &[]), None),
            (v2(&[0x21, 0x31], &[0; 216]), None),
        ];
        for (bytes, expected) in right {
            let (read, left) = header(&bytes).await;
            assert_eq!((read.unwrap(), left), (expected, 3), "{}", bytes.escape_ascii());
            for end in 0..bytes.len() - 3 {
                assert!(header(&bytes[..end]).await.0.is_err(), "cut at {end}: {}", bytes.escape_ascii());
            }
        }
        let wrong: [Vec<u8>; 6] = [
            b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".into(),
            b"PROXY TCP4 nobody 10.0.0.1 4711 80\r\nGET".into(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\nGET".into(),
            [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
            v2(&[0x21, 0x11], &[0; 11]),
            v2(&[0x21, 0x11], &[0; V2_MOST]),
        ];
        for bytes in wrong {
            assert!(header(&bytes).await.0.is_err(), "{}", bytes.escape_ascii());
        }
    }
}
