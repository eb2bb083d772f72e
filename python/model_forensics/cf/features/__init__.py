"""What is measured at each site of a sample; see `table.COLUMNS` for the names."""
