//! Exact amounts of money.
//!
//! Amounts as sent are integers of 10^-12 units ([`AMOUNT_ONE`]). They are read from text or from
//! the shortest decimal of a binary float. Nothing is ever computed in floating point. Fractions
//! beyond the twelfth digit are rounded half-even. Amounts of more than 26 integer digits are
//! refused.
//!
//! Converted amounts are integers of 10^-6 units of the account currency ("micros"). They are
//! rounded half-even once, at the end.

use std::io::Write;

/// One unit of money, in amounts as sent.
pub const AMOUNT_ONE: i128 = 1_000_000_000_000;

/// The rate of a currency to itself. A rate is the account units for one unit, times this constant.
pub const RATE_ONE: i128 = 1_000_000_000_000;

/// The largest absolute amount of one event, in micros of the account currency. Sums over events
/// are wider.
pub const EVENT_MICROS_MAX: i64 = 10_000_000_000_000_000;

/// The first amount that no longer fits `Decimal(38, 12)`.
const AMOUNT_LIMIT: i128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;

/// Fractional digits of amounts as sent.
const SCALE: i32 = 12;

/// Why a text is not a number of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not a decimal number: optional sign, digits with at most one point, optional exponent.
    #[error("not a number")]
    NotANumber,
    /// More integer digits than the type holds.
    #[error("out of range")]
    OutOfRange,
    /// An integer is needed, and this number has a fraction.
    #[error("has a fraction, and an integer is needed")]
    Fraction,
}

/// How the digits beyond the scale are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest value. A tie goes to the even one.
    HalfEven,
    /// Towards minus infinity.
    Floor,
    /// Not at all: digits other than 0 are [`NumberError::Fraction`].
    Exact,
}

/// Parses a decimal text as an amount: an integer of 10^-12 units. Spaces around it are ignored.
pub fn parse_amount(text: &str) -> Result<i128, NumberError> {
    parse_scaled(text, SCALE, Rounding::HalfEven)
}

/// A double as an amount, through its shortest decimal. NaN and the infinities are not numbers.
pub fn amount_from_f64(value: f64) -> Result<i128, NumberError> {
    let mut buffer = [0u8; 32];
    parse_amount(shortest(&mut buffer, format_args!("{value:e}"))?)
}

/// A single-precision float as an amount, through its own shortest decimal (0.1f32 is 0.1). NaN and
/// the infinities are not numbers.
pub fn amount_from_f32(value: f32) -> Result<i128, NumberError> {
    let mut buffer = [0u8; 32];
    parse_amount(shortest(&mut buffer, format_args!("{value:e}"))?)
}

/// An integer of 10^-`scale` units as an amount.
pub fn amount_from_decimal(unscaled: i128, scale: u32) -> Result<i128, NumberError> {
    let shift = SCALE as i64 - i64::from(scale);
    let amount = match u32::try_from(shift) {
        Ok(up) => power_of_ten(up).and_then(|power| unscaled.checked_mul(power)).ok_or(NumberError::OutOfRange)?,
        // The divisor exceeds an i128, so only a fraction below one half is left.
        Err(_) => match power_of_ten(shift.unsigned_abs().min(u64::from(u32::MAX)) as u32) {
            Some(power) => divide_half_even(unscaled, power),
            None => 0,
        },
    };
    in_range(amount)
}

/// Converts an amount as sent to micros of the account currency, rounded half-even. `rate` is the
/// account units for one unit, times [`RATE_ONE`]. `None`: the result does not fit.
pub fn amount_to_micros(amount: i128, rate: i128) -> Option<i64> {
    const PER_MICRO: i128 = AMOUNT_ONE / 1_000_000;
    if rate == RATE_ONE {
        return i64::try_from(divide_half_even(amount, PER_MICRO)).ok();
    }
    // A product beyond 127 bits would be more than 10^20 micros anyway.
    let product = amount.checked_mul(rate)?;
    i64::try_from(divide_half_even(product, PER_MICRO * RATE_ONE)).ok()
}

/// Converts micros of another currency to micros of the account currency, rounded half-even. `rate`
/// is the account units for one unit, times [`RATE_ONE`]. `None`: the result does not fit.
pub fn micros_to_micros(micros: i64, rate: i128) -> Option<i64> {
    if rate == RATE_ONE {
        return Some(micros);
    }
    let product = i128::from(micros).checked_mul(rate)?;
    i64::try_from(divide_half_even(product, RATE_ONE)).ok()
}

