//! Passwords, keys and tokens of the configuration: types that do not print what they hold.
//!
//! A secret is printed as `[secret]`, by `Debug`, by `Display` and when it is serialized. Only
//! [`Secret::expose`] and its like give the text, so a search for `expose` finds every use. An
//! error about a value that is no text does not show the value either.
//!
//! These types share the rule:
//!
//! - A [`Secret`] is text that is secret as a whole. A [`SecretList`] holds several.
//! - A [`SecretUrl`] is an address. The user and password in it are secret, and so are its query
//!   and its fragment.
//! - A [`SecretOptions`] is a table whose names are not checked, because another library defines
//!   them. A value is secret unless its name is known to be public. A name that is misspelt, or
//!   new, is not known, so its value is not printed.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// What is printed in place of a secret.
const MASK: &str = "[secret]";

/// Text that is not printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        match Given::deserialize(deserializer)? {
            Given::Text(text) => Ok(Secret(text)),
            _ => Err(de::Error::custom("must be text in quotes (the value is not shown: it is a secret)")),
        }
    }
}

/// Secrets in a list: a program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SecretList(Vec<Secret>);

impl SecretList {
    /// The secrets.
    pub fn as_slice(&self) -> &[Secret] {
        &self.0
    }
}

impl<T: Into<Secret>> FromIterator<T> for SecretList {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> SecretList {
        SecretList(texts.into_iter().map(Into::into).collect())
    }
}

impl<'de> Deserialize<'de> for SecretList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretList, D::Error> {
        let texts = match Given::deserialize(deserializer)? {
            Given::List(elements) => elements.into_iter().map(Given::text).collect(),
            _ => None,
        };
        let refused =
            || de::Error::custom("must be a list of texts in quotes (its value is not shown: it is a secret)");
        texts.map(SecretList).ok_or_else(refused)
    }
}

/// An address (`scheme://user:password@host/path?query#fragment`) that is printed without its user,
/// password, query and fragment.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(Secret);

impl SecretUrl {
    /// The whole address.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl<T: Into<Secret>> From<T> for SecretUrl {
    fn from(text: T) -> SecretUrl {
        SecretUrl(text.into())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked_url(self.expose()))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", masked_url(self.expose()))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text without the parts of an address that may be secret: what is before the last `@`, and
/// what is after the first `?` or `#`. The scheme is shown if `://` follows it.
///
/// If a `?` or `#` comes before the last `@`, either the password contains the one, or the query
/// contains the other. Then everything after the scheme is masked.
fn masked_url(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (scheme, rest) = match text.find("://") {
        Some(end) if is_scheme(&text[..end]) => text.split_at(end + "://".len()),
        _ => ("", text),
    };
    let (shown, query) = match rest.find(['?', '#']) {
        Some(at) if rest[at..].contains('@') => return format!("{scheme}{MASK}"),
        Some(at) => (&rest[..at], format!("{}{MASK}", &rest[at..=at])),
        None => (rest, String::new()),
    };
    // The last @ counts: a password that is not escaped may contain @ and /.
    match shown.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{MASK}@{host}{query}"),
        None => format!("{scheme}{shown}{query}"),
    }
}

/// The names of a [`SecretOptions`] whose values may be printed.
pub trait PublicNames {
    /// Whether the value of this name is known to hold no secret.
    fn is_public(name: &str) -> bool;
}

/// A table of options that another library defines. Only values with [`PublicNames`] are printed.
/// They are printed as a [`SecretUrl`] is, because some are addresses.
pub struct SecretOptions<N> {
    options: BTreeMap<String, Secret>,
    names: PhantomData<fn() -> N>,
}

impl<N> SecretOptions<N> {
    /// Sets an option.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Secret>) {
        self.options.insert(name.into(), value.into());
    }

    /// Removes every option.
    pub fn clear(&mut self) {
        self.options.clear();
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// The names and the texts of their values.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// The text of one value.
    pub fn expose_one(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(Secret::expose)
    }
}

impl<N: PublicNames> SecretOptions<N> {
    /// The names, and the values as they may be printed.
    fn printed(&self) -> impl Iterator<Item = (&str, String)> {
        self.expose().map(|(name, value)| {
            let value = if N::is_public(name) { masked_url(value) } else { MASK.to_owned() };
            (name, value)
        })
    }
}

impl<N> Clone for SecretOptions<N> {
    fn clone(&self) -> Self {
        SecretOptions { options: self.options.clone(), names: PhantomData }
    }
}

impl<N> Default for SecretOptions<N> {
    fn default() -> Self {
        SecretOptions { options: BTreeMap::new(), names: PhantomData }
    }
}

impl<N> PartialEq for SecretOptions<N> {
    fn eq(&self, other: &Self) -> bool {
        self.options == other.options
    }
}

impl<N> Eq for SecretOptions<N> {}

impl<N, K: Into<String>, V: Into<Secret>> FromIterator<(K, V)> for SecretOptions<N> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(options: I) -> Self {
        let options = options.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        SecretOptions { options, names: PhantomData }
    }
}

impl<N: PublicNames> fmt::Debug for SecretOptions<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.printed()).finish()
    }
}

