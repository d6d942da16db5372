//! Charts as SVG, written by hand: lines over a swept number, bars over swept words, with whiskers from the smallest to the
//! largest round.
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
    /// Whether the places are words, which have no order and nothing between them.
    has_words: bool,
    /// Whether the y axis goes by factors: latencies of one chart differ by orders of magnitude.
    is_log: bool,
    lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 78.0;
const COLOURS: [&str; 8] = ["#1f5fa8", "#c8551b", "#3a8a3a", "#8a3a8a", "#8a6d1f", "#2a9aa8", "#b03060", "#555555"];

/// Height of a line of the legend.
const LEGEND_LINE: f64 = 16.0;

/// Width of a letter of the legend, on the large side.
const LETTER: f64 = 6.6;

/// The charts of a run: every figure over the first swept parameter that is a number (or the first one at all), or round by
/// round where nothing is swept; latency by quantile where there is any.
pub fn charts(record: &RunRecord) -> Vec<Chart> {
    let names: Vec<&str> =
        record.points.first().map_or(Vec::new(), |point| point.metrics.iter().map(|s| s.name.as_str()).collect());
    let is_number = |name: &&String| values_of(record, name).iter().all(|value| number(value).is_some());
    let pictures = match record.swept.iter().find(is_number).or(record.swept.first()) {
        Some(x) => {
            let others: Vec<String> = record.swept.iter().filter(|name| *name != x).cloned().collect();
            let latency = latency_over(record, x, &others);
            latency.into_iter().chain(names.iter().map(|name| over_parameter(record, name, x, &others))).collect()
        }
        None => names.iter().filter_map(|name| round_by_round(record, name)).collect::<Vec<Picture>>(),
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
        has_words: !has_numbers(record, x),
        is_log: false,
        lines,
    }
}

fn latency_over(record: &RunRecord, x: &str, others: &[String]) -> Option<Picture> {
    record.points.iter().find(|point| point.latency.is_some())?;
    let mut picture = Picture {
        title: format!("latency by quantile, {}", record.scenario),
        x_name: x.to_owned(),
        y_name: "latency from due (us)".to_owned(),
        ticks: Vec::new(),
        has_words: !has_numbers(record, x),
        is_log: true,
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
    let is_number = has_numbers(record, x);
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

fn values_of<'a>(record: &'a RunRecord, x: &str) -> Vec<&'a str> {
    record.points.iter().filter_map(|point| point.params.get(x).map(String::as_str)).collect()
}

fn has_numbers(record: &RunRecord, x: &str) -> bool {
    values_of(record, x).iter().all(|value| number(value).is_some())
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
        has_words: false,
        is_log: false,
        lines: vec![Line { name: String::new(), marks }],
    })
}

/// From values to places on the paper.
struct Scale {
    x_low: f64,
    x_high: f64,
    x_is_log: bool,
    /// Half of the room that a place of the x axis has, where places are words.
    x_margin: f64,
    y_low: f64,
    y_high: f64,
    y_is_log: bool,
}

impl Scale {
    fn of(picture: &Picture) -> Scale {
        let xs = || picture.ticks.iter().map(|(x, _)| *x);
        let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
        let x_is_log = low > 0.0 && high / low > 30.0 && !picture.has_words;
        let marks = || picture.lines.iter().flat_map(|line| &line.marks);
        let top = marks().map(|mark| mark.high).fold(0.0, f64::max);
        let bottom = marks().map(|mark| mark.low).fold(f64::INFINITY, f64::min);
        let y_is_log = picture.is_log && bottom > 0.0 && bottom.is_finite();
        let (y_low, y_high) = match (y_is_log, top > 0.0) {
            (true, _) => (10_f64.powf(bottom.log10().floor()), 10_f64.powf((top * 1.05).log10().ceil())),
            (false, true) => (0.0, round_up(top * 1.05)),
            (false, false) => (0.0, 1.0),
        };
        let places = picture.ticks.len().max(1) as f64;
        let x_margin = if picture.has_words { (WIDTH - LEFT - RIGHT) / places / 2.0 } else { 12.0 };
        Scale { x_low: low, x_high: high, x_is_log, x_margin, y_low, y_high, y_is_log }
    }

    fn x(&self, value: f64) -> f64 {
        let on = |value: f64| if self.x_is_log { value.ln() } else { value };
        let span = on(self.x_high) - on(self.x_low);
        let share = if span > 0.0 { (on(value) - on(self.x_low)) / span } else { 0.5 };
        LEFT + self.x_margin + share * (WIDTH - LEFT - RIGHT - 2.0 * self.x_margin)
    }

    fn y(&self, value: f64) -> f64 {
        let on = |value: f64| if self.y_is_log { value.ln() } else { value };
        let share = (on(value) - on(self.y_low)) / (on(self.y_high) - on(self.y_low));
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    /// Values with a line across the paper.
    fn grid(&self) -> Vec<f64> {
        if !self.y_is_log {
            return (0..=5).map(|step| self.y_high * f64::from(step) / 5.0).collect();
        }
        let decades = (self.y_high / self.y_low).log10().round() as i32;
        (0..=decades).map(|decade| self.y_low * 10_f64.powi(decade)).collect()
    }
}

/// The next of some round numbers, whose fifths are round too.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|&step| step >= value).unwrap_or(value)
}

