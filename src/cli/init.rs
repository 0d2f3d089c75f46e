//! `tagwarden init`: settings, one policy and an example record for a registry, and the first plan.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use url::{Position, Url};

use super::arguments::listed;
use super::check::{self, CheckArgs};
use super::context::{environment, has_docker_login, unwritable};
use super::init_files::{self, FirstFiles, SignIn};
use super::output::{print_note, print_stderr};
use super::plan::{self, PlanArgs};
use crate::domain::{Failure, RegistryName, chain};
use crate::policy::fields::nearest;
use crate::registry::provider;
use crate::registry::providers::kind_called;
use crate::workflow::{self, RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Address of the registry, such as contoso.azurecr.io
    ///
    /// A host, or a URL with scheme and port. Asked for on a terminal. Without a scheme, `https` is used, or `http` for this
    /// machine.
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
    /// Write the files into this folder
    ///
    /// In /etc/tagwarden, the settings of the systemd units, the state is to be in /var/lib/tagwarden, and no plan is made:
    /// that is for the units and their user.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Use this name in the settings [default: from the address]
    #[arg(long, value_name = "NAME")]
    name: Option<RegistryName>,
    /// Use this kind instead of asking the registry
    #[arg(
        long,
        value_name = "KIND",
        value_parser = listed(crate::registry::kinds(), parse_kind),
        hide_possible_values = true
    )]
    kind: Option<&'static str>,
    /// Choose how to sign in [default: by the registry]
    ///
    /// `azure-cli` for Azure Container Registry, `aws` for Amazon ECR, `google` for Google Artifact Registry, `token` for
    /// GitHub, else `docker-config` if `docker login` was given something for this host, else `anonymous`.
    #[arg(long, value_enum, value_name = "HOW")]
    auth: Option<SignInKind>,
    /// Sign in as this user (`--auth basic`)
    #[arg(long, value_name = "USER", requires = "secret_file")]
    username: Option<String>,
    /// Read the password or token from this file
    #[arg(long, value_name = "FILE", requires = "auth")]
    secret_file: Option<PathBuf>,
    /// Read the repositories of this organization, user, group or project; repeatable
    ///
    /// GitHub, Docker Hub, Quay, Artifact Registry and GitLab list repositories by these. On Docker Hub it is the user
    /// of `--username` by default.
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,
    /// Address of GitLab itself, which lists the repositories of groups and projects
    ///
    /// By default `https://gitlab.com` for registry.gitlab.com. The secret must be a token with the scope `read_api`
    /// there.
    #[arg(long, value_name = "URL", requires = "namespace")]
    api: Option<String>,
    /// Read release records here [default: releases/*.json, with an example]
    #[arg(long, value_name = "GLOB")]
    evidence: Vec<String>,
    /// Write the files only; make no plan
    #[arg(long)]
    no_plan: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignInKind {
    Anonymous,
    DockerConfig,
    AzureCli,
    ManagedIdentity,
    WorkloadIdentity,
    Aws,
    Basic,
    Token,
    Google,
}

fn parse_kind(text: &str) -> Result<&'static str, String> {
    let known: Vec<&str> = crate::registry::kinds();
    provider(text).map(crate::registry::Provider::name).ok_or_else(|| {
        let meant = kind_called(text).or_else(|| nearest(text, &known));
        let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        format!("{meant}(known: {})", known.join(", "))
    })
}

