//! Charts as SVG, written by hand: lines over a swept parameter with whiskers from the smallest to the largest round.
//!
//! A chart says what it shows in its title and axes, and needs no script. Which charts a run has is decided in
//! [`charts`]; where they are kept is [`super::place`]'s.

use super::params::parse_count;
use super::record::{Point, RunRecord, Series};
use corefold_engine::units;
use std::fmt::Write;

/// A chart and the name of its file.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    /// Without extension.
    pub name: String,
    /// The file's content.
    pub svg: String,
}

/// A value over a parameter, with its spread.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Mark {
    x: f64,
    low: f64,
    y: f64,
    high: f64,
}

/// Marks that belong together.
struct Line {
    name: String,
    marks: Vec<Mark>,
}

/// What a chart shows.
struct Picture {
    title: String,
    x_name: String,
    y_name: String,
    /// What is written under each place of the x axis.
    ticks: Vec<(f64, String)>,
    lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 78.0;
const COLOURS: [&str; 6] = ["#1f5fa8", "#c8551b", "#3a8a3a", "#8a3a8a", "#8a6d1f", "#555555"];

/// The charts of a run: every figure over the first swept parameter, or round by round where nothing is swept; latency by
/// quantile where there is any.
pub fn charts(record: &RunRecord) -> Vec<Chart> {
    let names: Vec<&str> =
        record.points.first().map_or(Vec::new(), |point| point.metrics.iter().map(|s| s.name.as_str()).collect());
    let pictures = match record.swept.split_first() {
        Some((x, others)) => {
            let mut pictures: Vec<Picture> = names.iter().map(|name| over_parameter(record, name, x, others)).collect();
            pictures.extend(latency_over(record, x, others));
            pictures
        }
        None => names.iter().filter_map(|name| round_by_round(record, name)).collect(),
    };
    let file = |picture: &Picture| {
        let name = format!("{}-over-{}", picture.y_name.split(" (").next().unwrap_or_default(), picture.x_name);
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>()
    };
    pictures.iter().map(|picture| Chart { name: file(picture), svg: draw(picture) }).collect()
}

fn over_parameter(record: &RunRecord, metric: &str, x: &str, others: &[String]) -> Picture {
    let mark = |place: f64, point: &Point| {
        let series = point.metric(metric)?;
        Some(Mark { x: place, low: series.min(), y: series.median(), high: series.max() })
    };
    let (ticks, lines) = lines_of(record, x, others, mark);
    let unit = record.points.iter().find_map(|point| point.metric(metric)).map_or("", |series| series.unit.as_str());
    Picture {
        title: format!("{metric}, {}", record.scenario),
        x_name: x.to_owned(),
        y_name: format!("{metric} ({unit})"),
        ticks,
        lines,
    }
}

fn latency_over(record: &RunRecord, x: &str, others: &[String]) -> Option<Picture> {
    record.points.iter().find(|point| point.latency.is_some())?;
    let mut picture = Picture {
        title: format!("latency, {}", record.scenario),
        x_name: x.to_owned(),
        y_name: "latency from due (us)".to_owned(),
        ticks: Vec::new(),
        lines: Vec::new(),
    };
    for (name, of) in [
        ("p50", (|found| found.p50) as fn(super::record::Quantiles) -> u64),
        ("p99", |found| found.p99),
        ("p99.9", |found| found.p99_9),
    ] {
        let mark = |place: f64, point: &Point| {
            let y = of(point.latency?) as f64 / 1e3;
            Some(Mark { x: place, low: y, y, high: y })
        };
        let (ticks, lines) = lines_of(record, x, others, mark);
        picture.ticks = ticks;
        picture.lines.extend(
            lines
                .into_iter()
                .map(|line| Line { name: format!("{name} {}", line.name).trim().to_owned(), marks: line.marks }),
        );
    }
    Some(picture)
}

/// One line per combination of the other swept parameters.
fn lines_of(
    record: &RunRecord,
    x: &str,
    others: &[String],
    mark: impl Fn(f64, &Point) -> Option<Mark>,
) -> (Vec<(f64, String)>, Vec<Line>) {
    let values: Vec<&str> = record.points.iter().filter_map(|point| point.params.get(x).map(String::as_str)).collect();
    let is_number = values.iter().all(|value| number(value).is_some());
    let mut ticks: Vec<(f64, String)> = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for point in &record.points {
        let Some(value) = point.params.get(x) else { continue };
        let known = ticks.iter().find(|(_, text)| text == value).map(|(place, _)| *place);
        let place = known.unwrap_or_else(|| match number(value) {
            Some(number) if is_number => number,
            _ => ticks.len() as f64,
        });
        if known.is_none() {
            ticks.push((place, value.clone()));
        }
        let name = point.name(others);
        let Some(mark) = mark(place, point) else { continue };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.marks.push(mark),
            None => lines.push(Line { name, marks: vec![mark] }),
        }
    }
    (ticks, lines)
}

fn number(text: &str) -> Option<f64> {
    let plain = parse_count(text).map(|count| count as f64).or_else(|| text.parse().ok());
    plain.or_else(|| units::parse_duration(text).ok().map(|span| span.micros() as f64))
}

