//! Whether a list is all there is.

use serde_json::json;
use tagwarden::sources::AzureService::{AppService, ContainerApps, ContainerInstances};

use super::container_apps::shop;
use super::{Estate, OTHER, SUBSCRIPTION, children, id, open, put, shown, template};

const APPS: &str = "Microsoft.App/containerApps";

#[tokio::test]
async fn an_identity_that_sees_only_part_sees_nothing() {
    // Lists leave out without a word what the identity may not read.
    for actions in [&[][..], &["Microsoft.Web/*"], &["Microsoft.App/containerApps/read"]] {
        let estate = shop().await;
        estate.change(|resources| {
            let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/permissions");
            resources.lists.insert(path, vec![json!({ "actions": actions, "notActions": [] })]);
        });
        let error = estate.ask(ContainerApps).await.unwrap_err();
        assert_eq!(error.kind, "denied");
        for words in ["Microsoft.App/jobs/read", "the role `Reader`", SUBSCRIPTION] {
            assert!(error.chain().contains(words), "{error}");
        }
    }
    let estate = shop().await;
    estate.change(|resources| {
        let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/permissions");
        resources.denied.insert(path);
    });
    estate.fails(ContainerApps, "permissions answered 403").await;
}

#[tokio::test]
async fn an_app_that_its_list_leaves_out_is_asked_for_by_name() {
    let estate = shop().await;
    let whole = estate.claims(ContainerApps).await;
    let list = format!("/subscriptions/{SUBSCRIPTION}/providers/{APPS}");
    estate.change(|resources| drop(resources.lists.insert(list.clone(), vec![])));
    assert_eq!(estate.claims(ContainerApps).await, whole);
    estate.deny(id(APPS, "api"));
    estate.fails(ContainerApps, "role `Reader`").await;
    // One that is deleted stays in the index for a while.
    estate.change(|resources| {
        resources.denied.clear();
        resources.single.remove(&id(APPS, "api"));
    });
    let rest = estate.claims(ContainerApps).await;
    assert!(rest.len() < whole.len() && rest.iter().all(|line| !line.contains(" api")), "{rest:?}");
}

#[tokio::test]
async fn a_provider_that_is_not_registered_has_no_workloads() {
    for (status, code) in [(409, "MissingSubscriptionRegistration"), (404, "MissingSubscriptionRegistration")] {
        let estate = Estate::new().await;
        estate.change(|resources| {
            for kind in ["containerGroups", "containerGroupProfiles"] {
                let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerInstance/{kind}");
                resources.errors.insert(path, (status, code));
            }
        });
        assert!(estate.ask(ContainerInstances).await.unwrap().claims.is_empty());
    }
    // Unless there are some.
    let estate = shop().await;
    estate.change(|resources| {
        let path = format!("/subscriptions/{SUBSCRIPTION}/providers/{APPS}");
        resources.errors.insert(path, (404, "InvalidResourceType"));
        resources.errors.insert(id(APPS, "api"), (404, "InvalidResourceType"));
    });
    estate.fails(ContainerApps, "index has 1 resources of type Microsoft.App/containerApps").await;
    let estate = Estate::new().await;
    estate.change(|resources| {
        let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Web/sites");
        resources.errors.insert(path, (409, "Conflict"));
    });
    estate.fails(AppService, "(Conflict: It is not to be had.)").await;
}

#[tokio::test]
async fn every_subscription_and_group_of_the_settings_is_there() {
    let estate = shop().await;
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shop");
    estate.change(|resources| {
        open(resources, &group, &["*/read"]);
        let listed = resources.lists[&format!("/subscriptions/{SUBSCRIPTION}/providers/{APPS}")].clone();
        resources.lists.insert(format!("{group}/providers/{APPS}"), listed);
        // What is in no group of the settings is not looked at.
        put(resources, APPS, "elsewhere", &template(&["a=contoso.azurecr.io/a:1"], &[]));
        children(resources, &id(APPS, "elsewhere"), "revisions", &[]);
    });
    let all = [SUBSCRIPTION];
    let answer = estate.ask_in(ContainerApps, &all, &["rg-shop"]).await.unwrap();
    assert_eq!(shown(&answer).len(), 5, "{:?}", shown(&answer));

    let error = estate.ask_in(ContainerApps, &all, &["rg-shop", "rg-gone"]).await.unwrap_err();
    assert!(error.chain().contains("`rg-gone` is in none of the subscriptions"), "{error}");
    let error = estate.ask_in(ContainerApps, &[SUBSCRIPTION, OTHER], &["rg-shop"]).await.unwrap_err();
    assert!(error.chain().contains(&format!("subscription {OTHER} has none")), "{error}");
    let error = estate.ask_in(ContainerApps, &[SUBSCRIPTION, OTHER], &[]).await.unwrap_err();
    assert_eq!(error.kind, "not-found");
    assert!(error.chain().contains("check subscription and resource group"), "{error}");
    estate.deny(format!("/subscriptions/{OTHER}/resourceGroups/rg-shop"));
    let error = estate.ask_in(ContainerApps, &[SUBSCRIPTION, OTHER], &["rg-shop"]).await.unwrap_err();
    assert_eq!(error.kind, "denied", "{error}");
}
