//! Between Tagwarden and the registry: a proxy, a certificate of one's own.

use std::sync::{Arc, Mutex};

use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::{CliFixture, fill, names, record, settings};
use crate::support::certificate::{Certified, certified};
use crate::support::content;
use crate::support::docker_registry::{DockerRegistry, PASSWORD, Setup, USER};

const POLICIES: &str = "policies:\n  - name: old\n    select: { tags: [\"c-*\"] }\n    keep: [{ newest: 2 }]\n";

/// A proxy on loopback that leads every connection to `target`, whatever host it is for, and notes what was asked first.
pub(super) async fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (target, noted) = (target.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let mut head = [0; 512];
                let length = client.peek(&mut head).await.unwrap_or_default();
                let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
                // A client may open a connection more than it uses.
                if length > 0 {
                    noted.lock().unwrap().push(line);
                }
                let mut registry = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut registry).await;
            });
        }
    });
    (address, asked)
}

fn asked_of(noted: &Mutex<Vec<String>>) -> Vec<String> {
    noted.lock().unwrap().drain(..).collect()
}

#[tokio::test]
async fn requests_go_through_the_proxy_of_the_environment() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 4);
    let (address, asked) = proxy(registry.host().to_owned()).await;
    // This host is known to nobody but the proxy.
    let endpoint = "http://registry.contoso.example";
    for variable in ["HTTP_PROXY", "http_proxy"] {
        let mut desk = CliFixture::with(&[
            ("tagwarden.toml", &settings(endpoint)),
            ("policies/all.yaml", POLICIES),
            ("releases/api.json", &record("registry.contoso.example/shop/api:c-4")),
        ]);
        desk.set(variable, &format!("http://{address}"));
        let plan = desk.run("plan --format json").await.exits(0).json();
        assert_eq!(names(&plan, "removals"), ["shop/api:c-1", "shop/api:c-2"]);
        let by_proxy = asked_of(&asked);
        assert!(!by_proxy.is_empty());
        for line in by_proxy {
            assert!(
                line.starts_with("GET http://registry.contoso.example/v2/") || line.starts_with("HEAD http://"),
                "{line}"
            );
        }
        desk.write("tagwarden.toml", &settings(&registry.url()));
        desk.write("releases/api.json", &record(&format!("{}/shop/api:c-4", registry.host())));
        desk.set("NO_PROXY", "127.0.0.1");
        desk.run("plan").await.exits(0);
        assert!(asked_of(&asked).is_empty(), "it was told to go without");
    }
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_trusted_by_its_authority_alone() {
    let Certified { authority, certificate, key } = certified();
    let setup = Setup { tls: Some((certificate, key)), login: true, ..Setup::default() };
    let registry = DockerRegistry::start(setup).await;
    let config = content::config("2024-01-01T00:00:00Z", "one");
    registry.push_blob("shop/api", &config).await;
    registry.push_manifest("shop/api", "c-1", &content::image(&config, &[])).await;
    let auth = format!("\nauth = {{ kind = \"basic\", username = \"{USER}\", password_file = \"password\" }}\n");
    let text = settings(registry.endpoint.as_str()).replace("\n\n", &format!("{auth}\n"));
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &text),
        ("ca.pem", &authority),
        ("password", PASSWORD),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:c-1", registry.host()))),
    ]);
    desk.write("tagwarden.toml", &text.replace("\n\n", "\nca_file = \"ca.pem\"\n\n"));
    let plan = desk.run("plan --format json").await.exits(0).json();
    assert_eq!(names(&plan, "kept"), ["shop/api:c-1 protected"]);
    desk.write("ca.pem", "no certificate\n");
    let done = desk.run("plan").await.exits(2);
    assert!(done.err.contains("ca.pem"), "{}", done.err);
}
