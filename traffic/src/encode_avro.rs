//! Writes bid requests as Avro, following the schema.
//!
//! The encoder compiles the schema once. A field that the generator knows becomes a leaf; any other
//! field becomes the constant bytes of its null. A schema that has a field neither known nor
//! nullable is refused, so every record that is written decodes. A known field can be written as
//! any type that holds it.

use apache_avro::Schema;
use apache_avro::rabin::Rabin;

use crate::error::TrafficError;
use crate::event::{Bid, Id, id};
use crate::text;
use crate::world::{User, Website, World, user_id};

/// Writes bid requests.
#[derive(Debug)]
pub struct BidEncoder {
    root: Node,
    /// The bytes before every datum.
    prefix: Vec<u8>,
    seed: u64,
    currencies: Vec<String>,
}

/// A part of the schema.
#[derive(Debug)]
enum Node {
    Constant(Vec<u8>),
    Optional {
        present: Field,
        none: Vec<u8>,
        some: Vec<u8>,
        inner: Box<Node>,
    },
    Record(Vec<Node>),
    /// An array of one element.
    SingleElement(Box<Node>),
    /// The array of imps.
    Imps(Box<Node>),
    Leaf(Field, Encoding),
}

/// What the generator knows of a bid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    AuctionId,
    UserId,
    Timestamp,
    Imp,
    ImpId,
    Banner,
    Width,
    Height,
    Secure,
    BidFloor,
    AuctionType,
    Tmax,
    Currency,
    Site,
    App,
    WebsiteName,
    Page,
    Category,
    Device,
    UserAgent,
    Ip,
    DeviceType,
    Os,
    Geo,
    Country,
    Region,
    City,
    BlockedCategories,
    BidImpId,
    CampaignId,
    CreativeId,
    BidPrice,
    ClearingPrice,
    Won,
}

/// How a leaf is written.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Text,
    Whole,
    Double,
    Float,
    Boolean,
    Millis,
    Micros,
    /// A decimal with this number of fractional digits, in bytes.
    Decimal(u32),
}

/// A value that is about to be written into a leaf.
enum Value<'a> {
    Str(&'a str),
    Bytes(Vec<u8>),
    Integer(i64),
    /// Millionths.
    Millionths(i64),
    Time(i64),
    Boolean(bool),
}

/// A bid request, with the data that is looked up for it.
struct Context<'a> {
    world: &'a World,
    bid: &'a Bid,
    website: &'a Website,
    user: User,
    /// The imp that is written now, counted from 1.
    imp: u8,
}

impl BidEncoder {
    /// Creates an encoder for a schema. `framed` selects Avro's single-object encoding, as used in
    /// Kafka.
    pub fn new(schema: &Schema, framed: bool, seed: u64, currencies: &[String]) -> Result<BidEncoder, TrafficError> {
        let root = compile(schema, "")?;
        let mut prefix = Vec::new();
        if framed {
            prefix.extend_from_slice(&[0xc3, 0x01]);
            prefix.extend_from_slice(&schema.fingerprint::<Rabin>().bytes);
        }
        Ok(BidEncoder { root, prefix, seed, currencies: currencies.to_vec() })
    }

    /// Appends a bid request.
    pub fn encode(&self, out: &mut Vec<u8>, world: &World, bid: &Bid) {
        out.extend_from_slice(&self.prefix);
        let website = &world.websites[bid.website as usize];
        let mut context = Context { world, bid, website, user: world.user(bid.user), imp: 1 };
        self.write(out, &self.root, &mut context);
    }

    fn write(&self, out: &mut Vec<u8>, node: &Node, context: &mut Context<'_>) {
        match node {
            Node::Constant(bytes) => out.extend_from_slice(bytes),
            Node::Optional { present, none, some, inner } => {
                if context.has(*present) {
                    out.extend_from_slice(some);
                    self.write(out, inner, context);
                } else {
                    out.extend_from_slice(none);
                }
            }
            Node::Record(fields) => {
                for field in fields {
                    self.write(out, field, context);
                }
            }
            Node::SingleElement(element) => {
                long(out, 1);
                self.write(out, element, context);
                long(out, 0);
            }
            Node::Imps(element) => {
                long(out, context.bid.imps.into());
                for imp in 1..=context.bid.imps {
                    context.imp = imp;
                    self.write(out, element, context);
                }
                long(out, 0);
            }
            Node::Leaf(field, encoding) => write_leaf(out, *encoding, &self.value(*field, context)),
        }
    }

