//! The allocators: mimalloc for what is Rust, and the system's, which librdkafka uses.

/// Many small allocations on several threads: decoding is a tenth faster with it than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lets both keep what is freed for a while, since it will be asked for again soon: every page that comes from the kernel has to be
/// cleared first. Whoever tunes them by their own variables is left alone.
pub fn keep_what_is_freed() {
    keep_mimalloc();
    keep_glibc();
}

/// Has memory in small pages from now on, for who holds much of it for a short time: a huge page is kept for the little that is still used in
/// it, which for ingest is a tenth of its memory and saves it nothing.
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    // SAFETY: it sets a flag of the process.
    unsafe {
        // An older kernel does not know it; then it is as it was.
        let _ = libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

fn keep_mimalloc() {
    /// `mi_option_purge_delay`, which the bindings do not name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    /// Milliseconds: batches of rows, and files of a second each, follow one another within this.
    const DELAY: std::ffi::c_long = 10_000;
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: it sets a number, before any other thread is started.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY) };
    }
}

/// Lets glibc keep what librdkafka frees: buffers of megabytes, all the time, which it would otherwise give back to the kernel and get again,
/// every page to be cleared anew.
fn keep_glibc() {
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
