//! Device types: OpenRTB's numbers become words, and words get one spelling.

use std::borrow::Cow;

/// The word for a `devicetype` of OpenRTB 2.6 (AdCOM list "Device Types"). `None`: the number has
/// no word.
pub fn openrtb_device_type(number: i32) -> Option<&'static str> {
    match number {
        1 | 4 => Some("mobile"),
        2 => Some("desktop"),
        3 | 7 => Some("ctv"),
        5 => Some("tablet"),
        6 => Some("connected"),
        _ => None,
    }
}

/// A device type as the views show it. OpenRTB's numbers become words. Any other word is trimmed
/// and lower-cased. `None`: nothing is left.
pub fn normalise_device_type(text: &str) -> Option<Cow<'_, str>> {
    let trimmed = text.trim();
    if let [digit @ b'0'..=b'9'] = trimmed.as_bytes()
        && let Some(word) = openrtb_device_type(i32::from(digit - b'0'))
    {
        return Some(Cow::Borrowed(word));
    }
    if trimmed.is_empty() {
        None
    } else if trimmed.chars().any(char::is_uppercase) {
        Some(Cow::Owned(trimmed.to_lowercase()))
    } else {
        Some(Cow::Borrowed(trimmed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(normalise_device_type(text).as_deref(), expected, "{text:?}");
        };
        check("1", Some("mobile"));
        check("2", Some("desktop"));
        check("3", Some("ctv"));
        check("4", Some("mobile"));
        check("5", Some("tablet"));
        check("6", Some("connected"));
        check("7", Some("ctv"));
        check(" 5 ", Some("tablet"));
        check("8", Some("8"));
        check("12", Some("12"));
        check(" Mobile ", Some("mobile"));
        check("mobile", Some("mobile"));
        check("ÉCRAN", Some("écran"));
        check("", None);
        check("  ", None);
    }
}
