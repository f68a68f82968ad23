//! The live state: the sums of one snapshot in memory, and the views of the same snapshot for what
//! is not in memory.
//!
//! A [`State`] never changes. The [`follow`] loop makes a new one when a commit has arrived, and
//! swaps it in. The sums of the published run are kept from one state to the next; only the signed
//! changes since are read anew. They are those of the merge (`adlake_lake::views::merge`), so a
//! state answers what `adlake query` answers over the same versions.

pub mod cube;
pub mod follow;
pub mod groups;
pub mod names;
pub mod reach;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use adlake_domain::event::EventKind;
use adlake_domain::{catalogue, time};
use adlake_lake::snapshot::Snapshot;
use adlake_lake::views::Views;
use adlake_lake::views::sums::{self, Bucket, Grouping, Part};
use adlake_lake::{Lake, LakeError};
use adlake_telemetry::SpanContext;
use arrow::array::{AsArray, RecordBatch};
use chrono_tz::Tz;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use hashbrown::HashMap;

use self::cube::{Cube, CubeBuilder, Layers};
use self::groups::Coded;
use self::names::Names;
use self::reach::Reach;
use crate::question::Dimension;

/// The dimensions of the cubes by day, beside the campaign. Together they answer what dashboards
/// ask; the rest is answered from the lake.
const BY_DAY: [&[Dimension]; 5] = [
    &[Dimension::Campaign, Dimension::Website],
    &[Dimension::Campaign, Dimension::Creative],
    &[Dimension::Campaign, Dimension::Device],
    &[Dimension::Campaign, Dimension::Country, Dimension::Region],
    &[Dimension::Campaign, Dimension::ConversionType],
];

/// The stored dimensions of the whole cube.
const STORED: [Dimension; 7] = [
    Dimension::Campaign,
    Dimension::Website,
    Dimension::Creative,
    Dimension::Device,
    Dimension::Country,
    Dimension::Region,
    Dimension::ConversionType,
];

/// The versions that a state answers from. They only grow, so that a client can ask for answers
/// that are not older than one that it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SnapshotId {
    /// The number of the published run. 0: none.
    run: u64,
    /// One more than the versions of the tables of [`FOLLOWED`]. 0: no table.
    tables: [u64; FOLLOWED.len()],
}

/// The tables whose versions make a snapshot, beside the manifest.
pub const FOLLOWED: [&str; 6] = [
    EventKind::Impression.raw_table(),
    EventKind::Interaction.raw_table(),
    EventKind::BidRequest.raw_table(),
    catalogue::DEAD_LETTERS,
    catalogue::CAMPAIGNS,
    catalogue::QUALITY,
];

impl SnapshotId {
    /// Of a snapshot.
    pub fn of(snapshot: &Snapshot) -> SnapshotId {
        let run = snapshot.latest.as_ref().map_or(0, |manifest| manifest.run.max(0) as u64);
        SnapshotId { run, tables: FOLLOWED.map(|table| snapshot.newest.get(table).map_or(0, |version| version + 1)) }
    }

    /// Reads the text of an id.
    pub fn parse(text: &str) -> Option<SnapshotId> {
        let numbers = text.split('-').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let [run, tables @ ..] = numbers.as_slice() else { return None };
        Some(SnapshotId { run: *run, tables: tables.try_into().ok()? })
    }

    /// Whether nothing of this one is older than in another.
    pub fn has_reached(&self, other: &SnapshotId) -> bool {
        self.run >= other.run && self.tables.iter().zip(other.tables).all(|(own, other)| *own >= other)
    }
}

impl std::fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.run)?;
        self.tables.iter().try_for_each(|version| write!(f, "-{version}"))
    }
}

/// The sums and sketches of a published run in memory. They stay the same until the next run.
#[derive(Debug)]
pub struct Base {
    run: Option<i64>,
    /// By hour and campaign.
    hourly: Layers,
    /// By day and campaign.
    daily: Layers,
    /// By day and the dimensions of [`BY_DAY`]. They are read after the server has begun to answer.
    /// `Some(None)`: it would take too much memory.
    others: [OnceLock<Option<Layers>>; BY_DAY.len()],
    /// `None`: they take too much memory.
    sketches: Option<Arc<reach::Sketches>>,
}

