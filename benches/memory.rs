//! The most memory that a whole `plan` and a whole enforcing `run` of the built binary hold, each as a process of its
//! own against the embedded registry in this one, as Linux tells it (`VmHWM`).
//!
//! `cargo bench --bench memory -- [SCALE] [BINARY]`: SCALE 4 (the default) is 400,000 tags in 2,000 repositories and
//! 100,000 in one; 1 is a quarter of the repositories. BINARY is another build to compare with. The distribution
//! dialect takes a request for each tag, so this takes its time.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};

/// Tags that share an image.
const TAGS_PER_IMAGE: usize = 10;

const POLICIES: &str = "policies:
  - name: builds
    select: { tags: [\"build-*\"] }
    keep: [{ newest: 5 }, { within: 14d }]
    mode: enforce
    limits: { untag: 1000000, percent: 100 }
";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let scale: usize = args.first().map_or(Ok(4), |scale| scale.parse())?;
    let binary = args.get(1).map_or(env!("CARGO_BIN_EXE_tagwarden"), String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{:<28} {:<22} {:>9} {:>9} {:>8}", "registry", "command", "peak (MB)", "time (s)", "exit");
    for (repositories, tags) in [(500 * scale, 200), (1, 25_000 * scale)] {
        let registry = runtime.block_on(EmbeddedRegistry::start(Options::default()))?;
        fill(&registry, repositories, tags)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("policies.yaml"), POLICIES)?;
        fs::write(folder.path().join("tagwarden.toml"), settings(&registry))?;
        for command in [&["plan"][..], &["plan", "--format", "json"], &["run"]] {
            let (peak, seconds, code) = measure(binary, command, folder.path())?;
            println!(
                "{:<28} {:<22} {peak:>9} {seconds:>9.1} {code:>8}",
                format!("{repositories} x {tags} tags"),
                command.join(" ")
            );
            registry.clear_requests();
        }
        runtime.block_on(registry.stop());
    }
    Ok(())
}

/// Runs the binary, and gives its peak in megabytes, how long it took, and its exit code.
fn measure(binary: &str, command: &[&str], folder: &Path) -> Result<(u64, f64, i32), Box<dyn Error>> {
    let start = Instant::now();
    let mut child = Command::new(binary)
        .args(command)
        .current_dir(folder)
        .env("TAGWARDEN_LOG", "error")
        .stdout(File::create(folder.join("out"))?)
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(now.unwrap_or(0) / 1000);
        if let Some(ended) = child.try_wait()? {
            return Ok((peak, start.elapsed().as_secs_f64(), ended.code().unwrap_or(-1)));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn settings(registry: &EmbeddedRegistry) -> String {
    format!(
        "mode = \"enforce\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:state.db\"\n\
         [limits]\nuntag = 1000000\npercent = 100\n\
         [registries.bench]\nkind = \"distribution\"\nendpoint = \"{}\"\nauth = {{ kind = \"anonymous\" }}\nconcurrency = 32\n",
        registry.url()
    )
}

fn fill(registry: &EmbeddedRegistry, repositories: usize, tags: usize) -> Result<(), Box<dyn Error>> {
    let newest: Timestamp = "2026-11-01T06:00:00Z".parse()?;
    for repository in 0..repositories {
        let name = format!("team-{}/service-{repository}", repository % 40);
        for image in 0..tags.div_ceil(TAGS_PER_IMAGE) {
            let created = newest - SignedDuration::from_mins(i64::try_from(image)?);
            let image_of = ImageSpec::new(created, &[Blob::of(format!("{name} {image}"))]).build();
            for tag in (image * TAGS_PER_IMAGE..tags).take(TAGS_PER_IMAGE) {
                registry.put_image(&name, &format!("build-20261101.{tag}"), &image_of);
            }
        }
    }
    Ok(())
}
