//! Writes numbers, ids and times into a byte buffer without allocating. JSON and CSV lines consist
//! of these.

use adlake_domain::time::civil_from_days;

/// Appends a decimal integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` with exactly `width` digits: leading zeros are added, and a longer value loses
/// its first digits.
pub fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let from = out.len();
    out.resize(from + width, b'0');
    let mut rest = value;
    for digit in out[from..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Appends sixteen hex digits.
pub fn hex(out: &mut Vec<u8>, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).rev().map(|place| DIGITS[(value >> (place * 4)) as usize & 15]));
}

/// Appends micros as a decimal number of units, without trailing zeros: 1_500_000 is `1.5`.
pub fn micros(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let value = value.unsigned_abs();
    integer(out, (value / 1_000_000) as i64);
    let fraction = value % 1_000_000;
    if fraction != 0 {
        out.push(b'.');
        padded(out, fraction, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Appends `YYYY-MM-DD`.
pub fn date(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = civil_from_days(day);
    padded(out, year.unsigned_abs(), 4);
    out.push(b'-');
    padded(out, month.into(), 2);
    out.push(b'-');
    padded(out, day.into(), 2);
}

/// Appends `YYYY-MM-DD<separator>HH:MM:SS.mmm` of microseconds since 1970.
pub fn date_time(out: &mut Vec<u8>, time: i64, separator: u8) {
    const DAY: i64 = 86_400_000;
    let millis = time.div_euclid(1_000);
    date(out, millis.div_euclid(DAY));
    let of_day = millis.rem_euclid(DAY) as u64;
    out.push(separator);
    padded(out, of_day / 3_600_000, 2);
    out.push(b':');
    padded(out, of_day / 60_000 % 60, 2);
    out.push(b':');
    padded(out, of_day / 1_000 % 60, 2);
    out.push(b'.');
    padded(out, of_day % 1_000, 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers() {
        for value in [0, 7, -7, 1_234_567, i64::MAX, i64::MIN] {
            assert_eq!(written(|out| integer(out, value)), value.to_string());
        }
        assert_eq!(written(|out| padded(out, 42, 5)), "00042");
        assert_eq!(written(|out| hex(out, 0xdead_beef)), "00000000deadbeef");
        for (value, expected) in
            [(0, "0"), (1_500_000, "1.5"), (-19_990_000, "-19.99"), (1, "0.000001"), (5_000_000, "5")]
        {
            assert_eq!(written(|out| micros(out, value)), expected);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for day in [-719_468, -1, 0, 59, 60, 10_957, 11_016, 19_782, 20_089, 47_540] {
            let expected = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Duration::days(day);
            if day > 0 {
                assert_eq!(written(|out| date(out, day)), expected.format("%Y-%m-%d").to_string());
            }
        }
        assert_eq!(written(|out| date_time(out, 1_735_689_599_987_654, b'T')), "2024-12-31T23:59:59.987");
    }
}
