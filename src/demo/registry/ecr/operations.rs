//! The operations, and their answers.

use serde_json::{Value, json};

use super::access::Problem;
use super::parameters::{self, ImageId, PageOf, check_ids, check_repository, parse, parse_digest};
use super::{Content, EcrService};
use crate::demo::image::media_type;
use crate::demo::registry::content::{Manifest, ManifestError, Reference};
use crate::domain::{Digest, TagName};

impl EcrService {
    /// Runs an operation by its name.
    pub(super) fn run(&mut self, operation: &str, body: &[u8], content: &mut Content) -> Result<Value, Problem> {
        match operation {
            "DescribeRepositories" => self.describe_repositories(&parse(body)?, content),
            "DescribeImages" => self.describe_images(&parse(body)?, content),
            "BatchGetImage" => self.batch_get_image(&parse(body)?, content),
            "BatchDeleteImage" => self.batch_delete_image(&parse(body)?, content),
            "PutImage" => self.put_image(parse(body)?, content),
            "GetLifecyclePolicy" => self.get_lifecycle_policy(&parse(body)?, content),
            "ListImageReferrers" => self.list_image_referrers(&parse(body)?, content),
            "DescribePullThroughCacheRules" => self.describe_cache_rules(&parse(body)?),
            _ => Err(Problem::new("UnknownOperationException", "")),
        }
    }

    /// Checks account, name, right and presence of a repository.
    fn enter(&self, (operation, account): (&str, Option<&str>), name: &str, content: &Content) -> Result<(), Problem> {
        self.check_account(account)?;
        check_repository(name)?;
        self.check_right(operation, name)?;
        if content.has_repository(name) {
            return Ok(());
        }
        let account = &self.options.account;
        Err(Problem::new(
            "RepositoryNotFoundException",
            &format!("The repository with name '{name}' does not exist in the registry with id '{account}'"),
        ))
    }

    fn check_account(&self, account: Option<&str>) -> Result<(), Problem> {
        match account {
            Some(account) if account != self.options.account => Err(Problem::new(
                "AccessDeniedException",
                &format!("not authorized for the registry of account {account}"),
            )),
            _ => Ok(()),
        }
    }

    fn describe_repositories(
        &self,
        asked: &parameters::DescribeRepositories,
        content: &Content,
    ) -> Result<Value, Problem> {
        self.check_account(asked.registry_id.as_deref())?;
        self.check_right("DescribeRepositories", "")?;
        let page = asked.page()?;
        let names = content.repositories().map(str::to_owned);
        let (names, next) = paginate(names, String::clone, &page);
        let (account, region) = (&self.options.account, &self.options.region);
        let rows = names.iter().map(|name| {
            json!({
                "repositoryArn": format!("arn:aws:ecr:{region}:{account}:repository/{name}"),
                "registryId": account,
                "repositoryName": name,
                "repositoryUri": format!("{account}.dkr.ecr.{region}.amazonaws.com/{name}"),
                "createdAt": 1_700_000_000.5,
                "imageTagMutability": if self.options.immutable.contains(name) { "IMMUTABLE" } else { "MUTABLE" },
                "imageScanningConfiguration": { "scanOnPush": false },
                "encryptionConfiguration": { "encryptionType": "AES256" },
            })
        });
        Ok(with_next(json!({ "repositories": rows.collect::<Vec<_>>() }), next))
    }

    fn describe_images(&self, asked: &parameters::DescribeImages, content: &Content) -> Result<Value, Problem> {
        let name = asked.repository_name.as_str();
        self.enter(("DescribeImages", asked.registry_id.as_deref()), name, content)?;
        let page = asked.page()?;
        if let Some(ids) = &asked.image_ids {
            check_ids(ids)?;
            let mut rows = Vec::new();
            for id in ids {
                let digest = find(id, name, content).map_err(|_| {
                    let message =
                        format!("The image with imageId {id:?} does not exist within the repository '{name}'");
                    Problem::new("ImageNotFoundException", &message)
                })?;
                rows.extend(content.manifest(name, &digest).map(|manifest| self.image(name, &digest, manifest)));
            }
            return Ok(json!({ "imageDetails": rows }));
        }
        let mut shown = Vec::new();
        for (digest, manifest) in content.manifests(name) {
            if asked.filter.shows(!manifest.tags.is_empty(), self.is_archived(name, digest))? {
                shown.push((digest, manifest));
            }
        }
        shown.sort_by_key(|(digest, _)| digest.to_string());
        let (shown, next) = paginate(shown.into_iter(), |(digest, _)| digest.to_string(), &page);
        let rows = shown.into_iter().map(|(digest, manifest)| self.image(name, digest, manifest));
        Ok(with_next(json!({ "imageDetails": rows.collect::<Vec<_>>() }), next))
    }

