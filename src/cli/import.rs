//! `tagwarden import`: another tool's rules as policies.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::context::require_new;
use super::output::{print, print_stderr};
use crate::domain::{Cause, Failure, decode_text};
use crate::policy_import::{self, ImportOptions, Tool};
use crate::report::sanitize;
use crate::workflow::RunError;

/// More than the rules of any tool.
const MAX_FILE_SIZE: u64 = 4 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Tool that the rules are from
    #[arg(value_enum)]
    tool: ToolArg,
    /// File with the rules; `-` reads standard input
    file: PathBuf,
    /// Write the policies to a new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Repository or project of the rules (repeatable)
    ///
    /// Some rules do not name their repository or project. For `ecr` it is a repository, for `harbor` a project, for `gitlab` the
    /// path of a project, and for `artifact-registry` a project and a repository, such as `contoso/images`.
    #[arg(long, value_name = "NAME")]
    scope: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ToolArg {
    /// `acr purge` commands, scripts and ACR tasks
    AcrPurge,
    /// Amazon ECR lifecycle policies
    Ecr,
    /// Google Artifact Registry cleanup policies
    ArtifactRegistry,
    /// Harbor retention and immutability rules
    Harbor,
    /// GitLab container registry cleanup policies
    Gitlab,
    /// zot retention settings
    Zot,
}

impl From<ToolArg> for Tool {
    fn from(tool: ToolArg) -> Self {
        match tool {
            ToolArg::AcrPurge => Self::AcrPurge,
            ToolArg::Ecr => Self::Ecr,
            ToolArg::ArtifactRegistry => Self::ArtifactRegistry,
            ToolArg::Harbor => Self::Harbor,
            ToolArg::Gitlab => Self::Gitlab,
            ToolArg::Zot => Self::Zot,
        }
    }
}

/// Translates a file, and writes the policies.
pub(super) fn import(args: &ImportArgs) -> Result<u8, RunError> {
    let name = if args.file == Path::new("-") { "standard input".to_owned() } else { args.file.display().to_string() };
    if let Some(out) = &args.out {
        require_new(out)?;
    }
    let text = read(&args.file, &name)?;
    let options = ImportOptions { file: name, scopes: args.scope.clone() };
    let done = policy_import::import(args.tool.into(), &text, &options)
        .map_err(|failure| RunError::Usage(failure.with_kind(())))?;
    let written = done.translation.policies.iter().filter(|policy| policy.left_out.is_none()).count();
    match &args.out {
        None => print(&done.yaml),
        Some(path) => write_new(path, &done.yaml)?,
    }
    for policy in &done.translation.policies {
        if let Some(reason) = &policy.left_out {
            print_stderr(&sanitize(&format!("left out: `{}`: {reason}", policy.name)));
        }
    }
    for remark in &done.translation.remarks {
        print_stderr(&sanitize(&format!("differs ({}): {}", remark.kind.label(), remark.text)));
    }
    let policies = if written == 1 { "1 policy".to_owned() } else { format!("{written} policies") };
    print_stderr(&format!("{policies} in `mode: dry-run`; what differs stands above each"));
    Ok(0)
}

fn read(file: &Path, name: &str) -> Result<String, RunError> {
    let fail = |error: io::Error| {
        let failure = Failure::new((), format!("{name}: cannot be read")).caused_by(error);
        RunError::Usage(failure.with_help("name a file, or `-` for standard input"))
    };
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(fail)?;
    } else {
        File::open(file).and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)).map_err(fail)?;
    }
    if bytes.len() as u64 > MAX_FILE_SIZE {
        let failure = Failure::new((), format!("{name}: larger than {} MiB", MAX_FILE_SIZE / 1024 / 1024));
        return Err(RunError::Usage(failure.with_help("give the rules alone")));
    }
    decode_text(bytes).map_err(|invalid| {
        RunError::Usage(Failure::new((), format!("{name}: not readable text")).caused_by(Cause::foreign(invalid)))
    })
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> Result<(), RunError> {
    let shown = path.display();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        let help = if error.kind() == io::ErrorKind::AlreadyExists {
            "nothing is overwritten: name another file, or remove this one"
        } else {
            "name a file in a folder that is there and may be written to"
        };
        RunError::Usage(Failure::new((), format!("{shown}: cannot be created")).caused_by(error).with_help(help))
    })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| RunError::Output(Failure::new((), format!("{shown}: cannot be written")).caused_by(error)))
}
