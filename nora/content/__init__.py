"""What is there, hosted and cached alike: pulling what was pushed here, lists, the catalog, removal."""
