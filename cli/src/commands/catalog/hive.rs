//! Types as Hive and Glue write them, and a DDL.

use arrow::datatypes::{DataType, Field};

use super::Entry;

/// The type of a column in Hive's words.
pub fn hive_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::List(element) | DataType::LargeList(element) => format!("array<{}>", hive_type(element.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}:{}", field.name(), hive_type(field.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("map<{},{}>", hive_type(fields[0].data_type()), hive_type(fields[1].data_type()))
            }
            _ => "string".to_owned(),
        },
        // Delta has no other types than text left.
        _ => "string".to_owned(),
    }
}

/// What the table's log says about a column, if it says anything.
pub fn comment(field: &Field) -> Option<&str> {
    field.metadata().get("comment").map(String::as_str)
}

/// Statements that make the tables in Hive, with Delta's connector. It takes partition columns from
/// the log, and refuses PARTITIONED BY: they are columns like others, in the log's order.
pub fn ddl(entries: &[Entry]) -> String {
    let mut text = String::from(
        "-- Written by `adlake catalog sync --ddl`. Hive needs Delta's connector (delta-hive-assembly).\n\
         -- A table whose columns have changed is made anew after DROP TABLE, which removes no data.\n",
    );
    for entry in entries {
        let columns: Vec<String> = entry
            .schema
            .fields()
            .iter()
            .map(|field| {
                let comment = comment(field).map(|text| format!(" COMMENT {}", quoted(text))).unwrap_or_default();
                format!("  `{}` {}{comment}", field.name(), hive_type(field.data_type()))
            })
            .collect();
        text.push_str(&format!(
            "\nCREATE EXTERNAL TABLE IF NOT EXISTS `{}` (\n{}\n)\nCOMMENT {}\n\
             STORED BY 'io.delta.hive.DeltaStorageHandler'\nLOCATION {};\n",
            entry.name,
            columns.join(",\n"),
            quoted(entry.description),
            quoted(&entry.location)
        ));
    }
    text
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Fields, Schema, TimeUnit};

    use super::*;

    #[test]
    fn types_are_written_as_hive_does() {
        let check = |data_type: DataType, expected: &str| assert_eq!(hive_type(&data_type), expected);
        check(DataType::Utf8, "string");
        check(DataType::Int64, "bigint");
        check(DataType::Decimal128(38, 6), "decimal(38,6)");
        check(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "timestamp");
        let inner = Fields::from(vec![
            Field::new("lat", DataType::Float64, true),
            Field::new("names", DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true),
        ]);
        check(DataType::Struct(inner), "struct<lat:double,names:array<string>>");
        let pair =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
        let map = Field::new("entries", DataType::Struct(pair), false);
        check(DataType::Map(Arc::new(map), false), "map<string,int>");
    }

    #[test]
    fn every_column_of_the_catalogue_has_a_type_of_its_own() {
        for table in adlake_domain::catalogue::tables() {
            for field in table.schema.flattened_fields() {
                let is_text = matches!(field.data_type(), DataType::Utf8);
                assert_eq!(hive_type(field.data_type()) == "string", is_text, "{} {}", table.name, field.name());
            }
        }
    }

    #[test]
    fn a_ddl_quotes_what_it_is_given() {
        let comment = [("comment".to_owned(), "the user's id".to_owned())].into();
        let fields = vec![
            Field::new("user_id", DataType::Utf8, true).with_metadata(comment),
            Field::new("day", DataType::Date32, true),
        ];
        let entry = Entry {
            name: "raw_x".to_owned(),
            description: "rows",
            location: "s3://b/it's".to_owned(),
            schema: Arc::new(Schema::new(fields)),
            partition_columns: vec!["day".to_owned()],
        };
        let text = ddl(&[entry]);
        let expected =
            "EXISTS `raw_x` (\n  `user_id` string COMMENT 'the user\\'s id',\n  `day` date\n)\nCOMMENT 'rows'\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.ends_with("LOCATION 's3://b/it\\'s';\n"), "{text}");
    }
}
