//! Emergency levels, holds and gates
