//! Signed requests to one registry: at most so many at once, a fresh token after a 401, redirects followed with care.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::{StreamExt as _, stream};
use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::acr::AcrSignIn;
use super::auth::{Grant, SignIn};
use super::{Rates, RegistryError, RegistryErrorKind, RegistryKind, RegistrySettings, Requests, ServerTime};
use crate::domain::RepositoryName;
use crate::transport::{Answer, Ask, ERROR_LIMIT, Operation, Patience, Peer, Repeat, Reservation, Transport};

/// Where a redirect may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// To another path of the registry: its answers are believed as they are.
    Registry,
    /// To any host: the answer is checked against the digest that it was asked for by.
    Anywhere,
}

const MOST_REDIRECTS: usize = 5;

/// All that one deletion or push may have to wait for, waited for already: its turn at the registry's pace, and a token. Whoever
/// looks at a tag before removing it gets this first, or the look would be old when the request is sent.
#[derive(Debug)]
pub struct Clearance {
    place: Option<Reservation>,
    signature: Option<HeaderValue>,
}

/// The HTTP side of one registry.
#[derive(Debug)]
pub(super) struct RegistryHttp {
    pub(super) settings: RegistrySettings,
    transport: Transport,
    sign_in: Signing,
    permits: Semaphore,
    /// Whether it may change the registry: only a writer's does.
    changes: bool,
}

/// How a registry is signed in to, by its kind.
#[derive(Debug)]
enum Signing {
    /// As the distribution token specification has it.
    Distribution(Box<SignIn>),
    Acr(Box<AcrSignIn>),
}

impl RegistryHttp {
    /// The side of a reader: it sends GET and HEAD, and what signing in needs, and refuses everything else.
    ///
    /// # Errors
    /// When the settings cannot work; nothing is sent yet.
    pub(super) fn new(settings: RegistrySettings, patience: Patience) -> Result<Self, RegistryError> {
        let endpoint = &settings.endpoint;
        let bare = matches!(endpoint.scheme(), "http" | "https")
            && endpoint.host_str().is_some()
            && endpoint.path() == "/"
            && endpoint.query().is_none()
            && endpoint.fragment().is_none();
        let secret = !endpoint.username().is_empty() || endpoint.password().is_some();
        if secret || !bare {
            let why = if secret { "holds credentials; they belong into `auth`" } else { "is not just scheme and host" };
            return Err(RegistryError {
                kind: RegistryErrorKind::Settings,
                message: format!(
                    "registry `{}`: its endpoint {why}; write it like `https://registry.example:5000`",
                    settings.name
                ),
            });
        }
        let peer = Peer {
            name: format!("registry `{}`", settings.name),
            ca_file: settings.ca_file.clone(),
            timeout: settings.timeout,
        };
        Ok(Self {
            transport: Transport::new(&peer, patience)?.paced(&settings.endpoint, settings.rates),
            sign_in: match settings.kind {
                RegistryKind::Acr => Signing::Acr(Box::new(AcrSignIn::new(&settings, patience))),
                RegistryKind::Distribution => Signing::Distribution(Box::new(SignIn::new(&settings))),
            },
            permits: Semaphore::new(settings.concurrency.max(1)),
            changes: false,
            settings,
        })
    }

    /// The side of a writer, which may change the registry.
    ///
    /// # Errors
    /// As [`RegistryHttp::new`].
    pub(super) fn changing(settings: RegistrySettings, patience: Patience) -> Result<Self, RegistryError> {
        let http = Self::new(settings, patience)?;
        Ok(Self { transport: http.transport.changing(), changes: true, ..http })
    }

