"""Starting the shop, calling it, judging what it does."""
