//! What a kind of entries is: how they are told, and where they are kept.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::cluster::Cluster;
use crate::cluster::Frames;
use crate::cluster::proto::{frame::Body, reply};
use crate::domain::clock::Epoch;
use crate::observe::metrics::P2pMetrics;
use crate::runtime::slot::Slot;
use crate::store::{Record, Write};

use super::book::{Entry, Index};

/// What there is one entry of that kind of for each.
pub type KeyOf<K> = <<K as Kind>::Entry as Entry>::Key;

/// A kind of entries.
pub trait Kind: Sized + Send + Sync + 'static {
    /// One of them.
    type Entry: Entry;
    /// What finds them.
    type Index: Index<Self::Entry>;
    /// One of them as it is told to other nodes, and kept on disk.
    type Told: Message + Default + 'static;

    /// One word for figures and logs.
    const NAME: &'static str;

    /// What the keys of their records begin with.
    const PREFIX: &'static [u8];

    /// The longest that one of them lasts.
    const LONGEST: Duration;

    /// Where frames about them go.
    fn slot(cluster: &Cluster) -> &Slot<dyn Frames>;

    /// What the key of its record ends with.
    fn key(entry: &Self::Entry) -> Vec<u8>;

    /// As it is told.
    fn tell(entry: &Self::Entry) -> Self::Told;

    /// What was told; nothing, if it makes no sense.
    fn heard(told: Self::Told) -> Option<Self::Entry>;

    /// The stamp of what was told, whether it makes sense or not.
    fn stamp(told: &Self::Told) -> Epoch;

    /// Tells some.
    fn put(entries: Vec<Self::Told>) -> Body;

    /// Asks for those after that stamp.
    fn pull(after: Epoch) -> Body;

    /// The answer to that.
    fn page(entries: Vec<Self::Told>) -> reply::Body;

    /// What a frame says of them.
    fn said(body: Body) -> Option<Said<Self::Told>>;

    /// What an answer tells of them.
    fn answered(body: reply::Body) -> Option<Vec<Self::Told>>;

    /// Shows how many there are, and what they are charged.
    fn report(metrics: &P2pMetrics, entries: usize, bytes: usize);
}

/// What another node says.
pub enum Said<T> {
    /// It tells some.
    Put(Vec<T>),
    /// It asks for those after that stamp.
    Pull(Epoch),
}

/// What makes an entry durable.
pub fn write<K: Kind>(entry: &K::Entry) -> Write {
    let key = [K::PREFIX, &K::key(entry)].concat();
    Write::Put { key: Bytes::from(key), record: Record::until(K::tell(entry).encode_to_vec(), entry.until()) }
}

/// What was made durable: it is taken whatever the clock says now.
pub fn read<K: Kind>(record: &Record) -> Option<K::Entry> {
    K::heard(K::Told::decode(record.value.clone()).ok()?)
}
