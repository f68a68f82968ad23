//! Fields as sent: the order in which copies of an event are compared, their canonical JSON and
//! their hash.

use std::cmp::Ordering;

use super::raw::{App, Banner, Data, Device, Geo, Imp, Publisher, Segment, Site, User, Video};

/// A field as sent. It is compared with the same field of a copy: NULL sorts first, text sorts by
/// its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    Null,
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Decimal(i128),
    Double(Double),
    Time(i64),
    Text(String),
    List(Vec<Content>),
    /// Names and values in schema order.
    Struct(Vec<(&'static str, Content)>),
    /// Keys and values in order of the keys.
    Map(Vec<(String, Content)>),
}

impl Content {
    /// The form in which copies are compared and hashed: nested values become their canonical JSON
    /// text.
    pub(super) fn flat(self) -> Content {
        match self {
            Content::List(_) | Content::Struct(_) | Content::Map(_) => Content::Text(self.json()),
            flat => flat,
        }
    }

    /// JSON without spaces. Fields of a struct that are NULL are left out.
    fn json(&self) -> String {
        let object = |entries: Vec<(&str, &Content)>| {
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name), value.json()))
                .collect();
            format!("{{{}}}", entries.join(","))
        };
        match self {
            Content::Null => "null".to_string(),
            Content::Bool(value) => value.to_string(),
            Content::Int32(value) => value.to_string(),
            Content::Int64(value) | Content::Time(value) => value.to_string(),
            Content::Decimal(value) => value.to_string(),
            Content::Double(value) => value.0.to_string(),
            Content::Text(value) => serde_json::Value::from(value.as_str()).to_string(),
            Content::List(values) => {
                format!("[{}]", values.iter().map(Content::json).collect::<Vec<String>>().join(","))
            }
            Content::Struct(fields) => {
                let sent = fields.iter().filter(|(_, value)| *value != Content::Null);
                object(sent.map(|(name, value)| (*name, value)).collect())
            }
            Content::Map(entries) => object(entries.iter().map(|(key, value)| (key.as_str(), value)).collect()),
        }
    }
}

/// A floating point number in IEEE 754's total order.
#[derive(Debug, Clone, Copy)]
pub struct Double(pub f64);

impl PartialEq for Double {
    fn eq(&self, other: &Double) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Double {}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Double) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Double) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Anything that becomes a field's content.
pub(super) trait IntoContent {
    fn content(&self) -> Content;
}

impl IntoContent for String {
    fn content(&self) -> Content {
        Content::Text(self.clone())
    }
}

impl IntoContent for bool {
    fn content(&self) -> Content {
        Content::Bool(*self)
    }
}

impl IntoContent for i32 {
    fn content(&self) -> Content {
        Content::Int32(*self)
    }
}

impl IntoContent for i64 {
    fn content(&self) -> Content {
        Content::Int64(*self)
    }
}

impl IntoContent for i128 {
    fn content(&self) -> Content {
        Content::Decimal(*self)
    }
}

impl IntoContent for f64 {
    fn content(&self) -> Content {
        Content::Double(Double(*self))
    }
}

impl<T: IntoContent> IntoContent for Option<T> {
    fn content(&self) -> Content {
        self.as_ref().map_or(Content::Null, IntoContent::content)
    }
}

impl<T: IntoContent> IntoContent for Vec<T> {
    fn content(&self) -> Content {
        Content::List(self.iter().map(IntoContent::content).collect())
    }
}

macro_rules! fields {
    ($value:expr, $($field:ident),+ $(,)?) => { vec![$($value.$field.content()),+] };
}

macro_rules! structure {
    ($value:expr, $($field:ident),+ $(,)?) => {
        Content::Struct(vec![$((stringify!($field).trim_start_matches("r#"), $value.$field.content())),+])
    };
}

pub(super) use fields;
pub(super) use structure;

impl IntoContent for Imp {
    fn content(&self) -> Content {
        structure!(self, id, tagid, instl, secure, bidfloor, bidfloorcur, banner, video)
    }
}

impl IntoContent for Banner {
    fn content(&self) -> Content {
        structure!(self, w, h, pos)
    }
}

impl IntoContent for Video {
    fn content(&self) -> Content {
        structure!(self, w, h, minduration, maxduration)
    }
}

impl IntoContent for Publisher {
    fn content(&self) -> Content {
        structure!(self, id, name, domain)
    }
}

impl IntoContent for Segment {
    fn content(&self) -> Content {
        structure!(self, id, name, value)
    }
}

impl IntoContent for Site {
    fn content(&self) -> Content {
        structure!(self, id, name, domain, page, r#ref, cat, mobile, publisher)
    }
}

impl IntoContent for App {
    fn content(&self) -> Content {
        structure!(self, id, name, bundle, domain, storeurl, ver, cat, publisher)
    }
}

impl IntoContent for Device {
    fn content(&self) -> Content {
        structure!(self, ua, ip, ipv6, devicetype, make, model, os, osv, language, connectiontype, ifa, lmt, geo,)
    }
}

impl IntoContent for Geo {
    fn content(&self) -> Content {
        structure!(self, lat, lon, country, region, city, zip, r#type)
    }
}

impl IntoContent for User {
    fn content(&self) -> Content {
        structure!(self, id, buyeruid, yob, gender, keywords, segments, data)
    }
}

impl IntoContent for Data {
    fn content(&self) -> Content {
        structure!(self, id, name, segment)
    }
}

/// XXH3-128 of the flat fields. A field that is NULL adds a byte 0; any other adds a byte 1, its
/// length and its bytes.
pub fn content_hash(fields: &[Content]) -> [u8; 16] {
    let mut bytes = Vec::new();
    for field in fields {
        let own = match field {
            Content::Null => {
                bytes.push(0);
                continue;
            }
            Content::Bool(value) => vec![u8::from(*value)],
            Content::Int32(value) => value.to_le_bytes().to_vec(),
            Content::Int64(value) | Content::Time(value) => value.to_le_bytes().to_vec(),
            Content::Decimal(value) => value.to_le_bytes().to_vec(),
            Content::Text(value) => value.as_bytes().to_vec(),
            Content::Double(value) => value.0.to_le_bytes().to_vec(),
            nested @ (Content::List(_) | Content::Struct(_) | Content::Map(_)) => nested.json().into_bytes(),
        };
        bytes.push(1);
        bytes.extend((own.len() as u32).to_le_bytes());
        bytes.extend(own);
    }
    xxhash_rust::xxh3::xxh3_128(&bytes).to_be_bytes()
}
