//! Entry points for fuzz targets: parsing any bytes terminates, without a panic, and with the same result each time.
//!
//! Each of these parses its input twice and compares.

use super::document::{Format, parse};
use super::encoding;
use super::image_syntax;
use super::known_hosts::KnownHosts;
use super::text::{Document, TextReader, TextSettings};
use crate::domain::TextScope;

/// The names of the registries here.
const HOSTS: [&str; 3] = ["contoso.azurecr.io", "registry.contoso.example:5000", "harbor.contoso.example/acr-proxy"];

/// Parses bytes as a text file.
///
/// # Panics
/// If two runs differ, which is the bug that this looks for.
pub fn text(bytes: &[u8]) {
    files(&[("notes.txt", bytes), ("log", bytes)]);
}

/// Parses bytes as a text where an image is expected.
///
/// # Panics
/// If two runs differ, which is the bug that this looks for.
pub fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(image_syntax::parse_image(&text), image_syntax::parse_image(&text));
}

/// Parses bytes as a compose file and as the definitions beside it.
///
/// # Panics
/// If two runs differ, which is the bug that this looks for.
pub fn compose(bytes: &[u8]) {
    files(&[("shop/compose.yaml", bytes), ("shop/.env", bytes), ("Dockerfile", bytes)]);
}

/// Parses bytes as a chart, as its values, and as objects of tools that deploy charts.
///
/// # Panics
/// If two runs differ, which is the bug that this looks for.
pub fn helm(bytes: &[u8]) {
    files(&[
        ("api/Chart.yaml", bytes),
        ("api/Chart.lock", bytes),
        ("api/values.yaml", bytes),
        ("clusters/kustomization.yaml", bytes),
        ("clusters/apps.json", bytes),
    ]);
}

/// Parses bytes as documents of each format.
///
/// # Panics
/// If two runs differ, which is the bug that this looks for.
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
