//! Panics of handlers become causes, so that they can be explained like any other error.

use pin_project_lite::pin_project;
use saywhy_codes::Cause;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// Runs a future; a panic becomes a private cause. What it borrowed may be in any state afterwards: end the session.
    ///
    /// No `async fn`: that would hold its argument twice, for as long as a connection lives.
    pub(crate) struct Caught<F> {
        #[pin]
        work: F,
    }
}

pub(crate) fn caught<F: Future>(work: F) -> Caught<F> {
    Caught { work }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Cause>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.project().work;
        match called(|| work.poll(cx)) {
            Ok(polled) => Poll::Ready(Ok(ready!(polled))),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// The same for what does not wait.
pub(crate) fn called<T>(work: impl FnOnce() -> T) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| cause(payload.as_ref()))
}

fn cause(payload: &(dyn Any + Send)) -> Cause {
    let words = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|s| &**s));
    Cause::new(format!("the handler panicked: {}", words.unwrap_or("without words")))
}
