//! The stack that a child runs on between clone(2) and execve(2), while it borrows its parent's memory.

use std::io;
use std::ptr;

use libc::c_void;

const SIZE: usize = 64 * 1024;

/// A child's stack, with a page below it that faults rather than let it grow into something else.
#[derive(Debug)]
pub struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping, wherever the kernel likes; the guard page lies within it.
        unsafe {
            let base = libc::mmap(ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if base == libc::MAP_FAILED || libc::mprotect(base, 4096, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { base })
        }
    }

    /// Its lowest address, and its size.
    pub fn whole(&self) -> (*mut c_void, usize) {
        (self.base, SIZE)
    }

    /// Stacks grow downwards; the ABI wants 16 bytes' alignment, which the end of a page has.
    pub fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which no child uses: each has executed its command or ended.
        unsafe { libc::munmap(self.base, SIZE) };
    }
}
