//! Panics of handlers become causes, so that they can be explained like any other error.

use saywhy_codes::Cause;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs `work`; a panic becomes a private cause. What `work` borrowed may be in any state afterwards: end the session.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Cause> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(payload) => Poll::Ready(Err(cause(payload.as_ref()))),
    })
    .await
}

fn cause(payload: &(dyn Any + Send)) -> Cause {
    let words = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|s| &**s));
    Cause::new(format!("the handler panicked: {}", words.unwrap_or("without words")))
}
