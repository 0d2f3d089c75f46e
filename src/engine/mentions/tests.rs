//! The words that name a tag, and those that do not.

use super::*;
use crate::domain::{
    Holder, Manifest, RemovedTag, SourceOutcome, SourceState, Tag, TextIndexBuilder, TextPlace, TextScope,
};

/// A registry with these repositories and their tags; every tag has its own image, by the name of both.
fn inventory(repositories: &[(&str, &[&str])]) -> Inventory {
    let mut registry = Registry::empty("contoso".parse().unwrap(), "distribution");
    for (name, tags) in repositories {
        let mut repository = Repository::empty(name.parse().unwrap());
        repository.tags = tags.iter().map(|tag| self::tag(name, tag)).collect();
        registry.repositories.push(repository);
    }
    let mut inventory = Inventory { registries: vec![registry] };
    inventory.sort();
    inventory
}

fn image(repository: &str, tag: &str) -> Digest {
    Digest::of(format!("{repository}:{tag}").as_bytes())
}

fn tag(repository: &str, tag: &str) -> Tag {
    let digest = Some(image(repository, tag));
    Tag { name: tag.parse().unwrap(), digest, pushed_at: None, first_seen: None, lock: None }
}

/// The words of texts, each with its own place.
fn words(scope: TextScope, texts: &[&str]) -> TextIndex {
    let mut builder = TextIndexBuilder::new(scope);
    for (text, number) in texts.iter().zip(1..) {
        let place = builder.add_place(TextPlace::File(format!("{number}.txt").into()));
        for (line, number) in text.lines().zip(1..) {
            let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-+".contains(c);
            let words = line.split(|c| !is_word(c)).filter(|word| !word.is_empty());
            builder.add_unit(place, &words.map(|word| (number, word)).collect::<Vec<_>>());
        }
    }
    builder.finish()
}

/// Everything that texts mention, as `repository:tag` or `repository@digest`, with the word and its place.
fn found(inventory: &Inventory, untagged: &[UntaggedManifest], texts: &TextIndex) -> Vec<String> {
    let shown = find_mentions(inventory, untagged, |_| true, texts).into_iter().map(|mention| {
        let Mention { registry, repository, image, text, holder } = mention;
        assert_eq!(registry.as_str(), "contoso");
        let place = match &*holder {
            Holder::File { path, line } => format!("{path}:{line}"),
            other => format!("{other:?}"),
        };
        match image {
            MentionedImage::Tag(tag) => format!("{repository}:{tag} by {text} at {place}"),
            MentionedImage::Digest(digest) => format!("{repository}@{} by {text} at {place}", digest.short()),
        }
    });
    shown.collect()
}

/// Returns true if a text mentions a tag of a repository.
fn means(repository: &str, tag: &str, text: &str) -> bool {
    let inventory = inventory(&[(repository, &[tag])]);
    !found(&inventory, &[], &words(TextScope::Source, &[text])).is_empty()
}

#[test]
fn a_word_means_a_tag_where_the_repository_is_named_too() {
    for (text, tag, expected) in [
        ("shop/api v1.2.3", "v1.2.3", true),
        ("We rolled the api back to v1.2.3.", "v1.2.3", true),
        ("API 4.2.0", "4.2.0", true),
        ("shop-api 4.2.0", "4.2.0", true),
        ("SHOP_API=4.2.0", "4.2.0", true),
        ("shop.api: 4.2.0", "4.2.0", true),
        ("api\n\n4.2.0", "4.2.0", true),
        ("web 4.2.0", "4.2.0", false),
        ("apis 4.2.0", "4.2.0", false),
        ("shop 4.2.0", "4.2.0", false),
        ("api 4.2.01", "4.2.0", false),
        // With and without a leading `v`, both ways.
        ("api 1.2.3", "v1.2.3", true),
        ("api v1.2.3", "1.2.3", true),
        ("api next", "vnext", false),
        ("api vnext", "next", false),
        // Name and tag in one word.
        ("helm.sh/chart: api-1.2.3", "1.2.3", true),
        ("helm.sh/chart: api-1.2.3", "v1.2.3", true),
        ("helm.sh/chart: shop-api-v1.2.3", "1.2.3", true),
        ("api-1.2.3.tgz", "1.2.3", true),
        ("web-1.2.3", "1.2.3", false),
        ("api1.2.3", "1.2.3", false),
        // Files, and build metadata.
        ("api: releases/2026.46.json", "2026.46", true),
        ("api 1.2.3+build.5", "1.2.3_build.5", true),
        ("api-1.2.3+build.5", "1.2.3_build.5", true),
        ("api 1.2.3+build.5", "1.2.3", true),
        // The name of a repository is not one of its tags.
        ("api api", "api", false),
        ("shop-api", "shop-api", false),
        ("api-api", "api", true),
    ] {
        assert_eq!(means("shop/api", tag, text), expected, "{tag} in {text}");
    }
    assert!(means("api", "v1", "api v1"), "a repository without a folder");
}

