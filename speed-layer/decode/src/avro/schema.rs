//! A writer's schema, compiled to nodes that the decoder walks. Nodes refer to each other by index,
//! so recursive types need nothing special.
//!
//! If a reader's schema is given, the two are resolved here, once, by Avro's rules ([`resolve`]).
//! Fields get the reader's names. Fields that the writer's schema lacks get their defaults. A value
//! of a type that the reader's schema does not accept is rejected when it comes. Fields that the
//! reader's schema lacks stay as they are, so nothing sent is lost.

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::schema::{EnumSchema, InnerDecimalSchema, Name, RecordSchema, UuidSchema};
use hashbrown::HashMap;

use super::resolve::{self, Constant};

/// The index of a node.
pub(crate) type NodeId = u32;

/// A type of the schema.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Boolean,
    /// An int. Also `time-millis`, which is a number without a date.
    Int,
    /// A long. Also `time-micros`.
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// An enum's symbols. `None` is a symbol that the reader's schema lacks.
    Enum(Vec<Option<String>>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Record),
    /// A decimal in `size` bytes, or in bytes with a length before them.
    Decimal {
        size: Option<usize>,
        scale: u32,
    },
    BigDecimal,
    /// A UUID of sixteen bytes. `prefixed` means that a length precedes them.
    Uuid {
        prefixed: bool,
    },
    Date,
    /// The microseconds are the value times `up`, divided by `down`. `local` means a local time
    /// without a time zone.
    Timestamp {
        up: i64,
        down: i64,
        local: bool,
    },
    /// A value that the reader's schema does not accept. It is read as written, then rejected.
    Refused {
        written: NodeId,
        detail: String,
    },
    /// A type that is still being compiled.
    Pending,
}

/// The fields of a record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The written fields, under the reader's names.
    pub fields: Vec<(String, NodeId)>,
    /// The reader's fields that were not written.
    pub defaults: Vec<(String, Constant)>,
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Its text is not an Avro schema.
    #[error("not an Avro schema: {0}")]
    Invalid(String),
    /// It describes values that are not records.
    #[error("the schema's type is not a record")]
    NotARecord,
    /// The reader's schema does not accept it.
    #[error("cannot be read with the configured reader's schema: {0}")]
    Unreadable(String),
}

/// A schema together with the definitions that it refers to.
#[derive(Debug)]
pub struct ParsedSchema {
    schema: Schema,
    named: Vec<Schema>,
}

impl ParsedSchema {
    /// Parses JSON texts: the schema's own, and those of the schemas that it refers to, in any
    /// order.
    pub fn new(text: &str, references: &[String]) -> Result<ParsedSchema, SchemaError> {
        let invalid = |error: apache_avro::Error| SchemaError::Invalid(error.to_string());
        let (schema, named) = match references {
            [] => (Schema::parse_str(text).map_err(invalid)?, Vec::new()),
            references => Schema::parse_str_with_list(text, references).map_err(invalid)?,
        };
        Ok(ParsedSchema { schema, named })
    }

    /// Every named type.
    fn definitions(&self) -> HashMap<&Name, &Schema> {
        let mut found = HashMap::new();
        self.named.iter().chain([&self.schema]).for_each(|schema| define(schema, &mut found));
        found
    }
}

fn define<'s>(schema: &'s Schema, found: &mut HashMap<&'s Name, &'s Schema>) {
    if let (false, Some(name)) = (matches!(schema, Schema::Ref { .. }), schema.name()) {
        found.insert(name, schema);
    }
    match schema {
        Schema::Array(array) => define(&array.items, found),
        Schema::Map(map) => define(&map.types, found),
        Schema::Union(union) => union.variants().iter().for_each(|variant| define(variant, found)),
        Schema::Record(record) => record.fields.iter().for_each(|field| define(&field.schema, found)),
        _ => {}
    }
}

/// CRC-64-AVRO of a schema's parsing canonical form.
fn fingerprint(schema: &Schema) -> Result<[u8; 8], SchemaError> {
    let invalid = |error: &dyn std::fmt::Display| SchemaError::Invalid(error.to_string());
    let mut json = serde_json::to_value(schema).map_err(|error| invalid(&error))?;
    let bytes = if drop_odd_numbers(&mut json) {
        Schema::parse(&json).map_err(|error| invalid(&error))?.fingerprint::<Rabin>().bytes
    } else {
        schema.fingerprint::<Rabin>().bytes
    };
    <[u8; 8]>::try_from(bytes).map_err(|_| SchemaError::Invalid("no fingerprint".to_owned()))
}

