//! Questions that wait for their answers.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::AskError;
use crate::cluster::proto::reply;

/// What whoever has too much to do answers. Nodes of every release say it so.
const BUSY: &str = "busy";

/// That somebody has too much to do to say anything of what they were asked.
#[must_use]
pub fn busy() -> reply::Body {
    reply::Body::Failed(BUSY.to_owned())
}

/// What an answer says, unless that is that there is none.
///
/// # Errors
/// [`AskError::Busy`], [`AskError::Failed`].
pub fn said(answer: reply::Body) -> Result<reply::Body, AskError> {
    match answer {
        reply::Body::Failed(reason) if reason == BUSY => Err(AskError::Busy),
        reply::Body::Failed(reason) => Err(AskError::Failed(reason)),
        answer => Ok(answer),
    }
}

impl From<AskError> for reply::Body {
    /// For whoever the question was passed on for.
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => busy(),
            AskError::Failed(reason) => Self::Failed(reason),
            AskError::Refused(_) | AskError::TimedOut | AskError::Broken => Self::Failed(error.to_string()),
        }
    }
}

/// The open questions of one node. Bounded by its askers: a question is forgotten when its asker stops waiting.
#[derive(Default)]
pub struct Asks {
    last: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
}

type Waiting = HashMap<u64, oneshot::Sender<reply::Body>>;

/// Resolves to the answer. Dropping it forgets the question.
pub struct Asked {
    number: NonZeroU64,
    waiting: Arc<Mutex<Waiting>>,
    answer: oneshot::Receiver<reply::Body>,
}

impl Asks {
    /// A new question's number, and where its answer will come.
    pub fn open(&self) -> (NonZeroU64, Asked) {
        let number = NonZeroU64::MIN.saturating_add(self.last.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(number.get(), sender);
        (number, Asked { number, waiting: self.waiting.clone(), answer })
    }

    /// The answer to question `number`; nobody may be waiting any more.
    pub fn close(&self, number: u64, body: reply::Body) {
        if let Some(sender) = self.waiting.lock().remove(&number) {
            // An asker that has just given up needs no answer.
            sender.send(body).unwrap_or_default();
        }
    }
}

impl Future for Asked {
    type Output = Result<reply::Body, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.number.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::proto::Done;

    #[tokio::test]
    async fn an_answer_finds_its_question_and_a_dropped_question_is_forgotten() {
        let asks = Asks::default();
        let (first, answer) = asks.open();
        let (second, dropped) = asks.open();
        drop(dropped);
        let done = reply::Body::Done(Done { count: 7, yes: false });
        asks.close(second.get(), done.clone());
        asks.close(first.get(), done.clone());
        assert_eq!(answer.await, Ok(done));
        assert!(asks.waiting.lock().is_empty());
    }

    #[test]
    fn who_is_busy_has_neither_failed_nor_said_anything_and_that_survives_being_passed_on() {
        assert_eq!(said(busy()), Err(AskError::Busy));
        assert_eq!(said(AskError::Busy.into()), Err(AskError::Busy));
        assert_eq!(said(reply::Body::Failed("no".to_owned())), Err(AskError::Failed("no".to_owned())));
        assert!(matches!(said(AskError::TimedOut.into()), Err(AskError::Failed(_))));
        let done = reply::Body::Done(Done::default());
        assert_eq!(said(done.clone()), Ok(done));
    }
}
