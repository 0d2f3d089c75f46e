//! Against a token service that keeps account of what it was asked.

use std::collections::BTreeMap;

use async_trait::async_trait;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, HttpClient as AzureHttpClient};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future;
use http::header::{DATE, HeaderMap, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;
use crate::http_client::ClientConfig;
use crate::registry::providers::Acr;

/// The registry's clock stands, and is years away from ours.
const NOW: (i64, &str) = (1_009_886_400, "Tue, 01 Jan 2002 12:00:00 GMT");
const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 2,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(2),
    max_total_delay: Duration::from_secs(5),
};

/// A registry, as far as signing in goes.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct World {
    by_repository: bool,
    wildcards: bool,
    lower_case: bool,
    /// What may be done in repositories, with other rules for some of them.
    actions: Vec<&'static str>,
    but: BTreeMap<&'static str, Vec<&'static str>>,
    lists_catalogue: bool,
    refresh_life: i64,
    access_life: i64,
    /// Refresh tokens up to this one are refused.
    revoked: usize,
    given: usize,
    realm: Option<String>,
    challenge: bool,
    opaque: bool,
    /// Answers that come before any other, by path.
    first: Vec<(&'static str, ResponseTemplate)>,
    /// What was asked, in words.
    seen: Vec<String>,
}

#[derive(Clone)]
struct Registry(Arc<Mutex<World>>);

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn dated(body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).insert_header(DATE, NOW.1).set_body_json(body)
}

impl Respond for Registry {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut world = self.0.lock().unwrap();
        let path = request.url.path().to_owned();
        let fields: HashMap<String, String> = match request.method.as_str() {
            "POST" => url::form_urlencoded::parse(&request.body).into_owned().collect(),
            _ => request.url.query_pairs().into_owned().collect(),
        };
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        world.seen.push(match path.as_str() {
            "/oauth2/exchange" => format!("exchange {}", field("access_token")),
            "/oauth2/token" => format!("token {}", field("scope")),
            _ => path.clone(),
        });
        if let Some(place) = world.first.iter().position(|(of, _)| *of == path) {
            return world.first.remove(place).1;
        }
        let host = request.headers["host"].to_str().unwrap().to_owned();
        match path.as_str() {
            "/v2/" if world.challenge => {
                let realm = world.realm.clone().unwrap_or_else(|| format!("http://{host}/oauth2/token"));
                let challenge = format!("Bearer realm=\"{realm}\",service=\"contoso.azurecr.io\"");
                ResponseTemplate::new(401).insert_header("www-authenticate", challenge.as_str())
            }
            "/oauth2/exchange" => {
                world.given += 1;
                let mut claims = json!({
                    "jti": world.given, "exp": NOW.0 + world.refresh_life, "iat": NOW.0 - 900, "appid": "app-1",
                });
                if world.by_repository {
                    claims["aad_identity"] = json!("someone");
                }
                dated(&json!({ "refresh_token": jwt(&claims) }))
            }
            "/oauth2/token" => {
                if field("grant_type") == "refresh_token" {
                    let payload = field("refresh_token");
                    let payload = payload.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
                    let claims: Value = payload.and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
                    if claims["jti"].as_u64().is_some_and(|number| number <= world.revoked as u64) {
                        return ResponseTemplate::new(401);
                    }
                }
                world.given += 1;
                if world.opaque {
                    return dated(&json!({ "access_token": format!("opaque-{}", world.given) }));
                }
                let access: Vec<Value> = field("scope").split(' ').filter_map(|scope| world.access(scope)).collect();
                let claims = json!({ "jti": world.given, "exp": NOW.0 + world.access_life, "access": access });
                dated(&json!({ "access_token": jwt(&claims) }))
            }
            _ => ResponseTemplate::new(200),
        }
    }
}

impl World {
    fn access(&self, scope: &str) -> Option<Value> {
        let (name, asked) = scope.rsplit_once(':')?;
        let (kind, name) = name.split_once(':')?;
        let actions: Vec<&str> = match kind {
            "registry" => {
                if self.lists_catalogue {
                    vec!["*"]
                } else {
                    vec![]
                }
            }
            _ if name == "*" && (self.by_repository || !self.wildcards) => return None,
            _ => {
                let may = self.but.get(name).unwrap_or(&self.actions);
                asked.split(',').filter(|action| may.contains(action)).collect()
            }
        };
        Some(if self.lower_case {
            json!({ "type": kind, "name": name, "actions": actions })
        } else {
            json!({ "Type": kind, "Name": name, "Actions": actions })
        })
    }
}

