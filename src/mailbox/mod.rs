//! The mailbox service: blobs for recipients who are elsewhere, kept until they say that they have them.
//!
//! Section numbers in this folder are those of the Vauchi protocol's fact sheet.
//!
//! | file | holds |
//! |---|---|
//! | `service` | the service of one node: its parts, its sessions, how they are told of something new |
//! | `protocol` | one connection: the first message, the passing of time |
//! | `handshake` | whose mailbox a connection may read, and how that is proven |
//! | `channel` | frames as they are, or sealed by Noise |
//! | `session` | what is known of a connection once it has said who it is |
//! | `frames` | what is done with each message |
//! | `lane` | work of one connection: done side by side, answered in order |
//! | `updates`, `acks`, `device_sync`, `recovery`, `purge` | the messages, one kind each |
//! | `delivery` | from the stores to the recipient's socket |
//! | `behind` | what came late, and stands behind what was sent already |
//! | `flow`, `sent`, `merge` | how far a session was sent what of whom; what it was sent last; the order of it all |
//! | `debts` | what a holder could not be told |
//! | `source` | what this node holds |
//! | `offload` | blobs that move to other clusters, and come from them |
//! | `peers` | what the other nodes hold, and which sessions they have |
//! | `labels` | what is kept with a blob for its recipient and its sender |
//! | `admin`, `census` | what operators see and do; which mailboxes are the largest |
//! | `rates`, `noting` | limits on what clients say, and on what is noted for them |
//! | `upkeep` | the sweeps |

mod acks;
mod admin;
mod behind;
mod census;
mod channel;
mod debts;
mod delivery;
mod device_sync;
mod flow;
mod frames;
mod handshake;
mod labels;
mod lane;
mod merge;
mod noting;
mod offload;
mod peers;
mod protocol;
mod purge;
mod rates;
mod recovery;
mod registry;
mod sent;
mod service;
mod session;
mod source;
mod updates;
mod upkeep;

pub use census::{Census, MAX_LARGEST};
pub use offload::{Goal, OffloadSettings, Progress as OffloadProgress};
pub use protocol::MailboxProtocol;
pub use service::{MailboxParts, MailboxService, MailboxSettings};

/// Longest name that a client may choose, of a recipient, a sender, a device or a message, in bytes. Shipped
/// clients use 64 at most.
pub const MAX_NAME_BYTES: usize = 256;

/// How many times the largest frame a message may have before it closes the connection; between the two it is
/// dropped in silence.
pub const OVERSIZE_FACTOR: usize = 8;
