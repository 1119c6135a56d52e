//! Whether the node is in service, and how far it has left: said here by those who tell it to leave or to return,
//! and by the task that does it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::time;
use crate::domain::clock::Millis;

/// How far a node has left service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is in service.
    Serving,
    /// It takes nothing new; what is open is waited for.
    Draining,
    /// It is coming back into service.
    Returning,
    /// What is left is closed and handed over.
    Closing,
    /// It has left.
    Left,
}

/// How far a node has left service, and what still runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How far.
    pub phase: Phase,
    /// Who began it; empty while it serves.
    pub by: Arc<str>,
    /// When it began.
    pub since: Millis,
    /// When what is left is closed all the same.
    pub deadline: Millis,
    /// Whether it may be told to return.
    pub may_return: bool,
    /// Sockets that are open.
    pub websockets: u64,
    /// Requests without an answer.
    pub requests: u64,
    /// Whether all blobs are moved away besides.
    pub evacuates: bool,
    /// How many of them are still here, once it was counted.
    pub blobs: u64,
}

/// Why a node does not do as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It is coming back into service.
    #[error("the node is coming back into service; ask again in a moment")]
    Returning,
    /// It is too late.
    #[error("the node closes what is left; there is no return")]
    Gone,
    /// A signal began it.
    #[error("a signal told the node to leave; that is not undone")]
    BySignal,
    /// Nothing to undo.
    #[error("the node is in service")]
    Serving,
}

/// A handle on it; clones share it.
#[derive(Clone)]
pub struct Leaving {
    progress: Arc<watch::Sender<Progress>>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { progress: Arc::new(watch::channel(Progress::serving()).0) }
    }
}

impl Progress {
    fn serving() -> Self {
        Self {
            phase: Phase::Serving,
            by: Arc::default(),
            since: Millis(0),
            deadline: Millis(0),
            may_return: false,
            websockets: 0,
            requests: 0,
            evacuates: false,
            blobs: 0,
        }
    }
}

impl Leaving {
    /// How far it is, now and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How far it is now.
    #[must_use]
    pub fn now(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Tells the node to leave within that time; if it does already, the new time counts. One that may not return
    /// stays so.
    ///
    /// # Errors
    /// [`NotNow::Returning`] or [`NotNow::Gone`].
    pub fn begin(&self, by: &str, within: Duration, may_return: bool) -> Result<(), NotNow> {
        self.leave(by, within, may_return, false)
    }

    /// The same of one that may return, and moves all its blobs away.
    ///
    /// # Errors
    /// [`NotNow::Returning`] or [`NotNow::Gone`].
    pub fn begin_emptying(&self, by: &str, within: Duration) -> Result<(), NotNow> {
        self.leave(by, within, true, true)
    }

    fn leave(&self, by: &str, within: Duration, may_return: bool, evacuates: bool) -> Result<(), NotNow> {
        let now = time::now();
        self.change(|progress| {
            match progress.phase {
                Phase::Serving => {
                    *progress = Progress { since: now, by: by.into(), may_return, ..progress.clone() };
                    progress.phase = Phase::Draining;
                }
                Phase::Draining => progress.may_return &= may_return,
                Phase::Returning => return Err(NotNow::Returning),
                Phase::Closing | Phase::Left => return Err(NotNow::Gone),
            }
            progress.deadline = now.plus(within);
            // In one step: nothing may close in between.
            progress.evacuates |= evacuates;
            Ok(())
        })
    }

    /// For the task that does it: how many blobs are still here.
    pub fn blobs_left(&self, blobs: u64) {
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.blobs, blobs) != blobs);
    }

    /// Tells the node to return, and waits until it has.
    ///
    /// # Errors
    /// [`NotNow`].
    pub async fn undo(&self) -> Result<(), NotNow> {
        self.change(|progress| match progress.phase {
            Phase::Draining if progress.may_return => {
                progress.phase = Phase::Returning;
                Ok(())
            }
            Phase::Draining => Err(NotNow::BySignal),
            Phase::Returning => Ok(()),
            Phase::Serving => Err(NotNow::Serving),
            Phase::Closing | Phase::Left => Err(NotNow::Gone),
        })?;
        let mut watch = self.watch();
        match watch.wait_for(|progress| progress.phase != Phase::Returning).await {
            Ok(_) => Ok(()),
            Err(_) => Err(NotNow::Gone),
        }
    }

    /// For the task that does it: waits until it is told to leave.
    pub async fn told(&self) {
        let mut watch = self.watch();
        // It holds the sender, so this ends only by what is waited for.
        watch.wait_for(|progress| progress.phase == Phase::Draining).await.map(drop).unwrap_or_default();
    }

    /// For the task that does it: says what still runs, and answers whether to go on waiting.
    pub fn look(&self, websockets: u64, requests: u64, busy: bool) -> Look {
        let now = time::now();
        let mut next = Look::Wait;
        self.progress.send_if_modified(|progress| {
            let before = progress.clone();
            (progress.websockets, progress.requests) = (websockets, requests);
            next = match progress.phase {
                Phase::Returning => Look::Return,
                _ if busy && now < progress.deadline => Look::Wait,
                _ => Look::Close,
            };
            if next == Look::Close {
                (progress.phase, progress.may_return) = (Phase::Closing, false);
            }
            *progress != before
        });
        next
    }

    /// For the task that does it: it is in service again.
    pub fn returned(&self) {
        self.progress.send_replace(Progress::serving());
    }

    /// For the task that does it: it has left.
    pub fn left(&self) {
        self.progress.send_modify(|progress| progress.phase = Phase::Left);
    }

    /// Waits until it has left.
    pub async fn gone(&self) {
        let mut watch = self.watch();
        watch.wait_for(|progress| progress.phase == Phase::Left).await.map(drop).unwrap_or_default();
    }

    fn change(&self, change: impl FnOnce(&mut Progress) -> Result<(), NotNow>) -> Result<(), NotNow> {
        let mut done = Ok(());
        self.progress.send_if_modified(|progress| {
            done = change(progress);
            done.is_ok()
        });
        done
    }
}

