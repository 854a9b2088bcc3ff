//! About how many tokens a request has, where nobody can be asked.

use ::types::{Failure, estimate};

use super::parse;

/// About how many input tokens a request has, where nobody can be asked. Rather too many than too
/// few: clients keep to a context's limit by it.
///
/// # Errors
/// A 400 that names the field.
pub fn count_estimate(body: &[u8]) -> Result<u64, Failure> {
    Ok(estimate::tokens(&parse(body)?))
}
