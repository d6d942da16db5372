//! An HTML page of several runs: tables and charts in one file that a browser opens from disk.
//!
//! Charts are drawn anew from `run.json`, so a directory with nothing else is enough. There is no script on the page.

use super::plot::{self, escaped, short};
use super::record::{Point, RunRecord};
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}\
td.n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f4f4f4;padding:.7em;overflow:auto}\
svg{max-width:100%;height:auto}.smoke{background:#ffe9b3;padding:.5em}details{margin:1em 0}";

/// The page of these runs, in the order given.
pub fn page(records: &[RunRecord]) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Corefold benchmarks</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>Corefold benchmarks</h1>\n<ul>\n"
    );
    // Writing to a string does not fail, here and below.
    for (index, record) in records.iter().enumerate() {
        let (label, scenario, began) = (escaped(&record.label), escaped(&record.scenario), escaped(&record.began));
        let _ = writeln!(html, "<li><a href=\"#run{index}\">{label}</a>: {scenario}, {began}</li>");
    }
    html.push_str("</ul>\n");
    for (index, record) in records.iter().enumerate() {
        section(&mut html, index, record);
    }
    html.push_str("</body></html>\n");
    html
}

fn section(html: &mut String, index: usize, record: &RunRecord) {
    let _ = writeln!(html, "<h2 id=\"run{index}\">{}</h2>", escaped(&record.label));
    let (scenario, about) = (escaped(&record.scenario), escaped(&record.about));
    let (host, began) = (escaped(&record.host.name), escaped(&record.began));
    let _ = writeln!(html, "<p><b>{scenario}</b>: {about}. On {host}, {began}.</p>");
    if record.smoke {
        html.push_str("<p class=\"smoke\">Smoke size: these figures mean nothing.</p>\n");
    }
    let _ = writeln!(html, "<pre>{}</pre>", escaped(&record.command));
    for chart in plot::charts(record) {
        html.push_str(&chart.svg);
    }
    for point in &record.points {
        table(html, record, point);
    }
    html.push_str("<details><summary>Machine</summary><table>\n");
    for (name, value) in &record.host.facts {
        let _ = writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    }
    html.push_str("</table></details>\n");
}

fn table(html: &mut String, record: &RunRecord, point: &Point) {
    let name = point.name(&record.swept);
    if !name.is_empty() {
        let _ = writeln!(html, "<h3>{}</h3>", escaped(&name));
    }
    html.push_str("<table><tr><th>figure</th><th>unit</th><th>median</th><th>least</th><th>most</th></tr>\n");
    for series in &point.metrics {
        let (name, unit) = (escaped(&series.name), escaped(&series.unit));
        let [median, min, max] = [series.median(), series.min(), series.max()].map(short);
        let _ = writeln!(
            html,
            "<tr><td>{name}</td><td>{unit}</td><td class=\"n\">{median}</td><td class=\"n\">{min}</td>\
             <td class=\"n\">{max}</td></tr>"
        );
    }
    html.push_str("</table>\n");
    if let Some(found) = &point.latency {
        let us = |ns: u64| short(ns as f64 / 1e3);
        let quantiles = [found.p50, found.p90, found.p99, found.p99_9, found.max].map(us).join(", ");
        let _ = writeln!(html, "<p>Latency in us: p50, p90, p99, p99.9, most: {quantiles}.</p>");
    }
    let params = point.params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    let (rows, digest) = (point.rows, escaped(&point.digest));
    let _ = writeln!(
        html,
        "<details><summary>Parameters and result</summary><p>{rows} rows, digest {digest}, as the reference says.</p>\
         <pre>{}</pre></details>",
        escaped(&params)
    );
}
