//! placeholder
use anyhow::Result;
use clap::Subcommand;
use crate::arguments::Global;
use crate::progress::Progress;
#[derive(Debug, Subcommand)]
pub enum Ingest { Kafka }
impl Ingest { pub async fn run(self, _g: &Global, _p: &Progress) -> Result<()> { Ok(()) } }