/// Gives tokens of Entra ID: `entra-1`, and a new one for each that was refused.
#[derive(Debug, Default)]
struct Entra(Mutex<usize>);

#[async_trait]
impl AzureHttpClient for Entra {
    async fn execute_request(&self, _: &azure_core::http::Request) -> azure_core::Result<AsyncRawResponse> {
        let mut given = self.0.lock().unwrap();
        *given += 1;
        let token = format!("entra-{given}");
        let body = json!({
            "access_token": token, "expires_on": "4102444800", "resource": "r", "token_type": "Bearer",
        });
        Ok(AsyncRawResponse::from_bytes(200.into(), Headers::new(), body.to_string().into_bytes()))
    }
}

struct Site {
    server: MockServer,
    registry: Registry,
    sign_in: AcrAuthenticator,
    transport: HttpClient,
}

impl Site {
    async fn new(auth: Auth, change: impl FnOnce(&mut World)) -> Self {
        let mut world = World {
            by_repository: false,
            wildcards: true,
            lower_case: false,
            actions: vec!["metadata_read", "pull", "delete", "push"],
            but: BTreeMap::new(),
            lists_catalogue: true,
            refresh_life: 3 * 3600,
            access_life: 3600,
            revoked: 0,
            given: 0,
            realm: None,
            challenge: true,
            opaque: false,
            first: Vec::new(),
            seen: Vec::new(),
        };
        change(&mut world);
        let registry = Registry(Arc::new(Mutex::new(world)));
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(registry.clone()).mount(&server).await;
        let endpoint: Url = server.uri().parse().unwrap();
        let settings = RegistrySettings::with_defaults("contoso".parse().unwrap(), &Acr, endpoint.clone());
        let sign_in = AcrAuthenticator::new(&RegistrySettings { auth, ..settings }, PATIENCE);
        let config = ClientConfig { name: "test".into(), ca_file: None, timeout: Duration::from_secs(5) };
        let client = HttpClient::new(&config, PATIENCE)
            .unwrap()
            .with_rate_limits(&endpoint, crate::http_client::RateLimits::default());
        if let Auth::Entra(credential) = &sign_in.settings.auth {
            let tokens = Box::new(credential.connect_with(Arc::new(Entra::default())).unwrap());
            let scope = credential.environment.cloud.registry_scope();
            sign_in.credentials.set(Credentials::Entra { tokens, scope }).unwrap();
        }
        Self { server, registry, sign_in, transport: client }
    }

    async fn entra(change: impl FnOnce(&mut World)) -> Self {
        let identity = azure::Identity::Managed { client_id: None };
        let credential = azure::Credential { identity, environment: azure::AzureEnvironment::default() };
        Self::new(Auth::Entra(Box::new(credential)), change).await
    }

    async fn header(&self, grant: &TokenScope) -> Result<String, RegistryError> {
        let header = self.sign_in.authorization(&self.transport, grant).await?;
        Ok(header.map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default())
    }

    /// What comes after a 401 to what was just signed.
    async fn refused(&self, grant: &TokenScope, error: &str) -> Result<Option<String>, RegistryError> {
        let used = self.sign_in.authorization(&self.transport, grant).await?;
        let challenge = format!("Bearer realm=\"https://evil.example/oauth2/token\",service=\"x\"{error}");
        let response = Response {
            status: StatusCode::UNAUTHORIZED,
            headers: HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge.parse().unwrap())]),
            body: Vec::new(),
            request: String::new(),
        };
        let header = self.sign_in.renew_authorization(&self.transport, grant, used.as_ref(), &response).await?;
        Ok(header.map(|header| header.to_str().unwrap().to_owned()))
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.registry.0.lock().unwrap());
    }

    /// What was asked since the last look.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.registry.0.lock().unwrap().seen)
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn list(text: &str) -> TokenScope {
    TokenScope::List(name(text))
}

fn delete(text: &str) -> TokenScope {
    TokenScope::Delete(name(text))
}

const READING: &str = "token registry:catalog:* repository:*:metadata_read";

