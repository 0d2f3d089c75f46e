//! Rules that are easily read as something else than their tool reads: what they remove of a few tags, and what the file says.

use tagwarden::policy_import::{ImportOptions, Tool, import};

use super::world::{World, WorldTag, removed};

/// One file, the tags of a repository (`name@days`, 400 days old where nothing else is said), those that the policies
/// remove, and a part of what the file says.
type Row = (&'static str, &'static str, &'static str, &'static str);

fn check(tool: Tool, scope: &str, repository: &str, rows: &[Row]) {
    let mut faults = Vec::new();
    for (text, tags, expected, says) in rows {
        let scopes = if scope.is_empty() { Vec::new() } else { vec![scope.to_owned()] };
        let done = import(tool, text, &ImportOptions { file: "rules".to_owned(), scopes }).unwrap();
        let policies = tagwarden::policy::parse("imported.yaml", &done.yaml).unwrap();
        let tag = |(at, text): (usize, &str)| {
            let (name, days) = text.split_once('@').unwrap_or((text, "400"));
            let age = days.parse::<i64>().unwrap() * 86_400;
            WorldTag { name: name.to_owned(), image: u8::try_from(at).unwrap(), age, locked: false }
        };
        let tags = tags.split_whitespace().enumerate().map(tag).collect();
        let world = World { repository: repository.to_owned(), tags, untagged: Vec::new() };
        let gone: Vec<String> = removed(policies, &world).into_iter().collect();
        if gone.join(" ") != *expected || !done.yaml.contains(says) {
            faults.push(format!(
                "{text}\nremoves: {}\nexpected: {expected}\nsays: {says}\n{}",
                gone.join(" "),
                done.yaml
            ));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), rows.len(), faults.join("\n---\n"));
}

/// A flag behind the end of a line may belong to the command: `--keep` must not be lost.
#[test]
fn flags_behind_the_end_of_a_purge_are_not_lost() {
    let rows: [Row; 15] = [
        ("acr purge --filter 'app:.*' --ago 7d\n  --keep 3", "a b c d", "", "before `--keep`"),
        ("acr purge --filter 'app:.*' --ago 7d\n\n  # three\n  '--min-tags=3'", "a b c d", "", "before `--min-tags`"),
        ("acr purge --filter 'app:.*' --ago 7d # old\r\n  --dry-run\r\n", "a b", "", "before `--dry-run`"),
        (
            "PURGE=\"acr purge --filter 'app:.*' --ago 7d\n   --keep 3\"\naz acr task create --cmd \"$PURGE\" -n x",
            "a b c d",
            "",
            "before `--keep`",
        ),
        (
            "steps:\n  - cmd: >-\n      acr purge --filter 'app:.*' --ago 7d\n        --keep 3\n",
            "a b c d",
            "",
            "before `--keep`",
        ),
        (
            "steps:\n  - cmd: |\n      acr purge --filter 'app:.*' --ago 7d\n      --keep 3\n",
            "a b c d",
            "",
            "before `--keep`",
        ),
        (
            "---\nsteps: []\n---\nsteps:\n  - cmd: acr purge --ago 7d --filter 'app:.*'\n      --keep 3\n",
            "a@400 b@300 c@200 d@100",
            "",
            "`--keep 3` spares the newest",
        ),
        (
            "var t = '''\nsteps:\n  - cmd: acr purge --ago 3d --filter 'app:^pr-.*|^dev.*' --keep 3\n'''\n",
            "pr-1 dev-1",
            "",
            "before `--keep`",
        ),
        ("acr purge --filter 'app:.*' --ago 7d -p secret\n -phunter2", "a", "", "before `-p`"),
        // Clear ones are translated as before.
        (
            "steps:\n  - cmd: >-\n      acr purge --filter 'app:^dev'\n      --ago 7d\n",
            "a dev-1",
            "dev-1",
            "within: 7d",
        ),
        ("acr purge --filter 'app:^dev' \\\r\n  --ago 7d\\\n --untagged", "a dev-1", "dev-1", "acr-purge-1-untagged"),
        ("acr purge --filter 'app:^dev' --ago 7d | tee log.txt", "a dev-1", "dev-1", "within: 7d"),
        ("acr -r contoso purge --filter 'app:^dev' --ago 7d", "a dev-1", "dev-1", "within: 7d"),
        ("acr purge --filter 'app:^dev' --ago 0", "a dev-1", "dev-1", "within: 1s"),
        (
            "steps:\n  - cmd: acr purge --filter 'app:^dev' --ago 7d\n  - cmd: acr purge --filter 'app:^pr' --ago 7d\n",
            "a dev-1 pr-1",
            "dev-1 pr-1",
            "within: 7d",
        ),
    ];
    check(Tool::AcrPurge, "", "app", &rows);
}

