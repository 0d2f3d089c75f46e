//! Examples and exit codes in the help of each command.

use clap::Command;

/// The commands, each with its examples: a command line, and what it does.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    ("demo", &[("tagwarden demo --serve", "run the demo, and keep its registry to try commands on")]),
    (
        "init",
        &[
            ("tagwarden init contoso.azurecr.io", "write the first files, and plan"),
            ("tagwarden init 127.0.0.1:5000 --auth anonymous --folder try", "the same into another folder"),
        ],
    ),
    (
        "import",
        &[
            ("tagwarden import acr-purge purge.sh", "print the policies for a purge task"),
            (
                "tagwarden import ecr rules.json --scope shop/api --out policies/ecr.yaml",
                "write those for a repository",
            ),
        ],
    ),
    (
        "check",
        &[
            ("tagwarden check", "validate ./tagwarden.toml and its policies"),
            ("tagwarden check --strict --format json", "the same for a pipeline"),
            ("tagwarden check --skip-secrets", "validate where the secrets are not, such as in CI"),
            ("tagwarden check --online", "also ask each registry what it is"),
            ("tagwarden check policies/shop.yaml", "validate a policy file alone, without settings"),
            ("tagwarden check --format github", "annotate a pull request"),
        ],
    ),
    (
        "plan",
        &[
            ("tagwarden plan", "decide about every tag and print the report"),
            ("tagwarden plan --out plan.json --out plan.md", "write a plan to approve, and its report"),
            ("tagwarden plan --at +14d", "show what would be removed in two weeks"),
            ("tagwarden plan --registry contoso --repository shop/**", "show the part of some repositories"),
        ],
    ),
    (
        "apply",
        &[
            ("tagwarden apply plan.json --ticket CHG-1024", "remove what an approved plan lists"),
            ("tagwarden apply -", "read the plan from standard input"),
        ],
    ),
    (
        "run",
        &[
            ("tagwarden run", "decide and remove what is enforced"),
            ("tagwarden run --dry-run", "only report what that would do now"),
            ("tagwarden run --policy candidates", "remove only what one policy expires"),
        ],
    ),
    ("serve", &[("tagwarden serve --config /etc/tagwarden/tagwarden.toml", "run the daemon")]),
    ("schedule", &[("tagwarden schedule --count 3", "list the next three runs")]),
    (
        "explain",
        &[
            ("tagwarden explain contoso/shop/api:v1", "why this tag stays or is removed"),
            ("tagwarden explain contoso/shop/api", "all tags of a repository on a timeline"),
            ("tagwarden explain contoso/shop/api:v1 --at +30d", "the same in a month"),
            ("tagwarden explain contoso/shop/api:v1 --run last", "what the last run decided"),
            ("tagwarden explain contoso/shop/api:v1 --history", "all that happened to the tag, and who did it"),
        ],
    ),
    (
        "sources",
        &[
            ("tagwarden sources", "the state of each source, and what it protects"),
            ("tagwarden sources show releases", "the claims of one source, with their places"),
        ],
    ),
    (
        "registries",
        &[
            ("tagwarden registries", "what each registry is, can do and allows"),
            ("tagwarden registries probe contoso", "ask whether tags can be deleted"),
        ],
    ),
    (
        "runs",
        &[
            ("tagwarden runs", "list past runs"),
            ("tagwarden runs show last", "everything that the last run did"),
            ("tagwarden runs show last --policies", "the policies under which it decided"),
            ("tagwarden runs journal --since 30d --format csv", "everything removed or restored in 30 days"),
        ],
    ),
    (
        "restore",
        &[
            ("tagwarden restore --run last --dry-run", "show what would come back"),
            ("tagwarden restore --run last", "put back what the last run removed"),
            ("tagwarden restore --repository contoso/shop/api --since 1h", "undo the last hour in one repository"),
        ],
    ),
    (
        "hold",
        &[
            ("tagwarden hold contoso/shop/api:v1 --reason audit", "protect a tag for two weeks"),
            ("tagwarden hold contoso/shop/api:v1 --until +3d --reason incident", "protect it for three days"),
        ],
    ),
    (
        "holds",
        &[
            ("tagwarden holds --format json", "list the holds for a script"),
            ("tagwarden holds --all", "list those that ended, too, with who ended them"),
        ],
    ),
    ("unhold", &[("tagwarden unhold contoso/shop/api:v1", "end the holds on a tag")]),
    (
        "diff",
        &[
            ("tagwarden diff --against origin/main", "compare with a git revision on the real inventory"),
            ("tagwarden diff --against old.yaml --inventory inventory.json --exit-code", "the same offline, for CI"),
        ],
    ),
    ("inventory", &[("tagwarden inventory --out inventory.json", "record what registries and sources say")]),
    (
        "test",
        &[
            ("tagwarden test policies/", "run the tests beside the policies"),
            ("tagwarden test --format junit", "print a test report"),
        ],
    ),
    ("notify", &[("tagwarden notify test ops", "send a test message to [notify.ops]")]),
    ("health", &[("tagwarden health --ready", "check whether the daemon runs by its schedule")]),
    ("state", &[("tagwarden state backup tagwarden-backup.db", "copy the state beside a running daemon")]),
    ("schema", &[("tagwarden schema", "print the JSON schema of policy files")]),
    ("completions", &[("tagwarden completions bash", "print the completion script of bash")]),
    (
        "man",
        &[
            ("tagwarden man plan", "print the manual page of a command"),
            ("tagwarden man --out man/", "write all manual pages"),
        ],
    ),
];

const EXIT_CODES: &str = "Exit codes: 0 done, 1 unexpected failure, 2 usage, settings or policy error, 3 refused, \
    4 some removals failed, 5 evidence missing";

const ENVIRONMENT: &str = "Environment: TAGWARDEN_CONFIG names the settings file, TAGWARDEN__KEY overrides a setting, \
    TAGWARDEN_LOG sets the log filter, TAGWARDEN_LOG_FORMAT=json logs objects, NO_COLOR and CLICOLOR_FORCE choose colors";

/// The definition with examples and exit codes below the help of each command.
pub(super) fn add_to(root: Command) -> Command {
    let first = examples(&[
        ("tagwarden demo", "see the whole job on a sample"),
        ("tagwarden init contoso.azurecr.io", "write the first files for a registry, and plan"),
        ("tagwarden plan", "see what would be removed, and why"),
    ]);
    let mut root = root.after_help(format!("{first}\n\n{EXIT_CODES}.\n\n{ENVIRONMENT}."));
    for (name, lines) in EXAMPLES {
        if root.find_subcommand(name).is_some() {
            root = root
                .mut_subcommand(name, |command| command.after_help(format!("{}\n\n{EXIT_CODES}.", examples(lines))));
        }
    }
    root
}

fn examples(lines: &[(&str, &str)]) -> String {
    let heading = if lines.len() == 1 { "Example:" } else { "Examples:" };
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    // Side by side only as long as that fits.
    let blocks = lines.iter().map(|(command, meaning)| {
        if width + meaning.len() > 88 {
            format!("\n  {command}\n      {meaning}")
        } else {
            format!("\n  {command:<width$}  {meaning}")
        }
    });
    blocks.fold(heading.to_owned(), |text, block| text + &block)
}
