//! A Close that the server never sent.

use crate::fault::{Args, Complaint, Effect, Entry, Example, Fault, Kind, Make, Moment, Seen, To, make};
use saywhy_codes::{CloseCode, CloseFrame, CloseReason, Role};
use saywhy_proto::frame;

pub(super) const ENTRY: Entry = Entry {
    name: "close",
    kind: Kind::Moment,
    value: "=CODE[:REASON]",
    about: "the client is sent this Close, as if by the server; its own is waited for, or with `abrupt` TCP ends at once",
    to: To::Client,
    parameters: &["abrupt", "after", "at", "every", "p", "times"],
    examples: &[
        Example { fault: "close=4003:\"sign in, please\"", seen: Seen::by_all("1 2 3, 4003 sign in, please") },
        Example { fault: "close=1013:busy,abrupt", seen: Seen::by_all("1 2 3, 1013 busy") },
    ],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let value = args.value()?;
    let (code, reason) = value.split_once(':').unwrap_or((&value, ""));
    let number = code.parse::<u16>().map_err(|_| args.wrong(format!("{code:?} is no close code"), EXAMPLE))?;
    let code = CloseCode::new(number, Role::Server).map_err(|unsendable| {
        args.wrong(unsendable.to_string(), format!("to send it all the same: reserved-code={number}"))
    })?;
    let reason = CloseReason::new(reason.to_owned())
        .map_err(|long| args.wrong(long.to_string(), "make it shorter: browsers drop a frame that is longer"))?;
    let (frame, abrupt) = (written(code, reason), args.flag("abrupt")?);
    Ok(make(move || Fault::Moment(Box::new(Closing { frame: frame.clone(), abrupt }))))
}

const EXAMPLE: &str = "it is a number, and perhaps words: close=4003:\"sign in, please\"";

/// A Close, as a server writes it.
pub(super) fn written(code: CloseCode, reason: CloseReason) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_close(Some(&CloseFrame { code, reason }), None, &mut bytes);
    bytes
}

struct Closing {
    frame: Vec<u8>,
    abrupt: bool,
}

impl Moment for Closing {
    fn strike(&mut self) -> Effect {
        Effect::Close { frame: self.frame.clone(), abrupt: self.abrupt }
    }
}

#[cfg(test)]
mod tests {
    use crate::fault::parse;

    #[test]
    fn only_what_a_server_may_send() {
        assert!(parse("close=1000").is_ok());
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            error("close=1006"),
            "`close`: close code 1006 is reserved: an endpoint may report it, never send it (RFC 6455 §7.4.1); \
             to send it all the same: reserved-code=1006"
        );
        assert!(error("close=bye").starts_with("`close`: \"bye\" is no close code; "));
        assert!(error(&format!("close=1000:{}", "x".repeat(124))).contains("124 bytes"));
    }
}