/// A flag that spares tags may be added to a command somewhere else.
#[test]
fn flags_that_a_script_adds_are_not_lost() {
    let rows: [Row; 12] = [
        (
            "CMD=\"acr purge --filter 'app:.*' --ago 7d\"\naz acr run --cmd \"$CMD --keep 3\" /dev/null\n",
            "a b c d",
            "",
            "`--keep` stands somewhere else",
        ),
        (
            "CMD=\"acr purge --filter 'app:.*' --ago 7d\"\nCMD+=\" --keep 3\"\naz acr run --cmd \"$CMD\" /dev/null\n",
            "a b c d",
            "",
            "`--keep` stands somewhere else",
        ),
        (
            "CMD=\"acr purge --filter 'app:.*' --ago 7d\"\nif [ -n \"$MIN\" ]; then CMD=\"$CMD --min-tags $MIN\"; fi\n",
            "a b c d",
            "",
            "`--min-tags` stands somewhere else",
        ),
        (
            "$cmd = \"acr purge --filter 'app:.*' --ago 7d\"\n$cmd += \" --keep 3\"\n",
            "a b c d",
            "",
            "`--keep` stands somewhere else",
        ),
        (
            "CMD=\"acr purge --filter 'app:.*' --ago 7d\"\naz acr run --cmd \"$CMD --dry-run\" /dev/null\n",
            "a b",
            "",
            "`--dry-run` stands somewhere else",
        ),
        (
            "variables:\n  purge: acr purge --filter 'app:.*' --ago 7d\nsteps:\n  - script: az acr run --cmd \"$(purge) --keep 3\"\n",
            "a b c d",
            "",
            "`--keep` stands somewhere else",
        ),
        (
            "args:\n  - acr purge --filter 'app:.*' --ago 7d\n  - --keep=3\n",
            "a b c d",
            "",
            "`--keep` stands somewhere else",
        ),
        (
            "alias p='acr purge --ago 7d --filter \"app:.*\"'\np --keep 3\n",
            "a b c d",
            "",
            "`--keep` stands somewhere else",
        ),
        // Each of these belongs to a command of its own.
        ("acr purge --filter 'app:.*' --ago 7d --min-tags 2", "a@400 b@300 c@200", "a", "newest: 2"),
        (
            "steps:\n  - cmd: acr purge --filter 'app:^dev' --ago 7d --min-tags 1\n  - cmd: acr purge --filter 'app:^pr' --ago 7d\n",
            "dev-1@400 dev-2@300 pr-1",
            "dev-1 pr-1",
            "newest: 1",
        ),
        ("kubectl apply --dry-run=client -f x\nacr purge --filter 'app:.*' --ago 7d", "a", "a", "within: 7d"),
        ("acr purge --filter 'app:.*' --ago 7d # not yet: --keep 3", "a", "a", "within: 7d"),
    ];
    check(Tool::AcrPurge, "", "app", &rows);
}

/// Nothing shows that a printed command, or one in a comment, is run.
#[test]
fn a_purge_that_is_only_printed_removes_nothing() {
    let rows: [Row; 13] = [
        ("// acr purge --filter 'app:.*' --ago 7d", "a", "", "`//` stands before the command"),
        ("rem acr purge --filter \"app:.*\" --ago 7d", "a", "", "`REM` stands before the command"),
        // The tool refuses one of the filters, and removes nothing.
        ("acr purge --filter 'app:.*' --filter 'web' --ago 7d", "a", "", "of the whole command: the filter `web`"),
        ("acr purge --filter 'app:.*' --filter 'x:a:b' --ago 7d", "a", "", "of the whole command: the filter `x:a:b`"),
        // It may be right once the variable is known.
        ("acr purge --filter 'app:.*' --filter '$X:.*' --ago 7d", "a", "a", "has a variable"),
        ("echo acr purge --filter 'app:.*' --ago 7d", "a", "", "`echo` stands before the command"),
        ("echo \"would run: acr purge --filter 'app:.*' --ago 7d\"", "a", "", "`echo` stands before the command"),
        ("printf '%s\\n' \"acr purge --filter 'app:.*' --ago 7d\"", "a", "", "`printf` stands before the command"),
        ("Write-Host \"acr purge --filter 'app:.*' --ago 7d\"", "a", "", "`Write-Host` stands before the command"),
        (
            "steps:\n  - cmd: bash -c \"echo acr purge --filter 'app:.*' --ago 7d\"\n",
            "a",
            "",
            "`echo` stands before the command",
        ),
        ("echo begin; acr purge --filter 'app:.*' --ago 7d", "a", "a", "within: 7d"),
        ("echo begin && sudo acr purge --filter 'app:.*' --ago 7d", "a", "a", "within: 7d"),
        (
            "steps: []\n---\nversion: v1.1.0\nsteps:\n  - cmd: acr purge --filter 'app:.*' --ago 7d\n",
            "a",
            "a",
            "within: 7d",
        ),
    ];
    check(Tool::AcrPurge, "", "app", &rows);
}