impl Base {
    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        let others = self.others.iter().filter_map(|cube| cube.get()?.as_ref());
        let cubes: usize = [&self.hourly, &self.daily].into_iter().chain(others).map(Layers::bytes).sum();
        cubes + self.sketches.as_ref().map_or(0, |sketches| sketches.bytes())
    }

    /// The rows of its cubes.
    pub fn rows(&self) -> usize {
        let others = self.others.iter().filter_map(|cube| cube.get()?.as_ref());
        [&self.hourly, &self.daily].into_iter().chain(others).map(Layers::rows).sum()
    }
}

/// Everything that one snapshot answers.
#[derive(Debug)]
pub struct State {
    /// The versions.
    pub id: SnapshotId,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// When it was taken, in microseconds. Everything that was committed before is in the answers.
    pub as_of: i64,
    /// The views, for what is not in memory.
    pub views: Arc<Views>,
    /// The campaigns of the reference data, as rows.
    pub campaigns: Vec<RecordBatch>,
    /// The advertiser of each campaign that has one, as codes.
    pub advertisers: HashMap<u32, u32>,
    /// The span that made it, if traces are exported.
    pub trace: Option<SpanContext>,
    base: Arc<Base>,
    /// The signed changes since the run, by hour and campaign.
    hourly: Layers,
    daily: Layers,
    others: Vec<Layers>,
    reach: Option<Reach>,
}

/// The cubes that answer a selection: the published sums, and the changes since.
pub type Pair<'a> = [&'a Cube; 2];

fn pair<'a>(base: &'a Layers, changes: &'a Layers, dimensions: &[Dimension]) -> Option<Pair<'a>> {
    Some([base.with(dimensions)?, changes.with(dimensions)?])
}

impl State {
    /// The zone of the cubes.
    pub fn report_zone(&self) -> Tz {
        self.snapshot.meaning.report.time_zone
    }

    /// The smallest cubes in memory that know these dimensions, by hours or by days of the report
    /// zone. `None`: the lake has to be asked.
    pub fn cubes(&self, dimensions: &[Dimension], bucket: Bucket) -> Option<Pair<'_>> {
        if bucket == Bucket::Hour {
            return pair(&self.base.hourly, &self.hourly, dimensions);
        }
        if let Some(daily) = pair(&self.base.daily, &self.daily, dimensions) {
            return Some(daily);
        }
        let others = self.base.others.iter().zip(&self.others);
        let pairs = others.filter_map(|(base, changes)| pair(base.get()?.as_ref()?, changes, dimensions));
        pairs.min_by_key(|pair| pair[0].rows())
    }

    /// The sketches. `None`: they take too much memory.
    pub fn reach(&self) -> Option<&Reach> {
        self.reach.as_ref()
    }

    /// The advertiser of a campaign, as the sums are made with it.
    pub fn advertiser(&self, campaign: &str) -> Option<&str> {
        self.snapshot.reference.campaigns.get(campaign)?.advertiser_id.as_deref()
    }

    /// Whether the reference data or any event has a campaign.
    pub fn knows_campaign(&self, names: &Names, campaign: &str) -> bool {
        let is_listed = |batch: &RecordBatch| {
            let ids = batch.column_by_name("campaign_id").and_then(|column| column.as_string_opt::<i32>());
            ids.is_some_and(|ids| ids.iter().any(|id| id == Some(campaign)))
        };
        let code = names.known(Dimension::Campaign, campaign);
        let has_sums =
            code.is_some_and(|code| [&self.base.daily, &self.daily].iter().any(|cube| cube.whole().has_campaign(code)));
        has_sums || self.campaigns.iter().any(is_listed)
    }

    /// The campaigns that have sums.
    pub fn active_campaigns(&self, names: &Names) -> Vec<Arc<str>> {
        let codes: hashbrown::HashSet<u32> = self.codes().collect();
        codes.into_iter().filter_map(|code| names.value(Dimension::Campaign, code)).collect()
    }

    /// The codes of the campaigns of all days.
    fn codes(&self) -> impl Iterator<Item = u32> {
        [&self.base.daily, &self.daily].into_iter().flat_map(|cube| cube.whole().codes(Dimension::Campaign)).copied()
    }

    /// The first and the last hour with events of the campaigns for which a condition holds.
    pub fn span(&self, condition: &Coded) -> Option<(i64, i64)> {
        let spans = [&self.base.hourly, &self.hourly].into_iter().filter_map(|cube| cube.whole().span(condition));
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// From when on sums may still change in the ordinary course: the hour in which a late event of
    /// now would fall, if it is late by `settle_time` microseconds.
    pub fn provisional_from(&self, settle_time: i64) -> i64 {
        time::hour_start((self.as_of - settle_time).max(0), self.report_zone())
    }

    /// The bytes that its own sums take, and those of its base.
    pub fn bytes(&self) -> (usize, usize) {
        let cubes = [&self.hourly, &self.daily].into_iter().chain(&self.others).map(Layers::bytes).sum::<usize>();
        (cubes + self.reach.as_ref().map_or(0, |reach| reach.added.bytes()), self.base.bytes())
    }

    /// The published sums of this state.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// The rows of the changes since the run.
    pub fn change_rows(&self) -> usize {
        self.hourly.rows() + self.daily.rows() + self.others.iter().map(Layers::rows).sum::<usize>()
    }
}

