//! The `adlake` program: reads the configuration, composes the layers, owns shutdown.
//!
//! One file per command under [`commands`]. Answers go to stdout, logs and progress to stderr. Exit
//! codes: 0 the command is done; 1 it failed; 2 the command line or the configuration has to be
//! changed; 3 an expectation is not met, or `status --check` has found a problem ([`failure`]); 130
//! a second signal came.

mod arguments;
mod options;
mod commands;
mod config;
mod demo;
mod output;
mod http_server;
mod metrics_server;
mod progress;
mod logging;
mod shutdown;
mod failure;
mod memory;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::logging::LogFormat;
use crate::progress::ProgressBars;

fn main() -> ExitCode {
    memory::keep_freed_memory();
    let arguments = Arguments::parse();
    let progress = ProgressBars::new(arguments.global.quiet);
    let log_format = arguments.global.log_format;
    let (traces, telemetry) = match telemetry::start(&arguments) {
        Ok(Some((traces, telemetry))) => (Some(traces), Ok(Some(telemetry))),
        Ok(None) => (None, Ok(None)),
        Err(error) => (None, Err(error)),
    };
    logging::start(log_format, arguments.global.verbosity(), progress.clone(), traces);
    let done = telemetry.and_then(|telemetry| {
        let done = run(arguments, progress);
        // Nobody waits for a collector while there is work, but at the end for a short time.
        if let Some(telemetry) = telemetry {
            telemetry.close();
        }
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe: it has read enough.
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let line = failure::line(&error);
            match log_format {
                LogFormat::Json => tracing::error!(error = line, "failed"),
                // If stderr is gone, nobody can read the message. The exit code still reports the
                // error.
                LogFormat::Human => _ = writeln!(std::io::stderr(), "error: {line}"),
            }
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn run(arguments: Arguments, progress: ProgressBars) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(arguments.run(progress));
    // What still runs is stopped now. A thread of the Delta kernel that waits for a task that is
    // stopped panics: nobody needs to see that.
    std::panic::set_hook(Box::new(|_| {}));
    done
}
