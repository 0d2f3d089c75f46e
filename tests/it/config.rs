//! Settings: what is read from file and environment, and how each fault is told.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use tagwarden::config::{self, ConfigError, Mode, Settings};
use tagwarden::domain::{Cron, chain};
use tagwarden::policy::{self, render};
use tagwarden::registry::Auth;
use tagwarden::sources::{Access, Helm, KubernetesSettings, Preset, SourceKind};
use tagwarden::state::StateLocation;

const LEAST: &str = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n";

/// A folder with the files that the cases name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("secret", "hunter2\n");
    write("windows-secret", "hunter2\r\n");
    write("empty", "\n");
    write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    write("home/.docker/config.json", "{}");
    write("docker/config.json", "{}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder.path().join("windows-secret"), fs::Permissions::from_mode(0o644)).unwrap();
    }
    folder
}

fn load_in(folder: &Path, text: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let file = folder.join("tagwarden.toml");
    fs::write(&file, text).unwrap();
    config::load(&file, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

pub(crate) fn load(text: &str, environment: &[(&str, &str)]) -> Settings {
    let folder = folder();
    load_in(folder.path(), text, environment).unwrap_or_else(|error| panic!("{}", render(&error.diagnostics, false)))
}

pub(crate) fn revision(text: &str) -> String {
    load(text, &[]).revision
}

/// Every fault with its place, its words and its help; and never a secret.
#[test]
fn faults_are_told() {
    let mut told = String::new();
    for case in include_str!("settings_faults.txt").split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (variables, text): (Vec<&str>, Vec<&str>) = rest.lines().partition(|line| line.starts_with("$ "));
        let variables: Vec<(&str, &str)> = variables.iter().map(|line| line[2..].split_once('=').unwrap()).collect();
        let folder = folder();
        let error = load_in(folder.path(), &text.join("\n"), &variables).expect_err(title);
        let here = folder.path().display().to_string();
        let shown = chain(&error).replace(&format!("{here}/"), "").replace('\n', "\n  ");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!render(&error.diagnostics, false).contains("hunter2"), "{title}");
        assert!(!format!("{error:?}").contains("hunter2"), "{title}");
        let _ = writeln!(told, "{title}\n  {shown}\n");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn little_is_needed() {
    let folder = folder();
    let settings = load_in(folder.path(), LEAST, &[]).unwrap();
    assert_eq!(settings.mode, Mode::DryRun);
    assert_eq!(settings.policies, folder.path().join("policies"));
    assert_eq!(settings.state.path(), Some(&*folder.path().join("tagwarden.db")));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.plan_ttl.as_secs(), 24 * 3600);
    assert_eq!(settings.schedule.cron, None);
    assert_eq!(settings.schedule.timezone.iana_name(), Some("UTC"));
    assert_eq!(settings.limits, tagwarden::domain::Limits::default());
    let [contoso] = settings.registries.as_slice() else { panic!("{settings:?}") };
    assert_eq!((contoso.concurrency, contoso.timeout.as_secs()), (8, 30));
    assert!(matches!(contoso.auth, Auth::Anonymous));
    // Nothing protects what runs: that is allowed, but said.
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].starts_with("no sources"), "{:?}", settings.warnings);
}

#[test]
fn the_example_is_read() {
    let settings = config::load(Path::new("examples/tagwarden.toml"), []).unwrap();
    assert_eq!(settings.schedule.cron.as_ref().map(Cron::as_str), Some("0 3 * * *"));
    assert_eq!(settings.schedule.timezone.iana_name(), Some("Europe/London"));
    assert_eq!(settings.sources.len(), 2);
    assert!(
        matches!(&settings.sources[1].kind, SourceKind::ReleaseRecords(files) if files.base == Path::new("examples"))
    );
    let policies = policy::load(&settings.policies).unwrap();
    assert_eq!(config::cross_check(&settings, &policies), []);
}