/// Makes states.
#[derive(Debug, Clone)]
pub struct Builder {
    /// The lake.
    pub lake: Lake,
    /// The codes of all states.
    pub names: Arc<Names>,
    /// The most bytes that the sums and sketches of a published run may take in memory.
    pub base_bytes_max: usize,
}

impl Builder {
    /// A state of a snapshot whose views are prepared. The base is that of the former state if it
    /// is of the same run.
    pub async fn build(
        &self,
        snapshot: Snapshot,
        views: Views,
        as_of: i64,
        former: Option<&State>,
    ) -> Result<State, LakeError> {
        let run = snapshot.manifest.as_ref().map(|manifest| manifest.run);
        let zone = snapshot.meaning.report.time_zone;
        let base = match former.filter(|former| former.base.run == run) {
            Some(former) => former.base.clone(),
            None => Arc::new(self.base(&views, run, zone).await?),
        };
        let changes = self.cube(&views, Part::Changes, Bucket::Hour, &STORED).await?;
        let hourly = changes.regrouped(&[Dimension::Campaign], |hour| hour);
        let day = |hour: i64| time::day_start(hour, zone);
        let daily = hourly.regrouped(&[Dimension::Campaign], day);
        let others = BY_DAY.iter().map(|dimensions| Layers::of(changes.regrouped(dimensions, day))).collect();
        let (hourly, daily) = (Layers::of(hourly), Layers::of(daily));
        let reach = match &base.sketches {
            None => None,
            Some(published) => Some(self.reach(&views, published.clone()).await?),
        };
        let code = |(campaign, advertiser): (&String, &String)| {
            let campaign = self.names.code(Dimension::Campaign, Some(campaign));
            (campaign, self.names.code(Dimension::Advertiser, Some(advertiser)))
        };
        let advertisers = snapshot.reference.advertisers().iter().map(code).collect();
        let campaigns = self.campaigns(&snapshot).await?;
        Ok(State {
            id: SnapshotId::of(&snapshot),
            snapshot,
            as_of,
            views: Arc::new(views),
            campaigns,
            advertisers,
            trace: adlake_telemetry::current(),
            base,
            hourly,
            daily,
            others,
            reach,
        })
    }

    async fn base(&self, views: &Views, run: Option<i64>, zone: Tz) -> Result<Base, LakeError> {
        let hourly = self.cube(views, Part::Published, Bucket::Hour, &[Dimension::Campaign]).await?;
        let daily = hourly.regrouped(&[Dimension::Campaign], |hour| time::day_start(hour, zone));
        let (hourly, daily) = (Layers::of(hourly), Layers::of(daily));
        let room = self.base_bytes_max.saturating_sub(hourly.bytes() + daily.bytes());
        let sketches = self.sketches(views, room).await?;
        Ok(Base { run, hourly, daily, others: Default::default(), sketches: sketches.map(Arc::new) })
    }

