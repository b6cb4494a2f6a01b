//! What is particular about one call through a pipeline.

use crate::priority::Priority;

/// What is particular about one call through a [`Pipeline`](super::Pipeline): see
/// [`call_with`](super::Pipeline::call_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct CallOptions {
    pub(super) weight: u32,
    pub(super) priority: Priority,
    pub(super) idempotent: Option<bool>,
}

impl CallOptions {
    /// A call of weight 1 and of normal priority, repeated and hedged as the pipeline's parts say.
    pub fn new() -> Self {
        CallOptions {
            weight: 1,
            priority: Priority::Normal,
            idempotent: None,
        }
    }

    /// What each attempt takes from the quotas of the rate limiter; 1 unless set. More than a quota
    /// can ever hold is refused at once.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// How much the call matters while there is not room for all in the bulkhead;
    /// [`Priority::Normal`] unless set.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Whether doing the work twice is harmless: attempts of an unknown outcome are then repeated
    /// whatever the retry policy says. Where it is not, they never are, and the call is not hedged.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }
}

impl Default for CallOptions {
    fn default() -> Self {
        Self::new()
    }
}
