//! The content of a fictitious company's registry, and the files of its platform team.
//!
//! Everything is a function of one point in time: the same `now` gives the same digests, tags and files.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::blob::Blob;
use super::image::{
    AMD64, Format, Image, ImageSpec, Platform, artifact, companion_tag, helm_chart, index, media_type, multi_arch,
    signature,
};
use super::registry::{EmbeddedRegistry, Target};
use crate::domain::Digest;

mod folder;

/// The name of the embedded registry in the sample's settings.
pub const REGISTRY: &str = "sample";

/// The sample as of one point in time.
#[derive(Debug)]
pub struct Sample {
    now: Timestamp,
    pushes: Vec<Push>,
    tags: BTreeMap<(&'static str, String), Digest>,
}

#[derive(Debug)]
struct Push {
    repository: &'static str,
    /// `None` for a referrer, which only its subject leads to.
    tag: Option<String>,
    image: Image,
    at: Timestamp,
}

const API: &str = "shop/api";
const WEB: &str = "shop/web";
const WORKER: &str = "shop/worker";
const BASE: &str = "platform/base";
const NIGHTLY: &str = "data/nightly";
const TOOLS: &str = "tools/reproducible";
const CHARTS: &str = "charts/shop";
const LABS: &str = "labs/playground";

/// Ages in days of the promoted candidates of `shop/api`, oldest first. They are a week apart, so that each has its own
/// ISO week.
const RELEASES: [i64; 5] = [31, 24, 17, 10, 3];
/// The live release, by age in days, and the one before it.
const LIVE_RELEASE: i64 = 3;
const PREVIOUS_RELEASE: i64 = 10;
/// Candidates of `shop/api` by age in days that release records decide on, and one that is removed with its signature.
const STAGED: i64 = 20;
const KEPT_UNTIL: i64 = 26;
const KEPT_UNTIL_EXPIRED: i64 = 28;
const SIGNED_AND_OLD: i64 = 30;
/// A candidate that a person has locked against deletion.
const LOCKED: i64 = 22;
/// A candidate of `shop/worker` that a record names by digest only.
const PINNED: i64 = 21;

/// Versions of `shop/web` by age in days.
const VERSIONS: [(&str, i64); 17] = [
    ("v1.0.0", 300),
    ("v1.0.1", 284),
    ("v1.0.2", 270),
    ("v1.1.0", 262),
    ("v1.1.1", 241),
    ("v1.1.2", 229),
    ("v1.2.0", 210),
    ("v1.2.1", 196),
    ("v1.2.2", 181),
    ("v1.2.3", 168),
    ("v1.3.0", 140),
    ("v1.3.1", 121),
    ("v1.4.0-rc.1", 80),
    ("v1.4.0", 71),
    ("v1.4.1", 38),
    ("v2.0.0-rc.1", 12),
    ("v2.0.0", 5),
];

impl Sample {
    /// Creates the sample as of `now`. Takes a fraction of a second: it computes the digests of a few hundred layers.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let mut sample = Self { now, pushes: Vec::new(), tags: BTreeMap::new() };
        let bases = sample.add_base_images();
        sample.add_api(&bases);
        sample.add_web(&bases);
        sample.add_worker(&bases);
        sample.add_nightly(&bases);
        sample.add_tools();
        sample.add_charts();
        sample.add_labs(&bases);
        sample
    }

    /// Stores everything in a registry, each push at its time, with the locks, which only a registry with locks
    /// enforces. Without a referrers API, referrers cannot be found, as in a registry that loses that API.
    ///
    /// # Panics
    /// If the sample lacks the tag that it locks.
    pub fn fill(&self, registry: &EmbeddedRegistry) {
        registry.content(|content| {
            let mut pushes: Vec<&Push> = self.pushes.iter().collect();
            pushes.sort_by_key(|push| push.at);
            for push in pushes {
                content.set_now(push.at);
                content.put_image(push.repository, push.tag.as_deref(), &push.image);
            }
            let locked = content.attributes_mut(API, Target::Tag(&self.candidate(LOCKED)));
            locked.expect("the sample has the tag that it locks").delete = false;
        });
    }

