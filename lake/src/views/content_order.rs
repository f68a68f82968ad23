//! `content_order(fields...)`: bytes that compare like the contents of events.
//!
//! Contents compare field by field in the order of the schema. NULL comes before every value, also
//! before an empty one. Texts compare as UTF-8 bytes, nested values by their canonical JSON text.

use std::sync::Arc;

use adlake_domain::content;
use arrow::array::{Array, ArrayRef, BinaryArray, StringBuilder};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ContentOrder {
    signature: Signature,
}

impl Default for ContentOrder {
    fn default() -> Self {
        ContentOrder { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ContentOrder {
    fn name(&self) -> &str {
        "content_order"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let columns: Vec<ArrayRef> = arrays.into_iter().map(comparable).collect::<Result<_>>()?;
        let order = SortOptions { descending: false, nulls_first: true };
        let fields =
            columns.iter().map(|column| SortField::new_with_options(column.data_type().clone(), order)).collect();
        let converter = RowConverter::new(fields).map_err(DataFusionError::from)?;
        let rows = converter.convert_columns(&columns).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(Arc::new(BinaryArray::from_iter_values(rows.iter()))))
    }
}

fn comparable(column: ArrayRef) -> Result<ArrayRef> {
    if !column.data_type().is_nested() {
        return Ok(column);
    }
    let mut texts = StringBuilder::new();
    let mut text = String::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        content::write_canonical_json(column.as_ref(), row, &mut text)?;
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}
