//! Time as the core sees it: always an argument, never asked for.

/// One reading of both clocks, taken once per wake-up of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; its zero is arbitrary. Deadlines are counted in it.
    pub mono_ms: u64,
    /// Unix milliseconds; may jump. Only what people see is stamped with it.
    pub unix_ms: u64,
}
