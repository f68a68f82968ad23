//! `adlake ingest files --dry-run`: what ingest would do with files.

use adlake_lake::Lake;
use adlake_speed_layer::run::{PreviewReport, preview_files};
use adlake_speed_layer::settings::SpeedSettings;
use adlake_speed_layer::source::files::{
    Compression, FileFormat, FirstRecord, KindFrom, NamesFrom, Preview, ReadingPreview,
};
use anyhow::Result;

use super::{Files, nothing_read, passed_over};
use crate::commands::report;
use crate::failure::speed_error;

/// Examines the files and prints what it finds.
pub(super) async fn run(lake: &Lake, settings: &SpeedSettings, files: Files) -> Result<()> {
    let format = files.format;
    let found = preview_files(lake, settings, files.wanted()).await.map_err(speed_error)?;
    report(format, &found, text)?;
    let unreadable = found.files.iter().filter(|file| file.problem.is_some()).count();
    let mut problems: Vec<String> = nothing_read(&found.paths_without_files).into_iter().collect();
    if unreadable > 0 {
        problems.push(format!("{unreadable} files cannot be read, for the reasons above"));
    }
    if problems.is_empty() { Ok(()) } else { anyhow::bail!(problems.join(". ")) }
}

fn text(report: &PreviewReport) -> String {
    let mut text = format!("{} files; nothing is written\n", report.files.len());
    report.files.iter().for_each(|file| text.push_str(&file_text(file)));
    text + &passed_over(&report.passed_over)
}

fn file_text(file: &Preview) -> String {
    let mut lines = vec![file.path.clone()];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
    if let Some(problem) = &file.problem {
        line("not read", problem.clone());
    }
    if let Some(reading) = &file.reading {
        line("kind", format!("{}, from {}", reading.kind, kind_from(&reading.kind_from)));
        line("format", format(reading));
        line(names_from(reading.names_from), reading.names.join(", "));
        for (field, names) in &reading.fields {
            line("field", format!("{field} <- {}", names.join(", else ")));
        }
        if !reading.attributes.is_empty() {
            line("attributes", reading.attributes.join(", "));
        }
        for (field, default) in &reading.defaults {
            line("default", format!("{field} = {default}"));
        }
        if !reading.missing.is_empty() {
            line(
                "missing",
                format!("{} (required: list their names under fields, or give defaults)", reading.missing.join(", ")),
            );
        }
        match &reading.first {
            FirstRecord::Row(row) => line("first row", row.to_string()),
            FirstRecord::DeadLetter { reason, detail, record } => {
                line("first record", format!("a dead letter: {reason}: {detail}: {record:?}"));
            }
            FirstRecord::Nothing => line("first record", "none: the file is empty".to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn kind_from(from: &KindFrom) -> String {
    match from {
        KindFrom::Option => "--kind".to_owned(),
        KindFrom::Name(part) => format!("the name {part}"),
        KindFrom::Format => "the format, because no name says it".to_owned(),
    }
}

fn format(reading: &ReadingPreview) -> String {
    let format = match reading.format {
        FileFormat::Json => "JSON",
        FileFormat::Ndjson => "NDJSON",
        FileFormat::Csv => "CSV",
        FileFormat::Avro => "Avro",
    };
    let compression = match reading.compression {
        Compression::None => "not compressed",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Bzip2 => "bzip2",
        Compression::Xz => "xz",
    };
    let delimiter = reading.delimiter.map(|delimiter| format!(", delimiter {delimiter:?}")).unwrap_or_default();
    format!("{format}, {compression}{delimiter}")
}

fn names_from(from: NamesFrom) -> &'static str {
    match from {
        NamesFrom::Header => "header",
        NamesFrom::Configuration => "csv.columns",
        NamesFrom::DefaultOrder => "no header",
        NamesFrom::Schema => "schema",
        NamesFrom::FirstRecord => "keys",
    }
}
