//! How long deciding takes: 1,000,000 tags in 1,000 repositories under five policies, on one core.
//!
//! The sample is a registry that tells push times and whose indexes were read, as a large one would be: each repository
//! has builds of three branches, versions, release tags that share a digest with a build, multi-arch indexes whose
//! children have tags, and signatures; two sources claim 20,000 images.
//!
//! First comes one cold pass, as a run makes it, with what it took of a core and of memory, one figure to a line; then
//! Criterion's warm ones. What would be freed is measured once more where every manifest was read.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use jiff::{SignedDuration, Timestamp};
use tagwarden::domain::{
    Blob, Claim, Claims, Digest, Holder, ImageReference, Inventory, Limits, Manifest, ManifestDetail, Registry,
    RemovalAbility, Repository, Rules, SourceOutcome, SourceState, Tag,
};
use tagwarden::engine::{check, evaluate, plan, reclaim};
use tagwarden::policy;

const POLICIES: &str = r#"
policies:
  - name: builds
    select: { pattern: '(?<branch>main|dev|feature)-\d+' }
    group_by: [branch]
    keep: [{ newest: 20 }, { within: 180d }]
    mode: enforce
  - name: nightly
    select: { repositories: ["team-*/**"], tags: ["main-*"] }
    keep: [{ daily: 14 }, { weekly: 8 }, { monthly: 12 }]
    mode: enforce
  - name: platforms
    select: { tags: ["*-amd64", "*-arm64"] }
    keep: none
    mode: enforce
  - name: releases
    select: { tags: ["release-*", "!*-test"] }
    keep: all
  - name: versions
    select: { repositories: ["team-*/**", "!team-9/**"], tags: ["v*"] }
    keep: [{ newest_per: { version: minor, count: 10 } }, { matching: ["*-lts"] }]
    mode: enforce
"#;

const REPOSITORIES: u32 = 1000;

fn digest(kind: &str, repository: u32, number: u32) -> Digest {
    Digest::of(format!("{kind}/{repository}/{number}").as_bytes())
}

fn manifest(media_type: &Arc<str>, blobs: &Arc<[Blob]>, children: Vec<Digest>) -> Manifest {
    Manifest {
        media_type: Arc::clone(media_type),
        size: 1000,
        config: None,
        blobs: blobs.to_vec().into(),
        children,
        subject: None,
        created_at: None,
        lock: None,
        detail: ManifestDetail::Full,
    }
}

/// A repository of 1,000 tags: 600 builds, 200 versions, 50 releases, 40 indexes with two tagged children each, 30
/// signatures.
fn repository(number: u32, now: Timestamp) -> Repository {
    let media_type: Arc<str> = "application/vnd.oci.image.manifest.v1+json".into();
    let blobs: Arc<[Blob]> = Arc::new([]);
    let mut repository = Repository::empty(format!("team-{}/service-{number}", number % 10).parse().expect("a name"));
    let mut tags = Vec::with_capacity(1000);
    let mut tag = |name: String, digest: Digest, age_hours: u32| {
        tags.push(Tag {
            name: name.parse().expect("a tag"),
            digest: Some(digest),
            pushed_at: Some((now - SignedDuration::from_hours(age_hours.into())).into()),
            first_seen: None,
            lock: None,
        });
    };
    for build in 0..600 {
        let branch = ["main", "dev", "feature"][build as usize % 3];
        tag(format!("{branch}-{build}"), digest("build", number, build), 10 + (build * 7919) % 12_000);
    }
    for version in 0..200 {
        let name = format!("v1.{}.{}", version / 20, version % 20);
        tag(name, digest("version", number, version), 5 + (version * 131) % 9000);
    }
    for release in 0..50 {
        tag(format!("release-{release}"), digest("build", number, release * 3), 20 + release * 100);
    }
    for index in 0..40 {
        let children = vec![digest("amd64", number, index), digest("arm64", number, index)];
        tag(format!("multi-{index}-amd64"), children[0].clone(), 2000);
        tag(format!("multi-{index}-arm64"), children[1].clone(), 2000);
        for child in &children {
            repository.manifests.insert(child.clone(), manifest(&media_type, &blobs, vec![]));
        }
        let digest = digest("index", number, index);
        tag(if index < 20 { format!("multi-{index}") } else { format!("main-{}", 9000 + index) }, digest.clone(), 9000);
        repository.manifests.insert(digest, manifest(&media_type, &blobs, children));
    }
    for signature in 0..30 {
        let subject = digest("build", number, signature);
        repository.manifests.insert(subject.clone(), manifest(&media_type, &blobs, vec![]));
        tag(format!("{}.sig", subject.to_string().replace(':', "-")), digest("sig", number, signature), 9000);
    }
    repository.tags = tags;
    repository
}

