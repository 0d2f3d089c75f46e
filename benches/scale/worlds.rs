//! Measurements of whole commands against generated registries, which take next to no memory: worlds by name, or
//! custom.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::registry::{
    AcrOptions, Dialect, EmbeddedRegistry, Fault, FaultKind, GeneratedWorld, Options, ServedRequest,
};
use tokio::runtime::Runtime;

use super::{Measured, PASSWORD, USER, counts, noting, purge, rate, watch};

/// The argument that makes the bench this.
pub(super) const COMMAND: &str = "world";

/// The age of the newest tag.
const NEWEST_AGE: SignedDuration = SignedDuration::from_hours(24 * 200);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A registry, a policy and the commands to measure.
#[derive(Debug, Clone)]
struct World {
    name: String,
    acr: bool,
    repositories: u32,
    tags: u32,
    platforms: u8,
    attestations: bool,
    shared_every: Option<u32>,
    /// The number of tags that the policy keeps in each repository.
    kept: u32,
    /// Adds a file source that pins a platform's image by digest, as a pod would.
    pinned: bool,
    /// Response delays in milliseconds, measured one after another.
    latencies: Vec<u64>,
    /// Groups of commands; each group starts with a fresh registry and state.
    groups: Vec<Vec<String>>,
    binary: String,
}

impl World {
    /// One repository of 100,000 tags, nine of ten with an image of their own.
    fn new(name: &str, groups: &[&[&str]]) -> Self {
        Self {
            name: name.to_owned(),
            acr: true,
            repositories: 1,
            tags: 100_000,
            platforms: 0,
            attestations: false,
            shared_every: None,
            kept: 10,
            pinned: false,
            latencies: vec![0],
            groups: groups.iter().map(|group| group.iter().map(|&command| command.to_owned()).collect()).collect(),
            binary: env!("CARGO_BIN_EXE_tagwarden").to_owned(),
        }
    }

    fn indexes(name: &str, groups: &[&[&str]]) -> Self {
        Self { platforms: 2, shared_every: Some(10), ..Self::new(name, groups) }
    }

    fn all() -> Vec<Self> {
        let removal = |name, acr| Self { acr, tags: 10_010, ..Self::new(name, &[&["run", "restore"]]) };
        let side_by_side: &[&[&str]] = &[&["purge-list"], &["plan"]];
        vec![
            Self { latencies: vec![20, 0], ..Self::indexes("indexes", &[&["purge-list"], &["plan"], &["json"]]) },
            Self {
                latencies: vec![20, 0],
                kept: 50_000,
                pinned: true,
                ..Self::indexes("indexes-half", &[&["purge-list"], &["plan"], &["json"]])
            },
            Self { repositories: 2000, tags: 200, ..Self::indexes("repositories", side_by_side) },
            Self { repositories: 1000, tags: 10_000, ..Self::indexes("ten-million", side_by_side) },
            Self::new("enforce", &[&["run"]]),
            removal("restore", false),
            removal("restore-acr", true),
            Self { acr: false, tags: 10_000, ..Self::new("oci", &[&["plan", "plan"]]) },
        ]
    }

    /// The worlds of these names, with what the options change in each.
    fn read(args: &[String]) -> Result<Vec<Self>> {
        let known = Self::all();
        let names = || known.iter().map(|world| world.name.as_str()).collect::<Vec<_>>().join(", ");
        let (wanted, options) = args.split_first().ok_or_else(|| format!("name a world: {}, or custom", names()))?;
        let mut worlds = Vec::new();
        for name in wanted.split(',') {
            let found = known.iter().find(|world| world.name == name).cloned();
            let custom = (name == "custom").then(|| Self::new(name, &[&["purge-list"], &["plan"]]));
            let mut world = found.or(custom).ok_or_else(|| format!("unknown world {name}: {}, or custom", names()))?;
            world.apply_options(options)?;
            worlds.push(world);
        }
        Ok(worlds)
    }