    /// `ImageDetail`: what is not known is left out.
    fn image(&self, repository: &str, digest: &Digest, manifest: &Manifest) -> Value {
        let place = (repository.to_owned(), digest.clone());
        let pushed_at = self.pushed_at.get(&place).copied().unwrap_or(manifest.created);
        // Of an index, that of its largest image.
        let size = if manifest.children.is_empty() { manifest.image_size } else { manifest.bytes.len() as u64 };
        let is_index = matches!(manifest.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST);
        let mut row = json!({
            "registryId": self.options.account,
            "repositoryName": repository,
            "imageDigest": digest.to_string(),
            "imageSizeInBytes": size,
            "imagePushedAt": seconds(pushed_at),
            "imageManifestMediaType": manifest.media_type,
            "imageStatus": if self.is_archived(repository, digest) { "ARCHIVED" } else { "ACTIVE" },
        });
        if !manifest.tags.is_empty() {
            row["imageTags"] = json!(manifest.tags.iter().collect::<Vec<_>>());
        }
        if let (Some(kind), false) = (&manifest.artifact_type, is_index) {
            row["artifactMediaType"] = json!(kind);
        }
        if let Some(subject) = &manifest.subject {
            row["subjectManifestDigest"] = json!(subject.to_string());
        }
        if let Some(pulled_at) = self.pulled_at.get(&place) {
            row["lastRecordedPullTime"] = json!(seconds(*pulled_at));
        }
        row
    }

    fn is_archived(&self, repository: &str, digest: &Digest) -> bool {
        self.archived.contains(&(repository.to_owned(), digest.clone()))
    }

    fn batch_get_image(&mut self, asked: &parameters::BatchGetImage, content: &Content) -> Result<Value, Problem> {
        let name = asked.repository_name.as_str();
        self.enter(("BatchGetImage", asked.registry_id.as_deref()), name, content)?;
        check_ids(&asked.image_ids)?;
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for id in &asked.image_ids {
            let digest = match find(id, name, content) {
                Ok(digest) => digest,
                Err(code) => {
                    failures.push(failure(id, code));
                    continue;
                }
            };
            let Some(manifest) = content.manifest(name, &digest) else { continue };
            let accepted = |types: &Vec<String>| types.contains(&manifest.media_type);
            if self.is_archived(name, &digest) {
                failures.push(failure(id, "ImageInaccessible"));
            } else if asked.accepted_media_types.as_ref().is_some_and(|types| !accepted(types)) {
                failures.push(failure(id, "ImageNotFound"));
            } else {
                let mut found = self.stored(name, &digest, manifest);
                if let Some(tag) = &id.image_tag {
                    found["imageId"]["imageTag"] = json!(tag);
                }
                images.push(found);
                self.pulled_at.insert((name.to_owned(), digest.clone()), self.now());
            }
        }
        Ok(json!({ "images": images, "failures": failures }))
    }

    /// `Image`.
    fn stored(&self, repository: &str, digest: &Digest, manifest: &Manifest) -> Value {
        json!({
            "registryId": self.options.account,
            "repositoryName": repository,
            "imageId": { "imageDigest": digest.to_string() },
            "imageManifest": String::from_utf8_lossy(&manifest.bytes),
            "imageManifestMediaType": manifest.media_type,
        })
    }

    fn batch_delete_image(
        &self,
        asked: &parameters::BatchDeleteImage,
        content: &mut Content,
    ) -> Result<Value, Problem> {
        let name = asked.repository_name.as_str();
        self.enter(("BatchDeleteImage", asked.registry_id.as_deref()), name, content)?;
        check_ids(&asked.image_ids)?;
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        for id in &asked.image_ids {
            match delete(id, name, content) {
                Ok(removed) => done.extend(removed),
                Err(code) => failures.push(failure(id, code)),
            }
        }
        Ok(json!({ "imageIds": done, "failures": failures }))
    }

