//! Everything that one source says, as text and as data.

use serde_json::{Value, json};
use tagwarden::domain::Digest;
use tagwarden::engine::evaluate;
use tagwarden::report::{ClaimView, ProtectedTagView, SourceDetailView, source_detail, source_detail_text};

use crate::scenarios::shape::Scenario;

/// One of each thing that a source can say.
const WORLD: &str = r#"
lesson: one of each
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registries:
  contoso:
    repositories:
      shop/api:
        tags: { v1: a 90d, v2: b 90d, v3: index 90d, v4: c 90d }
        manifests: { index: { children: [amd] } }
        untagged: { gone: ["v0 old 2d"] }
      shop/web: { tags: { v1: d 90d, v2: e 90d, v3: f 90d } }
      shop/job: { tags: { v1: g 90d } }
      lib/core: { tags: { v1: h 90d } }
  fabrikam:
    repositories:
      shop/web: { tags: { v1: i 90d } }
sources:
  deploy:
    claims:
      - "contoso.example/a@{amd}"
      - "contoso.example/b@{gone}"
      - "contoso.example/c@{nowhere}"
      - contoso.example/shop/api:v1
      - contoso.example/shop/api:v9
      - contoso.example/shop/web:v1
      - other.example/shop/api:v1
    mentions: ["contoso/shop/api:v0", "contoso/shop/api:v1", "contoso/shop/api:v2", "contoso/shop/web:v2"]
    unresolved:
      - contoso.example/lib/core beside v1
      - contoso.example/shop/api
      - contoso.example/shop/job
      - contoso.example/shop/job beside node
      - contoso.example/shop/web
      - ghcr.io/shop/api
  down: { failed: "cannot read down.txt", registries: [fabrikam] }
  other: { unresolved: [lib/core] }
expect: ""
"#;

const TEXT: &str = "\
deploy (image-references): answered
  protects 5 tags, 2 of them by nothing but mentions
  keeps 3 tags undecided

Claims (7): images that it names
  contoso.example/a@{amd}: deploy.txt:1
    protects contoso/shop/api:v3, by {short amd} inside it
  contoso.example/b@{gone}: deploy.txt:1
    names an image without a tag, which is not deleted
  contoso.example/c@{nowhere}: deploy.txt:1
    names no image that exists
  contoso.example/shop/api:v1: deploy.txt:1
    protects contoso/shop/api:v1, by its tag
  contoso.example/shop/api:v9: deploy.txt:1
    names no tag that exists
  contoso.example/shop/web:v1: deploy.txt:1
    protects contoso/shop/web:v1, by its tag
  other.example/shop/api:v1: deploy.txt:1
    names no registry that the source protects

Mentions (2): words that may mean tags which it does not claim
  `v0`: deploy.txt:1
    names an image without a tag, which is not deleted: contoso/shop/api:v0
  `v2`: deploy.txt:1
    protects contoso/shop/api:v2
    protects contoso/shop/web:v2

Unresolved (6): references to a repository that leave the tag open
  contoso.example/lib/core beside v1: deploy.txt:1
    keeps no tag undecided: a word beside it names a tag of the repository
  contoso.example/shop/api: deploy.txt:1
    keeps 1 tag of contoso/shop/api undecided
    all of that only because of this reference
  contoso.example/shop/job: deploy.txt:1
    keeps 1 tag of contoso/shop/job undecided
    none of that only because of this reference
  contoso.example/shop/job beside node: deploy.txt:1
    keeps 1 tag of contoso/shop/job undecided
    none of that only because of this reference
  contoso.example/shop/web: deploy.txt:1
    keeps 1 tag of contoso/shop/web undecided
    all of that only because of this reference
  ghcr.io/shop/api: deploy.txt:1
    keeps no tag undecided: it names no repository that was read

To have them decided
  write the tag where the reference stands, or set `unresolved = \"note\"`: for the source, or for some of its files by \
`paths` in `exceptions`
";

fn view(source: &str) -> Option<SourceDetailView> {
    let scenario: Scenario = serde_saphyr::from_str(WORLD).unwrap();
    let stage = scenario.stage("world");
    let verdicts = evaluate(&stage.rules, &stage.inventory, &stage.claims, stage.now);
    source_detail((&stage.inventory, &stage.claims, &verdicts), &source.parse().unwrap(), stage.now)
}

