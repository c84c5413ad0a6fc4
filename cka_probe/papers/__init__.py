"""Papers done again: every arm trained, scored and compared, and what comes out beside what they say."""
