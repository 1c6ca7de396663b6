//! The future that costs nothing when there is nothing to wait for.

use super::BrokerError;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a [`Broker`](super::Broker) answers, now or later.
#[must_use = "an operation is done for certain only when its answer was awaited"]
pub struct Answer<'a, T>(State<'a, T>);

enum State<'a, T> {
    Now(Ready<Result<T, BrokerError>>),
    Later(Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send + 'a>>),
}

impl<'a, T> Answer<'a, T> {
    /// An answer that is there already. Nothing is allocated, and awaiting it never yields.
    pub fn now(answer: Result<T, BrokerError>) -> Self {
        Self(State::Now(ready(answer)))
    }

    /// An answer that takes a while.
    pub fn later(answer: impl Future<Output = Result<T, BrokerError>> + Send + 'a) -> Self {
        Self(State::Later(Box::pin(answer)))
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = Result<T, BrokerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Now(answer) => Pin::new(answer).poll(context),
            State::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Now(_) => "Answer::now",
            State::Later(_) => "Answer::later",
        })
    }
}
