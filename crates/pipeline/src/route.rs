//! Where to.