    fn value<'a>(&'a self, field: Field, context: &Context<'a>) -> Value<'a> {
        let Context { world, bid, website, user, .. } = context;
        let ours = bid.carried();
        let hex = |of: Id| {
            let mut digits = Vec::with_capacity(16);
            text::hex(&mut digits, id(self.seed, of, bid.number));
            Value::Bytes(digits)
        };
        match field {
            Field::AuctionId => hex(Id::Auction),
            Field::UserId => {
                let mut id = Vec::with_capacity(9);
                user_id(&mut id, bid.user);
                Value::Bytes(id)
            }
            Field::Timestamp => Value::Time(bid.time),
            Field::ImpId => Value::Str(imp_name(context.imp)),
            Field::Width => Value::Integer(bid.width.into()),
            Field::Height => Value::Integer(bid.height.into()),
            Field::Secure => Value::Integer(1),
            Field::BidFloor => Value::Millionths(250_000),
            Field::AuctionType => Value::Integer(2),
            Field::Tmax => Value::Integer(bid.tmax.into()),
            Field::Currency => Value::Str(&self.currencies[usize::from(website.currency)]),
            Field::WebsiteName => Value::Str(&website.name),
            Field::Page => {
                let mut page = b"https://".to_vec();
                page.extend_from_slice(website.name.as_bytes());
                page.extend_from_slice(b"/articles/");
                text::integer(&mut page, (bid.number % 1_000) as i64);
                Value::Bytes(page)
            }
            Field::Category => Value::Str(website.category),
            Field::UserAgent => Value::Str(user.agent.user_agent),
            Field::Ip => {
                let mut ip = Vec::with_capacity(15);
                for (place, part) in user.ip.iter().enumerate() {
                    if place > 0 {
                        ip.push(b'.');
                    }
                    text::integer(&mut ip, (*part).into());
                }
                Value::Bytes(ip)
            }
            Field::DeviceType => Value::Integer(user.agent.device_type),
            Field::Os => Value::Str(user.agent.os),
            Field::Country => Value::Str(user.place.country3),
            Field::Region => Value::Str(user.place.region),
            Field::City => Value::Str(user.place.city),
            Field::BlockedCategories => Value::Str("IAB25"),
            Field::BidImpId => Value::Str(imp_name(ours.map_or(1, |ours| ours.imp))),
            Field::CampaignId | Field::CreativeId => {
                let Some(ours) = ours else { return Value::Str("") };
                let creative = &world.creatives[ours.creative as usize];
                match field {
                    Field::CampaignId => Value::Str(&world.campaigns[creative.campaign as usize].id),
                    _ => Value::Str(&creative.id),
                }
            }
            Field::BidPrice => Value::Millionths(ours.map_or(0, |ours| ours.bid_micros)),
            Field::ClearingPrice => Value::Millionths(ours.and_then(|ours| ours.clearing_micros).unwrap_or(0)),
            Field::Won => Value::Boolean(ours.is_some_and(|ours| ours.clearing_micros.is_some())),
            // Records and arrays are no leaves.
            Field::Imp | Field::Banner | Field::Site | Field::App | Field::Device | Field::Geo => Value::Integer(0),
        }
    }
}

impl Context<'_> {
    fn has(&self, field: Field) -> bool {
        match field {
            Field::Site => !self.website.app,
            Field::App => self.website.app,
            Field::Currency => self.website.currency != 0,
            Field::BlockedCategories => self.bid.number.is_multiple_of(8),
            Field::BidImpId => self.bid.imps > 1 && self.bid.carried().is_some(),
            Field::CampaignId | Field::CreativeId | Field::BidPrice | Field::Won => self.bid.carried().is_some(),
            Field::ClearingPrice => self.bid.carried().is_some_and(|ours| ours.clearing_micros.is_some()),
            _ => true,
        }
    }
}

fn imp_name(imp: u8) -> &'static str {
    if imp == 2 { "2" } else { "1" }
}

