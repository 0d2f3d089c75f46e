//! Every command in the documents is one that the binary has, with flags that it has.

use std::fs;
use std::path::Path;

use clap::error::ErrorKind;

/// All documents, relative to the root.
fn documents() -> Vec<String> {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let docs = folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    // The generated reference names commands alone, and has a test of its own.
    let docs = docs.filter(|path| !path.ends_with("commands.md"));
    let mut names: Vec<String> =
        docs.map(|path| format!("docs/{}", path.file_name().unwrap().to_str().unwrap())).collect();
    names.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned));
    names.sort();
    names
}

/// The command lines of a document: those in code blocks, and those in the text, which may leave out what they need.
fn commands(document: &str) -> (Vec<&str>, Vec<&str>) {
    let blocks = document.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim);
    let blocks = blocks.filter(|line| line.starts_with("tagwarden "));
    // Nor what the shell does with the output.
    let without_comment = blocks.map(|line| line.split(" #").next().unwrap_or_default());
    let without_comment = without_comment.map(|line| line.split(" >").next().unwrap_or_default().trim());
    let spans = document.split('`').skip(1).step_by(2);
    // Its bare name is no command.
    let spans = spans.filter(|span| span.starts_with("tagwarden "));
    (without_comment.collect(), spans.collect())
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut unknown = Vec::new();
    let mut seen = 0;
    for name in documents() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)).unwrap();
        let (whole, mentioned) = commands(&text);
        let whole = whole.into_iter().map(|line| (line, false));
        for (line, partial) in whole.chain(mentioned.into_iter().map(|line| (line, true))) {
            seen += 1;
            if let Err(error) = tagwarden::cli::command().try_get_matches_from(line.split_whitespace())
                && error.exit_code() != 0
                && !(partial && error.kind() == ErrorKind::MissingRequiredArgument)
            {
                unknown.push(format!("{name}: `{line}`: {error}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert!(seen > 20, "only {seen} commands were found: are they still written as they were?");
}
