use super::super::testing::{records, split};
use super::*;

const LIMIT: usize = 1000;

fn cut(text: &str, limit: usize) -> Vec<(String, Option<&'static str>)> {
    split(JsonValues::new(Content::of(text.as_bytes()), limit))
}

/// Checks the pieces, all of which are records to the splitter.
fn check(text: &str, expected: &[&str]) {
    assert_eq!(cut(text, LIMIT), records(expected), "{text:?}");
}

/// Checks that the end of the file cuts off the last piece.
fn check_cut_off(text: &str, before: &[&str], last: &str) {
    let mut expected = records(before);
    expected.push((last.to_owned(), Some("truncated")));
    assert_eq!(cut(text, LIMIT), expected, "{text:?}");
}

const A: &str = r#"{"a":1}"#;
const B: &str = r#"{"a":"b"}"#;
const C: &str = r#"{"a":[{"b":2},{}]}"#;

#[test]
fn cuts_arrays_into_elements() {
    check("[]", &[]);
    check(" [ ] \n", &[]);
    check(&format!("[{A},{B}]"), &[A, B]);
    check("\u{feff}[\n  {\n \"a\": [1, {}]\n  },\n  {}\n]\n", &["{\n \"a\": [1, {}]\n  }", "{}"]);
    check(
        r#"[{"a":"]},{\"[{"},"text, and",12, true ,null]"#,
        &[r#"{"a":"]},{\"[{"}"#, r#""text, and""#, "12", "true", "null"],
    );
    check(r#"[null,{"a":"\\"},{}]"#, &["null", r#"{"a":"\\"}"#, "{}"]);
    check(&format!("[{A}{B}]"), &[A, B]);
    // An array within the array is one message of several records.
    check(&format!("[[{A}],[{B}]]"), &[&format!("[{A}]"), &format!("[{B}]")]);
}

#[test]
fn values_may_be_parted_by_anything() {
    check("", &[]);
    for separator in
        ["", " ", "\n", "\r\n", "\r", "\t", ",", ",\n", "\n,", " , ", "\u{1e}", "\n\u{1e}", "\u{feff}", "\x0c"]
    {
        let text = [A, B, C].join(separator);
        check(&text, &[A, B, C]);
        check(&format!("{text}{separator}"), &[A, B, C]);
        check(&format!("[{text}]"), &[A, B, C]);
    }
    check(&format!("{A}{B}\n{C}\n{A}\n{B}{C}"), &[A, B, C, A, B, C]);
    check(&format!("[{A},{B}]\n[{C}]\n{A}"), &[A, B, C, A]);
    check("{\n\"a\": 1\n}\n{\n\"a\": 2\n}", &["{\n\"a\": 1\n}", "{\n\"a\": 2\n}"]);
}

#[test]
fn text_between_values_is_a_letter_and_costs_none_of_them() {
    for text in ["x", "\\n", "\0", "\0\0\0", "null x", "}", "\"a\": 1", "2026-03-01 INFO"] {
        check(&format!("{A}{text}{B}{C}"), &[A, text, B, C]);
        check(&format!("{A}\n{text}\n{B}\n{C}\n"), &[A, text, B, C]);
        check(&format!("{A}, {text}, {B}"), &[A, text, B]);
        check(&format!("[{A} {text}, {B}]"), &[A, text, B]);
        check(&format!("[{A},{text}]{B}"), &[A, text, B]);
    }
    check(&format!("{A}] 7\n{B}"), &[A, "] 7", B]);
    check(&format!("[INFO] {A}\n[INFO] {B}"), &["[INFO]", A, "[INFO]", B]);
    check(&format!("[2026-03-01] {A}\n[2026-03-02] {B}"), &["2026-03-01", A, "2026-03-02", B]);
    check(&format!("x{{y{A}"), &["x{y", A]);
}

#[test]
fn a_value_that_is_cut_off_costs_no_other_line() {
    for cut in [
        r#"{"a":1,"b""#,
        r#"{"a":1,"b":"#,
        r#"{"a":1,"b":2"#,
        r#"{"a":1,"b":2,"#,
        r#"{"a":1,"b":"te"#,
        r#"{"a":1,"b":{"c":"#,
        r#"{"a":1,"b":[{"c":1},"#,
        "{",
        r#"{"a":"\"#,
    ] {
        check(&format!("{A}\n{cut}\n{B}\n{C}\n"), &[A, cut, B, C]);
        check(&format!("{A}\r\n{cut}\r\n{B}\r\n{C}\r\n"), &[A, cut, B, C]);
        check(&format!("{A}\n{cut}\n{B}\n"), &[A, cut, B]);
        check(&format!("[{cut}\n {B},\n {C}]"), &[cut, B, C]);
        check(&format!("  {A}\n  {cut}\n  {B}\n  {C}"), &[A, cut, B, C]);
        check_cut_off(&format!("{A}\n{cut}"), &[A], cut);
        check_cut_off(&format!("{A}{cut}"), &[A], cut);
    }
    // Text sequences (RFC 7464) begin again at the record separator.
    check(&format!("\u{1e}{A}\n\u{1e}{{\"a\":\"cut\u{1e}{B}\n"), &[A, "{\"a\":\"cut", B]);
}

#[test]
fn what_the_end_cuts_off_is_one_piece_whatever_its_texts_hold() {
    for cut in
        [r#"{"website":"https://s/?ids[]=1","user_id":"u","ad_cr"#, r#"{"a":"{}","b":"{\"c\":1}"#, r#"{"a":"[0]"#]
    {
        check_cut_off(&format!("{A}\n{cut}"), &[A], cut);
    }
    // In a file that may go on, text that looks like a URL is no value either.
    let cut = r#"{"website":"https://s/?ids[]=1&x={}","user_id":"u"#;
    check(&format!("{A}\n{cut}\n{B}\n"), &[A, cut, B]);
}

#[test]
fn a_value_that_is_cut_off_costs_no_other_value_of_its_line() {
    for cut in [r#"{"a":1,"b":2"#, r#"{"a":1,"b":"te"#, r#"{"a":1,"#, "{"] {
        check(&format!("{A}{cut}{B}{C}\n{A}\n"), &[A, cut, B, C, A]);
    }
}

#[test]
fn damage_stays_within_its_value() {
    let damaged = r#"{"a":[1}"#;
    check(&format!("[{{}},{damaged},{{}}]"), &["{}", damaged, "{}"]);
    let missing_comma = r#"{"a":1 "b":{"c":2}}"#;
    check(&format!("{A}{missing_comma}{B}"), &[A, missing_comma, B]);
    check("[{},}}},{}]", &["{}", "}}}", "{}"]);
    // The lines of a pretty-printed value are not values.
    let pretty = "{\n  \"a\": x,\n  \"b\": [\n    {},\n    {\"c\": 1}\n  ]\n}";
    check(&format!("{A}\n{pretty}\n{B}"), &[A, pretty, B]);
    check("[\n{\n\"a\":\"cut,\n\"b\":1\n},\n{\"a\":3}\n]", &["{\n\"a\":\"cut,\n\"b\":1\n}", r#"{"a":3}"#]);
    // A pretty-printed value that is cut off ends where the next one begins.
    let cut = "{\n  \"a\": 1,\n  \"b\": {";
    check(&format!("{pretty}\n{cut}\n{pretty}\n{{\n  \"a\": 2\n}}\n"), &[pretty, cut, pretty, "{\n  \"a\": 2\n}"]);
}

#[test]
fn an_array_that_is_not_closed_is_told() {
    check_cut_off(&format!("[{A},{{\"a\":2"), &[A], r#"{"a":2"#);
    check_cut_off(&format!("[{A}, "), &[A], "");
    check_cut_off("[12", &["12"], "");
    check_cut_off("[", &[], "");
}

#[test]
fn a_number_may_be_read_in_parts() {
    for number in ["0.1", "-1", "1e5", "1E+5", "-0.25e-10"] {
        for before in 0..8 {
            let (space, object) = (" ".repeat(before), format!("{{\"a\":{number}}}"));
            check(&format!("{space}{number}"), &[number]);
            check(&format!("{space}[{number},{object}{number}]{object}"), &[number, &object, number, &object]);
        }
    }
    check_cut_off("{\"a\":-", &[], "{\"a\":-");
    check_cut_off("{\"a\":0.", &[], "{\"a\":0.");
}

#[test]
fn depth_costs_neither_memory_nor_neighbours() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = format!("[{{}},{deep},{{}},{}", "[".repeat(10_000));
    let rest = ("[".repeat(10_000), Some("truncated"));
    assert_eq!(cut(&text, 30_000), [records(&["{}", &deep, "{}"]), vec![rest]].concat());
}

#[test]
fn a_long_value_is_rejected_and_costs_nobody_else() {
    let check = |text: &str, expected: &[(&str, Option<&'static str>)]| {
        let expected: Vec<_> = expected.iter().map(|(piece, reason)| ((*piece).to_owned(), *reason)).collect();
        assert_eq!(cut(text, 10), expected, "{text:?}");
    };
    let long = Some("too_long");
    let x = "x".repeat(50);
    check(&format!("[{{}},{{\"a\":\"{x}\"}},{{}}]"), &[("{}", None), ("{\"a\":\"xxxx", long), ("{}", None)]);
    check(&format!("{{}}\n{{\"a\":\"{x}\n{{}}\n"), &[("{}", None), ("{\"a\":\"xxxx", long), ("{}", None)]);
    check(&format!("{{}}\n{x}\n{{}}\n"), &[("{}", None), ("xxxxxxxxxx", long), ("{}", None)]);
    check(&format!("{{}}{x}{{}}"), &[("{}", None), ("xxxxxxxxxx", long), ("{}", None)]);
    check(&format!("{{}}\n{{x{x}\n{{}}\n"), &[("{}", None), ("{xxxxxxxxx", long), ("{}", None)]);
}

#[test]
fn the_time_that_a_bad_file_takes_grows_with_its_length() {
    let started = std::time::Instant::now();
    for line in ["{x{}", "{\"a\":", "[\n", "{\"a\":x\n", "x{\"", "{\n", "1,", "{\"a\":\"{\"", "[[{", "{\"\n\"{"] {
        let text = line.repeat((2 << 20) / line.len());
        let mut splitter = JsonValues::new(Content::from_bytes(text.into_bytes()), 16 << 20);
        let mut piece = Vec::new();
        while splitter.next(&mut piece).unwrap() != Piece::End {}
        assert!(started.elapsed().as_secs() < 60, "{line:?}");
    }
}