#[test]
fn every_way_to_sign_in() {
    let text = |auth: &str| format!("{LEAST}auth = {auth}\n");
    let basic = load(&text(r#"{ kind = "basic", username = "x", password_file = "secret" }"#), &[]);
    let Auth::Basic { username, password } = &basic.registries[0].auth else { panic!("{basic:?}") };
    assert_eq!((username.as_str(), password.expose_secret()), ("x", "hunter2"));
    assert!(!format!("{basic:?}").contains("hunter2"));
    assert!(!basic.warnings.iter().any(|warning| warning.contains("every user")));

    let token = load(&text(r#"{ kind = "token", token_file = "windows-secret" }"#), &[]);
    assert!(matches!(&token.registries[0].auth, Auth::Token(token) if token.expose_secret() == "hunter2"));
    assert!(cfg!(not(unix)) || token.warnings.iter().any(|warning| warning.contains("every user")));

    let variable = [("TAGWARDEN__REGISTRIES__CONTOSO__AUTH__PASSWORD", "hunter2")];
    let basic = load(&text(r#"{ kind = "basic", username = "x" }"#), &variable);
    assert!(matches!(&basic.registries[0].auth, Auth::Basic { password, .. } if password.expose_secret() == "hunter2"));

    let folder = folder();
    let (home, docker) = (folder.path().join("home"), folder.path().join("docker"));
    let docker_config =
        |auth: &str, environment: &[(&str, &str)]| match load_in(folder.path(), &text(auth), environment)
            .unwrap()
            .registries
            .remove(0)
            .auth
        {
            Auth::DockerConfig(files) => files,
            other => panic!("{other:?}"),
        };
    let home = ("HOME", home.to_str().unwrap());
    let auth = r#"{ kind = "docker-config" }"#;
    let at = |names: &[&str]| names.iter().map(|name| folder.path().join(name)).collect::<Vec<_>>();
    assert_eq!(docker_config(auth, &[home]), at(&["home/.docker/config.json"]));
    let both = [home, ("DOCKER_CONFIG", docker.to_str().unwrap())];
    assert_eq!(docker_config(auth, &both), at(&["docker/config.json"]));
    let given = r#"{ kind = "docker-config", path = "docker/config.json" }"#;
    assert_eq!(docker_config(given, &[home]), at(&["docker/config.json"]));

    // Podman's places come first, and those that are not there are passed over.
    for place in ["run/containers/auth.json", "home/.config/containers/auth.json", "own.json"] {
        fs::create_dir_all(folder.path().join(place).parent().unwrap()).unwrap();
        fs::write(folder.path().join(place), "{}").unwrap();
    }
    let (run, own) = (folder.path().join("run"), folder.path().join("own.json"));
    let run = ("XDG_RUNTIME_DIR", run.to_str().unwrap());
    let elsewhere = ("XDG_CONFIG_HOME", "/nowhere");
    let podman = ["run/containers/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json"];
    assert_eq!(docker_config(auth, &[home, run]), at(&podman));
    assert_eq!(docker_config(auth, &[home]), at(&podman[1..]));
    assert_eq!(docker_config(auth, &[home, elsewhere]), at(&podman[2..]));
    let named = ("REGISTRY_AUTH_FILE", own.to_str().unwrap());
    assert_eq!(docker_config(auth, &[home, run, named]), at(&["own.json"]));
}

#[test]
fn the_environment_overrides() {
    let text = r#"
mode = "dry-run"
[registries.Contoso-EU]
kind = "distribution"
endpoint = "https://contoso.example"
concurrency = 4
auth = { kind = "basic", username = "x", password_file = "nowhere" }
[sources.releases]
kind = "release-records"
paths = ["a"]
[limits]
untag = 10
"#;
    let settings = load(
        text,
        &[
            ("TAGWARDEN__MODE", "approved"),
            ("TAGWARDEN__LIMITS__UNTAG", "20"),
            ("TAGWARDEN__LIMITS__LEAVE", "3"),
            ("TAGWARDEN__PLAN_TTL", "2h"),
            ("TAGWARDEN__SCHEDULE__CRON", "@weekly"),
            ("TAGWARDEN__REGISTRIES__CONTOSO_EU__AUTH__PASSWORD_FILE", "secret"),
            ("TAGWARDEN__REGISTRIES__CONTOSO_EU__ALIASES", "a.example, B.example"),
            ("TAGWARDEN__REGISTRIES__FABRIKAM__KIND", "distribution"),
            ("TAGWARDEN__REGISTRIES__FABRIKAM__ENDPOINT", "https://fabrikam.example"),
            ("TAGWARDEN__SOURCES__RELEASES__PATHS", r#"["b,c", "d"]"#),
            ("TAGWARDEN__SOURCES__RELEASES__ALLOW_EMPTY", "true"),
            ("TAGWARDEN__STATE", ""),
            ("TAGWARDEN_LISTEN", "0.0.0.0:1"),
            ("UNRELATED", "x"),
        ],
    );
    assert_eq!(settings.mode, Mode::Approved);
    assert_eq!((settings.limits.untag, settings.limits.leave, settings.limits.percent), (20, 3, 50));
    assert_eq!(settings.plan_ttl.as_secs(), 7200);
    assert_eq!(settings.schedule.cron.as_ref().map(Cron::as_str), Some("@weekly"));
    let names: Vec<&str> = settings.registries.iter().map(|registry| registry.name.as_str()).collect();
    assert_eq!(names, ["Contoso-EU", "fabrikam"]);
    let contoso = &settings.registries[0];
    assert_eq!(contoso.concurrency, 4);
    assert_eq!(contoso.aliases, ["a.example", "b.example"]);
    assert!(matches!(&contoso.auth, Auth::Basic { password, .. } if password.expose_secret() == "hunter2"));
    let SourceKind::ReleaseRecords(files) = &settings.sources[0].kind else { panic!("{settings:?}") };
    assert_eq!(files.globs, ["b,c", "d"]);
    assert!(settings.sources[0].allow_empty);
    // An empty variable is not set; one with a single underscore is not read, which is said.
    assert!(settings.state.path().unwrap().ends_with("tagwarden.db"));
    assert_eq!(settings.listen.port(), 9464);
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].starts_with("TAGWARDEN_LISTEN is not read"), "{:?}", settings.warnings);
}

const FULL: &str = r#"
mode = "enforce"
[schedule]
cron = "@daily"
timezone = "Europe/London"
[registries.b]
kind = "distribution"
endpoint = "https://b.example"
aliases = ["x.example/proxy", "y.example"]
auth = { kind = "basic", username = "x", password_file = "secret" }
[registries.a]
kind = "distribution"
endpoint = "https://a.example:443"
[sources.s]
kind = "release-records"
paths = ["p", "q"]
registries = ["b", "a"]
max_age = "7d"
[limits]
untag = 1000
"#;

#[test]
fn the_same_settings_have_the_same_revision() {
    let same = r#"
listen = "127.0.0.1:1"
plan_ttl = "1h"
state = "sqlite:other.db"
[limits]
percent = 50
[sources.s]
max_age = "168h"
deadline = "9s"
registries = ["a", "b"]
paths = ["q", "p"]
kind = "release-records"
[registries]
a = { kind = "distribution", endpoint = "https://A.example/", concurrency = 2, timeout = "5s" }
[registries.b]
kind = "distribution"
endpoint = "https://b.example"
aliases = ["Y.example", "X.example/proxy"]
auth = { kind = "basic", username = "x", password_file = "windows-secret" }
removal = "untag"
[schedule]
timezone = "europe/london"
"#;
    assert_eq!(revision(FULL), revision(same));
}

#[test]
fn settings_that_decide_change_the_revision() {
    let full = revision(FULL);
    for (from, to) in [
        ("Europe/London", "Europe/Berlin"),
        ("untag = 1000", "untag = 999"),
        ("untag = 1000", "percent = 49"),
        ("untag = 1000", "leave = 2"),
        ("max_age = \"7d\"", "max_age = \"8d\""),
        ("max_age = \"7d\"", ""),
        ("max_age = \"7d\"", "max_age = \"7d\"\nallow_empty = true"),
        ("max_age = \"7d\"", "max_age = \"7d\"\nmin_claims = 2"),
        ("[\"b\", \"a\"]", "[\"b\"]"),
        ("registries = [\"b\", \"a\"]", ""),
        ("[\"p\", \"q\"]", "[\"p\"]"),
        ("\"release-records\"", "\"image-references\""),
        ("sources.s", "sources.t"),
        ("a.example", "c.example"),
        ("x.example", "z.example"),
        ("username = \"x\"", "username = \"y\""),
        ("aliases = [", "removal = \"manifest\"\naliases = ["),
    ] {
        let changed = FULL.replacen(from, to, 1);
        assert_ne!(changed, FULL, "{from}");
        assert_ne!(revision(&changed), full, "{from} -> {to}");
    }
}

/// The cluster of a source with these keys.
fn cluster(keys: &str, environment: &[(&str, &str)]) -> KubernetesSettings {
    let settings = load(&format!("{LEAST}[sources.aks]\nkind = \"kubernetes\"\n{keys}"), environment);
    let SourceKind::Kubernetes(cluster) = &settings.sources[0].kind else { panic!("{settings:?}") };
    (**cluster).clone()
}

#[test]
fn a_cluster_is_reached_by_kubeconfig_or_as_the_pod() {
    let pod = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "6443")];
    let found = cluster("", &pod);
    assert_eq!((&*found.cluster, found.helm, found.namespaces.len()), ("aks", Helm::IfAllowed, 0));
    let Access::ServiceAccount { server, folder } = found.access else { panic!() };
    assert_eq!(server.as_deref(), Some("https://[fd00::1]:6443"));
    assert_eq!(folder, Path::new("/var/run/secrets/kubernetes.io/serviceaccount"));

    let files = |keys: &str, environment: &[(&str, &str)]| match cluster(keys, environment).access {
        Access::Kubeconfig { files, .. } => files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        other @ Access::ServiceAccount { .. } => panic!("{other:?}"),
    };
    assert_eq!(files("context = \"prod\"", &[("HOME", "/home/ada")]), ["/home/ada/.kube/config"]);
    assert_eq!(files("context = \"prod\"", &[("HOME", "/home/ada"), ("KUBECONFIG", "/a::/b")]), ["/a", "/b"]);
    assert_eq!(files("kubeconfig = \"/k\"", &[("KUBECONFIG", "/a")]), ["/k"]);
    assert!(files("kubeconfig = \"k\"", &[])[0].ends_with("/k"));
    assert_eq!(cluster("kubeconfig = \"k\"\ncontext = \"prod\"", &[]).cluster, "prod");
}

#[test]
fn custom_resources_are_tables_and_names_of_presets() {
    let found = cluster("", &[]);
    assert!(found.custom.is_empty() && found.presets.is_empty() && !found.configmaps);
    let table = r#"{ group = "a.io", version = "v1", kind = "R", paths = ["spec"] }"#;
    let found = cluster(&format!("configmaps = true\ncustom = [\"keda\", {table}, \"argo-cd\", \"keda\"]"), &[]);
    assert_eq!(found.custom.iter().map(|custom| &*custom.kind).collect::<Vec<_>>(), ["R"]);
    assert_eq!(found.presets, [Preset::ArgoCd, Preset::Keda]);
    assert!(found.configmaps);
    for preset in Preset::ALL {
        assert_eq!(cluster(&format!("custom = [\"{}\"]", preset.label()), &[]).presets, [preset]);
    }
}

#[test]
fn what_is_asked_of_a_cluster_decides() {
    let of = |keys: &str| revision(&format!("{LEAST}[sources.aks]\nkind = \"kubernetes\"\ncontext = \"prod\"\n{keys}"));
    let rollout = |more: &str, paths: &str| {
        format!("custom = [{{ group = \"a.io\", version = \"v1\", kind = \"R\", paths = [{paths}]{more} }}]")
    };
    let full = of(&rollout("", "\"a\", \"b\""));
    assert_eq!(full, of(&rollout("", "\"b\", \".a\"")));
    assert_eq!(full, of(&format!("timeout = \"9s\"\n{}", rollout("", "\"a\", \"b\""))));
    for changed in [
        String::new(),
        rollout("", "\"a\""),
        rollout(", optional = true", "\"a\", \"b\""),
        format!("helm = \"never\"\n{}", rollout("", "\"a\", \"b\"")),
        format!("configmaps = true\n{}", rollout("", "\"a\", \"b\"")),
        rollout("", "\"a\", \"b\"").trim_end_matches(']').to_owned() + ", \"flux\"]",
        format!("namespaces = [\"shop\"]\n{}", rollout("", "\"a\", \"b\"")),
    ] {
        assert_ne!(full, of(&changed), "{changed}");
    }
}

#[test]
fn policies_must_name_registries_that_are_there() {
    let folder = folder();
    let settings = load_in(folder.path(), LEAST, &[]).unwrap();
    let file = folder.path().join("p.yaml");
    let text = "policies:\n  - name: a\n    select: { registries: [contoso, contso, x] }\n    keep: all\n";
    fs::write(&file, text).unwrap();
    let problems = config::cross_check(&settings, &policy::load(&file).unwrap());
    let here = format!("{}/", folder.path().display());
    let shown: Vec<String> = problems.iter().map(|problem| problem.to_string().replace(&here, "")).collect();
    assert_eq!(
        shown,
        [
            "p.yaml:3:37: unknown registry `contso`, did you mean `contoso`?; named by policy `a` \
             (known: `contoso`, from tagwarden.toml)",
            "p.yaml:3:45: unknown registry `x`; named by policy `a` (known: `contoso`, from tagwarden.toml)",
        ]
    );
}

/// Policies on manifests without a tag: never sooner than an undo ends, and with a warning where images may be pushed meanwhile
/// or nothing is ever deleted.
#[test]
fn manifests_without_a_tag_have_their_time_and_their_window() {
    let folder = folder();
    let file = folder.path().join("p.yaml");
    let told = |after: &str, mode: &str, settings: &str| {
        let settings = load_in(folder.path(), &format!("{settings}\n{LEAST}"), &[]).unwrap();
        let text = format!(
            "policies:\n  - name: a\n    select: {{ repositories: ['**'] }}\n    untagged: {{ delete: after {after} }}\n    \
             mode: {mode}\n"
        );
        fs::write(&file, text).unwrap();
        let set = policy::load(&file).unwrap();
        let here = format!("{}/", folder.path().display());
        let problems = config::cross_check(&settings, &set);
        let problems = problems.iter().map(|problem| problem.to_string().replace(&here, "")).collect::<Vec<String>>();
        let kinds: Vec<&str> = config::lint(&settings, &set).iter().map(|lint| lint.kind).collect();
        (problems, kinds)
    };
    let nothing = || Vec::<String>::new();
    let without = "untagged-without-effect";
    assert_eq!(told("7d", "dry-run", ""), (nothing(), vec![without]));
    assert_eq!(told("7d", "enforce", ""), (nothing(), vec![without, "untagged-without-window"]));
    let window = "schedule = { window = { hours = \"22:00-04:00\" } }";
    assert_eq!(told("7d", "enforce", window), (nothing(), vec![without]));
    assert_eq!(
        told("6d", "dry-run", "").0,
        [
            "p.yaml:4:15: `after 6d` is sooner than the `undo_window` of 7days ends (wait at least that long, or shorten \
             `undo_window` in tagwarden.toml)"
        ]
    );
    assert_eq!(told("6d", "dry-run", "undo_window = \"2d\"").0, nothing());
}

#[test]
fn manifests_are_deleted_only_while_that_fits_the_settings() {
    let folder = folder();
    let file = folder.path().join("p.yaml");
    let problems = |after: &str, settings: &str| {
        let settings = load_in(folder.path(), &format!("{settings}\n{LEAST}"), &[]).unwrap();
        let then = format!("then: {{ delete_manifest: after {after} }}");
        let text = format!("policies:\n  - name: a\n    select: {{ tags: ['*'] }}\n    keep: none\n    {then}\n");
        fs::write(&file, text).unwrap();
        let problems = config::cross_check(&settings, &policy::load(&file).unwrap());
        let here = format!("{}/", folder.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&here, "")).collect::<Vec<String>>()
    };
    assert_eq!(problems("7d", ""), [""; 0]);
    assert_eq!(
        problems("6d", ""),
        [
            "p.yaml:5:11: `after 6d` is sooner than the `undo_window` of 7days ends (wait at least that long, or shorten \
             `undo_window` in tagwarden.toml)"
        ]
    );
    assert_eq!(problems("6d", "undo_window = \"2d\""), [""; 0]);
    let late = problems("20d", "records = { keep = \"15d\" }");
    assert_eq!(late.len(), 1, "{late:?}");
    assert!(late[0].contains("never comes: what was untagged is forgotten after 15days"), "{late:?}");

    // Nothing is ever deleted where what has no tag is not listed.
    let settings = load_in(folder.path(), LEAST, &[]).unwrap();
    let policies = policy::load(&file).unwrap();
    let remarks: Vec<String> =
        config::lint(&settings, &policies).iter().map(|remark| remark.diagnostic.message.clone()).collect();
    let acr = LEAST.replace("distribution", "acr");
    let settings = load_in(folder.path(), &acr, &[]).unwrap();
    assert_eq!(config::lint(&settings, &policies).len(), 0);
    assert_eq!(
        remarks,
        ["`then` has no effect: what has no tag is not listed in contoso, so nothing is ever deleted there"]
    );
}

#[test]
fn the_file_is_found_or_missed_with_words() {
    let folder = folder();
    let missing = folder.path().join("nowhere.toml");
    let error = config::find(Some(&missing)).unwrap_err();
    assert!(error.to_string().contains("there is no such settings file"), "{error}");
    assert_eq!(error.kind(), "settings");
    assert!(chain(&config::load(&missing, []).unwrap_err()).contains("cannot be read"));
    let there = folder.path().join("secret");
    assert_eq!(config::find(Some(&there)).unwrap(), there);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever stands in the file, it is read or told, with places inside the text, and nothing secret is shown.
    #[test]
    fn any_mutation_is_read_or_told(
        at in 0..FULL.len(),
        length in 0..30_usize,
        put in "[a-z0-9 =\\[\\]{}\"'#\\n\\t.\u{e9}]{0,8}",
        variable in "[A-Z_]{0,20}",
        value in "[ -~]{0,10}",
    ) {
        let mut text: Vec<char> = FULL.replace("password_file = \"secret\"", "password = \"hunter2\"").chars().collect();
        let end = (at + length).min(text.len());
        text.splice(at.min(text.len())..end, put.chars());
        let text: String = text.into_iter().collect();
        let folder = folder();
        if let Err(error) = load_in(folder.path(), &text, &[(&format!("TAGWARDEN__{variable}"), &value)]) {
            prop_assert!(!error.diagnostics.is_empty());
            for problem in &error.diagnostics {
                prop_assert!(text.get(problem.span.clone()).is_some(), "{:?}", problem);
            }
            let shown = format!("{}{}", chain(&error), render(&error.diagnostics, false));
            // Unless the mutation made the secret something else.
            if text.contains("password = \"hunter2\" }") {
                prop_assert!(!shown.contains("hunter2"), "{}", shown);
            }
        }
    }
}

/// What the reference shows is read, and it names every key that a message can name.
#[test]
fn the_reference_is_true() {
    let text = fs::read_to_string("docs/settings.md").unwrap();
    let shown = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    load(shown, &[]);
    let folder = folder();
    let wrong = "x = 1\n[schedule]\nx = 1\nwindow = { x = 1 }\nfreeze = [{ x = 1 }]\n[records]\nx = 1\n[limits]\nx = 1\n[registries.a]\nx = 1\nauth = { kind = \"basic\", x = 1 }\n\
                 [sources.a]\nkind = \"release-records\"\nx = 1\n[sources.b]\nkind = \"kubernetes\"\nx = 1\n\
                 custom = [{ x = 1 }]\n[registries.b]\nrates = { x = 1 }\n\
                 auth = { kind = \"workload-identity\", x = 1 }\n[azure]\nx = 1\n\
                 auth = { kind = \"client-secret\", x = 1 }\n";
    let error = load_in(folder.path(), wrong, &[]).unwrap_err();
    let known = error.diagnostics.iter().filter_map(|problem| problem.help.as_ref()?.strip_prefix("known: "));
    let keys: Vec<&str> = known.flat_map(|keys| keys.split(", ")).map(|key| key.trim_matches('`')).collect();
    assert!(keys.len() > 25, "{keys:?}");
    for key in keys {
        let spellings = [
            format!("{key}`"),
            format!("{key} = "),
            format!("`{key}."),
            format!("[{key}."),
            format!("[{key}]"),
            format!("__{}`", key.to_uppercase()),
        ];
        assert!(spellings.iter().any(|spelling| text.contains(spelling)), "docs/settings.md does not name `{key}`");
    }
}

#[test]
fn other_machines_may_look_with_a_token() {
    let folder = folder();
    fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
    let settings = |text: &str| load_in(folder.path(), &format!("{text}\n{LEAST}"), &[]);
    let token = settings("listen = \"0.0.0.0:9464\"\nlisten_token_file = \"token\"").unwrap().listen_token;
    assert_eq!(token.unwrap().expose_secret(), "0123456789abcdef");
    for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(settings(&format!("listen = \"{here}\"")).unwrap().listen_token.is_none(), "{here}");
    }
    for elsewhere in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
        assert!(settings(&format!("listen = \"{elsewhere}\"")).is_err(), "{elsewhere}");
    }
}

