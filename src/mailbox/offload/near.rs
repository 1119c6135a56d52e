//! What other nodes of this cluster have of the messages that another cluster offers: an offer that is repeated may reach
//! another node than the first time, and what is there once is not stored again.

use futures::future::{join_all, try_join_all};

use crate::cluster::proto::{MailCopies, MailStanding, MailStandings, frame::Body, reply};
use crate::domain::clock::Millis;
use crate::domain::mailbox::{BlobId, MailboxKey, MessageKey};
use crate::mailbox::MailboxService;
use crate::mailbox::peers::{PATIENCE, convert};
use crate::store::{Held, MAX_MESSAGES, StoreError};

/// What the nodes that were asked have of a message. Of what they say the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Near {
    /// Nothing, as far as they say.
    #[default]
    Nothing,
    /// It waits somewhere: when it ends, and under which id.
    Waits(Millis, BlobId),
    /// It waits somewhere, and is itself about to be moved to another cluster.
    Moving,
    /// It is done with.
    Done,
}

impl MailboxService {
    /// What the other nodes of this cluster have of each of these messages; nothing of what is none. A node that does not
    /// say in time is taken to have nothing: what it has is there twice then, and delivered once.
    pub(super) async fn held_near(&self, of: impl Iterator<Item = Option<(MailboxKey, MessageKey)>>) -> Vec<Near> {
        let of: Vec<_> = of.collect();
        let mut near = vec![Near::Nothing; of.len()];
        let others = self.others();
        if others.is_empty() {
            return near;
        }
        let (numbers, messages): (Vec<_>, Vec<_>) =
            of.into_iter().enumerate().filter_map(|(number, message)| Some((number, message?))).unzip();
        for (numbers, messages) in numbers.chunks(MAX_MESSAGES).zip(messages.chunks(MAX_MESSAGES)) {
            let copies = MailCopies {
                mailboxes: messages.iter().flat_map(|(mailbox, _)| mailbox.0).collect(),
                messages: messages.iter().map(|(_, message)| convert::message(*message)).collect(),
            };
            let ask = |run| self.inner.cluster.links.ask(run, Body::MailCopies(copies.clone()), PATIENCE);
            for answer in join_all(others.iter().map(ask)).await {
                let Ok(reply::Body::MailStandings(said)) = answer else { continue };
                for (number, standing) in numbers.iter().zip(&said.standings) {
                    near[*number] = near[*number].max(Near::of(standing));
                }
            }
        }
        near
    }

    /// What another node asks for.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn answer_copies(&self, asked: &MailCopies) -> Result<reply::Body, StoreError> {
        let messages = convert::mailboxes_from(&asked.mailboxes).zip(convert::messages_from(&asked.messages));
        let messages: Vec<_> = messages.take(MAX_MESSAGES).collect();
        let noted = try_join_all(messages.iter().map(|(mailbox, message)| self.is_noted_done(*mailbox, *message)));
        let (noted, held) = (noted.await?, self.inner.store.held(messages.clone(), self.moment()).await?);
        let offered = self.offered().await?;
        let standings = messages.iter().zip(held).zip(noted).map(|(((mailbox, message), held), noted)| match held {
            Held::Done => MailStanding { done: true, ..MailStanding::default() },
            _ if noted => MailStanding { done: true, ..MailStanding::default() },
            _ if offered.contains(*mailbox, *message) => MailStanding { moving: true, ..MailStanding::default() },
            Held::Nothing => MailStanding::default(),
            Held::Waits(id, ends) => {
                let id = id.to_bytes().to_vec().into();
                MailStanding { id, ends_ms: ends.0, ..MailStanding::default() }
            }
        });
        Ok(reply::Body::MailStandings(MailStandings { standings: standings.collect() }))
    }
}

impl Near {
    fn of(standing: &MailStanding) -> Self {
        let id = || BlobId::from_bytes(standing.id[..].try_into().ok()?);
        match standing {
            MailStanding { done: true, .. } => Self::Done,
            MailStanding { moving: true, .. } => Self::Moving,
            MailStanding { ends_ms, .. } => id().map_or(Self::Nothing, |id| Self::Waits(Millis(*ends_ms), id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mailbox::Stamp;

    #[test]
    fn of_what_several_say_the_last_word_on_a_message_counts() {
        let id = BlobId::new(Stamp::new(1).unwrap(), MessageKey::of("s", "r", "m"));
        let waits = |ends_ms| MailStanding { id: id.to_bytes().to_vec().into(), ends_ms, ..MailStanding::default() };
        let (moving, done) = (
            MailStanding { moving: true, ..waits(1) },
            MailStanding { done: true, moving: true, ..MailStanding::default() },
        );
        let said = [MailStanding::default(), waits(1), waits(2), moving, done].map(|said| Near::of(&said));
        assert!(said.is_sorted_by(|a, b| a < b), "{said:?}");
        assert_eq!(Near::of(&MailStanding { id: "short".into(), ..waits(1) }), Near::Nothing);
    }
}
