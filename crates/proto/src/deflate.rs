//! permessage-deflate (RFC 7692): what two endpoints agree on, and the messages that are smaller for it.
//!
//! Off unless an endpoint is given a [`Compression`], and not used before `ready`. Nothing is kept between messages
//! unless context takeover was agreed on: then a connection holds up to 300 KiB for what it sends and 50 KiB for what
//! it receives, as soon as it has compressed and inflated a message.

use crate::violation::Violation;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use saywhy_codes::Role;
use std::fmt;
use std::ops::RangeInclusive;

/// How an endpoint compresses, where its peer takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Whether messages may refer to those before. It takes fewer bytes on the wire and memory on both sides, and what
    /// goes to many has to be compressed for each of them.
    pub context_takeover: bool,
    /// How far back, as a power of two in bytes: 9 to 15.
    pub window_bits: u8,
    /// 1 is fastest, 9 takes the fewest bytes.
    pub level: u8,
    /// Bytes below which a message is sent as it is.
    pub min_bytes: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { context_takeover: false, window_bits: MOST_BITS, level: 6, min_bytes: 256 }
    }
}

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";
/// RFC 7692 §7.1.2.
const WINDOW_BITS: RangeInclusive<u8> = 8..=15;
const MOST_BITS: u8 = 15;
/// No deflate library makes windows of 256 bytes, so what would have to be compressed with one is declined.
const LEAST_BITS: u8 = 9;

// ---- agreeing -------------------------------------------------------------------------------------------------

/// One element of `Sec-WebSocket-Extensions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    name: String,
    parameters: Vec<(String, Option<String>)>,
}

impl Extension {
    /// Whether it is permessage-deflate.
    pub fn is_deflate(&self) -> bool {
        self.name == NAME
    }
}

/// The elements of a `Sec-WebSocket-Extensions` header (RFC 6455 §9.1); `None` when that is not what it is, or has more
/// than 128 of something.
pub fn extensions(header: &str) -> Option<Vec<Extension>> {
    split(header, ',')?.into_iter().filter(|element| !element.is_empty()).map(extension).collect()
}

fn extension(element: &str) -> Option<Extension> {
    let mut parts = split(element, ';')?.into_iter();
    let name = token(parts.next()?)?;
    let parameters = parts.map(|part| match part.split_once('=') {
        None => Some((token(part)?, None)),
        Some((name, value)) => {
            let value = value.trim();
            let bare = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
            // A quoted value has to be a token once its quotes are off.
            Some((token(name.trim_end())?, Some(token(&bare.replace('\\', ""))?)))
        }
    });
    Some(Extension { name, parameters: parameters.collect::<Option<_>>()? })
}

/// Elements of a list, and parameters of one: no client offers as many.
const MOST_PARTS: usize = 128;

/// Splits outside of quotes; `None` when a quote is not closed, or there are too many parts.
fn split(list: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, char) in list.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if char == at && !quoted => {
                if parts.len() == MOST_PARTS {
                    return None;
                }
                parts.push(list[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(list[start..].trim());
    (!quoted).then_some(parts)
}

/// RFC 9110 §5.6.2.
fn token(text: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!text.is_empty() && text.bytes().all(is_token)).then(|| text.to_owned())
}

/// What a server and a client agreed on. Its `Display` is the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    server_takes_over: bool,
    client_takes_over: bool,
    server_bits: Option<u8>,
    client_bits: Option<u8>,
}

/// A server answered with an extension, or with parameters, that a client did not offer or cannot meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacceptable;

impl fmt::Display for Unacceptable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server agreed to extensions that were not offered")
    }
}

impl std::error::Error for Unacceptable {}