    /// The address of a path of the registry, such as `/v2/shop/api/tags/list`.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.settings.endpoint.clone();
        url.set_path(path);
        url
    }

    pub(super) fn identity(&self) -> String {
        match &self.sign_in {
            Signing::Distribution(sign_in) => sign_in.identity(),
            Signing::Acr(sign_in) => sign_in.identity(),
        }
    }

    /// Tells which repositories are about to be asked about: they share tokens where each must be named in them.
    pub(super) fn announce(&self, repositories: &[RepositoryName]) {
        if let Signing::Acr(sign_in) = &self.sign_in {
            sign_in.announce(repositories);
        }
    }

    /// For each repository, whether the identity may do something there as far as its tokens say, such as
    /// `Grant::Delete`. Nothing but tokens is asked for. Of a registry whose tokens do not say, everything is allowed.
    pub(super) async fn granted(
        &self,
        grant: fn(RepositoryName) -> Grant,
        repositories: &[RepositoryName],
    ) -> BTreeMap<RepositoryName, Result<(), RegistryError>> {
        self.announce(repositories);
        let asked = repositories.iter().cloned().map(|name| async move {
            let granted = async {
                let _place = self.place().await?;
                self.header(&grant(name.clone())).await.map(drop)
            };
            let granted = granted.await;
            (name, granted)
        });
        stream::iter(asked).buffer_unordered(self.settings.concurrency.max(1)).collect().await
    }

    /// Sets the rates that the registry documents. Those in the settings stand above them.
    pub(super) fn set_rates(&self, rates: Rates) {
        self.transport.document(rates);
    }

    /// Waits for a place for a deletion at the registry's pace, and then for a token that allows it: in that order, so
    /// that the token is not old when it is used.
    ///
    /// # Errors
    /// When there is no such token.
    pub(super) async fn clear_deletion(&self, repository: &RepositoryName) -> Result<Clearance, RegistryError> {
        self.clear(Operation::Delete, &Grant::Delete(repository.clone())).await
    }

    /// The same for a push.
    ///
    /// # Errors
    /// As [`Self::clear_deletion`].
    pub(super) async fn clear_push(&self, repository: &RepositoryName) -> Result<Clearance, RegistryError> {
        self.clear(Operation::Write, &Grant::Push(repository.clone())).await
    }

    async fn clear(&self, operation: Operation, grant: &Grant) -> Result<Clearance, RegistryError> {
        let place = self.transport.reserve(operation).await;
        let signature = self.header(grant).await?;
        Ok(Clearance { place, signature })
    }

    /// Sends a deletion or a push and waits for nothing before: neither for its turn nor for a token. There are as many
    /// places among the requests in flight as removals at once.
    ///
    /// # Errors
    /// [`RegistryErrorKind::Throttled`] and [`RegistryErrorKind::Renewed`] where what it rests on must be looked at
    /// before the next try.
    pub(super) async fn send_cleared(
        &self,
        grant: &Grant,
        ask: &Ask,
        clearance: Clearance,
    ) -> Result<Answer, RegistryError> {
        let _place = self.place().await?;
        let Clearance { place, signature } = clearance;
        let answer = self.transport.send_reserved(ask, signature.as_ref(), place).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.renewed(grant, signature.as_ref(), &answer).await? {
            Some(_) => Err(renewed(&answer)),
            None => Ok(answer),
        }
    }

    /// The present time by the registry's own clock; `None` where no answer told it.
    pub(super) fn clock(&self) -> Option<ServerTime> {
        self.transport.clock()
    }

    /// The header that keeps the clock from being known although answers have it: it is invalid.
    pub(super) fn invalid_date_header(&self) -> Option<&'static str> {
        self.transport.invalid_date_header()
    }

    pub(super) fn requests(&self) -> Requests {
        self.transport.requests()
    }

    /// A GET without credentials, whatever the status of its answer: as a stranger the registry says what it wants, and
    /// so what it is.
    pub(super) async fn stranger(&self, path: &str) -> Result<Answer, RegistryError> {
        let _place = self.place().await?;
        self.transport.send(&Ask::get(self.url(path), "*/*", ERROR_LIMIT), None).await
    }

    /// Sends a request to the registry and gives its answer, whatever the status; a redirect is an answer, too.
    ///
    /// A request keeps its place among those in flight while it waits to be tried again, so a registry that throttles is
    /// asked less.
    pub(super) async fn send(&self, grant: &Grant, ask: &Ask) -> Result<Answer, RegistryError> {
        let _place = self.place().await?;
        self.signed(grant, ask).await
    }

    /// Reads something, following redirects. Credentials go to the registry's own origin only.
    pub(super) async fn read(
        &self,
        grant: &Grant,
        mut ask: Ask,
        redirects: Redirects,
    ) -> Result<Answer, RegistryError> {
        let _place = self.place().await?;
        for _ in 0..=MOST_REDIRECTS {
            let answer = if self.is_own(&ask.url) {
                self.signed(grant, &ask).await?
            } else {
                self.transport.send(&ask, None).await?
            };
            if !is_redirect(answer.status) {
                return Ok(answer);
            }
            let target = answer.header(LOCATION.as_str()).and_then(|text| ask.url.join(text).ok());
            let Some(target) = target else { return Err(answer.refusal()) };
            if !self.may_follow(&ask.url, &target, redirects) {
                let mut error = answer.refusal();
                error.message = format!("{} (to {})", error.message, target.origin().ascii_serialization());
                return Err(error);
            }
            ask.url = target;
        }
        Err(RegistryError {
            kind: RegistryErrorKind::Malformed,
            message: format!("{}: more than {MOST_REDIRECTS} redirects one after the other", ask.words()),
        })
    }

    /// Never from https to http; away from the registry only where the answer can be checked, and not to what answers on
    /// this machine or its link alone, such as a cloud's metadata service.
    fn may_follow(&self, from: &Url, to: &Url, redirects: Redirects) -> bool {
        let secure = match to.scheme() {
            "https" => true,
            "http" => from.scheme() == "http",
            _ => false,
        };
        let outside = !is_of_this_machine(to) || is_of_this_machine(&self.settings.endpoint);
        secure && (redirects == Redirects::Anywhere && outside || self.is_own(to))
    }

    /// Whether a URL belongs to the registry itself: same scheme, host and port.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.settings.endpoint.origin()
    }

    async fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, RegistryError> {
        // Nothing closes the semaphore; if something did, it would be a failure like any other.
        self.permits.acquire().await.map_err(|_| RegistryError {
            kind: RegistryErrorKind::Connection,
            message: format!("registry `{}` is not asked any more", self.settings.name),
        })
    }

    async fn header(&self, grant: &Grant) -> Result<Option<HeaderValue>, RegistryError> {
        match &self.sign_in {
            Signing::Distribution(sign_in) => sign_in.header(&self.transport, grant).await,
            Signing::Acr(sign_in) => sign_in.header(&self.transport, grant).await,
        }
    }

    async fn signed(&self, grant: &Grant, ask: &Ask) -> Result<Answer, RegistryError> {
        if !self.changes && matches!(grant, Grant::Delete(_) | Grant::Push(_)) {
            return Err(ask.not_a_read());
        }
        let signature = self.header(grant).await?;
        let answer = self.transport.send(ask, signature.as_ref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.renewed(grant, signature.as_ref(), &answer).await? {
            // Getting it may have taken long.
            Some(_) if ask.repeat == Repeat::LookFirst => Err(renewed(&answer)),
            Some(signature) => self.transport.send(ask, Some(&signature)).await,
            None => Ok(answer),
        }
    }

    /// The `Authorization` to try again with after a 401; `None` if there is none better.
    async fn renewed(
        &self,
        grant: &Grant,
        used: Option<&HeaderValue>,
        refusal: &Answer,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        match &self.sign_in {
            Signing::Distribution(sign_in) => sign_in.renewed(&self.transport, grant, used, refusal).await,
            Signing::Acr(sign_in) => sign_in.renewed(&self.transport, grant, used, refusal).await,
        }
    }
}

