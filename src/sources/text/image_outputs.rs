//! Places where an image is built, moved or removed, but not used: the fixed list of `docs/evidence.md`.
//!
//! Each service has such a place, with a placeholder for the tag. As uses, they would retain all tags of all
//! repositories forever.

use super::mapping::{Entry, Frame, MOST_KEYS};
use super::units::end_of;
use crate::sources::document::Value;

/// The references in a command that name its output.
#[derive(Debug, Clone, Copy)]
enum OutputArguments {
    /// All of them.
    All,
    /// Those after one of these options.
    After(&'static [&'static str]),
    /// All except those after one of these options.
    NotAfter(&'static [&'static str]),
    /// All except the first, which is copied.
    AfterFirst,
}

/// A command: its tools, its subcommands, and its output arguments.
type Command = (&'static [&'static str], &'static [&'static str], OutputArguments);

/// Every tool of the commands below.
const TOOLS: &[&[&str]] = &[
    ENGINES,
    CRANE,
    &["az", "buildctl", "cosign", "executor", "helm", "ko", "notation", "oras", "pack", "regctl", "skopeo"],
];

/// Most arguments of a tool that are checked: its own options, the longest subcommand, and one more.
const MOST_ARGUMENTS: usize = 8;

const ENGINES: &[&str] = &["docker", "podman", "nerdctl", "buildah", "img"];
const CRANE: &[&str] = &["crane", "gcrane"];
const OUTPUTS: &[&str] =
    &["-t", "--tag", "-o", "--output", "--cache-to", "--cache-from", "--export-cache", "--import-cache"];
const ACR: &[&str] = &["-t", "--image"];

const COMMANDS: &[Command] = &[
    (ENGINES, &["build"], OutputArguments::After(OUTPUTS)),
    (ENGINES, &["bud"], OutputArguments::After(OUTPUTS)),
    (ENGINES, &["image", "build"], OutputArguments::After(OUTPUTS)),
    (ENGINES, &["builder", "build"], OutputArguments::After(OUTPUTS)),
    (ENGINES, &["buildx", "build"], OutputArguments::After(OUTPUTS)),
    (ENGINES, &["buildx", "bake"], OutputArguments::All),
    (ENGINES, &["buildx", "imagetools", "create"], OutputArguments::After(OUTPUTS)),
    (ENGINES, &["push"], OutputArguments::All),
    (ENGINES, &["image", "push"], OutputArguments::All),
    (ENGINES, &["manifest", "create"], OutputArguments::All),
    (ENGINES, &["manifest", "annotate"], OutputArguments::All),
    (ENGINES, &["manifest", "push"], OutputArguments::All),
    (ENGINES, &["tag"], OutputArguments::All),
    (ENGINES, &["image", "tag"], OutputArguments::All),
    (ENGINES, &["commit"], OutputArguments::All),
    (ENGINES, &["rmi"], OutputArguments::All),
    (ENGINES, &["image", "rm"], OutputArguments::All),
    (&["buildctl"], &["build"], OutputArguments::After(OUTPUTS)),
    (&["executor"], &[], OutputArguments::After(&["-d", "--destination", "--cache-repo"])),
    (&["pack"], &["build"], OutputArguments::NotAfter(&["--builder", "-B", "--run-image"])),
    (&["ko"], &["apply"], OutputArguments::All),
    (&["ko"], &["build"], OutputArguments::All),
    (&["ko"], &["publish"], OutputArguments::All),
    (&["ko"], &["resolve"], OutputArguments::All),
    (&["az"], &["acr", "build"], OutputArguments::After(ACR)),
    (&["az"], &["acr", "import"], OutputArguments::After(ACR)),
    (&["az"], &["acr", "task", "create"], OutputArguments::After(ACR)),
    (&["az"], &["acr", "repository", "delete"], OutputArguments::All),
    (&["az"], &["acr", "repository", "untag"], OutputArguments::All),
    (&["az"], &["acr", "manifest", "delete"], OutputArguments::All),
    (CRANE, &["append"], OutputArguments::After(&["-t", "--new_tag"])),
    (CRANE, &["copy"], OutputArguments::AfterFirst),
    (CRANE, &["cp"], OutputArguments::AfterFirst),
    (CRANE, &["delete"], OutputArguments::All),
    (CRANE, &["mutate"], OutputArguments::After(&["-t", "--tag"])),
    (CRANE, &["push"], OutputArguments::All),
    (&["skopeo"], &["copy"], OutputArguments::AfterFirst),
    (&["skopeo"], &["delete"], OutputArguments::All),
    (&["skopeo"], &["sync"], OutputArguments::AfterFirst),
    (&["oras"], &["attach"], OutputArguments::All),
    (&["oras"], &["copy"], OutputArguments::AfterFirst),
    (&["oras"], &["cp"], OutputArguments::AfterFirst),
    (&["oras"], &["push"], OutputArguments::All),
    (&["regctl"], &["image", "copy"], OutputArguments::AfterFirst),
    (&["regctl"], &["image", "import"], OutputArguments::All),
    (&["regctl"], &["tag", "delete"], OutputArguments::All),
    (&["helm"], &["push"], OutputArguments::All),
    (&["helm"], &["chart", "push"], OutputArguments::All),
    (&["cosign"], &["attest"], OutputArguments::All),
    (&["cosign"], &["sign"], OutputArguments::All),
    (&["notation"], &["sign"], OutputArguments::All),
];