/// The parameters of one offer or answer, each in its range and at most once.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// In an offer it may stand without a value: the client can be told one.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// RFC 7692 §7.1: `None` is to be declined.
    fn of(extension: &Extension) -> Option<Self> {
        let mut all = Self::default();
        for (name, value) in &extension.parameters {
            let is_new = match (name.as_str(), value) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => !std::mem::replace(&mut all.server_no_context_takeover, true),
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => !std::mem::replace(&mut all.client_no_context_takeover, true),
                (SERVER_MAX_WINDOW_BITS, Some(value)) => all.server_max_window_bits.replace(bits(value)?).is_none(),
                (CLIENT_MAX_WINDOW_BITS, None) => all.client_max_window_bits.replace(None).is_none(),
                (CLIENT_MAX_WINDOW_BITS, Some(value)) => {
                    all.client_max_window_bits.replace(Some(bits(value)?)).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(all)
    }
}

/// A decimal number without leading zeros.
fn bits(value: &str) -> Option<u8> {
    value.parse().ok().filter(|bits: &u8| WINDOW_BITS.contains(bits) && bits.to_string() == value)
}

impl Agreed {
    /// A server's choice: the first offer that it can meet. Extensions that it does not know are declined in silence.
    pub fn answer(offers: &[Extension], ours: &Compression) -> Option<Self> {
        let most = ours.window_bits.clamp(LEAST_BITS, MOST_BITS);
        offers.iter().filter(|offer| offer.name == NAME).find_map(|offer| {
            let offer = Parameters::of(offer)?;
            let server_bits = offer.server_max_window_bits.map(|asked| asked.min(most));
            if server_bits.is_some_and(|bits| bits < LEAST_BITS) {
                return None;
            }
            let restricted = (most < MOST_BITS).then_some(most);
            Some(Self {
                server_takes_over: ours.context_takeover && !offer.server_no_context_takeover,
                client_takes_over: ours.context_takeover && !offer.client_no_context_takeover,
                server_bits: server_bits.or(restricted),
                // Only a client that says that it can be told is told.
                client_bits: offer.client_max_window_bits.and_then(|offered| match offered {
                    Some(offered) => Some(offered.min(most)),
                    None => restricted,
                }),
            })
        })
    }

    /// A client's offer.
    pub fn offer(ours: &Compression) -> String {
        let most = ours.window_bits.clamp(LEAST_BITS, MOST_BITS);
        let mut offer = format!("{NAME}; {CLIENT_MAX_WINDOW_BITS}");
        if most < MOST_BITS {
            offer += &format!("={most}; {SERVER_MAX_WINDOW_BITS}={most}");
        }
        if !ours.context_takeover {
            offer += &format!("; {SERVER_NO_CONTEXT_TAKEOVER}; {CLIENT_NO_CONTEXT_TAKEOVER}");
        }
        offer
    }

    /// What a server answered to [`Agreed::offer`]; `None` is a server that does not take part.
    ///
    /// # Errors
    /// [`Unacceptable`]: the connection has to be failed (RFC 6455 §4.1, RFC 7692 §7.1).
    pub fn answered(answer: &[Extension], ours: &Compression) -> Result<Option<Self>, Unacceptable> {
        let [answer] = answer else { return if answer.is_empty() { Ok(None) } else { Err(Unacceptable) } };
        let parameters = Parameters::of(answer).filter(|_| answer.name == NAME).ok_or(Unacceptable)?;
        let most = ours.window_bits.clamp(LEAST_BITS, MOST_BITS);
        let client_bits = match parameters.client_max_window_bits {
            Some(Some(bits)) if (LEAST_BITS..=most).contains(&bits) => Some(bits),
            None => (most < MOST_BITS).then_some(most),
            Some(_) => return Err(Unacceptable),
        };
        let server_bits = parameters.server_max_window_bits;
        let has_what_was_asked = most == MOST_BITS || server_bits.is_some_and(|bits| bits <= most);
        let takes_over = |no_context_takeover: bool| !no_context_takeover;
        if !has_what_was_asked || !ours.context_takeover && takes_over(parameters.server_no_context_takeover) {
            return Err(Unacceptable);
        }
        Ok(Some(Self {
            server_takes_over: takes_over(parameters.server_no_context_takeover),
            client_takes_over: ours.context_takeover && takes_over(parameters.client_no_context_takeover),
            server_bits,
            client_bits,
        }))
    }

    /// Whether messages of `sender` may refer to those before, and how far back.
    fn of(self, sender: Role) -> (bool, u8) {
        let (takes_over, bits) = match sender {
            Role::Server => (self.server_takes_over, self.server_bits),
            Role::Client => (self.client_takes_over, self.client_bits),
        };
        (takes_over, bits.unwrap_or(MOST_BITS).max(LEAST_BITS))
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if !self.server_takes_over {
            write!(f, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if !self.client_takes_over {
            write!(f, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_bits {
            write!(f, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        if let Some(bits) = self.client_bits {
            write!(f, "; {CLIENT_MAX_WINDOW_BITS}={bits}")?;
        }
        Ok(())
    }
}

// ---- inflating ------------------------------------------------------------------------------------------------

/// RFC 7692 §7.2.2: what every compressed message ends with, and what is not sent.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// An empty block that is marked as the last of its stream.
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];
/// What is inflated at a time, and handed on before there is more: a bomb has to pass the limit in such steps.
const STEP: usize = 8 * 1024;

/// Inflates what a peer sends.
pub(crate) struct Inflater {
    takes_over: bool,
    bits: u8,
    /// Made at the first message.
    stream: Option<Decompress>,
    /// The peer's last block was marked as such: its stream is over, and what follows is another.
    has_ended: bool,
}

impl Inflater {
    pub(crate) fn new(agreed: Agreed, sender: Role) -> Self {
        let (takes_over, bits) = agreed.of(sender);
        Self { takes_over, bits, stream: None, has_ended: false }
    }

    /// Inflates a part of a message into `take`, which may stop it.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let stream = self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, self.bits));
        let mut step = [0; STEP];
        loop {
            if self.has_ended {
                if bytes.is_empty() {
                    return Ok(());
                }
                stream.reset(false);
                self.has_ended = false;
            }
            let (consumed, produced) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(bytes, &mut step, FlushDecompress::Sync).map_err(|_| Violation::Deflate)?;
            // Both are at most what was passed in.
            let consumed = (stream.total_in() - consumed) as usize;
            let produced = (stream.total_out() - produced) as usize;
            take(&step[..produced])?;
            bytes = &bytes[consumed..];
            self.has_ended = status == Status::StreamEnd;
            let is_dry = produced < STEP && bytes.is_empty();
            let is_stuck = produced == 0 && consumed == 0;
            if !self.has_ended && (is_dry || is_stuck) {
                return if bytes.is_empty() { Ok(()) } else { Err(Violation::Deflate) };
            }
        }
    }

    /// The end of a message, which has to be the end of a block: what was left out is an empty one (RFC 7692 §7.2.1), and
    /// makes no content.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        let mut no_more = |bytes: &[u8]| if bytes.is_empty() { Ok(()) } else { Err(Violation::Deflate) };
        if !self.has_ended {
            self.push(&TAIL, &mut no_more)?;
        }
        if !self.takes_over {
            // Nothing follows, so the stream can be asked whether it stands between two blocks.
            if !self.has_ended {
                self.push(&LAST_BLOCK, &mut no_more)?;
            }
            self.stream = None;
            if !std::mem::take(&mut self.has_ended) {
                return Err(Violation::Deflate);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("takes_over", &self.takes_over)
            .field("bits", &self.bits)
            .finish_non_exhaustive()
    }
}

// ---- deflating ------------------------------------------------------------------------------------------------

/// Compresses what an endpoint sends.
pub(crate) struct Deflater {
    takes_over: bool,
    bits: u8,
    level: u8,
    min_bytes: usize,
    /// What messages refer to, from the first on.
    stream: Option<Compress>,
}

impl Deflater {
    pub(crate) fn new(agreed: Agreed, sender: Role, ours: &Compression) -> Self {
        let (takes_over, bits) = agreed.of(sender);
        Self { takes_over, bits, level: ours.level, min_bytes: ours.min_bytes, stream: None }
    }

    /// The payload of a compressed message, if it is worth one.
    pub(crate) fn message(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if payload.is_empty() || payload.len() < self.min_bytes {
            return None;
        }
        if self.takes_over {
            // The peer has to see all that later messages may refer to, even where it saves nothing.
            let stream = self.stream.get_or_insert_with(|| compressor(self.level, self.bits));
            let deflated = deflate(stream, payload);
            if deflated.is_none() {
                // The peer has not seen what this stream refers to from now on.
                self.stream = None;
            }
            return deflated;
        }
        alone(payload, self.level, self.bits)
    }

    /// Whether what is compressed once for many, by [`alone`] with [`SHARED_BITS`], may go to this peer, and how hard
    /// to try. Messages that refer to those before would miss it.
    pub(crate) fn takes_shared(&self, payload: usize) -> Option<u8> {
        let takes = !self.takes_over && self.bits == SHARED_BITS && payload > 0 && payload >= self.min_bytes;
        takes.then_some(self.level)
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater")
            .field("takes_over", &self.takes_over)
            .field("bits", &self.bits)
            .finish_non_exhaustive()
    }
}

/// The window of what is compressed once for many.
pub(crate) const SHARED_BITS: u8 = MOST_BITS;

/// A message that refers to nothing before it, if that makes it smaller.
pub(crate) fn alone(payload: &[u8], level: u8, bits: u8) -> Option<Vec<u8>> {
    deflate(&mut compressor(level, bits), payload).filter(|deflated| deflated.len() < payload.len())
}

fn compressor(level: u8, bits: u8) -> Compress {
    Compress::new_with_window_bits(flate2::Compression::new(level.clamp(1, 9).into()), false, bits)
}

/// RFC 7692 §7.2.1. `None` if the library fails, which it has no reason to: the message is sent as it is.
fn deflate(stream: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() / 2 + 64);
    let start = stream.total_in();
    loop {
        let done = (stream.total_in() - start) as usize;
        stream.compress_vec(&payload[done..], &mut out, FlushCompress::Sync).ok()?;
        if (stream.total_in() - start) as usize == payload.len() && out.len() < out.capacity() {
            break;
        }
        out.reserve(out.capacity().max(64));
    }
    out.truncate(out.len() - if out.ends_with(&TAIL) { TAIL.len() } else { 0 });
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(offers: &str, ours: &Compression) -> Option<String> {
        Agreed::answer(&extensions(offers).unwrap(), ours).map(|agreed| agreed.to_string())
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_answered() {
        let shared = Compression { context_takeover: true, ..Compression::default() };
        let small = Compression { window_bits: 10, ..Compression::default() };
        let alone = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (offers, ours, expected) in [
            ("permessage-deflate", &shared, Some("permessage-deflate")),
            ("permessage-deflate; client_max_window_bits", &shared, Some("permessage-deflate")),
            ("permessage-deflate", &Compression::default(), Some(alone)),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=12",
                &shared,
                Some("permessage-deflate; server_max_window_bits=12"),
            ),
            (
                "permessage-deflate;server_max_window_bits=\"15\"",
                &shared,
                Some("permessage-deflate; server_max_window_bits=15"),
            ),
            (
                "permessage-deflate; client_max_window_bits=8",
                &shared,
                Some("permessage-deflate; client_max_window_bits=8"),
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                &shared,
                Some("permessage-deflate; server_no_context_takeover"),
            ),
            ("x-webkit-deflate-frame, permessage-bzip2; a=1", &shared, None),
        ] {
            assert_eq!(answer(offers, ours).as_deref(), expected, "{offers}");
        }
        let told = answer("permessage-deflate; client_max_window_bits", &small).unwrap();
        assert!(told.ends_with("server_max_window_bits=10; client_max_window_bits=10"), "{told}");
        // A client that cannot be told is not.
        assert!(answer("permessage-deflate", &small).unwrap().ends_with("server_max_window_bits=10"));
    }

    #[test]
    fn t12_a_stream_that_ends_again_and_again_is_read_to_its_end() {
        // An empty block that is the last, in two bytes: each asks for a new stream.
        let bomb = [0x03, 0x00].repeat(30_000);
        for context_takeover in [false, true] {
            let ours = Compression { context_takeover, ..Compression::default() };
            let agreed = Agreed::answer(&extensions(NAME).unwrap(), &ours).unwrap();
            let mut inflater = Inflater::new(agreed, Role::Client);
            let mut inflated = Vec::new();
            // What follows is "Hello", as in RFC 7692 §7.2.3.1.
            for payload in [&bomb[..], &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]] {
                let mut take = |bytes: &[u8]| {
                    inflated.extend_from_slice(bytes);
                    Ok(())
                };
                inflater.push(payload, &mut take).unwrap();
                inflater.finish().unwrap();
            }
            assert_eq!(inflated, b"Hello");
        }
    }

    #[test]
    fn t13_parameters_out_of_range_are_declined() {
        let ours = Compression::default();
        for parameters in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=+9",
            "server_max_window_bits=8",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=0",
            "client_max_window_bits=256",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "unknown",
            "unknown=1",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=9",
        ] {
            assert_eq!(answer(&format!("permessage-deflate; {parameters}"), &ours), None, "{parameters}");
        }
        // And what is no list of extensions is no handshake.
        for header in ["permessage-deflate; =1", "permessage-deflate; a=\"", "a b", ";", "a;;b", "a=1", "a; b=\"c d\""]
        {
            assert_eq!(extensions(header), None, "{header}");
        }
        assert_eq!(extensions(" , a ,, b;c=\"d\" ").map(|list| list.len()), Some(2));
    }

    #[test]
    fn a_client_takes_only_what_it_asked_for() {
        let shared = Compression { context_takeover: true, ..Compression::default() };
        let small = Compression { window_bits: 10, ..Compression::default() };
        let said = |answer: &str, ours: &Compression| {
            Agreed::answered(&extensions(answer).unwrap(), ours).map(|agreed| agreed.is_some())
        };
        assert_eq!(said("", &shared), Ok(false));
        assert_eq!(said("permessage-deflate", &shared), Ok(true));
        assert_eq!(said("permessage-deflate; client_max_window_bits=9", &shared), Ok(true));
        for (answer, ours) in [
            ("permessage-deflate", &Compression::default()),
            ("permessage-deflate; server_no_context_takeover", &small),
            ("permessage-deflate; client_max_window_bits", &shared),
            ("permessage-deflate; client_max_window_bits=8", &shared),
            ("permessage-deflate, permessage-deflate", &shared),
            ("x-other", &shared),
            ("permessage-deflate; unknown", &shared),
        ] {
            assert_eq!(said(answer, ours), Err(Unacceptable), "{answer}");
        }
        for ours in [&shared, &small, &Compression::default()] {
            let offer = extensions(&Agreed::offer(ours)).unwrap();
            let agreed = Agreed::answer(&offer, ours).unwrap();
            assert!(Agreed::answered(&extensions(&agreed.to_string()).unwrap(), ours).unwrap().is_some());
        }
    }

    fn inflate(inflater: &mut Inflater, pieces: &[&[u8]]) -> Result<Vec<u8>, Violation> {
        let mut all = Vec::new();
        let mut take = |bytes: &[u8]| {
            all.extend_from_slice(bytes);
            Ok(())
        };
        for piece in pieces {
            inflater.push(piece, &mut take)?;
        }
        inflater.finish()?;
        Ok(all)
    }

    fn agreed(takes_over: bool) -> Agreed {
        Agreed { server_takes_over: takes_over, client_takes_over: takes_over, server_bits: None, client_bits: None }
    }

    /// RFC 7692 §7.2.3.
    #[test]
    fn the_examples_of_the_rfc_are_hello() {
        let mut inflater = Inflater::new(agreed(true), Role::Client);
        let hello: &[u8] = b"Hello";
        for pieces in [
            &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]][..],
            &[&[0xf2, 0x48, 0xcd], &[0xc9, 0xc9, 0x07, 0x00]],
            // Refers to the messages before it.
            &[&[0xf2, 0x00, 0x11, 0x00, 0x00]],
            // Not compressed.
            &[&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]],
            // The last block of a stream, with and without the byte that the RFC adds, and what comes after it.
            &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
            &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]],
            &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]],
            // Two blocks.
            &[&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]],
        ] {
            assert_eq!(inflate(&mut inflater, pieces).as_deref(), Ok(hello), "{pieces:x?}");
        }
    }

    #[test]
    fn a_message_ends_with_a_block() {
        for takes_over in [true, false] {
            for payload in [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9][..], &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65]] {
                let mut inflater = Inflater::new(agreed(takes_over), Role::Client);
                assert_eq!(inflate(&mut inflater, &[payload]), Err(Violation::Deflate), "{payload:x?}");
            }
        }
        // Inside the header of a block; with takeover only the next message would show that.
        let mut inflater = Inflater::new(agreed(false), Role::Client);
        assert_eq!(inflate(&mut inflater, &[&[0x00, 0x05]]), Err(Violation::Deflate));
    }

    #[test]
    fn nothing_is_kept_without_takeover() {
        let mut inflater = Inflater::new(agreed(false), Role::Client);
        assert!(inflate(&mut inflater, &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]]).is_ok());
        assert!(inflater.stream.is_none());
        // A message that refers to the one before is broken then.
        assert_eq!(inflate(&mut inflater, &[&[0xf2, 0x00, 0x11, 0x00, 0x00]]), Err(Violation::Deflate));
    }

    proptest! {
        #[test]
        fn messages_survive_in_any_order_and_pieces(
            takes_over: bool,
            messages in prop::collection::vec("[a-c]{0,2000}", 1..6),
            noise in prop::collection::vec(any::<u8>(), 0..2000),
            cut in 1usize..500,
            level in 1u8..10,
            bits in 9u8..=15,
        ) {
            let agreed = Agreed { client_bits: Some(bits), ..agreed(takes_over) };
            let ours = Compression { min_bytes: 0, level, ..Compression::default() };
            let mut deflater = Deflater::new(agreed, Role::Client, &ours);
            let mut inflater = Inflater::new(agreed, Role::Client);
            for payload in messages.iter().map(String::as_bytes).chain([&noise[..]]) {
                let Some(deflated) = deflater.message(payload) else { continue };
                let pieces: Vec<_> = deflated.chunks(cut).collect();
                prop_assert_eq!(inflate(&mut inflater, &pieces), Ok(payload.to_vec()));
            }
        }
    }
}
