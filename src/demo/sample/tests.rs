use std::collections::BTreeSet;

use super::super::registry::Admin;
use super::*;
use crate::domain::ImageReference;

fn now() -> Timestamp {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

#[test]
fn the_same_time_gives_the_same_sample() {
    let (first, second) = (Sample::at(now()), Sample::at(now()));
    assert_eq!(first.tags, second.tags);
    assert_ne!(first.tags, Sample::at(now() + SignedDuration::from_hours(24)).tags);
}

#[test]
fn the_sample_has_the_size_and_shape_that_the_demo_promises() {
    let sample = Sample::at(now());
    assert!((150..=250).contains(&sample.tag_count()), "{} tags", sample.tag_count());
    let repositories: BTreeSet<_> = sample.pushes.iter().map(|push| push.repository).collect();
    assert_eq!(repositories.len(), 8);
    assert_eq!(sample.pushes.iter().filter(|push| push.tag.is_some()).count(), sample.tag_count(), "no tag twice");

    let newest = |tag: &str| sample.digest(API, tag);
    assert_eq!(newest("prod"), newest(&sample.release(LIVE_RELEASE)));
    assert_eq!(newest("prod"), newest(&sample.candidate(LIVE_RELEASE)), "promoted by a second tag");
    assert_eq!(newest("rollback"), newest(&sample.release(PREVIOUS_RELEASE)));
    for (_, tag) in sample.tags.keys() {
        assert!(tag.parse::<crate::domain::TagName>().is_ok(), "{tag}");
    }
}

#[test]
fn the_sample_holds_at_any_time_of_day_and_year() {
    for time in ["2026-01-01T00:00:00Z", "2026-12-31T23:59:59Z", "2028-02-29T03:30:00Z", "2027-03-28T01:30:00Z"] {
        let sample = Sample::at(time.parse().unwrap());
        assert_eq!(sample.tag_count(), sample.pushes.iter().filter(|push| push.tag.is_some()).count(), "{time}");
    }
}

#[test]
fn the_files_are_well_formed_and_every_record_names_what_is_there() {
    let sample = Sample::at(now());
    let folder = tempfile::tempdir().unwrap();
    sample.write_folder(folder.path(), "http://127.0.0.1:5000", None).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let files = |name: &str| -> Vec<_> {
        let entries = std::fs::read_dir(folder.path().join(name)).unwrap();
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    };

    let settings: toml::Table = read("tagwarden.toml").parse().unwrap();
    assert_eq!(settings["mode"].as_str(), Some("approved"));
    assert_eq!(settings["registries"][REGISTRY]["endpoint"].as_str(), Some("http://127.0.0.1:5000"));
    assert_eq!(settings["registries"][REGISTRY]["kind"].as_str(), Some("distribution"));
    assert!(!read("README.md").contains(['{', '}']), "every placeholder is filled in");
    for policies in files("policies") {
        let policies: serde_json::Value = serde_saphyr::from_str(&policies).unwrap();
        assert!(policies["policies"].as_array().unwrap().iter().all(|policy| !policy["keep"].is_null()));
    }
    for deployment in files("deploy") {
        serde_saphyr::from_str::<serde_json::Value>(&deployment).unwrap();
    }

    let known: BTreeSet<&Digest> = sample.tags.values().collect();
    let mut drifted = 0;
    let records = files("releases");
    assert!(records.len() > 1, "one file for each month");
    for file in records {
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        for record in file["releases"].as_array().unwrap() {
            let image: ImageReference = record["image"].as_str().unwrap().parse().unwrap();
            let repository = image.repository.unwrap();
            assert_eq!(image.host.as_deref(), Some("127.0.0.1:5000"));
            assert!(image.digest.iter().all(|digest| known.contains(digest)), "{record}");
            let tagged = sample.tags.iter().find(|((name, tag), _)| {
                *name == repository.as_str() && image.tag.as_ref().is_some_and(|wanted| wanted.as_str() == tag)
            });
            assert!(image.tag.is_none() || tagged.is_some(), "{record}");
            drifted += usize::from(tagged.zip(image.digest.as_ref()).is_some_and(|((_, actual), said)| actual != said));
        }
    }
    assert_eq!(drifted, 1, "`prod` moved since it was recorded");
}

#[test]
fn for_a_registry_that_speaks_acr_the_settings_say_how_to_sign_in() {
    let admin = Admin { user: "sample".into(), password: "made up".into() };
    let folder = tempfile::tempdir().unwrap();
    Sample::at(now()).write_folder(folder.path(), "http://127.0.0.1:5000", Some(&admin)).unwrap();
    let settings: toml::Table = std::fs::read_to_string(folder.path().join("tagwarden.toml")).unwrap().parse().unwrap();
    let registry = &settings["registries"][REGISTRY];
    assert_eq!((registry["kind"].as_str(), registry["auth"]["username"].as_str()), (Some("acr"), Some("sample")));
    let file = folder.path().join(registry["auth"]["password_file"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "made up");
}

#[test]
fn every_push_is_in_the_past_and_none_comes_before_its_image() {
    let sample = Sample::at(now());
    assert!(sample.pushes.iter().all(|push| push.at < now() && push.at > sample.ago(500, 0)));
    let at = |repository: &str, tag: &str| {
        let wanted = |push: &&Push| push.repository == repository && push.tag.as_deref() == Some(tag);
        sample.pushes.iter().find(wanted).unwrap().at
    };
    assert!(
        at(API, &sample.release(LIVE_RELEASE)) > at(API, &sample.candidate(LIVE_RELEASE)),
        "promoted after it was built"
    );
    assert_eq!(at(WEB, "v1.0.0"), sample.ago(300, 7));
}
