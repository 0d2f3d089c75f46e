//! Permissions in a registry with the ACR dialect: the actions of its tokens, and the identities that have them.

use std::collections::{BTreeMap, BTreeSet};

/// A permission in a token of the registry, named as in its scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// `pull`: manifests, blobs and referrers; of scope maps, `content/read`.
    Pull,
    /// `push`; of scope maps, `content/write`.
    Push,
    /// `delete`: tags, manifests, repositories; of scope maps, `content/delete`.
    Delete,
    /// `metadata_read`: lists and details of tags and manifests; of scope maps, `metadata/read`.
    MetadataRead,
    /// `metadata_write`: locks; of scope maps, `metadata/write`.
    MetadataWrite,
    /// `deleted_read`: deleted content that can be restored.
    DeletedRead,
    /// `deleted_restore`.
    DeletedRestore,
    /// The list of repositories.
    Catalog,
    /// The list of repositories with deleted content.
    DeletedCatalog,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 9] = [
        Self::Pull,
        Self::Push,
        Self::Delete,
        Self::MetadataRead,
        Self::MetadataWrite,
        Self::DeletedRead,
        Self::DeletedRestore,
        Self::Catalog,
        Self::DeletedCatalog,
    ];

    /// Returns its name in scopes and tokens.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::MetadataRead => "metadata_read",
            Self::MetadataWrite => "metadata_write",
            Self::DeletedRead => "deleted_read",
            Self::DeletedRestore => "deleted_restore",
            Self::Catalog | Self::DeletedCatalog => "*",
        }
    }

    /// Returns its name in the `permissions` of a refresh token.
    pub(super) fn role_action(self) -> &'static str {
        match self {
            Self::Pull | Self::MetadataRead | Self::Catalog => "read",
            Self::Push | Self::MetadataWrite => "write",
            Self::Delete => "delete",
            Self::DeletedRead | Self::DeletedCatalog => "deleted/read",
            Self::DeletedRestore => "deleted/restore/action",
        }
    }

    /// Returns the permissions of one repository.
    pub(super) fn of_repositories() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|one| !matches!(one, Self::Catalog | Self::DeletedCatalog))
    }
}

/// An identity known to Entra, with its permissions in either mode.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Its application id.
    pub name: String,
    /// The Entra access tokens that identify it. They are opaque to the registry.
    pub tokens: Vec<String>,
    /// Its permissions in the whole registry if roles are assigned for the registry (RBAC mode).
    pub permissions: BTreeSet<Permission>,
    /// Its permissions by repository if roles are assigned for repositories (ABAC mode).
    pub repositories: BTreeMap<String, BTreeSet<Permission>>,
    /// True if it may list the repositories in ABAC mode, which is a separate role.
    pub lists_catalog: bool,
}

impl Identity {
    /// Creates an identity with these permissions everywhere in RBAC mode, and none in ABAC mode.
    #[must_use]
    pub fn new(name: &str, token: &str, permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self {
            name: name.to_owned(),
            tokens: vec![token.to_owned()],
            permissions: permissions.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds these permissions for a repository in ABAC mode.
    #[must_use]
    pub fn in_repository(mut self, repository: &str, permissions: impl IntoIterator<Item = Permission>) -> Self {
        self.repositories.insert(repository.to_owned(), permissions.into_iter().collect());
        self
    }
}

/// The user and the password of the registry's administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A repository-scoped token: a user of the registry itself, with a scope map.
#[derive(Debug, Clone, Default)]
pub struct ScopedUser {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// The permissions of the scope map, by repository.
    pub repositories: BTreeMap<String, BTreeSet<Permission>>,
}

/// One action that a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequiredPermission {
    /// `repository` or `registry`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) permission: Permission,
}

impl RequiredPermission {
    pub(super) fn repository(name: &str, permission: Permission) -> Self {
        Self { kind: "repository", name: name.to_owned(), permission }
    }

    pub(super) fn registry(permission: Permission) -> Self {
        let name = if permission == Permission::DeletedCatalog { "deleted_catalog" } else { "catalog" };
        Self { kind: "registry", name: name.to_owned(), permission }
    }
}

/// Formats the scope of several permissions: `repository:shop/api:pull,push`.
pub(super) fn format_scope(needs: &[RequiredPermission]) -> String {
    let mut scopes: Vec<(String, Vec<&str>)> = Vec::new();
    for need in needs {
        let resource = format!("{}:{}", need.kind, need.name);
        match scopes.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, actions)) => actions.push(need.permission.label()),
            None => scopes.push((resource, vec![need.permission.label()])),
        }
    }
    let scopes = scopes.into_iter().map(|(resource, actions)| format!("{resource}:{}", actions.join(",")));
    scopes.collect::<Vec<_>>().join(" ")
}
