//! gzip by libdeflate, told how much of the input the stream took: a
//! gzip file may have several members, and the safe wrapper does not say where
//! the first one ends.

use std::cell::RefCell;
use std::ptr::NonNull;

use libdeflate_sys as sys;

/// A stream that ended well.
pub(super) struct Ended {
    pub read: usize,
    pub written: usize,
}

struct Decompressor(NonNull<sys::libdeflate_decompressor>);

impl Decompressor {
    fn new() -> Option<Self> {
        // SAFETY: it takes nothing; null says that there is no memory.
        NonNull::new(unsafe { sys::libdeflate_alloc_decompressor() }).map(Self)
    }

    fn gunzip(&mut self, from: &[u8], into: &mut [u8]) -> Option<Ended> {
        let (mut read, mut written) = (0, 0);
        // SAFETY: the decompressor is live and used by this call alone; both buffers are
        // live for the call and as long as is said; the counts outlive it too.
        let result = unsafe {
            sys::libdeflate_gzip_decompress_ex(
                self.0.as_ptr(),
                from.as_ptr().cast(),
                from.len(),
                into.as_mut_ptr().cast(),
                into.len(),
                &mut read,
                &mut written,
            )
        };
        (result == sys::libdeflate_result_LIBDEFLATE_SUCCESS).then_some(Ended { read, written })
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: it was allocated by the library, and nobody uses it any more.
        unsafe { sys::libdeflate_free_decompressor(self.0.as_ptr()) };
    }
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Decompresses the first member of `from`, if it is whole and all of it fits.
pub(super) fn gunzip(from: &[u8], into: &mut [u8]) -> Option<Ended> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Decompressor::new();
        }
        kept.as_mut()?.gunzip(from, into)
    })
}
