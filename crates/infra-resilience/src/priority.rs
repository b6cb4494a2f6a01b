//! How much a call matters while there is not room for all.

/// How much a call matters. Under pressure the least important calls are refused first: see
/// [`BulkheadBuilder::share`](crate::BulkheadBuilder::share).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Must pass if anything does: cancelling an order, closing a position.
    Critical = 0,
    /// A user waits for it.
    High = 1,
    /// Everything that does not say otherwise.
    #[default]
    Normal = 2,
    /// Can be done later, or not at all: refreshing a cache, collecting statistics.
    Low = 3,
}

impl Priority {
    /// All of them, the most important first.
    pub const ALL: [Priority; 4] = [
        Priority::Critical,
        Priority::High,
        Priority::Normal,
        Priority::Low,
    ];

    /// The word used in reports: `critical`, `high`, `normal`, `low`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}
