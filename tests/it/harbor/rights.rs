//! Obstacles to removals, project by project.

use tagwarden::demo::registry::{Fault, FaultKind, HARBOR_READS, HARBOR_REMOVES, HarborProject};
use tagwarden::domain::RemovalObstacle;

use super::{add_project, name, options, reader, request_counts, start};

#[tokio::test]
async fn obstacles_are_told_by_project() {
    let registry = start(options()).await;
    add_project(&registry, "web", HarborProject::new(2), HARBOR_READS);
    let all = [HARBOR_READS, HARBOR_REMOVES].concat();
    add_project(&registry, "hub", HarborProject { registry_id: 4, ..HarborProject::new(3) }, &all);
    add_project(&registry, "open", HarborProject { public: true, ..HarborProject::new(4) }, &[]);
    add_project(&registry, "blind", HarborProject::new(5), HARBOR_REMOVES);
    let names = ["shop/api", "shop/a/b", "web/x", "hub/x", "open/x", "blind/x", "none/x"].map(name);
    let missing = reader(&registry.url()).missing_rights(&names).await;
    let words = |repository: &str| match missing.get(&name(repository)) {
        Some(RemovalObstacle::Denied { message }) => message.clone(),
        other => format!("{other:?}"),
    };
    for (repository, phrase) in [
        ("shop/api", "None"),
        ("shop/a/b", "None"),
        ("web/x", "it needs `Delete` of `Tag` there"),
        ("hub/x", "project hub is a proxy cache"),
        ("open/x", "it needs `Delete` of `Tag` there"),
        ("blind/x", "it needs `Pull` of `Repository` there"),
        ("none/x", "shows no project none"),
    ] {
        assert!(words(repository).contains(phrase), "{repository}: {}", words(repository));
    }
    // One question for all projects, and one for each whose rights matter.
    let asked = request_counts(&registry);
    assert_eq!(asked["GET /api/v2.0/projects"], 1);
    assert_eq!(asked["GET /api/v2.0/users/current/permissions"], 4, "{asked:?}");
}

#[tokio::test]
async fn a_read_only_system_is_told_for_everything() {
    let registry = start(options()).await;
    registry.harbor(|harbor, _| harbor.options.read_only = true);
    let names = ["shop/api", "shop/web"].map(name);
    let missing = reader(&registry.url()).missing_rights(&names).await;
    assert_eq!(missing.len(), 2);
    for obstacle in missing.values() {
        assert!(matches!(obstacle, RemovalObstacle::Denied { message } if message.contains("read-only mode")));
    }
}

#[tokio::test]
async fn a_question_that_fails_is_no_permission() {
    let registry = start(options()).await;
    for (path, count) in [("/projects?", 1), ("/permissions", 1)] {
        registry.clear_faults();
        registry.inject(Fault::on(path, FaultKind::status(500)));
        let missing = reader(&registry.url()).missing_rights(&[name("shop/api")]).await;
        assert_eq!(missing.len(), count, "{path}");
        assert!(matches!(missing[&name("shop/api")], RemovalObstacle::CheckFailed { .. }), "{path}: {missing:?}");
    }
    registry.clear_faults();
    registry.expire_tokens();
    let missing = reader(&registry.url()).missing_rights(&[name("shop/api")]).await;
    assert_eq!(missing.len(), 1, "an account that expired may do nothing: {missing:?}");
}