    fn apply_options(&mut self, options: &[String]) -> Result<()> {
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut value = || options.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--indexes" => self.platforms = self.platforms.max(2),
                "--attestations" => self.attestations = true,
                "--pinned" => self.pinned = true,
                "--distribution" => self.acr = false,
                "--repositories" => self.repositories = value()?.parse()?,
                "--tags" => self.tags = value()?.parse()?,
                "--platforms" => self.platforms = value()?.parse()?,
                "--shared-every" => self.shared_every = Some(value()?.parse()?),
                "--kept" => self.kept = value()?.parse()?,
                "--latency" => {
                    self.latencies = value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
                }
                // Groups stand apart by `/`: `purge-list/plan,plan`.
                "--commands" => {
                    let groups = value()?.split('/');
                    self.groups = groups.map(|group| group.split(',').map(str::to_owned).collect()).collect();
                }
                "--binary" => value()?.clone_into(&mut self.binary),
                unknown => return Err(format!("unknown option {unknown}").into()),
            }
        }
        Ok(())
    }

    fn measure(&self, runtime: &Runtime) -> Result<()> {
        for &latency in &self.latencies {
            let mut first = None;
            for group in &self.groups {
                self.measure_group(runtime, group, latency, &mut first)?;
            }
        }
        Ok(())
    }

    fn measure_group(
        &self,
        runtime: &Runtime,
        group: &[String],
        latency: u64,
        first: &mut Option<(f64, usize)>,
    ) -> Result<()> {
        let registry = runtime.block_on(self.registry())?;
        let folder = tempfile::tempdir()?;
        self.write_files(runtime, &registry, folder.path())?;
        if latency > 0 {
            registry.inject(Fault::on("", FaultKind::Delay(Duration::from_millis(latency))));
        }
        let changes = Arc::new(Mutex::new(Vec::new()));
        for method in [Method::DELETE, Method::PUT] {
            registry.inject(Fault::on("", noting(&changes)).method(method));
        }
        for command in group {
            registry.clear_requests();
            changes.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let mut process = self.process(command, &registry)?;
            let measured = watch(process.current_dir(folder.path()), folder.path())?;
            let requests = registry.requests();
            let changes = rate(&changes.lock().unwrap_or_else(PoisonError::into_inner));
            let row = Row { world: self, command, latency, changes, requests: &requests, measured: &measured };
            row.print(first.get_or_insert((measured.seconds, requests.len())), folder.path());
        }
        registry.clear_faults();
        runtime.block_on(registry.stop());
        Ok(())
    }

    async fn registry(&self) -> Result<EmbeddedRegistry> {
        #[expect(clippy::disallowed_methods, reason = "the registry's time must be that of the measured process")]
        let clock = Arc::new(Timestamp::now);
        let newest = clock() - NEWEST_AGE;
        let dialect =
            if self.acr { Dialect::acr(AcrOptions::new(clock).admin(USER, PASSWORD)) } else { Dialect::Distribution };
        // No release of distribution has the referrers API.
        let options = Options { dialect, referrers_api: self.acr, ..Options::default() };
        let registry = EmbeddedRegistry::start(options).await?;
        let world = GeneratedWorld {
            platforms: self.platforms,
            attestations: self.attestations,
            shared_every: self.shared_every,
            ..GeneratedWorld::new(self.repositories, self.tags, newest)
        };
        registry.content(|content| {
            content.generate(world);
            // Neither tool's time includes what the registry computes once.
            if self.repositories == 1 {
                content.prepare_generated(&GeneratedWorld::repository_name(0));
            }
        });
        Ok(registry)
    }

    fn write_files(&self, runtime: &Runtime, registry: &EmbeddedRegistry, folder: &Path) -> Result<()> {
        let (dialect, source) = (if self.acr { ACR } else { DISTRIBUTION }, if self.pinned { SOURCE } else { "" });
        let settings = format!(
            "mode = \"enforce\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:state.db\"\nundo_window = \"7d\"\n\
             [limits]\nuntag = 100000000\npercent = 100\ndelete = 100000000\n\
             [registries.bench]\nendpoint = \"{}\"\n{dialect}{source}",
            registry.url()
        );
        fs::write(folder.join("tagwarden.toml"), settings)?;
        let policies = format!(
            "policies:\n  - name: builds\n    select: {{ tags: [\"build-*\"] }}\n    keep: [{{ newest: {} }}]\n    \
             mode: enforce\n    limits: {{ untag: 100000000, percent: 100 }}\n",
            self.kept
        );
        fs::write(folder.join("policies.yaml"), policies)?;
        fs::write(folder.join("password"), PASSWORD)?;
        if self.pinned {
            let name = GeneratedWorld::repository_name(0);
            let digest = runtime.block_on(oldest_manifest(registry, &name))?;
            fs::write(folder.join("pods.txt"), format!("image: {}/{name}@{digest}\n", registry.host()))?;
        }
        Ok(())
    }

    fn process(&self, command: &str, registry: &EmbeddedRegistry) -> Result<Command> {
        if let Some(how) = command.strip_prefix("purge-") {
            let mut process = Command::new(std::env::current_exe()?);
            process.args([purge::COMMAND, &registry.url(), how, &self.kept.to_string(), USER, PASSWORD]);
            return Ok(process);
        }
        let mut process = Command::new(&self.binary);
        // A line for each removal goes there.
        process.env("TAGWARDEN_LOG", "error").stderr(Stdio::null());
        process.args(match command {
            "json" => vec!["plan", "--format", "json"],
            "restore" => vec!["restore", "--run", "last"],
            command => vec![command],
        });
        Ok(process)
    }
}

