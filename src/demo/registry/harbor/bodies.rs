//! Bodies of answers to reads.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use globset::GlobBuilder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::access::{Access, Problem};
use super::artifacts::{ArtifactTable, referenced};
use super::route::{Route, Selection};
use super::{HarborProject, HarborService, list, ok, project_of};
use crate::demo::image::media_type;
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::content::{Content, Manifest};
use crate::demo::registry::response::Query;
use crate::domain::Digest;

/// The zero of Go's times, which Harbor writes where it has none.
const NEVER: &str = "0001-01-01T00:00:00.000Z";

/// The facts that rows of artifacts are written from.
struct Facts<'a> {
    service: &'a HarborService,
    table: &'a ArtifactTable,
    content: &'a Content,
    repository: &'a str,
    with_tag: bool,
    with_immutable: bool,
    with_accessory: bool,
}

impl HarborService {
    pub(super) fn read(
        &mut self,
        route: &Route,
        call: &ApiRequest<'_>,
        content: &Content,
    ) -> Result<Response, Problem> {
        match route {
            Route::Ping => Ok((StatusCode::OK, "Pong").into_response()),
            Route::SystemInfo => Ok(ok(&self.system_info(self.access(call)))),
            Route::GarbageCollection => {
                self.access(call).require_system(("garbage-collection", "read"))?;
                Ok(self.schedule())
            }
            Route::Quotas => self.quotas(call, content),
            Route::CurrentPermissions => self.current_permissions(call),
            Route::Retention { id } => self.retention(call, id),
            Route::Projects => self.projects(call, content),
            Route::AllRepositories => self.repositories(call, None, content),
            Route::Repositories { project } => {
                self.require(call, project, ("repository", "list"))?;
                if !self.options.projects.contains_key(project) {
                    return Err(Problem::not_found(&format!("project {project}")));
                }
                self.repositories(call, Some(project), content)
            }
            Route::ImmutableRules { project } => {
                self.require(call, project, ("immutable-tag", "list"))?;
                let rules = self.options.projects.get(project).map(|found| found.immutable.len()).unwrap_or_default();
                Ok(ok(&json!((1..=rules).map(|id| json!({ "id": id, "disabled": false })).collect::<Vec<_>>())))
            }
            Route::Repository { name } => {
                self.require(call, name, ("repository", "read"))?;
                if !content.has_repository(name) {
                    return Err(Problem::not_found(&format!("repository {name}")));
                }
                let id = self.repository_ids(content)[name];
                Ok(ok(&self.repository_body(name, id, content)))
            }
            Route::Artifacts { name } => {
                self.require(call, name, ("artifact", "list"))?;
                self.artifacts(name, call, content)
            }
            Route::Artifact { name, reference } => {
                self.require(call, name, ("artifact", "read"))?;
                let digest = Self::find(name, reference, content)?;
                self.table(name, content);
                let facts = self.facts(name, call.query, content);
                let manifest = content.manifest(name, &digest).ok_or_else(|| Problem::not_found("artifact"))?;
                let accessories = facts.table.accessories_of(&digest).collect::<Vec<_>>();
                Ok(ok(&facts.artifact_body(&digest, manifest, &accessories)))
            }
            Route::Tags { name, reference } => {
                self.require(call, name, ("tag", "list"))?;
                let digest = Self::find(name, reference, content)?;
                self.table(name, content);
                let facts = Facts { with_tag: true, ..self.facts(name, call.query, content) };
                let selection = Selection::of(call.query, "id")?;
                let rows =
                    facts.tags_body(&digest).into_iter().map(|tag| (tag["id"].as_i64().unwrap_or_default(), (), tag));
                Ok(list(call, &selection, selection.page(rows.collect())))
            }
            Route::Accessories { name, reference } => {
                self.require(call, name, ("accessory", "list"))?;
                let digest = Self::find(name, reference, content)?;
                self.table(name, content);
                let facts = self.facts(name, call.query, content);
                let selection = Selection::of(call.query, "id")?;
                let found = facts.table.accessories_of(&digest);
                let rows = found.map(|(accessory, kind)| {
                    let body = facts.accessory_body(&digest, accessory, kind);
                    (facts.table.id(accessory), (), body)
                });
                Ok(list(call, &selection, selection.page(rows.collect())))
            }
            Route::Tag { .. } => Err(Problem::framework(405, "method GET is not allowed, but [DELETE] are")),
        }
    }

