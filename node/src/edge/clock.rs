//! The two clocks, read once per turn.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use appsockets_core::time::Now;

/// The zero of `Now::mono_ms`, the same for all threads of the process.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Both clocks as they stand.
pub fn now() -> Now {
    Now {
        mono_ms: ZERO.elapsed().as_millis() as u64,
        unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
    }
}

/// The instant of a deadline that is counted in `Now::mono_ms`.
pub fn instant(mono_ms: u64) -> Instant {
    const NEVER: Duration = Duration::from_secs(24 * 3600);
    ZERO.checked_add(Duration::from_millis(mono_ms)).unwrap_or_else(|| Instant::now() + NEVER)
}