    /// Reads the cubes of a base that are not read yet, as far as there is room for them.
    pub async fn complete(&self, state: &State) -> Result<(), LakeError> {
        for (dimensions, cube) in BY_DAY.iter().zip(&state.base.others) {
            if cube.get().is_some() {
                continue;
            }
            let read = Layers::of(self.cube(&state.views, Part::Published, Bucket::Day, dimensions).await?);
            let fits = state.base.bytes() + read.bytes() <= self.base_bytes_max;
            if !fits {
                tracing::warn!(
                    dimensions = ?dimensions.iter().map(|dimension| dimension.name()).collect::<Vec<_>>(),
                    bytes = read.bytes(),
                    "the sums by these dimensions take more than is left of serve.state_bytes_max, so such questions \
                     are answered from the lake, which takes longer"
                );
            }
            // Only this loop sets it, one after the other.
            let _ = cube.set(fits.then_some(read));
        }
        Ok(())
    }

    async fn cube(
        &self,
        views: &Views,
        part: Part,
        bucket: Bucket,
        dimensions: &[Dimension],
    ) -> Result<Cube, LakeError> {
        let names: Vec<&str> = dimensions.iter().map(|dimension| dimension.name()).collect();
        let sums = sums::all_sums();
        let wanted = Grouping { part, bucket: Some(bucket), dimensions: &names, sums: &sums, condition: None };
        let mut rows = views.sums(&wanted).await?;
        let mut builder = CubeBuilder::new(dimensions);
        while let Some(batch) = next(&mut rows).await? {
            builder.add(&batch, &self.names)?;
        }
        Ok(builder.finish())
    }

    /// The published sketches, if there is room for them.
    async fn sketches(&self, views: &Views, room: usize) -> Result<Option<reach::Sketches>, LakeError> {
        let mut rows = views.sketches(sums::Sketches::Published).await?;
        let mut sketches = reach::Sketches::default();
        while let Some(batch) = next(&mut rows).await? {
            sketches.add(&batch, &self.names)?;
            if sketches.bytes() > room {
                tracing::warn!(
                    "the sketches take more than serve.state_bytes_max, so questions about reach are answered from the \
                     lake, which takes longer"
                );
                return Ok(None);
            }
        }
        Ok(Some(sketches))
    }

    async fn reach(&self, views: &Views, published: Arc<reach::Sketches>) -> Result<Reach, LakeError> {
        let mut reach = Reach { published, ..Reach::default() };
        let mut rows = views.sketches(sums::Sketches::Replaced).await?;
        while let Some(batch) = next(&mut rows).await? {
            reach.replaced.add(&batch, &self.names)?;
        }
        let mut rows = views.sketches(sums::Sketches::New).await?;
        while let Some(batch) = next(&mut rows).await? {
            reach.added.add(&batch, &self.names)?;
        }
        Ok(reach)
    }

    async fn campaigns(&self, snapshot: &Snapshot) -> Result<Vec<RecordBatch>, LakeError> {
        let context = datafusion::prelude::SessionContext::new();
        let Some(table) = snapshot.newest_table(catalogue::CAMPAIGNS).await? else {
            return Ok(Vec::new());
        };
        Ok(context.read_table(table)?.collect().await?)
    }
}

async fn next(rows: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>, LakeError> {
    Ok(rows.next().await.transpose()?)
}

/// The versions that a state answers from, by table.
pub fn versions(snapshot: &Snapshot) -> BTreeMap<&'static str, u64> {
    let tables = EventKind::ALL.map(EventKind::raw_table);
    tables.into_iter().filter_map(|table| Some((table, snapshot.newest.get(table).copied()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = SnapshotId { run: 12, tables: [340, 0, 5, 1, 2, 7] };
        assert_eq!(id.to_string(), "12-340-0-5-1-2-7");
        assert_eq!(SnapshotId::parse("12-340-0-5-1-2-7"), Some(id.clone()));
        for text in ["", "12", "12-340-0-5-1-2", "12-340-0-5-1-2-7-3", "12-340-0-5-1-2-x", "12-340-0-5-1-2--7"] {
            assert_eq!(SnapshotId::parse(text), None, "{text}");
        }
        let check = |other: &str, expected| {
            assert_eq!(id.has_reached(&SnapshotId::parse(other).unwrap()), expected, "{other}");
        };
        check("12-340-0-5-1-2-7", true);
        check("11-340-0-4-0-0-7", true);
        check("13-340-0-5-1-2-7", false);
        check("12-340-1-5-1-2-7", false);
    }
}