/// Writes the files, checks them, and plans.
pub(super) async fn init(args: &InitArgs) -> Result<u8, RunError> {
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    if args.folder.exists() && !args.folder.is_dir() {
        let failure = Failure::new((), format!("{} is not a folder; nothing was written", args.folder.display()));
        return Err(RunError::Usage(failure.with_help("name another one with `--folder`")));
    }
    // First, so that no question is answered in vain.
    for name in init_files::names(args.evidence.is_empty()) {
        let path = args.folder.join(name);
        if path.exists() {
            let failure = Failure::new((), format!("{} exists already; nothing was written", path.display()));
            return Err(RunError::Usage(
                failure.with_help("choose another folder with `--folder`, or move the file away"),
            ));
        }
    }
    let endpoint = match &args.address {
        Some(address) => parse_endpoint(address)?,
        None if asks => ask("Address of the registry, such as contoso.azurecr.io", "", parse_endpoint)?,
        None => return Err(RunError::usage("name the registry: `tagwarden init registry.example`".to_owned())),
    };
    let (kind, remark, is_asked) = match args.kind {
        Some(kind) => (kind, "chosen with `--kind`".to_owned(), true),
        None => recognize(&endpoint).await?,
    };
    let sign_in = sign_in(args, kind, &endpoint, asks)?;
    let (kind, remark) = kind_for(kind, remark, &sign_in);
    let namespaces = namespaces(args, kind, &sign_in, asks)?;
    let api = api(args, kind, (&endpoint, &sign_in, &namespaces), asks)?;
    print_note(&format!("{endpoint}: kind = \"{kind}\": {remark}"));
    let evidence = if args.evidence.is_empty() && asks {
        let answer = ask("Release records, as files or globs", init_files::EVIDENCE, |text| Ok(text.to_owned()))?;
        Some(answer).filter(|answer| answer != init_files::EVIDENCE).into_iter().collect()
    } else {
        args.evidence.clone()
    };
    let for_units =
        std::path::absolute(&args.folder).is_ok_and(|folder| folder == Path::new(init_files::SYSTEM_FOLDER));
    let files = FirstFiles {
        name: args.name.clone().unwrap_or_else(|| name_of(&endpoint)),
        kind,
        remark,
        endpoint,
        sign_in,
        namespaces,
        api,
        evidence,
        for_units,
    };
    let has_example = files.evidence.is_empty();
    for (name, text) in files.all() {
        let path = args.folder.join(name);
        write_new(&path, &text).map_err(|error| unwritable(&path, error))?;
        print_note(&format!("wrote {}", path.display()));
    }
    let settings = args.folder.join(init_files::SETTINGS);
    let checked = check::check(Some(&settings), &CheckArgs::default()).await?;
    if !is_asked {
        print_note("next: run `tagwarden check --online` and `tagwarden plan` where the registry can be reached");
        return Ok(checked);
    }
    if args.no_plan || checked != 0 {
        return Ok(checked);
    }
    let next = |then: &str| {
        let (settings, policy) = (settings.display(), args.folder.join(init_files::POLICY));
        if has_example {
            let record = args.folder.join(init_files::RECORD);
            print_note(&format!(
                "next: replace the example in {} by your releases; until then plans warn of its image",
                record.display()
            ));
        }
        print_note(&format!(
            "next: edit {settings} and {}, then {then}; nothing is removed in mode `dry-run`",
            policy.display()
        ));
    };
    // A state that root creates could not be opened by the units.
    if for_units {
        next("run `systemctl start tagwarden-run`, and read the plan by `journalctl -u tagwarden-run`");
        return Ok(checked);
    }
    let done = Box::pin(plan::plan(Some(&settings), &PlanArgs::default())).await;
    let named = if args.folder == Path::new(".") { String::new() } else { format!(" --config {}", settings.display()) };
    next(&format!("run `tagwarden plan{named}` again"));
    // Limits that an enforcing run would exceed are no failure of the first files.
    done.map(|code| if code == RunOutcome::Refused.exit_code() { 0 } else { code })
}

/// The kind to write for that sign-in: what the own APIs of some products need nobody has by chance.
fn kind_for(kind: &'static str, remark: String, sign_in: &SignIn) -> (&'static str, String) {
    match (kind, sign_in) {
        ("quay", SignIn::Token(_)) => (kind, remark),
        // `docker login` does not reach its API.
        ("docker-hub", SignIn::Kind("docker-config")) => {
            ("distribution", format!("{remark}; with an access token, write kind = \"docker-hub\""))
        }
        ("quay", _) => ("distribution", format!("{remark}; with an OAuth access token, write kind = \"quay\"")),
        ("artifactory" | "nexus", SignIn::Kind(_)) => {
            ("distribution", format!("{remark}; with the sign-in of a user, write kind = \"{kind}\""))
        }
        ("nexus", SignIn::Token(_)) => {
            ("distribution", format!("{remark}; with the sign-in of a user, write kind = \"nexus\""))
        }
        _ => (kind, remark),
    }
}

/// The kinds that list repositories by names such as these, and true if they list none without.
const LISTED_BY: [(&str, &str, bool); 8] = [
    ("artifact-registry", "Projects", true),
    ("docker-hub", "Users and organizations", true),
    ("ghcr", "Organizations and users", true),
    ("quay", "Organizations and users", true),
    ("gitlab", "Groups and projects", true),
    ("artifactory", "Keys of repositories", false),
    ("harbor", "Projects", false),
    ("nexus", "Names of repositories", false),
];

