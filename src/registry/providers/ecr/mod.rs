//! Amazon ECR by its own API: images listed with tags, pushes, sizes and subjects, a thousand in an answer; tags removed
//! where their image keeps another one.
//!
//! Amazon ECR deletes an image with its last tag. So a last tag stays, unless the settings say that images are to be deleted
//! (`removal = "manifest"`). Wire facts are those of its published description (botocore, `ecr/2015-09-21`) and of its
//! documentation.

mod address;
mod api;
mod credentials;
mod images;
mod lifecycle;
mod manifests;
mod obstacles;
mod reader;
mod settings;
mod signature;
mod signer;
mod wire;
mod writer;

use std::sync::Arc;

use super::{
    Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport, VerifyTool,
};
use crate::domain::{Registry, Removal, RemovalMethod};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::providers::shell;
use crate::registry::{Auth, RegistryConnection, RegistryError, RegistrySettings};

use address::RegistryPlace;
use api::EcrApi;
use credentials::KeySource;
use reader::EcrReader;
use signer::EcrSigner;
use writer::EcrWriter;

pub use credentials::{AwsIdentity, ContainerToken};

/// Amazon ECR, private registries.
#[derive(Debug, Clone, Copy)]
pub struct Ecr;

impl Provider for Ecr {
    fn name(&self) -> &'static str {
        "ecr"
    }

    /// What is pushed to a tag later than its image is not dated, so there are no push times of tags.
    fn reads_configurations(&self) -> bool {
        false
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::Yes,
            tags_of_manifest: Support::Yes,
            push_times: Support::No,
            pull_times: Support::Yes,
            locks: Support::No,
            referrers: ReferrersSupport::Api,
            cascades_referrers: Support::Yes,
            digest_in_removal: Support::No,
            rights: Support::No,
            replicas: Support::No,
            untag: UntagSupport::NativeButLast,
            ..Capabilities::UNKNOWN
        }
    }

    fn describe_removal(&self, method: RemovalMethod) -> Option<&'static str> {
        Some(match method {
            RemovalMethod::Untag => "no image there loses its last tag, because Amazon ECR would delete it",
            RemovalMethod::DeleteManifest => {
                "a removal there deletes an image with all of its tags, and can hardly be undone: Amazon ECR may delete its \
                 layers at any time"
            }
        })
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    /// By signed requests. Settings without an identity of AWS or a region never come here: `EcrApi` refuses them.
    fn authenticator(&self, settings: &RegistrySettings, retry: RetryPolicy) -> Authenticator {
        match (&settings.auth, RegistryPlace::of(&settings.endpoint, &settings.aliases)) {
            (Auth::Aws(identity), Some(place)) => {
                let token_service = place.token_service();
                let source = KeySource { identity: (**identity).clone(), token_service, retry };
                Authenticator::new(EcrSigner::new(source, place.region))
            }
            _ => Authenticator::by_challenge(settings),
        }
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = EcrReader { api: EcrApi::new(settings, retry)? };
        let writer = EcrWriter::new(reader.api.for_writer());
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }

    /// That of the AWS CLI, which pulls nothing.
    fn verify_commands(&self, registry: &Registry, removal: &Removal) -> Vec<String> {
        let Some(place) = registry.hosts.iter().find_map(|host| RegistryPlace::parse(host)) else {
            return shell::skopeo_commands(registry, removal);
        };
        let RegistryPlace { account, region, .. } = place;
        let (repository, id) = (removal.repository.as_str(), format!("imageTag={}", removal.tag));
        vec![format!(
            "aws ecr describe-images --region {region} --registry-id {account} --repository-name {} --image-ids {}",
            shell::quote(repository),
            shell::quote(&id)
        )]
    }

    fn verify_tool(&self) -> Option<VerifyTool> {
        Some(VerifyTool {
            command: "aws",
            introduction: "These only read, and pull nothing; they need `ecr:DescribeImages`. They show digest, push and \
                           all tags of the image of the first removal of each repository. The JSON has them for each \
                           removal.",
        })
    }
}
