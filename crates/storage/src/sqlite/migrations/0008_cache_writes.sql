-- Of the tokens that were written to a provider's prompt cache: those to be kept for an hour, NULL where there are none.
ALTER TABLE ledger ADD COLUMN cache_write_1h_tokens INTEGER;
