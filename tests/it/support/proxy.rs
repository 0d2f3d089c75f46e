//! A proxy between a process and its database that delays, breaks and repeats what goes through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the server is listened to after a late request.
const LATE_ANSWER: Duration = Duration::from_secs(2);

/// A running proxy on loopback.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    control: watch::Sender<Control>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Control {
    cuts: usize,
    strands: usize,
    deliveries: usize,
    delay: Duration,
    severed: bool,
}

#[derive(Default)]
struct Counts {
    /// Connections that were broken with an answer under way.
    lost_answers: AtomicUsize,
    /// Requests that were held back when their connection was broken.
    stranded: AtomicUsize,
    /// Those of them that arrived later.
    late: AtomicUsize,
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
        let (control, counts) = (watch::Sender::new(Control::default()), Arc::<Counts>::default());
        let (seen, counted) = (control.clone(), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if seen.borrow().severed {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                tokio::spawn(forward(client, server, seen.subscribe(), Arc::clone(&counted)));
            }
        });
        Self { port, control, counts, task }
    }

    /// Lets everything take so much longer, in each direction.
    pub(crate) fn delay(&self, delay: Duration) {
        self.control.send_modify(|control| control.delay = delay);
    }

    /// Breaks all connections: what is sent from now on still arrives, and its answer does not.
    pub(crate) fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }

    /// Breaks all connections and accepts no other, until [`Self::heal`].
    pub(crate) fn sever(&self) {
        self.control.send_modify(|control| control.severed = true);
    }

    /// Lets connections through again.
    pub(crate) fn heal(&self) {
        self.control.send_modify(|control| control.severed = false);
    }

    /// Breaks each connection with its next request, which is under way and arrives once [`Self::deliver`] says so. A
    /// client that repeats it on a new connection is ahead of it: the server gets both.
    pub(crate) fn strand(&self) {
        self.control.send_modify(|control| control.strands += 1);
    }

    /// Lets the requests of broken connections arrive.
    pub(crate) fn deliver(&self) {
        self.control.send_modify(|control| control.deliveries = control.strands);
    }

    pub(crate) fn lost_answers(&self) -> usize {
        self.counts.lost_answers.load(Ordering::Relaxed)
    }

    /// How many requests were held back so far.
    pub(crate) fn stranded(&self) -> usize {
        self.counts.stranded.load(Ordering::Relaxed)
    }

    /// How many of them arrived.
    pub(crate) fn late_requests(&self) -> usize {
        self.counts.late.load(Ordering::Relaxed)
    }
}

/// Forwards both ways until one side ends, until the first answer after a cut, or until the first request after a strand.
async fn forward(client: TcpStream, server: TcpStream, mut control: watch::Receiver<Control>, counts: Arc<Counts>) {
    let before = *control.borrow();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            let now = *control.borrow();
            if now.strands > before.strands {
                return Some((bytes[..count].to_vec(), now.strands));
            }
            tokio::time::sleep(now.delay).await;
            if to_server.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        None
    };
    let answers = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let now = *control.borrow();
            if now.cuts > before.cuts {
                counts.lost_answers.fetch_add(1, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(now.delay).await;
            if to_client.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    };
    let mut severed = control.clone();
    let stranded = tokio::select! {
        stranded = requests => stranded,
        () = answers => None,
        _ = severed.wait_for(|control| control.severed) => None,
    };
    drop((from_client, to_client));
    let Some((request, strand)) = stranded else { return };
    counts.stranded.fetch_add(1, Ordering::Relaxed);
    if control.wait_for(|control| control.deliveries >= strand).await.is_err() {
        return;
    }
    if to_server.write_all(&request).await.is_ok() {
        counts.late.fetch_add(1, Ordering::Relaxed);
    }
    let _ = tokio::time::timeout(LATE_ANSWER, from_server.read_to_end(&mut Vec::new())).await;
}
