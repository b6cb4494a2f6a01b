//! What crosses crates, processes or servers.
