"""Helpers of the benches; load tests share tables, plots, samples and statistics."""
