"""Report of an export: tables, Markdown, JSON, plots; inventory of built and published variants."""
