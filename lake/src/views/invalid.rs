//! Invalid traffic: which events the rules of [`adlake_domain::invalid`] exclude.
//!
//! What one event tells of itself is a function of its columns (`invalid_impression`,
//! `invalid_interaction`), evaluated where events are resolved. The rates need all events of a UTC
//! day, which is a partition of the tables of events. So they are applied to whole days, and only
//! where they are configured. The reasons are stored with the events.

use std::sync::Arc;

use adlake_domain::event::EventKind;
use adlake_domain::invalid::{self, BOT, Classifier, DATA_CENTRE, Invalid, RATE_ADDRESS, RATE_USER, ZERO_SIZE};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use hashbrown::HashMap;

use super::arguments::{strings, value};
use super::event_columns;

/// Registers the functions in a session:
///
/// - `invalid_impression(user_agent, width, height, ip)`, `invalid_interaction(user_agent)`: the
///   reason, or NULL.
/// - `spelled_address(ip)`: the address that a text spells, else the text.
pub(super) fn register(context: &SessionContext, rules: &Invalid) {
    // The rules were checked when the configuration was read. Those that a newer program has stored
    // are read by it alone.
    let classifier = Classifier::new(rules).map(Arc::new);
    let shared = classifier.clone();
    let impression = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let classifier = shared.as_ref().map_err(|error| exec_datafusion_err!("{error}"))?;
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let (agents, addresses) = (strings(&arrays[0])?, strings(&arrays[3])?);
        let size = |array: &'_ ArrayRef| {
            let wrong = || exec_datafusion_err!("expected a size, found {}", array.data_type());
            array.as_primitive_opt::<Int32Type>().cloned().ok_or_else(wrong)
        };
        let (widths, heights) = (size(&arrays[1])?, size(&arrays[2])?);
        let at = |sizes: &arrow::array::Int32Array, row: usize| sizes.is_valid(row).then(|| sizes.value(row));
        let mut robots = Robots::new(classifier, agents);
        let mut reasons = StringBuilder::new();
        for row in 0..agents.len() {
            reasons.append_option(if robots.has(row) {
                Some(BOT)
            } else if classifier.is_zero_size(at(&widths, row), at(&heights, row)) {
                Some(ZERO_SIZE)
            } else if value(addresses, row).is_some_and(|ip| classifier.is_in_data_centre(ip)) {
                Some(DATA_CENTRE)
            } else {
                None
            });
        }
        Ok(ColumnarValue::Array(Arc::new(reasons.finish())))
    };
    let interaction = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let classifier = classifier.as_ref().map_err(|error| exec_datafusion_err!("{error}"))?;
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let agents = strings(&arrays[0])?;
        let mut robots = Robots::new(classifier, agents);
        let reasons: StringArray = (0..agents.len()).map(|row| robots.has(row).then_some(BOT)).collect();
        Ok(ColumnarValue::Array(Arc::new(reasons)))
    };
    let spelled = |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let texts = strings(&arrays[0])?;
        let mut addresses = StringBuilder::with_capacity(texts.len(), texts.values().len());
        for row in 0..texts.len() {
            match value(texts, row) {
                Some(text) => match invalid::address(text) {
                    Some(address) => addresses.append_value(address.to_string()),
                    None => addresses.append_value(text),
                },
                None => addresses.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(addresses.finish())))
    };
    let (text, size) = (DataType::Utf8, DataType::Int32);
    let sizes = vec![text.clone(), size.clone(), size, text.clone()];
    let one = || vec![DataType::Utf8];
    context.register_udf(create_udf("invalid_impression", sizes, text.clone(), VOLATILITY, Arc::new(impression)));
    context.register_udf(create_udf("invalid_interaction", one(), text.clone(), VOLATILITY, Arc::new(interaction)));
    context.register_udf(create_udf("spelled_address", one(), text, VOLATILITY, Arc::new(spelled)));
}

const VOLATILITY: Volatility = Volatility::Immutable;

