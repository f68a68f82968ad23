//! The contract of [`super`] as a test suite for any source.
//!
//! Each check opens the source again. The fixture's streams must not change while the suite runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Command, Event, Handle, Records, Source, Start, TopicMarks};
use crate::error::SpeedError;
use crate::record::Stream;

const TIMEOUT: Duration = Duration::from_secs(60);
/// How long the suite waits to see that nothing happens.
const QUIET: Duration = Duration::from_millis(600);
const ROOM: usize = 64 << 20;

/// Streams with known records, and a source that reads them to their end.
pub trait Fixture {
    /// Opens a source with an end.
    fn open(&self) -> Result<Box<dyn Source>, SpeedError>;

    /// The records as sent, in order, by application. There must be at least two streams of at
    /// least three records each.
    fn expected(&self) -> HashMap<String, Vec<Vec<u8>>>;
}

/// Runs every check. The error says which check failed, and why.
pub async fn suite(fixture: &impl Fixture) -> Result<(), String> {
    check("reads everything in order", reads_everything(fixture)).await?;
    check("resumes at every position", resumes(fixture)).await?;
    check("starts again in a new generation", starts_again(fixture)).await?;
    check("delivers nothing before the start", waits_for_the_start(fixture)).await?;
    check("refuses to start beyond the end", refuses_beyond_the_end(fixture)).await?;
    check("waits for room", waits_for_room(fixture)).await?;
    check("stops when told", stops(fixture)).await
}

async fn check(name: &str, run: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let result = tokio::time::timeout(TIMEOUT, run).await.unwrap_or_else(|_| Err("does not end".to_owned()));
    result.map_err(|problem| format!("{name}: {problem}"))
}

fn ensure(condition: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(problem()) }
}

/// A running source, and its streams.
struct Opened {
    handle: Handle,
    streams: Vec<Arc<Stream>>,
}

/// What followed from the start of a stream.
#[derive(Debug, Default, Clone)]
struct Read {
    began: Option<i64>,
    records: Vec<(i64, Vec<u8>)>,
    caught_up: bool,
}

impl Opened {
    async fn new(fixture: &impl Fixture, room: usize) -> Result<Opened, String> {
        let source = fixture.open().map_err(|error| error.to_string())?;
        let mut handle = Handle::spawn(source, room).map_err(|error| error.to_string())?;
        let expected = fixture.expected();
        let mut streams: Vec<Arc<Stream>> = Vec::new();
        while streams.len() < expected.len() {
            match handle.next().await {
                Some(Event::Assigned(assigned)) => streams.extend(assigned),
                Some(Event::Behind(_) | Event::Done { .. }) => {}
                other => return Err(format!("{other:?} came before every stream was assigned")),
            }
        }
        for application in expected.keys() {
            let count = streams.iter().filter(|stream| stream.application == *application).count();
            ensure(count == 1, || format!("{application} was assigned {count} times"))?;
        }
        Ok(Opened { handle, streams })
    }

    fn start(&self, generation: u64, stored: impl Fn(&Stream) -> Option<i64>) {
        let start = |stream: &Arc<Stream>| {
            let (stored, marks) = (stored(stream), TopicMarks::default());
            Start { stream: stream.clone(), stored, marks, generation }
        };
        self.handle.commander().tell(Command::Start(self.streams.iter().map(start).collect()));
    }

    /// Reads until the source says that it is done with all starts made.
    async fn read(&mut self, generation: u64) -> Result<HashMap<String, Read>, String> {
        let mut read: HashMap<String, Read> = HashMap::new();
        loop {
            let Some(event) = self.handle.next().await else { return Err("the source ended".to_owned()) };
            match event {
                Event::Done { starts } if starts == self.handle.commander().starts() => return Ok(read),
                Event::Started { stream, generation: found, position } if found == generation => {
                    let read = read.entry(stream.application.clone()).or_default();
                    ensure(read.began.is_none(), || format!("{} was started twice", stream.application))?;
                    read.began = Some(position);
                }
                Event::Records(records) if records.generation == generation => {
                    add(read.entry(records.stream.application.clone()).or_default(), &records)?;
                }
                Event::CaughtUp { stream, generation: found } if found == generation => {
                    read.entry(stream.application.clone()).or_default().caught_up = true;
                }
                _ => {}
            }
        }
    }

    async fn close(self) -> Result<(), String> {
        drop(self.streams);
        self.handle.close().await.map_err(|error| error.to_string())
    }
}

fn add(read: &mut Read, records: &Records) -> Result<(), String> {
    ensure(!records.chunk.is_empty(), || "a chunk is empty".to_owned())?;
    ensure(read.began.is_some(), || "records came before the start".to_owned())?;
    for (record, _) in records.chunk.records_from(i64::MIN) {
        ensure(record.partition == records.stream.partition, || "a record is of another partition".to_owned())?;
        read.records.push((record.offset, record.payload.to_vec()));
    }
    read.caught_up = false;
    Ok(())
}

fn ensure_read(
    read: &HashMap<String, Read>,
    expected: &HashMap<String, Vec<Vec<u8>>>,
    from: usize,
) -> Result<(), String> {
    for (application, records) in expected {
        let Some(read) = read.get(application) else { return Err(format!("{application} was not started")) };
        let payloads: Vec<&Vec<u8>> = read.records.iter().map(|(_, payload)| payload).collect();
        let wanted: Vec<&Vec<u8>> = records[from.min(records.len())..].iter().collect();
        ensure(payloads == wanted, || {
            format!("{application}: {} records from number {from} on, or others, for {}", payloads.len(), wanted.len())
        })?;
        let grows = read.records.windows(2).all(|pair| pair[0].0 < pair[1].0);
        ensure(grows, || format!("{application}: positions do not grow"))?;
        let first = read.records.first().map(|(position, _)| *position);
        ensure(first.is_none_or(|first| read.began.is_some_and(|began| began <= first)), || {
            format!("{application}: the first record is before the start")
        })?;
        ensure(read.caught_up, || format!("{application}: never caught up"))?;
    }
    Ok(())
}

