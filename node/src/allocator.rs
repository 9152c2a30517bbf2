//! The program's allocator: jemalloc, because that of glibc keeps what a burst of connections has taken.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What is free goes back to the system after a second, on a thread of jemalloc's own.
// SAFETY: jemalloc reads the pointer to the text, which is what a slice begins with, and the text ends with a zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:1000\0";