/// The values of placeholders are unknown at import, in any kind of quotes.
#[test]
fn variables_of_any_kind_leave_a_filter_out() {
    let rows: [Row; 15] = [
        ("acr purge --ago 1d --filter 'app:^(?!$1|latest).*'", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter 'app:^v{0}'", "v1 v2 dev", "", "has a variable"),
        ("acr purge --ago 1d --filter 'app:^(?!$[[ inputs.keep ]]|x).*'", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter \"app:^(?!$@|latest).*\"", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter 'app:^(?!$*).*'", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter \"app:^(?!%KEEP%|latest).*\"", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter 'app:^(?!{{ .Values.keep }}|latest).*'", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter \"app:^(?!`cat keep`|latest).*\"", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter 'app:^(?!#{keep}#|latest).*'", "prod dev", "", "has a variable"),
        ("acr purge --ago 1d --filter '${APP}:.*'", "prod dev", "", "has a variable"),
        (
            "C=\"acr purge --filter 'app:^(?!$KEEP|latest).*' --ago 7d\"\naz acr task create --cmd \"$C\" -n x",
            "prod dev",
            "",
            "has a variable",
        ),
        ("steps:\n  - cmd: acr purge --filter 'app:^((?!$keep|x).)*$' --ago 7d\n", "prod dev", "", "has a variable"),
        // A shell drops this backslash, unless the quotes around it were another's.
        ("az acr run --cmd \"acr purge --filter app:^v\\d --ago 1d\"", "v1 vd", "", "a backslash outside quotes"),
        (
            "- cmd: 'acr purge --filter ''app:^v1\\.'' --ago 1d'\n{{ end }}",
            "v1.0 v10",
            "",
            "a backslash outside quotes",
        ),
        // The end of an expression is none.
        ("acr purge --ago 1d --filter 'app:^x$|(^y$)'", "x y z", "x y", "within: 1d"),
    ];
    check(Tool::AcrPurge, "", "app", &rows);
}

/// Classes end where the tool ends them, and flags reach as far.
#[test]
fn classes_and_flags_of_expressions_mean_the_same() {
    let rows: [Row; 13] = [
        ("acr purge --ago 1d --filter 'app:^[[:alpha:]|_]+$'", "abc a.b x_y 1.2", "abc x_y", "within"),
        ("acr purge --ago 1d --filter 'app:[[:upper:]|_]'", "1.2 a.b A x_y", "A x_y", "within"),
        ("acr purge --ago 1d --filter 'app:^(pr|[[:digit:]|v])-'", "pr-1 v-1 1-1 x-1 a.-1", "1-1 pr-1 v-1", "within"),
        ("acr purge --ago 1d --filter 'app:^(?![[:upper:]|x]).*'", "A a x b.c", "a b.c", "keep: all"),
        ("acr purge --ago 1d --filter 'app:^v[[:^alpha:]|.]+$'", "v1.2 vx v1x", "v1.2", "within"),
        ("acr purge --ago 1d --filter 'app:^[]a]+$'", "a b", "", "is not read the same way"),
        ("acr purge --ago 1d --filter 'app:^[a[bc]]+$'", "a b c", "", "is not read the same way"),
        ("acr purge --ago 1d --filter 'app:^[a-c&&b]+$'", "a b c", "", "is not read the same way"),
        ("acr purge --ago 1d --filter 'app:^[[:vowel:]]+$'", "a b e", "", "is not read the same way"),
        ("acr purge --ago 1d --filter 'app:^[\\Qa]+$'", "a b", "", "is not read the same way"),
        ("acr purge --ago 1d --filter 'app:^(?!a|(?i)b|a).*'", "A a B b x", "x", "keep: all"),
        ("acr purge --ago 1d --filter 'app:^a$|(?i)^b$|^a$'", "A a B b x", "A B a b", "within"),
        // No tag begins with a dash, so nothing is left out.
        ("acr purge --ago 1d --filter 'app:^(?!-rc).*'", "a b", "a b", "within"),
    ];
    check(Tool::AcrPurge, "", "app", &rows);
    let gitlab: [Row; 3] = [
        (r#"{"name_regex": ".*", "name_regex_keep": "[^[:alpha:]|_]+", "older_than": "7d"}"#, "1.0 a", "a", "stays"),
        (
            r#"{"name_regex": ".*", "name_regex_keep": "x|a|(?i)dev|a|y", "older_than": "7d"}"#,
            "A Dev a z",
            "z",
            "stays",
        ),
        (r#"{"name_regex": ".*", "name_regex_keep": "[a[b]", "older_than": "7d"}"#, "a x", "", "may keep anything"),
    ];
    check(Tool::Gitlab, "app", "app", &gitlab);
    let without = r#"[{"path_with_namespace": "web", "container_expiration_policy": null},
        {"path_with_namespace": "app", "container_expiration_policy": {"name_regex": "a", "older_than": "7d"}}]"#;
    check(Tool::Gitlab, "", "app", &[(without, "a b", "a", "web has no cleanup policy")]);
    let zot: [Row; 3] = [
        (
            r#"{"policies": [{"repositories": ["**"], "keepTags": [{"patterns": ["^v"], "alsoKeep": ["a"]}]}]}"#,
            "v1 a b",
            "",
            "may match these tags",
        ),
        (
            r#"{"policies": [{"repositories": ["**"], "keepTags": [{"patterns": ["^[[:upper:]|v]$", "^[[:digit:].]+[[:upper:]|v]$"]},
                {"patterns": ["^1"], "mostRecentlyPushedCount": 1}]}]}"#,
            "A v 1.2v 1.1@3 1.0@4",
            "1.0",
            "zot-1-tags-1",
        ),
        (
            r#"{"storage": {"gc": false, "retention": {"policies": [{"repositories": ["**"],
                "keepTags": [{"patterns": ["^v"], "mostRecentlyPushedCount": 1}]}]}}}"#,
            "v2@1 v1@2",
            "v1",
            "the original removes nothing: `gc` is `false`",
        ),
    ];
    check(Tool::Zot, "", "app", &zot);
}