    fn facts<'a>(&'a self, repository: &'a str, query: &Query, content: &'a Content) -> Facts<'a> {
        let flag =
            |name: &str, default: bool| query.get(name).map_or(default, |text| text.eq_ignore_ascii_case("true"));
        Facts {
            service: self,
            table: &self.tables[repository],
            content,
            repository,
            with_tag: flag("with_tag", true),
            with_immutable: flag("with_immutable_status", false),
            with_accessory: flag("with_accessory", true),
        }
    }

    fn system_info(&self, access: Access<'_>) -> Value {
        let mut body = json!({ "auth_mode": "db_auth", "self_registration": false, "banner_message": "" });
        if access.is_authenticated() {
            body["harbor_version"] = json!("v2.15.0-c50c7ddd");
            body["read_only"] = json!(self.options.read_only);
            body["current_time"] = json!(time(self.now()));
            body["registry_url"] = json!("harbor.example");
        }
        body
    }

    /// Where nothing was ever scheduled, the answer has no body.
    fn schedule(&self) -> Response {
        let Some(schedule) = &self.options.garbage_collection else { return StatusCode::OK.into_response() };
        let parameters = json!({ "delete_untagged": schedule.delete_untagged, "dry_run": false, "workers": 1 });
        ok(&json!({
            "id": 7, "job_name": "", "job_kind": schedule.cron, "job_parameters": parameters.to_string(),
            "job_status": "", "deleted": false,
            "schedule": { "type": schedule.kind, "cron": schedule.cron, "next_scheduled_time": time(self.now()) },
        }))
    }

    fn quotas(&self, call: &ApiRequest<'_>, content: &Content) -> Result<Response, Problem> {
        self.access(call).require_system(("quota", "list"))?;
        let selection = Selection::of(call.query, "id")?;
        let rows = self.options.projects.iter().map(|(name, project)| {
            let own = content.repositories().filter(|repository| project_of(repository) == name);
            let used: u64 =
                own.flat_map(|repository| content.manifests(repository)).map(|(_, found)| found.image_size).sum();
            let reference = json!({ "id": project.id, "name": name, "owner_name": "admin" });
            let body =
                json!({ "id": project.id, "ref": reference, "hard": { "storage": -1 }, "used": { "storage": used } });
            (project.id, (), body)
        });
        Ok(list(call, &selection, selection.page(rows.collect())))
    }

    fn current_permissions(&self, call: &ApiRequest<'_>) -> Result<Response, Problem> {
        let access = self.access(call);
        access.require_authenticated()?;
        let scope = call.query.get("scope").unwrap_or_default();
        let id = scope.strip_prefix("/project/").and_then(|id| id.parse::<i64>().ok());
        let project = self.options.projects.iter().find(|(_, project)| Some(project.id) == id);
        let granted = project.into_iter().flat_map(|(name, _)| access.permissions(name));
        let prefix = if call.query.get("relative").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            String::new()
        } else {
            format!("{scope}/")
        };
        let rows =
            granted.map(|(resource, action)| json!({ "resource": format!("{prefix}{resource}"), "action": action }));
        Ok(ok(&Value::Array(rows.collect())))
    }

    fn retention(&self, call: &ApiRequest<'_>, id: &str) -> Result<Response, Problem> {
        let access = self.access(call);
        access.require_authenticated()?;
        let of = |project: &HarborProject| project.retention.is_some() && project.retention_id().to_string() == id;
        let found = self.options.projects.iter().find(|(_, project)| of(project));
        let Some((name, project)) = found else { return Err(Problem::not_found(&format!("retention policy {id}"))) };
        access.require(name, Some(project), ("tag-retention", "read"))?;
        Ok(ok(&json!(project.retention)))
    }

    fn projects(&self, call: &ApiRequest<'_>, content: &Content) -> Result<Response, Problem> {
        let (access, selection) = (self.access(call), Selection::of(call.query, "project_id")?);
        let shown = self.options.projects.iter().filter(|(name, project)| access.sees(name, project));
        let rows = shown.filter(|(name, _)| selection.names(name)).map(|(name, project)| {
            let repositories = content.repositories().filter(|repository| project_of(repository) == name).count();
            let mut metadata = Map::from_iter([("public".to_owned(), json!(project.public.to_string()))]);
            if project.retention.is_some() {
                metadata.insert("retention_id".to_owned(), json!(project.retention_id().to_string()));
            }
            let mut body = json!({
                "project_id": project.id, "owner_id": 1, "name": name, "creation_time": NEVER, "update_time": NEVER,
                "repo_count": repositories, "metadata": metadata, "cve_allowlist": {}, "owner_name": "admin",
            });
            // Harbor leaves the zero out.
            if project.registry_id != 0 {
                body["registry_id"] = json!(project.registry_id);
            }
            (project.id, name.clone(), body)
        });
        Ok(list(call, &selection, selection.page(rows.collect())))
    }

    fn repositories(
        &mut self,
        call: &ApiRequest<'_>,
        project: Option<&str>,
        content: &Content,
    ) -> Result<Response, Problem> {
        let selection = Selection::of(call.query, "repository_id")?;
        let ids = self.repository_ids(content).clone();
        let access = self.access(call);
        let shown = ids.iter().filter(|(name, _)| {
            let own = project_of(name);
            let found = self.options.projects.get(own).filter(|found| access.sees(own, found));
            found.is_some() && project.is_none_or(|project| project == own)
        });
        let rows = shown.map(|(name, id)| (*id, *id, self.repository_body(name, *id, content)));
        Ok(list(call, &selection, selection.page(rows.collect())))
    }

    fn repository_body(&self, name: &str, id: i64, content: &Content) -> Value {
        let project = self.options.projects.get(project_of(name)).map(|found| found.id);
        let created = content.repository(name).map_or(NEVER.to_owned(), |found| time(found.created));
        json!({
            "id": id, "project_id": project, "name": name, "artifact_count": content.manifests(name).count(),
            "pull_count": 0, "creation_time": created, "update_time": created,
        })
    }

    fn artifacts(&mut self, name: &str, call: &ApiRequest<'_>, content: &Content) -> Result<Response, Problem> {
        let selection = Selection::of(call.query, "id")?;
        self.table(name, content);
        let facts = self.facts(name, call.query, content);
        let (held, accessories) = (referenced(name, content), facts.table.by_subject());
        let shown = content.manifests(name).filter(|(digest, manifest)| {
            let tagged = !manifest.tags.is_empty();
            let listed = selection.all || tagged || !held.contains(*digest);
            listed && !facts.table.is_accessory(digest) && selection.tagged.is_none_or(|wanted| wanted == tagged)
        });
        let rows = shown.map(|(digest, manifest)| (facts.table.id(digest), manifest.created, (digest, manifest)));
        let page = selection.page(rows.collect());
        let none = Vec::new();
        let bodies = page
            .rows
            .into_iter()
            .map(|(digest, manifest)| facts.artifact_body(digest, manifest, accessories.get(digest).unwrap_or(&none)));
        let page = super::PageOf { rows: bodies.collect(), total: page.total, has_next: page.has_next };
        Ok(list::<Value>(call, &selection, page))
    }

    /// Returns true if a rule of its project makes a tag immutable.
    pub(super) fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        let (project, rest) = repository.split_once('/').unwrap_or((repository, ""));
        let matches = |glob: &str, text: &str| {
            let glob = GlobBuilder::new(glob).literal_separator(true).build().expect("a rule of a test is a glob");
            glob.compile_matcher().is_match(text)
        };
        let rules = self.options.projects.get(project).into_iter().flat_map(|project| &project.immutable);
        rules.into_iter().any(|(repositories, tags)| matches(repositories, rest) && matches(tags, tag))
    }
}