/// Removes the attributes of a schema that have the name of a number, but another value.
/// Returns whether it removed any.
///
/// apache-avro keeps all attributes that it does not know, and panics on these when it makes the
/// canonical form.
fn drop_odd_numbers(schema: &mut serde_json::Value) -> bool {
    match schema {
        serde_json::Value::Array(values) => values.iter_mut().fold(false, |any, value| drop_odd_numbers(value) | any),
        serde_json::Value::Object(attributes) => {
            let before = attributes.len();
            attributes.retain(|name, value| {
                let is_number =
                    value.as_i64().is_some() || value.as_str().is_some_and(|text| text.parse::<i64>().is_ok());
                is_number || !["size", "precision", "scale"].contains(&name.as_str())
            });
            let removed = attributes.len() < before;
            attributes.values_mut().fold(removed, |any, value| drop_odd_numbers(value) | any)
        }
        _ => false,
    }
}

/// A writer's schema, which must be a record.
#[derive(Debug)]
pub(crate) struct WriterSchema {
    nodes: Vec<Node>,
    root: NodeId,
    fingerprint: [u8; 8],
}

impl WriterSchema {
    /// Compiles a schema from its JSON text.
    #[cfg(test)]
    pub fn parse(text: &str) -> Result<WriterSchema, SchemaError> {
        WriterSchema::compile(&ParsedSchema::new(text, &[])?, None)
    }

    /// Compiles a schema, resolved against the reader's schema if there is one.
    pub fn compile(writer: &ParsedSchema, reader: Option<&ParsedSchema>) -> Result<WriterSchema, SchemaError> {
        let mut compiler = Compiler {
            nodes: Vec::new(),
            written: writer.definitions(),
            read: reader.map(ParsedSchema::definitions).unwrap_or_default(),
            compiled: HashMap::new(),
        };
        let root = compiler.add(&writer.schema, reader.map(|reader| &reader.schema))?;
        match &compiler.nodes[root as usize] {
            Node::Record(_) => {}
            Node::Refused { detail, .. } => return Err(SchemaError::Unreadable(detail.clone())),
            _ => return Err(SchemaError::NotARecord),
        }
        let fingerprint = fingerprint(&writer.schema)?;
        Ok(WriterSchema { nodes: compiler.nodes, root, fingerprint })
    }

    /// CRC-64-AVRO of the parsing canonical form, little-endian. Single-object encoding carries
    /// this fingerprint.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The record that the schema describes.
    pub fn record(&self) -> &Record {
        match self.node(self.root) {
            Node::Record(record) => record,
            _ => &NO_FIELDS,
        }
    }
}

static NO_FIELDS: Record = Record { fields: Vec::new(), defaults: Vec::new() };

/// The named types and their definitions.
type Definitions<'s> = HashMap<&'s Name, &'s Schema>;

struct Compiler<'s> {
    nodes: Vec<Node>,
    written: Definitions<'s>,
    read: Definitions<'s>,
    /// The named types compiled so far, by the writer's name and the reader's.
    compiled: HashMap<(&'s Name, Option<&'s Name>), NodeId>,
}

fn defined<'s>(schema: &'s Schema, definitions: &Definitions<'s>) -> Result<&'s Schema, SchemaError> {
    match schema {
        Schema::Ref { name } => {
            let found = definitions.get(name).copied();
            found.ok_or_else(|| SchemaError::Invalid(format!("{name} is not defined")))
        }
        schema => Ok(schema),
    }
}

impl<'s> Compiler<'s> {
    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    fn refuse(&mut self, writer: &'s Schema, detail: String) -> Result<NodeId, SchemaError> {
        let written = self.add(writer, None)?;
        Ok(self.push(Node::Refused { written, detail }))
    }