#[tokio::test]
async fn one_token_for_all_reading_and_one_for_each_other_kind_of_action() {
    for lower_case in [false, true] {
        let site = Site::entra(|world| world.lower_case = lower_case).await;
        let grants = [TokenScope::Catalogue, list("a"), list("b")];
        let headers = future::try_join_all(grants.iter().cycle().take(30).map(|grant| site.header(grant))).await;
        let mut headers = headers.unwrap();
        headers.dedup();
        assert_eq!(headers.len(), 1, "whoever waited shares it");
        assert_eq!(site.seen(), ["/v2/", "exchange entra-1", READING]);
        for grant in [
            TokenScope::Pull(name("a")),
            TokenScope::Pull(name("b")),
            delete("a"),
            TokenScope::Push(name("a")),
            delete("b"),
        ] {
            site.header(&grant).await.unwrap();
        }
        assert_eq!(
            site.seen(),
            ["token repository:*:pull", "token repository:*:delete", "token repository:*:pull,push"]
        );
        assert_eq!(site.sign_in.identity(), "application app-1 (the managed identity of this machine)");
    }
}

#[tokio::test]
async fn where_roles_are_by_repository_each_is_named_ten_to_a_token() {
    for ignored in [false, true] {
        // Told in the refresh token, or only by what the access token does not hold.
        let site = Site::entra(|world| (world.by_repository, world.wildcards) = (!ignored, false)).await;
        let names: Vec<RepositoryName> = (0..12).map(|number| name(&format!("r{number:02}"))).collect();
        site.sign_in.preauthorize(&names);
        site.header(&TokenScope::Catalogue).await.unwrap();
        for repository in &names {
            site.header(&TokenScope::List(repository.clone())).await.unwrap();
            site.header(&TokenScope::Delete(repository.clone())).await.unwrap();
        }
        site.header(&list("other")).await.unwrap();
        let scope = |range: std::ops::Range<usize>, action: &str| {
            let scopes: Vec<String> = range.map(|number| format!("repository:r{number:02}:{action}")).collect();
            format!("token {}", scopes.join(" "))
        };
        let mut expected = vec![
            scope(0..10, "metadata_read"),
            scope(0..10, "delete"),
            scope(10..12, "metadata_read"),
            scope(10..12, "delete"),
            "token repository:other:metadata_read".to_owned(),
        ];
        let mut seen = site.seen();
        if ignored {
            seen.retain(|line| line != READING && line != "token repository:*:delete");
        } else {
            expected.insert(0, "token registry:catalog:*".into());
        }
        assert_eq!(seen[2..], expected);
    }
}

#[tokio::test]
async fn what_a_token_does_not_hold_is_not_asked_for() {
    let site = Site::entra(|world| world.actions = vec!["metadata_read", "pull"]).await;
    assert!(site.header(&list("shop/api")).await.is_ok());
    for (grant, words) in
        [(delete("shop/api"), ["`delete`", "AcrDelete"]), (TokenScope::Push(name("shop/api")), ["`push`", "AcrPush"])]
    {
        let error = site.header(&grant).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Denied);
        for part in words.into_iter().chain(["`shop/api`", "app-1", "Repository Contributor"]) {
            assert!(error.chain().contains(part), "{part}: {error}");
        }
    }

    let site = Site::entra(|world| {
        world.by_repository = true;
        world.lists_catalogue = false;
        world.but.insert("b", vec!["metadata_read"]);
    })
    .await;
    site.sign_in.preauthorize(&[name("a"), name("b"), name("c")]);
    assert!(site.header(&delete("a")).await.is_ok() && site.header(&delete("c")).await.is_ok());
    let error = site.header(&delete("b")).await.unwrap_err().chain();
    assert!(
        error.contains("role Container Registry Repository Contributor") && !error.contains("AcrDelete"),
        "{error}"
    );
    let error = site.header(&TokenScope::Catalogue).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert!(error.chain().contains("Catalog Lister"), "{error}");
    assert_eq!(site.seen().len(), 4, "ping, exchange, one token for the three, one for the catalogue");
}

