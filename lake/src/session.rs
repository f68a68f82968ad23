//! DataFusion sessions with limits for memory, spilling and parallelism.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::operators::{self, exchange, sort};
use crate::pushdown;

/// The most bytes of the limit that are left for what is not counted.
const UNCOUNTED_BYTES: usize = 1 << 30;

/// The resources that a session may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Memory in bytes for the work. Sorts, joins and aggregations share half of it, or all but 1
    /// GiB of more than 2 GiB, before they spill.
    pub memory_bytes_max: usize,
    /// Disk space in bytes that they may spill to.
    pub spill_bytes_max: u64,
    /// The folder that they spill to. Empty: the system's folder for temporary files.
    pub spill_folder: PathBuf,
    /// Parallel partitions of a plan. 0: one for each core.
    pub partitions: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            memory_bytes_max: 2 << 30,
            spill_bytes_max: 200 << 30,
            spill_folder: PathBuf::new(),
            partitions: 0,
        }
    }
}

impl SessionSettings {
    /// The memory that is counted. The rest is for what is not: batches between two operators,
    /// encoders, and what the allocator keeps for a while.
    fn pool_bytes(&self) -> usize {
        self.memory_bytes_max - (self.memory_bytes_max / 2).min(UNCOUNTED_BYTES)
    }

    /// A new session with these limits.
    pub fn context(&self) -> Result<SessionContext, LakeError> {
        let mode = if self.spill_folder.as_os_str().is_empty() {
            DiskManagerMode::OsTmpDirectory
        } else {
            DiskManagerMode::Directories(vec![self.spill_folder.clone()])
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(self.spill_bytes_max);
        let consumers = std::num::NonZeroUsize::new(5).unwrap_or(std::num::NonZeroUsize::MIN);
        let pool = TrackConsumersPool::new(FairSpillPool::new(self.pool_bytes()), consumers);
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build_arc()?;
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .set_bool("datafusion.sql_parser.enable_ident_normalization", true)
            .set_bool("datafusion.execution.parquet.pushdown_filters", true)
            .set_bool("datafusion.execution.parquet.reorder_filters", true)
            // The views' functions take Utf8 and Binary. View types would be converted at every
            // call.
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            .set_str("datafusion.execution.time_zone", "UTC");
        if self.partitions > 0 {
            config = config.with_target_partitions(self.partitions);
        }
        Ok(context(config, runtime))
    }
}

/// A session whose optimizer rules are corrected ([`crate::pushdown`]), and whose plans may hold
/// adlake's own operators.
pub(crate) fn context(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(pushdown::rules())
        .with_query_planner(Arc::new(operators::Planner))
        .with_physical_optimizer_rule(Arc::new(sort::Rule))
        .with_physical_optimizer_rule(Arc::new(exchange::Rule));
    SessionContext::new_with_state(state.build())
}