/// The fields that the generator knows, by their paths.
fn field_at(path: &str) -> Option<Field> {
    let field = match path {
        "auction_id" => Field::AuctionId,
        "user_id" => Field::UserId,
        "timestamp" | "event_time" => Field::Timestamp,
        "imp" => Field::Imp,
        "imp.id" => Field::ImpId,
        "imp.banner" => Field::Banner,
        "imp.banner.w" => Field::Width,
        "imp.banner.h" => Field::Height,
        "imp.secure" => Field::Secure,
        "imp.bidfloor" => Field::BidFloor,
        "at" => Field::AuctionType,
        "tmax" => Field::Tmax,
        "cur" => Field::Currency,
        "site" => Field::Site,
        "app" => Field::App,
        "site.domain" | "app.bundle" => Field::WebsiteName,
        "site.page" => Field::Page,
        "site.cat" | "app.cat" => Field::Category,
        "device" => Field::Device,
        "device.ua" => Field::UserAgent,
        "device.ip" => Field::Ip,
        "device.devicetype" => Field::DeviceType,
        "device.os" => Field::Os,
        "device.geo" => Field::Geo,
        "device.geo.country" => Field::Country,
        "device.geo.region" => Field::Region,
        "device.geo.city" => Field::City,
        "bcat" => Field::BlockedCategories,
        "imp_id" => Field::BidImpId,
        "campaign_id" => Field::CampaignId,
        "ad_creative_id" => Field::CreativeId,
        "bid_price" => Field::BidPrice,
        "clearing_price" => Field::ClearingPrice,
        "won" => Field::Won,
        _ => return None,
    };
    Some(field)
}

/// The node of a schema at a path.
fn compile(schema: &Schema, path: &str) -> Result<Node, TrafficError> {
    let field = field_at(path);
    match schema {
        Schema::Union(union) => {
            let variants = union.variants();
            let Some(null) = variants.iter().position(|variant| matches!(variant, Schema::Null)) else {
                return Err(TrafficError::Schema(format!("field {path:?} is a union without null")));
            };
            let none = union_branch(null);
            let chosen = variants.iter().enumerate().find_map(|(place, variant)| {
                let known = !matches!(variant, Schema::Null) && field.is_some();
                known.then(|| compile(variant, path).ok().map(|inner| (place, inner))).flatten()
            });
            match (field, chosen) {
                (Some(present), Some((place, inner))) => {
                    Ok(Node::Optional { present, none, some: union_branch(place), inner: Box::new(inner) })
                }
                _ => Ok(Node::Constant(none)),
            }
        }
        Schema::Record(record) => {
            let fields = record.fields.iter().map(|field| {
                let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                compile(&field.schema, &path)
            });
            Ok(Node::Record(fields.collect::<Result<_, _>>()?))
        }
        Schema::Array(array) if field == Some(Field::Imp) => Ok(Node::Imps(Box::new(compile(&array.items, path)?))),
        Schema::Array(array) if field.is_some() => match compile(&array.items, path)? {
            // The element of an array is always present, so its union always takes the branch that
            // is not null.
            Node::Optional { some, inner, .. } => {
                Ok(Node::SingleElement(Box::new(Node::Record(vec![Node::Constant(some), *inner]))))
            }
            element => Ok(Node::SingleElement(Box::new(element))),
        },
        Schema::Array(_) | Schema::Map(_) => Ok(Node::Constant(vec![0])),
        Schema::Null => Ok(Node::Constant(Vec::new())),
        _ => match (field, encoding(schema)) {
            (Some(field), Some(encoding)) => Ok(Node::Leaf(field, encoding)),
            _ => {
                let problem = format!("field {path:?} is required, but the generator does not know it");
                Err(TrafficError::Schema(problem))
            }
        },
    }
}

fn encoding(schema: &Schema) -> Option<Encoding> {
    let encoding = match schema {
        Schema::String => Encoding::Text,
        Schema::Int | Schema::Long => Encoding::Whole,
        Schema::Double => Encoding::Double,
        Schema::Float => Encoding::Float,
        Schema::Boolean => Encoding::Boolean,
        Schema::TimestampMillis => Encoding::Millis,
        Schema::TimestampMicros => Encoding::Micros,
        Schema::Decimal(decimal) => Encoding::Decimal(u32::try_from(decimal.scale).ok()?),
        _ => return None,
    };
    Some(encoding)
}

