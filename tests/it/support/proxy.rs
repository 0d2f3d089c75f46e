//! A proxy between a process and its database that breaks connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running proxy on loopback.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cuts: watch::Sender<usize>,
    /// How many connections were broken with an answer under way.
    lost_answers: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Forwards connections to a port.
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, lost_answers) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        let (seen, lost) = (cuts.clone(), Arc::clone(&lost_answers));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                tokio::spawn(forward(client, server, seen.subscribe(), Arc::clone(&lost)));
            }
        });
        Self { port, cuts, lost_answers, task }
    }

    /// Breaks all connections: what is sent from now on still arrives, and its answer does not.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn lost_answers(&self) -> usize {
        self.lost_answers.load(Ordering::Relaxed)
    }
}

/// Forwards both ways until one side ends, or until the first answer after a cut.
async fn forward(client: TcpStream, server: TcpStream, cuts: watch::Receiver<usize>, lost: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
        if cuts.has_changed().unwrap_or(true) {
            lost.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if to_client.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    there.abort();
}