    /// Returns the number of its tags.
    #[must_use]
    pub fn tag_count(&self) -> usize {
        self.tags.len()
    }

    /// Returns the final digest of a tag.
    ///
    /// # Panics
    /// If the sample has no such tag.
    #[must_use]
    pub fn digest(&self, repository: &'static str, tag: &str) -> &Digest {
        self.tags.get(&(repository, tag.to_owned())).unwrap_or_else(|| panic!("the sample has {repository}:{tag}"))
    }

    fn ago(&self, days: i64, hours: i64) -> Timestamp {
        self.now - SignedDuration::from_hours(24 * days + hours)
    }

    fn push(&mut self, at: Timestamp, repository: &'static str, tag: impl Into<String>, image: &Image) {
        let tag = tag.into();
        self.tags.insert((repository, tag.clone()), image.digest.clone());
        self.pushes.push(Push { repository, tag: Some(tag), image: image.clone(), at });
    }

    fn sign(&mut self, at: Timestamp, repository: &'static str, image: &Image) {
        self.push(at, repository, companion_tag(&image.digest, ".sig"), &signature(&image.digest, repository));
    }

    /// Returns the tag of a candidate of that age; candidates are built four hours before the time of day of `now`.
    fn candidate(&self, days: i64) -> String {
        format!("candidate-{}.1", format_day(self.ago(days, 4)))
    }

    fn release(&self, days: i64) -> String {
        let date = self.ago(days, 4).to_zoned(TimeZone::UTC).date().iso_week_date();
        format!("release-{}.{:02}", date.year(), date.week())
    }

    /// Adds the weekly base images: the distribution's layer lasts for a month, the security updates for a week.
    fn add_base_images(&mut self) -> Vec<Blob> {
        let mut newest = Vec::new();
        for week in (0..16).rev() {
            let created = self.ago(7 * week, 20);
            let system = Blob::layer(&format!("usr/lib/os-{}", week / 4), 14_000_000);
            let updates = Blob::layer(&format!("usr/lib/updates-{week}"), 900_000 + 70_000 * week.unsigned_abs());
            newest = vec![system, updates];
            let image = ImageSpec::new(created, &newest).build();
            self.push(created, BASE, format!("12-{}", format_day(created)), &image);
            if week == 0 {
                self.push(created, BASE, "12", &image);
                self.push(created, BASE, "latest", &image);
                // An older client pushed this one, and maintained the fallback tag of the referrers API.
                let sbom = sbom(&image, BASE);
                self.push(created, BASE, companion_tag(&image.digest, ""), &index(Format::Oci, &[sbom]));
            }
        }
        newest
    }

    fn add_api(&mut self, bases: &[Blob]) {
        let mut candidates = BTreeMap::new();
        for days in (0..36).rev() {
            let image = self.service_image("api", Format::Oci, bases, days, 4);
            self.push(self.ago(days, 4), API, self.candidate(days), &image);
            candidates.insert(days, image);
            if days % 7 == 2 {
                let second = self.service_image("api", Format::Oci, bases, days, 1);
                self.push(self.ago(days, 1), API, format!("candidate-{}.2", format_day(self.ago(days, 1))), &second);
            }
        }
        for days in RELEASES {
            self.push(self.ago(days - 1, 0), API, self.release(days), &candidates[&days]);
        }
        for days in [17, PREVIOUS_RELEASE, LIVE_RELEASE, SIGNED_AND_OLD] {
            self.sign(self.ago(days, 4), API, &candidates[&days]);
        }
        // `prod` was at the previous release when its record was written.
        self.push(self.ago(LIVE_RELEASE - 1, 0), API, "prod", &candidates[&LIVE_RELEASE]);
        self.push(self.ago(LIVE_RELEASE - 1, 0), API, "rollback", &candidates[&PREVIOUS_RELEASE]);
        self.push(self.ago(PREVIOUS_RELEASE - 2, 0), API, "stable", &candidates[&PREVIOUS_RELEASE]);
        self.add_branch(API, "main", bases, (1..45).step_by(3));
        self.add_branch(API, "hotfix", bases, [40, 33, 16, 6]);
        for (number, days) in [(398, 33), (402, 21), (405, 15), (411, 9), (413, 4), (414, 1)] {
            let image = self.service_image("api-pr", Format::Oci, bases, days, 8);
            self.push(self.ago(days, 8), API, format!("pr-{number}"), &image);
        }
    }