#[test]
fn everyday_words_mean_a_tag_only_beside_the_repository() {
    for (text, tag, expected) in [
        ("api latest", "latest", true),
        ("the latest of shop-api", "latest", true),
        ("api-latest", "latest", true),
        ("the api is fine\nlatest news", "latest", false),
        ("deploy main of api", "main", true),
        ("api\nmain", "main", false),
        ("api 7", "7", true),
        ("api with\n7 replicas", "7", false),
        ("api\n20261123", "20261123", false),
        ("api 20261123", "20261123", true),
        // A number with a `v` is not a plain number.
        ("api\nv7", "v7", true),
        ("api\nv7", "7", true),
        ("api\n7", "v7", false),
    ] {
        assert_eq!(means("shop/api", tag, text), expected, "{tag} in {text}");
    }
    assert!(!means("shop/main", "main", "main"), "a name is not beside itself");
    assert!(means("shop/main", "latest", "main latest"));
}

#[test]
fn a_telling_tag_needs_no_repository() {
    for (tag, expected) in [
        ("release-2026.46", true),
        ("build-1234", true),
        ("4build-abc", true),
        ("build4-abc", true),
        ("build-123", false),
        ("candidates", false),
        ("feature-login", false),
        ("1234567890", false),
    ] {
        assert_eq!(means("shop/api", tag, &format!("{tag} is live")), expected, "{tag}");
    }
}

#[test]
fn a_repository_and_its_tag_stand_in_one_object_of_a_cluster() {
    let inventory = inventory(&[("shop/api", &["v1", "v2", "latest", "release-2026.46"]), ("shop/web", &["v1", "v2"])]);
    let texts = ["api", "v1\nlatest", "web\nv2", "release-2026.46", "api latest"];
    let apart = found(&inventory, &[], &words(TextScope::Place, &texts));
    assert_eq!(
        apart,
        [
            "shop/api:latest by latest at 5.txt:1",
            "shop/api:release-2026.46 by release-2026.46 at 4.txt:1",
            "shop/web:v2 by v2 at 3.txt:2",
        ]
    );
    let whole = found(&inventory, &[], &words(TextScope::Source, &texts));
    assert_eq!(
        whole,
        [
            "shop/api:latest by latest at 5.txt:1",
            "shop/api:release-2026.46 by release-2026.46 at 4.txt:1",
            "shop/api:v1 by v1 at 2.txt:1",
            "shop/api:v2 by v2 at 3.txt:2",
            "shop/web:v1 by v1 at 2.txt:1",
            "shop/web:v2 by v2 at 3.txt:2",
        ]
    );
}

#[test]
fn a_digest_is_meant_by_twelve_of_its_digits_wherever_they_stand() {
    let (hex, config) = (image("shop/api", "v1").hex(), Digest::of(b"configuration"));
    let short = image("shop/api", "v1").short();
    let mut inventory = inventory(&[("shop/api", &["v1", "v2"])]);
    let manifest = Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: 7,
        config: Some(Box::new(config.clone())),
        blobs: [].into(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock: None,
        detail: crate::domain::ManifestDetail::Full,
    };
    inventory.registries[0].repositories[0].manifests.insert(image("shop/api", "v1"), manifest);
    for (text, expected) in [
        (hex[..12].to_owned(), Some(&hex[..12])),
        (hex[..12].to_uppercase(), Some(&hex[..12])),
        (format!("image@sha256:{hex}"), Some(&*hex)),
        (config.hex(), Some(&*config.hex())),
        (config.hex()[..16].to_owned(), Some(&config.hex()[..16])),
        (hex[..11].to_owned(), None),
        (hex[1..13].to_owned(), None),
    ] {
        let expected: Vec<String> =
            expected.iter().map(|word| format!("shop/api@{short} by {word} at 1.txt:1")).collect();
        assert_eq!(found(&inventory, &[], &words(TextScope::Source, &[&text])), expected, "{text}");
    }
}

