//! Authentication in ACR: an Entra token is exchanged for a refresh token, and that for access tokens with scopes;
//! users with passwords may request these directly.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::auth::{Action, parse_basic};
use super::super::response::{ErrorResponse, Query};
use super::permission::{Identity, Permission, RequiredPermission, ScopedUser, format_scope};
use super::{AcrService, acr_json_response};

/// The user name that accompanies a refresh token as its password.
const REFRESH_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
/// The time by which tokens are backdated.
const BACKDATED_BY: SignedDuration = SignedDuration::from_mins(15);

/// The principal of a request.
#[derive(Debug, Clone, Copy)]
enum Principal<'a> {
    Admin,
    Identity(&'a Identity),
    Scoped(&'a ScopedUser),
    Anonymous,
}

/// The issuer of tokens: `http://127.0.0.1:5000`, and its service: `127.0.0.1:5000`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Realm<'a> {
    pub(super) url: &'a str,
    pub(super) host: &'a str,
}

impl AcrService {
    /// Admits a request that has any of these lists of permissions, or returns the missing one.
    pub(super) fn authorize(
        &self,
        authorization: Option<&str>,
        needs: &[Vec<RequiredPermission>],
        denied: &[Action],
        realm: Realm<'_>,
    ) -> Result<(), ErrorResponse> {
        let any = |may: &dyn Fn(&RequiredPermission) -> bool| needs.iter().any(|needs| needs.iter().all(may));
        let problem = match authorization {
            None => None,
            Some(value) => match (value.strip_prefix("Bearer "), parse_basic(value)) {
                (Some(token), _) => match self.valid_claims(token, "access_token") {
                    Some(claims) if any(&|need| self.grants(&claims, need)) => return Ok(()),
                    Some(_) => Some("insufficient_scope"),
                    None => Some("invalid_token"),
                },
                (None, Some((user, password))) => match self.principal(&user, &password) {
                    Some(known) if any(&|need| self.is_allowed(known, &need.name, need.permission, denied)) => {
                        return Ok(());
                    }
                    Some(_) => Some("insufficient_scope"),
                    None => None,
                },
                (None, None) => None,
            },
        };
        let needed = needs.first().map(Vec::as_slice).unwrap_or_default();
        let detail: Vec<Value> = needed
            .iter()
            .map(|need| json!({ "Type": need.kind, "Name": need.name, "Action": need.permission.label() }))
            .collect();
        let base = format!("Bearer realm=\"{}/oauth2/token\",service=\"{}\"", realm.url, realm.host);
        let scope = if needed.is_empty() { String::new() } else { format!(",scope=\"{}\"", format_scope(needed)) };
        let problem = problem.map(|problem| format!(",error=\"{problem}\"")).unwrap_or_default();
        let failure = unauthorized().challenge(base + &scope + &problem);
        Err(if detail.is_empty() { failure } else { failure.detail(Value::Array(detail)) })
    }

    /// Handles `POST /oauth2/exchange`: a refresh token for an Entra token.
    pub(super) fn exchange(&self, method: &Method, form: &Query, realm: Realm<'_>) -> Response {
        if *method != Method::POST {
            return ErrorResponse::unsupported().into_response();
        }
        let grant = form.get("grant_type").unwrap_or_default();
        let token = form.get("access_token").unwrap_or_default();
        let known = |identity: &&Identity| identity.tokens.iter().any(|own| own == token);
        match self.options.identities.iter().find(known) {
            Some(identity) if matches!(grant, "access_token" | "access_token_refresh_token") => {
                acr_json_response(StatusCode::OK, &json!({ "refresh_token": self.refresh_token(identity, realm) }))
            }
            _ => unauthorized().into_response(),
        }
    }

    fn refresh_token(&self, identity: &Identity, realm: Realm<'_>) -> String {
        let mut actions: Vec<&str> = Vec::new();
        for permission in identity.permissions.iter().filter(|_| !self.abac) {
            if !actions.contains(&permission.role_action()) {
                actions.push(permission.role_action());
            }
        }
        let mut claims = self.common_claims("refresh_token", self.options.refresh_lifetime, realm);
        claims["appid"] = json!(identity.name);
        claims["permissions"] = json!({ "Actions": actions });
        if self.abac {
            claims["aad_identity"] = json!(identity.name);
        }
        self.key.token(&claims)
    }

    fn common_claims(&self, grant: &str, lifetime: SignedDuration, realm: Realm<'_>) -> Value {
        let now = self.now();
        let issued = (now - BACKDATED_BY).as_second();
        json!({
            "jti": Uuid::now_v7().to_string(), "iss": "Azure Container Registry", "aud": realm.host,
            "iat": issued, "nbf": issued, "exp": (now + lifetime).as_second(), "grant_type": grant,
        })
    }

