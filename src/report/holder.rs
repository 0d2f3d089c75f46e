//! Holders of claims, as data and in words.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::holds::describe_hold;
use super::notation::format_minute;
use crate::domain::Holder;

/// The holder of a claim. The variants are those of [`Holder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the variants and fields are those of `domain::Holder`, documented there")]
pub enum HolderView {
    Release {
        file: String,
        line: u32,
        service: Option<String>,
        environment: Option<String>,
        owner: Option<String>,
        approved_by: Option<String>,
        build: Option<String>,
        branch: Option<String>,
        released_at: Option<Timestamp>,
        status: String,
        keep_until: Option<Timestamp>,
    },
    File {
        file: String,
        line: u32,
    },
    Workload {
        place: String,
        namespace: String,
        workload: String,
        name: String,
        container: String,
    },
    Pull {
        at: Timestamp,
        identity: String,
        client: String,
    },
    Hold {
        by: String,
        reason: String,
        until: Timestamp,
    },
}

impl From<&Holder> for HolderView {
    fn from(holder: &Holder) -> Self {
        match holder {
            Holder::Release(release) => Self::Release {
                file: release.path.clone(),
                line: release.line,
                service: release.service.clone(),
                environment: release.environment.clone(),
                owner: release.owner.clone(),
                approved_by: release.approved_by.clone(),
                build: release.build.clone(),
                branch: release.branch.clone(),
                released_at: release.released_at,
                status: release.status.label().to_owned(),
                keep_until: release.keep_until,
            },
            Holder::File { path, line } => Self::File { file: path.clone(), line: *line },
            Holder::Pull { at, identity, client } => {
                Self::Pull { at: *at, identity: identity.clone(), client: client.clone() }
            }
            Holder::Hold { by, reason, until } => Self::Hold { by: by.clone(), reason: reason.clone(), until: *until },
            Holder::Workload { place, namespace, kind, name, container } => Self::Workload {
                place: place.clone(),
                namespace: namespace.clone(),
                workload: kind.clone(),
                name: name.clone(),
                container: container.clone(),
            },
        }
    }
}

impl HolderView {
    /// Describes the holder so that a person can find it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Release { file, line, .. } => format!("{} ({})", self.group(), place(file, *line)),
            Self::File { file, line } => place(file, *line),
            Self::Pull { at, client, .. } if client.is_empty() => format!("{} at {}", self.group(), format_minute(*at)),
            Self::Pull { at, client, .. } => format!("{} at {} with {client}", self.group(), format_minute(*at)),
            Self::Hold { by, reason, until } => describe_hold(by, *until, reason),
            Self::Workload { container, .. } if !container.is_empty() => {
                format!("{}, container {container}", self.group())
            }
            Self::Workload { .. } => self.group(),
        }
    }

    /// Returns the group for reports: the same service and environment, file or workload.
    #[must_use]
    pub fn group(&self) -> String {
        match self {
            Self::Release { service, environment, status, .. } => {
                let mut words = String::from(if status == "rollback" { "rollback release" } else { "release" });
                for (before, name) in [(" of ", service), (" in ", environment)] {
                    if let Some(name) = name {
                        words.extend([before, name]);
                    }
                }
                words
            }
            Self::File { file, .. } => file.clone(),
            Self::Pull { identity, .. } if identity.is_empty() => "anonymous pull".to_owned(),
            Self::Pull { identity, .. } => format!("pull by {identity}"),
            Self::Hold { by, .. } => format!("hold of {by}"),
            Self::Workload { place, namespace, workload, name, .. } if namespace.is_empty() => {
                format!("{place}: {workload}/{name}")
            }
            Self::Workload { place, namespace, workload, name, .. } => {
                format!("{place}: {namespace}/{workload}/{name}")
            }
        }
    }

    /// Returns the other facts of a release record: its owner, approver and build, and the end of its protection.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, String)> {
        let Self::Release { owner, approved_by, build, branch, released_at, keep_until, .. } = self else {
            return Vec::new();
        };
        let said = [
            ("owner", owner.clone()),
            ("approved by", approved_by.clone()),
            ("build", build.clone()),
            ("branch", branch.clone()),
            ("released", released_at.map(format_minute)),
            ("kept until", keep_until.map(format_minute)),
        ];
        said.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
    }
}

fn place(file: &str, line: u32) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}
