//! The registry's word on a repository, in the tokens of GitLab: what the identity may do, which project it is in, and which
//! tags are protected or immutable.
//!
//! A token has the patterns of protected tags that its user may not delete, and of immutable tags, if it is one for
//! deletions (`access[].meta` in gitlabhq, `app/services/auth/container_registry_authentication_service.rb`). The registry
//! refuses by the same patterns and nothing else (`registry/handlers/manifests.go`), so no other request tells more.

use serde_json::Value;

use crate::domain::{Lock, RepositoryName, TagName};
use crate::registry::client::jwt;
use crate::registry::client::tag_pattern::{TagPattern, patterns};

/// The statement of a token about one repository.
#[derive(Debug, Default)]
pub(super) struct RepositoryAccess {
    actions: Vec<String>,
    /// The project that the repository is in, if the token names it.
    pub(super) project: Option<ProjectName>,
    /// What its tags are protected by. Only tokens for deletions have that.
    pub(super) protections: Protections,
}

/// A project of GitLab, by its full path and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProjectName {
    pub(super) path: String,
    /// Missing in versions of GitLab before 17.
    pub(super) id: Option<u64>,
}

impl ProjectName {
    /// Returns true if a repository is in this project: no group or project can be below a project.
    pub(super) fn holds(&self, repository: &RepositoryName) -> bool {
        let rest = repository.as_str().strip_prefix(&*self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl RepositoryAccess {
    /// Reads what a token says; `None` if it is none of GitLab's, or does not say.
    pub(super) fn parse(token: &str, repository: &RepositoryName) -> Option<Self> {
        let claims = jwt::claims(token)?;
        let granted = claims.get("access")?.as_array()?;
        let is_of_it = |entry: &&Value| entry["type"] == "repository" && entry["name"] == repository.as_str();
        let Some(entry) = granted.iter().find(is_of_it) else { return Some(Self::default()) };
        let actions = entry["actions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let meta = &entry["meta"];
        let project = meta["project_path"].as_str().filter(|path| !path.is_empty());
        Some(Self {
            actions: actions.map(str::to_owned).collect(),
            project: project.map(|path| ProjectName { path: path.to_owned(), id: meta["project_id"].as_u64() }),
            protections: Protections {
                undeletable: patterns(&meta["tag_deny_access_patterns"]["delete"]),
                immutable: patterns(&meta["tag_immutable_patterns"]),
            },
        })
    }

    /// Returns true if the token allows an action, such as `delete`.
    pub(super) fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|granted| granted == action || granted == "*")
    }
}

/// What keeps tags of a repository from being removed.
#[derive(Debug, Default)]
pub(super) struct Protections {
    undeletable: Vec<TagPattern>,
    immutable: Vec<TagPattern>,
}

impl Protections {
    /// Returns the lock on a tag: an immutable one can neither be removed nor moved.
    pub(super) fn lock(&self, tag: &TagName) -> Option<Lock> {
        let covers = |patterns: &[TagPattern]| patterns.iter().any(|pattern| pattern.covers(tag));
        if covers(&self.immutable) {
            return Some(Lock::DeleteAndWrite);
        }
        covers(&self.undeletable).then_some(Lock::Delete)
    }

    /// The patterns that are not understood, so that they count for every tag.
    pub(super) fn unknown_patterns(&self) -> impl Iterator<Item = &str> {
        self.undeletable.iter().chain(&self.immutable).filter_map(TagPattern::unknown_text)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn access(claims: &Value) -> Option<RepositoryAccess> {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        RepositoryAccess::parse(&token, &"shop/backend/api".parse().unwrap())
    }

    #[test]
    fn a_token_tells_rights_project_and_protections() {
        // As in gitlabhq, spec/services/auth and doc/user/packages/container_registry.
        let found = access(&json!({ "access": [
            { "type": "registry", "name": "catalog", "actions": ["*"] },
            { "type": "repository", "name": "shop/backend", "actions": ["pull"] },
            { "type": "repository", "name": "shop/backend/api", "actions": ["pull", "delete"], "meta": {
                "project_path": "shop/backend", "project_id": 7, "root_namespace_id": 3,
                "tag_deny_access_patterns": { "delete": ["^v.*", ".*-stable$"] },
                "tag_immutable_patterns": [r"\d+\.\d+\.\d+"] } },
        ] }));
        let found = found.unwrap();
        assert_eq!((found.allows("pull"), found.allows("delete"), found.allows("push")), (true, true, false));
        assert_eq!(found.project, Some(ProjectName { path: "shop/backend".into(), id: Some(7) }));
        for (tag, lock) in [
            ("v2", Some(Lock::Delete)),
            ("1.0-stable", Some(Lock::Delete)),
            ("v1.0.0", Some(Lock::DeleteAndWrite)),
            ("candidate-1.20.3-x", Some(Lock::DeleteAndWrite)),
            ("dev-v2", None),
            ("latest", None),
        ] {
            assert_eq!(found.protections.lock(&tag.parse().unwrap()), lock, "{tag}");
        }
        assert!(
            access(&json!({ "access": [{ "type": "repository", "name": "shop/backend/api", "actions": ["*"] }] }))
                .is_some_and(|found| found.allows("delete"))
        );
    }

    #[test]
    fn a_token_that_grants_nothing_is_not_one_that_does_not_say() {
        assert!(access(&json!({ "access": [] })).is_some_and(|found| !found.allows("pull")));
        assert!(access(&json!({ "access": null })).is_none());
        assert!(access(&json!({})).is_none());
        assert!(RepositoryAccess::parse("opaque", &"shop/api".parse().unwrap()).is_none());
    }

    #[test]
    fn a_pattern_that_is_not_understood_covers_every_tag() {
        for known in ["release--.*", "[[:alpha:]]-&&", r"v\d{1,3}", r"\[\]--", "[a-z]--[0-9]", r"[\]]~~"] {
            assert!(matches!(TagPattern::read(&json!(known)), TagPattern::Known(_)), "{known}");
        }
        for pattern in [json!("("), json!("[a--z]"), json!(r"\Qv1\E"), json!("[[a]"), json!("a{,2}"), json!(7)] {
            let immutable = json!({ "tag_immutable_patterns": [pattern] });
            let found = access(&json!({ "access": [
                { "type": "repository", "name": "shop/backend/api", "actions": ["delete"], "meta": immutable },
            ] }));
            let protections = found.unwrap().protections;
            assert_eq!(protections.lock(&"latest".parse().unwrap()), Some(Lock::DeleteAndWrite), "{pattern}");
            assert_eq!(protections.unknown_patterns().count(), 1, "{pattern}");
        }
    }

    #[test]
    fn a_project_holds_what_is_below_its_path() {
        let project = ProjectName { path: "shop/backend".into(), id: None };
        for (repository, held) in
            [("shop/backend", true), ("shop/backend/api/v2", true), ("shop/backend2", false), ("shop/web", false)]
        {
            assert_eq!(project.holds(&repository.parse().unwrap()), held, "{repository}");
        }
    }
}