/// What the task that does it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Waits on.
    Wait,
    /// Comes back into service.
    Return,
    /// Closes what is left.
    Close,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_may_return_until_it_closes() {
        let leaving = Leaving::default();
        assert_eq!(leaving.undo().await, Err(NotNow::Serving));
        leaving.begin("somebody", LONG, true).unwrap();
        assert_eq!(leaving.look(2, 1, true), Look::Wait);
        assert_eq!((leaving.now().websockets, leaving.now().requests, leaving.now().may_return), (2, 1, true));
        let undo = tokio::spawn({
            let leaving = leaving.clone();
            async move { leaving.undo().await }
        });
        while leaving.now().phase != Phase::Returning {
            tokio::task::yield_now().await;
        }
        assert_eq!(leaving.begin("somebody", LONG, true), Err(NotNow::Returning));
        assert_eq!(leaving.look(0, 0, false), Look::Return, "it was told so before nothing was left");
        leaving.returned();
        undo.await.unwrap().unwrap();
        assert_eq!(leaving.now(), Progress::serving());

        leaving.begin("somebody", LONG, true).unwrap();
        assert_eq!(leaving.look(0, 0, false), Look::Close);
        assert_eq!(leaving.undo().await, Err(NotNow::Gone));
        assert_eq!(leaving.begin("somebody", LONG, true), Err(NotNow::Gone));
    }

    #[tokio::test]
    async fn one_that_is_emptied_is_so_from_its_first_moment_and_serves_again_without() {
        let leaving = Leaving::default();
        leaving.begin_emptying("somebody", LONG).unwrap();
        assert!(leaving.now().evacuates);
        leaving.begin("somebody", LONG, true).unwrap();
        leaving.blobs_left(3);
        assert!(leaving.now().evacuates && leaving.now().blobs == 3, "nobody has taken that back");
        leaving.returned();
        assert_eq!(leaving.now(), Progress::serving());
    }

    #[tokio::test]
    async fn the_time_that_was_said_last_counts_and_a_signal_is_final() {
        let leaving = Leaving::default();
        leaving.begin("somebody", Duration::ZERO, true).unwrap();
        leaving.begin("SIGTERM", LONG, false).unwrap();
        assert_eq!(leaving.look(1, 0, true), Look::Wait);
        assert_eq!(leaving.undo().await, Err(NotNow::BySignal));
        leaving.begin("somebody", Duration::ZERO, true).unwrap();
        assert_eq!(leaving.undo().await, Err(NotNow::BySignal), "nobody takes that back");
        assert_eq!(leaving.look(1, 0, true), Look::Close, "the time is over");
        leaving.left();
        leaving.gone().await;
    }
}
