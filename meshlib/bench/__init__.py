"""What meshlib costs, measured on the user's own machine: ``meshlib bench``, its report, and the comparison of two."""
