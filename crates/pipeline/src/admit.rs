//! May they, and with which money.
