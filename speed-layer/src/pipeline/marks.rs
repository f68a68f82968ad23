//! What the lake stores about topics besides the positions of their partitions. It is stored once,
//! with the first rows. This module is pure.
//!
//! A mark is an application transaction, as a position is. So if two workers both begin with a
//! topic, one of them is rejected, and reads what the other has stored.

use std::collections::HashMap;

use adlake_lake::Advance;

use super::ledger::Span;
use crate::record::Stream;
use crate::source::TopicMarks;

/// The marks of the topics of one table, by the prefix of the topic's applications.
#[derive(Debug, Default)]
pub struct Marks {
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    stored: TopicMarks,
    found: TopicMarks,
}

impl Marks {
    /// Notes the marks that the lake has stored.
    pub fn stored(&mut self, stream: &Stream, marks: TopicMarks) {
        if let Some(topic) = self.topic(stream) {
            topic.stored = marks;
        }
    }

    /// Notes the marks that the source has found.
    pub fn found(&mut self, stream: &Stream, marks: TopicMarks) {
        if let Some(topic) = self.topic(stream) {
            topic.found = marks;
        }
    }

    /// Returns the marks to store with a commit that advances these streams. They are treated as
    /// stored from now on.
    pub fn seal(&mut self, spans: &[Span]) -> Vec<Advance> {
        let mut advances = Vec::new();
        for stream in spans.iter().map(|span| &span.stream) {
            let (Some([id, partitions]), Some(topic)) = (stream.mark_applications(), self.topic(stream)) else {
                continue;
            };
            let Topic { stored, found } = topic;
            for (application, stored, found) in
                [(id, &mut stored.id, found.id), (partitions, &mut stored.partitions, found.partitions)]
            {
                if let (None, Some(to)) = (&stored, found) {
                    *stored = Some(to);
                    advances.push(Advance { application, from: None, to });
                }
            }
        }
        advances
    }

    fn topic(&mut self, stream: &Stream) -> Option<&mut Topic> {
        Some(self.topics.entry(stream.topic_application()?.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adlake_decode::record::StreamFormat;
    use adlake_domain::event::EventKind;

    use super::*;

    fn span(application: String) -> Span {
        let stream = Stream {
            kind: EventKind::Impression,
            source: "t".to_owned(),
            partition: 0,
            application,
            format: StreamFormat::Json,
        };
        Span { stream: Arc::new(stream), from: None, to: 1 }
    }

    #[test]
    fn marks_are_written_once_per_topic() {
        let of = |topic: &str, partition: i32| span(Stream::partition_application("c", topic, partition));
        let (first, second, other) = (of("t", 0), of("t", 1), of("u", 0));
        let mut marks = Marks::default();
        marks.stored(&first.stream, TopicMarks::default());
        assert_eq!(marks.seal(std::slice::from_ref(&first)), []);
        marks.found(&first.stream, TopicMarks { id: Some(77), partitions: Some(2) });
        marks.found(&other.stream, TopicMarks { id: None, partitions: Some(1) });
        let advance = |application: &str, to: i64| Advance { application: application.to_owned(), from: None, to };
        assert_eq!(
            marks.seal(&[first.clone(), second.clone(), other.clone()]),
            [
                advance("adlake:kafka:c:t:id", 77),
                advance("adlake:kafka:c:t:partitions", 2),
                advance("adlake:kafka:c:u:partitions", 1)
            ]
        );
        assert_eq!(marks.seal(&[first.clone(), other]), []);
        // The mark was treated as stored, but was not. What the lake says counts.
        marks.stored(&second.stream, TopicMarks { id: Some(77), partitions: None });
        assert_eq!(marks.seal(&[second]), [advance("adlake:kafka:c:t:partitions", 2)]);
    }

    #[test]
    fn files_have_no_marks() {
        let file = span("adlake:file:/landing/a:b".to_owned());
        let mut marks = Marks::default();
        marks.found(&file.stream, TopicMarks { id: Some(1), partitions: Some(1) });
        assert_eq!(marks.seal(&[file]), []);
    }
}
