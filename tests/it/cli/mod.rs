//! The binary as people and scripts use it: arguments, files and environment in; exit code, stdout and stderr out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;
use serde_json::Value;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, ImageSpec};
use tagwarden::demo::registry::EmbeddedRegistry;
use tempfile::TempDir;
use tokio::process::Command;

mod audit;
mod azure;
mod change_tickets;
mod check_files;
mod ci_snippets;
mod code_hosts;
mod command_line;
mod demo;
mod distribution;
mod explain;
mod field_accidents;
mod folded_skips;
mod handed_files;
mod import;
mod init;
mod missing_evidence;
mod network;
mod no_state;
mod output;
mod policy_commands;
mod readme;
mod records;
mod removal;
mod removal_failures;
mod revisions;
mod rule_files;
mod same_content;
mod scheduled_failures;
mod secrets;
mod selectors;
mod settings;
#[cfg(target_os = "linux")]
mod signals;
mod sources;
mod state;
mod unmatched_rules;

/// A folder to work in, with a home of its own and nothing of this machine's environment.
struct CliFixture {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// What a command gave.
#[derive(Debug)]
struct CliOutput {
    code: i32,
    out: String,
    err: String,
}

impl CliFixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// With these files.
    fn with(files: &[(&str, &str)]) -> Self {
        let desk = Self::new();
        for (name, text) in files {
            desk.write(name, text);
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Sets a variable for all commands from now on.
    fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The command of these words, not started yet.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command.args(words.split_whitespace()).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("USER", "anna").envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, words: &str) -> CliOutput {
        let output = self.command(words).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("it exits by itself");
        CliOutput { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl CliOutput {
    /// It ended so; gives itself for more questions.
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Stdout, which is JSON and nothing else.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in:\n{}", self.out))
    }
}

/// An image of that time, different from others by its name.
fn image(name: &str, created: &str) -> Image {
    let created: Timestamp = format!("{created}T12:00:00Z").parse().unwrap();
    ImageSpec::new(created, &[Blob::layer("base", 20_000), Blob::layer(name, 1000)]).build()
}

/// Puts `count` images of the first days of 2024 into a repository, as `prefix-1` and so on, oldest first.
fn fill(registry: &EmbeddedRegistry, repository: &str, prefix: &str, count: u32) {
    for number in 1..=count {
        let tag = format!("{prefix}-{number}");
        registry.put_image(repository, &tag, &image(&tag, &format!("2024-01-{number:02}")));
    }
}

/// Settings for a registry at `endpoint`, with release records as evidence.
fn settings(endpoint: &str) -> String {
    format!(
        "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{endpoint}\"\n\n\
         [sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]\n"
    )
}

/// A release record that names one image.
fn record(image: &str) -> String {
    format!("[{{\"image\": \"{image}\", \"service\": \"api\", \"environment\": \"production\"}}]")
}

/// The names of a plan's list, as `repository:tag`, with its verdict if it has one.
fn names(plan: &Value, list: &str) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let name = |one: &Value| {
        let name = format!("{}:{}", text(one, "repository"), text(one, "tag"));
        one["verdict"].as_str().map_or(name.clone(), |verdict| format!("{name} {verdict}"))
    };
    plan[list].as_array().unwrap().iter().map(name).collect()
}

/// The tags of a repository that is there.
fn tags(registry: &EmbeddedRegistry, repository: &str) -> Vec<String> {
    registry.tags(repository).into_keys().collect()
}

/// Every file of a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