/// `state` and `[postgres]` of settings, or what is wrong with them.
fn database(lines: &str) -> Result<StateLocation, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    let text = format!("{lines}\n[registries.a]\nkind = \"distribution\"\nendpoint = \"https://a.example\"\n");
    let path = folder.path().join("tagwarden.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = config::load(&path, []).map(|settings| settings.state).map_err(|error| format!("{error:#}"));
    // The commands about the state read it in the same way, whatever else is there.
    if let Ok(location) = &loaded {
        assert_eq!(config::state_location(&path, &[]).unwrap(), *location);
    }
    loaded
}

#[test]
fn a_state_is_a_file_or_a_database() {
    let shown = |lines: &str| database(lines).unwrap().to_string();
    let url = "state = \"postgres://ada@db.example/tagwarden\"\n";
    assert_eq!(shown(&format!("{url}[postgres]\npassword_file = \"secret\"")), "postgres://ada@db.example/tagwarden");
    let identity = "auth = { kind = \"managed-identity\" }";
    assert_eq!(shown(&format!("{url}[postgres]\n{identity}")), "postgres://ada@db.example/tagwarden");
    assert!(shown("").ends_with("tagwarden.db") && shown("state = \"sqlite:x.db\"").ends_with("x.db"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagwarden.toml");
    std::fs::write(&path, url).unwrap();
    let variable = [("TAGWARDEN__POSTGRES__PASSWORD".to_owned(), "hunter2".to_owned())];
    let location = config::state_location(&path, &variable).unwrap();
    assert!(!format!("{location:?} {location}").contains("hunter2"));
    assert_ne!(location, config::state_location(&path, &[]).unwrap(), "it has a password");

    for (lines, words) in [
        ("state = \"postgres://ada:hunter2@db.example/tagwarden\"", "a password stands in the URL"),
        ("state = \"postgres://ada@db.example/tagwarden?sslmode=never\"", "`sslmode` is not one of"),
        ("state = \"mysql://ada@db.example/tagwarden\"", "`postgres://` and a database"),
        (&format!("{url}[postgres]\npassword = \"hunter2\""), "stands in the settings file"),
        (&format!("{url}[postgres]\npassword_file = \"registry-password\""), "`registry-password` cannot be read"),
        (
            &format!("{url}[postgres]\npassword_file = \"correct-horse\""),
            "the file that `password_file` names cannot be read",
        ),
        (&format!("{url}[postgres]\npassword_file = \"none\""), "cannot be read"),
        (&format!("{url}[postgres]\npassword_file = \"secret\"\n{identity}"), "both `auth` and a password are set"),
        (&format!("{url}[postgres]\nhost = \"db.example\""), "it belongs into `state ="),
        (&format!("{url}password_file = \"secret\""), "below `[postgres]`"),
    ] {
        let error = database(lines).unwrap_err();
        assert!(error.contains(words) && !error.contains("hunter2"), "{lines}: {error}");
    }
}
