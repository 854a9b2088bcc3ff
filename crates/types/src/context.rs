//! What a route does with a history that grows: the settings of its context policy, as data.
//!
//! Old results of tools are cleared, and old turns compacted into a summary, each from a threshold
//! on. Tokens are estimated ([`crate::estimate`]), since providers count them only afterwards. How
//! it is done is the pipeline's business; nothing here decides.

/// What is done with a history from which size on. Nothing set = nothing is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextPolicy {
    /// Old results of tools are replaced by a short note.
    pub clear: Option<ClearPolicy>,
    /// The oldest turns are replaced by a summary.
    pub compact: Option<CompactPolicy>,
}

/// The size of a request from which on something is done. If both are set, the smaller one counts;
/// if neither applies, nothing is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threshold {
    /// In tokens.
    pub tokens: Option<u64>,
    /// In hundredths of the target's context window; counts for targets whose window is known.
    pub percent: Option<u8>,
}

impl Threshold {
    /// The size in tokens for a target with this context window.
    pub fn for_window(&self, window: Option<u64>) -> Option<u64> {
        let share = self.percent.zip(window);
        // Divided first: a window that is no whole number of hundreds loses nothing that matters.
        let share = share.map(|(percent, window)| (window / 100).saturating_mul(percent.into()));
        [self.tokens, share].into_iter().flatten().min()
    }
}

/// When and how results of tools are cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearPolicy {
    /// From which size on.
    pub at: Threshold,
    /// How many of the newest results stay as they are.
    pub keep_results: usize,
    /// Nothing is cleared unless so many tokens are saved by it at once: each time the request
    /// changes in its middle, and a provider's prompt cache is of no use behind that place.
    pub at_least_tokens: u64,
    /// Tools whose results always stay.
    pub exclude_tools: Vec<String>,
}

/// When and how old turns are compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactPolicy {
    /// From which size on, counted after clearing.
    pub at: Threshold,
    /// The model that writes the summary, as `provider/model`.
    pub model: String,
    /// How many tokens of the newest turns stay as they are, at least.
    pub keep_tokens: u64,
    /// Output cap of the summary, in tokens.
    pub summary_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_both_sizes_counts_and_a_share_needs_a_window() {
        let both = Threshold { tokens: Some(60_000), percent: Some(50) };
        assert_eq!(both.for_window(Some(200_000)), Some(60_000));
        assert_eq!(both.for_window(Some(100_000)), Some(50_000));
        assert_eq!(both.for_window(None), Some(60_000));
        let share = Threshold { tokens: None, percent: Some(80) };
        assert_eq!(share.for_window(None), None);
        assert_eq!(share.for_window(Some(1_000)), Some(800));
        assert_eq!(Threshold::default().for_window(Some(1_000)), None);
    }
}