fn draw(picture: &Picture) -> String {
    let scale = Scale::of(picture);
    let longest = picture.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let column = longest as f64 * LETTER + 30.0;
    let columns = ((WIDTH - LEFT) / column).floor().max(1.0);
    let rows = if longest == 0 { 0.0 } else { (picture.lines.len() as f64 / columns).ceil() };
    let height = HEIGHT - 24.0 + rows * LEGEND_LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, (LEFT, 22.0), "start", &picture.title, 15);
    text(&mut svg, (WIDTH / 2.0, HEIGHT - BOTTOM + 38.0), "middle", &picture.x_name, 12);
    text(&mut svg, (LEFT, TOP - 6.0), "start", &picture.y_name, 11);
    for value in scale.grid() {
        let (y, right) = (scale.y(value), WIDTH - RIGHT);
        // Writing to a string does not fail, here and below.
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#dddddd\"/>");
        text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &plain(value), 11);
    }
    for (x, label) in &picture.ticks {
        text(&mut svg, (scale.x(*x), HEIGHT - BOTTOM + 18.0), "middle", label, 11);
    }
    for (index, line) in picture.lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        if picture.has_words {
            draw_bars(&mut svg, line, &scale, colour, (index, picture.lines.len()));
        } else {
            draw_line(&mut svg, line, &scale, colour);
        }
        if longest > 0 {
            let x = LEFT + column * (index as f64 % columns);
            let y = HEIGHT - 24.0 + LEGEND_LINE * (index as f64 / columns).floor();
            let top = y - 9.0;
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{top}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
            text(&mut svg, (x + 15.0, y), "start", &line.name, 11);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_line(svg: &mut String, line: &Line, scale: &Scale, colour: &str) {
    let mut marks = line.marks.clone();
    marks.sort_by(|a, b| a.x.total_cmp(&b.x));
    let places: Vec<String> =
        marks.iter().map(|mark| format!("{:.1} {:.1}", scale.x(mark.x), scale.y(mark.y))).collect();
    let _ = writeln!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", places.join("L"));
    for mark in &marks {
        let (x, y) = (scale.x(mark.x), scale.y(mark.y));
        draw_whisker(svg, mark, scale, (x, colour));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}</title></circle>",
            short(mark.y)
        );
    }
}

/// The bars of one line, beside those of the others.
fn draw_bars(svg: &mut String, line: &Line, scale: &Scale, colour: &str, (index, count): (usize, usize)) {
    let room = (scale.x_margin * 1.5).min(160.0);
    let width = room / count as f64;
    for mark in &line.marks {
        let left = scale.x(mark.x) - room / 2.0 + width * index as f64;
        let (y, base) = (scale.y(mark.y), scale.y(scale.y_low));
        let (inner, height) = (width * 0.86, base - y);
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{inner:.1}\" height=\"{height:.1}\" fill=\"{colour}\" \
             fill-opacity=\"0.75\"><title>{}</title></rect>",
            short(mark.y)
        );
        draw_whisker(svg, mark, scale, (left + inner / 2.0, "#222222"));
    }
}

/// From the smallest to the largest round.
fn draw_whisker(svg: &mut String, mark: &Mark, scale: &Scale, (x, colour): (f64, &str)) {
    let (low, high) = (scale.y(mark.low), scale.y(mark.high));
    let _ = writeln!(svg, "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>");
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

/// A number of an axis: as few digits as it needs.
fn plain(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", plain(value / 1e6)),
        size if size >= 1e4 => format!("{}k", plain(value / 1e3)),
        // What is left of a division goes.
        _ => format!("{}", (value * 1e6).round() / 1e6),
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
        assert_eq!([0.7, 1.0, 1.1, 22.0, 26.0, 730.0].map(round_up), [0.8, 1.0, 1.5, 25.0, 30.0, 800.0]);
        assert_eq!([0.0, 0.30000000000000004, 40.0, 12_500.0, 2.5e6].map(plain), ["0", "0.3", "40", "12.5k", "2.5M"]);
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
            has_words: false,
            is_log: false,
            lines: vec![Line { name: "l".to_owned(), marks }],
        };
        let scale = Scale::of(&picture);
        assert!(scale.x_is_log);
        assert!((scale.x(1e3) - f64::midpoint(scale.x(1.0), scale.x(1e6))).abs() < 1e-6);
        let svg = draw(&picture);
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(number("10s"), Some(10e6));
        assert_eq!(number("zipf"), None);
        let bars = draw(&Picture { has_words: true, is_log: true, ..picture });
        assert!(bars.contains("fill-opacity") && !bars.contains("<circle"), "{bars}");
    }
}