/// The refusal of a token in place of which there is a new one.
fn renewed(refusal: &Answer) -> RegistryError {
    let message = format!("{}; there is a new token", refusal.told());
    RegistryError { kind: RegistryErrorKind::Renewed, message }
}

/// Whether a host is this machine, its link, or a service that a cloud offers to its machines alone.
fn is_of_this_machine(url: &Url) -> bool {
    const METADATA: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    ];
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_canonical(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            return name == "localhost" || name.ends_with(".localhost") || name == "metadata.google.internal";
        }
        None => return true,
    };
    let near = match address {
        IpAddr::V4(address) => address.is_link_local() || address.octets()[0] == 0,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    near || address.is_loopback() || address.is_unspecified() || METADATA.contains(&address)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryKind;

    #[test]
    fn redirects_lead_where_nothing_is_lost() {
        let cases = [
            ("https://r.example", "https://r.example/other", true, true),
            ("https://r.example", "https://r.example:443/other", true, true),
            ("https://r.example", "https://storage.example/blob", false, true),
            ("https://r.example", "https://r.example:8443/blob", false, true),
            ("https://r.example", "http://r.example/other", false, false),
            ("https://r.example", "file:///etc/passwd", false, false),
            ("http://r.example", "http://storage.example/blob", false, true),
            ("http://r.example", "https://r.example/blob", false, true),
            ("http://r.example", "http://10.0.0.7:9000/blob", false, true),
            ("http://r.example", "http://169.254.169.254/latest", false, false),
            ("http://r.example", "http://[::ffff:169.254.169.254]/latest", false, false),
            ("http://r.example", "http://168.63.129.16/machine", false, false),
            ("http://r.example", "http://[fd00:ec2::254]/latest", false, false),
            ("http://r.example", "http://metadata.google.internal/computeMetadata", false, false),
            ("http://r.example", "http://localhost:9000/blob", false, false),
            ("http://r.example", "http://[::1]/blob", false, false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:9000/blob", false, true),
        ];
        for (endpoint, to, within, anywhere) in cases {
            let endpoint: Url = endpoint.parse().unwrap();
            let name = "test".parse().unwrap();
            let settings = RegistrySettings::of(name, RegistryKind::Distribution, endpoint.clone());
            let http = RegistryHttp::new(settings, Patience::default()).unwrap();
            let to: Url = to.parse().unwrap();
            assert_eq!(http.may_follow(&endpoint, &to, Redirects::Registry), within, "{endpoint} -> {to}");
            assert_eq!(http.may_follow(&endpoint, &to, Redirects::Anywhere), anywhere, "{endpoint} -> {to}");
        }
    }
}