    fn add_web(&mut self, bases: &[Blob]) {
        let build = |created: Timestamp, name: &str| {
            multi_arch(created, |platform| {
                let assets = Blob::layer(&format!("srv/{name}/{}", platform.architecture), 240_000);
                [platform_base(bases, platform), vec![assets]].concat()
            })
        };
        for (version, days) in VERSIONS {
            let image = build(self.ago(days, 7), version);
            let at = self.ago(days, 7);
            self.push(at, WEB, version, &image);
            if matches!(version, "v1.1.0" | "v1.2.1" | "v1.4.1") {
                self.push(at, WEB, format!("arm64-{version}"), &image.children[1]);
            }
            if version == "v2.0.0" {
                self.push(self.ago(days - 1, 0), WEB, "prod", &image);
                self.sign(at, WEB, &image);
                self.pushes.push(Push { repository: WEB, tag: None, image: sbom(&image, WEB), at });
            }
        }
        for days in (2..34).step_by(4) {
            let image = build(self.ago(days, 9), &format!("main-{days}"));
            self.push(self.ago(days, 9), WEB, format!("main-{}", commit_id(WEB, "main", days)), &image);
        }
    }

    fn add_worker(&mut self, bases: &[Blob]) {
        for days in (0..33).step_by(3) {
            let image = self.service_image("worker", Format::Docker, bases, days, 4);
            self.push(self.ago(days, 4), WORKER, self.candidate(days), &image);
            if days == 9 {
                self.push(self.ago(days - 1, 0), WORKER, "prod", &image);
            }
        }
        for (region, days) in [("westeurope", 19), ("northeurope", 2), ("eastus", 8)] {
            let image = self.service_image(&format!("worker-{region}"), Format::Docker, bases, days, 3);
            self.push(self.ago(days, 3), WORKER, format!("canary-{region}"), &image);
        }
        for (number, days) in [(77, 44), (80, 30), (81, 25), (84, 12), (86, 5), (87, 2)] {
            let image = self.service_image("worker-pr", Format::Docker, bases, days, 8);
            self.push(self.ago(days, 8), WORKER, format!("pr-{number}"), &image);
        }
    }

    fn add_nightly(&mut self, bases: &[Blob]) {
        for days in (0..60).rev() {
            let created = self.ago(days, 2);
            let data = Blob::layer(&format!("data/night-{days}"), 350_000);
            let image = ImageSpec::new(created, &[bases, &[data]].concat()).build();
            self.push(created, NIGHTLY, format!("nightly-{}", format_day(created)), &image);
            if days == 0 {
                self.push(created, NIGHTLY, "latest", &image);
            }
        }
    }

    /// Adds reproducible builds, which set every time to the start of the epoch, and one from a machine with a wrong
    /// clock.
    fn add_tools(&mut self) {
        for minor in 0..6 {
            let layer = Blob::layer(&format!("bin/tool-1.{minor}"), 2_000_000 + 10_000 * minor);
            let image = ImageSpec::new(Timestamp::UNIX_EPOCH, &[layer]).build();
            // A registry with push times knows what the image does not.
            self.push(self.ago(260 - 40 * minor.cast_signed(), 0), TOOLS, format!("1.{minor}"), &image);
        }
        let image = ImageSpec::new(self.ago(-400, 0), &[Blob::layer("bin/tool-1.6", 2_100_000)]).build();
        self.push(self.ago(20, 0), TOOLS, "1.6", &image);
    }

