//! placeholder
use anyhow::Result;
use clap::Args;
use crate::arguments::Global;
use crate::progress::Progress;
#[derive(Debug, Args)]
pub struct Demo {}
impl Demo { pub async fn run(self, _g: &Global, _p: &Progress) -> Result<()> { Ok(()) } }
