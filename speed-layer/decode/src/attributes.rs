//! Collects the values that no field takes, as one JSON object: the column `attributes`.

use adlake_domain::content::write_json_string;

use crate::value::Value;

/// The JSON object of the values that no field takes.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    text: String,
}

impl Attributes {
    /// Removes all members.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// Adds a value under a name.
    pub fn keep(&mut self, name: &str, value: &Value<'_>) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        write_json_string(name, &mut self.text);
        self.text.push(':');
        value.write_json(&mut self.text);
    }

    /// The position that [`Attributes::keep_up_to`] can go back to.
    pub fn place(&self) -> usize {
        self.text.len()
    }

    /// Removes the members that were added after a position.
    pub fn keep_up_to(&mut self, place: usize) {
        self.text.truncate(place);
    }

    /// Closes the object. `None` where it has no members.
    pub fn finish(&mut self) -> Option<&str> {
        if self.text.is_empty() {
            return None;
        }
        self.text.push('}');
        Some(&self.text)
    }
}