/// Parses a decimal text as an integer of 10^-`scale` units. Spaces around it are ignored. A sign,
/// a point and an exponent are allowed. Results of 10^38 and more are out of range.
pub fn parse_scaled(text: &str, scale: i32, rounding: Rounding) -> Result<i128, NumberError> {
    let bytes = text.trim_ascii().as_bytes();
    let (negative, unsigned) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    // The common case: up to 18 digits in all, no exponent.
    if unsigned.len() <= 19
        && let Some((mantissa, fraction)) = short_decimal(unsigned)
        && fraction <= scale
        && let Some(power) = power_of_ten((scale - fraction) as u32)
        && let Some(magnitude) = i128::from(mantissa).checked_mul(power)
    {
        return in_range(if negative { -magnitude } else { magnitude });
    }
    long_decimal(negative, unsigned, scale, rounding)
}

/// Parses 1 to 18 digits with at most one point. Returns the digits as a number, and how many of
/// them follow the point.
fn short_decimal(bytes: &[u8]) -> Option<(u64, i32)> {
    let mut mantissa = 0u64;
    let mut point = None;
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(place),
            _ => return None,
        }
    }
    let digits = bytes.len() - usize::from(point.is_some());
    let fraction = point.map_or(0, |place| bytes.len() - 1 - place);
    (digits > 0 && digits <= 18).then_some((mantissa, fraction as i32))
}

/// Parses any number of digits, with or without an exponent.
fn long_decimal(negative: bool, unsigned: &[u8], scale: i32, rounding: Rounding) -> Result<i128, NumberError> {
    let (significand, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match significand.iter().position(|byte| *byte == b'.') {
        Some(at) => (&significand[..at], &significand[at + 1..]),
        None => (significand, &significand[..0]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(NumberError::NotANumber);
    }
    // The number of digits that belong to the scaled integer.
    let kept = whole.len() as i64 + exponent + i64::from(scale);
    let mut magnitude = 0i128;
    let mut first_dropped = 0u8;
    let mut more_dropped = false;
    for (place, byte) in whole.iter().chain(fraction).enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => return Err(NumberError::NotANumber),
        };
        let place = place as i64;
        if place < kept {
            // A magnitude below the limit may still be too large to append a digit.
            let longer = magnitude.checked_mul(10).and_then(|tens| tens.checked_add(i128::from(digit)));
            magnitude = longer.unwrap_or(AMOUNT_LIMIT);
            if magnitude >= AMOUNT_LIMIT {
                // The number is too large only if the rest is digits. Else it is not a number.
                return if is_digits(whole) && is_digits(fraction) {
                    Err(NumberError::OutOfRange)
                } else {
                    Err(NumberError::NotANumber)
                };
            }
        } else if place == kept {
            first_dropped = digit;
        } else {
            more_dropped |= digit != 0;
        }
    }
    let missing = kept - (whole.len() + fraction.len()) as i64;
    if missing > 0 && magnitude != 0 {
        let power = u32::try_from(missing).ok().and_then(power_of_ten).ok_or(NumberError::OutOfRange)?;
        magnitude = magnitude.checked_mul(power).ok_or(NumberError::OutOfRange)?;
    }
    if kept < 0 {
        // Every digit is below a tenth of the last position that counts.
        more_dropped |= first_dropped != 0 || whole.iter().chain(fraction).any(|byte| *byte != b'0');
        first_dropped = 0;
    }
    let dropped = first_dropped != 0 || more_dropped;
    let up = match rounding {
        Rounding::Exact if dropped => return Err(NumberError::Fraction),
        Rounding::Exact => false,
        Rounding::Floor => negative && dropped,
        Rounding::HalfEven => first_dropped > 5 || (first_dropped == 5 && (more_dropped || magnitude % 2 == 1)),
    };
    magnitude += i128::from(up);
    in_range(if negative { -magnitude } else { magnitude })
}

fn is_digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

/// Parses the digits after `e`. A larger exponent is cut to a billion, which exceeds every length
/// and scale.
fn parse_exponent(bytes: &[u8]) -> Result<i64, NumberError> {
    const FAR: i64 = 1_000_000_000;
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !is_digits(digits) {
        return Err(NumberError::NotANumber);
    }
    let magnitude = digits.iter().fold(0i64, |sum, byte| (sum * 10 + i64::from(byte - b'0')).min(FAR));
    Ok(if negative { -magnitude } else { magnitude })
}

