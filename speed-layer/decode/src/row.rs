//! Decides which value each field gets, among all that a record offers.
//!
//! Nothing is appended to columns here, so a record that turns out to be bad leaves no trace.
//! Values that no field takes are kept as the members of one JSON object (`attributes`): keys that
//! the schema does not know, and values that lost to a better name of their field. An explicit null
//! and an empty CSV cell count as absent, and are not kept.
//!
//! If a field is offered several values, the one under the first of the field's names wins. An
//! empty text wins only where there is no other value and no default. A value that does not have
//! the shape of its field counts as absent if its name does not bind (see [`crate::mapping`]).

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use crate::attributes::Attributes;
use crate::cell::Cell;
use crate::mapping::{FIELDS_MAX, Field, Mapping, Origin, Path, Shape, Step, Target};
use crate::nested;
use crate::reject::Reject;
use crate::value::{Opened, Value};

/// The candidate value of a field.
#[derive(Debug, Clone, Copy)]
struct Slot<'a> {
    value: Value<'a>,
    key: &'a str,
    rank: u16,
    origin: Origin,
    /// Whether the value is part of another value, which is kept anyway.
    is_inner: bool,
}

impl<'a> Slot<'a> {
    /// Whether the value has another shape than its field, under a name that does not bind.
    fn is_misshapen(&self, field: &Field, arena: &'a Bump) -> bool {
        field.by_shape && self.origin != Origin::Configured && !nested::has_shape(self.value, &field.data_type, arena)
    }
}

/// A row that is being read.
pub(crate) struct Row<'a, 'd> {
    mapping: &'a Mapping,
    arena: &'a Bump,
    attributes: &'d mut Attributes,
    /// The candidates, in the order in which they came.
    slots: BumpVec<'a, Slot<'a>>,
    /// For each field, the index of its candidate in `slots`.
    places: [u8; FIELDS_MAX],
    /// A bit for each field that has a candidate.
    taken: u32,
    /// The values of the fields, in their types. While the record is read, only those that are
    /// converted at once. After the check, all.
    cells: [Cell<'a>; FIELDS_MAX],
    /// A bit for each field whose value was converted while it was read.
    converted: u32,
    /// A bit for each field that was sent in another shape, under a name that does not bind.
    misshapen: u32,
    /// Values inside converted fields that no field takes, each with its field and path.
    kept: BumpVec<'a, (usize, &'a str, Value<'a>)>,
    /// The values of the added columns, each with the rank of the name that it came under.
    added: &'a mut [Option<(Value<'a>, u16)>],
}

