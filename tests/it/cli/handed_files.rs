//! Files that people hand over, in the encodings that their tools write, and folders that are not there.

use std::fs;

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, CliOutput, fill, record, settings, tags};

const POLICIES: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 2 }]\n    \
                        mode: enforce\n";

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 4);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-1", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "approved");
    (registry, desk)
}

fn utf16(text: &str, mark: bool, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
    units.flat_map(bytes).collect()
}

/// As PowerShell's `>` writes a text, and as editors of Windows save it.
fn encodings(text: &str) -> [(&'static str, Vec<u8>); 3] {
    let text = text.replace('\n', "\r\n");
    [
        ("UTF-16LE", utf16(&text, true, u16::to_le_bytes)),
        ("UTF-16BE", utf16(&text, true, u16::to_be_bytes)),
        ("UTF-8 with a mark", format!("\u{feff}{text}").into_bytes()),
    ]
}

#[tokio::test]
async fn plans_of_powershell_are_applied() {
    let (registry, desk) = shop().await;
    for ((encoding, _), day) in encodings("").into_iter().zip(1..) {
        let tag = format!("candidate-late-{day}");
        registry.put_image("shop/api", &tag, &super::image(&tag, &format!("2024-02-0{day}")));
        let before = tags(&registry, "shop/api").len();
        let plan = desk.run("plan --format json").await.exits(0).out;
        let (_, bytes) = encodings(&plan).into_iter().find(|(name, _)| *name == encoding).unwrap();
        fs::write(desk.path("plan.json"), bytes).unwrap();
        let done = desk.run("apply plan.json").await.exits(0);
        assert!(tags(&registry, "shop/api").len() < before, "{encoding}: {}", done.out);
    }
    let plan = desk.run("plan --format json").await.exits(0).out;
    fs::write(desk.path("plan.json"), utf16(&plan, false, u16::to_le_bytes)).unwrap();
    let done = desk.run("apply plan.json").await.exits(2);
    let words = "the plan is not readable text: UTF-16 without a byte order mark; save it as UTF-8";
    assert!(done.err.contains(words), "{}", done.err);
}

#[tokio::test]
async fn every_other_file_is_read_in_these_encodings() {
    let (registry, desk) = shop().await;
    desk.run("inventory --out inventory.json").await.exits(0);
    let inventory = desk.read("inventory.json");
    let toml = desk.read("tagwarden.toml");
    let evidence = desk.read("releases/api.json");
    let tests = "tests:\n  - name: two stay\n    repository: shop/api\n    tags:\n      candidate-1: { pushed: 9d, expect: \
                 expired }\n      candidate-2: { pushed: 8d, expect: retained }\n      candidate-3: { pushed: 7d, expect: \
                 retained }\n";
    let purge = "acr purge --filter 'shop/api:candidate-.*' --ago 30d\n";
    let contents = [&*toml, POLICIES, &evidence, &inventory, tests, purge];
    for position in 0..3 {
        let files = [
            "tagwarden.toml",
            "policies/all.yaml",
            "releases/api.json",
            "inventory.json",
            "policies/all.test.yaml",
            "purge.sh",
        ];
        for (file, text) in files.into_iter().zip(contents) {
            let (_, bytes) = &encodings(text)[position];
            fs::write(desk.path(file), bytes).unwrap();
        }
        let checked = desk.run("check --strict").await.exits(0);
        assert!(checked.out.contains("1 claim in local files"), "{}", checked.out);
        desk.run("test policies").await.exits(0);
        desk.run("diff --against policies --inventory inventory.json --exit-code").await.exits(0);
        let imported = desk.run("import acr-purge purge.sh").await.exits(0);
        assert!(imported.out.contains("candidate-"), "{}", imported.out);
        let planned = desk.run("plan --format json").await.exits(0).json();
        assert_eq!(planned["removals"].as_array().unwrap().len(), 1, "{planned:#}");
        desk.run("health").await.exits(1);
    }
    // Encodings that do not name themselves are refused with the remedy.
    let bare = |text: &str| utf16(text, false, u16::to_le_bytes);
    for (file, text, command, code) in [
        ("inventory.json", &*inventory, "diff --against policies --inventory inventory.json", 2),
        ("purge.sh", purge, "import acr-purge purge.sh", 2),
        ("policies/all.test.yaml", tests, "test policies", 2),
        ("policies/all.yaml", POLICIES, "check --policies policies", 2),
        ("tagwarden.toml", &toml, "check", 2),
    ] {
        fs::write(desk.path(file), bare(text)).unwrap();
        let done = desk.run(command).await.exits(code);
        let words = "UTF-16 without a byte order mark; save it as UTF-8";
        assert!(done.err.contains(words) && done.err.contains(file), "{command}: {}", done.err);
    }
    assert_eq!(tags(&registry, "shop/api").len(), 4);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_found_before_the_work() {
    let (registry, desk) = shop().await;
    desk.run("plan").await.exits(0);
    desk.write("folder/file.txt", "");
    fs::create_dir(desk.path("full.json")).unwrap();
    registry.clear_requests();
    let refused = |done: CliOutput, words: &str| {
        assert!(done.err.starts_with("error: cannot write ") && done.err.contains(words), "{}", done.err);
        assert!(done.out.is_empty(), "{}", done.out);
        assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    };
    for command in [
        "plan --out",
        "plan --out good.md --out",
        "run --out",
        "run --dry-run --out",
        "inventory --out",
        "runs show last --out",
    ] {
        refused(desk.run(&format!("{command} missing/plan.json")).await.exits(2), "create its folder");
        refused(desk.run(&format!("{command} full.json")).await.exits(2), "name a file in it");
        refused(desk.run(&format!("{command} folder/file.txt/plan.json")).await.exits(2), "cannot write");
        if cfg!(target_os = "linux") {
            refused(desk.run(&format!("{command} /sys/plan.json")).await.exits(2), "may write to");
        }
    }
    assert!(!desk.path("good.md").exists() && !desk.path("missing").exists());
    let left =
        super::files(desk.folder.path()).into_iter().filter(|file| file.to_string_lossy().contains(".tagwarden-"));
    assert_eq!(left.count(), 0);
}

/// `head -c`, a full disk or an aborted copy leaves the beginning of a tag, which is a tag as well.
#[tokio::test]
async fn a_text_that_ends_within_a_tag_keeps_what_it_may_have_named() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    for (tag, day) in [("1.2.3", "2024-01-01"), ("1.2.4", "2024-01-02"), ("2.0.0", "2024-01-03"), ("2.0", "2024-01-04")]
    {
        registry.put_image("shop/api", tag, &super::image(tag, day));
    }
    let toml = format!(
        "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{}\"\n\n[sources.deployed]\nkind = \
         \"image-references\"\npaths = [\"deployed.txt\"]\nmentions = \"off\"\n",
        registry.url()
    );
    let policy = "policies:\n  - { name: p, select: { tags: [\"1.*\", \"2.0.0\"] }, keep: [{ within: 1d }] }\n";
    let mut desk = CliFixture::with(&[("tagwarden.toml", &*toml), ("policies/p.yaml", policy)]);
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    let image = |tag: &str| format!("{}/shop/api:{tag}", registry.host());
    for (text, expired) in [
        (format!("{}\n", image("1.2")), 3),
        (image("1.2"), 0),
        (image("1.2.3"), 2),
        // A tag of its own: taken as written.
        (image("2.0"), 3),
    ] {
        desk.write("deployed.txt", &text);
        let plan = desk.run("plan --format json").await.exits(0);
        assert_eq!(plan.json()["removals"].as_array().unwrap().len(), expired, "{text:?}: {}", plan.err);
        assert_eq!(plan.out.contains("the text ends here, without a line break"), expired == 0, "{text:?}");
    }
}
