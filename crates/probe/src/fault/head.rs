//! The heads of the opening handshake. They are read to know what passes, and pass byte for byte.

/// Bytes of a head, and lines of it.
pub(crate) const HEAD_BYTES: usize = 16 * 1024;
const HEADERS_MOST: usize = 100;

/// It is no head of HTTP/1.1, or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What there is to know of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Bytes of the head.
    pub(crate) len: usize,
    /// Without its query, which may hold a token.
    pub(crate) path: String,
    pub(crate) is_handshake: bool,
}

/// What there is to know of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Bytes of the head.
    pub(crate) len: usize,
    /// 101: what follows are frames.
    pub(crate) is_switch: bool,
    /// permessage-deflate was agreed on.
    pub(crate) is_compressed: bool,
}

/// The request at the start of `bytes`, once its head is whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<Request>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MOST];
    let mut request = httparse::Request::new(&mut headers);
    let Some(len) = whole(request.parse(bytes), bytes)? else { return Ok(None) };
    let target = request.path.unwrap_or_default();
    let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    Ok(Some(Request { len, path, is_handshake: lists(request.headers, "upgrade", "websocket") }))
}

/// The answer at the start of `bytes`, once its head is whole.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<Response>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MOST];
    let mut response = httparse::Response::new(&mut headers);
    let Some(len) = whole(response.parse(bytes), bytes)? else { return Ok(None) };
    let is_compressed = lists(response.headers, "sec-websocket-extensions", "permessage-deflate");
    Ok(Some(Response { len, is_switch: response.code == Some(101), is_compressed }))
}

fn whole(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match parsed.map_err(|_| Malformed)? {
        httparse::Status::Complete(len) if len <= HEAD_BYTES => Ok(Some(len)),
        httparse::Status::Partial if bytes.len() < HEAD_BYTES => Ok(None),
        httparse::Status::Complete(_) | httparse::Status::Partial => Err(Malformed),
    }
}

fn lists(headers: &[httparse::Header<'_>], name: &str, word: &str) -> bool {
    let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
    let mut words = values.flat_map(|value| value.split(|byte| matches!(byte, b',' | b';')));
    words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// What of a request is written anew on its way to the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewrite {
    /// What `Host` says.
    pub(crate) host: Option<String>,
    /// What `Origin` says, where there is one.
    pub(crate) origin: Option<String>,
    /// No extension is offered.
    pub(crate) no_compression: bool,
}

impl Rewrite {
    /// The head of a request, with those lines changed and every other byte as it was.
    pub(crate) fn head(&self, head: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(head.len());
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let anew = match () {
                () if is("host") => self.host.as_deref(),
                () if is("origin") => self.origin.as_deref(),
                () => None,
            };
            if let Some(value) = anew {
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            } else if !(self.no_compression && is("sec-websocket-extensions")) {
                out.extend_from_slice(line);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET /ws?access_token=x HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nconnection:  Upgrade\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

    #[test]
    fn a_request_once_it_is_whole() {
        for cut in 0..HEAD.len() {
            assert_eq!(request(&HEAD[..cut]), Ok(None), "{cut}");
        }
        let found = Request { len: HEAD.len(), path: "/ws".to_owned(), is_handshake: true };
        assert_eq!(request(&[HEAD, b"early"].concat()), Ok(Some(found)));
        assert_eq!(request(b"\x16\x03\x01"), Err(Malformed));
        assert_eq!(request(&[b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; HEAD_BYTES]].concat()), Err(Malformed));
        assert!(!request(b"GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().is_handshake);
    }

    #[test]
    fn an_answer() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: permessage-deflate; a=1\r\n\r\n\x81";
        let found = Response { len: head.len() - 1, is_switch: true, is_compressed: true };
        assert_eq!(response(head), Ok(Some(found)));
        assert!(!response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap().is_switch);
    }

    #[test]
    fn only_what_is_asked_for_is_written_anew() {
        assert_eq!(Rewrite::default().head(HEAD), HEAD);
        let rewrite = Rewrite { host: Some("h".to_owned()), origin: Some("o".to_owned()), no_compression: true };
        let text = String::from_utf8(rewrite.head(HEAD)).unwrap();
        let expected = "GET /ws?access_token=x HTTP/1.1\r\nHost: h\r\nOrigin: o\r\nconnection:  Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        assert_eq!(text, expected);
    }
}
