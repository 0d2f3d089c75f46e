//! The user that runs this, for the audit record.

use std::fs;
use std::path::Path;

use crate::report::sanitize;

/// Most characters of a name, because the environment must not control the record.
const MAX_NAME_CHARS: usize = 80;

/// The variables by which build systems identify themselves and the person: the one that is set only there, the name of
/// the system, the name of the person.
///
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>,
/// <https://docs.gitlab.com/ci/variables/predefined_variables/>,
/// <https://learn.microsoft.com/en-us/azure/devops/pipelines/build/variables>
const CI_SYSTEMS: [(&str, &str, &[&str]); 4] = [
    ("GITHUB_ACTIONS", "GitHub Actions", &["GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"]),
    ("GITLAB_CI", "GitLab CI", &["GITLAB_USER_LOGIN"]),
    ("TF_BUILD", "Azure Pipelines", &["BUILD_REQUESTEDFOREMAIL", "BUILD_REQUESTEDFOR"]),
    ("BUILDKITE", "Buildkite", &["BUILDKITE_BUILD_CREATOR"]),
];

/// Returns `user@host`, with the person for whom a build or `sudo` runs, if known: `root for anna (sudo)@host`.
pub(super) fn describe_user(variable: impl Fn(&str) -> Option<String>, files: &Path) -> String {
    let set = |name: &&str| variable(name).map(|value| clean_name(&value)).filter(|value| !value.is_empty());
    let user = ["USER", "LOGNAME"].iter().find_map(set).or_else(|| process_user(files));
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    let build = CI_SYSTEMS.iter().find(|(sign, ..)| set(sign).is_some());
    let person = match build {
        Some((_, system, names)) => Some(
            names
                .iter()
                .find_map(set)
                .map_or_else(|| format!("somebody ({system})"), |name| format!("{name} ({system})")),
        ),
        None => set(&"SUDO_USER").filter(|name| *name != user).map(|name| format!("{name} (sudo)")),
    };
    let person = person.map_or_else(String::new, |person| format!(" for {person}"));
    let host = fs::read_to_string(files.join("proc/sys/kernel/hostname")).ok().map(|host| clean_name(&host));
    let host = host.filter(|host| !host.is_empty()).or_else(|| set(&"HOSTNAME"));
    format!("{user}{person}@{}", host.unwrap_or_else(|| "unknown host".to_owned()))
}

/// Returns a name as one line of limited length.
fn clean_name(name: &str) -> String {
    sanitize(name).chars().take(MAX_NAME_CHARS).collect()
}

/// Returns the user of this process: its name in the user database, else its number, as in most containers.
fn process_user(files: &Path) -> Option<String> {
    let number = effective_uid(files)?;
    let database = fs::read_to_string(files.join("etc/passwd")).unwrap_or_default();
    // <https://man7.org/linux/man-pages/man5/passwd.5.html>
    let name = database.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number && !name.is_empty()).then(|| clean_name(name))
    });
    Some(name.unwrap_or_else(|| format!("uid {number}")))
}

/// Returns the number of the effective user: by proc(5), else by the owner of a new file.
fn effective_uid(files: &Path) -> Option<String> {
    let status = fs::read_to_string(files.join("proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned).or_else(owner_of_a_new_file)
}

#[cfg(unix)]
fn owner_of_a_new_file() -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    Some(tempfile::tempfile().ok()?.metadata().ok()?.uid().to_string())
}

#[cfg(not(unix))]
fn owner_of_a_new_file() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(passwd: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("proc/sys/kernel/hostname", Some("build-7\n")),
            ("proc/self/status", Some("Name:\ttagwarden\nUid:\t1000\t1001\t1000\t1000\n")),
            ("etc/passwd", passwd),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if let Some(text) = text {
                fs::write(path, text).unwrap();
            }
        }
        root
    }

    #[test]
    fn the_user_is_known_without_its_variable() {
        let passwd = "root:x:0:0::/root:/bin/sh\nben:x:1000:5::/:/bin/sh\nanna:x:1001:1000:Anna:/home/anna:/bin/sh\n";
        for (passwd, variables, expected) in [
            (Some(passwd), vec![], "anna@build-7"),
            (Some("root:x:0:0::/root:/bin/sh\n:::\n"), vec![], "uid 1001@build-7"),
            (None, vec![], "uid 1001@build-7"),
            (None, vec![("USER", ""), ("LOGNAME", "carla")], "carla@build-7"),
            (Some(passwd), vec![("USER", "dora")], "dora@build-7"),
            (Some(passwd), vec![("USER", "a@b\n::x\u{1b}")], "a@b ::x\u{fffd}@build-7"),
            (Some(passwd), vec![("USER", "root"), ("SUDO_USER", "ada")], "root for ada (sudo)@build-7"),
            (Some(passwd), vec![("USER", "ada"), ("SUDO_USER", "ada")], "ada@build-7"),
            (
                Some(passwd),
                vec![("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "octo"), ("SUDO_USER", "x")],
                "anna for octo (GitHub Actions)@build-7",
            ),
            (Some(passwd), vec![("GITHUB_ACTOR", "octo")], "anna@build-7"),
            (Some(passwd), vec![("GITLAB_CI", "true")], "anna for somebody (GitLab CI)@build-7"),
            (
                Some(passwd),
                vec![("TF_BUILD", "True"), ("BUILD_REQUESTEDFOR", "Ada Lovelace")],
                "anna for Ada Lovelace (Azure Pipelines)@build-7",
            ),
        ] {
            let root = machine(passwd);
            let of =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(describe_user(of, root.path()), expected);
        }
    }
}
