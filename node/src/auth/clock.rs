//! The clocks of this part of the node.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    /// Milliseconds since the start; never goes back.
    pub fn mono_ms(self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }

    /// Unix milliseconds.
    pub fn unix_ms(self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
