//! Plans in the state: whole, by repository, and without the tags that stay once a newer one is there.

use tagwarden::report::{self, PlanDocument, assign_plan_id};

use super::fixture::{WebFixture, noon, plan, record, run_id};

#[tokio::test]
async fn a_plan_comes_back_as_it_was() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    let document = plan(2_500);
    record(store, 1, document.clone(), noon()).await;
    let chunks = store.plan_chunks(run_id(1)).await.unwrap();
    let places: Vec<(u32, &str)> = chunks.iter().map(|chunk| (chunk.ordinal, &*chunk.repository)).collect();
    assert_eq!(places, [(0, "shop/part-000"), (1, "shop/part-001"), (2, "shop/part-002")]);
    assert_eq!(chunks.iter().map(|chunk| chunk.counts.expired).sum::<u64>(), document.summary.expired);
    assert_eq!(chunks.iter().map(|chunk| chunk.counts.kept()).sum::<u64>(), 2_500 - document.summary.expired);
    assert_eq!(chunks.iter().map(|chunk| chunk.counts.unknown_bytes_removals).sum::<u64>(), 25);

    let loaded = report::load_plan(store, run_id(1)).await.unwrap().unwrap();
    assert_eq!(loaded, document);
    let [again, before] = [loaded, document.clone()].map(|mut document| {
        assign_plan_id(&mut document);
        document.id
    });
    assert_eq!(again, before);
    let sent = world.get(&format!("/api/v1/runs/{}/plan", run_id(1))).await;
    assert!(sent.body == serde_json::to_string(&document).unwrap());
    assert!(report::load_plan(store, run_id(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_large_repository_has_several_chunks() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    let mut document = plan(2_500);
    document.removals.materialize().iter_mut().for_each(|view| view.repository = "shop/all".into());
    document.kept.materialize().iter_mut().for_each(|view| view.repository = "shop/all".into());
    record(store, 1, document.clone(), noon()).await;
    let chunks = store.plan_chunks(run_id(1)).await.unwrap();
    let counts: Vec<_> = chunks.iter().map(|chunk| (chunk.counts.expired, chunk.counts.kept())).collect();
    assert_eq!(counts, [(250, 1750), (0, 500)]);
    assert_eq!(report::load_plan(store, run_id(1)).await.unwrap().unwrap(), document);
    // A page that begins in one chunk and ends in the next.
    let page = world.get("/api/v1/registries/contoso/shop/all?limit=500&page=4").await.json();
    let tags: Vec<&str> = page["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].as_str().unwrap()).collect();
    let expected: Vec<String> = document.kept.iter().skip(1250).take(500).map(|view| view.tag.clone()).collect();
    assert_eq!((page["total"].as_u64(), tags), (Some(2500), expected.iter().map(String::as_str).collect()));
    let page = world.get("/api/v1/registries/contoso/shop/all?limit=400&page=5").await.json();
    assert_eq!(page["tags"][399]["tag"], document.kept.get(1749).unwrap().tag);
    let page = world.get("/api/v1/registries/contoso/shop/all?limit=600&page=4").await.json();
    assert_eq!(page["tags"][0]["tag"], document.kept.get(1550).unwrap().tag);
    assert_eq!(page["tags"][599]["tag"], document.kept.get(2149).unwrap().tag);
}

#[tokio::test]
async fn an_older_plan_keeps_removals_and_counts_and_says_so() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    let document = plan(60);
    record(store, 1, document.clone(), noon()).await;
    let tags = async |run: u128, query: &str| {
        let answer = world.get(&format!("/api/v1/runs/{}/tags?limit=1000{query}", run_id(run))).await.json();
        (answer["total"].as_u64().unwrap(), answer["kept_pruned"].as_bool().unwrap())
    };
    assert_eq!(tags(1, "").await, (60, false));
    record(store, 2, plan(60), noon()).await;
    assert_eq!(tags(2, "").await, (60, false));
    assert_eq!(tags(1, "").await, (6, true));
    assert_eq!(tags(1, "&verdict=expired").await, (6, true));
    assert_eq!(tags(1, "&verdict=protected").await, (0, true));
    assert_eq!(tags(1, "&search=release").await, (0, true));

    let words = "Kept tags have details in the latest whole plan only";
    assert!(world.get(&format!("/runs/{}", run_id(1))).await.body.contains(words));
    assert!(!world.get(&format!("/runs/{}", run_id(2))).await.body.contains(words));
    let sent: PlanDocument =
        serde_json::from_str(&world.get(&format!("/api/v1/runs/{}/plan", run_id(1))).await.body).unwrap();
    assert_eq!((&sent.removals, sent.kept.len(), &sent.summary), (&document.removals, 0, &document.summary));
    assert_eq!(report::load_plan(store, run_id(1)).await.unwrap().unwrap(), sent);
    let registry = world.get("/api/v1/registries/contoso").await.json();
    assert_eq!(registry["run"], run_id(2).to_string());
}
