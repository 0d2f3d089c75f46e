//! What whole commands of the built binary take at scale: requests by kind, time, and the most memory that they hold as
//! Linux tells it (`VmHWM`), each as a process of its own against the embedded registry in this one. Beside it, what
//! `acr purge` would ask of the same registry, also as a process of its own (see `purge`).
//!
//! `cargo bench --bench scale -- [KEY=VALUE…]`, lists separated by commas:
//! - `dialect`: `acr` (the default) or `distribution`, which takes a request for each tag;
//! - `shapes`: repositories x tags, such as `1x100000,2000x200`;
//! - `per-image`: tags that share an image, such as `1,10`;
//! - `delay`: milliseconds by which every answer is late, such as `0,20`;
//! - `commands`: of `plan`, `json`, `run`, `purge-list`, `purge-2`, `purge-32`; `delete` is a second run, which deletes what
//!   the first one untagged, and `plan-delete` the plan of it;
//! - `rate`: deletions a minute that the registry lets through, in a bucket of a minute; 0 is any number;
//! - `binary`: another build to compare with.
//!
//! `cargo bench --bench scale -- world NAME[,NAME…] [OPTION…]` measures generated registries, of which this process
//! holds next to nothing in memory:
//! - `indexes`: 1 x 100,000, all indexes of two platforms, 10 kept, at 20 ms and at once; `acr purge` beside it;
//! - `indexes-half`: the same with half of the tags kept, and a file that pins a platform's digest;
//! - `repositories`: 2,000 x 200; `ten-million`: 1,000 x 10,000;
//! - `enforce`: 100,000 removals;
//! - `restore`, `restore-acr`: 10,000 removals, and their restore;
//! - `oci`: a first and a second plan of 10,000 tags on distribution;
//! - `custom`: whatever the options say.
//!
//! Options change a world: `--repositories R`, `--tags N`, `--indexes`, `--platforms P`, `--attestations`,
//! `--shared-every N`, `--kept K`, `--latency MS[,MS…]`, `--pinned`, `--distribution`, `--binary PATH`, and
//! `--commands A,B/C` (groups apart by `/`, each on a fresh registry and state). Ratios are to the first row of the same
//! world and delay. `state MB` is the size of the state with its write-ahead log at the end, `written MB` the bytes that
//! the process sent to the disk, both of decimal megabytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{
    AcrOptions, Dialect, EmbeddedRegistry, Fault, FaultKind, Options, Rate, ServedRequest, ServerRateLimits,
};

mod purge;
mod worlds;

const POLICIES: &str = "policies:
  - name: builds
    select: { tags: [\"build-*\"] }
    keep: [{ newest: 5 }, { within: 14d }]
    mode: enforce
    limits: { untag: 1000000, percent: 100 }
";

/// The same, with the second step two seconds later.
const THEN: &str = "    then: { delete_manifest: after 2s }\n";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if args.first().is_some_and(|arg| arg == purge::COMMAND) {
        return runtime.block_on(purge::purge(&args[1..]));
    }
    if args.first().is_some_and(|arg| arg == worlds::COMMAND) {
        return worlds::worlds(&args[1..], &runtime);
    }
    let setup = Setup::read(&args)?;
    println!(
        "{:<14} {:>9} {:>6} {:<11} {:>8} {:>8} {:>5} {:>10}  requests",
        "tags", "per image", "delay", "command", "time (s)", "VmHWM MB", "exit", "untags/s"
    );
    for &(repositories, tags) in &setup.shapes {
        for &per_image in &setup.per_image {
            for &delay in &setup.delays {
                let case = Case { setup: &setup, repositories, tags, per_image, delay };
                case.measure(&runtime)?;
            }
        }
    }
    Ok(())
}

/// What to measure.
struct Setup {
    acr: bool,
    shapes: Vec<(usize, usize)>,
    per_image: Vec<usize>,
    delays: Vec<u64>,
    commands: Vec<String>,
    rate: u32,
    binary: String,
}

impl Setup {
    fn read(args: &[String]) -> Result<Self> {
        let mut given: BTreeMap<&str, &str> = args.iter().filter_map(|arg| arg.split_once('=')).collect();
        let mut take = |key, default| given.remove(key).unwrap_or(default);
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<String>>();
        let shapes = list(take("shapes", "1x100000,2000x200")).into_iter().map(|shape| {
            let (repositories, tags) = shape.split_once('x').ok_or("a shape is like 2000x200")?;
            Ok((repositories.parse()?, tags.parse()?))
        });
        let setup = Self {
            shapes: shapes.collect::<Result<_>>()?,
            acr: take("dialect", "acr") == "acr",
            per_image: list(take("per-image", "1,10"))
                .iter()
                .map(|n| n.parse())
                .collect::<std::result::Result<_, _>>()?,
            delays: list(take("delay", "0")).iter().map(|n| n.parse()).collect::<std::result::Result<_, _>>()?,
            commands: list(take("commands", "plan,run,purge-list,purge-2,purge-32")),
            rate: take("rate", "0").parse()?,
            binary: take("binary", env!("CARGO_BIN_EXE_tagwarden")).to_owned(),
        };
        match given.keys().next() {
            Some(unknown) => Err(format!("unknown key {unknown}").into()),
            None => Ok(setup),
        }
    }
}

/// One registry's content, and how late it answers.
struct Case<'a> {
    setup: &'a Setup,
    repositories: usize,
    tags: usize,
    per_image: usize,
    delay: u64,
}