/// Commands that run or pull an image, so that the tool itself adds `latest` if no tag is written.
const RUNS: &[Command] = &[
    (ENGINES, &["run"], OutputArguments::All),
    (ENGINES, &["pull"], OutputArguments::All),
    (ENGINES, &["create"], OutputArguments::All),
    (ENGINES, &["container", "run"], OutputArguments::All),
    (ENGINES, &["container", "create"], OutputArguments::All),
    (ENGINES, &["image", "pull"], OutputArguments::All),
];

/// Options that name an output, whatever the tool.
const OUTPUT_OPTIONS: &[&str] = &["--destination", "--cache-to", "--cache-from"];

/// Text right before the name of an output, in lower case.
const OUTPUT_PREFIXES: &[&str] = &[
    "docker.build(",
    "docker_build(",
    "custom_build(",
    "jib.to.image=",
    "jib.to.image = ",
    "to.image=",
    "to.image = ",
    "to.image: ",
    "to { image = ",
    "build-image.imagename=",
    "--imagename=",
    "ko_docker_repo=",
    "ko_docker_repo = ",
    "ko_docker_repo: ",
    "type=image,name=",
    "type=registry,ref=",
    // Output of pushes.
    "push refers to repository [",
    "push refers to a repository [",
];

/// Ends of the line that opens a block describing an output.
const OUTPUT_BLOCKS: &[&str] = &["to {", "to{", "<to>", "bootBuildImage {", "bootBuildImage\") {"];

/// Words in the names of actions, images and jobs that build and push.
const BUILDERS: &[&str] = &[
    "bake-action",
    "build-and-push",
    "build-push",
    "buildah-build",
    "docker-build",
    "docker-push",
    "docker/publish",
    "kaniko",
    "metadata-action",
    "plugins/acr",
    "plugins/docker",
    "publish-docker",
    "push-to-registry",
];

/// Tasks of Azure Pipelines that build and push.
const TASKS: &[&str] = &["Docker@", "DockerCompose@"];

/// Keys of a builder's inputs, which are not outputs.
const BUILD_INPUTS: &[&str] = &["build-args", "build-contexts", "build_args", "args", "arguments"];

/// Returns true if a command outputs the image whose reference follows it. `before` is its line up to there.
pub(super) fn in_command(before: &str) -> bool {
    let before = command_of(before);
    let lower = before.to_ascii_lowercase();
    if OUTPUT_PREFIXES.iter().any(|known| lower.ends_with(known)) {
        return true;
    }
    let tokens = Tokens::of(before);
    OUTPUT_OPTIONS.iter().any(|option| tokens.are_after(option))
        || COMMANDS.iter().any(|command| tokens.is_output_of(*command))
}

