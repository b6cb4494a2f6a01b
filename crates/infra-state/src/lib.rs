//! One state store over memory and Redis
