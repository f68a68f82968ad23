//! The allocators: mimalloc for what is Rust, and the system's, which librdkafka uses.

/// Many small allocations on several threads: decoding is a tenth faster with it than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lets glibc keep what librdkafka frees: buffers of megabytes, all the time, which it would otherwise give back to the kernel and get again,
/// every page to be cleared anew. Whoever tunes glibc (`GLIBC_TUNABLES`) is left alone.
pub fn keep_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The most that glibc allows: larger allocations are mapped, and given back when they are freed.
        const MAPPED_FROM: libc::c_int = 32 << 20;
        /// Free memory at the heap's end that is kept; what librdkafka may hold is bounded (`kafka.fetch_bytes_max`).
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
