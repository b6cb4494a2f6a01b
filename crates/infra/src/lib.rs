//! Production infrastructure behind traits, swapped by configuration