/// A count is of what the other commands have left.
#[test]
fn counts_of_a_purge_do_not_count_what_another_one_removes() {
    let tags = "dev-1@2 dev-2@3 dev-3@4 v3@40 v2@50 v1@60";
    let rows: [Row; 5] = [
        (
            "acr purge --filter 'app:^dev-' --ago 1d\nacr purge --filter 'app:.*' --ago 7d --min-tags 3",
            tags,
            "dev-1 dev-2 dev-3",
            "of which another command (acr-purge-1) may remove some",
        ),
        (
            "acr purge --filter 'app:.*' --max-tags 3\nacr purge --filter 'a.*:^dev-' --ago 1d --keep 9",
            tags,
            "",
            "of which another command (acr-purge-2) may remove some",
        ),
        (
            "acr purge --filter 'app:^dev-' --ago 1d\nacr purge --filter 'app:^v' --ago 7d --min-tags 1",
            tags,
            "dev-1 dev-2 dev-3 v1 v2",
            "newest: 1",
        ),
        (
            "acr purge --filter 'web:.*' --ago 1d\nacr purge --filter 'app:.*' --ago 7d --min-tags 1",
            tags,
            "v1 v2 v3",
            "newest: 1",
        ),
        ("acr purge --filter 'app:^dev-' --filter 'app:^v' --ago 1d --min-tags 2", tags, "dev-3 v1", "newest: 2"),
    ];
    check(Tool::AcrPurge, "", "app", &rows);
    let disabled = r#"{"status": "Disabled", "step": {"cmd": "acr purge --filter 'app:.*' --ago 7d"}}"#;
    check(Tool::AcrPurge, "", "app", &[(disabled, "a", "a", "the original is switched off")]);
}

/// One retention rule of Harbor on all repositories.
fn harbor(template: &str, number: &str, decoration: &str, pattern: &str, repositories: &str) -> &'static str {
    let params = if number.is_empty() { String::new() } else { format!(r#""{template}": {number}"#) };
    let text = format!(
        r#"{{"algorithm": "or", "rules": [{{"action": "retain", "template": "{template}", "params": {{{params}}},
            "tag_selectors": [{{"kind": "doublestar", "decoration": "{decoration}", "pattern": "{pattern}"}}],
            "scope_selectors": {{"repository": [{{"kind": "doublestar", "decoration": "repoMatches",
                "pattern": "{repositories}"}}]}}}}]}}"#
    );
    Box::leak(text.into_boxed_str())
}