fn round_by_round(record: &RunRecord, metric: &str) -> Option<Picture> {
    let series: &Series = record.points.first()?.metric(metric)?;
    let marks = series.values.iter().enumerate();
    let marks: Vec<Mark> = marks.map(|(round, &y)| Mark { x: (round + 1) as f64, low: y, y, high: y }).collect();
    Some(Picture {
        title: format!("{metric}, {}", record.scenario),
        x_name: "round".to_owned(),
        y_name: format!("{metric} ({})", series.unit),
        ticks: marks.iter().map(|mark| (mark.x, format!("{}", mark.x))).collect(),
        lines: vec![Line { name: String::new(), marks }],
    })
}

/// From values to places on the paper.
struct Scale {
    x_low: f64,
    x_high: f64,
    y_high: f64,
    is_log: bool,
}

impl Scale {
    fn of(picture: &Picture) -> Scale {
        let xs = || picture.ticks.iter().map(|(x, _)| *x);
        let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
        let is_log = low > 0.0 && high / low > 30.0;
        let top = picture.lines.iter().flat_map(|line| &line.marks).map(|mark| mark.high).fold(0.0, f64::max);
        Scale { x_low: low, x_high: high, y_high: if top > 0.0 { round_up(top * 1.05) } else { 1.0 }, is_log }
    }

    fn x(&self, value: f64) -> f64 {
        let on = |value: f64| if self.is_log { value.ln() } else { value };
        let span = on(self.x_high) - on(self.x_low);
        let share = if span > 0.0 { (on(value) - on(self.x_low)) / span } else { 0.5 };
        LEFT + 12.0 + share * (WIDTH - LEFT - RIGHT - 24.0)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.y_high * (HEIGHT - TOP - BOTTOM)
    }
}

/// The next of 1, 2, 2.5 and 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|step| step * power).find(|&step| step >= value).unwrap_or(value)
}

fn draw(picture: &Picture) -> String {
    let scale = Scale::of(picture);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, (LEFT, 24.0), "start", &picture.title, 15);
    text(&mut svg, (WIDTH / 2.0, HEIGHT - 30.0), "middle", &picture.x_name, 12);
    text(&mut svg, (LEFT, TOP - 6.0), "start", &picture.y_name, 11);
    for step in 0..=5 {
        let value = scale.y_high * f64::from(step) / 5.0;
        let y = scale.y(value);
        let right = WIDTH - RIGHT;
        // Writing to a string does not fail, here and below.
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#dddddd\"/>");
        text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &short(value), 11);
    }
    for (x, label) in &picture.ticks {
        text(&mut svg, (scale.x(*x), HEIGHT - BOTTOM + 18.0), "middle", label, 11);
    }
    for (index, line) in picture.lines.iter().enumerate() {
        draw_line(&mut svg, line, &scale, COLOURS[index % COLOURS.len()], index);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_line(svg: &mut String, line: &Line, scale: &Scale, colour: &str, index: usize) {
    let places: Vec<String> =
        line.marks.iter().map(|mark| format!("{:.1} {:.1}", scale.x(mark.x), scale.y(mark.y))).collect();
    let _ = writeln!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", places.join("L"));
    for mark in &line.marks {
        let (x, low, y, high) = (scale.x(mark.x), scale.y(mark.low), scale.y(mark.y), scale.y(mark.high));
        let _ = writeln!(svg, "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>");
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}</title></circle>",
            short(mark.y)
        );
    }
    if !line.name.is_empty() {
        let x = LEFT + 150.0 * (index % 4) as f64;
        let y = HEIGHT - 12.0 + 13.0 * (index / 4) as f64 - 6.0;
        let top = y - 9.0;
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{top}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        text(svg, (x + 15.0, y), "start", &line.name, 11);
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str, size: u32) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{}</text>",
        escaped(words)
    );
}

/// A number with as many digits as are read at a glance.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if size >= 1e6 => format!("{:.3}M", value / 1e6),
        _ if size >= 1e3 => format!("{value:.0}"),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Text for XML and HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 1.0, 1.1, 22.0, 26.0, 730.0].map(round_up), [1.0, 1.0, 2.0, 25.0, 50.0, 1000.0]);
    }

    #[test]
    fn words_are_ordered_and_numbers_are_placed() {
        let marks = vec![Mark { x: 1.0, low: 1.0, y: 2.0, high: 3.0 }, Mark { x: 1e6, low: 4.0, y: 4.0, high: 4.0 }];
        let ticks = vec![(1.0, "1".to_owned()), (1e6, "1M".to_owned())];
        let picture = Picture {
            title: "a < b".to_owned(),
            x_name: "x".to_owned(),
            y_name: "y".to_owned(),
            ticks,
            lines: vec![Line { name: "l".to_owned(), marks }],
        };
        let scale = Scale::of(&picture);
        assert!(scale.is_log);
        assert!((scale.x(1e3) - f64::midpoint(scale.x(1.0), scale.x(1e6))).abs() < 1e-6);
        let svg = draw(&picture);
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(number("10s"), Some(10e6));
        assert_eq!(number("zipf"), None);
    }
}