impl<N: PublicNames> Serialize for SecretOptions<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.options.len()))?;
        for (name, value) in self.printed() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de, N> Deserialize<'de> for SecretOptions<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let options = deserializer.deserialize_any(OptionsVisitor)?;
        Ok(SecretOptions { options, names: PhantomData })
    }
}

/// Takes a table. Each value is read as a [`Secret`], so that an error is placed at the value.
struct OptionsVisitor;

/// Methods of a visitor that refuse a value without showing it.
macro_rules! refuse {
    ($($method:ident: $value:ty),+) => {
        $(fn $method<E: de::Error>(self, _value: $value) -> Result<Self::Value, E> {
            Err(E::custom(NO_TABLE))
        })+
    };
}

const NO_TABLE: &str = "must be a table (the value is not shown: it may be a secret)";

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = BTreeMap<String, Secret>;

    refuse!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _elements: A) -> Result<Self::Value, A::Error> {
        Err(de::Error::custom(NO_TABLE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut options = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            options.insert(name, value);
        }
        Ok(options)
    }
}

/// A value of any type. It is read as such because the errors that serde makes for a wrong type
/// show the value.
enum Given {
    Text(String),
    List(Vec<Given>),
    Other,
}

impl Given {
    fn text(self) -> Option<Secret> {
        match self {
            Given::Text(text) => Some(Secret(text)),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Given, E> {
        Ok(Given::Text(text))
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Given, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Given::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Given, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `region` is public.
    struct Region;

    impl PublicNames for Region {
        fn is_public(name: &str) -> bool {
            name == "region"
        }
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Settings {
        password: Option<Secret>,
        command: SecretList,
        registry: SecretUrl,
        options: SecretOptions<Region>,
    }

    fn settings() -> Settings {
        let text = json!({
            "password": "hush",
            "command": ["token", "hush"],
            "registry": "https://ada:hush@host:8081/a?key=hush",
            "options": {"pasword": "hush", "region": "eu-west-1"},
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings = settings();
        for text in [format!("{settings:?}"), format!("{settings:#?}"), serde_json::to_string(&settings).unwrap()] {
            assert!(!text.contains("hush") && text.contains("eu-west-1") && text.contains("host:8081/a"), "{text}");
        }
        assert_eq!(
            format!("{} {}", settings.command.as_slice()[1], settings.registry),
            format!("{MASK} https://{MASK}@host:8081/a?{MASK}")
        );
    }

    #[test]
    fn secrets_are_there_for_those_who_need_them() {
        let settings = settings();
        assert_eq!(settings.password.as_ref().unwrap().expose(), "hush");
        assert_eq!(settings.registry.expose(), "https://ada:hush@host:8081/a?key=hush");
        assert_eq!(settings.options.expose_one("pasword"), Some("hush"));
        let options: Vec<_> = settings.options.expose().collect();
        assert_eq!(options, [("pasword", "hush"), ("region", "eu-west-1")]);
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_and_not_shown() {
        for value in
            [json!(4711), json!(-4711), json!(47.11), json!(true), json!(null), json!([4711]), json!({"a": 4711})]
        {
            for key in ["password", "registry", "command", "options"] {
                let mut text = serde_json::to_value(settings()).unwrap();
                text[key] = value.clone();
                let (is_unset, read) = (key == "password" && value.is_null(), serde_json::from_value::<Settings>(text));
                assert_eq!(read.is_ok(), is_unset, "{key} = {value}");
                let message = read.map_or_else(|error| error.to_string(), |_| String::new());
                assert!(!message.contains("47"), "{key} = {value}: {message}");
            }
        }
    }

    #[test]
    fn users_are_cut_out_of_addresses() {
        for (url, expected) in [
            ("https://host/a", "https://host/a"),
            ("https://ada@host", "https://[secret]@host"),
            ("https://ada:pa/ss@wo@host/a", "https://[secret]@host/a"),
            ("http://host?token=x", "http://host?[secret]"),
            ("http://host/a#token", "http://host/a#[secret]"),
            ("http://host/a#token?x", "http://host/a#[secret]"),
            ("https://ada:hush@host/a?key=hush#hush", "https://[secret]@host/a?[secret]"),
            // No scheme, or not the usual slashes after it.
            ("ada:hush@host:8081", "[secret]@host:8081"),
            ("https:ada:hush@host", "[secret]@host"),
            ("https:/ada:hush@host", "[secret]@host"),
            ("https:///ada:hush@host", "https://[secret]@host"),
            ("ada:hu://sh@host", "[secret]@host"),
            ("host:8081?token=x", "host:8081?[secret]"),
            // A password with ? or #, or a query with @.
            ("https://ada:hu?sh@host", "https://[secret]"),
            ("https://ada:hu#sh@host", "https://[secret]"),
            ("https://host/a?key=hu@sh", "https://[secret]"),
            ("ada:hu?sh@host", "[secret]"),
            ("host:8081", "host:8081"),
            ("SASL_SSL", "SASL_SSL"),
            ("", ""),
        ] {
            assert_eq!(SecretUrl::from(url).to_string(), expected);
        }
    }
}
