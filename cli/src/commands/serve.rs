//! `adlake serve`: answers over HTTP. `adlake keys create`: keys for those who may ask.

use std::io::Write;
use std::net::SocketAddr;

use adlake_lake::{Lake, LakeError};
use adlake_serving::access::{Keys, Role, StoredKey, create, is_id};
use adlake_serving::http::{Served, check, serve};
use anyhow::{Context, Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use tokio::net::TcpListener;

use crate::commands::{ReportFormat, print};
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
        let note = if served.keys.is_empty() { ", for this machine only, as there are no keys" } else { "" };
        print(&format!("serving http://{address}{note}\n"))?;
        let cancel = shutdown::on_signal()?;
        serve(listener, served, cancel).await.with_context(|| format!("cannot serve on {address}"))
    }
}

/// What is served by these settings, and the listener for it.
pub async fn open(settings: &Settings, lake: &Lake, listen: &str) -> Result<(TcpListener, Served)> {
    let keys = match settings.serve.keys_file.as_os_str().is_empty() {
        true => Keys::default(),
        false => Keys::read(&settings.serve.keys_file).map_err(|error| usage(format!("{:#}", Error::new(error))))?,
    };
    let resolved = tokio::net::lookup_host(listen).await;
    let address: SocketAddr = resolved
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| usage(format!("serve.listen: {listen:?} is no address, like 127.0.0.1:8080")))?;
    check(&settings.serve, &keys, address)?;
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
        keys,
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

/// Keys for those who may ask.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key: it is printed once, and its hash goes into the file that serve.keys_file names
    Create(CreateKey),
}

/// A new key.
#[derive(Debug, Args)]
pub struct CreateKey {
    /// The id of the key: letters, digits and hyphens
    id: String,
    /// What it may do: admin (everything), analyst (all campaigns), advertiser (some campaigns)
    #[arg(long, value_enum)]
    role: KeyRole,
    /// An advertiser whose campaigns it may see; may be repeated
    #[arg(long = "advertiser", value_name = "ID")]
    advertisers: Vec<String>,
    /// A campaign that it may see; may be repeated
    #[arg(long = "campaign", value_name = "ID")]
    campaigns: Vec<String>,
    /// The format of the output
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeyRole {
    Admin,
    Analyst,
    Advertiser,
}

impl KeysCommand {
    /// Does what the command says.
    pub async fn run(self, global: &Global) -> Result<()> {
        let KeysCommand::Create(command) = self;
        command.run(global)
    }
}

impl CreateKey {
    fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        if !is_id(&self.id) {
            return Err(usage(format!("{:?}: an id has letters, digits and hyphens", self.id)));
        }
        let role = match self.role {
            KeyRole::Admin => Role::Admin,
            KeyRole::Analyst => Role::Analyst,
            KeyRole::Advertiser => Role::Advertiser,
        };
        if (role == Role::Advertiser) == (self.advertisers.is_empty() && self.campaigns.is_empty()) {
            return Err(usage("the role advertiser needs --advertiser or --campaign, and only this role has them"));
        }
        let file = &settings.serve.keys_file;
        if file.as_os_str().is_empty() {
            return Err(usage("serve.keys_file: name the file that keys are kept in"));
        }
        if file.exists() {
            let known = Keys::read(file).map_err(|error| usage(format!("{:#}", Error::new(error))))?;
            if known.has(&self.id) {
                return Err(usage(format!("{}: there is a key {:?} already", file.display(), self.id)));
            }
        }
        let (key, sha256) = create(&self.id);
        let stored = StoredKey { sha256, role, advertisers: self.advertisers, campaigns: self.campaigns };
        let table = toml::to_string(&std::collections::BTreeMap::from([(&self.id, &stored)]))?;
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(file).with_context(|| format!("cannot write {}", file.display()))?;
        out.write_all(format!("\n{table}").as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
        match self.format {
            ReportFormat::Json => print(&format!("{}\n", serde_json::json!({"id": self.id, "key": key}))),
            ReportFormat::Table => print(&format!(
                "{key}\n\nThis is the only time that it is shown. Its hash is in {}; servers read it when they \
                 start.\n",
                file.display()
            )),
        }
    }
}
