//! Shapes that requests and answers share.