fn write_leaf(out: &mut Vec<u8>, encoding: Encoding, value: &Value<'_>) {
    match (encoding, value) {
        (Encoding::Text, Value::Str(value)) => bytes(out, value.as_bytes()),
        (Encoding::Text, Value::Bytes(value)) => bytes(out, value),
        (Encoding::Text, value) => {
            let mut written = Vec::new();
            match value {
                Value::Integer(value) => text::integer(&mut written, *value),
                Value::Millionths(value) => text::micros(&mut written, *value),
                Value::Time(value) => {
                    text::date_time(&mut written, *value, b'T');
                    written.push(b'Z');
                }
                Value::Boolean(value) => written.extend_from_slice(if *value { b"true" } else { b"false" }),
                Value::Str(_) | Value::Bytes(_) => {}
            }
            bytes(out, &written);
        }
        (Encoding::Boolean, value) => out.push(u8::from(matches!(value, Value::Boolean(true)))),
        (Encoding::Micros, Value::Time(value)) => long(out, *value),
        // A bare number is in milliseconds, which a reader recognizes by its size.
        (Encoding::Millis | Encoding::Whole, Value::Time(value)) => long(out, value.div_euclid(1_000)),
        (Encoding::Whole | Encoding::Millis | Encoding::Micros, value) => long(out, value.whole()),
        (Encoding::Double, value) => out.extend_from_slice(&value.double().to_le_bytes()),
        (Encoding::Float, value) => out.extend_from_slice(&(value.double() as f32).to_le_bytes()),
        (Encoding::Decimal(scale), value) => {
            let millionths = i128::from(value.millionths());
            let unscaled = match scale {
                0..=6 => millionths / 10_i128.pow(6 - scale),
                _ => millionths * 10_i128.pow((scale - 6).min(20)),
            };
            bytes(out, without_sign_extension(&unscaled.to_be_bytes()));
        }
    }
}

impl Value<'_> {
    fn whole(&self) -> i64 {
        match self {
            Value::Integer(value) | Value::Time(value) => *value,
            Value::Millionths(value) => value / 1_000_000,
            Value::Boolean(value) => i64::from(*value),
            Value::Str(_) | Value::Bytes(_) => 0,
        }
    }

    fn millionths(&self) -> i64 {
        match self {
            Value::Millionths(value) => *value,
            value => value.whole() * 1_000_000,
        }
    }

    fn double(&self) -> f64 {
        match self {
            // The division of two whole numbers is correctly rounded, so the without_sign_extension
            // decimal of the result is the price.
            Value::Millionths(value) => *value as f64 / 1_000_000.0,
            value => value.whole() as f64,
        }
    }
}

/// Two's complement, without the leading bytes that only repeat the sign.
fn without_sign_extension(bytes: &[u8; 16]) -> &[u8] {
    let mut at = 0;
    while at < 15 && ((bytes[at] == 0 && bytes[at + 1] < 0x80) || (bytes[at] == 0xff && bytes[at + 1] >= 0x80)) {
        at += 1;
    }
    &bytes[at..]
}

fn union_branch(place: usize) -> Vec<u8> {
    let mut out = Vec::new();
    long(&mut out, place as i64);
    out
}

/// Appends an Avro `int` or `long`: zigzag, seven bits a byte.
pub fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends Avro `bytes` or a `string`.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    long(out, value.len() as i64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_zigzag() {
        for (value, expected) in [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (64, vec![0x80, 1]), (-65, vec![0x81, 1])]
        {
            let mut out = Vec::new();
            long(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn decimals_are_as_short_as_can_be() {
        for (value, expected) in
            [(0_i128, vec![0]), (127, vec![127]), (128, vec![0, 128]), (-1, vec![255]), (-129, vec![255, 127])]
        {
            assert_eq!(without_sign_extension(&value.to_be_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn a_required_field_that_is_not_known_is_refused() {
        let schema = Schema::parse_str(
            r#"{"type":"record","name":"r","fields":[{"name":"auction_id","type":"string"},
                {"name":"seat","type":"string"}]}"#,
        )
        .unwrap();
        let error = BidEncoder::new(&schema, false, 1, &["USD".into()]).unwrap_err();
        assert!(error.to_string().contains("seat"), "{error}");
    }
}
