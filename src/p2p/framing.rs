//! Messages on streams: with a length before them, read as far as they go and no further, or all that is said.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::p2p::delimited::{Length, LengthError};

/// Why a message was not read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended or broke.
    #[error(transparent)]
    Stream(#[from] io::Error),
    /// Its length makes no sense.
    #[error(transparent)]
    Length(#[from] LengthError),
}

/// The next message, of `most` bytes at most; what follows it is left on the stream.
///
/// # Errors
/// [`FrameError`].
pub async fn read(stream: &mut (impl AsyncRead + Unpin), most: usize) -> Result<Vec<u8>, FrameError> {
    let mut first = [0];
    stream.read_exact(&mut first).await?;
    read_from(stream, first[0], most).await
}

/// The same of a message whose first byte has been read.
async fn read_from(stream: &mut (impl AsyncRead + Unpin), first: u8, most: usize) -> Result<Vec<u8>, FrameError> {
    let (mut length, mut byte) = (Length::at_most(most), [first]);
    let length = loop {
        if let Some(length) = length.push(byte[0])? {
            break length;
        }
        stream.read_exact(&mut byte).await?;
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// The next of many messages on a stream, whenever it comes; none, once the stream has ended. For the rest of one that has
/// begun nobody waits longer than `patience`.
///
/// # Errors
/// Why nothing more is read, in one word for figures.
pub async fn next(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
    patience: Duration,
) -> Result<Option<Vec<u8>>, &'static str> {
    let mut first = [0];
    match stream.read(&mut first).await {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(_) => return Err("broken"),
    }
    match request(read_from(stream, first[0], most), patience).await? {
        Ok(message) => Ok(Some(message)),
        Err(_) => Err("malformed"),
    }
}

/// All that is said until the stream ends, `most` bytes at most.
///
/// # Errors
/// [`FrameError`].
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin), most: usize) -> Result<Vec<u8>, FrameError> {
    let mut message = Vec::new();
    // One byte more, to know that there is more.
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(bound).read_to_end(&mut message).await?;
    if message.len() > most { Err(LengthError::TooLong.into()) } else { Ok(message) }
}

/// A request that is being read, for which nobody waits longer than `patience`. What came may be too long for one: there
/// may be an answer to that.
///
/// # Errors
/// Why there is no request, and nobody to be answered, in one word for figures.
pub async fn request(
    reading: impl Future<Output = Result<Vec<u8>, FrameError>>,
    patience: Duration,
) -> Result<Result<Vec<u8>, LengthError>, &'static str> {
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(message)) => Ok(Ok(message)),
        Ok(Err(FrameError::Length(error))) => Ok(Err(error)),
        Ok(Err(FrameError::Stream(_))) => Err("broken"),
        Err(_) => Err("slow"),
    }
}

/// The request on a stream on which nothing else is said, as `read` makes it out.
///
/// # Errors
/// Why there is none, in one word for figures.
pub async fn whole<T, E>(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
    patience: Duration,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, &'static str> {
    let message = request(read_to_end(stream, most), patience).await?;
    message.ok().and_then(|message| read(&message).ok()).ok_or("malformed")
}

/// Writes a message that has its length before it.
///
/// # Errors
/// When the stream breaks.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), framed: &[u8]) -> io::Result<()> {
    stream.write_all(framed).await?;
    stream.flush().await
}

/// Answers, if there is an answer, and ends the stream. A peer that does not take its answer within `patience` has gone, or
/// does without.
pub async fn finish(mut stream: impl AsyncWrite + Unpin, framed: Option<&[u8]>, patience: Duration) {
    let answering = async {
        if let Some(framed) = framed {
            write(&mut stream, framed).await?;
        }
        stream.close().await
    };
    drop(tokio::time::timeout(patience, answering).await);
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn what_follows_a_message_stays_on_the_stream() {
        let mut stream = Cursor::new([2, 8, 0, 99]);
        assert_eq!(block_on(read(&mut stream, 4096)).unwrap(), [8, 0]);
        assert_eq!(stream.position(), 3);
    }

    #[test]
    fn a_message_that_is_cut_off_or_too_long_is_an_error() {
        assert!(matches!(block_on(read(&mut Cursor::new([2, 8]), 4096)), Err(FrameError::Stream(_))));
        assert!(matches!(block_on(read(&mut Cursor::new([9, 8]), 8)), Err(FrameError::Length(LengthError::TooLong))));
    }

    #[test]
    fn all_that_is_said_is_read_up_to_a_bound() {
        assert_eq!(block_on(read_to_end(&mut Cursor::new([1, 2, 3]), 3)).unwrap(), [1, 2, 3]);
        assert!(block_on(read_to_end(&mut Cursor::new([]), 3)).unwrap().is_empty());
        let longer = block_on(read_to_end(&mut Cursor::new([1, 2, 3, 4]), 3));
        assert!(matches!(longer, Err(FrameError::Length(LengthError::TooLong))));
    }

    #[tokio::test]
    async fn messages_come_one_after_the_other_until_the_stream_ends() {
        let (patience, mut stream) = (Duration::from_millis(20), Cursor::new([1, 7, 0, 2, 8]));
        assert_eq!(next(&mut stream, 8, patience).await, Ok(Some(vec![7])));
        assert_eq!(next(&mut stream, 8, patience).await, Ok(Some(vec![])));
        assert_eq!(next(&mut stream, 8, patience).await, Err("broken"), "cut off");
        assert_eq!(next(&mut stream, 8, patience).await, Ok(None));
        assert_eq!(next(&mut Cursor::new([9]), 8, patience).await, Err("malformed"));
        let mut begun =
            Cursor::new([2, 7]).chain(futures::stream::pending::<std::io::Result<Vec<u8>>>().into_async_read());
        assert_eq!(next(&mut begun, 8, patience).await, Err("slow"));
    }

    #[tokio::test]
    async fn a_request_comes_in_time_or_is_named_for_why_not() {
        let patience = Duration::from_millis(20);
        let asked = |bytes: &'static [u8]| async move { request(read(&mut Cursor::new(bytes), 8), patience).await };
        assert_eq!(asked(&[1, 7]).await, Ok(Ok(vec![7])));
        assert_eq!(asked(&[9, 7]).await, Ok(Err(LengthError::TooLong)));
        assert_eq!(asked(&[2, 7]).await, Err("broken"));
        assert_eq!(request(std::future::pending(), patience).await, Err("slow"));
    }
}
