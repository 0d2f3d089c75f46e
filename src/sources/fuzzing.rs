//! Ways in for fuzz targets: whatever bytes come, reading them ends, without a panic, and with the same result each time.
//!
//! Each of these reads its input twice and compares.

use super::document::{Format, parse};
use super::encoding;
use super::image_syntax;
use super::known_hosts::KnownHosts;
use super::text::{Document, TextReader, TextSettings};
use crate::domain::TextScope;

/// The names by which the registries are known here.
const HOSTS: [&str; 3] = ["contoso.azurecr.io", "registry.contoso.example:5000", "harbor.contoso.example/acr-proxy"];

/// Reads bytes as a text file.
///
/// # Panics
/// If two readings differ, which is what is looked for.
pub fn text(bytes: &[u8]) {
    files(&[("notes.txt", bytes), ("log", bytes)]);
}

/// Reads bytes as a text that stands where an image is expected.
///
/// # Panics
/// If two readings differ, which is what is looked for.
pub fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(image_syntax::parse_image(&text), image_syntax::parse_image(&text));
}

/// Reads bytes as a compose file and as the definitions beside it.
///
/// # Panics
/// If two readings differ, which is what is looked for.
pub fn compose(bytes: &[u8]) {
    files(&[("shop/compose.yaml", bytes), ("shop/.env", bytes), ("Dockerfile", bytes)]);
}

/// Reads bytes as a chart, as its values, and as objects of tools that deploy charts.
///
/// # Panics
/// If two readings differ, which is what is looked for.
pub fn helm(bytes: &[u8]) {
    files(&[
        ("api/Chart.yaml", bytes),
        ("api/Chart.lock", bytes),
        ("api/values.yaml", bytes),
        ("clusters/kustomization.yaml", bytes),
        ("clusters/apps.json", bytes),
    ]);
}

/// Reads bytes as documents of each format.
///
/// # Panics
/// If two readings differ, which is what is looked for.
pub fn yaml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for format in [Format::Yaml, Format::Json, Format::JsonLines] {
        assert_eq!(parse(&text, format), parse(&text, format));
    }
}

fn files(files: &[(&str, &[u8])]) {
    let hosts = KnownHosts::new(&HOSTS.map(String::from));
    let settings = TextSettings::default();
    let read = || {
        let mut reader = TextReader::new(&hosts, &settings, TextScope::Source);
        for (name, bytes) in files {
            let Ok(text) = encoding::utf8(bytes) else { continue };
            let format = Format::of(std::path::Path::new(name));
            reader.read(Document { name, kind: None, format, text: &String::from_utf8_lossy(&text) });
        }
        format!("{:?}", reader.finish())
    };
    assert_eq!(read(), read());
}