impl Facts<'_> {
    fn artifact_body(&self, digest: &Digest, manifest: &Manifest, accessories: &[(&Digest, &'static str)]) -> Value {
        let shape: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        let is_index = matches!(manifest.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST);
        let config = shape["config"]["mediaType"].as_str().filter(|_| !is_index);
        let mut body = json!({
            "id": self.table.id(digest), "type": if is_index || config.is_some_and(is_image) { "IMAGE" } else { "UNKNOWN" },
            "media_type": config.unwrap_or(&manifest.media_type), "manifest_media_type": manifest.media_type,
            "project_id": self.service.options.projects.get(project_of(self.repository)).map(|project| project.id),
            "repository_id": 1, "repository_name": self.repository, "digest": digest.to_string(),
            "size": manifest.image_size, "icon": "", "push_time": time(manifest.created),
            "pull_time": self.table.pulled_at(digest).map_or_else(|| NEVER.to_owned(), time),
            "extra_attrs": { "architecture": manifest.architecture, "os": manifest.os },
            "annotations": manifest.annotations, "references": Value::Null, "tags": Value::Null,
            "accessories": Value::Null, "labels": Value::Null, "addition_links": {},
        });
        body["artifact_type"] = json!(shape["artifactType"].as_str().or(config).unwrap_or_default());
        if !manifest.children.is_empty() && !self.service.options.lost_references {
            let references = manifest.children.iter().map(|child| {
                let mut reference = json!({
                    "parent_id": self.table.id(digest), "child_id": self.table.id(&child.digest),
                    "child_digest": child.digest.to_string(), "annotations": Value::Null, "urls": Value::Null,
                });
                if child.os.is_some() || child.architecture.is_some() {
                    reference["platform"] = json!({ "architecture": child.architecture, "os": child.os });
                }
                reference
            });
            body["references"] = Value::Array(references.collect());
        }
        if self.with_tag && !manifest.tags.is_empty() {
            body["tags"] = Value::Array(self.tags_body(digest));
        }
        if self.with_accessory && !accessories.is_empty() {
            let rows = accessories.iter().map(|(accessory, kind)| self.accessory_body(digest, accessory, kind));
            body["accessories"] = Value::Array(rows.collect());
        }
        body
    }

    fn tags_body(&self, digest: &Digest) -> Vec<Value> {
        let manifest = self.content.manifest(self.repository, digest);
        let names = manifest.into_iter().flat_map(|manifest| &manifest.tags);
        let rows = names.zip(1..).filter_map(|(name, number)| {
            let tag = self.content.tag(self.repository, name)?;
            let artifact = self.table.id(digest);
            Some(json!({
                "id": artifact * 10_000 + number, "repository_id": 1, "artifact_id": artifact, "name": &**name,
                "push_time": time(tag.updated),
                "pull_time": self.table.tag_pulled_at(name).map_or_else(|| NEVER.to_owned(), time),
                "immutable": self.with_immutable && self.service.is_immutable(self.repository, name),
            }))
        });
        rows.collect()
    }

    fn accessory_body(&self, subject: &Digest, digest: &Digest, kind: &str) -> Value {
        let found = self.content.manifest(self.repository, digest);
        json!({
            "id": self.table.id(digest), "artifact_id": self.table.id(digest),
            "subject_artifact_id": self.table.id(subject), "subject_artifact_digest": subject.to_string(),
            "subject_artifact_repo": self.repository, "size": found.map(|found| found.image_size),
            "digest": digest.to_string(), "type": kind, "icon": "",
            "creation_time": found.map(|found| time(found.created)),
        })
    }
}

fn is_image(config: &str) -> bool {
    matches!(config, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}

/// A time as Harbor writes it.
fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
