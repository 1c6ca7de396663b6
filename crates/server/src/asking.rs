//! The fifth way to bring a token: in the first message. Until it is good, the connection is heard for that and nothing
//! else.
//!
//! | what a client sends before `ready` | answer |
//! |---|---|
//! | `authenticate` with a token that is good | `ready`, with the `request_id` |
//! | `authenticate` with any other | as it would be refused at the door; ends |
//! | `ping` | `pong` |
//! | any other message of the envelope | `unauthorized`, `token_missing`; ends |
//! | text that is no message of the envelope, `authenticate` without a token | `bad_request`; ends |
//! | binary | `unsupported_data`; ends |
//! | too many messages | `policy_violation`; ends |
//! | a message that is compressed, or too long | `policy_violation`, `message_too_big`; ends |
//! | nothing, until the deadline | `timeout`; ends |

use crate::applicant::Applicant;
use crate::driver::Reply;
use crate::observe;
use crate::panic::caught;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::token::TokenProblem;
use saywhy_codes::catalogue::{BAD_REQUEST, INTERNAL_ERROR, POLICY_VIOLATION, REPLACED, UNSUPPORTED_DATA};
use saywhy_proto::Farewell;
use saywhy_proto::envelope::Envelope;
use saywhy_proto::message::Message;
use saywhy_proto::session::Delivery;
use serde::Deserialize;
use std::borrow::Cow;
use std::future::Future;

/// Messages before the one with the token: `ping`s. A client that needs more is up to something else.
const MESSAGES: u32 = 8;

/// A token, and the request that brought it.
struct Brought {
    id: Option<String>,
    token: String,
}

impl Session {
    /// Waits for the token and has `decide` judge it. `None` when that was the end: the client knows why.
    pub(crate) async fn ask<D, W, F>(mut self, applicant: Applicant, decide: Box<D>) -> Option<(Self, Box<F>)>
    where
        D: FnOnce(Applicant) -> W + Send,
        W: Future<Output = Result<F, Refusal>> + Send,
    {
        self.driver().machine().awaits_token(true);
        let mut left = MESSAGES;
        let asked = self.driver().next(|delivery, reply| read(delivery, &mut left, reply));
        let Brought { id, token } = asked.await?;
        // From here on it is we who are late.
        self.driver().machine().awaits_token(false);
        let applicant = Applicant { token: Some(token.into()), ..applicant };
        let work = Box::pin(caught(async { decide(applicant).await }));
        let farewell = match self.driver().during(work).await? {
            Ok(Ok(begin)) => match self.driver().visit().authenticated() {
                Ok(older) => {
                    older.iter().for_each(|older| older.close_now(REPLACED));
                    self.ready_in_reply_to(id.as_deref());
                    return Some((self, Box::new(begin)));
                }
                Err(not_in) => Refusal::from(not_in).farewell(),
            },
            Ok(Err(refusal)) => refusal.farewell(),
            Err(panic) => {
                observe::panicked(self.connection(), id.as_deref(), &panic);
                Farewell { private: Some(panic), ..Farewell::error(INTERNAL_ERROR) }
            }
        };
        self.end(farewell.in_reply_to(id)).await;
        None
    }
}

#[derive(Deserialize)]
struct Authenticate {
    token: String,
}

fn read(delivery: Delivery<'_>, left: &mut u32, reply: &mut Reply<'_>) -> Option<Brought> {
    if *left == 0 || delivery.over_limit.is_some() {
        reply.close(Farewell::error(POLICY_VIOLATION.say("Too many messages before the token")));
        return None;
    }
    *left -= 1;
    let Message::Text(text) = delivery.message else {
        reply.close(Farewell::error(UNSUPPORTED_DATA));
        return None;
    };
    let Envelope { kind, data, request_id } = match Envelope::parse(&text) {
        Ok(envelope) => envelope,
        Err(malformed) => {
            reply.close(Farewell::error(BAD_REQUEST.say(malformed.what)).in_reply_to(malformed.request_id));
            return None;
        }
    };
    let id = request_id.map(Cow::into_owned);
    match &*kind {
        "ping" => reply.pong(id.as_deref()),
        "authenticate" => match serde_json::from_str(data.get()) {
            Ok(Authenticate { token }) => return Some(Brought { id, token }),
            Err(_) => {
                let error = BAD_REQUEST.say("A field is missing: data.token").detail("field", "data.token");
                reply.close(Farewell::error(error).in_reply_to(id));
            }
        },
        _ => {
            let (error, _) = TokenProblem::Missing.explain();
            reply.close(Farewell::error(error).in_reply_to(id));
        }
    }
    None
}
