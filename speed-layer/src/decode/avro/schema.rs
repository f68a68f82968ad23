//! A writer's schema, compiled to what the decoder walks: nodes by index, so that recursive types are no problem.

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};
use hashbrown::HashMap;

/// The place of a node.
pub(crate) type NodeId = u32;

/// A type of the schema.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Boolean,
    /// Also `time-millis`: a number without a calendar.
    Int,
    /// Also `time-micros`.
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Vec<(String, NodeId)>),
    /// Of bytes, or of so many.
    Decimal {
        size: Option<usize>,
        scale: u32,
    },
    BigDecimal,
    /// Sixteen bytes; `true`: with a length before them.
    Uuid {
        prefixed: bool,
    },
    Date,
    /// Microseconds are the value times `up` by `down`; `true`: of a wall clock.
    Timestamp {
        up: i64,
        down: i64,
        local: bool,
    },
    /// A name not yet resolved, while compiling.
    Pending,
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("not an Avro schema: {0}")]
    Invalid(String),
    #[error("the schema's type is not a record")]
    NotARecord,
}

/// A writer's schema: a record.
#[derive(Debug)]
pub(crate) struct WriterSchema {
    nodes: Vec<Node>,
    root: NodeId,
    fingerprint: [u8; 8],
}

impl WriterSchema {
    /// Compiles a schema from its JSON text.
    pub fn parse(text: &str) -> Result<WriterSchema, SchemaError> {
        let schema = Schema::parse_str(text).map_err(|error| SchemaError::Invalid(error.to_string()))?;
        let mut compiler = Compiler { nodes: Vec::new(), names: HashMap::new() };
        let root = compiler.add(&schema)?;
        if !matches!(compiler.nodes[root as usize], Node::Record(_)) {
            return Err(SchemaError::NotARecord);
        }
        let mut fingerprint = [0; 8];
        let bytes = schema.fingerprint::<Rabin>().bytes;
        let bytes = bytes.get(..8).ok_or_else(|| SchemaError::Invalid("no fingerprint".to_owned()))?;
        fingerprint.copy_from_slice(bytes);
        Ok(WriterSchema { nodes: compiler.nodes, root, fingerprint })
    }

    /// CRC-64-AVRO of the parsing canonical form, little-endian: what single-object encoding carries.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The fields of the record.
    pub fn record(&self) -> &[(String, NodeId)] {
        match self.node(self.root) {
            Node::Record(fields) => fields,
            _ => &[],
        }
    }
}

struct Compiler {
    nodes: Vec<Node>,
    names: HashMap<Name, NodeId>,
}

impl Compiler {
    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    /// A place for a named type, before its parts (which may name it) are compiled.
    fn reserve(&mut self, name: &Name) -> NodeId {
        let id = self.push(Node::Pending);
        self.names.insert(name.clone(), id);
        id
    }

    fn add(&mut self, schema: &Schema) -> Result<NodeId, SchemaError> {
        let stamp = |up, down, local| Node::Timestamp { up, down, local };
        let node = match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int | Schema::TimeMillis => Node::Int,
            Schema::Long | Schema::TimeMicros => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String => Node::Text,
            Schema::Array(array) => Node::Array(self.add(&array.items)?),
            Schema::Map(map) => Node::Map(self.add(&map.types)?),
            Schema::Union(union) => {
                Node::Union(union.variants().iter().map(|variant| self.add(variant)).collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => {
                let id = self.reserve(&record.name);
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    fields.push((field.name.clone(), self.add(&field.schema)?));
                }
                self.nodes[id as usize] = Node::Record(fields);
                return Ok(id);
            }
            Schema::Enum(enumeration) => {
                let id = self.reserve(&enumeration.name);
                self.nodes[id as usize] = Node::Enum(enumeration.symbols.clone());
                return Ok(id);
            }
            Schema::Fixed(fixed) | Schema::Duration(fixed) => {
                let id = self.reserve(&fixed.name);
                self.nodes[id as usize] = Node::Fixed(fixed.size);
                return Ok(id);
            }
            Schema::Decimal(decimal) => {
                let scale = decimal.scale as u32;
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => Node::Decimal { size: None, scale },
                    InnerDecimalSchema::Fixed(fixed) => {
                        let id = self.reserve(&fixed.name);
                        self.nodes[id as usize] = Node::Decimal { size: Some(fixed.size), scale };
                        return Ok(id);
                    }
                }
            }
            Schema::BigDecimal => Node::BigDecimal,
            Schema::Uuid(UuidSchema::String) => Node::Text,
            Schema::Uuid(UuidSchema::Bytes) => Node::Uuid { prefixed: true },
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                let id = self.reserve(&fixed.name);
                self.nodes[id as usize] = Node::Uuid { prefixed: false };
                return Ok(id);
            }
            Schema::Date => Node::Date,
            Schema::TimestampMillis => stamp(1000, 1, false),
            Schema::TimestampMicros => stamp(1, 1, false),
            Schema::TimestampNanos => stamp(1, 1000, false),
            Schema::LocalTimestampMillis => stamp(1000, 1, true),
            Schema::LocalTimestampMicros => stamp(1, 1, true),
            Schema::LocalTimestampNanos => stamp(1, 1000, true),
            Schema::Ref { name } => {
                return self
                    .names
                    .get(name)
                    .copied()
                    .ok_or_else(|| SchemaError::Invalid(format!("{name} is not defined")));
            }
        };
        Ok(self.push(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records() {
        assert!(matches!(WriterSchema::parse("\"int\""), Err(SchemaError::NotARecord)));
        assert!(matches!(WriterSchema::parse("{"), Err(SchemaError::Invalid(_))));
        let recursive = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        let schema = WriterSchema::parse(recursive).unwrap();
        assert_eq!(schema.record()[0].0, "next");
    }
}
