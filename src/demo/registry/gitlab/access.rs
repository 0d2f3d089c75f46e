//! GitLab's users, projects and roles, and the tokens for its registry: what they allow, and what they say of tags.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::GitlabOptions;
use crate::demo::registry::auth::parse_basic;
use crate::demo::registry::jwt::Key;
use crate::demo::registry::response::{ErrorResponse, Query, json_response};
use crate::domain::RepositoryName;

/// The service that tokens of the registry are for.
const SERVICE: &str = "container_registry";

/// The rank of a user in a project or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GitlabRole {
    /// Reads.
    Reporter,
    /// That, and pushes.
    Developer,
    /// That, and deletes in the registry.
    Maintainer,
    /// Everything.
    Owner,
}

/// A scope of a personal access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitlabScope {
    /// `api`: everything that the user may do.
    Api,
    /// `read_api`.
    ReadApi,
    /// `read_registry`.
    ReadRegistry,
    /// `write_registry`.
    WriteRegistry,
}

/// A user with one personal access token.
#[derive(Debug, Clone)]
pub struct GitlabUser {
    /// The user's name.
    pub name: String,
    /// The token, which is also the password for the registry.
    pub token: String,
    /// The token's scopes.
    pub scopes: Vec<GitlabScope>,
    /// Roles by project or group; one of a group holds for everything below it.
    pub roles: BTreeMap<String, GitlabRole>,
    /// True for an administrator of the instance.
    pub admin: bool,
}

impl GitlabUser {
    /// A user with a token of those scopes and a role in one group or project.
    #[must_use]
    pub fn new(name: &str, token: &str, scopes: &[GitlabScope], path: &str, role: GitlabRole) -> Self {
        Self {
            name: name.to_owned(),
            token: token.to_owned(),
            scopes: scopes.to_vec(),
            roles: [(path.to_owned(), role)].into(),
            admin: false,
        }
    }

    /// The highest role in a project, or in a group above it.
    pub(super) fn role(&self, project: &str) -> Option<GitlabRole> {
        let covers = |path: &str| is_at_or_below(project, path);
        self.roles.iter().filter(|(path, _)| covers(path)).map(|(_, role)| *role).max()
    }

    fn may(&self, project: &str, action: &str) -> bool {
        use GitlabScope::{Api, ReadApi, ReadRegistry, WriteRegistry};
        let (scopes, role): (&[GitlabScope], _) = match action {
            "pull" => (&[Api, ReadApi, ReadRegistry], GitlabRole::Reporter),
            "push" => (&[Api, WriteRegistry], GitlabRole::Developer),
            "delete" | "*" => (&[Api], GitlabRole::Maintainer),
            _ => return false,
        };
        let has_role = self.admin || self.role(project).is_some_and(|own| own >= role);
        has_role && self.scopes.iter().any(|scope| scopes.contains(scope))
    }
}

/// A rule that protects tags.
#[derive(Debug, Clone)]
pub struct TagRule {
    /// The pattern, which matches anywhere in a name.
    pub pattern: String,
    /// The lowest role that may push such tags.
    pub push: GitlabRole,
    /// The lowest role that may delete them.
    pub delete: GitlabRole,
}

/// A project, whose repositories have its path or are below it.
#[derive(Debug, Clone)]
pub struct GitlabProject {
    /// Its number.
    pub id: u64,
    /// Its rules for protected tags.
    pub protected: Vec<TagRule>,
    /// The patterns of its immutable tags.
    pub immutable: Vec<String>,
    /// Its cleanup policy as the REST API shows it.
    pub cleanup_policy: Value,
    /// True while it is being renamed.
    pub renaming: bool,
}

impl GitlabProject {
    /// A project of that number, without rules.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            protected: Vec::new(),
            immutable: Vec::new(),
            cleanup_policy: json!({
                "cadence": "1d", "enabled": false, "keep_n": 10, "older_than": "90d", "name_regex": ".*",
                "name_regex_keep": null, "next_run_at": "2020-01-07T21:42:58.658Z",
            }),
            renaming: false,
        }
    }
}

