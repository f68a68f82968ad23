//! Replays a rule over history: when it would have fired. Hour by hour, with what is known now.

use adlake_domain::time;

use super::engine::{Engine, Row};
use super::rule::Rule;
use super::samples::{Facts, Sampler};
use crate::answer::AnswerError;
use crate::metrics::Catalogues;
use crate::state::State;
use crate::state::names::Names;

/// The transitions of a rule in a range.
pub async fn replay(
    rule: &Rule,
    state: &State,
    names: &Names,
    catalogues: &Catalogues,
    (from, to): (i64, i64),
) -> Result<Vec<Row>, AnswerError> {
    let alone = Rule { inhibited_by: Vec::new(), ..rule.clone() };
    let mut engine = Engine::new(vec![alone.clone()].into());
    let mut rows = Vec::new();
    let mut now = time::hour_start(from, state.report_zone());
    while now < to {
        let sampler = Sampler { state, names, catalogues, now: now + alone.delay, has_running: false };
        let observed = sampler.observe(&alone, 0, &engine, &Facts::default()).await?;
        rows.extend(engine.step(now + alone.delay, vec![Some(observed)]));
        now += time::HOUR;
    }
    Ok(rows)
}
