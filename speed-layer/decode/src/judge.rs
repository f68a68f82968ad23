//! Converts the values of a row to the types of its fields. The first field in schema order that is
//! missing or of the wrong type decides why the row is rejected.

use crate::cell::Cell;
use crate::mapping::{Fallback, Shape};
use crate::nested::{self, Trail};
use crate::plan::DecodePlan;
use crate::reject::{Reason, Reject};
use crate::row::Row;
use crate::validate;
use crate::value::Value;

/// The values of the added columns, converted to their types.
pub(crate) fn judge_added<'a>(plan: &'a DecodePlan, row: &Row<'a, '_>) -> Result<&'a [Cell<'a>], Reject> {
    let fields = plan.mapping.added();
    if fields.is_empty() {
        return Ok(&[]);
    }
    let cells = row.arena().alloc_slice_fill_copy(fields.len(), Cell::Null);
    for (index, field) in fields.iter().enumerate() {
        if let Some(value) = row.added(index).filter(|value| !validate::is_missing(field, *value)) {
            cells[index] = validate::cell(field, value, plan.mapping.times(), row.arena())?;
        }
    }
    Ok(cells)
}

/// Converts the values of a row to the types of their fields. Returns a bit for each field that has
/// a value.
#[inline]
pub(crate) fn judge<'a>(
    plan: &'a DecodePlan,
    row: &mut Row<'a, '_>,
    record_time: Option<i64>,
    ingested_at: i64,
) -> Result<u32, Reject> {
    let (arena, times) = (row.arena(), plan.mapping.times());
    // Fields that were converted while they were read need no further check.
    let mut present = row.settled();
    let mut todo = (row.taken() | plan.required | plan.fallbacks) & !present;
    while todo != 0 {
        let index = todo.trailing_zeros() as usize;
        todo &= todo - 1;
        let field = &plan.mapping.fields()[index];
        row.keep_noted(index);
        if row.is_converted(index) {
            present |= 1 << index;
            continue;
        }
        // A fast path: most values of most records are texts.
        if let (Shape::Text, &(Value::Text(text) | Value::Cell(text))) = (field.shape, row.value(index))
            && !(text.is_empty() && field.empty_is_missing)
        {
            row.set(index, Cell::Text(text));
            present |= 1 << index;
            continue;
        }
        let mut value = *row.value(index);
        if validate::is_missing(field, value) {
            if field.default.is_some() && !value.is_null() {
                row.keep_displaced(index);
            }
            value = match &field.default {
                Some(Fallback::Constant(text)) => Value::Cell(text),
                Some(Fallback::RecordTime) => record_time.map_or(Value::Null, Value::Time),
                Some(Fallback::IngestTime) => Value::Time(ingested_at),
                None => Value::Null,
            };
            if value.is_null() {
                if field.required {
                    return Err(Reject::new(Reason::MissingField, field.name.as_str()));
                }
                continue;
            }
        }
        let cell = if field.shape == Shape::Nested {
            let before = row.attributes().place();
            match nested::convert(value, &field.data_type, Trail::Field(&field.name), row.attributes(), arena) {
                Ok(cell) => cell,
                Err(_) if row.note_misshapen(index) => {
                    row.attributes().keep_up_to(before);
                    row.keep_displaced(index);
                    continue;
                }
                Err(reject) => return Err(reject),
            }
        } else {
            validate::cell(field, value, times, arena)?
        };
        row.set(index, cell);
        present |= 1 << index;
    }
    Ok(present)
}
