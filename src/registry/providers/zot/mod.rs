//! zot by its search extension (`/v2/_zot/ext/search`): tags listed with push times, pull times, sizes, children and
//! referrers; removed, and put back, by the distribution API.
//!
//! The list of tags is always that of the distribution API, since the extension leaves out signatures and what it does not
//! understand. Where it is off, zot is read like any registry. Manifests are read as blobs, which zot does not count as
//! pulls. Wire facts are those of the source of project-zot/zot at commit 6d19b445 (August 2026).

mod extensions;
mod images;
mod reader;
mod search;
mod settings;
mod wire;
mod writer;

use std::sync::Arc;

use super::{Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support};
use crate::http_client::RetryPolicy;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use reader::ZotReader;
use writer::ZotWriter;

/// zot.
#[derive(Debug, Clone, Copy)]
pub struct Zot;

impl Provider for Zot {
    fn name(&self) -> &'static str {
        "zot"
    }

    /// The effect of an untag depends on the release, which the registry tells.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::No,
            tags_of_manifest: Support::No,
            // It has the time at which a tag was first made and that of the push of its manifest, not that of a move.
            push_times: Support::No,
            // Pulls are lost with the metadata database, and those of an image in an index are not dated.
            pull_times: Support::Unknown,
            locks: Support::No,
            referrers: ReferrersSupport::Api,
            // By garbage collection.
            cascades_referrers: Support::Yes,
            digest_in_removal: Support::No,
            rights: Support::Yes,
            ..Capabilities::UNKNOWN
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = ZotReader::new(settings, retry)?;
        let writer = ZotWriter { http: reader.http().for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }
}
