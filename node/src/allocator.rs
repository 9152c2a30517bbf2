//! The program's allocator: jemalloc, because that of glibc keeps what a burst of connections has
//! taken: `docs/decisions/0007-jemalloc.md`.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What is free goes back to the system after a second, on a thread of jemalloc's own.
// SAFETY: jemalloc reads a pointer to a text that ends with a zero, which is what this is.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 63] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:1000\0";