const ACR: &str = "kind = \"acr\"\nauth = { kind = \"basic\", username = \"bench\", password_file = \"password\" }\n";
const DISTRIBUTION: &str = "kind = \"distribution\"\nauth = { kind = \"anonymous\" }\nconcurrency = 32\n";
const SOURCE: &str = "[sources.pods]\nkind = \"image-references\"\npaths = [\"pods.txt\"]\n";

/// The digest of the manifest that was pushed first: in indexes that of a platform's image.
async fn oldest_manifest(registry: &EmbeddedRegistry, name: &str) -> Result<String> {
    let url = format!("{}/acr/v1/{name}/_manifests?n=1&orderby=timeasc", registry.url());
    let request = reqwest::Client::new().get(url).basic_auth(USER, Some(PASSWORD));
    let body: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
    let digest = body["manifests"][0]["digest"].as_str().ok_or("the registry of a pinned world speaks ACR")?;
    Ok(digest.to_owned())
}

/// One command, measured.
struct Row<'a> {
    world: &'a World,
    command: &'a str,
    latency: u64,
    /// DELETE and PUT a second.
    changes: String,
    requests: &'a [ServedRequest],
    measured: &'a Measured,
}

impl Row<'_> {
    fn head() {
        println!(
            "{:<13} {:<13} {:>5} {:<11} {:>8} {:>6} {:>8} {:>6} {:>7} {:>8} {:>10} {:>4} {:>9}  kinds",
            "world",
            "size",
            "delay",
            "command",
            "time (s)",
            "ratio",
            "requests",
            "ratio",
            "HWM MB",
            "state MB",
            "written MB",
            "exit",
            "changes/s"
        );
    }

    /// Ratios are to the first row of the same world and delay.
    fn print(&self, (seconds, requests): &(f64, usize), folder: &Path) {
        let Measured { peak, seconds: own, code, written } = self.measured;
        println!(
            "{:<13} {:<13} {:>5} {:<11} {own:>8.2} {:>6.2} {:>8} {:>6} {peak:>7} {:>8} {:>10} {code:>4} {:>9}  {}",
            self.world.name,
            format!("{} x {}", self.world.repositories, self.world.tags),
            self.latency,
            self.command,
            own / seconds,
            self.requests.len(),
            hundredths(self.requests.len(), *requests),
            tenths(state_bytes(folder)),
            tenths(*written),
            self.changes,
            counts(self.requests)
        );
    }
}

/// A quotient with two digits behind the point.
fn hundredths(number: usize, of: usize) -> String {
    let rounded = (number * 100 + of / 2) / of.max(1);
    format!("{}.{:02}", rounded / 100, rounded % 100)
}

/// Megabytes with one digit behind the point.
fn tenths(bytes: u64) -> String {
    let rounded = (bytes + 50_000) / 100_000;
    format!("{}.{}", rounded / 10, rounded % 10)
}

/// The state with what is not merged into it yet.
fn state_bytes(folder: &Path) -> u64 {
    let length = |name| fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    length("state.db") + length("state.db-wal")
}

/// `NAME[,NAME…] [OPTION…]`.
pub(super) fn worlds(args: &[String], runtime: &Runtime) -> Result<()> {
    let worlds = World::read(args)?;
    Row::head();
    worlds.iter().try_for_each(|world| world.measure(runtime))
}
