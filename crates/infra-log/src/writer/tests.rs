//! The queue and outputs that fail.
