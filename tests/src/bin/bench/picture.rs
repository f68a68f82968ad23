//! Draws lines through points as an SVG picture.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// The room around the chart: for its scales on the left and below, for the names of its lines on
/// the right.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 140.0;
const TOP: f64 = 36.0;
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
    let y_max = round_above(points().fold(f64::MIN_POSITIVE, |max, point| max.max(point.1)));
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
        let value = (y_max * f64::from(step) * 250.0).round() / 1000.0;
        let (at, right) = (y(value), WIDTH - RIGHT);
        add(format!("<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#d1d5db\"/>"));
        add(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 8.0, at + 4.0));
        let value = (x_max * f64::from(step) * 250.0).round() / 1000.0;
        let below = HEIGHT - BOTTOM + 18.0;
        add(format!("<text x=\"{:.1}\" y=\"{below}\" text-anchor=\"middle\">{value}</text>", x(value)));
    }
    let middle = LEFT + width / 2.0;
    add(format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{across}</text>", HEIGHT - 10.0));
    add(format!("<text x=\"{}\" y=\"{}\">{up}</text>", LEFT - 40.0, TOP - 18.0));
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

/// The least number with at most two digits that is not below a value and has round quarters.
fn round_above(value: f64) -> f64 {
    let unit = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 4.0, 5.0, 6.0, 8.0];
    unit * steps.into_iter().find(|step| unit * step >= value).unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number_that_is_not_below_the_points() {
        for (value, expected) in [(263.2, 280.0), (24.6, 28.0), (10.0, 10.0), (0.9, 1.0), (101.0, 120.0), (8.1, 10.0)] {
            assert!((round_above(value) - expected).abs() < 1e-9, "{value}: {}", round_above(value));
        }
    }

    #[test]
    fn points_and_names_are_in_the_picture() {
        let lines = [Line { name: "a", points: vec![(1.0, 10.0), (2.0, 100.0)] }];
        let svg = draw("across", "up", &lines);
        for part in [">a<", ">across<", ">up<", ">100<", ">25<", "points=\"320.0,336.6 580.0,36.0\""] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