#[test]
fn a_source_says_what_it_claims_mentions_and_leaves_open() {
    let mut expected = TEXT.to_owned();
    for name in ["amd", "gone", "nowhere"] {
        let digest = Digest::of(name.as_bytes());
        expected = expected.replace(&format!("{{{name}}}"), &digest.to_string());
        expected = expected.replace(&format!("{{short {name}}}"), &digest.short());
    }
    assert_eq!(source_detail_text(&view("deploy").unwrap(), false), expected);
    assert_eq!(view("nobody"), None);
}

#[test]
fn the_same_is_there_as_data() {
    let found = json!(view("deploy").unwrap());
    assert_eq!(found["schema"], "tagwarden.source/1");
    let counts = ["protects", "only_mentioned", "undecided"].map(|key| found[key].as_u64().unwrap());
    assert_eq!(counts, [5, 2, 3]);
    let by_image = |image: &str| -> Value {
        let claims = found["claims"].as_array().unwrap().iter();
        claims.filter(|claim| claim["image"].as_str().unwrap().starts_with(image)).cloned().collect()
    };
    let tag = |repository: &str, tag: &str| json!({ "registry": "contoso", "repository": repository, "tag": tag });
    let mut inside = tag("shop/api", "v3");
    inside["by"] = json!("index-contains");
    inside["digest"] = json!(Digest::of(b"amd").to_string());
    let file = json!({ "type": "file", "file": "deploy.txt", "line": 1 });
    assert_eq!(
        by_image("contoso.example/a@"),
        json!([{
            "image": format!("contoso.example/a@{}", Digest::of(b"amd")),
            "place": "deploy.txt:1",
            "holder": file,
            "tags": [inside],
            "undecided": 0,
            "note": null,
        }])
    );
    assert_eq!(by_image("contoso.example/shop/api:v9")[0]["tags"], json!([]));
    assert_eq!(by_image("contoso.example/shop/api:v9")[0]["note"], "names no tag that exists");
    assert_eq!(
        found["mentions"][1],
        json!({
            "text": "v2",
            "place": "deploy.txt:1",
            "holder": file,
            "images": ["contoso/shop/api:v2", "contoso/shop/web:v2"],
            "tags": [tag("shop/api", "v2"), tag("shop/web", "v2")],
            "note": null,
        })
    );
    let open = &found["unresolved"][1];
    assert_eq!((&open["undecided"], &open["undecided_only"]), (&json!(1), &json!(1)));
    assert_eq!(open["repositories"], json!([{ "registry": "contoso", "repository": "shop/api", "undecided": 1 }]));
    assert!(open["remedy"].as_str().unwrap().contains("unresolved = \"note\""), "{open:#}");
    assert_eq!(found["unresolved"][0]["remedy"], Value::Null);
}

#[test]
fn a_source_that_failed_says_why_and_nothing_else() {
    let view = view("down").unwrap();
    assert_eq!(
        source_detail_text(&view, false),
        "down (image-references): FAILED (unreadable): cannot read down.txt\n"
    );
    let found = json!(view);
    assert_eq!((&found["state"], &found["error_kind"]), (&json!("failed"), &json!("unreadable")));
    assert_eq!(found["registries"], json!(["fabrikam"]));
    assert_eq!((&found["protects"], &found["claims"]), (&json!(0), &json!([])));
}

#[test]
fn long_lists_are_cut_unless_all_is_asked_for() {
    let mut view = view("deploy").unwrap();
    let claim: ClaimView = view.claims[3].clone();
    let tag: ProtectedTagView = claim.tags[0].clone();
    view.claims = vec![claim; 201];
    view.claims[0].tags = vec![tag; 23];
    view.mentions = vec![view.mentions[0].clone(); 200];
    view.unresolved = vec![view.unresolved[0].clone(); 1203];
    let cut = source_detail_text(&view, false);
    let left = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("(--all)")).map(str::to_owned).collect()
    };
    assert_eq!(left(&cut), ["    and 3 more (--all)", "  and 1 more (--all)", "  and 1,003 more (--all)"]);
    assert!(cut.contains("Claims (201)") && cut.contains("Mentions (200)") && cut.contains("Unresolved (1,203)"));
    let all = source_detail_text(&view, true);
    assert!(left(&all).is_empty());
    assert_eq!(all.matches("    protects contoso/shop/api:v1").count(), 200 + 23);
}
