//! The forms in which words are found, and their places.

use super::*;

/// An index over texts by name, each of whose lines is one unit.
fn index(scope: TextScope, texts: &[(&str, &str)]) -> TextIndex {
    let mut builder = TextIndexBuilder::new(scope);
    for (name, text) in texts {
        let place = builder.add_place(TextPlace::File((*name).into()));
        for (line, number) in text.lines().zip(1..) {
            let words: Vec<(u32, &str)> = line.split_whitespace().map(|word| (number, word)).collect();
            builder.add_unit(place, &words);
        }
    }
    builder.finish()
}

fn of(text: &str) -> TextIndex {
    index(TextScope::Source, &[("notes.md", text)])
}

/// The places of words, as `file:line`.
fn places(index: &TextIndex, words: &[IndexedWord]) -> Vec<String> {
    let shown = words.iter().map(|word| match &*index.holder(*word).unwrap() {
        Holder::File { path, line } => format!("{path}:{line}"),
        other => format!("{other:?}"),
    });
    shown.collect()
}

#[test]
fn a_word_is_found_in_each_of_its_forms() {
    for (written, asked, expected) in [
        ("v1.2.3", "v1.2.3", true),
        ("v1.2.3", "1.2.3", false),
        ("v1.2.3", "v1.2", false),
        ("v1.2", "v1.2.3", false),
        // The end of a sentence, and punctuation around a word.
        ("v1.2.3.", "v1.2.3", true),
        ("v1.2.3...", "v1.2.3", true),
        ("-v1.2.3_", "v1.2.3", true),
        ("_v1_", "_v1_", true),
        // Case.
        ("API", "api", true),
        ("API", "API", true),
        ("V1.2.3-RC1", "v1.2.3-rc1", true),
        ("api", "API", false),
        // Files.
        ("2026.46.json", "2026.46", true),
        ("2026.46.json", "2026.46.json", true),
        ("2026.46.JSON.", "2026.46", true),
        ("app-1.2.3.tar.gz", "app-1.2.3.tar", true),
        ("app-1.2.3.tar.gz", "app-1.2.3", true),
        ("app-1.2.3.bin", "app-1.2.3", false),
        ("json", "", false),
        // Environment variables.
        ("SHOP_API_TAG", "api", true),
        ("SHOP_API_TAG", "shop_api", true),
        ("SHOP_API_TAG", "tag", true),
        ("shop_api_tag", "api", false),
        ("SHOP_API_TAG", "api_tag", false),
        // Build metadata of charts.
        ("1.2.3+build.5", "1.2.3_build.5", true),
        ("1.2.3+build.5", "1.2.3", true),
        ("1.2.3+build.5", "build.5", true),
        ("1.2.3+Build.5", "1.2.3_build.5", true),
        ("1.2.3+build.5", "1.2.3+build.5", false),
    ] {
        let found = !of(&format!("before {written} after")).find(asked).is_empty();
        assert_eq!(found, expected, "{asked} in {written}");
    }
}

#[test]
fn a_word_is_known_by_its_first_place() {
    let texts = [("a.txt", "x\nv1 v1"), ("b.txt", "v1\nv2"), ("c.txt", "v2.\nv2")];
    let whole = index(TextScope::Source, &texts);
    assert_eq!(places(&whole, whole.find("v1")), ["a.txt:2"]);
    assert_eq!(places(&whole, whole.find("v2")), ["b.txt:2"]);
    assert!(whole.find("v3").is_empty());
    assert!(!whole.is_by_place() && !whole.is_empty());
    let apart = index(TextScope::Place, &texts);
    assert_eq!(places(&apart, apart.find("v1")), ["a.txt:2", "b.txt:1"]);
    assert_eq!(places(&apart, apart.find("v2")), ["b.txt:2", "c.txt:1"]);
    assert!(apart.is_by_place());
    assert!(of("").is_empty());
}

#[test]
fn an_index_does_not_depend_on_when_it_was_merged() {
    let texts = [("a.txt", "x v1 main\nweb v2"), ("b.txt", "v1 x 0123456789ab"), ("c.txt", "y v3 main")];
    for scope in [TextScope::Source, TextScope::Place] {
        let mut builder = TextIndexBuilder::new(scope);
        for (name, text) in texts {
            let place = builder.add_place(TextPlace::File(name.into()));
            for (line, number) in text.lines().zip(1..) {
                let words: Vec<(u32, &str)> = line.split_whitespace().map(|word| (number, word)).collect();
                builder.add_unit(place, &words);
                builder.merge();
            }
        }
        assert_eq!(builder.finish(), index(scope, &texts));
    }
}