impl Case<'_> {
    fn measure(&self, runtime: &tokio::runtime::Runtime) -> Result<()> {
        for command in &self.setup.commands {
            // Removals change it, so each command has its own.
            let (registry, age) = runtime.block_on(self.registry())?;
            self.fill(&registry, &age)?;
            let deletions = Arc::new(Mutex::new(Vec::new()));
            let deletes = matches!(command.as_str(), "delete" | "plan-delete");
            let removed = if deletes { "/manifests/" } else { "/_tags/" };
            registry.inject(Fault::on(removed, noting(&deletions)).method(Method::DELETE));
            if self.delay > 0 {
                registry.inject(Fault::on("", FaultKind::Delay(Duration::from_millis(self.delay))));
            }
            let folder = tempfile::tempdir()?;
            fs::write(folder.path().join("policies.yaml"), POLICIES.to_owned() + if deletes { THEN } else { "" })?;
            fs::write(folder.path().join("password"), PASSWORD)?;
            fs::write(folder.path().join("tagwarden.toml"), self.settings(&registry))?;
            if deletes {
                watch(self.process("run", &registry)?.current_dir(folder.path()), folder.path())?;
                thread::sleep(Duration::from_secs(3));
                registry.clear_requests();
            }
            let mut process = self.process(command, &registry)?;
            let Measured { peak, seconds, code, .. } = watch(process.current_dir(folder.path()), folder.path())?;
            println!(
                "{:<14} {:>9} {:>6} {command:<11} {seconds:>8.2} {peak:>8} {code:>5} {:>10}  {}",
                format!("{} x {}", self.repositories, self.tags),
                self.per_image,
                self.delay,
                rate(&deletions.lock().unwrap_or_else(PoisonError::into_inner)),
                counts(&registry.requests())
            );
            registry.clear_faults();
            runtime.block_on(registry.stop());
        }
        Ok(())
    }

    /// An empty registry, and by how many seconds its clock is behind.
    async fn registry(&self) -> Result<(EmbeddedRegistry, Arc<AtomicI64>)> {
        let behind = Arc::new(AtomicI64::new(0));
        let of_clock = Arc::clone(&behind);
        #[expect(clippy::disallowed_methods, reason = "the registry's time must be that of the measured process")]
        let clock = move || Timestamp::now() - SignedDuration::from_secs(of_clock.load(Ordering::Relaxed));
        let rate = (self.setup.rate > 0).then(|| Rate::per_minute(self.setup.rate));
        let options = AcrOptions {
            limits: ServerRateLimits { delete: rate, ..ServerRateLimits::default() },
            ..AcrOptions::new(Arc::new(clock)).admin(USER, PASSWORD)
        };
        let dialect = if self.setup.acr { Dialect::acr(options) } else { Dialect::Distribution };
        Ok((EmbeddedRegistry::start(Options { dialect, ..Options::default() }).await?, behind))
    }

    /// Every image is a minute younger than the one before, the youngest some months old.
    fn fill(&self, registry: &EmbeddedRegistry, behind: &AtomicI64) -> Result<()> {
        let images = self.tags.div_ceil(self.per_image);
        let newest: Timestamp = "2026-03-01T06:00:00Z".parse()?;
        for repository in 0..self.repositories {
            let name = format!("team-{}/service-{repository}", repository % 40);
            for image in 0..images {
                let minutes = i64::try_from(images - image)?;
                behind.store(200 * 24 * 3600 + minutes * 60, Ordering::Relaxed);
                let created = newest - SignedDuration::from_mins(minutes);
                let built = ImageSpec::new(created, &[Blob::of(format!("{name} {image}"))]).build();
                for tag in (image * self.per_image..self.tags).take(self.per_image) {
                    registry.put_image(&name, &format!("build-20261101.{tag}"), &built);
                }
            }
        }
        behind.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn settings(&self, registry: &EmbeddedRegistry) -> String {
        let kind = if self.setup.acr {
            format!(
                "kind = \"acr\"\nauth = {{ kind = \"basic\", username = \"{USER}\", password_file = \"password\" }}\n"
            )
        } else {
            "kind = \"distribution\"\nauth = { kind = \"anonymous\" }\nconcurrency = 32\n".to_owned()
        };
        format!(
            "mode = \"enforce\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:state.db\"\nundo_window = \"1s\"\n\
             [limits]\nuntag = 1000000\npercent = 100\ndelete = 1000000\n[registries.bench]\nendpoint = \"{}\"\n{kind}",
            registry.url()
        )
    }

    fn process(&self, command: &str, registry: &EmbeddedRegistry) -> Result<Command> {
        let Some(how) = command.strip_prefix("purge-") else {
            let mut process = Command::new(&self.setup.binary);
            // A line for each removal goes there.
            process.env("TAGWARDEN_LOG", "error").stderr(Stdio::null());
            process.args(match command {
                "json" => vec!["plan", "--format", "json"],
                "plan-delete" => vec!["plan"],
                "delete" => vec!["run"],
                command => vec![command],
            });
            return Ok(process);
        };
        let mut process = Command::new(std::env::current_exe()?);
        // As many images as the policy keeps.
        process.args([purge::COMMAND, &registry.url(), how, &(5 * self.per_image).to_string(), USER, PASSWORD]);
        Ok(process)
    }
}