    /// Compiles what the writer's schema writes as the reader's schema accepts it.
    fn add(&mut self, writer: &'s Schema, reader: Option<&'s Schema>) -> Result<NodeId, SchemaError> {
        let writer = defined(writer, &self.written)?;
        let mut reader = reader.map(|reader| defined(reader, &self.read)).transpose()?;
        if let Schema::Union(union) = writer {
            let branches = union.variants().iter().map(|variant| self.add(variant, reader));
            let branches = branches.collect::<Result<_, _>>()?;
            return Ok(self.push(Node::Union(branches)));
        }
        if let Some(schema) = reader {
            let taken = match schema {
                // The first branch that accepts it. A branch of the same type is preferred to one
                // that widens it.
                Schema::Union(union) => {
                    let branches: Vec<&Schema> =
                        union.variants().iter().map(|branch| defined(branch, &self.read)).collect::<Result<_, _>>()?;
                    let same = |branch: &&&Schema| resolve::base(branch) == resolve::base(writer);
                    let taking = |branch: &&&Schema| resolve::takes(branch, writer, true);
                    let exact = branches.iter().find(|branch| same(branch) && taking(branch));
                    exact.or_else(|| branches.iter().find(taking)).copied()
                }
                schema => Some(schema).filter(|schema| resolve::takes(schema, writer, false)),
            };
            if taken.is_none() {
                let (written, read) = (resolve::describe(writer), resolve::describe(schema));
                return self.refuse(writer, format!("{written} cannot be read as {read}"));
            }
            reader = taken;
        }
        let key = writer.name().map(|name| (name, reader.and_then(Schema::name)));
        if let Some(id) = key.and_then(|key| self.compiled.get(&key)) {
            return Ok(*id);
        }
        // The node gets its index before its parts are compiled, because the parts may refer to it.
        let id = self.push(Node::Pending);
        if let Some(key) = key {
            self.compiled.insert(key, id);
        }
        // If only the reader's schema says that a number is a time or a decimal, the reader's
        // schema counts.
        let meant = match reader {
            Some(reader) if resolve::is_plain(writer) && resolve::base(reader) == resolve::base(writer) => reader,
            _ => writer,
        };
        let node = match (meant, reader) {
            (Schema::Array(array), reader) => {
                let items = reader
                    .and_then(|reader| if let Schema::Array(array) = reader { Some(&*array.items) } else { None });
                Node::Array(self.add(&array.items, items)?)
            }
            (Schema::Map(map), reader) => {
                let values =
                    reader.and_then(|reader| if let Schema::Map(map) = reader { Some(&*map.types) } else { None });
                Node::Map(self.add(&map.types, values)?)
            }
            (Schema::Record(record), Some(Schema::Record(reader))) => Node::Record(self.resolved(record, reader)?),
            (Schema::Record(record), _) => {
                let fields = record.fields.iter().map(|field| Ok((field.name.clone(), self.add(&field.schema, None)?)));
                Node::Record(Record { fields: fields.collect::<Result<_, SchemaError>>()?, defaults: Vec::new() })
            }
            (Schema::Enum(writer), Some(Schema::Enum(reader))) => Node::Enum(symbols(writer, reader)),
            (Schema::Enum(writer), _) => Node::Enum(writer.symbols.iter().cloned().map(Some).collect()),
            (scalar, _) => leaf(scalar),
        };
        self.nodes[id as usize] = node;
        Ok(id)
    }

    /// A record under the reader's names, with the defaults of the fields that were not written.
    fn resolved(&mut self, writer: &'s RecordSchema, reader: &'s RecordSchema) -> Result<Record, SchemaError> {
        let mut record = Record::default();
        let mut written = vec![false; reader.fields.len()];
        for field in &writer.fields {
            let by_name = reader.fields.iter().position(|known| known.name == field.name);
            let wanted = by_name.or_else(|| reader.fields.iter().position(|known| known.aliases.contains(&field.name)));
            match wanted.filter(|index| !written[*index]) {
                Some(index) => {
                    written[index] = true;
                    let known = &reader.fields[index];
                    record.fields.push((known.name.clone(), self.add(&field.schema, Some(&known.schema))?));
                }
                None => record.fields.push((field.name.clone(), self.add(&field.schema, None)?)),
            }
        }
        for field in reader.fields.iter().zip(written).filter(|(_, written)| !written).map(|(field, _)| field) {
            let unreadable = |what: &str| SchemaError::Unreadable(format!("{}.{}: {what}", reader.name, field.name));
            let default = field.default.as_ref().ok_or_else(|| unreadable("is not written and has no default"))?;
            let schema = defined(&field.schema, &self.read)?;
            let constant =
                Constant::new(default, schema).ok_or_else(|| unreadable("its default is not of its type"))?;
            record.defaults.push((field.name.clone(), constant));
        }
        Ok(record)
    }
}

