//! Thousands of variants of the fuzz targets' seeds, made by a fixed seed: reading any of them ends, without a panic, and
//! with the same result each time.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tagwarden::sources::fuzzing;

/// Pieces that texts of all these kinds are made of.
const PIECES: [&str; 40] = [
    "contoso.azurecr.io/shop/api:v1",
    "contoso.azurecr.io",
    "/",
    ":",
    "@sha256:",
    "${",
    "}",
    "$(TAG)",
    "{{ .Values.tag }}",
    ":-",
    "<",
    ">",
    "%2F",
    "\\/",
    "\u{1b}[32m",
    "\n",
    "\r\n",
    "  ",
    "- ",
    "image: ",
    "repository: ",
    "tag: ",
    "\"",
    "'",
    "`",
    "...",
    "+",
    "&#x2F;",
    "latest",
    "docker build -t ",
    "&a ",
    "*a",
    "<<: ",
    "---\n",
    "{",
    "[",
    "]",
    "\\u0000",
    "é",
    "🦀",
];

const VARIANTS: usize = 400;

fn vary(bytes: &[u8], random: &mut TestRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.next_u32() % 6 {
        let at = random.next_u32() as usize % (bytes.len() + 1);
        match random.next_u32() % 5 {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, PIECES[random.next_u32() as usize % PIECES.len()].bytes())),
            2 if at < bytes.len() => bytes[at] ^= 1 << (random.next_u32() % 8),
            3 => {
                let part: Vec<u8> = bytes[..at].to_vec();
                bytes.extend(part);
            }
            _ => {
                let end = (at + random.next_u32() as usize % 20).min(bytes.len());
                drop(bytes.drain(at..end));
            }
        }
    }
    bytes
}

fn fuzz(target: &str, read: fn(&[u8])) {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{}", folder.display());
    for seed in seeds {
        let seed = fs::read(seed).unwrap();
        read(&seed);
        for _ in 0..VARIANTS {
            let bytes = vary(&seed, &mut random);
            let done = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
            assert!(done.is_ok(), "{target}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn any_text_file_is_read_to_its_end() {
    fuzz("text", fuzzing::text);
}

#[test]
fn any_reference_is_read_to_its_end() {
    fuzz("reference", fuzzing::reference);
}

#[test]
fn any_compose_file_is_read_to_its_end() {
    fuzz("compose", fuzzing::compose);
}

#[test]
fn any_chart_is_read_to_its_end() {
    fuzz("helm", fuzzing::helm);
}

#[test]
fn any_document_is_read_to_its_end() {
    fuzz("yaml", fuzzing::yaml);
}