#[tokio::test]
async fn lives_are_counted_by_the_registrys_clock() {
    // (life of the refresh token, of the access token) and what a second request takes.
    for (refresh, access, again) in [
        (3 * 3600, 3600, vec![]),
        (3 * 3600, 0, vec![READING]),
        (3 * 3600, -60, vec![READING]),
        (0, 3600, vec!["exchange entra-1"]),
    ] {
        let site = Site::entra(|world| (world.refresh_life, world.access_life) = (refresh, access)).await;
        site.header(&list("a")).await.unwrap();
        site.seen();
        site.header(&list("a")).await.unwrap();
        assert_eq!(site.seen(), again, "{refresh} {access}");
    }
    for (life, used) in [(3600, 3300), (3 * 3600, 3 * 3600 - 300), (60, 45), (0, 0), (u64::MAX, 86_100)] {
        assert_eq!(usable_lifetime(Duration::from_secs(life)).as_secs(), used, "{life}");
    }
}

#[tokio::test]
async fn tokens_that_have_ended_when_they_come_are_used_once() {
    let site = Site::entra(|world| {
        (world.refresh_life, world.access_life, world.wildcards) = (-1, -1, false);
    })
    .await;
    for repository in ["a", "b"] {
        let grant = list(repository);
        assert!(
            tokio::time::timeout(Duration::from_secs(20), site.header(&grant)).await.is_ok_and(|header| header.is_ok())
        );
    }
    assert_eq!(site.seen().len(), 1 + 4 + 2, "ping, both scopes with an exchange each, then what is honoured");
}

#[tokio::test]
async fn a_401_in_the_middle_begins_again_with_the_exchange() {
    let site = Site::entra(|_| {}).await;
    let before = site.header(&delete("a")).await.unwrap();
    site.seen();
    let after = site.refused(&delete("a"), ",error=\"invalid_token\"").await.unwrap().unwrap();
    assert_ne!(before, after);
    assert_eq!(site.seen(), ["exchange entra-1", "token repository:*:delete"], "and not at the realm that it named");
    assert_eq!(site.header(&delete("b")).await.unwrap(), after);

    // The permission mode was switched: what was given before is refused, and wildcards are not honoured.
    site.change(|world| (world.by_repository, world.revoked) = (true, world.given));
    assert!(site.refused(&delete("a"), "").await.unwrap().is_some());
    assert_eq!(site.seen(), ["exchange entra-1", "token repository:a:delete"]);
    // And back again.
    site.change(|world| (world.by_repository, world.revoked) = (false, world.given));
    assert!(site.refused(&delete("a"), ",error=\"invalid_token\"").await.unwrap().is_some());
    assert_eq!(site.seen()[0], "exchange entra-1");
}

#[tokio::test]
async fn a_wildcard_that_is_given_and_not_honoured_is_given_up() {
    let site = Site::entra(|_| {}).await;
    site.header(&delete("a")).await.unwrap();
    site.seen();
    assert!(site.refused(&delete("a"), ",error=\"insufficient_scope\"").await.unwrap().is_some());
    assert_eq!(site.seen(), ["exchange entra-1", "token repository:a:delete"]);
}

#[tokio::test]
async fn a_refresh_token_that_the_service_refuses_is_exchanged_anew() {
    let site = Site::entra(|_| {}).await;
    site.header(&list("a")).await.unwrap();
    site.change(|world| world.revoked = world.given);
    site.seen();
    site.header(&delete("a")).await.unwrap();
    let scope = "token repository:*:delete";
    assert_eq!(site.seen(), [scope, "exchange entra-1", scope]);
}

#[tokio::test]
async fn throttling_delays_signing_in_and_does_not_end_it() {
    let busy = || ResponseTemplate::new(429).insert_header("retry-after", "0");
    let site = Site::entra(|world| {
        world.first = vec![("/oauth2/exchange", busy()), ("/oauth2/token", busy()), ("/oauth2/token", busy())];
    })
    .await;
    site.header(&list("a")).await.unwrap();
    assert_eq!(site.transport.request_counts().throttled, 3);
    assert_eq!(site.seen().len(), 6);
}

#[tokio::test]
async fn a_refused_exchange_is_told_and_no_wider_audience_offered() {
    for status in [401, 403] {
        let site = Site::entra(|world| {
            // A service that repeats what it was sent.
            let refusal = |token: &str| {
                let body = json!({ "errors": [{ "code": "DENIED", "message": format!("no good: {token}") }] });
                ("/oauth2/exchange", ResponseTemplate::new(status).set_body_json(body))
            };
            world.first = vec![refusal("entra-1"), refusal("entra-2")];
        })
        .await;
        let error = site.header(&list("a")).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Denied);
        for part in ["contoso", "managed identity", "https://containerregistry.azure.net", "not offered a wider one"] {
            assert!(error.chain().contains(part), "{part}: {error}");
        }
        assert!(!error.chain().contains("entra-"), "{error}");
        let tries = if status == 401 { 2 } else { 1 };
        assert_eq!(
            site.seen().len(),
            1 + tries,
            "with a new token of Entra ID where the old one may have been refused"
        );
    }
}