/// Returns true if a command runs or pulls the image whose reference follows it.
pub(super) fn is_run(before: &str) -> bool {
    let tokens = Tokens::of(command_of(before));
    let all = |word: &&str| matches!(*word, "-a" | "--all-tags");
    !tokens.words.iter().any(all) && RUNS.iter().any(|command| tokens.is_output_of(*command))
}

/// Returns the relevant end of a command, without the quote that a reference may begin with.
fn command_of(before: &str) -> &str {
    let end = end_of(before);
    // A word that is cut in the middle may read as another.
    let from = if end.len() < before.len() { end.find(is_between).unwrap_or(end.len()) } else { 0 };
    end[from..].trim_end_matches(['"', '\'', '`'])
}

/// Returns true if a line opens a block describing an output.
pub(super) fn in_block(line: &str) -> bool {
    let line = line.trim_end();
    OUTPUT_BLOCKS.iter().any(|block| line.ends_with(block))
}

/// Returns true if a value in a document describes an output. `frames` lead to it, and `name` is the document's.
pub(super) fn in_mapping(frames: &[Frame<'_>], name: &str) -> bool {
    let key = |up: usize| frames.iter().rev().nth(up).map_or("", |frame| frame.key);
    if frames.iter().any(|frame| BUILD_INPUTS.contains(&frame.key)) {
        return false;
    }
    let is_bake = name.rsplit('/').next().is_some_and(|file| file.starts_with("docker-bake"));
    is_bake
        // goreleaser, ko and Azure Container Registry's tasks, skaffold.
        || matches!(key(0), "image_templates" | "KO_DOCKER_REPO" | "imageToBuild")
        || (key(0), key(1)) == ("push", "steps")
        || (key(0), key(1), key(2)) == ("image", "artifacts", "build")
        || frames.iter().any(|frame| {
            let builds = |key: &str| text(frame.entries, key).is_some_and(is_builder);
            let task = || text(frame.entries, "task").is_some_and(|task| TASKS.iter().any(|name| task.starts_with(name)));
            match frame.key {
                "with" => builds("uses"),
                "settings" => builds("image"),
                "inputs" => task(),
                key => key.contains('/') && is_builder(key),
            }
        })
}

fn is_builder(name: &str) -> bool {
    BUILDERS.iter().any(|word| name.contains(word))
}

fn text<'n>(entries: &'n [Entry], key: &str) -> Option<&'n str> {
    entries.iter().take(MOST_KEYS).find_map(|(_, name, node)| match &node.value {
        Value::Text(text) if name == key => Some(text.as_str()),
        _ => None,
    })
}

/// The words of a command up to a reference.
struct Tokens<'t> {
    words: Vec<&'t str>,
    /// The positions of tools among them, with their names.
    tools: Vec<(usize, &'t str)>,
    /// The text that the reference is joined to, such as `--tag=`; empty if it is a separate word.
    joined: &'t str,
}

impl<'t> Tokens<'t> {
    fn of(before: &'t str) -> Self {
        let start = SEPARATORS.iter().filter_map(|mark| before.rfind(*mark).map(|at| at + mark.len())).max();
        let command = &before[start.unwrap_or(0)..];
        let mut words: Vec<&str> = command.split(is_between).map(|word| word.trim_matches(',')).collect();
        // The rest after the last space, or empty.
        let joined = words.pop().unwrap_or_default();
        words.retain(|word| !word.is_empty() && !matches!(*word, "\\" | "^" | "-"));
        let tools = words.iter().enumerate().filter_map(|(at, &word)| Some((at, tool(word)?))).collect();
        Self { words, tools, joined }
    }

    fn are_after(&self, option: &str) -> bool {
        let joined = self.joined.split_once('=').map_or(self.joined, |(name, _)| name);
        joined == option || self.joined.is_empty() && self.words.last().is_some_and(|last| *last == option)
    }