    fn put_image(&self, asked: parameters::PutImage, content: &mut Content) -> Result<Value, Problem> {
        let name = asked.repository_name.as_str();
        self.enter(("PutImage", asked.registry_id.as_deref()), name, content)?;
        let bytes = asked.image_manifest.into_bytes();
        let digest = Digest::of(&bytes);
        if asked.image_digest.as_ref().is_some_and(|said| *said != digest.to_string()) {
            let message = "The provided digest does not match that of the image manifest";
            return Err(Problem::new("ImageDigestDoesNotMatchException", message));
        }
        let own: Value = serde_json::from_slice(&bytes).map_err(|_| parameters::invalid("'imageManifest'"))?;
        let kind = asked.image_manifest_media_type.or_else(|| own["mediaType"].as_str().map(str::to_owned));
        let kind = kind.ok_or_else(|| parameters::invalid("'imageManifestMediaType'"))?;
        let there = content.manifest(name, &digest).is_some();
        let at = asked.image_tag.as_ref().and_then(|tag| content.tag(name, tag)).map(|tag| tag.digest.clone());
        if there && (asked.image_tag.is_none() || at.as_ref() == Some(&digest)) {
            let message = "Image with the same digest and tag already exists in the repository";
            return Err(Problem::new("ImageAlreadyExistsException", message));
        }
        if let (Some(_), true) = (&at, self.options.immutable.contains(name)) {
            let message = "The image tag already exists in the repository and cannot be overwritten because the repository is immutable.";
            return Err(Problem::new("ImageTagAlreadyExistsException", message));
        }
        let reference = match &asked.image_tag {
            Some(tag) if tag.parse::<TagName>().is_err() => return Err(parameters::invalid("'imageTag'")),
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(digest.clone()),
        };
        let is_index = own["manifests"].is_array();
        content.put_manifest(name, &reference, &kind, bytes.into()).map_err(|error| match error {
            ManifestError::Unknown(missing) => {
                let kind = if is_index { "ReferencedImagesNotFoundException" } else { "LayersNotFoundException" };
                Problem::new(kind, &format!("not found in the repository: {missing:?}"))
            }
            ManifestError::Invalid(why) => parameters::invalid(&format!("'imageManifest': {why}")),
            other => Problem::new("InvalidParameterException", &format!("{other:?}")),
        })?;
        let manifest = content.manifest(name, &digest).expect("it was just stored");
        let mut image = self.stored(name, &digest, manifest);
        if let Some(tag) = &asked.image_tag {
            image["imageId"]["imageTag"] = json!(tag);
        }
        Ok(json!({ "image": image }))
    }

    fn get_lifecycle_policy(
        &self,
        asked: &parameters::GetLifecyclePolicy,
        content: &Content,
    ) -> Result<Value, Problem> {
        let name = asked.repository_name.as_str();
        self.enter(("GetLifecyclePolicy", asked.registry_id.as_deref()), name, content)?;
        let Some(document) = self.options.lifecycle.get(name) else {
            let account = &self.options.account;
            return Err(Problem::new(
                "LifecyclePolicyNotFoundException",
                &format!(
                    "Lifecycle policy does not exist for the repository with name '{name}' in the registry with id '{account}'"
                ),
            ));
        };
        Ok(json!({ "registryId": self.options.account, "repositoryName": name, "lifecyclePolicyText": document }))
    }

    fn list_image_referrers(
        &self,
        asked: &parameters::ListImageReferrers,
        content: &Content,
    ) -> Result<Value, Problem> {
        let name = asked.repository_name.as_str();
        self.enter(("ListImageReferrers", asked.registry_id.as_deref()), name, content)?;
        let (subject, page) = (parse_digest(&asked.subject_id.image_digest)?, asked.page()?);
        let mut found = Vec::new();
        for (digest, manifest) in content.referrers(name, &subject) {
            let types = asked.filter.artifact_types.as_ref().filter(|types| !types.is_empty());
            let wanted =
                types.is_none_or(|types| manifest.artifact_type.as_ref().is_some_and(|kind| types.contains(kind)));
            if wanted && asked.filter.shows(self.is_archived(name, digest))? {
                found.push(json!({
                    "digest": digest.to_string(),
                    "mediaType": manifest.media_type,
                    "artifactType": manifest.artifact_type,
                    "size": manifest.bytes.len(),
                }));
            }
        }
        let key = |row: &Value| row["digest"].as_str().unwrap_or_default().to_owned();
        let (rows, next) = paginate(found.into_iter(), key, &page);
        Ok(with_next(json!({ "referrers": rows }), next))
    }

