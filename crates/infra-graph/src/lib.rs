//! Strategy graphs: checkpointed, resumable, guarded
