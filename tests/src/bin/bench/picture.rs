//! Draws lines through points as an SVG picture.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// The room around the chart: for its scales on the left and below, for the names of its lines on
/// the right.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 140.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 5] = ["#6b7280", "#1d4ed8", "#b45309", "#047857", "#be185d"];

/// Points that a line joins, from left to right.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// The picture of at most five lines. Both scales begin at 0.
pub fn draw(across: &str, up: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().fold(f64::MIN_POSITIVE, |max, point| max.max(point.0));
    let y_max = points().fold(f64::MIN_POSITIVE, |max, point| max.max(point.1)) * 1.05;
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |value: f64| LEFT + width * value / x_max;
    let y = |value: f64| TOP + height * (1.0 - value / y_max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing into a text cannot fail.
    let mut add = |element: String| {
        let _ = writeln!(svg, "{element}");
    };
    for step in 0..=4 {
        let value = y_max * f64::from(step) / 4.0;
        let (at, right) = (y(value), WIDTH - RIGHT);
        add(format!("<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#d1d5db\"/>"));
        add(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>", LEFT - 8.0, at + 4.0));
        let value = (x_max * f64::from(step) * 250.0).round() / 1000.0;
        let below = HEIGHT - BOTTOM + 18.0;
        add(format!("<text x=\"{:.1}\" y=\"{below}\" text-anchor=\"middle\">{value}</text>", x(value)));
    }
    let middle = LEFT + width / 2.0;
    add(format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{across}</text>", HEIGHT - 10.0));
    add(format!("<text x=\"{LEFT}\" y=\"{}\" text-anchor=\"middle\">{up}</text>", TOP - 6.0));
    let mut names = Vec::new();
    for (line, colour) in lines.iter().zip(COLOURS) {
        let path: Vec<String> =
            line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        add(format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join(" ")));
        if let Some(last) = line.points.last() {
            names.push((y(last.1) + 4.0, line.name, colour));
        }
    }
    // From the lowest line up, so that names do not cover each other.
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (left, mut below) = (WIDTH - RIGHT + 8.0, f64::MAX);
    for (height, name, colour) in names {
        below = height.min(below - 16.0);
        add(format!("<text x=\"{left}\" y=\"{below:.1}\" fill=\"{colour}\">{name}</text>"));
    }
    svg.push_str("</svg>\n");
    svg
}