    fn is_output_of(&self, (tools, subcommands, made): Command) -> bool {
        self.tools.iter().filter(|(_, name)| tools.contains(name)).any(|&(at, _)| {
            let arguments = self.words[at + 1..].iter().copied().filter(|word| !word.starts_with('-'));
            let arguments: Vec<&str> = arguments.take(MOST_ARGUMENTS).collect();
            // Options of the tool itself may have values.
            let Some(skipped) =
                (0..3).find(|&skip| arguments.get(skip..).is_some_and(|rest| rest.starts_with(subcommands)))
            else {
                return false;
            };
            match made {
                OutputArguments::All => true,
                OutputArguments::After(options) => options.iter().any(|option| self.are_after(option)),
                OutputArguments::NotAfter(options) => !options.iter().any(|option| self.are_after(option)),
                OutputArguments::AfterFirst => arguments.len() > skipped + subcommands.len(),
            }
        })
    }
}

/// Returns the name of the tool that a word runs; `None` for any other word.
fn tool(word: &str) -> Option<&str> {
    let name = word.rsplit('/').next().unwrap_or(word);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    TOOLS.iter().any(|tools| tools.contains(&name)).then_some(name)
}

/// Separators of commands.
const SEPARATORS: [&str; 5] = ["&&", "||", ";", "| ", "$("];

/// Returns true for white space, and the characters of lists in which a command may be written.
fn is_between(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '[' | '(' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_of_all_commands_are_known() {
        for (tools, subcommands, _) in COMMANDS.iter().chain(RUNS) {
            assert!(tools.iter().all(|name| tool(name) == Some(*name)), "{tools:?}");
            assert!(subcommands.len() + 3 < MOST_ARGUMENTS, "{subcommands:?}");
        }
    }

    #[test]
    fn the_end_of_a_long_command_counts() {
        let words = "word ".repeat(2000);
        for (before, expected) in [
            (format!("{words}&& docker push "), true),
            (format!("{words}; docker build {} -t ", "a ".repeat(500)), true),
            (format!("docker push {words}"), false),
            // A cut word is unknown and must not be taken for a tool.
            (format!("{}docker push {}", "x".repeat(4096), "y".repeat(4096 - "docker push  ".len()) + " "), false),
        ] {
            assert_eq!(in_command(&before), expected, "{} bytes", before.len());
        }
    }

    #[test]
    fn commands_that_make_images_are_known() {
        for (before, expected) in [
            ("docker build -t ", true),
            ("  - run: docker build --tag=", true),
            ("docker build -t \"", true),
            ("docker build \\\n  --pull \\\n  -t ", true),
            ("docker build . -t a:b -t ", true),
            ("docker build -t", true),
            ("docker --context ci build -t ", true),
            ("docker buildx build --push --tag ", true),
            ("docker buildx build --output type=image,name=", true),
            ("docker buildx build --cache-to type=registry,ref=", true),
            ("[\"docker\", \"build\", \"-t\", \"", true),
            ("[\"docker\",\"build\",\"-t\",\"", true),
            ("docker build --build-arg BASE=", false),
            ("docker build --file ", false),
            ("/usr/bin/docker push ", true),
            ("docker.exe push ", true),
            ("docker push x && docker run ", false),
            ("docker run -t ", false),
            ("docker pull ", false),
            ("docker tag a:b ", true),
            ("podman push ", true),
            ("buildah bud -t ", true),
            ("az acr build -r contoso -t ", true),
            ("az acr build --image ", true),
            ("az acr import --source ", false),
            ("az containerapp update --image ", false),
            ("/kaniko/executor --context . --destination ", true),
            ("--destination=", true),
            ("    --destination \"", true),
            ("crane append -f x.tar -t ", true),
            ("crane copy ", false),
            ("crane copy a/b:c ", true),
            ("skopeo copy docker-archive:x docker://", true),
            ("skopeo copy docker://", false),
            ("helm push api.tgz oci://", true),
            ("helm upgrade api oci://", false),
            ("pack build ", true),
            ("pack build x --builder ", false),
            ("def image = docker.build(\"", true),
            ("The push refers to repository [", true),
            ("KO_DOCKER_REPO=", true),
            ("./mvnw -Djib.to.image=", true),
            ("kubectl set image deployment/api api=", false),
            ("image: ", false),
            ("", false),
        ] {
            assert_eq!(in_command(before), expected, "{before}");
        }
    }
}
