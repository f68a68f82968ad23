//! Asks the broker for the ids and partition counts of topics. `rdkafka` does not wrap this request
//! of librdkafka.
//!
//! The code relies on this: an answer comes to the queue that was named with the request. It owns
//! everything in it until it is destroyed, and it is destroyed once, here. A queue is destroyed
//! before its client, which the owner of the queue holds.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as native;

/// A topic as the broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    /// A number made of the topic's id. `None`: the broker gives its topics no ids.
    pub id: Option<i64>,
    pub partitions: i64,
    /// Why the broker says nothing about the topic.
    pub error: Option<RDKafkaErrorCode>,
}

/// Asks the broker, one request at a time.
pub struct Inquiry<C: ConsumerContext + 'static> {
    queue: NonNull<native::rd_kafka_queue_t>,
    is_open: bool,
    // Last, so that the consumer outlives the queue.
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl<C: ConsumerContext + 'static> Send for Inquiry<C> {}

impl<C: ConsumerContext + 'static> Inquiry<C> {
    /// Asks nothing yet. `None`: librdkafka has no memory for a queue.
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Option<Inquiry<C>> {
        // SAFETY: the client is alive, as `consumer` is.
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) })?;
        Some(Inquiry { queue, is_open: false, consumer })
    }

    /// Asks about topics, unless an answer is still awaited. Returns at once.
    pub fn ask(&mut self, topics: &[&str], timeout: Duration) {
        if self.is_open {
            return;
        }
        let names: Vec<CString> = topics.iter().filter_map(|name| CString::new(*name).ok()).collect();
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let client = self.consumer.client().native_ptr();
        // SAFETY: client, queue and names are alive during the calls, which copy what they keep.
        // The collection and the options are made and destroyed here.
        unsafe {
            let collection = native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let options = native::rd_kafka_AdminOptions_new(
                client,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            );
            native::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
            native::rd_kafka_DescribeTopics(client, collection, options, self.queue.as_ptr());
            native::rd_kafka_AdminOptions_destroy(options);
            native::rd_kafka_TopicCollection_destroy(collection);
        }
        self.is_open = true;
    }

    /// The answer, awaited for at most `wait`. An error if the broker did not answer in time.
    pub fn answer(&mut self, wait: Duration) -> Option<Result<Vec<Described>, RDKafkaErrorCode>> {
        if !self.is_open {
            return None;
        }
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive. The event is destroyed below, after everything in it was
        // copied.
        let event = NonNull::new(unsafe { native::rd_kafka_queue_poll(self.queue.as_ptr(), wait_ms) })?;
        self.is_open = false;
        // SAFETY: the event is alive, and its result, if it has one, lives as long.
        let answer = unsafe {
            let error = native::rd_kafka_event_error(event.as_ptr());
            let result = native::rd_kafka_event_DescribeTopics_result(event.as_ptr());
            if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                Err(error.into())
            } else if result.is_null() {
                Err(RDKafkaErrorCode::BadMessage)
            } else {
                Ok(described(result))
            }
        };
        // SAFETY: the event was got above, and is destroyed once.
        unsafe { native::rd_kafka_event_destroy(event.as_ptr()) };
        Some(answer)
    }
}

impl<C: ConsumerContext + 'static> Drop for Inquiry<C> {
    fn drop(&mut self) {
        // SAFETY: the queue came from rd_kafka_queue_new. The client is alive: `consumer` is
        // dropped after this.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// # Safety
///
/// The result must belong to an event that lives during the call.
unsafe fn described(result: *const native::rd_kafka_DescribeTopics_result_t) -> Vec<Described> {
    let mut count = 0;
    // SAFETY: librdkafka's array holds `count` descriptions, which belong to the result.
    let topics = unsafe { native::rd_kafka_DescribeTopics_result_topics(result, &mut count) };
    let mut found = Vec::with_capacity(count);
    for place in 0..count {
        // SAFETY: `place` is within the array. Name, error and id belong to the description.
        unsafe {
            let topic = *topics.add(place);
            let error = native::rd_kafka_error_code(native::rd_kafka_TopicDescription_error(topic));
            let is_fine = error == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let mut partitions = 0;
            if is_fine {
                native::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            }
            let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
            found.push(Described {
                name: name.to_string_lossy().into_owned(),
                id: id(native::rd_kafka_TopicDescription_topic_id(topic)),
                partitions: i64::try_from(partitions).unwrap_or(i64::MAX),
                error: (!is_fine).then(|| error.into()),
            });
        }
    }
    found
}

/// # Safety
///
/// The id must be null or live during the call.
unsafe fn id(uuid: *const native::rd_kafka_Uuid_t) -> Option<i64> {
    if uuid.is_null() {
        return None;
    }
    // SAFETY: the caller guarantees it (see above).
    let (most, least) = unsafe {
        (native::rd_kafka_Uuid_most_significant_bits(uuid), native::rd_kafka_Uuid_least_significant_bits(uuid))
    };
    // Versions of transactions are not negative, and have 63 bits for the 122 random ones.
    ((most, least) != (0, 0)).then_some((most ^ least) & i64::MAX)
}
