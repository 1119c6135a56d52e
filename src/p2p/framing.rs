//! Messages on streams, read byte by byte as far as they go and no further.

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
    let mut length = Length::at_most(most);
    let length = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        if let Some(length) = length.push(byte[0])? {
            break length;
        }
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
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
}