#[tokio::test]
async fn credentials_go_to_the_registrys_own_token_service() {
    let thief = MockServer::start().await;
    for auth in [None, Some(Auth::Basic { username: "ada".into(), password: "sesame".into() })] {
        let realm = Some(format!("{}/oauth2/token", thief.uri()));
        let site = match auth {
            None => Site::entra(|world| world.realm = realm).await,
            Some(auth) => Site::new(auth, |world| world.realm = realm).await,
        };
        let error = site.header(&list("a")).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Denied);
        assert!(error.chain().contains("token_hosts"), "{error}");
        assert_eq!(site.seen(), ["/v2/"]);
    }
    assert!(thief.received_requests().await.unwrap().is_empty());

    // Where it does not say where to go, what all container registries have is on its own host.
    let site = Site::entra(|world| world.challenge = false).await;
    site.header(&list("a")).await.unwrap();
    assert_eq!(site.seen()[1..], ["exchange entra-1", READING]);
}

#[tokio::test]
async fn users_with_passwords_come_by_the_token_service_or_directly() {
    let ada = || Auth::Basic { username: "ada".into(), password: "sesame".into() };
    let site = Site::new(ada(), |world| world.wildcards = false).await;
    assert!(site.header(&list("a")).await.unwrap().starts_with("Bearer "));
    assert_eq!(site.seen(), ["/v2/", READING, "token repository:a:metadata_read"]);
    let requests = site.server.received_requests().await.unwrap();
    assert!(
        requests[1..].iter().all(|it| it.method == "GET" && it.headers["authorization"] == "Basic YWRhOnNlc2FtZQ==")
    );
    site.change(|world| world.actions.clear());
    let error = site.header(&delete("a")).await.unwrap_err().chain();
    assert!(error.contains("user ada") && error.contains("`content/delete` to the scope map"), "{error}");

    // No token service: the password comes with each request.
    for world in [0, 1] {
        let gone = || vec![("/oauth2/token", ResponseTemplate::new(404))];
        let site = Site::new(ada(), |it| if world == 0 { it.challenge = false } else { it.first = gone() }).await;
        assert_eq!(site.header(&list("a")).await.unwrap(), "Basic YWRhOnNlc2FtZQ==");
        assert_eq!(site.header(&delete("a")).await.unwrap(), "Basic YWRhOnNlc2FtZQ==");
    }

    let refresh = jwt(&json!({ "jti": 1000, "appid": "app-7", "tenant": "t-1" }));
    let nobody = Auth::Basic { username: REFRESH_TOKEN_USER.into(), password: refresh.clone().into() };
    let site = Site::new(nobody, |_| {}).await;
    site.header(&list("a")).await.unwrap();
    assert_eq!(site.seen(), ["/v2/", READING]);
    assert_eq!(site.sign_in.identity(), "application app-7 of tenant t-1");
    site.change(|world| world.revoked = 2000);
    let error = site.header(&delete("a")).await.unwrap_err().chain();
    assert!(error.contains("az acr login") && !error.contains(&refresh), "{error}");
}

#[tokio::test]
async fn strangers_and_bearers_come_as_they_are() {
    let site = Site::new(Auth::Anonymous, |_| {}).await;
    site.header(&TokenScope::Pull(name("a"))).await.unwrap();
    let requests = site.server.received_requests().await.unwrap();
    assert_eq!(requests[1].method, "POST");
    assert!(String::from_utf8_lossy(&requests[1].body).contains("grant_type=password"));

    let site = Site::new(Auth::Token("mine".into()), |_| {}).await;
    assert_eq!(site.header(&delete("a")).await.unwrap(), "Bearer mine");
    assert_eq!(site.refused(&delete("a"), "").await, Ok(None));
    assert!(site.seen().is_empty());

    // A token that cannot be read is taken as it is.
    let site = Site::entra(|world| world.opaque = true).await;
    assert_eq!(site.header(&delete("a")).await.unwrap(), "Bearer opaque-2");
    assert_eq!(site.header(&delete("b")).await.unwrap(), "Bearer opaque-2");
}
