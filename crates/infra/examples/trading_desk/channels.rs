//! Where the desk publishes.

use std::sync::Arc;

/// The channels of one run.
#[derive(Clone)]
pub struct Channels {
    run_id: Arc<str>,
}

impl Channels {
    pub fn new(run_id: &str) -> Self {
        Channels {
            run_id: run_id.into(),
        }
    }

    /// A [`Fill`](crate::books::Fill) each.
    pub fn fills(&self) -> String {
        format!("desk:{}:fills", self.run_id)
    }

    /// A [`Mark`](crate::desk::Mark) at the end of each day.
    pub fn marks(&self) -> String {
        format!("desk:{}:marks", self.run_id)
    }

    /// The pattern of both.
    pub fn all(&self) -> String {
        format!("desk:{}:*", self.run_id)
    }
}