    /// Handles `GET` or `POST /oauth2/token`: an access token for a refresh token, a user and a password, or
    /// anonymously.
    pub(super) fn token_response(
        &self,
        method: &Method,
        authorization: Option<&str>,
        (query, form): (&Query, &Query),
        denied: &[Action],
        realm: Realm<'_>,
    ) -> Response {
        let anonymous = self.options.anonymous_pull.then_some(Principal::Anonymous);
        let with_password = |given: Option<(String, String)>| match given {
            Some((user, password)) => self.principal(&user, &password),
            None if authorization.is_none() => anonymous,
            None => None,
        };
        let (principal, parameters) = match *method {
            Method::GET => (with_password(authorization.and_then(parse_basic)), query),
            Method::POST => {
                let given = form.get("username").zip(form.get("password"));
                let given = given.map(|(user, password)| (user.to_owned(), password.to_owned()));
                let principal = match form.get("grant_type") {
                    Some("refresh_token") => self.refresh_token_owner(form.get("refresh_token").unwrap_or_default()),
                    Some("password") => with_password(given.or_else(|| authorization.and_then(parse_basic))),
                    _ => None,
                };
                (principal, form)
            }
            _ => return ErrorResponse::unsupported().into_response(),
        };
        let Some(principal) = principal else { return unauthorized().into_response() };
        let scopes = parameters.all("scope").flat_map(str::split_whitespace);
        let access: Vec<Value> = scopes.filter_map(|scope| self.access_entry(principal, scope, denied)).collect();
        let mut claims = self.common_claims("access_token", self.options.access_lifetime, realm);
        claims["access"] = Value::Array(access);
        if let Principal::Identity(identity) = principal {
            claims["appid"] = json!(identity.name);
        }
        acr_json_response(StatusCode::OK, &json!({ "access_token": self.key.token(&claims) }))
    }

    /// Returns a token's entry for one scope, limited to the principal's permissions.
    fn access_entry(&self, principal: Principal<'_>, scope: &str, denied: &[Action]) -> Option<Value> {
        let (kind, rest) = scope.split_once(':')?;
        let (name, asked) = rest.rsplit_once(':')?;
        let named = |permission: &Permission| asked.split(',').any(|word| word == "*" || word == permission.label());
        let wanted: Vec<Permission> = match (kind, name) {
            ("registry", "catalog") => vec![Permission::Catalog],
            ("registry", "deleted_catalog") => vec![Permission::DeletedCatalog],
            // Not an error, but ignored: such a token has no permissions.
            ("repository", "*") if self.abac => return None,
            ("repository", _) => Permission::of_repositories().collect(),
            _ => return None,
        };
        let may = |permission: &Permission| self.is_allowed(principal, name, *permission, denied);
        let granted: Vec<&str> = wanted.into_iter().filter(named).filter(may).map(Permission::label).collect();
        if granted.is_empty() {
            return None;
        }
        Some(if self.options.lower_case_claims {
            json!({ "type": kind, "name": name, "actions": granted })
        } else {
            json!({ "Type": kind, "Name": name, "Actions": granted })
        })
    }

    /// Returns true if an access token with these claims has a permission.
    fn grants(&self, claims: &Value, need: &RequiredPermission) -> bool {
        let entries = claims["access"].as_array().map(Vec::as_slice).unwrap_or_default();
        entries.iter().any(|entry| {
            let field =
                |upper: &str, lower: &str| entry.get(upper).or_else(|| entry.get(lower)).unwrap_or(&Value::Null);
            let name = field("Name", "name").as_str().unwrap_or_default();
            let actions = field("Actions", "actions").as_array().map(Vec::as_slice).unwrap_or_default();
            field("Type", "type") == need.kind
                && (name == need.name || (name == "*" && need.kind == "repository" && !self.abac))
                && actions.iter().any(|action| action == need.permission.label())
        })
    }

    /// Returns true if a principal has a permission in a repository, or for a list of repositories.
    fn is_allowed(&self, principal: Principal<'_>, name: &str, permission: Permission, denied: &[Action]) -> bool {
        let refused = match permission {
            Permission::Pull => denied.contains(&Action::Pull),
            Permission::Push => denied.contains(&Action::Push),
            Permission::Delete => denied.contains(&Action::Delete),
            Permission::Catalog => denied.contains(&Action::Catalog),
            _ => false,
        };
        !refused
            && match principal {
                Principal::Admin => true,
                Principal::Identity(identity) if !self.abac => identity.permissions.contains(&permission),
                Principal::Identity(identity) if permission == Permission::Catalog => identity.lists_catalog,
                Principal::Identity(Identity { repositories, .. })
                | Principal::Scoped(ScopedUser { repositories, .. }) => {
                    repositories.get(name).is_some_and(|allowed| allowed.contains(&permission))
                }
                Principal::Anonymous => matches!(permission, Permission::Pull | Permission::MetadataRead),
            }
    }

    fn principal(&self, user: &str, password: &str) -> Option<Principal<'_>> {
        if user == REFRESH_TOKEN_USER {
            return self.refresh_token_owner(password);
        }
        if self.options.admin.as_ref().is_some_and(|admin| admin.user == user && admin.password == password) {
            return Some(Principal::Admin);
        }
        let mut scoped = self.options.scoped_users.iter();
        scoped.find(|known| known.user == user && known.password == password).map(Principal::Scoped)
    }

    /// Returns the principal of a refresh token.
    fn refresh_token_owner(&self, token: &str) -> Option<Principal<'_>> {
        let claims = self.valid_claims(token, "refresh_token")?;
        let known = |identity: &&Identity| claims["appid"] == identity.name;
        self.options.identities.iter().find(known).map(Principal::Identity)
    }

    /// Returns the claims of a token of that kind that was issued here and has not expired.
    fn valid_claims(&self, token: &str, grant: &str) -> Option<Value> {
        let claims = self.key.claims(token)?;
        let ends = Timestamp::from_second(claims["exp"].as_i64()?).ok()?;
        (claims["grant_type"] == grant && self.now() < ends).then_some(claims)
    }
}

fn unauthorized() -> ErrorResponse {
    let message = "authentication required, visit https://aka.ms/acr/authorization for more information.";
    ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
}