const USER: &str = "bench";
const PASSWORD: &str = "of-the-bench-alone";

fn noting(deletions: &Arc<Mutex<Vec<Instant>>>) -> FaultKind {
    let deletions = Arc::clone(deletions);
    FaultKind::before_request(move |_| {
        deletions.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    })
}

/// Deletions a second between the first and the last.
fn rate(deletions: &[Instant]) -> String {
    let (Some(first), Some(last)) = (deletions.first(), deletions.last()) else { return String::new() };
    let micros = last.duration_since(*first).as_micros().max(1);
    let tenths = deletions.len() as u128 * 10_000_000 / micros;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// How many requests of each kind there were.
fn counts(requests: &[ServedRequest]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for request in requests {
        let path = request.path.split('?').next().unwrap_or_default();
        let kind = match request.method {
            _ if request.status == 429 => "throttled",
            Method::DELETE => "delete",
            _ if path.contains("_catalog") => "catalogue",
            _ if path.ends_with("/_tags") || path.ends_with("/tags/list") => "tag-pages",
            _ if path.ends_with("/_manifests") => "manifest-pages",
            _ if path.contains("/_tags/") => "one-tag",
            _ if path.starts_with("/v2/") && path.contains("/manifests/") => "manifest",
            _ if path.starts_with("/acr/v1/") => "attributes",
            _ => "other",
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect::<Vec<_>>().join(" ")
}

/// The cost of a process.
struct Measured {
    /// The peak resident memory in megabytes.
    peak: u64,
    seconds: f64,
    code: i32,
    /// Bytes written to disk.
    written: u64,
}

/// Runs a process to its end, its output in a file of the folder.
fn watch(command: &mut Command, folder: &Path) -> Result<Measured> {
    let start = Instant::now();
    let mut child = command.stdout(File::create(folder.join("out"))?).spawn()?;
    let files = ["status", "io"].map(|name| format!("/proc/{}/{name}", child.id()));
    let number = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    let (mut peak, mut written) = (0, 0);
    loop {
        peak = peak.max(number(&files[0], "VmHWM:") / 1000);
        written = written.max(number(&files[1], "write_bytes:"));
        if let Some(ended) = child.try_wait()? {
            let (seconds, code) = (start.elapsed().as_secs_f64(), ended.code().unwrap_or(-1));
            return Ok(Measured { peak, seconds, code, written });
        }
        thread::sleep(Duration::from_millis(10));
    }
}
