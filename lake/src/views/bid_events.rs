//! `bid_events(imp ids, imp_id, auction_id, content_hash)`: the events that one record of a bid
//! request stands for.
//!
//! A record with several imps is several events. A bid or an outcome belongs to the imp that
//! `imp_id` names, else to the only imp, else to the first. If `imp_id` names none of the imps, it
//! is an event of its own. A record without imps and without `imp_id` is one event, for imp "1".

use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::identity::{self, Identified, KEY_BYTES};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Int64Builder, ListArray, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use hashbrown::HashSet;

use super::arguments::{binaries, strings, value};

#[derive(Debug)]
pub(super) struct BidEvents {
    signature: Signature,
    null_values: Arc<HashSet<String>>,
}

impl BidEvents {
    pub(super) fn new(null_values: Arc<HashSet<String>>) -> BidEvents {
        BidEvents { signature: Signature::any(4, Volatility::Immutable), null_values }
    }
}

impl PartialEq for BidEvents {
    fn eq(&self, other: &Self) -> bool {
        self.null_values == other.null_values
    }
}

impl Eq for BidEvents {}

impl std::hash::Hash for BidEvents {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.null_values.len().hash(state);
    }
}

/// The fields of an event: its key, its imp's id, the imp's position in the list from 1 on (NULL:
/// not in the list), and whether the record's bid is for it.
fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("event_key", DataType::Binary, true),
        Field::new("imp_id", DataType::Utf8, true),
        Field::new("place", DataType::Int64, true),
        Field::new("target", DataType::Boolean, true),
    ])
}

fn element() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(event_fields()), true))
}

impl ScalarUDFImpl for BidEvents {
    fn name(&self) -> &str {
        "bid_events"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(element()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let texts = |array: &ArrayRef| -> Result<ArrayRef> { Ok(arrow::compute::cast(array, &DataType::Utf8)?) };
        let lists = arrays[0]
            .as_list_opt::<i32>()
            .ok_or_else(|| exec_datafusion_err!("expected a list of imps, found {}", arrays[0].data_type()))?;
        let (targets, auctions) = (texts(&arrays[1])?, texts(&arrays[2])?);
        let (targets, auctions) = (strings(&targets)?, strings(&auctions)?);
        let hashes = arrow::compute::cast(&arrays[3], &DataType::Binary)?;
        let hashes = binaries(&hashes)?;
        let ids = lists.values().as_struct_opt().and_then(|imps| imps.column_by_name("id").cloned());
        let ids = ids.map(|ids| texts(&ids)).transpose()?;
        let ids = ids.as_ref().map(strings).transpose()?;
        let mut events = Events::default();
        for row in 0..lists.len() {
            let auction = value(auctions, row).filter(|id| !self.null_values.contains(*id));
            let range = if lists.is_valid(row) {
                lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize
            } else {
                0..0
            };
            let imps: Vec<Option<&str>> = range.map(|place| ids.and_then(|ids| value(ids, place))).collect();
            events.record(&imps, value(targets, row), |imp_id| match auction {
                Some(auction_id) => identity::key(EventKind::BidRequest, Identified::Imp { auction_id, imp_id }),
                None => identity::key(EventKind::BidRequest, Identified::ContentImp(hashes.value(row), imp_id)),
            });
        }
        Ok(ColumnarValue::Array(Arc::new(events.finish()?)))
    }
}

#[derive(Default)]
struct Events {
    keys: BinaryBuilder,
    imp_ids: StringBuilder,
    places: Int64Builder,
    targets: BooleanBuilder,
    lengths: Vec<usize>,
}

impl Events {
    fn record(&mut self, imps: &[Option<&str>], target: Option<&str>, key: impl Fn(&str) -> [u8; KEY_BYTES]) {
        let names: Vec<String> = imps
            .iter()
            .enumerate()
            .map(|(place, id)| id.map_or_else(|| (place + 1).to_string(), String::from))
            .collect();
        let target = match (target, names.first()) {
            (Some(target), _) => target.to_string(),
            (None, Some(first)) => first.clone(),
            (None, None) => "1".to_string(),
        };
        let mut push = |name: &str, place: Option<i64>| {
            self.keys.append_value(key(name));
            self.imp_ids.append_value(name);
            self.places.append_option(place);
            self.targets.append_value(name == target);
        };
        let mut length = 0;
        for (place, name) in names.iter().enumerate() {
            // An id that occurs twice in one list is one event, that of its first imp.
            if !names[..place].contains(name) {
                push(name, Some(place as i64 + 1));
                length += 1;
            }
        }
        if !names.contains(&target) {
            push(&target, None);
            length += 1;
        }
        self.lengths.push(length);
    }

    fn finish(mut self) -> Result<ListArray> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.keys.finish()),
            Arc::new(self.imp_ids.finish()),
            Arc::new(self.places.finish()),
            Arc::new(self.targets.finish()),
        ];
        let values = StructArray::try_new(event_fields(), columns, None)?;
        Ok(ListArray::try_new(element(), OffsetBuffer::from_lengths(self.lengths), Arc::new(values), None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(imps: &[Option<&str>], target: Option<&str>, expected: &[(&str, bool)]) {
        let mut events = Events::default();
        events.record(imps, target, |name| identity::key(EventKind::BidRequest, Identified::Id(name)));
        let list = events.finish().unwrap();
        let values = list.values().as_struct();
        let names = values.column(1).as_string::<i32>();
        let targets = values.column(3).as_boolean();
        let found: Vec<(&str, bool)> = (0..names.len()).map(|row| (names.value(row), targets.value(row))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn events_of_a_record() {
        check(&[], None, &[("1", true)]);
        check(&[], Some("7"), &[("7", true)]);
        check(&[Some("a")], None, &[("a", true)]);
        check(&[Some("a"), Some("b")], None, &[("a", true), ("b", false)]);
        check(&[Some("a"), Some("b")], Some("b"), &[("a", false), ("b", true)]);
        check(&[Some("a")], Some("z"), &[("a", false), ("z", true)]);
        check(&[None, None], None, &[("1", true), ("2", false)]);
        check(&[Some("a"), Some("a")], None, &[("a", true)]);
    }
}
