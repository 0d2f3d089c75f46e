//! Serving https, for clients that send no tokens without it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::server::TlsStream;

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate, followed by its chain.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

type AcceptedConnection = (TlsStream<TcpStream>, SocketAddr);

/// Accepts connections whose handshake is complete; a slow client delays no other.
pub(super) struct TlsListener {
    ready: mpsc::Receiver<AcceptedConnection>,
    address: SocketAddr,
}

/// Most connections that wait to be served.
const MAX_PENDING_CONNECTIONS: usize = 64;

impl TlsListener {
    pub(super) fn new(mut listener: TcpListener, tls: &Tls) -> io::Result<Self> {
        let acceptor = acceptor(tls).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let address = listener.local_addr()?;
        let (ready, receiver) = mpsc::channel::<AcceptedConnection>(MAX_PENDING_CONNECTIONS);
        tokio::spawn(async move {
            loop {
                let (stream, from) = tokio::select! {
                    accepted = Listener::accept(&mut listener) => accepted,
                    () = ready.closed() => return,
                };
                let (acceptor, ready) = (acceptor.clone(), ready.clone());
                tokio::spawn(async move {
                    // A failed handshake was reported to the client, and a closed receiver needs no connection.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = ready.send((stream, from)).await;
                    }
                });
            }
        });
        Ok(Self { ready: receiver, address })
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, Box<dyn std::error::Error + Send + Sync>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(tls.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates?, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> AcceptedConnection {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Accepting ends only with the listener itself.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