/// The namespaces whose repositories are read. A placeholder could be the name of somebody else.
fn namespaces(args: &InitArgs, kind: &str, sign_in: &SignIn, asks: bool) -> Result<Vec<String>, RunError> {
    let Some((_, what, required)) = LISTED_BY.into_iter().find(|(name, ..)| *name == kind) else {
        if args.namespace.is_empty() {
            return Ok(Vec::new());
        }
        return Err(RunError::usage(format!(
            "`--namespace` is not for kind = \"{kind}\": policies select repositories"
        )));
    };
    if !args.namespace.is_empty() {
        return Ok(args.namespace.clone());
    }
    let own = match sign_in {
        SignIn::Basic(user, _) if kind == "docker-hub" => user.as_str(),
        _ => "",
    };
    let split = |text: &str| text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    // `docker login` does not reach GitLab itself; what it reads has to be named by hand.
    let required = required && !(kind == "gitlab" && matches!(sign_in, SignIn::Kind(_)));
    match (required, asks) {
        (true, true) => ask(&format!("{what} whose repositories are read"), own, |text| Ok(split(text))),
        (true, false) if own.is_empty() => {
            let what = what.to_lowercase();
            let failure =
                Failure::new((), format!("kind = \"{kind}\" lists no repositories without the names of {what}"));
            Err(RunError::Usage(failure.with_help("name them with `--namespace NAME`")))
        }
        _ => Ok(split(own)),
    }
}

/// The address of GitLab, which lists the repositories of namespaces.
fn api(
    args: &InitArgs,
    kind: &str,
    (endpoint, sign_in, namespaces): (&Url, &SignIn, &[String]),
    asks: bool,
) -> Result<Option<Url>, RunError> {
    if kind != "gitlab" {
        return match args.api {
            Some(_) => Err(RunError::usage(format!("`--api` is for GitLab, and this is kind = \"{kind}\""))),
            None => Ok(None),
        };
    }
    if namespaces.is_empty() {
        return Ok(None);
    }
    if matches!(sign_in, SignIn::Kind(_)) {
        let failure = Failure::new((), "GitLab lists the repositories of groups and projects for a token only");
        return Err(RunError::Usage(failure.with_help("use `--auth basic --username USER --secret-file FILE`")));
    }
    match &args.api {
        Some(address) => parse_endpoint(address),
        None if endpoint.host_str() == Some("registry.gitlab.com") => parse_endpoint("https://gitlab.com"),
        None if asks => ask("Address of GitLab itself, such as https://gitlab.example", "", parse_endpoint),
        None => {
            let failure =
                Failure::new((), "GitLab itself lists the repositories of groups and projects, not its registry");
            Err(RunError::Usage(failure.with_help("name its address with `--api https://gitlab.example`")))
        }
    }
    .map(Some)
}

/// The kind to write, how it was found, and true if the registry was asked.
async fn recognize(endpoint: &Url) -> Result<(&'static str, String, bool), RunError> {
    let help = "correct the address, or name the kind with `--kind` to write the files without asking";
    let answer = match workflow::ask_registry(endpoint.clone(), None).await {
        Ok(answer) => answer,
        Err(error) => {
            if let Some(found) = workflow::recognize_address(endpoint) {
                print_note(&format!(
                    "{endpoint}: cannot be reached, so the kind is that of the host: {}",
                    chain(&error)
                ));
                return Ok((found.provider.name(), "by its host; the registry was not asked".to_owned(), false));
            }
            let failure = Failure::new((), format!("{endpoint}: cannot be reached")).caused_by(error);
            return Err(RunError::Usage(failure.with_help(help)));
        }
    };
    let Some(found) = workflow::recognize_registry(&answer) else {
        let failure = Failure::new((), format!("{endpoint}: not a registry: {}", answer.describe()));
        return Err(RunError::Usage(failure.with_help(help)));
    };
    Ok((found.provider.name(), workflow::describe_recognition(&found), true))
}

