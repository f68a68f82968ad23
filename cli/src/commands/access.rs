//! `adlake keys create` and `adlake users create`: who may ask the server.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use adlake_domain::secret::Secret;
use adlake_serving::access::users::{PASSWORD_BYTES_MAX, PASSWORD_MIN, StoredUser, Users, hash, is_name};
use adlake_serving::access::{Keys, Role, StoredKey, create, is_id};
use anyhow::{Context, Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use serde::Serialize;

use crate::commands::{ReportFormat, print};
use crate::failure::usage;
use crate::options::Global;

/// Keys for those who may ask.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key: it is printed once, and its hash goes into the file that serve.keys_file names
    Create(CreateKey),
}

/// Users with passwords.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Add a user: the hash of the password goes into the file that serve.users_file names
    Create(CreateUser),
}

/// A new key.
#[derive(Debug, Args)]
pub struct CreateKey {
    /// The id of the key: letters, digits and hyphens
    id: String,
    #[command(flatten)]
    rights: Rights,
    /// The format of the output
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// A new user. The password is the first line of stdin.
#[derive(Debug, Args)]
pub struct CreateUser {
    /// The name, like ana or ana@example.com
    name: String,
    #[command(flatten)]
    rights: Rights,
}

/// What somebody may do and see.
#[derive(Debug, Args)]
pub struct Rights {
    /// What it may do: admin (everything), analyst (all campaigns), advertiser (some campaigns)
    #[arg(long, value_enum)]
    role: KeyRole,
    /// An advertiser whose campaigns it may see; may be repeated
    #[arg(long = "advertiser", value_name = "ID")]
    advertisers: Vec<String>,
    /// A campaign that it may see; may be repeated
    #[arg(long = "campaign", value_name = "ID")]
    campaigns: Vec<String>,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeyRole {
    Admin,
    Analyst,
    Advertiser,
}

impl Rights {
    fn check(&self) -> Result<Role> {
        let role = match self.role {
            KeyRole::Admin => Role::Admin,
            KeyRole::Analyst => Role::Analyst,
            KeyRole::Advertiser => Role::Advertiser,
        };
        if (role == Role::Advertiser) == (self.advertisers.is_empty() && self.campaigns.is_empty()) {
            return Err(usage("the role advertiser needs --advertiser or --campaign, and only this role has them"));
        }
        Ok(role)
    }
}

impl KeysCommand {
    /// Does what the command says.
    pub async fn run(self, global: &Global) -> Result<()> {
        let KeysCommand::Create(command) = self;
        command.run(global)
    }
}

impl UsersCommand {
    /// Does what the command says.
    pub async fn run(self, global: &Global) -> Result<()> {
        let UsersCommand::Create(command) = self;
        command.run(global)
    }
}

impl CreateKey {
    fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        if !is_id(&self.id) {
            return Err(usage(format!("{:?}: an id has letters, digits and hyphens", self.id)));
        }
        let role = self.rights.check()?;
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
        let Rights { advertisers, campaigns, .. } = self.rights;
        append(file, &self.id, &StoredKey { sha256, role, advertisers, campaigns })?;
        match self.format {
            ReportFormat::Json => print(&format!("{}\n", serde_json::json!({"id": self.id, "key": key}))),
            ReportFormat::Table => print(&format!(
                "{key}\n\nThis is the only time that it is shown. Its hash is in {}; servers take it from there \
                 within seconds.\n",
                file.display()
            )),
        }
    }
}

impl CreateUser {
    fn run(self, global: &Global) -> Result<()> {
        let settings = global.load()?.settings;
        if !is_name(&self.name) {
            return Err(usage(format!("{:?}: a name has 1 to 200 bytes and no control characters", self.name)));
        }
        let role = self.rights.check()?;
        let file = &settings.serve.users_file;
        if file.as_os_str().is_empty() {
            return Err(usage("serve.users_file: name the file that users are kept in"));
        }
        if file.exists() {
            let known = Users::read(file).map_err(|error| usage(format!("{:#}", Error::new(error))))?;
            if known.has(&self.name) {
                return Err(usage(format!("{}: there is a user {:?} already", file.display(), self.name)));
            }
        }
        let password = password()?;
        let (characters, bytes) = (password.expose().chars().count(), password.expose().len());
        if characters < PASSWORD_MIN || bytes > PASSWORD_BYTES_MAX {
            let wanted =
                format!("a password has at least {PASSWORD_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes");
            return Err(usage(wanted));
        }
        let password = hash(password.expose()).map_err(Error::msg)?;
        let Rights { advertisers, campaigns, .. } = self.rights;
        append(file, &self.name, &StoredUser { password, role, advertisers, campaigns })?;
        print(&format!("{} is in {}; servers take it from there within seconds.\n", self.name, file.display()))
    }
}

/// Adds a table to a file that only its owner may read.
fn append(file: &Path, name: &str, stored: &impl Serialize) -> Result<()> {
    let table = toml::to_string(&BTreeMap::from([(name, stored)]))?;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let failed = || format!("cannot write {}", file.display());
    let mut out = options.open(file).with_context(failed)?;
    out.write_all(format!("\n{table}").as_bytes()).with_context(failed)
}

/// The first line of stdin. On a terminal it is not shown.
fn password() -> Result<Secret> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).context("cannot read the password from stdin")?;
        return Ok(line.trim_end_matches(['\r', '\n']).into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Password: ")?;
    stderr.flush()?;
    enable_raw_mode().context("cannot hide what is typed")?;
    let typed = typed();
    disable_raw_mode().context("cannot show what is typed again")?;
    writeln!(stderr)?;
    Ok(typed?.as_str().into())
}

fn typed() -> Result<String> {
    let mut text = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(text),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(usage("no password was given"));
            }
            KeyCode::Char(character) => text.push(character),
            KeyCode::Backspace => _ = text.pop(),
            _ => {}
        }
    }
}
