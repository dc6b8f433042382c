//! Plots of throughput and processor time by size.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::contestant::Contestant;
use crate::outcome::Outcome;
use crate::results::{Metric, Ran};
use crate::source::Origin;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Distinct colours, in the order of the contestants.
const COLOURS: [&str; 10] = [
    "#999999", "#444444", "#d62728", "#ff7f0e", "#e8a33d", "#8c564b", "#1f77b4", "#2ca02c",
    "#98df8a", "#9467bd",
];

/// The points of a contestant: size and value.
struct Series {
    contestant: Contestant,
    points: Vec<(f64, f64)>,
}

/// Draws the heats with one channel and PostgreSQL's write size into two files.
pub(crate) fn draw(heats: &[Ran], dir: &Path) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    let first = heats.iter().find(|ran| ran.heat.origin == Origin::Replay);
    let Some(first) = first.map(|ran| &ran.heat) else {
        return Err("nothing to draw: no heat has the replay server".into());
    };
    let drawn: Vec<&Ran> = heats
        .iter()
        .filter(|ran| {
            let heat = &ran.heat;
            heat.origin == Origin::Replay
                && heat.shape.channels == first.shape.channels
                && heat.write_bytes == first.write_bytes
                && heat.cores == first.cores
        })
        .collect();
    let plots = [
        ("throughput.svg", "Notifications a second, by bytes on the wire", Metric::Rate),
        ("cpu.svg", "Client CPU a notification in ns, by bytes on the wire", Metric::Cpu),
    ];
    for (name, title, metric) in plots {
        let lines: Vec<Series> = Contestant::CLIENTS
            .iter()
            .map(|contestant| Series {
                contestant: *contestant,
                points: points(&drawn, metric, *contestant),
            })
            .collect();
        fs::write(dir.join(name), svg(title, &lines)?)?;
    }
    Ok(())
}

fn points(heats: &[&Ran], metric: Metric, contestant: Contestant) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = heats
        .iter()
        .filter_map(|ran| {
            Some((ran.heat.shape.size as f64, ran.spread(metric, contestant)?.median))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Both axes are logarithmic.
fn svg(title: &str, lines: &[Series]) -> Result<String, std::fmt::Error> {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let (low_x, high_x) = bounds(all().map(|point| point.0), 1.1);
    let (low_y, high_y) = bounds(all().map(|point| point.1), 1.3);
    let place = |value: f64, low: f64, high: f64| (value / low).ln() / (high / low).ln();
    let x = |value| LEFT + place(value, low_x, high_x) * (WIDTH - LEFT - RIGHT);
    let y = |value| HEIGHT - BOTTOM - place(value, low_y, high_y) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for value in ticks(low_y, high_y) {
        let (at, end, text) = (y(value), WIDTH - RIGHT, short(value));
        writeln!(out, "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#dddddd\"/>")?;
        let (left, at) = (LEFT - 6.0, at + 4.0);
        writeln!(out, "<text x=\"{left}\" y=\"{at:.1}\" text-anchor=\"end\">{text}</text>")?;
    }
    let mut sizes: Vec<f64> = all().map(|point| point.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for size in sizes {
        let (at, bottom) = (x(size), HEIGHT - BOTTOM);
        writeln!(out, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#eeeeee\"/>")?;
        let below = bottom + 18.0;
        writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{size}</text>")?;
    }
    let shown = lines.iter().zip(COLOURS).filter(|(line, _)| !line.points.is_empty());
    for (row, (line, colour)) in shown.enumerate() {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let points = points.join(" ");
        writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        )?;
        for point in &line.points {
            let (cx, cy) = (x(point.0), y(point.1));
            writeln!(out, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>")?;
        }
        let (left, at, name) =
            (WIDTH - RIGHT + 15.0, TOP + 18.0 * (row as f64 + 0.5), line.contestant);
        writeln!(out, "<path d=\"M{left} {at}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>")?;
        writeln!(out, "<text x=\"{}\" y=\"{}\">{name}</text>", left + 24.0, at + 4.0)?;
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// Returns the least and the greatest value, with a margin.
fn bounds(values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)));
    (low / room, high * room)
}

/// Returns 1, 2 and 5 times every power of ten in the range.
fn ticks(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let powers = (0..12).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    all.filter(move |value| (low..=high).contains(value))
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => v.to_string(),
    }
}