/// Which user agents of a batch are those of robots. Each distinct one is looked at once.
struct Robots<'a> {
    classifier: &'a Classifier,
    agents: &'a StringArray,
    known: HashMap<&'a str, bool>,
}

impl<'a> Robots<'a> {
    fn new(classifier: &'a Classifier, agents: &'a StringArray) -> Robots<'a> {
        Robots { classifier, agents, known: HashMap::new() }
    }

    fn has(&mut self, row: usize) -> bool {
        let Some(agent) = value(self.agents, row) else { return false };
        *self.known.entry(agent).or_insert_with(|| self.classifier.is_bot(agent))
    }
}

/// Whether rates are configured for a kind of event.
pub(super) fn has_rates(kind: EventKind, rules: &Invalid) -> bool {
    let users = &rules.rate_user;
    match kind {
        EventKind::Impression => users.impressions > 0 || rules.rate_address > 0,
        EventKind::Interaction => [users.clicks, users.conversions, users.refunds].iter().any(|most| *most > 0),
        EventKind::BidRequest => false,
    }
}

/// SQL: the rows of `events` with the reasons that they have by the rates too, and as `was` the
/// reasons that they had. `whole` are all events of the UTC days that `events` has rows of. Both
/// are tables, or queries in parentheses.
pub(super) fn rated(kind: EventKind, rules: &Invalid, events: &str, whole: &str) -> String {
    let columns: Vec<String> = event_columns(kind).iter().map(|name| format!("e.\"{name}\"")).collect();
    let reason = format!(
        "CASE WHEN e.invalid_reason NOT IN ('{RATE_USER}', '{RATE_ADDRESS}') THEN e.invalid_reason \
         WHEN e.is_busy THEN '{RATE_USER}' WHEN a.address IS NOT NULL THEN '{RATE_ADDRESS}' END"
    );
    let columns = columns.join(", ").replace("e.\"invalid_reason\"", &format!("{reason} AS invalid_reason"));
    let users = &rules.rate_user;
    let (group, most, same) = match kind {
        EventKind::Interaction => {
            let kinds = [("click", users.clicks), ("conversion", users.conversions), ("refund", users.refunds)];
            let most = kinds.map(|(name, most)| format!("WHEN '{name}' THEN {}", limit(most))).join(" ");
            (
                "user_id, interaction_type, event_date",
                format!("CASE interaction_type {most} END"),
                " AND e.interaction_type = u.interaction_type",
            )
        }
        _ => ("user_id, event_date", limit(users.impressions).to_string(), ""),
    };
    let busy =
        format!("SELECT {group} FROM {whole} WHERE user_id IS NOT NULL GROUP BY {group} HAVING count(*) > {most}");
    let (addresses, address) = match kind {
        EventKind::Impression if rules.rate_address > 0 => (
            format!(
                "SELECT address, event_date FROM (SELECT spelled_address(ip) AS address, event_date FROM {whole} \
                 WHERE ip IS NOT NULL) GROUP BY address, event_date HAVING count(*) > {}",
                limit(rules.rate_address)
            ),
            "spelled_address(e.ip)",
        ),
        // There is none.
        _ => (
            "SELECT CAST(NULL AS VARCHAR) AS address, CAST(NULL AS DATE) AS event_date WHERE false".to_string(),
            "CAST(NULL AS VARCHAR)",
        ),
    };
    // The left side of a join is held in memory, so the events stand on the right.
    let rows = format!(
        "SELECT e.*, u.user_id IS NOT NULL AS is_busy FROM ({busy}) u \
         RIGHT JOIN (SELECT *, {address} AS spelled FROM {events} e) e \
         ON e.user_id = u.user_id AND e.event_date = u.event_date{same}"
    );
    format!(
        "SELECT {columns}, e.invalid_reason AS was FROM ({addresses}) a RIGHT JOIN ({rows}) e \
         ON e.spelled = a.address AND e.event_date = a.event_date"
    )
}

/// The most events, where 0 stands for any number.
fn limit(most: u64) -> i64 {
    match i64::try_from(most) {
        Ok(0) | Err(_) => i64::MAX,
        Ok(most) => most,
    }
}