    fn add_charts(&mut self) {
        let versions = [
            "0.1.0",
            "0.1.1",
            "0.2.0",
            "0.2.1",
            "0.2.2",
            "0.3.0",
            "0.4.0",
            "0.4.1",
            "0.4.2-lts",
            "0.4.3",
            "0.5.0",
            "0.5.1",
        ];
        for (age, version) in (0..).zip(versions) {
            let days = 207 - 17 * age;
            let archive = Blob::layer(&format!("shop-{version}.tgz"), 30_000);
            let at = self.ago(days, 0);
            self.push(at, CHARTS, version, &helm_chart("shop", version, at, archive));
        }
    }

    fn add_labs(&mut self, bases: &[Blob]) {
        for (tag, days) in [("try-1", 400), ("try-2", 380), ("anna", 200), ("demo-friday", 90), ("latest", 30)] {
            let image = self.service_image(&format!("labs-{tag}"), Format::Oci, bases, days, 0);
            self.push(self.ago(days, 0), LABS, tag, &image);
        }
    }

    fn add_branch(
        &mut self,
        repository: &'static str,
        branch: &str,
        bases: &[Blob],
        ages: impl IntoIterator<Item = i64>,
    ) {
        for days in ages {
            let image =
                self.service_image(&format!("{branch}{}", repository.replace('/', "-")), Format::Oci, bases, days, 10);
            self.push(
                self.ago(days, 10),
                repository,
                format!("{branch}-{}", commit_id(repository, branch, days)),
                &image,
            );
        }
    }

    /// Creates an image of a service: the base, its dependencies (which change every twelve days), its own code.
    fn service_image(&self, name: &str, format: Format, bases: &[Blob], days: i64, hours: i64) -> Image {
        let family = name.split('-').next().unwrap_or(name);
        let dependencies = Blob::layer(&format!("app/{family}/dependencies-{}", days / 12), 1_800_000);
        let code = Blob::layer(&format!("app/{name}/code-{days}-{hours}"), 120_000 + 900 * days.unsigned_abs());
        let layers = [bases, &[dependencies, code]].concat();
        let created = Some(self.ago(days, hours));
        let labels = BTreeMap::from([("org.opencontainers.image.title".to_owned(), name.to_owned())]);
        ImageSpec { format, platform: AMD64, created, layers, labels, annotations: BTreeMap::new() }.build()
    }
}

/// Returns the base image's layers for a platform: those of amd64 are shared with `platform/base`.
fn platform_base(bases: &[Blob], platform: &Platform) -> Vec<Blob> {
    if *platform == AMD64 { bases.to_vec() } else { vec![Blob::layer("usr/lib/os-arm64", 1_500_000)] }
}

fn sbom(of: &Image, repository: &str) -> Image {
    let document = serde_json::json!({ "spdxVersion": "SPDX-2.3", "name": repository, "packages": [] });
    let blob = Blob::of(document.to_string());
    artifact(
        media_type::SPDX,
        (media_type::SPDX, blob),
        Some(of),
        &[("org.opencontainers.artifact.description", "SBOM")],
    )
}

/// Formats the day of a time in UTC, as in tags.
fn format_day(time: Timestamp) -> String {
    time.strftime("%Y%m%d").to_string()
}

/// Returns a commit as in tags: seven hex digits.
fn commit_id(repository: &str, branch: &str, days: i64) -> String {
    Digest::of(format!("{repository} {branch} {days}").as_bytes()).hex()[..7].to_owned()
}

#[cfg(test)]
mod tests;