#[test]
fn recorded_words_give_the_same_index() {
    let texts = ["shop/api latest main\nSHOP_API_TAG 7", "", "x v1 v1.2.yaml\nx 0123456789ab v1", "web V2 7 latest"];
    let add = |text: &str, builder: &mut TextIndexBuilder, place: u32| {
        for (line, number) in text.lines().zip(1..) {
            let words: Vec<(u32, &str)> = line.split([' ', '/']).map(|word| (number, word)).collect();
            builder.add_unit(place, &words);
            builder.add_adjacent(place, &[(number, "beside"), (number, "stable")]);
        }
    };
    let mut words = WordRecorder::default();
    let recorded = texts.map(|text| words.record(|builder, place| add(text, builder, place)));
    // The same again, although these words were the most recent ones.
    let again = texts.map(|text| words.record(|builder, place| add(text, builder, place)));
    assert_eq!(recorded, again);
    for scope in [TextScope::Source, TextScope::Place] {
        let (mut direct, mut replayed) = (TextIndexBuilder::new(scope), TextIndexBuilder::new(scope));
        for (name, own) in [("a", &[0, 1, 2][..]), ("b", &[2, 3]), ("c", &[3, 0]), ("d", &[])] {
            let place = direct.add_place(TextPlace::File(name.into()));
            assert_eq!(replayed.add_place(TextPlace::File(name.into())), place);
            for &text in own {
                add(texts[text], &mut direct, place);
                replayed.add_recorded(place, &recorded[text]);
            }
        }
        let (direct, replayed) = (direct.finish(), replayed.finish());
        assert_eq!(direct, replayed);
        assert!(replayed.find_digest("0123456789ab").is_some());
        assert!(!replayed.find_adjacent("api", "latest").is_empty());
    }
    // Digits of one text do not count for another.
    let mut without = TextIndexBuilder::new(TextScope::Place);
    let place = without.add_place(TextPlace::File("a".into()));
    without.add_recorded(place, &recorded[3]);
    assert_eq!(without.finish().hex_lengths, 0);
}

#[test]
fn everyday_words_are_found_beside_a_name_alone() {
    for word in ["latest", "Latest", "main", "staging", "7", "20261123"] {
        assert!(is_common_word(word), "{word}");
    }
    for word in ["v7", "1.2", "latest-1", "mainline", "release-7"] {
        assert!(!is_common_word(word), "{word}");
    }
    for (text, name, everyday, expected) in [
        ("deploy api latest", "api", "latest", true),
        ("latest of API", "api", "latest", true),
        ("api 7", "api", "7", true),
        ("api\nlatest", "api", "latest", false),
        ("api web\nweb latest", "api", "latest", false),
        ("api stable", "api", "latest", false),
        ("apis latest", "api", "latest", false),
        ("main latest", "main", "latest", true),
        ("api latest.", "api", "latest", true),
        ("API Latest", "api", "latest", true),
    ] {
        let found = !of(text).find_adjacent(name, everyday).is_empty();
        assert_eq!(found, expected, "{everyday} beside {name} in {text}");
    }
    let found = of("x\napi web\nlatest api");
    assert_eq!(places(&found, found.find_adjacent("api", "latest")), ["notes.md:3"]);
}

#[test]
fn a_digest_is_found_by_twelve_digits_or_more() {
    const HEX: &str = "13e367d31ae85359f42d637adf6da428f76d75dc9afeb3c21faea0d976f5c651";
    for (text, expected) in [
        ("13e367d31ae8", Some("13e367d31ae8")),
        ("13E367D31AE8", Some("13e367d31ae8")),
        ("13e367d31ae.", None),
        ("13e367d31ae8.", Some("13e367d31ae8")),
        ("13e367d31ae8.tar", Some("13e367d31ae8")),
        ("1.4.0+13e367d31ae8", Some("13e367d31ae8")),
        ("13e367d31ae", None),
        ("13e367d31ae9", None),
        ("e367d31ae853", None),
        ("13e367d31ae85", Some("13e367d31ae85")),
        ("13e367d31ae85\n13e367d31ae8", Some("13e367d31ae85")),
        (HEX, Some(HEX)),
        ("13e367d31ae8-dirty", None),
    ] {
        let index = of(text);
        assert_eq!(index.find_digest(HEX).map(|(_, start)| start), expected, "{text}");
    }
    let index = of("x\nx 13e367d31ae8");
    let (word, _) = index.find_digest(HEX).unwrap();
    assert_eq!(places(&index, &[word]), ["notes.md:2"]);
}

#[test]
fn a_digest_of_another_algorithm_is_found_whole() {
    let hex = "0123456789abcdef".repeat(8);
    assert_eq!(of(&hex).find_digest(&hex).map(|(_, start)| start), Some(hex.as_str()));
}

#[test]
fn everyday_words_are_paired_with_the_words_around_them_in_a_long_line() {
    let line = |before: usize| format!("api {}latest", "x ".repeat(before));
    assert!(!of(&line(60)).find_adjacent("api", "latest").is_empty());
    assert!(of(&line(70)).find_adjacent("api", "latest").is_empty());
}