impl<'a, 'd> Row<'a, 'd> {
    /// A row without values.
    pub fn new(mapping: &'a Mapping, arena: &'a Bump, attributes: &'d mut Attributes) -> Row<'a, 'd> {
        attributes.clear();
        let added: &'a mut [_] = match mapping.added().len() {
            0 => Default::default(),
            count => arena.alloc_slice_fill_copy(count, None),
        };
        Row {
            mapping,
            arena,
            attributes,
            slots: BumpVec::with_capacity_in(FIELDS_MAX, arena),
            places: [0; FIELDS_MAX],
            taken: 0,
            cells: [Cell::Null; FIELDS_MAX],
            converted: 0,
            misshapen: 0,
            kept: BumpVec::new_in(arena),
            added,
        }
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.taken = 0;
        self.slots.clear();
        self.cells = [Cell::Null; FIELDS_MAX];
        self.converted = 0;
        self.misshapen = 0;
        self.kept.clear();
        self.attributes.clear();
        self.added.fill(None);
    }

    /// The mapping that finds the field of a key.
    pub fn mapping(&self) -> &'a Mapping {
        self.mapping
    }

    /// The arena that holds the row's copies.
    pub fn arena(&self) -> &'a Bump {
        self.arena
    }

    /// Takes a member of the record. `entry` is the key's entry in the mapping.
    #[inline]
    pub fn offer(&mut self, key: &'a str, entry: Option<u16>, value: Value<'a>) -> Result<(), Reject> {
        if value.is_null() {
            return Ok(());
        }
        let Some(entry) = entry else {
            self.attributes.keep(key, &value);
            return Ok(());
        };
        let entry = self.mapping.entry_at(entry);
        if !entry.added.is_empty() {
            self.offer_added(value, &entry.added)?;
        }
        match entry.direct {
            Some(target) if self.suits(target, value, &entry.paths) => {
                let Target { rank, origin, .. } = target;
                self.place(target, Slot { value, key, rank, origin, is_inner: false });
            }
            _ => self.attributes.keep(key, &value),
        }
        if entry.paths.is_empty() { Ok(()) } else { self.offer_parts(key, value, &entry.paths) }
    }

    /// As [`Row::offer`], for a text or the text of a number.
    // Passing a value on writes it to memory in parts and reads it back as a whole, and the
    // processor stalls on that. Most members are texts or numbers, so their values are built in
    // place.
    #[inline(always)]
    pub fn offer_text(
        &mut self,
        key: &'a str,
        entry: Option<u16>,
        text: &'a str,
        is_number: bool,
    ) -> Result<(), Reject> {
        if let Some(entry) = entry
            && let Some(target) = self.mapping.entry_at(entry).only_target()
            && self.taken >> target.field & 1 == 0
        {
            self.taken |= 1 << target.field;
            self.places[usize::from(target.field)] = self.slots.len() as u8;
            let value = if is_number { Value::Number(text) } else { Value::Text(text) };
            let Target { rank, origin, .. } = target;
            self.slots.push(Slot { value, key, rank, origin, is_inner: false });
            return Ok(());
        }
        self.offer(key, entry, if is_number { Value::Number(text) } else { Value::Text(text) })
    }

    /// Notes a value, or a value inside it, for added columns. The fields get the value as well.
    fn offer_added(&mut self, value: Value<'a>, paths: &'a [Path]) -> Result<(), Reject> {
        for path in paths {
            let found = if path.steps.is_empty() { value } else { walk(value, &path.steps, self.arena)? };
            let rank = path.target.rank;
            let is_better = |(other, other_rank): (Value<'_>, u16)| {
                (found.is_empty_text(), rank) <= (other.is_empty_text(), other_rank)
            };
            if let Some(noted) = self.added.get_mut(usize::from(path.target.field))
                && !found.is_null()
                && noted.is_none_or(is_better)
            {
                *noted = Some((found, rank));
            }
        }
        Ok(())
    }

    /// The value of an added column.
    pub fn added(&self, index: usize) -> Option<Value<'a>> {
        self.added.get(index).copied().flatten().map(|(value, _)| value)
    }

    /// Whether a value can be meant for the field that its key names. An object or list is not
    /// meant for a scalar field if its key is a common alias, or is also the root of paths. A name
    /// from the configuration always counts, unless the configuration also has a path from it.
    fn suits(&self, target: Target, value: Value<'a>, paths: &[Path]) -> bool {
        if !value.is_nested() {
            return true;
        }
        let field = &self.mapping.fields()[usize::from(target.field)];
        field.shape == Shape::Nested
            || field.keeps_json
            || match target.origin {
                Origin::Configured => !paths.iter().any(|path| path.target.origin == Origin::Configured),
                Origin::Own => paths.is_empty(),
                Origin::Common => false,
            }
    }

    /// Takes the values of fields that are found inside a value.
    fn offer_parts(&mut self, key: &'a str, value: Value<'a>, paths: &'a [Path]) -> Result<(), Reject> {
        let whole = match value.open(self.arena)? {
            Opened::List(items) => Value::List(items),
            Opened::Object(members) => Value::Object(members),
            Opened::Scalar => return Ok(()),
        };
        for path in paths {
            let found = walk(whole, &path.steps, self.arena)?;
            let Target { field, rank, origin } = path.target;
            let shape = self.mapping.fields()[usize::from(field)].shape;
            let is_meant = !found.is_nested() || shape == Shape::Nested || origin == Origin::Configured;
            if !found.is_null() && is_meant {
                self.place(path.target, Slot { value: found, key, rank, origin, is_inner: true });
            }
        }
        Ok(())
    }

    /// Makes `candidate` the value of its field if it is better than the one before. Of two under
    /// the same name the later wins. The loser is kept as an attribute.
    #[inline]
    fn place(&mut self, target: Target, candidate: Slot<'a>) {
        let index = usize::from(target.field);
        let bit = 1u32 << index;
        if self.taken & bit == 0 {
            self.taken |= bit;
            // A field has one place, so there are never more places than fields.
            self.places[index] = self.slots.len() as u8;
            self.slots.push(candidate);
        } else {
            self.displace(index, candidate);
        }
    }

    #[cold]
    fn displace(&mut self, index: usize, candidate: Slot<'a>) {
        let mapping = self.mapping;
        let (field, arena) = (&mapping.fields()[index], self.arena);
        // A value of the wrong shape or an empty text comes last, whatever its name.
        let order = |slot: &Slot<'a>| (slot.is_misshapen(field, arena), slot.value.is_empty_text(), slot.rank);
        let slot = &mut self.slots[usize::from(self.places[index])];
        let loser = if order(&candidate) <= order(slot) { std::mem::replace(slot, candidate) } else { candidate };
        if loser.is_misshapen(field, arena) {
            self.misshapen |= 1 << index;
        }
        self.keep_loser(&loser);
    }

    /// Keeps a value that lost its field as an attribute. An empty CSV cell is not kept.
    fn keep_loser(&mut self, loser: &Slot<'a>) {
        if !loser.is_inner && !matches!(loser.value, Value::Cell("")) {
            self.attributes.keep(loser.key, &loser.value);
        }
    }

    /// Keeps the value of a field as an attribute, because the field takes another value.
    #[cold]
    pub fn keep_displaced(&mut self, index: usize) {
        if self.taken >> index & 1 == 1 {
            let loser = self.slots[usize::from(self.places[index])];
            self.keep_loser(&loser);
        }
    }

    /// Whether the value of a field has another shape under a name that does not bind. If so, it is
    /// counted.
    #[cold]
    pub fn note_misshapen(&mut self, index: usize) -> bool {
        let field = &self.mapping.fields()[index];
        let is_misshapen =
            self.taken >> index & 1 == 1 && self.slots[usize::from(self.places[index])].is_misshapen(field, self.arena);
        self.misshapen |= u32::from(is_misshapen) << index;
        is_misshapen
    }

    /// A bit for each field that was sent in another shape and not taken.
    pub fn misshapen(&self) -> u32 {
        self.misshapen
    }

    /// Sets the value, in its type, of a field that has no other candidates.
    pub fn set_converted(&mut self, index: usize, cell: Cell<'a>) {
        self.cells[index] = cell;
        self.converted |= 1 << index;
    }

    /// Notes a value inside a converted field, to be kept under its path when the field is checked.
    #[cold]
    pub fn keep_later(&mut self, index: usize, path: &str, value: Value<'a>) {
        self.kept.push((index, self.arena.alloc_str(path), value));
    }

    /// A bit for each field that has a value.
    pub fn taken(&self) -> u32 {
        self.taken | self.converted
    }

    /// A bit for each field that was converted while it was read. It is 0 if any value inside such
    /// fields is still to be kept.
    #[inline]
    pub fn settled(&self) -> u32 {
        if self.kept.is_empty() { self.converted } else { 0 }
    }

    /// The value of a field as it was sent. `Null` for fields that were converted while they were
    /// read.
    #[inline]
    pub fn value(&self, index: usize) -> &Value<'a> {
        match self.taken >> index & 1 {
            0 => &Value::Null,
            _ => &self.slots[usize::from(self.places[index])].value,
        }
    }

    /// Whether a field was converted while it was read.
    #[inline]
    pub fn is_converted(&self, index: usize) -> bool {
        self.converted >> index & 1 == 1
    }

    /// Keeps the values inside a converted field that no field takes as attributes.
    #[inline]
    pub fn keep_noted(&mut self, index: usize) {
        for (_, path, value) in self.kept.iter().filter(|(field, ..)| *field == index) {
            self.attributes.keep(path, value);
        }
    }

    /// Sets the value of a field, in its type.
    #[inline]
    pub fn set(&mut self, index: usize, cell: Cell<'a>) {
        self.cells[index] = cell;
    }

    /// The values of the fields, in their types.
    pub fn cells(&self) -> &[Cell<'a>; FIELDS_MAX] {
        &self.cells
    }

    /// The values of the fields, and the text of the attributes.
    pub fn finish(&mut self) -> (&[Cell<'a>; FIELDS_MAX], Option<&str>) {
        (&self.cells, self.attributes.finish())
    }

    /// The attributes, for what no field takes.
    pub fn attributes(&mut self) -> &mut Attributes {
        self.attributes
    }
}

/// The value at the end of a path. `Null` where the path leads nowhere.
fn walk<'a>(value: Value<'a>, steps: &[Step], arena: &'a Bump) -> Result<Value<'a>, Reject> {
    let mut here = value;
    for step in steps {
        here = match (here.open(arena)?, step) {
            (Opened::Object(members), Step::Key(name)) => {
                // Of a name sent twice, the later value counts.
                members.iter().rev().find(|(key, _)| **key == **name).map_or(Value::Null, |(_, value)| *value)
            }
            (Opened::List(items), Step::Index(index)) => items.get(*index).copied().unwrap_or(Value::Null),
            _ => return Ok(Value::Null),
        };
    }
    Ok(here)
}