    fn describe_cache_rules(&self, asked: &parameters::DescribePullThroughCacheRules) -> Result<Value, Problem> {
        self.check_account(asked.registry_id.as_deref())?;
        self.check_right("DescribePullThroughCacheRules", "")?;
        let (rules, next) = paginate(self.options.caches.iter(), |(prefix, _)| (*prefix).clone(), &asked.page()?);
        let rows = rules.into_iter().map(|(prefix, upstream)| {
            json!({
                "ecrRepositoryPrefix": prefix,
                "upstreamRegistryUrl": upstream,
                "createdAt": 1_700_000_000.5,
                "registryId": self.options.account,
            })
        });
        Ok(with_next(json!({ "pullThroughCacheRules": rows.collect::<Vec<_>>() }), next))
    }
}

/// Returns the image that an id names, or the code of the failure.
fn find(id: &ImageId, repository: &str, content: &Content) -> Result<Digest, &'static str> {
    let digest = id.image_digest.as_deref().map(|text| text.parse::<Digest>().map_err(|_| "InvalidImageDigest"));
    let digest = digest.transpose()?;
    if let Some(tag) = &id.image_tag {
        let at = &content.tag(repository, tag).ok_or("ImageNotFound")?.digest;
        return match digest {
            Some(digest) if digest != *at => Err("ImageTagDoesNotMatchDigest"),
            _ => Ok(at.clone()),
        };
    }
    let digest = digest.ok_or("MissingDigestAndTag")?;
    content.manifest(repository, &digest).map(|_| digest.clone()).ok_or("ImageNotFound")
}

/// Removes a tag, with its image if it has no other; or an image with all its tags, if the digest is given. What Amazon does
/// where both are given is not documented; this is what moto does.
fn delete(id: &ImageId, repository: &str, content: &mut Content) -> Result<Vec<Value>, &'static str> {
    let digest = find(id, repository, content)?;
    let tags = content.manifest(repository, &digest).map(|manifest| manifest.tags.clone()).unwrap_or_default();
    let row = |tag: &str| json!({ "imageDigest": digest.to_string(), "imageTag": tag });
    if let Some(tag) = id.image_tag.as_ref().filter(|_| tags.len() > 1 && id.image_digest.is_none()) {
        content.delete_tag(repository, tag);
        return Ok(vec![row(tag)]);
    }
    let lists = |manifest: &Manifest| manifest.children.iter().any(|child| child.digest == digest);
    if content.manifests(repository).any(|(_, manifest)| lists(manifest)) {
        return Err("ImageReferencedByManifestList");
    }
    content.delete_manifest(repository, &digest);
    let whole = tags.is_empty().then(|| json!({ "imageDigest": digest.to_string() }));
    Ok(tags.iter().map(|tag| row(tag)).chain(whole).collect())
}

fn failure(id: &ImageId, code: &str) -> Value {
    let mut image = json!({});
    if let Some(digest) = &id.image_digest {
        image["imageDigest"] = json!(digest);
    }
    if let Some(tag) = &id.image_tag {
        image["imageTag"] = json!(tag);
    }
    let reason = match code {
        "ImageNotFound" => "Requested image not found",
        "ImageTagDoesNotMatchDigest" => "Tag and digest do not refer to the same image",
        "MissingDigestAndTag" => "Invalid request parameters: both tag and digest cannot be null",
        "ImageReferencedByManifestList" => "Requested image referenced by manifest list",
        "ImageInaccessible" => "Requested image is archived",
        _ => "Invalid request parameters",
    };
    json!({ "imageId": image, "failureCode": code, "failureReason": reason })
}

/// Returns the rows of a page, and where the next one begins. Rows are in the order of their keys.
fn paginate<T>(rows: impl Iterator<Item = T>, key: impl Fn(&T) -> String, page: &PageOf) -> (Vec<T>, Option<String>) {
    let mut rest = rows.skip_while(|row| page.after.as_ref().is_some_and(|after| key(row) <= *after));
    let rows: Vec<T> = rest.by_ref().take(page.most).collect();
    let next = rest.next().and_then(|_| rows.last().map(&key));
    (rows, next.map(|last| format!("after:{last}")))
}

fn with_next(mut body: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        body["nextToken"] = json!(next);
    }
    body
}

#[expect(clippy::cast_precision_loss, reason = "times of these centuries fit")]
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
