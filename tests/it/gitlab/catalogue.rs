//! The list of repositories: of groups and projects, of an administrator, and of the settings.

use std::collections::BTreeSet;

use tagwarden::demo::registry::{Fault, FaultKind, GitlabOptions, GitlabProject, GitlabRole, GitlabScope, GitlabUser};
use tagwarden::domain::GapTarget;
use tagwarden::registry::{RegistryErrorKind, RegistrySettings};

use super::{API, TOKEN, USER, image, options, put, reader_of, request_counts, settings, settings_with_api, start};
use crate::registry::gaps;

fn below(namespaces: &[&str], settings: RegistrySettings) -> RegistrySettings {
    let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    RegistrySettings { repositories: Vec::new(), namespaces, ..settings }
}

fn names(catalogue: &tagwarden::registry::Catalogue) -> BTreeSet<&str> {
    catalogue.repositories.iter().map(tagwarden::domain::RepositoryName::as_str).collect()
}

#[tokio::test]
async fn a_group_is_listed_with_everything_below_it_a_hundred_at_a_time() {
    let options = options()
        .with_project("shop/platform/tools/build", GitlabProject::new(8))
        .with_project("shop2/other", GitlabProject::new(9));
    let registry = start(options).await;
    let one = image("one", 9);
    registry.content(|content| {
        for number in 0..230 {
            content.put_image(&format!("shop/backend/service-{number:03}"), Some("v1"), &one);
        }
        for other in ["shop/platform/tools/build", "shop/platform/tools/build/cache/a", "shop2/other"] {
            content.put_image(other, Some("v1"), &one);
        }
    });
    let reader = reader_of(below(&["shop"], settings_with_api(&registry.url())));
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!((catalogue.repositories.len(), catalogue.gaps.len()), (232, 0));
    assert!(names(&catalogue).contains("shop/platform/tools/build/cache/a"));
    assert_eq!(request_counts(&registry), [("GET /api/v4/groups/shop/registry/repositories".to_owned(), 3)].into());
    registry.inject(Fault::on("page=2", FaultKind::status(500)));
    let error = reader.catalogue().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Status(500), "a part of a list is none: {error}");
}

#[tokio::test]
async fn a_project_may_stand_where_a_group_can() {
    let registry = start(options().with_project("shop/web", GitlabProject::new(8))).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    put(&registry, "shop/web", "v1", &image("one", 9), 5);
    let reader = reader_of(below(&["shop/backend"], settings_with_api(&registry.url())));
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!(names(&catalogue), [API].into());
    let reader = reader_of(below(&["gone", "shop/web"], settings_with_api(&registry.url())));
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!(names(&catalogue), ["shop/web"].into());
    assert_eq!(gaps(&catalogue.gaps), [(GapTarget::Catalogue, "not-found")]);
    assert!(catalogue.gaps[0].message.contains("check the path"), "{:?}", catalogue.gaps);
}

#[tokio::test]
async fn repositories_that_gitlab_is_about_to_delete_are_left_out() {
    let registry = start(GitlabOptions { deleting: [API.to_owned()].into(), ..options() }).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    put(&registry, "shop/backend", "v1", &image("one", 9), 5);
    let reader = reader_of(below(&["shop"], settings_with_api(&registry.url())));
    assert_eq!(names(&reader.catalogue().await.unwrap()), ["shop/backend"].into());
}

/// GitLab's own token service gives a token for everything below a path to GitLab alone.
#[tokio::test]
async fn without_the_api_a_group_cannot_be_listed_and_that_is_said() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    for namespace in ["shop", "shop/backend"] {
        let error = reader_of(below(&[namespace], settings(&registry.url()))).catalogue().await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::Denied, "{error}");
        assert!(error.chain().contains("add `api` to the registry's settings"), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_token_that_reaches_below_a_path_lists_it_by_the_registrys_own_list() {
    let server = wiremock::MockServer::start().await;
    let path = "/gitlab/v1/repository-paths/shop/repositories/list/";
    let page = |body: &str, link: Option<&str>| {
        let answer = wiremock::ResponseTemplate::new(200).set_body_raw(body.as_bytes(), "application/json");
        match link {
            Some(link) => answer.insert_header("link", link),
            None => answer,
        }
    };
    // As in docs/spec/gitlab/api.md.
    let first = r#"[{"name":"api","path":"shop/api","created_at":"2022-06-07T12:11:13.633+00:00"}]"#;
    let second = r#"[{"name":"web","path":"shop/web","created_at":"2022-06-07T12:11:13.633+00:00"},{"name":"x","path":"other/x"}]"#;
    let next = "<https://registry.gitlab.com/gitlab/v1/repository-paths/shop/repositories/list/?n=1000&last=shop%2Fapi>; rel=\"next\"";
    for (last, body, link) in [(None, first, Some(next)), (Some("shop/api"), second, None)] {
        let mock = wiremock::Mock::given(wiremock::matchers::path(path));
        let mock = match last {
            Some(last) => mock.and(wiremock::matchers::query_param("last", last)),
            None => mock.and(wiremock::matchers::query_param_is_missing("last")),
        };
        mock.respond_with(page(body, link)).expect(1).mount(&server).await;
    }
    let auth = tagwarden::registry::Auth::Token(TOKEN.into());
    let reader = reader_of(RegistrySettings { auth, ..below(&["shop"], settings(&server.uri())) });
    let catalogue = reader.catalogue().await.unwrap();
    assert_eq!(names(&catalogue), ["shop/api", "shop/web"].into());
    assert!(catalogue.gaps[0].message.contains("names other/x"), "{:?}", catalogue.gaps);
}

#[tokio::test]
async fn administrators_list_everything_and_others_learn_what_to_write() {
    let everything =
        GitlabUser { admin: true, ..GitlabUser::new(USER, TOKEN, &[GitlabScope::Api], "shop", GitlabRole::Owner) };
    for (user, listed) in [(everything, true), (options().users[0].clone(), false)] {
        let registry = start(GitlabOptions { users: vec![user], ..options() }).await;
        put(&registry, API, "v1", &image("one", 9), 5);
        let found = reader_of(below(&[], settings(&registry.url()))).catalogue().await;
        match found {
            Ok(catalogue) => assert!(listed && names(&catalogue) == [API].into()),
            Err(error) => {
                assert!(!listed, "{error}");
                assert!(error.chain().contains("write `namespaces` with `api`"), "{}", error.chain());
            }
        }
    }
}

#[tokio::test]
async fn repositories_of_the_settings_are_asked_of_nobody() {
    let registry = start(options()).await;
    let reader = reader_of(settings_with_api(&registry.url()));
    assert_eq!(names(&reader.catalogue().await.unwrap()), [API].into());
    assert!(registry.requests().is_empty());
    let repository =
        reader.repository(&super::api(), &BTreeSet::new(), &crate::support::memory::MemoryCache::default()).await;
    assert_eq!(gaps(&repository.gaps), [(GapTarget::TagList, "not-found")], "it does not exist");
}

#[tokio::test]
async fn a_token_without_read_api_says_which_scope_is_missing() {
    let user = GitlabUser::new(USER, TOKEN, &[GitlabScope::ReadRegistry], "shop", GitlabRole::Maintainer);
    let registry = start(GitlabOptions { users: vec![user], ..options() }).await;
    let error = reader_of(below(&["shop"], settings_with_api(&registry.url()))).catalogue().await.unwrap_err();
    assert!(error.kind == RegistryErrorKind::Denied && error.chain().contains("scope `read_api`"), "{}", error.chain());
}
