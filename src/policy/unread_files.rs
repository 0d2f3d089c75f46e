//! Files in a folder of policies that somebody may take for policies in force, and that are not read.

use std::fs;
use std::path::Path;

use super::diagnostic::Diagnostic;
use super::lint_result::{Lint, Severity};
use super::load::{MAX_FILE_SIZE, collect, is_policy_file, is_test_file};
use super::yaml::{self, Value};
use crate::domain::decode_text;

/// Returns a warning for each file of a folder that holds policies and is not read because of its name.
///
/// Hidden files and folders are the documented way to leave one out, and a single file names itself.
#[must_use]
pub fn lint_unread_files(path: &Path) -> Vec<Lint> {
    let mut found = Vec::new();
    // What cannot be read was reported when the policies were loaded.
    if path.is_dir() {
        collect(path, 0, |name| !is_policy_file(name), &mut found, &mut Vec::new());
    }
    found.sort();
    found.iter().filter_map(|file| lint_file(file)).collect()
}

fn lint_file(file: &Path) -> Option<Lint> {
    let name = file.file_name()?.to_string_lossy().into_owned();
    let policies = describe_policies(file)?;
    let (message, help) = if is_test_file(&name) {
        let message = format!("{policies}, and `*.test.yaml` has tests only: not in force");
        (message, "move what counts into a file without `.test` in its name")
    } else {
        let message = format!("{policies}, and only files `*.yaml` and `*.yml` are read: not in force");
        (message, "give it such a name if it counts, else move it out of the folder")
    };
    let mut diagnostic = Diagnostic::new(file.display().to_string(), message);
    diagnostic.help(help);
    Some(Lint { severity: Severity::Warning, kind: "unread-policies", policy: String::new(), diagnostic })
}

/// Describes the policies in a file; `None` if it seems to have none.
fn describe_policies(file: &Path) -> Option<String> {
    let size = fs::metadata(file).ok().filter(fs::Metadata::is_file)?.len();
    let text = decode_text(fs::read(file).ok().filter(|_| size <= MAX_FILE_SIZE)?).ok()?;
    let Ok(root) = yaml::parse_yaml(&text) else {
        let begins = text.lines().any(|line| line.trim_end() == "policies:");
        return begins.then(|| "this file seems to hold policies".to_owned());
    };
    let Value::Map(entries) = &root.value else { return None };
    let list = entries.iter().find(|entry| entry.key == "policies")?;
    let Value::List(items) = &list.node.value else { return None };
    match items.iter().filter(|item| is_policy(&item.value)).count() {
        0 => None,
        1 => Some("this file holds a policy".to_owned()),
        several => Some(format!("this file holds {several} policies")),
    }
}

fn is_policy(value: &Value) -> bool {
    let has = |key: &str| matches!(value, Value::Map(entries) if entries.iter().any(|entry| entry.key == key));
    has("name") && (has("select") || has("keep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: &str = "policies:\n  - { name: a, select: { tags: [\"x\"] }, keep: all }\n";

    #[test]
    fn files_that_hold_policies_and_are_not_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let json = "{\"policies\": [{\"name\": \"a\", \"keep\": \"all\"}, {\"name\": \"b\", \"select\": {}}]}";
        let two = [POLICIES, "---\n", POLICIES].concat();
        let bytes: Vec<u8> = [0xfeff].into_iter().chain(POLICIES.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        fs::create_dir(folder.path().join("team")).unwrap();
        for (name, content) in [
            ("read.yaml", POLICIES.as_bytes()),
            ("READ.YML", POLICIES.as_bytes()),
            (".hidden.yaml.bak", POLICIES.as_bytes()),
            ("README.md", b"A folder of\npolicies: see there\n"),
            ("read.test.yaml", b"tests:\n  - name: one\n"),
            ("names.txt", b"policies: [a, b]\n"),
            ("shop.yml.bak", POLICIES.as_bytes()),
            ("shop.json", json.as_bytes()),
            ("team/api.yaml~", &bytes),
            ("team/api.test.yaml", POLICIES.as_bytes()),
            ("two.yaml.off", two.as_bytes()),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let found: Vec<(String, String)> = lint_unread_files(folder.path())
            .into_iter()
            .map(|lint| {
                let file = Path::new(&lint.diagnostic.file).strip_prefix(folder.path()).unwrap().display().to_string();
                (file, lint.diagnostic.message)
            })
            .collect();
        let other = "and only files `*.yaml` and `*.yml` are read: not in force";
        let expected = [
            ("shop.json", format!("this file holds 2 policies, {other}")),
            ("shop.yml.bak", format!("this file holds a policy, {other}")),
            (
                "team/api.test.yaml",
                "this file holds a policy, and `*.test.yaml` has tests only: not in force".to_owned(),
            ),
            ("team/api.yaml~", format!("this file holds a policy, {other}")),
            ("two.yaml.off", format!("this file seems to hold policies, {other}")),
        ];
        assert_eq!(found, expected.map(|(file, message)| (file.to_owned(), message)));
        assert!(lint_unread_files(&folder.path().join("shop.json")).is_empty(), "a file by name is read");
    }
}
