//! The arguments of SQL functions, by their types.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use datafusion::common::{Result, exec_datafusion_err};

/// The texts of an argument.
pub(super) fn strings(array: &ArrayRef) -> Result<&StringArray> {
    array.as_string_opt::<i32>().ok_or_else(|| exec_datafusion_err!("expected text, found {}", array.data_type()))
}

/// The byte strings of an argument.
pub(super) fn binaries(array: &ArrayRef) -> Result<&BinaryArray> {
    array.as_binary_opt::<i32>().ok_or_else(|| exec_datafusion_err!("expected bytes, found {}", array.data_type()))
}

/// The text of a row. `None`: it is NULL.
pub(super) fn value(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}
