//! The command line, and which command it runs.

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    access, alarms, batch, catalog, check_lake, completions, config as config_command, deadletters, demo, doctor,
    generate, ingest, query, reference, serve, status,
};
use crate::memory;
use crate::options::Global;
use crate::progress::ProgressBars;

/// A lakehouse for advertising data: it takes in streams of events, and answers questions about
/// campaigns exactly.
#[derive(Debug, Parser)]
#[command(name = "adlake", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 the command line or the configuration has to be changed; 3 an \
        expectation of severity fail is not met, and a batch run was not published, or `status --check` has found a \
        problem; 130 a second signal ended the \
        command at once."
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "parsed once")]
pub enum Command {
    /// See the whole system at work: synthetic traffic, ingest, batch runs and live KPIs in one
    /// process
    Demo(demo::Demo),
    /// Write synthetic events to files or to Kafka, together with the answers that they lead to
    Generate(generate::Generate),
    /// Read events from Kafka or from files into the lake, each record exactly once
    #[command(subcommand)]
    Ingest(ingest::Ingest),
    /// Compute the batch tables: deduplicated events, attribution and KPIs
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Tell catalogues of the lake's tables: AWS Glue, Hive
    #[command(subcommand)]
    Catalog(catalog::Catalog),
    /// Check that the lake is whole, and that its batch tables are what the raw tables give. Writes
    /// nothing
    CheckLake(check_lake::CheckLake),
    /// Get the answer to a question in SQL, over everything that is committed
    Query(query::Query),
    /// Answer questions over HTTP, live, until a signal comes
    Serve(serve::Serve),
    /// Check the rules of alarms, list and silence alarms, replay a rule over history
    #[command(subcommand)]
    Alarms(alarms::Alarms),
    /// Make keys for those who may ask the server
    #[command(subcommand)]
    Keys(access::KeysCommand),
    /// Add users who sign in to the dashboard with a password
    #[command(subcommand)]
    Users(access::UsersCommand),
    /// Load reference data: creatives, campaigns, exchange rates
    #[command(subcommand)]
    Ref(reference::Reference),
    /// Show the lake's tables: their versions and rows, how fresh they are, the last batch
    /// run, and what should be done
    Status(status::Status),
    /// Find out whether adlake can work here: configuration, store, permissions, clock, tables,
    /// Kafka, schema registries. Each finding says what to do
    Doctor(doctor::Doctor),
    /// Count, show and replay the records that ingest has rejected
    #[command(subcommand)]
    Deadletters(deadletters::Deadletters),
    /// Write a configuration, check it, or show what is in force
    #[command(subcommand)]
    Config(config_command::Config),
    /// Print a script with which a shell completes the commands and options of adlake
    Completions(completions::Completions),
}

impl Arguments {
    /// Runs the command that the command line names.
    pub async fn run(self, progress: ProgressBars) -> Result<()> {
        let global = self.global;
        match self.command {
            Command::Demo(command) => command.run(&global, &progress).await,
            Command::Generate(command) => command.run(&global, &progress).await,
            Command::Ingest(command) => command.run(&global, &progress).await,
            Command::Batch(command) => {
                memory::return_freed_memory();
                command.run(&global, &progress).await
            }
            Command::Catalog(command) => command.run(&global).await,
            Command::CheckLake(command) => {
                memory::return_freed_memory();
                command.run(&global, &progress).await
            }
            Command::Query(command) => {
                memory::return_freed_memory();
                command.run(&global).await
            }
            Command::Ref(command) => command.run(&global, &progress).await,
            Command::Serve(command) => {
                memory::return_freed_memory();
                command.run(&global).await
            }
            Command::Alarms(command) => command.run(&global).await,
            Command::Keys(command) => command.run(&global).await,
            Command::Users(command) => command.run(&global).await,
            Command::Status(command) => command.run(&global).await,
            Command::Doctor(command) => command.run(&global).await,
            Command::Deadletters(command) => command.run(&global, &progress).await,
            Command::Config(command) => command.run(&global).await,
            Command::Completions(command) => command.run(Arguments::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let arguments = Arguments::try_parse_from(["adlake", "query", "SELECT 1", "--lake", "x", "-vv"]).unwrap();
        assert_eq!(arguments.global.lake.as_deref(), Some("x"));
        assert_eq!(arguments.global.verbosity(), 2);
        assert!(Arguments::try_parse_from(["adlake", "--quiet", "-v", "status"]).is_err());
    }
}