/// The writer's symbols, as the reader's schema knows them.
fn symbols(writer: &EnumSchema, reader: &EnumSchema) -> Vec<Option<String>> {
    let known = |symbol: &String| reader.symbols.contains(symbol).then(|| symbol.clone());
    writer.symbols.iter().map(|symbol| known(symbol).or_else(|| reader.default.clone())).collect()
}

/// The node of a type without parts.
fn leaf(schema: &Schema) -> Node {
    let stamp = |up, down, local| Node::Timestamp { up, down, local };
    match schema {
        Schema::Boolean => Node::Boolean,
        Schema::Int | Schema::TimeMillis => Node::Int,
        Schema::Long | Schema::TimeMicros => Node::Long,
        Schema::Float => Node::Float,
        Schema::Double => Node::Double,
        Schema::Bytes => Node::Bytes,
        Schema::String | Schema::Uuid(UuidSchema::String) => Node::Text,
        Schema::Fixed(fixed) | Schema::Duration(fixed) => Node::Fixed(fixed.size),
        Schema::Decimal(decimal) => {
            let size = match &decimal.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
            };
            Node::Decimal { size, scale: u32::try_from(decimal.scale).unwrap_or(u32::MAX) }
        }
        Schema::BigDecimal => Node::BigDecimal,
        Schema::Uuid(UuidSchema::Bytes) => Node::Uuid { prefixed: true },
        Schema::Uuid(UuidSchema::Fixed(_)) => Node::Uuid { prefixed: false },
        Schema::Date => Node::Date,
        Schema::TimestampMillis => stamp(1000, 1, false),
        Schema::TimestampMicros => stamp(1, 1, false),
        Schema::TimestampNanos => stamp(1, 1000, false),
        Schema::LocalTimestampMillis => stamp(1000, 1, true),
        Schema::LocalTimestampMicros => stamp(1, 1, true),
        Schema::LocalTimestampNanos => stamp(1, 1000, true),
        // Types with parts are compiled before this function is called.
        Schema::Null
        | Schema::Array(_)
        | Schema::Map(_)
        | Schema::Union(_)
        | Schema::Record(_)
        | Schema::Enum(_)
        | Schema::Ref { .. } => Node::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_with_the_name_of_a_number_that_is_none_is_no_part_of_the_fingerprint() {
        let schema = |attribute: &str| {
            format!(r#"{{"type":"record","name":"R",{attribute}"fields":[{{"name":"a","type":["null","bytes"]}}]}}"#)
        };
        let plain = WriterSchema::parse(&schema("")).unwrap().fingerprint();
        for attribute in [r#""precision":"com.example","#, r#""scale":0.5,"#, r#""size":{"precision":null},"#] {
            assert_eq!(WriterSchema::parse(&schema(attribute)).unwrap().fingerprint(), plain, "{attribute}");
        }
    }

    #[test]
    fn only_records() {
        assert!(matches!(WriterSchema::parse("\"int\""), Err(SchemaError::NotARecord)));
        assert!(matches!(WriterSchema::parse("{"), Err(SchemaError::Invalid(_))));
        let recursive = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        let schema = WriterSchema::parse(recursive).unwrap();
        assert_eq!(schema.record().fields[0].0, "next");
    }

    #[test]
    fn references_are_resolved() {
        let geo = r#"{"type":"record","name":"a.Geo","fields":[{"name":"country","type":"a.Code"}]}"#;
        let code = r#"{"type":"enum","name":"a.Code","symbols":["DE","FR"]}"#;
        let text =
            r#"{"type":"record","name":"a.R","fields":[{"name":"geo","type":"Geo"},{"name":"c","type":"a.Code"}]}"#;
        let compile = |references: &[&str]| {
            let references: Vec<String> = references.iter().map(|text| (*text).to_owned()).collect();
            WriterSchema::compile(&ParsedSchema::new(text, &references)?, None)
        };
        let schema = compile(&[geo, code]).unwrap();
        let Node::Record(inner) = schema.node(schema.record().fields[0].1) else { panic!("not a record") };
        assert!(matches!(schema.node(inner.fields[0].1), Node::Enum(symbols) if symbols.len() == 2));
        assert!(compile(&[geo]).is_err());
        assert!(compile(&[]).is_err());
    }
}
