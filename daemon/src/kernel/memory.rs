//! The memory of this process, as its allocator keeps it.

/// Gives memory back to the kernel that the allocator keeps though nothing is in it: reading a large
/// configuration needs many times of what stays of it.
pub fn give_back_free_memory() {
    // SAFETY: malloc_trim(3) may be called at any time; it takes no pointer.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
