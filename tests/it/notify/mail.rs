//! E-mail, against a small SMTP server.

use std::sync::{Arc, Mutex};

use tagwarden::config::{NotifyEvent, NotifySettings};
use tagwarden::notify;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{noon, notify_run, run_with_occasions};
use crate::config::load;
use crate::support::certificate::{Certified, certified};

/// What a server heard, all conversations one after the other.
type SmtpTranscript = Arc<Mutex<String>>;

/// A server that takes everything, or answers a recipient with `recipient`. Gives its port and what it hears.
async fn server(tls: Option<&Certified>, recipient: &'static str) -> (u16, SmtpTranscript) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = SmtpTranscript::default();
    let acceptor = tls.map(|certified| {
        let chain = vec![CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
        TlsAcceptor::from(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()))
    });
    let log = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &acceptor {
                // Whoever does not trust the certificate goes away.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        converse(stream, recipient, &log).await;
                    }
                }
                None => converse(stream, recipient, &log).await,
            }
        }
    });
    (port, heard)
}

/// One conversation (RFC 5321), with neither STARTTLS nor pipelining.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, recipient: &str, heard: &SmtpTranscript) {
    let mut stream = BufReader::new(stream);
    let mut answer = "220 mail.example\r\n".to_owned();
    let mut data = false;
    loop {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        answer.clear();
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        heard.lock().unwrap().push_str(&line);
        let verb = line.trim_end();
        answer.push_str(if data {
            data = verb != ".";
            if data { "" } else { "250 taken\r\n" }
        } else if verb.starts_with("EHLO") {
            "250-mail.example\r\n250 AUTH PLAIN\r\n"
        } else if verb.starts_with("AUTH PLAIN") {
            "235 welcome\r\n"
        } else if verb.starts_with("RCPT") {
            recipient
        } else if verb == "DATA" {
            data = true;
            "354 go on\r\n"
        } else if verb == "QUIT" {
            "221 bye\r\n"
        } else {
            "250 fine\r\n"
        });
    }
}

fn settings(port: u16, lines: &str) -> NotifySettings {
    let text = format!(
        "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n\
         [notify.mail]\nkind = \"email\"\nserver = \"127.0.0.1\"\nport = {port}\n\
         from = \"Tagwarden <tagwarden@contoso.example>\"\nto = [\"anna@contoso.example\", \"Bo <bo@contoso.example>\"]\n\
         {lines}\n"
    );
    load(&text, &[("TAGWARDEN__NOTIFY__MAIL__PASSWORD", "hunter2")][..usize::from(lines.contains("username"))])
        .notify
        .remove(0)
}

#[tokio::test]
async fn a_letter_has_all_that_a_letter_needs() {
    let (port, heard) = server(None, "250 fine\r\n").await;
    let folder = tempfile::tempdir().unwrap();
    let mut news = run_with_occasions(&[(NotifyEvent::EvidenceMissing, "x")]);
    news.problems = vec!["source aks-prod failed: it did not answer".to_owned()];
    notify_run(&[settings(port, "tls = \"none\"")], folder.path(), noon(), news).await;
    let heard = heard.lock().unwrap().clone();
    for line in [
        "EHLO contoso.example",
        "MAIL FROM:<tagwarden@contoso.example>",
        "RCPT TO:<anna@contoso.example>",
        "RCPT TO:<bo@contoso.example>",
        "From: Tagwarden <tagwarden@contoso.example>",
        "Subject: Tagwarden: evidence is missing in a run",
        "Date: Fri, 20 Nov 2026 12:00:00 +0000",
        "Auto-Submitted: auto-generated",
        "Content-Type: text/plain; charset=utf-8",
        "- source aks-prod failed: it did not answer",
    ] {
        assert!(heard.lines().any(|heard| heard.trim_end() == line), "{line} is not in\n{heard}");
    }
    assert!(heard.contains("Message-ID: <") && heard.contains("@contoso.example>"), "{heard}");
}

/// Encrypted from the first byte, by an authority that only the settings name, with a sign-in.
#[tokio::test]
async fn a_letter_goes_encrypted_to_whom_the_settings_trust() {
    let certified = certified();
    let (port, heard) = server(Some(&certified), "250 fine\r\n").await;
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &certified.authority).unwrap();
    let trusting = format!("tls = \"tls\"\nusername = \"tagwarden\"\nca_file = \"{}\"", authority.display());
    notify::send_test(&settings(port, &trusting), "anna@host", noon()).await.unwrap();
    let told = heard.lock().unwrap().clone();
    // base64 of \0tagwarden\0hunter2
    assert!(told.contains("AUTH PLAIN AHRhZ3dhcmRlbgBodW50ZXIy"), "{told}");
    assert!(told.contains("Subject: Tagwarden: a test of mail"), "{told}");
    heard.lock().unwrap().clear();

    let distrusting = settings(port, "tls = \"tls\"\nusername = \"tagwarden\"\ntimeout = \"5s\"");
    let news = run_with_occasions(&[(NotifyEvent::Failed, "x")]);
    notify_run(&[distrusting], folder.path(), noon(), news).await;
    assert_eq!(*heard.lock().unwrap(), "");
}

/// Who cannot encrypt gets neither password nor letter.
#[tokio::test]
async fn without_starttls_nothing_is_said() {
    let (port, heard) = server(None, "250 fine\r\n").await;
    let error = notify::send_test(&settings(port, "username = \"tagwarden\""), "anna@host", noon()).await.unwrap_err();
    assert!(error.chain().contains("notify.mail: 127.0.0.1") && !error.chain().contains("hunter2"), "{error}");
    let heard = heard.lock().unwrap().clone();
    assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{heard}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again() {
    let (port, heard) = server(None, "550 no such user\r\n").await;
    let error = notify::send_test(&settings(port, "tls = \"none\""), "anna@host", noon()).await.unwrap_err();
    assert_eq!(error.kind.label(), "refused");
    assert!(error.chain().contains("550") || error.chain().contains("no such user"), "{error}");
    assert_eq!(heard.lock().unwrap().matches("RCPT").count(), 1);
}