fn in_range(amount: i128) -> Result<i128, NumberError> {
    if amount.unsigned_abs() < AMOUNT_LIMIT.unsigned_abs() { Ok(amount) } else { Err(NumberError::OutOfRange) }
}

fn power_of_ten(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

/// The quotient rounded to the nearest integer. A tie goes to the even one. `divisor` is positive.
fn divide_half_even(dividend: i128, divisor: i128) -> i128 {
    // Division of 64 bits is several times faster, and nearly all amounts fit.
    if let (Ok(small), Ok(by)) = (i64::try_from(dividend), i64::try_from(divisor)) {
        let (quotient, remainder) = (small.div_euclid(by), small.rem_euclid(by));
        let up = match remainder.cmp(&(by - remainder)) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => quotient & 1,
            std::cmp::Ordering::Greater => 1,
        };
        return i128::from(quotient) + i128::from(up);
    }
    let (quotient, remainder) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    match remainder.cmp(&(divisor - remainder)) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

/// The shortest decimal that reads back as the same float. Nothing is allocated.
fn shortest<'a>(buffer: &'a mut [u8; 32], value: std::fmt::Arguments<'_>) -> Result<&'a str, NumberError> {
    let mut rest = &mut buffer[..];
    rest.write_fmt(value).map_err(|_| NumberError::NotANumber)?;
    let unused = rest.len();
    let used = buffer.len() - unused;
    std::str::from_utf8(&buffer[..used]).map_err(|_| NumberError::NotANumber)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::NumberError::*;
    use super::*;

    #[test]
    fn amounts_from_text() {
        let check =
            |text: &str, expected: Result<i128, NumberError>| assert_eq!(parse_amount(text), expected, "{text}");
        check("0", Ok(0));
        check("-0", Ok(0));
        check("12.5", Ok(12_500_000_000_000));
        check(" 12.5 ", Ok(12_500_000_000_000));
        check("+1", Ok(AMOUNT_ONE));
        check("1.", Ok(AMOUNT_ONE));
        check(".5", Ok(AMOUNT_ONE / 2));
        check("-3.25", Ok(-3_250_000_000_000));
        check("1e3", Ok(1000 * AMOUNT_ONE));
        check("1.5E-3", Ok(1_500_000_000));
        check("1e-12", Ok(1));
        check("0.0000000000005", Ok(0)); // ties to even
        check("0.0000000000015", Ok(2));
        check("0.0000000000025", Ok(2));
        check("-0.0000000000015", Ok(-2));
        check("0.00000000000050000000001", Ok(1));
        check("5e-13", Ok(0));
        check("5.1e-13", Ok(1));
        check("9e-14", Ok(0));
        check("9e-999999999999999999999", Ok(0));
        check("0e999999999999999999999", Ok(0));
        check("99999999999999999999999999.999999999999", Ok(AMOUNT_LIMIT - 1));
        check("99999999999999999999999999.9999999999995", Err(OutOfRange));
        check("100000000000000000000000000", Err(OutOfRange));
        // One digit more than the limit has. That exceeds 128 bits.
        check("999999999999999999999999999.999999999999", Err(OutOfRange));
        check("183456789012345678901234567890", Err(OutOfRange));
        check("34028236692093846346337460743.1768211457", Err(OutOfRange));
        check("1e26", Err(OutOfRange));
        check("1e25", Ok(AMOUNT_LIMIT / 10));
        check("1e9999999999", Err(OutOfRange));
        check("000000000000000000000000000000000000000000001.5", Ok(1_500_000_000_000));
        for text in ["", " ", ".", "-", "+-1", "1.2.3", "1,5", "1e", "e5", "1e1.5", "NaN", "inf", "$5", "0x10", "1 2"] {
            check(text, Err(NotANumber));
        }
        check("1000000000000000000000000000000000000000x", Err(NotANumber));
    }

    #[test]
    fn whole_numbers_and_floors() {
        assert_eq!(parse_scaled("3.0", 0, Rounding::Exact), Ok(3));
        assert_eq!(parse_scaled("3.0000000000000000000000000", 0, Rounding::Exact), Ok(3));
        assert_eq!(parse_scaled("0.3e1", 0, Rounding::Exact), Ok(3));
        assert_eq!(parse_scaled("3.5", 0, Rounding::Exact), Err(Fraction));
        assert_eq!(parse_scaled("1e-5", 0, Rounding::Exact), Err(Fraction));
        assert_eq!(parse_scaled("1.9999999999999999999", 6, Rounding::Floor), Ok(1_999_999));
        assert_eq!(parse_scaled("-0.0000001", 6, Rounding::Floor), Ok(-1));
        assert_eq!(parse_scaled("-1.0000001", 6, Rounding::Floor), Ok(-1_000_001));
    }

    #[test]
    fn amounts_from_floats_and_decimals() {
        assert_eq!(amount_from_f64(0.1), Ok(AMOUNT_ONE / 10));
        assert_eq!(amount_from_f32(0.1), Ok(AMOUNT_ONE / 10));
        assert_eq!(amount_from_f32(5.43), Ok(5_430_000_000_000));
        assert_eq!(amount_from_f64(-1e-12), Ok(-1));
        assert_eq!(amount_from_f64(1e300), Err(OutOfRange));
        assert_eq!(amount_from_f64(f64::NAN), Err(NotANumber));
        assert_eq!(amount_from_f64(f64::INFINITY), Err(NotANumber));
        assert_eq!(amount_from_f64(f64::MIN_POSITIVE), Ok(0));
        assert_eq!(amount_from_decimal(1234, 2), Ok(12_340_000_000_000));
        assert_eq!(amount_from_decimal(15, 13), Ok(2));
        assert_eq!(amount_from_decimal(25, 13), Ok(2));
        assert_eq!(amount_from_decimal(i128::MAX, 0), Err(OutOfRange));
        assert_eq!(amount_from_decimal(i128::MAX, 60), Ok(0));
        assert_eq!(amount_from_decimal(-7, 0), Ok(-7 * AMOUNT_ONE));
    }

    #[test]
    fn conversion_rounds_half_even() {
        assert_eq!(amount_to_micros(AMOUNT_ONE, RATE_ONE), Some(1_000_000));
        assert_eq!(amount_to_micros(500_000, RATE_ONE), Some(0));
        assert_eq!(amount_to_micros(1_500_000, RATE_ONE), Some(2));
        assert_eq!(amount_to_micros(-1_500_000, RATE_ONE), Some(-2));
        assert_eq!(amount_to_micros(-500_000, RATE_ONE), Some(0));
        assert_eq!(amount_to_micros(AMOUNT_ONE, 1_085_000_000_000), Some(1_085_000));
        assert_eq!(amount_to_micros(AMOUNT_LIMIT - 1, RATE_ONE), None);
        assert_eq!(amount_to_micros(AMOUNT_LIMIT - 1, RATE_ONE * 1000), None);
        // The largest amount of either sign, at the smallest and the largest rate.
        for amount in [AMOUNT_LIMIT - 1, 1 - AMOUNT_LIMIT] {
            for rate in [RATE_ONE / 1_000_000_000, RATE_ONE * 1_000_000_000_000] {
                assert_eq!(amount_to_micros(amount, rate), None);
            }
        }
        // 20 billion rupiah.
        assert_eq!(amount_to_micros(20_000_000_000 * AMOUNT_ONE, 60_000_000), Some(1_200_000_000_000));
        assert_eq!(micros_to_micros(3, RATE_ONE / 2), Some(2));
        assert_eq!(micros_to_micros(5, RATE_ONE / 2), Some(2));
        assert_eq!(micros_to_micros(i64::MAX, RATE_ONE * 2), None);
    }

    proptest! {
        #[test]
        fn short_and_long_ways_agree(mantissa in 0u64..1_000_000_000_000_000_000, point in 0usize..18, negative: bool) {
            let digits = format!("{mantissa:018}");
            let text = format!("{}{}.{}", if negative { "-" } else { "" }, &digits[..point], &digits[point..]);
            let unsigned = text.trim_start_matches('-').as_bytes();
            prop_assert_eq!(parse_amount(&text), long_decimal(negative, unsigned, 12, Rounding::HalfEven));
        }

        #[test]
        fn micros_come_back(micros in -1_000_000_000_000i64..1_000_000_000_000) {
            let amount = i128::from(micros) * 1_000_000;
            prop_assert_eq!(amount_to_micros(amount, RATE_ONE), Some(micros));
        }

        #[test]
        fn division_is_nearest(dividend in any::<i64>(), divisor in 1i64..i64::MAX) {
            let quotient = divide_half_even(dividend.into(), divisor.into());
            let error = (i128::from(dividend) - quotient * i128::from(divisor)).abs() * 2;
            prop_assert!(error < divisor.into() || (error == divisor.into() && quotient % 2 == 0));
        }
    }
}
