//! Bytes over time, drawn as SVG by the template.

use jiff::Timestamp;

use crate::report::format_bytes;

const RIGHT: i128 = 640;
const TOP: i128 = 2;
const BOTTOM: i128 = 158;

/// The bytes of one run.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    /// Bytes needed only by removed images.
    pub(super) reclaimable: u64,
    /// Bytes of the same images that a retained manifest needs, too.
    pub(super) shared: u64,
    /// The decrease of a registry's stored bytes afterwards; `None` if not measured.
    pub(super) reclaimed: Option<u64>,
}

/// A drawing of 640 by 160, which the browser stretches. Its labels are text beside it, so that they keep their size.
#[derive(Debug)]
pub(super) struct Chart {
    /// The corners of the line.
    pub(super) line: String,
    /// The same, closed at the bottom.
    pub(super) area: String,
    pub(super) bars: Vec<Bar>,
    /// The heights of the lines behind it, and the labels of these, from the top down.
    pub(super) grid: [(i128, String); 3],
    pub(super) from: String,
    pub(super) to: String,
    /// The chart in words.
    pub(super) description: String,
}

#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: i128,
    pub(super) y: i128,
    pub(super) height: i128,
    pub(super) description: String,
}

/// Builds a chart from at least two points, the earliest first.
pub(super) fn build_chart(points: &[Point]) -> Option<Chart> {
    let (first, last) = (points.first()?, points.last()?);
    let most = points.iter().map(|point| point.reclaimable.max(point.reclaimed.unwrap_or_default())).max()?.max(1);
    let span = last.at.as_second() - first.at.as_second();
    if span <= 0 {
        return None;
    }
    let x = |at: Timestamp| i128::from(at.as_second() - first.at.as_second()) * RIGHT / i128::from(span);
    let y = |bytes: u64| BOTTOM - i128::from(bytes) * (BOTTOM - TOP) / i128::from(most);
    let corners: Vec<String> = points.iter().map(|point| format!("{},{}", x(point.at), y(point.reclaimable))).collect();
    let line = corners.join(" ");
    let bars = points.iter().filter_map(|point| {
        let reclaimed = point.reclaimed.filter(|reclaimed| *reclaimed > 0)?;
        let top = y(reclaimed).min(BOTTOM - 2);
        let words = format!("{}: {} reclaimed", day(point.at), format_bytes(reclaimed));
        Some(Bar { x: x(point.at) - 2, y: top, height: BOTTOM - top, description: words })
    });
    // Several runs of one day are told apart by their times.
    let label: fn(Timestamp) -> String = if day(first.at) == day(last.at) { minute } else { day };
    let measured = points.iter().filter_map(|point| point.reclaimed).fold(0, u64::saturating_add);
    Some(Chart {
        area: format!("0,{BOTTOM} {line} {RIGHT},{BOTTOM}"),
        line,
        bars: bars.collect(),
        grid: [most, most / 2, 0].map(|value| (y(value), format_bytes(value))),
        from: label(first.at),
        to: label(last.at),
        description: format!(
            "Reclaimable bytes went from {} on {} to {} on {}; {} were reclaimed, as far as registries said",
            format_bytes(first.reclaimable),
            label(first.at),
            format_bytes(last.reclaimable),
            label(last.at),
            format_bytes(measured),
        ),
    })
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(day: i64, reclaimable: u64, reclaimed: Option<u64>) -> Point {
        Point { at: Timestamp::from_second(day * 86_400).unwrap(), reclaimable, shared: 0, reclaimed }
    }

    #[test]
    fn points_lie_where_their_time_and_bytes_say() {
        let points = [point(0, 0, None), point(1, 1 << 30, Some(0)), point(4, 1 << 29, Some(1 << 30))];
        let chart = build_chart(&points).unwrap();
        assert_eq!(chart.line, "0,158 160,2 640,80");
        assert_eq!(chart.area, "0,158 0,158 160,2 640,80 640,158");
        assert_eq!(
            chart.grid.iter().map(|(y, label)| (*y, label.as_str())).collect::<Vec<_>>(),
            [(2, "1.0 GiB"), (80, "512.0 MiB"), (158, "0 B")]
        );
        assert_eq!(chart.bars.iter().map(|bar| (bar.x, bar.y, bar.height)).collect::<Vec<_>>(), [(638, 2, 156)]);
        assert_eq!((chart.from.as_str(), chart.to.as_str()), ("1970-01-01", "1970-01-05"));
    }

    #[test]
    fn runs_of_one_day_have_their_times() {
        let mut points = [point(0, 5, None), point(0, 6, None)];
        points[1].at = Timestamp::from_second(3 * 3600 + 60).unwrap();
        let chart = build_chart(&points).unwrap();
        assert_eq!((chart.from.as_str(), chart.to.as_str()), ("1970-01-01 00:00 UTC", "1970-01-01 03:01 UTC"));
    }

    #[test]
    fn one_time_and_largest_numbers_are_no_trouble() {
        assert!(build_chart(&[]).is_none());
        assert!(build_chart(&[point(1, 5, None), point(1, 6, None)]).is_none());
        assert_eq!(build_chart(&[point(0, u64::MAX, None), point(1, 0, None)]).unwrap().line, "0,2 640,158");
        assert_eq!(build_chart(&[point(0, 0, None), point(1, 0, None)]).unwrap().line, "0,158 640,158");
    }
}
