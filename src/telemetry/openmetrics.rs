//! The OpenMetrics text format, as far as the daemon's own metrics use it
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::collections::BTreeMap;

/// A metric family.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MetricFamily {
    /// The name, without the suffixes of its samples.
    pub(super) name: String,
    /// The type, such as `gauge`.
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// The part of the sample's name that follows that of its family, such as `_total` or `_bucket`.
    pub(super) suffix: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Parses a rendered page of metrics. Lines that are not understood are passed over.
pub(super) fn parse(text: &str) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let Some((keyword, (name, value))) =
                comment.split_once(' ').and_then(|(keyword, rest)| Some((keyword, rest.split_once(' ')?)))
            else {
                continue;
            };
            if families.last().is_none_or(|family| family.name != name) {
                families.push(MetricFamily { name: name.to_owned(), ..MetricFamily::default() });
            }
            let Some(family) = families.last_mut() else { continue };
            match keyword {
                "TYPE" => value.clone_into(&mut family.kind),
                "HELP" => family.help = unescape(value),
                _ => {}
            }
        } else if let Some(family) = families.last_mut()
            && let Some(sample) = line.strip_prefix(&family.name).and_then(parse_sample)
        {
            family.samples.push(sample);
        }
    }
    families
}

/// Parses a sample without the name of its family.
fn parse_sample(rest: &str) -> Option<Sample> {
    let name_ends = rest.find(['{', ' '])?;
    let (suffix, mut rest) = rest.split_at(name_ends);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let ends = closing_quote(after)?;
            labels.insert(name.to_owned(), unescape(&after[..ends]));
            rest = &after[ends + 1..];
        }
    }
    let value = rest.trim_start().split(' ').next()?.parse().ok()?;
    Some(Sample { suffix: suffix.to_owned(), labels, value })
}

/// Returns the position of the first quote that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(one) = characters.next() {
        match one {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_samples_labels_and_escapes() {
        let text = "# HELP removals Removed \\\"tags\\\".\n# TYPE removals counter\n\
                    removals_total{registry=\"a \\\"b\\\" \\\\\",mode=\"x,y}\"} 7\n\
                    # HELP ready Ready.\n# TYPE ready gauge\nready 1\n\
                    # HELP took Took.\n# TYPE took histogram\ntook_sum 2.5\ntook_count 2\n\
                    took_bucket{le=\"1.0\"} 1\ntook_bucket{le=\"+Inf\"} 2\n# EOF\n";
        let families = parse(text);
        let named: Vec<_> =
            families.iter().map(|family| (&*family.name, &*family.kind, family.samples.len())).collect();
        assert_eq!(named, [("removals", "counter", 1), ("ready", "gauge", 1), ("took", "histogram", 4)]);
        assert_eq!(families[0].help, "Removed \"tags\".");
        let sample = &families[0].samples[0];
        assert_eq!((&*sample.suffix, sample.value), ("_total", 7.0));
        assert_eq!((&*sample.labels["registry"], &*sample.labels["mode"]), ("a \"b\" \\", "x,y}"));
        assert_eq!(families[2].samples[3].labels["le"], "+Inf");
    }
}
