//! Time and memory that texts take as evidence: 100 MB in 20,000 files, looked up in a registry of 100,000 tags.
//!
//! The files are what a repository of deployments holds: values, overlays, pipelines and notes of 2,000 services, most of
//! whose words are in no registry. Half of the services name a tag of theirs as a reference, the others only mention it.
//!
//! One cold pass, as a run makes it, with its time and the peak of memory, one figure to a line. The files are written to a
//! temporary folder before.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tagwarden::domain::{
    Digest, Inventory, Limits, Manifest, ManifestDetail, Registry, RegistryName, Repository, Rules, Tag, Verdict,
};
use tagwarden::engine::evaluate;
use tagwarden::policy;
use tagwarden::sources::{FileSet, GatherContext, SourceKind, SourceSettings, TextSettings, gather_about, source};

const FILES: u32 = 20_000;
const BYTES: usize = 100 << 20;
const SERVICES: u32 = 2_000;
const TAGS: u32 = 50;
const POLICY: &str = "policies:\n  - { name: all, select: { tags: ['*'] }, keep: none, mode: enforce }\n";

fn service(number: u32) -> String {
    format!("team-{}/service-{number}", number % 40)
}

fn tag(service: u32, number: u32) -> String {
    format!("{}.{}.{}", service % 7, number, service % 13)
}

/// One file of about the size that makes all of them the bytes asked for.
fn content(number: u32) -> String {
    let service_number = number % SERVICES;
    let (name, used) = (service(service_number), tag(service_number, number / SERVICES));
    let mut text = String::with_capacity(BYTES / FILES as usize + 200);
    if service_number.is_multiple_of(2) {
        let _ = writeln!(text, "image: contoso.azurecr.io/{name}:{used}");
    } else {
        let short = name.rsplit('/').next().unwrap_or(&name);
        let _ = writeln!(text, "# {short} was rolled out as {used}");
    }
    let mut line = 0_u32;
    while text.len() < BYTES / FILES as usize {
        let word = Digest::of(&(number / 10 * 1000 + line).to_le_bytes()).hex();
        let _ = writeln!(text, "setting-{line}: \"value of {} and {} for {}\"", &word[..8], line % 97, &word[8..14]);
        line += 1;
    }
    text
}

fn write(folder: &Path) {
    for number in 0..FILES {
        let folder = folder.join(format!("{}", number % 200));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("{number}.yaml")), content(number)).expect("a file");
    }
}

fn inventory(now: Timestamp) -> Inventory {
    let media_type: Arc<str> = "application/vnd.oci.image.manifest.v1+json".into();
    let mut registry = Registry::empty("contoso".parse().expect("a name"), "acr");
    registry.hosts = vec!["contoso.azurecr.io".to_owned()];
    for number in 0..SERVICES {
        let mut repository = Repository::empty(service(number).parse().expect("a name"));
        for at in 0..TAGS {
            let digest = Digest::of(format!("{number}/{at}").as_bytes());
            let manifest = Manifest {
                media_type: Arc::clone(&media_type),
                size: 1000,
                config: None,
                blobs: [].into(),
                children: Vec::new(),
                subject: None,
                created_at: None,
                lock: None,
                detail: ManifestDetail::Full,
            };
            repository.manifests.insert(digest.clone(), manifest);
            repository.tags.push(Tag {
                name: tag(number, at).parse().expect("a tag"),
                digest: Some(digest),
                pushed_at: Some((now - SignedDuration::from_hours(24 * 365)).into()),
                first_seen: None,
                lock: None,
            });
        }
        registry.repositories.push(repository);
    }
    let mut inventory = Inventory { registries: vec![registry] };
    inventory.sort();
    inventory
}

/// The most memory that the process had, in MB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}

fn main() {
    // Criterion's flags, such as `--bench`, are not for this one.
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let now: Timestamp = "2026-11-29T12:00:00Z".parse().expect("a time");
    let inventory = inventory(now);
    let before = peak();
    let settings = SourceSettings {
        name: "deployments".parse().expect("a name"),
        kind: SourceKind::ImageReferences(FileSet {
            base: folder.path().to_owned(),
            globs: vec!["**/*.yaml".to_owned()],
        }),
        registries: None,
        max_age: None,
        allow_empty: false,
        min_claims: None,
        deadline: Duration::from_mins(10),
        texts: TextSettings::default(),
    };
    let hosts: Vec<(RegistryName, Vec<String>)> =
        inventory.registries.iter().map(|registry| (registry.name.clone(), registry.hosts.clone())).collect();
    let known = GatherContext { hosts: &hosts, inventory: &inventory, untagged: &[] };
    let asked = source(&settings, &hosts[0].1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let start = Instant::now();
    let claims = runtime.block_on(gather_about(vec![(settings, asked)], known, now, now));
    let gathered = start.elapsed();
    let rules = Rules {
        policies: policy::parse("all.yaml", POLICY).expect("a policy"),
        limits: Limits::default(),
        timezone: TimeZone::UTC,
        undo_window: Duration::from_hours(24),
    };
    let verdicts = evaluate(&rules, &inventory, &claims, now);
    let stays = verdicts.tags.iter().filter(|tag| tag.verdict == Verdict::Protected).count();
    let answer = &claims.sources[0];
    println!("gathered (s)             {:.2}", gathered.as_secs_f64());
    println!("decided as well (s)      {:.2}", start.elapsed().as_secs_f64());
    println!("claims                   {}", answer.claims().len());
    println!("mentions                 {}", answer.mentions().len());
    println!("tags that stay           {stays}");
    println!("peak, facts alone (MB)   {before}");
    println!("peak, gathered (MB)      {}", peak());
}