#[test]
fn harbor_keeps_by_its_own_reading_of_rules() {
    let tags = "a@1 b@5 c@9 d@12 e@20 f@25 g@26 h@27 i@28 j@31 k@41 l@42";
    let versions = "v v1 v2-rc release-1 dev";
    let rows = [
        // A job with a rule that Harbor does not know fails.
        (harbor("nothing", "", "matches", "**", "**"), tags, "", "`nothing` is not known to Harbor"),
        (harbor("latestScannedK", "1", "matches", "a*", "**"), tags, "", "`latestScannedK` is not known to Harbor"),
        (harbor("latestPushedK", "", "matches", "a*", "**"), tags, "", "lacks the number of `latestPushedK`"),
        // A number in a text is another number.
        (harbor("latestPushedK", "\"2\"", "matches", "**", "**"), tags, "k l", "Harbor uses 10"),
        (harbor("latestPushedK", "\"11\"", "matches", "**", "**"), tags, "l", "Harbor uses 10"),
        (harbor("lastXDays", "\"3\"", "matches", "**", "**"), tags, "d e f g h i j k l", "Harbor uses 10"),
        (harbor("nDaysSinceLastPush", "\"7\"", "matches", "**", "**"), tags, "j k l", "Harbor uses 30"),
        (harbor("latestPushedK", "2", "matches", "**", "**"), tags, "c d e f g h i j k l", "newest: 2"),
        // Globs that doublestar reads in its own way.
        (harbor("always", "", "excludes", "release-*{,-hotfix}", "**"), versions, "", "cannot be said"),
        (harbor("always", "", "excludes", "{v*,*/x}", "**"), versions, "", "cannot be said"),
        (harbor("always", "", "excludes", "v***", "**"), versions, "", "cannot be said"),
        (harbor("always", "", "excludes", "v{*,-x}", "**"), versions, "", "cannot be said"),
        (harbor("always", "", "matches", "v*", "ap*{,-dev}"), versions, "", "cannot be said"),
        (harbor("always", "", "excludes", "{v*,dev}", "**"), versions, "dev v v1 v2-rc", "keep: all"),
    ];
    check(Tool::Harbor, "shop", "shop/app", &rows);
}

/// Keys that the product refuses where they stand may not be passed over.
#[test]
fn keys_in_the_wrong_place_leave_a_rule_out() {
    let ecr: [Row; 2] = [
        (
            r#"{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "tagPrefixList": ["dev"],
                "countType": "imageCountMoreThan", "countNumber": 1}, "action": {"type": "expire"}}]}"#,
            "dev-1@1 v1@2 v2@3",
            "",
            "lists of tags go with `tagStatus: tagged` alone",
        ),
        (
            r#"{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "tagPatternList": ["dev*"],
                "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1}, "action": {"type": "expire"}}]}"#,
            "dev-1@1 v1@2 v2@3",
            "",
            "lists of tags go with `tagStatus: tagged` alone",
        ),
    ];
    check(Tool::Ecr, "app", "app", &ecr);
    let registry: [Row; 4] = [
        (
            r#"[{"action": {"type": "Delete"}, "condition": {"tagState": "any"}, "mostRecentVersions": {"keepCount": 2}}]"#,
            "a b c",
            "",
            "`mostRecentVersions` is for `Keep` alone",
        ),
        (
            r#"[{"action": {"type": "Delete"}, "condition": {"tagState": "any"}}, {"name": "k", "action": {"type": "Keep"},
                "condition": {"tagState": "tagged", "tagPrefixes": ["a"]}, "mostRecentVersions": {"keepCount": 1}}]"#,
            "a@3 b@2 c@1",
            "",
            "of which one is allowed",
        ),
        (
            r#"[{"action": {"type": "Delete"}, "condition": {"tagState": "untagged", "tagPrefixes": ["a"]}}]"#,
            "a b c",
            "",
            "`tagPrefixes` go with `tagState: tagged` alone",
        ),
        (
            r#"[{"action": {"type": "Delete"}, "condition": {"tagPrefixes": ["a"]}}, {"action": {"type": "Keep"},
                "mostRecentVersions": {"keepCount": 1}}]"#,
            "a1@1 a2@2 c",
            "a2",
            "an image that got a tag later ranks by that tag",
        ),
    ];
    check(Tool::ArtifactRegistry, "p/r", "p/r/app", &registry);
}
