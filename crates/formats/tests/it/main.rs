//! The parsers from outside.

mod fuzz;
