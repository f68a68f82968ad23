//! `adlake serve`: answers over HTTP.

use std::net::SocketAddr;

use adlake_lake::{Lake, LakeError};
use adlake_serving::http::{Served, check, serve};
use anyhow::{Context, Result};
use clap::Args;
use tokio::net::TcpListener;

use crate::commands::print;
use crate::config::Settings;
use crate::failure::usage;
use crate::options::Global;
use crate::shutdown;

/// A server.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen: host:port; overrides serve.listen of the configuration
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Serve {
    /// Serves until a signal comes.
    pub async fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        let lake = Lake::open(&settings.lake).await?;
        let listen = self.listen.unwrap_or_else(|| settings.serve.listen.clone());
        let (listener, served) = open(&settings, &lake, &listen).await?;
        let address = listener.local_addr()?;
        let note = if settings.serve.is_open() { ", for this machine only, as there are no keys" } else { "" };
        print(&format!("serving {}://{address}{note}\n", settings.serve.scheme()))?;
        allow_files();
        let cancel = shutdown::on_signal()?;
        serve(listener, served, cancel).await.with_context(|| format!("cannot serve on {address}"))
    }
}

/// What is served by these settings, and the listener for it.
pub async fn open(settings: &Settings, lake: &Lake, listen: &str) -> Result<(TcpListener, Served)> {
    let resolved = tokio::net::lookup_host(listen).await;
    let address: SocketAddr = resolved
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| usage(format!("serve.listen: {listen:?} is no address, like 127.0.0.1:8080")))?;
    check(&settings.serve, address)?;
    let rules = crate::commands::alarms::rules(settings)?;
    lake_exists(lake).await?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: is the port in use? See serve.listen"))?;
    let served = Served {
        lake: lake.clone(),
        settings: settings.serve.clone(),
        meaning: settings.meaning(),
        display: settings.display(),
        currency: settings.account.currency.clone(),
        alarms: (settings.alarms.clone(), rules),
    };
    Ok((listener, served))
}

async fn lake_exists(lake: &Lake) -> Result<()> {
    if lake.table_exists(adlake_domain::event::EventKind::Impression.raw_table()).await? {
        return Ok(());
    }
    let detail = format!("there is no lake at {}; `adlake ingest` or `adlake demo` makes one", lake.root());
    Err(LakeError::NotFound(detail).into())
}

/// Each connection is a file, and the system's limit is often 1,024 as long as nobody raises it.
fn allow_files() {
    #[cfg(unix)]
    // SAFETY: both calls read or write the struct that they are given.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            // What is not allowed leaves the limit.
            let _ = libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
