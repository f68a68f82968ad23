//! librdkafka's batch interface, which `rdkafka` does not wrap. It takes many messages of many
//! partitions in one call.
//!
//! All unsafe code of the speed layer is in this file and in [`super::topics`]. The code relies on
//! this:
//!
//! - Partitions are forwarded to a queue of its own (`rd_kafka_queue_new`). Events of the group
//!   stay on the consumer's queue and are polled there: `rd_kafka_consume_batch_queue` on the
//!   consumer's queue would swallow rebalances.
//! - When librdkafka stops fetching a partition, it clears the forwarding, but not the flag that
//!   says that the application had set it. So librdkafka never sets it again, and the partition is
//!   silent for ever unless [`BatchQueue::attach`] is called before *every* assignment.
//! - A message owns its memory until it is destroyed. It is destroyed exactly once, by the call
//!   that got it.
//! - The queue is destroyed before the client: the owner of the queue holds the consumer.
//! - After a seek or a new assignment, librdkafka discards what was queued before (records and
//!   ends), by its version number.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as native;

/// One item of the queue. It borrows librdkafka's memory.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record.
    Record {
        topic: &'a str,
        partition: i32,
        offset: i64,
        /// Milliseconds since the epoch.
        time_ms: Option<i64>,
        key: Option<&'a [u8]>,
        /// A record without a value (a tombstone) has no bytes.
        payload: &'a [u8],
    },
    /// The end of a partition, as of now. Every readable record before this offset has been
    /// delivered.
    End { topic: &'a str, partition: i32, offset: i64 },
    /// The partition cannot be read.
    Failed { topic: &'a str, partition: i32, code: RDKafkaErrorCode, reason: Cow<'a, str> },
}

/// A queue to which partitions are forwarded, and from which messages are taken in batches.
pub struct BatchQueue<C: ConsumerContext + 'static> {
    queue: NonNull<native::rd_kafka_queue_t>,
    messages: Vec<*mut native::rd_kafka_message_t>,
    // Last, so that the consumer outlives the queue.
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread; `messages` holds no message between
// calls.
unsafe impl<C: ConsumerContext + 'static> Send for BatchQueue<C> {}

impl<C: ConsumerContext + 'static> BatchQueue<C> {
    /// A queue without partitions. `None`: librdkafka has no memory for it.
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Option<BatchQueue<C>> {
        // SAFETY: the client is alive, as `consumer` is.
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) })?;
        Some(BatchQueue { queue, messages: Vec::new(), consumer })
    }

    /// Forwards what is fetched of a partition to this queue, until the partition is next
    /// unassigned. `false`: librdkafka has no such partition.
    #[must_use]
    pub fn attach(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        // SAFETY: client and name are alive during the call. The reference that it returns is given
        // back below.
        let of_partition = unsafe {
            native::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition)
        };
        if of_partition.is_null() {
            return false;
        }
        // SAFETY: both queues are alive; forwarding keeps its own reference to this one.
        unsafe {
            native::rd_kafka_queue_forward(of_partition, self.queue.as_ptr());
            native::rd_kafka_queue_destroy(of_partition);
        }
        true
    }

    /// Takes up to `count` messages and shows each one to `each`, in order. Waits up to `wait` for
    /// that many. Returns how many there were.
    pub fn consume(&mut self, count: usize, wait: Duration, mut each: impl FnMut(Item<'_>)) -> usize {
        self.messages.clear();
        self.messages.resize(count, ptr::null_mut());
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the array has `count` places. librdkafka fills the first ones and returns how
        // many.
        let taken = unsafe {
            native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.messages.as_mut_ptr(), count)
        };
        // A negative count means wrong arguments, which these are not.
        let taken = usize::try_from(taken).unwrap_or(0).min(count);
        for message in self.messages.drain(..).take(taken) {
            // SAFETY: the message was got above. It is destroyed only here, after `each` has
            // returned its borrow.
            unsafe {
                if let Some(item) = item(&*message) {
                    each(item);
                }
                native::rd_kafka_message_destroy(message);
            }
        }
        taken
    }

    /// The end of a partition, as told by the last answer to a fetch. `None` before the first
    /// answer.
    pub fn known_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: client, name and both numbers are alive during the call.
        let error = unsafe {
            native::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
            )
        };
        (error == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl<C: ConsumerContext + 'static> Drop for BatchQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue came from rd_kafka_queue_new. The client is alive: `consumer` is
        // dropped after this.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// The parts of a message.
///
/// # Safety
///
/// The message must have come from librdkafka, and must not be destroyed while the item lives.
unsafe fn item(message: &native::rd_kafka_message_t) -> Option<Item<'_>> {
    let topic = if message.rkt.is_null() {
        ""
    } else {
        // SAFETY: the message keeps its topic alive. The topic's name ends with a zero byte.
        let name = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(message.rkt)) };
        // Topic names are ASCII.
        name.to_str().ok()?
    };
    let partition = message.partition;
    match message.err {
        native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
        native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
            // The offset that would be fetched next: after transaction markers and records that
            // were rolled back.
            return Some(Item::End { topic, partition, offset: message.offset });
        }
        error => {
            // SAFETY: the text is static or belongs to the message, and ends with a zero byte.
            let reason = unsafe { CStr::from_ptr(native::rd_kafka_message_errstr(message)) }.to_string_lossy();
            return Some(Item::Failed { topic, partition, code: error.into(), reason });
        }
    }
    let mut time_type = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message and `time_type` are alive during the call.
    let time_ms = unsafe { native::rd_kafka_message_timestamp(message, &mut time_type) };
    let time_ms = (time_ms >= 0).then_some(time_ms);
    // SAFETY: pointer and length are a pair from librdkafka, and live as long as the message.
    let key = unsafe { bytes(message.key, message.key_len) };
    let payload = unsafe { bytes(message.payload, message.len) }.unwrap_or_default();
    Some(Item::Record { topic, partition, offset: message.offset, time_ms, key, payload })
}

/// # Safety
///
/// `data` must be null or point to `length` bytes that live as long as `'a`.
unsafe fn bytes<'a>(data: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller guarantees it (see above).
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data.cast(), length) })
}
