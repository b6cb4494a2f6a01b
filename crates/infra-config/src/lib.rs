//! Typed settings from code, environment and .env files
