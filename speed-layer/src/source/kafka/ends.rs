//! Asks the broker for the ends of partitions while nothing is fetched.
//!
//! librdkafka learns a partition's end from the answers to its fetches. It stops fetching while the
//! pipeline has no room, so the end that it knows stands still, and with it the lag. `rdkafka` does
//! not wrap this request of librdkafka. [`super::topics`] says what the code relies on.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka_sys as native;

use super::group::Place;

/// The ends that the broker has told. Asks one request at a time.
pub struct Ends<C: ConsumerContext + 'static> {
    queue: NonNull<native::rd_kafka_queue_t>,
    is_open: bool,
    known: HashMap<Place, i64>,
    // Last, so that the consumer outlives the queue.
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl<C: ConsumerContext + 'static> Send for Ends<C> {}

impl<C: ConsumerContext + 'static> Ends<C> {
    /// Asks nothing yet. `None`: librdkafka has no memory for a queue.
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Option<Ends<C>> {
        // SAFETY: the client is alive, as `consumer` is.
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) })?;
        Some(Ends { queue, is_open: false, known: HashMap::new(), consumer })
    }

    /// The end that was told last.
    pub fn known(&self, topic: &str, partition: i32) -> Option<i64> {
        self.known.get(&(topic.to_owned(), partition)).copied()
    }

    /// Asks for the ends of partitions, unless an answer is still awaited. Returns at once.
    pub fn ask<'a>(&mut self, places: impl Iterator<Item = (&'a str, i32)>, timeout: Duration) {
        self.take_answer();
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in places {
            // In this request, `End` asks for the end.
            if asked.add_partition_offset(topic, partition, Offset::End).is_err() {
                return;
            }
        }
        if self.is_open || asked.count() == 0 {
            return;
        }
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let client = self.consumer.client().native_ptr();
        // SAFETY: client, queue and list are alive during the calls, which copy what they keep. The
        // options are made and destroyed here.
        unsafe {
            let options =
                native::rd_kafka_AdminOptions_new(client, native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
            native::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
            native::rd_kafka_ListOffsets(client, asked.ptr(), options, self.queue.as_ptr());
            native::rd_kafka_AdminOptions_destroy(options);
        }
        self.is_open = true;
    }

    /// Takes the answer if it has come. A broker that does not answer is asked again.
    fn take_answer(&mut self) {
        if !self.is_open {
            return;
        }
        // SAFETY: the queue is alive. The event is destroyed below, after everything in it was
        // copied.
        let Some(event) = NonNull::new(unsafe { native::rd_kafka_queue_poll(self.queue.as_ptr(), 0) }) else { return };
        self.is_open = false;
        // SAFETY: the event is alive, and its result, if it has one, lives as long.
        unsafe {
            let result = native::rd_kafka_event_ListOffsets_result(event.as_ptr());
            if !result.is_null() {
                self.note(result);
            }
        }
        // SAFETY: the event was got above, and is destroyed once.
        unsafe { native::rd_kafka_event_destroy(event.as_ptr()) };
    }

    /// # Safety
    ///
    /// The result must belong to an event that lives during the call.
    unsafe fn note(&mut self, result: *const native::rd_kafka_ListOffsets_result_t) {
        let mut count = 0;
        // SAFETY: librdkafka's array holds `count` results, which belong to the event. It is null
        // only if there are none.
        let infos = unsafe { native::rd_kafka_ListOffsets_result_infos(result, &mut count) };
        for place in 0..count {
            // SAFETY: `place` is within the array. The partition and its topic belong to the event.
            unsafe {
                let found = &*native::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(place));
                if found.err == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && found.offset >= 0 {
                    let topic = CStr::from_ptr(found.topic).to_string_lossy().into_owned();
                    self.known.insert((topic, found.partition), found.offset);
                }
            }
        }
    }
}

impl<C: ConsumerContext + 'static> Drop for Ends<C> {
    fn drop(&mut self) {
        // SAFETY: the queue came from rd_kafka_queue_new. The client is alive: `consumer` is
        // dropped after this.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}
