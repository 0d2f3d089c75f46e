//! The files that `tagwarden init` writes.

use std::path::PathBuf;

use serde_json::json;
use url::Url;

use crate::domain::RegistryName;

/// The settings.
pub(super) const SETTINGS: &str = "tagwarden.toml";
/// The policy.
pub(super) const POLICY: &str = "policies/builds.yaml";
pub(super) const RECORD: &str = "releases/example.json";
/// The release records, unless somebody says where they are.
pub(super) const EVIDENCE: &str = "releases/*.json";

/// The folder of the units' settings.
pub(super) const SYSTEM_FOLDER: &str = "/etc/tagwarden";
/// The line for settings there: below /etc the units may not write.
const SYSTEM_STATE: &str = "state = \"sqlite:/var/lib/tagwarden/tagwarden.db\"   # where the units may write\n";

/// How to sign in, as far as the settings say.
#[derive(Debug)]
pub(super) enum SignIn {
    /// By a kind that needs nothing else.
    Kind(&'static str),
    /// As a user, with the file of the password.
    Basic(String, PathBuf),
    /// By the token in a file.
    Token(PathBuf),
}

/// What the files say.
#[derive(Debug)]
pub(super) struct FirstFiles {
    pub(super) name: RegistryName,
    pub(super) kind: &'static str,
    /// How the kind was found.
    pub(super) remark: String,
    pub(super) endpoint: Url,
    pub(super) sign_in: SignIn,
    /// The names whose repositories are read.
    pub(super) namespaces: Vec<String>,
    /// The address of GitLab itself, which takes the same secret.
    pub(super) api: Option<Url>,
    /// Globs of release records; none for an example.
    pub(super) evidence: Vec<String>,
    /// True if they are those of the units.
    pub(super) for_units: bool,
}

/// The files that are written, an example of a record with them or not.
pub(super) fn names(with_example: bool) -> impl Iterator<Item = &'static str> {
    [SETTINGS, POLICY].into_iter().chain(with_example.then_some(RECORD))
}

impl FirstFiles {
    /// Each file with its text.
    pub(super) fn all(&self) -> Vec<(&'static str, String)> {
        let mut files = vec![(SETTINGS, self.settings()), (POLICY, self.policy())];
        if self.evidence.is_empty() {
            files.push((RECORD, self.record()));
        }
        files
    }

    fn host(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        self.endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    fn settings(&self) -> String {
        let Self { name, kind, remark, endpoint, sign_in, namespaces, api, evidence, for_units } = self;
        let endpoint = endpoint.as_str().trim_end_matches('/');
        let auth = match sign_in {
            SignIn::Kind(kind) => format!("{{ kind = {} }}", quote(kind)),
            SignIn::Basic(user, file) => format!(
                "{{ kind = \"basic\", username = {}, password_file = {} }}",
                quote(user),
                quote(&file.to_string_lossy())
            ),
            SignIn::Token(file) => {
                format!("{{ kind = \"token\", token_file = {} }}", quote(&file.to_string_lossy()))
            }
        };
        let namespaces = match namespaces.as_slice() {
            [] => String::new(),
            names => {
                let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
                format!("namespaces = [{}]   # whose repositories are read\n", names.join(", "))
            }
        };
        let api = match (api, sign_in) {
            (Some(api), SignIn::Basic(_, file) | SignIn::Token(file)) => format!(
                "api      = {{ endpoint = {}, token_file = {} }}\n",
                quote(api.as_str().trim_end_matches('/')),
                quote(&file.to_string_lossy())
            ),
            _ => String::new(),
        };
        let paths = if evidence.is_empty() { vec![EVIDENCE.to_owned()] } else { evidence.clone() };
        let paths: Vec<String> = paths.iter().map(|path| quote(path)).collect();
        let table = if name.as_str().contains('.') { quote(name.as_str()) } else { name.to_string() };
        let state = if *for_units { SYSTEM_STATE } else { "" };
        let remark: String = remark.chars().map(|found| if found.is_control() { ' ' } else { found }).collect();
        format!(
            "# Settings of Tagwarden, written by `tagwarden init`. All keys: docs/settings.md\n\
             mode = \"dry-run\"   # nothing is removed; also \"approved\" (by `apply` of a plan) and \"enforce\"\n\
             {state}\n\
             [registries.{table}]\n\
             # {remark}\n\
             kind     = {}\n\
             endpoint = {}\n\
             auth     = {auth}\n\
             {namespaces}{api}\
             # aliases = [\"images.example.com\"]   # other hosts by which image references name this registry\n\
             \n\
             # What is live: everything named here stays, whatever the policies say. Also read Kubernetes, Azure and others.\n\
             [sources.releases]\n\
             kind  = \"release-records\"\n\
             paths = [{}]\n",
            quote(kind),
            quote(endpoint),
            paths.join(", "),
        )
    }

    fn policy(&self) -> String {
        format!(
            "# Every policy keeps more: a tag is removed only if no policy that selects it keeps it.\n\
             # All that can be written: docs/policies.md\n\
             policies:\n\
             \x20 - name: builds\n\
             \x20   description: The ten newest images of each repository stay, and all of the last 30 days.\n\
             \x20   select:\n\
             \x20     registries: [{}]\n\
             \x20     repositories: [\"**\"]   # such as [\"shop/**\", \"!shop/base/**\"]\n\
             \x20     tags: [\"*\"]            # such as [\"candidate-*\", \"pr-*\"]\n\
             \x20   keep:\n\
             \x20     - newest: 10\n\
             \x20     - within: 30d\n\
             \x20   mode: dry-run            # \"enforce\", once you agree with the plan\n",
            quote(self.name.as_str())
        )
    }

    fn record(&self) -> String {
        let record = json!([{
            "image": format!("{}/example/app:v1", self.host()),
            "service": "example",
            "environment": "production",
            "owner": "replace this record by those of your releases",
        }]);
        format!("{record:#}\n")
    }
}

/// A text as TOML writes it: what JSON writes is that, too, but for DEL.
fn quote(text: &str) -> String {
    json!(text).to_string().replace('\u{7f}', "\\u007f")
}