/// Returns true if a path is another one, or below it.
pub(super) fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl GitlabOptions {
    /// The project that a repository is in.
    pub(super) fn project(&self, repository: &str) -> Option<(&str, &GitlabProject)> {
        let mut holding = self.projects.iter().filter(|(path, _)| is_at_or_below(repository, path));
        holding.next().map(|(path, project)| (path.as_str(), project))
    }

    /// Answers GitLab's token service: `GET /jwt/auth`.
    pub(super) fn token_response(
        &self,
        authorization: Option<&str>,
        query: &Query,
        (key, now): (&Key, Timestamp),
    ) -> Response {
        if query.get("service") != Some(SERVICE) {
            return StatusCode::NOT_FOUND.into_response();
        }
        let user = match authorization.map(parse_basic) {
            None => None,
            Some(given) => {
                let known = |(name, token): (String, String)| {
                    self.users.iter().find(|user| user.name == name && user.token == token)
                };
                let Some(user) = given.and_then(known) else {
                    let message = "HTTP Basic: Access denied";
                    return ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message).into_response();
                };
                Some(user)
            }
        };
        let asked = query.all("scope").flat_map(str::split_whitespace);
        let access: Vec<Value> = asked.filter_map(|scope| self.grant(user?, scope)).collect();
        if user.is_none() {
            return ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", "access forbidden").into_response();
        }
        let claims = json!({
            "iss": "gitlab-issuer", "aud": SERVICE, "sub": user.map(|user| &user.name),
            "iat": now.as_second(), "nbf": now.as_second() - 5, "exp": (now + self.token_lifetime).as_second(),
            "auth_type": "personal_access_token", "access": access,
        });
        json_response(StatusCode::OK, "application/json", &json!({ "token": key.token(&claims) }))
    }

    /// The entry of a token for one scope; `None` if none of its actions is granted, as for a name with a `*`.
    fn grant(&self, user: &GitlabUser, scope: &str) -> Option<Value> {
        let (kind, name, actions) = {
            let mut parts = scope.splitn(3, ':');
            (parts.next()?, parts.next()?, parts.next()?)
        };
        if kind == "registry" {
            let granted = user.admin && name == "catalog" && actions == "*";
            return granted.then(|| json!({ "type": kind, "name": name, "actions": ["*"] }));
        }
        if kind != "repository" || !name.contains('/') || name.parse::<RepositoryName>().is_err() {
            return None;
        }
        let (path, project) = self.project(name)?;
        let granted: Vec<&str> = actions.split(',').filter(|action| user.may(path, action)).collect();
        if granted.is_empty() {
            return None;
        }
        let mut meta = json!({ "project_path": path, "project_id": project.id, "root_namespace_id": 1 });
        let changes = |action: &str| granted.contains(&action) || granted.contains(&"*");
        if !project.protected.is_empty() {
            let role = if user.admin { Some(GitlabRole::Owner) } else { user.role(path) };
            let mut denied = Map::new();
            for (action, least) in [("push", TagRule::push_role as fn(&TagRule) -> _), ("delete", TagRule::delete_role)]
            {
                let rules = project.protected.iter().filter(|rule| role.is_none_or(|role| role < least(rule)));
                if changes(action) {
                    denied.insert(action.into(), rules.map(|rule| json!(rule.pattern)).collect());
                }
            }
            meta["tag_deny_access_patterns"] = Value::Object(denied);
        }
        if !project.immutable.is_empty() && (changes("push") || changes("delete")) {
            meta["tag_immutable_patterns"] = json!(project.immutable);
        }
        Some(json!({ "type": kind, "name": name, "actions": granted, "meta": meta }))
    }
}

impl TagRule {
    fn push_role(&self) -> GitlabRole {
        self.push
    }

    fn delete_role(&self) -> GitlabRole {
        self.delete
    }
}

/// A token that was checked, or none at all.
pub(super) struct Bearer {
    access: Vec<Value>,
}

/// The challenge to whoever has not the right token.
pub(super) fn challenge(realm: &str, needed: &[(String, &str)], problem: Option<&str>) -> ErrorResponse {
    let mut scopes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, action) in needed {
        scopes.entry(name).or_default().push(action);
    }
    let scopes = scopes.iter().map(|(name, actions)| match *name {
        "" => "registry:catalog:*".to_owned(),
        name => format!("repository:{name}:{}", actions.join(",")),
    });
    let scope = scopes.collect::<Vec<_>>().join(" ");
    let scope = if scope.is_empty() { String::new() } else { format!(",scope=\"{scope}\"") };
    let reason = problem.map(|problem| format!(",error=\"{problem}\"")).unwrap_or_default();
    let text = format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}{reason}");
    ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required").challenge(text)
}

impl Bearer {
    /// Checks the token of a request against what the request needs: actions on repositories by their exact names.
    pub(super) fn check(
        authorization: Option<&str>,
        needed: &[(String, &str)],
        realm: &str,
        (key, now): (&Key, Timestamp),
    ) -> Result<Self, ErrorResponse> {
        let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(challenge(realm, needed, None));
        };
        // The registry allows for clocks that differ by a minute.
        let leeway = SignedDuration::from_mins(1);
        let claims = key
            .claims(token)
            .filter(|claims| claims["exp"].as_i64().is_some_and(|end| end > (now - leeway).as_second()));
        let Some(claims) = claims else { return Err(challenge(realm, needed, Some("invalid_token"))) };
        let found = Self { access: claims["access"].as_array().cloned().unwrap_or_default() };
        if needed.iter().all(|(name, action)| found.allows(name, action)) {
            return Ok(found);
        }
        Err(challenge(realm, needed, Some("insufficient_scope")))
    }

    fn entry(&self, name: &str) -> Option<&Value> {
        let (kind, wanted) = if name.is_empty() { ("registry", "catalog") } else { ("repository", name) };
        self.access.iter().find(|entry| entry["type"] == kind && entry["name"] == wanted)
    }

    fn allows(&self, name: &str, action: &str) -> bool {
        let actions = self.entry(name).and_then(|entry| entry["actions"].as_array());
        actions.into_iter().flatten().any(|granted| granted == action || granted == "*")
    }

    /// The patterns of the tags on which an action is denied, and those of immutable tags.
    pub(super) fn patterns(&self, name: &str, action: &str) -> (Vec<String>, Vec<String>) {
        let meta = self.entry(name).map(|entry| &entry["meta"]);
        let texts = |value: Option<&Value>| {
            let texts = value.and_then(Value::as_array).into_iter().flatten();
            texts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let denied = meta.map(|meta| &meta["tag_deny_access_patterns"][action]);
        (texts(denied), texts(meta.map(|meta| &meta["tag_immutable_patterns"])))
    }
}
