"""The page that ends an experiment: what is collected, its sections, tables, figures and montages."""