/// The position after the record with this number.
fn after(read: &HashMap<String, Read>, application: &str, number: usize) -> Option<i64> {
    let read = read.get(application)?;
    let last = number.checked_sub(1)?.min(read.records.len().checked_sub(1)?);
    read.records.get(last).map(|(position, _)| position + 1)
}

async fn reads_everything(fixture: &impl Fixture) -> Result<(), String> {
    let mut opened = Opened::new(fixture, ROOM).await?;
    opened.start(1, |_| None);
    let read = opened.read(1).await?;
    ensure_read(&read, &fixture.expected(), 0)?;
    opened.close().await
}

async fn resumes(fixture: &impl Fixture) -> Result<(), String> {
    let expected = fixture.expected();
    let longest = expected.values().map(Vec::len).max().unwrap_or(0);
    let mut opened = Opened::new(fixture, ROOM).await?;
    opened.start(1, |_| None);
    let all = opened.read(1).await?;
    for (generation, number) in (2..).zip([1, 2, longest / 2, longest.saturating_sub(1), longest]) {
        opened.start(generation, |stream| after(&all, &stream.application, number));
        let read = opened.read(generation).await?;
        ensure_read(&read, &expected, number)?;
    }
    opened.close().await?;
    // The same for a source that is opened again, as by another process.
    let mut opened = Opened::new(fixture, ROOM).await?;
    opened.start(1, |stream| after(&all, &stream.application, 2));
    ensure_read(&opened.read(1).await?, &expected, 2)?;
    opened.close().await
}

async fn starts_again(fixture: &impl Fixture) -> Result<(), String> {
    let mut opened = Opened::new(fixture, ROOM).await?;
    opened.start(1, |_| None);
    // The restart may happen in the middle of reading, at its beginning or at its end. It must not
    // matter.
    loop {
        match opened.handle.next().await {
            Some(Event::Records(_)) => break,
            Some(_) => {}
            None => return Err("the source ended".to_owned()),
        }
    }
    opened.start(2, |_| None);
    let read = opened.read(2).await?;
    ensure_read(&read, &fixture.expected(), 0)?;
    opened.close().await
}

async fn waits_for_the_start(fixture: &impl Fixture) -> Result<(), String> {
    let mut opened = Opened::new(fixture, ROOM).await?;
    let quiet = async {
        loop {
            match opened.handle.next().await {
                Some(Event::Behind(_) | Event::Consumed(_)) => {}
                other => return other,
            }
        }
    };
    if let Ok(event) = tokio::time::timeout(QUIET, quiet).await {
        return Err(format!("{event:?} came before the start"));
    }
    opened.close().await
}

async fn refuses_beyond_the_end(fixture: &impl Fixture) -> Result<(), String> {
    let opened = Opened::new(fixture, ROOM).await?;
    const BEYOND: i64 = 1 << 40;
    opened.start(1, |_| Some(BEYOND));
    let Opened { mut handle, streams } = opened;
    while let Some(event) = handle.next().await {
        if let Event::Records(records) = event {
            return Err(format!("{} was read from elsewhere", records.stream.application));
        }
    }
    match handle.close().await {
        Ok(()) => Err("it was not refused".to_owned()),
        Err(error) => {
            let text = error.to_string();
            let named =
                streams.iter().any(|stream| text.contains(&stream.source)) && text.contains(&BEYOND.to_string());
            ensure(named, || format!("the error names neither stream nor position: {text}"))
        }
    }
}

async fn waits_for_room(fixture: &impl Fixture) -> Result<(), String> {
    let mut opened = Opened::new(fixture, 1).await?;
    opened.start(1, |_| None);
    // The records are held and not dropped: only as many as are read at a time may come, and then
    // nothing more.
    let mut held = Vec::new();
    loop {
        match tokio::time::timeout(QUIET, opened.handle.next()).await {
            Ok(Some(Event::Records(records))) => held.push(records),
            Ok(Some(Event::Done { .. })) | Err(_) => break,
            Ok(Some(_)) => {}
            Ok(None) => return Err("the source ended".to_owned()),
        }
    }
    let at_first: usize = held.iter().map(|records| records.chunk.len()).sum();
    let all: usize = fixture.expected().values().map(Vec::len).sum();
    ensure(at_first > 0 && at_first < all, || format!("{at_first} of {all} records came while there was no room"))?;
    held.clear();
    let mut later = 0;
    while at_first + later < all {
        match opened.handle.next().await {
            Some(Event::Records(records)) => later += records.chunk.len(),
            Some(_) => {}
            None => return Err("the source ended".to_owned()),
        }
    }
    opened.close().await
}

async fn stops(fixture: &impl Fixture) -> Result<(), String> {
    let mut opened = Opened::new(fixture, ROOM).await?;
    opened.start(1, |_| None);
    opened.handle.commander().tell(Command::Stop);
    loop {
        match opened.handle.next().await {
            Some(Event::Done { .. }) => break,
            Some(_) => {}
            None => return Err("the source ended by itself".to_owned()),
        }
    }
    let after = async {
        loop {
            match opened.handle.next().await {
                Some(Event::Records(_)) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    };
    if tokio::time::timeout(QUIET, after).await == Ok(true) {
        return Err("records came after it had stopped".to_owned());
    }
    opened.close().await
}