fn sign_in(args: &InitArgs, kind: &str, endpoint: &Url, asks: bool) -> Result<SignIn, RunError> {
    let default = match kind {
        "acr" => SignInKind::AzureCli,
        "ecr" => SignInKind::Aws,
        "artifact-registry" => SignInKind::Google,
        "ghcr" => SignInKind::Token,
        _ if has_docker_login(environment(), &endpoint[Position::BeforeHost..Position::AfterPort]) => {
            SignInKind::DockerConfig
        }
        _ => SignInKind::Anonymous,
    };
    let how = match args.auth {
        Some(how) => how,
        None if asks => {
            let name = |how: SignInKind| how.to_possible_value().map(|value| value.get_name().to_owned());
            let all: Vec<String> = SignInKind::value_variants().iter().filter_map(|how| name(*how)).collect();
            ask(&format!("Sign in by {}", all.join(", ")), &name(default).unwrap_or_default(), |answer| {
                let known: Vec<&str> = all.iter().map(String::as_str).collect();
                SignInKind::from_str(answer, false).map_err(|_| workflow::unknown_name("sign-in", answer, &known))
            })?
        }
        None => default,
    };
    let secret = || {
        let missing = || RunError::usage("this sign-in needs `--secret-file FILE`, a file with the secret".to_owned());
        match &args.secret_file {
            Some(file) => readable(file),
            None if asks => ask("File with the secret", "", |text| readable(Path::new(text))),
            None => Err(missing()),
        }
    };
    Ok(match how {
        SignInKind::Basic => {
            let user = match &args.username {
                Some(user) => user.clone(),
                None if asks => ask("User", "", |text| Ok(text.to_owned()))?,
                None => return Err(RunError::usage("`--auth basic` needs `--username USER`".to_owned())),
            };
            SignIn::Basic(user, secret()?)
        }
        SignInKind::Token => SignIn::Token(secret()?),
        SignInKind::Anonymous => SignIn::Kind("anonymous"),
        SignInKind::DockerConfig => SignIn::Kind("docker-config"),
        SignInKind::AzureCli => SignIn::Kind("azure-cli"),
        SignInKind::ManagedIdentity => SignIn::Kind("managed-identity"),
        SignInKind::WorkloadIdentity => SignIn::Kind("workload-identity"),
        SignInKind::Aws => SignIn::Kind("aws"),
        SignInKind::Google => SignIn::Kind("google"),
    })
}

/// The address of a registry: scheme, host and port.
fn parse_endpoint(text: &str) -> Result<Url, RunError> {
    let text = text.trim().trim_end_matches('/');
    let help = "write a host or a URL, such as `contoso.azurecr.io` or `http://127.0.0.1:5000`";
    let invalid = |why: &str| {
        // The text itself may hold a password.
        RunError::Usage(Failure::new((), format!("invalid address of a registry: {why}")).with_help(help))
    };
    if text.is_empty() {
        return Err(invalid("it is empty"));
    }
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        let host = text.split(['/', ':']).next().unwrap_or_default();
        let is_local = host == "localhost" || host.starts_with("127.");
        format!("{}://{text}", if is_local { "http" } else { "https" })
    };
    let url: Url = with_scheme.parse().map_err(|error: url::ParseError| invalid(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid("it has no host, or another scheme than http and https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("it has a user or password in it; use `--auth`"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(
            "it has a path in it; policies select repositories, and `--namespace` says whose are read",
        ));
    }
    Ok(url)
}

/// A name for the settings: the first label of a host, unless that says nothing.
fn name_of(endpoint: &Url) -> RegistryName {
    let host = endpoint.domain().unwrap_or_default();
    let label = host.split('.').next().unwrap_or_default();
    let says_nothing = ["", "localhost", "registry", "www", "docker", "images"].contains(&label);
    let label = if says_nothing || label.starts_with(|first: char| first.is_ascii_digit()) { "main" } else { label };

    if let Ok(name) = label.parse() {
        return name;
    }
    "main".parse().expect("a valid name")
}

fn absolute(file: &Path) -> Result<PathBuf, RunError> {
    std::path::absolute(file).map_err(|error| unreadable(file, error))
}

/// The path of a file that can be read now. Its content is not looked at.
fn readable(file: &Path) -> Result<PathBuf, RunError> {
    std::fs::File::open(file).map_err(|error| unreadable(file, error))?;
    absolute(file)
}

fn unreadable(file: &Path, error: io::Error) -> RunError {
    let failure = Failure::new((), format!("secret file {}", file.display())).caused_by(error);
    RunError::Usage(failure.with_help("write the secret there first, or correct `--secret-file`; nothing was written"))
}

/// Asks on the terminal, again after an answer that is not understood. An empty answer is the default.
///
/// # Errors
/// Returns an error if the input ends, or an answer is empty without a default.
fn ask<T>(question: &str, default: &str, parse: impl Fn(&str) -> Result<T, RunError>) -> Result<T, RunError> {
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    let failed = |error| RunError::Usage(Failure::new((), "cannot read the answer").caused_by(error));
    loop {
        write!(io::stderr(), "{question}{shown}: ").map_err(failed)?;
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line).map_err(failed)?;
        let answer = line.trim();
        if read == 0 || answer.is_empty() && default.is_empty() {
            print_stderr("");
            return Err(RunError::usage("nothing was answered; nothing was written".to_owned()));
        }
        match parse(if answer.is_empty() { default } else { answer }) {
            Ok(answer) => return Ok(answer),
            Err(error) => print_stderr(&chain(&error)),
        }
    }
}

/// Writes a file that must not exist, with its folder.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
