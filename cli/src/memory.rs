//! The allocators: mimalloc for Rust code, and the system's for librdkafka.

/// Decoding makes many small allocations on several threads. It is a tenth faster with mimalloc
/// than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes both allocators keep freed memory for a while, because it is soon needed again. The kernel
/// has to clear every page that it hands out, so giving memory back is expensive. Allocators that
/// the user tunes by their own variables are left unchanged.
pub fn keep_freed_memory() {
    keep_mimalloc();
    keep_glibc();
}

/// Turns huge pages off for this process. A huge page stays resident for the little that is still
/// used in it, and is cleared as a whole when it is used again. In ingest this wastes a tenth of
/// the memory and gains nothing. In a batch run it is a tenth of the CPU time, and much memory.
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    // SAFETY: the call sets a flag of the process.
    unsafe {
        // An older kernel does not know the flag. Then nothing changes.
        let _ = libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Makes mimalloc give freed memory back soon, in small pages. This suits batch runs and queries:
/// one step frees in large pieces what the next allocates in other sizes.
pub fn return_freed_memory() {
    /// In milliseconds.
    const DELAY: std::ffi::c_long = 2_000;
    use_small_pages();
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the call sets a number.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY) };
    }
}

/// `mi_option_purge_delay`, which the bindings do not name. In milliseconds.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn keep_mimalloc() {
    /// In milliseconds. It is longer than the time between two batches of rows, or between two
    /// files of a second each.
    const DELAY: std::ffi::c_long = 10_000;
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the call sets a number, before any other thread is started.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY) };
    }
}

/// Makes glibc keep what librdkafka frees: buffers of megabytes, all the time. Otherwise glibc
/// returns them to the kernel and requests them again, and every page is cleared again.
fn keep_glibc() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest value that glibc allows. Larger allocations are mapped, and unmapped when
        /// they are freed.
        const MAPPED_FROM: libc::c_int = 32 << 20;
        /// How much free memory at the end of the heap is kept. `kafka.fetch_bytes_max` bounds what
        /// librdkafka may hold.
        const KEPT_MAX: libc::c_int = 1 << 30;
        if std::env::var_os("GLIBC_TUNABLES").is_none() {
            // SAFETY: mallopt takes two integers, and this is before any other thread is started.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
                libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_MAX);
            }
        }
    }
}
