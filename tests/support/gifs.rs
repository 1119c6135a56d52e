//! A provider of GIFs, as far as the relay asks one.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// As many as are asked for, once [`GifProvider::allow`] says so.
    Found,
    /// These bytes, with that status.
    Bytes(u16, Vec<u8>),
    /// Nothing, ever.
    Never,
}

/// One that runs until it is dropped.
pub struct GifProvider {
    /// Where it is asked.
    pub url: String,
    calls: Arc<Mutex<Vec<String>>>,
    allowed: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Drop for GifProvider {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl GifProvider {
    /// One that answers so at once.
    pub async fn start(answer: Answer) -> Self {
        Self::over(None, answer).await
    }

    /// The same over TLS.
    pub async fn over(tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/v2", listener.local_addr().unwrap());
        let (calls, (allowed, may)) = (Arc::<Mutex<Vec<String>>>::default(), watch::channel(true));
        let noted = calls.clone();
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, noted, may, answer) = (tls.clone(), noted.clone(), may.clone(), answer.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &noted, may, &answer).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &noted, may, &answer).await,
                            Err(error) => Err(error),
                        },
                    }
                });
            }
        });
        Self { url, calls, allowed, running }
    }

    /// Ends it: nobody can connect any more.
    pub async fn stop(mut self) {
        self.running.abort();
        // Ended by being aborted.
        drop((&mut self.running).await);
    }

    /// Whether it answers now.
    pub fn allow(&self, now: bool) {
        self.allowed.send_replace(now);
    }

    /// What it was asked for, each call's path and query.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }
}

/// Answers the calls of one connection until it ends.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    noted: &Mutex<Vec<String>>,
    mut may: watch::Receiver<bool>,
    answer: &Answer,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            read.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(std::mem::take(&mut read)).unwrap();
        let path = head.strip_prefix("GET ").and_then(|rest| rest.split_once(' ')).unwrap().0.to_owned();
        noted.lock().push(path.clone());
        if may.wait_for(|may| *may).await.is_err() {
            return Ok(());
        }
        let (status, body) = match answer {
            Answer::Found => (200, found(&path)),
            Answer::Bytes(status, body) => (*status, body.clone()),
            Answer::Never => std::future::pending().await,
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    }
}

fn found(path: &str) -> Vec<u8> {
    let count: usize = path.rsplit_once("limit=").unwrap().1.parse().unwrap();
    let gif = |number: usize| {
        json!({
            "id": number.to_string(),
            "content_description": format!("cat {number}"),
            "media_formats": {
                "gif": {"url": format!("https://g.example/{number}.gif")},
                "tinygif": {"url": format!("https://g.example/{number}s.gif"), "dims": [200, 150]},
            },
        })
    };
    json!({"results": (0..count).map(gif).collect::<Vec<_>>()}).to_string().into_bytes()
}