#[test]
fn former_tags_of_untagged_manifests_are_mentioned_too() {
    let inventory = inventory(&[("shop/api", &["v2"])]);
    let taken = RemovedTag {
        name: "v1".parse().unwrap(),
        at: jiff::Timestamp::UNIX_EPOCH,
        policies: Vec::new(),
        restored: false,
    };
    let untagged = UntaggedManifest {
        registry: "contoso".parse().unwrap(),
        repository: "shop/api".parse().unwrap(),
        digest: image("shop/api", "v1"),
        tags: vec![taken],
        manifest: None,
    };
    let digest = &untagged.digest;
    let text = format!("api v1\napi {}", &digest.hex()[..12]);
    let texts = words(TextScope::Source, &[&text]);
    assert_eq!(
        found(&inventory, std::slice::from_ref(&untagged), &texts),
        [
            "shop/api:v1 by v1 at 1.txt:1".to_owned(),
            format!("shop/api@{} by {} at 1.txt:2", digest.short(), &digest.hex()[..12])
        ]
    );
    assert!(found(&inventory, &[], &texts).is_empty());
}

#[test]
fn only_the_registries_that_a_source_covers_are_mentioned() {
    let inventory = inventory(&[("shop/api", &["v1"])]);
    let texts = words(TextScope::Source, &["api v1"]);
    assert_eq!(find_mentions(&inventory, &[], |name| name.as_str() == "contoso", &texts).len(), 1);
    assert!(find_mentions(&inventory, &[], |name| name.as_str() == "fabrikam", &texts).is_empty());
    assert!(find_mentions(&inventory, &[], |_| true, &TextIndex::default()).is_empty());
}

/// A source's answer with only mentions, as repository, image and word.
fn source(name: &str, registry: &str, mentions: &[(&str, MentionedImage, &str)]) -> SourceOutcome {
    let mentions = mentions.iter().map(|(repository, image, text)| Mention {
        registry: registry.parse().unwrap(),
        repository: repository.parse().unwrap(),
        image: image.clone(),
        text: (*text).into(),
        holder: Arc::new(Holder::File { path: "notes.md".into(), line: 1 }),
    });
    let state = SourceState::Complete {
        claims: Vec::new(),
        unresolved: Vec::new(),
        mentions: mentions.collect(),
        as_of: None,
        notes: Vec::new(),
    };
    SourceOutcome { name: name.parse().unwrap(), kind: "image-references", registries: None, state }
}

#[test]
fn the_mentions_of_tags_and_digests_come_in_the_order_of_the_sources() {
    let tag = |name: &str| MentionedImage::Tag(name.parse().unwrap());
    let (one, two) = (image("shop/api", "v1"), image("shop/api", "v2"));
    let by_digest = |digest: &Digest| MentionedImage::Digest(digest.clone());
    let first = [
        ("shop/api", tag("v2"), "a"),
        ("shop/api", by_digest(&one), "b"),
        ("shop/api", tag("v1"), "c"),
        ("shop/web", tag("v1"), "other repository"),
        ("shop/api", tag("v2"), "d"),
    ];
    let second = [("shop/api", by_digest(&two), "e"), ("shop/api", tag("v1"), "f")];
    let elsewhere = [("shop/api", tag("v1"), "other registry")];
    let sources = vec![
        source("first", "contoso", &first),
        source("second", "contoso", &second),
        source("third", "fabrikam", &elsewhere),
    ];
    let claims = Claims { sources, ..Claims::default() };
    let registry = Registry::empty("contoso".parse().unwrap(), "distribution");
    let index = MentionIndex::new(&registry, &claims);
    for (repository, tags, digests, expected) in [
        ("shop/api", &["v1"][..], &[][..], "c f"),
        ("shop/api", &["v2", "v1", "v2"], &[], "a c d f"),
        ("shop/api", &[], &[&two, &one], "b e"),
        ("shop/api", &["v1", "v2"], &[&two, &one], "a b c d e f"),
        ("shop/api", &["v3"], &[], ""),
        ("shop/api", &[], &[], ""),
        ("shop/job", &["v1"], &[&one], ""),
    ] {
        let names: Vec<TagName> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let here = index.in_repository(&registry, &Repository::empty(repository.parse().unwrap()), &[]);
        let found = here.matching(names.iter(), digests.iter().copied());
        let words: Vec<&str> = found.iter().map(|mentioned| &*mentioned.text).collect();
        assert_eq!(words.join(" "), expected, "{repository} {tags:?} {digests:?}");
    }
}