fn world(now: Timestamp) -> (Rules, Inventory, Claims) {
    let registry = Registry {
        hosts: vec!["contoso.azurecr.io".into()],
        ability: RemovalAbility::Able,
        repositories: (0..REPOSITORIES).map(|number| repository(number, now)).collect(),
        ..Registry::empty("contoso".parse().expect("a name"), "acr")
    };
    let mut inventory = Inventory { registries: vec![registry] };
    inventory.sort();
    let holder = Arc::new(Holder::File { path: "values.yaml".into(), line: 1 });
    let source = |name: &str, image: &dyn Fn(u32) -> ImageReference| SourceOutcome {
        name: name.parse().expect("a name"),
        kind: "image-references",
        registries: None,
        state: SourceState::Complete {
            claims: (0..10_000).map(|n| Claim::new(image(n), Arc::clone(&holder))).collect(),
            unresolved: Vec::new(),
            mentions: Vec::new(),
            as_of: None,
            notes: Vec::new(),
        },
    };
    let by_tag = |n: u32| {
        let repository = n % REPOSITORIES;
        let text = format!("contoso.azurecr.io/team-{}/service-{repository}:dev-{}", repository % 10, 1 + n / 1000 * 3);
        text.parse().expect("a reference")
    };
    let by_digest = |n: u32| ImageReference {
        host: None,
        repository: None,
        tag: None,
        digest: Some(digest("version", n % REPOSITORIES, n / 500)),
    };
    let mut claims =
        Claims { sources: vec![source("records", &by_tag), source("aks", &by_digest)], ..Claims::default() };
    claims.sort();
    let rules = Rules {
        policies: policy::parse("bench.yaml", POLICIES).unwrap_or_else(|problems| panic!("{problems:?}")),
        limits: Limits::default(),
        timezone: jiff::tz::TimeZone::get("Europe/London").expect("a zone"),
        undo_window: std::time::Duration::from_hours(24 * 7),
    };
    (rules, inventory, claims)
}

/// The same world where the manifest of every tag was read: three blobs each, one of them the whole repository's.
fn read_in_full(inventory: &mut Inventory) {
    let media_type: Arc<str> = "application/vnd.oci.image.manifest.v1+json".into();
    for (number, repository) in (0..).zip(inventory.registries.iter_mut().flat_map(|there| &mut there.repositories)) {
        for (position, tag) in (0..).zip(&repository.tags) {
            let blob = |kind, of| Blob { digest: digest(kind, number, of), size: 1_000_000 };
            let blobs = || Arc::from([blob("base", 0), blob("layer", position), blob("config", position)]);
            if let Some(digest) = &tag.digest {
                let read = || manifest(&media_type, &blobs(), vec![]);
                repository.manifests.entry(digest.clone()).or_insert_with(read);
            }
        }
    }
}

/// The most memory that this process ever held, in megabytes, as Linux tells it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// Seconds that this thread spent on a core, as Linux tells it: what a busy machine does not distort.
fn on_core() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn main() {
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
    let (rules, mut inventory, claims) = world(now);
    let empty_handed = peak();
    let start = on_core();
    let verdicts = evaluate(&rules, &inventory, &claims, now);
    let decided = plan(&rules, &inventory, &verdicts, now);
    let seconds = on_core() - start;
    println!("tags                     {}", inventory.tag_count());
    println!("removals                 {}", decided.removals.len());
    println!("reasons                  {}", verdicts.tags.iter().map(|found| found.reasons.len()).sum::<usize>());
    println!("evaluate+plan, cold (s)  {seconds:.2}");
    let start = on_core();
    let violations = black_box(check(&rules, &inventory, &claims, &verdicts, &decided, now));
    println!("check, cold (s)          {:.2}", on_core() - start);
    assert_eq!(violations, []);
    println!("peak, facts alone (MB)   {empty_handed}");
    println!("peak, decided (MB)       {}", peak());

    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("a million tags");
    group.bench_function("evaluate and plan", |bencher| {
        bencher.iter_with_large_drop(|| {
            let verdicts = evaluate(&rules, &inventory, &claims, now);
            let plan = plan(&rules, &inventory, &verdicts, now);
            (verdicts, plan)
        });
    });
    group.bench_function("check", |bencher| {
        bencher.iter(|| black_box(check(&rules, &inventory, &claims, &verdicts, &decided, now)));
    });
    // Nothing is said of the bytes of a registry of which anything was not read, and most manifests here were not.
    group.bench_function("reclaim, nothing to say", |bencher| {
        bencher.iter(|| black_box(reclaim(&inventory, &claims, &verdicts, &decided)));
    });
    read_in_full(&mut inventory);
    group.bench_function("reclaim, all manifests read", |bencher| {
        bencher.iter(|| black_box(reclaim(&inventory, &claims, &verdicts, &decided)));
    });
    group.finish();
    criterion.final_summary();
}
