//! The merge of events: the new winners, and the published events that they replace.

use adlake_domain::batch_schema::event_schema;
use adlake_domain::event::EventKind;
use adlake_domain::schema::raw_schema;

use super::among::Among;
use super::{Merge, nullable};
use crate::error::LakeError;
use crate::views::plans::columns_of;

impl Merge<'_> {
    /// Registers `merged_<kind>`, and makes `new_<kind>` and `replaced_<kind>`.
    pub(super) async fn merge_events(&self, kind: EventKind) -> Result<(), LakeError> {
        let name = kind.table();
        let schema = event_schema(kind);
        let published =
            self.register_published(&format!("published_{name}"), kind.batch_table(), schema.clone()).await?;
        self.plans.register_empty(&format!("new_{name}"), schema.clone())?;
        self.plans.register_empty(&format!("replaced_{name}"), schema.clone())?;
        if let Some(tail) = self.snapshot.tail(self.plans.context(), kind).await? {
            self.plans.register(&format!("tail_{name}"), tail)?;
            let dated = format!("SELECT *, CAST(event_time AS DATE) AS event_date FROM tail_{name}");
            self.plans.define(&format!("tail_dated_{name}"), &dated).await?;
            if published {
                self.find_changed_events(kind).await?;
            } else {
                let keyed = self.plans.keyed(kind, &format!("tail_dated_{name}")).await?;
                self.plans.register(&format!("tail_keyed_{name}"), keyed.into_view())?;
                let events = self.plans.deduplicated(kind, &format!("tail_keyed_{name}")).await?;
                let rows = self.run(events.execute_stream().await?, schema).await?;
                self.register_rows(&format!("new_{name}"), rows)?;
            }
            if self.plans.has_rates(kind) {
                self.apply_rates(kind).await?;
            }
        }
        let merged = self.with_new_events(&format!("published_{name}"), name, kind);
        self.plans.define(&format!("merged_{name}"), &merged).await?;
        Ok(())
    }

    /// SQL: the published events that are not replaced, and the new events.
    fn with_new_events(&self, published: &str, name: &str, kind: EventKind) -> String {
        let (b, n) = (columns_of(kind, "b"), columns_of(kind, "n"));
        let replaced = self.without_replaced(published, name);
        if self.has_rows(&format!("new_{name}")) {
            format!("SELECT {b} FROM {replaced} UNION ALL SELECT {n} FROM new_{name} n")
        } else {
            format!("SELECT {b} FROM {replaced}")
        }
    }

    /// SQL for a FROM clause: `b`, the rows of `published` whose identities are not replaced.
    pub(super) fn without_replaced(&self, published: &str, name: &str) -> String {
        if self.has_rows(&format!("replaced_{name}")) {
            format!("{published} b LEFT ANTI JOIN replaced_{name} o ON b.event_key = o.event_key")
        } else {
            format!("{published} b")
        }
    }

    /// SQL for a FROM clause: `b`, the rows of `events` whose identities are in the table `keys`.
    async fn having_keys(&self, events: &str, keys: &str) -> Result<String, LakeError> {
        let rows = self.plans.sql(&format!("SELECT event_key FROM {keys}")).await?.execute_stream().await?;
        let Some(among) = Among::of(rows, self.plans.context()).await? else {
            return Ok(format!("{events} b LEFT SEMI JOIN {keys} t ON b.event_key = t.event_key"));
        };
        let function = format!("is_in_{keys}");
        among.register(&function, self.plans.context());
        Ok(format!("{events} b WHERE {function}(b.event_key)"))
    }

    /// Makes `new_<kind>` and `replaced_<kind>` from the tail and the published events.
    async fn find_changed_events(&self, kind: EventKind) -> Result<(), LakeError> {
        let name = kind.table();
        let keyed = self.plans.keyed(kind, &format!("tail_dated_{name}")).await?;
        let keyed_schema = nullable(keyed.schema().as_arrow());
        let rows = self.run(keyed.execute_stream().await?, keyed_schema.clone()).await?;
        self.register_rows(&format!("tail_keyed_{name}"), rows)?;
        let bid = if kind == EventKind::BidRequest { ", b.bid_source, b.bid_event_date" } else { "" };
        let hits = format!(
            "SELECT b.event_key, b.content_hash, b.ingested_at, b.source, b.event_date{bid} FROM {}",
            self.having_keys(&format!("published_{name}"), &format!("tail_keyed_{name}")).await?
        );
        let any_hits = self.materialize(&format!("hits_{name}"), &hits, None).await?;
        let candidates = if any_hits {
            // An exact copy that arrived after the published row changes nothing: it is not smaller
            // in the order that decides the winner.
            let trimmed = format!(
                "SELECT t.* FROM tail_keyed_{name} t LEFT ANTI JOIN hits_{name} h ON t.event_key = h.event_key \
                 AND t.content_hash = h.content_hash AND t.ingested_at > h.ingested_at"
            );
            self.materialize(&format!("trimmed_{name}"), &trimmed, Some(keyed_schema)).await?;
            let touched =
                format!("SELECT h.* FROM hits_{name} h LEFT SEMI JOIN trimmed_{name} t ON h.event_key = t.event_key");
            if self.materialize(&format!("touched_{name}"), &touched, None).await? {
                self.find_representatives(kind).await?;
                format!("SELECT * FROM trimmed_{name} UNION ALL SELECT * FROM representatives_{name}")
            } else {
                format!("SELECT * FROM trimmed_{name}")
            }
        } else {
            format!("SELECT * FROM tail_keyed_{name}")
        };
        self.plans.define(&format!("candidates_{name}"), &candidates).await?;
        let frame = self.plans.deduplicated(kind, &format!("candidates_{name}")).await?;
        let rows = self.run(frame.execute_stream().await?, event_schema(kind)).await?;
        self.register_rows(&format!("winners_{name}"), rows)?;
        let schema = Some(event_schema(kind));
        if !self.has_rows(&format!("touched_{name}")) {
            self.materialize(&format!("new_{name}"), &format!("SELECT * FROM winners_{name}"), schema).await?;
            return Ok(());
        }
        let dates = self.on_dates("event_date", &format!("SELECT DISTINCT event_date FROM touched_{name}")).await?;
        let dated = format!("(SELECT * FROM published_{name}{dates})");
        let former = format!(
            "SELECT {} FROM {}",
            columns_of(kind, "b"),
            self.having_keys(&dated, &format!("touched_{name}")).await?
        );
        self.materialize(&format!("former_{name}"), &former, schema.clone()).await?;
        // An event whose winner is the same as before has not changed.
        let same = same_winner(kind);
        let new = format!("SELECT w.* FROM winners_{name} w LEFT ANTI JOIN former_{name} f ON {same}");
        let old = format!("SELECT f.* FROM former_{name} f LEFT ANTI JOIN winners_{name} w ON {same}");
        self.materialize(&format!("new_{name}"), &new, schema.clone()).await?;
        self.materialize(&format!("replaced_{name}"), &old, schema).await?;
        Ok(())
    }

    /// Applies the rates to the days of the events that come and of those that go. Published events
    /// of these days whose reasons change are replaced by themselves, with other reasons.
    async fn apply_rates(&self, kind: EventKind) -> Result<(), LakeError> {
        let (name, schema) = (kind.table(), Some(event_schema(kind)));
        let [new, replaced] = ["new", "replaced"].map(|what| format!("{what}_{name}"));
        if !self.has_rows(&new) && !self.has_rows(&replaced) {
            return Ok(());
        }
        let days = format!("SELECT event_date FROM {new} UNION SELECT event_date FROM {replaced}");
        let published = format!(
            "(SELECT * FROM (SELECT b.* FROM {}) b{})",
            self.without_replaced(&format!("published_{name}"), name),
            self.on_dates("b.event_date", &days).await?
        );
        let columns = |alias: &str| columns_of(kind, alias);
        let whole =
            format!("(SELECT {} FROM {published} p UNION ALL SELECT {} FROM {new} n)", columns("p"), columns("n"));
        let changed = format!(
            "SELECT * FROM ({}) WHERE invalid_reason IS DISTINCT FROM was",
            self.plans.rated(kind, &published, &whole)
        );
        self.materialize(&format!("rerated_{name}"), &changed, None).await?;
        let come = self.plans.rated(kind, &new, &whole);
        let come =
            format!("SELECT {} FROM ({come}) n UNION ALL SELECT {} FROM rerated_{name} r", columns("n"), columns("r"));
        let before = columns("r").replace("r.\"invalid_reason\"", "r.was AS invalid_reason");
        let go = format!("SELECT {} FROM {replaced} o UNION ALL SELECT {before} FROM rerated_{name} r", columns("o"));
        self.materialize(&new, &come, schema.clone()).await?;
        self.materialize(&replaced, &go, schema).await?;
        Ok(())
    }

    /// Makes `representatives_<kind>`: the raw rows that the touched published events were made
    /// from, with their identities.
    async fn find_representatives(&self, kind: EventKind) -> Result<(), LakeError> {
        let name = kind.table();
        let table = kind.raw_table();
        let Some(raw) = self.snapshot.published_table(table).await? else {
            return Err(LakeError::Corrupt(format!(
                "the manifest of the published batch run names {} but not {table}; run `adlake batch run --full`",
                kind.batch_table()
            )));
        };
        self.plans.register(&format!("raw_{name}"), raw)?;
        let place = |source: &str, date: &str, condition: &str| {
            format!(
                "SELECT {source}['topic'] AS topic, coalesce({source}['partition'], -1) AS part, \
                 {source}['offset'] AS place, \
                 {date} AS event_date FROM touched_{name}{condition}"
            )
        };
        let mut places = place("source", "event_date", "");
        if kind == EventKind::BidRequest {
            let bids = place("bid_source", "bid_event_date", " WHERE bid_source IS NOT NULL");
            places = format!("SELECT DISTINCT * FROM ({places} UNION ALL {bids})");
        }
        self.materialize(&format!("places_{name}"), &places, None).await?;
        let dates = self.on_dates("r.event_date", &format!("SELECT DISTINCT event_date FROM places_{name}")).await?;
        // The fields of `source` become columns before they are joined on. DataFusion's pushdown of
        // field accesses fails on join conditions that compute with such fields.
        let columns: Vec<String> =
            raw_schema(kind).fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
        let columns = columns.join(", ");
        let rows = format!(
            "SELECT {columns} FROM (SELECT {columns}, r.source['topic'] AS in_topic, \
             coalesce(r.source['partition'], -1) AS in_part, \
             r.source['offset'] AS in_place FROM raw_{name} r{dates}) r LEFT SEMI JOIN \
             (SELECT topic, part, place, event_date AS in_date FROM places_{name}) p \
             ON r.event_date = p.in_date AND r.in_topic = p.topic AND r.in_part = p.part AND r.in_place = p.place"
        );
        self.plans.define(&format!("rows_{name}"), &rows).await?;
        let keyed = self.plans.keyed(kind, &format!("rows_{name}")).await?;
        self.plans.register(&format!("rows_keyed_{name}"), keyed.into_view())?;
        let touched =
            format!("SELECT r.* FROM rows_keyed_{name} r LEFT SEMI JOIN touched_{name} t ON r.event_key = t.event_key");
        self.materialize(&format!("representatives_{name}"), &touched, None).await?;
        Ok(())
    }
}

/// SQL: `w` and `f` are the same event, won by the same rows.
fn same_winner(kind: EventKind) -> String {
    let same = |source: &str| {
        format!(
            "(w.{source}['topic'] IS NOT DISTINCT FROM f.{source}['topic']) \
             AND (w.{source}['partition'] IS NOT DISTINCT FROM f.{source}['partition']) \
             AND (w.{source}['offset'] IS NOT DISTINCT FROM f.{source}['offset'])"
        )
    };
    let mut condition = format!("w.event_key = f.event_key AND {}", same("source"));
    if kind == EventKind::BidRequest {
        condition = format!("{condition} AND {}", same("bid_source"));
    }
    condition
}
